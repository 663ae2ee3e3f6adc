/**
 * What generic-connection-pool is tested for, and the defects that were found in it, each
 * by its number: T a test case, D a defect, F a defect that it has mended itself. Where
 * ours decides otherwise the name says "ours". Its managers stand with the sockets.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Scope } from "effect"
import { QueuePoolMap, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { Heap } from "../src/internal/heap.ts"
import { elapse, ending, endings, Watch } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"
import {
  books,
  borrow,
  counts,
  make as makeMap,
  type Options,
  record,
  size,
  sizeOf,
  type Things,
  use
} from "./kit/keyed.ts"
import { bent, BentClock, logged } from "./kit/observe.ts"

const times = (count: number) => Array.from({ length: count }, (_, i) => i)

// Its own defaults, in our words. The floor `min_idle` is `min`; what is idle is kept by a
// rule, and what is not to be kept at all by `maxIdle`.
const gcp = {
  order: "hybrid",
  warm: "lazy",
  min: 1,
  max: 10,
  maxTotal: 100,
  borrowTimeout: "Infinity",
  idleTimeToLive: "Infinity",
  recycle: [RecyclePolicy.idle("60 seconds"), RecyclePolicy.age("1 hour")]
} as const

const make = (options: Partial<Options> = {}) => makeMap({ ...gcp, ...options })

/** A map in a scope of its own. */
const scoped = Effect.fnUntraced(function*(options: Partial<Options> = {}) {
  const scope = yield* Scope.make()
  const made = yield* Scope.provide(make(options), scope)
  return { ...made, close: Effect.forkChild(Scope.close(scope, Exit.void)) }
})

/** Takes by hand, to be put back by hand. */
const take = Effect.fnUntraced(function*(map: Things, key: string) {
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
  const thing = yield* Scope.provide(map.get(key), scope)
  return { thing, put: Effect.andThen(Scope.close(scope, Exit.void), settle) }
})

const noneIdle = { min: 0, maxIdle: 0 }

// "Collector on and off": with a cadence of sweeps besides the deadlines, and without.
const collectors: ReadonlyArray<readonly [string, Partial<Options>]> = [
  ["with a sweep", { sweep: "1 second" }],
  ["without", {}]
]

