import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Queue,
  Random,
  Schedule,
  Scope,
  Stream,
  SubscriptionRef
} from "effect"
import { type PoolError, type PoolEvent, QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, endings, several } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { type Outcome, Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged, record, recycled, recycledAt, told } from "./kit/observe.ts"

type Pool = QueuePool.QueuePool<Thing, Refused>
type Options = Partial<QueuePool.Options<Thing, Refused, Scope.Scope>>
type Acquire = Effect.Effect<Thing, Refused, Scope.Scope>

/** One source of items with several ways to it. */
class Ways {
  readonly source = new Source()
  /** The way of each open that was begun. */
  readonly tried: Array<string> = []
  /** How the opens of a way go; other ways go as the source says. */
  readonly outcomes = new Map<string, Outcome>()
  private readonly items = new Map<number, string>()

  readonly to = (way: string): Acquire =>
    Effect.suspend(() => {
      this.tried.push(way)
      const outcome = this.outcomes.get(way)
      if (outcome !== undefined) this.source.opens.unshift(outcome)
      return Effect.tap(this.source.acquire, ({ id }) => Effect.sync(() => this.items.set(id, way)))
    })

  /** The ways of the items that are open, in the order in which they were opened. */
  get open(): ReadonlyArray<string> {
    return this.source.opened.filter(({ id }) => !this.source.closed.includes(id)).map(({ id }) => this.wayOf(id))
  }

  readonly wayOf = (id: number): string => this.items.get(id)!
}

/** A pool whose items are opened in the way "old". */
const pooled = Effect.fnUntraced(function*(options: Options = {}) {
  const ways = new Ways()
  const pool = yield* QueuePool.make<Thing, Refused, Scope.Scope>({
    acquire: ways.to("old"),
    max: 4,
    drainTimeout: 0,
    closeTimeout: 1000,
    ...options
  })
  const events = yield* record(pool)
  return { events, pool, source: ways.source, ways }
})

const used = (pool: Pool) => pool.use(({ id }) => Effect.succeed(id))

const tags = (events: ReadonlyArray<PoolEvent.PoolEvent>) => told(events).filter((tag) => tag.startsWith("Swap"))

