import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Deferred, Effect, Exit, Fiber, Schedule, Scope, Stream } from "effect"
import { type PoolEvent, QueuePool, RecyclePolicy } from "effect-queuepool"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { Background } from "../src/internal/background.ts"
import { settingsOf } from "../src/internal/options.ts"
import { type Effects, Pool } from "../src/internal/pool.ts"
import { compile } from "../src/internal/rules.ts"
import { elapse, ending, Watch } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"

type Options = Partial<Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire" | "warm">>

const nothing = {
  check: undefined,
  reset: undefined,
  retry: undefined,
  sweep: undefined,
  monitor: undefined,
  onAcquire: undefined,
  onBorrow: undefined,
  onReturn: undefined,
  onRelease: undefined
}

/** A maker of pools as a map makes them: settings, rules and Background are one for all. */
const maker = Effect.fnUntraced(function*(options: Options = {}) {
  const source = new Source()
  const given = { ...options, acquire: source.acquire }
  const settings = yield* settingsOf(given, "pool")
  const rules = compile<Thing, Scope.Scope>(options.recycle)
  const effects: Effects<Thing, Refused, Scope.Scope> = { ...nothing, ...given }
  const background = new Background<Scope.Scope>(yield* Effect.context<Scope.Scope>())
  const pools: Array<Pool<Thing, Refused, Scope.Scope>> = []
  // What a test leaves is closed with it, as fast as it can be.
  yield* Effect.addFinalizer(() =>
    Effect.forEach(pools, (pool) => pool.state.closed ? Effect.void : pool.close, { discard: true })
  )
  return {
    source,
    background,
    make: () => {
      const pool = new Pool<Thing, Refused, Scope.Scope>(settings, effects, rules, background, [])
      pools.push(pool)
      pool.begin()
      return pool
    }
  }
})

/** What is left in the one sleeper of several pools. */
const alarmed = (background: Background<never>): number =>
  (Reflect.get(background, "ground") as { readonly sleeper: { readonly pools: { readonly size: number } } })
    .sleeper.pools.size

const use = (pool: Pool<Thing, Refused, Scope.Scope>) => pool.borrowing.use((thing) => Effect.succeed(thing.id))

const tags = Effect.fnUntraced(function*(pool: Pool<Thing, Refused, Scope.Scope>) {
  const seen: Array<string> = []
  const fiber = yield* Effect.forkChild(
    Stream.runForEach(pool.events, ({ _tag }: PoolEvent.PoolEvent) => Effect.sync(() => void seen.push(_tag)))
  )
  yield* settle
  return { seen, fiber }
})

/** Counts how often the pool has come to have nothing. */
const quiet = (pool: Pool<Thing, Refused, Scope.Scope>) => {
  const heard = { times: 0 }
  pool.onQuiet = () => void heard.times++
  return heard
}

