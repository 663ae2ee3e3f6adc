/** What `use` returns is its own iterator: to whoever yields it, it is an effect like any other. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { QueuePool } from "effect-queuepool"
import { atOnce, gate, settle } from "./kit/items.ts"

const pooled = (max: number) => {
  let opened = 0
  return QueuePool.make({ acquire: Effect.sync(() => ++opened), min: max, max, warm: "eager" })
}

const iterator = <A, E>(effect: Effect.Effect<A, E>): Iterator<unknown, A> => effect[Symbol.iterator]()

describe("what use returns", () => {
  it.effect("is run anew each time that it is yielded", () =>
    Effect.gen(function*() {
      const pool = yield* pooled(1)
      let runs = 0
      const use = pool.use((item) => Effect.sync(() => `${item} ${++runs}`))
      const seen = [yield* use, yield* use]
      for (let i = 0; i < 2; i++) seen.push(yield* use)
      assert.deepStrictEqual(seen, ["1 1", "1 2", "1 3", "1 4"])
    }))

  it.effect("is yielded by several fibers at once, each of which has its own item and result", () =>
    Effect.gen(function*() {
      const pool = yield* pooled(3)
      const gates = yield* Effect.all(Array.from({ length: 6 }, () => gate))
      let runs = 0
      const use = pool.use((item) => {
        const run = runs++
        return Effect.as(gates[run]!.pass, { item, run })
      })
      const twice = Effect.gen(function*() {
        const first = yield* use
        const second = yield* use
        return [first, second]
      })
      const fibers = yield* Effect.all([atOnce(twice), atOnce(twice), atOnce(twice)])
      // Not in the order in which they came, and the second goes on to its second run before the others end.
      for (const at of [1, 3, 2, 0, 5, 4]) {
        yield* gates[at]!.open
        yield* settle
      }
      const seen = yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(seen.map((both) => both.map(({ run }) => run)), [[0, 5], [1, 3], [2, 4]])
      assert.deepStrictEqual(seen.map(([first, second]) => first!.item === second!.item), [true, true, true])
      assert.strictEqual(new Set(seen.map(([first]) => first!.item)).size, 3)
    }))

  it.effect("is yielded within itself", () =>
    Effect.gen(function*() {
      const pool = yield* pooled(3)
      let depth = 0
      const use: Effect.Effect<ReadonlyArray<number>, unknown> = pool.use((item) =>
        Effect.gen(function*() {
          if (++depth === 3) return [item]
          const inner = yield* use
          return [item, ...inner]
        })
      )
      assert.deepStrictEqual((yield* use).toSorted((a, b) => a - b), [1, 2, 3])
    }))

  it.effect("is yielded again after a fiber that has yielded it failed, died or was interrupted", () =>
    Effect.gen(function*() {
      const pool = yield* pooled(2)
      let end: Effect.Effect<string, string> = Effect.succeed("item")
      const use = pool.use(() => end)
      const yielding = Effect.gen(function*() {
        const seen = yield* use
        return seen
      })
      for (end of [Effect.fail("failed"), Effect.die("died"), Effect.interrupt]) {
        assert.isTrue(Exit.isFailure(yield* Effect.exit(yielding)))
      }
      end = Effect.never
      const stays = yield* atOnce(yielding)
      const leaves = yield* atOnce(yielding)
      yield* Fiber.interrupt(leaves)
      end = Effect.succeed("item")
      assert.deepStrictEqual([yield* yielding, yield* yielding], ["item", "item"])
      yield* Fiber.interrupt(stays)
      assert.deepStrictEqual([yield* yielding, (yield* pool.stats).leases], ["item", 0])
    }))

  it.effect("is yielded when it is frozen, and when something stands for it", () =>
    Effect.gen(function*() {
      const pool = yield* pooled(1)
      const use = pool.use(Effect.succeed)
      assert.strictEqual(yield* Object.freeze(use), 1)
      assert.strictEqual(yield* new Proxy(use, {}), 1)
      const heir: typeof use = Object.create(use)
      assert.strictEqual(yield* heir, 1)
    }))

  it.effect("tells itself once to each that iterates over it, then what it is told, and is done", () =>
    Effect.gen(function*() {
      const pool = yield* pooled(1)
      const use = pool.use(Effect.succeed)
      for (let i = 0; i < 2; i++) {
        const [one, other] = [iterator(use), iterator(use)]
        const first = one.next()
        // Nothing that one of them is told shows at the other, nor changes what was told before.
        assert.deepStrictEqual([first.value === use, first.done], [true, false])
        const third = iterator(use)
        assert.deepStrictEqual(one.next(1), { value: 1, done: true })
        assert.isTrue(other.next().value === use)
        assert.isTrue(third.next().value === use)
        const [two, three] = [other.next(2), third.next(3)]
        assert.deepStrictEqual([two.value, two.done, three.value, three.done], [2, true, 3, true])
        assert.deepStrictEqual([one.next(4).done, other.next(4).done, third.next(4).done], [true, true, true])
        assert.deepStrictEqual([first.value === use, first.done], [true, false])
      }
      assert.deepStrictEqual([...use as Iterable<unknown>].map((effect) => effect === use), [true])
      assert.strictEqual(yield* use, 1)
    }))
})
