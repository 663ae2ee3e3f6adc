import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, endings } from "./kit/books.ts"
import { settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

/** A check or reset that answers as it is told to, item by item, and keeps count. */
class Work {
  readonly begun: Array<number> = []
  running = 0
  /** By the item's number; the default is to pass. */
  readonly answers = new Map<number, Effect.Effect<unknown, unknown>>()
  readonly run = (thing: Thing): Effect.Effect<unknown, unknown> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        this.begun.push(thing.id)
        this.running++
      }),
      () => this.answers.get(thing.id) ?? Effect.void,
      () => Effect.sync(() => void this.running--)
    )
}

const throws = (): never => {
  throw new Error("thrown")
}
const failures: Record<string, Effect.Effect<unknown, unknown>> = {
  fails: Effect.fail("bad"),
  dies: Effect.die("bad"),
  throws: Effect.suspend(throws),
  "interrupts itself": Effect.interrupt
}

/** A pool with so many idle items, with a check, after which time has made all of them unproven. */
const unproven = Effect.fnUntraced(function*(
  count: number,
  options?: Partial<QueuePool.Options<Thing, unknown>>
) {
  const source = new Source()
  const check = new Work()
  const pool = yield* QueuePool.make({ acquire: source.acquire, max: count, check: check.run, ...options })
  const events = yield* record(pool)
  const borrowers = yield* Effect.forEach(Array.from({ length: count }), () => borrow(pool))
  for (const { letGo } of borrowers) yield* letGo
  yield* elapse(500)
  return { source, check, pool, events }
})

