import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Logger, Scheduler, Scope, Stream } from "effect"
import { QueuePool } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { Background } from "../src/internal/background.ts"
import { Closer } from "../src/internal/closer.ts"
import { books, borrow, closedBooks, elapse, ending, endings, several, Watch } from "./kit/books.ts"
import { type Refused, settle, Source } from "./kit/items.ts"
import { logged, record, told } from "./kit/observe.ts"

/** A pool in a scope of its own, whose closing is watched. */
const opened = Effect.fnUntraced(function*(
  source: Source,
  options: Omit<QueuePool.Options<{ readonly id: number }, Refused>, "acquire">
) {
  const watch = new Watch()
  const scope = yield* Scope.make()
  const pool = yield* watch.around(Scope.provide(QueuePool.make({ acquire: source.acquire, ...options }), scope))
  const events = yield* record(pool)
  const close = Effect.tap(Effect.forkChild(Scope.close(scope, Exit.void)), () => settle)
  /** After the closing: no fiber, no timer, and nothing that comes later. */
  const nothingLeft = Effect.gen(function*() {
    yield* settle
    assert.deepStrictEqual({ fibers: watch.fibers, timers: watch.timers }, { fibers: 0, timers: 0 })
    const { attempts } = source
    const count = events.length
    assert.strictEqual(events.at(-1)?._tag, "PoolClosed")
    yield* elapse("1 day")
    assert.strictEqual(source.attempts, attempts)
    assert.strictEqual(events.length, count)
    const { closing, idle, opening, pending, used } = yield* pool.stats
    assert.deepStrictEqual({ closing, idle, opening, pending, used }, {
      closing: 0,
      idle: 0,
      opening: 0,
      pending: 0,
      used: 0
    })
  })
  return { pool, events, close, nothingLeft, watch }
})

const recycle = <A>(pool: QueuePool.QueuePool<A, unknown>) => pool.use((item) => pool.invalidate(item))

