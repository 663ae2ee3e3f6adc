import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schedule, Stream } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { settle, Source } from "./kit/items.ts"
import { logged } from "./kit/observe.ts"

describe("QueuePool", () => {
  it.effect("lends the item that came back last", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3 })
      const first = yield* pool.use((thing) => Effect.succeed(thing.id))
      const second = yield* Effect.scoped(pool.get)
      assert.strictEqual(first, 1)
      assert.strictEqual(second.id, 1)
      assert.strictEqual(source.opened.length, 1)
    }))

  it.effect("waits for a return, first come first served", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const order: Array<number> = []
      const fibers = yield* Effect.forEach([1, 2, 3], (n) =>
        Effect.forkChild(pool.use(() => Effect.andThen(Effect.sync(() => order.push(n)), Effect.sleep(10)))))
      yield* settle
      yield* TestClock.adjust(10)
      yield* TestClock.adjust(10)
      yield* TestClock.adjust(10)
      yield* Fiber.awaitAll(fibers)
      assert.deepStrictEqual(order, [1, 2, 3])
      const stats = yield* pool.stats
      assert.strictEqual(stats.idle, 1)
      assert.strictEqual(stats.opened, 1)
    }))

  it.effect("times out with a diagnosis", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, name: "db", borrowTimeout: "5 seconds" })
      yield* Effect.scoped(Effect.gen(function*() {
        yield* pool.get
        const waiter = yield* Effect.forkChild(Effect.flip(Effect.scoped(pool.get)))
        yield* settle
        yield* TestClock.adjust("5 seconds")
        const error = yield* Fiber.join(waiter)
        assert.strictEqual(error._tag === "PoolError" && error.reason._tag, "BorrowTimeout")
        assert.include(error._tag === "PoolError" ? error.message : "", "no item of \"db\" within 5s (1/1 lent")
      }))
    }))

  it.effect("recycles by age, strictly after", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, recycle: RecyclePolicy.age("10 seconds") })
      yield* pool.use(() => Effect.void)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(source.closed, [])
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("tells a failed open to the borrower it was for", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("fail")
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const exit = yield* Effect.exit(pool.use(() => Effect.void))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(yield* pool.use((thing) => Effect.succeed(thing.id)), 2)
    }))

  it.effect("tells why the last open failed, down to the cause of its cause", () =>
    Effect.gen(function*() {
      // What the outer one says already is not said twice.
      const system = new Error("ECONNREFUSED", { cause: null })
      const socket = new Error("connect ECONNREFUSED 127.0.0.1:1", { cause: system })
      const refused = new Error("failed to connect", { cause: socket })
      const pool = yield* QueuePool.make({
        acquire: Effect.fail(refused),
        borrowTimeout: "1 second",
        retry: Schedule.spaced("10 seconds")
      })
      const waiter = yield* Effect.forkChild(Effect.flip(pool.use(() => Effect.void)), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(waiter)
      assert.match(error.message, /; last open failed: failed to connect: connect ECONNREFUSED 127\.0\.0\.1:1\)$/)
    }))

  it.effect("tells a borrower of an acquire that interrupts itself, and does not interrupt it", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire: Effect.interrupt, name: "db" })
      const error = yield* Effect.flip(pool.use(() => Effect.void))
      assert.strictEqual(error.reason._tag, "OpenInterrupted")
      assert.strictEqual(
        error.message,
        "OpenInterrupted: opening an item of \"db\" was interrupted, by its own doing"
      )
    }))

  it.effect("gives back at once what a reset finds clean", () =>
    Effect.gen(function*() {
      const source = new Source()
      const resets: Array<number> = []
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        reset: (thing, exit) => Exit.isSuccess(exit) ? undefined : Effect.sync(() => resets.push(thing.id))
      })
      yield* pool.use(() => Effect.void)
      assert.strictEqual((yield* pool.stats).idle, 1)
      yield* Effect.exit(pool.use(() => Effect.fail("broken")))
      assert.strictEqual((yield* pool.stats).used, 1)
      yield* settle
      assert.strictEqual((yield* pool.stats).idle, 1)
      assert.deepStrictEqual(resets, [1])
    }))

  it.effect("recycles what a reset throws at", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        reset: () => {
          throw new Error("a bug")
        }
      })
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.deepStrictEqual((yield* pool.stats).recycled, { "reset failed": 1 })
    }))

  it.effect("keeps nothing of what a lease succeeded with", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const pool = yield* QueuePool.make({
        acquire: Effect.succeed("item"),
        recycle: (usage) => {
          if (usage.moment === "lend") seen.push(usage.exit)
          return false
        }
      })
      yield* pool.use(() => Effect.succeed("a large result"))
      yield* pool.use(() => Effect.void)
      assert.deepStrictEqual(seen, [Exit.void])
    }))

  it.effect("hears of a retry Schedule that hangs after openTimeout", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("fail")
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        openTimeout: "3 seconds",
        retry: Schedule.tap(Schedule.spaced("1 second"), () => Effect.never)
      })
      const waiter = yield* Effect.forkChild(Effect.flip(pool.use(() => Effect.void)), { startImmediately: true })
      yield* settle
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.join(waiter))._tag, "Refused")
      assert.strictEqual(yield* pool.use((thing) => Effect.succeed(thing.id)), 2)
    }))

  it.effect("logs once that opens fail and are tried again, and once that they succeed", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      source.opens.push("fail", "fail", "fail")
      yield* QueuePool.make({ acquire: source.acquire, min: 1, name: "db" })
      yield* settle
      for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
      assert.strictEqual(source.opened.length, 1)
      const told = lines.filter((line) => line.includes("open items"))
      assert.lengthOf(told, 2)
      assert.include(told[0], "pool \"db\" cannot open items and goes on trying")
      assert.include(told[1], "pool \"db\" can open items again")
    })))

  it.effect("names what is not an option, and not its value", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        QueuePool.make(Object.assign({ acquire: Effect.succeed(1) }, { password: "hush" }))
      )
      assert.match(error.message, /password is not an option, allowed is one of the options acquire, name, max/)
      assert.notInclude(error.message, "hush")
    }))

  it.effect("tells its events by the service too", () =>
    Effect.gen(function*() {
      class Things extends QueuePool.Service<Things>()("test/Things", { acquire: new Source().acquire }) {}
      const tags = yield* Effect.gen(function*() {
        const events = yield* Things.events.pipe(
          Stream.take(4),
          Stream.map((event) => event._tag),
          Stream.runCollect,
          Effect.forkChild({ startImmediately: true })
        )
        yield* Things.useItem(() => Effect.void)
        return yield* Fiber.join(events)
      }).pipe(Effect.provide(Things.layer))
      assert.deepStrictEqual(Array.from(tags), ["Opening", "Opened", "Borrowed", "Returned"])
    }))
})
