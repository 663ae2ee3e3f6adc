import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, closedBooks, elapse, endings, several } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

describe("an item that ends by itself", () => {
  it.effect("is recycled at once when it is idle, and replaced for min", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, min: 1 })
      yield* pool.use(() => Effect.void)
      lose(pool, source.opened[0], "died")
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      const { idle, recycled } = yield* pool.stats
      assert.deepStrictEqual([idle, recycled], [1, { died: 1 }])
      yield* books(source, pool)
    }))

  it.effect("is closed under its borrower, and its slot serves the next", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, name: "db" })
      const events = yield* record(pool)
      const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
      lose(pool, source.opened[0], "died")
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      assert.strictEqual(waiter.item?.id, 2)
      // Coming back late harms nobody.
      yield* holder.letGo
      yield* waiter.letGo
      yield* settle
      assert.deepStrictEqual((yield* pool.stats).idle, 1)
      assert.include(told(events), "TakenBack 1")
      yield* books(source, pool)
    }))

  it.effect("while it is checked or reset, leaves the borrower to wait for another", () =>
    Effect.gen(function*() {
      for (const what of ["check", "reset"] as const) {
        const source = new Source()
        const pool = yield* QueuePool.make({
          acquire: source.acquire,
          max: 1,
          ...(what === "check" ? { check: () => Effect.never, checkAfter: 0 } : { reset: () => Effect.never })
        })
        yield* pool.use(() => Effect.void)
        const waiter = yield* borrow(pool)
        assert.deepStrictEqual(endings([waiter]), ["waits"])
        lose(pool, source.opened[0], "died")
        yield* settle
        assert.deepStrictEqual([source.closed, waiter.item?.id], [[1], 2])
        yield* waiter.letGo
        assert.strictEqual(source.opened.length, 2)
      }
    }))

  // The waiter is handed the item as the holder's lease ends, and runs a turn later: the item ends between.
  const inBetween = Effect.fnUntraced(function*(source: Source, pool: QueuePool.QueuePool<Thing, Refused>) {
    const done = Deferred.makeUnsafe<void>()
    yield* Effect.forkChild(pool.use(() => Deferred.await(done)), { startImmediately: true })
    yield* settle
    return (): void => {
      Deferred.doneUnsafe(done, Exit.void)
      lose(pool, source.opened[0], "died")
    }
  })

  it.effect("between hand-over and take-up, puts its borrower back at the head of the queue", () =>
    Effect.gen(function*() {
      for (const [max, count] of [[1, 3], [2, 2], [2, 3], [3, 3]] as const) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max })
        const end = yield* inBetween(source, pool)
        const others = yield* several(Math.max(0, max - 2), pool)
        // Some of them have an open under way for them.
        source.opensOtherwise = { slow: 10 }
        const order: Array<number> = []
        const expected = Array.from({ length: count }, (_, index) => index + 1)
        const waiters = yield* Effect.forEach(
          expected,
          (n) => Effect.forkChild(pool.use(() => Effect.sync(() => order.push(n))), { startImmediately: true })
        )
        end()
        yield* TestClock.adjust(10)
        for (const { letGo } of others) yield* letGo
        yield* Fiber.awaitAll(waiters)
        assert.deepStrictEqual([order, source.closed], [expected, [1]])
        yield* books(source, pool)
      }
    }))

  it.effect("between hand-over and take-up, lets its borrower's time go on", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 1000 })
      const end = yield* inBetween(source, pool)
      yield* TestClock.adjust(500)
      const waiter = yield* borrow(pool)
      source.opensOtherwise = "hang"
      end()
      yield* elapse(999)
      assert.deepStrictEqual(endings([waiter]), ["waits"])
      yield* elapse(1)
      assert.deepStrictEqual(endings([waiter]), ["BorrowTimeout"])
    }))

  it.effect("between hand-over and take-up, leaves its borrower the open that is under way", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("ok", { slow: 10 })
      source.opensOtherwise = { slow: 20 }
      const pool = yield* QueuePool.make({ acquire: source.acquire, min: 2, max: 2, borrowTimeout: "Infinity" })
      const end = yield* inBetween(source, pool)
      const waiter = yield* borrow(pool)
      end()
      yield* elapse(10)
      assert.strictEqual(waiter.item?.id, 2)
      yield* waiter.letGo
      yield* elapse(10)
      yield* books(source, pool)
    }))

  it.effect("between hand-over and take-up, as its borrower leaves or the pool closes, is not counted as a lease", () =>
    Effect.gen(function*() {
      for (const how of ["leave", "close"] as const) {
        const source = new Source()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, max: 1 }), scope)
        const end = yield* inBetween(source, pool)
        const waiter = yield* borrow(pool)
        end()
        if (how === "leave") waiter.fiber.interruptUnsafe()
        else yield* Scope.close(scope, Exit.void)
        yield* settle
        assert.deepStrictEqual(endings([waiter]), [how === "leave" ? "interrupted" : "Closed"])
        const { borrowed, returned, takenBack } = yield* pool.stats
        assert.deepStrictEqual([borrowed, returned, takenBack], [1, 1, 0])
        yield* Scope.close(scope, Exit.void)
        closedBooks(source)
      }
    }))

  it.effect("in the very function that looks what there is to reset, is gone once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const around: { pool?: QueuePool.QueuePool<Thing, Refused> } = {}
      const pool = around.pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        reset: (thing) => {
          if (thing.id === 1) lose(around.pool!, thing, "died")
          return undefined
        }
      })
      yield* pool.use(() => Effect.void)
      assert.strictEqual(yield* pool.use((thing) => Effect.succeed(thing.id)), 2)
      yield* books(source, pool)
    }))

  it.effect("and what is not an item, or no longer, changes nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, drainTimeout: 1000 }), scope)
      const holder = yield* borrow(pool)
      lose(pool, { id: 1 }, "died")
      assert.strictEqual((yield* pool.stats).used, 1)
      // Also while the pool is closing.
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      lose(pool, source.opened[0], "died")
      lose(pool, source.opened[0], "died")
      yield* settle
      assert.isDefined(closing.pollUnsafe())
      yield* holder.letGo
      closedBooks(source)
    }))
})
