/**
 * The least that lends safely as the rows of the table say, with a borrow timeout, five rules and
 * statistics, on effect's public API: what ends a lease is set up before an item is asked for, a
 * waiter leaves the queue in one step from anywhere, all that were woken are resumed by one task,
 * and in the same turn of the event loop where that can be, the clock is read once for 32 moments
 * of a turn, and for those who wait by its end; age, idle time, uses and exit are looked at,
 * borrowers are counted, and it is known since when who has an item. A borrowing that is over is
 * used again. It never opens, closes, checks, refuses or times out anything, is never suspended,
 * and has one scheduler, no events, hooks, keys or budgets: a floor for whatever has.
 */
import { Clock, Effect, type Exit, type Fiber, type Scheduler } from "effect"
import { monotonicMillis } from "../../src/internal/monotonic.ts"
import { type Evaluated, operation } from "../../src/internal/operation.ts"
import { spares } from "../../src/internal/spares.ts"

type AnyExit = Exit.Exit<unknown, unknown>
type AnyFiber = Fiber.Fiber<unknown, unknown>
type Work = (item: {}) => Effect.Effect<unknown>

interface Item {
  readonly value: {}
  readonly due: number
  uses: number
  idleSince: number
  active: boolean
  by: number
  since: number
}

/** Told by the end of the turn. */
interface Moment {
  at: number
}

const longest = 600_000

export class Sketch {
  readonly idle: Array<Item>
  first: Loan | undefined = undefined
  private last: Loan | undefined = undefined
  private waiting = 0
  private waited = 0
  private begun = 0
  private ended = 0
  private readonly clock: Clock.Clock
  private dispatcher: Scheduler.SchedulerDispatcher | undefined = undefined
  private woken: Array<Loan> = []
  private coming = false
  private patience = 0
  private at = 0
  private left = 0
  private moment: Moment | undefined = undefined
  private ending = false

  constructor(size: number, clock: Clock.Clock) {
    this.clock = clock
    this.idle = Array.from(
      { length: size },
      () => ({ value: {}, due: Infinity, uses: 0, idleSince: Infinity, active: false, by: 0, since: 0 })
    )
  }

  use(work: Work): Effect.Effect<unknown> {
    return new Use(this, work)
  }

  get stats() {
    const { begun, ended, idle, waited, waiting } = this
    return { idle: idle.length, pending: waiting, borrowed: begun, returned: ended, waited }
  }

  private time(fiber: AnyFiber): number {
    if (this.left-- > 0) return this.at
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
    if (this.moment === undefined) return
    this.moment.at = monotonicMillis(this.clock)
    this.moment = undefined
  }

  private readonly wake = (): void => {
    const { woken } = this
    this.coming = false
    if (woken.length === 0) {
      this.patience = 16
      return
    }
    this.woken = []
    for (const loan of woken) loan.resume?.(loan)
    if (this.patience > 0) this.patience--
    else if (this.first !== undefined && this.woken.length === 0) {
      this.coming = true
      this.dispatcher!.scheduleTask(this.wake, 0)
    }
  }

  take(fiber: AnyFiber): Item | undefined {
    if (this.first !== undefined) return undefined
    const item = this.idle.pop()
    if (item === undefined) return undefined
    const now = this.time(fiber)
    if (now > item.due || now - item.idleSince > longest) throw new Error("never")
    this.begin(item, fiber, now)
    return item
  }

  private begin(item: Item, fiber: AnyFiber, now: number): void {
    this.begun++
    item.active = true
    item.by = fiber.id
    item.since = now
  }

  giveBack(item: Item, exit: AnyExit, fiber: AnyFiber): void {
    const now = this.time(fiber)
    if (!item.active || exit._tag === "Failure" || item.uses >= 1e9 || now > item.due) throw new Error("never")
    this.ended++
    item.uses++
    item.active = false
    item.idleSince = now
    const { first } = this
    if (first === undefined) {
      this.idle.push(item)
      return
    }
    this.leave(first)
    this.begin(item, first.fiber!, now)
    first.item = item
    if (this.woken.push(first) === 1 && !this.coming) this.dispatcher!.scheduleTask(this.wake, 0)
  }

  enter(loan: Loan, fiber: AnyFiber): void {
    this.time(fiber)
    loan.asked = this.moment ??= { at: Infinity }
    this.waiting++
    this.waited++
    loan.queued = true
    loan.ahead = this.last
    if (this.last === undefined) this.first = loan
    else this.last.behind = loan
    this.last = loan
  }

  leave(loan: Loan): void {
    const { ahead, behind } = loan
    if (ahead === undefined) this.first = behind
    else ahead.behind = behind
    if (behind === undefined) this.last = ahead
    else behind.ahead = ahead
    loan.ahead = loan.behind = undefined
    loan.queued = false
    this.waiting--
  }
}

const UseOperation = operation(function(fiber) {
  return this.start(fiber)
})

class Use extends UseOperation<unknown, never, never> implements Evaluated<unknown, never, never> {
  private readonly pool: Sketch
  private readonly work: Work

  constructor(pool: Sketch, work: Work) {
    super()
    this.pool = pool
    this.work = work
  }

  start(fiber: AnyFiber): Effect.Effect<unknown> {
    const { pool, work } = this
    const loan = loans.take().of(pool, work, fiber)
    return pool.first === undefined ? loan.whole : loan.wholly
  }
}

const LoanOperation = operation(function(fiber) {
  return this.start(fiber)
})

class Loan extends LoanOperation<unknown, never, never> implements Evaluated<unknown, never, never> {
  item: Item | undefined = undefined
  ahead: Loan | undefined = undefined
  behind: Loan | undefined = undefined
  queued = false
  resume: ((effect: Effect.Effect<unknown>) => void) | undefined = undefined
  /** From when its time runs. */
  asked: Moment | undefined = undefined
  fiber: AnyFiber | undefined = undefined
  private pool: Sketch | undefined = undefined
  private work: Work | undefined = undefined
  private readonly ends = (exit: Exit.Exit<unknown>): undefined => this.end(exit)
  readonly whole = Effect.onExitPrimitive(this, this.ends)
  private readonly wait = Effect.callback<unknown>((resume) => {
    this.resume = resume
    this.pool!.enter(this, this.fiber!)
  })
  readonly wholly = Effect.onExitPrimitive(this.wait, this.ends)

  of(pool: Sketch, work: Work, fiber: AnyFiber): this {
    this.pool = pool
    this.work = work
    this.fiber = fiber
    return this
  }

  start(fiber: AnyFiber): Effect.Effect<unknown> {
    const item = this.item ??= this.pool!.take(fiber)
    return item === undefined ? this.wait : this.work!(item.value)
  }

  private end(exit: AnyExit): undefined {
    const { fiber, item, pool, queued } = this
    if (item !== undefined) pool!.giveBack(item, exit, fiber!)
    else if (queued) pool!.leave(this)
    this.item =
      this.resume =
      this.asked =
      this.fiber =
      this.pool =
      this.work =
        undefined
    loans.keep(this)
  }
}

const loans = spares(() => new Loan())

export const sketch = (size: number) => Effect.map(Clock.Clock, (clock) => new Sketch(size, clock))