describe("swap", () => {
  it.effect("tries the new way once, with one item, and then opens all in it", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled()
      for (const { letGo } of yield* several(2, pool)) yield* letGo
      source.opens.push({ slow: 100 })
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 0 }))
      yield* elapse(99)
      // Until it is open all goes on as before.
      assert.deepStrictEqual([ways.tried, ways.open], [["old", "old", "new"], ["old", "old"]])
      assert.strictEqual(ways.wayOf(yield* used(pool)), "old")
      yield* elapse(1)
      yield* Fiber.join(swap)
      assert.deepStrictEqual(ways.open, ["new"])
      assert.deepStrictEqual(recycled(events), [[1, "swapped"], [2, "swapped"]])
      const borrowers = yield* several(3, pool)
      assert.deepStrictEqual(ways.tried, ["old", "old", "new", "new", "new"])
      for (const { letGo } of borrowers) yield* letGo
      assert.strictEqual((yield* books(source, pool)).idle, 3)
    }))

  it.effect("recycles the old items each at a moment of its own, the oldest first, the lent ones when they come back", () =>
    Effect.gen(function*() {
      const at: Array<ReadonlyArray<number>> = []
      for (const seed of ["a", "a", "b"]) {
        const { events, pool, source, ways } = yield* Random.withSeed(pooled({ max: 8 }), seed)
        const borrowers = yield* several(5, pool)
        for (const { letGo } of borrowers.slice(0, 4)) yield* letGo
        const since = yield* Effect.clockWith((clock) => Effect.succeed(Number(clock.monotonicTimeNanosUnsafe()) / 1e6))
        yield* pool.swap(ways.to("new"), { over: 10_000 })
        // A sweep is on the millisecond after a deadline.
        for (let i = 0; i < 10_000; i += 10) yield* elapse(10)
        assert.deepStrictEqual(recycled(events).map(([id]) => id), [1, 2, 3, 4])
        const times = recycledAt(events).map((time) => time - since)
        for (const [index, time] of times.entries()) {
          assert.isAtLeast(time, 2000 * index)
          assert.isAtMost(time, 2000 * (index + 1) + 10)
        }
        at.push(times)
        yield* borrowers[4]!.letGo
        assert.deepStrictEqual([source.closed, ways.open], [[1, 2, 3, 4, 5], ["new"]])
        yield* books(source, pool)
      }
      assert.deepStrictEqual(at[0], at[1])
      assert.notDeepEqual(at[0], at[2])
    }))

  it.effect("takes retireOver for the time, 10 seconds by default", () =>
    Effect.gen(function*() {
      for (const [retireOver, expected] of [[undefined, 10_000], [500, 500], [0, 0]] as const) {
        const { pool, source, ways } = yield* pooled({ retireOver })
        for (const { letGo } of yield* several(3, pool)) yield* letGo
        yield* pool.swap(ways.to("new"))
        yield* settle
        if (expected > 0) {
          yield* elapse(Math.floor(expected / 3))
          assert.strictEqual(source.closed.length, 1)
        }
        yield* elapse(expected)
        assert.deepStrictEqual(ways.open, ["new"])
        yield* books(source, pool)
      }
    }))

  it.effect("recycles on arrival what is being opened in the old way; who waits for it gets another", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled()
      source.opens.push({ slow: 200 }, { slow: 300 })
      const [first, second] = [yield* borrow(pool), yield* borrow(pool)]
      yield* pool.swap(ways.to("new"), { over: 0 })
      // The item of the trial serves the first of them.
      assert.strictEqual(first.item?.id, 3)
      yield* elapse(300)
      assert.deepStrictEqual([source.closed, second.item?.id], [[1, 2], 4])
      assert.deepStrictEqual(ways.tried, ["old", "old", "new", "new"])
      yield* first.letGo
      yield* second.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { swapped: 2 })
    }))

  it.effect("spares what is opened in the new way in the step in which the trial succeeds", () =>
    Effect.gen(function*() {
      // Three wait out an outage; the trial ends it, and two are opened for at once.
      const { pool, source, ways } = yield* pooled({ retry: Schedule.spaced("1 hour") })
      source.opens.push("fail")
      const waiters = yield* several(3, pool)
      yield* pool.swap(ways.to("new"), { over: 0 })
      yield* settle
      assert.deepStrictEqual(ways.tried, ["old", "new", "new", "new"])
      assert.deepStrictEqual([source.closed, endings(waiters)], [[], ["waits", "waits", "waits"]])
      assert.isTrue(waiters.every(({ item }) => ways.wayOf(item!.id) === "new"))
      for (const { letGo } of waiters) yield* letGo
      yield* books(source, pool)
    }))

  it.effect("keeps to the way in which an open was begun, though its turn has not come", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled()
      const tried = yield* Deferred.make<void>()
      const swap = yield* Effect.forkChild(
        pool.swap(Effect.andThen(Deferred.await(tried), ways.to("new")), { over: 0 })
      )
      yield* settle
      // In one step: an open begins for a borrower, and the trial succeeds.
      const borrower = yield* Effect.forkChild(used(pool), { startImmediately: true })
      yield* Deferred.succeed(tried, undefined)
      yield* Fiber.join(swap)
      assert.strictEqual(ways.wayOf(yield* Fiber.join(borrower)), "new")
      yield* settle
      assert.deepStrictEqual([ways.tried, ways.open], [["new", "old"], ["new"]])
      yield* books(source, pool)
    }))

  it.effect("refills min in the new way", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ min: 3 })
      yield* settle
      yield* pool.swap(ways.to("new"), { over: 0 })
      yield* settle
      assert.deepStrictEqual([ways.open, ways.tried.length], [["new", "new", "new"], 6])
      yield* books(source, pool)
    }))

  it.effect("with replaceTimeout keeps each old item until another is open in its place", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ min: 3, max: 5, replaceTimeout: 5000 })
      yield* settle
      ways.outcomes.set("new", { slow: 100 })
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 1000 }))
      yield* elapse(100)
      yield* Fiber.join(swap)
      let least = Infinity
      for (let i = 0; i < 200; i++) {
        yield* elapse(10)
        least = Math.min(least, (yield* pool.stats).idle)
      }
      assert.strictEqual(least, 3)
      assert.isTrue(ways.open.every((way) => way === "new"))
      assert.isAtMost((yield* books(source, pool)).idle, 4)
    }))

  it.effect("recycles what is being opened to replace an old item; that is replaced in the new way", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({
        min: 1,
        recycle: RecyclePolicy.age(1000),
        replaceTimeout: 5000
      })
      yield* settle
      source.opens.push({ slow: 100 })
      yield* elapse(1001)
      ways.outcomes.set("new", { slow: 10 })
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 900 }))
      yield* elapse(10)
      yield* Fiber.join(swap)
      assert.deepStrictEqual(ways.open, ["old", "new"])
      yield* elapse(100)
      // The replacement was recycled on arrival, and another is open for it.
      assert.deepStrictEqual([source.closed, ways.open], [[2, 1], ["new", "new"]])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { swapped: 1, age: 1 })
    }))

  it.effect("runs one after the other: the last to be asked for stays", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled()
      for (const way of ["one", "two", "three"]) ways.outcomes.set(way, { slow: 100 })
      const swaps = yield* Effect.forEach(
        ["one", "two", "three"],
        (way) => Effect.forkChild(pool.swap(ways.to(way), { over: 0 }))
      )
      for (const way of ["one", "two", "three"]) {
        yield* elapse(99)
        assert.strictEqual(ways.tried.at(-1), way)
        yield* elapse(1)
        assert.deepStrictEqual(ways.open, [way])
      }
      yield* Fiber.joinAll(swaps)
      assert.deepStrictEqual(tags(events), ["Swapped", "Swapped", "Swapped"])
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("soon again leaves the items of the first way to go at their time, and gives the second's a new one", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled()
      for (const { letGo } of yield* several(2, pool)) yield* letGo
      yield* pool.swap(ways.to("new"), { over: 1000 })
      yield* pool.swap(ways.to("newer"), { over: 60_000 })
      yield* elapse(1000)
      assert.deepStrictEqual(recycled(events), [[1, "swapped"], [2, "swapped"]])
      assert.deepStrictEqual(ways.open, ["new", "newer"])
      yield* elapse(60_000)
      assert.deepStrictEqual(ways.open, ["newer"])
      yield* books(source, pool)
    }))

  it.effect("that fails, and one that is interrupted before its turn, leave the next to be tried", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled()
      ways.outcomes.set("bad", { slow: 100 })
      ways.outcomes.set("worse", "fail")
      const swaps = yield* Effect.forEach(
        ["bad", "never", "worse", "good"],
        (way) => Effect.forkChild(pool.swap(ways.to(way), { over: 0 }))
      )
      yield* settle
      swaps[1]!.interruptUnsafe()
      yield* elapse(100)
      yield* Fiber.awaitAll(swaps)
      assert.deepStrictEqual(swaps.map((fiber) => ending(fiber.pollUnsafe())), [
        "served",
        "interrupted",
        "Refused",
        "served"
      ])
      assert.deepStrictEqual(ways.tried, ["bad", "worse", "good"])
      assert.deepStrictEqual(tags(events), ["Swapped", "SwapFailed", "Swapped"])
      assert.deepStrictEqual(ways.open, ["good"])
      yield* books(source, pool)
    }))

  it.effect("of a pool that opens lazily opens its one item; min is reached as ever", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ min: 2, warm: "lazy" })
      yield* pool.swap(ways.to("new"))
      yield* settle
      assert.deepStrictEqual(ways.open, ["new"])
      // The first lease, though it finds an item, begins the warm-up.
      yield* used(pool)
      yield* settle
      assert.deepStrictEqual(ways.open, ["new", "new"])
      yield* books(source, pool)
    }))

  it.effect("is refused a time that is none, and a pool that is closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { pool, ways } = yield* Scope.provide(pooled(), scope)
      const wrong = yield* Effect.exit(pool.swap(ways.to("new"), { over: "Infinity" }))
      assert.strictEqual(ending(wrong), "InvalidOptions")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(ending(yield* Effect.exit(pool.swap(ways.to("new")))), "Closed")
      assert.deepStrictEqual(ways.tried, [])
    }))

  it.effect("tells what it does: each trial ends with one of two events", () =>
    Effect.gen(function*() {
      const { events, pool, ways } = yield* pooled()
      yield* used(pool)
      yield* pool.swap(ways.to("new"), { over: 0 })
      ways.outcomes.set("bad", "fail")
      yield* Effect.exit(pool.swap(ways.to("bad"), { over: 0 }))
      yield* settle
      assert.deepStrictEqual(told(events).slice(4), [
        "Opening 2",
        "Opened 2",
        "Swapped",
        "Recycled 1",
        "Closed 1",
        "Opening 3",
        "OpenFailed 3",
        "SwapFailed"
      ])
      const failed = events.find(({ _tag }) => _tag === "SwapFailed") as { readonly cause: Cause.Cause<unknown> }
      assert.deepStrictEqual(failed.cause, Cause.fail(new Refused(3)))
    }))
})

