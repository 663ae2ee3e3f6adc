import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { QueuePoolMap } from "effect-queuepool"
import { elapse, ending, endings, Watch } from "./kit/books.ts"
import { settle } from "./kit/items.ts"
import { borrow, counts, make as makeMap, type Options, record, size, use } from "./kit/keyed.ts"
import { logged } from "./kit/observe.ts"

const times = (count: number) => Array.from({ length: count }, (_, i) => i)

/** A map in a scope of its own. */
const make = Effect.fnUntraced(function*(options: Partial<Options> = {}) {
  const scope = yield* Scope.make()
  const watch = new Watch()
  const { map, sources } = yield* watch.around(Scope.provide(makeMap(options), scope))
  const close = Effect.forkChild(Scope.close(scope, Exit.void))
  return { map, sources, close, watch }
})

describe("the closing of a map", () => {
  it.effect("of nothing is over at once, and so is one after use: no fiber, no timer, no item", () =>
    Effect.gen(function*() {
      for (const count of [0, 1, 100]) {
        const { close, map, sources, watch } = yield* make({ min: 1, sweep: "1 minute", leaseWarning: "1 minute" })
        yield* Effect.forEach(times(count), (i) => use(map, `${i}`))
        yield* settle
        const closing = yield* close
        yield* settle
        assert.strictEqual(ending(closing.pollUnsafe()), "served")
        const { closed, keys, opened } = yield* map.stats
        assert.deepStrictEqual([opened, closed, keys, sources.live], [count, count, 0, 0])
        assert.deepStrictEqual([watch.fibers, watch.timers], [0, 0])
      }
    }))

  it.effect("waiters of every key hear of it at once, and whoever asks later, of a key that is known or not", () =>
    Effect.gen(function*() {
      const { close, map, sources } = yield* make({ max: 1, maxTotal: 2, name: "hosts" })
      const holders = [yield* borrow(map, "a"), yield* borrow(map, "b")]
      const waiters = [yield* borrow(map, "a"), yield* borrow(map, "b"), yield* borrow(map, "c")]
      const closing = yield* close
      yield* settle
      assert.deepStrictEqual(endings(waiters), ["Closed", "Closed", "Closed"])
      for (const key of ["a", "z"]) {
        for (
          const ask of [
            use(map, key),
            Effect.scoped(map.get(key)),
            Effect.scoped(map.getIfAvailable(key)),
            map.useIfAvailable(key, Effect.succeed),
            Effect.scoped(map.pool(key))
          ]
        ) {
          const exit = yield* Effect.exit(ask as Effect.Effect<unknown, { readonly pool: string }>)
          assert.strictEqual(ending(exit), "Closed")
          assert.strictEqual((yield* Effect.flip(exit as Exit.Exit<never, { pool: string }>)).pool, "hosts")
        }
      }
      // The holders have their time.
      assert.deepStrictEqual(endings(holders), ["waits", "waits"])
      assert.strictEqual(ending(closing.pollUnsafe()), "waits")
      for (const { letGo } of holders) yield* letGo
      assert.strictEqual(ending(closing.pollUnsafe()), "served")
      assert.deepStrictEqual([endings(holders), sources.live, yield* map.keys], [["served", "served"], 0, []])
    }))

  it.effect("begins for all keys in one step: what one frees no other takes, however many there are", () =>
    Effect.gen(function*() {
      const { close, map, sources } = yield* make({ maxTotal: 3000, max: 1 })
      yield* Effect.forEach(times(3000), (i) => use(map, `${i}`), { concurrency: 100, discard: true })
      const waiters = yield* Effect.forEach(times(50), (i) => borrow(map, `new ${i}`))
      yield* Effect.forEach(waiters, ({ letGo }) => letGo)
      const parked = yield* Effect.forEach(times(50), (i) => borrow(map, `held ${i}`))
      yield* map.resize(50)
      yield* settle
      const more = yield* Effect.forEach(times(50), (i) => borrow(map, `${i}`))
      const { opened } = sources
      const closing = yield* close
      yield* settle
      assert.strictEqual(sources.opened, opened)
      assert.isTrue(endings(more).every((how) => how === "Closed"))
      for (const { letGo } of parked) yield* letGo
      yield* settle
      assert.strictEqual(ending(closing.pollUnsafe()), "served")
      assert.strictEqual(sources.live, 0)
    }))

  it.effect("a borrower that asks in the very step of the closing is refused, of whatever key", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { map, sources } = yield* Scope.provide(makeMap(), scope)
      for (const key of times(100)) yield* use(map, `${key}`)
      const { opened } = sources
      const closing = yield* Effect.forkChild(
        Effect.andThen(
          Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true }),
          Effect.forEach(times(100), (key) => Effect.exit(use(map, `${key}`)))
        )
      )
      yield* settle
      const exit = closing.pollUnsafe()
      assert.isTrue(exit !== undefined && Exit.isSuccess(exit) && exit.value.every((each) => ending(each) === "Closed"))
      assert.deepStrictEqual([sources.opened, sources.live], [opened, 0])
    }))

  it.effect("opens under way, also such as cannot be interrupted, are given up, and what comes late is closed", () =>
    logged(() =>
      Effect.gen(function*() {
        const { close, map, sources } = yield* make({ closeTimeout: 1000, openTimeout: "1 minute" })
        sources.of("slow").opens.push({ slow: 500 })
        sources.of("late").opens.push({ late: 500 })
        sources.of("stuck").opens.push({ late: 5000 })
        const waiters = yield* Effect.forEach(["slow", "late", "stuck"], (key) => borrow(map, key))
        const closing = yield* close
        yield* settle
        assert.deepStrictEqual(endings(waiters), ["Closed", "Closed", "Closed"])
        yield* elapse(500)
        assert.deepStrictEqual([yield* map.keys, sources.live], [["stuck"], 0])
        assert.strictEqual(ending(closing.pollUnsafe()), "waits")
        yield* elapse(500)
        assert.strictEqual(ending(closing.pollUnsafe()), "served")
        assert.strictEqual((yield* map.stats).abandoned, 1)
        yield* elapse(5000)
        assert.strictEqual(sources.live, 0)
      })
    ))

  it.effect("ends within drainTimeout + closeTimeout, whatever leases and releases do, side by side", () =>
    logged(() =>
      Effect.gen(function*() {
        const { close, map, sources } = yield* make({ drainTimeout: 2000, closeTimeout: 1000 })
        for (const key of ["a", "b", "c"]) {
          sources.of(key).closesOtherwise = "stuck"
          yield* Effect.forkChild(Effect.scoped(Effect.andThen(map.get(key), Effect.never)))
        }
        yield* settle
        const closing = yield* close
        yield* elapse(2000)
        assert.strictEqual((yield* map.stats).takenBack, 3)
        yield* elapse(999)
        assert.strictEqual(ending(closing.pollUnsafe()), "waits")
        assert.strictEqual(yield* size(map), 3)
        yield* elapse(1)
        assert.strictEqual(ending(closing.pollUnsafe()), "served")
        const { abandoned, keys, opened } = yield* map.stats
        assert.deepStrictEqual([opened, abandoned, keys], [3, 3, 0])
      })
    ))

  it.effect("each key has its own time, and is gone when it is over", () =>
    logged(() =>
      Effect.gen(function*() {
        const { close, map } = yield* make({
          drainTimeout: 1000,
          forKey: (key) => key === "long" ? { drainTimeout: 5000 } : undefined
        })
        for (const key of ["a", "long"]) yield* borrow(map, key)
        const closing = yield* close
        yield* elapse(1000)
        assert.deepStrictEqual(yield* map.keys, ["long"])
        yield* elapse(4000)
        assert.strictEqual(ending(closing.pollUnsafe()), "served")
      })
    ))

  it.effect("who holds the pool of a key lets go without harm, before the end or after", () =>
    Effect.gen(function*() {
      const { close, map } = yield* make()
      const scopes = [yield* Scope.make(), yield* Scope.make()]
      const pools = yield* Effect.forEach(scopes, (scope) => Scope.provide(map.pool("a"), scope))
      const borrower = yield* borrow(map, "a")
      const closing = yield* close
      yield* settle
      assert.strictEqual(ending(yield* Effect.exit(pools[0]!.use(Effect.succeed))), "Closed")
      yield* Scope.close(scopes[0]!, Exit.void)
      assert.strictEqual((yield* counts(map, "a"))!.used, 1)
      yield* borrower.letGo
      assert.strictEqual(ending(closing.pollUnsafe()), "served")
      yield* Scope.close(scopes[1]!, Exit.void)
      yield* settle
      const { closed, keys, opened } = yield* map.stats
      assert.deepStrictEqual([opened, closed, keys], [1, 1, 0])
    }))

  it.effect("live control of a map that is closed does nothing", () =>
    Effect.gen(function*() {
      const { close, map } = yield* make()
      yield* use(map, "a")
      yield* close
      yield* settle
      yield* map.clear()
      yield* map.clear("a")
      yield* map.clearWith({ over: 5 })
      yield* map.invalidate("a", { id: 1 })
      yield* map.resize(3)
      assert.deepStrictEqual(yield* map.sweep(), { examined: 0, recycled: [] })
      assert.strictEqual((yield* map.stats).maxTotal, 3)
    }))

  it.effect("a time to live that is over meanwhile changes nothing", () =>
    logged(() =>
      Effect.gen(function*() {
        const { close, map, sources } = yield* make({ idleTimeToLive: 1000, drainTimeout: 5000, closeTimeout: 5000 })
        sources.of("a").closesOtherwise = { slow: 3000 }
        yield* use(map, "a")
        const closing = yield* close
        const recorded = yield* record(map)
        yield* elapse(2999)
        assert.deepStrictEqual([recorded.told, ending(closing.pollUnsafe())], [[], "waits"])
        yield* elapse(1)
        assert.strictEqual(ending(closing.pollUnsafe()), "served")
        assert.deepStrictEqual(recorded.told, ["a Closed 1", "a PoolClosed", "a KeyRemoved"])
      })
    ))

  it.effect("of many keys closes all side by side", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const closed: Array<number> = []
      const map = yield* Scope.provide(
        QueuePoolMap.make({
          acquire: (key: number) =>
            Effect.acquireRelease(
              Effect.succeed(key),
              () => Effect.andThen(Effect.sleep(1000), Effect.sync(() => void closed.push(key)))
            )
        }),
        scope
      )
      yield* Effect.forEach(times(50), (key) => map.use(key, Effect.succeed))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* elapse(1000)
      assert.strictEqual(closed.length, 50)
      assert.strictEqual(ending(closing.pollUnsafe()), "served")
    }))
})
