import { assert, describe, it } from "@effect/vitest"
import { Effect, Equal, Hash, Option, Schedule } from "effect"
import { QueuePoolMap, RecyclePolicy } from "effect-queuepool"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { elapse, ending, endings, Watch } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"
import { books, borrow, counts, make, type Options, record, use } from "./kit/keyed.ts"
import { logged } from "./kit/observe.ts"

const minute = 60_000

describe("a key", () => {
  it.effect("F6: is forgotten when nothing is left of it, and its next pool is a new one", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ recycle: RecyclePolicy.uses(2) })
      yield* use(map, "a")
      yield* settle
      assert.deepStrictEqual(yield* map.keys, ["a"])
      yield* use(map, "a")
      yield* settle
      assert.deepStrictEqual(yield* map.keys, [])
      yield* use(map, "a")
      assert.strictEqual((yield* books(sources, map)).opened, 2)
    }))

  it.effect("F6: is kept by each thing that is left of it: what opens, is lent, closes, and who waits", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 1, recycle: RecyclePolicy.uses(1), borrowTimeout: "Infinity" })
      const source = sources.of("a")
      source.opens.push({ slow: 10 })
      source.closesOtherwise = { slow: 10 }
      const borrower = yield* borrow(map, "a")
      const nothing = { idle: 0, used: 0, opening: 0, closing: 0, pending: 0 }
      assert.deepStrictEqual(yield* counts(map, "a"), { ...nothing, opening: 1, pending: 1 })
      yield* elapse(10)
      assert.deepStrictEqual(yield* counts(map, "a"), { ...nothing, used: 1 })
      yield* borrower.letGo
      assert.deepStrictEqual(yield* counts(map, "a"), { ...nothing, closing: 1 })
      yield* elapse(10)
      assert.isUndefined(yield* counts(map, "a"))
      yield* books(sources, map)
    }))

  it.effect("F6: a waiter alone keeps it: of a suspended pool, until it is served or leaves", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      const waiter = yield* Effect.scoped(Effect.gen(function*() {
        const pool = yield* map.pool("a")
        yield* pool.suspend
        return yield* borrow(map, "a")
      }))
      yield* settle
      assert.deepStrictEqual(yield* counts(map, "a"), { idle: 0, used: 0, opening: 0, closing: 0, pending: 1 })
      waiter.fiber.interruptUnsafe()
      yield* settle
      assert.isUndefined(yield* counts(map, "a"))
      // What was set on its pool is forgotten with it.
      assert.strictEqual(yield* use(map, "a"), 1)
      yield* books(sources, map)
    }))

  it.effect("F4: is made anew for a borrower that comes while it goes, at each moment of its going", () =>
    Effect.gen(function*() {
      for (const closes of ["ok", { slow: 10 }] as const) {
        for (let turns = 0; turns < 12; turns++) {
          const { map, sources } = yield* make({ max: 1 })
          sources.of("a").closesOtherwise = closes
          yield* use(map, "a")
          yield* map.clear("a")
          yield* Effect.repeat(Effect.yieldNow, { times: turns })
          const borrower = yield* borrow(map, "a")
          yield* elapse(10)
          assert.deepStrictEqual(borrower.item, { id: 2 }, `after ${turns} turns`)
          sources.of("a").closesOtherwise = "ok"
          // Its max held, although the first was still closing.
          assert.strictEqual(sources.of("a").peakLive, 1)
          yield* borrower.letGo
          yield* books(sources, map)
        }
      }
    }))

  it.effect("what of it is closing counts towards its max and the total, also when it is asked for again at once", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 1, maxTotal: 1, closeTimeout: "1 minute" })
      sources.of("a").closesOtherwise = { slow: 1000 }
      yield* use(map, "a")
      yield* map.clear("a")
      const borrowers = [yield* borrow(map, "b"), yield* borrow(map, "a")]
      yield* elapse(999)
      assert.deepStrictEqual(borrowers.map(({ item }) => item), [undefined, undefined])
      assert.deepStrictEqual(yield* counts(map, "a"), { idle: 0, used: 0, opening: 0, closing: 1, pending: 1 })
      yield* elapse(1)
      assert.deepStrictEqual(borrowers.map(({ item }) => item?.id), [1, undefined])
      yield* borrowers[0]!.letGo
      assert.deepStrictEqual(borrowers[1]!.item, { id: 2 })
      sources.of("a").closesOtherwise = "ok"
      yield* borrowers[1]!.letGo
      yield* books(sources, map)
    }))

  it.effect("F5: F6: 10,000 keys that fail leave no entry, no timer and no fiber", () =>
    Effect.gen(function*() {
      const kinds: ReadonlyArray<Partial<Options>> = [{}, { retry: Schedule.recurs(0), min: 1, leaseWarning: 100 }]
      for (const options of kinds) {
        const watch = new Watch()
        let attempts = 0
        const map = yield* watch.around(QueuePoolMap.make({
          ...options as object,
          acquire: (_: number): Effect.Effect<string, string> =>
            Effect.suspend(() => (attempts++, Effect.fail("down"))),
          maxTotal: 50
        }))
        const before = [watch.fibers, watch.timers]
        const fails = (key: number) => Effect.flip(map.use(key, Effect.succeed))
        const count = options.min === undefined ? 10_000 : 1000
        const fiber = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: count }, (_, key) => key), fails, { concurrency: 500, discard: true })
        )
        yield* settle
        while (fiber.pollUnsafe() === undefined) yield* elapse(1)
        yield* settle
        const { keys, openFailures, opened, parked, pending } = yield* map.stats
        assert.deepStrictEqual({ keys, opened, parked, pending }, { keys: 0, opened: 0, parked: 0, pending: 0 })
        assert.strictEqual(openFailures, attempts)
        assert.isAtLeast(attempts, count)
        assert.deepStrictEqual([watch.fibers, watch.timers], before)
      }
    }))

  it.effect("F5: a failed open gives its place back, to its key and to the total", () =>
    Effect.gen(function*() {
      for (const outcome of ["fail", "die", "hang"] as const) {
        const { map, sources } = yield* make({ max: 1, maxTotal: 1, openTimeout: 100, closeTimeout: 10 })
        sources.of("a").opens.push(outcome, outcome)
        for (const _ of [1, 2]) {
          const asks = yield* Effect.forkChild(use(map, "a"))
          yield* elapse(100)
          assert.notStrictEqual(ending(asks.pollUnsafe()), "waits")
        }
        yield* elapse(10)
        assert.deepStrictEqual(yield* map.keys, [])
        assert.deepStrictEqual([yield* use(map, "b"), yield* use(map, "a")], [1, 3])
      }
    }))

  it.effect("F9: that fails backs off no other", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ retry: Schedule.spaced("10 seconds"), min: 1 })
      sources.of("bad").opensOtherwise = "fail"
      const waits = yield* borrow(map, "bad")
      yield* settle
      for (let i = 0; i < 20; i++) assert.strictEqual(yield* use(map, `good ${i}`), 1)
      assert.deepStrictEqual(endings([waits]), ["waits"])
      assert.strictEqual(sources.of("bad").attempts, 1)
      yield* elapse("10 seconds")
      assert.strictEqual(sources.of("bad").attempts, 2)
      waits.fiber.interruptUnsafe()
      yield* settle
      // Nothing is left of it, and nothing is retried.
      yield* elapse("1 minute")
      assert.strictEqual(sources.of("bad").attempts, 2)
      assert.isFalse((yield* map.keys).includes("bad"))
    }))

  it.effect("min is refilled for as long as something is left of it, and a key of failed opens is forgotten", () =>
    logged(() =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ min: 2, max: 3 })
        const source = sources.of("a")
        yield* use(map, "a")
        yield* settle
        assert.strictEqual((yield* counts(map, "a"))!.idle, 2)
        // One is lost, its replacement fails, and then works.
        source.opens.push("fail")
        yield* map.invalidate("a", source.opened[0]!)
        yield* settle
        assert.strictEqual((yield* counts(map, "a"))!.idle, 1)
        yield* elapse("1 second")
        assert.strictEqual((yield* counts(map, "a"))!.idle, 2)
        // All are lost.
        source.opensOtherwise = "fail"
        yield* map.clear("a")
        yield* elapse("10 seconds")
        assert.deepStrictEqual(yield* map.keys, [])
        const { attempts } = source
        yield* elapse("10 minutes")
        assert.strictEqual(source.attempts, attempts)
        yield* books(sources, map)
      })
    ))

  it.effect("that nobody can lend an item is forgotten too: too many wait, a timeout of zero, no time left", () =>
    Effect.gen(function*() {
      const kinds: ReadonlyArray<Partial<Options>> = [{ maxWaiters: 0 }, { borrowTimeout: 0 }, { borrowTimeout: 10 }]
      for (const options of kinds) {
        const { map, sources } = yield* make({ maxTotal: 1, forKey: (key) => key === "holder" ? undefined : options })
        const holder = yield* borrow(map, "holder")
        const other = yield* Effect.forkChild(use(map, "other"))
        yield* elapse(10)
        assert.include(["TooManyWaiters", "BorrowTimeout"], ending(other.pollUnsafe()))
        assert.deepStrictEqual(yield* map.keys, ["holder"])
        yield* holder.letGo
        yield* books(sources, map)
      }
    }))

  it.effect("F6: 10,000 keys that come and go leave nothing but their totals", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      const map = yield* watch.around(QueuePoolMap.make({
        acquire: (key: number) => Effect.succeed(key),
        recycle: RecyclePolicy.uses(1),
        maxTotal: 50
      }))
      const keys = Array.from({ length: 10_000 }, (_, key) => key)
      const before = [watch.fibers, watch.timers]
      yield* Effect.forEach(keys, (key) => map.use(key, () => Effect.yieldNow), { concurrency: 200, discard: true })
      yield* settle
      const { closed, idle, keys: left, opened, recycled } = yield* map.stats
      assert.deepStrictEqual({ left, idle, opened, closed, recycled }, {
        left: 0,
        idle: 0,
        opened: 10_000,
        closed: 10_000,
        recycled: { uses: 10_000 }
      })
      assert.deepStrictEqual([watch.fibers, watch.timers], before)
    }))

  it.effect("F6: that was forgotten is garbage, with its pool and its items, while the map lives", () =>
    Effect.gen(function*() {
      v8.setFlagsFromString("--expose-gc")
      const gc: () => void = vm.runInNewContext("gc")
      const map = yield* QueuePoolMap.make({
        acquire: (key: string) => Effect.succeed({ key }),
        maxTotal: 3,
        recycle: RecyclePolicy.idle("1 second"),
        leaseWarning: "1 hour"
      })
      const stays = map.use("stays", () => Effect.void)
      yield* stays
      const refs = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, i) => `key ${i}`),
        (key) =>
          Effect.scoped(Effect.gen(function*() {
            const pool = yield* map.pool(key)
            const item = yield* Effect.scoped(pool.get)
            return [new WeakRef<object>(pool), new WeakRef<object>(item)]
          }))
      )
      yield* stays
      yield* elapse(900)
      yield* stays
      yield* elapse(101)
      assert.deepStrictEqual(yield* map.keys, ["stays"])
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
      gc()
      const left = refs.flat().filter((ref) => ref.deref() !== undefined).length
      // The last may be held by the machine.
      assert.isAtMost(left, 4)
      yield* stays
    }))
})

