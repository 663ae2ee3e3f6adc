import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Result, Schedule, Scheduler, Scope, Stream } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { settle, Source, type Thing } from "./kit/items.ts"
import { bent, BentClock, logged, record, recycled, recycledAt } from "./kit/observe.ts"

type Pool = QueuePool.QueuePool<Thing, unknown>
type Options = Partial<QueuePool.Options<Thing, unknown, Scope.Scope>>
type Usage = RecyclePolicy.Usage<Thing>

const make = Effect.fnUntraced(function*(options: Options) {
  const source = new Source()
  const clock = yield* BentClock.make
  const pool: Pool = yield* bent(QueuePool.make({ acquire: source.acquire, ...options }), clock)
  const events = yield* record(pool)
  return { source, clock, pool, events }
})

/** Opens items, and gives them back in the order of their numbers. */
const openSome = Effect.fnUntraced(function*(pool: Pool, n: number, apart = 0) {
  const held = yield* Effect.forEach(Array.from({ length: n }), () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const thing = yield* Scope.provide(pool.get, scope)
      return { thing, scope }
    }))
  held.sort((a, b) => a.thing.id - b.thing.id)
  for (const { scope } of held) {
    yield* Scope.close(scope, Exit.void)
    yield* TestClock.adjust(apart)
  }
})

const lease = (pool: Pool) => pool.use((thing) => Effect.succeed(thing.id))

const swept = (events: ReadonlyArray<{ readonly _tag: string; readonly at: number }>) =>
  events.filter(({ _tag }) => _tag === "Swept").map(({ at }) => at)

describe("the recycler's sleep", () => {
  it.effect("is as long as the next deadline is far, and no other", () =>
    Effect.gen(function*() {
      const { clock, pool, source } = yield* make({
        recycle: [RecyclePolicy.idle("10 minutes"), RecyclePolicy.age("1 hour")]
      })
      yield* lease(pool)
      clock.sleeps.length = 0
      // An item that is used: one sleep per idle limit at the most, however often it is lent.
      for (let i = 0; i < 60; i++) {
        yield* TestClock.adjust("30 seconds")
        yield* lease(pool)
      }
      assert.isAtMost(clock.sleeps.length, 4)
      clock.sleeps.length = 0
      yield* TestClock.adjust("24 hours")
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      assert.isAtMost(clock.sleeps.length, 2)
      // And an empty pool sleeps for ever.
      clock.sleeps.length = 0
      yield* TestClock.adjust("100 days")
      assert.deepStrictEqual(clock.sleeps, [])
    }))

  it.effect("does not begin in a pool without rules", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* make({})
      yield* lease(pool)
      clock.sleeps.length = 0
      yield* TestClock.adjust("100 days")
      assert.deepStrictEqual(clock.sleeps, [])
    }))

  it.effect("ends one millisecond after the deadline", () =>
    Effect.gen(function*() {
      const { clock, events, pool } = yield* make({ recycle: RecyclePolicy.idle("10 seconds") })
      yield* lease(pool)
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.include(clock.sleeps, 10_001)
      assert.deepStrictEqual(recycledAt(events), [10_001])
    }))

  it.effect("is cut short by an earlier deadline", () =>
    Effect.gen(function*() {
      const schedules = [Schedule.spaced("10 seconds"), Schedule.spaced("1 second")]
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.after(Schedule.fromStep(Effect.suspend(() => Schedule.toStep(schedules.shift()!))))
      })
      yield* openSome(pool, 2)
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.deepStrictEqual(recycled(events), [[2, "after"], [1, "after"]])
      assert.deepStrictEqual(recycledAt(events), [1001, 10_001])
    }))
})

