// Work that the pool does for itself, in the pool's context and never on a
// borrower's stack: every piece has a deadline and says once how it ended.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import { type Alarm, Alarms, Sleeper } from "./alarms.ts"
import { monotonicMillis } from "./monotonic.ts"
import { Rush } from "./rush.ts"

/** A piece of work: `stop`, once and before it is done, interrupts it, and `done` hears that in a later turn. */
export interface Task {
  readonly stop: () => void
}

/** What all pools of one map share: a clock, its turns, and one fiber that sleeps. */
class Ground<R> {
  readonly clock: Clock.Clock
  readonly rush: Rush
  readonly scheduler: Scheduler.Scheduler
  readonly sleeper: Sleeper
  private readonly source: { nextDoubleUnsafe(): number }
  readonly dispatcher: Scheduler.SchedulerDispatcher
  private readonly runFork: <A, E>(effect: Effect.Effect<A, E, R>) => Fiber.Fiber<A, E>

  constructor(context: Context.Context<R>) {
    this.clock = Context.get(context, Clock.Clock)
    this.scheduler = Context.get(context, Scheduler.Scheduler)
    this.source = Context.get(context, Random.Random)
    this.dispatcher = this.scheduler.makeDispatcher()
    this.runFork = Effect.runForkWith(context)
    this.sleeper = new Sleeper(this.clock, this.now, this.fork)
    this.rush = new Rush(this.now, this.next)
  }

  readonly now = (): number => monotonicMillis(this.clock)

  readonly random = (): number => this.source.nextDoubleUnsafe()

  readonly fork = <A, E>(effect: Effect.Effect<A, E, R>): Fiber.Fiber<A, E> => this.runFork(effect)

  /** In its own turn, a task that throws nothing. */
  private readonly next = (task: () => void): void => this.dispatcher.scheduleTask(task, 0)

  readonly later = (task: () => void): void => this.next(() => guarded(task))
}

export class Background<R> {
  /** This pool's, whoever shares the rest. */
  readonly alarms: Alarms
  private readonly ground: Ground<R>

  /** Of a context; or of another Background, to share all of it but the alarms. */
  constructor(given: Context.Context<R> | Background<R>) {
    this.ground = given instanceof Background ? given.ground : new Ground(given)
    this.alarms = new Alarms(this.ground.sleeper)
  }

  get clock(): Clock.Clock {
    return this.ground.clock
  }

  get scheduler(): Scheduler.Scheduler {
    return this.ground.scheduler
  }

  /** Of its own turns. */
  get dispatcher(): Scheduler.SchedulerDispatcher {
    return this.ground.dispatcher
  }

  /** From 0 to 1. */
  get random(): () => number {
    return this.ground.random
  }

  /** Monotonic milliseconds. */
  get now(): () => number {
    return this.ground.now
  }

  get fork(): <A, E>(effect: Effect.Effect<A, E, R>) => Fiber.Fiber<A, E> {
    return this.ground.fork
  }

  get rush(): Rush {
    return this.ground.rush
  }

  /** In its own turn. What a task throws must not cost the tasks that share its turn. */
  get later(): (task: () => void) => void {
    return this.ground.later
  }

  /**
   * Runs an effect in its own turn. `done` hears how it ended, or at the deadline
   * that it has not; it is then interrupted and nobody waits for it.
   */
  run<A, E>(
    effect: Effect.Effect<A, E, R>,
    timeout: number,
    what: string,
    done: (exit: Exit.Exit<A, E | Cause.TimeoutError>) => void
  ): Task {
    let over = false
    let fiber: Fiber.Fiber<A, E> | undefined
    const alarm: Alarm = this.alarms.make(() => {
      end(Exit.fail(new Cause.TimeoutError(`${what} took longer than ${timeout}ms`)))
      fiber?.interruptUnsafe()
    })
    const end = (exit: Exit.Exit<A, E | Cause.TimeoutError>): void => {
      if (over) return
      over = true
      this.alarms.cancel(alarm)
      done(exit)
    }
    this.later(() => {
      if (over) return
      this.alarms.set(alarm, this.now() + timeout)
      fiber = this.fork(effect)
      // What it did first may have been the end of what it is for.
      if (over) fiber.interruptUnsafe()
      else fiber.addObserver(end)
    })
    return {
      stop: () => {
        over = true
        this.alarms.cancel(alarm)
        fiber?.interruptUnsafe()
        this.later(() => done(Exit.interrupt()))
      }
    }
  }
}

const guarded = (task: () => void): void => {
  try {
    task()
  } catch (error) {
    uncaught(error)
  }
}

/** Observers of a fiber are users' code and may throw: as they would anywhere else, uncaught. */
export const uncaught = (error: unknown): void => {
  // oxlint-disable-next-line no-restricted-globals -- not time: the only way to throw where nobody catches
  queueMicrotask(() => {
    throw error
  })
}
