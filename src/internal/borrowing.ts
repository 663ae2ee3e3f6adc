// A pool as its borrowers have it: what `get`, `use` and their like are, and what stands
// between a borrower and its item. What one of them does is in loan.ts.
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Closed, HookFailed, LeaseEnded, PoolError, Suspended } from "../PoolError.ts"
import type { Background } from "./background.ts"
import { Group, taken } from "./group.ts"
import type { Borrower, Holder, Item, Kind, Lease, Refusal } from "./item.ts"
import { addFinalizer } from "./lease.ts"
import {
  alone,
  begun,
  type Lender,
  mannerOf,
  type Plain,
  scoped,
  scopedIfAvailable,
  ScopedPlainly,
  sharing,
  Use,
  useIfAvailable
} from "./loan.ts"
import { tooLarge } from "./queue.ts"
import { here, hereInScope, type Site } from "./site.ts"
import type { PoolState } from "./state.ts"
import { seenCause, type View } from "./view.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/**
 * Begins the hook before a lease; `left` is what is left of the borrower's time. `done`
 * hears how it ended, perhaps at once. Returns what ends it unheard.
 */
type OnBorrow<A> = (item: Item<A>, left: number, done: (exit: AnyExit) => void) => () => void

/** The pool that is borrowed from. */
export interface Host<A, R> {
  readonly settings: { readonly leaseWarning: number; readonly maxLease: number }
  readonly effects: { readonly onBorrow: unknown; readonly monitor: unknown }
  readonly state: PoolState<A, R>
  readonly background: Background<R>
  readonly work: { onBorrow: OnBorrow<A> }
}

// Of leases whose scopes may be dropped. One for all pools: each would cost its pool more
// than all else that it has for leaks. Weak: nothing of a pool is to be kept by this.
const dropped = new FinalizationRegistry<WeakRef<Lease<unknown>>>((ref) => {
  const lease = ref.deref()
  if (lease?.active === true) lease.item.home.leaked(lease)
})

type Using<A, E> = <B, E2, R2>(
  f: (item: A) => Effect.Effect<B, E2, R2>
) => Effect.Effect<B, E | E2 | PoolError, R2>

export class Borrowing<A, E, R> implements Lender<A, E, R> {
  declare readonly state: PoolState<A, R>
  declare readonly onBorrow: OnBorrow<A> | undefined
  /** Hears of what fails in `use`, before the item is given back. */
  declare readonly failed: View<A, unknown>["failed"] | undefined
  /** A lease can be ended from outside: what `use` runs has a fiber of its own. */
  declare private readonly ends: boolean
  /** Somebody will ask where an item was borrowed. */
  declare private readonly traces: boolean
  declare private readonly background: Background<R>
  declare private readonly view: View<A, unknown> | undefined

  constructor(pool: Host<A, R>, view?: View<A, unknown>) {
    const { effects, settings } = pool
    this.view = view
    this.failed = view?.failed
    this.state = pool.state
    this.background = pool.background
    this.onBorrow = effects.onBorrow === undefined
      ? undefined
      : (item, left, done) => pool.work.onBorrow(item, left, done)
    this.ends = settings.maxLease < Infinity || effects.monitor !== undefined
    this.traces = settings.leaseWarning < Infinity || settings.maxLease < Infinity
  }

  // What has no state is made once, by the first who asks. Functions may be taken from their pool.
  private plain: Effect.Effect<A, E | PoolError, Scope.Scope> | undefined = undefined
  private plainAlone: Effect.Effect<A, E | PoolError, Scope.Scope> | undefined = undefined
  private plainIfAvailable: Effect.Effect<Option.Option<A>, PoolError, Scope.Scope> | undefined = undefined
  private plainUse: Using<A, E> | undefined = undefined
  private plainUseExclusive: Using<A, E> | undefined = undefined

  current(): this {
    return this
  }

  get queued(): boolean {
    return this.onBorrow === undefined && this.state.waiters.head !== undefined
  }

  get get(): Effect.Effect<A, E | PoolError, Scope.Scope> {
    if (this.traces) return scoped(this, mannerOf("shared", hereInScope(2)))
    return this.plain ??= this.onBorrow === undefined ? new ScopedPlainly(this) : scoped(this, sharing)
  }

  get getExclusive(): Effect.Effect<A, E | PoolError, Scope.Scope> {
    return this.traces
      ? scoped(this, mannerOf("alone", hereInScope(2)))
      : this.plainAlone ??= scoped(this, alone)
  }

  get getIfAvailable(): Effect.Effect<Option.Option<A>, PoolError, Scope.Scope> {
    return this.traces
      ? scopedIfAvailable(this, hereInScope(2))
      : this.plainIfAvailable ??= scopedIfAvailable(this, undefined)
  }

