// The effectful shell around the state machine: it runs what takes time, in the
// pool's context, and makes borrowing an Effect.
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Closed, OpenInterrupted, OpenTimeout, type PoolError } from "../PoolError.ts"
import type { PoolEvent } from "../PoolEvent.ts"
import type { Alarm } from "./alarms.ts"
import { Background, type Task } from "./background.ts"
import { Borrowing } from "./borrowing.ts"
import { Closer, type Closing } from "./closer.ts"
import { holderName, type Item, type Opening } from "./item.ts"
import type { Settings } from "./options.ts"
import { Recycler } from "./recycler.ts"
import type { Rules, Verdict } from "./rules.ts"
import { PoolState, type Shell, type Work } from "./state.ts"
import type { Swept } from "./sweeper.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** What the user gave as effects. */
export interface Effects<A, E, R> {
  readonly acquire: Effect.Effect<A, E, R>
  readonly check: ((item: A) => Effect.Effect<unknown, unknown, R>) | undefined
  readonly reset: ((item: A, exit: AnyExit) => Effect.Effect<unknown, unknown, R> | undefined) | undefined
  readonly retry: Schedule.Schedule<unknown, E | PoolError, unknown, R> | undefined
  readonly sweep: Schedule.Schedule<unknown, unknown, unknown, R> | Duration.Input | undefined
}

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

export class Pool<A, E, R> {
  readonly settings: Settings
  readonly state: PoolState<A, R>
  readonly borrowing: Borrowing<A, E, R>
  readonly recycler: Recycler<A, R>
  private readonly rules: Rules<A, R>
  private readonly effects: Effects<A, E, R>
  private readonly background: Background<R>
  private readonly closer: Closer
  private readonly random: { nextDoubleUnsafe(): number }
  private readonly jobs = new Map<Opening, Job>()
  private readonly tasks = new Map<Item<A>, Task>()
  private readonly listeners = new Set<Queue.Queue<PoolEvent, Cause.Done>>()
  private readonly deadlineAlarm: Alarm
  private readonly retryAlarm: Alarm
  private readonly refillAlarm: Alarm
  private readonly drainAlarm: Alarm
  /** One copy of the retry Schedule for one outage. */
  private road: Step<E, R> | undefined
  /** The step of the retry Schedule that is under way. */
  private retrying: Task | undefined = undefined
  private whenWarm: ((exit: Exit.Exit<void, E | PoolError>) => void) | undefined = undefined
  private whenEmpty: (() => void) | undefined = undefined
  private empty = false
  /** The log has told that opens fail. */
  private warned = false
  private recyclerFiber: Fiber.Fiber<void> | undefined = undefined

  constructor(settings: Settings, effects: Effects<A, E, R>, rules: Rules<A, R>, context: Context.Context<R>) {
    this.settings = settings
    this.effects = effects
    this.rules = rules
    const background = this.background = new Background(context)
    const { alarms, now } = background
    this.random = Context.get(context, Random.Random)
    const shell: Shell<A, R> = {
      now,
      wallNow: () => background.clock.currentTimeMillisUnsafe(),
      open: this.open,
      cancelOpen: this.cancelOpen,
      check: this.check,
      attempt: this.attempt,
      cleaning: this.cleaning,
      reset: this.reset,
      stop: (item) => this.tasks.get(item)?.stop(),
      close: (id, scope, exit) => this.closer.finish(this.closer.begin(id), scope, exit),
      wake: (borrower) => this.borrowing.wake(borrower),
      deadline: (at) => {
        if (this.deadlineAlarm.slot < 0 || at < this.deadlineAlarm.dueAt) alarms.set(this.deadlineAlarm, at)
      },
      retry: this.retry,
      refill: this.refill,
      due: (at) => this.recycler.dueAfter(at),
      takenBack: this.takenBack,
      empty: () => {
        this.empty = true
        this.whenEmpty?.()
      },
      emit: (event) => {
        for (const listener of this.listeners) Queue.offerUnsafe(listener, event)
      }
    }
    this.state = new PoolState(
      {
        name: settings.name,
        min: settings.min,
        max: settings.max,
        lifo: settings.order === "lifo",
        borrowTimeout: settings.borrowTimeout,
        maxWaiters: settings.maxWaiters,
        openConcurrency: settings.openConcurrency,
        checkAfter: effects.check === undefined ? Infinity : settings.checkAfter,
        resets: effects.reset !== undefined,
        retries: effects.retry !== undefined
      },
      rules,
      shell
    )
    this.borrowing = new Borrowing(this.state, background)
    this.closer = new Closer(
      background,
      settings.name,
      settings.closeTimeout,
      (id, took, how, cause) => this.state.gone(id, took, how, cause)
    )
    this.recycler = new Recycler(this.state, rules, background, this.tasks, settings)
    this.deadlineAlarm = alarms.make(() => alarms.set(this.deadlineAlarm, this.state.queue.expire(now())))
    this.retryAlarm = alarms.make(() => this.state.retryNow())
    this.refillAlarm = alarms.make(() => this.state.refillNow())
    this.drainAlarm = alarms.make(() => this.state.takeBack())
  }

