import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { Capacity, type PoolError } from "effect-queuepool"
import { books, borrow, elapse, ending, endings, several } from "./kit/books.ts"
import { settle } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"
import { one, type Pool, pools } from "./kit/sharers.ts"

describe("a budget of two pools", () => {
  it.effect("bounds what they have together: opening, idle, lent and closing", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 3 })
      const [a, b] = yield* pools(2, capacity)
      const first = yield* several(2, a.pool)
      const second = yield* several(2, b.pool)
      assert.deepStrictEqual(endings([...first, ...second]), ["waits", "waits", "waits", "waits"])
      assert.deepStrictEqual([...first, ...second].map(({ item }) => item !== undefined), [true, true, true, false])
      assert.deepStrictEqual(yield* one(capacity), { name: "capacity", permits: 3, used: 3, parked: 1 })
      assert.strictEqual((yield* b.pool.stats).parked, 1)
      // The permit goes where it is waited for, by way of a close.
      a.source.closesOtherwise = { slow: 100 }
      yield* first[0]!.letGo
      assert.isUndefined(second[1]!.item)
      yield* elapse(100)
      a.source.closesOtherwise = "ok"
      assert.isDefined(second[1]!.item)
      assert.strictEqual((yield* one(capacity)).used, 3)
      for (const { letGo } of [first[1]!, ...second]) yield* letGo
      yield* books(a.source, a.pool)
      yield* books(b.source, b.pool)
      assert.strictEqual((yield* one(capacity)).parked, 0)
    }))

  it.effect("F2: who is short makes others close their coldest idle items, and no more than are needed", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 4 })
      const [a, b, c] = yield* pools(3, capacity)
      for (const { letGo } of yield* several(2, a.pool)) {
        yield* letGo
        yield* elapse(10)
      }
      for (const { letGo } of yield* several(2, b.pool)) yield* letGo
      const borrower = yield* borrow(c.pool)
      assert.isDefined(borrower.item)
      assert.deepStrictEqual([a.source.closed, b.source.closed], [[1], []])
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { reclaimed: 1 })
      yield* borrower.letGo
    }))

  it.effect("`min` is spared while others have idle items, given up at the last, and refilled when nobody waits", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [kept] = yield* pools(1, capacity, { min: 1 })
      yield* settle
      const [other, third] = yield* pools(2, capacity)
      yield* other.pool.use(() => Effect.void)
      // The coldest is the one that is to be kept.
      const first = yield* borrow(third.pool)
      assert.deepStrictEqual([kept.source.closed, other.source.closed], [[], [1]])
      const second = yield* borrow(third.pool)
      assert.isDefined(second.item)
      assert.deepStrictEqual(kept.source.closed, [1])
      assert.strictEqual((yield* one(capacity)).parked, 0)
      yield* first.letGo
      // It is idle, and nobody waits for a permit: the refill does not take it away.
      assert.deepStrictEqual(third.source.closed, [])
      yield* third.pool.clear
      yield* elapse(10)
      assert.deepStrictEqual([(yield* kept.pool.stats).idle, kept.source.opened.length], [1, 2])
      yield* second.letGo
    }))

  it.effect("a late pool is served within one longest lease, and both come to a fair share", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 4 })
      const [a, b] = yield* pools(2, capacity, { borrowTimeout: "Infinity" })
      const work = (pool: Pool) => Effect.forever(pool.use(() => Effect.sleep(100)))
      for (let i = 0; i < 20; i++) yield* Effect.forkScoped(work(a.pool))
      yield* elapse(1050)
      assert.strictEqual(a.source.live, 4)
      for (let i = 0; i < 20; i++) yield* Effect.forkScoped(work(b.pool))
      yield* elapse(100)
      assert.isAtLeast(b.source.live, 1)
      yield* elapse(300)
      assert.deepStrictEqual([a.source.live, b.source.live], [2, 2])
      // And there it stays: nothing is closed without need.
      const closed = a.source.closed.length + b.source.closed.length
      yield* elapse(2000)
      assert.strictEqual(a.source.closed.length + b.source.closed.length, closed)
    }))

  it.effect("more pools than permits: all are served in turn", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const many = yield* pools(6, capacity, { borrowTimeout: "Infinity" })
      const served = many.map(() => 0)
      for (const [i, { pool }] of many.entries()) {
        const lease = pool.use(() => Effect.andThen(Effect.sleep(10), Effect.sync(() => void served[i]!++)))
        for (let n = 0; n < 3; n++) yield* Effect.forkScoped(Effect.forever(lease))
      }
      for (let i = 0; i < 100; i++) yield* elapse(10)
      assert.isAtLeast(Math.min(...served), 20)
      assert.isAtMost(Math.max(...served), 50)
    }))

  it.effect("fairness by arrival: the borrower that came first goes first", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1, fairness: "arrival" })
      const [a, b] = yield* pools(2, capacity)
      const order: Array<string> = []
      const lease = (name: string, { pool }: { readonly pool: Pool }) =>
        Effect.tap(
          Effect.forkChild(pool.use(() => {
            order.push(name)
            return Effect.sleep(10)
          })),
          () => settle
        )
      for (const name of ["a1", "b1", "a2", "b2", "b3", "a3"]) yield* lease(name, name.startsWith("a") ? a : b)
      for (let i = 0; i < 6; i++) yield* elapse(10)
      assert.deepStrictEqual(order, ["a1", "b1", "a2", "b2", "b3", "a3"])
      assert.deepStrictEqual((yield* b.pool.stats).recycled, { "over share": 2 })
    }))

  it.effect("a borrower that has no permit in time is told where it waited", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ name: "server", permits: 1 })
      const [a, b] = yield* pools(2, capacity, { borrowTimeout: 1000 })
      const events = yield* record(b.pool)
      const holder = yield* borrow(a.pool)
      const borrower = yield* borrow(b.pool)
      yield* elapse(1000)
      const exit = borrower.fiber.pollUnsafe()!
      assert.strictEqual(ending(exit), "BorrowTimeout")
      const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
      assert.strictEqual(
        (error as PoolError.PoolError).message,
        "BorrowTimeout: no item of \"pool 1\" within 1s (0/10 lent, 1 waiting, capacity \"server\" has all of its 1 permits out)"
      )
      assert.include(told(events), "Parked")
      assert.strictEqual((yield* one(capacity)).parked, 0)
      yield* holder.letGo
      assert.deepStrictEqual(a.source.closed, [])
    }))

  it.effect("a permit that its pool needs no more goes on to the next", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a, b, c] = yield* pools(3, capacity)
      const holder = yield* borrow(a.pool)
      const first = yield* borrow(b.pool)
      const second = yield* borrow(c.pool)
      // In the step in which the permit is given.
      a.source.closesOtherwise = { slow: 5 }
      yield* holder.letGo
      const leaves = yield* Effect.forkChild(Effect.andThen(Effect.sleep(5), Fiber.interrupt(first.fiber)))
      yield* elapse(5)
      yield* Fiber.join(leaves)
      assert.isDefined(second.item)
      yield* second.letGo
      assert.deepStrictEqual([(yield* one(capacity)).used, (yield* one(capacity)).parked], [1, 0])
    }))

  it.effect("a budget made smaller closes what is idle and takes the rest as it comes back; larger, it serves who waits", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 4 })
      const [a, b] = yield* pools(2, capacity)
      const leases = yield* several(2, a.pool)
      for (const { letGo } of yield* several(2, b.pool)) yield* letGo
      yield* capacity.resize(1)
      yield* settle
      assert.deepStrictEqual([b.source.closed.length, (yield* one(capacity)).used], [2, 2])
      const waiter = yield* borrow(a.pool)
      yield* leases[0]!.letGo
      assert.deepStrictEqual([waiter.item, (yield* one(capacity)).used], [undefined, 1])
      yield* capacity.resize(2)
      yield* settle
      assert.isDefined(waiter.item)
      yield* leases[1]!.letGo
      yield* waiter.letGo
    }))

  it.effect("a pool that closes gives its permits back", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const scope = yield* Scope.make()
      const [a] = yield* Scope.provide(pools(1, capacity), scope)
      const [b] = yield* pools(1, capacity)
      yield* a.pool.use(() => Effect.void)
      a.source.closesOtherwise = { slow: 100 }
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      const waiter = yield* borrow(b.pool)
      assert.isUndefined(waiter.item)
      yield* elapse(100)
      yield* Fiber.join(closing)
      assert.isDefined(waiter.item)
      yield* waiter.letGo
    }))
})
