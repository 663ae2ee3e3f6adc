import { assert, describe, it } from "@effect/vitest"
import { Cause, type Duration, Effect, Exit, Fiber, Random, Schedule, Scope, Stream } from "effect"
import { type PoolEvent, QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { gate, settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

type Pool = QueuePool.QueuePool<Thing, unknown>
type Event = PoolEvent.PoolEvent

const make = Effect.fnUntraced(function*(options: Partial<QueuePool.Options<Thing, unknown, Scope.Scope>> = {}) {
  const source = new Source()
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const pool: Pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, name: "db", ...options }), scope)
  const events = yield* record(pool)
  return { source, pool, events, close: Scope.close(scope, Exit.void) }
})

/** The facts of the events, a cause as its text. */
const facts = (events: ReadonlyArray<Event>) =>
  events.map((event) => "cause" in event ? { ...event, cause: String(Cause.squash(event.cause!)) } : event)

/** Takes what was told so far. */
const take = (events: Array<Event>) => Effect.map(settle, () => events.splice(0))

const lease = (pool: Pool) => pool.use((thing) => Effect.succeed(thing.id))

describe("the events", () => {
  it.effect("of an item's life, in order and with their facts", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({ recycle: RecyclePolicy.uses(2) })
      source.opens.push({ slow: 100 })
      source.closes.push({ slow: 40 })
      yield* TestClock.adjust(1000)
      const borrower = yield* Effect.forkChild(pool.use(() => Effect.sleep(25)))
      yield* settle
      yield* TestClock.adjust(100)
      yield* TestClock.adjust(25)
      yield* Fiber.join(borrower)
      yield* TestClock.adjust(75)
      yield* lease(pool)
      yield* TestClock.adjust(40)
      yield* settle
      const pooled = { pool: "db", item: 1 }
      assert.deepStrictEqual(facts(events), [
        { _tag: "Opening", ...pooled, at: 1000 },
        { _tag: "Opened", ...pooled, at: 1100, took: 100 },
        { _tag: "Borrowed", ...pooled, at: 1100, waited: 100 },
        { _tag: "Returned", ...pooled, at: 1125, held: 25 },
        { _tag: "Borrowed", ...pooled, at: 1200, waited: 0 },
        { _tag: "Returned", ...pooled, at: 1200, held: 0 },
        { _tag: "Recycled", ...pooled, at: 1200, reason: "uses", age: 100, uses: 2 },
        { _tag: "Closed", ...pooled, at: 1240, took: 40 }
      ] as never)
    }))

  it.effect("of opens that fail, with and without a retry", () =>
    Effect.gen(function*() {
      const first = yield* make()
      first.source.opens.push("fail")
      yield* Effect.exit(lease(first.pool))
      const [opening, failed, refused] = facts(yield* take(first.events))
      assert.deepStrictEqual(opening, { _tag: "Opening", pool: "db", item: 1, at: 0 })
      assert.strictEqual(failed?._tag, "OpenFailed")
      assert.strictEqual(failed?._tag === "OpenFailed" && failed.took, 0)
      assert.deepStrictEqual(refused, { _tag: "BorrowFailed", pool: "db", at: 0, reason: "OpenFailed", waited: 0 })

      const second = yield* make({ retry: Schedule.spaced("1 second") })
      second.source.opens.push("fail")
      const borrower = yield* Effect.forkChild(lease(second.pool))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(borrower)
      const events = yield* take(second.events)
      assert.deepStrictEqual(told(events), [
        "Opening 1",
        "OpenFailed 1",
        "Retrying",
        "Opening 2",
        "Opened 2",
        "Borrowed 2",
        "Returned 2"
      ])
      assert.deepStrictEqual(events[2], { _tag: "Retrying", pool: "db", at: 0, in: 1000 })
      assert.strictEqual(events[5]?._tag === "Borrowed" && events[5].waited, 1000)
    }))

  it.effect("of a retry Schedule that throws: the borrower hears of it, and the pool goes on", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({
        retry: Schedule.fromStep(
          Effect.succeed((): Effect.Effect<[void, Duration.Duration]> => {
            throw new Error("a bug in a Schedule")
          })
        )
      })
      source.opens.push("fail")
      const exit = yield* Effect.exit(lease(pool))
      assert.include(String(exit), "a bug in a Schedule")
      assert.deepStrictEqual(told(yield* take(events)), ["Opening 1", "OpenFailed 1", "BorrowFailed"])
      assert.strictEqual(yield* lease(pool), 2)
    }))

  it.effect("of an open that runs out of time, and of the item that comes late", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({ openTimeout: "1 second" })
      source.opens.push({ late: 1500 })
      const borrower = yield* Effect.forkChild(Effect.exit(lease(pool)))
      yield* settle
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(borrower)
      const heard = yield* take(events)
      assert.deepStrictEqual(told(heard), ["Opening 1", "OpenFailed 1", "BorrowFailed", "Closed 1"])
      assert.strictEqual(heard[1]?._tag === "OpenFailed" && heard[1].took, 1000)
      assert.strictEqual(heard[3]?._tag === "Closed" && heard[3].took, 500)
    }))

  it.effect("of a failed check", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ checkAfter: 0, check: ({ id }) => Effect.fail(`${id} is dead`) })
      yield* lease(pool)
      yield* take(events)
      yield* lease(pool)
      const heard = facts(yield* take(events))
      assert.deepStrictEqual(heard.slice(0, 2), [
        { _tag: "CheckFailed", pool: "db", item: 1, at: 0, cause: "1 is dead" },
        { _tag: "Recycled", pool: "db", item: 1, at: 0, reason: "check failed", age: 0, uses: 1 }
      ] as never)
    }))

  it.effect("of a check that says false, or outruns its time", () =>
    Effect.gen(function*() {
      let check: Effect.Effect<unknown> = Effect.succeed(false)
      const { events, pool } = yield* make({ checkAfter: 0, check: () => check })
      yield* lease(pool)
      yield* lease(pool)
      assert.include(JSON.stringify(facts(yield* take(events))), "the check returned false")
      check = Effect.never
      const borrower = yield* Effect.forkChild(lease(pool))
      yield* settle
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(borrower)
      assert.include(JSON.stringify(facts(yield* take(events))), "the check took longer than 5000ms")
    }))

  it.effect("of a failed reset", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ reset: () => Effect.die(new Error("half read")) })
      yield* lease(pool)
      const heard = facts(yield* take(events))
      assert.deepStrictEqual(told(heard as never).slice(2), [
        "Borrowed 1",
        "Returned 1",
        "ResetFailed 1",
        "Recycled 1",
        "Closed 1"
      ])
      assert.include(JSON.stringify(heard[4]), "half read")
      assert.include(JSON.stringify(heard[5]), "reset failed")
    }))

  it.effect("of closes that fail or hang", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({ recycle: RecyclePolicy.uses(1), closeTimeout: "3 seconds" })
      source.closes.push("die", "stuck")
      yield* lease(pool)
      yield* lease(pool)
      yield* settle
      yield* TestClock.adjust("3 seconds")
      const heard = facts(yield* take(events)).filter(({ _tag }) => ["CloseFailed", "Abandoned"].includes(_tag))
      assert.deepStrictEqual(heard, [
        { _tag: "CloseFailed", pool: "db", item: 1, at: 0, took: 0, cause: "Error: broken 1" },
        { _tag: "Abandoned", pool: "db", item: 2, at: 3000, took: 3000 }
      ] as never)
      const { abandoned, closed, closing } = yield* pool.stats
      assert.deepStrictEqual({ abandoned, closed, closing }, { abandoned: 1, closed: 1, closing: 0 })
    }))

  it.effect("of clear, invalidate and sweep", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make()
      yield* lease(pool)
      yield* take(events)
      yield* pool.clear
      assert.deepStrictEqual(told(yield* take(events)), ["Cleared", "Recycled 1", "Closed 1"])
      yield* pool.use((thing) => pool.invalidate(thing))
      assert.deepStrictEqual(told(yield* take(events)), [
        "Opening 2",
        "Opened 2",
        "Borrowed 2",
        "Returned 2",
        "Recycled 2",
        "Closed 2"
      ])
      yield* pool.sweep
      assert.deepStrictEqual(yield* take(events), [{ _tag: "Swept", pool: "db", at: 0, recycled: 0 }])
      yield* pool.invalidate({ id: 5 })
      assert.deepStrictEqual(yield* take(events), [])
    }))

  it.effect("of a pool that closes with a lease and a waiter", () =>
    Effect.gen(function*() {
      const { close, events, pool } = yield* make({ max: 1, drainTimeout: "2 seconds" })
      const holder = yield* Effect.forkChild(Effect.withSpan(pool.use(() => Effect.never), "GET /users"))
      yield* settle
      const waiter = yield* Effect.forkChild(Effect.exit(lease(pool)))
      yield* settle
      yield* take(events)
      const closing = yield* Effect.forkChild(close)
      yield* settle
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(closing)
      yield* Fiber.join(waiter)
      assert.deepStrictEqual(facts(yield* take(events)), [
        { _tag: "PoolClosing", pool: "db", at: 0 },
        { _tag: "BorrowFailed", pool: "db", at: 0, reason: "Closed", waited: 0 },
        { _tag: "TakenBack", pool: "db", item: 1, at: 2000, held: 2000, by: "GET /users" },
        { _tag: "Recycled", pool: "db", item: 1, at: 2000, reason: "taken back", age: 2000, uses: 0 },
        { _tag: "Closed", pool: "db", item: 1, at: 2000, took: 0 },
        { _tag: "PoolClosed", pool: "db", at: 2000 }
      ] as never)
      // The holder's return, when it comes, is no news.
      yield* Fiber.interrupt(holder)
      assert.deepStrictEqual(yield* take(events), [])
    }))
})

