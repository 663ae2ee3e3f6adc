// Work that the pool does for itself, in the pool's context and never on a
// borrower's stack: every piece has a deadline and says once how it ended.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import { type Alarm, Alarms } from "./alarms.ts"

/** A piece of work: `stop`, once and before it is done, interrupts it, and `done` hears that in a later turn. */
export interface Task {
  readonly stop: () => void
}

export class Background<R> {
  readonly alarms: Alarms
  readonly clock: Clock.Clock
  readonly scheduler: Scheduler.Scheduler
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  private readonly runFork: <A, E>(effect: Effect.Effect<A, E, R>) => Fiber.Fiber<A, E>

  constructor(context: Context.Context<R>) {
    this.clock = Context.get(context, Clock.Clock)
    this.scheduler = Context.get(context, Scheduler.Scheduler)
    this.dispatcher = this.scheduler.makeDispatcher()
    this.runFork = Effect.runForkWith(context)
    this.alarms = new Alarms(this.clock, this.now, this.fork)
  }

  /** Monotonic milliseconds. */
  readonly now = (): number => monotonicMillis(this.clock)

  readonly fork = <A, E>(effect: Effect.Effect<A, E, R>): Fiber.Fiber<A, E> => this.runFork(effect)

  /** In its own turn. What a task throws must not cost the tasks that share its turn. */
  readonly later = (task: () => void): void => this.dispatcher.scheduleTask(() => guarded(task), 0)

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
      fiber.addObserver(end)
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

export const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Observers of a fiber are users' code and may throw: as they would anywhere else, uncaught. */
export const guarded = (task: () => void): void => {
  try {
    task()
  } catch (error) {
    // oxlint-disable-next-line no-restricted-globals -- not time: the only way to throw where nobody catches
    queueMicrotask(() => {
      throw error
    })
  }
}