describe("check", () => {
  it.effect("runs before an item is lent that was idle for checkAfter, and no more often", () =>
    Effect.gen(function*() {
      const source = new Source()
      const check = new Work()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, check: check.run, checkAfter: 1000 })
      const use = pool.use(() => Effect.void)
      yield* use
      yield* elapse(999)
      yield* use
      yield* elapse(999)
      assert.deepStrictEqual(check.begun, [])
      yield* elapse(1)
      yield* use
      assert.deepStrictEqual(check.begun, [1])
      yield* elapse(1000)
      // Proven a moment ago, by the check for a borrower that has left.
      check.answers.set(1, Effect.sleep(10))
      const borrower = yield* borrow(pool)
      borrower.fiber.interruptUnsafe()
      yield* elapse(10)
      yield* use
      assert.deepStrictEqual(check.begun, [1, 1])
      yield* books(source, pool)
    }))

  it.effect("checkAfter 0 runs it before each lease but the first, checkAfter Infinity never", () =>
    Effect.gen(function*() {
      for (const [checkAfter, expected] of [[0, [1, 1, 1]], ["Infinity", []]] as const) {
        const source = new Source()
        const check = new Work()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, check: check.run, checkAfter })
        const fibers = yield* Effect.forEach([1, 2, 3, 4], () => Effect.forkChild(pool.use(() => Effect.yieldNow)))
        yield* Fiber.awaitAll(fibers)
        assert.deepStrictEqual(check.begun, [...expected])
        yield* elapse("1 day")
        yield* books(source, pool)
      }
    }))

  for (const [how, answer] of Object.entries({ ...failures, "answers false": Effect.succeed(false) })) {
    it.effect(`an item whose check ${how} is recycled, and the borrower gets another and sees nothing`, () =>
      Effect.gen(function*() {
        const { check, events, pool, source } = yield* unproven(2)
        check.answers.set(2, answer)
        assert.deepStrictEqual(yield* pool.use(Effect.succeed), { id: 1 })
        yield* settle
        assert.deepStrictEqual(check.begun, [2, 1])
        assert.deepStrictEqual(source.closed, [2])
        assert.includeMembers([...told(events)], ["CheckFailed 2", "Recycled 2"])
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { "check failed": 1 })
      }))
  }

  it.effect("when no idle item passes, one is opened within the same borrow", () =>
    Effect.gen(function*() {
      const { check, pool, source } = yield* unproven(3)
      for (const id of [1, 2, 3]) check.answers.set(id, Effect.succeed(false))
      assert.deepStrictEqual(yield* pool.use(Effect.succeed), { id: 4 })
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { "check failed": 3 })
    }))

  for (const how of ["hangs", "cannot be interrupted"] as const) {
    it.effect(`an item whose check ${how} is recycled after checkTimeout`, () =>
      Effect.gen(function*() {
        const { check, pool, source } = yield* unproven(1, { checkTimeout: 2000 })
        check.answers.set(1, how === "hangs" ? Effect.never : Effect.uninterruptible(Effect.never))
        const borrower = yield* borrow(pool)
        yield* elapse(1999)
        assert.deepStrictEqual([borrower.item, (yield* pool.stats).used], [undefined, 1])
        yield* elapse(1)
        assert.deepStrictEqual(borrower.item, { id: 2 })
        assert.strictEqual(check.running, how === "hangs" ? 0 : 1)
        yield* borrower.letGo
        yield* books(source, pool)
      }))
  }

  it.effect("it counts for the borrower's time; what it finds later is for the next", () =>
    Effect.gen(function*() {
      const { check, pool, source } = yield* unproven(1, { borrowTimeout: 1000 })
      check.answers.set(1, Effect.sleep(1500))
      const borrower = yield* borrow(pool)
      yield* elapse(1000)
      assert.deepStrictEqual(endings([borrower]), ["BorrowTimeout"])
      const next = yield* borrow(pool)
      yield* elapse(500)
      assert.deepStrictEqual([next.item, check.begun], [{ id: 1 }, [1]])
      yield* next.letGo
      yield* books(source, pool)
    }))

  it.effect("A6: a borrower interrupted during it loses nothing: the item is for the next, or idle", () =>
    Effect.gen(function*() {
      const { check, pool, source } = yield* unproven(1)
      check.answers.set(1, Effect.sleep(100))
      const [first, second] = [yield* borrow(pool), yield* borrow(pool)]
      first.fiber.interruptUnsafe()
      yield* elapse(100)
      assert.deepStrictEqual(second.item, { id: 1 })
      yield* second.letGo
      yield* elapse(500)
      const third = yield* borrow(pool)
      third.fiber.interruptUnsafe()
      yield* elapse(100)
      assert.deepStrictEqual(check.begun, [1, 1])
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("an item that comes back meanwhile serves the borrower; the checked one is idle after", () =>
    Effect.gen(function*() {
      const { check, pool, source } = yield* unproven(2)
      const holder = yield* borrow(pool)
      check.answers.set(1, Effect.sleep(100))
      const borrower = yield* borrow(pool)
      assert.deepStrictEqual(check.begun, [2, 1])
      yield* holder.letGo
      assert.deepStrictEqual(borrower.item, { id: 2 })
      yield* elapse(100)
      assert.strictEqual((yield* pool.stats).idle, 1)
      yield* borrower.letGo
      yield* books(source, pool)
    }))

  it.effect("several run side by side, for several borrowers", () =>
    Effect.gen(function*() {
      const { check, pool, source } = yield* unproven(3)
      for (const id of [1, 2, 3]) check.answers.set(id, Effect.sleep(100))
      const borrowers = yield* Effect.forEach([1, 2, 3], () => borrow(pool))
      assert.strictEqual(check.running, 3)
      yield* elapse(100)
      assert.deepStrictEqual(borrowers.map(({ item }) => item?.id), [3, 2, 1])
      for (const { letGo } of borrowers) yield* letGo
      yield* books(source, pool)
    }))

  for (const how of ["invalidated", "cleared"] as const) {
    it.effect(`an item ${how} during its check is recycled, though the check passes`, () =>
      Effect.gen(function*() {
        const { check, pool, source } = yield* unproven(1)
        check.answers.set(1, Effect.sleep(100))
        const borrower = yield* borrow(pool)
        yield* how === "cleared" ? pool.clear : pool.invalidate(source.opened[0]!)
        yield* elapse(100)
        assert.deepStrictEqual(borrower.item, { id: 2 })
        yield* borrower.letGo
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { [how]: 1 })
      }))
  }

  it.effect("every deadline in the same instant: in whatever order they ring, the books agree", () =>
    Effect.gen(function*() {
      const same = {
        borrowTimeout: 1000,
        checkTimeout: 1000,
        resetTimeout: 1000,
        openTimeout: 1000,
        closeTimeout: 1000
      }
      const { check, pool, source } = yield* unproven(3, { ...same, max: 3, reset: () => Effect.never })
      const holder = yield* borrow(pool)
      for (const id of [1, 2, 3, 4, 5, 6]) check.answers.set(id, Effect.never)
      source.opens.push("hang", "hang", "ok")
      source.closes.push("hang", "hang", "hang")
      yield* elapse(500)
      const borrowers = [yield* borrow(pool), yield* borrow(pool), yield* borrow(pool)]
      yield* holder.letGo
      for (let i = 0; i < 6; i++) yield* elapse(1000)
      assert.isTrue(borrowers.every(({ fiber }) => fiber.pollUnsafe() !== undefined))
      yield* pool.clear
      yield* elapse(5000)
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.pending, stats.used, stats.closing, stats.opening], [0, 0, 0, 0])
      assert.isAtMost(source.peakLive, 3 + stats.abandoned)
    }))

  it.effect("A6, D4: the closing of the pool ends it, and closes the item once", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { check, pool, source } = yield* Scope.provide(unproven(1), scope)
      check.answers.set(1, Effect.never)
      const borrower = yield* borrow(pool)
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual([endings([borrower]), check.running, source.closed], [["Closed"], 0, [1]])
      closedBooks(source)
    }))
})

