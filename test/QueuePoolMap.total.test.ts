import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, type Fiber, Scope } from "effect"
import { type PoolError, QueuePoolMap } from "effect-queuepool"
import { elapse, ending, endings } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"
import { books, borrow, counts, make, record, size, Sources, use } from "./kit/keyed.ts"
import { logged } from "./kit/observe.ts"
import { Rng } from "./kit/random.ts"

const served = (borrowers: ReadonlyArray<{ readonly item: unknown }>) => borrowers.map(({ item }) => item !== undefined)

const times = (count: number) => Array.from({ length: count }, (_, i) => i)

describe("one key and another", () => {
  it.effect("F1: an exhausted key blocks no other", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 2 })
      const a = yield* Effect.forEach(times(5), () => borrow(map, "a"))
      assert.deepStrictEqual(served(a), [true, true, false, false, false])
      const b = yield* Effect.forEach(times(2), () => borrow(map, "b"))
      assert.deepStrictEqual(served(b), [true, true])
      for (const { letGo } of [...b, ...a]) yield* letGo
      yield* books(sources, map)
    }))

  it.effect("F1: an open that hangs, and as many as may be under way, block no other", () =>
    logged(() =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ openConcurrency: 1 })
        sources.of("a").opensOtherwise = "hang"
        const hung = yield* borrow(map, "a")
        assert.strictEqual(yield* use(map, "b"), 1)
        yield* elapse("30 seconds")
        assert.notStrictEqual(endings([hung])[0], "waits")
      })
    ))

  it.effect("F7: a rule that takes all items with it takes those of its key alone", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make()
      yield* use(map, "a")
      yield* use(map, "b")
      yield* Effect.scoped(Effect.flatMap(map.pool("a"), (pool) => pool.clear))
      yield* settle
      assert.deepStrictEqual(yield* map.keys, ["b"])
      yield* books(sources, map)
    }))

  /** What one key's borrowers live through by this timetable; `freezes`: another key's opens never end meanwhile. */
  const traceOfB = Effect.fnUntraced(function*(seed: number, freezes: boolean) {
    const rng = new Rng(seed)
    const scope = yield* Scope.make()
    const begun = yield* Clock.currentTimeMillis
    const { map, sources } = yield* Scope.provide(
      make({
        max: 3,
        maxTotal: 100,
        openTimeout: "1 minute",
        closeTimeout: 10,
        borrowTimeout: 200,
        recycle: ({ uses }) => uses >= 3
      }),
      scope
    )
    sources.of("b").opensOtherwise = { slow: 7 }
    if (freezes) sources.of("a").opensOtherwise = "stuck"
    const recorded = yield* Scope.provide(record(map), scope)
    const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
    const lives: Array<string> = []
    const visit = (n: number, holds: number) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(map.use("b", ({ id }) => Effect.as(Effect.sleep(holds), id)))
        const now = yield* Clock.currentTimeMillis
        lives.push(`${n} ${Exit.isSuccess(exit) ? exit.value : ending(exit)} ${now - begun}`)
      })
    for (const n of times(40)) {
      if (freezes) { for (const _ of times(3)) fibers.push(yield* Effect.forkChild(Effect.exit(use(map, "a")))) }
      fibers.push(yield* Effect.forkChild(visit(n, 1 + rng.int(60))))
      yield* elapse(rng.int(20))
    }
    yield* elapse(1000)
    const events = recorded.events
      .filter(({ key }) => key === "b")
      .map((event) => `${event.at - begun} ${event._tag} ${"item" in event ? event.item : ""}`)
    assert.strictEqual(sources.of("a").attempts, freezes ? 3 : 0)
    const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
    yield* elapse(20_000)
    assert.isTrue(fibers.every((fiber) => fiber.pollUnsafe() !== undefined))
    assert.strictEqual(ending(closing.pollUnsafe()), "served")
    return { lives, events }
  })

  it.effect("invariant 17: freezing one key leaves the trace of another unchanged while the total does not bind", () =>
    logged(() =>
      Effect.gen(function*() {
        for (const seed of times(5)) {
          const alone = yield* traceOfB(seed, false)
          const frozen = yield* traceOfB(seed, true)
          assert.isAbove(alone.events.length, 100)
          assert.deepStrictEqual(frozen, alone)
        }
      })
    ))
})

