// What PostgreSQL's SQLSTATEs and the errors of sockets mean to a pool, as data.
import * as Cause from "effect/Cause"
import { hasProperty } from "effect/Predicate"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type { PoolError } from "../PoolError.ts"
import { unreachable } from "./unreachable.ts"
import { isPoolError } from "./view.ts"

export interface Row {
  /** Five characters; a class is two of them and three stars. */
  readonly state: string
  readonly means: string
  /** What happens to a session whose lease fails with it. */
  readonly session: "keep" | "recycle" | "recycle, with older"
  /** What happens to an open that fails with it. */
  readonly opening: "retry" | "tell"
}

const row = (
  state: string,
  means: string,
  session: Row["session"],
  opening: Row["opening"]
): Row => ({ state, means, session, opening })

export const sqlStates: ReadonlyArray<Row> = [
  row("08***", "connection exception", "recycle", "retry"),
  row("08P01", "protocol violation", "recycle", "tell"),
  row("25006", "the server is read-only: it is a standby now", "recycle, with older", "tell"),
  row("25P03", "idle_in_transaction_session_timeout", "recycle", "tell"),
  row("25P04", "transaction_timeout", "recycle", "tell"),
  row("28***", "wrong user or password", "keep", "tell"),
  row("3D000", "no such database", "keep", "tell"),
  row("42501", "no permission to connect", "keep", "tell"),
  row("53***", "the server is short of something", "keep", "retry"),
  row("53300", "too many connections: of the server, the role or the database", "keep", "retry"),
  row("57P01", "terminated by an administrator, or by a shutdown", "recycle", "retry"),
  row("57P02", "ended by the crash of another session", "recycle", "retry"),
  row("57P03", "the server starts up, shuts down or recovers", "recycle", "retry"),
  row("57P04", "the database was dropped", "recycle", "tell"),
  row("57P05", "idle_session_timeout", "recycle", "retry")
]

const byState = new Map(sqlStates.map((one) => [one.state, one]))

const lookup = (state: string): Row | undefined => byState.get(state) ?? byState.get(`${state.slice(0, 2)}***`)

/** What the server said, where an error or one of its causes is a server's answer. */
interface Answer {
  readonly code: string
  readonly severity: string
}

const isAnswer = (u: unknown): u is Answer =>
  hasProperty(u, "code") && typeof u.code === "string" && u.code.length === 5 &&
  hasProperty(u, "severity") && typeof u.severity === "string"

// Errors wrap errors, a few times at most.
const depth = 8

function* causes(error: unknown): Iterable<unknown> {
  for (let left = depth; left > 0 && typeof error === "object" && error !== null; left--) {
    yield error
    error = hasProperty(error, "reason") && typeof error.reason === "object"
      ? error.reason
      : hasProperty(error, "cause")
      ? error.cause
      : undefined
  }
}

const answerOf = (error: unknown): Answer | undefined => {
  for (const one of causes(error)) if (isAnswer(one)) return one
  return undefined
}

export const sqlStateOf = (error: unknown): string | undefined => answerOf(error)?.code

/** Users of SqlClient know one error. */
export const toSqlError = (error: PoolError): SqlError =>
  new SqlError({ reason: new ConnectionError({ cause: error, message: error.message, operation: "borrow" }) })

/** The session is lost, or will not be good again. */
const endsSession = (error: unknown): boolean => {
  const answer = answerOf(error)
  // The server closes the session after a fatal error, whatever its code.
  if (answer !== undefined) {
    return answer.severity === "FATAL" || answer.severity === "PANIC" || verdict(answer) !== "keep"
  }
  let lost = false
  for (const one of causes(error)) {
    // A pool that had no item to lend says nothing about an item that it lent.
    if (isPoolError(one)) return false
    lost ||= one instanceof SqlError && one.reason._tag === "ConnectionError"
  }
  return lost
}

const verdict = ({ code }: Answer): Row["session"] => lookup(code)?.session ?? "keep"

// Also defects: a rollback that cannot be sent is one.
const some = (cause: Cause.Cause<unknown>, test: (error: unknown) => boolean): boolean =>
  cause.reasons.some((reason) =>
    Cause.isFailReason(reason) ? test(reason.error) : Cause.isDieReason(reason) && test(reason.defect)
  )

export const isDisconnect = (cause: Cause.Cause<unknown>): boolean => some(cause, endsSession)

export const isFailover = (cause: Cause.Cause<unknown>): boolean =>
  some(cause, (error) => {
    const answer = answerOf(error)
    return answer !== undefined && verdict(answer) === "recycle, with older"
  })

/** An open that failed so may succeed later, without anyone changing the program or the server's settings. */
export const isTransient = (error: unknown): boolean => {
  if (isPoolError(error)) return error.reason._tag === "OpenTimeout"
  const answer = answerOf(error)
  if (answer !== undefined) return lookup(answer.code)?.opening === "retry"
  if (!(error instanceof SqlError) || error.reason._tag !== "ConnectionError") return false
  const { cause } = error.reason
  if (hasProperty(cause, "code") && typeof cause.code === "string") return unreachable.has(cause.code)
  // The driver's own words, which have no code.
  return cause instanceof Error && /^Connection (timed out|closed unexpectedly)$/.test(cause.message)
}
