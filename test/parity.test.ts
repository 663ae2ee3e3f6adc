/**
 * What the pools that this one descends from are tested for, and the defects that
 * were found in them, each by its number: T a test case, D a defect. Those that
 * need a PostgreSQL stand with it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Random, Result, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import * as Fs from "node:fs"
import { settle, Source, type Thing } from "./kit/items.ts"
import { bent, BentClock, record, recycled } from "./kit/observe.ts"

type Pool = QueuePool.QueuePool<Thing, unknown>

const make = Effect.fnUntraced(function*(options: Partial<QueuePool.Options<Thing, unknown, Scope.Scope>>) {
  const source = new Source()
  const pool: Pool = yield* QueuePool.make({ acquire: source.acquire, ...options })
  const events = yield* record(pool)
  return { source, pool, events }
})

const lease = (pool: Pool) => pool.use((thing) => Effect.succeed(thing.id))

/** Takes by hand, to be put back by hand. */
const take = Effect.fnUntraced(function*(pool: Pool) {
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
  const thing = yield* Scope.provide(pool.get, scope)
  return { thing, put: (exit: Exit.Exit<unknown, unknown> = Exit.void) => Scope.close(scope, exit) }
})

const counts = (pool: Pool) =>
  Effect.map(pool.stats, ({ closing, idle, opening, used }) => ({ idle, used, opening, closing }))

const nothing = { idle: 0, used: 0, opening: 0, closing: 0 }

// queuepool's own defaults.
const queuepool = {
  recycle: [
    RecyclePolicy.idle("300 seconds"),
    RecyclePolicy.age("300 seconds"),
    RecyclePolicy.uses(1000),
    RecyclePolicy.failed
  ]
}

