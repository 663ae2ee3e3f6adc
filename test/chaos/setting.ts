/** The pool of a run: what its options are, some of them drawn, and what these promise. */
import { Effect, Random, Schedule } from "effect"
import { type PoolError, RecyclePolicy } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import type { SqlError } from "effect/sql/SqlError"
import { oneOf } from "./chance.ts"

export const fibers = 50
export const role = "chaos"

/** Milliseconds. */
export const limits = {
  borrowTimeout: 1000,
  connectTimeout: 1000,
  openTimeout: 2000,
  checkAfter: 250,
  checkTimeout: 500,
  resetTimeout: 1000,
  closeTimeout: 1000,
  drainTimeout: 2000,
  /** After that an operation is interrupted by whoever runs it; later than the end of any borrow. */
  operation: 6000,
  /** The longest delay of the retry, with its jitter. */
  retryDelay: 1200,
  /** The pool's own delay before it opens again what has ended as soon as it was open, at its longest. */
  refillDelay: 5000,
  /** How long a healthy lease of this work lasts at most, about. */
  lease: 400,
  /** How long the driver waits for the end of an interrupted statement before it gives the session up. */
  cancel: 5000,
  /** For what the server and the network of a slow machine take; the stalls of this process are measured. */
  margin: 2000,
  /** For a borrow: its end needs nothing but this process. */
  borrowMargin: 1000
} as const

const retry: Schedule.Schedule<unknown, SqlError | PoolError.PoolError> = Schedule.min([
  Schedule.exponential("50 millis", 2),
  Schedule.spaced("1 second")
]).pipe(
  Schedule.jittered,
  Schedule.setInputType<SqlError | PoolError.PoolError>(),
  Schedule.while(({ input }) => PgQueuePool.isTransient(input))
)

export interface Setting {
  readonly max: number
  readonly min: number
  readonly minIdle: number
  readonly order: "lifo" | "fifo" | "hybrid"
  readonly multiplex: boolean
  readonly reset: "rollback" | "discard"
  readonly openConcurrency: number
  readonly replaceTimeout: number
  readonly maxLease: number
  readonly prepare: boolean
}

export const draw: Effect.Effect<Setting> = Effect.gen(function*() {
  return {
    max: yield* Random.nextIntBetween(5, 10),
    min: yield* Random.nextIntBetween(0, 3),
    minIdle: yield* oneOf([0, 0, 2]),
    order: yield* oneOf(["lifo", "fifo", "hybrid"]),
    multiplex: yield* oneOf([false, false, true]),
    reset: yield* oneOf(["rollback", "discard"]),
    openConcurrency: yield* oneOf([1, 2, 4]),
    replaceTimeout: yield* oneOf([0, 1000]),
    maxLease: yield* oneOf([Infinity, Infinity, 2500]),
    prepare: yield* oneOf([true, true, false])
  }
})

export const describe = (setting: Setting): string =>
  Object.entries(setting).map(([name, value]) => `${name} ${value}`).join(", ")

export const optionsOf = ({ maxLease, ...setting }: Setting) => ({
  ...setting,
  ...(maxLease === Infinity ? {} : { maxLease }),
  name: "chaos",
  borrowTimeout: limits.borrowTimeout,
  connectTimeout: limits.connectTimeout,
  openTimeout: limits.openTimeout,
  checkAfter: limits.checkAfter,
  checkTimeout: limits.checkTimeout,
  resetTimeout: limits.resetTimeout,
  closeTimeout: limits.closeTimeout,
  drainTimeout: limits.drainTimeout,
  retry,
  retireOver: "1 second",
  recycle: [RecyclePolicy.age("8 seconds", { jitter: 0.5 }), RecyclePolicy.uses(500), RecyclePolicy.idle("2 seconds")]
} as const)

/** A borrow has ended, in whatever way, within this time, stalls not counted. */
export const borrowBound = limits.borrowTimeout + limits.borrowMargin

/**
 * After the last fault has ended, a borrow and a `select 1` succeed within this time.
 *
 * Two things go on side by side that the fault may have left. Leases hold items whose
 * statements hang: until the operation's own timeout, the driver's wait for the end of
 * the statement, the reset, and the release that frees the slot. And the road of opens
 * is at work on an open that began during the fault, or in the longest delay that it can
 * have. Then a session is opened, or an idle one is checked; and before the probe in the
 * queue stand at most all fibers, each with a lease of the usual length.
 */
export const recoveryBound = ({ max }: Setting): number =>
  Math.max(
    limits.operation + limits.cancel + limits.resetTimeout + limits.closeTimeout,
    limits.openTimeout + Math.max(limits.retryDelay, limits.refillDelay)
  ) + limits.openTimeout + limits.checkTimeout + Math.ceil(fibers / max) * limits.lease + limits.margin

/**
 * An operation has ended within this time: its own timeout, the borrow that it may
 * begin with being part of it; then the end of an interrupted statement, and that of a
 * ROLLBACK after it, on a session that was not heard of for as long as a fault lasts.
 */
export const operationBound = (longestFault: number): number =>
  limits.operation + 2 * limits.cancel + longestFault + limits.closeTimeout + limits.margin

/** Closing the pool has ended within this time. */
export const closeBound = limits.drainTimeout + limits.closeTimeout + limits.margin
