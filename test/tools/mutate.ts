/**
 * Mutation testing: each mutant of the sources, one changed operator, literal, block or call, should make a unit test
 * fail. Prints those that do not, and how many do; fails where that is below 85 %.
 *
 * ```
 * npm run mutate                              all: takes hours
 * npm run mutate -- src/internal/heap.ts      some files
 * npm run mutate -- --sample 300 --seed 7     so many of all mutants, drawn at random
 * ```
 *
 * The parts for PostgreSQL are left out: only tests with a server reach them. So are the tests that take long for what
 * they could find here (see stryker.vitest.ts), so the true score is not below the one that is printed.
 */
import { Stryker } from "@stryker-mutator/core"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { draw, type Result, type Sample, settings, show } from "./stryker.ts"

const threshold = 0.85

const root = Path.resolve(import.meta.dirname, "../..")
process.chdir(root)

const fail = (message: string): never => {
  console.error(message)
  return process.exit(2)
}

const read = () => {
  try {
    return parseArgs({ allowPositionals: true, options: { sample: { type: "string" }, seed: { type: "string" } } })
  } catch (error) {
    return fail(`${(error as Error).message}\nUsage: npm run mutate -- [FILE...] [--sample N [--seed N]]`)
  }
}

const whole = (name: string, text: string, least: number): number => {
  const number = Number(text)
  return Number.isSafeInteger(number) && number >= least ? number : fail(`--${name} ${text}: not a whole number`)
}

const { positionals, values } = read()
const mutable = Fs.globSync(["src/internal/*.ts", "src/RecyclePolicy.ts"])
  .filter((file) => !Path.basename(file).startsWith("pg")).toSorted()
const files = positionals.length === 0 ? mutable : positionals.map((name) => Path.relative(root, Path.resolve(name)))
const others = files.filter((file) => !mutable.includes(file))
if (others.length > 0) {
  fail(`Not mutated: ${others.join(", ")}. It is src/RecyclePolicy.ts and src/internal/*.ts, but for pg*.ts.`)
}
if (values.sample === undefined && values.seed !== undefined) fail("--seed is for a --sample")

const sample: Sample | undefined = values.sample === undefined ? undefined : {
  size: whole("sample", values.sample, 1),
  // Some other one every day.
  seed: values.seed === undefined ? Math.floor(Math.random() * 1e6) : whole("seed", values.seed, 0)
}

// Whatever else runs here goes first.
Os.setPriority(15)
// The random tests with few sequences, and the same ones for each mutant.
Object.assign(process.env, { EFFECT_QUEUEPOOL_RUNS: "200", SEED: "1" })

/** Wilson's interval, which holds for few mutants and for scores near 100 % too. */
const interval = (killed: number, all: number): readonly [number, number] => {
  const z = 1.96
  const p = killed / all
  const middle = p + z * z / (2 * all)
  const half = z * Math.sqrt(p * (1 - p) / all + z * z / (4 * all * all))
  const scale = 1 + z * z / all
  return [(middle - half) / scale, (middle + half) / scale]
}

const percent = (share: number) => `${(share * 100).toFixed(1)} %`

const start = performance.now()
const ran = await new Stryker(settings(files, sample)).runMutationTest()
const valid = ran.filter(({ status }) => status !== "Ignored")
const tested = sample === undefined ? valid : draw(valid, sample)
Fs.writeFileSync(".tmp/mutants.json", JSON.stringify(tested))

// One that fails outside of a test, as where nothing can be imported any more, fails the tests as well.
const ends = ["Killed", "Timeout", "RuntimeError"] as const
const count = (status: Result["status"]) => tested.filter((mutant) => mutant.status === status).length
const survived = tested.filter(({ status }) => !ends.some((end) => end === status))
for (const mutant of survived) if (mutant.status === "NoCoverage") show(mutant)

const killed = tested.length - survived.length
const [test, timeout, outside] = ends.map(count)
const score = killed / tested.length
console.log(
  `${killed} of ${tested.length} mutants killed: ${test} by a test, ${timeout} by the time, ${outside} outside of tests; ` +
    `${Math.round((performance.now() - start) / 1000)} s`
)
if (sample === undefined) console.log(`Score ${percent(score)}`)
else {
  const [low, high] = interval(killed, tested.length)
  console.log(
    `Score ${percent(score)}, of all ${valid.length} between ${percent(low)} and ${percent(high)} (95 %); ` +
      `--sample ${sample.size} --seed ${sample.seed}`
  )
}
process.exitCode = score < threshold ? 1 : 0
