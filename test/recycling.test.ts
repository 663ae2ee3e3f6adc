import { assert, describe, it } from "@effect/vitest"
import { Cause, Cron, Deferred, Duration, Effect, Exit, Fiber, Random, Result, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { type Outcome, settle, Source, type Thing } from "./kit/items.ts"
import { bent, BentClock, record, recycled, recycledAt } from "./kit/observe.ts"

type Pool = QueuePool.QueuePool<Thing, unknown>
type Usage = RecyclePolicy.Usage<Thing>

/** Borrows, and tells which item it was. */
const lease = (pool: Pool) => pool.use((thing) => Effect.succeed(thing.id))

/** Borrows for so long. */
const leaseFor = (pool: Pool, millis: number) => pool.use((thing) => Effect.as(Effect.sleep(millis), thing.id))

/** Borrows as many at once; all come back in the order of their numbers. */
const openSome = (pool: Pool, n: number) =>
  Effect.scoped(
    Effect.forEach(Array.from({ length: n }), () => pool.get, { concurrency: "unbounded", discard: true })
  )

/** Holds one item until told otherwise. */
const hold = Effect.fnUntraced(function*(pool: Pool) {
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
  const thing = yield* Scope.provide(pool.get, scope)
  return { thing, end: (exit: Exit.Exit<unknown, unknown> = Exit.void) => Scope.close(scope, exit) }
})

const make = Effect.fnUntraced(function*<R = never>(
  options: Partial<QueuePool.Options<Thing, unknown, R>> & { readonly recycle: RecyclePolicy.Input<Thing, R> },
  opens: ReadonlyArray<Outcome> = []
) {
  const source = new Source()
  source.opens.push(...opens)
  const pool: Pool = yield* QueuePool.make<Thing, unknown, R | Scope.Scope, QueuePool.Options<Thing>["warm"]>({
    acquire: source.acquire,
    ...options
  })
  const events = yield* record(pool)
  return { source, pool, events }
})

class Lost {
  readonly _tag = "Lost"
}
const isLost = (cause: Cause.Cause<unknown>) => Cause.squash(cause) instanceof Lost

describe("uses", () => {
  for (const limit of [1, 3]) {
    it.effect(`gives at most ${limit} leases`, () =>
      Effect.gen(function*() {
        const { events, pool } = yield* make({ max: 2, recycle: RecyclePolicy.uses(limit) })
        const leases: Record<number, number> = {}
        for (let i = 0; i < 12; i++) {
          const id = yield* lease(pool)
          leases[id] = (leases[id] ?? 0) + 1
        }
        yield* settle
        assert.deepStrictEqual(Object.values(leases), Array.from({ length: 12 / limit }, () => limit))
        assert.isTrue(recycled(events).every(([, reason]) => reason === "uses"))
        assert.strictEqual(recycled(events).length, 12 / limit)
      }))
  }

  it.effect("gives at most n leases to borrowers that wait", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 1, recycle: RecyclePolicy.uses(2) })
      const fibers = yield* Effect.forEach(Array.from({ length: 7 }), () => Effect.forkChild(leaseFor(pool, 10)))
      yield* settle
      for (let i = 0; i < 7; i++) {
        yield* TestClock.adjust(10)
        yield* settle
      }
      assert.deepStrictEqual(yield* Effect.forEach(fibers, Fiber.join), [1, 1, 2, 2, 3, 3, 4])
      assert.strictEqual(source.peakLive, 1)
    }))

  it.effect("of Infinity never speaks", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.uses(Infinity) })
      for (let i = 0; i < 50; i++) yield* lease(pool)
      assert.deepStrictEqual(recycled(events), [])
    }))
})

