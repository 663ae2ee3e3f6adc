/**
 * Why a pool could not lend, or could not be made.
 *
 * @since 1.0.0
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Formatter from "effect/Formatter"
import { hasProperty } from "effect/Predicate"

/**
 * How many items a pool has in each state, and how many borrowers wait, at one
 * moment. `idle + lent + opening + closing` never exceeds `max`, but for what was more
 * when `max` was made smaller.
 *
 * @category models
 * @since 1.0.0
 */
export interface Counts {
  readonly idle: number
  /** Lent to a borrower, or being checked or reset on the way to one. */
  readonly lent: number
  readonly opening: number
  readonly closing: number
  /** Leases that run: more than items lent, where several borrowers share one. */
  readonly leases: number
  readonly waiting: number
  readonly min: number
  readonly max: number
}

/**
 * A lease that is still running: how long, in milliseconds, and by whom. `by` is
 * the name of the borrower's span, or its fiber when it has none.
 *
 * @category models
 * @since 1.0.0
 */
export interface Holder {
  readonly held: number
  readonly by: string
}

/**
 * One wrong option: its name, the value that was given, and what is allowed.
 *
 * @category models
 * @since 1.0.0
 */
export interface Problem {
  readonly option: string
  readonly value: unknown
  readonly allowed: string
}

/**
 * No item within the borrow timeout.
 *
 * **Details**
 *
 * `waited` is in milliseconds. `phase` is what the borrower was waiting for when
 * its time ended: its turn, an item being opened, an item being checked, the end
 * of a suspension, or a permit of the `capacity` that the pool shares with others. `own` is how many items the borrower's own fiber holds: a fiber
 * that holds some and asks for more may be waiting for itself. `lastFailure` is the
 * cause of the last failed open since one succeeded.
 *
 * @category errors
 * @since 1.0.0
 */
export class BorrowTimeout extends Data.TaggedClass("BorrowTimeout")<{
  readonly waited: number
  readonly phase: "waiting" | "parked" | "opening" | "checking" | "suspended"
  readonly counts: Counts
  readonly own: number
  readonly oldestLease: Holder | undefined
  readonly lastFailure: Cause.Cause<unknown> | undefined
  /** Where the pool waited for a permit: how many are in use, and how many there are. */
  readonly capacity: { readonly name: string; readonly used: number; readonly permits: number } | undefined
}> {}

/**
 * As many borrowers as `maxWaiters` allows are waiting already.
 *
 * @category errors
 * @since 1.0.0
 */
export class TooManyWaiters extends Data.TaggedClass("TooManyWaiters")<{
  readonly maxWaiters: number
  readonly counts: Counts
}> {}

/**
 * The pool's scope is closing or closed.
 *
 * @category errors
 * @since 1.0.0
 */
export class Closed extends Data.TaggedClass("Closed") {}

/**
 * The pool is suspended, and its option `whenSuspended` is `"fail"`.
 *
 * @category errors
 * @since 1.0.0
 */
export class Suspended extends Data.TaggedClass("Suspended") {}

/**
 * The lease was ended from outside, after it had been `held` for so many
 * milliseconds: it was longer than `maxLease`, or the item's `monitor` told that the
 * item has died, with `cause` if that failed. The item is recycled.
 *
 * @category errors
 * @since 1.0.0
 */
export class LeaseEnded extends Data.TaggedClass("LeaseEnded")<{
  readonly why: "maxLease" | "died"
  readonly held: number
  readonly cause: Cause.Cause<unknown> | undefined
}> {}

/**
 * The `onBorrow` hook failed, or took longer than `checkTimeout` or than was left of the
 * borrower's time. The item that it was run on is recycled.
 *
 * @category errors
 * @since 1.0.0
 */
export class HookFailed extends Data.TaggedClass("HookFailed")<{
  readonly hook: "onBorrow"
  readonly cause: Cause.Cause<unknown>
}> {}

/**
 * The open that was for this borrower took longer than `openTimeout`, given here
 * in milliseconds.
 *
 * @category errors
 * @since 1.0.0
 */
export class OpenTimeout extends Data.TaggedClass("OpenTimeout")<{
  readonly openTimeout: number
}> {}