describe("the closing of an item", () => {
  it.effect("C1: one that fails is logged once, frees its slot, and changes nothing for the borrower", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      source.closes.push("die")
      const { close, events, nothingLeft, pool } = yield* opened(source, { max: 1, name: "db" })
      assert.strictEqual(yield* pool.use((item) => Effect.as(pool.invalidate(item), "done")), "done")
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 2)
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], "item 1 of pool \"db\" failed to close")
      assert.include(told(events), "CloseFailed 1")
      assert.strictEqual((yield* books(source, pool)).closed, 1)
      yield* close
      yield* nothingLeft
    })))

  it.effect("the warning of one that fails says why", () =>
    Effect.gen(function*() {
      const causes: Array<unknown> = []
      const logger = Logger.make(({ cause }) => void causes.push(...cause.reasons))
      const source = new Source()
      source.closes.push("die")
      const pool = yield* Effect.provide(QueuePool.make({ acquire: source.acquire }), Logger.layer([logger]))
      yield* recycle(pool)
      yield* settle
      assert.deepStrictEqual(causes, [Cause.makeDieReason(new Error("broken 1"))])
    }))

  for (const how of ["hang", "stuck"] as const) {
    it.effect(`C2: one that never ends (${how}) delays no borrower, and is abandoned after closeTimeout with a warning`, () =>
      logged(Effect.fnUntraced(function*(lines) {
        const source = new Source()
        source.closes.push(how)
        const { events, pool } = yield* opened(source, { max: 1, closeTimeout: 2000, name: "db" })
        yield* recycle(pool)
        const next = yield* borrow(pool)
        yield* elapse(1999)
        assert.deepStrictEqual([(yield* pool.stats).closing, next.item], [1, undefined])
        yield* elapse(1)
        assert.deepStrictEqual(next.item, { id: 2 })
        assert.deepStrictEqual(lines, ["Warn item 1 of pool \"db\" was not closed within 2000ms and is abandoned"])
        assert.include(told(events), "Abandoned 1")
        yield* next.letGo
        yield* books(source, pool, how === "stuck" ? { stuck: 1 } : {})
      })))
  }

  it.effect("C2: one that ends after it was abandoned is not counted again", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.closes.push({ late: 8000 })
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      yield* recycle(pool)
      yield* elapse(10_000)
      const stats = yield* books(source, pool)
      assert.deepStrictEqual([stats.abandoned, stats.closed], [1, 0])
    }))

  it.effect("C2: what has not had its turn yet when the item is abandoned runs all the same", () =>
    Effect.gen(function*() {
      const tasks: Array<() => void> = []
      const begun = new WeakSet<object>()
      const stalled: Scheduler.Scheduler = {
        executionMode: "async",
        shouldYield: (fiber) => !begun.has(fiber) && begun.add(fiber) !== undefined,
        makeDispatcher: () => ({ scheduleTask: (task) => void tasks.push(task), flush: () => {} })
      }
      const context = Context.add(yield* Effect.context(), Scheduler.Scheduler, stalled)
      const closer = new Closer(new Background(context), "pool", 1000, () => {})
      const ran: Array<string> = []
      const scope = yield* Scope.make()
      yield* Scope.addFinalizer(scope, Effect.sync(() => ran.push("released")))
      const closing = closer.begin(1)
      closer.finish(closing, scope, Exit.void)
      // Its fiber yields before it has begun, and then the time is over.
      for (const task of tasks.splice(0)) task()
      closing.alarm!.ring()
      while (tasks.length > 0) tasks.shift()!()
      assert.deepStrictEqual(ran, ["released"])
    }))

  it.effect("C3: slow ones run side by side", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.closesOtherwise = { slow: 1000 }
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 5 })
      for (const { letGo } of yield* several(5, pool)) yield* letGo
      yield* pool.clear
      assert.strictEqual((yield* pool.stats).closing, 5)
      yield* elapse(1000)
      assert.strictEqual(source.closed.length, 5)
      yield* books(source, pool)
    }))

  it.effect("C4, C5: ten waiters are all served while every item comes back broken", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.closesOtherwise = { slow: 10 }
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2 })
      const fibers = yield* Effect.forEach(Array.from({ length: 10 }), () => Effect.forkChild(recycle(pool)))
      yield* elapse(100)
      assert.deepStrictEqual(
        fibers.map((fiber) => ending(fiber.pollUnsafe())),
        Array.from({ length: 10 }, () => "served")
      )
      assert.strictEqual(source.opened.length, 10)
      yield* books(source, pool)
    }))

  it.effect("C8: leases that end out of order and in other fibers are counted exactly", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3 })
      const scopes = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
      for (const scope of scopes) yield* Scope.provide(pool.get, scope)
      for (const index of [1, 2, 0]) {
        yield* Fiber.join(yield* Effect.forkChild(Scope.close(scopes[index]!, Exit.void)))
        yield* Scope.close(scopes[index]!, Exit.void)
      }
      assert.strictEqual((yield* books(source, pool)).idle, 3)
      // Several in one scope: they end with it, in any number.
      yield* Effect.scoped(Effect.andThen(pool.get, Effect.andThen(pool.get, pool.get)))
      assert.strictEqual((yield* books(source, pool)).returned, 6)
    }))

  it.effect("an item whose lease ends it is released with the exit of the lease, others with success", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      yield* Effect.exit(pool.use((item) => Effect.andThen(pool.invalidate(item), Effect.fail("lease"))))
      yield* pool.use(() => Effect.void)
      yield* pool.clear
      yield* settle
      assert.deepStrictEqual(source.closeExits, [Exit.fail("lease"), Exit.void])
    }))

  it.effect("a release that calls back into the pool does no harm", () =>
    Effect.gen(function*() {
      const source = new Source()
      let calls = 0
      const around: { pool?: QueuePool.QueuePool<number> } = {}
      const acquire = Effect.acquireRelease(Effect.sync(() => ++source.attempts), (item) =>
        Effect.suspend(() => {
          calls++
          const pool = around.pool!
          return calls > 3
            ? Effect.void
            : Effect.andThen(pool.invalidate(item), Effect.andThen(pool.clear, Effect.asVoid(pool.sweep)))
        }))
      const pool = around.pool = yield* QueuePool.make({ acquire, max: 2, min: 2 })
      yield* settle
      yield* pool.clear
      yield* settle
      // Items that end unused, one generation after another, are refilled with a delay.
      yield* TestClock.adjust("1 second")
      const { closing, idle, opening, used } = yield* pool.stats
      assert.deepStrictEqual({ closing, idle, opening, used }, { closing: 0, idle: 2, opening: 0, used: 0 })
    }))

  it.effect("C10: a listener that dies or lags stops neither the pool nor other listeners", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const dying = yield* Effect.forkChild(Stream.runForEach(pool.events, () => Effect.die("listener")))
      const lagging = yield* Effect.forkChild(Stream.runForEach(pool.events, () => Effect.never))
      const events = yield* record(pool)
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.strictEqual(ending(dying.pollUnsafe()), "defect")
      assert.deepStrictEqual(told(events), ["Opening 1", "Opened 1", "Borrowed 1", "Returned 1"])
      yield* Fiber.interrupt(lagging)
      yield* books(source, pool)
    }))
})

