/** How the cost of a lease goes with the size of the pool, the waiters, the rules and the fibers. */
import { Effect, Pool, Schedule, type Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { type Case, median, timed } from "./measure.ts"
import type { Curve } from "./plot.ts"
import {
  acquire,
  effectUse,
  genericPool,
  type Lender,
  lightningPool,
  optionsOf,
  ourUse,
  tarn,
  type Work
} from "./pools.ts"

/** A line of a curve: what is measured at one `x`. */
type Line = (x: number) => Effect.Effect<Case, unknown, Scope.Scope>

interface Drawn {
  readonly name: string
  readonly title: string
  readonly label: string
  readonly values: ReadonlyArray<number>
  readonly lines: Readonly<Record<string, Line>>
  /** Leases per second in the place of nanoseconds per lease. */
  readonly speed?: boolean
}

/** Leases in one run, however many borrow. */
const leases = 10_000

const lending = (lender: Lender, borrowers: number, work: Work): Case => {
  const each = Math.max(2, Math.ceil(leases / borrowers))
  return { name: "", count: borrowers * each, run: lender.lend(borrowers, each, work) }
}

const alone = (lender: Lender) => lending(lender, 1, "nothing")

const sizes: Drawn = {
  name: "pool-size",
  title: "A lease in a pool of so many items",
  label: "items",
  values: [10, 100, 1000, 10_000, 100_000],
  lines: {
    "ours, lifo": (size) => Effect.map(QueuePool.make(optionsOf(size)), (pool) => alone(ourUse(pool))),
    "ours, fifo": (size) =>
      Effect.map(QueuePool.make({ ...optionsOf(size), order: "fifo" }), (pool) => alone(ourUse(pool))),
    "effect Pool": (size) => Effect.map(Pool.make({ acquire, size }), (pool) => alone(effectUse(pool)))
  }
}

const items = 10

const waiters: Drawn = {
  name: "waiters",
  title: "A lease of 10 items while so many wait",
  label: "waiters",
  values: [0, 10, 100, 1000, 10_000, 100_000],
  lines: {
    ours: (waiters) =>
      Effect.map(QueuePool.make(optionsOf(items)), (pool) => lending(ourUse(pool), items + waiters, "yield")),
    "effect Pool": (waiters) =>
      Effect.map(Pool.make({ acquire, size: items }), (pool) => lending(effectUse(pool), items + waiters, "yield"))
  }
}

const withRules = (rule: (index: number) => RecyclePolicy.Input<{}>): Line => (count) =>
  Effect.map(
    QueuePool.make({ ...optionsOf(items), recycle: Array.from({ length: count }, (_, index) => rule(index)).flat() }),
    (pool) => alone(ourUse(pool))
  )

const rules: Drawn = {
  name: "rules",
  title: "A lease under so many rules",
  label: "rules",
  values: [0, 1, 2, 4, 7, 10],
  lines: {
    "rules of time and use": withRules((index) =>
      [
        RecyclePolicy.idle("10 minutes"),
        RecyclePolicy.age("1 hour", { jitter: 0.1 }),
        RecyclePolicy.uses(1e9),
        RecyclePolicy.failed
      ][index % 4]!
    ),
    predicates: withRules((index) => ({ uses }) => uses > 1e9 + index),
    Schedules: withRules(() => RecyclePolicy.schedule(Schedule.during("1 hour")))
  }
}

const lent = (make: (size: number) => Effect.Effect<Lender, unknown, Scope.Scope>): Line => (borrowers) =>
  Effect.map(make(items), (lender) => lending(lender, borrowers, "yield"))

const throughput: Drawn = {
  name: "throughput",
  title: "10 items, so many borrowers, one yield per lease",
  label: "borrowers",
  values: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
  speed: true,
  lines: {
    "effect-queuepool": lent((size) => Effect.map(QueuePool.make(optionsOf(size)), (pool) => ourUse(pool))),
    "effect Pool": lent((size) => Effect.map(Pool.make({ acquire, size }), (pool) => effectUse(pool))),
    "generic-pool": lent(genericPool),
    "lightning-pool": lent(lightningPool),
    tarn: lent(tarn)
  }
}

const all: ReadonlyArray<Drawn> = [throughput, sizes, waiters, rules]

export const curveNames: ReadonlyArray<string> = all.map(({ name }) => name)

/** The medians of so many rounds. */
export const curve = Effect.fnUntraced(function*(name: string, rounds: number) {
  const { label, lines, speed, title, values } = all.find((one) => one.name === name)!
  const names = Object.keys(lines)
  const cases = yield* Effect.forEach(
    names,
    (line) => Effect.forEach(values, (x) => Effect.map(lines[line]!(x), (one) => ({ ...one, name: `${line} ${x}` })))
  )
  const samples = yield* timed([{ cases: cases.flat() }], rounds)
  const at = (line: string, x: number) => median(samples.get(`${line} ${x}`)!)
  const drawn: Curve = {
    name,
    title,
    x: { label, values },
    y: {
      label: speed === true ? "leases per second" : "nanoseconds",
      lines: Object.fromEntries(
        names.map((line) => [line, values.map((x) => speed === true ? 1e9 / at(line, x) : at(line, x))])
      )
    }
  }
  return drawn
}, Effect.scoped)