describe("age", () => {
  it.effect("is strictly longer than: at the limit the item is lent, a millisecond after it is gone", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({ recycle: RecyclePolicy.age("10 seconds") })
      yield* lease(pool)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* lease(pool), 1)
      yield* settle
      assert.deepStrictEqual(source.closed, [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
      assert.deepStrictEqual(recycledAt(events), [10_001])
    }))

  it.effect("counts from the opening, not from the last lease", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ recycle: RecyclePolicy.age("10 seconds") })
      const ids: Array<number> = []
      for (let i = 0; i < 6; i++) {
        ids.push(yield* lease(pool))
        yield* TestClock.adjust("4 seconds")
      }
      assert.deepStrictEqual(ids, [1, 1, 1, 2, 2, 2])
    }))

  it.effect("does not spare min, which is refilled", () =>
    Effect.gen(function*() {
      const { events, source } = yield* make({ min: 2, recycle: RecyclePolicy.age("10 seconds") })
      assert.strictEqual(source.live, 2)
      yield* TestClock.adjust("10001 millis")
      yield* settle
      assert.deepStrictEqual(recycled(events).map(([, reason]) => reason), ["age", "age"])
      assert.strictEqual(source.opened.length, 4)
      assert.strictEqual(source.live, 2)
    }))

  it.effect("ends a lent item on return, not before", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.age("10 seconds") })
      const held = yield* hold(pool)
      yield* TestClock.adjust("60 seconds")
      assert.deepStrictEqual(recycled(events), [])
      yield* held.end()
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  // pgx #2560: a connection that never rests was never too old.
  it.effect("ends an item that is never idle long enough for a sweep", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 1, recycle: RecyclePolicy.age("1 second") })
      const worker = yield* Effect.forkChild(Effect.forever(leaseFor(pool, 30)))
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* settle
      yield* Fiber.interrupt(worker)
      // A lease of 30 ms outlasts the limit by at most itself.
      assert.isAtLeast(source.closed.length, 9)
    }))

  it.effect("ends an item that goes from one waiter to the next", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 1, recycle: RecyclePolicy.age(25) })
      const fibers = yield* Effect.forEach(Array.from({ length: 6 }), () => Effect.forkChild(leaseFor(pool, 10)))
      yield* settle
      for (let i = 0; i < 60; i++) {
        yield* TestClock.adjust(1)
        yield* settle
      }
      assert.deepStrictEqual(yield* Effect.forEach(fibers, Fiber.join), [1, 1, 1, 2, 2, 2])
    }))

  it.effect("E10: with jitter is only ever shorter, and spreads the ends of items opened together", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({
        max: 40,
        openConcurrency: 40,
        recycle: RecyclePolicy.age("100 seconds", { jitter: 0.5 })
      })
      yield* openSome(pool, 40)
      assert.strictEqual(source.live, 40)
      yield* TestClock.adjust("50 seconds")
      yield* settle
      assert.deepStrictEqual(recycledAt(events), [])
      yield* TestClock.adjust("50001 millis")
      yield* settle
      const at = recycledAt(events)
      assert.strictEqual(at.length, 40)
      assert.isTrue(at.every((time) => time > 50_000 && time <= 100_001))
      // One in a thousand draws may share its millisecond with another.
      assert.isAtLeast(new Set(at.map(Math.floor)).size, 38)
      assert.isBelow(Math.min(...at), 60_000)
      assert.isAbove(Math.max(...at), 90_000)
    }).pipe(Random.withSeed("jitter")))

  it.effect("without jitter ends items opened together at once, in parallel", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.age("100 seconds") })
      yield* openSome(pool, 5)
      yield* TestClock.adjust("100001 millis")
      yield* settle
      assert.deepStrictEqual(recycledAt(events), [100_001, 100_001, 100_001, 100_001, 100_001])
    }))
})

describe("idle", () => {
  it.effect("is strictly longer than, and counts from the return", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.idle("10 seconds") })
      yield* leaseFor(pool, 0)
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(yield* lease(pool), 1)
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "idle"]])
      assert.deepStrictEqual(recycledAt(events), [16_001])
    }))

  it.effect("does not count the time of a lease", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.idle("10 seconds") })
      const held = yield* hold(pool)
      yield* TestClock.adjust("60 seconds")
      yield* held.end()
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
    }))

  it.effect("spares min, and takes the coldest first", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({ min: 2, recycle: RecyclePolicy.idle("10 seconds") })
      yield* openSome(pool, 5)
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.deepStrictEqual(recycled(events).map(([, reason]) => reason), ["idle", "idle", "idle"])
      assert.strictEqual(source.live, 2)
      assert.strictEqual(source.opened.length, 5)
      assert.strictEqual((yield* pool.stats).idle, 2)
    }))

  it.effect("counts lent items towards min: what is lent is kept open", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ min: 1, recycle: RecyclePolicy.idle("10 seconds") })
      const held = yield* hold(pool)
      yield* lease(pool)
      yield* TestClock.adjust("10001 millis")
      yield* settle
      assert.deepStrictEqual(recycled(events), [[2, "idle"]])
      yield* held.end()
    }))

  it.effect("stops sparing an item once there are more than min", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({
        min: 2,
        openTimeout: "2 minutes",
        recycle: RecyclePolicy.idle("10 seconds")
      })
      const first = yield* hold(pool)
      const second = yield* hold(pool)
      source.opens.push({ slow: 60_000 })
      const third = yield* Effect.forkChild(hold(pool))
      yield* settle
      // The waiter gets the one, and the open goes on; the other is spared.
      yield* first.end()
      yield* second.end()
      const held = yield* Fiber.join(third)
      assert.strictEqual(held.thing.id, first.thing.id)
      yield* TestClock.adjust("59 seconds")
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(recycled(events), [[second.thing.id, "idle"]])
    }))

  it.effect("keeps the warm items of a pool that needs only some of them", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.idle("10 seconds") })
      yield* openSome(pool, 3)
      const warm = yield* lease(pool)
      for (let i = 0; i < 30; i++) {
        assert.strictEqual(yield* lease(pool), warm)
        yield* TestClock.adjust("1 second")
      }
      assert.sameMembers(recycled(events).map(([item]) => item), [1, 2, 3].filter((item) => item !== warm))
    }))
})

