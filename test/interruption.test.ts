import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, endings } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { settle, Source } from "./kit/items.ts"

const oneOf = (source: Source) => QueuePool.make({ acquire: source.acquire, max: 1 })

describe("interruption of a borrower", () => {
  it.effect("A1: a waiter interrupted as its item is handed over passes it on", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const holder = yield* borrow(pool)
      const first = yield* borrow(pool)
      const second = yield* borrow(pool)
      // The item is the first waiter's in this very step; it has not run yet.
      holder.fiber.interruptUnsafe()
      assert.strictEqual((yield* pool.stats).pending, 1)
      first.fiber.interruptUnsafe()
      yield* settle
      assert.isUndefined(first.item)
      assert.deepStrictEqual(endings([first, second]), ["interrupted", "waits"])
      assert.deepStrictEqual(second.item, { id: 1 })
      yield* second.letGo
      // A lease that nobody saw is no lease.
      assert.strictEqual((yield* books(source, pool)).borrowed, 2)
    }))

  it.effect("A1: a waiter interrupted as its item is handed over, with nobody behind it, leaves it idle", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const holder = yield* borrow(pool)
      const waiter = yield* Effect.forkChild(Effect.scoped(pool.get))
      yield* settle
      holder.fiber.interruptUnsafe()
      waiter.interruptUnsafe()
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("A1: an item handed over, doomed, and given up is recycled", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const holder = yield* borrow(pool)
      const [first, second] = [yield* borrow(pool), yield* borrow(pool)]
      holder.fiber.interruptUnsafe()
      yield* pool.clear
      first.fiber.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual(second.item, { id: 2 })
      yield* second.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { cleared: 1 })
    }))

  it.effect("A2: a waiter interrupted while asleep leaves the queue at once and spends no wake", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const holder = yield* borrow(pool)
      const waiters = [yield* borrow(pool), yield* borrow(pool), yield* borrow(pool)]
      waiters[0]!.fiber.interruptUnsafe()
      assert.strictEqual((yield* pool.stats).pending, 2)
      waiters[2]!.fiber.interruptUnsafe()
      assert.strictEqual((yield* pool.stats).pending, 1)
      yield* holder.letGo
      assert.deepStrictEqual(waiters[1]!.item, { id: 1 })
      yield* waiters[1]!.letGo
      yield* books(source, pool)
    }))

  it.effect("A3: a whole chain of woken waiters interrupted before any runs wakes the last", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const holder = yield* borrow(pool)
      const waiters = yield* Effect.forEach(Array.from({ length: 5 }), () => borrow(pool))
      holder.fiber.interruptUnsafe()
      for (const { fiber } of waiters.slice(0, 4)) fiber.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual(waiters.map(({ item }) => item?.id), [undefined, undefined, undefined, undefined, 1])
      yield* waiters[4]!.letGo
      yield* books(source, pool)
    }))

  it.effect("A4: an open goes on when its borrower leaves, and serves the next: one open for both", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push({ slow: 100 })
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 5 })
      const first = yield* borrow(pool)
      first.fiber.interruptUnsafe()
      const second = yield* borrow(pool)
      assert.strictEqual(source.attempts, 1)
      yield* elapse(100)
      assert.deepStrictEqual(second.item, { id: 1 })
      yield* second.letGo
      yield* books(source, pool)
      assert.strictEqual(source.attempts, 1)
    }))

  it.effect("A4: an open whose borrower left ends idle", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push({ slow: 100 })
      const pool = yield* oneOf(source)
      const borrower = yield* borrow(pool)
      borrower.fiber.interruptUnsafe()
      yield* elapse(100)
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("A5: an open interrupted by the closing of the pool after it acquired is released once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(
        QueuePool.make({ acquire: Effect.tap(source.acquire, () => Effect.never), max: 1 }),
        scope
      )
      const borrower = yield* borrow(pool)
      assert.strictEqual(source.live, 1)
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(endings([borrower]), ["Closed"])
      assert.deepStrictEqual(source.closed, [1])
      closedBooks(source)
    }))

  it.effect("A9: nine borrowers of three items, cancelled newest first, leave three idle and nobody waiting", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3 })
      const borrowers = yield* Effect.forEach(Array.from({ length: 9 }), () => borrow(pool))
      for (const { fiber } of borrowers.toReversed()) yield* Fiber.interrupt(fiber)
      assert.strictEqual((yield* books(source, pool)).idle, 3)
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
    }))

  it.effect("A10: a borrower interrupted before it begins counts no lease and opens nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const fibers = [
        yield* Effect.forkChild(pool.use(() => Effect.void)),
        yield* Effect.forkChild(Effect.scoped(pool.get))
      ]
      yield* Fiber.interruptAll(fibers)
      const stats = yield* books(source, pool)
      assert.deepStrictEqual([source.attempts, stats.borrowed, stats.waited], [0, 0, 0])
    }))

  it.effect(
    "A11: 200 workers on one item all get on while 50 fibers borrow and give up in a loop",
    () =>
      Effect.gen(function*() {
        const source = new Source()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(oneOf(source), scope)
        let work = 0
        const workers = yield* Effect.forEach(
          Array.from({ length: 200 }),
          () =>
            Effect.forkChild(
              Effect.repeat(pool.use(() => Effect.andThen(Effect.yieldNow, Effect.sync(() => void work++))), {
                times: 4
              })
            )
        )
        const quitters = yield* Effect.forEach(
          Array.from({ length: 50 }),
          () =>
            Effect.forkChild(Effect.forever(Effect.gen(function*() {
              const fiber = yield* Effect.forkChild(pool.use(() => Effect.void), { startImmediately: true })
              yield* Effect.yieldNow
              fiber.interruptUnsafe()
            })))
        )
        yield* Fiber.awaitAll(workers)
        assert.strictEqual(work, 1000)
        yield* Fiber.interruptAll(quitters)
        yield* books(source, pool)
        yield* Scope.close(scope, Exit.void)
        closedBooks(source)
      }),
    30_000
  )

  it.effect("A12: a borrower that cannot be interrupted waits for its time and no longer", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: "3 seconds" })
      const holder = yield* borrow(pool)
      const waiter = yield* Effect.forkChild(Effect.uninterruptible(pool.use(() => Effect.void)))
      yield* settle
      waiter.interruptUnsafe()
      yield* elapse(2999)
      assert.strictEqual(ending(waiter.pollUnsafe()), "waits")
      yield* elapse(1)
      assert.strictEqual(ending(waiter.pollUnsafe()), "BorrowTimeout")
      yield* holder.letGo
      yield* books(source, pool)
    }))

  it.effect("A13: a body that throws gives the item back, and its defect is the borrower's", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const boom = new Error("boom")
      const throws = (): Effect.Effect<void> => {
        throw boom
      }
      // First along the way of a waiter, then along that of an idle item.
      for (const _ of [1, 2]) {
        const exit = yield* Effect.exit(pool.use(throws))
        assert.deepStrictEqual(exit, Exit.die(boom))
        assert.strictEqual((yield* books(source, pool)).idle, 1)
      }
    }))

  it.effect("A14: a storm that interrupts every waiter in one step leaves nothing behind", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const holder = yield* borrow(pool)
      const fibers = yield* Effect.forEach(
        Array.from({ length: 10_000 }),
        () => Effect.forkChild(pool.use(() => Effect.void))
      )
      yield* settle
      assert.strictEqual((yield* pool.stats).pending, 10_000)
      for (const fiber of fibers) fiber.interruptUnsafe()
      yield* holder.letGo
      const stats = yield* books(source, pool)
      assert.deepStrictEqual([stats.idle, stats.borrowed, source.attempts], [1, 1, 1])
    }))

  it.effect("A16: neither the uninterruptible region of a borrower nor its context reaches its open", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("hang")
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(oneOf(source), scope)
      const fiber = yield* Effect.forkChild(Effect.uninterruptible(pool.use(() => Effect.void)))
      yield* settle
      assert.strictEqual(source.opening, 1)
      // If it did, the open could not be interrupted, and this would wait for closeTimeout.
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(source.opening, 0)
      yield* settle
      assert.strictEqual(ending(fiber.pollUnsafe()), "Closed")
    }))
})

