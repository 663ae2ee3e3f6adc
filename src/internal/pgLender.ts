// Borrowing from whichever of several pools serves, as far as is known at the moment:
// what a borrower waits for may come to be elsewhere while it waits.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { BorrowTimeout, Closed, type Counts, PoolError } from "../PoolError.ts"
import type { QueuePool } from "../QueuePool.ts"
import type { Endpoint } from "./balanceEndpoint.ts"
import type { Fleet } from "./balanceFleet.ts"
import { countsOf, noCounts } from "./counts.ts"
import { monotonicMillis } from "./monotonic.ts"
import type { Roles } from "./pgRoles.ts"

/** The part of a pool that a client needs, and that a role has. */
export interface Lends<A, E> {
  readonly get: Effect.Effect<A, E | PoolError, Scope.Scope>
  use<B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2>
  readonly getExclusive: Effect.Effect<A, E | PoolError, Scope.Scope>
  useExclusive<B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2>
}

export interface Lending<A, E> {
  readonly name: string
  readonly roles: Roles
  readonly pools: ReadonlyMap<string, QueuePool<A, E>>
  /** Milliseconds. */
  readonly borrowTimeout: number
  /** The nodes that serve now, and the choice among them. */
  readonly fleet: Fleet<string>
  /** What is missing when none serves. */
  readonly missing: string
}

/** Told as the last failure of a borrower that no node served. */
class NotServed extends Data.TaggedError("NotServed")<{ readonly message: string }> {}

interface Borrow<A, E> {
  readonly lending: Lending<A, E>
  /** Where the item is lent to. */
  readonly scope: Scope.Scope
  readonly exclusive: boolean
  readonly since: number
  readonly now: () => number
}

const timedOut = <A, E>({ lending, now, since }: Borrow<A, E>, counts: Counts) =>
  new PoolError({
    pool: lending.name,
    reason: new BorrowTimeout({
      waited: now() - since,
      phase: "waiting",
      counts,
      own: 0,
      oldestLease: undefined,
      lastFailure: Cause.fail(new NotServed({ message: `${lending.missing}: ${lending.roles.describe()}` })),
      capacity: undefined
    })
  })

/** Waits until this holds, and tells whether it came to in time. */
const waitFor = <A, E>({ lending, now, since }: Borrow<A, E>, test: () => boolean): Effect.Effect<boolean> => {
  const wait = lending.roles.until(test)
  const left = since + lending.borrowTimeout - now()
  return left === Infinity ? Effect.as(wait, true) : Effect.map(Effect.timeoutOption(wait, left), Option.isSome)
}

/** Gives `undefined` when the node ceased to serve first; fails when the time is over. */
const lendFrom = Effect.fnUntraced(function*<A, E>(
  borrow: Borrow<A, E>,
  endpoint: Endpoint<string>,
  own: Scope.Scope,
  first: boolean
): Effect.fn.Return<Option.Option<A>, E | PoolError> {
  const { exclusive, lending: { pools, roles } } = borrow
  const pool = pools.get(endpoint.key)!
  if (!exclusive) {
    const item = yield* Scope.provide(pool.getIfAvailable, own)
    if (Option.isSome(item)) return item
  }
  const left = () => roles.closed || endpoint.gone
  // At first the pool's own limit is the same, and its error tells more.
  const moved = first ? Effect.as(roles.until(left), true) : waitFor(borrow, left)
  return yield* Effect.raceFirst(
    Effect.asSome(Scope.provide(exclusive ? pool.getExclusive : pool.get, own)),
    Effect.flatMap(moved, (moved) =>
      moved
        ? Effect.succeedNone
        : Effect.flatMap(pool.stats, (stats) => Effect.fail(timedOut(borrow, countsOf(stats)))))
  )
})

/**
 * In a scope of its own: an item that comes in the moment in which the node ceases to
 * serve goes back. What the borrower costs the node ends with that scope.
 */
const attempt = <A, E>(
  borrow: Borrow<A, E>,
  endpoint: Endpoint<string>,
  first: boolean
): Effect.Effect<Option.Option<A>, E | PoolError> =>
  Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const { lending: { fleet }, now, scope } = borrow
    const since = now()
    endpoint.load++
    const own = yield* Scope.fork(scope)
    yield* Scope.addFinalizer(
      own,
      Effect.sync(() => {
        endpoint.load--
        fleet.forget(endpoint)
      })
    )
    const exit = yield* Effect.exit(restore(lendFrom(borrow, endpoint, own, first)))
    if (Exit.isFailure(exit) || Option.isNone(exit.value)) yield* Scope.close(own, exit)
    else yield* Scope.addFinalizer(own, Effect.sync(() => endpoint.observe(now() - since, now())))
    return yield* exit
  }))

const lend = Effect.fnUntraced(function*<A, E>(
  lending: Lending<A, E>,
  exclusive: boolean
): Effect.fn.Return<A, E | PoolError, Scope.Scope> {
  const { fleet, name, roles } = lending
  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const random = yield* Random.Random
  const now = () => monotonicMillis(clock)
  const borrow: Borrow<A, E> = { lending, scope, exclusive, since: now(), now }
  // Nodes that could do nothing for this borrower.
  const failed = new Map<Endpoint<string>, Cause.Cause<E | PoolError>>()
  for (let first = true;; first = false) {
    if (roles.closed) return yield* new PoolError({ pool: name, reason: new Closed() })
    const next = fleet.next(failed, now(), () => random.nextDoubleUnsafe(), false)
    if (next !== undefined) {
      const exit = yield* Effect.exit(attempt(borrow, next.endpoint, first))
      if (Exit.isFailure(exit)) {
        if (isFinal(exit.cause)) return yield* Effect.failCause(exit.cause)
        failed.set(next.endpoint, exit.cause)
        next.endpoint.fault(now())
      } else {
        const item: Option.Option<A> = exit.value
        if (Option.isSome(item)) return item.value
      }
    } else {
      const [endpoint] = fleet.all
      if (endpoint !== undefined) return yield* Effect.failCause(failed.get(endpoint)!)
      const served = yield* waitFor(borrow, () => roles.closed || fleet.all.length > 0)
      if (!served) return yield* timedOut(borrow, { ...noCounts, waiting: 1 })
    }
  }
})

/** Where an open failed, or too many wait, another node may do better. */
const elsewhere = new Set(["OpenTimeout", "OpenInterrupted", "TooManyWaiters"])

const isFinal = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) =>
    Cause.isFailReason(reason) && reason.error instanceof PoolError && !elsewhere.has(reason.error.reason._tag)
  )

/** The scope is the lease's alone: what `f` needs a scope for has that of its caller. */
const using = <A, E, B, E2, R2>(
  get: Effect.Effect<A, E, Scope.Scope>,
  f: (item: A) => Effect.Effect<B, E2, R2>
): Effect.Effect<B, E | E2, R2> => Effect.scopedWith((scope) => Effect.flatMap(Scope.provide(get, scope), f))

export const makeLender = <A, E>(lending: Lending<A, E>): Lends<A, E> => {
  const get = lend(lending, false)
  const getExclusive = lend(lending, true)
  return {
    get,
    getExclusive,
    use: (f) => using(get, f),
    useExclusive: (f) => using(getExclusive, f)
  }
}