describe("failed", () => {
  const how: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> = [
    ["success", Effect.void],
    ["failure", Effect.fail("no")],
    ["defect", Effect.die(new Error("no"))],
    ["interruption", Effect.interrupt]
  ]
  const policies: ReadonlyArray<readonly [string, RecyclePolicy.Input<Thing>, Record<string, string>]> = [
    ["failed", RecyclePolicy.failed, { failure: "failed", defect: "failed" }],
    ["interrupted", RecyclePolicy.interrupted, { interruption: "interrupted" }],
    [
      "failed and interrupted",
      [RecyclePolicy.failed, RecyclePolicy.interrupted],
      { failure: "failed", defect: "failed", interruption: "interrupted" }
    ],
    ["failedWith", RecyclePolicy.failedWith(() => true), { failure: "failed", defect: "failed" }],
    [
      "failedWith interruption",
      RecyclePolicy.failedWith(() => true, { interruption: true, reason: "ended badly" }),
      { failure: "ended badly", defect: "ended badly", interruption: "ended badly" }
    ],
    ["failedWith, which refuses", RecyclePolicy.failedWith(() => false, { interruption: true }), {}]
  ]
  for (const [name, recycle, expected] of policies) {
    for (const [ending, effect] of how) {
      it.effect(`C7: ${name}: a lease that ends by ${ending} ${ending in expected ? "recycles" : "keeps"} the item`, () =>
        Effect.gen(function*() {
          const { events, pool, source } = yield* make({ recycle })
          const exit = yield* Effect.exit(Effect.flatMap(Effect.forkChild(pool.use(() => effect)), Fiber.join))
          // The borrower's own exit is unchanged.
          assert.strictEqual(Exit.isSuccess(exit), ending === "success")
          yield* settle
          const reason = expected[ending]
          assert.deepStrictEqual(recycled(events), reason === undefined ? [] : [[1, reason]])
          assert.strictEqual(source.closed.length, reason === undefined ? 0 : 1)
          assert.strictEqual(yield* lease(pool), reason === undefined ? 1 : 2)
        }))
    }
  }

  it.effect("reads the exit of the scope that held the lease", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.failed })
      yield* Effect.exit(Effect.scoped(Effect.andThen(pool.get, Effect.fail("no"))))
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "failed"]])
    }))
})

describe("failedWith others", () => {
  /** Items 1 to 5 of one pool: 1 and 4 are idle, 2, 3 and 5 are lent. */
  const five = Effect.fnUntraced(function*(also: "older" | "all" | undefined) {
    const { events, pool, source } = yield* make({
      max: 8,
      recycle: RecyclePolicy.failedWith(isLost, { also, reason: "lost" })
    })
    const held = yield* Effect.forEach([1, 2, 3, 4, 5], () => hold(pool))
    yield* held[0]!.end()
    yield* held[3]!.end()
    yield* settle
    const failing = held[2]!
    assert.strictEqual(failing.thing.id, 3)
    return { events, pool, source, older: held[1]!, failing, newer: held[4]! }
  })

  it.effect("alone takes no other", () =>
    Effect.gen(function*() {
      const { events, failing } = yield* five(undefined)
      yield* failing.end(Exit.fail(new Lost()))
      yield* settle
      assert.deepStrictEqual(recycled(events), [[3, "lost"]])
    }))

  it.effect("older takes those opened before: the idle now, the lent on return", () =>
    Effect.gen(function*() {
      const { events, failing, newer, older, source } = yield* five("older")
      yield* failing.end(Exit.fail(new Lost()))
      yield* settle
      assert.sameDeepMembers([...recycled(events)], [[1, "lost"], [3, "lost"]])
      assert.sameMembers(source.closed, [1, 3])
      yield* older.end()
      yield* newer.end()
      yield* settle
      assert.sameDeepMembers([...recycled(events)], [[1, "lost"], [3, "lost"], [2, "lost"]])
    }))

  it.effect("all takes every one: the idle now, the lent on return", () =>
    Effect.gen(function*() {
      const { events, failing, newer, older, pool, source } = yield* five("all")
      yield* failing.end(Exit.fail(new Lost()))
      yield* settle
      assert.sameMembers(source.closed, [1, 3, 4])
      yield* older.end()
      yield* newer.end()
      yield* settle
      assert.sameMembers(source.closed, [1, 2, 3, 4, 5])
      assert.isTrue(recycled(events).every(([, reason]) => reason === "lost"))
      assert.strictEqual(yield* lease(pool), 6)
    }))

  it.effect("takes nothing for another cause", () =>
    Effect.gen(function*() {
      const { events, failing } = yield* five("all")
      yield* failing.end(Exit.fail("a row was not found"))
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
    }))

  for (const also of ["older", "all"] as const) {
    it.effect(`${also} takes an item that is being opened, on arrival, ${also === "all" ? "always" : "if older"}`, () =>
      Effect.gen(function*() {
        const { events, pool, source } = yield* make({
          max: 3,
          recycle: RecyclePolicy.failedWith(isLost, { also, reason: "lost" })
        }, [{ slow: 1000 }, "ok", { slow: 1000 }])
        // The first open is slow, the second quick: its borrower gets the second item.
        const waiting = yield* Effect.forkChild(hold(pool))
        yield* settle
        const other = yield* Effect.forkChild(hold(pool))
        yield* settle
        const third = yield* Effect.forkChild(hold(pool))
        yield* settle
        const failing = yield* Fiber.join(waiting)
        assert.strictEqual(failing.thing.id, 2)
        yield* failing.end(Exit.fail(new Lost()))
        yield* settle
        assert.deepStrictEqual(recycled(events), [[2, "lost"]])
        yield* TestClock.adjust("1 second")
        yield* settle
        // A fourth was opened for whoever was left without.
        yield* TestClock.adjust("1 second")
        yield* settle
        const taken = recycled(events).map(([item]) => item)
        assert.sameMembers(taken, also === "all" ? [1, 2, 3] : [1, 2])
        const held = yield* Effect.forEach([other, third], Fiber.join)
        assert.isTrue(held.every(({ thing }) => !taken.includes(thing.id)))
        assert.strictEqual(source.peakLive <= 3, true)
      }))
  }

  // The item was invalidated by whoever saw its socket close, and the lease then fails for the same reason.
  it.effect("is heard of an item that was invalidated while it was lent", () =>
    Effect.gen(function*() {
      const { failing, pool, source } = yield* five("all")
      yield* pool.invalidate(failing.thing)
      yield* failing.end(Exit.fail(new Lost()))
      yield* settle
      assert.sameMembers(source.closed, [1, 3, 4])
    }))
})

