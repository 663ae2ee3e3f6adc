/**
 * Some rounds of one group, in a process of its own: it is told what to do by the one that has
 * started it, and answers with what each case took.
 */
import { Effect } from "effect"
import { groups, having } from "./groups.ts"
import { timed } from "./measure.ts"
import { answer } from "./process.ts"

/** What such a process is asked for. */
export interface Task {
  readonly rows: ReadonlyArray<string>
  readonly rounds: number
}

const run = Effect.fnUntraced(function*({ rounds, rows }: Task) {
  const families = yield* Effect.forEach(
    having(groups.flat(), rows),
    ({ cases, turns }) => Effect.map(cases, (made) => ({ cases: made, turns }))
  )
  return yield* timed(families, rounds)
}, Effect.scoped)

answer(run)
