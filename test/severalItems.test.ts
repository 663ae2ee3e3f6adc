/** `getN` and `zip`: several items, all or none, and no deadlock. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { books, borrow, elapse, ending, several } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"

const make = Effect.fnUntraced(function*(options: Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">) {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, ...options })
  yield* settle
  return { pool, source }
})

const ids = (items: ReadonlyArray<Thing>) => items.map(({ id }) => id)

describe("getN", () => {
  it.effect("lends so many different items, idle or opened for it, and the scope gives them back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 4, min: 1 })
      const items = yield* Effect.scoped(
        Effect.tap(pool.getN(3), () => Effect.map(pool.stats, ({ used }) => assert.strictEqual(used, 3)))
      )
      assert.deepStrictEqual(ids(items).toSorted((a, b) => a - b), [1, 2, 3])
      const { borrowed, returned } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, returned], [3, 3])
    }))

  it.effect("different ones also where items are shared", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 2, concurrency: 4 })
      const items = yield* Effect.scoped(pool.getN(2))
      assert.strictEqual(new Set(ids(items)).size, 2)
    }))

  it.effect("of none lends none, and of more than max fails at once", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 2 })
      assert.deepStrictEqual(yield* Effect.scoped(pool.getN(0)), [])
      for (const n of [3, -1, 1.5, NaN, Infinity]) {
        const error = yield* Effect.flip(Effect.scoped(pool.getN(n)))
        assert.include((error as Error).message, `n is ${n}, allowed is a whole number from 0 to max, which is 2`)
      }
      assert.strictEqual(source.attempts, 0)
    }))

  it.effect("many that want more than half of the pool never block one another", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 4 })
      const order: Array<number> = []
      yield* Effect.forEach(Array.from({ length: 20 }, (_, i) => i), (i) =>
        Effect.scoped(Effect.andThen(
          pool.getN(1 + i % 4),
          Effect.andThen(Effect.yieldNow, Effect.sync(() => order.push(i)))
        )), {
        concurrency: "unbounded",
        discard: true
      })
      // The order of arrival: none overtakes one that waits.
      assert.deepStrictEqual(
        order,
        order.toSorted((a, b) => a - b)
      )
      yield* books(source, pool)
    }))

  it.effect("has its turn among those who want one, and passes none of them", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 2 })
      const [first, second] = yield* several(2, pool)
      const group = yield* Effect.forkChild(Effect.scoped(Effect.andThen(pool.getN(2), Effect.never)))
      yield* settle
      const last = yield* borrow(pool)
      yield* first!.letGo
      // The group has one now, and nobody else gets the other.
      assert.deepStrictEqual([ending(group.pollUnsafe()), last.item], ["waits", undefined])
      yield* second!.letGo
      assert.strictEqual((yield* pool.stats).used, 2)
      assert.isUndefined(last.item)
      yield* Fiber.interrupt(group)
      yield* settle
      assert.isDefined(last.item)
      yield* last.letGo
    }))

  it.effect("that fails gives back, unused, what it was handed", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 2, min: 1, borrowTimeout: "1 second" })
      const other = yield* borrow(pool)
      source.opens.push("hang")
      const exit = yield* Effect.forkChild(Effect.scoped(pool.getN(2)))
      yield* settle
      yield* other.letGo
      yield* elapse("1 second")
      assert.strictEqual(ending(exit.pollUnsafe()), "BorrowTimeout")
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.idle, stats.borrowed, stats.returned], [1, 1, 1])
    }))

  it.effect("fails with the error of an open that was for it", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 3 })
      source.opens.push("ok", "fail", "ok")
      assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(pool.getN(3)))), "Refused")
      yield* settle
      yield* books(source, pool)
    }))

  it.effect("that waits is called no nested borrow", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 2, borrowTimeout: "1 second" })
      const other = yield* borrow(pool)
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.scoped(pool.getN(2))))
      yield* settle
      yield* elapse("1 second")
      assert.notInclude(((yield* Fiber.join(fiber)) as Error).message, "itself")
      yield* other.letGo
    }))

  it.effect("when the pool closes hears Closed", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, max: 2, drainTimeout: 0 }), scope)
      const held = yield* borrow(pool)
      const group = yield* Effect.forkChild(Effect.scoped(pool.getN(2)))
      yield* settle
      yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.strictEqual(ending(group.pollUnsafe()), "Closed")
      yield* held.letGo
      yield* settle
      assert.strictEqual(source.live, 0)
    }))

  it.effect("interrupted at any of its steps, loses nothing", () =>
    Effect.asVoid(interruptAtEvery((run, at) =>
      Effect.scoped(Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 3, min: 1 })
        const held = yield* borrow(pool)
        const fiber = yield* run(Effect.scoped(pool.getN(3)))
        yield* settle
        yield* held.letGo
        yield* Fiber.await(fiber)
        yield* settle
        assert.strictEqual(source.live, (yield* pool.stats).idle, at)
        assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(pool.getN(3)))), "served", at)
        yield* books(source, pool)
      }))
    )))
})

describe("zip", () => {
  it.effect("lends one of each, in the order of the arguments", () =>
    Effect.gen(function*() {
      const a = yield* QueuePool.make({ acquire: Effect.succeed("a") })
      const b = yield* QueuePool.make({ acquire: Effect.succeed(2) })
      assert.deepStrictEqual(yield* Effect.scoped(QueuePool.zip(b, a)), [2, "a"])
      assert.deepStrictEqual(yield* Effect.scoped(QueuePool.zip()), [])
    }))

  it.effect("of the same pool twice lends two different items", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 2 })
      const [first, second] = yield* Effect.scoped(QueuePool.zip(pool, pool))
      assert.notStrictEqual(first, second)
    }))

  it.effect("in whatever order the pools are given, nobody blocks another", () =>
    Effect.gen(function*() {
      const a = yield* make({ max: 1 })
      const b = yield* make({ max: 1 })
      yield* Effect.forEach(Array.from({ length: 20 }, (_, i) => i), (i) =>
        Effect.scoped(Effect.andThen(
          i % 2 === 0 ? QueuePool.zip(a.pool, b.pool) : QueuePool.zip(b.pool, a.pool),
          Effect.yieldNow
        )), { concurrency: "unbounded", discard: true })
      yield* books(a.source, a.pool)
      yield* books(b.source, b.pool)
    }))

  it.effect("that fails gives back at once what it was lent, and not at the end of the scope", () =>
    Effect.gen(function*() {
      const a = yield* make({ max: 1 })
      const b = yield* make({ max: 1 })
      b.source.opens.push("fail")
      assert.strictEqual(ending(yield* Effect.exit(QueuePool.zip(a.pool, b.pool))), "Refused")
      assert.strictEqual((yield* a.pool.stats).idle, 1)
    }))

  it.effect("never lends an item that died, or that maxLease would have ended, while it waited for the others", () =>
    Effect.gen(function*() {
      const die = yield* Deferred.make<void>()
      const a = yield* make({
        max: 1,
        maxLease: 50,
        monitor: ({ id }) => id === 1 ? Deferred.await(die) : Effect.never
      })
      const b = yield* make({ max: 1 })
      const held = yield* borrow(b.pool)
      const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(
        QueuePool.zip(a.pool, b.pool),
        ([item]) => Effect.succeed([item.id, a.source.closed.slice()])
      )))
      yield* elapse(1000)
      yield* Deferred.succeed(die, undefined)
      yield* settle
      yield* held.letGo
      // The refill after the death has a delay.
      yield* elapse(1000)
      assert.deepStrictEqual(yield* Fiber.join(fiber), [2, [1]])
      yield* books(a.source, a.pool)
      yield* books(b.source, b.pool)
    }))

  it.effect("gives back with the scope, and with its exit", () =>
    Effect.gen(function*() {
      const exits: Array<string> = []
      const onReturn = (_: Thing, exit: Exit.Exit<unknown, unknown>) => {
        exits.push(exit._tag)
        return undefined
      }
      const a = yield* make({ max: 1, onReturn })
      const b = yield* make({ max: 1, onReturn })
      const scope = yield* Scope.make()
      yield* Scope.provide(QueuePool.zip(a.pool, b.pool), scope)
      assert.deepStrictEqual(exits, [])
      yield* Scope.close(scope, Exit.fail("no"))
      assert.deepStrictEqual(exits, ["Failure", "Failure"])
    }))

  it.effect("interrupted at any of its steps, loses nothing", () =>
    Effect.asVoid(interruptAtEvery((run, at) =>
      Effect.scoped(Effect.gen(function*() {
        const a = yield* make({ max: 1, min: 1 })
        const b = yield* make({ max: 1 })
        yield* Effect.flatMap(run(Effect.scoped(QueuePool.zip(b.pool, a.pool))), Fiber.await)
        yield* settle
        for (const { pool, source } of [a, b]) {
          assert.strictEqual(source.live, (yield* pool.stats).idle, at)
          yield* books(source, pool)
        }
      }))
    )))
})
