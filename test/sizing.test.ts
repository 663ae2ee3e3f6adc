/** `minIdle` and `maxIdle`, and items that leave the pool for good. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, several } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

const make = Effect.fnUntraced(function*(options: Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">) {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, ...options })
  yield* settle
  return { pool, source }
})

describe("minIdle", () => {
  it.effect("items are opened ahead, as far as max allows", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 5, minIdle: 2 })
      const live = [source.live]
      const borrowers = []
      for (let i = 0; i < 5; i++) {
        borrowers.push(yield* borrow(pool))
        live.push(source.live)
      }
      assert.deepStrictEqual(live, [2, 3, 4, 5, 5, 5])
      for (const { letGo } of borrowers) yield* letGo
      yield* books(source, pool)
    }))

  it.effect("an item that goes is replaced, after the delay of a refill when opens fail", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 5, minIdle: 2 })
      source.opens.push("fail", "fail")
      yield* pool.clear
      yield* settle
      assert.strictEqual(source.live, 0)
      yield* elapse(100)
      assert.strictEqual(source.live, 2)
    }))

  it.effect("idle rules spare them and no more", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 6, minIdle: 2, recycle: RecyclePolicy.idle("1 second") })
      const borrowers = yield* several(4, pool)
      assert.strictEqual(source.live, 6)
      for (const { letGo } of borrowers) yield* letGo
      assert.strictEqual(source.live, 6)
      yield* elapse(1001)
      assert.strictEqual(source.live, 2)
      yield* elapse("1 hour")
      assert.strictEqual(source.live, 2)
      // What was spared goes when it is spare no more: its time is over already.
      yield* pool.resize({ minIdle: 1 })
      yield* elapse(2)
      assert.strictEqual(source.live, 1)
    }))

  it.effect("a lazy pool opens none before the first borrow", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 5, minIdle: 1, warm: "lazy" })
      assert.strictEqual(source.attempts, 0)
      yield* pool.use(() => Effect.void)
      yield* settle
      // One for the borrower, and one beside it.
      assert.strictEqual(source.live, 2)
    }))
})

describe("maxIdle", () => {
  it.effect("what comes back beyond it sends the coldest away", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 5, maxIdle: 2 })
      const borrowers = yield* several(4, pool)
      for (const { letGo } of borrowers) yield* letGo
      assert.deepStrictEqual(source.closed, [1, 2])
      assert.deepStrictEqual((yield* pool.stats).recycled, { surplus: 2 })
      yield* books(source, pool)
    }))

  it.effect("zero keeps none, and a waiter still gets what comes back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 1, maxIdle: 0 })
      const [first, second] = yield* several(2, pool)
      yield* first!.letGo
      assert.strictEqual(second!.item?.id, 1)
      yield* second!.letGo
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("can be set anew, and goes for what is idle now", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 5 })
      for (const { letGo } of yield* several(4, pool)) yield* letGo
      yield* pool.resize({ maxIdle: 1 })
      yield* settle
      assert.deepStrictEqual(source.closed, [1, 2, 3])
    }))

  it.effect("must not be below min or minIdle, or opens would run wild", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(QueuePool.make({ acquire: Effect.void, max: 5, min: 2, minIdle: 6, maxIdle: 1 }))
      const error = yield* Effect.flip(exit)
      assert.strictEqual(
        error.message,
        "InvalidOptions: \"pool\" does not take these options: minIdle is 6, allowed is a whole number from 0 to max, which is 5; " +
          "min is 2, allowed is a whole number from 0 to maxIdle, which is 1; " +
          "minIdle is 6, allowed is a whole number from 0 to maxIdle, which is 1"
      )
    }))
})

describe("what is opened ahead and trimmed again", () => {
  it.effect("is opened after a delay", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 8, minIdle: 1, maxIdle: 1 })
      const pair = Effect.gen(function*() {
        const both = yield* several(2, pool)
        for (const { letGo } of both) yield* letGo
      })
      for (let i = 0; i < 20; i++) yield* pair
      // One for each second borrower, and next to none ahead.
      assert.isBelow(source.attempts, 30)
      yield* books(source, pool)
    }))

  it.effect("and with nobody there, nothing", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 10, targetUtilization: 0.1, maxIdle: 1 })
      const held = yield* borrow(pool)
      yield* elapse("1 minute")
      assert.isBelow(source.attempts, 4)
      yield* held.letGo
    }))
})

describe("detach", () => {
  it.effect("in a rule that is asked at the return does nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      let seen: unknown
      const pool: QueuePool.QueuePool<Thing, Refused> = yield* QueuePool.make({
        acquire: source.acquire,
        recycle: ({ item, moment }) => {
          if (moment === "return") {
            seen = Effect.runForkWith(Context.empty())(Scope.provide(pool.detach(item), scope)).pollUnsafe()
          }
          return false
        }
      })
      yield* pool.use(() => Effect.void)
      assert.deepStrictEqual(seen, Exit.succeed(false))
      yield* books(source, pool)
    }))

  it.effect("frees the slot at once, and the item is released with the scope", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 1 })
      const events = yield* record(pool)
      yield* Effect.scoped(Effect.gen(function*() {
        const item = yield* pool.get
        assert.isTrue(yield* pool.detach(item))
        const other = yield* pool.use(Effect.succeed)
        assert.notStrictEqual(other, item)
        assert.deepStrictEqual(source.closed, [])
        // It is no item of the pool any more.
        assert.isFalse(yield* pool.detach(item))
        yield* pool.invalidate(item)
      }))
      assert.deepStrictEqual(source.closed, [1])
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.detached, stats.borrowed, stats.returned, stats.recycled], [1, 2, 2, {}])
      assert.include(told(events).join(), "Detached 1")
    }))

  it.effect("of a service is asked for as a static member", () =>
    Effect.gen(function*() {
      class Things extends QueuePool.Service<Things>()("Things", { acquire: Effect.succeed({ id: 1 }) }) {}
      const detached = Things.useItem((item) => Effect.scoped(Things.detach(item)))
      assert.isTrue(yield* Effect.provide(detached, Things.layer))
    }))

  it.effect("a use that detaches its item gives nothing back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 1 })
      const scope = yield* Scope.make()
      yield* pool.use((item) => Scope.provide(pool.detach(item), scope))
      assert.deepStrictEqual([(yield* pool.stats).idle, source.closed], [0, []])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("serves the waiter with a new item", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 1 })
      yield* Effect.scoped(Effect.gen(function*() {
        const item = yield* pool.get
        const waiter = yield* borrow(pool)
        yield* pool.detach(item)
        yield* settle
        assert.strictEqual(waiter.item?.id, 2)
        yield* waiter.letGo
      }))
    }))

  it.effect("is refused for what is idle, foreign, or shared with others", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 1, concurrency: 2 })
      const item = yield* pool.use(Effect.succeed)
      assert.isFalse(yield* pool.detach(item))
      assert.isFalse(yield* pool.detach({ id: 77 }))
      const borrowers = yield* several(2, pool)
      assert.isFalse(yield* pool.detach(borrowers[0]!.item!))
      for (const { letGo } of borrowers) yield* letGo
    }))

  it.effect("into a closed scope releases at once", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 1 })
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      yield* pool.use((item) => Scope.provide(pool.detach(item), scope))
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("lets the pool close before the item", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, max: 1 }), scope)
      yield* Effect.scoped(Effect.gen(function*() {
        const item = yield* pool.get
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* settle
        assert.isUndefined(closing.pollUnsafe())
        yield* pool.detach(item)
        yield* settle
        assert.strictEqual(ending(closing.pollUnsafe()), "served")
        yield* Fiber.await(closing)
        assert.deepStrictEqual(source.closed, [])
      }))
      closedBooks(source)
    }))

  it.effect("interrupted at any step, loses nothing", () =>
    Effect.asVoid(interruptAtEvery((run, at) =>
      Effect.scoped(Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1 })
        const fiber = yield* run(Effect.scoped(Effect.flatMap(pool.get, (item) => pool.detach(item))))
        yield* Fiber.await(fiber)
        yield* settle
        assert.strictEqual(source.live, (yield* pool.stats).idle, at)
        assert.strictEqual(ending(yield* Effect.exit(pool.use(() => Effect.void))), "served", at)
      }))
    )))
})