describe("queuepool", () => {
  it.effect("QP-T1: a scoped use gives an open item and gives it back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make(queuepool)
      yield* Effect.scoped(Effect.gen(function*() {
        const thing = yield* pool.get
        assert.deepStrictEqual(source.opened, [thing])
        assert.deepStrictEqual(source.closed, [])
        assert.deepStrictEqual(yield* counts(pool), { ...nothing, used: 1 })
      }))
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, idle: 1 })
    }))

  it.effect("QP-T2: a take, a close on error and a put by hand do the same as the scoped form", () =>
    Effect.gen(function*() {
      for (const exit of [Exit.void, Exit.fail("no"), Exit.die("no")]) {
        const scoped = yield* make(queuepool)
        yield* Effect.exit(Effect.scoped(Effect.andThen(scoped.pool.get, exit)))
        const byHand = yield* make(queuepool)
        const { put } = yield* take(byHand.pool)
        yield* put(exit)
        yield* settle
        assert.deepStrictEqual(yield* byHand.pool.stats, yield* scoped.pool.stats)
        assert.deepStrictEqual(byHand.source.closed, Exit.isSuccess(exit) ? [] : [1])
      }
    }))

  it.effect("QP-T6: a recycler that runs in the background disturbs nobody", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ ...queuepool, max: 2, sweep: "5 seconds" })
      const work = (n: number) =>
        Effect.forEach(Array.from({ length: 10 }), () => pool.use(() => Effect.sleep(n * 137)), { discard: true })
      const fibers = yield* Effect.forEach([1, 2, 3, 4, 5], (n) => Effect.forkChild(Effect.exit(work(n))))
      yield* settle
      for (let i = 0; i < 60; i++) {
        yield* TestClock.adjust("1 second")
        yield* settle
      }
      const exits = yield* Effect.forEach(fibers, Fiber.join)
      assert.isTrue(exits.every(Exit.isSuccess))
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.borrowed, stats.returned, stats.opened], [50, 50, 2])
      assert.strictEqual(source.peakLive, 2)
    }))

  it.effect("QP-T8: nothing is opened before it is asked for", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make(queuepool)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(source.attempts, 0)
      yield* lease(pool)
      assert.strictEqual(source.attempts, 1)
    }))

  it.effect("QP-T9: an item is closed after its longest idle time", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({ recycle: RecyclePolicy.idle("300 seconds") })
      yield* lease(pool)
      yield* TestClock.adjust("299 seconds")
      yield* lease(pool)
      yield* TestClock.adjust("300 seconds")
      yield* settle
      assert.deepStrictEqual(source.closed, [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "idle"]])
    }))

  it.effect("QP-T10: an item is closed after its longest time open", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({ recycle: RecyclePolicy.age("300 seconds") })
      yield* lease(pool)
      yield* TestClock.adjust("299 seconds")
      yield* lease(pool)
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(source.closed, [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
    }))

  it.effect("QP-T11: an item is closed after its most uses", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.uses(1000) })
      for (let i = 0; i < 1000; i++) assert.strictEqual(yield* lease(pool), 1)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "uses"]])
      assert.strictEqual(yield* lease(pool), 2)
    }))

  it.effect("QP-T12: a take has exactly one put", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 1 })
      const { put } = yield* take(pool)
      yield* put()
      yield* put()
      yield* put(Exit.fail("no"))
      const { idle, returned } = yield* pool.stats
      assert.deepStrictEqual({ idle, returned }, { idle: 1, returned: 1 })
      // And not one more can be taken than there is.
      yield* take(pool)
      const second = yield* Effect.forkChild(take(pool))
      yield* settle
      assert.isUndefined(second.pollUnsafe())
      yield* Fiber.interrupt(second)
    }))

  for (const how of ["fail", "die"] as const) {
    it.effect(`QP-D1: an open that ${how}s loses no slot`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1 })
        source.opens.push(how, how, how)
        for (let i = 0; i < 3; i++) assert.isTrue(Exit.isFailure(yield* Effect.exit(lease(pool))))
        assert.strictEqual(yield* lease(pool), 4)
      }))

    it.effect(`QP-D1: a close that ${how}s at a take loses no slot`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({
          max: 1,
          recycle: RecyclePolicy.when(({ moment, uses }) => moment === "lend" && uses > 0)
        })
        source.closesOtherwise = how
        for (let id = 1; id <= 4; id++) assert.strictEqual(yield* lease(pool), id)
      }))

    it.effect(`QP-D1: a check that ${how}s loses no slot`, () =>
      Effect.gen(function*() {
        const { pool } = yield* make({
          max: 1,
          checkAfter: 0,
          check: () => how === "fail" ? Effect.fail("no") : Effect.die("no")
        })
        for (let id = 1; id <= 4; id++) assert.strictEqual(yield* lease(pool), id)
      }))

    it.effect(`QP-D2: a reset that ${how}s loses no slot, and the borrower keeps its result`, () =>
      Effect.gen(function*() {
        const { pool } = yield* make({
          max: 1,
          reset: () => how === "fail" ? Effect.fail("no") : Effect.die("no")
        })
        for (let id = 1; id <= 4; id++) assert.strictEqual(yield* lease(pool), id)
      }))

    it.effect(`QP-D2: a close that ${how}s on return loses no slot and hides no error of the borrower's`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1, recycle: RecyclePolicy.failed })
        source.closesOtherwise = how
        for (let i = 0; i < 3; i++) {
          assert.strictEqual(yield* Effect.flip(pool.use(() => Effect.fail("the borrower's"))), "the borrower's")
        }
        assert.strictEqual(yield* lease(pool), 4)
      }))
  }

  it.effect("QP-D3: an item that its borrower has closed, and then failed, loses no slot", () =>
    Effect.gen(function*() {
      let open = 0
      const acquire = Effect.acquireRelease(
        Effect.sync(() => ({ socket: { id: ++open } as { readonly id: number } | undefined })),
        (item) => Effect.sync(() => item.socket!.id)
      )
      const pool = yield* QueuePool.make({ acquire, max: 1, recycle: RecyclePolicy.failed })
      for (let i = 0; i < 3; i++) {
        const error = yield* Effect.flip(pool.use((item) => {
          item.socket = undefined
          return Effect.fail("the borrower's")
        }))
        assert.strictEqual(error, "the borrower's")
      }
      assert.strictEqual(yield* pool.use((item) => Effect.succeed(item.socket?.id)), 4)
    }))

  for (const nth of [0, 1, 2]) {
    it.effect(`QP-D4: a sweep in which close ${nth + 1} of 3 fails loses no slot, and the recycler lives on`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 3, recycle: RecyclePolicy.idle("10 seconds") })
        for (let round = 1; round <= 2; round++) {
          source.closes.push(...[0, 1, 2].map((n) => n === nth ? "die" as const : "ok" as const))
          const held = yield* Effect.forEach([1, 2, 3], () => take(pool))
          for (const { put } of held) yield* put()
          yield* TestClock.adjust("11 seconds")
          yield* settle
          assert.strictEqual(source.closed.length, 3 * round)
          assert.deepStrictEqual(yield* counts(pool), nothing)
        }
        const held = yield* Effect.forEach([1, 2, 3], () => take(pool))
        assert.strictEqual(held.length, 3)
      }))
  }

  it.effect("QP-D5: a sweep stalls no taker: what stays is lent meanwhile, and closes run side by side", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({
        max: 6,
        closeTimeout: "10 seconds",
        recycle: RecyclePolicy.when(({ item, moment }: RecyclePolicy.Usage<Thing>) =>
          moment === "sweep" && item.id !== 6
        )
      })
      const held = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => take(pool))
      for (const { put } of held) yield* put()
      source.closesOtherwise = { slow: 5000 }
      assert.strictEqual((yield* pool.sweep).recycled.length, 5)
      assert.strictEqual(yield* lease(pool), 6)
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.strictEqual(source.closed.length, 5)
      source.closesOtherwise = "ok"
    }))

  it.effect("QP-D6: a wait has a time, can be given up, and is served in its turn", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 1, borrowTimeout: "5 seconds" })
      const held = yield* take(pool)
      const served: Array<string> = []
      const wait = (name: string) => Effect.forkChild(pool.use(() => Effect.sync(() => served.push(name))))
      const first = yield* wait("first")
      const second = yield* wait("second")
      const third = yield* wait("third")
      yield* settle
      yield* Fiber.interrupt(second)
      yield* held.put()
      yield* Fiber.join(first)
      yield* Fiber.join(third)
      assert.deepStrictEqual(served, ["first", "third"])

      yield* take(pool)
      const late = yield* Effect.forkChild(Effect.flip(lease(pool)))
      yield* settle
      yield* TestClock.adjust("5 seconds")
      assert.include(String(yield* Fiber.join(late)), "BorrowTimeout")
    }))

  it.effect("QP-D6: a pool can be closed, and its recycler ends with it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const source = new Source()
      const clock = yield* BentClock.make
      const pool = yield* Scope.provide(
        bent(QueuePool.make({ acquire: source.acquire, min: 2, sweep: "1 second" }), clock),
        scope
      )
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(source.closed.length, 2)
      clock.sleeps.length = 0
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(clock.sleeps, [])
      assert.include(String(yield* Effect.flip(lease(pool))), "Closed")
    }))

  it.effect("QP-D7: idle time counts from the return, by a clock that does not jump", () =>
    Effect.gen(function*() {
      const source = new Source()
      const clock = yield* BentClock.make
      const pool: Pool = yield* bent(
        QueuePool.make({ acquire: source.acquire, max: 1, recycle: RecyclePolicy.idle("10 seconds") }),
        clock
      )
      const held = yield* take(pool)
      // It waits for longer than the limit, and holds for longer than the limit.
      const waiter = yield* Effect.forkChild(pool.use(() => Effect.sleep("15 seconds")))
      yield* settle
      yield* TestClock.adjust("15 seconds")
      yield* held.put()
      yield* settle
      clock.wall = 3_600_000
      yield* TestClock.adjust("15 seconds")
      yield* Fiber.join(waiter)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* lease(pool), 1)
    }))

  it.effect("QP-D8: an idle item that has died is not lent", () =>
    Effect.gen(function*() {
      const dead = new Set<number>()
      const { pool } = yield* make({
        check: ({ id }) => dead.has(id) ? Effect.fail("dead") : Effect.void
      })
      assert.strictEqual(yield* lease(pool), 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* lease(pool), 1)
      dead.add(1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* lease(pool), 2)
    }))

  it.effect("QP-D9: a set-up that fails after the item was opened leaks nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      let setUp: Effect.Effect<void, string> = Effect.fail("no such role")
      const acquire = Effect.tap(source.acquire, () => setUp)
      const pool = yield* QueuePool.make({ acquire, max: 1 })
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* Effect.flip(lease(pool as Pool)), "no such role")
      yield* settle
      assert.deepStrictEqual(source.closed, [1, 2, 3])
      setUp = Effect.void
      assert.strictEqual(yield* lease(pool as Pool), 4)
    }))

  it("QP-D10: the core asks for nothing but effect", () => {
    const read = (path: string) => Fs.readFileSync(new URL(`../${path}`, import.meta.url), "utf8")
    const manifest = JSON.parse(read("package.json")) as Record<string, Record<string, { readonly optional?: boolean }>>
    assert.isUndefined(manifest["dependencies"])
    const optional = manifest["peerDependenciesMeta"]!
    const required = Object.keys(manifest["peerDependencies"]!).filter((name) => optional[name]?.optional !== true)
    assert.deepStrictEqual(required, ["effect"])
    // What the barrel reaches, directly or not.
    const seen = new Set<string>()
    const reach = (path: string): void => {
      if (seen.has(path)) return
      seen.add(path)
      for (const [, from] of read(path).matchAll(/^(?:import|export|\}) .*?from "(.*)"$/gm)) {
        if (!from!.startsWith(".")) assert.match(from!, /^effect\//, path)
        else reach(new URL(from!, `file:///${path}`).pathname.slice(1))
      }
    }
    reach("src/index.ts")
    assert.isAbove(seen.size, 10)
  })
})

