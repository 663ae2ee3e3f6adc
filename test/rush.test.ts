/** Where leases follow one another fast, their ends do not read the clock: what came back is idle from then on all the same. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Option, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { behind } from "../src/internal/registered.ts"
import { Rush, type Since, timeOf } from "../src/internal/rush.ts"
import type { PoolState } from "../src/internal/state.ts"
import { borrow, elapse, several } from "./kit/books.ts"
import { settle, Source, type Thing } from "./kit/items.ts"
import { record } from "./kit/observe.ts"

const idle = RecyclePolicy.idle("1 second")

/** A pool with one item, in the midst of many leases. */
const inARush = Effect.fnUntraced(function*(options: Partial<QueuePool.Options<Thing, unknown>> = {}) {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2, recycle: idle, ...options })
  const rush = Effect.replicateEffect(pool.use(() => Effect.void), 3, { discard: true })
  yield* rush
  return { pool, source, long: Effect.andThen(rush, pool.use(() => Effect.sleep("1 minute"))) }
})

/** Something else in the same step as the end of a long lease. */
const inTheSameTurn = Effect.fnUntraced(function*<A, E>(
  long: Effect.Effect<unknown, unknown>,
  then: Effect.Effect<A, E>,
  millis = 60_000
) {
  const both = yield* Effect.forkChild(Effect.andThen(long, then))
  yield* elapse(millis)
  return yield* Fiber.join(both)
})