describe("a trial that fails", () => {
  const interrupted: Acquire = Effect.interrupt

  const outcomes: Record<string, readonly [Outcome | Acquire, string]> = {
    fails: ["fail", "Refused"],
    dies: ["die", "defect"],
    hangs: ["hang", "OpenTimeout"],
    "is stuck": ["stuck", "OpenTimeout"],
    "interrupts itself": [interrupted, "OpenInterrupted"]
  }

  for (const [name, [outcome, expected]] of Object.entries(outcomes)) {
    it.effect(`because it ${name}: swap fails, nothing is lost, and all goes on in the old way`, () =>
      Effect.gen(function*() {
        const { events, pool, source, ways } = yield* pooled({ openTimeout: 2000 })
        const [holder, other] = yield* several(2, pool)
        yield* other!.letGo
        if (!Effect.isEffect(outcome)) ways.outcomes.set("new", outcome)
        const swap = yield* Effect.forkChild(pool.swap(Effect.isEffect(outcome) ? outcome : ways.to("new")))
        yield* elapse(1999)
        if (expected === "OpenTimeout") assert.isUndefined(swap.pollUnsafe())
        yield* elapse(1)
        assert.strictEqual(ending(swap.pollUnsafe()), expected)
        yield* elapse(1000)
        assert.deepStrictEqual([source.closed, ways.open], [[], ["old", "old"]])
        assert.deepStrictEqual([tags(events), recycled(events)], [["SwapFailed"], []])
        const more = yield* several(3, pool)
        assert.deepStrictEqual(ways.open, ["old", "old", "old", "old"])
        for (const { letGo } of [holder!, ...more]) yield* letGo
        yield* books(source, pool, outcome === "stuck" ? { neverOpened: 1 } : {})
      }))
  }

  it.effect("leaves its room to those who wait", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ max: 1 })
      const swap = yield* Effect.forkChild(
        pool.swap(Effect.andThen(Effect.sleep(100), Effect.fail(new Refused(0))))
      )
      yield* settle
      const waiter = yield* borrow(pool)
      yield* elapse(100)
      assert.deepStrictEqual([ending(swap.pollUnsafe()), waiter.item?.id], ["Refused", 1])
      yield* waiter.letGo
      assert.deepStrictEqual(ways.open, ["old"])
      yield* books(source, pool)
    }))

  it.effect("half-way leaves nothing open", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled()
      const half = Effect.andThen(ways.to("new"), Effect.fail(new Refused(0)))
      assert.strictEqual(ending(yield* Effect.exit(pool.swap(half))), "Refused")
      yield* settle
      assert.deepStrictEqual([source.opened.length, source.closed.length], [1, 1])
      const { closing, idle, openFailures } = yield* pool.stats
      assert.deepStrictEqual([closing, idle, openFailures], [0, 0, 1])
    }))

  it.effect("costs no borrower anything: those who wait, wait on, and the retry road goes on as before", () =>
    Effect.gen(function*() {
      const { pool, ways } = yield* pooled({ retry: Schedule.spaced(1000), borrowTimeout: 3500 })
      ways.outcomes.set("old", "fail")
      ways.outcomes.set("new", "fail")
      const waiter = yield* borrow(pool)
      yield* elapse(500)
      assert.strictEqual(ending(yield* Effect.exit(pool.swap(ways.to("new")))), "Refused")
      yield* elapse(499)
      assert.deepStrictEqual([ways.tried, endings([waiter])], [["old", "new"], ["waits"]])
      yield* elapse(1)
      assert.deepStrictEqual(ways.tried, ["old", "new", "old"])
      ways.outcomes.delete("old")
      yield* elapse(1000)
      assert.isDefined(waiter.item)
      yield* waiter.letGo
    }))

  it.effect("fails by onAcquire too; monitor and rules see what it opens", () =>
    Effect.gen(function*() {
      const died = yield* Deferred.make<void>()
      const acquired: Array<number> = []
      const { events, pool, source, ways } = yield* pooled({
        onAcquire: ({ id }) => {
          acquired.push(id)
          return id === 1 ? Effect.fail(new Refused(id)) : Effect.void
        },
        monitor: ({ id }) => id === 2 ? Deferred.await(died) : Effect.never,
        recycle: RecyclePolicy.after(Schedule.spaced(1000))
      })
      assert.strictEqual(ending(yield* Effect.exit(pool.swap(ways.to("new")))), "Refused")
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      yield* pool.swap(ways.to("new"))
      assert.deepStrictEqual(acquired, [1, 2])
      yield* Deferred.succeed(died, undefined)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[2, "died"]])
      yield* pool.swap(ways.to("new"))
      yield* elapse(1001)
      assert.deepStrictEqual(recycled(events), [[2, "died"], [3, "after"]])
      yield* books(source, pool, {}).pipe(Effect.exit)
    }))
})

