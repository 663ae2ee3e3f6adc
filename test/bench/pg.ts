/**
 * PostgreSQL through our pool, beside the clients that others use: one server, rounds
 * interleaved, all clients in one process and made anew for each round, another process for each
 * four of them, and ratios of what two clients did in the same round.
 *
 * npm run bench:pg -- --check            fails where a target is missed
 * npm run bench:pg -- --quick            fewer rounds
 * npm run bench:pg -- --only select-1    this part alone; may be given several times
 * npm run bench:pg -- --concurrency 64   this many at once alone; may be given several times
 *
 * Server and clients share the processors: the CPU time of the clients' process for each statement is
 * steadier than what was done in a second. It counts what the kernel does for the sockets too.
 * The targets are of the throughput. That of pg.Pool is met where one of ours meets it, without
 * `multiplex` or with: pg.Pool cannot send a statement behind another. Nor can anybody where
 * there is one at once: there it is out of reach where the client of @effect/sql-pg on its
 * driver, with no pool at all, misses it in the same rounds.
 */
import { Console, Effect } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { EmbeddedPg } from "../kit/EmbeddedPg.ts"
import type { Sample } from "./pgMeter.ts"
import { parse } from "./pgOptions.ts"
import { type Part, parts } from "./pgParts.ts"
import { bestMeets, comparisonOf, comparisonTable, lineOf, lineTable, missed } from "./pgResults.ts"
import type { Done, Task } from "./pgRounds.ts"
import { createTables } from "./pgWork.ts"
import { inProcess } from "./process.ts"

const options = parse(process.argv.slice(2), parts.map(({ name }) => name))
const { asked, check, json, millis } = options

// The optimizing compiler does not do the same in each process: two clients that are equally
// fast differ by some 5 % for as long as one of them runs.
const roundsEach = 4

/** What each client did in each round, by concurrency. */
type Rounds = Map<number, Map<string, Array<Sample>>>

const measure = Effect.fnUntraced(function*({ name }: Part, url: string, rounds: Rounds, count: number) {
  const task: Task = { part: name, url, concurrencies: [...rounds.keys()], millis, rounds: count }
  for (const [concurrency, byClient] of yield* inProcess<Done>("./pgRounds.ts", task)) {
    const all = rounds.get(concurrency)!
    for (const [client, samples] of byClient) all.set(client, [...all.get(client) ?? [], ...samples])
  }
})

const resultOf = (part: Part, concurrency: number, rounds: ReadonlyMap<string, ReadonlyArray<Sample>>) => {
  const comparisons = part.pairs.map(({ most, ...pair }) =>
    comparisonOf(part.name, concurrency, { ...pair, most: concurrency === 1 ? most : undefined }, rounds)
  )
  return {
    lines: Array.from(rounds, ([name, samples]) => lineOf(part.name, concurrency, name, samples)),
    comparisons: part.poolTarget === undefined ? comparisons : bestMeets(comparisons, "pg.Pool", part.poolTarget)
  }
}

const run = Effect.fnUntraced(function*(part: Part, url: string) {
  const concurrencies = options.concurrencies.filter((one) => part.concurrencies?.includes(one) !== false)
  const rounds: Rounds = new Map(concurrencies.map((concurrency) => [concurrency, new Map()]))
  for (let left = rounds.size > 0 ? options.rounds : 0; left > 0; left -= roundsEach) {
    yield* measure(part, url, rounds, Math.min(left, roundsEach))
  }
  const results = Array.from(rounds, ([concurrency, byClient]) => resultOf(part, concurrency, byClient))
  const lines = results.flatMap((result) => result.lines)
  const comparisons = results.flatMap((result) => result.comparisons)
  if (lines.length > 0) yield* Console.log(`${lineTable(lines)}\n\n${comparisonTable(comparisons)}\n`)
  return { lines, comparisons }
})

const main = Effect.gen(function*() {
  const { query, url } = yield* EmbeddedPg
  yield* createTables
  const [version] = yield* query("select current_setting('server_version') as version")
  const results = yield* Effect.forEach(
    parts.filter(({ name }) => asked.length === 0 || asked.includes(name)),
    (part) => run(part, url)
  )
  const lines = results.flatMap((result) => result.lines)
  const comparisons = results.flatMap((result) => result.comparisons)
  const machine = { node: process.version, server: version, cpu: Os.cpus()[0]?.model, cores: Os.availableParallelism() }
  Fs.mkdirSync(Path.dirname(json), { recursive: true })
  Fs.writeFileSync(json, JSON.stringify({ machine, rounds: options.rounds, millis, lines, comparisons }, undefined, 2))
  const misses = comparisons.filter(missed)
  if (misses.length > 0) yield* Console.log(`missed:\n${comparisonTable(misses)}`)
  if (check && misses.length > 0) process.exitCode = 1
}).pipe(Effect.provide(EmbeddedPg.layer({ maxConnections: 150 })))

await Effect.runPromise(main)