describe("a borrow ends in exactly one event", () => {
  const ends = (events: ReadonlyArray<Event>) =>
    events.flatMap((event) =>
      event._tag === "Borrowed" ? ["Borrowed"] : event._tag === "BorrowFailed" ? [event.reason] : []
    )

  it.effect("when it is served at once, or after a wait", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ max: 1 })
      const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(lease(pool)))
      yield* Fiber.awaitAll(fibers)
      yield* lease(pool)
      assert.deepStrictEqual(ends(yield* take(events)), ["Borrowed", "Borrowed", "Borrowed", "Borrowed"])
    }))

  it.effect("when it is refused", () =>
    Effect.gen(function*() {
      const { close, events, pool, source } = yield* make({ max: 1, maxWaiters: 1, borrowTimeout: "1 second" })
      source.opens.push("fail")
      yield* Effect.exit(lease(pool))
      const holder = yield* Effect.forkChild(pool.use(() => Effect.never))
      yield* settle
      const waiter = yield* Effect.forkChild(Effect.exit(lease(pool)))
      yield* settle
      yield* Effect.exit(lease(pool))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(waiter)
      const interrupted = yield* Effect.forkChild(lease(pool))
      yield* settle
      yield* Fiber.interrupt(interrupted)
      yield* Fiber.interrupt(holder)
      yield* settle
      yield* close
      yield* Effect.exit(lease(pool))
      assert.deepStrictEqual(ends(yield* take(events)), [
        "OpenFailed",
        "Borrowed",
        "TooManyWaiters",
        "BorrowTimeout",
        "Interrupted"
      ])
    }))

  it.effect("when it is interrupted in the turn in which it was served", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ max: 1 })
      const scope = yield* Scope.make()
      yield* Scope.provide(pool.get, scope)
      const waiter = yield* Effect.forkChild(lease(pool))
      yield* settle
      yield* take(events)
      yield* Effect.onExit(Scope.close(scope, Exit.void), () => Effect.sync(() => waiter.interruptUnsafe()))
      yield* Fiber.await(waiter)
      const heard = yield* take(events)
      assert.deepStrictEqual(ends(heard), ["Interrupted"])
      const { borrowed, idle, returned } = yield* pool.stats
      assert.deepStrictEqual({ borrowed, idle, returned }, { borrowed: 1, idle: 1, returned: 1 })
    }))
})