  // ---- opening

  private readonly open = (opening: Opening): void => {
    const { background, settings } = this
    const job: Job = {
      scope: Scope.makeUnsafe(),
      alarm: background.alarms.make(() => this.openTimedOut(opening, job)),
      fiber: undefined,
      closing: undefined
    }
    this.jobs.set(opening, job)
    background.later(() => {
      if (job.closing !== undefined) return this.openLate(opening, job, Exit.void)
      background.alarms.set(job.alarm, background.now() + settings.openTimeout)
      const fiber = background.fork(Effect.flatMap(
        Scope.provide(this.effects.acquire, job.scope),
        (value) => {
          const item = this.state.admit(opening, value, job.scope)
          return Effect.as(Scope.provide(this.rules.start(item) ?? Effect.void, job.scope), item)
        }
      ))
      job.fiber = fiber
      fiber.addObserver((exit) => this.openEnded(opening, job, exit))
    })
  }

  private openEnded(opening: Opening, job: Job, exit: Exit.Exit<Item<A>, E>): void {
    if (job.closing !== undefined) return this.openLate(opening, job, exit)
    this.jobs.delete(opening)
    this.background.alarms.cancel(job.alarm)
    if (Exit.isSuccess(exit)) {
      this.road = undefined
      if (this.warned) this.log(Effect.logInfo(`pool "${this.settings.name}" can open items again`))
      this.warned = false
      this.stopRetrying()
      this.background.alarms.cancel(this.retryAlarm)
      this.state.opened(opening, exit.value)
      this.warm()
      return
    }
    // What a failed acquire leaves in its scope is closed; until then it holds the slot.
    const leftover = job.scope.state._tag === "Open"
    if (leftover) this.closer.finish(this.closer.begin(opening.id), job.scope, exit)
    // A borrower must not believe that it was itself interrupted.
    const cause = Cause.hasInterruptsOnly(exit.cause)
      ? Cause.fail(this.borrowing.error(new OpenInterrupted()))
      : exit.cause
    this.openFailed(opening, cause, leftover)
  }

  private openTimedOut(opening: Opening, job: Job): void {
    this.giveUp(opening, job)
    const { openTimeout } = this.settings
    this.openFailed(opening, Cause.fail(this.borrowing.error(new OpenTimeout({ openTimeout }))), true)
    job.fiber!.interruptUnsafe()
  }

  private readonly cancelOpen = (opening: Opening): void => {
    const job = this.jobs.get(opening)!
    this.giveUp(opening, job)
    this.background.later(() => job.fiber?.interruptUnsafe())
  }

  private giveUp(opening: Opening, job: Job): void {
    this.background.alarms.cancel(job.alarm)
    job.closing = this.closer.begin(opening.id)
  }

  private openLate(opening: Opening, job: Job, exit: AnyExit): void {
    this.jobs.delete(opening)
    this.closer.finish(job.closing!, job.scope, exit)
  }

  private openFailed(opening: Opening, cause: Cause.Cause<E | PoolError>, leftover: boolean): void {
    const retryable = cause.reasons.some(Cause.isFailReason)
    const told = opening.waiter !== undefined && !(retryable && this.state.settings.retries)
    this.state.openFailed(opening, cause, retryable, leftover)
    if (!told) this.warnOnce(cause)
    if (!retryable || !this.state.settings.retries) this.warmFailed(cause)
  }

