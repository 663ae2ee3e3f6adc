import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Random, Result, Schedule, Scope } from "effect"
import { type PoolEvent, QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { settle, Source, type Thing } from "./kit/items.ts"
import { bent, BentClock, record, recycled, recycledAt } from "./kit/observe.ts"

type Pool = QueuePool.QueuePool<Thing, unknown>

const make = Effect.fnUntraced(function*(options: Partial<QueuePool.Options<Thing, unknown, Scope.Scope>>) {
  const source = new Source()
  const clock = yield* BentClock.make
  const pool: Pool = yield* bent(QueuePool.make({ acquire: source.acquire, ...options }), clock)
  const events = yield* record(pool)
  return { source, clock, pool, events }
})

const lease = (pool: Pool) => pool.use((thing) => Effect.succeed(thing.id))

const swept = (events: ReadonlyArray<PoolEvent.PoolEvent>) =>
  events.filter(({ _tag }) => _tag === "Swept").map(({ at }) => at)

const hour = 3_600_000

describe("a change of the wall clock", () => {
  for (const [name, jump] of [["G1: an hour back", -hour], ["G2: an hour on", hour]] as const) {
    it.effect(`${name} ends no item early or late`, () =>
      Effect.gen(function*() {
        const { clock, events, pool } = yield* make({
          recycle: [RecyclePolicy.idle("10 minutes"), RecyclePolicy.age("25 minutes")]
        })
        yield* lease(pool)
        clock.wall = jump
        yield* TestClock.adjust("9 minutes")
        assert.strictEqual(yield* lease(pool), 1)
        clock.wall = -jump
        yield* TestClock.adjust("10 minutes")
        yield* settle
        assert.deepStrictEqual(recycled(events), [])
        yield* TestClock.adjust(1)
        yield* settle
        assert.deepStrictEqual(recycled(events), [[1, "idle"]])
        assert.deepStrictEqual(recycledAt(events), [19 * 60_000 + 1])
      }))

    it.effect(`${name} changes no deadline of a borrow, an open, a check or a close`, () =>
      Effect.gen(function*() {
        const { clock, pool, source } = yield* make({
          max: 1,
          openTimeout: "4 seconds",
          borrowTimeout: "5 seconds",
          closeTimeout: "2 seconds"
        })
        source.opens.push("hang")
        const opening = yield* Effect.forkChild(Effect.result(lease(pool)))
        yield* settle
        clock.wall = jump
        yield* TestClock.adjust("3999 millis")
        assert.isUndefined(opening.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isTrue(Result.isFailure(yield* Fiber.join(opening)))
        yield* settle

        const holder = yield* Effect.forkChild(pool.use(() => Effect.never))
        yield* settle
        const waiter = yield* Effect.forkChild(Effect.result(lease(pool)))
        yield* settle
        clock.wall = -jump
        yield* TestClock.adjust("4999 millis")
        assert.isUndefined(waiter.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isTrue(Result.isFailure(yield* Fiber.join(waiter)))

        source.closes.push("stuck")
        yield* Fiber.interrupt(holder)
        yield* pool.clear
        clock.wall = 2 * jump
        yield* TestClock.adjust("1999 millis")
        assert.strictEqual((yield* pool.stats).closing, 1)
        yield* TestClock.adjust(1)
        yield* settle
        assert.strictEqual((yield* pool.stats).abandoned, 1)
      }))

    it.effect(`${name} does not end a retry before its time, nor the sweep's cadence, nor an item's Schedule`, () =>
      Effect.gen(function*() {
        const minute = Schedule.max([Schedule.spaced("1 second"), Schedule.during("1 minute")])
        const { clock, events, pool, source } = yield* make({
          borrowTimeout: "Infinity",
          retry: minute,
          sweep: Schedule.max([Schedule.spaced("1 second"), Schedule.during("2 minutes")]),
          recycle: RecyclePolicy.schedule(Schedule.during("10 minutes"))
        })
        source.opensOtherwise = "fail"
        const borrower = yield* Effect.forkChild(Effect.result(lease(pool)))
        yield* settle
        clock.wall = jump
        yield* TestClock.adjust("59 seconds")
        yield* settle
        assert.isUndefined(borrower.pollUnsafe())
        source.opensOtherwise = "ok"
        yield* TestClock.adjust("1 second")
        yield* settle
        const id = Result.getOrThrow(yield* Fiber.join(borrower))
        clock.wall = 0
        yield* TestClock.adjust("1 minute")
        yield* settle
        assert.strictEqual(swept(events).length, 120)
        clock.wall = jump
        assert.strictEqual(yield* lease(pool), id)
        yield* settle
        assert.deepStrictEqual(recycled(events), [])
        clock.wall = 0
        yield* TestClock.adjust("10 minutes")
        yield* lease(pool)
        yield* settle
        assert.deepStrictEqual(recycled(events), [[id, "schedule"]])
      }))
  }

  it.effect("is seen by a Schedule among the rules as it stood at the opening; its time goes on from there", () =>
    Effect.gen(function*() {
      const times: Array<number> = []
      const watch = Schedule.fromStep(Effect.succeed((now: number) => {
        times.push(now)
        return Effect.succeed([undefined, Duration.zero] as [undefined, Duration.Duration])
      }))
      const { clock, pool } = yield* make({ recycle: RecyclePolicy.schedule(watch) })
      yield* TestClock.adjust(50)
      clock.wall = hour
      yield* lease(pool)
      clock.wall = 0
      yield* TestClock.adjust(10)
      yield* lease(pool)
      assert.deepStrictEqual(times, [hour + 50, hour + 50, hour + 60])
    }))

  // G9 too: with the same seed the same scenario gives the same trace, event by event.
  it.effect("G9: leaves the trace of a scenario as it is, to the last event", () =>
    Effect.gen(function*() {
      const trace = (jumps: ReadonlyArray<number>) =>
        Effect.gen(function*() {
          const { clock, events, pool, source } = yield* make({
            max: 3,
            min: 1,
            check: () => Effect.void,
            checkAfter: "5 seconds",
            retry: Schedule.exponential("200 millis").pipe(Schedule.jittered),
            sweep: Schedule.fixed("7 seconds"),
            recycle: [
              RecyclePolicy.age("30 seconds", { jitter: 0.3 }),
              RecyclePolicy.idle("8 seconds"),
              RecyclePolicy.after(Schedule.jittered(Schedule.spaced("20 seconds"))),
              RecyclePolicy.schedule(Schedule.during("25 seconds")),
              RecyclePolicy.when((usage) => usage.age > 28_000)
            ]
          })
          const start = yield* Effect.clockWith((clock) => Effect.sync(() => clock.monotonicTimeNanosUnsafe()))
          for (let step = 0; step < 60; step++) {
            clock.wall = jumps[step % jumps.length]!
            if (step % 7 === 3) source.opens.push("fail")
            yield* Effect.forkChild(Effect.exit(pool.use(() => Effect.sleep(step * 37))))
            yield* TestClock.adjust((step * 531) % 4000)
            yield* settle
          }
          yield* TestClock.adjust("1 minute")
          yield* settle
          return events.map((event) => {
            const { _tag, at } = event
            return `${_tag} ${"item" in event ? event.item : ""} at ${(at - Number(start) / 1e6).toFixed(3)}`
          })
        }).pipe(Effect.scoped, Random.withSeed("trace"))
      const still = yield* trace([0])
      assert.isAbove(still.length, 100)
      assert.deepStrictEqual(yield* trace([0]), still)
      assert.deepStrictEqual(yield* trace([hour, -hour, 0, 1e12, -1e12]), still)
    }))
})

describe("a stall", () => {
  it.effect("G3: of an hour: what is idle is checked before it is lent, and is opened anew a few at a time", () =>
    Effect.gen(function*() {
      let alive = true
      const { clock, pool, source } = yield* make({
        max: 8,
        min: 8,
        openConcurrency: 2,
        check: () => alive ? Effect.void : Effect.fail("the other side has gone")
      })
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.strictEqual((yield* pool.stats).idle, 8)
      alive = false
      clock.stalled = hour
      source.peakOpening = 0
      source.opensOtherwise = { slow: 100 }
      const borrowers = yield* Effect.forEach(Array.from({ length: 8 }), () => Effect.forkChild(lease(pool)))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      const ids = yield* Effect.forEach(borrowers, Fiber.join)
      assert.isTrue(ids.every((id) => id > 8))
      assert.strictEqual(source.peakOpening, 2)
    }))

  it.effect("G4: of ten seconds: a borrower's time counts from its request, and ends with the first tick after", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* make({ max: 1, borrowTimeout: "5 seconds" })
      const holder = yield* Effect.forkChild(pool.use(() => Effect.never))
      yield* settle
      const waiter = yield* Effect.forkChild(Effect.flip(lease(pool)))
      yield* settle
      yield* TestClock.adjust("1 second")
      clock.stalled = 10_000
      yield* TestClock.adjust("4 seconds")
      const error = yield* Fiber.join(waiter)
      assert.include(String(error), "BorrowTimeout: no item of \"pool\" within 15s")
      yield* Fiber.interrupt(holder)
    }))

  it.effect("G4: of ten seconds: a borrower that is served first is not refused", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* make({ max: 1, borrowTimeout: "5 seconds" })
      const scope = yield* Scope.make()
      yield* Scope.provide(pool.get, scope)
      const waiter = yield* Effect.forkChild(lease(pool))
      yield* settle
      clock.stalled = 10_000
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Fiber.join(waiter), 1)
    }))

  it.effect("G4: of ten seconds: the cadence is late once, and catches up with nothing", () =>
    Effect.gen(function*() {
      for (const sweep of [Schedule.spaced("1 second"), Schedule.windowed("1 second")]) {
        const { clock, events } = yield* make({ sweep })
        yield* TestClock.adjust("3 seconds")
        yield* settle
        const before = swept(events).length
        clock.stalled += 10_000
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.strictEqual(swept(events).length - before, 1)
        yield* TestClock.adjust("3 seconds")
        yield* settle
        assert.strictEqual(swept(events).length - before, 4)
      }
    }))

  it.effect("G4: of ten seconds: no item is ended as idle that a waiter can have", () =>
    Effect.gen(function*() {
      const { clock, events, pool } = yield* make({ max: 1, recycle: RecyclePolicy.idle("1 second") })
      const scope = yield* Scope.make()
      yield* Scope.provide(pool.get, scope)
      const waiter = yield* Effect.forkChild(lease(pool))
      yield* settle
      clock.stalled = 10_000
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Fiber.join(waiter), 1)
      assert.deepStrictEqual(recycled(events), [])
    }))
})