describe("keys are compared as effect compares them", () => {
  class Shard implements Equal.Equal {
    readonly host: string
    readonly port: number
    note = 0
    constructor(host: string, port: number) {
      this.host = host
      this.port = port
    }
    [Hash.symbol](): number {
      return Hash.string(this.host)
    }
    [Equal.symbol](that: unknown): boolean {
      return that instanceof Shard && that.host === this.host && that.port === this.port
    }
  }

  const asked = Effect.fnUntraced(function*(keys: ReadonlyArray<unknown>) {
    let opened = 0
    const map = yield* QueuePoolMap.make({ acquire: (_: unknown) => Effect.sync(() => ++opened) })
    const items = yield* Effect.forEach(keys, (key) => map.use(key, Effect.succeed))
    const found = yield* Effect.forEach(keys, (key) => Effect.map(map.statsOf(key), Option.isSome))
    assert.isTrue(found.every(Boolean))
    const known = yield* map.keys
    assert.deepStrictEqual([known.length, (yield* map.stats).keys], [opened, opened])
    yield* Effect.forEach(keys, (key) => map.clear(key))
    yield* settle
    assert.deepStrictEqual(yield* map.keys, [])
    return { items, known }
  })

  it.effect("primitives of every kind: NaN, undefined, null, 0 and -0, symbols, bigints", () =>
    Effect.gen(function*() {
      const one = Symbol("key")
      const other = Symbol("key")
      const kinds = [NaN, undefined, null, 0, "0", 0n, false, one, other, "", "NaN"]
      const { items, known } = yield* asked([...kinds, ...kinds, -0])
      assert.deepStrictEqual(items.slice(0, kinds.length), kinds.map((_, i) => i + 1))
      assert.deepStrictEqual(items.slice(kinds.length), [...kinds.map((_, i) => i + 1), 4])
      assert.deepStrictEqual(known, kinds)
    }))

  it.effect("structures and Equal by what they are, functions by which they are", () =>
    Effect.gen(function*() {
      const f = () => 1
      const { items } = yield* asked([
        { host: "a", port: 1 },
        { host: "a", port: 1 },
        { host: "a", port: 2 },
        ["a", 1],
        ["a", 1],
        new Shard("a", 1),
        new Shard("a", 1),
        // The same hash.
        new Shard("a", 2),
        f,
        f,
        () => 1
      ])
      assert.deepStrictEqual(items, [1, 1, 2, 3, 3, 4, 4, 5, 6, 6, 7])
    }))

  it.effect("an object that is changed meanwhile leaves nothing behind, and is found as what it was by itself", () =>
    Effect.gen(function*() {
      const closed: Array<unknown> = []
      const shards = yield* QueuePoolMap.make({
        acquire: (key: { host: string }) =>
          Effect.acquireRelease(Effect.succeed(key.host), (host) => Effect.sync(() => void closed.push(host)))
      })
      const key = { host: "a" }
      yield* shards.use(key, Effect.succeed)
      key.host = "b"
      assert.strictEqual(yield* shards.use(key, Effect.succeed), "a")
      yield* shards.clear(key)
      yield* settle
      assert.deepStrictEqual([closed, yield* shards.keys], [["a"], []])
    }))

  it.effect("the name of a key's pool shows the key", () =>
    Effect.gen(function*() {
      const map = yield* QueuePoolMap.make({ acquire: (_: unknown) => Effect.void, name: "hosts" })
      const names = yield* Effect.forEach(
        ["eu", 5, undefined, { host: "a", port: 1 }, ["x"]],
        (key) => Effect.scoped(Effect.map(map.pool(key), (pool) => pool.name))
      )
      assert.deepStrictEqual(names, [
        "hosts[eu]",
        "hosts[5]",
        "hosts[undefined]",
        "hosts[{\"host\":\"a\",\"port\":1}]",
        "hosts[[\"x\"]]"
      ])
    }))
})

