/** What must hold of a pool after every scenario, and borrowers to build scenarios with. */
import { assert } from "@effect/vitest"
import type { PoolError, QueuePool } from "effect-queuepool"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { settle, type Source } from "./items.ts"

export { Watch } from "./cost.ts"

/**
 * The books of a pool at rest agree with those of its source: nobody waits, nothing
 * is under way, and what was opened is closed once or still in the pool. `lent` is
 * how many leases the scenario still has, `stuck` how many items were abandoned and
 * are open still, `neverOpened` how many opens were.
 */
export const books = Effect.fnUntraced(function*<A, E>(
  source: Source,
  pool: QueuePool.QueuePool<A, E>,
  expected: { readonly lent?: number; readonly stuck?: number; readonly neverOpened?: number } = {}
) {
  const { lent = 0, neverOpened = 0, stuck = 0 } = expected
  yield* settle
  const stats = yield* pool.stats
  const { abandoned, closing, idle, max, opening, pending, used } = stats
  assert.deepStrictEqual({ pending, opening, closing, used }, { pending: 0, opening: 0, closing: 0, used: lent })
  assert.isAtMost(idle + used, max)
  assert.isAtMost(source.peakLive, max + abandoned, "live items at the peak")
  assert.strictEqual(source.live, idle + used + stuck, "live items")
  assert.strictEqual(
    stats.opened - stats.closed,
    idle + used + abandoned - neverOpened,
    "opened = closed + abandoned + live"
  )
  assert.strictEqual(new Set(source.closed).size, source.closed.length, "closed once each")
  assert.strictEqual(stats.borrowed - stats.returned - stats.takenBack, used, "borrowed = returned + taken back + lent")
  return stats
})

/** The same after the pool was closed: all that was opened is closed, once. */
export const closedBooks = (source: Source) => {
  assert.strictEqual(source.live, 0, "live items")
  assert.strictEqual(new Set(source.closed).size, source.closed.length, "closed once each")
}

/** Time passes, after what is ready has run, and whatever that has woken runs. */
export const elapse = (duration: Duration.Input) =>
  settle.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(settle))

/** A borrower in a fiber of its own that keeps its item until it is let go. */
export interface Borrower<A, E> {
  /** Undefined as long as it waits. */
  readonly item: A | undefined
  readonly fiber: Fiber.Fiber<A, E | PoolError.PoolError>
  readonly letGo: Effect.Effect<void>
}

export const borrow = Effect.fnUntraced(function*<A, E>(pool: QueuePool.QueuePool<A, E>) {
  const done = yield* Deferred.make<void>()
  let item: A | undefined
  const fiber = yield* Effect.forkChild(pool.use((lent) => {
    item = lent
    return Effect.as(Deferred.await(done), lent)
  }))
  yield* settle
  const borrower: Borrower<A, E> = {
    get item() {
      return item
    },
    fiber,
    letGo: Effect.andThen(Deferred.succeed(done, undefined), settle)
  }
  return borrower
})

/** So many of them, one after the other. */
export const several = <A, E>(count: number, pool: QueuePool.QueuePool<A, E>) =>
  Effect.forEach(Array.from({ length: count }), () => borrow(pool))

/** How a borrower ended: with an item, the tag of its error or of the pool's reason, a defect, or interruption. */
export const ending = <A, E>(exit: Exit.Exit<A, E> | undefined): string => {
  if (exit === undefined) return "waits"
  if (Exit.isSuccess(exit)) return "served"
  if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause)) as
    | undefined
    | { readonly _tag: string; readonly reason?: { readonly _tag: string } }
  return error === undefined ? "defect" : error.reason?._tag ?? error._tag
}

/** The endings of borrowers so far. */
export const endings = (borrowers: ReadonlyArray<{ readonly fiber: Fiber.Fiber<unknown, unknown> }>) =>
  borrowers.map(({ fiber }) => ending(fiber.pollUnsafe()))
