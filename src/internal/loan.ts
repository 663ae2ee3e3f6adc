// One borrowing as an Effect, from before it asks to after it is over.
//
// A fiber can be interrupted between any two of its operations, also between one
// that takes an item and one that would see to its return. So what ends a lease is
// set up first, and the pool is asked for an item inside of it. `get` of an idle
// item needs none of this: it takes the item and hands it to the scope in one step.
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { PoolError } from "../PoolError.ts"
import type { Borrowing } from "./borrowing.ts"
import { Borrower, type Holder, type Kind, type Lease } from "./item.ts"
import { type Evaluate, type Evaluated, evaluation, operation, operationToo } from "./operation.ts"
import type { Site } from "./site.ts"
import { spares } from "./spares.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** What a lease is for: what `use` was given, or something that needs the lease itself. */
export type Plain<A, B, E, R> = (item: A) => Effect.Effect<B, E, R>
type Body<A, P, B, E, R> = (pool: P, lease: Lease<A>) => Effect.Effect<B, E, R>

/** How a lease is asked for. */
export interface Manner {
  readonly kind: Kind
  /** The call that asks, where somebody will want to know. */
  readonly site: Site | undefined
}

// Each call of `use` makes an effect, and most are asked in one of these manners: it need not tell.
export const sharing: Manner = { kind: "shared", site: undefined }
export const alone: Manner = { kind: "alone", site: undefined }

export const mannerOf = (kind: "shared" | "alone", site: Site | undefined): Manner =>
  site !== undefined ? { kind, site } : kind === "shared" ? sharing : alone

/** What is done with the lease itself. */
interface Bodied<A, P, B, E, R> extends Manner {
  readonly body?: Body<A, P, B, E, R>
}

/** Where a borrower asks: a pool, or what has a pool for it when it does. */
export interface Lender<A, E, R> {
  /** Undefined when there is none, and `refusal` says why. */
  current(): Borrowing<A, E, R> | undefined
  readonly refusal?: Effect.Effect<never, PoolError>
  /** It is the pool, and whoever asks now has others before it. */
  readonly queued?: boolean
}

/** `get`, and `getExclusive`. */
export const scoped = <A, E, R>(
  lender: Lender<A, E, R>,
  manner: Manner
): Effect.Effect<A, E | PoolError, Scope.Scope> =>
  Effect.withFiber((fiber) => {
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    const pool = lender.current()
    if (pool === undefined) return lender.refusal!
    const lease = pool.onBorrow === undefined ? pool.state.lend(fiber, manner.kind === "alone") : undefined
    if (lease === undefined) return scopedLater(lender, manner, scope)
    lease.site = manner.site
    return pool.leaseTo(scope, lease)
  })

const evaluateScoped: Evaluate = function(fiber) {
  return this.start(fiber)
}

const ScopedPlainlyOperation = operation(evaluateScoped)

/** `get` of a pool with nothing before a lease and nothing to be known of it. */
export class ScopedPlainly<A, E, R> extends ScopedPlainlyOperation<A, E | PoolError, Scope.Scope>
  implements Evaluated<A, E | PoolError, Scope.Scope>
{
  declare private readonly pool: Borrowing<A, E, R>
  // Each pool has one of these: a field costs nothing, and is found before what its class has.
  readonly [evaluation] = evaluateScoped

  constructor(pool: Borrowing<A, E, R>) {
    super()
    this.pool = pool
  }

  start(fiber: Holder): Effect.Effect<A, E | PoolError> {
    const { pool } = this
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    const lease = pool.state.lend(fiber, false)
    return lease === undefined ? scopedLater(pool, sharing, scope) : pool.leaseTo(scope, lease)
  }
}

/** It may have to wait. */
const scopedLater = <A, E, R>(
  lender: Lender<A, E, R>,
  manner: Manner,
  scope: Scope.Scope
): Effect.Effect<A, E | PoolError> => {
  const loan = new Loan<A, E, R, A, never, never>().of(
    lender,
    { ...manner, body: (pool, lease) => pool.leaseTo(scope, lease) },
    undefined
  )
  // From here on the lease is the scope's to end.
  return Effect.onExitPrimitive(loan, () => loan.leave())
}

export const scopedIfAvailable = <A, E, R>(
  lender: Lender<A, E, R>,
  site: Site | undefined
): Effect.Effect<Option.Option<A>, PoolError, Scope.Scope> =>
  Effect.withFiber((fiber) => {
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    const loan = new Loan<A, never, R, Option.Option<A>, never, never>().of(
      lender as never,
      { kind: "available", site, body: (pool, lease) => Effect.asSome(pool.leaseTo(scope, lease)) },
      undefined
    )
    return Effect.onExitPrimitive(loan, () => loan.leave())
  })