  /**
   * Several items, all or none. They are asked for in one step and so stand together in the
   * queue: groups cannot block one another.
   */
  get getN(): (n: number) => Effect.Effect<Array<A>, E | PoolError, Scope.Scope> {
    return (n) => {
      const site = this.traces ? hereInScope(1) : undefined
      return Effect.withFiber((fiber) => {
        const { max } = this.state.settings
        if (!(Number.isInteger(n) && n >= 0 && n <= max)) return Exit.fail(this.error(tooLarge(n, max)))
        const scope = Context.getUnsafe(fiber.context, Scope.Scope)
        return Effect.map(taken(scope, [this.group(n, site)]), ([items]) => items!)
      })
    }
  }

  /** So many, reserved and then given in two steps. */
  group(n: number, site: Site | undefined): Group<A, E> {
    return new Group<A, E>(this, n, site)
  }

  /** A pool that will be asked where its items are, asks it here. */
  get site(): Site | undefined {
    return this.traces ? hereInScope(3) : undefined
  }

  get use(): Using<A, E> {
    return this.plainUse ??= this.traces
      ? (f) => new Use(this, mannerOf("shared", here(1)), f)
      : (f) => new Use(this, sharing, f)
  }

  /** `use`, begun by a fiber: it has to run what is returned next, and once. */
  useIn<B, E2, R2>(fiber: Holder, f: Plain<A, B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2> {
    return this.traces ? this.use(f) : begun<A, E, R, B, E2, R2>(this, sharing, f, fiber)
  }

  get useExclusive(): Using<A, E> {
    return this.plainUseExclusive ??= this.traces
      ? (f) => new Use(this, mannerOf("alone", here(1)), f)
      : (f) => new Use(this, alone, f)
  }

  get useIfAvailable(): <B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<Option.Option<B>, E2 | PoolError, R2> {
    return <B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>) => {
      return useIfAvailable(this, this.traces ? here(1) : undefined, f)
    }
  }

  /** Runs what `use` was given, where that may have to be ended in a fiber of its own. */
  run<B, E2, R2>(lease: Lease<A>, f: Plain<A, B, E2, R2>): Effect.Effect<B, E2 | PoolError, R2> {
    return this.ends ? this.within(lease, f) : f(lease.item.value)
  }

