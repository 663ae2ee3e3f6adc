import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, type Scope } from "effect"
import { Capacity, type PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import { borrow, several } from "./kit/books.ts"
import { settle } from "./kit/items.ts"
import { one, pools } from "./kit/sharers.ts"

const problems = Effect.fnUntraced(function*<A, E>(effect: Effect.Effect<A, E, Scope.Scope>) {
  const exit = yield* Effect.exit(effect)
  if (Exit.isSuccess(exit)) return []
  const { reason } = Cause.squash(exit.cause) as PoolError.PoolError
  return reason._tag === "InvalidOptions" ? reason.problems.map(({ option }) => option) : [reason._tag]
})

describe("the options of a budget", () => {
  it.effect("wrong ones are refused all at once, by name", () =>
    Effect.gen(function*() {
      const wrong = { name: "", permits: 1.5, fairness: "first", size: 3 } as never
      assert.sameMembers(yield* problems(Capacity.make(wrong)), ["name", "permits", "fairness", "size"])
      for (const permits of [0, -1, NaN, 2.5, "3", undefined, null]) {
        assert.deepStrictEqual(yield* problems(Capacity.make({ permits } as never)), ["permits"])
        const capacity = yield* Capacity.make({ permits: 2 })
        assert.deepStrictEqual(yield* problems(capacity.resize(permits as never)), ["permits"])
        assert.strictEqual((yield* one(capacity)).permits, 2)
      }
      assert.deepStrictEqual(
        yield* problems(Effect.scoped(Layer.build(Capacity.layer({ permits: 0 })))),
        ["permits"]
      )
      const built = [Capacity.all([{}] as never), Capacity.all([3] as never), Capacity.fromRefusal("full" as never)]
      for (const capacity of [3, {}, null, "unlimited", ...built]) {
        const options = { acquire: Effect.void, capacity } as never
        assert.deepStrictEqual(yield* problems(QueuePool.make(options)), ["capacity"])
      }
    }))

  it.effect("it may have no limit, and get one", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: Infinity })
      const [a] = yield* pools(1, capacity)
      for (const { letGo } of yield* several(3, a.pool)) yield* letGo
      assert.deepStrictEqual(yield* one(capacity), { name: "capacity", permits: Infinity, used: 3, parked: 0 })
      yield* capacity.resize(1)
      yield* settle
      assert.strictEqual(a.source.live, 1)
      assert.strictEqual(capacity.pipe((self) => self), capacity)
    }))

  it.effect("a pool that names none has what the program provides, or none", () =>
    Effect.gen(function*() {
      const acquire = Effect.succeed("item")
      const plain = yield* QueuePool.make({ acquire })
      yield* plain.use(() => Effect.void)
      assert.deepStrictEqual(yield* Capacity.unlimited.stats, [])
      yield* Effect.gen(function*() {
        const current = yield* Capacity.Current
        const pool = yield* QueuePool.make({ acquire })
        const free = yield* QueuePool.make({ acquire, capacity: Capacity.unlimited })
        const own = yield* Capacity.make({ permits: 1 })
        const other = yield* QueuePool.make({ acquire, capacity: own })
        for (const { use } of [pool, free, other]) yield* use(() => Effect.void)
        assert.deepStrictEqual(yield* current.stats, [{ name: "process", permits: 20, used: 1, parked: 0 }])
        assert.strictEqual((yield* one(own)).used, 1)
      }).pipe(Effect.provide(Capacity.layer({ name: "process", permits: 20 })))
    }))
})

describe("rules of pools that share", () => {
  it.effect("whenPressed: only while a pool is short of permits", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2, fairness: "arrival" })
      const rule = RecyclePolicy.whenPressed(RecyclePolicy.uses(2))
      const [a] = yield* pools(1, capacity, { recycle: rule })
      const [b] = yield* pools(1, capacity)
      for (let i = 0; i < 5; i++) yield* a.pool.use(() => Effect.void)
      assert.strictEqual(a.source.closed.length, 0)
      const first = yield* borrow(a.pool)
      const second = yield* borrow(a.pool)
      const later = yield* borrow(a.pool)
      const pressing = yield* borrow(b.pool)
      // Its own borrower came before; the rule speaks all the same.
      yield* first.letGo
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { "pressed and uses": 1 })
      for (const { letGo } of [second, later, pressing]) yield* letGo
      assert.isDefined(later.item)
    }))

  it.effect("overShare: only of the pool that has more than is fair", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 4 })
      const said = { a: "", b: "" }
      const rule = (name: "a" | "b") =>
        RecyclePolicy.when((usage) => {
          said[name] = `${usage.pressed ? "pressed" : "not pressed"}${usage.overShare ? ", over share" : ""}`
          return false
        })
      const [a] = yield* pools(1, capacity, { recycle: rule("a") as never })
      const [b, c] = yield* pools(2, capacity, {
        recycle: RecyclePolicy.any([rule("b") as never, RecyclePolicy.overShare])
      })
      const many = yield* several(3, a.pool)
      const few = yield* several(2, b.pool)
      // Its own borrower is the one that is short.
      yield* few[0]!.letGo
      assert.strictEqual(said.b, "pressed")
      const waits = yield* several(2, a.pool)
      const [late] = yield* several(1, c.pool)
      yield* many[0]!.letGo
      assert.strictEqual(said.a, "pressed, over share")
      assert.deepStrictEqual([late!.item?.id, (yield* a.pool.stats).recycled], [1, { "over share": 1 }])
      // A pool that has two, and another that has one and waits for more.
      const [more] = yield* several(1, c.pool)
      yield* many[1]!.letGo
      assert.strictEqual(said.a, "pressed")
      const [latest] = yield* several(1, (yield* pools(1, capacity))[0].pool)
      yield* few[1]!.letGo
      assert.deepStrictEqual([said.b, latest!.item?.id], ["pressed, over share", 1])
      assert.deepStrictEqual((yield* b.pool.stats).recycled, { "over share": 1 })
      for (const { letGo } of [...many, ...few, ...waits, late!, more!, latest!]) yield* letGo
      const free = yield* QueuePool.make({ acquire: Effect.succeed(1), recycle: RecyclePolicy.overShare })
      yield* free.use(() => Effect.void)
      assert.strictEqual((yield* free.stats).closed, 0)
    }))
})
