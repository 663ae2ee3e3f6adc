/**
 * A world of its own for one run: time that only moves when told, and a scheduler
 * that runs ready tasks on the spot, in order or in a seeded random order.
 *
 * Nothing here waits for the real event loop, so a run of some hundred steps takes
 * less than a millisecond, and time can do what TestClock's cannot: jump without
 * timers running (a stall), and differ between wall and monotonic clock.
 */
import { Clock, Context, Duration, Effect, Fiber, Metric, Random, References, Scheduler } from "effect"
import type { Rng } from "./random.ts"

/**
 * Which ready task runs next: the oldest, the oldest of any fiber (each keeps its
 * own order), or any at all.
 */
export type TaskOrder = "fifo" | "fibers" | "any"

interface Task {
  readonly run: () => void
  readonly priority: number
  readonly owner: object
}

interface Sleep {
  readonly at: number
  readonly wake: () => void
}

/** What was promised and did not hold. */
export class Violation extends Error {
  readonly title: string
  constructor(title: string, detail: string) {
    super(`${title}: ${detail}`)
    this.title = title
  }
}

/** More tasks than any honest command needs before everything sleeps. */
const spinning = 20_000

export class World {
  /** Monotonic milliseconds. */
  now = 0
  /** When the last stall ended. */
  stalledAt = -Infinity
  /** How long all stalls were. */
  stalled = 0
  /** How far the wall clock is off. */
  wallShift = 0
  /** Fibers started, and those of them that have not ended. */
  forks = 0
  fibers = 0
  ran = 0
  /** The first broken promise: thrown inside an effect it would be its defect and no more. */
  violation: Violation | undefined = undefined
  /** Called after every task. */
  afterTask: () => void = () => {}
  readonly context: Context.Context<never>
  private tasks: Array<Task> = []
  /** The latest first. */
  private readonly sleeps: Array<Sleep> = []
  private readonly rng: Rng
  private readonly order: TaskOrder

  constructor(rng: Rng, order: TaskOrder, maxOps: number) {
    this.rng = rng
    this.order = order
    this.context = Context.empty().pipe(
      Context.add(Clock.Clock, this.clock()),
      Context.add(Scheduler.Scheduler, this.scheduler()),
      Context.add(Scheduler.MaxOpsBeforeYield, maxOps),
      Context.add(References.MinimumLogLevel, "None"),
      Context.add(Random.Random, { nextDoubleUnsafe: () => rng.next(), nextIntUnsafe: () => rng.int(2 ** 31) }),
      Context.add(Metric.FiberRuntimeMetrics, {
        recordFiberStart: () => {
          this.forks++
          this.fibers++
        },
        recordFiberEnd: () => {
          this.fibers--
        }
      })
    )
  }

  fail(title: string, detail: string): void {
    this.violation ??= new Violation(title, detail)
  }

  /** Starts a fiber; it runs until it first waits. */
  fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.context)(effect)
  }

  get sleeping(): number {
    return this.sleeps.length
  }

  /** Runs up to so many ready tasks. */
  turns(count: number): void {
    for (let left = count; left > 0 && this.tasks.length > 0; left--) this.runOne()
  }

  /** Runs all that is ready and all timers that are due, and what follows from them. */
  settle(): void {
    for (let count = 0;; count++) {
      if (this.violation !== undefined) return
      if (count > spinning) return this.fail("it spins", `more than ${spinning} tasks without time passing`)
      // Timers that a stall has made late may come before the tasks that are ready.
      if (this.tasks.length > 0 && !this.timerFirst()) this.runOne()
      else if (!this.fireDue() && this.tasks.length === 0) return
    }
  }

  advance(millis: number): void {
    const end = this.now + millis
    this.settle()
    for (let count = 0;; count++) {
      const next = this.sleeps.at(-1)
      if (this.violation !== undefined || next === undefined || next.at > end) break
      if (count > spinning) return this.fail("it spins", `more than ${spinning} timers within ${millis} ms`)
      this.now = Math.max(this.now, next.at)
      this.settle()
    }
    this.now = end
  }

  /** Time passes in which nothing could run. */
  stall(millis: number): void {
    this.stalled += millis
    this.stalledAt = this.now += millis
  }

  private timerFirst(): boolean {
    return this.order !== "fifo" && this.sleeps.length > 0 && this.sleeps.at(-1)!.at <= this.now && this.rng.chance(0.3)
  }

  private runOne(): void {
    const [task] = this.tasks.splice(this.choose(), 1)
    this.ran++
    task!.run()
    this.afterTask()
  }

  private choose(): number {
    const { order, tasks } = this
    if (order === "fifo") return 0
    const index = this.rng.int(tasks.length)
    if (order === "any") return index
    const { owner } = tasks[index]!
    return tasks.findIndex((task) => task.owner === owner)
  }

  private fireDue(): boolean {
    let fired = false
    while (this.sleeps.length > 0 && this.sleeps.at(-1)!.at <= this.now) {
      fired = true
      this.sleeps.pop()!.wake()
      this.afterTask()
      // A turn of the event loop runs all timers that are due; another loop may not.
      if (this.order === "fifo" || this.rng.chance(0.5)) break
    }
    return fired
  }

  private scheduler(): Scheduler.Scheduler {
    return {
      executionMode: "async",
      shouldYield: (fiber) => fiber.currentOpCount >= fiber.cache.maxOpsBeforeYield,
      makeDispatcher: () => {
        const owner = {}
        return {
          scheduleTask: (run, priority) => {
            const task = { run, priority, owner }
            const { tasks } = this
            let at = tasks.length
            while (at > 0 && tasks[at - 1]!.priority > priority) at--
            tasks.splice(at, 0, task)
          },
          flush: () => this.turns(Infinity)
        }
      }
    }
  }

  private clock(): Clock.Clock {
    const wall = () => this.now + this.wallShift
    const nanos = (millis: number) => BigInt(Math.round(millis * 1e6))
    return {
      currentTimeMillisUnsafe: wall,
      currentTimeMillis: Effect.sync(wall),
      currentTimeNanosUnsafe: () => nanos(wall()),
      currentTimeNanos: Effect.sync(() => nanos(wall())),
      monotonicTimeNanosUnsafe: () => nanos(this.now),
      monotonicTimeNanos: Effect.sync(() => nanos(this.now)),
      sleep: (duration) =>
        Effect.callback<void>((resume) => {
          const sleep: Sleep = { at: this.now + Duration.toMillis(duration), wake: () => resume(Effect.void) }
          const { sleeps } = this
          let at = sleeps.length
          // Behind those of the same time, which wake first.
          while (at > 0 && sleeps[at - 1]!.at <= sleep.at) at--
          sleeps.splice(at, 0, sleep)
          return Effect.sync(() => {
            const index = sleeps.indexOf(sleep)
            if (index >= 0) sleeps.splice(index, 1)
          })
        })
    }
  }
}