describe("the closing of a pool", () => {
  it.effect("D1: every waiter fails at once with Closed, and nothing is opened any more", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { close, nothingLeft, pool } = yield* opened(source, { max: 1, min: 1 })
      const holder = yield* borrow(pool)
      const waiters = yield* several(3, pool)
      const closing = yield* close
      assert.deepStrictEqual(endings(waiters), ["Closed", "Closed", "Closed"])
      assert.isUndefined(closing.pollUnsafe())
      yield* holder.letGo
      assert.isDefined(closing.pollUnsafe())
      assert.strictEqual(source.attempts, 1)
      closedBooks(source)
      yield* nothingLeft
    }))

  it.effect("D2: get after the closing fails with Closed at once, and so during it; the rest is harmless", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { close, nothingLeft, pool } = yield* opened(source, { max: 2 })
      const [holder, other] = [yield* borrow(pool), yield* borrow(pool)]
      yield* other.letGo
      yield* close
      const all = Effect.gen(function*() {
        assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(pool.get))), "Closed")
        assert.strictEqual(ending(yield* Effect.exit(pool.use(() => Effect.void))), "Closed")
        yield* pool.clear
        yield* pool.invalidate({ id: 1 })
        assert.deepStrictEqual(yield* pool.sweep, { examined: 0, recycled: [] })
      })
      yield* all
      yield* holder.letGo
      yield* all
      assert.deepStrictEqual(Array.from(yield* Stream.runCollect(pool.events)), [])
      yield* nothingLeft
      closedBooks(source)
    }))

  it.effect("D3: leases get drainTimeout; then their items are closed under them, and that is reported", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const { close, events, nothingLeft, pool } = yield* opened(source, { max: 3, drainTimeout: 5000, name: "db" })
      const [stays, leaves] = [yield* borrow(pool), yield* borrow(pool)]
      const named = yield* Effect.forkChild(Effect.withSpan(pool.use(() => Effect.never), "GET /users"))
      yield* settle
      const closing = yield* close
      yield* leaves.letGo
      // D5: what comes back during the closing is closed.
      assert.deepStrictEqual(source.closed, [2])
      yield* elapse(4999)
      assert.isUndefined(closing.pollUnsafe())
      yield* elapse(1)
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual(told(events).filter((line) => line.startsWith("TakenBack")), [
        "TakenBack 1",
        "TakenBack 3"
      ])
      assert.match(lines[0]!, /^Warn item 1 of pool "db" is closed under "fiber \d+", which has held it for 5000ms/)
      assert.include(lines[1], "item 3 of pool \"db\" is closed under \"GET /users\"")
      // Their end is no return: the items are gone.
      yield* stays.letGo
      yield* Fiber.interrupt(named)
      assert.strictEqual((yield* pool.stats).returned, 1)
      closedBooks(source)
      yield* nothingLeft
    })))

  it.effect("D3: drainTimeout 0 takes the items back at once, Infinity never does", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { close: closeNow, nothingLeft, pool } = yield* opened(source, { max: 1, drainTimeout: 0 })
      const holder = yield* borrow(pool)
      const closing = yield* closeNow
      yield* elapse(1)
      assert.isDefined(closing.pollUnsafe())
      yield* holder.letGo
      yield* nothingLeft
      const patient = yield* opened(source, { max: 1, drainTimeout: "Infinity" })
      const other = yield* borrow(patient.pool)
      const waiting = yield* patient.close
      yield* elapse("30 days")
      assert.isUndefined(waiting.pollUnsafe())
      yield* other.letGo
      assert.isDefined(waiting.pollUnsafe())
      yield* patient.nothingLeft
      closedBooks(source)
    }))

  for (const how of ["hang", "stuck", "slow", "late"] as const) {
    it.effect(`D4: an open that is under way (${how}) delays it by closeTimeout at most, and its late item is closed`, () =>
      Effect.gen(function*() {
        const source = new Source()
        source.opens.push(how === "slow" ? { slow: 7000 } : how === "late" ? { late: 7000 } : how)
        const { close, pool } = yield* opened(source, { max: 1, closeTimeout: 3000 })
        const borrower = yield* borrow(pool)
        const closing = yield* close
        assert.deepStrictEqual(endings([borrower]), ["Closed"])
        if (how === "stuck" || how === "late") {
          yield* elapse(2999)
          assert.isUndefined(closing.pollUnsafe())
          yield* elapse(1)
        }
        assert.isDefined(closing.pollUnsafe())
        yield* elapse(7000)
        assert.strictEqual(source.opened.length, how === "late" ? 1 : 0)
        closedBooks(source)
        const { closing: still, opened: count, opening } = yield* pool.stats
        assert.deepStrictEqual({ still, count, opening }, { still: 0, count: 0, opening: 0 })
      }))
  }

  it.effect("D4, D12: a pool that is closed in the step that it was made in opens nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { close, nothingLeft } = yield* opened(source, { max: 3, min: 3, closeTimeout: 1 })
      yield* close
      yield* nothingLeft
      closedBooks(source)
      const watch = new Watch()
      yield* Effect.scoped(watch.around(QueuePool.make({ acquire: source.acquire, max: 3, min: 3 })))
      assert.strictEqual(source.attempts, 3)
      assert.deepStrictEqual([watch.fibers, watch.timers], [0, 0])
    }))

  it.effect("D6: closing twice, at the same time or later, closes each item once", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.closesOtherwise = { slow: 100 }
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, max: 2 }), scope)
      for (const { letGo } of yield* several(2, pool)) yield* letGo
      const first = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      // A scope of effect that is closed again does nothing, and does not wait.
      yield* Scope.close(scope, Exit.void)
      yield* elapse(100)
      yield* Fiber.join(first)
      closedBooks(source)
    }))

  it.effect("D7: a closing that is interrupted goes on", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.closesOtherwise = { slow: 100 }
      const { close, nothingLeft, pool } = yield* opened(source, { max: 2 })
      for (const { letGo } of yield* several(2, pool)) yield* letGo
      const closing = yield* close
      closing.interruptUnsafe()
      yield* elapse(100)
      closedBooks(source)
      yield* nothingLeft
    }))

  it.effect("D8: a borrower that closes the pool under its own lease is no deadlock", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, max: 1, drainTimeout: 1000 }), scope)
      const fiber = yield* Effect.forkChild(pool.use(() => Scope.close(scope, Exit.void)))
      yield* elapse(1000)
      assert.strictEqual(ending(fiber.pollUnsafe()), "served")
      closedBooks(source)
    }))

  it.effect("D9: the whole takes drainTimeout and closeTimeout at most, whatever hangs, and leaves nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const options = {
        max: 6,
        drainTimeout: 4000,
        closeTimeout: 3000,
        openTimeout: "1 hour",
        checkAfter: 0,
        check: () => Effect.never,
        checkTimeout: "1 hour",
        reset: () => Effect.never,
        resetTimeout: "1 hour"
      } as const
      const { close, nothingLeft, pool } = yield* opened(source, options)
      source.closesOtherwise = "hang"
      // One that stays lent, one that comes back during the drain, one in reset, one in open, and a waiter for a check.
      const [stays, leaves, resets] = [yield* borrow(pool), yield* borrow(pool), yield* borrow(pool)]
      yield* resets.letGo
      source.opensOtherwise = "hang"
      const last = yield* borrow(pool)
      const closing = yield* close
      yield* elapse(3500)
      yield* leaves.letGo
      yield* elapse(500 + 2999)
      assert.isUndefined(closing.pollUnsafe())
      yield* elapse(1)
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual(endings([stays, last]), ["waits", "Closed"])
      yield* stays.letGo
      yield* nothingLeft
    }))

  it.effect("D10: a pool that is slow to close does not delay another", () =>
    Effect.gen(function*() {
      const [slow, quick] = [new Source(), new Source()]
      slow.closesOtherwise = "hang"
      const make = (source: Source) =>
        Layer.effectDiscard(
          Effect.flatMap(QueuePool.make({ acquire: source.acquire, max: 1 }), (pool) => pool.use(() => Effect.void))
        )
      const scope = yield* Scope.make("parallel")
      yield* Layer.buildWithScope(Layer.mergeAll(make(slow), make(quick)), scope)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      closedBooks(quick)
      yield* elapse(5000)
      assert.isDefined(closing.pollUnsafe())
    }))

  it.effect("D13: what runs in a lease ends before the pool does", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { close, nothingLeft, pool } = yield* opened(source, { max: 1 })
      const answer = yield* Deferred.make<string>()
      const query = yield* Effect.forkChild(pool.use(() => Deferred.await(answer)))
      yield* settle
      const closing = yield* close
      yield* elapse(9000)
      assert.deepStrictEqual([source.closed, closing.pollUnsafe()], [[], undefined])
      yield* Deferred.succeed(answer, "rows")
      assert.strictEqual(yield* Fiber.join(query), "rows")
      yield* nothingLeft
      closedBooks(source)
    }))

  it.effect("D5: an item handed over and not yet taken when the pool closes is closed all the same", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { close, nothingLeft, pool } = yield* opened(source, { max: 1 })
      const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
      holder.fiber.interruptUnsafe()
      waiter.fiber.interruptUnsafe()
      yield* close
      closedBooks(source)
      yield* nothingLeft
    }))
})
