/**
 * What something costs, counted and not timed: fibers, timers, tasks of the scheduler
 * and operations of fibers are the same on every machine.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Scheduler from "effect/Scheduler"

/** Counts the fibers and the timers of what it is `around`: the making of a pool, for instance. */
export class Watch {
  /** Those that live now. */
  fibers = 0
  timers = 0
  /** Those that ever began. */
  forks = 0
  armed = 0
  /** The most that lived at one time. */
  peakFibers = 0
  peakTimers = 0

  readonly around = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.clockWith((clock) => {
      const sleep = (duration: Duration.Duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            this.armed++
            this.peakTimers = Math.max(this.peakTimers, ++this.timers)
          }),
          () => clock.sleep(duration),
          () => Effect.sync(() => void this.timers--)
        )
      const metrics: Metric.FiberRuntimeMetricsService = {
        recordFiberStart: () => {
          this.forks++
          this.peakFibers = Math.max(this.peakFibers, ++this.fibers)
        },
        recordFiberEnd: () => void this.fibers--
      }
      return effect.pipe(
        Effect.provideService(Clock.Clock, Object.create(clock, { sleep: { value: sleep } }) as Clock.Clock),
        Effect.provideService(Metric.FiberRuntimeMetrics, metrics)
      )
    })
}

/** A scheduler like another, that counts and, after each task, calls. */
export class CountingScheduler implements Scheduler.Scheduler {
  /** Tasks that were run. */
  tasks = 0
  /** Operations of all fibers. */
  operations = 0
  readonly executionMode: "sync" | "async"
  private readonly base: Scheduler.Scheduler
  private readonly afterTask: (() => void) | undefined

  constructor(base: Scheduler.Scheduler, afterTask?: () => void) {
    this.base = base
    this.executionMode = base.executionMode
    this.afterTask = afterTask
  }

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    this.operations++
    return this.base.shouldYield(fiber)
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    const dispatcher = this.base.makeDispatcher()
    return {
      scheduleTask: (task, priority) =>
        dispatcher.scheduleTask(() => {
          this.tasks++
          try {
            task()
          } finally {
            this.afterTask?.()
          }
        }, priority),
      flush: () => dispatcher.flush()
    }
  }
}

/** Runs an effect, and all that it forks, on a scheduler made of the one there is. */
export const scheduledBy = <A, E, R>(
  make: (base: Scheduler.Scheduler) => Scheduler.Scheduler,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Scheduler.Scheduler,
    (base) => Effect.provideService(effect, Scheduler.Scheduler, make(base))
  )

/** A watch that counts tasks and operations too. */
export class Cost {
  readonly watch = new Watch()
  private scheduler: CountingScheduler | undefined = undefined

  /** All effects that one Cost is around run on one scheduler: the first one's. */
  readonly around = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    scheduledBy((base) => this.scheduler ??= new CountingScheduler(base), this.watch.around(effect))

  get tasks(): number {
    return this.scheduler?.tasks ?? 0
  }

  get operations(): number {
    return this.scheduler?.operations ?? 0
  }
}

/**
 * The longest time in milliseconds for which the event loop answered nobody while the
 * effect ran: in processor time of this thread, so that what other processes do is not
 * counted. Not for a test's assertions, all the same: it is another on every machine.
 */
export const lagOf = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<readonly [A, lag: number], E, R> =>
  Effect.suspend(() => {
    let last = threadMillis()
    let longest = 0
    const tick = (): void => {
      const now = threadMillis()
      longest = Math.max(longest, now - last)
      last = now
    }
    const timer = setInterval(tick, 1)
    const stopped = Effect.ensuring(effect, Effect.sync(() => clearInterval(timer)))
    return Effect.map(stopped, (value) => {
      tick()
      return [value, longest] as const
    })
  })

/** Processor time of this thread. */
export const threadMillis = (): number => {
  const { system, user } = process.threadCpuUsage()
  return (system + user) / 1000
}
