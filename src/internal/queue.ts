// Borrowers that could not be served at once: their turn, their deadline, and why
// one of them goes without.
import { BorrowTimeout, Closed, Suspended, TooManyWaiters } from "../PoolError.ts"
import { Borrower, type Holder, holderName, Item, type Lease, leasesOf, type Opening, type Refusal } from "./item.ts"
import type { Pooled } from "./pooled.ts"
import { Waiters } from "./waiters.ts"

type Facts = Pick<BorrowTimeout, "counts" | "oldestLease" | "lastFailure"> & {
  /** How many leases each fiber has, where that was counted. */
  readonly own: ReadonlyMap<number, number>
}

// Among more leases than this the oldest is not looked for: a diagnosis must not cost more than the wait.
const manyLeases = 1000

/** What the queue asks of the shell. */
interface Caller<A> {
  readonly now: () => number
  readonly wake: (borrower: Borrower<A>) => void
  readonly deadline: (at: number) => void
}

export class Queue<A> {
  readonly waiters = new Waiters<Borrower<A>, Opening | Item<A>>()
  private readonly state: Pooled<A>
  private readonly shell: Caller<A>

  constructor(state: Pooled<A>, shell: Caller<A>) {
    this.state = state
    this.shell = shell
  }

  /** The borrower may be settled already when this returns. */
  enter(holder: Holder, alone: boolean): Borrower<A> {
    const { shell, state, waiters } = this
    const now = shell.now()
    const { borrowTimeout, maxWaiters } = state.settings
    const borrower = new Borrower<A>(holder, alone && state.settings.concurrency > 1, now, now + borrowTimeout)
    if (state.closed) {
      this.refuse(borrower, { _tag: "Pool", reason: new Closed() }, now)
      return borrower
    }
    if (state.suspended && state.settings.refuses) {
      this.refuse(borrower, { _tag: "Pool", reason: new Suspended() }, now)
      return borrower
    }
    state.lazy = false
    state.totals.waited++
    waiters.push(borrower)
    state.pump(now)
    // An item behind the one that needed a check may need none.
    if (!borrower.queued) return borrower
    if (borrower.supply === undefined && waiters.size - waiters.supplied > maxWaiters) {
      waiters.leave(borrower)
      const reason = new TooManyWaiters({ maxWaiters, counts: state.counts() })
      this.refuse(borrower, { _tag: "Pool", reason }, now)
    } else if (borrowTimeout === 0) {
      this.timeOut(borrower, now, this.facts(now))
    } else if (borrower.deadline !== Infinity) {
      shell.deadline(waiters.head!.deadline)
    }
    return borrower
  }

  /** The item that it was handed is lost: it is the first in the queue again. */
  enterAgain(borrower: Borrower<A>, now: number): void {
    borrower.lease = borrower.resume = undefined
    this.waiters.unshift(borrower)
    this.state.pump(now)
    if (borrower.deadline !== Infinity) this.shell.deadline(borrower.deadline)
  }

  /** The borrower leaves by itself. */
  leave(borrower: Borrower<A>): void {
    this.waiters.leave(borrower)
    if (this.state.listening) this.tell("Interrupted", borrower, this.shell.now())
  }

  /** Refuses every waiter whose time is over; the time at which the next one's is. */
  expire(now: number): number {
    let facts: Facts | undefined
    for (let { head } = this.waiters; head !== undefined; head = this.waiters.head) {
      if (head.deadline > now) return head.deadline
      facts ??= this.facts(now)
      this.timeOut(head, now, facts)
    }
    return Infinity
  }

  private timeOut(borrower: Borrower<A>, now: number, facts: Facts): void {
    const { supply } = borrower
    this.state.totals.timeouts++
    this.waiters.leave(borrower)
    const reason = new BorrowTimeout({
      waited: now - borrower.since,
      phase: this.state.suspended
        ? "suspended"
        : supply === undefined
        ? "waiting"
        : supply instanceof Item
        ? "checking"
        : "opening",
      ...facts,
      own: facts.own.get(borrower.holder.id) ?? 0
    })
    this.refuse(borrower, { _tag: "Pool", reason }, now)
  }

  // What a timeout tells beyond the borrower itself: ten thousand may time out in one step.
  private facts(now: number): Facts {
    let oldest: Lease<A> | undefined
    let looked = 0
    const own = new Map<number, number>()
    for (const lease of this.leases()) {
      if (++looked > manyLeases) {
        oldest = undefined
        own.clear()
        break
      }
      own.set(lease.by, (own.get(lease.by) ?? 0) + 1)
      if (oldest === undefined || lease.since < oldest.since) oldest = lease
    }
    return {
      own,
      counts: this.state.counts(),
      oldestLease: oldest && { held: now - oldest.since, by: holderName(oldest) },
      lastFailure: this.state.outage.lastFailure
    }
  }

  private *leases(): Iterable<Lease<A>> {
    for (const item of this.state.items) yield* leasesOf(item)
  }

  /** The borrower, in the queue no more, hears that it goes without. */
  refuse(borrower: Borrower<A>, refusal: Refusal, now: number): void {
    borrower.refusal = refusal
    if (this.state.listening) {
      this.tell(refusal._tag === "Open" ? "OpenFailed" : refusal.reason._tag, borrower, now)
    }
    this.shell.wake(borrower)
  }

  refuseAll(refusal: Refusal, now: number): void {
    for (let { head } = this.waiters; head !== undefined; head = this.waiters.head) {
      this.waiters.leave(head)
      this.refuse(head, refusal, now)
    }
  }

  tell(reason: string, borrower: Borrower<A>, now: number): void {
    this.state.tell({ _tag: "BorrowFailed", reason, waited: now - borrower.since } as never, now)
  }
}
