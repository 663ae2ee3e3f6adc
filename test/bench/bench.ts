/**
 * How fast the pool is, beside the other pools and beside itself: one process, rounds
 * interleaved, ratios, for absolute times differ from machine to machine.
 *
 * npm run bench -- --check          fails where a target is missed
 * npm run bench -- --only use       this row alone; may be given several times
 * npm run bench -- --apart          each group of rows in a process of its own
 * npm run bench -- --curves         the curves too; --svg FILE draws that of the throughput
 * npm run bench -- --long           ten million leases, and the heap after them
 */
import { Console, Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { curve, curveNames } from "./curves.ts"
import { keyed } from "./keyed.ts"
import { contended, crowd, uncontended } from "./lending.ts"
import { long } from "./long.ts"
import { type Family, missed, type Result, resultOf, type Timed, timed, type Weighed, weighed } from "./measure.ts"
import { type Options, parse } from "./options.ts"
import { type Curve, numbers, svgPlot, textPlot } from "./plot.ts"
import { invalidate, sweep } from "./sizes.ts"
import { table } from "./table.ts"
import { weights } from "./weighing.ts"

/** What is in the heap together: the large ones come alone. */
const groups: ReadonlyArray<ReadonlyArray<Timed>> = [[uncontended, contended], [crowd], [sweep], [invalidate], [keyed]]

const namesOf = (families: ReadonlyArray<Family>): ReadonlyArray<string> =>
  families.flatMap(({ rows }) => rows.map(({ name }) => name))

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
const { apart, asked, check, json, rounds, svg } = options

const rows = asked.length === 0 ? rowNames : rowNames.filter((name) => asked.includes(name))
const curves = curveNames.filter((name) =>
  asked.length === 0 ? options.curves || (name === "throughput" && svg !== undefined) : asked.includes(name)
)

const wanted = <F extends Family>(families: ReadonlyArray<F>): ReadonlyArray<F> =>
  families.filter((family) => namesOf([family]).some((name) => rows.includes(name)))

const resultsOf = ({ rows: all }: Family, samples: Parameters<typeof resultOf>[1], unit: "ns" | "B") =>
  all.filter(({ name }) => rows.includes(name)).map((row) => resultOf(row, samples, unit))

const timedGroup = Effect.fnUntraced(function*(group: ReadonlyArray<Timed>) {
  const cases = yield* Effect.forEach(group, (family) => family.cases)
  const part = Math.min(...group.map((family) => family.rounds ?? 1))
  const samples = yield* timed(cases.flat(), Math.ceil(rounds * part))
  return group.flatMap((family) => resultsOf(family, samples, "ns"))
}, Effect.scoped)

const weighedFamily = (family: Weighed) =>
  Effect.map(weighed(family.weights, 2), (samples) => resultsOf(family, samples, "B"))

/** A group's rows, measured by another process of the same kind. */
const inChild = (families: ReadonlyArray<Family>) =>
  Effect.sync((): ReadonlyArray<Result> => {
    const names = namesOf(families).filter((name) => rows.includes(name))
    const file = Path.join(Os.tmpdir(), `bench-${process.pid}.json`)
    const { status } = spawnSync(
      process.execPath,
      [
        ...process.execArgv,
        import.meta.filename,
        "--rounds",
        `${rounds}`,
        "--json",
        file,
        ...names.flatMap((name) => ["--only", name])
      ],
      { stdio: ["ignore", "ignore", "inherit"] }
    )
    if (status !== 0) throw new Error(`the process for ${names.join(", ")} has failed`)
    const { results } = JSON.parse(Fs.readFileSync(file, "utf8")) as { readonly results: ReadonlyArray<Result> }
    Fs.rmSync(file)
    return results
  })

const machine = () => ({
  node: process.version,
  cpu: Os.cpus()[0]?.model,
  cores: Os.availableParallelism(),
  platform: `${process.platform} ${process.arch}`
})

const main = Effect.gen(function*() {
  const results: Array<Result> = []
  for (const group of groups.map(wanted).filter(({ length }) => length > 0)) {
    if (apart) { for (const family of group) results.push(...yield* inChild([family])) }
    else results.push(...yield* timedGroup(group))
  }
  for (const family of wanted(weights)) results.push(...yield* apart ? inChild([family]) : weighedFamily(family))
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
