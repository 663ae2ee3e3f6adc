/**
 * Everything that effect's own Pool can do, this one can: the same programs run on
 * both, on the same source, and what they see is the same. Where the two differ by
 * design, the difference stands in test/peers.test.ts.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Pool, Scope } from "effect"
import { type PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import { elapse, ending } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"

interface Shape {
  readonly min?: number
  readonly max: number
  readonly concurrency?: number
  readonly targetUtilization?: number
  /** Milliseconds until an item goes that was not used, or was opened, so long ago. */
  readonly ttl?: number
  readonly since?: "usage" | "creation"
}

type Failure = Refused | PoolError.PoolError

/** What both have. */
interface Subject {
  readonly get: Effect.Effect<Thing, Failure, Scope.Scope>
  readonly use: <B, E>(f: (item: Thing) => Effect.Effect<B, E>) => Effect.Effect<B, E | Failure>
  readonly invalidate: (item: Thing) => Effect.Effect<void>
  readonly stats: Effect.Effect<Pool.Stats>
}

const theirs = (source: Source, { concurrency, max, min = max, since, targetUtilization, ttl }: Shape) =>
  Effect.map(
    ttl === undefined
      ? Pool.makeWithTTL({ acquire: source.acquire, min, max, concurrency, targetUtilization, timeToLive: "1 hour" })
      : Pool.makeWithTTL({
        acquire: source.acquire,
        min,
        max,
        concurrency,
        targetUtilization,
        timeToLive: ttl,
        timeToLiveStrategy: since
      }),
    (pool): Subject => ({
      get: Pool.get(pool),
      use: (f) => Pool.use(pool, f),
      invalidate: (item) => Pool.invalidate(pool, item),
      stats: Pool.stats(pool)
    })
  )

const ours = (source: Source, { concurrency, max, min = max, since, targetUtilization, ttl }: Shape) =>
  Effect.map(
    QueuePool.make({
      acquire: source.acquire,
      min,
      max,
      concurrency,
      targetUtilization,
      recycle: ttl === undefined ? [] : since === "creation" ? RecyclePolicy.age(ttl) : RecyclePolicy.idle(ttl)
    }),
    (pool): Subject => ({
      get: pool.get,
      use: pool.use,
      invalidate: pool.invalidate,
      stats: Effect.map(pool.stats, ({ idle, max, min, pending, used }) => ({ idle, max, min, pending, used }))
    })
  )

/** A borrower in a fiber of its own, until `go` opens; it says which item it has. */
const hold = (pool: Subject, go: Deferred.Deferred<void>, seen: Array<number>) =>
  Effect.forkChild(pool.use((item) => {
    seen.push(item.id)
    return Effect.as(Deferred.await(go), item.id)
  }))

/** Runs the program on a pool of each kind, and compares what it saw, what was opened and closed. */
const same = <A>(
  name: string,
  shape: Shape,
  program: (pool: Subject, source: Source) => Effect.Effect<A, never, Scope.Scope>
) =>
  it.effect(name, () => {
    const run = (make: typeof ours | typeof theirs) =>
      Effect.gen(function*() {
        const source = new Source()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(make(source, shape), scope)
        yield* settle
        const seen = yield* Effect.scoped(program(pool, source))
        yield* Scope.close(scope, Exit.void)
        return {
          seen,
          opened: source.opened.map(({ id }) => id),
          closed: source.closed.toSorted((a, b) => a - b)
        }
      })
    return Effect.gen(function*() {
      const [expected, actual] = [yield* run(theirs), yield* run(ours)]
      assert.deepStrictEqual(actual, expected)
      // Something was there to compare.
      assert.isNotEmpty(expected.opened)
    })
  })

const exitOf = <A>(effect: Effect.Effect<A, Failure | string>) => Effect.map(Effect.exit(effect), ending)