describe("a trial without room", () => {
  it.effect("takes that of the coldest idle item", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled({ max: 2 })
      const [first, second] = yield* several(2, pool)
      yield* second!.letGo
      yield* first!.letGo
      yield* pool.swap(ways.to("new"), { over: 60_000 })
      assert.deepStrictEqual([recycled(events), ways.open], [[[2, "swapped"]], ["old", "new"]])
      assert.strictEqual((yield* books(source, pool)).idle, 2)
      assert.strictEqual(source.peakLive, 2)
    }))

  it.effect("takes that of the next that comes back, before those who wait, and of no other", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled({ max: 2 })
      const holders = yield* several(2, pool)
      const waiters = yield* several(2, pool)
      source.closes.push({ slow: 100 })
      ways.outcomes.set("new", { slow: 100 })
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 60_000 }))
      yield* settle
      yield* holders[0]!.letGo
      assert.deepStrictEqual([recycled(events), waiters.map(({ item }) => item)], [[[1, "swapped"]], [
        undefined,
        undefined
      ]])
      // Its slot is not free yet, and is on its way.
      yield* holders[1]!.letGo
      assert.strictEqual(waiters[0]!.item?.id, 2)
      yield* elapse(100)
      yield* elapse(100)
      yield* Fiber.join(swap)
      assert.strictEqual(waiters[1]!.item?.id, 3)
      for (const { letGo } of waiters) yield* letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { swapped: 1 })
    }))

  it.effect("needs no item to go when another goes anyway", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled({ max: 2 })
      const holders = yield* several(2, pool)
      source.closes.push({ slow: 100 })
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 60_000 }))
      yield* settle
      yield* pool.invalidate(holders[0]!.item!)
      yield* holders[0]!.letGo
      yield* holders[1]!.letGo
      yield* elapse(100)
      yield* Fiber.join(swap)
      assert.deepStrictEqual([recycled(events), ways.open], [[[1, "invalidated"]], ["old", "new"]])
      yield* books(source, pool)
    }))

  it.effect("waits for what is closing, though there are idle items", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled({ max: 2 })
      for (const { letGo } of yield* several(2, pool)) yield* letGo
      source.closes.push({ slow: 100 })
      yield* pool.invalidate(source.opened[0]!)
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 60_000 }))
      yield* elapse(100)
      yield* Fiber.join(swap)
      assert.deepStrictEqual([recycled(events), ways.open], [[[1, "invalidated"]], ["old", "new"]])
      yield* books(source, pool)
    }))

  it.effect("takes that of an item that a check or a sweep is done with, and of one that is just open", () =>
    Effect.gen(function*() {
      for (const what of ["check", "sweep", "open"] as const) {
        const { events, pool, source, ways } = yield* pooled({
          max: 1,
          ...(what === "check" ? { check: () => Effect.sleep(100), checkAfter: 0 } : {}),
          ...(what === "sweep" ? { recycle: RecyclePolicy.check(() => Effect.as(Effect.sleep(100), false)) } : {})
        })
        if (what === "open") source.opens.push({ slow: 100 })
        else yield* used(pool)
        const waiter = what === "sweep" ? undefined : yield* borrow(pool)
        if (what === "sweep") yield* Effect.forkChild(pool.sweep)
        yield* settle
        const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 0 }))
        yield* elapse(100)
        yield* Fiber.join(swap)
        assert.deepStrictEqual([recycled(events), ways.open], [[[1, "swapped"]], ["new"]], what)
        if (waiter !== undefined) yield* waiter.letGo
        yield* elapse(100)
        yield* books(source, pool)
      }
    }))

  it.effect("fails with BorrowTimeout when none comes back: the old way stays, and no item goes for it later", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled({ max: 2, borrowTimeout: 1000 })
      const holders = yield* several(2, pool)
      const swap = yield* Effect.forkChild(Effect.flip(pool.swap(ways.to("new"))))
      yield* elapse(999)
      assert.isUndefined(swap.pollUnsafe())
      yield* elapse(1)
      const error = (yield* Fiber.join(swap)) as PoolError.PoolError
      assert.strictEqual(error.reason._tag, "BorrowTimeout")
      if (error.reason._tag === "BorrowTimeout") {
        const { counts, own, phase, waited } = error.reason
        assert.deepStrictEqual([counts.lent, own, phase, waited], [2, 0, "waiting", 1000])
      }
      for (const { letGo } of holders) yield* letGo
      assert.deepStrictEqual([ways.tried, recycled(events)], [["old", "old"], []])
      assert.deepStrictEqual(tags(events), ["SwapFailed"])
      assert.strictEqual((yield* books(source, pool)).idle, 2)
    }))

  it.effect("does not give up once an item has gone for it, however long its release takes", () =>
    Effect.gen(function*() {
      for (const close of [{ slow: 700 }, "stuck"] as const) {
        for (const borrowTimeout of [0, 500, "Infinity"] as const) {
          const { pool, source, ways } = yield* pooled({ max: 1, min: 1, borrowTimeout })
          yield* settle
          source.closes.push(close)
          const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 0 }))
          yield* elapse(699)
          assert.isUndefined(swap.pollUnsafe())
          yield* elapse(301)
          yield* Fiber.join(swap)
          assert.strictEqual(ways.open.at(-1), "new", String(borrowTimeout))
          yield* books(source, pool, close === "stuck" ? { stuck: 1 } : {})
        }
      }
    }))

  it.effect("has openTimeout for its open, whatever borrowTimeout is", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ max: 1, borrowTimeout: 100 })
      ways.outcomes.set("new", { slow: 1000 })
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new")))
      yield* elapse(999)
      assert.isUndefined(swap.pollUnsafe())
      yield* elapse(1)
      yield* Fiber.join(swap)
      assert.deepStrictEqual(ways.open, ["new"])
      yield* books(source, pool)
    }))

  it.effect("finds it when max is made larger, and needs more when max is made smaller", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled({ max: 2 })
      const holders = yield* several(2, pool)
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 60_000 }))
      yield* settle
      yield* pool.resize({ max: 1 })
      yield* holders[0]!.letGo
      assert.deepStrictEqual([recycled(events), ways.tried.length], [[[1, "resized"]], 2])
      yield* pool.resize({ max: 2 })
      yield* Fiber.join(swap)
      assert.deepStrictEqual(recycled(events), [[1, "resized"]])
      yield* holders[1]!.letGo
      assert.strictEqual((yield* books(source, pool)).idle, 2)
    }))

  it.effect("has it before any other open", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ max: 2, min: 2, replaceTimeout: 1000 })
      const holders = yield* several(2, pool)
      const waiter = yield* borrow(pool)
      ways.outcomes.set("new", { slow: 100 })
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 0 }))
      yield* settle
      yield* pool.invalidate(holders[0]!.item!)
      yield* holders[0]!.letGo
      assert.deepStrictEqual(ways.tried, ["old", "old", "new"])
      yield* elapse(100)
      yield* Fiber.join(swap)
      assert.strictEqual(waiter.item?.id, 3)
      yield* waiter.letGo
      yield* holders[1]!.letGo
      yield* elapse(100)
      assert.deepStrictEqual(ways.open, ["new", "new"])
      yield* books(source, pool)
    }))
})

