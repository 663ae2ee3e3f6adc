// Borrowing as an Effect.
//
// A fiber can be interrupted between any two of its operations, also between one
// that takes an item and one that would see to its return. So what ends a lease is
// set up first, and the pool is asked for an item inside of it. `get` of an idle
// item needs none of this: it takes the item and hands it to the scope in one step.
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Closed, LeaseEnded, PoolError, Suspended } from "../PoolError.ts"
import { type Background, guarded } from "./background.ts"
import type { Borrower, Holder, Item, Lease } from "./item.ts"
import { addFinalizer } from "./lease.ts"
import { tooLarge } from "./queue.ts"
import { here, hereInScope, type Site } from "./site.ts"
import type { PoolState } from "./state.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** What borrowing has to do besides, if the options say so. */
export interface Extras<A> {
  /** Undefined when the hook has succeeded already. */
  readonly onBorrow: ((item: Item<A>, timeout: number) => Effect.Effect<void, PoolError> | undefined) | undefined
  /** A lease can be ended from outside: what `use` runs has a fiber of its own. */
  readonly ends: boolean
  /** Somebody will ask where an item was borrowed. */
  readonly traces: boolean
  /** A scope was dropped that had this lease. */
  readonly leaked: (lease: Lease<A>) => void
}

export class Borrowing<A, E, R> {
  readonly state: PoolState<A, R>
  readonly extras: Extras<A>
  private woken: Array<Borrower<A>> = []
  private readonly background: Background<R>
  private readonly dropped: FinalizationRegistry<WeakRef<Lease<A>>>

  constructor(state: PoolState<A, R>, background: Background<R>, extras: Extras<A>) {
    this.state = state
    this.background = background
    this.extras = extras
    this.dropped = new FinalizationRegistry((ref) => {
      const lease = ref.deref()
      if (lease?.active === true) extras.leaked(lease)
    })
    this.plain = this.scoped(false, undefined)
    this.plainAlone = this.scoped(true, undefined)
    this.plainIfAvailable = this.ifAvailable(undefined)
  }

  private readonly plain: Effect.Effect<A, E | PoolError, Scope.Scope>
  private readonly plainAlone: Effect.Effect<A, E | PoolError, Scope.Scope>
  private readonly plainIfAvailable: Effect.Effect<Option.Option<A>, PoolError, Scope.Scope>

  get get(): Effect.Effect<A, E | PoolError, Scope.Scope> {
    return this.extras.traces ? this.scoped(false, hereInScope(2)) : this.plain
  }

  get getExclusive(): Effect.Effect<A, E | PoolError, Scope.Scope> {
    return this.extras.traces ? this.scoped(true, hereInScope(2)) : this.plainAlone
  }

  private scoped(alone: boolean, site: Site | undefined): Effect.Effect<A, E | PoolError, Scope.Scope> {
    return Effect.withFiber((fiber) => {
      const scope = Context.getUnsafe(fiber.context, Scope.Scope)
      if (this.extras.onBorrow === undefined) {
        const lease = this.state.lend(fiber, alone)
        if (lease !== undefined) {
          lease.site = site
          return this.leaseTo(scope, lease)
        }
      }
      const loan = new Loan<A, E, R, A, never, never>(
        this,
        alone ? "alone" : "shared",
        site,
        undefined,
        (lease) => this.leaseTo(scope, lease)
      )
      // From here on the lease is the scope's to end.
      return Effect.onExitPrimitive(loan, (exit) => loan.leave(exit))
    })
  }

  get getIfAvailable(): Effect.Effect<Option.Option<A>, PoolError, Scope.Scope> {
    return this.extras.traces ? this.ifAvailable(hereInScope(2)) : this.plainIfAvailable
  }

  private ifAvailable(site: Site | undefined): Effect.Effect<Option.Option<A>, PoolError, Scope.Scope> {
    return Effect.withFiber((fiber) => {
      const scope = Context.getUnsafe(fiber.context, Scope.Scope)
      const loan = new Loan<A, never, R, Option.Option<A>, never, never>(
        this as never,
        "available",
        site,
        undefined,
        (lease) => Effect.asSome(this.leaseTo(scope, lease))
      )
      return Effect.onExitPrimitive(loan, (exit) => loan.leave(exit))
    })
  }