describe("the cadence", () => {
  const predicate = (usage: Usage) => usage.item.id === 1 && usage.moment === "sweep" && usage.age >= 100_000

  it.effect("is every 60 seconds when a rule has no deadline of its own", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.when(predicate, "bad") })
      yield* lease(pool)
      yield* TestClock.adjust("3 minutes")
      yield* settle
      assert.deepStrictEqual(swept(events), [60_000, 120_000, 180_000])
      assert.deepStrictEqual(recycled(events), [[1, "bad"]])
      assert.deepStrictEqual(recycledAt(events), [120_000])
    }))

  for (
    const [name, recycle] of [
      ["time", [RecyclePolicy.idle("1 hour"), RecyclePolicy.age("1 hour")]],
      ["uses and exits", [RecyclePolicy.uses(5), RecyclePolicy.failed]],
      ["Schedules", [RecyclePolicy.schedule(Schedule.recurs(3)), RecyclePolicy.after(Schedule.spaced("1 hour"))]]
    ] as const
  ) {
    it.effect(`is not needed for rules on ${name}`, () =>
      Effect.gen(function*() {
        const { events, pool } = yield* make({ recycle })
        yield* lease(pool)
        yield* TestClock.adjust("50 minutes")
        yield* settle
        assert.deepStrictEqual(swept(events), [])
      }))
  }

  it.effect("may be a duration", () =>
    Effect.gen(function*() {
      const { events } = yield* make({ sweep: "20 seconds" })
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.deepStrictEqual(swept(events), [20_000, 40_000, 60_000])
    }))

  it.effect("may be a Schedule, stepped once for each sweep", () =>
    Effect.gen(function*() {
      const { events } = yield* make({ sweep: Schedule.exponential("1 second") })
      yield* TestClock.adjust("15 seconds")
      yield* settle
      assert.deepStrictEqual(swept(events), [1000, 3000, 7000, 15_000])
    }))

  it.effect("may be a Schedule on the wall clock", () =>
    Effect.gen(function*() {
      const { events } = yield* make({ sweep: Schedule.cron("*/5 * * * *", "UTC") })
      yield* TestClock.adjust("11 minutes")
      yield* settle
      assert.deepStrictEqual(swept(events), [300_000, 600_000])
    }))

  it.effect("does not spin on a Schedule without delays", () =>
    Effect.gen(function*() {
      const { clock, events } = yield* make({ sweep: Schedule.forever })
      yield* settle
      assert.isAtMost(swept(events).length, 1)
      clock.sleeps.length = 0
      yield* TestClock.adjust("50 millis")
      yield* settle
      assert.strictEqual(swept(events).length, 50)
      assert.isAtMost(clock.sleeps.length, 51)
      assert.isTrue(clock.sleeps.every((millis) => millis >= 1))
    }))

  it.effect("waits for ever on a Schedule of infinite delay", () =>
    Effect.gen(function*() {
      const { clock, events } = yield* make({ sweep: Schedule.spaced(Duration.infinity) })
      yield* TestClock.adjust("1000 days")
      assert.deepStrictEqual(swept(events), [])
      assert.isTrue(clock.sleeps.every(Number.isFinite))
    }))

  it.effect("loses no tick and no deadline that come together, wherever the recycler yields", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops <= 16; ops++) {
        const { events, pool } = yield* Effect.provideService(
          make({ sweep: "10 seconds", recycle: RecyclePolicy.age("9999 millis") }),
          Scheduler.MaxOpsBeforeYield,
          ops
        )
        yield* lease(pool)
        const start = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
        yield* TestClock.adjust("30 seconds")
        yield* settle
        assert.deepStrictEqual(recycledAt(events), [start + 10_000])
        assert.deepStrictEqual(swept(events), [start + 10_000, start + 20_000, start + 30_000])
      }
    }))

  it.effect("runs the time rules too, so that nothing is done twice", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ sweep: "7 seconds", recycle: RecyclePolicy.idle("10 seconds") })
      yield* openSome(pool, 3)
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.sameDeepMembers([...recycled(events)], [[1, "idle"], [2, "idle"], [3, "idle"]])
    }))
})

