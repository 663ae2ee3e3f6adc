/**
 * How to test a program that uses a pool: all its time comes from Effect's Clock,
 * so a test moves the clock instead of waiting, and two runs are the same.
 *
 * npm run example testing-with-TestClock
 */
import { Console, Effect, Fiber } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import * as Assert from "node:assert/strict"

const program = Effect.gen(function*() {
  let opened = 0
  let closed = 0
  const pool = yield* QueuePool.make({
    name: "under test",
    acquire: Effect.acquireRelease(
      // Opening takes two seconds.
      Effect.andThen(Effect.sleep("2 seconds"), Effect.sync(() => ++opened)),
      () => Effect.sync(() => closed++)
    ),
    max: 1,
    borrowTimeout: "5 seconds",
    recycle: RecyclePolicy.age("1 hour")
  })

  // A borrower waits for the open: fork it, move the clock, look.
  const first = yield* Effect.forkChild(Effect.scoped(Effect.andThen(pool.get, Effect.never)), {
    startImmediately: true
  })
  yield* TestClock.adjust("1999 millis")
  Assert.equal((yield* pool.stats).opening, 1)
  yield* TestClock.adjust("1 millis")
  Assert.equal((yield* pool.stats).used, 1)

  // A second one waits in vain.
  const second = yield* Effect.forkChild(Effect.flip(pool.use(Effect.succeed)), { startImmediately: true })
  yield* TestClock.adjust("5 seconds")
  const error = yield* Fiber.join(second)
  Assert.equal(error.reason._tag, "BorrowTimeout")
  yield* Console.log(error.message)

  // The first gives up. The item is idle and lives for an hour, to the millisecond.
  yield* Fiber.interrupt(first)
  Assert.equal((yield* pool.stats).idle, 1)
  yield* TestClock.adjust("1 hour")
  Assert.equal(closed, 1)
  Assert.deepEqual((yield* pool.stats).recycled, { age: 1 })
  yield* Console.log("an hour went by")
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(TestClock.layer())))