describe("schedule", () => {
  it.effect("recurs(n) is n leases, of each item by its own copy", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ max: 2, recycle: RecyclePolicy.schedule(Schedule.recurs(3)) })
      const leases: Record<number, number> = {}
      for (let i = 0; i < 4; i++) {
        const first = yield* hold(pool)
        const second = yield* hold(pool)
        for (const { end, thing } of [first, second]) {
          leases[thing.id] = (leases[thing.id] ?? 0) + 1
          yield* end()
        }
        yield* settle
      }
      assert.deepStrictEqual(leases, { 1: 3, 2: 3, 3: 1, 4: 1 })
      assert.deepStrictEqual(recycled(events), [[1, "schedule"], [2, "schedule"]])
    }))

  it.effect("during(d) is an age that speaks at returns only, strictly after", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.schedule(Schedule.during("1 hour")) })
      yield* lease(pool)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* lease(pool), 1)
      yield* TestClock.adjust("1 hour")
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
      assert.strictEqual(yield* lease(pool), 1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "schedule"]])
    }))

  it.effect("is stepped once when acquired and once per return, with the usage", () =>
    Effect.gen(function*() {
      const steps: Array<readonly [number, Usage]> = []
      const watch = Schedule.fromStep(Effect.succeed((now: number, usage: Usage) => {
        steps.push([now, usage])
        return Effect.succeed([undefined, Duration.zero] as [undefined, Duration.Duration])
      }))
      const { pool } = yield* make({ recycle: RecyclePolicy.schedule(watch) })
      yield* TestClock.adjust(100)
      yield* leaseFor(pool, 0)
      yield* TestClock.adjust(50)
      yield* Effect.exit(pool.use(() => Effect.fail("no")))
      yield* settle
      yield* pool.sweep
      assert.deepStrictEqual(
        steps.map(([now, { age, idle, item, moment, uses }]) => ({ now, age, idle, item: item.id, moment, uses })),
        [
          { now: 100, age: 0, idle: 0, item: 1, moment: "open", uses: 0 },
          { now: 100, age: 0, idle: 0, item: 1, moment: "return", uses: 1 },
          { now: 150, age: 50, idle: 0, item: 1, moment: "return", uses: 2 }
        ]
      )
      assert.deepStrictEqual(steps.map(([, { exit }]) => exit && Exit.isSuccess(exit)), [undefined, true, false])
    }))

  it.effect("composes as Schedules do: the first that is done ends the item, or the last", () =>
    Effect.gen(function*() {
      const ends = Effect.fnUntraced(function*(schedule: Schedule.Schedule<unknown, Usage>) {
        const { events, pool } = yield* make({ recycle: RecyclePolicy.schedule(schedule) })
        for (let i = 0; i < 10 && recycled(events).length === 0; i++) {
          yield* TestClock.adjust("1 minute")
          yield* lease(pool)
          yield* settle
        }
        return recycledAt(events)[0]! - 60_000
      })
      const start = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      const at = (minutes: number) => start + minutes * 60_000
      assert.strictEqual(yield* ends(Schedule.max([Schedule.recurs(3), Schedule.during("5 minutes")])), at(2))
      assert.isAbove(yield* ends(Schedule.min([Schedule.recurs(3), Schedule.during("5 minutes")])), at(5))
    }))

  it.effect("may read the usage", () =>
    Effect.gen(function*() {
      const policy = RecyclePolicy.schedule(
        Schedule.forever.pipe(Schedule.setInputType<Usage>(), Schedule.while(({ input }) => input.uses < 2))
      )
      const { events, pool } = yield* make({ recycle: policy })
      for (let i = 0; i < 3; i++) yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "schedule"]])
    }))

  it.effect("with an effectful step keeps the item from others until it has answered", () =>
    Effect.gen(function*() {
      const slow = Schedule.recurs(2).pipe(Schedule.tap(() => Effect.sleep(100)))
      const { events, pool, source } = yield* make({ max: 1, recycle: RecyclePolicy.schedule(slow) })
      const first = yield* Effect.forkChild(lease(pool))
      yield* settle
      yield* TestClock.adjust(100)
      assert.strictEqual(yield* Fiber.join(first), 1)
      const second = yield* Effect.forkChild(lease(pool))
      yield* settle
      assert.strictEqual((yield* pool.stats).used, 1)
      assert.isUndefined(second.pollUnsafe())
      yield* TestClock.adjust(100)
      assert.strictEqual(yield* Fiber.join(second), 1)
      yield* TestClock.adjust(100)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "schedule"]])
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("with an effectful step is not waited for when the item is to go anyway", () =>
    Effect.gen(function*() {
      const slow = Schedule.recurs(5).pipe(
        Schedule.tap(({ attempt }) => attempt > 1 ? Effect.sleep(100) : Effect.void)
      )
      const { events, pool } = yield* make({ recycle: RecyclePolicy.schedule(slow) })
      const held = yield* hold(pool)
      yield* pool.invalidate(held.thing)
      yield* held.end()
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "invalidated"]])
    }))

  it.effect("with an effectful step leaves the other rules their say, also on other items", () =>
    Effect.gen(function*() {
      const slow = Schedule.recurs(5).pipe(
        Schedule.tap(({ attempt }) => attempt > 1 ? Effect.sleep(100) : Effect.void)
      )
      const { events, pool } = yield* make({
        recycle: [RecyclePolicy.schedule(slow), RecyclePolicy.failedWith(isLost, { also: "all", reason: "lost" })]
      })
      yield* openSome(pool, 3)
      yield* TestClock.adjust(100)
      yield* Effect.exit(pool.use(() => Effect.fail(new Lost())))
      yield* TestClock.adjust(100)
      yield* settle
      assert.sameDeepMembers([...recycled(events)], [[1, "lost"], [2, "lost"], [3, "lost"]])
    }))

  it.effect("that fails recycles the item, and the borrower hears nothing", () =>
    Effect.gen(function*() {
      const failing = Schedule.recurs(5).pipe(
        Schedule.tap(({ attempt }) => attempt > 1 ? Effect.fail("no such table") : Effect.void)
      )
      const { events, pool } = yield* make({ recycle: RecyclePolicy.schedule(failing) })
      assert.strictEqual(yield* lease(pool), 1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "rule failed"]])
      assert.strictEqual(yield* lease(pool), 2)
    }))

  it.effect("that fails when the item is acquired lets it be lent once", () =>
    Effect.gen(function*() {
      const failing = Schedule.recurs(5).pipe(Schedule.tap(() => Effect.fail("no such table")))
      const { events, pool } = yield* make({ recycle: RecyclePolicy.schedule(failing) })
      assert.deepStrictEqual([yield* lease(pool), yield* lease(pool)], [1, 2])
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "rule failed"], [2, "rule failed"]])
    }))

  it.effect("whose step never ends recycles the item after resetTimeout", () =>
    Effect.gen(function*() {
      const hanging = Schedule.recurs(5).pipe(
        Schedule.tap(({ attempt }) => attempt > 1 ? Effect.never : Effect.void)
      )
      const { events, pool, source } = yield* make({
        resetTimeout: "2 seconds",
        recycle: RecyclePolicy.schedule(hanging)
      })
      yield* lease(pool)
      yield* TestClock.adjust("1999 millis")
      assert.deepStrictEqual(recycled(events), [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.strictEqual(recycled(events).length, 1)
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("whose first step never ends is an open that never ends", () =>
    Effect.gen(function*() {
      const hanging = Schedule.recurs(5).pipe(Schedule.tap(() => Effect.never))
      const { pool, source } = yield* make({ openTimeout: "2 seconds", recycle: RecyclePolicy.schedule(hanging) })
      const borrower = yield* Effect.forkChild(Effect.result(lease(pool)))
      yield* settle
      yield* TestClock.adjust("2 seconds")
      yield* settle
      assert.isTrue(Result.isFailure(yield* Fiber.join(borrower)))
      assert.deepStrictEqual(source.closed, [1])
    }))
})

describe("after", () => {
  it.effect("cron ends the item at the hour, idle as it is", () =>
    Effect.gen(function*() {
      const nightly = Schedule.cron(Cron.parseUnsafe("0 3 * * *", "UTC"))
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.named(RecyclePolicy.after(nightly), "nightly")
      })
      yield* TestClock.adjust("1 hour")
      yield* lease(pool)
      yield* TestClock.adjust("2 hours")
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "nightly"]])
      yield* lease(pool)
      yield* TestClock.adjust("24 hours")
      yield* settle
      assert.deepStrictEqual(recycledAt(events), [3 * 3_600_000 + 1, 27 * 3_600_000 + 1])
    }))

  it.effect("spaced is a deadline from the opening, drawn once for each item", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.after(Schedule.jittered(Schedule.spaced("1 hour")))
      })
      yield* openSome(pool, 4)
      yield* TestClock.adjust("30 minutes")
      yield* openSome(pool, 4)
      yield* TestClock.adjust("2 hours")
      yield* settle
      const at = recycledAt(events)
      assert.deepStrictEqual(recycled(events).map(([, reason]) => reason), ["after", "after", "after", "after"])
      assert.strictEqual(new Set(at).size, 4)
      // Schedule.jittered draws from 80 to 120 percent.
      assert.isTrue(at.every((time) => time >= 0.8 * 3_600_000 && time <= 1.2 * 3_600_000 + 1))
    }).pipe(Random.withSeed("after")))

  it.effect("takes a lent item on return", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.after(Schedule.spaced("1 hour")) })
      const held = yield* hold(pool)
      yield* TestClock.adjust("3 hours")
      assert.deepStrictEqual(recycled(events), [])
      yield* held.end()
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "after"]])
    }))

  it.effect("a Schedule that is done at its first step gives no deadline", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.after(Schedule.recurs(0)) })
      yield* lease(pool)
      yield* TestClock.adjust("1000 days")
      yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
    }))

  it.effect("a Schedule that fails lets the item be lent once", () =>
    Effect.gen(function*() {
      const failing = Schedule.spaced("1 hour").pipe(Schedule.tap(() => Effect.fail("no")))
      const { events, pool } = yield* make({ recycle: RecyclePolicy.after(failing) })
      assert.deepStrictEqual([yield* lease(pool), yield* lease(pool)], [1, 2])
      yield* settle
      assert.deepStrictEqual(recycled(events).map(([, reason]) => reason), ["rule failed", "rule failed"])
    }))
})