describe("the total", () => {
  it.effect("F10: bounds all that is opening, lent, idle and closing, of all keys together", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ max: 5, maxTotal: 3, recycle: ({ uses }) => uses >= 2 })
      let peak = 0
      for (const key of ["a", "b", "c", "d", "e"]) {
        sources.of(key).opensOtherwise = { slow: 5 }
        sources.of(key).closesOtherwise = { slow: 3 }
      }
      const lease = (i: number) => map.use("abcde"[i % 5]!, () => Effect.sleep(1 + i % 7))
      const fiber = yield* Effect.forkChild(Effect.forEach(times(60), lease, { concurrency: 20, discard: true }))
      while (fiber.pollUnsafe() === undefined) {
        yield* elapse(1)
        const now = yield* size(map)
        peak = Math.max(peak, now)
        assert.isAtMost(sources.live, now)
      }
      assert.isTrue(Exit.isSuccess(fiber.pollUnsafe()!))
      assert.strictEqual(peak, 3)
      yield* elapse(10)
      for (const key of ["a", "b", "c", "d", "e"]) sources.of(key).closesOtherwise = "ok"
      assert.strictEqual((yield* books(sources, map)).borrowed, 60)
    }))

  it.effect("F2: full of idle items, the coldest of another key goes", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ maxTotal: 3 })
      const recorded = yield* record(map)
      for (const key of ["a", "b", "c"]) {
        yield* use(map, key)
        yield* elapse(1)
      }
      yield* use(map, "a")
      assert.strictEqual(yield* use(map, "d"), 1)
      yield* settle
      assert.deepStrictEqual(recorded.told.filter((line) => /Recycled|KeyRemoved/.test(line)), [
        "b Recycled 1 reclaimed",
        "b KeyRemoved"
      ])
      assert.deepStrictEqual(yield* map.keys, ["a", "c", "d"])
      yield* books(sources, map)
    }))

  it.effect("F2: full of idle items of one's own key too, where no other has any", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ maxTotal: 2, max: 2 })
      const holders = yield* Effect.forEach(times(2), () => borrow(map, "a"))
      for (const { letGo } of holders) yield* letGo
      assert.strictEqual(yield* use(map, "b"), 1)
      assert.strictEqual((yield* counts(map, "a"))!.idle, 1)
    }))

  for (
    const [how, frees] of [
      ["clear", (map) => map.clear("a")],
      ["invalidate", (map, thing) => map.invalidate("a", thing)],
      ["a return", () => Effect.void],
      ["resize", (map) => map.resize(2)]
    ] as ReadonlyArray<
      readonly [
        string,
        (
          map: QueuePoolMap.QueuePoolMap<string, { readonly id: number }, unknown>,
          thing: { readonly id: number }
        ) => Effect.Effect<void, unknown>
      ]
    >
  ) {
    it.effect(`F3: what ${how} of one key frees goes to those who wait of another`, () =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ max: 2, maxTotal: 1 })
        const holder = yield* borrow(map, "a")
        const waiter = yield* borrow(map, "b")
        yield* frees(map, holder.item!)
        yield* settle
        if (how !== "resize") {
          assert.isUndefined(waiter.item)
          yield* holder.letGo
        }
        assert.deepStrictEqual(waiter.item, { id: 1 })
        yield* waiter.letGo
        yield* holder.letGo
        yield* books(sources, map)
      }))
  }

  it.effect("F3: a close that is abandoned frees its place for another key", () =>
    logged(() =>
      Effect.gen(function*() {
        const { map, sources } = yield* make({ maxTotal: 1, closeTimeout: 1000 })
        sources.of("a").closes.push("stuck")
        yield* use(map, "a")
        const waiter = yield* borrow(map, "b")
        yield* elapse(999)
        assert.isUndefined(waiter.item)
        yield* elapse(1)
        assert.deepStrictEqual(waiter.item, { id: 1 })
        yield* waiter.letGo
        assert.strictEqual((yield* books(sources, map, { stuck: 1 })).abandoned, 1)
      })
    ))

  it.effect("F11: one fiber that asks for a second key at the total goes without after its time, as do others like it", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ maxTotal: 2, borrowTimeout: 1000 })
      const nested = (first: string, second: string) =>
        map.use(first, () => Effect.andThen(Effect.yieldNow, map.use(second, () => Effect.void)))
      const fibers = [yield* Effect.forkChild(nested("a", "b")), yield* Effect.forkChild(nested("c", "d"))]
      yield* elapse(999)
      assert.deepStrictEqual(fibers.map((fiber) => ending(fiber.pollUnsafe())), ["waits", "waits"])
      yield* elapse(1)
      const ends = fibers.map((fiber) => fiber.pollUnsafe())
      assert.include(ends.map(ending), "BorrowTimeout")
      const error = yield* Effect.flip(fibers[0]!.pollUnsafe()! as Exit.Exit<void, PoolError.PoolError>)
      const { capacity, phase } = error.reason as PoolError.BorrowTimeout
      assert.deepStrictEqual([phase, capacity], ["parked", { name: "map", used: 2, permits: 2 }])
      yield* elapse(1000)
      assert.strictEqual((yield* books(sources, map)).used, 0)
    }))

  it.effect("a waiter that leaves, or whose time is over, is not what others are closed for", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({ maxTotal: 1, borrowTimeout: 1000 })
      const holder = yield* borrow(map, "a")
      const [leaves, late] = [yield* borrow(map, "b"), yield* borrow(map, "c")]
      leaves.fiber.interruptUnsafe()
      yield* elapse(1000)
      assert.deepStrictEqual(endings([leaves, late]), ["interrupted", "BorrowTimeout"])
      assert.deepStrictEqual(yield* map.keys, ["a"])
      yield* holder.letGo
      assert.strictEqual((yield* counts(map, "a"))!.idle, 1)
      yield* books(sources, map)
    }))
})

