import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import { Capacity, PoolError, QueuePool, QueuePoolMap, RecyclePolicy } from "effect-queuepool"
import { elapse, ending, endings } from "./kit/books.ts"
import { Refused, settle, type Thing } from "./kit/items.ts"
import { books, borrow, counts, make, record, use } from "./kit/keyed.ts"

describe("QueuePoolMap.make", () => {
  it.effect("makes a map that is named, that pipes, and that its guard knows", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ name: "tenants" })
      assert.strictEqual(map.name, "tenants")
      assert.strictEqual((yield* make()).map.name, "map")
      assert.strictEqual(map.pipe((piped) => piped.name), "tenants")
      assert.isTrue(QueuePoolMap.isQueuePoolMap(map))
      for (const other of [undefined, null, {}, "map", yield* map.pool("a")]) {
        assert.isFalse(QueuePoolMap.isQueuePoolMap(other))
      }
    }))

  it.effect("opens nothing before a key is asked for, and then for that key alone", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      yield* settle
      assert.deepStrictEqual([yield* map.keys, sources.opened], [[], 0])
      assert.strictEqual(yield* use(map, "a"), 1)
      assert.strictEqual(yield* use(map, "a"), 1)
      assert.strictEqual(yield* use(map, "b"), 1)
      assert.deepStrictEqual(yield* map.keys, ["a", "b"])
      assert.deepStrictEqual([sources.of("a").opened.length, sources.of("b").opened.length], [1, 1])
      yield* books(sources, map)
    }))

  it.effect("asks for an item in the name of the key: `acquire` is told which", () =>
    Effect.gen(function*() {
      const asked: Array<number> = []
      const map = yield* QueuePoolMap.make({
        acquire: (key: number) => {
          asked.push(key)
          return Effect.succeed(key * 2)
        }
      })
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3, 1], (key) => map.use(key, Effect.succeed)), [2, 4, 6, 2])
      // For each open.
      yield* Effect.scoped(Effect.andThen(map.get(1), map.get(1)))
      assert.deepStrictEqual(asked, [1, 2, 3, 1])
    }))

  it.effect("an `acquire` that throws is a failed open like another", () =>
    Effect.gen(function*() {
      const map = yield* QueuePoolMap.make({
        acquire: (key: string): Effect.Effect<string> => {
          if (key === "bad") throw new Error("boom")
          return Effect.succeed(key)
        }
      })
      const exit = yield* Effect.exit(map.use("bad", Effect.succeed))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.strictEqual(yield* map.use("good", Effect.succeed), "good")
      assert.deepStrictEqual(yield* map.keys, ["good"])
    }))

  it.effect("takes no scope that is closed already", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Effect.exit(Scope.provide(make(), scope))
      assert.strictEqual(ending(exit), "Closed")
    }))

  it.effect("shares its items with the Capacity that it is given, besides its own total", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      for (const options of [{ capacity }, {}]) {
        const made = make({ max: 5, maxTotal: 4, ...options })
        const { map } = yield* Object.keys(options).length > 0
          ? made
          : Effect.provideService(made, Capacity.Current, capacity)
        const borrowers = [yield* borrow(map, "a"), yield* borrow(map, "b"), yield* borrow(map, "c")]
        assert.deepStrictEqual(borrowers.map(({ item }) => item !== undefined), [true, true, false])
        assert.strictEqual((yield* map.stats).parked, 1)
        for (const { letGo } of borrowers) yield* letGo
        yield* map.clear()
        yield* settle
      }
    }))
})