describe("generic-connection-pool", () => {
  it.effect("G-T1: its settings can be read, and an unused map is of size 0 when it is closed", () =>
    Effect.gen(function*() {
      const { close, map } = yield* scoped({ max: 7, min: 2, maxTotal: 9 })
      assert.strictEqual((yield* map.stats).maxTotal, 9)
      const { max, min } = yield* Effect.scoped(Effect.flatMap(map.pool("a"), (pool) => pool.stats))
      assert.deepStrictEqual([min, max], [2, 7])
      yield* close
      yield* settle
      assert.strictEqual(yield* size(map), 0)
    }))

  it.effect("G-T2: nested scopes on three keys: size 1, 2, 3, and closed from the inside out", () =>
    Effect.gen(function*() {
      const { map } = yield* make(noneIdle)
      const recorded = yield* record(map)
      const sizes: Array<number> = []
      const note = Effect.andThen(Effect.map(size(map), (now) => void sizes.push(now)), settle)
      yield* map.use(
        "a",
        () => Effect.andThen(note, map.use("b", () => Effect.andThen(note, map.use("c", () => note))))
      )
      yield* settle
      assert.deepStrictEqual([sizes, yield* size(map)], [[1, 2, 3], 0])
      const closed = recorded.told.filter((line) => line.includes("Closed 1"))
      assert.deepStrictEqual(closed, ["c Closed 1", "b Closed 1", "a Closed 1"])
    }))

  for (const count of [1, 2, 3]) {
    it.effect(`G-T3: ${count} that are always kept are lent in turn, twice over`, () =>
      Effect.gen(function*() {
        const { map } = yield* make({ min: count })
        const held = yield* Effect.forEach(times(count), () => take(map, "a"))
        for (const { put } of held) yield* put
        const turns = yield* Effect.forEach(times(2 * count), () => use(map, "a"))
        const order = held.map(({ thing }) => thing.id)
        assert.deepStrictEqual(turns, [...order, ...order])
      }))
  }

  it.effect("the last to come back are kept in turn, the others lent last come first: 5 out, floor 2", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ min: 2 })
      const held = yield* Effect.forEach(times(5), () => take(map, "a"))
      for (const { put } of held) yield* put
      const again = yield* Effect.forEach(times(5), () => take(map, "a"))
      assert.deepStrictEqual(again.map(({ thing }) => held.findIndex((one) => one.thing === thing)), [3, 4, 2, 1, 0])
    }))

  it.effect("G-T4: onBorrow and onReturn are called once each, with that item", () =>
    Effect.gen(function*() {
      const calls: Array<string> = []
      const { map } = yield* make({
        onBorrow: ({ id }) => Effect.sync(() => void calls.push(`borrow ${id}`)),
        onReturn: ({ id }) => Effect.sync(() => void calls.push(`return ${id}`))
      })
      yield* map.use("a", ({ id }) => Effect.sync(() => void calls.push(`use ${id}`)))
      yield* settle
      assert.deepStrictEqual(calls, ["borrow 1", "use 1", "return 1"])
    }))

  it.effect("G-T5: ten who contend for one item all succeed in turn, in as long as that takes", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 1 })
      const fibers = yield* Effect.forEach(times(10), () => Effect.forkChild(map.use("a", () => Effect.sleep(10))))
      for (const served of times(11)) {
        yield* settle
        assert.isAtMost(yield* sizeOf(map, "a"), 1)
        assert.strictEqual(fibers.filter((fiber) => ending(fiber.pollUnsafe()) === "served").length, served)
        yield* elapse(10)
      }
      assert.strictEqual(sources.of("a").peakLive, 1)
    }))

  it.effect("G-T6: max: the second waits out its time; after the return nothing is left, and all works again", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ ...noneIdle, max: 1, borrowTimeout: 100 })
      const { put } = yield* take(map, "a")
      const late = yield* Effect.forkChild(use(map, "a"))
      yield* elapse(100)
      assert.strictEqual(ending(late.pollUnsafe()), "BorrowTimeout")
      yield* put
      assert.deepStrictEqual([yield* size(map), yield* map.keys], [0, []])
      assert.strictEqual(yield* use(map, "a"), 2)
    }))

  it.effect("G-T7: total: another key waits out its time while it is full; after the return it is served", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ maxTotal: 1, borrowTimeout: 100 })
      const { put } = yield* take(map, "a")
      const late = yield* Effect.forkChild(use(map, "b"))
      yield* elapse(100)
      assert.strictEqual(ending(late.pollUnsafe()), "BorrowTimeout")
      yield* put
      assert.strictEqual(yield* use(map, "b"), 1)
    }))

  for (const [how, options] of collectors) {
    it.effect(`G-T8: twenty of three keys that are not kept are closed in the order of their return, ${how}`, () =>
      Effect.gen(function*() {
        const { map } = yield* make({ ...noneIdle, max: 20, ...options })
        const recorded = yield* record(map)
        const held = yield* Effect.forEach(
          times(20),
          (i) => Effect.map(take(map, "abc"[i % 3]!), (taken) => ({ ...taken, key: "abc"[i % 3]! }))
        )
        const order = held.toSorted((one, other) => one.thing.id - other.thing.id)
        for (const { put } of order) yield* put
        yield* settle
        const closed = recorded.told.filter((line) => / Closed /.test(line))
        assert.deepStrictEqual(closed, order.map(({ key, thing }) => `${key} Closed ${thing.id}`))
        assert.strictEqual(yield* size(map), 0)
      }))

    it.effect(`G-T9: a floor of 1: of 3, 2 and 1 that come back the earlier ones go, one each stays, ${how}`, () =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ min: 1, maxIdle: 1, ...options })
        for (const [key, count] of [["a", 3], ["b", 2], ["c", 1]] as const) {
          const held = yield* Effect.forEach(times(count), () => take(map, key))
          for (const { put } of held) yield* put
          assert.deepStrictEqual(sources.of(key).closed, held.slice(0, -1).map(({ thing }) => thing.id))
          assert.strictEqual(yield* sizeOf(map, key), 1)
        }
      }))

    it.effect(`G-T10: an idle time: of two of each key one is left, and what is used anew, ${how}`, () =>
      Effect.gen(function*() {
        const { map } = yield* make({ recycle: RecyclePolicy.idle("10 seconds"), ...options })
        for (const key of ["a", "b"]) {
          const held = yield* Effect.forEach(times(2), () => take(map, key))
          for (const { put } of held) yield* put
        }
        assert.strictEqual(yield* size(map), 4)
        yield* elapse("20 seconds")
        assert.deepStrictEqual([yield* sizeOf(map, "a"), yield* sizeOf(map, "b")], [1, 1])
        yield* use(map, "c")
        assert.strictEqual(yield* size(map), 3)
      }))

    it.effect(`G-T12: a life time: after it all old ones go, the floor too, ${how}`, () =>
      Effect.gen(function*() {
        // Theirs stays below the floor until somebody asks; so does ours where there is none.
        const { map, sources } = yield* make({ min: 0, recycle: RecyclePolicy.age("10 seconds"), ...options })
        for (const key of ["a", "b"]) yield* use(map, key)
        yield* elapse("9 seconds")
        yield* use(map, "c")
        yield* elapse("2 seconds")
        assert.deepStrictEqual(yield* map.keys, ["c"])
        assert.deepStrictEqual([sources.of("a").closed, sources.of("b").closed], [[1], [1]])
      }))

    it.effect(`G-T12 ours: what a life time takes of the floor is opened anew, ${how}`, () =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ recycle: RecyclePolicy.age("10 seconds"), ...options })
        yield* use(map, "a")
        yield* elapse("11 seconds")
        assert.deepStrictEqual([sources.of("a").closed, yield* sizeOf(map, "a")], [[1], 1])
      }))
  }

  it.effect("G-T11: full of idle items of one key, others are served at once", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ maxTotal: 3 })
      const held = yield* Effect.forEach(times(3), () => take(map, "a"))
      for (const { put } of held) yield* put
      assert.deepStrictEqual([yield* use(map, "b"), yield* use(map, "c")], [1, 1])
      assert.strictEqual(yield* size(map), 3)
    }))

  it.effect("G-T13: one that is dead when it is asked for is replaced, and told of", () =>
    Effect.gen(function*() {
      const released: Array<number> = []
      const { map } = yield* make({
        checkAfter: 0,
        check: ({ id }) => id === 1 ? Effect.fail({ _tag: "Dead" }) : Effect.void,
        onRelease: ({ id }) => Effect.sync(() => void released.push(id))
      })
      const recorded = yield* record(map)
      yield* use(map, "a")
      assert.strictEqual(yield* use(map, "a"), 2)
      yield* settle
      assert.isTrue(recorded.told.includes("a CheckFailed 1"))
      assert.deepStrictEqual([released, yield* sizeOf(map, "a")], [[1], 1])
    }))

  it.effect("G-T14: a close with only idle items leaves nothing", () =>
    Effect.gen(function*() {
      const { close, map, sources } = yield* scoped()
      for (const key of ["a", "b", "c"]) yield* use(map, key)
      yield* close
      yield* settle
      assert.deepStrictEqual([yield* size(map), sources.live], [0, 0])
    }))

  it.effect("G-T15: a close waits for fifty who hold items of six keys, and refuses who comes later", () =>
    Effect.gen(function*() {
      const { close, map, sources } = yield* scoped()
      const fibers = yield* Effect.forEach(
        times(50),
        (i) => Effect.forkChild(map.use(`key ${i % 6}`, () => Effect.sleep(100 * (1 + i))))
      )
      yield* settle
      const closing = yield* close
      yield* elapse(4999)
      assert.strictEqual(ending(closing.pollUnsafe()), "waits")
      assert.strictEqual(ending(yield* Effect.exit(use(map, "key 1"))), "Closed")
      yield* elapse(1)
      assert.isTrue(fibers.every((fiber) => ending(fiber.pollUnsafe()) === "served"))
      assert.strictEqual(ending(closing.pollUnsafe()), "served")
      assert.deepStrictEqual([yield* size(map), sources.live], [0, 0])
    }))

  it.effect("G-T16: an item is not closed under its holder who returns it in time", () =>
    Effect.gen(function*() {
      const { close, map, sources } = yield* scoped({ drainTimeout: 1000 })
      const holder = yield* borrow(map, "a")
      yield* close
      yield* elapse(999)
      assert.deepStrictEqual(sources.of("a").closed, [])
      yield* holder.letGo
      assert.deepStrictEqual([sources.of("a").closed, (yield* map.stats).takenBack], [[1], 0])
    }))

  it.effect("G-T17: an acquire that fails is told, and leaves no size, of the map or the key", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      sources.of("a").opens.push("fail")
      assert.strictEqual(ending(yield* Effect.exit(use(map, "a"))), "Refused")
      yield* settle
      assert.deepStrictEqual([yield* size(map), yield* sizeOf(map, "a"), yield* map.keys], [0, 0, []])
    }))

  const broken = { _tag: "Broken" } as const

  it.effect("G-T18 ours: an onReturn that fails costs the item, and tells the events, not who returns", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ min: 0, onReturn: () => Effect.fail(broken) })
      const recorded = yield* record(map)
      assert.strictEqual(yield* use(map, "a"), 1)
      yield* settle
      assert.isTrue(recorded.told.includes("a ResetFailed 1"))
      assert.strictEqual(yield* size(map), 0)
    }))

  it.effect("G-T19 ours: a check that fails in whatever way costs the item, and the borrower gets another", () =>
    Effect.gen(function*() {
      for (const outcome of [Effect.fail(broken), Effect.die("broken")]) {
        let checks = 0
        const { map, sources } = yield* make({ checkAfter: 0, check: () => checks++ === 0 ? outcome : Effect.void })
        yield* use(map, "a")
        assert.strictEqual(yield* use(map, "a"), 2)
        yield* settle
        assert.deepStrictEqual([sources.of("a").closed, yield* size(map)], [[1], 1])
      }
    }))

  it.effect("G-T20 ours: a hook at an item's end that fails is told to the events, and the item is gone", () =>
    logged(() =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ ...noneIdle, onRelease: () => Effect.fail(broken) })
        const recorded = yield* record(map)
        assert.strictEqual(yield* use(map, "a"), 1)
        yield* settle
        assert.isTrue(recorded.told.includes("a CloseFailed 1"))
        assert.deepStrictEqual([sources.of("a").closed, yield* size(map), yield* map.keys], [[1], 0, []])
      })
    ))

  it.effect("G-T21 ours: an onBorrow that fails is told to the borrower, and costs the item", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ min: 0, onBorrow: () => Effect.fail(broken) })
      assert.strictEqual(ending(yield* Effect.exit(use(map, "a"))), "HookFailed")
      yield* settle
      assert.deepStrictEqual([sources.of("a").closed, yield* size(map)], [[1], 0])
    }))

  it.effect("G-T22: a release that fails costs nobody anything", () =>
    logged(() =>
      Effect.gen(function*() {
        const { map, sources } = yield* make(noneIdle)
        sources.of("a").closes.push("die")
        assert.strictEqual(yield* use(map, "a"), 1)
        yield* settle
        assert.strictEqual(yield* size(map), 0)
        assert.strictEqual(yield* use(map, "a"), 2)
      })
    ))

  it.effect("G-T23: a close has a time of grace, and then takes what is held", () =>
    logged(() =>
      Effect.gen(function*() {
        const { close, map, sources } = yield* scoped({ drainTimeout: 1000 })
        const { put } = yield* take(map, "a")
        const closing = yield* close
        yield* elapse(999)
        assert.deepStrictEqual(sources.of("a").closed, [])
        yield* elapse(1)
        assert.deepStrictEqual([sources.of("a").closed, ending(closing.pollUnsafe())], [[1], "served"])
        assert.strictEqual((yield* map.stats).takenBack, 1)
        yield* put
        assert.deepStrictEqual(sources.of("a").closed, [1])
      })
    ))
})

