// What the state machine asks for, answered by the parts of the pool that do it. These
// are made when they are first needed: most pools of a large map do nothing.
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type { PoolEvent } from "../PoolEvent.ts"
import type { Alarm } from "./alarms.ts"
import type { Background } from "./background.ts"
import type { Closer } from "./closer.ts"
import type { Effects } from "./hooks.ts"
import type { Item, Lease, Opening } from "./item.ts"
import { type Hook, type ItemWork, workOf } from "./itemWork.ts"
import type { Opens } from "./opens.ts"
import type { Shell, Work } from "./pooled.ts"
import type { Verdict } from "./rules.ts"
import type { Rush } from "./rush.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** The pool whose shell it is. */
interface Host<A, E, R> {
  readonly effects: Pick<Effects<A, E, R>, "onReturn" | "reset">
  readonly background: Background<R>
  readonly opens: Opens<A, E, R>
  readonly closer: Closer
  readonly work: ItemWork<A, E, R>
  readonly recycler: { dueAfter(at: number): void }
  readonly deadlineAlarm: Alarm
  readonly refillAlarm: Alarm
  /** Who hears of it within the step. */
  readonly heard: ((event: PoolEvent) => void) | undefined
  /** Undefined until somebody listens. */
  readonly listeners: Iterable<Queue.Queue<PoolEvent, Cause.Done>> | undefined
  takenBack(lease: Lease<A>): void
  leaked(lease: Lease<A>): void
  emptied(): void
}

export class PoolShell<A, E, R> implements Shell<A, R> {
  readonly now: () => number
  readonly rush: Rush
  private readonly pool: Host<A, E, R>
  /** The reset, where nothing else can have to be done when an item comes back. */
  private readonly onlyReset: Hook<A, R> | undefined

  constructor(pool: Host<A, E, R>) {
    this.pool = pool
    this.now = pool.background.now
    this.rush = pool.background.rush
    this.onlyReset = pool.effects.onReturn === undefined ? pool.effects.reset : undefined
  }

  wallNow(): number {
    return this.pool.background.clock.currentTimeMillisUnsafe()
  }

  get random(): () => number {
    return this.pool.background.random
  }

  open(opening: Opening): void {
    this.pool.opens.open(opening)
  }

  cancelOpen(opening: Opening): void {
    this.pool.opens.cancel(opening)
  }

  retry(cause: Cause.Cause<unknown>): void {
    this.pool.opens.retry(cause)
  }

  // 100 ms, doubled to 5 s, jittered down by up to a fifth: as most pools that
  // reconnect, and never in step with another pool that lost the same server.
  refill(failures: number): void {
    const { background, refillAlarm } = this.pool
    const delay = Math.min(5000, 100 * 2 ** (failures - 1)) * (1 - 0.2 * background.random())
    background.alarms.set(refillAlarm, background.now() + delay)
  }

  close(id: number, scope: Scope.Closeable, exit: AnyExit): void {
    const { closer } = this.pool
    closer.finish(closer.begin(id), scope, exit)
  }

  check(item: Item<A>): void {
    this.pool.work.check(item)
  }

  attempt(item: Item<A>, verdict: Work<R>): Verdict | undefined | Work<R> {
    return this.pool.work.attempt(item, verdict)
  }

  both(item: Item<A>, first: Work<R> | undefined, second: Work<R>): Work<R> {
    return first === undefined ? second : Effect.zipWith(first, Scope.provide(second, item.scope), bothSpoken)
  }

  afterLease(item: Item<A>, exit: AnyExit): Work<R> | undefined {
    return this.pool.work.afterLease(item, exit)
  }

  cleaning(item: Item<A>, exit: AnyExit, verdict: Work<R> | undefined, ended: boolean): Work<R> | undefined {
    // Most often there is nothing else, and then the item is not doomed.
    return verdict === undefined && this.onlyReset !== undefined
      ? workOf(this.onlyReset, item.value, exit)
      : this.pool.work.cleaning(item, exit, verdict, ended)
  }

  reset(item: Item<A>, work: Work<R>): void {
    this.pool.work.reset(item, work)
  }

  tend(item: Item<A>, work: Work<R>): void {
    this.pool.work.tend(item, work)
  }

  stop(item: Item<A>): void {
    this.pool.work.stop(item)
  }

  deadline(at: number): void {
    const { background, deadlineAlarm } = this.pool
    if (deadlineAlarm.slot < 0 || at < deadlineAlarm.dueAt) background.alarms.set(deadlineAlarm, at)
  }

  due(at: number): void {
    this.pool.recycler.dueAfter(at)
  }

  takenBack(lease: Lease<A>): void {
    this.pool.takenBack(lease)
  }

  leaked(lease: Lease<A>): void {
    this.pool.leaked(lease)
  }

  interrupt(fiber: Fiber.Fiber<unknown, unknown>): void {
    this.pool.background.later(() => fiber.interruptUnsafe())
  }

  empty(): void {
    this.pool.emptied()
  }

  emit(event: PoolEvent): void {
    this.pool.heard?.(event)
    for (const listener of this.pool.listeners ?? []) Queue.offerUnsafe(listener, event)
  }
}

// One that takes others with it must not be lost.
const bothSpoken = (first: Verdict | undefined, second: Verdict | undefined): Verdict | undefined =>
  first === undefined || (second !== undefined && second.also !== "none") ? second : first