describe("a trial", () => {
  it.effect("in an outage is tried at once, and its success ends the outage", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ min: 2, retry: Schedule.spaced("1 hour") })
      ways.outcomes.set("old", "fail")
      yield* settle
      yield* pool.clear
      yield* settle
      const before = ways.tried.length
      const waiter = yield* borrow(pool)
      yield* pool.swap(ways.to("new"))
      yield* settle
      assert.isDefined(waiter.item)
      assert.deepStrictEqual(ways.tried.slice(before), ["new", "new"])
      yield* waiter.letGo
      yield* elapse("2 hours")
      assert.strictEqual(ways.tried.length, before + 2)
      assert.strictEqual((yield* books(source, pool)).idle, 2)
    }))

  it.effect("stops a step of the retry Schedule that is under way", () =>
    Effect.gen(function*() {
      const stopped = yield* Deferred.make<void>()
      const { pool, source, ways } = yield* pooled({
        retry: Schedule.forever.pipe(
          Schedule.addDelay(() => Effect.onInterrupt(Effect.never, () => Deferred.succeed(stopped, undefined)))
        )
      })
      ways.outcomes.set("old", "fail")
      const waiter = yield* borrow(pool)
      yield* pool.swap(ways.to("new"))
      yield* Deferred.await(stopped)
      assert.isDefined(waiter.item)
      yield* waiter.letGo
      yield* books(source, pool)
    }))

  it.effect("hung opens of the old way do not hold it up, though openConcurrency is reached", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ openConcurrency: 1 })
      ways.outcomes.set("old", "hang")
      const waiter = yield* borrow(pool)
      yield* pool.swap(ways.to("new"))
      yield* settle
      assert.strictEqual(waiter.item?.id, 2)
      yield* waiter.letGo
      yield* elapse("1 minute")
      yield* books(source, pool)
    }))

  for (const whenSuspended of ["wait", "fail"] as const) {
    it.effect(`of a suspended pool is tried; nothing is lent before resume (${whenSuspended})`, () =>
      Effect.gen(function*() {
        const { pool, source, ways } = yield* pooled({ max: 1, whenSuspended })
        const holder = yield* borrow(pool)
        yield* pool.suspend
        const waiter = yield* borrow(pool)
        const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 0 }))
        yield* settle
        yield* holder.letGo
        yield* Fiber.join(swap)
        assert.deepStrictEqual(ways.open, ["new"])
        assert.deepStrictEqual(endings([waiter]), [whenSuspended === "wait" ? "waits" : "Suspended"])
        assert.isUndefined(waiter.item)
        yield* pool.resume
        yield* settle
        yield* waiter.letGo
        assert.strictEqual(ways.wayOf(yield* used(pool)), "new")
        yield* books(source, pool)
      }))
  }

  it.effect("that a clear, or a failure that takes all with it, meets under way, succeeds all the same", () =>
    Effect.gen(function*() {
      for (const how of ["clear", "failedWith"] as const) {
        const { pool, source, ways } = yield* pooled({
          recycle: RecyclePolicy.failedWith(() => true, { also: "all" })
        })
        ways.outcomes.set("new", { slow: 100 })
        const holder = yield* Effect.forkChild(pool.use(() => Effect.andThen(Effect.sleep(50), Effect.fail("bad"))))
        const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 0 }))
        yield* elapse(50)
        if (how === "clear") yield* pool.clear
        yield* Fiber.await(holder)
        yield* elapse(50)
        yield* Fiber.join(swap)
        assert.deepStrictEqual(ways.open, [], how)
        assert.deepStrictEqual(ways.tried, ["old", "new"])
        ways.outcomes.clear()
        assert.strictEqual(ways.wayOf(yield* used(pool)), "new")
        yield* books(source, pool)
      }
    }))

  it.effect("opens in the item's own scope and with the services of its caller, and so do all later opens", () =>
    Effect.gen(function*() {
      class Endpoint extends Context.Service<Endpoint, string>()("test/Endpoint") {}
      const { pool, source, ways } = yield* pooled()
      const seen: Array<string> = []
      const acquire = Effect.tap(ways.to("new"), () => Effect.map(Endpoint, (endpoint) => void seen.push(endpoint)))
      yield* Effect.scoped(pool.swap(acquire, { over: 0 })).pipe(Effect.provideService(Endpoint, "here"))
      yield* settle
      // The scope of the caller is closed; the item is not.
      assert.deepStrictEqual([ways.open, source.closed], [["new"], []])
      for (const { letGo } of yield* several(2, pool)) yield* letGo
      assert.deepStrictEqual(seen, ["here", "here"])
      yield* books(source, pool)
    }))

  it.effect("of a Service is asked for as a static member", () =>
    Effect.gen(function*() {
      const ways = new Ways()
      class Things extends QueuePool.Service<Things>()("test/Things", { acquire: ways.to("old") }) {}
      yield* Effect.provide(
        Effect.gen(function*() {
          yield* Things.useItem(() => Effect.void)
          yield* Things.swap(ways.to("new"), { over: 0 })
          yield* Things.swap(ways.to("newer"))
          yield* settle
          assert.deepStrictEqual(ways.open, ["new", "newer"])
        }),
        Things.layer
      )
      closedBooks(ways.source)
    }))

  it.effect("serves those who share, and its item is shared", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ max: 1, concurrency: 2 })
      const holders = yield* several(2, pool)
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 0 }))
      yield* settle
      yield* holders[0]!.letGo
      // It is still with the other.
      assert.deepStrictEqual(source.closed, [])
      yield* holders[1]!.letGo
      yield* Fiber.join(swap)
      const next = yield* several(2, pool)
      assert.deepStrictEqual(next.map(({ item }) => item?.id), [2, 2])
      for (const { letGo } of next) yield* letGo
      yield* books(source, pool)
    }))
})