describe("its shared and exclusive lock, in our sharing", () => {
  it.effect("many share at once; who is alone excludes all, and all exclude who would be alone", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ max: 1, concurrency: 5 })
      const shared = yield* Effect.forEach(times(5), () => borrow(map, "a"))
      assert.isTrue(shared.every(({ item }) => item?.id === 1))
      const alone = yield* Effect.forkChild(Effect.scoped(Effect.andThen(map.getExclusive("a"), Effect.sleep(10))))
      const another = yield* Effect.forkChild(Effect.scoped(Effect.andThen(map.getExclusive("a"), Effect.sleep(10))))
      yield* settle
      const late = yield* borrow(map, "a")
      for (const { letGo } of shared) {
        assert.strictEqual((yield* counts(map, "a"))!.pending, 3)
        yield* letGo
      }
      yield* elapse(9)
      assert.deepStrictEqual([(yield* counts(map, "a"))!.pending, late.item], [2, undefined])
      yield* elapse(1)
      assert.deepStrictEqual([ending(alone.pollUnsafe()), late.item], ["served", undefined])
      yield* elapse(10)
      assert.deepStrictEqual([ending(another.pollUnsafe()), late.item?.id], ["served", 1])
      yield* late.letGo
    }))

  it.effect("who will not wait fails cleanly, whoever has the item", () =>
    Effect.gen(function*() {
      for (const holds of ["get", "getExclusive"] as const) {
        const { map } = yield* make({ max: 1, concurrency: 2, borrowTimeout: 100 })
        yield* Effect.forkChild(Effect.scoped(Effect.andThen(map[holds]("a"), Effect.sleep(1000))))
        yield* settle
        const found = yield* Effect.scoped(map.getIfAvailable("a"))
        assert.strictEqual(found._tag, holds === "get" ? "Some" : "None")
        const late = yield* Effect.forkChild(map.useExclusive("a", Effect.succeed))
        yield* elapse(100)
        assert.strictEqual(ending(late.pollUnsafe()), "BorrowTimeout")
        assert.strictEqual((yield* counts(map, "a"))!.pending, 0)
        yield* elapse(1000)
        assert.deepStrictEqual(yield* map.useExclusive("a", Effect.succeed), { id: 1 })
      }
    }))
})