  /** In a fiber of its own, which can be interrupted alone. */
  private within<B, E2, R2>(
    lease: Lease<A>,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E2 | PoolError, R2> {
    const body = Effect.withFiber<B, E2 | PoolError, R2>((fiber) => {
      // It may have been ended between the two fibers.
      if (!lease.active) return Exit.fail(this.gone(lease))
      lease.fiber = fiber
      lease.by = fiber.id
      return f(lease.item.value)
    })
    const told = (exit: Exit.Exit<B, E2 | PoolError>): Exit.Exit<B, E2 | PoolError> => {
      const { ended } = lease
      if (ended === undefined || Exit.isSuccess(exit) || !Cause.hasInterrupts(exit.cause)) return exit
      const others = exit.cause.reasons.filter((reason) => !Cause.isInterruptReason(reason))
      return Exit.failCause(Cause.combine(Cause.fail(this.error(ended)), Cause.fromReasons(others)))
    }
    // The borrower itself goes on only when the body has ended, or the item would come
    // back while it is in use. What interrupts the borrower interrupts the body, there
    // where the borrower could have been interrupted.
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.forkChild(restore(body), { startImmediately: true, uninterruptible: true }),
        (fiber) => {
          const exit = fiber.pollUnsafe()
          if (exit !== undefined) return told(exit)
          const ended = Effect.catchCause(Effect.interruptible(Fiber.await(fiber)), ({ reasons }) => {
            for (const { fiberId } of reasons.filter(Cause.isInterruptReason)) fiber.interruptUnsafe(fiberId)
            return Fiber.await(fiber)
          })
          return Effect.flatMap(ended, told)
        }
      )
    )
  }

  /** Why a lease is over that its borrower has not even begun to use. */
  gone({ ended, since }: Lease<A>): PoolError {
    if (ended === undefined && this.state.closed) return this.error(new Closed())
    return this.error(
      ended ?? new LeaseEnded({ why: "died", held: this.background.now() - since, cause: undefined })
    )
  }

  leaseTo(scope: Scope.Scope, lease: Lease<A>): Effect.Effect<A> {
    this.scopeTo(scope, lease)
    return lease.given ??= Exit.succeed(lease.item.value)
  }

  scopeTo(scope: Scope.Scope, lease: Lease<A>): void {
    const release = lease.release ?? this.releaseOf(lease)
    lease.release = undefined
    // The scope is closed already: the lease ends at once, as the scope has.
    if (addFinalizer(scope, release)) return
    lease.release = release
    lease.giveBack((scope.state as Scope.State.Closed).exit)
  }

  // While the lease runs nothing of the pool holds this: it goes with its scope, and
  // that tells of a lease that nobody can end any more. No lease pays for it.
  private releaseOf(lease: Lease<A>): (exit: AnyExit) => Effect.Effect<void> {
    const release = (exit: AnyExit): Effect.Effect<void> => {
      if (lease.active) lease.release = release
      lease.giveBack(exit)
      return Effect.void
    }
    // By a weak reference: a lease that is over has this, and would never be collected.
    dropped.register(release, new WeakRef(lease))
    return release
  }

  lend(fiber: Holder, kind: Kind): Lease<A> | undefined {
    return kind === "available" ? this.state.lendIfAvailable(fiber) : this.state.lend(fiber, kind === "alone")
  }

  enqueue(fiber: Holder, kind: Kind, again?: Borrower<A>): Borrower<A> {
    return this.state.queue.enter(fiber, kind === "alone", 1, again)
  }

  reserve(fiber: Holder, group: number): Borrower<A> {
    return this.state.reserve(fiber, "alone", group)!
  }

  begin(borrower: Borrower<A>): Lease<A> {
    return this.state.begin(borrower)
  }

  /** The borrower goes without, unless its lease has begun. */
  abandon(borrower: Borrower<A>, why: string): void {
    if (borrower.lease !== undefined && !borrower.handed) return
    borrower.terms?.stop?.()
    this.state.abandon(borrower, why)
  }

  /**
   * What stands between being handed an item and having it: undefined when that is over
   * already. It ends also when the item is lost.
   */
  ready(borrower: Borrower<A>): Effect.Effect<void> | undefined {
    const { onBorrow } = this
    const lease = borrower.lease!
    if (onBorrow === undefined) {
      borrower.own.ready = true
      return undefined
    }
    let over = false
    borrower.own.touched = true
    const left = this.state.queue.deadline(borrower) - this.background.now()
    const stop = borrower.own.stop = onBorrow(lease.item, left, (exit) => {
      over = true
      // Its function may have called back into the pool.
      if (lease.handed !== borrower) return
      if (Exit.isSuccess(exit)) {
        borrower.own.ready = true
        this.state.waker.wake(borrower)
      } else {
        this.state.ending.doom(lease.item, "onBorrow failed", lease.since)
        this.state.refuseLent(borrower, {
          _tag: "Pool",
          reason: new HookFailed({ hook: "onBorrow", cause: exit.cause })
        })
      }
    })
    if (over) return undefined
    return Effect.callback((resume) => {
      const woken = (): void => {
        if (!over && lease.handed === borrower) return
        stop()
        resume(Exit.void)
      }
      borrower.own.sleeper = { woken }
      woken()
    })
  }

  /** Nothing is available, and why. */
  get nothing(): Effect.Effect<Option.Option<never>, PoolError> {
    const { closed, settings, suspended } = this.state
    if (closed) return Effect.fail(this.error(new Closed()))
    return suspended && settings.refuses ? Effect.fail(this.error(new Suspended())) : Effect.succeedNone
  }

  /** Sleeps until all of the borrowers are settled, or one is refused. */
  wait(borrowers: ReadonlyArray<Borrower<A>>): Effect.Effect<void, E | PoolError> {
    return Effect.callback((resume) => {
      const woken = (): void => {
        const refused = borrowers.find(({ refusal }) => refusal !== undefined)
        if (refused !== undefined) resume(this.outcome(refused.refusal!))
        else if (borrowers.every(({ settled }) => settled)) resume(Exit.void)
      }
      const sleeper = { woken }
      for (const borrower of borrowers) borrower.own.sleeper = sleeper
      woken()
    })
  }

  outcome(refusal: Refusal): Exit.Exit<never, E | PoolError> {
    if (refusal._tag === "Pool") return Exit.fail(this.error(refusal.reason))
    const { cause } = refusal
    return Exit.failCause((this.view === undefined ? cause : seenCause(this.view, cause)) as Cause.Cause<E | PoolError>)
  }

  /** What the borrower is told: a client's own error, if it is a client that borrows. */
  error(reason: PoolError["reason"]): PoolError {
    const error = new PoolError({ pool: this.state.settings.name, reason })
    return this.view === undefined ? error : this.view.error(error) as PoolError
  }
}