describe("lending", () => {
  it.effect("get lends to the scope, and the item is back when that closes", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 1 })
      yield* Effect.scoped(Effect.gen(function*() {
        assert.deepStrictEqual(yield* map.get("a"), { id: 1 })
        assert.strictEqual((yield* counts(map, "a"))!.used, 1)
      }))
      // An idle item is there at once.
      yield* Effect.scoped(map.get("a"))
      const stats = yield* books(sources, map)
      assert.deepStrictEqual([stats.opened, stats.borrowed, stats.idle], [1, 2, 1])
    }))

  it.effect("use lends for one effect, whose outcome is the outcome", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      assert.strictEqual(yield* map.use("a", () => Effect.succeed(5)), 5)
      assert.strictEqual(ending(yield* Effect.exit(map.use("a", () => Effect.fail({ _tag: "Mine" })))), "Mine")
      const exit = yield* Effect.exit(map.use("a", (): Effect.Effect<void> => {
        throw new Error("boom")
      }))
      assert.strictEqual(ending(exit), "defect")
      yield* books(sources, map)
    }))

  it.effect("an effect that was made once can be run often, and asks anew each time", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 5 })
      const lease = map.use("a", () => Effect.sleep(10))
      const scoped = map.get("a")
      yield* Effect.forkChild(Effect.all([lease, lease, lease], { concurrency: 3 }))
      yield* settle
      assert.strictEqual((yield* counts(map, "a"))!.used, 3)
      yield* elapse(10)
      yield* map.clear()
      yield* settle
      assert.deepStrictEqual(yield* map.keys, [])
      assert.deepStrictEqual(yield* Effect.scoped(scoped), { id: 4 })
      yield* lease.pipe(Effect.forkChild)
      yield* elapse(10)
      yield* books(sources, map)
    }))

  it.effect("getExclusive and useExclusive lend an item that is shared with nobody", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 2, concurrency: 2 })
      yield* Effect.scoped(Effect.gen(function*() {
        const shared = [yield* map.get("a"), yield* map.get("a")]
        assert.deepStrictEqual(shared, [{ id: 1 }, { id: 1 }])
        assert.deepStrictEqual(yield* map.useExclusive("a", Effect.succeed), { id: 2 })
        assert.deepStrictEqual(yield* map.getExclusive("a"), { id: 2 })
        const other = yield* borrow(map, "a")
        assert.deepStrictEqual(endings([other]), ["waits"])
        other.fiber.interruptUnsafe()
      }))
      yield* books(sources, map)
    }))

  it.effect("getIfAvailable and useIfAvailable take what is there, or nothing", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 1 })
      const has = Effect.map(Effect.scoped(map.getIfAvailable("a")), Option.isSome)
      let runs = 0
      const used = map.useIfAvailable("a", ({ id }) => Effect.sync(() => (runs++, id)))
      assert.isFalse(yield* has)
      assert.deepStrictEqual(yield* used, Option.none())
      // Nor is anything made for it.
      assert.deepStrictEqual([sources.opened, yield* map.keys, runs], [0, [], 0])
      const holder = yield* borrow(map, "a")
      assert.isFalse(yield* has)
      yield* holder.letGo
      assert.isTrue(yield* has)
      assert.deepStrictEqual(yield* used, Option.some(1))
      assert.strictEqual(runs, 1)
      yield* books(sources, map)
    }))

  it.effect("a failed open is told to who asked, in the type of the source", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      sources.of("a").opens.push("fail")
      assert.deepStrictEqual(yield* Effect.flip(use(map, "a")), new Refused(1))
      assert.strictEqual(yield* use(map, "a"), 2)
    }))

  it.effect("an error names the key's pool", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ name: "tenants", max: 1, maxWaiters: 0 })
      const holder = yield* borrow(map, "acme")
      const error = yield* Effect.flip(use(map, "acme"))
      assert.instanceOf(error, PoolError.PoolError)
      assert.strictEqual(error.pool, "tenants[acme]")
      yield* holder.letGo
    }))
})