describe("when", () => {
  it.effect("is asked at lend, at return and at sweep", () =>
    Effect.gen(function*() {
      const moments: Array<string> = []
      const { pool } = yield* make({
        recycle: RecyclePolicy.when((usage: Usage) => {
          moments.push(usage.moment)
          return false
        })
      })
      yield* lease(pool)
      moments.length = 0
      yield* lease(pool)
      assert.deepStrictEqual(moments, ["lend", "return"])
      yield* pool.sweep
      assert.deepStrictEqual(moments, ["lend", "return", "sweep"])
    }))

  for (const moment of ["lend", "return", "sweep"] as const) {
    it.effect(`recycles at ${moment}`, () =>
      Effect.gen(function*() {
        const { events, pool } = yield* make({
          recycle: RecyclePolicy.when((usage: Usage) => usage.item.id === 1 && usage.moment === moment, "bad")
        })
        yield* lease(pool)
        yield* TestClock.adjust("1 second")
        if (moment === "sweep") {
          const swept = yield* pool.sweep
          assert.deepStrictEqual(swept, { examined: 1, recycled: [{ item: 1, reason: "bad" }] })
        }
        assert.strictEqual(yield* lease(pool), 2)
        yield* settle
        assert.deepStrictEqual(recycled(events), [[1, "bad"]])
      }))
  }

  it.effect("recycles at hand-over from one borrower to the next", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        max: 1,
        recycle: RecyclePolicy.when((usage: Usage) => usage.item.id === 1 && usage.moment === "lend", "bad")
      })
      const held = yield* hold(pool)
      const waiter = yield* Effect.forkChild(lease(pool))
      yield* settle
      yield* held.end()
      assert.strictEqual(yield* Fiber.join(waiter), 2)
      assert.deepStrictEqual(recycled(events), [[1, "bad"]])
    }))

  it.effect("a plain predicate is a rule", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: [(usage: Usage) => usage.uses >= 2, RecyclePolicy.failed] })
      for (let i = 0; i < 2; i++) yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "when"]])
    }))

  it.effect("that refuses every item costs no more opens than borrowers ask for", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ borrowTimeout: "1 second", recycle: RecyclePolicy.when(() => true) })
      yield* lease(pool)
      yield* TestClock.adjust("1 hour")
      yield* settle
      assert.strictEqual(source.attempts, 1)
    }))
})

