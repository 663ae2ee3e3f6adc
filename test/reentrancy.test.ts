import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Schedule, type Scheduler, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, endings, several } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"

// Several runtimes are what some of these are about.
// @effect-diagnostics runEffectInsideEffect:off

describe("one borrowing effect", () => {
  it.effect("can run many times at once: each run has its own item", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3 })
      const held: Array<number> = []
      const use = pool.use(({ id }) => Effect.andThen(Effect.sync(() => void held.push(id)), Effect.sleep(10)))
      const all = yield* Effect.forkChild(Effect.all([use, use, use, use], { concurrency: "unbounded" }))
      yield* elapse(0)
      assert.deepStrictEqual(held, [1, 2, 3])
      yield* elapse(10)
      yield* elapse(10)
      yield* Fiber.join(all)
      assert.strictEqual(held.length, 4)
      yield* books(source, pool)
    }))

  it.effect("can run inside itself, in the same fiber: the inner lease ends first", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2 })
      const ids: Array<number> = []
      let depth = 0
      const use: Effect.Effect<void, unknown> = pool.use(({ id }) => {
        ids.push(id)
        return ++depth < 2
          ? Effect.andThen(use, Effect.flatMap(pool.stats, ({ used }) => Effect.sync(() => void ids.push(-used))))
          : Effect.void
      })
      yield* use
      assert.deepStrictEqual(ids, [1, 2, -1])
      yield* books(source, pool)
    }))

  it.effect("interrupted in its inner run, gives both items back", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2 })
      const fiber = yield* Effect.forkChild(pool.use(() => pool.use(() => Effect.never)))
      yield* settle
      assert.strictEqual((yield* pool.stats).used, 2)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual((yield* books(source, pool)).idle, 2)
    }))
})

describe("calls back into the pool", () => {
  it.effect("from a logger, in the step that abandons an item, see a pool that is whole", () =>
    Effect.gen(function*() {
      const source = new Source()
      const around: { pool?: QueuePool.QueuePool<Thing, Refused> } = {}
      const seen: Array<number> = []
      const logger = Logger.make(() => {
        const { closing, idle, max, opening, used } = Effect.runSync(around.pool!.stats)
        seen.push(idle + used + opening + closing)
        assert.isAtMost(seen.at(-1)!, max)
        Effect.runSync(around.pool!.clear)
      })
      const pool = around.pool = yield* Effect.provide(
        QueuePool.make({ acquire: source.acquire, max: 2, min: 2 }),
        Logger.layer([logger])
      )
      yield* settle
      source.closes.push("hang", "die")
      yield* pool.clear
      yield* elapse("1 minute")
      assert.isAtLeast(seen.length, 2)
      const { idle, pending } = yield* pool.stats
      assert.deepStrictEqual({ idle, pending }, { idle: 2, pending: 0 })
    }))

  it.effect("from a check that is interrupted as the pool closes do no harm", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const around: { pool?: QueuePool.QueuePool<Thing, Refused> } = {}
      const endingOf: Array<string> = []
      const back = Effect.suspend(() => {
        const pool = around.pool!
        return Effect.exit(pool.use(() => Effect.void)).pipe(
          Effect.map((exit) => void endingOf.push(ending(exit))),
          Effect.andThen(Effect.andThen(pool.clear, Effect.forEach(source.opened, (thing) => pool.invalidate(thing)))),
          Effect.andThen(pool.sweep)
        )
      })
      const pool = around.pool = yield* Scope.provide(
        QueuePool.make({
          acquire: source.acquire,
          max: 4,
          // Those that are being checked come first in the pool's books.
          order: "fifo",
          check: () => Effect.onInterrupt(Effect.never, () => Effect.asVoid(back)),
          checkAfter: 0
        }),
        scope
      )
      const borrowers = yield* several(4, pool)
      for (const { letGo } of borrowers) yield* letGo
      const checking = [yield* borrow(pool), yield* borrow(pool)]
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(endings(checking), ["Closed", "Closed"])
      assert.deepStrictEqual(endingOf, ["Closed", "Closed"])
      closedBooks(source)
    }))

  it.effect("from a logger, as an item is closed under its borrower, may end that lease and others", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => {
        lines.push(String(message))
        for (const fiber of fibers) fiber.interruptUnsafe()
      })
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3, drainTimeout: 1000 }).pipe(
        Scope.provide(scope),
        Effect.provide(Logger.layer([logger]))
      )
      for (const { fiber } of yield* several(3, pool)) fibers.push(fiber)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* elapse(1000)
      assert.isDefined(closing.pollUnsafe())
      const { closing: still, used } = yield* pool.stats
      assert.deepStrictEqual({ still, used, lines: lines.length }, { still: 0, used: 0, lines: 3 })
      closedBooks(source)
    }))

  it.effect("from a release that borrows are served when the slot is free", () =>
    Effect.gen(function*() {
      const source = new Source()
      const around: { pool?: QueuePool.QueuePool<number, unknown> } = {}
      let opened = 0
      const releases: Array<string> = []
      const acquire = Effect.acquireRelease(Effect.sync(() => ++opened), (item) =>
        item > 1
          ? Effect.void
          : Effect.map(Effect.exit(around.pool!.use(Effect.succeed)), (exit) => void releases.push(ending(exit))))
      const pool = around.pool = yield* QueuePool.make({ acquire, max: 1, closeTimeout: 1000, borrowTimeout: 5000 })
      yield* pool.use((item) => pool.invalidate(item))
      // It waits for the slot that it holds itself: closeTimeout ends that.
      yield* elapse(1000)
      assert.strictEqual(yield* pool.use(Effect.succeed), 2)
      const { abandoned, idle, pending } = yield* pool.stats
      assert.deepStrictEqual({ abandoned, idle, pending }, { abandoned: 1, idle: 1, pending: 0 })
      assert.strictEqual(source.attempts, 0)
    }))
})

