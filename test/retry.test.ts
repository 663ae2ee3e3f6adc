import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Schedule, Scope } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, endings, several, Watch } from "./kit/books.ts"
import { Source } from "./kit/items.ts"
import { record } from "./kit/observe.ts"

const lastFailure = (exit: Exit.Exit<unknown, unknown> | undefined) => {
  assert.isTrue(exit !== undefined && Exit.isFailure(exit))
  const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause)
  assert.instanceOf(error, PoolError.PoolError)
  assert.instanceOf(error.reason, PoolError.BorrowTimeout)
  return error.reason.lastFailure
}

describe("the retry road", () => {
  it.effect("B7: it opens once per step, however many wait, with the backoff of its Schedule", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = "fail"
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 10,
        openConcurrency: 4,
        retry: Schedule.exponential(100)
      })
      const borrowers = yield* several(8, pool)
      const attempts = [source.attempts]
      for (const delay of [99, 1, 199, 1, 399, 1]) {
        yield* elapse(delay)
        attempts.push(source.attempts)
      }
      assert.deepStrictEqual(attempts, [1, 1, 2, 2, 3, 3, 4])
      source.opensOtherwise = "ok"
      yield* elapse(800)
      assert.deepStrictEqual(borrowers.map(({ item }) => item !== undefined), Array.from({ length: 8 }, () => true))
      for (const { letGo } of borrowers) yield* letGo
      yield* books(source, pool)
    }))

  it.effect("B14: a thousand that wait in an outage cost no more opens, fibers and timers than one", () =>
    Effect.gen(function*() {
      for (const waiters of [1, 1000]) {
        const source = new Source()
        source.opensOtherwise = "fail"
        const watch = new Watch()
        const pool = yield* watch.around(
          QueuePool.make({ acquire: source.acquire, max: 10, borrowTimeout: 10_000, retry: Schedule.spaced(100) })
        )
        const fibers = yield* Effect.forEach(
          Array.from({ length: waiters }),
          () => Effect.forkChild(pool.use(() => Effect.void))
        )
        yield* elapse(5000)
        // Up to openConcurrency before the first has failed, and one for each step.
        assert.isAtMost(source.attempts, 4 + 50)
        // The one alarm of the pool: the recycler begins when it has something to do.
        assert.deepStrictEqual({ fibers: watch.fibers, timers: watch.timers }, { fibers: 1, timers: 1 })
        yield* elapse(5000)
        assert.isTrue(fibers.every((fiber) => ending(fiber.pollUnsafe()) === "BorrowTimeout"))
        yield* books(source, pool)
      }
    }))

  it.effect("B7: success sets the Schedule back to its start", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("fail", "fail", "ok", "fail", "fail", "ok")
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, retry: Schedule.exponential(100) })
      const events = yield* record(pool)
      for (const _ of [1, 2]) {
        const borrower = yield* borrow(pool)
        yield* elapse(300)
        assert.isDefined(borrower.item)
        yield* borrower.letGo
        yield* pool.clear
      }
      assert.deepStrictEqual(events.flatMap((event) => event._tag === "Retrying" ? [event.in] : []), [
        100,
        200,
        100,
        200
      ])
      yield* books(source, pool)
    }))

  it.effect("B3, B7: an item that comes back serves those who wait while opens fail", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2, retry: Schedule.spaced(1000) })
      const holder = yield* borrow(pool)
      source.opensOtherwise = "fail"
      const waiters = yield* several(3, pool)
      assert.deepStrictEqual(endings(waiters), ["waits", "waits", "waits"])
      yield* holder.letGo
      for (const waiter of waiters) {
        assert.deepStrictEqual(waiter.item, { id: 1 })
        yield* waiter.letGo
      }
      yield* elapse(10_000)
      // Nobody asks any more: at most the one step that was due.
      assert.isAtMost(source.attempts, 4)
      yield* books(source, pool)
    }))

  it.effect("B1, B13: a borrower whose time ends meanwhile hears the cause of the last failure", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = "fail"
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        borrowTimeout: 250,
        retry: Schedule.spaced(100)
      })
      const borrower = yield* borrow(pool)
      yield* elapse(250)
      const cause = lastFailure(borrower.fiber.pollUnsafe())
      assert.deepStrictEqual(cause && Cause.squash(cause), { _tag: "Refused", id: 3 })
      assert.include(
        String(Cause.squash((borrower.fiber.pollUnsafe() as Exit.Failure<never, never>).cause)),
        "last open failed"
      )
      // B12: not after one has succeeded.
      source.opensOtherwise = "ok"
      const holder = yield* borrow(pool)
      yield* elapse(100)
      assert.isDefined(holder.item)
      const late = yield* borrow(pool)
      yield* elapse(250)
      assert.isUndefined(lastFailure(late.fiber.pollUnsafe()))
      yield* holder.letGo
      yield* books(source, pool)
    }))

  it.effect("at the end of the Schedule every waiter hears why, and the next borrower begins anew", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = "fail"
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        retry: Schedule.spaced(100).pipe(Schedule.upTo({ times: 2 }))
      })
      const first = yield* several(3, pool)
      yield* elapse(199)
      assert.deepStrictEqual(endings(first), ["waits", "waits", "waits"])
      yield* elapse(1)
      assert.deepStrictEqual(endings(first), ["Refused", "Refused", "Refused"])
      assert.strictEqual(source.attempts, 3)
      const second = yield* several(1, pool)
      yield* elapse(200)
      assert.deepStrictEqual(endings(second), ["Refused"])
      assert.strictEqual(source.attempts, 6)
      yield* books(source, pool)
    }))

  it.effect("a Schedule that fails ends the road, with its own cause beside that of the open", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = "fail"
      const retry = Schedule.spaced(100).pipe(Schedule.tap(() => Effect.die("schedule")))
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, retry })
      const borrower = yield* borrow(pool)
      const exit = borrower.fiber.pollUnsafe()
      assert.isTrue(
        exit !== undefined && Exit.isFailure(exit) && Cause.hasDies(exit.cause) && Cause.hasFails(exit.cause)
      )
      yield* books(source, pool)
    }))

  it.effect("an open that dies is no matter for the road: its borrower hears of it at once", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("die")
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, retry: Schedule.spaced(100) })
      const borrowers = yield* several(2, pool)
      assert.deepStrictEqual(endings(borrowers), ["defect", "waits"])
      yield* borrowers[1]!.letGo
      yield* books(source, pool)
    }))

  it.effect("B4: an open that hangs from before the outage does not stand in for the step", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("hang", "fail")
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3, retry: Schedule.spaced(100) })
      const borrowers = yield* several(2, pool)
      yield* elapse(100)
      assert.strictEqual(source.attempts, 3)
      assert.deepStrictEqual(borrowers[0]!.item, { id: 3 })
      yield* borrowers[0]!.letGo
      yield* borrowers[1]!.letGo
      yield* elapse("30 seconds")
      yield* books(source, pool)
    }))

  it.effect("a step that hangs is the only one until openTimeout, and then the road goes on", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("fail", "hang")
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 3,
        openTimeout: 1000,
        retry: Schedule.spaced(100)
      })
      const borrowers = yield* several(2, pool)
      // The second open was under way when the first failed.
      yield* elapse(100)
      source.opensOtherwise = "hang"
      yield* elapse(1000)
      const { attempts } = source
      assert.isAtMost((yield* pool.stats).opening, 1)
      yield* elapse(100)
      assert.isAtMost(source.attempts - attempts, 1)
      source.opensOtherwise = "ok"
      yield* elapse(1100)
      for (const borrower of borrowers) yield* borrower.letGo
      yield* elapse(1100)
      yield* books(source, pool)
    }))

  it.effect("an open from before the outage that succeeds ends the outage", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push({ slow: 50 }, "fail")
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2, retry: Schedule.spaced("1 hour") })
      const borrowers = yield* several(2, pool)
      yield* elapse(50)
      assert.deepStrictEqual(borrowers.map(({ item }) => item?.id), [1, 3])
      for (const { letGo } of borrowers) yield* letGo
      yield* elapse("1 hour")
      yield* books(source, pool)
    }))

  it.effect("B12: a step of the Schedule that began in an outage that is over says nothing in the next", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push({ slow: 50 }, "fail", "ok", "fail")
      // A step that takes 100 ms and ends the Schedule.
      const retry = Schedule.fromStep(Effect.succeed(() => Effect.andThen(Effect.sleep(100), Cause.done(0))))
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3, retry })
      const borrowers = yield* several(2, pool)
      yield* elapse(50)
      assert.deepStrictEqual(borrowers.map(({ item }) => item?.id), [1, 3])
      yield* elapse(10)
      const next = yield* borrow(pool)
      yield* elapse(99)
      assert.deepStrictEqual(endings([next]), ["waits"])
      yield* elapse(1)
      assert.deepStrictEqual(endings([next]), ["Refused"])
      for (const { letGo } of borrowers) yield* letGo
      yield* books(source, pool)
    }))

  it.effect("D9: a pool that closes during a step of the Schedule leaves it not running", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = "fail"
      let running = 0
      const step = Effect.acquireUseRelease(
        Effect.sync(() => void running++),
        () => Effect.never,
        () => Effect.sync(() => void running--)
      )
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(
        QueuePool.make({ acquire: source.acquire, max: 1, retry: Schedule.spaced(1).pipe(Schedule.tap(() => step)) }),
        scope
      )
      const borrower = yield* borrow(pool)
      assert.strictEqual(running, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(running, 0)
      yield* elapse(1000)
      assert.deepStrictEqual(endings([borrower]), ["Closed"])
      assert.strictEqual(source.attempts, 1)
      closedBooks(source)
    }))
})