describe("pools that share a Background", () => {
  it.effect("sleep on one fiber, and each has its own deadlines", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      const { background, make, source } = yield* watch.around(
        maker({ borrowTimeout: Infinity, recycle: RecyclePolicy.idle("1 second") })
      )
      const pools = Array.from({ length: 50 }, make)
      for (const pool of pools) {
        yield* use(pool)
        yield* elapse(10)
      }
      assert.deepStrictEqual([watch.fibers, watch.timers, alarmed(background)], [1, 1, 50])
      yield* elapse(1001 - 500)
      assert.deepStrictEqual(source.closed, [1])
      yield* elapse(10)
      assert.deepStrictEqual(source.closed, [1, 2])
      yield* elapse(1000)
      assert.strictEqual(source.closed.length, 50)
      assert.strictEqual(alarmed(background), 0)
    }))

  it.effect("end alone: the deadlines of the others stay", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      const { background, make } = yield* watch.around(maker({ sweep: "1 minute" }))
      const one = make()
      yield* elapse("30 seconds")
      const other = make()
      const first = yield* tags(one)
      const second = yield* tags(other)
      one.dispose()
      assert.deepStrictEqual([watch.timers, alarmed(background)], [1, 1])
      yield* elapse("29 seconds")
      assert.deepStrictEqual(second.seen, [])
      yield* elapse("31 seconds")
      assert.deepStrictEqual(second.seen, ["Swept"])
      assert.deepStrictEqual(first.seen, ["PoolClosing", "PoolClosed"])
      other.dispose()
      yield* settle
      assert.deepStrictEqual([watch.fibers, watch.timers, alarmed(background)], [0, 0, 0])
      // And one that comes later sleeps anew.
      const third = make()
      const last = yield* tags(third)
      yield* elapse("1 minute")
      assert.deepStrictEqual(last.seen, ["Swept"])
    }))

  it.effect("an alarm that throws costs no other its ring", () =>
    Effect.gen(function*() {
      const wakers: Array<() => void> = []
      let sleeps = 0
      let now = 0
      const clock = Object.create(yield* Effect.clockWith(Effect.succeed), {
        monotonicTimeNanosUnsafe: { value: () => BigInt(now * 1e6) },
        sleep: {
          value: () =>
            Effect.callback<void>((resume) => {
              sleeps++
              wakers.push(() => resume(Effect.void))
            })
        }
      }) as Clock.Clock
      const background = new Background(Context.make(Clock.Clock, clock))
      const other = new Background(background)
      const rung: Array<string> = []
      const set = ({ alarms }: Background<never>, at: number, ring: () => void) => alarms.set(alarms.make(ring), at)
      set(background, 5, () => {
        rung.push("throws")
        throw new Error("broken")
      })
      set(other, 5, () => void rung.push("other"))
      set(other, 3, () => {
        rung.push("first")
        set(other, 4, () => void rung.push("second"))
      })
      assert.strictEqual(sleeps, 2)
      now = 5
      const waken = () => wakers.splice(0).at(-1)!()
      assert.throws(waken, "broken")
      waken()
      assert.deepStrictEqual(rung.toSorted(), ["first", "other", "second", "throws"])
      assert.deepStrictEqual(rung.slice(0, 2), ["first", "second"])
      // One more, for those that stood behind the one that threw.
      assert.deepStrictEqual([sleeps, wakers.length, alarmed(background)], [3, 0, 0])
      other.alarms.stop()
      set(other, 9, () => void rung.push("late"))
      assert.deepStrictEqual([sleeps, alarmed(background)], [3, 0])
    }))
})

describe("a pool that is disposed of", () => {
  const kinds: Record<string, Options> = {
    "no options": {},
    rules: { recycle: [RecyclePolicy.idle("1 minute"), RecyclePolicy.age("1 hour")] },
    "a cadence": { recycle: RecyclePolicy.when(() => false), sweep: "1 minute" },
    "a lease clock": { leaseWarning: "1 second", maxLease: "2 seconds" }
  }
  for (const [kind, options] of Object.entries(kinds)) {
    it.effect(`leaves no fiber, timer or entry, with ${kind}: 10,000 of them`, () =>
      Effect.gen(function*() {
        const watch = new Watch()
        const { background, make } = yield* watch.around(maker(options))
        const pools = Array.from({ length: 10_000 }, make)
        yield* settle
        const cadence = options.sweep !== undefined
        // Besides the recyclers one fiber sleeps, and one is the test clock's own.
        assert.deepStrictEqual(
          [watch.fibers, watch.timers, alarmed(background)],
          cadence ? [10_002, 1, 10_000] : [0, 0, 0]
        )
        for (const pool of pools) pool.dispose()
        yield* settle
        assert.deepStrictEqual([watch.fibers, watch.timers, alarmed(background)], [0, 0, 0])
      }))
  }

  it.effect("leaves none after use either, and is garbage while the others live", () =>
    Effect.gen(function*() {
      v8.setFlagsFromString("--expose-gc")
      const gc: () => void = vm.runInNewContext("gc")
      const watch = new Watch()
      const options: Options = {
        retry: Schedule.spaced(100),
        recycle: RecyclePolicy.idle("1 second"),
        closeTimeout: 100
      }
      const context = yield* watch.around(Effect.context<Scope.Scope>())
      const background = new Background<Scope.Scope>(context)
      const settings = yield* settingsOf({ ...options, acquire: Effect.void }, "pool")
      const refs = yield* Effect.gen(function*() {
        const made: Array<WeakRef<object>> = []
        for (let i = 0; i < 20; i++) {
          const source = new Source()
          const effects = { ...nothing, acquire: source.acquire, retry: Schedule.spaced(100) }
          const rules = compile<Thing, Scope.Scope>(options.recycle)
          const pool = new Pool<Thing, Refused, Scope.Scope>(settings, effects, rules, background, [])
          made.push(new WeakRef(pool))
          pool.begin()
          yield* use(pool)
          yield* Effect.scoped(pool.borrowing.get)
          const borrowers = yield* Effect.forkChild(Effect.all([use(pool), use(pool)], { concurrency: 2 }))
          yield* Fiber.join(borrowers)
          yield* elapse(1001)
          assert.strictEqual(pool.state.live, 0)
          pool.dispose()
          yield* settle
        }
        return made
      })
      assert.deepStrictEqual([watch.fibers, watch.timers, alarmed(background)], [0, 0, 0])
      const turn = Effect.callback<void>((resume) => {
        setImmediate(() => resume(Effect.void))
      })
      for (let i = 0; i < 30 && refs.some((ref) => ref.deref() !== undefined); i++) {
        yield* turn
        gc()
      }
      assert.deepStrictEqual(refs.filter((ref) => ref.deref() !== undefined), [])
    }))

  it.effect("ends its events, and refuses who still asks it", () =>
    Effect.gen(function*() {
      const { make } = yield* maker()
      const pool = make()
      const { fiber, seen } = yield* tags(pool)
      pool.dispose()
      yield* settle
      assert.deepStrictEqual(seen, ["PoolClosing", "PoolClosed"])
      assert.isTrue(Exit.isSuccess(fiber.pollUnsafe()!))
      assert.strictEqual(ending(yield* Effect.exit(use(pool))), "Closed")
      assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(pool.borrowing.get))), "Closed")
    }))

  it.effect("with items: they are closed as by close, and nobody waits", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      const { background, make, source } = yield* watch.around(maker({ drainTimeout: "1 second" }))
      const pool = make()
      const done = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(pool.borrowing.use(() => Deferred.await(done)))
      yield* settle
      yield* use(pool)
      pool.dispose()
      yield* settle
      assert.deepStrictEqual([source.closed, watch.timers], [[2], 1])
      yield* elapse("1 second")
      assert.deepStrictEqual(source.closed, [2, 1])
      assert.deepStrictEqual([watch.fibers, watch.timers, alarmed(background)], [0, 0, 0])
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.join(fiber)
    }))
})

