/**
 * What 10,000 borrowers who wait in an outage do to the event loop, to the processor and to
 * memory, beside effect's Pool. Each run has a process of its own, which is ended when its time
 * is over: a pool that melts down must not take the others with it.
 *
 * node --expose-gc --conditions=effect-queuepool:source test/bench/outage.ts
 *   --check: fails where a target is missed
 *
 * Counts, which are the same on every machine, are in test/cost.test.ts.
 */
import { Cause, Console, Effect, Exit, Fiber, Pool, References, Schedule, type Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { spawn } from "node:child_process"
import { writeSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { lagOf } from "../kit/cost.ts"

/** One line of the table. Lower is better in all of them. */
export interface OutageRow {
  readonly name: string
  readonly unit: "ms" | "B"
  readonly ours: number
  /** At least so much, where the run did not end in its time. */
  readonly theirs: number
  readonly ended: boolean
  readonly ratio: number
  /** What `of` it says may be no more. */
  readonly target: number
  readonly of: "ours" | "ratio"
}

const waiters = 10_000
const borrowTimeout = 2000
/** For one run, with all that it takes to begin. */
const limit = 20_000
// What disturbs a run only ever makes it worse.
const runs = 3

const outages = {
  "fail after 50 ms": Effect.andThen(Effect.sleep(50), Effect.fail("down")),
  "hang": Effect.never,
  "are refused at once": Effect.fail("down")
} as const

type Outage = keyof typeof outages

const names = Object.keys(outages) as Array<Outage>

/** How a pool is asked, and whether a borrower may wait for ever: effect's Pool leaves the time to its caller. */
const pools: Record<
  "ours" | "ours, with retry" | "theirs",
  (acquire: Effect.Effect<unknown, string>) => Effect.Effect<Effect.Effect<void, unknown>, unknown, Scope.Scope>
> = {
  ours: (acquire: Effect.Effect<unknown, string>) =>
    Effect.map(
      QueuePool.make({ acquire, max: 10, borrowTimeout }),
      (pool) => pool.use(() => Effect.void)
    ),
  "ours, with retry": (acquire: Effect.Effect<unknown, string>) =>
    Effect.map(
      QueuePool.make({ acquire, max: 10, borrowTimeout, retry: Schedule.exponential(100) }),
      (pool) => pool.use(() => Effect.void)
    ),
  theirs: (acquire: Effect.Effect<unknown, string>) =>
    Effect.map(
      Pool.makeWithTTL({ acquire, min: 0, max: 10, timeToLive: "1 minute" }),
      (pool) => Effect.timeout(Effect.scoped(Effect.asVoid(Pool.get(pool))), borrowTimeout)
    )
}

type Name = keyof typeof pools

interface Measured {
  /** The longest time in which the event loop answered nobody, and processor time, in milliseconds. */
  readonly lag: number
  readonly cpu: number
  /** Bytes for each who waits. */
  readonly bytes: number
  readonly ended: boolean
}

const heap = (): number => {
  globalThis.gc?.()
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

/** They come a hundred at a time, so that their coming is no stall of its own. */
const come = Effect.fnUntraced(function*(borrow: Effect.Effect<void, unknown>) {
  const fibers: Array<Fiber.Fiber<void, unknown>> = []
  while (fibers.length < waiters) {
    for (let i = 0; i < 100; i++) fibers.push(yield* Effect.forkChild(borrow))
    yield* Effect.yieldNow
  }
  return fibers
})

const time = (name: Name, outage: Outage) =>
  Effect.gen(function*() {
    const borrow = yield* pools[name](outages[outage])
    const before = process.cpuUsage()
    const [exits, lag] = yield* lagOf(Effect.flatMap(come(borrow), Fiber.awaitAll))
    const { system, user } = process.cpuUsage(before)
    if (exits.some(Exit.isSuccess)) return yield* Effect.die(new Error("an item where there was none"))
    return { lag, cpu: (system + user) / 1000 }
  })

const weigh = (name: Name) =>
  Effect.gen(function*() {
    const borrow = yield* pools[name](Effect.never)
    const before = heap()
    const fibers = yield* come(borrow)
    yield* Effect.sleep(100)
    const bytes = (heap() - before) / waiters
    yield* Effect.forEach(fibers, Fiber.interrupt, { concurrency: "unbounded" })
    return bytes
  })

/** In the child: one run, its result on standard output. */
const child = (name: Name, outage: Outage) =>
  Effect.scoped(Effect.gen(function*() {
    // Code that was never run is slow, and that is not the outage's doing.
    yield* Effect.scoped(
      Effect.flatMap(pools[name](Effect.succeed({})), (borrow) => Effect.replicateEffect(borrow, 2000))
    )
    const bytes = outage === "hang" ? yield* weigh(name) : Number.NaN
    // A sign of life for the parent, for as long as the event loop turns.
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sync(() => writeSync(1, "\n")), Effect.sleep(100))))
    const timed = yield* time(name, outage)
    yield* Console.log(JSON.stringify({ ...timed, bytes }))
  })).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