describe("interruption of swap", () => {
  it.effect("gives up the open that is under way: its slot is free for the old way as soon as it has ended", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled({ max: 1 })
      ways.outcomes.set("new", "hang")
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new")))
      yield* settle
      const waiter = yield* borrow(pool)
      yield* Fiber.interrupt(swap)
      yield* settle
      assert.deepStrictEqual([waiter.item?.id, ways.tried], [2, ["new", "old"]])
      yield* waiter.letGo
      assert.deepStrictEqual(told(events).filter((tag) => tag.endsWith(" 1") || tag.startsWith("Swap")), [
        "Opening 1",
        "OpenFailed 1",
        "SwapFailed",
        "Closed 1"
      ])
      const stats = yield* books(source, pool)
      assert.deepStrictEqual([stats.openFailures, stats.idle], [1, 1])
    }))

  it.effect("of an open that cannot be interrupted: what it opens is closed, never lent", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ max: 1 })
      ways.outcomes.set("new", { late: 500 })
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new")))
      yield* settle
      yield* Fiber.interrupt(swap)
      const waiter = yield* borrow(pool)
      yield* elapse(499)
      assert.deepStrictEqual(endings([waiter]), ["waits"])
      assert.strictEqual(ways.tried.length, 1)
      yield* elapse(1)
      assert.deepStrictEqual([waiter.item?.id, source.closed], [2, [1]])
      yield* waiter.letGo
      yield* books(source, pool)
    }))

  it.effect("lets another open begin at once, though its own has not come to its end", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ openConcurrency: 1 })
      ways.outcomes.set("new", "stuck")
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new")))
      yield* settle
      const waiter = yield* borrow(pool)
      yield* Fiber.interrupt(swap)
      yield* settle
      assert.strictEqual(waiter.item?.id, 2)
      yield* waiter.letGo
      yield* elapse(1000)
      yield* books(source, pool, { neverOpened: 1 })
    }))

  it.effect("leaves other opens alone", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled()
      source.opensOtherwise = { slow: 100 }
      const [first, swap, second] = [
        yield* borrow(pool),
        yield* Effect.forkChild(pool.swap(ways.to("new")), { startImmediately: true }),
        yield* borrow(pool)
      ]
      yield* Fiber.interrupt(swap)
      yield* elapse(100)
      assert.deepStrictEqual([first.item?.id, second.item?.id], [1, 3])
      yield* first.letGo
      yield* second.letGo
      assert.deepStrictEqual(ways.open, ["old", "old"])
      yield* books(source, pool)
    }))

  it.effect("before its open has begun, and while it waits for room, opens nothing in the new way", () =>
    Effect.gen(function*() {
      const { pool, source, ways } = yield* pooled({ max: 1 })
      const early = yield* Effect.forkChild(pool.swap(ways.to("new")), { startImmediately: true })
      early.interruptUnsafe()
      yield* settle
      const holder = yield* borrow(pool)
      const swap = yield* Effect.forkChild(pool.swap(ways.to("new")))
      yield* settle
      yield* Fiber.interrupt(swap)
      yield* holder.letGo
      assert.deepStrictEqual([ways.tried, source.closed], [["old"], []])
      yield* elapse("1 hour")
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("when the trial has succeeded changes nothing: the swap is done, and whole", () =>
    Effect.gen(function*() {
      const { events, pool, source, ways } = yield* pooled()
      yield* used(pool)
      const opened = yield* Deferred.make<void>()
      const swap = yield* Effect.forkChild(
        pool.swap(Effect.tap(ways.to("new"), () => Deferred.await(opened)), { over: 0 })
      )
      yield* settle
      // In the step in which the open ends.
      Deferred.doneUnsafe(opened, Exit.void)
      swap.interruptUnsafe()
      yield* settle
      assert.strictEqual(ending(swap.pollUnsafe()), "interrupted")
      assert.deepStrictEqual([tags(events), ways.open], [["Swapped"], ["new"]])
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  for (const room of [true, false]) {
    it.effect(`at any of its steps, ${room ? "with" : "without"} room, leaves the pool whole, in one way or the other`, () =>
      Effect.gen(function*() {
        const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const { events, pool, source, ways } = yield* pooled({ max: room ? 2 : 1, min: 1 })
          yield* settle
          const acquire = Effect.andThen(Effect.yieldNow, ways.to("new"))
          const fiber = yield* run(pool.swap(acquire, { over: 0 }))
          yield* Fiber.await(fiber)
          yield* elapse(1000)
          const swapped = tags(events).includes("Swapped")
          assert.strictEqual(tags(events).length <= 1, true, at)
          assert.deepStrictEqual(ways.open, [swapped ? "new" : "old"], at)
          assert.strictEqual((yield* books(source, pool)).idle, 1, at)
          // The next is not kept from its turn.
          yield* pool.swap(ways.to("newer"), { over: 0 })
          assert.strictEqual(ways.wayOf(yield* used(pool)), "newer", at)
        }, Effect.scoped))
        assert.isAbove(operations, 5)
      }))
  }
})

describe("the closing of the pool, with a swap", () => {
  const closing = Effect.fnUntraced(function*(
    options: Options,
    during: (made: {
      readonly pool: Pool
      readonly ways: Ways
      readonly source: Source
    }) => Effect.Effect<ReadonlyArray<Fiber.Fiber<unknown, unknown>>, never, Scope.Scope>
  ) {
    const scope = yield* Scope.make()
    const made = yield* Scope.provide(pooled(options), scope)
    const fibers = yield* during(made)
    yield* settle
    const close = yield* Effect.forkChild(Scope.close(scope, Exit.void))
    yield* elapse(1000)
    assert.isDefined(close.pollUnsafe())
    yield* elapse("1 minute")
    closedBooks(made.source)
    return fibers.map((fiber) => ending(fiber.pollUnsafe()))
  })

  it.effect("whose open is under way, and others behind it: all fail with Closed", () =>
    Effect.gen(function*() {
      const ended = yield* closing({}, ({ pool, ways }) => {
        ways.outcomes.set("new", "hang")
        return Effect.forEach([1, 2, 3], () => Effect.forkChild(pool.swap(ways.to("new"))))
      })
      assert.deepStrictEqual(ended, ["Closed", "Closed", "Closed"])
    }))

  it.effect("that waits for room: it fails with Closed", () =>
    Effect.gen(function*() {
      const ended = yield* closing(
        { max: 1 },
        Effect.fnUntraced(function*({ pool, ways }) {
          yield* borrow(pool)
          return [yield* Effect.forkChild(pool.swap(ways.to("new")))]
        })
      )
      assert.deepStrictEqual(ended, ["Closed"])
    }))

  it.effect("for which an item has just gone, or whose old items are still to go: nothing stays open", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* closing(
          { max: 1 },
          Effect.fnUntraced(function*({ pool, source, ways }) {
            yield* used(pool).pipe(Effect.orDie)
            source.closes.push({ slow: 500 })
            return [yield* Effect.forkChild(pool.swap(ways.to("new")))]
          })
        ),
        ["Closed"]
      )
      assert.deepStrictEqual(
        yield* closing(
          { min: 3 },
          Effect.fnUntraced(function*({ pool, ways }) {
            yield* settle
            return [yield* Effect.forkChild(pool.swap(ways.to("new"), { over: 60_000 }))]
          })
        ),
        ["served"]
      )
    }))
})