describe("I11: the end of the user's Schedule", () => {
  const stops = (sweep: Schedule.Schedule<unknown, unknown, unknown>, word: "ended" | "failed", sweeps: number) =>
    logged((lines) =>
      Effect.gen(function*() {
        const { events, pool } = yield* make({
          name: "db",
          sweep,
          recycle: [RecyclePolicy.when(() => false), RecyclePolicy.age("1 hour")]
        })
        yield* lease(pool)
        yield* TestClock.adjust("10 minutes")
        yield* settle
        assert.strictEqual(swept(events).length, sweeps)
        const told = lines.filter((line) => line.includes("sweep Schedule"))
        assert.strictEqual(told.length, 1)
        assert.include(told[0], `Warn the sweep Schedule of pool "db" has ${word}`)
        // The rules on time go on.
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.deepStrictEqual(recycled(events), [[1, "age"]])
        return events.filter(({ _tag }) => _tag === "RecyclerEnded")
      })
    )

  it.effect("is logged and told, and time rules go on", () =>
    Effect.gen(function*() {
      const [event, more] = yield* stops(Schedule.upTo(Schedule.spaced("1 minute"), { times: 3 }), "ended", 3)
      assert.isUndefined(more)
      assert.strictEqual(event?._tag === "RecyclerEnded" && event.cause, undefined)
    }))

  it.effect("by a failure is logged and told with its cause", () =>
    Effect.gen(function*() {
      const failing = Schedule.spaced("1 minute").pipe(
        Schedule.tap(({ attempt }) => attempt > 2 ? Effect.fail("no more") : Effect.void)
      )
      const [event] = yield* stops(failing, "failed", 2)
      assert.include(String(event?._tag === "RecyclerEnded" && event.cause), "no more")
    }))

  it.effect("by a function in it that throws is the same", () =>
    Effect.gen(function*() {
      const throwing = Schedule.fromStep(Effect.sync(() => {
        let step = 0
        return () => {
          if (++step > 2) throw new Error("a bug in a Schedule")
          return Effect.succeed([undefined, Duration.minutes(1)] as [undefined, Duration.Duration])
        }
      }))
      const [event] = yield* stops(throwing, "failed", 2)
      assert.include(String(event?._tag === "RecyclerEnded" && event.cause), "a bug in a Schedule")
    }))

  it.effect("at its first step is the same", () =>
    Effect.gen(function*() {
      const throwing = Schedule.fromStep(
        Effect.succeed((): Effect.Effect<[void, Duration.Duration]> => {
          throw new Error("a bug in a Schedule")
        })
      )
      // Nobody can have listened at that moment.
      assert.deepStrictEqual(yield* stops(throwing, "failed", 0), [])
      assert.deepStrictEqual(yield* stops(Schedule.fromStep(Effect.die("no step at all")), "failed", 0), [])
    }))

  it.effect("that never comes, because a step hangs, stops no deadline", () =>
    Effect.gen(function*() {
      const hanging = Schedule.spaced("1 minute").pipe(Schedule.tap(() => Effect.never))
      const { events, pool } = yield* make({ sweep: hanging, recycle: RecyclePolicy.age("1 hour") })
      yield* lease(pool)
      yield* TestClock.adjust("2 hours")
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  it.effect("that hangs does not keep the pool from closing", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const hanging = Schedule.spaced("1 minute").pipe(
        Schedule.tap(() => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)))
      )
      yield* Effect.scoped(Effect.andThen(make({ sweep: hanging }), settle))
      yield* settle
      assert.strictEqual(interrupted, 1)
    }))
})

describe("E13: the recycler survives", () => {
  it.effect("a predicate that throws at every sweep", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        min: 1,
        sweep: "10 seconds",
        recycle: [
          RecyclePolicy.when(({ moment }: Usage) => {
            if (moment === "sweep") throw new Error("a bug in a predicate")
            return false
          }),
          RecyclePolicy.idle("1 hour")
        ]
      })
      yield* lease(pool)
      yield* TestClock.adjust("35 seconds")
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "rule failed"], [2, "rule failed"], [3, "rule failed"]])
      assert.deepStrictEqual(swept(events), [10_000, 20_000, 30_000])
    }))

  // QP-D4 is the same for a close that fails.
  for (const close of ["fail", "die", "hang", "stuck"] as const) {
    it.effect(`closes that ${close}`, () =>
      Effect.gen(function*() {
        const { events, pool, source } = yield* make({
          max: 3,
          closeTimeout: "1 second",
          recycle: RecyclePolicy.idle("10 seconds")
        })
        source.closesOtherwise = close
        for (let round = 1; round <= 3; round++) {
          yield* openSome(pool, 3)
          yield* TestClock.adjust("12 seconds")
          yield* settle
          assert.strictEqual(recycled(events).length, 3 * round)
          const stats = yield* pool.stats
          assert.strictEqual(stats.idle + stats.used + stats.opening + stats.closing, 0)
        }
      }))
  }

  for (const check of ["fail", "die", "throw", "hang", "interrupt"] as const) {
    it.effect(`checks that ${check}`, () =>
      Effect.gen(function*() {
        const { events, pool } = yield* make({
          sweep: "10 seconds",
          checkTimeout: "1 second",
          recycle: RecyclePolicy.check((): Effect.Effect<boolean, unknown> => {
            if (check === "throw") throw new Error("no")
            return { fail: Effect.fail("no"), die: Effect.die("no"), hang: Effect.never, interrupt: Effect.interrupt }[
              check
            ]
          })
        })
        for (let round = 1; round <= 3; round++) {
          yield* openSome(pool, 2)
          yield* TestClock.adjust("15 seconds")
          yield* settle
          assert.strictEqual(recycled(events).length, 2 * round)
        }
        assert.isAtLeast(swept(events).length, 3)
      }))
  }

  for (const what of ["sweep", "sweepDue"] as const) {
    it.effect(`a failure of its own in ${what}, and tries again`, () =>
      logged((lines) =>
        Effect.gen(function*() {
          const { events, pool } = yield* make({
            name: "db",
            sweep: what === "sweep" ? "10 seconds" : undefined,
            recycle: RecyclePolicy.idle("15 seconds")
          })
          const { sweeper } =
            (Reflect.get(pool, "pool") as { readonly state: { readonly sweeper: Record<string, unknown> } }).state
          sweeper[what] = () => {
            delete sweeper[what]
            throw new Error("a bug of ours")
          }
          yield* lease(pool)
          yield* TestClock.adjust("20 seconds")
          yield* settle
          assert.deepStrictEqual(lines.filter((line) => line.startsWith("Error")).length, 1)
          assert.include(lines[0], `the recycler of pool "db" goes on after a failure`)
          assert.deepStrictEqual(recycled(events), [[1, "idle"]])
          yield* lease(pool)
          yield* TestClock.adjust("20 seconds")
          yield* settle
          assert.strictEqual(recycled(events).length, 2)
          assert.strictEqual(swept(events).length, what === "sweep" ? 3 : 0)
        })
      ))
  }

  it.effect("a listener that dies", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ recycle: RecyclePolicy.idle("10 seconds") })
      yield* Effect.forkScoped(Effect.exit(Stream.runForEach(pool.events, () => Effect.die("no"))))
      yield* settle
      yield* lease(pool)
      yield* TestClock.adjust("11 seconds")
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
    }))
})

