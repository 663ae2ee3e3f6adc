// The effectful half of a pool: it joins the state machine with the parts that do what
// takes time, begins the pool and ends it.
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { Closed, type PoolError } from "../PoolError.ts"
import type { PoolEvent } from "../PoolEvent.ts"
import type { Alarm } from "./alarms.ts"
import { Background } from "./background.ts"
import { Borrowing } from "./borrowing.ts"
import { Budget } from "./budget.ts"
import { Closer } from "./closer.ts"
import { type Effects, watch } from "./hooks.ts"
import { holderName, type Item, type Lease, type Opening } from "./item.ts"
import { ItemWork } from "./itemWork.ts"
import { leaseClock } from "./leaseClock.ts"
import { PoolMember } from "./member.ts"
import { Opens } from "./opens.ts"
import type { Settings } from "./options.ts"
import type { Permits } from "./permits.ts"
import type { LeaseClock } from "./pooled.ts"
import { nextTurn } from "./queue.ts"
import { Recycler } from "./recycler.ts"
import type { Rules } from "./rules.ts"
import { PoolShell } from "./shell.ts"
import { placeOf } from "./site.ts"
import { PoolState } from "./state.ts"
import type { Swept } from "./sweeper.ts"

export type { Effects }

/** What a pool has only when it was needed. */
interface Parts<A, E, R> {
  opens?: Opens<A, E, R>
  work?: ItemWork<A, E, R>
  recycler?: Recycler<A, R>
  closer?: Closer
  swaps?: Semaphore.Semaphore
  deadlineAlarm?: Alarm
  refillAlarm?: Alarm
}

export class Pool<A, E, R> {
  readonly settings: Settings
  readonly state: PoolState<A, R>
  readonly borrowing: Borrowing<A, E, R>
  readonly rules: Rules<A, R>
  readonly effects: Effects<A, E, R>
  readonly background: Background<R>
  /** Undefined until somebody listens to the events. */
  listeners: Set<Queue.Queue<PoolEvent, Cause.Done>> | undefined = undefined
  private readonly parts: Parts<A, E, R> = {}
  private whenWarm: ((exit: Exit.Exit<void, E | PoolError>) => void) | undefined = undefined
  private whenEmpty: (() => void) | undefined = undefined
  private empty = false
  /** The log has told that opens fail. */
  private warned = false
  /**
   * Hears in a turn of its own that the pool has come to have nothing: no item, none that
   * is opening or closing, and no waiter. Also after a borrower that was refused at once;
   * not when nothing has changed since it heard last, nor of a pool that closes.
   */
  set onQuiet(hears: () => void) {
    this.state.onRest = () => this.rest(hears)
  }

  /** What there had ever been when it heard last. */
  private quietAt = 0
  private resting = false

  /** `given` may be another pool's Background: they share a fiber that sleeps, and each has its own alarms. */
  constructor(
    settings: Settings,
    effects: Effects<A, E, R>,
    rules: Rules<A, R>,
    given: Context.Context<R> | Background<R>,
    permits: ReadonlyArray<Permits>
  ) {
    this.settings = settings
    this.effects = effects
    this.rules = rules
    const background = this.background = new Background(given)
    this.state = new PoolState(
      {
        name: settings.name,
        min: settings.min,
        max: settings.max,
        minIdle: settings.minIdle,
        maxIdle: settings.maxIdle,
        order: settings.order,
        concurrency: settings.concurrency,
        sharing: settings.sharing,
        targetUtilization: settings.targetUtilization,
        borrowTimeout: settings.borrowTimeout,
        maxWaiters: settings.maxWaiters,
        openConcurrency: settings.openConcurrency,
        closeConcurrency: settings.closeConcurrency,
        checkAfter: effects.check === undefined ? Infinity : settings.checkAfter,
        resets: effects.reset !== undefined || effects.onReturn !== undefined,
        tends: effects.onReturn !== undefined,
        retries: effects.retry !== undefined,
        refuses: settings.whenSuspended === "fail",
        replaceTimeout: settings.replaceTimeout
      },
      rules,
      new PoolShell(this),
      background,
      settings.leaseWarning === Infinity && settings.maxLease === Infinity ? undefined : this.leaseClock(),
      permits.length === 0 ? undefined : new Budget<A>(permits, new PoolMember(background, () => this.state))
    )
    this.borrowing = new Borrowing(this)
  }

  private leaseClock(): LeaseClock<A> | undefined {
    const { alarms, now } = this.background
    return leaseClock<A>(alarms, now, this.settings, {
      warn: (lease) => this.warnOfLease(lease),
      end: (lease) => this.endOfLease(lease),
      cutOff: (lease) => this.state.ending.cutOff(lease)
    })
  }

  // ---- its parts, made when they are first needed: most pools of a large map do nothing

  get opens(): Opens<A, E, R> {
    return this.parts.opens ??= new Opens<A, E, R>(this)
  }