describe("on effect's Pool and on this one", () => {
  same("items are opened ahead up to min, and used again", { min: 2, max: 3 }, (pool) =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      for (let i = 0; i < 5; i++) yield* Effect.orDie(pool.use((item) => Effect.sync(() => seen.push(item.id))))
      return [seen.length, new Set(seen).size, yield* pool.stats]
    }))

  same(
    "no more than max borrowers have an item, and the others are served in their order",
    { max: 3 },
    (pool) =>
      Effect.gen(function*() {
        const log: Array<string> = []
        let lent = 0
        let peak = 0
        yield* Effect.forEach(Array.from({ length: 12 }, (_, i) => i), (i) =>
          Effect.orDie(pool.use(() => {
            log.push(`begin ${i}`)
            peak = Math.max(peak, ++lent)
            return Effect.ensuring(Effect.yieldNow, Effect.sync(() => lent--))
          })), { concurrency: "unbounded", discard: true })
        return [log, peak]
      })
  )

  same("the item that was returned last is lent first", { max: 3 }, (pool) =>
    Effect.scoped(Effect.gen(function*() {
      const scopes = yield* Effect.forEach([1, 2, 3], () => Scope.make())
      const items: Array<Thing> = []
      for (const scope of scopes) items.push(yield* Effect.orDie(Scope.provide(pool.get, scope)))
      for (const i of [1, 0, 2]) yield* Scope.close(scopes[i]!, Exit.void)
      const again = yield* Effect.forEach([1, 2, 3], () => Effect.orDie(pool.get))
      return again.map((item) => items.indexOf(item))
    })))

  same("a scope has its item until it closes, also in a nested one", { max: 2 }, (pool) =>
    Effect.gen(function*() {
      const outer = yield* Effect.orDie(pool.get)
      const before = yield* pool.stats
      const inner = yield* Effect.scoped(
        Effect.flatMap(Effect.orDie(pool.get), (item) => Effect.map(pool.stats, (stats) => [item !== outer, stats]))
      )
      return [before, inner, yield* pool.stats]
    }))

  same(
    "an open that fails is told to a borrower, and the next is tried anew",
    { min: 0, max: 2 },
    (pool, source) =>
      Effect.gen(function*() {
        source.opens.push("fail", "die")
        const ends: Array<string> = []
        for (let i = 0; i < 4; i++) ends.push(yield* exitOf(pool.use(() => Effect.void)))
        return ends
      })
  )

  for (
    const [name, body] of Object.entries({
      fails: Effect.fail("no"),
      dies: Effect.die("broken"),
      succeeds: Effect.succeed(1),
      "is interrupted": Effect.interrupt
    })
  ) {
    same(`a use whose effect ${name} ends so, and gives the item back`, { max: 1 }, (pool) =>
      Effect.gen(function*() {
        const first = yield* exitOf(pool.use(() => body))
        return [first, yield* exitOf(pool.use(() => Effect.void)), yield* pool.stats]
      }))
  }

  same("a function that throws is a defect of its use", { max: 1 }, (pool) =>
    Effect.gen(function*() {
      const thrown = yield* exitOf(pool.use((): Effect.Effect<void> => {
        throw new Error("broken")
      }))
      return [thrown, yield* pool.stats]
    }))

  same(
    "a lent item that is invalidated is not lent again, and is released",
    { max: 1 },
    (pool, source) =>
      Effect.gen(function*() {
        const go = yield* Deferred.make<void>()
        const seen: Array<number> = []
        const first = yield* Effect.forkChild(
          Effect.orDie(pool.use((item) => Effect.andThen(pool.invalidate(item), Deferred.await(go))))
        )
        yield* settle
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(first)
        yield* settle
        yield* Effect.orDie(pool.use((item) => Effect.sync(() => seen.push(item.id))))
        yield* settle
        return [seen, source.closed.slice()]
      })
  )

  same(
    "an idle item that is invalidated is released, and another serves",
    { max: 1 },
    (pool, source) =>
      Effect.gen(function*() {
        const item = yield* Effect.orDie(pool.use(Effect.succeed))
        yield* pool.invalidate(item)
        yield* settle
        const next = yield* Effect.orDie(pool.use(Effect.succeed))
        return [item.id, next.id, source.closed.slice()]
      })
  )

  same(
    "to invalidate what is no item changes nothing",
    { max: 1 },
    (pool) => Effect.andThen(pool.invalidate({ id: 77 }), pool.stats)
  )

  same(
    "a waiter that is interrupted loses its place, and the next is served",
    { max: 1 },
    (pool) =>
      Effect.gen(function*() {
        const go = yield* Deferred.make<void>()
        const seen: Array<number> = []
        const holder = yield* hold(pool, go, seen)
        yield* settle
        const waiters = [yield* hold(pool, go, seen), yield* hold(pool, go, seen)]
        yield* settle
        const before = yield* pool.stats
        yield* Fiber.interrupt(waiters[0]!)
        const between = yield* pool.stats
        yield* Deferred.succeed(go, undefined)
        const exits = yield* Effect.forEach([holder, ...waiters], Fiber.await)
        return [before, between, exits.map(ending), seen]
      })
  )

  same("a borrower that is interrupted gives its item back", { max: 1 }, (pool) =>
    Effect.gen(function*() {
      const go = yield* Deferred.make<void>()
      const seen: Array<number> = []
      const holder = yield* hold(pool, go, seen)
      yield* settle
      const waiter = yield* hold(pool, go, seen)
      yield* settle
      yield* Fiber.interrupt(holder)
      yield* settle
      yield* Deferred.succeed(go, undefined)
      return [ending(yield* Fiber.await(waiter)), seen]
    }))

  same(
    "an item is shared by as many as concurrency says",
    { max: 1, concurrency: 3 },
    (pool) =>
      Effect.gen(function*() {
        const go = yield* Deferred.make<void>()
        const seen: Array<number> = []
        const fibers = yield* Effect.forEach(Array.from({ length: 5 }), () => hold(pool, go, seen))
        yield* settle
        const during = [seen.slice(), yield* pool.stats]
        yield* Deferred.succeed(go, undefined)
        yield* Effect.forEach(fibers, Fiber.await)
        return [during, seen, yield* pool.stats]
      })
  )

  same(
    "a second item is opened when the first is full",
    { min: 1, max: 2, concurrency: 2 },
    (pool) =>
      Effect.gen(function*() {
        const go = yield* Deferred.make<void>()
        const seen: Array<number> = []
        const counts: Array<Pool.Stats> = []
        for (let i = 0; i < 5; i++) {
          yield* hold(pool, go, seen)
          yield* settle
          counts.push(yield* pool.stats)
        }
        yield* Deferred.succeed(go, undefined)
        yield* settle
        // Which of the items that come back together the waiter gets is left open.
        return [counts, seen.slice(0, 4)]
      })
  )

  for (const targetUtilization of [0.25, 0.5, 0.75, 1]) {
    same(
      `items are opened ahead at a target utilization of ${targetUtilization}`,
      { min: 1, max: 6, concurrency: 2, targetUtilization },
      (pool, source) =>
        Effect.gen(function*() {
          const go = yield* Deferred.make<void>()
          const seen: Array<number> = []
          const live: Array<number> = []
          for (let i = 0; i < 6; i++) {
            yield* hold(pool, go, seen)
            yield* settle
            live.push(source.live)
          }
          yield* Deferred.succeed(go, undefined)
          yield* settle
          return live
        })
    )
  }

  same(
    "items that are not used go after their time, but for min",
    { min: 1, max: 3, ttl: 1000 },
    (pool, source) =>
      Effect.gen(function*() {
        const go = yield* Deferred.make<void>()
        const seen: Array<number> = []
        yield* Effect.forEach([1, 2, 3], () => hold(pool, go, seen))
        yield* settle
        yield* Deferred.succeed(go, undefined)
        yield* settle
        const before = source.live
        // effect's Pool looks once in that time, so it may take twice as long.
        yield* elapse(2001)
        return [before, source.live, yield* pool.stats]
      })
  )

  same(
    "items go after their time though they are used",
    { min: 0, max: 1, ttl: 1000, since: "creation" },
    (pool, source) =>
      Effect.gen(function*() {
        const ids: Array<number> = []
        for (let i = 0; i < 6; i++) {
          ids.push((yield* Effect.orDie(pool.use(Effect.succeed))).id)
          yield* elapse(600)
        }
        yield* elapse(2000)
        return [new Set(ids).size > 1, source.live]
      })
  )

  same(
    "the scope of the pool releases what it holds, once the leases have ended",
    { max: 2 },
    (pool, source) =>
      Effect.gen(function*() {
        yield* Effect.orDie(pool.get)
        return source.live
      })
  )
})