describe("fairness, where the total binds", () => {
  /** Borrowers of a hot key wait, then one each of others; who is served, in order. */
  const order = Effect.fnUntraced(function*(fairness: "share" | "arrival") {
    const { map, sources } = yield* make({ max: 10, maxTotal: 2, fairness, borrowTimeout: "Infinity" })
    const begun: Array<string> = []
    const come = (key: string) =>
      Effect.forkChild(map.use(key, () => Effect.andThen(Effect.sync(() => void begun.push(key)), Effect.sleep(10))))
    const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
    for (const key of ["hot", "hot", "hot", "hot", "hot", "hot", "b", "c"]) {
      fibers.push(yield* come(key))
      yield* settle
    }
    for (const _ of times(8)) yield* elapse(10)
    assert.isTrue(fibers.every((fiber) => ending(fiber.pollUnsafe()) === "served"))
    yield* books(sources, map)
    return begun
  })

  it.effect("F8: \"share\": a key that has nothing goes before one that has more", () =>
    Effect.gen(function*() {
      const begun = yield* order("share")
      // The last item of the hot key is its fair share.
      assert.deepStrictEqual(begun.slice(0, 5).toSorted(), ["b", "c", "hot", "hot", "hot"])
      assert.strictEqual(begun[2], "b")
    }))

  it.effect("F8: \"arrival\": who came first goes first, of whatever key", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* order("arrival"), ["hot", "hot", "hot", "hot", "hot", "hot", "b", "c"])
    }))

  it.effect("F8: no key starves, with either, while a hot key never rests", () =>
    Effect.gen(function*() {
      for (const fairness of ["share", "arrival"] as const) {
        const { map, sources } = yield* make({ max: 4, maxTotal: 4, fairness, borrowTimeout: "Infinity" })
        let over = false
        const hot = yield* Effect.forEach(times(20), () =>
          Effect.forkChild(Effect.whileLoop({
            while: () => !over,
            body: () => map.use("hot", () => Effect.sleep(10)),
            step: () => {}
          })))
        yield* elapse(5)
        for (const round of times(3)) {
          const others = yield* Effect.forEach(times(5), (i) => Effect.forkChild(use(map, `${round} ${i}`)))
          for (const _ of times(30)) yield* elapse(10)
          assert.isTrue(others.every((fiber) => ending(fiber.pollUnsafe()) === "served"), fairness)
        }
        over = true
        for (const _ of times(10)) yield* elapse(10)
        assert.isTrue(hot.every((fiber) => ending(fiber.pollUnsafe()) === "served"))
        yield* books(sources, map)
      }
    }))

  it.effect("min of a key that lends nothing gives way to a borrower of another", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ maxTotal: 2, forKey: (key) => key === "a" ? { min: 2 } : undefined })
      yield* use(map, "a")
      yield* settle
      assert.strictEqual((yield* counts(map, "a"))!.idle, 2)
      assert.strictEqual(yield* use(map, "b"), 1)
    }))
})