/**
 * The open that was for this borrower was interrupted, and not by the pool: its
 * `acquire` interrupts itself.
 *
 * @category errors
 * @since 1.0.0
 */
export class OpenInterrupted extends Data.TaggedClass("OpenInterrupted") {}

/**
 * The pool was given options that it cannot work with; every one of them is
 * listed.
 *
 * @category errors
 * @since 1.0.0
 */
export class InvalidOptions extends Data.TaggedClass("InvalidOptions")<{
  readonly problems: ReadonlyArray<Problem>
}> {}

/**
 * None of several endpoints has lent an item, to a borrower that was with them for
 * `waited` milliseconds.
 *
 * **Details**
 *
 * `tried` are those it was with, in this order, each with what it failed with: an error of
 * `acquire` or a `PoolError`, which is a `BorrowTimeout` also where the borrower gave an
 * endpoint up that lent nothing to anyone. `untried` are the others, for which no time was
 * left.
 *
 * @category errors
 * @since 1.0.0
 */
export class NoEndpoint extends Data.TaggedClass("NoEndpoint")<{
  readonly waited: number
  readonly tried: ReadonlyArray<{ readonly endpoint: string; readonly cause: Cause.Cause<unknown> }>
  readonly untried: ReadonlyArray<string>
}> {}

/**
 * Everything that a `PoolError` can tell.
 *
 * @category errors
 * @since 1.0.0
 */
export type Reason =
  | BorrowTimeout
  | TooManyWaiters
  | Closed
  | Suspended
  | LeaseEnded
  | HookFailed
  | OpenTimeout
  | OpenInterrupted
  | InvalidOptions
  | NoEndpoint

/**
 * The error of every pool operation that fails for the pool's own reasons. The
 * error of `acquire` is never wrapped in it, but in `NoEndpoint`, which tells of several.
 *
 * **When to use**
 *
 * Use `Effect.catchReason("PoolError", "BorrowTimeout", ...)` to handle one
 * reason, or `Effect.catchTag("PoolError", ...)` for all of them.
 *
 * **Example** (Handling one reason)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { PoolError } from "effect-queuepool"
 *
 * const failed = Effect.fail(new PoolError.PoolError({ pool: "db", reason: new PoolError.Closed() }))
 * const handled = Effect.catchReason(failed, "PoolError", "Closed", () => Effect.succeed("the pool is closed"))
 *
 * Effect.runSync(handled) // => "the pool is closed"
 * ```
 *
 * @category errors
 * @since 1.0.0
 */
export class PoolError extends Data.TaggedError("PoolError")<{
  readonly pool: string
  readonly reason: Reason
}> {
  /**
   * A sentence with the state in it, made when it is asked for: ten thousand
   * borrowers can time out at once.
   */
  override get message(): string {
    return describe(this.pool, this.reason)
  }
}

const describe = (pool: string, reason: Reason): string => {
  switch (reason._tag) {
    case "BorrowTimeout":
      return `BorrowTimeout: no item of "${pool}" within ${duration(reason.waited)} (${facts(reason).join(", ")}${
        reason.lastFailure === undefined ? "" : `; last open failed: ${failure(reason.lastFailure)}`
      })`
    case "TooManyWaiters":
      return `TooManyWaiters: "${pool}" has ${reason.counts.waiting} waiting, maxWaiters is ${reason.maxWaiters} (${
        lent(reason.counts)
      })`
    case "Closed":
      return `Closed: "${pool}" is closed`
    case "Suspended":
      return `Suspended: "${pool}" is suspended`
    case "LeaseEnded":
      return `LeaseEnded: the item of "${pool}" ${
        reason.why === "died" ? "died" : "was taken back: maxLease is over"
      }, after ${duration(reason.held)} of this lease${reason.cause === undefined ? "" : `: ${failure(reason.cause)}`}`
    case "HookFailed":
      return `HookFailed: ${reason.hook} of "${pool}" failed: ${failure(reason.cause)}`
    case "OpenTimeout":
      return `OpenTimeout: an item of "${pool}" was not open within ${duration(reason.openTimeout)}`
    case "OpenInterrupted":
      return `OpenInterrupted: opening an item of "${pool}" was interrupted, by its own doing`
    case "InvalidOptions":
      return `InvalidOptions: "${pool}" does not take these options: ${reason.problems.map(problem).join("; ")}`
    case "NoEndpoint":
      return `NoEndpoint: ${endpoints(pool, reason)}`
  }
}

