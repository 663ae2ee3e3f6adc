import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, References, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { books, borrow, elapse } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"

// Several runtimes are what these are about.
// @effect-diagnostics runEffectInsideEffect:off

const oneOf = (source: Source) => QueuePool.make({ acquire: source.acquire, max: 1 })

describe("turns, schedulers and contexts", () => {
  it.live(
    "K1: 100,000 waiters with synchronous leases overflow no stack, and others run meanwhile",
    () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: "Infinity" })
        const holder = yield* borrow(pool)
        let served = 0
        const waiting: Array<Fiber.Fiber<void, unknown>> = []
        for (let i = 0; i < 100_000; i++) {
          waiting.push(Effect.runFork(pool.use(() => Effect.sync(() => void served++))))
        }
        assert.strictEqual((yield* pool.stats).pending, 100_000)
        let turns = 0
        const other = yield* Effect.forkChild(
          Effect.forever(Effect.andThen(Effect.yieldNow, Effect.sync(() => void turns++)))
        )
        yield* holder.letGo
        yield* Fiber.awaitAll(waiting)
        yield* Fiber.interrupt(other)
        assert.strictEqual(served, 100_000)
        assert.isAbove(turns, 10)
        yield* books(source, pool)
      }),
    60_000
  )

  it.effect("K2: a return in a finalizer hands over at once, and the waiter runs in its own turn", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const scope = yield* Scope.make()
      yield* Scope.provide(pool.get, scope)
      let ran = false
      const waiter = yield* Effect.forkChild(pool.use(() => Effect.sync(() => void (ran = true))))
      yield* settle
      yield* Effect.uninterruptible(Effect.gen(function*() {
        yield* Scope.close(scope, Exit.void)
        const { pending, used } = yield* pool.stats
        assert.deepStrictEqual({ pending, used, ran }, { pending: 0, used: 1, ran: false })
      }))
      yield* Fiber.join(waiter)
      assert.isTrue(ran)
      yield* books(source, pool)
    }))

  it.effect("K3: an idle item is borrowed without an asynchronous step, from any runtime", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      // Of another runtime than the pool's, with its own scheduler.
      assert.strictEqual(yield* Effect.promise(() => Effect.runPromise(pool.use(({ id }) => Effect.succeed(id)))), 1)
      assert.strictEqual(Effect.runSync(pool.use(({ id }) => Effect.succeed(id))), 1)
      assert.strictEqual(Effect.runSync(Effect.scoped(pool.get)).id, 1)
      assert.strictEqual(Effect.runSync(pool.stats).borrowed, 3)
      // Given back in one runtime, taken over in another.
      const holder = yield* borrow(pool)
      const waiter = Effect.runFork(pool.use(({ id }) => Effect.succeed(id)))
      yield* holder.letGo
      assert.strictEqual(yield* Fiber.join(waiter), 1)
      yield* books(source, pool)
    }))

  it.effect("K3: runSync that would have to wait fails, and its turn is not lost", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* oneOf(source)
      const holder = yield* borrow(pool)
      let late = 0
      assert.throws(() => Effect.runSync(pool.use(() => Effect.sync(() => void late++))))
      yield* holder.letGo
      yield* Effect.promise(() => Promise.resolve())
      yield* books(source, pool)
      assert.strictEqual(late, 1)
    }))

  // With 1 or 2 no fiber of effect gets anywhere: its yield is itself more operations than that.
  it.effect("K4: every yield pattern from 3 to 64 operations keeps the books", () =>
    Effect.forEach(Array.from({ length: 62 }, (_, i) => i + 3), (operations) =>
      Effect.scoped(Effect.gen(function*() {
        const source = new Source()
        source.opens.push("fail", { slow: 5 }, "ok", "die")
        const pool = yield* QueuePool.make({
          acquire: source.acquire,
          max: 2,
          check: ({ id }) => Effect.succeed(id % 3 !== 0),
          checkAfter: 0,
          reset: () => Effect.void
        })
        const fibers = yield* Effect.forEach(Array.from({ length: 20 }), (_, i) =>
          Effect.forkChild(pool.use((item) => i % 5 === 0 ? pool.invalidate(item) : Effect.yieldNow)))
        yield* Effect.yieldNow
        for (let i = 0; i < 20; i += 3) {
          fibers[i]!.interruptUnsafe()
        }
        yield* elapse(5)
        const exits = yield* Fiber.awaitAll(fibers)
        const { pending } = yield* books(source, pool)
        assert.strictEqual(pending, 0)
        assert.isAbove(exits.filter(Exit.isSuccess).length, 8)
      })).pipe(Effect.provideService(References.MaxOpsBeforeYield, operations)), { discard: true }))

  it.effect("K5: opens, checks, resets and closes run with the pool's context, not a borrower's", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const note = (what: string) =>
        Effect.map(References.CurrentLogAnnotations, ({ who }) => void seen.push(`${what} for ${String(who)}`))
      const pool = yield* QueuePool.make({
        acquire: Effect.acquireRelease(note("open"), () => note("close")),
        check: () => note("check"),
        checkAfter: 0,
        reset: () => note("reset"),
        max: 1
      }).pipe(Effect.annotateLogs("who", "pool"))
      const use = pool.use(() => note("use")).pipe(Effect.annotateLogs("who", "borrower"))
      yield* use
      yield* settle
      yield* use
      yield* settle
      yield* pool.clear
      yield* settle
      assert.deepStrictEqual(seen, [
        "open for pool",
        "use for borrower",
        "reset for pool",
        "check for pool",
        "use for borrower",
        "reset for pool",
        "close for pool"
      ])
    }))
})
