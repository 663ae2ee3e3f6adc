// The effectful half of opening: runs `acquire` in the pool's context with its
// deadline, steps the retry Schedule, and tries a new way to acquire.
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { BorrowTimeout, Closed, OpenInterrupted, OpenTimeout, PoolError } from "../PoolError.ts"
import type { Alarm } from "./alarms.ts"
import type { Background, Task } from "./background.ts"
import type { Closer, Closing } from "./closer.ts"
import { type Effects, prepared } from "./hooks.ts"
import type { Item, Opening, Trial } from "./item.ts"
import type { Settings } from "./options.ts"
import type { Rules } from "./rules.ts"
import type { PoolState } from "./state.ts"

type AnyExit = Exit.Exit<unknown, unknown>

type Step<E, R> = (
  now: number,
  input: E | PoolError
) => Pull.Pull<[unknown, Duration.Duration], unknown, unknown, R>

interface Job {
  readonly scope: Scope.Closeable
  readonly alarm: Alarm
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** Set when the open is given up: what comes of it is closed on arrival. */
  closing: Closing | undefined
}

/** The pool that opens. */
interface Host<A, E, R> {
  readonly settings: Settings
  readonly effects: Effects<A, E, R>
  readonly rules: Rules<A, R>
  readonly background: Background<R>
  readonly closer: Closer
  readonly state: PoolState<A, R>
  opened(opening: Opening, item: Item<A>): void
  /** `told`: a borrower hears of it; `final`: no retry will follow. */
  openFailed(cause: Cause.Cause<E | PoolError>, told: boolean, final: boolean): void
}

export class Opens<A, E, R> {
  /** How an item is acquired from now on. */
  acquire: Effect.Effect<A, E, R>
  readonly retryAlarm: Alarm
  private readonly pool: Host<A, E, R>
  private readonly background: Background<R>
  private readonly jobs = new Map<Opening, Job>()
  /** One copy of the retry Schedule for one outage. */
  private road: Step<E, R> | undefined
  /** The step of the retry Schedule that is under way. */
  private retrying: Task | undefined = undefined
  private trying: Trying<E> | undefined = undefined

  constructor(pool: Host<A, E, R>) {
    this.pool = pool
    this.acquire = pool.effects.acquire
    this.background = pool.background
    this.retryAlarm = this.background.alarms.make(() => pool.state.opener.retryNow())
  }

  open(opening: Opening): void {
    const { background, pool: { effects, rules, settings, state } } = this
    const job: Job = {
      scope: Scope.makeUnsafe(),
      alarm: background.alarms.make(() => this.timedOut(opening, job)),
      fiber: undefined,
      closing: undefined
    }
    this.jobs.set(opening, job)
    const acquire = opening.trial === undefined ? this.acquire : opening.trial.acquire as Effect.Effect<A, E, R>
    background.later(() => {
      if (job.closing !== undefined) return this.late(opening, job, Exit.void)
      background.alarms.set(job.alarm, background.now() + settings.openTimeout)
      const fiber = background.fork(Effect.flatMap(
        Scope.provide(prepared(background, acquire, effects, settings.closeTimeout / 2), job.scope),
        (value) => {
          const item = state.opener.admit(opening, value, job.scope)
          return Effect.as(Scope.provide(rules.start(item) ?? Effect.void, job.scope), item)
        }
      ))
      job.fiber = fiber
      fiber.addObserver((exit) => this.ended(opening, job, exit))
    })
  }

  private ended(opening: Opening, job: Job, exit: Exit.Exit<Item<A>, E>): void {
    if (job.closing === undefined && Exit.isFailure(exit)) this.pool.state.opener.asks(opening, exit.cause)
    // What was asked may have closed the pool.
    if (job.closing !== undefined) return this.late(opening, job, exit)
    this.jobs.delete(opening)
    this.background.alarms.cancel(job.alarm)
    if (Exit.isSuccess(exit)) return this.succeeded(opening, exit.value)
    // What a failed acquire leaves in its scope is closed; until then it holds the slot.
    const leftover = job.scope.state._tag === "Open"
    if (leftover) this.pool.closer.finish(this.pool.closer.begin(opening.id), job.scope, exit)
    // A borrower must not believe that it was itself interrupted.
    const cause = Cause.hasInterruptsOnly(exit.cause) ? Cause.fail(this.error(new OpenInterrupted())) : exit.cause
    this.failed(opening, cause, leftover)
  }

  private succeeded(opening: Opening, item: Item<A>): void {
    if (opening.trial !== undefined) this.acquire = opening.trial.acquire as Effect.Effect<A, E, R>
    this.road = undefined
    this.stopRetrying()
    this.background.alarms.cancel(this.retryAlarm)
    this.pool.opened(opening, item)
    // What was asked meanwhile may have closed the pool.
    if (opening.trial !== undefined && this.trying !== undefined) this.tried(Exit.void)
  }

  private timedOut(opening: Opening, job: Job): void {
    this.giveUp(opening, job)
    const { openTimeout } = this.pool.settings
    this.failed(opening, Cause.fail(this.error(new OpenTimeout({ openTimeout }))), true)
    job.fiber!.interruptUnsafe()
  }

  cancel(opening: Opening): void {
    const job = this.jobs.get(opening)!
    this.giveUp(opening, job)
    this.background.later(() => job.fiber?.interruptUnsafe())
  }

