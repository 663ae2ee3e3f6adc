/**
 * How fast the pool is, beside the other pools and beside itself: all that is compared in one
 * process, rounds interleaved, another process for each four of them, and ratios of what two
 * took in the same round, for absolute times differ from machine to machine.
 *
 * npm run bench -- --check          fails where a target is missed; measures on while that hangs on chance
 * npm run bench -- --only use       this row alone; may be given several times
 * npm run bench -- --curves         the curves too; --svg FILE draws that of the throughput
 * npm run bench -- --long           ten million leases, and the heap after them
 */
import { Console, Effect } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { measured } from "./chance.ts"
import { curve, curveNames } from "./curves.ts"
import { groups, having, namesOf } from "./groups.ts"
import { long } from "./long.ts"
import { type Samples, type Timed, type Weighed, weighed } from "./measure.ts"
import { type Options, parse } from "./options.ts"
import { type Curve, numbers, svgPlot, textPlot } from "./plot.ts"
import { inProcess } from "./process.ts"
import { missed, type Result, resultOf } from "./results.ts"
import type { Task } from "./rounds.ts"
import { table } from "./table.ts"
import { weights } from "./weighing.ts"

// Of two cases that are equally fast one may be faster by 5 % for as long as a process runs: the
// optimizing compiler does not do the same in each.
const roundsEach = 4

const wholes = (rounds: number): number => Math.ceil(rounds / roundsEach) * roundsEach

/** With `--check`: at most so many times as many rounds, while a verdict hangs on chance. */
const patience = 3

const rowNames = [...groups, weights].flatMap(namesOf)
const asks = (): Options => {
  try {
    return parse(process.argv.slice(2), [...rowNames, ...curveNames, "long"])
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    process.exit(2)
  }
}
const options = asks()
const { asked, check, json, rounds, svg } = options

const rows = asked.length === 0 ? rowNames : rowNames.filter((name) => asked.includes(name))
const curves = curveNames.filter((name) =>
  asked.length === 0 ? options.curves || (name === "throughput" && svg !== undefined) : asked.includes(name)
)

const timedGroup = (group: ReadonlyArray<Timed>) => {
  const wanted = group.flatMap((family) => family.rows).filter(({ name }) => rows.includes(name))
  const planned = Math.ceil(rounds * Math.min(...group.map((family) => family.rounds ?? 1)))
  // Whole processes, for of these the verdict is made.
  const plan = check
    ? { rounds: wholes(planned), most: patience * wholes(planned), each: roundsEach }
    : { rounds: planned, most: planned, each: roundsEach }
  const names = wanted.map(({ name }) => name)
  return measured(wanted, plan, (rounds) => inProcess<Samples>("./rounds.ts", { rows: names, rounds } satisfies Task))
}

const weighedFamily = (family: Weighed) =>
  Effect.map(
    weighed(family.weights, 2),
    (samples) => family.rows.filter(({ name }) => rows.includes(name)).map((row) => resultOf(row, samples, "B"))
  )

const machine = () => ({
  node: process.version,
  cpu: Os.cpus()[0]?.model,
  cores: Os.availableParallelism(),
  platform: `${process.platform} ${process.arch}`
})

const main = Effect.gen(function*() {
  const results: Array<Result> = []
  for (const group of groups.map((families) => having(families, rows)).filter(({ length }) => length > 0)) {
    results.push(...yield* timedGroup(group))
  }
  for (const family of having(weights, rows)) results.push(...yield* weighedFamily(family))
  if (results.length > 0) yield* Console.log(table(results))
  const drawn: Array<Curve> = []
  for (const name of curves) {
    const one = yield* curve(name, Math.ceil(rounds / 3))
    drawn.push(one)
    yield* Console.log(`\n${textPlot(one)}\n${numbers(one)}`)
    if (svg !== undefined && name === "throughput") Fs.writeFileSync(svg, svgPlot(one))
  }
  const run = options.long || asked.includes("long") ? yield* long : undefined
  Fs.mkdirSync(Path.dirname(json), { recursive: true })
  Fs.writeFileSync(
    json,
    JSON.stringify({ machine: machine(), rounds, results, curves: drawn, long: run }, undefined, 2)
  )
  const misses = results.filter(missed).map(({ name }) => name)
  if (misses.length > 0) yield* Console.log(`\nmissed: ${misses.join(", ")}`)
  // It does not hang on a machine's speed: a heap that grows is a failure in any case.
  if ((check && misses.length > 0) || run?.grows === true) process.exitCode = 1
})

await Effect.runPromise(main)