describe("recycling by hand", () => {
  it.effect("invalidate recycles this item of this key, and touches no other (F7)", () =>
    Effect.gen(function*() {
      // All items of all keys are equal.
      const closed: Array<string> = []
      const item = "item"
      const map = yield* QueuePoolMap.make({
        acquire: (key: string) =>
          Effect.acquireRelease(Effect.succeed(item), () => Effect.sync(() => void closed.push(key)))
      })
      const recorded = yield* record(map as never)
      yield* map.use("a", Effect.succeed)
      yield* map.use("b", Effect.succeed)
      yield* map.invalidate("c", item)
      yield* map.invalidate("a", item)
      yield* settle
      assert.deepStrictEqual(closed, ["a"])
      yield* map.invalidate("b", item, "broken")
      yield* settle
      assert.deepStrictEqual(
        recorded.told.filter((line) => line.includes("Recycled")),
        ["a Recycled 1 invalidated", "b Recycled 1 broken"]
      )
    }))

  it.effect("clear recycles the idle items now and the lent ones when they come back, of one key or of all", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 2 })
      const holders = [yield* borrow(map, "a"), yield* borrow(map, "b")]
      yield* use(map, "a")
      yield* use(map, "b")
      yield* map.clear("a")
      yield* map.clear("unknown")
      yield* settle
      assert.deepStrictEqual([sources.of("a").closed, sources.of("b").closed], [[2], []])
      yield* map.clear()
      yield* settle
      assert.deepStrictEqual([sources.of("a").closed, sources.of("b").closed], [[2], [2]])
      for (const { letGo } of holders) yield* letGo
      assert.strictEqual((yield* books(sources, map)).keys, 0)
      assert.deepStrictEqual([sources.of("a").closed, sources.of("b").closed], [[2, 1], [2, 1]])
    }))

  it.effect("clear of the key `undefined` clears that key, not all", () =>
    Effect.gen(function*() {
      const map = yield* QueuePoolMap.make({ acquire: (key: string | undefined) => Effect.succeed(`item of ${key}`) })
      yield* map.use(undefined, Effect.succeed)
      yield* map.use("a", Effect.succeed)
      yield* map.clear(undefined)
      yield* settle
      assert.deepStrictEqual(yield* map.keys, ["a"])
    }))

  it.effect("clearWith spares the lent items, and spreads the others over a time", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 2 })
      const holder = yield* borrow(map, "a")
      yield* use(map, "a")
      yield* use(map, "b")
      yield* map.clearWith({ only: "idle" }, "a")
      yield* settle
      assert.deepStrictEqual([sources.of("a").closed, sources.of("b").closed], [[2], []])
      yield* map.clearWith({ only: "idle", over: "10 seconds" })
      yield* settle
      assert.deepStrictEqual(sources.of("b").closed, [])
      yield* elapse("10 seconds")
      assert.deepStrictEqual([sources.of("a").closed, sources.of("b").closed], [[2], [1]])
      yield* holder.letGo
      assert.deepStrictEqual(sources.of("a").closed, [2])
      const error = yield* Effect.flip(map.clearWith({ over: "soon" as never }))
      assert.deepStrictEqual([error.reason._tag, error.pool], ["InvalidOptions", "map"])
    }))

  it.effect("sweep applies the rules now, to one key or to all, and tells what it did by key", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ recycle: ({ uses }) => uses > 0 })
      // A rule that speaks at the return as well would leave nothing to sweep.
      const stays = yield* make({ recycle: ({ idle }) => idle > 5 })
      yield* use(stays.map, "a")
      yield* use(stays.map, "b")
      assert.deepStrictEqual(yield* stays.map.sweep(), { examined: 2, recycled: [] })
      yield* elapse(6)
      assert.deepStrictEqual(yield* stays.map.sweep("unknown"), { examined: 0, recycled: [] })
      assert.deepStrictEqual(yield* stays.map.sweep("a"), {
        examined: 1,
        recycled: [{ key: "a", item: 1, reason: "when" }]
      })
      assert.deepStrictEqual((yield* stays.map.sweep()).recycled, [{ key: "b", item: 1, reason: "when" }])
      yield* settle
      assert.deepStrictEqual(yield* stays.map.keys, [])
      assert.deepStrictEqual(yield* map.sweep(), { examined: 0, recycled: [] })
      yield* books(sources, map)
    }))

  it.effect("a sweep runs the checks of all keys side by side, keeps the keys meanwhile, and ends with the map", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { map, sources } = yield* Scope.provide(
        make({
          checkTimeout: "1 minute",
          recycle: RecyclePolicy.check(({ id }: Thing) => Effect.as(Effect.sleep(100 * id), true))
        }),
        scope
      )
      // Item 1 of one key, items 1 and 2 of the other.
      yield* use(map, "a")
      yield* Effect.scoped(Effect.andThen(map.get("b"), map.get("b")))
      const sweep = yield* Effect.forkChild(map.sweep())
      yield* elapse(100)
      assert.deepStrictEqual(yield* map.keys, ["b"])
      // One after the other, of one key.
      yield* elapse(200)
      const swept = yield* Fiber.join(sweep)
      assert.strictEqual(swept.examined, 3)
      assert.sameDeepMembers([...swept.recycled], [
        { key: "a", item: 1, reason: "check" },
        { key: "b", item: 1, reason: "check" },
        { key: "b", item: 2, reason: "check" }
      ])
      assert.strictEqual((yield* books(sources, map)).keys, 0)
      yield* use(map, "c")
      const cut = yield* Effect.forkChild(map.sweep())
      yield* settle
      yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.notStrictEqual(ending(cut.pollUnsafe()), "waits")
      assert.strictEqual(sources.live, 0)
    }))
})