  private giveUp(opening: Opening, job: Job): void {
    this.background.alarms.cancel(job.alarm)
    job.closing = this.pool.closer.begin(opening.id)
  }

  private late(opening: Opening, job: Job, exit: AnyExit): void {
    this.jobs.delete(opening)
    this.pool.closer.finish(job.closing!, job.scope, exit)
  }

  private failed(opening: Opening, cause: Cause.Cause<E | PoolError>, leftover: boolean): void {
    const { effects, state: { opener } } = this.pool
    if (opening.trial !== undefined) {
      opener.trialFailed(opening, cause, leftover)
      this.tried(Exit.failCause(cause))
      return
    }
    const retryable = cause.reasons.some(Cause.isFailReason)
    const retries = retryable && effects.retry !== undefined
    const told = opening.waiter !== undefined && !retries
    opener.failed(opening, cause, retryable, leftover)
    this.pool.openFailed(cause, told, !retries)
  }

  // ---- the retry road

  retry(cause: Cause.Cause<unknown>): void {
    const { background, pool } = this
    const over = (why: Cause.Cause<unknown>): void => {
      this.road = undefined
      pool.state.opener.retryOver(why)
      pool.openFailed(why as Cause.Cause<E | PoolError>, true, true)
    }
    const error = (cause as Cause.Cause<E | PoolError>).reasons.find(Cause.isFailReason)!.error
    const next = Effect.flatMap(
      Effect.suspend(() =>
        this.road === undefined
          ? Effect.map(Schedule.toStep(pool.effects.retry!), (step) => {
            // The time of its steps starts as the wall clock's and goes on monotonically.
            const start = background.clock.currentTimeMillisUnsafe() - background.now()
            return this.road = (now, input) => Effect.suspend(() => step(start + now, input))
          })
          : Effect.succeed(this.road)
      ),
      (step) =>
        Pull.matchEffect(step(background.now(), error), {
          onSuccess: ([, delay]) =>
            Effect.sync(() => {
              const { state } = pool
              const millis = Duration.toMillis(delay)
              const now = background.now()
              if (state.listening) state.tell({ _tag: "Retrying", in: millis }, now)
              background.alarms.set(this.retryAlarm, now + millis)
            }),
          onDone: () => Effect.sync(() => over(cause)),
          onFailure: (failure) => Effect.sync(() => over(Cause.combine(cause, failure)))
        })
    )
    const step = this.retrying = background.run(
      Effect.scoped(next),
      pool.settings.openTimeout,
      "the retry Schedule",
      (exit) => {
        if (this.retrying !== step) return
        this.retrying = undefined
        if (Exit.isFailure(exit)) over(Cause.combine(cause, exit.cause))
      }
    )
  }

  stopRetrying(): void {
    const { retrying } = this
    this.retrying = undefined
    retrying?.stop()
  }

  // ---- a new way to acquire

  /**
   * Opens one item in the new way; from then on all are, and the old items go within the
   * time given. One at a time; it waits for room no longer than a borrower.
   */
  try(acquire: Effect.Effect<A, E, R>, over: number): Effect.Effect<void, E | PoolError> {
    return Effect.callback((resume) => {
      const { background: { alarms, now }, pool: { settings, state: { closed, opener } } } = this
      const since = now()
      const trial: Trial = { acquire, over }
      const alarm = alarms.make(() => {
        if (opener.trial !== trial) return
        // An item has gone for it already.
        if (opener.roomComes) return alarms.set(alarm, now() + settings.closeTimeout)
        this.tried(Exit.fail(this.error(this.noRoom(since))))
      })
      const trying = this.trying = { resume, alarm }
      if (closed) return this.tried(Exit.fail(this.error(new Closed())))
      alarms.set(alarm, since + settings.borrowTimeout)
      opener.try(trial)
      return Effect.sync(() => {
        if (this.trying !== trying) return
        const cause = Cause.interrupt()
        opener.giveUp(trial, cause)
        this.tried(Exit.failCause(cause))
      })
    })
  }

  private tried(exit: Exit.Exit<void, E | PoolError>): void {
    const { alarm, resume } = this.trying!
    this.trying = undefined
    this.background.alarms.cancel(alarm)
    const { state } = this.pool
    state.opener.endTrial()
    if (state.listening && Exit.isFailure(exit)) {
      state.tell({ _tag: "SwapFailed", cause: exit.cause }, this.background.now())
    }
    this.background.later(() => resume(exit))
  }

  private noRoom(since: number): BorrowTimeout {
    const { state } = this.pool
    const capacity = state.budget?.told
    return new BorrowTimeout({
      waited: this.background.now() - since,
      phase: capacity === undefined ? "waiting" : "parked",
      counts: state.counts(),
      own: 0,
      oldestLease: undefined,
      capacity,
      lastFailure: state.outage.lastFailure
    })
  }

  /** The pool closes. */
  stop(): void {
    this.stopRetrying()
    if (this.trying !== undefined) this.tried(Exit.fail(this.error(new Closed())))
  }

  private error(reason: PoolError["reason"]): PoolError {
    return new PoolError({ pool: this.pool.settings.name, reason })
  }
}

/** Who waits for a trial, and what ends its wait for room. */
interface Trying<E> {
  readonly resume: (exit: Exit.Exit<void, E | PoolError>) => void
  readonly alarm: Alarm
}
