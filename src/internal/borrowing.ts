// Borrowing as an Effect.
//
// A fiber can be interrupted between any two of its operations, also between one
// that takes an item and one that would see to its return. So what ends a lease is
// set up first, and the pool is asked for an item inside of it. `get` of an idle
// item needs none of this: it takes the item and hands it to the scope in one step.
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Closed, PoolError } from "../PoolError.ts"
import { type Background, guarded } from "./background.ts"
import type { Borrower, Holder, Item } from "./item.ts"
import { addFinalizer } from "./lease.ts"
import type { PoolState } from "./state.ts"

type AnyExit = Exit.Exit<unknown, unknown>

export class Borrowing<A, E, R> {
  private readonly state: PoolState<A, R>
  private woken: Array<Borrower<A>> = []
  private readonly background: Background<R>

  constructor(state: PoolState<A, R>, background: Background<R>) {
    this.state = state
    this.background = background
  }

  readonly get: Effect.Effect<A, E | PoolError, Scope.Scope> = Effect.withFiber((fiber) => {
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    const item = this.state.lend(fiber)
    if (item !== undefined) return this.leaseTo(scope, item)
    const lease: Lease<A, E, R, A, never, never> = new Lease(this, (_, item) => this.leaseTo(scope, item))
    // From here on the lease is the scope's to end.
    return Effect.onExitPrimitive(lease, () => lease.leave())
  })

  readonly use = <B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2> =>
    new Use<A, E, R, B, E2, R2>(this, f)

  private leaseTo(scope: Scope.Scope, item: Item<A>): Effect.Effect<A> {
    item.release ??= (exit) => {
      item.giveBack(exit)
      return Effect.void
    }
    // The scope is closed already: the lease ends at once, as the scope has.
    if (!addFinalizer(scope, item.release)) item.giveBack((scope.state as Scope.State.Closed).exit)
    return Effect.succeed(item.value)
  }

  lend(fiber: Holder): Item<A> | undefined {
    return this.state.lend(fiber)
  }

  enqueue(fiber: Holder): Borrower<A> {
    return this.state.queue.enter(fiber)
  }

  abandon(borrower: Borrower<A>): void {
    if (!borrower.begun) this.state.abandon(borrower)
  }

  begin(borrower: Borrower<A>): Item<A> | undefined {
    return this.state.begin(borrower)
  }

  /** Sleeps until the borrower is settled. */
  wait(borrower: Borrower<A>): Effect.Effect<void, E | PoolError> {
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

/** What `use` returns: makes a lease each time it is run. */
class Use<A, E, R, B, E2, R2> extends Operation<B, E | E2 | PoolError, R2>
  implements Evaluated<B, E | E2 | PoolError, R2>
{
  readonly pool: Borrowing<A, E, R>
  readonly f: (item: A) => Effect.Effect<B, E2, R2>

  constructor(pool: Borrowing<A, E, R>, f: (item: A) => Effect.Effect<B, E2, R2>) {
    super()
    this.pool = pool
    this.f = f
  }

  start(): Effect.Effect<B, E | E2 | PoolError, R2> {
    const lease = new Lease(this.pool, this.f)
    return Effect.onExitPrimitive(lease, (exit) => lease.end(exit))
  }
}

/** One borrowing, from before it asks to after it is over. */
class Lease<A, E, R, B, E2, R2> extends Operation<B, E | E2 | PoolError, R2>
  implements Evaluated<B, E | E2 | PoolError, R2>
{
  private readonly pool: Borrowing<A, E, R>
  private readonly body: (value: A, item: Item<A>) => Effect.Effect<B, E2, R2>
  private item: Item<A> | undefined = undefined
  private borrower: Borrower<A> | undefined = undefined

  constructor(pool: Borrowing<A, E, R>, body: (value: A, item: Item<A>) => Effect.Effect<B, E2, R2>) {
    super()
    this.pool = pool
    this.body = body
  }

  start(fiber: Holder): Effect.Effect<B, E | E2 | PoolError, R2> {
    const item = this.item = this.pool.lend(fiber)
    if (item !== undefined) return this.body(item.value, item)
    return this.wait(this.borrower = this.pool.enqueue(fiber))
  }

  private wait(borrower: Borrower<A>): Effect.Effect<B, E | E2 | PoolError, R2> {
    return Effect.flatMap(this.pool.wait(borrower), (): Effect.Effect<B, E | E2 | PoolError, R2> => {
      const item = this.item = this.pool.begin(borrower)
      if (item !== undefined) return this.body(item.value, item)
      return borrower.begun ? Exit.fail(this.pool.error(new Closed())) : this.wait(borrower)
    })
  }

  /** Gives back what was lent, or gives up what was waited for. */
  end(exit: AnyExit): undefined {
    if (this.item === undefined) this.leave()
    else this.item.giveBack(exit)
  }

  leave(): undefined {
    if (this.borrower !== undefined) this.pool.abandon(this.borrower)
  }
}