describe("a listener", () => {
  it.effect("that fails or dies is dropped from, and disturbs nobody", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make()
      const fibers = yield* Effect.forEach(
        [Effect.fail("no"), Effect.die("no")],
        (how) => Effect.forkScoped(Effect.exit(Stream.runForEach(pool.events, () => how)))
      )
      yield* settle
      assert.strictEqual(yield* lease(pool), 1)
      for (const fiber of fibers) assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
      yield* lease(pool)
      assert.strictEqual((yield* take(events)).length, 6)
    }))

  it.effect("that is slow loses the oldest, and slows nobody", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make()
      const heard: Array<Event> = []
      const slow = yield* gate
      yield* Effect.forkScoped(
        Stream.runForEach(pool.events, (event) => Effect.andThen(slow.pass, Effect.sync(() => heard.push(event))))
      )
      yield* settle
      for (let i = 0; i < 2500; i++) yield* lease(pool)
      yield* settle
      assert.strictEqual(events.length, 5002)
      yield* slow.open
      yield* settle
      // What it had taken already, and the last 4096.
      assert.isAtLeast(heard.length, 4096)
      assert.isBelow(heard.length, 4200)
      assert.deepStrictEqual(heard.slice(-4096), events.slice(-4096))
    }))

  it.effect("hears what happens from its subscription on, each the same", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make()
      yield* lease(pool)
      const late = yield* record(pool)
      yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(told(late), ["Borrowed 1", "Returned 1"])
      assert.deepStrictEqual(events.slice(-2), late)
    }))

  it.effect("that has left costs nothing any more", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire })
      const state = (Reflect.get(pool, "pool") as { readonly state: { readonly listening: boolean } }).state
      assert.isFalse(state.listening)
      const two = yield* Effect.forEach([1, 2], () => Effect.forkScoped(Stream.runDrain(pool.events)))
      yield* settle
      assert.isTrue(state.listening)
      yield* Fiber.interrupt(two[0]!)
      assert.isTrue(state.listening)
      yield* Fiber.interrupt(two[1]!)
      assert.isFalse(state.listening)
    }))

  it.effect("comes to the end of the stream when the pool is closed, after the last event", () =>
    Effect.gen(function*() {
      const { close, pool } = yield* make({ min: 2 })
      const listener = yield* Effect.forkScoped(Stream.runCollect(pool.events))
      yield* settle
      yield* close
      const heard = Array.from(yield* Fiber.join(listener))
      assert.strictEqual(heard.at(-1)?._tag, "PoolClosed")
      assert.strictEqual(heard.filter(({ _tag }) => _tag === "Closed").length, 2)
      // Whoever comes later finds the stream over.
      assert.deepStrictEqual(Array.from(yield* Stream.runCollect(pool.events)), [])
    }))

  it.effect("that subscribes while the pool closes hears the rest", () =>
    Effect.gen(function*() {
      const { close, pool, source } = yield* make({ min: 1 })
      source.closes.push({ slow: 1000 })
      const closing = yield* Effect.forkChild(close)
      yield* settle
      const listener = yield* Effect.forkScoped(Stream.runCollect(pool.events))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(told(Array.from(yield* Fiber.join(listener))), ["Closed 1", "PoolClosed"])
    }))
})