describe("check", () => {
  it.effect("is run at sweep only, once for an item", () =>
    Effect.gen(function*() {
      const checked: Array<number> = []
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.check((thing: Thing) => {
          checked.push(thing.id)
          return Effect.succeed(thing.id === 2)
        })
      })
      yield* openSome(pool, 3)
      yield* lease(pool)
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(checked, [])
      const swept = yield* pool.sweep
      assert.sameMembers(checked, [1, 2, 3])
      assert.deepStrictEqual(swept, { examined: 3, recycled: [{ item: 2, reason: "check" }] })
      yield* settle
      assert.deepStrictEqual(recycled(events), [[2, "check"]])
    }))

  it.effect("that fails or dies recycles the item with its name", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({
        recycle: RecyclePolicy.check((thing: Thing) => {
          if (thing.id === 1) return Effect.fail("gone")
          if (thing.id === 2) return Effect.die("gone")
          if (thing.id === 3) throw new Error("gone")
          return Effect.succeed(false)
        }, "answers")
      })
      yield* openSome(pool, 4)
      const { recycled } = yield* pool.sweep
      assert.sameDeepMembers([...recycled], [1, 2, 3].map((item) => ({ item, reason: "answers failed" })))
      assert.strictEqual((yield* pool.stats).idle, 1)
    }))

  it.effect("I12: that never ends recycles the item after checkTimeout", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({
        checkTimeout: "2 seconds",
        recycle: RecyclePolicy.check(() => Effect.never)
      })
      yield* lease(pool)
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* Fiber.join(sweep), { examined: 1, recycled: [{ item: 1, reason: "rule failed" }] })
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
    }))

  const watched = Effect.fnUntraced(function*() {
    const end = yield* Deferred.make<void>()
    const death = yield* Deferred.make<void>()
    const { pool, source } = yield* make({
      max: 3,
      minIdle: 1,
      monitor: ({ id }) => id === 1 ? Deferred.await(death) : Effect.never,
      recycle: RecyclePolicy.check(() => Effect.as(Deferred.await(end), false))
    })
    yield* settle
    yield* Effect.forkChild(pool.sweep)
    yield* settle
    // Whatever makes the pool look for what is to be opened.
    yield* pool.resize({ max: 4 })
    yield* settle
    return { death, end, pool, source }
  })

  it.effect("has nothing opened in place of what it looks at, with `minIdle`", () =>
    Effect.gen(function*() {
      const { end, pool, source } = yield* watched()
      assert.deepStrictEqual([(yield* pool.stats).idle, source.attempts], [0, 1])
      yield* Deferred.succeed(end, undefined)
      yield* settle
      assert.deepStrictEqual([(yield* pool.stats).idle, source.attempts], [1, 1])
    }))

  it.effect("of what dies meanwhile leaves `minIdle` as it was", () =>
    Effect.gen(function*() {
      const { death, end, pool, source } = yield* watched()
      yield* Deferred.succeed(death, undefined)
      yield* settle
      yield* Deferred.succeed(end, undefined)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([(yield* pool.stats).idle, source.attempts], [1, 2])
    }))

  it.effect("in a conjunction is run only when the other rules have spoken", () =>
    Effect.gen(function*() {
      const checked: Array<number> = []
      const { pool } = yield* make({
        recycle: RecyclePolicy.all([
          RecyclePolicy.idle("1 minute"),
          RecyclePolicy.check((thing: Thing) => Effect.as(Effect.sync(() => checked.push(thing.id)), true))
        ])
      })
      yield* openSome(pool, 2)
      yield* TestClock.adjust("50 seconds")
      const warm = yield* lease(pool)
      yield* TestClock.adjust("11 seconds")
      const { recycled } = yield* pool.sweep
      const cold = warm === 1 ? 2 : 1
      assert.deepStrictEqual(checked, [cold])
      assert.deepStrictEqual(recycled, [{ item: cold, reason: "idle and check" }])
    }))
})

