// How the pool comes to items: when an open may start, and what its success or
// failure means for waiters, for the retry road and for the refill of `min`.
import * as Cause from "effect/Cause"
import type * as Scope from "effect/Scope"
import { type Borrower, type Home, Item, Opening, type Trial } from "./item.ts"
import type { Pooled, Shell } from "./pooled.ts"
import type { Queue } from "./queue.ts"
import type { Replacing } from "./replacing.ts"
import type { Sweeper } from "./sweeper.ts"

export class Opener<A, R> {
  private waiting: Trial | undefined = undefined
  private readonly state: Pooled<A>
  private readonly queue: Queue<A>
  private readonly sweeper: Sweeper<A, R>
  private readonly replacing: Replacing<A>
  private readonly shell: Shell<A, R>
  private readonly home: Home<A>

  constructor(
    home: Home<A>,
    state: Pooled<A>,
    queue: Queue<A>,
    sweeper: Sweeper<A, R>,
    replacing: Replacing<A>,
    shell: Shell<A, R>
  ) {
    this.home = home
    this.state = state
    this.queue = queue
    this.sweeper = sweeper
    this.replacing = replacing
    this.shell = shell
  }

  /** A new way to acquire that waits for room. */
  get trial(): Trial | undefined {
    return this.waiting
  }

  private set trial(trial: Trial | undefined) {
    this.waiting = trial
    this.state.ease()
  }

  get mayOpen(): boolean {
    return this.hasRoom && this.hasPermit
  }

  /** An open that nobody waits for may start. */
  get mayRefill(): boolean {
    const { budget } = this.state
    return this.mayGrow &&
      (budget === undefined || (this.state.warmTurn === undefined ? budget.spare : budget.available))
  }

  /** As far as the pool itself is concerned. */
  get hasRoom(): boolean {
    const { halted, live, openings, outage, settings } = this.state
    return !halted && outage.mayOpen && live < settings.max && openings.size < settings.openConcurrency
  }

  /** The same, for an open that nobody waits for. */
  get mayGrow(): boolean {
    const { lazy, outage } = this.state
    return !lazy && !outage.refillBlocked && this.hasRoom
  }

  private get hasPermit(): boolean {
    const { budget } = this.state
    return budget === undefined || budget.available
  }

  start(now: number): Opening {
    const { outage, waiters } = this.state
    const opening = this.begin(now)
    outage.began(opening)
    waiters.promise(opening)
    this.shell.open(opening)
    return opening
  }

  private begin(now: number): Opening {
    const { budget, listening, openings, outage } = this.state
    const opening = new Opening(this.state.nextId(), now, outage.round)
    openings.add(opening)
    budget?.take()
    if (listening) this.state.tell({ _tag: "Opening", item: opening.id }, now)
    return opening
  }

  /** An item for the opening; the caller then runs the rules' start and calls `opened`. */
  admit(opening: Opening, value: A, scope: Scope.Closeable): Item<A> {
    const item = new Item(this.home, opening.id, value, scope, this.shell.now(), this.shell.wallNow())
    const { budget } = this.state
    if (budget !== undefined) {
      item.places = budget.places(item)
    }
    return item
  }

  opened(opening: Opening, item: Item<A>): void {
    const { state } = this
    state.openings.delete(opening)
    const now = this.shell.now()
    state.tally.opened++
    state.outage.succeeded()
    state.budget?.opened()
    state.waiters.settle(opening)
    item.doom = opening.doom
    state.items.add(item)
    this.sweeper.admit(item, now)
    if (state.listening) state.tell({ _tag: "Opened", item: item.id, took: now - opening.since }, now)
    // First the old one goes: the new one is not one too many.
    if (item.doom === undefined) this.replacing.replaced(opening, now)
    else this.replacing.notReplaced(opening)
    state.enter(item, now)
    if (opening.trial !== undefined) state.ending.supersede(item, opening.trial.over, now)
    this.sweeper.unspare(now)
    state.pump(now)
  }

  /**
   * The open failed, or ran out of time. `retryable` says that the retry road, when
   * there is one, takes it. `leftover` says that the shell has still to end it: it
   * counts as closing until `gone`.
   */
  failed(opening: Opening, cause: Cause.Cause<unknown>, retryable: boolean, leftover: boolean): void {
    const { outage, settings, waiters } = this.state
    const refused = opening.full.length > 0
    if (refused) this.state.budget!.refused(opening.full)
    const now = this.over(opening, cause, leftover)
    const waiter = opening.waiter as Borrower<A> | undefined
    waiters.settle(opening)
    // It is not the source that is ill: the borrower waits until there is room.
    if (refused) {
      outage.failed(opening, cause, false)
      return this.state.pump(now)
    }
    const retries = retryable && settings.retries
    if (outage.failed(opening, cause, retries)) this.shell.retry(cause)
    if (!retries) {
      this.holdRefill()
      if (waiter !== undefined) {
        waiters.leave(waiter)
        this.queue.refuse(waiter, { _tag: "Open", cause }, now)
      }
    }
    this.state.pump(now)
  }

