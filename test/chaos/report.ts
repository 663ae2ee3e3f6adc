/** The summary of a run. */
import type { QueuePool } from "effect-queuepool"
import type { Notes } from "./notes.ts"
import { borrowBound, recoveryBound } from "./setting.ts"
import type { Watch } from "./watch.ts"
import type { World } from "./world.ts"

const row = (name: string, value: string | number): string => `${name.padEnd(26)} ${value}`

const sorted = (counts: ReadonlyMap<string, number>) => [...counts].toSorted(([, a], [, b]) => b - a)

const list = (counts: ReadonlyMap<string, number>): string =>
  sorted(counts).map(([name, count]) => `${name} ${count}`).join(", ")

const seconds = (millis: number): string => `${(millis / 1000).toFixed(2)} s`

export const summary = (
  { borrows, committed, notes, setting, sockets, stalls }: World,
  watch: Watch,
  stats: QueuePool.Stats
): ReadonlyArray<string> => [
  row("faults", [...notes.faults.values()].reduce((sum, count) => sum + count, 0)),
  ...sorted(notes.faults).map(([kind, count]) => row(`  ${kind}`, count)),
  "operations",
  ...[...notes.operations].toSorted(([a], [b]) => a < b ? -1 : 1).map(([kind, outcomes]) =>
    row(`  ${kind}`, list(outcomes))
  ),
  row("transactions committed", committed.size),
  row("borrows", borrows.count),
  row("longest borrow", `${seconds(borrows.longest)} (bound ${seconds(borrowBound)})`),
  row(
    "slowest recovery",
    `${seconds(notes.slowestRecovery)} (bound ${seconds(recoveryBound(setting))}), after ${notes.slowestRecoveryAfter}`
  ),
  row("sessions opened", `${stats.opened}, of which the wire told of ${sockets.opened}`),
  row("opens that failed", stats.openFailures),
  row("items abandoned", stats.abandoned),
  row("recycled", list(new Map(Object.entries(stats.recycled)))),
  row("most sessions at once", `${watch.mostSessions} (max ${setting.max}), in ${watch.answers} looks`),
  row("looks at the pool", watch.samples),
  row("event loop stood still", `${seconds(stalls.longest)} at most`),
  row("kept from running", seconds(stalls.total))
]

export const failure = (notes: Notes, seed: number): ReadonlyArray<string> => [
  "",
  "The last of the fault log:",
  ...notes.last(50).map((line) => `  ${line}`),
  "",
  `FAILED, with the seed ${seed}:`,
  ...notes.violations.map((violation) => `  ${violation}`)
]