describe("reset", () => {
  it.effect("runs after a return and before anyone else has the item, with the exit, and delays no borrower", () =>
    Effect.gen(function*() {
      const source = new Source()
      const exits: Array<unknown> = []
      const reset = (_: Thing, exit: Exit.Exit<unknown, unknown>) =>
        Effect.andThen(Effect.sync(() => void exits.push(exit)), Effect.sleep(100))
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, reset })
      assert.strictEqual(yield* Effect.flip(pool.use(() => Effect.fail("lease"))), "lease")
      const next = yield* borrow(pool)
      assert.deepStrictEqual([exits, next.item, (yield* pool.stats).used], [[Exit.fail("lease")], undefined, 1])
      yield* elapse(100)
      assert.deepStrictEqual(next.item, { id: 1 })
      yield* next.letGo
      yield* elapse(100)
      yield* Effect.scoped(pool.get)
      assert.deepStrictEqual(exits.slice(1, 2), [Exit.succeed({ id: 1 })])
      yield* elapse(100)
      assert.strictEqual(exits.length, 3)
      yield* books(source, pool)
    }))

  for (const [how, answer] of Object.entries(failures)) {
    it.effect(`C6: an item whose reset ${how} is recycled and never lent again; a waiter gets a new one`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const reset = new Work()
        reset.answers.set(1, answer)
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, reset: reset.run })
        const events = yield* record(pool)
        const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
        yield* holder.letGo
        assert.strictEqual(ending(holder.fiber.pollUnsafe()), "served")
        assert.deepStrictEqual(waiter.item, { id: 2 })
        assert.includeMembers([...told(events)], ["ResetFailed 1", "Recycled 1"])
        yield* waiter.letGo
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { "reset failed": 1 })
      }))
  }

  it.effect("C6: an item whose reset hangs is recycled after resetTimeout", () =>
    Effect.gen(function*() {
      const source = new Source()
      const reset = new Work()
      reset.answers.set(1, Effect.never)
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, reset: reset.run, resetTimeout: 2000 })
      yield* pool.use(() => Effect.void)
      const next = yield* borrow(pool)
      yield* elapse(1999)
      assert.isUndefined(next.item)
      yield* elapse(1)
      assert.deepStrictEqual([next.item, reset.running], [{ id: 2 }, 0])
      yield* next.letGo
      yield* books(source, pool)
    }))

  it.effect("an item doomed during its reset is recycled, and one doomed before it is not reset at all", () =>
    Effect.gen(function*() {
      const source = new Source()
      const reset = new Work()
      reset.answers.set(1, Effect.sleep(100))
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, reset: reset.run })
      yield* pool.use(() => Effect.void)
      yield* pool.invalidate(source.opened[0]!)
      yield* elapse(100)
      assert.deepStrictEqual(source.closed, [1])
      yield* pool.use((item) => pool.invalidate(item))
      yield* settle
      assert.deepStrictEqual([reset.begun, source.closed], [[1], [1, 2]])
      yield* books(source, pool)
    }))

  it.effect("an item that was handed over and that nobody took up needs no reset", () =>
    Effect.gen(function*() {
      const source = new Source()
      const reset = new Work()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, reset: reset.run })
      const done = yield* Deferred.make<void>()
      const opening = yield* Effect.forkChild(pool.use(() => Deferred.await(done)))
      yield* settle
      const waiter = yield* borrow(pool)
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.join(opening)
      // The reset is over in a few turns; the waiter is interrupted in each of them, once.
      for (let turn = 0; turn < 8 && (yield* pool.stats).pending > 0; turn++) yield* Effect.yieldNow
      waiter.fiber.interruptUnsafe()
      yield* books(source, pool)
      assert.deepStrictEqual(reset.begun, waiter.item === undefined ? [1] : [1, 1])
    }))

  it.effect("A7: the closing of the pool ends it, and closes the item once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const reset = new Work()
      reset.answers.set(1, Effect.never)
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, max: 2, reset: reset.run }), scope)
      const other = yield* borrow(pool)
      yield* other.letGo
      const lent = yield* borrow(pool)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.deepStrictEqual([reset.running, source.closed], [0, [1]])
      // What comes back now is closed without a reset.
      yield* lent.letGo
      yield* Fiber.join(closing)
      assert.deepStrictEqual(reset.begun, [1])
      closedBooks(source)
    }))

  it.effect("a check, and a reset, that have not begun when the pool closes never begin", () =>
    Effect.gen(function*() {
      const source = new Source()
      const begun: Array<string> = []
      const scope = yield* Scope.make()
      const note = (what: string) => () => Effect.sync(() => void begun.push(what))
      const pool = yield* Scope.provide(
        QueuePool.make({ acquire: source.acquire, max: 2, check: note("check"), checkAfter: 0, reset: note("reset") }),
        scope
      )
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.deepStrictEqual(begun, ["reset"])
      const holder = yield* borrow(pool)
      yield* holder.letGo
      const checked = yield* Effect.forkChild(pool.use(() => Effect.void), { startImmediately: true })
      const count = begun.length
      yield* Scope.close(scope, Exit.void)
      yield* elapse(1000)
      assert.strictEqual(ending(checked.pollUnsafe()), "Closed")
      assert.strictEqual(begun.length, count)
      closedBooks(source)
    }))
})