describe("stats", () => {
  it.effect("add up over all keys, and keep what forgotten keys have done", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 2, maxTotal: 9 })
      const holders = [yield* borrow(map, "a"), yield* borrow(map, "a"), yield* borrow(map, "b")]
      const waiter = yield* borrow(map, "a")
      const { keys, leases, maxTotal, opened, pending, used } = yield* map.stats
      assert.deepStrictEqual({ keys, maxTotal, used, leases, pending, opened }, {
        keys: 2,
        maxTotal: 9,
        used: 3,
        leases: 3,
        pending: 1,
        opened: 3
      })
      const ofKey = Option.map(yield* map.statsOf("a"), ({ max, pending, used }) => [used, pending, max])
      assert.deepStrictEqual(ofKey, Option.some([2, 1, 2]))
      assert.deepStrictEqual(yield* map.statsOf("unknown"), Option.none())
      for (const { letGo } of [...holders, waiter]) yield* letGo
      yield* map.clear("a")
      yield* settle
      assert.deepStrictEqual(yield* map.keys, ["b"])
      const stats = yield* books(sources, map)
      assert.deepStrictEqual(
        [stats.opened, stats.closed, stats.borrowed, stats.returned, stats.waited, stats.recycled],
        [3, 2, 4, 4, 4, { cleared: 2 }]
      )
      // Reasons of keys that are and were are added.
      yield* map.clear()
      assert.deepStrictEqual((yield* books(sources, map)).recycled, { cleared: 3 })
    }))

  it.effect("resize bounds all keys together from now on", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 5, maxTotal: 4 })
      for (const key of ["a", "b", "c", "d"]) yield* use(map, key)
      yield* map.resize(2)
      yield* settle
      // The coldest go.
      assert.deepStrictEqual(yield* map.keys, ["c", "d"])
      assert.strictEqual((yield* books(sources, map)).maxTotal, 2)
      const error = yield* Effect.flip(map.resize(0))
      assert.deepStrictEqual([error.pool, error.reason], [
        "map",
        new PoolError.InvalidOptions({
          problems: [{ option: "maxTotal", value: 0, allowed: "a whole number from 1, or Infinity" }]
        })
      ])
      const missing = yield* Effect.flip(map.resize(undefined as never))
      assert.strictEqual(missing.reason._tag, "InvalidOptions")
      yield* map.resize(Infinity)
      const holders = yield* Effect.forEach(["a", "b", "c", "d", "e"], (key) => borrow(map, key))
      assert.isTrue(holders.every(({ item }) => item !== undefined))
      for (const { letGo } of holders) yield* letGo
    }))
})

const item = (key: string) => Effect.succeed({ key })

class Tenants extends QueuePoolMap.Service<Tenants>()("test/Tenants", { acquire: item, max: 2 }) {}

