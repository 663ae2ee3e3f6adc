/** `QueuePool.zip`: one item of each of several pools, all or none, and nobody blocks another. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { Refused, settle, Source, type Thing } from "./kit/items.ts"

type Pool = QueuePool.QueuePool<Thing, Refused>
type Settings = Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">

const make = Effect.fnUntraced(function*(options: Settings = {}) {
  const source = new Source()
  const pool: Pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, drainTimeout: 0, ...options })
  yield* settle
  return { pool, source }
})

/** So many pools, in the order in which they were made. */
const several = (count: number, options?: Settings) =>
  Effect.forEach(Array.from({ length: count }), (_, i) => make({ name: `pool ${i}`, ...options }))

const allBooks = Effect.fnUntraced(function*(all: ReadonlyArray<Effect.Success<ReturnType<typeof make>>>) {
  for (const { pool, source } of all) yield* books(source, pool)
})

describe("zip", () => {
  it.effect("lends one item of each, in the order of the arguments, to the scope that is there", () =>
    Effect.gen(function*() {
      const numbers = yield* QueuePool.make({ acquire: Effect.succeed(1) })
      const texts = yield* QueuePool.make({ acquire: Effect.succeed("two") })
      const flags = yield* QueuePool.make({ acquire: Effect.succeed(true) })
      const scope = yield* Scope.make()
      const lent = yield* Scope.provide(QueuePool.zip(flags, numbers, texts), scope)
      assert.deepStrictEqual(lent, [true, 1, "two"])
      assert.strictEqual((yield* numbers.stats).used, 1)
      yield* Scope.close(scope, Exit.void)
      for (const { used, idle } of [yield* numbers.stats, yield* texts.stats, yield* flags.stats]) {
        assert.deepStrictEqual([used, idle], [0, 1])
      }
    }))

  it.effect("of no pool lends nothing, and of one pool what getN(1) does", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make()
      const scope = yield* Scope.make()
      assert.deepStrictEqual(yield* Scope.provide(QueuePool.zip(), scope), [])
      assert.deepStrictEqual(yield* Scope.provide(QueuePool.zip(pool), scope), [{ id: 1 }])
      yield* Scope.close(scope, Exit.void)
      yield* books(source, pool)
    }))

  it.effect("of pools that are given more than once lends as many different items, each in its place", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* make({ max: 3 }), yield* make()]
      b.source.attempts = 10
      const lent = yield* Effect.scoped(QueuePool.zip(a.pool, b.pool, a.pool, a.pool))
      assert.deepStrictEqual(lent.map(({ id }) => id), [1, 11, 2, 3])
      yield* allBooks([a, b])
    }))

  it.effect("of a pool that is given more often than it has items fails at once, and says why", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* make(), yield* make()]
      const error = yield* Effect.flip(Effect.scoped(QueuePool.zip(a.pool, b.pool, b.pool)))
      assert.deepStrictEqual(
        (error as PoolError.PoolError).reason,
        new PoolError.InvalidOptions({
          problems: [{ option: "n", value: 2, allowed: "a whole number from 0 to max, which is 1" }]
        })
      )
      yield* allBooks([a, b])
    }))

  it.effect("can be run again and again, also at once: each run has its own items", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* make({ max: 2 }), yield* make({ max: 2 })]
      const both = Effect.scoped(Effect.tap(QueuePool.zip(b.pool, a.pool), Effect.yieldNow))
      const all = yield* Effect.all([both, both, both, both], { concurrency: "unbounded" })
      assert.deepStrictEqual(all.map(([{ id }]) => id).toSorted((one, other) => one - other), [1, 1, 2, 2])
      assert.strictEqual((yield* books(a.source, a.pool)).borrowed, 4)
      yield* books(b.source, b.pool)
    }))

  it.effect("gives back with the scope's exit, nested scopes or not", () =>
    Effect.gen(function*() {
      const exits: Array<Exit.Exit<unknown, unknown>> = []
      const all = yield* several(2, { onReturn: (_, exit) => void exits.push(exit) })
      const both = QueuePool.zip(all[1]!.pool, all[0]!.pool)
      const outer = yield* Scope.make()
      yield* Scope.provide(both, outer)
      // The items of the outer scope stay lent when an inner one ends.
      const inner = yield* Scope.fork(outer)
      const waiting = yield* Effect.forkChild(Scope.provide(both, inner))
      yield* settle
      assert.strictEqual(ending(waiting.pollUnsafe()), "waits")
      yield* Fiber.interrupt(waiting)
      yield* Scope.close(inner, Exit.void)
      assert.deepStrictEqual(exits, [])
      yield* Scope.close(outer, Exit.fail("no"))
      assert.deepStrictEqual(exits, [Exit.fail("no"), Exit.fail("no")])
      yield* allBooks(all)
    }))

  it.effect("in a scope that is closed already gives back at once", () =>
    Effect.gen(function*() {
      const all = yield* several(2)
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      yield* Scope.provide(QueuePool.zip(all[0]!.pool, all[1]!.pool), scope)
      yield* allBooks(all)
    }))
})