describe("pool.sweep", () => {
  it.effect("tells what it looked at, and what it recycled and why, the coldest first", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        sweep: "1 day",
        recycle: [RecyclePolicy.when(({ item, moment }: Usage) => moment === "sweep" && item.id === 3, "third")]
      })
      yield* openSome(pool, 4)
      assert.deepStrictEqual(yield* pool.sweep, { examined: 4, recycled: [{ item: 3, reason: "third" }] })
      assert.deepStrictEqual(yield* pool.sweep, { examined: 3, recycled: [] })
      yield* settle
      assert.deepStrictEqual(
        events.flatMap((event) => event._tag === "Swept" ? [event.recycled] : []),
        [1, 0]
      )
    }))

  it.effect("of an empty pool says so", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ recycle: RecyclePolicy.check(() => Effect.succeed(true)) })
      assert.deepStrictEqual(yield* pool.sweep, { examined: 0, recycled: [] })
    }))

  it.effect("leaves lent items alone", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ recycle: RecyclePolicy.when(({ moment }: Usage) => moment === "sweep") })
      yield* pool.use(() => Effect.map(pool.sweep, (result) => assert.strictEqual(result.examined, 0)))
    }))

  it.effect("applies the time rules to what no timer has seen yet", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* make({ min: 1, recycle: RecyclePolicy.idle("10 seconds") })
      yield* openSome(pool, 3)
      clock.stalled = 10_001
      assert.deepStrictEqual((yield* pool.sweep).recycled, [{ item: 1, reason: "idle" }, { item: 2, reason: "idle" }])
    }))

  it.effect("is interrupted without harm: the checks run on", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.check((thing: Thing) => Effect.as(Effect.sleep("1 second"), thing.id === 1))
      })
      yield* openSome(pool, 2)
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      yield* Fiber.interrupt(sweep)
      yield* TestClock.adjust("2 seconds")
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "check"]])
      assert.strictEqual((yield* pool.stats).idle, 1)
    }))

  it.effect("twice at the same time checks no item twice", () =>
    Effect.gen(function*() {
      const checked: Array<number> = []
      const { pool } = yield* make({
        recycle: RecyclePolicy.check((thing: Thing) => {
          checked.push(thing.id)
          return Effect.as(Effect.sleep("1 second"), true)
        })
      })
      yield* openSome(pool, 2)
      const both = yield* Effect.forkChild(Effect.all([pool.sweep, pool.sweep], { concurrency: 2 }))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      yield* TestClock.adjust("1 second")
      const [first, second] = yield* Fiber.join(both)
      assert.sameMembers(checked, [1, 2])
      assert.strictEqual(first.recycled.length + second.recycled.length, 2)
    }))

  it.effect("ends when the pool closes under it, and claims no item that the closing took", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { pool } = yield* Scope.provide(make({ recycle: RecyclePolicy.check(() => Effect.never) }), scope)
      yield* openSome(pool, 3)
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(sweep), { examined: 3, recycled: [] })
    }))

  it.effect("of a closed pool finds nothing", () =>
    Effect.gen(function*() {
      const { pool } = yield* Effect.scoped(make({ min: 2, recycle: RecyclePolicy.check(() => Effect.never) }))
      assert.deepStrictEqual(yield* pool.sweep, { examined: 0, recycled: [] })
    }))
})

