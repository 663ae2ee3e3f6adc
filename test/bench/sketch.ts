/**
 * The least that lends safely, on effect's public API: what ends a lease is set up before an
 * item is asked for, a waiter leaves the queue in one step from anywhere, all that were woken
 * are resumed by one task, age, uses and exit are looked at, and the clock is read once for 32
 * moments of a turn, but for who waits, whose time must not be cut short. It never opens,
 * closes, checks, refuses or times out anything: a floor for whatever does.
 */
import { Clock, Effect, type Exit, type Fiber, type Scheduler } from "effect"
import { monotonicMillis } from "../../src/internal/monotonic.ts"
import { type Evaluated, Operation } from "../../src/internal/operation.ts"

type AnyExit = Exit.Exit<unknown, unknown>
type AnyFiber = Fiber.Fiber<unknown, unknown>
type Work = (item: {}) => Effect.Effect<unknown>

interface Item {
  readonly value: {}
  uses: number
  readonly due: number
}

export class Sketch {
  readonly idle: Array<Item>
  first: Loan | undefined = undefined
  last: Loan | undefined = undefined
  borrowed = 0
  private readonly clock: Clock.Clock
  private dispatcher: Scheduler.SchedulerDispatcher | undefined = undefined
  private woken: Array<Loan> = []
  private at = 0
  private left = 0
  private ending = false

  constructor(size: number, clock: Clock.Clock) {
    this.clock = clock
    this.idle = Array.from({ length: size }, () => ({ value: {}, uses: 0, due: Infinity }))
  }

  use(work: Work): Effect.Effect<unknown> {
    return new Use(this, work)
  }

  time(fiber: AnyFiber): number {
    return this.left-- > 0 ? this.at : this.now(fiber)
  }

  now(fiber: AnyFiber): number {
    this.left = 32
    this.at = monotonicMillis(this.clock)
    this.dispatcher ??= fiber.cache.scheduler.makeDispatcher()
    if (!this.ending) {
      this.ending = true
      this.dispatcher.scheduleTask(this.turnEnds, 0)
    }
    return this.at
  }

  private readonly turnEnds = (): void => {
    this.ending = false
    this.left = 0
  }

  private readonly wake = (): void => {
    const { woken } = this
    this.woken = []
    for (const loan of woken) loan.resume!(loan)
  }

  take(fiber: AnyFiber): Item | undefined {
    if (this.first !== undefined) return undefined
    const item = this.idle.pop()
    if (item !== undefined && this.time(fiber) > item.due) throw new Error("never")
    return item
  }

  giveBack(item: Item, exit: AnyExit, fiber: AnyFiber): void {
    item.uses++
    if (exit._tag === "Failure" || item.uses >= 1e9 || this.time(fiber) > item.due) throw new Error("never")
    const { first } = this
    if (first === undefined) {
      this.idle.push(item)
      return
    }
    this.leave(first)
    first.item = item
    if (this.woken.push(first) === 1) this.dispatcher!.scheduleTask(this.wake, 0)
  }

  enter(loan: Loan): void {
    loan.queued = true
    loan.ahead = this.last
    if (this.last === undefined) this.first = loan
    else this.last.behind = loan
    this.last = loan
  }

  leave({ ahead, behind }: Loan): void {
    if (ahead === undefined) this.first = behind
    else ahead.behind = behind
    if (behind === undefined) this.last = ahead
    else behind.ahead = ahead
  }
}

class Use extends Operation<unknown, never, never> implements Evaluated<unknown, never, never> {
  private readonly pool: Sketch
  private readonly work: Work

  constructor(pool: Sketch, work: Work) {
    super()
    this.pool = pool
    this.work = work
  }

  start(fiber: AnyFiber): Effect.Effect<unknown> {
    const loan = new Loan(this.pool, this.work, fiber)
    return Effect.onExitPrimitive(loan, (exit) => loan.end(exit))
  }
}

class Loan extends Operation<unknown, never, never> implements Evaluated<unknown, never, never> {
  item: Item | undefined = undefined
  ahead: Loan | undefined = undefined
  behind: Loan | undefined = undefined
  queued = false
  resume: ((effect: Effect.Effect<unknown>) => void) | undefined = undefined
  /** When its time is over. */
  deadline = Infinity
  private readonly pool: Sketch
  private readonly work: Work
  private readonly fiber: AnyFiber

  constructor(pool: Sketch, work: Work, fiber: AnyFiber) {
    super()
    this.pool = pool
    this.work = work
    this.fiber = fiber
  }

  start(): Effect.Effect<unknown> {
    const { fiber, pool } = this
    this.item ??= pool.take(fiber)
    if (this.item !== undefined) {
      this.queued = false
      pool.borrowed++
      return this.work(this.item.value)
    }
    this.deadline = pool.now(fiber) + 30_000
    pool.enter(this)
    return Effect.callback((resume) => {
      this.resume = resume
    })
  }

  end(exit: AnyExit): undefined {
    const { fiber, item, pool, queued } = this
    if (item !== undefined) pool.giveBack(item, exit, fiber)
    else if (queued) pool.leave(this)
  }
}

export const sketch = (size: number) => Effect.map(Clock.Clock, (clock) => new Sketch(size, clock))
