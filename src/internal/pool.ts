// The effectful shell around the state machine: it runs what takes time, in the
// pool's context, and makes borrowing an Effect.
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { Closed, type PoolError } from "../PoolError.ts"
import type { PoolEvent } from "../PoolEvent.ts"
import type { Alarm } from "./alarms.ts"
import { Background, type Task } from "./background.ts"
import { Borrowing } from "./borrowing.ts"
import { Closer } from "./closer.ts"
import { beforeLease, type Hooks, watch } from "./hooks.ts"
import { holderName, type Item, type Lease, type Opening } from "./item.ts"
import { leaseClock } from "./leaseClock.ts"
import { Opens } from "./opens.ts"
import type { Settings } from "./options.ts"
import type { Shell, Work } from "./pooled.ts"
import { Recycler } from "./recycler.ts"
import type { Rules, Verdict } from "./rules.ts"
import { placeOf } from "./site.ts"
import { PoolState } from "./state.ts"
import type { Swept } from "./sweeper.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** What the user gave as effects. */
export interface Effects<A, E, R> extends Hooks<A, E, R> {
  readonly acquire: Effect.Effect<A, E, R>
  readonly check: ((item: A) => Effect.Effect<unknown, unknown, R>) | undefined
  readonly reset: ((item: A, exit: AnyExit) => Effect.Effect<unknown, unknown, R> | undefined) | undefined
  readonly retry: Schedule.Schedule<unknown, E | PoolError, unknown, R> | undefined
  readonly sweep: Schedule.Schedule<unknown, unknown, unknown, R> | Duration.Input | undefined
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
  private readonly swaps = Semaphore.makeUnsafe(1)
  private readonly opens: Opens<A, E, R>
  private readonly random: { nextDoubleUnsafe(): number }
  private readonly tasks = new Map<Item<A>, Task>()
  /** What is being done after leases of items that others have. */
  private readonly tending = new Map<Item<A>, Map<Deferred.Deferred<void>, Task>>()
  private readonly listeners = new Set<Queue.Queue<PoolEvent, Cause.Done>>()
  private readonly deadlineAlarm: Alarm
  private readonly refillAlarm: Alarm
  private readonly drainAlarm: Alarm
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
      random: () => this.random.nextDoubleUnsafe(),
      open: (opening) => this.opens.open(opening),
      cancelOpen: (opening) => this.opens.cancel(opening),
      check: this.check,
      attempt: this.attempt,
      both: (item, first, second) =>
        first === undefined ? second : Effect.zipWith(first, Scope.provide(second, item.scope), bothSpoken),
      afterLease: this.afterLease,
      cleaning: this.cleaning,
      reset: this.reset,
      tend: this.tend,
      stop: (item) => {
        this.tasks.get(item)?.stop()
        for (const task of this.tending.get(item)?.values() ?? []) task.stop()
      },
      close: (id, scope, exit) => this.closer.finish(this.closer.begin(id), scope, exit),
      wake: (borrower) => this.borrowing.wake(borrower),
      deadline: (at) => {
        if (this.deadlineAlarm.slot < 0 || at < this.deadlineAlarm.dueAt) alarms.set(this.deadlineAlarm, at)
      },
      retry: (cause) => this.opens.retry(cause),
      refill: this.refill,
      due: (at) => this.recycler.dueAfter(at),
      takenBack: this.takenBack,
      interrupt: (fiber) => background.later(() => fiber.interruptUnsafe()),
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
        minIdle: settings.minIdle,
        maxIdle: settings.maxIdle,
        order: settings.order,
        concurrency: settings.concurrency,
        targetUtilization: settings.targetUtilization,
        borrowTimeout: settings.borrowTimeout,
        maxWaiters: settings.maxWaiters,
        openConcurrency: settings.openConcurrency,
        checkAfter: effects.check === undefined ? Infinity : settings.checkAfter,
        resets: effects.reset !== undefined || effects.onReturn !== undefined,
        tends: effects.onReturn !== undefined,
        retries: effects.retry !== undefined,
        refuses: settings.whenSuspended === "fail",
        replaceTimeout: settings.replaceTimeout
      },
      rules,
      shell,
      leaseClock<A>(alarms, now, settings, {
        warn: this.warnOfLease,
        end: this.endOfLease,
        cutOff: (lease) => this.state.ending.cutOff(lease)
      })
    )
    this.borrowing = new Borrowing(this.state, background, {
      onBorrow: effects.onBorrow && this.onBorrow,
      ends: settings.maxLease < Infinity || effects.monitor !== undefined,
      traces: settings.leaseWarning < Infinity || settings.maxLease < Infinity,
      leaked: this.leaked
    })
    this.closer = new Closer(
      background,
      settings.name,
      settings.closeTimeout,
      (id, took, how, cause) => this.state.ending.gone(id, took, how, cause)
    )
    this.opens = new Opens<A, E, R>(
      {
        name: settings.name,
        acquire: effects.acquire,
        retry: effects.retry,
        hooks: effects,
        borrowTimeout: settings.borrowTimeout,
        openTimeout: settings.openTimeout,
        closeTimeout: settings.closeTimeout
      },
      rules,
      background,
      this.closer,
      () => this.state,
      {
        opened: (opening, item) => this.opened(opening, item),
        failed: (cause, told, final) => this.openFailed(cause, told, final)
      }
    )
    this.recycler = new Recycler(this.state, rules, background, this.tasks, settings)
    this.deadlineAlarm = alarms.make(() => alarms.set(this.deadlineAlarm, this.state.queue.expire(now())))
    this.refillAlarm = alarms.make(() => this.state.opener.refillNow())
    this.drainAlarm = alarms.make(() => this.state.ending.takeBack())
  }

  // ---- opening

  private opened(opening: Opening, item: Item<A>): void {
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
    const { outage } = this.state
    this.state.ending.die(item, cause)
    if (outage.shortLives > 0 && outage.refillBlocked) this.warnOnce("loses items as soon as they are open", cause)
  }

  private openFailed(cause: Cause.Cause<E | PoolError>, told: boolean, final: boolean): void {
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
    // It ends with the item in any case: others may have the item for long, or it goes for another reason.
    const guard = Scope.forkUnsafe(item.scope)
    this.background.fork(Scope.addFinalizer(guard, Effect.sync(() => fiber.interruptUnsafe())))
    fiber.addObserver(() => void Scope.closeUnsafe(guard, Exit.void))
    return Effect.onInterrupt(Fiber.join(fiber), () => Effect.sync(() => fiber.interruptUnsafe()))
  }

  private readonly afterLease = (item: Item<A>, exit: AnyExit): Work<R> | undefined =>
    workOf(() => this.effects.onReturn?.(item.value, exit))

  private readonly cleaning = (
    item: Item<A>,
    exit: AnyExit,
    verdict: Work<R> | undefined,
    ended: boolean
  ): Work<R> | undefined => {
    const { reset } = this.effects
    const clean = (): Work<R> | undefined =>
      item.status === "resetting" && item.doom === undefined ? workOf(() => reset?.(item.value, exit)) : undefined
    const after = inTurn(this.tended(item), ended ? this.afterLease(item, exit) : undefined)
    const first = inTurn(after, verdict)
    // What is to be done first may end the item, and then there is nothing to clean. One
    // that is only old may stay until it is replaced, and then it is lent again.
    const stays = (spoken: Verdict | undefined) =>
      spoken === undefined || (spoken.soft && this.settings.replaceTimeout > 0)
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

  private readonly reset = (item: Item<A>, work: Work<R>): void => {
    const { onReturn, reset } = this.effects
    const what = onReturn === undefined ? "the reset" : reset === undefined ? "onReturn" : "onReturn and the reset"
    this.tasks.set(
      item,
      this.background.run(work, this.settings.resetTimeout, what, (ended) => {
        this.tasks.delete(item)
        if (Exit.isSuccess(ended)) this.state.wasReset(item, undefined, ended.value)
        else this.state.wasReset(item, ended.cause, undefined)
      })
    )
  }

  private readonly tend = (item: Item<A>, work: Work<R>): void => {
    const over = Deferred.makeUnsafe<void>()
    const tending = this.tending.get(item) ?? new Map<Deferred.Deferred<void>, Task>()
    this.tending.set(item, tending)
    tending.set(
      over,
      this.background.run(work, this.settings.resetTimeout, "onReturn", (ended) => {
        tending.delete(over)
        if (tending.size === 0) this.tending.delete(item)
        if (Exit.isFailure(ended)) this.state.wasTended(item, ended.cause)
        Deferred.doneUnsafe(over, Exit.void)
      })
    )
  }

  private readonly onBorrow = (item: Item<A>, left: number, done: (exit: AnyExit) => void): () => void => {
    const { checkTimeout } = this.settings
    const timeout = Math.max(0, Math.min(checkTimeout, left))
    return beforeLease(this.background, this.effects.onBorrow!, item.value, timeout, left < checkTimeout, done)
  }

  // ---- the pool's own life

  /** Starts what a pool does by itself; ends when it is as warm as the options ask. `started` hears that it has begun. */
  readonly start = (started: () => void): Effect.Effect<void, E | PoolError> =>
    Effect.suspend(() => {
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
        started()
        return Effect.void
      }
      return Effect.callback<void, E | PoolError>((resume) => {
        // Only now: this fiber may yield before it listens.
        this.whenWarm = resume
        this.state.pump(this.background.now())
        started()
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
    this.opens.stop()
    this.state.ending.close()
    this.warmFailed(Cause.fail(this.borrowing.error(new Closed())))
    if (!this.empty) background.alarms.set(this.drainAlarm, background.now() + this.settings.drainTimeout)
  })

  private readonly takenBack = (lease: Lease<A>): void =>
    this.warn(lease, "is closed under", ": the pool is closing and drainTimeout is over")

  private readonly warnOfLease = (lease: Lease<A>): void => {
    const { background, state } = this
    const held = background.now() - lease.since
    if (state.listening) {
      state.tell({ _tag: "LeaseWarning", item: lease.item.id, held, by: holderName(lease) }, background.now())
    }
    this.warn(lease, "is still lent to", "")
  }

  private readonly endOfLease = (lease: Lease<A>): void => {
    this.warn(lease, "is taken from", ": maxLease is over")
    this.state.ending.endLease(lease, "maxLease")
  }

  private readonly leaked = (lease: Lease<A>): void => {
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
  readonly swap = (acquire: Effect.Effect<A, E, R>, over: number): Effect.Effect<void, E | PoolError> =>
    // One after the other: the last to be asked for is the one that stays.
    this.swaps.withPermit(this.opens.try(acquire, over))

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

// One that takes others with it must not be lost.
const bothSpoken = (first: Verdict | undefined, second: Verdict | undefined): Verdict | undefined =>
  first === undefined || (second !== undefined && second.also !== "none") ? second : first

const inTurn = <R>(first: Work<R> | undefined, second: Work<R> | undefined): Work<R> | undefined =>
  first === undefined ? second : second === undefined ? first : Effect.andThen(first, second)

/** What the user's function gives to do, if anything; what it throws is a failure like any other. */
const workOf = <R>(f: () => Effect.Effect<unknown, unknown, R> | undefined): Work<R> | undefined => {
  try {
    const work = f()
    return work && Effect.as(Effect.scoped(work), undefined)
  } catch (defect) {
    return Effect.die(defect)
  }
}