describe("its heap of deadlines, in ours", () => {
  const node = (dueAt: number) => ({ dueAt, slot: -1 })
  const drained = (heap: Heap<{ dueAt: number; slot: number }>) => {
    const out: Array<number> = []
    for (let { top } = heap; top !== undefined; top = heap.top) {
      heap.remove(top)
      out.push(top.dueAt)
    }
    return out
  }
  const shuffled = [7, 12, 3, 0, 9, 4, 11, 1, 8, 5, 10, 2, 6]

  it("thirteen that come in any order go in theirs, and each knows whether it is in", () => {
    const heap = new Heap<{ dueAt: number; slot: number }>()
    const nodes = shuffled.map(node)
    for (const each of nodes) heap.push(each)
    assert.isTrue(nodes.every(({ slot }) => slot >= 0))
    assert.deepStrictEqual(drained(heap), times(13))
    assert.isTrue(nodes.every(({ slot }) => slot === -1))
    assert.deepStrictEqual([heap.size, heap.top], [0, undefined])
  })

  it("each may be removed from the middle, or moved, or removed twice", () => {
    for (const gone of times(13)) {
      const heap = new Heap<{ dueAt: number; slot: number }>()
      const nodes = shuffled.map(node)
      for (const each of nodes) heap.push(each)
      const one = nodes.find(({ dueAt }) => dueAt === gone)!
      heap.remove(one)
      heap.remove(one)
      assert.strictEqual(heap.size, 12)
      const other = nodes.find(({ dueAt }) => dueAt === (gone + 5) % 13)!
      heap.remove(other)
      other.dueAt = 20
      heap.push(other)
      assert.deepStrictEqual(drained(heap), [...times(13).filter((n) => n !== gone && n !== (gone + 5) % 13), 20])
    }
  })
})