  // With items in circulation it is no news: a server that is full refuses more. Without,
  // somebody must hear of it, for waiters hear only when their time is over.
  private warnOnce(cause: Cause.Cause<unknown>): void {
    const { closed, idle, lent } = this.state
    if (this.warned || closed || idle.size + lent > 0) return
    this.warned = true
    this.log(Effect.logWarning(`pool "${this.settings.name}" cannot open items and goes on trying`, cause))
  }

  // Not in this step: a logger may call back into the pool.
  private log(line: Effect.Effect<void>): void {
    this.background.later(() => this.background.fork(line))
  }

  private readonly retry = (cause: Cause.Cause<unknown>): void => {
    const { background } = this
    const over = (why: Cause.Cause<unknown>): void => {
      this.road = undefined
      this.state.retryOver(why)
      this.warmFailed(why as Cause.Cause<E | PoolError>)
    }
    const error = (cause as Cause.Cause<E | PoolError>).reasons.find(Cause.isFailReason)!.error
    const next = Effect.flatMap(
      Effect.suspend(() =>
        this.road === undefined
          ? Effect.map(Schedule.toStep(this.effects.retry!), (step) => {
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
              const millis = Duration.toMillis(delay)
              const now = background.now()
              if (this.state.listening) this.state.tell({ _tag: "Retrying", in: millis }, now)
              background.alarms.set(this.retryAlarm, now + millis)
            }),
          onDone: () => Effect.sync(() => over(cause)),
          onFailure: (failure) => Effect.sync(() => over(Cause.combine(cause, failure)))
        })
    )
    const step = this.retrying = background.run(
      Effect.scoped(next),
      this.settings.openTimeout,
      "the retry Schedule",
      (exit) => {
        if (this.retrying !== step) return
        this.retrying = undefined
        if (Exit.isFailure(exit)) over(Cause.combine(cause, exit.cause))
      }
    )
  }

  private stopRetrying(): void {
    const { retrying } = this
    this.retrying = undefined
    retrying?.stop()
  }

  // 100 ms, doubled to 5 s, jittered down by up to a fifth: as most pools that
  // reconnect, and never in step with another pool that lost the same server.
  private readonly refill = (failures: number): void => {
    const delay = Math.min(5000, 100 * 2 ** (failures - 1)) * (1 - 0.2 * this.random.nextDoubleUnsafe())
    this.background.alarms.set(this.refillAlarm, this.background.now() + delay)
  }

  // ---- checking and resetting

  private readonly check = (item: Item<A>): void => {
    const { checkTimeout } = this.settings
    const check = Effect.scoped(Effect.suspend(() => this.effects.check!(item.value)))
    this.tasks.set(
      item,
      this.background.run(check, checkTimeout, "the check", (exit) => {
        this.tasks.delete(item)
        const failed = Exit.isFailure(exit)
          ? exit.cause
          : exit.value === false
          ? Cause.fail(new Error("the check returned false"))
          : undefined
        this.state.wasChecked(item, failed)
      })
    )
  }

  private readonly attempt = (item: Item<A>, verdict: Work<R>): Verdict | undefined | Work<R> => {
    // What a rule acquires lives as long as the item that it is about.
    const fiber = this.background.fork(Scope.provide(verdict, item.scope))
    const exit = fiber.pollUnsafe()
    if (exit !== undefined && Exit.isSuccess(exit)) return exit.value
    return Effect.onInterrupt(Fiber.join(fiber), () => Effect.sync(() => fiber.interruptUnsafe()))
  }

  private readonly cleaning = (item: Item<A>, exit: AnyExit, verdict: Work<R> | undefined): Work<R> | undefined => {
    const { reset } = this.effects
    const clean = (): Work<R> | undefined => {
      try {
        const work = reset?.(item.value, exit)
        return work && Effect.as(Effect.scoped(work), undefined)
      } catch (defect) {
        return Effect.die(defect)
      }
    }
    if (verdict === undefined) return clean()
    return Effect.flatMap(verdict, (spoken) => (spoken === undefined ? clean() : undefined) ?? Effect.succeed(spoken))
  }

  private readonly reset = (item: Item<A>, work: Work<R>): void => {
    this.tasks.set(
      item,
      this.background.run(work, this.settings.resetTimeout, "the reset", (ended) => {
        this.tasks.delete(item)
        if (Exit.isSuccess(ended)) this.state.wasReset(item, undefined, ended.value)
        else this.state.wasReset(item, ended.cause, undefined)
      })
    )
  }

  // ---- the pool's own life

  /** Starts what a pool does by itself; ends when it is as warm as the options ask. */
  readonly start: Effect.Effect<void, E | PoolError> = Effect.suspend(() => {
    // The scope was closed before it was given to us.
    if (this.state.closed) return Effect.fail(this.borrowing.error(new Closed()))
    const { sweep } = this.effects
    const { min, warm } = this.settings
    const cadence = sweep === undefined
      ? this.rules.sweeps ? Schedule.spaced(defaultCadence) : undefined
      : Schedule.isSchedule(sweep)
      ? sweep
      : Schedule.spaced(sweep)
    this.recyclerFiber = this.background.fork(this.recycler.run(cadence))
    this.state.lazy = warm === "lazy"
    this.state.outage.probing = warm === "eager" && min > 0
    if (warm !== "eager" || min === 0) {
      this.state.pump(this.background.now())
      return Effect.void
    }
    return Effect.callback<void, E | PoolError>((resume) => {
      // Only now: this fiber may yield before it listens.
      this.whenWarm = resume
      this.state.pump(this.background.now())
    })
  })

  private warm(): void {
    if (this.whenWarm === undefined || this.state.idle.size + this.state.lent < this.settings.min) return
    this.whenWarm(Exit.void)
    this.whenWarm = undefined
  }

  private warmFailed(cause: Cause.Cause<E | PoolError>): void {
    this.whenWarm?.(Exit.failCause(cause))
    this.whenWarm = undefined
  }

  /** Ends within `drainTimeout + closeTimeout`: every item has its own deadline. */
  readonly close: Effect.Effect<void> = Effect.callback<void>((resume) => {
    const { background } = this
    this.whenEmpty = () => {
      background.alarms.stop()
      for (const listener of this.listeners) Queue.endUnsafe(listener)
      resume(Effect.void)
    }
    this.recyclerFiber?.interruptUnsafe()
    this.stopRetrying()
    this.state.close()
    this.warmFailed(Cause.fail(this.borrowing.error(new Closed())))
    if (!this.empty) background.alarms.set(this.drainAlarm, background.now() + this.settings.drainTimeout)
  })

  private readonly takenBack = (item: Item<A>): void => {
    const held = Math.round(this.background.now() - item.lentAt)
    const message = `item ${item.id} of pool "${this.settings.name}" is closed under "${
      holderName(item)
    }", which has held it for ${held}ms: the pool is closing and drainTimeout is over`
    this.log(Effect.logWarning(message))
  }

  /** Every listener has its own buffer; a slow one loses the oldest events. */
  readonly events: Stream.Stream<PoolEvent> = Stream.unwrap(Effect.map(
    Effect.acquireRelease(
      Effect.map(Queue.sliding<PoolEvent, Cause.Done>(eventBuffer), (listener) => {
        this.listeners.add(listener)
        this.state.listening = true
        if (this.empty) Queue.endUnsafe(listener)
        return listener
      }),
      (listener) =>
        Effect.sync(() => {
          this.listeners.delete(listener)
          this.state.listening = this.listeners.size > 0
        })
    ),
    Stream.fromQueue
  ))

  readonly sweep = Effect.callback<Swept>((resume) =>
    this.recycler.sweepNow((result) => resume(Effect.succeed(result)))
  )
}

// As queuepool's recycler: often enough to notice, seldom enough to cost nothing.
const defaultCadence = "60 seconds"

// More than any pool does in a turn of the event loop.
const eventBuffer = 4096

const shells = new WeakMap<object, { readonly state: { lose(item: unknown, reason: string): void } }>()

/** Makes the shell behind a public pool known to `lose`. */
export const register = <A, E, R>(pool: object, shell: Pool<A, E, R>): void => {
  shells.set(pool, shell)
}

/**
 * For what is built on a pool and hears of the end of an item: the item is recycled
 * at once, also while it is lent.
 */
export const lose = (pool: object, item: unknown, reason: string): void => shells.get(pool)!.state.lose(item, reason)