describe("the order of the pools", () => {
  it.effect("is that in which they were made, whatever the arguments: what comes later is not asked before", () =>
    Effect.gen(function*() {
      const [a, b, c] = yield* several(3)
      const holder = yield* borrow(b!.pool)
      const fiber = yield* Effect.forkChild(Effect.scoped(QueuePool.zip(c!.pool, b!.pool, a!.pool)))
      yield* settle
      assert.deepStrictEqual([a!.source.attempts, c!.source.attempts, (yield* b!.pool.stats).pending], [1, 0, 1])
      yield* holder.letGo
      assert.strictEqual(ending(fiber.pollUnsafe()), "served")
      yield* allBooks([a!, b!, c!])
    }))

  it.effect("many fibers that ask in every order, nested or not, all have their turn", () =>
    Effect.gen(function*() {
      const all = yield* several(4, { max: 2, borrowTimeout: "Infinity" })
      const pools = all.map(({ pool }) => pool)
      let done = 0
      const orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3], [3, 3, 0], [0, 0, 1], [2, 1, 1, 2]]
      const ask = (order: ReadonlyArray<number>) =>
        Effect.scoped(Effect.gen(function*() {
          const lent = yield* QueuePool.zip(...order.map((i) => pools[i]!))
          assert.strictEqual(lent.length, order.length)
          yield* Effect.yieldNow
          done++
        }))
      const fibers = yield* Effect.forEach(
        Array.from({ length: 70 }, (_, i) => orders[i % orders.length]!),
        (order) => Effect.forkChild(ask(order))
      )
      yield* Fiber.awaitAll(fibers)
      assert.strictEqual(done, 70)
      yield* allBooks(all)
    }))
})

describe("a zip that fails", () => {
  const failing = {
    "with the error of an open": ["Refused", {}, "fail"],
    "with a defect of an open": ["defect", {}, "die"],
    "with BorrowTimeout": ["BorrowTimeout", { borrowTimeout: 1000 }, "hang"],
    "with OpenTimeout": ["OpenTimeout", { openTimeout: 1000 }, "hang"]
  } as const
  for (const [how, [expected, options, outcome]] of Object.entries(failing)) {
    it.effect(`${how} gives back at once what it had, as one that was of no use to anybody`, () =>
      Effect.gen(function*() {
        const exits: Array<Exit.Exit<unknown, unknown>> = []
        const a = yield* make({
          max: 2,
          recycle: [RecyclePolicy.failed, RecyclePolicy.interrupted],
          onReturn: (_, exit) => void exits.push(exit)
        })
        const b = yield* make(options)
        b.source.opens.push(outcome)
        const scope = yield* Scope.make()
        const fiber = yield* Effect.forkChild(Scope.provide(QueuePool.zip(a.pool, b.pool, a.pool), scope))
        yield* elapse(1000)
        assert.strictEqual(ending(fiber.pollUnsafe()), expected)
        // The scope is open still. What was reserved was no lease.
        assert.deepStrictEqual([(yield* a.pool.stats).idle, exits], [2, []])
        const { borrowed, recycled } = yield* books(a.source, a.pool)
        assert.deepStrictEqual([borrowed, recycled], [0, {}])
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(exits.length, 0)
      }))
  }

  it.effect("because one of its pools is closed says which", () =>
    Effect.gen(function*() {
      const own = yield* Scope.make()
      const a = yield* make({ name: "a" })
      const b = yield* Scope.provide(make({ name: "b" }), own)
      yield* Scope.close(own, Exit.void)
      const exit = yield* Effect.exit(Effect.scoped(QueuePool.zip(b.pool, a.pool)))
      const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) as PoolError.PoolError : undefined
      assert.deepStrictEqual([error?.pool, error?.reason._tag], ["b", "Closed"])
      yield* books(a.source, a.pool)
      closedBooks(b.source)
    }))

  it.effect("leaves nothing in its scope, and can be asked again there", () =>
    Effect.gen(function*() {
      const all = yield* several(2)
      all[1]!.source.opens.push("fail")
      const scope = yield* Scope.make()
      const both = QueuePool.zip(all[0]!.pool, all[1]!.pool)
      assert.deepStrictEqual(yield* Effect.flip(Scope.provide(both, scope)), new Refused(1))
      assert.strictEqual(scope.state._tag, "Empty")
      assert.deepStrictEqual(yield* Scope.provide(both, scope), [{ id: 1 }, { id: 2 }])
      yield* Scope.close(scope, Exit.void)
      yield* allBooks(all)
    }))

  it.effect("by interruption, at whichever operation, leaves nothing lent and nothing in its scope", () =>
    Effect.gen(function*() {
      for (const min of [0, 1]) {
        const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const all = yield* several(2, { min })
          const outer = yield* Scope.make()
          const both = QueuePool.zip(all[1]!.pool, all[0]!.pool)
          const fiber = yield* run(Scope.provide(both, outer))
          yield* Fiber.await(fiber)
          yield* settle
          // All or none: who is interrupted when it has them, has them still.
          const used = yield* Effect.forEach(all, ({ pool }) => Effect.map(pool.stats, ({ used }) => used))
          assert.deepStrictEqual(used, outer.state._tag === "Empty" ? [0, 0] : [1, 1], at)
          yield* Scope.close(outer, Exit.void)
          yield* allBooks(all)
          assert.strictEqual((yield* Effect.scoped(both)).length, 2, at)
        }, Effect.scoped))
        assert.isAbove(operations, 5)
      }
    }))

  it.effect("by interruption while it waits gives back what it had", () =>
    Effect.gen(function*() {
      const [a, b] = yield* several(2, { recycle: RecyclePolicy.interrupted })
      const holder = yield* borrow(b!.pool)
      const fiber = yield* Effect.forkChild(Effect.scoped(QueuePool.zip(a!.pool, b!.pool)))
      yield* settle
      assert.strictEqual((yield* a!.pool.stats).used, 1)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual([(yield* a!.pool.stats).idle, (yield* a!.pool.stats).recycled], [1, {}])
      yield* holder.letGo
      yield* allBooks([a!, b!])
    }))
})
