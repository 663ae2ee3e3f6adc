/** How an operation ended, in one word, and whether it may end so. */
import { Cause, Data, Exit } from "effect"
import { PoolError } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { SqlError } from "effect/sql/SqlError"

/** What a borrower of this work fails with by its own will. */
export class Left extends Data.TaggedError("Left") {}

/** What a pool must never do to its borrower. */
export class Wronged extends Data.TaggedError("Wronged")<{ readonly message: string }> {}

export interface Outcome {
  readonly name: string
  /** Undefined when the operation may end so. */
  readonly wrong: string | undefined
}

const fine = (name: string): Outcome => ({ name, wrong: undefined })

/** The reasons of the pool with which this work may meet. */
const reasons = new Set(["BorrowTimeout", "OpenTimeout", "LeaseEnded"])

const ofPool = ({ message, reason }: PoolError.PoolError): Outcome =>
  reasons.has(reason._tag) ? fine(reason._tag) : { name: reason._tag, wrong: message }

const ofSql = (error: SqlError): Outcome => {
  const { cause } = error.reason
  if (cause instanceof PoolError.PoolError) return ofPool(cause)
  const state = PgQueuePool.sqlState(error)
  return fine(state === undefined ? error.reason._tag : `SQLSTATE ${state}`)
}

const ofError = (error: unknown): Outcome => {
  if (error instanceof SqlError) return ofSql(error)
  if (error instanceof PoolError.PoolError) return ofPool(error)
  if (Cause.isTimeoutError(error)) return fine("timeout")
  if (error instanceof Left) return fine("left")
  if (error instanceof Wronged) return { name: "wronged", wrong: error.message }
  return { name: "unknown", wrong: String(error) }
}

/** `interrupted` says whether somebody did. */
export const outcomeOf = (exit: Exit.Exit<unknown, unknown>, interrupted: boolean): Outcome => {
  if (Exit.isSuccess(exit)) return fine("ok")
  const { cause } = exit
  if (Cause.hasDies(cause)) return { name: "defect", wrong: Cause.pretty(cause) }
  // Of several the first wrong one, or else the first.
  const outcomes = cause.reasons.filter(Cause.isFailReason).map(({ error }) => ofError(error))
  const told = outcomes.find(({ wrong }) => wrong !== undefined) ?? outcomes[0]
  if (told !== undefined) return told
  return interrupted ? fine("interrupted") : { name: "interrupted", wrong: "interrupted by nobody" }
}