  get work(): ItemWork<A, E, R> {
    return this.parts.work ??= new ItemWork<A, E, R>(this)
  }

  get recycler(): Recycler<A, R> {
    return this.parts.recycler ??= new Recycler<A, R>(this)
  }

  get closer(): Closer {
    const { background, settings: { closeTimeout, name }, state: { ending } } = this
    return this.parts.closer ??= new Closer(
      background,
      name,
      closeTimeout,
      (id, took, how, cause) => ending.gone(id, took, how, cause)
    )
  }

  get deadlineAlarm(): Alarm {
    return this.parts.deadlineAlarm ??= this.background.alarms.make(() => this.expire())
  }

  get refillAlarm(): Alarm {
    return this.parts.refillAlarm ??= this.background.alarms.make(() => this.state.opener.refillNow())
  }

  private expire(): void {
    const { background: { alarms, now }, deadlineAlarm, state: { queue } } = this
    alarms.set(deadlineAlarm, queue.expire(now()))
  }

  // ---- opening

  opened(opening: Opening, item: Item<A>): void {
    const { outage } = this.state
    // Items that end at once say nothing of the next.
    if (this.warned && outage.shortLives === 0) {
      this.warned = false
      this.log(Effect.logInfo(`pool "${this.settings.name}" can open items again`))
    }
    this.state.opener.opened(opening, item)
    const { monitor } = this.effects
    // Not before it is the pool's: it may be dead already.
    if (monitor !== undefined && item.status !== "closing") {
      watch(this.background, monitor, item.value, item.scope, (cause) => this.died(item, cause))
    }
    this.warm()
  }

  private died(item: Item<A>, cause: Cause.Cause<unknown> | undefined): void {
    // It was interrupted because the item is released.
    if (item.status === "closing") return
    this.state.ending.die(item, cause)
    this.warnOfShortLives(cause)
  }

  /** The item has ended by itself: whoever made it has heard of that. */
  lose(item: Item<A>, reason: string): void {
    this.state.ending.lose(item, reason)
    this.warnOfShortLives(undefined)
  }

  private warnOfShortLives(cause: Cause.Cause<unknown> | undefined): void {
    const { outage } = this.state
    if (outage.shortLives > 0 && outage.refillBlocked) this.warnOnce("loses items as soon as they are open", cause)
  }

  openFailed(cause: Cause.Cause<E | PoolError>, told: boolean, final: boolean): void {
    if (!told) this.warnOnce("cannot open items", cause)
    if (final) this.warmFailed(cause)
  }

  // With items in circulation it is no news: a server that is full refuses more. Without,
  // somebody must hear of it, for waiters hear only when their time is over.
  private warnOnce(what: string, cause: Cause.Cause<unknown> | undefined): void {
    const { closed, idle, lent } = this.state
    if (this.warned || closed || idle.size + lent > 0) return
    this.warned = true
    const message = `pool "${this.settings.name}" ${what} and goes on trying`
    this.log(cause === undefined ? Effect.logWarning(message) : Effect.logWarning(message, cause))
  }

  // Not in this step: a logger may call back into the pool.
  private log(line: Effect.Effect<void>): void {
    this.background.later(() => this.background.fork(line))
  }

  // ---- the pool's own life

  /** Starts what a pool does by itself; ends when it is as warm as the options ask. `started` hears that it has begun. */
  start(started: () => void): Effect.Effect<void, E | PoolError> {
    return Effect.suspend(() => {
      // The scope was closed before it was given to us.
      if (this.state.closed) return Effect.fail(this.borrowing.error(new Closed()))
      const { min, warm } = this.settings
      if (warm !== "eager" || min === 0) {
        this.begin()
        started()
        return Effect.void
      }
      return Effect.callback<void, E | PoolError>((resume) => {
        // Only now: this fiber may yield before it listens.
        this.whenWarm = resume
        this.state.warmTurn = nextTurn()
        this.begin()
        started()
      })
    })
  }

  /**
   * Starts what a pool does by itself, in this step: for one of many pools, which has no
   * scope of its own. Nobody waits until it is warm.
   */
  begin(): void {
    const { sweep } = this.effects
    const { min, warm } = this.settings
    if (sweep !== undefined || this.rules.sweeps) {
      this.recycler.start(Schedule.isSchedule(sweep) ? sweep : Schedule.spaced(sweep ?? defaultCadence))
    }
    this.state.lazy = warm === "lazy"
    this.state.outage.probing = warm === "eager" && min > 0
    this.state.pump(this.background.now())
  }

  /**
   * Ends a pool that has nothing (see `onQuiet`), in this step: no fiber, alarm or listener
   * is left, and whoever asks it for an item hears that it is closed. What it has all the
   * same is closed as by `close`; `ended` hears, perhaps at once, that nothing is left.
   */
  dispose(ended: () => void = () => {}): void {
    this.end(ended)
  }