describe("interruption at every operation", () => {
  it.effect("use of an idle item loses nothing", () =>
    Effect.gen(function*() {
      const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, drainTimeout: 0 })
        yield* pool.use(() => Effect.void)
        const fiber = yield* run(pool.use(() => Effect.yieldNow))
        yield* Fiber.await(fiber)
        assert.strictEqual((yield* books(source, pool)).idle, 1, at)
      }, Effect.scoped))
      assert.isAbove(operations, 3)
    }))

  it.effect("get of an idle item loses nothing", () =>
    interruptAtEvery(Effect.fnUntraced(function*(run, at) {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, drainTimeout: 0 })
      yield* pool.use(() => Effect.void)
      yield* Fiber.await(yield* run(Effect.scoped(Effect.andThen(pool.get, Effect.yieldNow))))
      assert.strictEqual((yield* books(source, pool)).idle, 1, at)
    }, Effect.scoped)))

  for (const how of ["use", "get"] as const) {
    it.effect(`${how} that opens, and then ${how} that waits, lose nothing`, () =>
      interruptAtEvery(Effect.fnUntraced(function*(run, at) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, drainTimeout: 0 })
        const effect = how === "use"
          ? pool.use(() => Effect.yieldNow)
          : Effect.scoped(Effect.andThen(pool.get, Effect.yieldNow))
        const holder = yield* borrow(pool)
        const waiter = yield* run(effect)
        const last = yield* borrow(pool)
        yield* settle
        yield* holder.letGo
        yield* settle
        assert.isDefined(last.item, at)
        yield* last.letGo
        yield* Fiber.await(waiter)
        assert.strictEqual((yield* books(source, pool)).idle, 1, at)
        yield* pool.clear
        yield* Fiber.await(yield* run(effect))
        yield* books(source, pool)
        assert.strictEqual(yield* pool.use(() => Effect.succeed(1)), 1)
      }, Effect.scoped)))
  }

  it.effect("invalidate, clear, sweep and stats leave the pool whole", () =>
    interruptAtEvery(Effect.fnUntraced(function*(run) {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2, min: 1, drainTimeout: 0 })
      yield* settle
      yield* Fiber.await(
        yield* run(
          pool.use((item) =>
            Effect.andThen(pool.invalidate(item), Effect.andThen(pool.sweep, Effect.andThen(pool.stats, pool.clear)))
          )
        )
      )
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }, Effect.scoped)))

  for (const warm of ["background", "eager"] as const) {
    it.effect(`make, ${warm}, and the closing of its scope leave nothing open`, () =>
      interruptAtEvery(Effect.fnUntraced(function*(run, at) {
        const source = new Source()
        const fiber = yield* run(Effect.scoped(Effect.gen(function*() {
          const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3, min: 3, warm })
          yield* pool.use(() => Effect.yieldNow)
        })))
        yield* Fiber.await(fiber)
        yield* settle
        assert.strictEqual(source.opening, 0, at)
        closedBooks(source)
      })))
  }
})