describe("composed rules", () => {
  it.effect("any names the one that spoke", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.any([RecyclePolicy.failed, RecyclePolicy.any([RecyclePolicy.uses(2)])])
      })
      yield* Effect.exit(pool.use(() => Effect.fail("no")))
      yield* lease(pool)
      yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "failed"], [2, "uses"]])
    }))

  it.effect("all needs every one at the same time, and names them", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.and(RecyclePolicy.age("10 seconds"), RecyclePolicy.uses(2))
      })
      yield* lease(pool)
      yield* TestClock.adjust("11 seconds")
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
      yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "age and uses"]])
    }))

  it.effect("a conjunction of times is due at the later one, also when a return brought it about", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.all([RecyclePolicy.uses(2), RecyclePolicy.idle("10 seconds")])
      })
      yield* lease(pool)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(yield* lease(pool), 1)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(recycled(events), [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "uses and idle"]])
      assert.deepStrictEqual(recycledAt(events), [30_001])
    }))

  it.effect("named is told in place of what it names", () =>
    Effect.gen(function*() {
      const tired = RecyclePolicy.any([RecyclePolicy.uses(1), RecyclePolicy.failed]).pipe(RecyclePolicy.named("tired"))
      const { events, pool } = yield* make({ recycle: tired })
      yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "tired"]])
      assert.deepStrictEqual((yield* pool.stats).recycled, { tired: 1 })
    }))

  it.effect("not makes an exception", () =>
    Effect.gen(function*() {
      const first = RecyclePolicy.when((usage: Usage) => usage.item.id === 1)
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.and(RecyclePolicy.uses(1), RecyclePolicy.not(first))
      })
      for (let i = 0; i < 3; i++) yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(recycled(events), [])
      yield* pool.clear
      yield* lease(pool)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "cleared"], [2, "uses and not when"]])
    }))

  it.effect("mapInput lets a rule for one type serve another", () =>
    Effect.gen(function*() {
      const even = RecyclePolicy.when((usage: RecyclePolicy.Usage<number>) => usage.item % 2 === 0, "even")
      const { events, pool } = yield* make({
        max: 4,
        recycle: RecyclePolicy.mapInput(even, (thing: Thing) => thing.id)
      })
      yield* openSome(pool, 4)
      yield* settle
      assert.sameDeepMembers([...recycled(events)], [[2, "even"], [4, "even"]])
    }))

  it.effect("of no rules nothing is recycled", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: [] })
      yield* Effect.exit(pool.use(() => Effect.fail("no")))
      yield* TestClock.adjust("1000 days")
      yield* pool.sweep
      assert.deepStrictEqual(recycled(events), [])
    }))
})

describe("a rule that throws", () => {
  for (const moment of ["lend", "return", "sweep"] as const) {
    it.effect(`I12: at ${moment} recycles the item, and nobody hears`, () =>
      Effect.gen(function*() {
        const { events, pool } = yield* make({
          recycle: RecyclePolicy.when((usage: Usage) => {
            if (usage.item.id === 1 && usage.moment === moment) throw new Error("a bug in a predicate")
            return false
          })
        })
        assert.strictEqual(yield* lease(pool), 1)
        if (moment === "sweep") {
          assert.deepStrictEqual(yield* pool.sweep, { examined: 1, recycled: [{ item: 1, reason: "rule failed" }] })
        }
        assert.strictEqual(yield* lease(pool), 2)
        yield* settle
        assert.deepStrictEqual(recycled(events), [[1, "rule failed"]])
      }))
  }

  it.effect("on a cause recycles the item alone", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        recycle: RecyclePolicy.failedWith(() => {
          throw new Error("a bug in a predicate")
        }, { also: "all" })
      })
      yield* openSome(pool, 2)
      yield* Effect.exit(pool.use(() => Effect.fail("no")))
      yield* settle
      assert.deepStrictEqual(recycled(events).map(([, reason]) => reason), ["rule failed"])
    }))
})