describe("the defects of generic-connection-pool", () => {
  it.effect("GCP-D1: a waiter of another key is served when an item becomes idle", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ maxTotal: 1 })
      const holder = yield* borrow(map, "a")
      const waiter = yield* borrow(map, "b")
      yield* holder.letGo
      assert.deepStrictEqual(waiter.item, { id: 1 })
      yield* waiter.letGo
    }))

  it.effect("GCP-D2: what is found dead is closed", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({
        checkAfter: 0,
        check: ({ id }) => id < 6 ? Effect.fail("dead") : Effect.void
      })
      for (const _ of times(6)) yield* use(map, "a")
      yield* settle
      assert.deepStrictEqual([sources.of("a").closed, sources.live], [[1, 2, 3, 4, 5], 1])
    }))

  it.effect("GCP-D3: a cancel during the open, the check or the hook loses nothing", () =>
    Effect.gen(function*() {
      const slow = () => Effect.sleep(100)
      for (const options of [{}, { checkAfter: 0, check: slow }, { onBorrow: slow }]) {
        const { map, sources } = yield* make({ max: 1, min: 0, ...options })
        sources.of("a").opens.push({ slow: 100 })
        for (const _ of times(3)) {
          const borrower = yield* borrow(map, "a")
          yield* elapse(50)
          borrower.fiber.interruptUnsafe()
          yield* elapse(200)
        }
        assert.strictEqual((yield* books(sources, map)).used, 0)
        const last = yield* borrow(map, "a")
        yield* elapse(100)
        assert.isDefined(last.item)
        yield* last.letGo
      }
    }))

  it.effect("GCP-D4: a close with a held item does not spin, ends at its limit, and takes what is held", () =>
    logged(() =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const clock = yield* BentClock.make
        const { map, sources } = yield* bent(Scope.provide(make({ drainTimeout: 500 }), scope), clock)
        yield* take(map, "a")
        const before = clock.sleeps.length
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* elapse(499)
        assert.strictEqual(ending(closing.pollUnsafe()), "waits")
        yield* elapse(1)
        assert.strictEqual(ending(closing.pollUnsafe()), "served")
        assert.deepStrictEqual(sources.of("a").closed, [1])
        assert.isAtMost(clock.sleeps.length - before, 3)
      })
    ))

  it.effect("GCP-D5: a return while the map closes, or after, is no error; who waited gets nothing any more", () =>
    logged(() =>
      Effect.gen(function*() {
        for (const after of [false, true]) {
          const { close, map, sources } = yield* scoped({ max: 1, drainTimeout: 1000 })
          const { put } = yield* take(map, "a")
          const waiters = yield* Effect.forEach(times(10), () => borrow(map, "a"))
          const closing = yield* close
          yield* settle
          if (after) yield* elapse(1000)
          yield* put
          assert.deepStrictEqual(endings(waiters), times(10).map(() => "Closed"))
          assert.strictEqual(ending(closing.pollUnsafe()), "served")
          assert.deepStrictEqual([sources.opened, sources.of("a").closed], [1, [1]])
        }
      })
    ))

  it.effect("GCP-D6: nothing is returned twice, or to a wrong key: there is nothing to name", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      const { put, thing } = yield* take(map, "a")
      yield* map.invalidate("b", thing)
      yield* map.invalidate("a", { id: 1 })
      yield* put
      yield* put
      assert.strictEqual((yield* books(sources, map)).idle, 1)
    }))

  it.effect("GCP-D7: a hundred keys that fail leave no entry", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      for (const i of times(100)) {
        sources.of(`${i}`).opens.push("fail")
        yield* Effect.exit(use(map, `${i}`))
      }
      yield* settle
      assert.deepStrictEqual([yield* map.keys, (yield* map.stats).openFailures], [[], 100])
    }))

  it.effect("GCP-D8: without traffic items go in time, and none is lent past its time", () =>
    Effect.gen(function*() {
      const clock = yield* BentClock.make
      const { map, sources } = yield* bent(make({ min: 0, recycle: RecyclePolicy.age("10 seconds") }), clock)
      yield* use(map, "a")
      yield* elapse("11 seconds")
      assert.deepStrictEqual([sources.of("a").closed, yield* map.keys], [[1], []])
      yield* use(map, "a")
      // No timer has run.
      clock.stalled = 11_000
      assert.strictEqual(yield* use(map, "a"), 3)
    }))

  it.effect("GCP-D9: a check that hangs costs the item; an onBorrow that hangs is within the borrower's time", () =>
    Effect.gen(function*() {
      const { map } = yield* make({
        checkAfter: 0,
        checkTimeout: 100,
        check: ({ id }) => id === 1 ? Effect.never : Effect.void
      })
      yield* use(map, "a")
      const borrower = yield* borrow(map, "a")
      yield* elapse(100)
      assert.deepStrictEqual(borrower.item, { id: 2 })
      yield* borrower.letGo
      const hooked = yield* make({ borrowTimeout: 100, onBorrow: () => Effect.never })
      const late = yield* borrow(hooked.map, "a")
      yield* elapse(100)
      assert.strictEqual(endings([late])[0], "HookFailed")
    }))

  it.effect("GCP-D10: a release that hangs holds nobody up, of its key or another", () =>
    logged(() =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ min: 0, recycle: RecyclePolicy.idle("1 second") })
        for (const key of ["a", "b", "c"]) {
          sources.of(key).closes.push(key === "a" ? "hang" : "ok")
          yield* use(map, key)
        }
        yield* elapse(1001)
        assert.deepStrictEqual([sources.of("b").closed, sources.of("c").closed], [[1], [1]])
        assert.strictEqual(yield* use(map, "a"), 2)
        yield* elapse("5 seconds")
        assert.strictEqual((yield* map.stats).abandoned, 1)
      })
    ))

  it.effect("GCP-D11: the scope of a map closes it: no fiber and no timer keeps a process", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      yield* Effect.scoped(Effect.gen(function*() {
        const { map } = yield* watch.around(make({ sweep: "1 second", idleTimeToLive: "1 minute" }))
        yield* use(map, "a")
        assert.isAbove(watch.timers, 0)
      }))
      yield* settle
      assert.deepStrictEqual([watch.fibers, watch.timers], [0, 0])
    }))

  it.effect("GCP-D12: what is alive is kept: five uses open one item", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ checkAfter: 0, check: () => Effect.void })
      for (const _ of times(5)) yield* use(map, "a")
      assert.deepStrictEqual([sources.opened, sources.live], [1, 1])
    }))

  // GCP-D13, the aliveness of sockets on Windows, stands with the sockets.

  it.effect("GCP-D14: a borrower pays for no close of another's item beyond its own time, nor does who returns", () =>
    logged(() =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ min: 0, maxTotal: 1, borrowTimeout: 1000, closeTimeout: 60_000 })
        sources.of("a").closes.push("hang")
        yield* use(map, "a")
        const late = yield* borrow(map, "b")
        yield* elapse(1000)
        assert.deepStrictEqual(endings([late]), ["BorrowTimeout"])
        const slow = yield* make({ ...noneIdle, closeTimeout: 60_000 })
        slow.sources.of("a").closesOtherwise = { slow: 1000 }
        const before = yield* Clock.currentTimeMillis
        for (const _ of times(10)) yield* use(slow.map, "a")
        assert.strictEqual(yield* Clock.currentTimeMillis, before)
        yield* elapse(60_000)
      })
    ))

  it.effect("GCP-D15: a time of exactly zero is no time, not for ever", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 1, borrowTimeout: 0, warm: "background" })
      yield* Effect.scoped(Effect.andThen(map.pool("a"), settle))
      const holder = yield* borrow(map, "a")
      assert.isDefined(holder.item)
      assert.strictEqual(ending(yield* Effect.exit(use(map, "a"))), "BorrowTimeout")
      yield* holder.letGo
      yield* books(sources, map)
    }))

  it.effect("GCP-D16: jitter, uses, back-off, waiters, and settings and statistics of each key", () =>
    Effect.gen(function*() {
      const { map } = yield* make({
        recycle: [RecyclePolicy.age("1 hour", { jitter: 0.1 }), RecyclePolicy.uses(2)],
        forKey: (key) => key === "small" ? { max: 1, maxWaiters: 1 } : undefined
      })
      const borrowers = yield* Effect.forEach(times(3), () => borrow(map, "small"))
      assert.deepStrictEqual(endings(borrowers), ["waits", "waits", "TooManyWaiters"])
      yield* elapse(100)
      yield* borrowers[0]!.letGo
      yield* borrowers[1]!.letGo
      const { recycled, waited } = yield* map.stats
      assert.deepStrictEqual([recycled, waited], [{ uses: 1 }, 3])
    }))

  it.effect("GCP-F1: an item that was returned is idle once, and lent again", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 2 })
      for (const _ of times(3)) yield* use(map, "a")
      const { idle, opened } = yield* books(sources, map)
      assert.deepStrictEqual([idle, opened], [1, 1])
    }))

  it.effect("GCP-F2: who shared an item has left it before another is alone with it", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ max: 1, concurrency: 2 })
      const inside = new Set<number>()
      const alone = map.useExclusive("a", () => Effect.sync(() => assert.strictEqual(inside.size, 0)))
      const shares = (i: number) =>
        map.use("a", () =>
          Effect.sync(() => inside.add(i)).pipe(
            Effect.andThen(Effect.yieldNow),
            Effect.ensuring(Effect.sync(() => inside.delete(i)))
          ))
      yield* Effect.forEach(times(20), (i) => i % 3 === 0 ? alone : shares(i), { concurrency: 10 })
    }))

  it.effect("GCP-F3: what takes longer than the time that is left ends with it, in the open and in the check", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 1, borrowTimeout: 100, checkAfter: 0, check: () => Effect.sleep(60) })
      sources.of("a").opens.push({ slow: 250 })
      const first = yield* borrow(map, "a")
      yield* elapse(100)
      const second = yield* borrow(map, "a")
      yield* elapse(100)
      assert.deepStrictEqual(endings([first, second]), ["BorrowTimeout", "BorrowTimeout"])
      const third = yield* borrow(map, "a")
      yield* elapse(50)
      assert.deepStrictEqual(third.item, { id: 1 })
      yield* third.letGo
    }))

  it.effect("GCP-F4: a release that fails half-way is run to its end", () =>
    logged(() =>
      Effect.gen(function*() {
        const ended: Array<string> = []
        const map = yield* QueuePoolMap.make({
          acquire: (key: string) =>
            Effect.gen(function*() {
              yield* Effect.addFinalizer(() => Effect.sync(() => void ended.push(`closed ${key}`)))
              yield* Effect.addFinalizer(() => Effect.die("shutdown"))
              return key
            }),
          ...noneIdle
        })
        yield* map.use("a", Effect.succeed)
        yield* settle
        assert.deepStrictEqual([ended, yield* map.keys], [["closed a"], []])
      })
    ))

  it.effect("GCP-F5: an acquire that fails half-way leaves nothing open", () =>
    Effect.gen(function*() {
      const source = new Source()
      const map = yield* QueuePoolMap.make({
        acquire: (_: string) => Effect.andThen(source.acquire, Effect.fail("handshake"))
      })
      for (const _ of times(3)) yield* Effect.exit(map.use("a", Effect.succeed))
      yield* settle
      assert.deepStrictEqual([source.opened.length, source.live], [3, 0])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* map.keys, [])
    }))
})
