import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { behind } from "../src/internal/registered.ts"
import { elapse, ending } from "./kit/books.ts"
import { settle } from "./kit/items.ts"
import { borrow, make, record, use } from "./kit/keyed.ts"

describe("the events of a map", () => {
  it.effect("tell of keys that come and go, around all that their pools do", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ recycle: ({ uses }) => uses >= 1, name: "hosts" })
      const recorded = yield* record(map)
      yield* elapse(5)
      yield* use(map, "a")
      yield* settle
      assert.deepStrictEqual(recorded.told, [
        "a KeyAdded",
        "a Opening 1",
        "a Opened 1",
        "a Borrowed 1",
        "a Returned 1",
        "a Recycled 1 when",
        "a Closed 1",
        "a PoolClosing",
        "a PoolClosed",
        "a KeyRemoved"
      ])
      assert.isTrue(recorded.events.every(({ at, key, pool }) => at >= 5 && key === "a" && pool === "hosts[a]"))
    }))

  it.effect("are of all keys, in the order of what happened", () =>
    Effect.gen(function*() {
      const { map } = yield* make()
      const recorded = yield* record(map)
      yield* use(map, "a")
      yield* use(map, "b")
      yield* use(map, "a")
      yield* settle
      assert.deepStrictEqual(recorded.told.filter((line) => /Borrowed|Key/.test(line)), [
        "a KeyAdded",
        "a Borrowed 1",
        "b KeyAdded",
        "b Borrowed 1",
        "a Borrowed 1"
      ])
      yield* map.clear()
      yield* settle
      assert.deepStrictEqual(recorded.told.slice(-8), [
        "a Closed 1",
        "b Closed 1",
        "a PoolClosing",
        "a PoolClosed",
        "a KeyRemoved",
        "b PoolClosing",
        "b PoolClosed",
        "b KeyRemoved"
      ])
    }))

  it.effect("are heard from when one subscribes, also of keys that were there before", () =>
    Effect.gen(function*() {
      const { map } = yield* make()
      yield* use(map, "a")
      const recorded = yield* record(map)
      yield* use(map, "a")
      yield* use(map, "b")
      yield* settle
      assert.deepStrictEqual(recorded.told.filter((line) => /Borrowed|Key/.test(line)), [
        "a Borrowed 1",
        "b KeyAdded",
        "b Borrowed 1"
      ])
    }))

  it.effect("every subscriber hears all, for as long as it stays; another may come when the last has left", () =>
    Effect.gen(function*() {
      const { map } = yield* make()
      const first = yield* record(map)
      const second = yield* record(map)
      yield* use(map, "a")
      yield* settle
      assert.deepStrictEqual(first.told, second.told)
      yield* Fiber.interrupt(first.fiber)
      yield* use(map, "a")
      yield* settle
      assert.strictEqual(second.told.length, first.told.length + 2)
      yield* Fiber.interrupt(second.fiber)
      const { length } = second.told
      yield* use(map, "a")
      yield* use(map, "b")
      yield* settle
      assert.strictEqual(second.told.length, length)
      // Nobody listens: the pools make no events.
      for (const key of ["a", "b"]) {
        const { state } = behind(yield* Effect.scoped(map.pool(key))) as {
          readonly state: { readonly listening: boolean }
        }
        assert.isFalse(state.listening)
      }
      const third = yield* record(map)
      yield* use(map, "a")
      yield* use(map, "b")
      yield* settle
      assert.deepStrictEqual(third.told, ["a Borrowed 1", "a Returned 1", "b Borrowed 1", "b Returned 1"])
    }))

  it.effect("do not disturb those of a key's own pool", () =>
    Effect.gen(function*() {
      const { map } = yield* make()
      const pool = yield* map.pool("a")
      const own: Array<string> = []
      yield* Effect.forkScoped(Stream.runForEach(pool.events, ({ _tag }) => Effect.sync(() => void own.push(_tag))))
      yield* settle
      const recorded = yield* record(map)
      yield* use(map, "a")
      yield* settle
      yield* Fiber.interrupt(recorded.fiber)
      yield* use(map, "a")
      yield* settle
      assert.deepStrictEqual(own, ["Opening", "Opened", "Borrowed", "Returned", "Borrowed", "Returned"])
      assert.deepStrictEqual(recorded.told, ["a Opening 1", "a Opened 1", "a Borrowed 1", "a Returned 1"])
    }))

  it.effect("a subscriber that is slow loses the oldest, and holds nobody up", () =>
    Effect.gen(function*() {
      const { map } = yield* make()
      let heard = 0
      const go = yield* Effect.forkScoped(
        Stream.runForEach(map.events, () => heard++ === 0 ? Effect.sleep(1000) : Effect.void)
      )
      yield* settle
      for (let i = 0; i < 10_000; i++) yield* use(map, "a")
      assert.strictEqual(heard, 1)
      yield* elapse(1000)
      yield* Effect.repeat(settle, { until: () => heard > 16_000, times: 1000 })
      yield* settle
      // What it had taken up, and what was buffered.
      assert.isAtLeast(heard, 16_384)
      assert.isAtMost(heard, 16_390)
      yield* Fiber.interrupt(go)
    }))

  it.effect("of a key end with its KeyRemoved, whatever its pool is asked then by one who holds it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { map } = yield* Scope.provide(make(), scope)
      const recorded = yield* record(map)
      const pool = yield* map.pool("a")
      const borrower = yield* borrow(map, "b")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.strictEqual(ending(yield* Effect.exit(pool.use(() => Effect.void))), "Closed")
      yield* borrower.letGo
      yield* Fiber.join(closing)
      assert.strictEqual(recorded.told.findLast((event) => event.startsWith("a ")), "a KeyRemoved")
    }))

  it.effect("end with the map, after the last of them, and at once of a map that is closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { map } = yield* Scope.provide(make(), scope)
      const recorded = yield* record(map)
      const borrower = yield* borrow(map, "a")
      yield* use(map, "b")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      const late = yield* record(map)
      assert.strictEqual(ending(recorded.fiber.pollUnsafe()), "waits")
      assert.deepStrictEqual(recorded.told.slice(-6), [
        "a PoolClosing",
        "b PoolClosing",
        "b Recycled 1 pool closed",
        "b Closed 1",
        "b PoolClosed",
        "b KeyRemoved"
      ])
      yield* borrower.letGo
      assert.strictEqual(ending(closing.pollUnsafe()), "served")
      const rest = ["a Returned 1", "a Recycled 1 pool closed", "a Closed 1", "a PoolClosed", "a KeyRemoved"]
      assert.deepStrictEqual(late.told, rest)
      assert.deepStrictEqual(recorded.told.slice(-5), rest)
      const after = yield* record(map)
      for (const { fiber } of [recorded, late, after]) assert.strictEqual(ending(fiber.pollUnsafe()), "served")
      assert.deepStrictEqual(after.told, [])
    }))
})