describe("refill to min", () => {
  it.effect("B8: down at the start, up later: min is reached with nobody asking, and with backoff", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = "fail"
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 4, min: 1 })
      const attempts: Array<number> = []
      // 100 ms, doubled each time up to 5 s, less up to a fifth for jitter.
      for (const delay of [79, 21, 159, 41, 319, 81]) {
        yield* elapse(delay)
        attempts.push(source.attempts)
      }
      assert.deepStrictEqual([attempts[0], attempts.at(-1)], [1, 4])
      yield* elapse("1 minute")
      // Once in four to five seconds by now.
      assert.isAtMost(source.attempts, 25)
      source.opensOtherwise = "ok"
      yield* elapse(5000)
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("B8: with retry, min is reached along the road, also after its Schedule has ended", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = "fail"
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 4,
        min: 2,
        openConcurrency: 2,
        retry: Schedule.recurs(2)
      })
      yield* elapse(1)
      yield* elapse(1)
      assert.strictEqual(source.attempts, 4)
      yield* elapse("1 minute")
      assert.isAbove(source.attempts, 4)
      source.opensOtherwise = "ok"
      yield* elapse("1 minute")
      assert.strictEqual((yield* books(source, pool)).idle, 2)
    }))

  it.effect("min is refilled after any loss, one that hung included", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3, min: 2 })
      const borrower = yield* borrow(pool)
      yield* pool.invalidate(borrower.item!)
      yield* borrower.letGo
      assert.strictEqual((yield* books(source, pool)).idle, 2)
      source.opens.push("hang", "stuck")
      yield* pool.clear
      yield* elapse("2 minutes")
      const stats = yield* books(source, pool, { neverOpened: 1 })
      assert.deepStrictEqual([stats.idle, stats.abandoned], [2, 1])
    }))

  it.effect("E16: min that max does not allow for now costs nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.closes.push({ slow: 1000 })
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, min: 1 })
      yield* elapse(0)
      yield* pool.clear
      yield* elapse(999)
      assert.strictEqual(source.attempts, 1)
      yield* elapse(1)
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("an eager warm-up with retry waits for the road, and fails when its Schedule ends", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("fail", "ok", "fail")
      const options = { acquire: source.acquire, max: 3, min: 2, warm: "eager", retry: Schedule.recurs(3) } as const
      const making = yield* Effect.forkChild(QueuePool.make(options))
      for (let i = 0; i < 4; i++) yield* elapse(1)
      assert.deepStrictEqual(endings([{ fiber: making }]), ["served"])
      source.opensOtherwise = "fail"
      const failing = yield* Effect.forkChild(QueuePool.make(options))
      for (let i = 0; i < 5; i++) yield* elapse(1)
      assert.deepStrictEqual(endings([{ fiber: failing }]), ["Refused"])
    }))
})
