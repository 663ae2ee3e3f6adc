/** Bytes on the heap: of an idle item, of a borrower that waits, of a pool. */
import { Effect, Pool, type Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { loans } from "../../src/internal/loan.ts"
import type { Weighed } from "./measure.ts"
import { acquire, optionsOf, together } from "./pools.ts"

const items = 20_000
const waiters = 20_000
const pools = 10_000

/** What is left when all garbage is gone, some of which goes only after what was finalized. */
export const heap = Effect.gen(function*() {
  for (let i = 0; i < 3; i++) {
    globalThis.gc!()
    yield* Effect.sleep("5 millis")
  }
  return process.memoryUsage().heapUsed
})

/** What there is more of while it stands, for each of so many. */
const bytes = (count: number, made: Effect.Effect<unknown, unknown, Scope.Scope>) =>
  Effect.scoped(Effect.gen(function*() {
    const before = yield* heap
    const kept = yield* made
    const after = yield* heap
    return kept === undefined ? Number.NaN : (after - before) / count
  }))

const ourItems = QueuePool.make(optionsOf(items))

const effectItems = Effect.gen(function*() {
  const pool = yield* Pool.make({ acquire, size: items })
  while ((yield* Pool.stats(pool)).idle < items) yield* Effect.yieldNow
  return pool
})

const lentOnce = <P, A>(
  pool: Effect.Effect<P, unknown, Scope.Scope>,
  get: (pool: P) => Effect.Effect<A, unknown, Scope.Scope>
) => Effect.tap(pool, (made) => Effect.scoped(Effect.forEach(Array.from({ length: items }), () => get(made))))

const idleItems: Weighed = {
  rows: [
    {
      name: "idle-bytes",
      work: "bytes per idle item, beyond the item",
      ours: (of) => of("our item") - of("item"),
      against: { "effect Pool": (of) => of("effect item") - of("item") },
      target: 1
    },
    {
      name: "lent-bytes",
      work: "the same when each was once lent by get",
      ours: (of) => of("our item, lent once") - of("item"),
      against: { "effect Pool": (of) => of("effect item, lent once") - of("item") },
      target: 1
    }
  ],
  weights: Effect.all({
    item: bytes(items, Effect.sync(() => Array.from({ length: items }, () => ({})))),
    "our item": bytes(items, ourItems),
    "effect item": bytes(items, effectItems),
    "our item, lent once": bytes(items, lentOnce(ourItems, (pool) => pool.get)),
    "effect item, lent once": bytes(items, lentOnce(effectItems, Pool.get))
  })
}

/** So many fibers that wait. */
const suspended = (one: Effect.Effect<unknown, unknown>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkScoped(together(waiters, one))
    for (let i = 0; i < 50; i++) yield* Effect.yieldNow
    return fiber
  })

const ourWaiters = Effect.gen(function*() {
  const pool = yield* QueuePool.make(optionsOf(1))
  yield* pool.get
  const fiber = yield* suspended(pool.use(() => Effect.void))
  return [pool, fiber, yield* Effect.filterOrFail(pool.stats, ({ pending }) => pending === waiters)]
})

/** Loans that lie ready would be used again: who waits would seem to weigh less. */
const withoutSpares = Effect.acquireRelease(
  Effect.sync(() => Array.from({ length: loans.size() }, () => loans.take())),
  (taken) => Effect.sync(() => taken.forEach(loans.keep))
)

const effectWaiters = Effect.gen(function*() {
  const pool = yield* Pool.make({ acquire, size: 1 })
  yield* Pool.get(pool)
  const fiber = yield* suspended(Pool.use(pool, () => Effect.void))
  return [pool, fiber, yield* Effect.filterOrFail(Pool.stats(pool), ({ pending }) => pending === waiters)]
})

const waiting: Weighed = {
  rows: [{
    name: "waiter-bytes",
    work: "bytes per waiter, beyond a fiber that sleeps",
    ours: (of) => of("our waiter") - of("fiber"),
    against: { "effect Pool": (of) => of("effect waiter") - of("fiber") },
    target: 1
  }],
  weights: Effect.all({
    fiber: bytes(waiters, suspended(Effect.callback<void>(() => {}))),
    "our waiter": Effect.scoped(Effect.andThen(withoutSpares, bytes(waiters, ourWaiters))),
    "effect waiter": bytes(waiters, effectWaiters)
  })
}

const manyPools = <P>(
  make: Effect.Effect<P, unknown, Scope.Scope>,
  use: (pool: P) => Effect.Effect<unknown, unknown>
) =>
  Effect.gen(function*() {
    const made: Array<P> = []
    for (let i = 0; i < pools; i++) made.push(yield* make)
    for (const pool of made) yield* use(pool)
    return made
  })

const ourPool = QueuePool.make({ ...optionsOf(10), min: 0, warm: "background" })
const effectPool = Pool.makeWithTTL({ acquire, min: 0, max: 10, timeToLive: "10 minutes" })
const nothing = () => Effect.void

const whole: Weighed = {
  rows: [
    {
      name: "pool-bytes",
      work: "bytes per pool, of 10,000 without an item",
      ours: "our pool",
      against: { "effect Pool": "effect pool" }
    },
    {
      name: "used-pool-bytes",
      work: "the same with one item each",
      ours: "our pool, used",
      against: { "effect Pool": "effect pool, used" }
    }
  ],
  weights: Effect.all({
    "our pool": bytes(pools, manyPools(ourPool, nothing)),
    "effect pool": bytes(pools, manyPools(effectPool, nothing)),
    "our pool, used": bytes(pools, manyPools(ourPool, (pool) => pool.use(nothing))),
    "effect pool, used": bytes(pools, manyPools(effectPool, (pool) => Pool.use(pool, nothing)))
  })
}

export const weights: ReadonlyArray<Weighed> = [idleItems, waiting, whole]