describe("a sweep's checks", () => {
  it.effect("that hang delay no deadline", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        sweep: "1 second",
        checkTimeout: "1 hour",
        recycle: [
          RecyclePolicy.check((thing: Thing) => thing.id === 1 ? Effect.never : Effect.succeed(false)),
          RecyclePolicy.age("10 seconds")
        ]
      })
      yield* openSome(pool, 3)
      yield* TestClock.adjust("10001 millis")
      yield* settle
      assert.sameDeepMembers([...recycled(events)], [[2, "age"], [3, "age"]])
      assert.isAtLeast((yield* pool.stats).used, 1)
    }))

  it.effect("take no more than half of the idle items away at once", () =>
    Effect.gen(function*() {
      const done = yield* Deferred.make<void>()
      const { pool } = yield* make({
        max: 4,
        openConcurrency: 10,
        recycle: RecyclePolicy.check(() => Effect.as(Deferred.await(done), false))
      })
      yield* openSome(pool, 4)
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      assert.strictEqual((yield* pool.stats).idle, 2)
      // A borrower does not wait for them.
      const borrower = yield* Effect.forkChild(lease(pool))
      yield* settle
      assert.isDefined(borrower.pollUnsafe())
      yield* Deferred.succeed(done, undefined)
      assert.strictEqual((yield* Fiber.join(sweep)).examined, 4)
      assert.strictEqual((yield* pool.stats).idle, 4)
    }))

  it.effect("are no more at once than openConcurrency", () =>
    Effect.gen(function*() {
      let running = 0
      let peak = 0
      const { pool } = yield* make({
        openConcurrency: 2,
        recycle: RecyclePolicy.check(() =>
          Effect.acquireUseRelease(
            Effect.sync(() => peak = Math.max(peak, ++running)),
            () => Effect.as(Effect.yieldNow, false),
            () => Effect.sync(() => running--)
          )
        )
      })
      yield* openSome(pool, 9)
      yield* pool.sweep
      assert.strictEqual(peak, 2)
    }))

  it.effect("give a borrower that waits the item when they pass", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({
        max: 1,
        recycle: RecyclePolicy.check(() => Effect.as(Effect.sleep("1 second"), false))
      })
      yield* openSome(pool, 1)
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      const borrower = yield* Effect.forkChild(lease(pool))
      yield* settle
      assert.isUndefined(borrower.pollUnsafe())
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(borrower), 1)
      yield* Fiber.join(sweep)
    }))

  it.effect("change nothing in the order in which items are lent", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({
        recycle: RecyclePolicy.all([
          RecyclePolicy.idle("10 seconds"),
          RecyclePolicy.check(() => Effect.succeed(false))
        ])
      })
      yield* openSome(pool, 3)
      yield* TestClock.adjust("9 seconds")
      const warm = yield* lease(pool)
      assert.strictEqual(warm, 3)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* pool.sweep).recycled.length, 0)
      assert.strictEqual(yield* lease(pool), 3)
    }))
})

