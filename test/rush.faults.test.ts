/** In a rush the event loop may stall, and others may step in: nobody's time is cut short, and what was asked for in this turn counts in it. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { QueuePool, QueuePoolMap, RecyclePolicy } from "effect-queuepool"
import type { Pool } from "../src/internal/pool.ts"
import { behind } from "../src/internal/registered.ts"
import type { PoolState } from "../src/internal/state.ts"
import { elapse } from "./kit/books.ts"
import { atOnce, settle, Source, type Thing } from "./kit/items.ts"
import { bent, BentClock, record } from "./kit/observe.ts"

type Options = Partial<QueuePool.Options<Thing, unknown>>

/** A pool in the midst of a rush. */
const inARush = Effect.fnUntraced(function*(options: Options = {}) {
  const clock = yield* BentClock.make
  const source = new Source()
  const pool = yield* bent(QueuePool.make({ acquire: source.acquire, max: 1, ...options }), clock)
  yield* pool.use(() => Effect.void)
  yield* settle
  yield* elapse(1000)
  yield* Effect.replicateEffect(pool.use(() => Effect.void), 4, { discard: true })
  return { clock, pool, source }
})

describe("when a turn takes long in a rush", () => {
  it.effect("a borrower waits for the whole of its time, from when it asked", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* inARush({ borrowTimeout: 500 })
      const gate = yield* Deferred.make<void>()
      const waiter = yield* Deferred.make<Fiber.Fiber<void, unknown>>()
      yield* atOnce(pool.use(() =>
        Effect.gen(function*() {
          yield* clock.stall(1000)
          yield* Deferred.succeed(waiter, yield* atOnce(pool.use(() => Effect.void)))
          yield* Deferred.await(gate)
        })
      ))
      yield* elapse(400)
      const waits = yield* Deferred.await(waiter)
      assert.isUndefined(waits.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(waits)
    }))

  it.effect("a borrower waits for the whole of its time, and at most for the rest of the turn besides", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* inARush({ borrowTimeout: 500 })
      const scope = yield* Scope.make()
      const waiters: Array<Fiber.Fiber<void, unknown>> = []
      yield* atOnce(Effect.gen(function*() {
        yield* Scope.provide(pool.get, scope)
        for (let i = 0; i < 3; i++) {
          waiters.push(yield* atOnce(pool.use(() => Effect.void)))
          yield* clock.stall(1000)
        }
      }))
      yield* settle
      yield* elapse(499)
      const waits = waiters.map((waiter) => waiter.pollUnsafe() === undefined)
      yield* elapse(1)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(waits, [true, true, true])
      // The first has set the alarm, so the clock was read for it.
      const waited = (yield* Effect.forEach(waiters, Fiber.await)).map((exit) =>
        Exit.isFailure(exit) ? Reflect.get(Reflect.get(exit.cause.reasons[0]!, "error").reason, "waited") : exit
      )
      assert.deepStrictEqual(waited, [3500, 500, 500])
    }))

  it.effect("so does a borrower of another key of the map", () =>
    Effect.gen(function*() {
      const clock = yield* BentClock.make
      const acquire = (key: string) => Effect.succeed(key)
      const map = yield* bent(QueuePoolMap.make({ acquire, max: 1, borrowTimeout: 500 }), clock)
      const scope = yield* Scope.make()
      yield* Scope.provide(map.get("quiet"), scope)
      yield* map.use("busy", () => Effect.void)
      yield* settle
      yield* elapse(1000)
      yield* Effect.replicateEffect(map.use("busy", () => Effect.void), 4)
      yield* clock.stall(1000)
      const waiter = yield* atOnce(map.use("quiet", () => Effect.void))
      yield* elapse(400)
      assert.isUndefined(waiter.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(waiter)
    }))

  it.effect("an item is idle from when it came back, not before, when whom it was handed to leaves", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* inARush({ recycle: RecyclePolicy.idle("2 minutes") })
      let waiter: Fiber.Fiber<void, unknown> | undefined
      yield* pool.use(() =>
        Effect.gen(function*() {
          waiter = yield* atOnce(pool.use(() => Effect.void))
          yield* clock.stall(150_000)
        })
      )
      waiter!.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual((yield* pool.sweep).recycled, [])
    }))

  it.effect("no waiter is handed an item that is past its age", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* inARush({ recycle: RecyclePolicy.age("10 seconds") })
      let waiter: Fiber.Fiber<number, unknown> | undefined
      yield* pool.use(() =>
        Effect.gen(function*() {
          waiter = yield* atOnce(pool.use(({ id }) => Effect.succeed(id)))
          yield* clock.stall(50_000)
        })
      )
      assert.strictEqual(yield* Fiber.join(waiter!), 2)
    }))

  it.effect("an item that came back in it, and was idle for checkAfter before it is lent again, is checked", () =>
    Effect.gen(function*() {
      let checks = 0
      const check = () => Effect.sync(() => ++checks)
      const { clock, pool } = yield* inARush({ check, checkAfter: 500 })
      assert.strictEqual(checks, 1)
      yield* atOnce(
        Effect.andThen(pool.use(() => Effect.void), Effect.andThen(clock.stall(500), pool.use(() => Effect.void)))
      )
      yield* settle
      assert.strictEqual(checks, 2)
    }))

  it.effect("of items with equal values the one that was lent last is meant", () =>
    Effect.gen(function*() {
      let closed = 0
      const acquire = Effect.acquireRelease(Effect.succeed("same"), () => Effect.sync(() => void closed++))
      const pool = yield* QueuePool.make({ acquire, max: 2, order: "fifo" })
      yield* pool.use(() => pool.use(() => Effect.void))
      yield* settle
      yield* Effect.replicateEffect(pool.use(() => Effect.void), 4, { discard: true })
      const scopes = [yield* Scope.make(), yield* Scope.make()]
      for (const scope of scopes) yield* Scope.provide(pool.get, scope)
      yield* Fiber.join(yield* atOnce(pool.invalidate("same")))
      yield* Scope.close(scopes[1]!, Exit.void)
      yield* settle
      assert.strictEqual(closed, 1)
      yield* Scope.close(scopes[0]!, Exit.void)
      yield* settle
      assert.strictEqual(closed, 1)
    }))

  it.effect("who begins to listen in it is told for how long a borrower has waited since", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* inARush()
      const scope = yield* Scope.make()
      const waited: Array<number> = []
      yield* atOnce(Effect.gen(function*() {
        yield* Scope.provide(pool.get, scope)
        const waiters = [yield* atOnce(pool.use(() => Effect.void)), yield* atOnce(pool.use(() => Effect.void))]
        const { hear } = behind(pool) as Pick<Pool<Thing, never, never>, "hear">
        hear.call(behind(pool) as never, (event) => event._tag === "BorrowFailed" && waited.push(event.waited))
        yield* clock.stall(1000)
        for (const waiter of waiters) waiter.interruptUnsafe()
      }))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(waited, [1000, 1000])
    }))

  it.effect("who listens is told for how long a borrower has waited, and no longer", () =>
    Effect.gen(function*() {
      const { clock, pool } = yield* inARush()
      const events = yield* record(pool)
      yield* Effect.replicateEffect(pool.use(() => Effect.void), 4, { discard: true })
      let waiter: Fiber.Fiber<void, unknown> | undefined
      yield* pool.use(() =>
        Effect.gen(function*() {
          yield* clock.stall(1000)
          waiter = yield* atOnce(pool.use(() => Effect.void))
        })
      )
      yield* Fiber.join(waiter!)
      yield* settle
      const waited = events.flatMap((event) => event._tag === "Borrowed" ? [event.waited] : [])
      assert.strictEqual(waited.at(-1), 0)
    }))
})