describe("what comes back in a rush", () => {
  it.effect("goes when it has been idle for as long as the rule says, and not sooner", () =>
    Effect.gen(function*() {
      const { long, pool, source } = yield* inARush()
      yield* inTheSameTurn(long, Effect.void)
      yield* elapse(1000)
      assert.strictEqual(source.live, 1)
      yield* elapse(1)
      assert.deepStrictEqual([source.live, (yield* pool.stats).recycled], [0, { idle: 1 }])
    }))

  it.effect("is not idle in the same turn: for a sweep, a borrower, or a check", () =>
    Effect.gen(function*() {
      for (const checkAfter of [Infinity, 500]) {
        let checks = 0
        const check = () => Effect.sync(() => void checks++)
        const { long, pool, source } = yield* inARush(checkAfter === Infinity ? {} : { check, checkAfter, recycle: [] })
        const { examined, recycled } = yield* inTheSameTurn(long, pool.sweep)
        assert.deepStrictEqual([examined, recycled], [1, []])
        yield* inTheSameTurn(long, pool.use(() => Effect.void))
        const available = pool.useIfAvailable(({ id }) => Effect.succeed(id))
        assert.isTrue((yield* inTheSameTurn(long, available))._tag === "Some")
        assert.deepStrictEqual([source.opened.length, checks], [1, 0])
      }
    }))

  for (const held of [999, 1000, 1001, 1002]) {
    it.effect(`is idle from then on, if the rule would have spoken at that moment, after a lease of ${held} ms`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* inARush()
        yield* inTheSameTurn(pool.use(() => Effect.sleep(held)), pool.use(() => Effect.void), held)
        assert.strictEqual(source.live, 1)
        yield* elapse(990)
        assert.strictEqual(source.live, 1)
        yield* elapse(20)
        assert.strictEqual(source.live, 0)
      }))
  }

  it.effect("is idle from then on also for what looks at it in the same step", () =>
    Effect.gen(function*() {
      for (const look of ["sweep", "sweepDue", "spoiled"] as const) {
        const { pool, source } = yield* inARush()
        yield* pool.use(() => pool.use(() => Effect.void))
        yield* settle
        yield* elapse(900)
        yield* Effect.replicateEffect(pool.use(() => Effect.void), 3)
        const { state } = behind(pool) as { readonly state: PoolState<Thing, never> }
        const item = state.idle.warmest!
        assert.deepStrictEqual([state.idle.size, item.undated], [2, true])
        const { sweeper } = state
        const later = item.idleSince + 1500
        if (look === "spoiled") assert.isFalse(sweeper.spoiled(item, later))
        else sweeper[look](later)
        assert.strictEqual(item.idleSince, later)
        yield* settle
        assert.deepStrictEqual(source.closed.includes(item.id), false)
        assert.strictEqual(source.closed.length, look === "spoiled" ? 0 : 1)
        yield* pool.clear
      }
    }))

  it.effect("needs no check, though the one that is next does", () =>
    Effect.gen(function*() {
      const source = new Source()
      const check = () => Effect.die("nobody should ask")
      const options = { max: 2, order: "fifo", check, checkAfter: 500 } as const
      const pool = yield* QueuePool.make({ acquire: source.acquire, ...options })
      const both = [yield* borrow(pool), yield* borrow(pool)]
      for (const { letGo } of both) yield* letGo
      for (let i = 0; i < 4; i++) yield* pool.use(() => Effect.void)
      const available = pool.useIfAvailable(({ id }) => Effect.succeed(id))
      const found = yield* inTheSameTurn(pool.use(() => Effect.sleep("1 minute")), available)
      assert.deepStrictEqual(found, Option.some(1))
    }))

  it.effect("keeps its place when one that a sweep has looked at comes back at the same moment", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 2,
        recycle: RecyclePolicy.check(() => Effect.as(Effect.sleep("59999 millis"), false))
      })
      const [first, second] = [yield* borrow(pool), yield* borrow(pool)]
      yield* first.letGo
      yield* elapse(1)
      // In a rush, and the last that is borrowed is the first one.
      for (let i = 0; i < 3; i++) yield* pool.use(() => Effect.void)
      const long = yield* Effect.forkChild(pool.use(() => Effect.sleep("1 minute")))
      yield* settle
      yield* elapse(1)
      yield* second.letGo
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* elapse("1 minute")
      yield* Fiber.join(long)
      yield* Fiber.join(sweep)
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
    }))

  for (const how of ["clear", "swap"] as const) {
    for (const held of [1, 120_000]) {
      it.effect(`goes within the time that a ${how} gave it, when it comes back ${held} ms after that`, () =>
        Effect.gen(function*() {
          const { pool, source } = yield* inARush({ recycle: RecyclePolicy.uses(1000) })
          const lease = yield* Effect.forkChild(pool.use(() => Effect.sleep(held)))
          yield* settle
          yield* how === "clear"
            ? pool.clearWith({ over: "1 minute" })
            : pool.swap(source.acquire, { over: "1 minute" })
          yield* elapse(held)
          yield* Fiber.join(lease)
          yield* elapse("1 minute")
          assert.deepStrictEqual(source.closed, [1])
        }))
    }
  }

  it.effect("is not taken for idle by a sweep that asks one item after the other", () =>
    Effect.gen(function*() {
      const source = new Source()
      const gates = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      let asked = 0
      let lend: Effect.Effect<unknown, unknown> = Effect.void
      // Two are asked at once. When the first has spoken, the next is one that has just come back.
      const check = RecyclePolicy.check((_: Thing) => {
        const which = asked++
        const gate = which < 2 ? Deferred.await(gates[which]!) : Effect.void
        return Effect.as(which === 0 ? Effect.andThen(gate, Effect.exit(lend)) : gate, true)
      })
      const pool = yield* QueuePool.make<Thing, unknown, Scope.Scope>({
        acquire: source.acquire,
        max: 4,
        recycle: RecyclePolicy.any([RecyclePolicy.age("1 hour"), RecyclePolicy.all([idle, check])])
      })
      const used: Array<number> = []
      lend = pool.use((one) => pool.use((two) => Effect.sync(() => used.push(one.id, two.id))))
      const all = yield* several(4, pool)
      for (const { letGo } of all.toReversed()) yield* letGo
      yield* elapse(5000)
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      for (const gate of gates) {
        yield* Deferred.succeed(gate, undefined)
        yield* settle
      }
      const { recycled } = yield* Fiber.join(sweep)
      assert.deepStrictEqual(new Set(used), new Set([1, 2]))
      assert.deepStrictEqual(new Set(recycled.map(({ item }) => item)), new Set([3, 4]))
    }))

  it.effect("needs no check when who waits is served on resuming", () =>
    Effect.gen(function*() {
      const source = new Source()
      const check = () => Effect.die("nobody should ask")
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3, checkAfter: "1 second", check })
      yield* pool.use(() => pool.use(() => Effect.void))
      const long = pool.use(() => pool.use(() => Effect.sleep("1 minute")))
      yield* inTheSameTurn(
        long,
        Effect.gen(function*() {
          yield* pool.suspend
          const waiter = yield* Effect.forkChild(pool.use(() => Effect.void), { startImmediately: true })
          yield* pool.resume
          yield* Fiber.join(waiter)
        })
      )
      assert.strictEqual(source.live, 2)
    }))

  it.effect("that was never lent is looked at by a sweep, if a rule speaks of that", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        min: 1,
        max: 1,
        recycle: RecyclePolicy.not(RecyclePolicy.failed)
      })
      yield* settle
      const { recycled } = yield* pool.sweep
      assert.deepStrictEqual(recycled.map(({ item }) => item), [1])
    }))

  it.effect("counts as used: every lease, and none twice", () =>
    Effect.gen(function*() {
      const { pool } = yield* inARush({ recycle: [idle, RecyclePolicy.uses(5)] })
      const { borrowed, idle: free, returned, used } = yield* pool.stats
      assert.deepStrictEqual({ borrowed, returned, free, used }, { borrowed: 3, returned: 3, free: 1, used: 0 })
      yield* pool.use(() => Effect.void)
      assert.deepStrictEqual((yield* pool.stats).recycled, {})
      yield* pool.use(() => Effect.void)
      assert.deepStrictEqual((yield* pool.stats).recycled, { uses: 1 })
    }))

  for (
    const [what, options] of Object.entries<Partial<QueuePool.Options<Thing, unknown>>>({
      "a rule speaks of its uses": { recycle: RecyclePolicy.uses(4) },
      "a predicate does": { recycle: ({ uses }) => uses === 4 },
      "it is reset": { reset: () => Effect.fail("reset") },
      "no item may be idle": { maxIdle: 0 },
      "it is shared": { concurrency: 2, recycle: RecyclePolicy.uses(4) }
    })
  ) {
    it.effect(`does not stay when ${what}`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* inARush(options)
        yield* pool.use(() => Effect.void)
        yield* settle
        assert.isAbove(source.closed.length, 0)
      }))
  }

  it.effect("does not stay after a lease that failed, when it was invalidated, nor where there are too many", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* inARush({ recycle: RecyclePolicy.failed, maxIdle: 1 })
      yield* Effect.exit(pool.use(() => Effect.fail("broken")))
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      yield* pool.use((item) => pool.invalidate(item))
      yield* settle
      assert.deepStrictEqual(source.closed, [1, 2])
      yield* pool.use(() => pool.use(() => Effect.void))
      yield* settle
      assert.deepStrictEqual((yield* pool.stats).recycled, { failed: 1, invalidated: 1, surplus: 1 })
    }))

  it.effect("does not stay when there are too many since max was made smaller", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* inARush()
      yield* pool.use(() => pool.use(() => Effect.void))
      yield* pool.use(() => pool.use(() => pool.resize({ max: 1 })))
      yield* settle
      assert.deepStrictEqual([source.live, (yield* pool.stats).recycled], [1, { resized: 1 }])
    }))

  it.effect("makes room for a swap", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* inARush({ max: 1 })
      const swap = yield* pool.use(() => Effect.tap(Effect.forkChild(pool.swap(source.acquire)), () => settle))
      yield* settle
      assert.isTrue(Exit.isSuccess(swap.pollUnsafe()!))
    }))

  it.effect("has nothing left of the exit before", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* inARush()
      yield* Effect.exit(pool.use(() => Effect.fail("mine")))
      yield* pool.use(() => Effect.void)
      yield* pool.clear
      yield* settle
      assert.deepStrictEqual(source.closeExits, [Exit.void])
    }))

  it.effect("goes to one who waits, and is refilled to min", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* inARush({ max: 1 })
      const waiter = yield* pool.use(() =>
        Effect.tap(Effect.forkChild(pool.use(Effect.succeed)), () => Effect.yieldNow)
      )
      assert.strictEqual((yield* Fiber.join(waiter)).id, 1)
      yield* pool.use(() => Effect.andThen(pool.resize({ min: 1 }), pool.clear))
      yield* settle
      assert.deepStrictEqual([source.live, source.opened.length], [1, 2])
    }))

  it.effect("is told of, when somebody listens", () =>
    Effect.gen(function*() {
      const { pool } = yield* inARush()
      const events = yield* record(pool)
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["Borrowed", "Returned"])
    }))

  it.effect("stays where it is when the pool is closed in the same turn", () =>
    Effect.gen(function*() {
      const scope = Scope.makeUnsafe()
      const source = new Source()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, max: 1, recycle: idle }), scope)
      for (let i = 0; i < 3; i++) yield* pool.use(() => Effect.void)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(source.live, 0)
    }))
})