describe("the pool that is swept", () => {
  it.effect("is refilled to min after any loss", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({
        max: 2,
        min: 2,
        recycle: [RecyclePolicy.failed, RecyclePolicy.age("1 hour")]
      })
      const full = (stats: QueuePool.Stats) => assert.strictEqual(stats.idle, 2)
      yield* settle
      full(yield* pool.stats)
      yield* Effect.exit(pool.use(() => Effect.fail("no")))
      yield* settle
      full(yield* pool.stats)
      yield* pool.clear
      yield* settle
      full(yield* pool.stats)
      yield* Effect.scoped(Effect.flatMap(pool.get, (thing) => pool.invalidate(thing)))
      yield* settle
      full(yield* pool.stats)
      yield* TestClock.adjust("3600001 millis")
      yield* settle
      full(yield* pool.stats)
      assert.strictEqual(source.peakLive, 2)
    }))

  it.effect("is refilled though the opens failed at first and nobody asks", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ min: 2, recycle: RecyclePolicy.age("1 hour") })
      yield* settle
      source.opensOtherwise = "fail"
      yield* TestClock.adjust("3600001 millis")
      yield* settle
      assert.strictEqual((yield* pool.stats).idle, 0)
      const attempts = source.attempts
      yield* TestClock.adjust("1 minute")
      // With a backoff of up to five seconds.
      assert.isAtLeast(source.attempts, attempts + 5)
      assert.isAtMost(source.attempts, attempts + 60)
      source.opensOtherwise = "ok"
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.strictEqual((yield* pool.stats).idle, 2)
    }))

  it.effect("E12: keeps min and lets the surplus go, the oldest return first", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ min: 2, recycle: RecyclePolicy.idle("10 seconds") })
      yield* openSome(pool, 5, 1)
      yield* TestClock.adjust("11 seconds")
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "idle"], [2, "idle"], [3, "idle"]])
    }))

  it.effect("E12: lets the surplus grow cold under a load that one item can bear", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ min: 1, recycle: RecyclePolicy.idle("10 seconds") })
      yield* openSome(pool, 5)
      for (let i = 0; i < 20; i++) {
        yield* lease(pool)
        yield* TestClock.adjust("1 second")
      }
      yield* settle
      assert.strictEqual(source.live, 1)
    }))

  it.effect("E15: keeps nothing of a recycled item", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({
        recycle: [
          RecyclePolicy.idle("10 seconds"),
          RecyclePolicy.age("1 hour", { jitter: 0.5 }),
          RecyclePolicy.schedule(Schedule.recurs(2)),
          RecyclePolicy.after(Schedule.spaced("1 minute"))
        ]
      })
      for (let round = 0; round < 50; round++) {
        yield* openSome(pool, 4)
        yield* openSome(pool, 4)
        yield* settle
      }
      yield* TestClock.adjust("11 seconds")
      yield* settle
      const inside = Reflect.get(pool, "pool") as {
        readonly state: {
          readonly items: Iterable<unknown>
          readonly sweeper: { readonly due: { readonly size: number } }
          readonly idle: { readonly size: number }
          readonly openings: { readonly size: number }
        }
        readonly work: { readonly tasks: { readonly size: number } }
        readonly opens: { readonly jobs: { readonly size: number } }
      }
      const { opens, state, work } = inside
      assert.deepStrictEqual(
        [
          Array.from(state.items).length,
          state.sweeper.due.size,
          state.idle.size,
          state.openings.size,
          work.tasks.size,
          opens.jobs.size
        ],
        [0, 0, 0, 0, 0, 0]
      )
      assert.strictEqual((yield* pool.stats).opened, 200)
    }))

  it.effect("E16: a limit that no item can meet makes no hot loop of opens", () =>
    Effect.gen(function*() {
      for (const recycle of [RecyclePolicy.age(0), RecyclePolicy.age(20)]) {
        const { source } = yield* make({ min: 1, recycle })
        yield* settle
        for (let i = 0; i < 1000; i++) yield* TestClock.adjust(1)
        assert.isAtLeast(source.attempts, 5)
        assert.isAtMost(source.attempts, 13)
      }
    }))

  it.effect("E16: a min that cannot be reached makes no hot loop", () =>
    Effect.gen(function*() {
      const { clock, pool, source } = yield* make({ max: 2, min: 2, openTimeout: "1 second" })
      yield* settle
      source.opensOtherwise = "stuck"
      yield* pool.clear
      yield* settle
      const attempts = source.attempts
      clock.sleeps.length = 0
      yield* TestClock.adjust("10 minutes")
      // What is stuck holds its slot until it is abandoned: both, each round, six seconds apart at least.
      assert.isAtMost(source.attempts - attempts, 200)
      assert.isAtMost(clock.sleeps.length, 2000)
      const borrower = yield* Effect.forkChild(Effect.result(lease(pool)))
      yield* settle
      yield* TestClock.adjust("1 minute")
      assert.isTrue(Result.isFailure(yield* Fiber.join(borrower)))
      source.opensOtherwise = "ok"
      yield* TestClock.adjust("1 minute")
    }))
})