export const useIfAvailable = <A, E, R, B, E2, R2>(
  lender: Lender<A, E, R>,
  site: Site | undefined,
  f: Plain<A, B, E2, R2>
): Effect.Effect<Option.Option<B>, E2 | PoolError, R2> =>
  new Use<A, never, R, Option.Option<B>, E2 | PoolError, R2>(
    lender as never,
    { kind: "available", site, body: (pool, lease) => Effect.asSome(pool.run(lease, f)) },
    undefined
  )

const UseOperation = operation(function(fiber) {
  return this.start(fiber)
})

/**
 * What `use` returns: makes a lease each time it is run. Most are run once, by a `yield*`, and that
 * keeps an iterator and what this has told until the fiber goes on: where ten thousand wait, the
 * garbage collector copies both for each of them. So it is its own iterator, and its own first
 * result, unless it is being iterated already, or was once, by who did not come to the end.
 */
export class Use<A, E, R, B, E2, R2> extends UseOperation<B, E | E2 | PoolError, R2>
  implements Evaluated<B, E | E2 | PoolError, R2>
{
  declare readonly lender: Lender<A, E, R>
  declare readonly manner: Bodied<A, Borrowing<A, E, R>, B, E2, R2>
  /** Without it there is a body. */
  declare readonly f: Plain<A, B, E2, R2> | undefined
  /**
   * As an iterator: 0 free, 1 taken, 2 has told what is to be run, and has not heard what came of
   * it. Private to the engine too: somebody may freeze an effect.
   */
  #step: 0 | 1 | 2 = 0

  constructor(
    lender: Lender<A, E, R>,
    manner: Bodied<A, Borrowing<A, E, R>, B, E2, R2>,
    f: Plain<A, B, E2, R2> | undefined
  ) {
    super()
    this.lender = lender
    this.manner = manner
    this.f = f
  }

  override [Symbol.iterator](): Effect.EffectIterator<Effect.Effect<B, E | E2 | PoolError, R2>> {
    // What stands for one, as a Proxy does, has no step of its own.
    if (!(#step in this) || this.#step !== 0) return super[Symbol.iterator]()
    this.#step = 1
    return this
  }

  next(value: B): IteratorResult<this, B> {
    if (this.#step === 1) {
      this.#step = 2
      return this
    }
    this.#step = 0
    return { value, done: true }
  }

  get value(): this {
    return this
  }

  get done(): false {
    return false
  }

  start(fiber: Holder): Effect.Effect<B, E | E2 | PoolError, R2> {
    return begun(this.lender, this.manner, this.f, fiber)
  }
}

/** A borrowing, begun by a fiber: it has to run what is returned next, and once. */
export const begun = <A, E, R, B, E2, R2>(
  lender: Lender<A, E, R>,
  manner: Bodied<A, Borrowing<A, E, R>, B, E2, R2>,
  f: Plain<A, B, E2, R2> | undefined,
  fiber: Holder
): Effect.Effect<B, E | E2 | PoolError, R2> => {
  const loan = (loans.take() as Loan<A, E, R, B, E2, R2>).of(lender, manner, f)
  return lender.queued === true && manner.kind !== "available" ? loan.inTurn(fiber) : loan.whole
}

const evaluate: Evaluate = function(fiber) {
  return this.start(fiber)
}

const LoanOperation = operationToo(Borrower, evaluate) as new<A, B, E, R>() => Borrower<A> & Effect.Effect<B, E, R>

/**
 * One borrowing, from before it asks to after it is over; then another's. Where it has to
 * wait, or has a hook before its lease, it is the borrower. As an effect it asks, or goes
 * on when it was woken.
 */
class Loan<A, E, R, B, E2, R2> extends LoanOperation<A, B, E | E2 | PoolError, R2>
  implements Evaluated<B, E | E2 | PoolError, R2>
{
  /** Wakes its fiber. */
  private resume: ((effect: Effect.Effect<B, E | E2 | PoolError, R2>) => void) | undefined = undefined
  /** Where its lender has asked. */
  private pool: Borrowing<A, E, R> | undefined = undefined
  /** What its fiber has. */
  private held: Lease<A> | undefined = undefined
  private f: Plain<A, B, E2, R2> | undefined = undefined
  private manner: Bodied<A, Borrowing<A, E, R>, B, E2, R2> | undefined = undefined
  private lender: Lender<A, E, R> | undefined = undefined
  // Its effects, each made when it is first needed: with its end, how it waits, and that with its end.
  private plain: Effect.Effect<B, E | E2 | PoolError, R2> | undefined = undefined
  private waiting: Effect.Effect<B, E | E2 | PoolError, R2> | undefined = undefined
  private wholly: Effect.Effect<B, E | E2 | PoolError, R2> | undefined = undefined
  // Bound, where a closure would have a context besides: 10,000 who wait are memory that is in no cache.
  private readonly ends = this.end.bind(this)
  // It has twenty fields before this one: 1 % of a lease among borrowers who wait.
  readonly [evaluation] = evaluate

  of(
    lender: Lender<A, E, R>,
    manner: Bodied<A, Borrowing<A, E, R>, B, E2, R2>,
    f: Plain<A, B, E2, R2> | undefined
  ): this {
    this.lender = lender
    this.manner = manner
    this.f = f
    return this
  }

  get whole(): Effect.Effect<B, E | E2 | PoolError, R2> {
    return this.plain ??= Effect.onExitPrimitive(this, this.ends)
  }

  private get wait(): Effect.Effect<B, E | E2 | PoolError, R2> {
    return this.waiting ??= Effect.callback(this.sleep.bind(this))
  }

  /** Begins with the wait, where nothing else can come of it: that is one step less. */
  inTurn(holder: Holder): Effect.Effect<B, E | E2 | PoolError, R2> {
    this.pool = this.lender!.current()
    this.holder = holder
    return this.wholly ??= Effect.onExitPrimitive(this.wait, this.ends)
  }

  start(fiber: Holder): Effect.Effect<B, E | E2 | PoolError, R2> {
    if (this.turn > 0) return this.next()
    const lender = this.lender!
    const { kind } = this.manner!
    const pool = this.pool = lender.current()
    if (pool === undefined) return lender.refusal!
    if (pool.onBorrow === undefined) {
      const lease = pool.lend(fiber, kind)
      if (lease !== undefined) return this.give(lease)
      if (kind !== "available") {
        // At once: whom it has asked may be another in the next step.
        pool.enqueue(fiber, kind, this)
        return this.wait
      }
    } else if (pool.state.reserve(fiber, kind, 1, this) !== undefined) return this.next()
    // The type of the body is an Option then.
    return pool.nothing as Effect.Effect<never, PoolError>
  }

  /** From `inTurn` it comes without a place in the queue. */
  private sleep(resume: (effect: Effect.Effect<B, E | E2 | PoolError, R2>) => void): void {
    if (this.turn === 0) this.pool!.enqueue(this.holder, this.manner!.kind, this)
    this.resume = resume
    if (this.settled) {
      // It is woken besides: with terms it becomes nobody else's before it has heard of that.
      this.own.sleeper = undefined
      this.woken()
    } else if (this.terms !== undefined) this.terms.sleeper = undefined
  }

  override woken(): void {
    if (this.terms?.sleeper !== undefined) return super.woken()
    const { lease, refusal, resume } = this
    // It does not sleep yet, or no more: who was woken may have left before it was its turn.
    if (resume === undefined) return
    if (refusal !== undefined) resume(this.pool!.outcome(refusal))
    else if (lease !== undefined) resume(this)
  }

  /** What comes next for a borrower: its turn, its item, what stands before that, and then the item again if it was lost. */
  private next(): Effect.Effect<B, E | E2 | PoolError, R2> {
    const pool = this.pool!
    if (this.refusal !== undefined) return this.wait
    if (this.lease === undefined) {
      if (this.waits) return this.wait
      this.turn = 0
      return this.start(this.holder)
    }
    if (pool.onBorrow === undefined || this.ready) return this.give(pool.begin(this))
    const hook = pool.ready(this)
    return hook === undefined ? this.next() : Effect.flatMap(hook, () => this.next())
  }

  private give(lease: Lease<A>): Effect.Effect<B, E2 | PoolError, R2> {
    this.held = lease
    const { f, manner } = this
    lease.site = manner!.site
    const pool = this.pool!
    return f === undefined ? manner!.body!(pool, lease) : pool.run(lease, f)
  }

  /** Gives back what was lent, or gives up what was waited for. */
  end(exit: AnyExit): undefined {
    const { held } = this
    if (held === undefined) this.leave()
    else {
      if (Exit.isFailure(exit) && held.active) this.pool!.failed?.(held.item.value, exit.cause)
      held.giveBack(exit)
    }
    this.rest()
  }

  leave(): undefined {
    if (this.held === undefined && this.turn > 0) this.pool!.abandon(this, "Interrupted")
  }

  /** It may be another's now. */
  private rest(): void {
    const { held } = this
    this.f =
      this.pool =
      this.held =
      this.manner =
      this.lender =
        undefined
    if (held === undefined || this.turn > 0 || this.terms !== undefined) {
      this.resume = undefined
      // Whoever may still wake it must not wake the next, and what a hook before its lease has left is not for others.
      if ((held === undefined && this.settled) || this.terms !== undefined) return
      this.gone()
    }
    loans.keep(this)
  }
}

/** Of all pools. Each of them lying ready takes some 500 bytes. */
export const loans = spares<unknown>(() => new Loan())
