import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import { books, borrow, elapse, endings, several } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"

const timeoutOf = (exit: Exit.Exit<unknown, unknown> | undefined) => {
  assert.isTrue(exit !== undefined && exit._tag === "Failure")
  const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause)
  assert.instanceOf(error, PoolError.PoolError)
  assert.instanceOf(error.reason, PoolError.BorrowTimeout)
  return error.reason
}

describe("the queue", () => {
  it.effect("J8: maxWaiters counts those without an open under way for them; one more fails at once", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push({ slow: 10 })
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, maxWaiters: 1 })
      const borrowers = yield* several(3, pool)
      assert.deepStrictEqual(endings(borrowers), ["waits", "waits", "TooManyWaiters"])
      yield* elapse(10)
      assert.strictEqual((yield* pool.stats).pending, 1)
      yield* borrowers[0]!.letGo
      yield* borrowers[1]!.letGo
      yield* books(source, pool)
    }))

  it.effect("maxWaiters 0 lends, opens, and never queues", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, maxWaiters: 0 })
      const borrowers = yield* several(2, pool)
      assert.deepStrictEqual(endings(borrowers), ["waits", "TooManyWaiters"])
      yield* borrowers[0]!.letGo
      yield* books(source, pool)
    }))

  it.effect("borrowTimeout 0 tries once, and lets an open begin for whoever comes next", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        borrowTimeout: 0,
        check: () => Effect.void,
        checkAfter: 100
      })
      const reason = timeoutOf(yield* Effect.exit(pool.use(() => Effect.void)))
      assert.deepStrictEqual([reason.phase, reason.waited], ["opening", 0])
      yield* settle
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
      // One that needs a check is not there at once.
      yield* elapse(100)
      assert.strictEqual(timeoutOf(yield* Effect.exit(pool.use(() => Effect.void))).phase, "checking")
      yield* settle
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* pool.get
        assert.strictEqual(timeoutOf(yield* Effect.exit(pool.use(() => Effect.void))).phase, "waiting")
      }))
      assert.strictEqual((yield* books(source, pool)).timeouts, 3)
    }))

  it.effect("borrowTimeout Infinity waits as long as it takes", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: "Infinity" })
      const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
      yield* elapse("400 days")
      assert.deepStrictEqual(endings([waiter]), ["waits"])
      yield* holder.letGo
      yield* waiter.letGo
      yield* books(source, pool)
    }))

  it.effect("every waiter has its own deadline, and those that time out together are told in one step", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 100 })
      const holder = yield* borrow(pool)
      const early = yield* several(3, pool)
      yield* elapse(60)
      const late = yield* borrow(pool)
      yield* elapse(40)
      assert.deepStrictEqual(endings([...early, late]), ["BorrowTimeout", "BorrowTimeout", "BorrowTimeout", "waits"])
      yield* elapse(59)
      assert.deepStrictEqual(endings([late]), ["waits"])
      yield* elapse(1)
      assert.strictEqual(timeoutOf(late.fiber.pollUnsafe()).oldestLease?.held, 160)
      yield* holder.letGo
      yield* books(source, pool)
    }))

  it.effect("order fifo lends the item that came back first, to those who wait as well", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 3,
        order: "fifo",
        check: () => Effect.void,
        checkAfter: 10
      })
      const three = yield* several(3, pool)
      for (const index of [1, 0, 2]) yield* three[index]!.letGo
      const ids: Array<number> = []
      for (let i = 0; i < 4; i++) ids.push(yield* pool.use(({ id }) => Effect.succeed(id)))
      assert.deepStrictEqual(ids, [2, 1, 3, 2])
      // All of them need a check now.
      yield* elapse(10)
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
      yield* books(source, pool)
    }))

  it.effect("J6: a fiber that borrows what it holds itself fails at its time, and the error names it", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 1000 })
      const nested = pool.use(() => pool.use(() => Effect.void)).pipe(Effect.withSpan("nested"))
      const fiber = yield* Effect.forkChild(nested)
      yield* settle
      yield* elapse(1000)
      assert.deepStrictEqual(timeoutOf(yield* Fiber.await(fiber)).oldestLease, { held: 1000, by: "nested" })
      yield* books(source, pool)
    }))

  it.effect("the oldest lease is found among equal items too, and in a huge pool not looked for", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire: Effect.succeed("same"), max: 2, borrowTimeout: 100 })
      const first = yield* borrow(pool).pipe(Effect.withSpan("first"))
      yield* elapse(1)
      const second = yield* borrow(pool)
      const waiter = yield* borrow(pool)
      yield* elapse(100)
      assert.strictEqual(timeoutOf(waiter.fiber.pollUnsafe()).oldestLease?.by, "first")
      yield* first.letGo
      yield* second.letGo
      const source = new Source()
      const huge = yield* QueuePool.make({ acquire: source.acquire, max: 1001, borrowTimeout: 0, min: 1001 })
      while ((yield* huge.stats).idle < 1001) yield* settle
      const scope = yield* Scope.make()
      yield* Effect.replicateEffect(Scope.provide(huge.get, scope), 1001)
      yield* elapse(5)
      assert.isUndefined(timeoutOf(yield* Effect.exit(huge.use(Effect.succeed))).oldestLease)
      yield* Scope.close(scope, Exit.void)
      yield* books(source, huge)
    }))
})