const file = fileURLToPath(import.meta.url)

/** A run in a process of its own. Of one that does not end in time, the lag is its longest silence. */
const run = (name: Name, outage: Outage): Effect.Effect<Measured> =>
  Effect.callback((resume) => {
    const flags = ["--expose-gc", "--conditions=effect-queuepool:source", file, "--child", name, outage]
    const process_ = spawn(process.execPath, flags, { stdio: ["ignore", "pipe", "inherit"] })
    let text = ""
    let heard = Number.NaN
    let silence = 0
    const hear = () => {
      const now = performance.now()
      silence = Math.max(silence, Number.isNaN(heard) ? 0 : now - heard)
      heard = now
    }
    process_.stdout.on("data", (chunk: Buffer) => {
      hear()
      text += chunk.toString()
    })
    const timer = setTimeout(() => process_.kill("SIGKILL"), limit)
    process_.once("close", () => {
      clearTimeout(timer)
      hear()
      const told = text.trim()
      resume(Effect.succeed(
        told === ""
          ? { lag: silence, cpu: limit, bytes: Number.NaN, ended: false }
          : { ...JSON.parse(told) as Omit<Measured, "ended">, ended: true }
      ))
    })
    return Effect.sync(() => void process_.kill("SIGKILL"))
  })

/** The best of some runs; of one, where it did not end. */
const best = Effect.fnUntraced(function*(name: Name, outage: Outage) {
  let least = yield* run(name, outage)
  for (let count = 1; count < runs && least.ended; count++) {
    const { bytes, cpu, ended, lag } = yield* run(name, outage)
    least = {
      lag: Math.min(least.lag, lag),
      cpu: Math.min(least.cpu, cpu),
      bytes: Math.min(least.bytes, bytes),
      ended
    }
  }
  return least
})

/** Measures all, one run after another. It takes a minute or two. */
export const outageRows: Effect.Effect<ReadonlyArray<OutageRow>> = Effect.gen(function*() {
  const rows: Array<OutageRow> = []
  for (const outage of names) {
    const theirs = yield* best("theirs", outage)
    for (const name of ["ours", "ours, with retry"] as const) {
      const ours = yield* best(name, outage)
      const what = `opens ${outage}${name === "ours" ? "" : ", with retry"}`
      const row = (of: "lag" | "cpu" | "bytes") => ({
        ours: ours[of],
        theirs: theirs[of],
        ratio: ours[of] / theirs[of]
      })
      const { ended } = theirs
      rows.push({ name: `lag: ${what}`, unit: "ms", ...row("lag"), ended, target: 50, of: "ours" })
      rows.push({ name: `processor: ${what}`, unit: "ms", ...row("cpu"), ended, target: 1, of: "ratio" })
      if (outage === "hang") {
        rows.push({ name: `memory for each: ${what}`, unit: "B", ...row("bytes"), ended, target: 1, of: "ratio" })
      }
    }
  }
  return rows
})

/** Whether a row misses its target. */
export const misses = (row: OutageRow): boolean => !(row[row.of] <= row.target)

const show = (row: OutageRow): string => {
  const [ours, theirs] = [row.ours.toFixed(0), `${row.ended ? "" : "> "}${row.theirs.toFixed(0)}`]
  const target = row.of === "ours" ? `${row.target} ${row.unit}` : `${row.target.toFixed(2)} ×`
  const values = [ours, theirs, row.unit, `${row.ratio.toFixed(2)} ×`].map((text) => text.padStart(9)).join("")
  return `${row.name.padEnd(52)}${values}  at most ${target}${misses(row) ? "  MISSED" : ""}`
}

const main = Effect.gen(function*() {
  yield* Console.log(`${waiters} wait in an outage: ours, effect's Pool, the ratio`)
  const rows = yield* outageRows
  for (const row of rows) yield* Console.log(show(row))
  if (process.argv.includes("--check") && rows.some(misses)) process.exitCode = 1
})

if (process.argv[1] === file) {
  const [flag, name, outage] = process.argv.slice(2)
  const program = flag === "--child" ? child(name as Name, outage as Outage) : main
  await Effect.runPromise(Effect.catchCause(program, (cause) => Effect.die(Cause.squash(cause))))
}
