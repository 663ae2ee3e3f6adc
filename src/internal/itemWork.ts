// What is done to items between leases: checks, resets, what a Schedule's step waits
// for, and the hooks around a lease. All of it runs in the pool's context and has a
// deadline.
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { Background, Task } from "./background.ts"
import { beforeLease, type Effects } from "./hooks.ts"
import type { Item } from "./item.ts"
import type { Settings } from "./options.ts"
import type { Work } from "./pooled.ts"
import type { Verdict } from "./rules.ts"
import type { PoolState } from "./state.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** The pool that has the items. */
interface Host<A, E, R> {
  readonly settings: Settings
  readonly effects: Effects<A, E, R>
  readonly background: Background<R>
  readonly state: PoolState<A, R>
}

export class ItemWork<A, E, R> {
  private readonly pool: Host<A, E, R>
  private readonly tasks = new Map<Item<A>, Task>()
  /** What is being done after leases of items that others have. */
  private readonly tending = new Map<Item<A>, Map<Deferred.Deferred<void>, Task>>()

  constructor(pool: Host<A, E, R>) {
    this.pool = pool
  }

  /** Runs what the item is busy with; at most one such thing at a time. */
  run<B, E2>(
    item: Item<A>,
    work: Effect.Effect<B, E2, R>,
    timeout: number,
    what: string,
    done: (exit: Exit.Exit<B, E2 | Cause.TimeoutError>) => void
  ): void {
    this.tasks.set(
      item,
      this.pool.background.run(work, timeout, what, (exit) => {
        this.tasks.delete(item)
        done(exit)
      })
    )
  }

  /** Ends all that is being done to the item. */
  stop(item: Item<A>): void {
    this.tasks.get(item)?.stop()
    for (const task of this.tending.get(item)?.values() ?? []) task.stop()
  }

  check(item: Item<A>): void {
    const { effects, settings, state } = this.pool
    const check = Effect.scoped(Effect.suspend(() => effects.check!(item.value)))
    this.run(item, check, settings.checkTimeout, "the check", (exit) => {
      const failed = Exit.isFailure(exit)
        ? exit.cause
        : exit.value === false
        ? Cause.fail(new Error("the check returned false"))
        : undefined
      state.wasChecked(item, failed)
    })
  }

  attempt(item: Item<A>, verdict: Work<R>): Verdict | undefined | Work<R> {
    const { background } = this.pool
    // What a rule acquires lives as long as the item that it is about.
    const fiber = background.fork(Scope.provide(verdict, item.scope))
    const exit = fiber.pollUnsafe()
    if (exit !== undefined && Exit.isSuccess(exit)) return exit.value
    // It ends with the item in any case: others may have the item for long, or it goes for another reason.
    const guard = Scope.forkUnsafe(item.scope)
    background.fork(Scope.addFinalizer(guard, Effect.sync(() => fiber.interruptUnsafe())))
    fiber.addObserver(() => void Scope.closeUnsafe(guard, Exit.void))
    return Effect.onInterrupt(Fiber.join(fiber), () => Effect.sync(() => fiber.interruptUnsafe()))
  }

  afterLease(item: Item<A>, exit: AnyExit): Work<R> | undefined {
    return workOf(this.pool.effects.onReturn, item.value, exit)
  }

  cleaning(item: Item<A>, exit: AnyExit, verdict: Work<R> | undefined, ended: boolean): Work<R> | undefined {
    const { effects: { reset }, settings } = this.pool
    const clean = (): Work<R> | undefined =>
      item.status === "resetting" && item.doom === undefined ? workOf(reset, item.value, exit) : undefined
    const after = inTurn(this.tended(item), ended ? this.afterLease(item, exit) : undefined)
    const first = inTurn(after, verdict)
    // What is to be done first may end the item, and then there is nothing to clean. One
    // that is only old may stay until it is replaced, and then it is lent again.
    const stays = (spoken: Verdict | undefined) => spoken === undefined || (spoken.soft && settings.replaceTimeout > 0)
    return first === undefined ? clean() : Effect.flatMap(first, (spoken) => {
      const cleaned = stays(spoken) ? clean() : undefined
      return cleaned === undefined ? Effect.succeed(spoken) : Effect.as(cleaned, spoken)
    })
  }

  /** What is still being done after earlier leases comes to its end. */
  private tended(item: Item<A>): Work<R> | undefined {
    const tending = this.tending.get(item)
    return tending && Effect.as(Effect.forEach(Array.from(tending.keys()), (over) => Deferred.await(over)), undefined)
  }

  reset(item: Item<A>, work: Work<R>): void {
    const { effects: { onReturn, reset }, settings, state } = this.pool
    const what = onReturn === undefined ? "the reset" : reset === undefined ? "onReturn" : "onReturn and the reset"
    this.run(item, work, settings.resetTimeout, what, (ended) => {
      if (Exit.isSuccess(ended)) state.wasReset(item, undefined, ended.value)
      else state.wasReset(item, ended.cause, undefined)
    })
  }

  tend(item: Item<A>, work: Work<R>): void {
    const { background, settings, state } = this.pool
    const over = Deferred.makeUnsafe<void>()
    const tending = this.tending.get(item) ?? new Map<Deferred.Deferred<void>, Task>()
    this.tending.set(item, tending)
    tending.set(
      over,
      background.run(work, settings.resetTimeout, "onReturn", (ended) => {
        tending.delete(over)
        if (tending.size === 0) this.tending.delete(item)
        if (Exit.isFailure(ended)) state.wasTended(item, ended.cause)
        Deferred.doneUnsafe(over, Exit.void)
      })
    )
  }

  /** The hook before a lease; `left` is what is left of the borrower's time. */
  onBorrow(item: Item<A>, left: number, done: (exit: AnyExit) => void): () => void {
    const { background, effects, settings: { checkTimeout } } = this.pool
    const timeout = Math.max(0, Math.min(checkTimeout, left))
    return beforeLease(background, effects.onBorrow!, item.value, timeout, left < checkTimeout, done)
  }
}

const inTurn = <R>(first: Work<R> | undefined, second: Work<R> | undefined): Work<R> | undefined =>
  first === undefined ? second : second === undefined ? first : Effect.andThen(first, second)

/** What the user's function gives to do, if anything; what it throws is a failure like any other. */
export const workOf = <A, R>(f: Hook<A, R> | undefined, value: A, exit: AnyExit): Work<R> | undefined => {
  if (f === undefined) return undefined
  try {
    const work = f(value, exit)
    return work && Effect.as(Effect.scoped(work), undefined)
  } catch (defect) {
    return Effect.die(defect)
  }
}

/** `onReturn`, or `reset`. */
export type Hook<A, R> = (value: A, exit: AnyExit) => Effect.Effect<unknown, unknown, R> | undefined