describe("the books", () => {
  it.effect("opened = closed + abandoned + live over the whole map, at every step of a random life", () =>
    logged(() =>
      Effect.gen(function*() {
        for (const seed of times(10)) {
          const rng = new Rng(seed)
          const sources = new Sources()
          const scope = yield* Scope.make()
          const map = yield* Scope.provide(
            QueuePoolMap.make({
              acquire: sources.acquire,
              max: 3,
              min: rng.int(2),
              maxTotal: 4,
              borrowTimeout: 50,
              closeTimeout: 20,
              idleTimeToLive: 40,
              fairness: rng.chance(0.5) ? "share" : "arrival",
              recycle: ({ uses }) => uses >= 4
            }),
            scope
          )
          const check = Effect.map(map.stats, (stats) => {
            const { abandoned, closed, closing, idle, opened, opening, used } = stats
            assert.strictEqual(opened, closed + abandoned + idle + used + closing)
            assert.isAtMost(idle + used + closing + opening, 4)
            assert.isAtLeast(sources.live, idle + used)
          })
          const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
          for (const _ of times(150)) {
            const key = "abcdef"[rng.int(6)]!
            const source = sources.of(key)
            source.opensOtherwise = rng.chance(0.3) ? { slow: rng.int(9) } : rng.chance(0.1) ? "fail" : "ok"
            source.closesOtherwise = rng.chance(0.3) ? { slow: rng.int(9) } : rng.chance(0.05) ? "stuck" : "ok"
            const what = rng.int(10)
            if (what < 6) {
              const holds = rng.int(15)
              fibers.push(yield* Effect.forkChild(Effect.exit(map.use(key, () => Effect.sleep(holds)))))
            } else if (what === 6) yield* rng.chance(0.3) ? map.clear() : map.clear(key)
            else if (what === 7) fibers[rng.int(fibers.length + 1)]?.interruptUnsafe()
            else if (what === 8) yield* map.sweep()
            else yield* Effect.scoped(Effect.andThen(map.pool(key), Effect.yieldNow))
            yield* check
            if (rng.chance(0.5)) yield* elapse(rng.int(10))
            yield* check
          }
          const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
          for (const _ of times(20)) {
            yield* check
            yield* elapse(10)
          }
          assert.strictEqual(ending(closing.pollUnsafe()), "served")
          const { abandoned, closed, keys, opened } = yield* map.stats
          assert.deepStrictEqual([opened, keys], [closed + abandoned, 0])
          assert.isAbove(opened, 10)
          assert.isTrue(sources.once)
        }
      })
    ))

  it.effect("a key's items and the total are the same ones: no permit is lost over a thousand keys", () =>
    Effect.gen(function*() {
      const source = new Source()
      const map = yield* QueuePoolMap.make({ acquire: (_: number) => source.acquire, maxTotal: 3, max: 2 })
      yield* Effect.forEach(times(1000), (key) => map.use(key, () => Effect.void), { concurrency: 10, discard: true })
      yield* settle
      const { idle, keys } = yield* map.stats
      assert.deepStrictEqual([idle, keys, source.live], [3, 3, 3])
      assert.isAtMost(source.peakLive, 3)
      yield* map.clear()
      yield* settle
      yield* Effect.scoped(Effect.forEach(times(3), (key) => map.get(key)))
    }))
})
