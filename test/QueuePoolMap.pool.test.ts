import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool, QueuePoolMap } from "effect-queuepool"
import { borrow as borrowOf, elapse, ending, endings } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"
import { books, borrow, counts, make, use } from "./kit/keyed.ts"

/** The pool of a key, until `letGo`. */
const held = Effect.fnUntraced(function*<K, A, E>(map: QueuePoolMap.QueuePoolMap<K, A, E>, key: K) {
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
  const pool = yield* Scope.provide(map.pool(key), scope)
  return { pool, letGo: Effect.andThen(Scope.close(scope, Exit.void), settle) }
})

describe("the pool of a key", () => {
  it.effect("is what the map lends from, and keeps the key until its scope closes", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ name: "hosts", max: 2 })
      const { letGo, pool } = yield* held(map, "a")
      assert.isTrue(QueuePool.isQueuePool(pool))
      assert.strictEqual(pool.name, "hosts[a]")
      assert.deepStrictEqual(yield* map.keys, ["a"])
      const holder = yield* borrowOf(pool)
      assert.strictEqual((yield* counts(map, "a"))!.used, 1)
      yield* holder.letGo
      yield* pool.clear
      yield* elapse("1 hour")
      assert.deepStrictEqual([yield* map.keys, (yield* pool.stats).idle], [["a"], 0])
      assert.strictEqual(yield* use(map, "a"), 2)
      yield* map.clear()
      yield* letGo
      assert.deepStrictEqual(yield* map.keys, [])
      // It is over, and says so; the map goes on.
      assert.strictEqual(ending(yield* Effect.exit(pool.use(Effect.succeed))), "Closed")
      assert.strictEqual(yield* use(map, "a"), 3)
      yield* books(sources, map)
    }))

  it.effect("is one and the same for all who hold it, and kept until the last has let go", () =>
    Effect.gen(function*() {
      const { map } = yield* make()
      const one = yield* held(map, "a")
      const other = yield* held(map, "a")
      assert.strictEqual(one.pool, other.pool)
      yield* one.letGo
      assert.deepStrictEqual(yield* map.keys, ["a"])
      yield* other.letGo
      assert.deepStrictEqual(yield* map.keys, [])
      assert.notStrictEqual((yield* held(map, "a")).pool, one.pool)
    }))

  it.effect("stays when its holder has gone and something is left", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      const { letGo, pool } = yield* held(map, "a")
      const borrower = yield* borrowOf(pool)
      yield* letGo
      assert.strictEqual((yield* counts(map, "a"))!.used, 1)
      yield* borrower.letGo
      assert.strictEqual((yield* pool.stats).idle, 1)
      yield* map.clear()
      yield* books(sources, map)
    }))

  it.effect("getN lends several items of the key, all or none", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 3, maxTotal: 3 })
      const { pool } = yield* held(map, "a")
      yield* Effect.scoped(Effect.gen(function*() {
        const items = yield* pool.getN(3)
        assert.deepStrictEqual(items.map(({ id }) => id).toSorted((one, other) => one - other), [1, 2, 3])
      }))
      assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(pool.getN(4)))), "InvalidOptions")
      // Others have what the group needs of the total: it waits, and holds nothing back from them.
      const other = yield* borrow(map, "b")
      const group = yield* Effect.forkChild(Effect.scoped(pool.getN(3)))
      yield* settle
      assert.strictEqual(ending(group.pollUnsafe()), "waits")
      yield* other.letGo
      assert.strictEqual(ending(group.pollUnsafe()), "served")
      yield* books(sources, map)
    }))

  it.effect("zip lends of several keys in one order, and of one key for two holders two items", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 2, maxTotal: 4, borrowTimeout: 1000 })
      const a = yield* held(map, "a")
      const again = yield* held(map, "a")
      const b = yield* held(map, "b")
      const both = (pools: ReadonlyArray<typeof a.pool>) =>
        Effect.scoped(Effect.andThen(QueuePool.zip(...pools), Effect.yieldNow))
      yield* Effect.all([both([a.pool, b.pool]), both([b.pool, a.pool]), both([b.pool, again.pool])], {
        concurrency: "unbounded"
      })
      const items = yield* Effect.scoped(QueuePool.zip(a.pool, again.pool))
      assert.deepStrictEqual(items.map(({ id }) => id).toSorted((one, other) => one - other), [1, 2])
      // Two at once, each for all of the key: were they two pools, each could have one and wait for ever.
      yield* Effect.all([both([a.pool, again.pool]), both([again.pool, a.pool])], { concurrency: "unbounded" })
      yield* books(sources, map)
    }))

  it.effect("swap opens the key's items in a new way, until the key is forgotten", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 2 })
      yield* use(map, "a")
      const other = new Source()
      const { letGo, pool } = yield* held(map, "a")
      yield* pool.swap(other.acquire, { over: 0 })
      yield* settle
      assert.deepStrictEqual([sources.of("a").closed, other.opened.length], [[1], 1])
      yield* map.clear()
      yield* settle
      yield* use(map, "a")
      assert.deepStrictEqual([sources.of("a").opened.length, other.opened.length], [1, 2])
      // Another key is opened as before.
      yield* use(map, "b")
      assert.strictEqual(sources.of("b").opened.length, 1)
      yield* letGo
      yield* map.clear()
      yield* settle
      yield* use(map, "a")
      assert.deepStrictEqual([sources.of("a").opened.length, other.opened.length], [2, 2])
    }))

  it.effect("a swap that waits for room ends when the key is forgotten", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ maxTotal: 1 })
      const holder = yield* borrow(map, "b")
      const { letGo, pool } = yield* held(map, "a")
      const swap = yield* Effect.forkChild(pool.swap(new Source().acquire))
      yield* settle
      assert.strictEqual(ending(swap.pollUnsafe()), "waits")
      yield* letGo
      assert.strictEqual(ending(swap.pollUnsafe()), "Closed")
      assert.deepStrictEqual(yield* map.keys, ["b"])
      yield* holder.letGo
    }))

  it.effect("detach takes an item out of the key, which is forgotten if it was the last; it is of the total until it is released", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ maxTotal: 1 })
      const scope = yield* Scope.make()
      const { letGo, pool } = yield* held(map, "a")
      yield* Scope.provide(Effect.flatMap(pool.get, pool.detach), scope)
      yield* letGo
      const waiter = yield* borrow(map, "b")
      assert.deepStrictEqual([yield* map.keys, waiter.item], [["b"], undefined])
      assert.deepStrictEqual(sources.of("a").closed, [])
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual([waiter.item, sources.of("a").closed], [{ id: 1 }, [1]])
      yield* waiter.letGo
      assert.strictEqual((yield* map.stats).detached, 1)
    }))

  it.effect("resize bounds the key, until it is forgotten", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ max: 2 })
      const { letGo, pool } = yield* held(map, "a")
      yield* pool.resize({ max: 1, min: 1 })
      yield* settle
      const borrowers = [yield* borrow(map, "a"), yield* borrow(map, "a")]
      assert.deepStrictEqual(borrowers.map(({ item }) => item !== undefined), [true, false])
      yield* pool.resize({ max: 3, min: 0 })
      yield* settle
      assert.isDefined(borrowers[1]!.item)
      for (const { letGo } of borrowers) yield* letGo
      yield* letGo
      yield* map.clear()
      yield* settle
      assert.strictEqual((yield* (yield* held(map, "a")).pool.stats).max, 2)
    }))

  it.effect("suspend stops the lending of the key, and of no other; the pool forgets it with the key", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      const { letGo, pool } = yield* held(map, "a")
      yield* pool.suspend
      const waiter = yield* borrow(map, "a")
      assert.deepStrictEqual(endings([waiter]), ["waits"])
      assert.isUndefined(waiter.item)
      assert.strictEqual(yield* use(map, "b"), 1)
      yield* pool.resume
      yield* settle
      assert.isDefined(waiter.item)
      yield* waiter.letGo
      yield* pool.suspend
      yield* letGo
      // Its idle item keeps it, and with it what was set.
      assert.isUndefined((yield* borrow(map, "a").pipe(Effect.tap(({ fiber }) => Fiber.interrupt(fiber)))).item)
      yield* map.clear("a")
      yield* settle
      assert.strictEqual(yield* use(map, "a"), 2)
      yield* books(sources, map)
    }))

  it.effect("its events and its sweep are those of the key", () =>
    Effect.gen(function*() {
      const { map } = yield* make()
      yield* use(map, "a")
      yield* use(map, "b")
      const { pool } = yield* held(map, "a")
      assert.deepStrictEqual(yield* pool.sweep, { examined: 1, recycled: [] })
    }))

  it.effect("is not to be had of a map that is closed, or is closing", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { map } = yield* Scope.provide(make(), scope)
      const borrower = yield* borrow(map, "a")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      for (const key of ["a", "b"]) assert.strictEqual(ending(yield* Effect.exit(held(map, key))), "Closed")
      yield* borrower.letGo
      assert.strictEqual(ending(closing.pollUnsafe()), "served")
      assert.strictEqual(ending(yield* Effect.exit(held(map, "a"))), "Closed")
      assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(map.getIfAvailable("a")))), "Closed")
    }))
})