describe("reserve", () => {
  // effect's Pool reserves an item that is leased already; ours lends one exclusively.
  it.effect("keeps newcomers off, on both", () =>
    Effect.gen(function*() {
      const theirSource = new Source()
      const theirPool = yield* Pool.make({ acquire: theirSource.acquire, size: 1, concurrency: 2 })
      const ourSource = new Source()
      const ourPool = yield* QueuePool.make({ acquire: ourSource.acquire, max: 1, concurrency: 2 })
      const theirsAlone = Effect.tap(Pool.get(theirPool), (item) => Pool.reserve(theirPool, item))
      const alone = [theirsAlone, ourPool.getExclusive] as const
      const plain = [Pool.get(theirPool), ourPool.get] as const
      const ends: Array<ReadonlyArray<boolean>> = []
      for (const i of [0, 1] as const) {
        const scope = yield* Scope.make()
        yield* Scope.provide(alone[i], scope)
        const newcomer = yield* Effect.forkChild(Effect.scoped(plain[i]))
        yield* settle
        const waits = newcomer.pollUnsafe() === undefined
        yield* Scope.close(scope, Exit.void)
        yield* settle
        ends.push([waits, newcomer.pollUnsafe() !== undefined])
      }
      assert.deepStrictEqual(ends, [[true, true], [true, true]])
    }))
})