describe("stats", () => {
  it.effect("are one moment, and the totals of all that has happened", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 4, min: 1, recycle: RecyclePolicy.failed })
      yield* settle
      const held = yield* Effect.forkChild(pool.use(() => Effect.never))
      yield* settle
      source.opens.push({ slow: 1000 })
      source.closes.push({ slow: 5000 })
      yield* Effect.forkChild(Effect.exit(pool.use(() => Effect.fail("no"))))
      yield* settle
      assert.deepStrictEqual(yield* pool.stats, {
        idle: 0,
        used: 1,
        pending: 1,
        parked: 0,
        opening: 1,
        closing: 0,
        leases: 1,
        suspended: false,
        min: 1,
        max: 4,
        opened: 1,
        openFailures: 0,
        closed: 0,
        abandoned: 0,
        borrowed: 1,
        returned: 0,
        takenBack: 0,
        leaked: 0,
        detached: 0,
        waited: 1,
        timeouts: 0,
        recycled: {}
      })
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(yield* pool.stats, {
        idle: 0,
        used: 1,
        pending: 0,
        parked: 0,
        opening: 0,
        closing: 1,
        leases: 1,
        suspended: false,
        min: 1,
        max: 4,
        opened: 2,
        openFailures: 0,
        closed: 0,
        abandoned: 0,
        borrowed: 2,
        returned: 1,
        takenBack: 0,
        leaked: 0,
        detached: 0,
        waited: 1,
        timeouts: 0,
        recycled: { failed: 1 }
      })
      yield* Fiber.interrupt(held)
      yield* TestClock.adjust("5 seconds")
    }))

  it.effect("are snapshots: one that was taken does not change", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ recycle: RecyclePolicy.uses(1) })
      yield* lease(pool)
      const before = yield* pool.stats
      yield* lease(pool)
      assert.deepStrictEqual(before.recycled, { uses: 1 })
      assert.strictEqual(before.borrowed, 1)
    }))

  for (let seed = 1; seed <= 25; seed++) {
    it.effect(`agree with the items and the events, whatever is done (seed ${seed})`, () =>
      Effect.gen(function*() {
        const { close, events, pool, source } = yield* make({
          max: 3,
          min: 1,
          borrowTimeout: "2 seconds",
          maxWaiters: 4,
          recycle: [RecyclePolicy.failed, RecyclePolicy.uses(4), RecyclePolicy.idle("3 seconds")]
        })
        yield* settle
        // The first item was opened before anyone listened.
        const before = yield* pool.stats
        let asked = 0
        const fibers: Array<Fiber.Fiber<unknown>> = []
        const consistent = Effect.map(pool.stats, (stats) => {
          const { closing, idle, max, opened, opening, used } = stats
          assert.isAtMost(idle + used + opening + closing, max, `seed ${seed}`)
          assert.strictEqual(opened - stats.closed, idle + used + closing, `seed ${seed}`)
          assert.strictEqual(stats.borrowed - stats.returned, used, `seed ${seed}`)
          assert.strictEqual(opened, source.opened.length, `seed ${seed}`)
          assert.strictEqual(
            Object.values(stats.recycled).reduce((sum, n) => sum + n, 0),
            stats.closed + closing,
            `seed ${seed}`
          )
        })
        for (let step = 0; step < 60; step++) {
          const millis = yield* Random.nextIntBetween(0, 400)
          const outcomes = ["ok", "ok", "fail", { slow: millis }] as const
          switch (yield* Random.nextIntBetween(0, 9)) {
            case 0:
              source.opens.push(yield* Random.choice(outcomes))
              break
            case 1:
              source.closes.push({ slow: millis })
              break
            case 2:
              yield* pool.clear
              break
            case 3:
              yield* pool.sweep
              break
            case 4: {
              const fiber = fibers[yield* Random.nextIntBetween(0, fibers.length + 1)]
              if (fiber !== undefined) fiber.interruptUnsafe()
              break
            }
            case 5:
              yield* TestClock.adjust(millis)
              break
            default: {
              const fails = yield* Random.nextBoolean
              const body = Effect.andThen(Effect.sleep(millis), fails ? Effect.fail("no") : Effect.void)
              asked++
              fibers.push(yield* Effect.forkChild(Effect.exit(pool.use(() => body))))
            }
          }
          yield* settle
          yield* consistent
        }
        for (let i = 0; i < 10; i++) {
          yield* TestClock.adjust("1 second")
          yield* settle
          yield* consistent
        }
        const after = yield* pool.stats
        assert.deepStrictEqual([after.used, after.pending, after.opening, after.closing], [0, 0, 0, 0], `seed ${seed}`)
        const count = (tag: Event["_tag"]) => events.filter(({ _tag }) => _tag === tag).length
        assert.strictEqual(count("Opened"), after.opened - before.opened, `seed ${seed}`)
        assert.strictEqual(count("OpenFailed"), after.openFailures, `seed ${seed}`)
        assert.strictEqual(count("Closed"), after.closed, `seed ${seed}`)
        assert.strictEqual(count("Borrowed"), after.borrowed, `seed ${seed}`)
        assert.strictEqual(count("Returned"), after.returned, `seed ${seed}`)
        assert.strictEqual(count("Borrowed") + count("BorrowFailed"), asked, `seed ${seed}`)
        const timeouts = events.filter((event) => event._tag === "BorrowFailed" && event.reason === "BorrowTimeout")
        assert.strictEqual(timeouts.length, after.timeouts, `seed ${seed}`)
        source.closes.length = 0
        yield* close
        assert.strictEqual(source.live, 0, `seed ${seed}`)
      }).pipe(Random.withSeed(seed)))
  }
})