describe("acquire as a Stream", () => {
  /** A Stream that the test feeds, and what became of it. */
  const fed = Effect.fnUntraced(function*() {
    const queue = yield* Queue.unbounded<Acquire, Cause.Done>()
    let [begun, ended] = [0, 0]
    const changes = Stream.unwrap(Effect.acquireRelease(
      Effect.sync(() => {
        begun++
        return Stream.fromQueue(queue)
      }),
      () => Effect.sync(() => void ended++)
    ))
    return {
      changes,
      offer: (acquire: Acquire) => Effect.andThen(Queue.offer(queue, acquire), settle),
      end: Effect.andThen(Queue.end(queue), settle),
      get begun() {
        return begun
      },
      get ended() {
        return ended
      }
    }
  })

  const made = (acquire: Stream.Stream<Acquire>, options: Omit<Options, "acquire"> = {}) =>
    QueuePool.make<Thing, Refused, Scope.Scope, Options["warm"]>({
      max: 4,
      drainTimeout: 0,
      closeTimeout: 1000,
      retireOver: 0,
      ...options,
      acquire
    })

  it.effect("makes the pool when the first is there; each that follows is swapped to", () =>
    Effect.gen(function*() {
      const ways = new Ways()
      const stream = yield* fed()
      const making = yield* Effect.forkChild(made(stream.changes))
      yield* elapse("1 hour")
      assert.isUndefined(making.pollUnsafe())
      yield* stream.offer(ways.to("one"))
      const pool = yield* Fiber.join(making)
      assert.deepStrictEqual(ways.tried, [])
      assert.strictEqual(ways.wayOf(yield* used(pool)), "one")
      yield* stream.offer(ways.to("two"))
      assert.deepStrictEqual(ways.open, ["two"])
      yield* stream.offer(ways.to("three"))
      assert.deepStrictEqual([ways.open, ways.tried], [["three"], ["one", "two", "three"]])
      yield* books(ways.source, pool)
    }))

  it.effect("of a SubscriptionRef follows it", () =>
    Effect.gen(function*() {
      const ways = new Ways()
      const ref = yield* SubscriptionRef.make(ways.to("one"))
      const pool = yield* made(SubscriptionRef.changes(ref), { retireOver: 1000 })
      for (const { letGo } of yield* several(2, pool)) yield* letGo
      yield* SubscriptionRef.set(ref, ways.to("two"))
      yield* settle
      assert.deepStrictEqual(ways.open, ["one", "one", "two"])
      yield* elapse(1001)
      assert.deepStrictEqual(ways.open, ["two"])
      yield* books(ways.source, pool)
    }))

  it.effect("that is empty is refused", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(made(Stream.empty, { name: "db" }))
      if (error._tag !== "PoolError" || error.reason._tag !== "InvalidOptions") return assert.fail(error._tag)
      const problems = error.reason.problems.map(({ allowed, option }) => [option, allowed])
      assert.deepStrictEqual([error.pool, problems], [
        "db",
        [["acquire", "an Effect, or a Stream that has at least one"]]
      ])
    }))

  it.effect("that dies before its first is a defect of the making; nobody is told twice", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const boom = new Error("boom")
      assert.deepStrictEqual(yield* Effect.exit(made(Stream.die(boom))), Exit.die(boom))
      assert.deepStrictEqual(lines, [])
    })))

  it.effect("that dies later, or ends, leaves the pool with the last; the log tells of the first", () =>
    Effect.gen(function*() {
      for (const dies of [true, false]) {
        yield* logged(Effect.fnUntraced(function*(lines) {
          const ways = new Ways()
          const first = Stream.make(ways.to("one"), ways.to("two"))
          const pool = yield* made(dies ? Stream.concat(first, Stream.die("boom")) : first, { name: "db" })
          yield* settle
          assert.strictEqual(ways.wayOf(yield* used(pool)), "two")
          assert.deepStrictEqual(
            lines.map((line) => line.split(":")[0]),
            dies ? ["Error the Stream of acquire of pool \"db\" has failed"] : []
          )
          yield* books(ways.source, pool)
        }))
      }
    }))

  it.effect("of which one does not work keeps to the old, tells of it in the log, and goes on with the next", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const ways = new Ways()
      const stream = yield* fed()
      yield* stream.offer(ways.to("one"))
      const pool = yield* made(stream.changes, { name: "db" })
      yield* used(pool)
      for (const outcome of ["fail", "die"] as const) {
        ways.outcomes.set(outcome, outcome)
        yield* stream.offer(ways.to(outcome))
      }
      assert.deepStrictEqual(ways.open, ["one"])
      yield* stream.offer(ways.to("two"))
      assert.deepStrictEqual(ways.open, ["two"])
      assert.strictEqual(lines.length, 2)
      for (const line of lines) {
        assert.include(line, "Warn pool \"db\" cannot open items in the new way and keeps to the old")
      }
      yield* books(ways.source, pool)
    })))

  it.effect("tries what comes while a swap runs after it, each in its turn", () =>
    Effect.gen(function*() {
      const ways = new Ways()
      const stream = yield* fed()
      yield* stream.offer(ways.to("one"))
      const pool = yield* made(stream.changes)
      yield* used(pool)
      for (const way of ["two", "three"]) {
        ways.outcomes.set(way, { slow: 100 })
        yield* stream.offer(ways.to(way))
      }
      // One by hand takes its turn among them.
      const swap = yield* Effect.forkChild(pool.swap(ways.to("by hand"), { over: 0 }))
      yield* elapse(99)
      assert.deepStrictEqual([ways.tried, ways.open], [["one", "two"], ["one"]])
      yield* elapse(101)
      yield* Fiber.join(swap)
      assert.deepStrictEqual([ways.tried, ways.open], [["one", "two", "by hand", "three"], ["three"]])
      yield* books(ways.source, pool)
    }))

  it.effect("ends with the pool, before its items do, and without a word", () =>
    logged(Effect.fnUntraced(function*(lines) {
      for (const busy of ["no", "trial", "room"] as const) {
        const ways = new Ways()
        const stream = yield* fed()
        const scope = yield* Scope.make()
        yield* stream.offer(ways.to("one"))
        const pool = yield* Scope.provide(
          made(stream.changes, { max: busy === "room" ? 1 : 2, drainTimeout: 500 }),
          scope
        )
        const holder = yield* borrow(pool)
        if (busy !== "no") {
          ways.outcomes.set("two", "hang")
          yield* stream.offer(ways.to("two"))
        }
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* settle
        assert.deepStrictEqual([stream.ended, closing.pollUnsafe()], [1, undefined])
        // Nobody takes it any more.
        yield* stream.offer(ways.to("three"))
        yield* holder.letGo
        yield* Fiber.join(closing)
        assert.notInclude(ways.tried, "three")
        closedBooks(ways.source)
      }
      assert.deepStrictEqual(lines, [])
    })))

  it.effect("that cannot be interrupted holds up the closing for closeTimeout, and no longer", () =>
    Effect.gen(function*() {
      const ways = new Ways()
      const scope = yield* Scope.make()
      const stuck = Stream.concat(Stream.make(ways.to("one")), Stream.fromEffect(Effect.uninterruptible(Effect.never)))
      const pool = yield* Scope.provide(made(stuck), scope)
      yield* used(pool)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* elapse(999)
      assert.isUndefined(closing.pollUnsafe())
      yield* elapse(1)
      assert.isDefined(closing.pollUnsafe())
      closedBooks(ways.source)
    }))

  it.effect("is given up with the making of the pool: interrupted before the first is there, or a warm-up that fails", () =>
    Effect.gen(function*() {
      const stream = yield* fed()
      const making = yield* Effect.forkChild(made(stream.changes))
      yield* settle
      assert.strictEqual(stream.ended, 0)
      yield* Fiber.interrupt(making)
      // The scope around it is still open.
      assert.strictEqual(stream.ended, 1)
      const ways = new Ways()
      const other = yield* fed()
      ways.outcomes.set("bad", "fail")
      yield* other.offer(ways.to("bad"))
      assert.strictEqual(ending(yield* Effect.exit(made(other.changes, { min: 1, warm: "eager" }))), "Refused")
      assert.strictEqual(other.ended, 1)
    }))

  it.effect("is given up at whichever operation the making is interrupted", () =>
    interruptAtEvery(Effect.fnUntraced(function*(run, at) {
      const ways = new Ways()
      const stream = yield* fed()
      yield* stream.offer(ways.to("one"))
      yield* stream.offer(ways.to("two"))
      const scope = yield* Scope.make()
      const making = yield* run(Scope.provide(made(stream.changes, { min: 2, warm: "eager" }), scope))
      yield* Fiber.await(making)
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* settle
      closedBooks(ways.source)
      assert.strictEqual(stream.ended, stream.begun, at)
    }, Effect.scoped)))

  it.effect("a warm-up that its first cannot end is ended by the next", () =>
    Effect.gen(function*() {
      const ways = new Ways()
      const stream = yield* fed()
      ways.outcomes.set("bad", "fail")
      yield* stream.offer(ways.to("bad"))
      const making = yield* Effect.forkChild(
        made(stream.changes, { min: 2, warm: "eager", retry: Schedule.spaced(1000) })
      )
      yield* elapse(2500)
      assert.deepStrictEqual([ways.tried, making.pollUnsafe()], [["bad", "bad", "bad"], undefined])
      yield* stream.offer(ways.to("good"))
      const pool = yield* Fiber.join(making)
      assert.deepStrictEqual([ways.open, ways.tried.slice(3)], [["good", "good"], ["good", "good"]])
      yield* books(ways.source, pool)
    }))

  it.effect("an eager warm-up takes the first, alone, and nothing of it is opened twice", () =>
    Effect.gen(function*() {
      const ways = new Ways()
      ways.outcomes.set("one", { slow: 100 })
      const making = yield* Effect.forkChild(made(Stream.make(ways.to("one")), { min: 3, warm: "eager" }))
      yield* elapse(99)
      assert.deepStrictEqual(ways.tried, ["one"])
      yield* elapse(1)
      yield* elapse(100)
      const pool = yield* Fiber.join(making)
      assert.deepStrictEqual(ways.tried, ["one", "one", "one"])
      yield* books(ways.source, pool)
    }))

  it.effect("of a pool that is lazy, with its next there already, warms nothing but the trial", () =>
    Effect.gen(function*() {
      const ways = new Ways()
      const pool = yield* made(Stream.make(ways.to("one"), ways.to("two")), { min: 3, warm: "lazy" })
      yield* settle
      assert.deepStrictEqual([ways.tried, ways.open], [["two"], ["two"]])
      yield* books(ways.source, pool)
    }))

  it.effect("may need what acquire may: services, and the item's scope", () =>
    Effect.gen(function*() {
      class Endpoint extends Context.Service<Endpoint, string>()("test/Endpoint") {}
      const log: Array<string> = []
      const connect = (to: string) =>
        Effect.flatMap(Endpoint, (endpoint) =>
          Effect.acquireRelease(
            Effect.sync(() => void log.push(`open ${endpoint} ${to}`)),
            () => Effect.sync(() => void log.push(`close ${endpoint} ${to}`))
          ))
      const changes = Stream.fromEffect(Effect.map(Endpoint, (endpoint) => connect(`for ${endpoint}`))).pipe(
        Stream.concat(Stream.make(connect("next")))
      )
      yield* Effect.scoped(Effect.gen(function*() {
        const pool = yield* QueuePool.make({ acquire: changes, retireOver: 0 })
        yield* pool.use(() => Effect.void)
        yield* settle
        yield* pool.use(() => Effect.void)
      })).pipe(Effect.provideService(Endpoint, "db"))
      assert.strictEqual(log.filter((line) => line.startsWith("open")).length, 2)
      assert.strictEqual(log.filter((line) => line.startsWith("close")).length, 2)
      assert.include(log, "open db next")
    }))
})