describe("idleTimeToLive", () => {
  it.effect("closes a key of which nothing was lent for so long, with its items, those of min too", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ min: 2, idleTimeToLive: "1 minute" })
      const recorded = yield* record(map)
      yield* use(map, "a")
      yield* elapse(minute - 1)
      assert.strictEqual((yield* counts(map, "a"))!.idle, 2)
      yield* elapse(1)
      assert.deepStrictEqual(yield* map.keys, [])
      assert.deepStrictEqual(recorded.told.filter((line) => line.includes("Recycled")), [
        "a Recycled 1 key unused",
        "a Recycled 2 key unused"
      ])
      assert.strictEqual((yield* books(sources, map)).closed, 2)
      // Asked for again, it is warm again.
      yield* use(map, "a")
      yield* settle
      assert.strictEqual((yield* counts(map, "a"))!.idle, 2)
    }))

  it.effect("counts from the end of the last lease, to the millisecond", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ idleTimeToLive: "1 minute" })
      yield* use(map, "a")
      yield* elapse(10_000)
      const holder = yield* borrow(map, "a")
      // Lent when the time would be over.
      yield* elapse(60_000)
      yield* holder.letGo
      yield* elapse(30_000)
      yield* use(map, "a")
      yield* elapse(minute - 1)
      assert.deepStrictEqual(yield* map.keys, ["a"])
      yield* elapse(1)
      assert.deepStrictEqual(yield* map.keys, [])
    }))

  it.effect("what the pool opens for itself is no use of the key: neither a refill of min nor a new item for an old one", () =>
    Effect.gen(function*() {
      for (const options of [{ min: 2 }, { min: 1, replaceTimeout: "5 seconds" as const }]) {
        const { map, sources } = yield* make({
          ...options,
          recycle: RecyclePolicy.age("10 seconds"),
          idleTimeToLive: "1 minute"
        })
        yield* use(map, "a")
        yield* elapse(minute - 1)
        assert.isAbove(sources.opened, 5)
        assert.deepStrictEqual(yield* map.keys, ["a"])
        yield* elapse(1)
        assert.deepStrictEqual(yield* map.keys, [])
        yield* books(sources, map)
      }
    }))

  it.effect("a lease that was taken back, or an item that was detached, was a use", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ min: 1, max: 2, idleTimeToLive: "1 minute", maxLease: 10_000 })
      const holder = yield* Effect.forkChild(Effect.scoped(Effect.andThen(map.get("a"), Effect.never)))
      yield* elapse(10_000)
      assert.strictEqual((yield* map.stats).takenBack, 1)
      yield* elapse(minute - 1)
      assert.deepStrictEqual(yield* map.keys, ["a"])
      yield* elapse(1)
      assert.deepStrictEqual(yield* map.keys, [])
      holder.interruptUnsafe()
      // The same of one that leaves the pool.
      yield* elapse(5000)
      yield* Effect.scoped(Effect.gen(function*() {
        const pool = yield* Effect.scoped(map.pool("a"))
        const item = yield* pool.get
        yield* elapse(5000)
        assert.isTrue(yield* pool.detach(item))
      }))
      yield* elapse(minute - 1)
      assert.deepStrictEqual(yield* map.keys, ["a"])
      yield* elapse(1)
      assert.deepStrictEqual(yield* map.keys, [])
    }))

  it.effect("leases, waiters and who holds the pool keep the key", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 1, idleTimeToLive: "1 minute", borrowTimeout: "Infinity" })
      const holder = yield* borrow(map, "a")
      const waiter = yield* borrow(map, "a")
      yield* elapse("5 minutes")
      assert.deepStrictEqual(endings([holder, waiter]), ["waits", "waits"])
      yield* holder.letGo
      yield* waiter.letGo
      yield* Effect.scoped(Effect.andThen(map.pool("a"), elapse(5.5 * minute)))
      // Who held it was of use until the end.
      yield* elapse(minute - 1)
      assert.strictEqual((yield* counts(map, "a"))!.idle, 1)
      yield* elapse(1)
      assert.deepStrictEqual(yield* map.keys, [])
      assert.strictEqual((yield* books(sources, map)).opened, 1)
    }))

  it.effect("a borrower that waits for an open alone keeps the key", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ idleTimeToLive: 1000, openTimeout: "1 minute" })
      sources.of("a").opens.push({ slow: 5500 })
      const borrower = yield* borrow(map, "a")
      yield* elapse(5500)
      assert.deepStrictEqual(borrower.item, { id: 1 })
      yield* elapse(5000)
      yield* borrower.letGo
      assert.strictEqual((yield* counts(map, "a"))!.idle, 1)
      yield* elapse(1000)
      assert.deepStrictEqual(yield* map.keys, [])
    }))

  it.effect("what is opened, checked or reset when the time is over goes when that is done", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({
        min: 1,
        idleTimeToLive: "1 minute",
        openTimeout: "5 minutes",
        closeTimeout: "1 minute",
        recycle: RecyclePolicy.age("59 seconds")
      })
      sources.of("a").opens.push("ok", { slow: 2000 })
      yield* use(map, "a")
      yield* elapse(minute)
      assert.deepStrictEqual(yield* counts(map, "a"), { idle: 0, used: 0, opening: 1, closing: 0, pending: 0 })
      yield* elapse(2000)
      assert.deepStrictEqual(yield* map.keys, [])
      assert.deepStrictEqual(sources.of("a").closed, [1, 2])
      // A sweep's look.
      const swept = yield* make({
        idleTimeToLive: "1 minute",
        sweep: "59 seconds",
        checkTimeout: "1 minute",
        recycle: RecyclePolicy.check(() => Effect.as(Effect.sleep(5000), false))
      })
      yield* use(swept.map, "a")
      yield* elapse(minute)
      assert.strictEqual((yield* counts(swept.map, "a"))!.used, 1)
      yield* elapse(5000)
      assert.deepStrictEqual(yield* swept.map.keys, [])
      // A reset.
      const reset = yield* make({
        idleTimeToLive: 1000,
        resetTimeout: "1 minute",
        reset: () => Effect.sleep(3000)
      })
      yield* use(reset.map, "a")
      yield* elapse(2999)
      assert.strictEqual((yield* counts(reset.map, "a"))!.used, 1)
      yield* elapse(1)
      assert.deepStrictEqual(yield* reset.map.keys, [])
    }))

  it.effect("a borrower that comes while the key goes has its items, and min is kept anew", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ min: 2, max: 2, idleTimeToLive: "1 minute", closeTimeout: "1 minute" })
      sources.of("a").closesOtherwise = { slow: 1000 }
      yield* use(map, "a")
      yield* elapse(minute)
      assert.strictEqual((yield* counts(map, "a"))!.closing, 2)
      const borrower = yield* borrow(map, "a")
      yield* elapse(1000)
      assert.deepStrictEqual(borrower.item, { id: 3 })
      yield* borrower.letGo
      assert.strictEqual((yield* counts(map, "a"))!.idle, 2)
      yield* elapse(minute - 1)
      assert.strictEqual((yield* counts(map, "a"))!.idle, 2)
      yield* elapse(1)
      assert.strictEqual((yield* counts(map, "a"))!.closing, 2)
      yield* elapse(1000)
      assert.deepStrictEqual(yield* map.keys, [])
    }))

  it.effect("may differ by key, and Infinity keeps a key for ever", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ idleTimeToLive: (key) => key === "long" ? "Infinity" : key === "b" ? 5000 : 1000 })
      for (const key of ["a", "b", "long"]) yield* use(map, key)
      yield* elapse(1000)
      assert.deepStrictEqual(yield* map.keys, ["b", "long"])
      yield* elapse("100 days")
      assert.deepStrictEqual(yield* map.keys, ["long"])
    }))

  it.effect("asks one timer for all keys", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      const source = new Source()
      const map = yield* watch.around(
        QueuePoolMap.make({ acquire: (_: number) => source.acquire, idleTimeToLive: "1 minute", maxTotal: 1000 })
      )
      const [fibers, timers] = [watch.fibers, watch.timers]
      for (let key = 0; key < 500; key++) yield* map.use(key, Effect.succeed)
      yield* settle
      assert.deepStrictEqual([watch.fibers - fibers, watch.timers - timers], [1, 1])
      yield* elapse(minute)
      assert.deepStrictEqual([watch.fibers - fibers, watch.timers - timers], [0, 0])
      assert.deepStrictEqual([(yield* map.stats).keys, source.live], [0, 0])
    }))
})
