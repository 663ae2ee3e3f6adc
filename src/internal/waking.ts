// Borrowers that have been handed their item, or are to hear why they get none, go on: each in
// a turn of its own scheduler, never on the stack of whoever woke it.
import type * as Scheduler from "effect/Scheduler"
import { uncaught } from "./background.ts"
import type { Borrower } from "./item.ts"

/** Whose turns they are. */
export interface Turns {
  readonly scheduler: Scheduler.Scheduler
  readonly dispatcher: Scheduler.SchedulerDispatcher
}

// So many take a few milliseconds: as long as others may have to wait for their turn.
const atOnce = 256

// Where leases take longer than a turn, one in a thousand wakes tries it for nothing.
const shortPause = 16
const longPause = 1024

export class Waker<A> {
  /** Those who are to be resumed, so many; what stands behind them is nothing. */
  private woken: Array<Borrower<A> | undefined> = []
  private count = 0
  /** The next to be used so, if there is one: to make one for each task costs 1 % of a lease. */
  private spare: Array<Borrower<A> | undefined> | undefined = undefined
  /** `resumeAll` will come, whether anybody is woken or not. */
  private coming = false
  declare private readonly scheduler: Scheduler.Scheduler
  declare private readonly dispatcher: Scheduler.SchedulerDispatcher
  declare private readonly waiters: { readonly head: Borrower<A> | undefined }
  /** So many times more it comes only when it is called. */
  private patience = 0
  /** Next time that it comes in vain, so many. */
  private pause = shortPause

  constructor(turns: Turns, waiters: { readonly head: Borrower<A> | undefined }) {
    this.scheduler = turns.scheduler
    this.dispatcher = turns.dispatcher
    this.waiters = waiters
  }

  // All that share the pool's scheduler are resumed in one task: every fiber has a dispatcher
  // of its own, and a task in each would cost a turn of the event loop each. But not ten
  // thousand in one, as when the time of all ends at once.
  wake(borrower: Borrower<A>): void {
    if (borrower.holder.cache.scheduler !== this.scheduler) return wakeElsewhere(borrower)
    this.woken[this.count] = borrower
    if (++this.count === 1 && !this.coming) this.dispatcher.scheduleTask(this.resumeAll, 0)
  }

  private readonly resumeAll = (): void => {
    const { count, woken } = this
    if (this.coming) {
      this.coming = false
      if (count === 0) return this.cameInVain()
      this.pause = shortPause
    }
    // Who is woken from here on is resumed in a turn of its own, and not before these begin to be.
    // Nor does a scheduler that runs this within itself get the array that is being gone through.
    this.woken = this.spare ?? []
    this.spare = undefined
    this.count = 0
    this.resume(woken, 0, count)
    if (count <= atOnce) this.spare = woken
    if (this.patience > 0) this.patience--
    else if (this.waiters.head !== undefined && this.count === 0) this.comeAgain()
  }

  private cameInVain(): void {
    this.patience = this.pause
    this.pause = Math.min(2 * this.pause, longPause)
  }

  // Who was resumed, and only yields before it gives back, does so before a task that is scheduled
  // now: this resumes the next in the same turn of the event loop. A task that is scheduled by the
  // wake costs a turn of its own, some 600 ns; one that came in vain would too.
  private comeAgain(): void {
    this.coming = true
    this.dispatcher.scheduleTask(this.resumeAll, 0)
  }

  private resume(woken: Array<Borrower<A> | undefined>, from: number, count: number): void {
    const to = Math.min(count, from + atOnce)
    if (to < count) this.dispatcher.scheduleTask(() => this.resume(woken, to, count), 0)
    for (let i = from; i < to;) {
      // What one of them throws must not cost those behind it.
      try {
        while (i < to) {
          const borrower = woken[i]!
          woken[i++] = undefined
          borrower.woken()
        }
      } catch (error) {
        uncaught(error)
      }
    }
  }
}

const wakeElsewhere = (borrower: Borrower<unknown>): void =>
  borrower.holder.currentDispatcher.scheduleTask(() => borrower.woken(), 0)
