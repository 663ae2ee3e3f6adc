// Several items, all or none, of one pool or of several. They are first reserved: each
// is lent and nobody has it, so that one that is lost meanwhile is waited for again,
// and those of a group that fails come back unused. When all are there they are given,
// in one step.
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { PoolError } from "../PoolError.ts"
import { type Borrower, type Holder, type Lease, reasonOf } from "./item.ts"
import { type Evaluated, operation } from "./operation.ts"
import type { Site } from "./site.ts"

/** The pool as a group sees it. */
interface Reserves<A, E> {
  readonly reserve: (fiber: Holder, group: number) => Borrower<A>
  readonly wait: (borrowers: ReadonlyArray<Borrower<A>>) => Effect.Effect<void, E | PoolError>
  readonly ready: (borrower: Borrower<A>) => Effect.Effect<void> | undefined
  readonly begin: (borrower: Borrower<A>) => Lease<A>
  readonly abandon: (borrower: Borrower<A>, why: string) => void
  readonly scopeTo: (scope: Scope.Scope, lease: Lease<A>) => void
}

const GroupOperation = operation(function(fiber) {
  return this.start(fiber)
})

/** Ends when all are reserved; run again, it waits for those that were lost. */
export class Group<A, E> extends GroupOperation<void, E | PoolError, never>
  implements Evaluated<void, E | PoolError, never>
{
  private readonly pool: Reserves<A, E>
  private readonly size: number
  private readonly site: Site | undefined
  private readonly borrowers: Array<Borrower<A>> = []

  constructor(pool: Reserves<A, E>, size: number, site: Site | undefined) {
    super()
    this.pool = pool
    this.size = size
    this.site = site
  }

  start(fiber: Holder): Effect.Effect<void, E | PoolError> {
    const { borrowers, pool, size } = this
    // Also when one is refused: a borrowing of so many counts as so many.
    while (borrowers.length < size) borrowers.push(pool.reserve(fiber, size))
    return this.next()
  }

  private next(): Effect.Effect<void, E | PoolError> {
    const { borrowers, pool } = this
    for (const borrower of borrowers) {
      if (borrower.lease === undefined || borrower.refusal !== undefined) {
        return Effect.flatMap(pool.wait(borrowers), () => this.next())
      }
    }
    for (const borrower of borrowers) {
      if (borrower.ready) continue
      const hook = pool.ready(borrower)
      if (hook !== undefined) return Effect.flatMap(hook, () => this.next())
      if (!borrower.ready) return this.next()
    }
    return Effect.void
  }

  /** All are reserved, and none was lost since. */
  get held(): boolean {
    return this.borrowers.every(({ lease, ready, refusal }) => lease !== undefined && ready && refusal === undefined)
  }

  begin(): ReadonlyArray<Lease<A>> {
    return this.borrowers.map((borrower) => this.pool.begin(borrower))
  }

  give(scope: Scope.Scope, leases: ReadonlyArray<Lease<A>>): Array<A> {
    return leases.map((lease) => {
      const { value } = lease.item
      lease.site = this.site
      this.pool.scopeTo(scope, lease)
      return value
    })
  }

  /** Unless all were given. Those that wait leave first: nothing is handed to them any more. */
  leave(): void {
    const { borrowers } = this
    const refusal = borrowers.find((borrower) => borrower.refusal !== undefined)?.refusal
    const why = refusal === undefined ? "Interrupted" : reasonOf(refusal)
    for (const borrower of borrowers) if (borrower.lease === undefined) this.pool.abandon(borrower, why)
    // All others, and who has lost its item because one left.
    for (const borrower of borrowers) this.pool.abandon(borrower, why)
  }
}

/** The items of all the groups, for a scope. Each group is asked when the one before has all of its own. */
export const taken = <A, E>(
  scope: Scope.Scope,
  groups: ReadonlyArray<Group<A, E>>
): Effect.Effect<ReadonlyArray<Array<A>>, E | PoolError> => {
  const all = groups.length === 1 ? groups[0]! : Effect.forEach(groups, (group) => group, { discard: true })
  const give: Effect.Effect<ReadonlyArray<Array<A>>, E | PoolError> = Effect.flatMap(all, () => {
    // One that was lost while others were waited for is waited for again.
    if (!groups.every(({ held }) => held)) return give
    // All before one is given: in a scope that is closed already each comes back at once.
    const leases = groups.map((group) => group.begin())
    return Effect.succeed(groups.map((group, i) => group.give(scope, leases[i]!)))
  })
  return Effect.onExitPrimitive(give, () => {
    for (const group of groups) group.leave()
    return undefined
  })
}