describe("QueuePoolMap.layer", () => {
  class Tag extends Context.Service<Tag, QueuePoolMap.QueuePoolMap<string, { readonly key: string }>>()("test/Tag") {}

  it.effect("provides a map under a tag, whose key names it", () =>
    Effect.gen(function*() {
      const map = yield* Tag
      assert.strictEqual(map.name, "test/Tag")
      assert.deepStrictEqual(yield* map.use("a", Effect.succeed), { key: "a" })
    }).pipe(Effect.provide(QueuePoolMap.layer(Tag, { acquire: item }))))

  it.effect("takes its options from an Effect, and fails as that does, or when they are wrong", () =>
    Effect.gen(function*() {
      const named = yield* Effect.provide(
        Tag,
        QueuePoolMap.layer(Tag, Effect.succeed({ acquire: item, name: "other" }))
      )
      assert.strictEqual(named.name, "other")
      const built = (layer: Layer.Layer<Tag, unknown>) => Effect.flip(Effect.scoped(Layer.build(layer)))
      assert.strictEqual(yield* built(QueuePoolMap.layer(Tag, Effect.fail("no config" as const))), "no config")
      const wrong = yield* built(QueuePoolMap.layer(Tag, { acquire: item, max: 0 }))
      assert.strictEqual((wrong as PoolError.PoolError).pool, "test/Tag")
    }))

  it.effect("closes the map when it is over", () =>
    Effect.gen(function*() {
      const map = yield* Effect.provide(Tag, QueuePoolMap.layer(Tag, { acquire: item }))
      assert.strictEqual(ending(yield* Effect.exit(map.use("a", Effect.succeed))), "Closed")
    }))
})

describe("QueuePoolMap.Service", () => {
  it.effect("has the map's operations as static members", () =>
    Effect.gen(function*() {
      const events: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(Tenants.events, ({ _tag, key }) => Effect.sync(() => void events.push(`${key} ${_tag}`)))
      )
      yield* settle
      assert.isTrue(Option.isNone(yield* Effect.scoped(Tenants.getIfAvailable("a"))))
      assert.deepStrictEqual(yield* Effect.scoped(Tenants.get("a")), { key: "a" })
      assert.deepStrictEqual(yield* Effect.scoped(Tenants.getExclusive("a")), { key: "a" })
      assert.strictEqual(yield* Tenants.useItem("a", ({ key }) => Effect.succeed(key)), "a")
      assert.strictEqual(yield* Tenants.useExclusive("a", ({ key }) => Effect.succeed(key)), "a")
      assert.deepStrictEqual(yield* Tenants.useIfAvailable("a", ({ key }) => Effect.succeed(key)), Option.some("a"))
      assert.deepStrictEqual(yield* Tenants.keys, ["a"])
      assert.isTrue(Option.isSome(yield* Tenants.statsOf("a")))
      const lent = yield* Effect.scoped(Effect.flatMap(Tenants.pool("b"), (pool) => pool.use(Effect.succeed)))
      yield* Tenants.invalidate("b", lent, "by hand")
      yield* Tenants.clearWith({ only: "idle" }, "b")
      assert.deepStrictEqual(yield* Tenants.sweep("a"), { examined: 1, recycled: [] })
      assert.deepStrictEqual(yield* Tenants.sweep(), { examined: 1, recycled: [] })
      yield* Tenants.resize(7)
      assert.strictEqual((yield* Tenants.stats).maxTotal, 7)
      yield* settle
      yield* Tenants.clear("b")
      assert.deepStrictEqual(yield* Tenants.keys, ["a"])
      yield* Tenants.clear()
      yield* settle
      const { closed, keys, recycled } = yield* Tenants.stats
      assert.deepStrictEqual({ keys, closed, recycled }, { keys: 0, closed: 2, recycled: { "by hand": 1, cleared: 1 } })
      assert.isTrue(events.includes("a KeyAdded") && events.includes("b KeyRemoved"))
      assert.isTrue(QueuePool.isQueuePool(yield* Effect.scoped(Tenants.pool("a"))))
    }).pipe(Effect.provide(Tenants.layer)))

  it.effect("a tag of its own for each map", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* Tenants).name, "test/Tenants")
      assert.strictEqual(Tenants.key, "test/Tenants")
    }).pipe(Effect.provide(Tenants.layer)))
})