describe("psycopg2_pool", () => {
  it.effect("CP-T1: a take beyond max fails, typed, or waits; a return makes the same item the next", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 1, borrowTimeout: 0 })
      yield* Effect.exit(lease(pool))
      yield* settle
      const first = yield* take(pool)
      const refused = yield* Effect.result(take(pool))
      assert.isTrue(Result.isFailure(refused))
      const reason = yield* Effect.catchReason(
        pool.use(() => Effect.succeed("lent")) as Effect.Effect<string, import("effect-queuepool").PoolError.PoolError>,
        "PoolError",
        "BorrowTimeout",
        () => Effect.succeed("refused")
      )
      assert.strictEqual(reason, "refused")
      yield* first.put()
      const again = yield* take(pool)
      assert.strictEqual(again.thing, first.thing)
    }))

  it.effect("CP-T2: while it is out it is not idle, after the return it is", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({})
      const { put } = yield* take(pool)
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, used: 1 })
      yield* put()
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, idle: 1 })
    }))

  it.effect("CP-T3: one that is dropped on return is replaced at once, up to min", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ min: 1 })
      yield* settle
      const { put, thing } = yield* take(pool)
      yield* pool.invalidate(thing)
      yield* put()
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, idle: 1 })
    }))

  it.effect("CP-T5: an idle one past its time is closed and replaced at the take, and nothing of it is kept", () =>
    Effect.gen(function*() {
      const source = new Source()
      const clock = yield* BentClock.make
      const pool: Pool = yield* bent(
        QueuePool.make({ acquire: source.acquire, recycle: RecyclePolicy.idle("600 seconds") }),
        clock
      )
      yield* lease(pool)
      clock.stalled = 600_001
      assert.strictEqual(yield* lease(pool), 2)
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      const { state } = Reflect.get(pool, "pool") as {
        readonly state: {
          readonly items: Iterable<unknown>
          readonly sweeper: { readonly due: { readonly size: number } }
        }
      }
      assert.deepStrictEqual([Array.from(state.items).length, state.sweeper.due.size], [1, 1])
    }))

  it.effect("CP-T9: of three that came back the last is used again and again, and the cold two go", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ recycle: RecyclePolicy.idle("10 seconds") })
      const held = yield* Effect.forEach([1, 2, 3], () => take(pool))
      for (const { put } of held) yield* put()
      const hot = held[2]!.thing.id
      for (let i = 0; i < 12; i++) {
        assert.strictEqual(yield* lease(pool), hot)
        yield* TestClock.adjust("1 second")
      }
      yield* settle
      const cold = [held[0]!.thing.id, held[1]!.thing.id]
      assert.sameMembers(recycled(events).map(([item]) => item), cold)
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, idle: 1 })
    }))

  it.effect("CP-T10: clear closes the idle, and those in use when they come back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({})
      const out = yield* take(pool)
      const idle = yield* take(pool)
      yield* idle.put()
      yield* pool.clear
      yield* settle
      assert.deepStrictEqual(source.closed, [idle.thing.id])
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, used: 1 })
      yield* out.put()
      yield* settle
      assert.deepStrictEqual(yield* counts(pool), nothing)
    }))

  it.effect("CP-D1: reused and prefilled items count: never more than max are out, or open", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ min: 1, max: 1, borrowTimeout: 0 })
      yield* settle
      for (let round = 0; round < 3; round++) {
        const first = yield* take(pool)
        assert.isTrue(Result.isFailure(yield* Effect.result(take(pool))))
        yield* first.put()
      }
      yield* settle
      assert.strictEqual(source.peakLive, 1)
      const two = yield* make({ min: 2, max: 2 })
      yield* settle
      for (let round = 0; round < 3; round++) {
        const held = yield* Effect.forEach([1, 2], () => take(two.pool))
        for (const { put } of held) yield* put()
        yield* settle
      }
      assert.strictEqual(two.source.opened.length, 2)
    }))

  it.effect("CP-D2: a reset that fails closes the item and frees its slot", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* make({ min: 1, max: 1, reset: () => Effect.fail("rollback failed") })
      for (let i = 0; i < 3; i++) {
        yield* lease(pool)
        yield* settle
      }
      assert.deepStrictEqual(source.closed, [1, 2, 3])
      assert.isTrue(recycled(events).every(([, reason]) => reason === "reset failed"))
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, idle: 1 })
    }))

  it.effect("CP-D3: a refill that fails is not told to whoever gave an item back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ min: 2, max: 2 })
      yield* settle
      source.opensOtherwise = "fail"
      const { put, thing } = yield* take(pool)
      yield* pool.invalidate(thing)
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(put())))
      yield* settle
      assert.isAtLeast((yield* pool.stats).openFailures, 1)
    }))

  it.effect("CP-D4: giving back twice, and giving what is not the pool's, changes nothing", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 2 })
      const first = yield* take(pool)
      yield* first.put()
      const second = yield* take(pool)
      assert.strictEqual(second.thing, first.thing)
      // Under the second holder.
      yield* first.put()
      const third = yield* take(pool)
      assert.notStrictEqual(third.thing, second.thing)
      yield* pool.invalidate({ id: second.thing.id })
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, used: 2 })
    }))

  it.effect("CP-D5: an exhausted pool queues, first come first served", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ max: 2 })
      const order: Array<number> = []
      const fibers = yield* Effect.forEach([1, 2, 3, 4, 5, 6], (n) =>
        Effect.forkChild(pool.use(() => Effect.andThen(Effect.sync(() => order.push(n)), Effect.sleep(n * 10)))))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(order, [1, 2, 3, 4, 5, 6])
    }))

  it.effect("CP-D6: a quiet pool shrinks", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ recycle: RecyclePolicy.idle("600 seconds") })
      const held = yield* Effect.forEach([1, 2, 3, 4, 5], () => take(pool))
      for (const { put } of held) yield* put()
      yield* TestClock.adjust("601 seconds")
      yield* settle
      assert.deepStrictEqual(yield* counts(pool), nothing)
    }))

  it.effect("CP-D7: min is refilled without traffic", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ min: 3, recycle: RecyclePolicy.age("1 hour") })
      source.opens.push("ok", "fail", "ok")
      yield* TestClock.adjust("3600001 millis")
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(yield* counts(pool), { ...nothing, idle: 3 })
      assert.isAtLeast(source.closed.length, 3)
    }))

  for (let seed = 1; seed <= 10; seed++) {
    it.effect(`CP-T11: whatever is done, no more than max are out or open, and no slot is lost (seed ${seed})`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({
          min: 1,
          max: 3,
          borrowTimeout: "1 second",
          reset: ({ id }) => id % 5 === 0 ? Effect.fail("no") : Effect.void,
          recycle: RecyclePolicy.failed
        })
        const held: Array<{ readonly thing: Thing; readonly put: (exit?: Exit.Exit<unknown, unknown>) => unknown }> = []
        for (let step = 0; step < 80; step++) {
          const taken = held[yield* Random.nextIntBetween(0, Math.max(1, held.length))]
          switch (yield* Random.nextIntBetween(0, 7)) {
            case 0:
              source.opens.push("fail")
              break
            case 1:
              source.closes.push("die")
              break
            case 2:
              yield* pool.clear
              break
            case 3:
              if (taken !== undefined) yield* pool.invalidate(taken.thing)
              break
            case 4:
            case 5:
              if (taken !== undefined) {
                held.splice(held.indexOf(taken), 1)
                yield* taken.put((yield* Random.nextBoolean) ? Exit.void : Exit.fail("no")) as Effect.Effect<void>
              }
              break
            default: {
              const fiber = yield* Effect.forkScoped(Effect.result(take(pool)))
              yield* settle
              yield* TestClock.adjust("1 second")
              const result = yield* Fiber.join(fiber)
              if (Result.isSuccess(result)) held.push(result.success)
            }
          }
          yield* settle
          const { idle, used } = yield* pool.stats
          assert.isAtMost(idle + used, 3, `seed ${seed}`)
          assert.strictEqual(used, held.length, `seed ${seed}`)
          assert.isAtMost(source.peakLive, 3, `seed ${seed}`)
          assert.strictEqual(new Set(held.map(({ thing }) => thing)).size, held.length, `seed ${seed}`)
        }
        for (const { put } of held) yield* put() as Effect.Effect<void>
        source.opens.length = 0
        const all = yield* Effect.forEach([1, 2, 3], () => take(pool))
        assert.strictEqual(all.length, 3, `seed ${seed}`)
      }).pipe(Random.withSeed(seed)))
  }
})
