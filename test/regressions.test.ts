/** What hostile readers found; each of these was red once. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { Background } from "../src/internal/background.ts"
import { books, borrow, elapse, endings } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"
import { record, recycled } from "./kit/observe.ts"

/** One error is thrown in it where nobody catches, and it goes on. */
const thrown = Effect.fnUntraced(function*<E>(test: Effect.Effect<void, E, Scope.Scope>) {
  const uncaught: Array<unknown> = []
  const listeners = process.listeners("uncaughtException")
  process.removeAllListeners("uncaughtException")
  process.on("uncaughtException", (error) => uncaught.push(error))
  yield* Effect.ensuring(
    test,
    Effect.sync(() => {
      process.removeAllListeners("uncaughtException")
      for (const listener of listeners) process.on("uncaughtException", listener)
    })
  )
  assert.strictEqual(uncaught.length, 1)
})

describe("regressions", () => {
  it.effect("a borrower is served by a proven item behind an unproven one that is recycled", () =>
    Effect.gen(function*() {
      for (const borrowTimeout of ["1 second", 0] as const) {
        const source = new Source()
        let bad = 0
        const pool = yield* QueuePool.make({
          acquire: source.acquire,
          min: 2,
          max: 2,
          warm: "eager",
          order: "fifo",
          borrowTimeout,
          check: () => Effect.void,
          recycle: (usage) => usage.item.id === bad
        })
        const scope = yield* Scope.make()
        yield* pool.use(() => Effect.void)
        const proven = yield* Scope.provide(pool.get, scope)
        yield* TestClock.adjust("1 second")
        yield* Scope.close(scope, Exit.void)
        bad = 3 - proven.id
        assert.strictEqual(yield* pool.use((thing) => Effect.succeed(thing.id)), proven.id)
        yield* books(source, pool)
      }
    }))

  it.live("an observer that throws costs no other borrower its turn", () =>
    thrown(Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire: Effect.sync(() => ({})), max: 3 })
      const gate = Deferred.makeUnsafe<void>()
      const fork = Effect.runForkWith(yield* Effect.context())
      const holders = [1, 2, 3].map(() => fork(pool.use(() => Deferred.await(gate))))
      yield* Effect.sleep(5)
      const served: Array<number> = []
      const waiters = [1, 2, 3].map((n) => fork(pool.use(() => Effect.sync(() => served.push(n)))))
      waiters[0]!.addObserver(() => {
        throw new Error("an observer's")
      })
      Deferred.doneUnsafe(gate, Exit.void)
      yield* Fiber.awaitAll(holders)
      // Nobody hears of the first one's end after its observer has thrown.
      yield* Fiber.awaitAll(waiters.slice(1))
      yield* Effect.sleep(5)
      assert.deepStrictEqual(served, [1, 2, 3])
      assert.strictEqual((yield* pool.stats).used, 0)
    })))

  it.live("a task of the pool that ends in such an observer costs no other task its turn", () =>
    thrown(Effect.gen(function*() {
      const background = new Background<never>(yield* Effect.context())
      const turns: Array<number> = []
      background.later(() => {
        throw new Error("an observer's")
      })
      background.later(() => void turns.push(1))
      yield* Effect.sleep(5)
      assert.deepStrictEqual(turns, [1])
    })))

  it.effect("making an eager pool ends as Closed when its scope is closed, before or meanwhile", () =>
    Effect.gen(function*() {
      const options = { acquire: Effect.never, min: 1, warm: "eager" } as const
      const closed = yield* Scope.make()
      yield* Scope.close(closed, Exit.void)
      const before = yield* Effect.flip(Scope.provide(QueuePool.make(options), closed))
      assert.strictEqual(before.reason._tag, "Closed")
      const scope = yield* Scope.make()
      const making = yield* Effect.forkChild(Effect.flip(Scope.provide(QueuePool.make(options), scope)), {
        startImmediately: true
      })
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(making)).reason._tag, "Closed")
    }))

  it.effect("what rules acquire is released: by checks at once, by Schedules with the item", () =>
    Effect.gen(function*() {
      let open = 0
      const resource = Effect.acquireRelease(Effect.sync(() => ++open), () => Effect.sync(() => --open))
      const pool = yield* QueuePool.make({
        acquire: Effect.sync(() => ({})),
        max: 1,
        recycle: [
          RecyclePolicy.check(() => Effect.as(resource, false)),
          RecyclePolicy.schedule(Schedule.tap(Schedule.recurs(3), () => resource))
        ]
      })
      yield* pool.use(() => Effect.void)
      const before = open
      for (let i = 0; i < 5; i++) yield* pool.sweep
      assert.strictEqual(open, before)
      yield* pool.clear
      yield* settle
      assert.strictEqual(open, 0)
    }))

  it.effect("sweeps that overlap do not empty the pool, and each tells its own", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        min: 8,
        max: 8,
        warm: "eager",
        openConcurrency: 8,
        sweep: "200 millis",
        recycle: RecyclePolicy.check(() => Effect.as(Effect.sleep("3 seconds"), false))
      })
      for (let i = 0; i < 50; i++) {
        yield* elapse(100)
        assert.isAtLeast((yield* pool.stats).idle, 4)
      }
      const manual = yield* Effect.forkChild(pool.sweep, { startImmediately: true })
      for (let i = 0; i < 20; i++) yield* elapse(1000)
      assert.isAtLeast((yield* Fiber.join(manual)).examined, 4)
    }))

  it.effect("sweeps that wait for another end when the pool closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const acquire = new Source().acquire
      const recycle = RecyclePolicy.check(() => Effect.never)
      const pool = yield* Scope.provide(QueuePool.make({ acquire, min: 2, warm: "eager", recycle }), scope)
      const sweeps = yield* Effect.forEach([1, 2, 3, 4], () => Effect.forkChild(pool.sweep, { startImmediately: true }))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* settle
      for (const sweep of sweeps) assert.isDefined(sweep.pollUnsafe())
    }))

  it.effect("a sweep's check is nobody's supply, and does not stand for the check before a lease", () =>
    Effect.gen(function*() {
      const source = new Source()
      let asked = 0
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 2,
        check: () => Effect.sync(() => ++asked),
        checkAfter: 100,
        recycle: RecyclePolicy.check((thing: { readonly id: number }) =>
          thing.id === 1 ? Effect.as(Effect.sleep(1000), false) : Effect.succeed(false)
        )
      })
      yield* pool.use(() => Effect.void)
      yield* TestClock.adjust(300)
      yield* Effect.forkChild(pool.sweep, { startImmediately: true })
      const borrower = yield* borrow(pool)
      // It does not wait for the sweep.
      assert.strictEqual(borrower.item?.id, 2)
      yield* borrower.letGo
      yield* pool.invalidate(source.opened[1]!)
      yield* elapse(1000)
      assert.strictEqual(asked, 0)
      assert.strictEqual(yield* pool.use((thing) => Effect.succeed(thing.id)), 1)
      assert.strictEqual(asked, 1)
    }))

  it.effect("a diagnosis names the span in which the item was borrowed", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire: Effect.succeed(1), max: 1, borrowTimeout: 1000 })
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.withSpan(pool.get, "borrows here")
        const waiter = yield* Effect.withSpan(Effect.forkChild(Effect.flip(pool.use(() => Effect.void))), "innocent")
        yield* elapse(1000)
        const { reason } = yield* Fiber.join(waiter)
        assert.strictEqual(reason._tag === "BorrowTimeout" && reason.oldestLease?.by, "borrows here")
      }))
    }))

  it.effect("invalidate of an equal value takes the item that was lent last", () =>
    Effect.gen(function*() {
      let id = 0
      const closed: Array<number> = []
      const acquire = Effect.acquireRelease(Effect.succeed("same"), () => Effect.sync(() => closed.push(++id)))
      const pool = yield* QueuePool.make({ acquire, min: 3, max: 3, warm: "eager", order: "fifo" })
      yield* TestClock.adjust(10)
      yield* pool.use(() => Effect.void)
      const events = yield* record(pool)
      yield* pool.invalidate("same")
      yield* settle
      // The order is fifo: the first was lent, though the third was opened last.
      assert.deepStrictEqual(recycled(events), [[1, "invalidated"]])
      assert.strictEqual(closed.length, 1)
    }))

  it.effect("a predicate that calls back into the pool breaks nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const around: { pool?: QueuePool.QueuePool<{ readonly id: number }, unknown> } = {}
      let calls = 0
      const run = Effect.runSyncWith(yield* Effect.context())
      const pool = around.pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 2,
        recycle: (usage) => {
          if (usage.moment === "lend" && ++calls === 1) run(around.pool!.invalidate(usage.item))
          return false
        }
      })
      yield* pool.use(() => Effect.void)
      assert.strictEqual(yield* pool.use((thing) => Effect.succeed(thing.id)), 2)
      yield* books(source, pool)
      const swept = yield* QueuePool.make({
        acquire: source.acquire,
        recycle: (usage) => {
          if (usage.moment === "sweep") run(swept.invalidate(usage.item, "by the predicate"))
          return usage.moment === "sweep"
        }
      })
      yield* swept.use(() => Effect.void)
      yield* swept.sweep
      yield* settle
      assert.deepStrictEqual((yield* swept.stats).recycled, { "by the predicate": 1 })
    }))

  it.effect("a lease to a closed scope ends as the scope did", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const pool = yield* QueuePool.make({
        acquire: Effect.succeed("item"),
        max: 1,
        reset: (_, exit) => {
          seen.push(exit)
          return undefined
        }
      })
      yield* pool.use(() => Effect.void)
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.fail("over"))
      yield* Scope.provide(pool.get, scope)
      assert.deepStrictEqual(seen, [Exit.void, Exit.fail("over")])
      assert.strictEqual((yield* pool.stats).idle, 1)
    }))

  it.effect("many leases that fail of one cause are condemned once, and new items are not", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 4,
        recycle: RecyclePolicy.failedWith(() => true, { also: "all", reason: "failover" })
      })
      const gate = Deferred.makeUnsafe<void>()
      for (let i = 0; i < 3; i++) {
        yield* Effect.forkChild(
          Effect.ignore(pool.use(() => Effect.andThen(Deferred.await(gate), Effect.fail("gone"))))
        )
      }
      yield* settle
      Deferred.doneUnsafe(gate, Exit.void)
      yield* settle
      assert.deepStrictEqual((yield* pool.stats).recycled, { failover: 3 })
      const later = yield* borrow(pool)
      yield* Effect.ignore(pool.use(() => Effect.fail("gone again")))
      yield* later.letGo
      yield* settle
      assert.deepStrictEqual((yield* pool.stats).recycled, { failover: 5 })
      assert.deepStrictEqual(endings([later]), ["served"])
    }))
})