  /** Asks whether the failure means that there is no room where all items are opened. A trial is told in any case. */
  asks(opening: Opening, { reasons }: Cause.Cause<unknown>): void {
    const { budget } = this.state
    const failure = budget === undefined || opening.trial !== undefined ? undefined : reasons.find(Cause.isFailReason)
    if (failure !== undefined) opening.full = budget!.full(failure.error)
  }

  private over(opening: Opening, cause: Cause.Cause<unknown>, leftover: boolean): number {
    const { state } = this
    const now = this.shell.now()
    state.openings.delete(opening)
    if (leftover) state.ending.leaveOver(opening)
    else state.budget?.give(opening.id)
    state.tally.openFailures++
    if (state.listening) state.tell({ _tag: "OpenFailed", item: opening.id, took: now - opening.since, cause }, now)
    this.replacing.notReplaced(opening)
    return now
  }

  /** The retry's delay is over: one open may try. */
  retryNow(): void {
    this.state.outage.resume()
    this.state.pump(this.shell.now())
  }

  /** The retry Schedule has ended: every waiter hears why. */
  retryOver(cause: Cause.Cause<unknown>): void {
    this.state.outage.end()
    this.holdRefill()
    const now = this.shell.now()
    this.queue.refuseAll({ _tag: "Open", cause }, now)
    this.state.pump(now)
  }

  refillNow(): void {
    this.state.outage.release()
    this.state.pump(this.shell.now())
  }

  /** What nobody waits for is opened after a delay. */
  holdRefill(): void {
    const { min, minIdle, replaceTimeout, targetUtilization } = this.state.settings
    if (min === 0 && minIdle === 0 && targetUtilization === 1 && replaceTimeout === 0) return
    const failures = this.state.outage.holdRefill()
    if (failures > 0) this.shell.refill(failures)
  }

  /**
   * An item ended before the borrower had it for whom it was opened. Another one may
   * well end so: those who wait get it after the delay of a failed open.
   */
  holdAll(cause: Cause.Cause<unknown> | undefined): void {
    const { outage } = this.state
    outage.hold()
    outage.lastFailure = cause ?? endedAtOnce
    const failures = outage.holdRefill()
    if (failures > 0) this.shell.refill(failures)
  }

  // ---- a new way to acquire

  /** Tried before all else, whether or not others fail; it only needs room. */
  try(trial: Trial): void {
    this.trial = trial
    this.state.pump(this.shell.now())
  }

  /** It is over, or nobody asks for it any more. */
  endTrial(): void {
    if (this.trial === undefined) return
    this.trial = undefined
    this.state.budget?.askAgain()
  }

  /** It failed: nobody but who asked for it is told. */
  trialFailed(opening: Opening, cause: Cause.Cause<unknown>, leftover: boolean): void {
    this.state.pump(this.over(opening, cause, leftover))
  }

  /** Nobody asks any more for what was begun of it. */
  giveUp(trial: Trial, cause: Cause.Cause<unknown>): void {
    for (const opening of this.state.openings) {
      if (opening.trial !== trial) continue
      const now = this.over(opening, cause, true)
      this.shell.cancelOpen(opening)
      this.state.pump(now)
    }
  }

  /** There is room for a trial once what is closing is gone. */
  get roomComes(): boolean {
    return this.roomInPool && !this.parked
  }

  private get roomInPool(): boolean {
    const { idle, lent, openings, settings } = this.state
    return idle.size + lent + openings.size < settings.max
  }

  /** A borrower or a trial waits for a permit. */
  private get parked(): boolean {
    return this.state.budget?.lacking !== undefined
  }

  /** A trial waits, and has no room unless the item goes that has come back and is counted no more. */
  get sacrifices(): boolean {
    if (this.trial === undefined) return false
    const { budget, idle, lent, openings, settings } = this.state
    return idle.size + lent + openings.size + 1 >= settings.max || (this.parked && budget!.pressed)
  }

  startTrial(now: number): void {
    const { trial } = this
    if (trial === undefined) return
    const { idle, settings } = this.state
    if (this.state.live >= settings.max) {
      // More than one, where there are too many since `max` was made smaller.
      while (this.trial === trial && idle.coldest !== undefined && !this.roomInPool) {
        this.state.ending.out(idle.coldest, "swapped", now)
      }
      return
    }
    if (!this.hasPermit) return
    this.trial = undefined
    const opening = this.begin(now)
    opening.trial = trial
    this.shell.open(opening)
  }
}

const endedAtOnce = Cause.fail(new Error("the item ended as soon as it was open"))