  /** Several items, all or none. They are asked for in one step and so stand together in the queue: groups cannot block one another. */
  readonly getN = (n: number): Effect.Effect<Array<A>, E | PoolError, Scope.Scope> => {
    const site = this.extras.traces ? hereInScope(1) : undefined
    return Effect.withFiber((fiber) => {
      const scope = Context.getUnsafe(fiber.context, Scope.Scope)
      const { max } = this.state.settings
      if (!(Number.isInteger(n) && n >= 0 && n <= max)) {
        return Effect.fail(this.error(tooLarge(n, max)))
      }
      const group = new Group<A, E, R>(this, n, site, (leases) => {
        const items: Array<A> = []
        for (const lease of leases) {
          this.scopeTo(scope, lease)
          items.push(lease.item.value)
        }
        return Effect.succeed(items)
      })
      return Effect.onExitPrimitive(group, (exit) => group.leave(exit))
    })
  }

  readonly use = <B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E | E2 | PoolError, R2> => this.useAs("shared", f)

  readonly useExclusive = <B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E | E2 | PoolError, R2> => this.useAs("alone", f)

  private useAs<B, E2, R2>(
    kind: Kind,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E | E2 | PoolError, R2> {
    const { ends, traces } = this.extras
    const site = traces ? here(2) : undefined
    return ends
      ? new Use<A, E, R, B, E2 | PoolError, R2>(this, kind, site, undefined, (lease) => this.within(lease, f))
      : new Use<A, E, R, B, E2, R2>(this, kind, site, f, undefined)
  }

  readonly useIfAvailable = <B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError, R2> => {
    const { ends, traces } = this.extras
    return new Use<A, never, R, Option.Option<B>, E2 | PoolError, R2>(
      this as never,
      "available",
      traces ? here(1) : undefined,
      undefined,
      (lease) => Effect.asSome(ends ? this.within(lease, f) : f(lease.item.value))
    )
  }

  /** Runs what `use` was given in a fiber of its own, which can be interrupted alone. */
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

  private leaseTo(scope: Scope.Scope, lease: Lease<A>): Effect.Effect<A> {
    this.scopeTo(scope, lease)
    return Effect.succeed(lease.item.value)
  }

  private scopeTo(scope: Scope.Scope, lease: Lease<A>): void {
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
    this.dropped.register(release, new WeakRef(lease))
    return release
  }

  lend(fiber: Holder, kind: Kind): Lease<A> | undefined {
    return kind === "available" ? this.state.lendIfAvailable(fiber) : this.state.lend(fiber, kind === "alone")
  }

  enqueue(fiber: Holder, kind: Kind, group = 1): Borrower<A> {
    return this.state.queue.enter(fiber, kind === "alone", group)
  }

  abandon(borrower: Borrower<A>): void {
    if (!borrower.begun) this.state.abandon(borrower)
  }

  begin(borrower: Borrower<A>): Lease<A> | undefined {
    return this.state.begin(borrower)
  }

  /** Nothing is available, and why. */
  get nothing(): Effect.Effect<Option.Option<never>, PoolError> {
    const { closed, settings, suspended } = this.state
    if (closed) return Effect.fail(this.error(new Closed()))
    return suspended && settings.refuses ? Effect.fail(this.error(new Suspended())) : Effect.succeedNone
  }

  /** Sleeps until all of the borrowers are settled, or one is refused, or one has lost what it was handed. */
  wait(borrowers: ReadonlyArray<Borrower<A>>): Effect.Effect<void, E | PoolError> {
    return Effect.callback((resume) => {
      const look = (): void => {
        const refused = borrowers.find(({ refusal }) => refusal !== undefined)
        if (refused !== undefined) resume(this.outcome(refused))
        else if (borrowers.every(({ settled }) => settled) || borrowers.some(hasLost)) resume(Exit.void)
      }
      for (const borrower of borrowers) borrower.resume = look
      look()
    })
  }

  /** As `wait` for one. */
  waitFor(borrower: Borrower<A>): Effect.Effect<void, E | PoolError> {
    return Effect.callback((resume) => {
      if (borrower.settled) resume(this.outcome(borrower))
      else borrower.resume = () => resume(this.outcome(borrower))
    })
  }

  private outcome({ refusal }: Borrower<A>): Exit.Exit<void, E | PoolError> {
    if (refusal === undefined) return Exit.void
    return refusal._tag === "Pool"
      ? Exit.fail(this.error(refusal.reason))
      : Exit.failCause(refusal.cause as Cause.Cause<E | PoolError>)
  }

  error(reason: PoolError["reason"]): PoolError {
    return new PoolError({ pool: this.state.settings.name, reason })
  }

  // A borrower is resumed in a turn of its own scheduler, never on the stack of
  // whoever woke it. All that share the pool's are resumed in one task: every fiber
  // has a dispatcher of its own, and a task in each would cost a turn of the event
  // loop each.
  readonly wake = (borrower: Borrower<A>): void => {
    const { holder } = borrower
    if (holder.cache.scheduler !== this.background.scheduler) {
      holder.currentDispatcher.scheduleTask(() => borrower.resume?.(), 0)
    } else if (this.woken.push(borrower) === 1) {
      this.background.later(this.resume)
    }
  }

  private readonly resume = (): void => {
    const { woken } = this
    this.woken = []
    for (const { resume } of woken) if (resume !== undefined) guarded(resume)
  }
}

interface Evaluated<A, E, R> {
  start(fiber: Holder): Effect.Effect<A, E, R>
}

// An Effect of our own kind: its instances are evaluated by `start`, without the
// closure that `Effect.withFiber` would need for each.
const Operation: new<A, E, R>() => Effect.Effect<A, E, R> = (() => {
  const Operation = function() {}
  Operation.prototype = Effectable.Prototype<
    Effect.Effect<unknown, unknown, unknown> & Evaluated<unknown, unknown, unknown>
  >({
    label: "QueuePool",
    evaluate(fiber) {
      return this.start(fiber)
    }
  })
  return Operation as never
})()

type Kind = "shared" | "alone" | "available"

/** What a lease is for: what `use` was given, or something that needs the lease itself. */
type Plain<A, B, E, R> = (item: A) => Effect.Effect<B, E, R>
type Body<A, B, E, R> = (lease: Lease<A>) => Effect.Effect<B, E, R>

/** What `use` returns: makes a lease each time it is run. */
class Use<A, E, R, B, E2, R2> extends Operation<B, E | E2 | PoolError, R2>
  implements Evaluated<B, E | E2 | PoolError, R2>
{
  readonly pool: Borrowing<A, E, R>
  readonly kind: Kind
  readonly site: Site | undefined
  readonly f: Plain<A, B, E2, R2> | undefined
  readonly body: Body<A, B, E2, R2> | undefined

  constructor(
    pool: Borrowing<A, E, R>,
    kind: Kind,
    site: Site | undefined,
    f: Plain<A, B, E2, R2> | undefined,
    body: Body<A, B, E2, R2> | undefined
  ) {
    super()
    this.pool = pool
    this.kind = kind
    this.site = site
    this.f = f
    this.body = body
  }

  start(): Effect.Effect<B, E | E2 | PoolError, R2> {
    const loan = new Loan(this.pool, this.kind, this.site, this.f, this.body)
    return Effect.onExitPrimitive(loan, (exit) => loan.end(exit))
  }
}

/** One borrowing, from before it asks to after it is over. */
class Loan<A, E, R, B, E2, R2> extends Operation<B, E | E2 | PoolError, R2>
  implements Evaluated<B, E | E2 | PoolError, R2>
{
  private readonly pool: Borrowing<A, E, R>
  private readonly kind: Kind
  private readonly site: Site | undefined
  private readonly f: Plain<A, B, E2, R2> | undefined
  private readonly body: Body<A, B, E2, R2> | undefined
  private lease: Lease<A> | undefined = undefined
  private borrower: Borrower<A> | undefined = undefined
  /** The lease is with the borrower, and no hook stands in between. */
  private given = false

  constructor(
    pool: Borrowing<A, E, R>,
    kind: Kind,
    site: Site | undefined,
    f: Plain<A, B, E2, R2> | undefined,
    body: Body<A, B, E2, R2> | undefined
  ) {
    super()
    this.pool = pool
    this.kind = kind
    this.site = site
    this.f = f
    this.body = body
  }

  start(fiber: Holder): Effect.Effect<B, E | E2 | PoolError, R2> {
    const lease = this.pool.lend(fiber, this.kind)
    if (lease !== undefined) return this.begun(lease)
    // The type of the body is an Option then.
    if (this.kind === "available") return this.pool.nothing as Effect.Effect<never, PoolError>
    return this.wait(this.borrower = this.pool.enqueue(fiber, this.kind))
  }

  private wait(borrower: Borrower<A>): Effect.Effect<B, E | E2 | PoolError, R2> {
    return Effect.flatMap(this.pool.waitFor(borrower), (): Effect.Effect<B, E | E2 | PoolError, R2> => {
      const lease = this.pool.begin(borrower)
      if (lease !== undefined) return this.begun(lease)
      return borrower.begun ? Exit.fail(this.pool.error(new Closed())) : this.wait(borrower)
    })
  }

  private begun(lease: Lease<A>): Effect.Effect<B, E2 | PoolError, R2> {
    this.lease = lease
    lease.site = this.site
    const hook = hookOf(this.pool, lease, this.borrower)
    if (hook !== undefined) return Effect.flatMap(hook, () => this.give(lease))
    return this.give(lease)
  }

  private give(lease: Lease<A>): Effect.Effect<B, E2 | PoolError, R2> {
    // The hook took its time.
    if (!lease.active) return Exit.fail(this.pool.gone(lease))
    this.given = true
    return this.f === undefined ? this.body!(lease) : this.f(lease.item.value)
  }

  /** Gives back what was lent, or gives up what was waited for. */
  end(exit: AnyExit): undefined {
    if (this.lease === undefined || !this.given) this.leave(exit)
    else this.lease.giveBack(exit)
  }

  leave(exit: AnyExit): undefined {
    const { borrower, given, lease, pool } = this
    if (lease === undefined) {
      if (borrower !== undefined) pool.abandon(borrower)
    } else if (!given) {
      spoil(pool, lease, exit)
    }
  }
}

/** Several borrowings in one. */
class Group<A, E, R> extends Operation<Array<A>, E | PoolError, never>
  implements Evaluated<Array<A>, E | PoolError, never>
{
  private readonly pool: Borrowing<A, E, R>
  private readonly size: number
  private readonly site: Site | undefined
  private readonly body: (leases: ReadonlyArray<Lease<A>>) => Effect.Effect<Array<A>>
  private readonly leases: Array<Lease<A>> = []
  private readonly borrowers: Array<Borrower<A>> = []
  private given = false

  constructor(
    pool: Borrowing<A, E, R>,
    size: number,
    site: Site | undefined,
    body: (leases: ReadonlyArray<Lease<A>>) => Effect.Effect<Array<A>>
  ) {
    super()
    this.pool = pool
    this.size = size
    this.site = site
    this.body = body
  }

  start(fiber: Holder): Effect.Effect<Array<A>, E | PoolError> {
    // Also those that are idle go through the queue, where nothing is taken up before all are there.
    for (let i = 0; i < this.size; i++) this.borrowers.push(this.pool.enqueue(fiber, "alone", this.size))
    return this.gather()
  }

  private gather(): Effect.Effect<Array<A>, E | PoolError> {
    return Effect.flatMap(this.pool.wait(this.borrowers), (): Effect.Effect<Array<A>, E | PoolError> => {
      // Those of a group that fails were not used.
      for (const borrower of this.borrowers) {
        if (!hasLost(borrower)) continue
        this.pool.begin(borrower)
        if (borrower.begun) return Exit.fail(this.pool.error(new Closed()))
      }
      if (!this.borrowers.every(({ lease }) => lease?.active === true)) return this.gather()
      for (const borrower of this.borrowers) this.leases.push(this.pool.begin(borrower)!)
      return this.hooks(0)
    })
  }

  private hooks(from: number): Effect.Effect<Array<A>, PoolError> {
    for (let i = from; i < this.leases.length; i++) {
      const lease = this.leases[i]!
      lease.site = this.site
      const hook = hookOf(this.pool, lease, this.borrowers[i])
      if (hook !== undefined) return Effect.flatMap(hook, () => this.hooks(i + 1))
    }
    const gone = this.leases.find(({ active }) => !active)
    if (gone !== undefined) return Exit.fail(this.pool.gone(gone))
    this.given = true
    return this.body(this.leases)
  }

  leave(exit: AnyExit): undefined {
    if (this.given) return
    for (const lease of this.leases) spoil(this.pool, lease, exit)
    for (const borrower of this.borrowers) this.pool.abandon(borrower)
  }
}

/** The item that it was handed is gone. */
const hasLost = ({ lease }: Borrower<unknown>): boolean => lease?.active === false

const hookOf = <A, E, R>(
  { extras: { onBorrow }, state }: Borrowing<A, E, R>,
  { item, since }: Lease<A>,
  borrower: Borrower<A> | undefined
): Effect.Effect<void, PoolError> | undefined =>
  onBorrow?.(item, borrower === undefined ? state.settings.borrowTimeout : borrower.deadline - since)

/** The borrower has left between being lent the item and having it: nobody knows in what state it is. */
const spoil = <A, E, R>({ extras, state }: Borrowing<A, E, R>, lease: Lease<A>, exit: AnyExit): void => {
  if (extras.onBorrow !== undefined && lease.active) state.doom(lease.item, "onBorrow failed", lease.since)
  lease.giveBack(exit)
}
