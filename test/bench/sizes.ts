/** What a pool of 100,000 idle items costs beside one of 100. */
import { Effect } from "effect"
import { QueuePool } from "effect-queuepool"
import type { Case, Timed } from "./measure.ts"
import { optionsOf, ownOptionsOf, repeat } from "./pools.ts"

const small = 100
export const large = 100_000

const sweepOf = Effect.fnUntraced(function*(size: number, own: boolean, sweeps: number) {
  const pool = yield* own ? QueuePool.make(ownOptionsOf(size)) : QueuePool.make(optionsOf(size))
  const run = repeat(sweeps, () => pool.sweep)
  return { name: `${own ? "sweep asking" : "sweep"} ${size}`, count: sweeps, run }
})

export const sweep: Timed = {
  rows: [
    {
      name: "sweep",
      work: "sweep of 100,000 idle items, none due, all rules foreseeable",
      ours: `sweep ${large}`,
      against: { "itself with 100": `sweep ${small}` },
      target: 2
    },
    {
      name: "sweep-own",
      work: "sweep of 100,000 idle items with a predicate, per item",
      ours: (of) => of(`sweep asking ${large}`) / large,
      against: { "itself with 100": (of) => of(`sweep asking ${small}`) / small }
    }
  ],
  cases: Effect.all([
    sweepOf(small, false, 50),
    sweepOf(large, false, 50),
    sweepOf(small, true, 200),
    sweepOf(large, true, 1)
  ]),
  rounds: 1 / 2
}

/** So many invalidations, each of another item; what they close is opened again before the next run. */
const invalidateOf = Effect.fnUntraced(function*(size: number, pools: number, each: number) {
  const made = yield* Effect.forEach(
    Array.from({ length: pools }),
    Effect.fnUntraced(function*() {
      const items = new Set<{}>()
      const acquire = Effect.acquireRelease(
        Effect.sync(() => {
          const item = {}
          items.add(item)
          return item
        }),
        (item) => Effect.sync(() => items.delete(item))
      )
      return { items, pool: yield* QueuePool.make({ ...optionsOf(size), acquire }) }
    })
  )
  const victims = new Map(made.map(({ items, pool }) => [pool, Array.from(items).slice(0, each)]))
  const one: Case = {
    name: `invalidate ${size}`,
    count: pools * each,
    run: Effect.gen(function*() {
      for (const [pool, items] of victims) {
        for (const item of items) yield* pool.invalidate(item)
      }
    }),
    after: Effect.gen(function*() {
      for (const { items, pool } of made) {
        while (items.size < size || (yield* pool.stats).idle < size) yield* Effect.yieldNow
        // The last are the newest: those in the middle are as cold as can be.
        victims.set(pool, Array.from(items).slice(items.size >> 1).slice(0, each))
      }
    })
  }
  return one
})

export const invalidate: Timed = {
  rows: [{
    name: "invalidate",
    work: "invalidate an idle item of 100,000",
    ours: `invalidate ${large}`,
    against: { "itself with 100": `invalidate ${small}` },
    target: 2
  }],
  cases: Effect.all([invalidateOf(small, 20, 25), invalidateOf(large, 1, 500)]),
  rounds: 1 / 2
}
