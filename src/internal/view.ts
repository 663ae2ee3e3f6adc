// What a client makes of a pool's failures.
import * as Cause from "effect/Cause"
import { hasProperty } from "effect/Predicate"
import type { PoolError } from "../PoolError.ts"

/** What a client makes of a pool. */
export interface View<A, P> {
  /** What a borrower is told instead. */
  readonly error: (error: PoolError) => P
  /** What was done in `use` has failed; the item is not given back yet. */
  readonly failed: (item: A, cause: Cause.Cause<unknown>) => void
}

/** What a client is told of a failure that may hold the errors of pools. */
export const seenCause = <A>(view: View<A, unknown>, cause: Cause.Cause<unknown>): Cause.Cause<unknown> =>
  Cause.map(cause, (error) => isPoolError(error) ? view.error(error) : error)

export const isPoolError = (u: unknown): u is PoolError => hasProperty(u, "_tag") && u._tag === "PoolError"