describe("what has just come back in a rush", () => {
  it.effect("is lent to nobody when the pool is suspended in this turn", () =>
    Effect.gen(function*() {
      const { pool } = yield* inARush()
      yield* pool.suspend
      const waiter = yield* atOnce(pool.use(() => Effect.void))
      assert.isUndefined(waiter.pollUnsafe())
      yield* pool.resume
      yield* Fiber.join(waiter)
    }))

  it.effect("is told of when somebody has begun to listen in this turn", () =>
    Effect.gen(function*() {
      const { pool } = yield* inARush()
      const events: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(pool.events, ({ _tag }) => Effect.sync(() => void events.push(_tag))),
        { startImmediately: true }
      )
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.deepStrictEqual(events, ["Borrowed", "Returned"])
    }))

  it.effect("leaves another to be opened when minIdle was set in this turn", () =>
    Effect.gen(function*() {
      for (const during of [false, true]) {
        const { pool, source } = yield* inARush({ max: 3 })
        const resize = pool.resize({ minIdle: 1 })
        if (during) yield* pool.use(() => Effect.andThen(resize, settle))
        else yield* Effect.andThen(resize, pool.use(() => settle))
        assert.strictEqual(source.opened.length, 2)
      }
    }))
})

describe("an item that goes from one borrower to the next", () => {
  it.effect("shows that opens are of use: what was held back starts for those behind", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* inARush({ max: 2 })
      const { state } = behind(pool) as { readonly state: PoolState<Thing, never> }
      const gates = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const first = yield* atOnce(pool.use(() => Deferred.await(gates[0]!)))
      // As after items that ended as soon as they were opened.
      state.outage.hold()
      const next = yield* atOnce(pool.use(() => Deferred.await(gates[1]!)))
      const behindIt = yield* atOnce(pool.use(({ id }) => Effect.succeed(id)))
      yield* settle
      assert.strictEqual(source.opened.length, 1)
      yield* Deferred.succeed(gates[0]!, undefined)
      yield* Fiber.join(first)
      assert.strictEqual(yield* Fiber.join(behindIt), 2)
      yield* Deferred.succeed(gates[1]!, undefined)
      yield* Fiber.join(next)
    }))
})

describe("the short way of a lease", () => {
  it.effect("stays open when an item has ended that nobody used, and no other is opened", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 4 })
      const { state } = behind(pool) as { readonly state: PoolState<Thing, never> }
      const gate = yield* Deferred.make<void>()
      const holds = yield* atOnce(pool.use(() => Deferred.await(gate)))
      const leaves = yield* atOnce(pool.use(() => Effect.void))
      leaves.interruptUnsafe()
      yield* settle
      yield* pool.invalidate(source.opened[1]!)
      yield* settle
      assert.deepStrictEqual([source.live, state.outage.doubtful, state.calm], [1, true, true])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(holds)
      assert.isTrue(state.calm)
    }))
})
