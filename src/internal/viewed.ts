// A pool as a client sees it: its errors are the client's own, and the client is told
// of what fails in `use`. Where the pool is one of ours, neither costs a step.
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { PoolError } from "../PoolError.ts"
import { Borrowing, type Host } from "./borrowing.ts"
import type { Holder } from "./item.ts"
import { behind } from "./registered.ts"
import { seenCause, type View } from "./view.ts"

/** The part of a pool that a client needs. `P` is what it says itself. */
export interface Lends<A, E, P = PoolError> {
  readonly getExclusive: Effect.Effect<A, E | P, Scope.Scope>
  use<B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | P | E2, R2>
  useExclusive<B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | P | E2, R2>
}

/** Of a pool of ours. */
export interface OwnView<A, E, P> extends Lends<A, E, P> {
  /** `use`, begun by a fiber: it has to run what is returned next, and once. */
  useIn<B, E2, R2>(fiber: Holder, f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | P | E2, R2>
}

/** Undefined where the pool is not one of ours. What one of ours lends is lent to the fiber that borrows. */
export const ownView = <A, E, P>(pool: Lends<A, E>, view: View<A, P>): OwnView<A, E, P> | undefined => {
  const own = behind(pool)
  // Its errors are what `view` makes of them.
  return own === undefined ? undefined : new Borrowing<A, E, unknown>(own as Host<A, unknown>, view) as never
}

export const viewOf = <A, E, P>(pool: Lends<A, E>, view: View<A, P>): Lends<A, E, P> => {
  const own = ownView(pool, view)
  if (own !== undefined) return own
  const seen = <B, E2, R>(effect: Effect.Effect<B, E2, R>) =>
    Effect.catchCause(effect, (cause) => Effect.failCause(seenCause(view, cause) as Cause.Cause<E | P>))
  const heard = <B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): typeof f => (item) =>
    Effect.onExitPrimitive(f(item), (exit) => {
      if (Exit.isFailure(exit)) view.failed(item, exit.cause)
      return undefined
    })
  return {
    getExclusive: seen(pool.getExclusive),
    use: (f) => seen(pool.use(heard(f))),
    useExclusive: (f) => seen(pool.useExclusive(heard(f)))
  }
}