/** A scheduler that lets nothing run until it is told to: a runtime that has stalled. */
class Stalled implements Scheduler.Scheduler {
  readonly executionMode = "async"
  readonly tasks: Array<() => void> = []
  readonly shouldYield = () => false
  readonly makeDispatcher = () => ({ scheduleTask: (task: () => void) => void this.tasks.push(task), flush: () => {} })
}

describe("odd moments", () => {
  it.effect("K3: a pool made by runSync works for everyone", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = Scope.makeUnsafe()
      const pool = Effect.runSync(Scope.provide(QueuePool.make({ acquire: source.acquire, max: 2, min: 1 }), scope))
      const fibers = Array.from({ length: 50 }, () => Effect.runFork(pool.use(() => Effect.yieldNow)))
      yield* Fiber.awaitAll(fibers)
      assert.isTrue(fibers.every((fiber) => ending(fiber.pollUnsafe()) === "served"))
      yield* books(source, pool)
      yield* Scope.close(scope, Exit.void)
      closedBooks(source)
    }))

  it.effect("a return in the instant of a waiter's deadline serves it or lets it time out, never both", () =>
    Effect.gen(function*() {
      for (const early of [true, false]) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 100 })
        const lease = pool.use(() => Effect.sleep(early ? 100 : 50))
        const holder = yield* Effect.forkChild(lease)
        if (!early) yield* elapse(50)
        const waiter = yield* borrow(pool)
        yield* elapse(100)
        yield* Fiber.join(holder)
        const how = ending(waiter.fiber.pollUnsafe())
        assert.strictEqual(how === "BorrowTimeout", waiter.item === undefined)
        yield* waiter.letGo
        yield* books(source, pool)
      }
    }))

  it.effect("B5: an item whose rules hang as it is opened is given up at openTimeout, and released", () =>
    Effect.gen(function*() {
      const source = new Source()
      const recycle = RecyclePolicy.schedule(Schedule.forever.pipe(Schedule.tap(() => Effect.never)))
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, openTimeout: 1000, recycle })
      const borrower = yield* borrow(pool)
      assert.strictEqual(source.live, 1)
      yield* elapse(1000)
      assert.deepStrictEqual(endings([borrower]), ["OpenTimeout"])
      assert.deepStrictEqual(source.closed, [1])
      yield* books(source, pool)
    }))

  it.effect("a borrower may leave in the very step in which it is told of a refusal", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, max: 1, drainTimeout: 0 }), scope)
      const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      waiter.fiber.interruptUnsafe()
      yield* elapse(1)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(endings([waiter]), ["interrupted"])
      yield* holder.letGo
      closedBooks(source)
    }))

  for (const then of ["interrupted", "Closed"] as const) {
    it.effect(`a borrower that stalls until its item was taken back has nothing to give, and ends ${then}`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(
          QueuePool.make({ acquire: source.acquire, max: 2, drainTimeout: 1000 }),
          scope
        )
        const holders = yield* several(2, pool)
        const scheduler = new Stalled()
        const stalled = [
          Effect.runFork(pool.use(() => Effect.die("used")), { scheduler }),
          Effect.runFork(Effect.scoped(pool.get), { scheduler })
        ]
        for (const { letGo } of holders) yield* letGo
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* elapse(1000)
        assert.isDefined(closing.pollUnsafe())
        closedBooks(source)
        if (then === "interrupted") { for (const fiber of stalled) fiber.interruptUnsafe() }
        for (let task = scheduler.tasks.shift(); task !== undefined; task = scheduler.tasks.shift()) task()
        assert.deepStrictEqual(stalled.map((fiber) => ending(fiber.pollUnsafe())), [then, then])
        const { closed, used } = yield* pool.stats
        assert.deepStrictEqual({ closed, used }, { closed: 2, used: 0 })
      }))
  }
})