/** A pool of one item, on a clock that counts how often it is read. */
const counted = Effect.fnUntraced(function*(options: Partial<QueuePool.Options<string>> = {}) {
  const clock = yield* Clock.Clock
  const counts = { nanos: 0n, reads: 0 }
  const counting = Object.create(clock, {
    monotonicTimeNanosUnsafe: {
      value: () => {
        counts.reads++
        return counts.nanos
      }
    }
  }) as Clock.Clock
  const recycle = [RecyclePolicy.idle("10 minutes"), RecyclePolicy.failed]
  const pool = yield* Effect.provideService(
    QueuePool.make({ acquire: Effect.succeed("item"), max: 1, recycle, ...options }),
    Clock.Clock,
    counting
  )
  yield* pool.use(() => Effect.void)
  yield* settle
  return { counts, pool }
})

describe("reading the clock", () => {
  it.effect("happens seldom for many leases in a row, and twice for each that comes alone", () =>
    Effect.gen(function*() {
      const { counts, pool } = yield* counted()
      // One in a row tells for thirty-two more.
      for (const [gap, expected] of [[0n, Math.ceil(100 / 33)], [1_000_000n, 200]] as const) {
        yield* pool.use(() => Effect.void)
        yield* settle
        counts.reads = 0
        for (let i = 0; i < 100; i++) {
          counts.nanos += gap
          yield* pool.use(() => Effect.void)
        }
        assert.strictEqual(counts.reads, expected)
      }
    }))

  it.effect("happens once for each of many who wait, and twice when somebody hears of it", () =>
    Effect.gen(function*() {
      for (const listening of [false, true]) {
        const { counts, pool } = yield* counted({ max: 20 })
        if (listening) yield* record(pool)
        yield* settle
        counts.reads = 0
        yield* Effect.forEach(
          Array.from({ length: 100 }),
          () => Effect.replicateEffect(pool.use(() => Effect.yieldNow), 10, { discard: true }),
          { concurrency: "unbounded", discard: true }
        )
        if (listening) assert.isAbove(counts.reads, 2000)
        else assert.isBelow(counts.reads, 1200)
      }
    }))

  it.effect("goes on as ever where few leases fall in one turn, after four such turns", () =>
    Effect.gen(function*() {
      for (const leases of [4, 8, 9]) {
        const { counts, pool } = yield* counted()
        const some = Effect.replicateEffect(pool.use(() => Effect.void), leases, { discard: true })
        const readsOf = (turns: number) =>
          Effect.suspend(() => {
            const before = counts.reads
            return Effect.map(Effect.replicateEffect(Effect.andThen(some, settle), turns), () => counts.reads - before)
          })
        // One reading that tells how fast they are, and one when the turn ends.
        assert.isAtMost(yield* readsOf(4), 4 * 2 + 1)
        assert.strictEqual(yield* readsOf(10), leases === 9 ? 10 * 2 : 10 * 2 * leases)
      }
    }))

  it.effect("happens in each turn, whatever was read in the one before", () =>
    Effect.gen(function*() {
      const { counts, pool } = yield* counted()
      for (let i = 0; i < 20; i++) {
        yield* Effect.replicateEffect(pool.use(() => Effect.void), 4, { discard: true })
        yield* settle
        counts.reads = 0
        yield* pool.use(() => Effect.void)
        assert.isAtLeast(counts.reads, 1)
        yield* settle
      }
    }))

  it.effect("is late by no more than thirty-two leases of a turn that grow longer", () =>
    Effect.gen(function*() {
      let opened = 0
      const acquire = Effect.sync(() => `item ${++opened}`)
      const { counts, pool } = yield* counted({ acquire, recycle: RecyclePolicy.age("5 minutes") })
      const used: Array<string> = []
      const long = pool.use((item) =>
        Effect.sync(() => {
          used.push(item)
          counts.nanos += 60_000_000_000n
        })
      )
      yield* Effect.andThen(
        Effect.replicateEffect(pool.use(() => Effect.void), 10, { discard: true }),
        Effect.replicateEffect(long, 80, { discard: true })
      )
      const of = (item: string) => used.filter((one) => one === item).length
      // Six of them begin within its time.
      assert.isAtMost(of("item 1"), 6 + 32)
      // Each is looked at, once it is known that they are long.
      assert.strictEqual(of("item 2"), 6)
    }))

  it("the last use is known, also when it has not been dated yet", () => {
    let now = 5
    const later: Array<() => void> = []
    const rush = new Rush(() => now, (task) => void later.push(task))
    const home = { usedAt: 1 }
    const item = { undated: false, toBeDated: false, idleSince: 0, home }
    rush.add(item)
    rush.add(item)
    now = 7
    rush.dateAll()
    assert.deepStrictEqual([home.usedAt, item.idleSince, later.length], [7, 7, 1])
    // Nothing is left to do in its turn.
    now = 9
    later[0]!()
    assert.deepStrictEqual([home.usedAt, item.idleSince], [7, 7])
    rush.add(item)
    later[1]!()
    assert.deepStrictEqual([item.undated, item.idleSince], [false, 9])
  })

  it("tells the same time to thirty-two more, in this turn, while they follow one another fast", () => {
    let now = 0
    const later: Array<() => void> = []
    const rush = new Rush(() => now, (task) => void later.push(task))
    const times = (n: number) => Array.from({ length: n }, () => rush.time())
    assert.deepStrictEqual([rush.time(), rush.on, later.length], [0, false, 0])
    now = 0.04
    assert.deepStrictEqual([rush.time(), rush.on, later.length], [0.04, true, 1])
    now = 1
    assert.deepStrictEqual(times(33), [...Array.from({ length: 32 }, () => 0.04), 1])
    assert.deepStrictEqual([rush.on, later.length], [true, 1])
    // Thirty-three in 1.7 ms are not so fast.
    now = 2.7
    assert.deepStrictEqual(times(33).slice(31), [1, 2.7])
    assert.isFalse(rush.on)
    now = 2.74
    assert.deepStrictEqual([rush.time(), rush.time()], [2.74, 2.74])
    now = 2.75
    later[0]!()
    assert.deepStrictEqual([rush.time(), rush.on, later.length], [2.75, true, 2])
  })

  it("tells those who wait a time that is not before they came, and at the next reading at the latest", () => {
    let now = 0
    let reads = 0
    const later: Array<() => void> = []
    const rush = new Rush(() => {
      reads++
      return now
    }, (task) => void later.push(task))
    const dueOf = (since: Since) => timeOf(since)
    assert.deepStrictEqual([rush.since(), rush.since()], [0, 0])
    assert.isTrue(rush.on)
    reads = 0
    now = 5
    const [first, second] = [rush.since(), rush.since()]
    assert.strictEqual(first, second)
    assert.strictEqual(reads, 0)
    // Who asks reads the clock, for all who have come so far.
    now = 6
    assert.deepStrictEqual([dueOf(first), dueOf(second), reads], [6, 6, 1])
    now = 7
    const third = rush.since()
    assert.notStrictEqual(third, first)
    now = 8
    later[0]!()
    now = 9
    assert.deepStrictEqual([dueOf(third), dueOf(first), reads], [8, 6, 2])
    // The end of a turn in which nobody came reads nothing.
    later[0]!()
    assert.strictEqual(reads, 2)
    // One of thirty-two reads the clock, and dates those before it.
    now = 9.01
    rush.now()
    now = 9.02
    rush.now()
    const fourth = rush.since()
    for (let i = 0; i < 31; i++) rush.time()
    now = 10
    rush.time()
    now = 11
    assert.strictEqual(dueOf(fourth), 10)
  })
})