/** Of more, a sentence tells the first only. */
const manyEndpoints = 5

const endpoints = (pool: string, { tried, untried, waited }: NoEndpoint): string => {
  if (tried.length + untried.length === 0) return `"${pool}" has no endpoints`
  const told = tried.slice(0, manyEndpoints).map(({ cause, endpoint }) => `"${endpoint}" (${failure(cause)})`)
  if (tried.length > manyEndpoints) told.push(`${tried.length - manyEndpoints} more`)
  const left = untried.length === 0 ? "" : `; no time was left for ${untried.length} more`
  return `no endpoint of "${pool}" has lent an item within ${duration(waited)}: ${told.join(", ")}${left}`
}

const lent = (counts: Counts): string => `${counts.lent}/${counts.max} lent`

const facts = (reason: BorrowTimeout): ReadonlyArray<string> => {
  const { counts, oldestLease } = reason
  const out = [lent(counts)]
  if (counts.opening > 0) out.push(`${counts.opening} opening`)
  if (counts.closing > 0) out.push(`${counts.closing} closing`)
  out.push(`${counts.waiting} waiting`)
  if (reason.phase === "suspended") out.push("the pool is suspended")
  else if (reason.phase === "parked") out.push(permits(reason.capacity!))
  else if (reason.phase !== "waiting") out.push(`this one for an item that was ${reason.phase}`)
  if (reason.own > 0) {
    const items = reason.own === 1 ? "1 item" : `${reason.own} items`
    out.push(
      // Also an item that is being checked or reset counts as lent, and will be free.
      reason.own >= counts.leases && reason.own >= counts.max
        ? `a nested borrow that cannot succeed: this fiber itself holds ${reason.own === 1 ? "it" : "all of them"}`
        : `this fiber itself holds ${items}`
    )
  }
  if (oldestLease !== undefined) out.push(`oldest lease ${duration(oldestLease.held)} by "${oldestLease.by}"`)
  return out
}

const permits = ({ name, permits, used }: NonNullable<BorrowTimeout["capacity"]>): string =>
  permits > 0
    ? `capacity "${name}" has all of its ${permits} permits out${used > permits ? ` and ${used - permits} more` : ""}`
    : `capacity "${name}" has no permits${used > 0 ? `, and ${used} out` : ""}`

// The value of what is not an option could be anything, a password too.
const problem = ({ allowed, option, value }: Problem): string =>
  allowed.startsWith(oneOfTheOptions)
    ? `${option} is not an option, allowed is ${allowed}`
    : `${option} is ${show(value)}, allowed is ${allowed}`

/** How `allowed` begins when the option itself is the problem. */
const oneOfTheOptions = "one of the options "

const show = (value: unknown): string => {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value)
    case "function":
      return "a function"
    case "object":
      // What holds more than numbers could hold a secret.
      return value === null || Object.values(value).every((part) => typeof part === "number")
        ? Formatter.format(value)
        : Array.isArray(value)
        ? "an array"
        : "an object"
    default:
      return String(value)
  }
}

// What failed, and why: drivers wrap the errors of sockets and servers.
const failure = (cause: Cause.Cause<unknown>): string => {
  const messages: Array<string> = []
  let error: unknown = Cause.squash(cause)
  for (let depth = 0; depth < 5 && error !== undefined && error !== null; depth++) {
    const message = failureOf(error)
    if (!messages.some((said) => said.includes(message))) messages.push(message)
    error = causeOf(error)
  }
  return messages.join(": ")
}

const failureOf = (error: unknown): string => {
  if (error instanceof Error && error.message !== "") return error.message
  return hasProperty(error, "_tag") ? String(error._tag) : error instanceof Error ? error.name : show(error)
}

const causeOf = (error: unknown): unknown =>
  hasProperty(error, "cause") ? error.cause : hasProperty(error, "reason") ? causeOf(error.reason) : undefined

const duration = (millis: number): string =>
  millis < 1000 ? `${Math.round(millis)}ms` : `${Math.round(millis / 100) / 10}s`