describe("E11: nothing past its limit is ever lent", () => {
  // The time moves on and no timer has run, as after a stall of the event loop.
  const stalling = Effect.fnUntraced(function*(options: Partial<QueuePool.Options<Thing, unknown, Scope.Scope>>) {
    const source = new Source()
    const clock = yield* BentClock.make
    const pool: Pool = yield* bent(QueuePool.make({ acquire: source.acquire, ...options }), clock)
    const events = yield* record(pool)
    return { source, clock, pool, events }
  })

  const limits: ReadonlyArray<readonly [string, RecyclePolicy.RecyclePolicy<unknown>]> = [
    ["age", RecyclePolicy.age("10 seconds")],
    ["idle", RecyclePolicy.idle("10 seconds")],
    ["after", RecyclePolicy.after(Schedule.spaced("10 seconds"))]
  ]
  for (const [reason, recycle] of limits) {
    it.effect(`after a stall: an idle item past its ${reason} limit`, () =>
      Effect.gen(function*() {
        const { clock, events, pool } = yield* stalling({ recycle })
        yield* openSome(pool, 2)
        clock.stalled = 10_000
        const atTheLimit = yield* lease(pool)
        assert.include([1, 2], atTheLimit)
        clock.stalled = 20_001
        assert.strictEqual(yield* lease(pool), 3)
        yield* settle
        assert.sameDeepMembers([...recycled(events)], [[1, reason], [2, reason]])
      }))
  }

  it.effect("after a stall: an item past its age that goes to a waiter", () =>
    Effect.gen(function*() {
      const { clock, events, pool } = yield* stalling({ max: 1, recycle: RecyclePolicy.age("10 seconds") })
      const held = yield* hold(pool)
      const waiter = yield* Effect.forkChild(lease(pool))
      yield* settle
      clock.stalled = 10_001
      yield* held.end()
      assert.strictEqual(yield* Fiber.join(waiter), 2)
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  it.effect("after a stall: spared items are lent, for nobody said that they may not", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* stalling({ min: 1, recycle: RecyclePolicy.idle("10 seconds") })
      yield* lease(pool)
      clock.stalled = 60_000
      assert.strictEqual(yield* lease(pool), 1)
    }))

  it.effect("after a stall: an item that was not spared when its time was set, and is now", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* stalling({ min: 1, max: 2, recycle: RecyclePolicy.idle("10 seconds") })
      const other = yield* pool.use((item) => pool.use(() => Effect.succeed(item)))
      yield* pool.invalidate(other)
      clock.stalled = 60_000
      assert.isAbove(yield* lease(pool), 0)
    }))

  it.effect("an item that passed its age in its reset, for a borrower that comes at that moment", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        max: 1,
        reset: () => Effect.sleep(200),
        recycle: RecyclePolicy.age("10 seconds")
      })
      yield* Effect.forkChild(leaseFor(pool, 9900))
      yield* settle
      yield* TestClock.adjust("10100 millis")
      assert.strictEqual((yield* pool.stats).used, 0)
      assert.strictEqual(yield* lease(pool), 2)
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  it.effect("an item that passed its age in its reset, for a borrower that waits", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        max: 1,
        reset: () => Effect.sleep(200),
        recycle: RecyclePolicy.age("10 seconds")
      })
      yield* Effect.forkChild(leaseFor(pool, 9900))
      const waiter = yield* Effect.forkChild(lease(pool))
      yield* settle
      yield* TestClock.adjust("10100 millis")
      yield* settle
      assert.strictEqual(yield* Fiber.join(waiter), 2)
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  it.effect("an item that passed its age in its check before a lease", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        max: 1,
        check: (thing) => thing.id === 1 ? Effect.sleep(200) : Effect.void,
        checkAfter: "1 second",
        recycle: RecyclePolicy.age("10 seconds")
      })
      yield* lease(pool)
      yield* TestClock.adjust("9900 millis")
      const borrower = yield* Effect.forkChild(lease(pool))
      yield* settle
      yield* TestClock.adjust("200 millis")
      yield* settle
      assert.strictEqual(yield* Fiber.join(borrower), 2)
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  it.effect("an item that passed its age in a sweep's check, for a borrower that comes at that moment", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({
        max: 1,
        sweep: "1 hour",
        recycle: [RecyclePolicy.age("10 seconds"), RecyclePolicy.check(() => Effect.as(Effect.sleep(200), false))]
      })
      yield* lease(pool)
      yield* TestClock.adjust("9900 millis")
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      yield* TestClock.adjust("200 millis")
      yield* Fiber.join(sweep)
      assert.strictEqual(yield* lease(pool), 2)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  it.effect("an item of which the deadline had passed before it was first idle", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.after(Schedule.spaced(0)) })
      const held = yield* hold(pool)
      yield* TestClock.adjust(5)
      yield* held.end()
      assert.strictEqual(yield* lease(pool), 2)
      yield* settle
      assert.strictEqual(recycled(events)[0]?.[1], "after")
    }))
})
