/** Borrow and return: one borrower, 100 and 10,000 on 10 items. */
import { Effect, Pool } from "effect"
import { QueuePool } from "effect-queuepool"
import type { Case, Timed } from "./measure.ts"
import {
  acquire,
  bare,
  effectGet,
  effectUse,
  floor,
  genericPool,
  handOver,
  type Lender,
  lightningPool,
  optionsOf,
  ourGet,
  ourUse,
  ownOptionsOf,
  sketched,
  tarn,
  type Work
} from "./pools.ts"
import type { Quantity } from "./results.ts"

const size = 10

const caseOf = (lender: Lender, borrowers: number, each: number, work: Work): Case => ({
  name: `${lender.name} ${borrowers}`,
  count: borrowers * each,
  run: lender.lend(borrowers, each, work)
})

const promisePools = Effect.all([genericPool(size), lightningPool(size), tarn(size)])

const peers = (borrowers: number) =>
  Object.fromEntries(["generic-pool", "lightning-pool", "tarn"].map((name) => [name, `${name} ${borrowers}`]))

export const uncontended: Timed = {
  rows: [
    {
      name: "use",
      work: "use, uncontended",
      ours: "use 1",
      against: { "effect Pool.use": "effect use 1" },
      target: 0.8
    },
    {
      name: "get",
      work: "Effect.scoped(get), uncontended",
      ours: "get 1",
      against: { "effect Pool.get": "effect get 1" },
      target: 0.9
    },
    {
      name: "use-own",
      work: "the same with a sixth rule, a predicate that reads the times",
      ours: "own use 1",
      against: { "effect Pool.use": "effect use 1" }
    },
    { name: "use-floor", work: "use, uncontended", ours: "use 1", against: { floor: "floor 1" }, target: 1.5 },
    { name: "use-peers", work: "use, uncontended", ours: "use 1", against: peers(1) }
  ],
  cases: Effect.gen(function*() {
    const ours = yield* QueuePool.make(optionsOf(size))
    const own = ourUse(yield* QueuePool.make(ownOptionsOf(size)), "own use")
    const effects = yield* Pool.make({ acquire, size })
    const promises = yield* promisePools
    const lenders = [ourUse(ours), own, effectUse(effects), floor(size), ourGet(ours), effectGet(effects), ...promises]
    return lenders.map((lender) => caseOf(lender, 1, 5000, "nothing"))
  }),
  turns: 10
}

const borrowing = (borrowers: number, each: number) =>
  Effect.gen(function*() {
    const ours = yield* QueuePool.make(optionsOf(size))
    const effects = yield* Pool.make({ acquire, size })
    const promises = yield* promisePools
    const least = yield* sketched(size)
    const lenders = [ourUse(ours), effectUse(effects), bare("bare"), handOver(size), least, ...promises]
    return lenders.map((lender) => caseOf(lender, borrowers, each, "yield"))
  })

const hundred = "100 fibers on 10 items, one yield per lease"

export const contended: Timed = {
  rows: [
    {
      name: "contended",
      work: hundred,
      ours: "use 100",
      against: { "effect Pool.use": "effect use 100" },
      target: 0.38,
      floor: "sketch 100"
    },
    {
      name: "contended-peers",
      work: hundred,
      ours: "use 100",
      against: peers(100),
      target: 0.9,
      floor: "sketch 100"
    },
    { name: "contended-least", work: hundred, ours: "use 100", against: { "the least that is safe": "sketch 100" } },
    { name: "contended-floor", work: hundred, ours: "use 100", against: { "hand-over alone": "hand-over 100" } },
    { name: "contended-bare", work: hundred, ours: "use 100", against: { "two bare yields": "bare 100" } }
  ],
  cases: borrowing(100, 100),
  turns: 4
}

const crowded = "10,000 fibers on 10 items, one yield per lease"

/** What 10,000 fibers may take for a lease. */
const allowed = (hundred: string): Quantity => (of) => of("bare 10000") + 1.5 * (of(hundred) - of("bare 100"))

export const crowd: Timed = {
  rows: [
    {
      name: "crowd",
      work: crowded,
      ours: "use 10000",
      against: { "effect Pool.use": "effect use 10000" },
      target: 0.17,
      floor: "sketch 10000"
    },
    {
      // What 10,000 take, less two bare yields, may be one and a half times what 100 do. Not as a
      // ratio of the two differences: these are small beside what they are taken from, and of
      // ratios with a denominator about nought the median says nothing.
      name: "crowd-self",
      work: crowded,
      ours: "use 10000",
      against: { "two bare yields + 1.5 x what 100 fibers add": allowed("use 100") },
      target: 1,
      floor: "sketch 10000",
      // The yields are some five sixths of it: that is a third of the rest.
      near: 1.06
    },
    {
      name: "crowd-self-least",
      work: "the least that is safe, with 10,000 fibers",
      ours: "sketch 10000",
      against: { "two bare yields + 1.5 x what 100 fibers add": allowed("sketch 100") }
    },
    { name: "crowd-peers", work: crowded, ours: "use 10000", against: peers(10_000) },
    { name: "crowd-least", work: crowded, ours: "use 10000", against: { "the least that is safe": "sketch 10000" } },
    { name: "crowd-floor", work: crowded, ours: "use 10000", against: { "hand-over alone": "hand-over 10000" } },
    { name: "crowd-bare", work: crowded, ours: "use 10000", against: { "two bare yields": "bare 10000" } }
  ],
  cases: Effect.gen(function*() {
    const ours = yield* QueuePool.make(optionsOf(size))
    // As long as those of 10,000: of what is small and short, the difference is mostly chance.
    const least = yield* sketched(size)
    const few = [ourUse(ours), bare("bare"), least].map((lender) => caseOf(lender, 100, 1000, "yield"))
    return [...few, ...yield* borrowing(10_000, 10)]
  })
}