describe("the recycler's fiber", () => {
  it.effect("is not there in a pool that has nothing to recycle", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      const { make } = yield* watch.around(maker({ recycle: [RecyclePolicy.uses(3), RecyclePolicy.failed] }))
      const pool = make()
      yield* use(pool)
      yield* elapse("1 hour")
      assert.strictEqual(watch.fibers, 0)
    }))

  it.effect("begins with the first deadline that has come, and ends with the pool", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      const { make, source } = yield* watch.around(
        maker({ borrowTimeout: Infinity, recycle: RecyclePolicy.idle("1 second") })
      )
      const pool = make()
      assert.strictEqual(watch.fibers, 0)
      yield* use(pool)
      yield* elapse("1 second")
      // Besides the one that sleeps.
      const working = () => watch.fibers - watch.timers
      assert.deepStrictEqual([working(), source.closed], [0, []])
      yield* elapse(1)
      assert.deepStrictEqual([working(), source.closed], [1, [1]])
      yield* use(pool)
      yield* elapse(1001)
      // The same again: it is kept.
      assert.deepStrictEqual([working(), source.closed], [1, [1, 2]])
      pool.dispose()
      yield* settle
      assert.strictEqual(watch.fibers, 0)
    }))

  it.effect("begins in no pool that closes", () =>
    Effect.gen(function*() {
      const watch = new Watch()
      const { make, source } = yield* watch.around(
        maker({ recycle: RecyclePolicy.idle("1 second"), drainTimeout: "1 hour" })
      )
      const pool = make()
      const done = yield* Deferred.make<void>()
      const borrower = yield* Effect.forkChild(pool.borrowing.use(() => Deferred.await(done)))
      yield* settle
      yield* use(pool)
      const closing = yield* Effect.forkChild(pool.close)
      yield* elapse("1 minute")
      // The alarm that the draining has.
      assert.deepStrictEqual([watch.fibers, source.closed], [1, [2]])
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.join(borrower)
      yield* Fiber.join(closing)
      yield* settle
      assert.strictEqual(watch.fibers, 0)
    }))
})