  private warm(): void {
    if (this.whenWarm === undefined || this.state.idle.size + this.state.lent < this.settings.min) return
    this.whenWarm(Exit.void)
    this.whenWarm = this.state.warmTurn = undefined
  }

  private warmFailed(cause: Cause.Cause<E | PoolError>): void {
    this.whenWarm?.(Exit.failCause(cause))
    this.whenWarm = this.state.warmTurn = undefined
  }

  /** Ends within `drainTimeout + closeTimeout`: every item has its own deadline. */
  get close(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => this.end(() => resume(Effect.void)))
  }

  private end(ended: () => void): void {
    const { background } = this
    this.whenEmpty = () => {
      background.alarms.stop()
      for (const listener of this.listeners ?? []) Queue.endUnsafe(listener)
      ended()
    }
    this.parts.recycler?.stop()
    this.parts.opens?.stop()
    this.state.ending.close()
    // An error is dear, and most pools have nobody to tell.
    if (this.whenWarm !== undefined) this.warmFailed(Cause.fail(this.borrowing.error(new Closed())))
    if (this.empty) return
    const drainAlarm = background.alarms.make(() => this.state.ending.takeBack())
    background.alarms.set(drainAlarm, background.now() + this.settings.drainTimeout)
  }

  /** Nothing is left of a pool that closes. */
  emptied(): void {
    this.empty = true
    this.whenEmpty!()
  }

  private rest(hears: () => void): void {
    const { state } = this
    if (this.resting || this.quietAt === state.newest + state.queue.turns) return
    this.resting = true
    this.background.later(() => {
      this.resting = false
      if (state.closed || state.live > 0 || state.waiters.size > 0) return
      this.quietAt = state.newest + state.queue.turns
      hears()
    })
  }

  takenBack(lease: Lease<A>): void {
    this.warn(lease, "is closed under", ": the pool is closing and drainTimeout is over")
  }

  private warnOfLease(lease: Lease<A>): void {
    const { background, state } = this
    const held = background.now() - lease.since
    if (state.listening) {
      state.tell({ _tag: "LeaseWarning", item: lease.item.id, held, by: holderName(lease) }, background.now())
    }
    this.warn(lease, "is still lent to", "")
  }

  private endOfLease(lease: Lease<A>): void {
    this.warn(lease, "is taken from", ": maxLease is over")
    this.state.ending.endLease(lease, "maxLease")
  }

  leaked(lease: Lease<A>): void {
    this.warn(lease, "was never given back by", ": the scope of the lease was dropped without being closed")
    this.state.ending.endLease(lease, "leaked")
  }

  private warn(lease: Lease<A>, what: string, why: string): void {
    const held = Math.round(this.background.now() - lease.since)
    const { name } = this.settings
    const fiber = lease.span === undefined ? "" : ` (fiber ${lease.by})`
    const message = `item ${lease.item.id} of pool "${name}" ${what} "${
      holderName(lease)
    }"${fiber}, which has held it for ${held}ms${why}`
    this.log(Effect.logWarning(lease.site === undefined ? message : `${message}\n${placeOf(lease.site)}`))
  }

  /** One item is opened in the new way; when that works, all are, and the others go within the time given. */
  swap(acquire: Effect.Effect<A, E, R>, over: number): Effect.Effect<void, E | PoolError> {
    // One after the other: the last to be asked for is the one that stays.
    const swaps = this.parts.swaps ??= Semaphore.makeUnsafe(1)
    return swaps.withPermit(this.opens.try(acquire, over))
  }

  /** Hears every event, within the step. */
  heard: ((event: PoolEvent) => void) | undefined = undefined

  hear(heard: ((event: PoolEvent) => void) | undefined): void {
    this.heard = heard
    this.listens()
  }

  private listens(): void {
    this.state.listening = this.heard !== undefined || (this.listeners !== undefined && this.listeners.size > 0)
  }

  /** Every listener has its own buffer; a slow one loses the oldest events. */
  get events(): Stream.Stream<PoolEvent> {
    return Stream.unwrap(Effect.map(
      Effect.acquireRelease(
        Effect.map(Queue.sliding<PoolEvent, Cause.Done>(eventBuffer), (listener) => {
          this.listeners ??= new Set()
          this.listeners.add(listener)
          this.listens()
          if (this.empty) Queue.endUnsafe(listener)
          return listener
        }),
        (listener) =>
          Effect.sync(() => {
            this.listeners!.delete(listener)
            this.listens()
          })
      ),
      Stream.fromQueue
    ))
  }

  get sweep(): Effect.Effect<Swept> {
    return Effect.callback<Swept>((resume) => this.recycler.sweepNow((result) => resume(Effect.succeed(result))))
  }
}

// As queuepool's recycler: often enough to notice, seldom enough to cost nothing.
const defaultCadence = "60 seconds"

// More than any pool does in a turn of the event loop.
const eventBuffer = 4096