describe("a timer", () => {
  it.effect("G5: of more than 2^31 milliseconds is one sleep", () =>
    Effect.gen(function*() {
      const { clock, events, pool } = yield* make({ recycle: RecyclePolicy.age("60 days") })
      yield* lease(pool)
      clock.sleeps.length = 0
      yield* TestClock.adjust("60 days")
      yield* settle
      assert.isAtMost(clock.sleeps.length, 1)
      assert.deepStrictEqual(recycled(events), [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  it.effect("G5: of Infinity never begins", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* make({
        max: 1,
        borrowTimeout: "Infinity",
        checkAfter: "Infinity",
        drainTimeout: "Infinity",
        sweep: Schedule.spaced(Duration.infinity),
        recycle: [RecyclePolicy.idle("Infinity"), RecyclePolicy.age(Infinity, { jitter: 0.5 })]
      })
      yield* lease(pool)
      const holder = yield* Effect.forkChild(pool.use(() => Effect.never))
      yield* settle
      const waiter = yield* Effect.forkChild(lease(pool))
      yield* settle
      clock.sleeps.length = 0
      yield* TestClock.adjust("10000 days")
      assert.deepStrictEqual(clock.sleeps, [])
      yield* Fiber.interrupt(holder)
      assert.strictEqual(yield* Fiber.join(waiter), 1)
    }))

  it.effect("G5: of zero makes no hot loop: each item is lent once and is gone a millisecond after", () =>
    Effect.gen(function*() {
      for (const recycle of [RecyclePolicy.idle(0), RecyclePolicy.age(0), RecyclePolicy.after(Schedule.spaced(0))]) {
        const { clock, pool, source } = yield* make({ recycle })
        clock.sleeps.length = 0
        yield* lease(pool)
        yield* TestClock.adjust(5)
        assert.strictEqual(yield* lease(pool), 2)
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.deepStrictEqual(source.closed, [1, 2])
        assert.isAtMost(clock.sleeps.length, 8)
      }
    }))

  it.effect("G6: that wakes early is set again for the rest", () =>
    Effect.gen(function*() {
      const { clock, events, pool } = yield* make({
        max: 1,
        borrowTimeout: "8 seconds",
        recycle: RecyclePolicy.idle("10 seconds")
      })
      clock.wakes = 0.5
      const holder = yield* Effect.forkChild(pool.use(() => Effect.never))
      yield* settle
      const waiter = yield* Effect.forkChild(Effect.result(lease(pool)))
      yield* settle
      yield* TestClock.adjust("7999 millis")
      yield* settle
      assert.isUndefined(waiter.pollUnsafe())
      yield* TestClock.adjust(2)
      assert.isTrue(Result.isFailure(yield* Fiber.join(waiter)))
      yield* Fiber.interrupt(holder)
      const since = 8001
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
      yield* TestClock.adjust(2)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "idle"]])
      assert.isAtMost(recycledAt(events)[0]!, since + 10_002)
      assert.isAtMost(clock.sleeps.length, 200)
    }))

  it.effect("G7: ends an idle item never before its limit and at most one tick after, by fractions too", () =>
    Effect.gen(function*() {
      for (const limit of [10, 10.4, 0.3, 1000.75]) {
        const { events, pool } = yield* make({ recycle: RecyclePolicy.idle(limit) })
        yield* TestClock.adjust(0.25)
        yield* lease(pool)
        const since = yield* Effect.clockWith((clock) =>
          Effect.sync(() => Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
        )
        for (let i = 0; i < 20; i++) yield* TestClock.adjust(limit / 10)
        yield* TestClock.adjust(3)
        yield* settle
        const [at] = recycledAt(events)
        assert.isAbove(at!, since + limit)
        // One millisecond for "longer than", and one because a timer counts whole ones.
        assert.isAtMost(at!, since + limit + 2)
      }
    }))

  it.effect("of fractions of a millisecond: an item is lent up to its limit and no longer", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* make({ recycle: RecyclePolicy.age(10.5) })
      clock.stalled = 0.25
      yield* lease(pool)
      clock.stalled = 10.75
      assert.strictEqual(yield* lease(pool), 1)
      clock.stalled = 10.751
      assert.strictEqual(yield* lease(pool), 2)
    }))
})