describe("onQuiet", () => {
  it.effect("hears in its own turn that the last item is gone, once", () =>
    Effect.gen(function*() {
      const { make, source } = yield* maker({ recycle: RecyclePolicy.uses(1) })
      const pool = make()
      const heard = quiet(pool)
      yield* settle
      assert.strictEqual(heard.times, 0)
      source.closesOtherwise = { slow: 100 }
      yield* use(pool)
      yield* settle
      assert.deepStrictEqual([heard.times, pool.state.closing], [0, 1])
      yield* elapse(100)
      assert.strictEqual(heard.times, 1)
      // Nothing has changed.
      yield* pool.sweep
      pool.state.pump(pool.background.now())
      yield* settle
      assert.strictEqual(heard.times, 1)
      source.closesOtherwise = "ok"
      yield* use(pool)
      yield* settle
      assert.strictEqual(heard.times, 2)
    }))

  it.effect("hears nothing when somebody has come meanwhile", () =>
    Effect.gen(function*() {
      const { make } = yield* maker({ recycle: RecyclePolicy.uses(1) })
      const pool = make()
      const heard = quiet(pool)
      let came: Fiber.Fiber<unknown, unknown> | undefined
      const done = yield* Deferred.make<void>()
      const { onRest } = pool.state
      const run = Effect.runForkWith(yield* Effect.context())
      pool.state.onRest = () => {
        onRest!()
        came ??= run(pool.borrowing.use(() => Deferred.await(done)))
      }
      yield* use(pool)
      yield* settle
      assert.isDefined(came)
      assert.deepStrictEqual([heard.times, pool.state.lent], [0, 1])
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.join(came)
      yield* settle
      assert.strictEqual(heard.times, 1)
    }))

  it.effect("hears nothing when something is opened meanwhile for nobody", () =>
    Effect.gen(function*() {
      const { make } = yield* maker({ recycle: RecyclePolicy.uses(1) })
      const pool = make()
      const heard = quiet(pool)
      const { onRest } = pool.state
      pool.state.onRest = () => {
        pool.state.onRest = onRest
        onRest!()
        pool.state.control.resize({ min: 1, max: 10, minIdle: 0, maxIdle: Infinity })
      }
      yield* use(pool)
      yield* settle
      assert.deepStrictEqual([heard.times, pool.state.idle.size], [0, 1])
    }))

  it.effect("hears of an open that failed, and of an item that was detached", () =>
    Effect.gen(function*() {
      const { make, source } = yield* maker()
      const pool = make()
      const heard = quiet(pool)
      source.opens.push("fail")
      assert.strictEqual(ending(yield* Effect.exit(use(pool))), "Refused")
      yield* settle
      assert.strictEqual(heard.times, 1)
      yield* pool.borrowing.use((thing) =>
        Effect.withFiber((fiber) => Effect.succeed(pool.state.ending.detach(thing, fiber)))
      )
      yield* settle
      assert.strictEqual(heard.times, 2)
    }))

  it.effect("hears of waiters that leave when there was never an item", () =>
    Effect.gen(function*() {
      const { make, source } = yield* maker({ retry: Schedule.spaced("1 hour"), borrowTimeout: "1 second" })
      source.opensOtherwise = "fail"
      const pool = make()
      const heard = quiet(pool)
      const [one, other] = yield* Effect.forEach([1, 2], () => Effect.forkChild(use(pool)))
      yield* settle
      yield* Fiber.interrupt(one!)
      yield* settle
      // Another waits still.
      assert.strictEqual(heard.times, 0)
      yield* Fiber.interrupt(other!)
      yield* settle
      assert.strictEqual(heard.times, 1)
      const third = yield* Effect.forkChild(use(pool))
      yield* elapse("1 second")
      assert.deepStrictEqual([ending(third.pollUnsafe()), heard.times], ["BorrowTimeout", 2])
    }))

  it.effect("hears of borrowers that are refused at once", () =>
    Effect.gen(function*() {
      const { make } = yield* maker({ whenSuspended: "fail" })
      const pool = make()
      const heard = quiet(pool)
      pool.state.control.suspend()
      assert.strictEqual(ending(yield* Effect.exit(use(pool))), "Suspended")
      yield* settle
      assert.strictEqual(heard.times, 1)
      assert.strictEqual(ending(yield* Effect.exit(use(pool))), "Suspended")
      yield* settle
      assert.strictEqual(heard.times, 2)
    }))

  it.effect("hears nothing of a pool that closes", () =>
    Effect.gen(function*() {
      const { make } = yield* maker()
      const pool = make()
      const heard = quiet(pool)
      yield* use(pool)
      yield* pool.close
      yield* settle
      assert.strictEqual(heard.times, 0)
      // Nor when it was on its way.
      const other = make()
      const late = quiet(other)
      other.state.control.suspend()
      const lost = yield* Effect.forkChild(other.borrowing.use(() => Effect.void))
      yield* settle
      const { onRest } = other.state
      other.state.onRest = () => {
        onRest!()
        other.dispose()
      }
      yield* Fiber.interrupt(lost)
      yield* settle
      assert.isTrue(other.state.closed)
      assert.strictEqual(late.times, 0)
    }))
})
