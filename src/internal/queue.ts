// Borrowers that could not be served at once: their turn, their deadline, and why
// one of them goes without.
import { BorrowTimeout, Closed, InvalidOptions, Suspended, TooManyWaiters } from "../PoolError.ts"
import { Borrower, type Holder, holderName, Item, type Lease, leasesOf, type Opening, type Refusal } from "./item.ts"
import type { Pooled } from "./pooled.ts"
import { Waiters } from "./waiters.ts"

type Facts = Pick<BorrowTimeout, "counts" | "oldestLease" | "lastFailure"> & {
  /** The items that each fiber has, where that was looked for. */
  readonly own: ReadonlyMap<number, ReadonlySet<unknown>>
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
  private turns = 0

  constructor(state: Pooled<A>, shell: Caller<A>) {
    this.state = state
    this.shell = shell
  }

  /** The borrower may be settled already when this returns. */
  enter(holder: Holder, alone: boolean, group: number): Borrower<A> {
    const { shell, state, waiters } = this
    const now = shell.now()
    const { borrowTimeout, maxWaiters } = state.settings
    const shares = state.settings.concurrency > 1
    const borrower = new Borrower<A>(this.turns++, holder, alone && shares, group, now, now + borrowTimeout)
    if (state.closed) {
      this.refuse(borrower, { _tag: "Pool", reason: new Closed() }, now)
      return borrower
    }
    if (state.suspended && state.settings.refuses) {
      this.refuse(borrower, { _tag: "Pool", reason: new Suspended() }, now)
      return borrower
    }
    state.lazy = false
    waiters.push(borrower)
    state.pump(now)
    // An item behind the one that needed a check may need none, and a group comes here first.
    if (!borrower.queued) return borrower
    state.totals.waited++
    if (borrower.supply === undefined && this.unserved(borrower) > maxWaiters) {
      waiters.leave(borrower)
      const reason = new TooManyWaiters({ maxWaiters, counts: state.counts() })
      this.refuse(borrower, { _tag: "Pool", reason }, now)
      this.left(now)
    } else if (borrowTimeout === 0) {
      this.timeOut(borrower, now, this.facts(now))
      this.left(now)
    } else if (borrower.deadline !== Infinity) {
      shell.deadline(waiters.head!.deadline)
    }
    return borrower
  }

  /** How many wait and nothing is under way for them: an item that is opened or checked serves several who share it. */
  private unserved({ alone }: Borrower<A>): number {
    const { waiters } = this
    const shared = waiters.supplied - (waiters.alone - waiters.bareAlone)
    const left = waiters.size - waiters.alone - shared * this.state.settings.concurrency
    return left > 0 ? left + waiters.bareAlone : alone ? waiters.bareAlone : 0
  }

  /** The item that it was handed is lost: it waits in its old place again, before all that came later. */
  enterAgain(borrower: Borrower<A>, now: number): void {
    borrower.lease = borrower.resume = undefined
    if (this.state.suspended && this.state.settings.refuses) {
      this.refuse(borrower, { _tag: "Pool", reason: new Suspended() }, now)
      return
    }
    let next = this.waiters.head
    while (next !== undefined && next.turn < borrower.turn) next = next.behind as Borrower<A> | undefined
    this.waiters.insert(borrower, next)
    this.state.pump(now)
    if (borrower.deadline !== Infinity) this.shell.deadline(borrower.deadline)
  }

  /** The borrower leaves by itself. */
  leave(borrower: Borrower<A>): void {
    const now = this.shell.now()
    this.waiters.leave(borrower)
    if (this.state.listening) this.tell("Interrupted", borrower, now)
    this.left(now)
  }

  /** An item may have been kept from those who share it for the sake of one that is gone. */
  private left(now: number): void {
    if (this.state.settings.concurrency > 1) this.state.pump(now)
  }

  /** `max` has become too small for these: they, and all behind them, would wait without end. */
  refuseGroups(max: number, now: number): void {
    for (let { head } = this.waiters; head !== undefined;) {
      const borrower = head
      head = borrower.behind as Borrower<A> | undefined
      if (borrower.group <= max) continue
      this.waiters.leave(borrower)
      this.refuse(borrower, { _tag: "Pool", reason: tooLarge(borrower.group, max) }, now)
    }
  }

  /** Refuses every waiter whose time is over; the time at which the next one's is. */
  expire(now: number): number {
    let facts: Facts | undefined
    for (let { head } = this.waiters; head !== undefined && head.deadline <= now; head = this.waiters.head) {
      facts ??= this.facts(now)
      this.timeOut(head, now, facts)
    }
    if (facts !== undefined) this.left(now)
    return this.waiters.head?.deadline ?? Infinity
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
      own: facts.own.get(borrower.holder.id)?.size ?? 0
    })
    this.refuse(borrower, { _tag: "Pool", reason }, now)
  }

  // What a timeout tells beyond the borrower itself: ten thousand may time out in one step.
  private facts(now: number): Facts {
    let oldest: Lease<A> | undefined
    let looked = 0
    const own = new Map<number, Set<Item<A>>>()
    for (const lease of this.leases()) {
      if (++looked > manyLeases) {
        oldest = undefined
        own.clear()
        break
      }
      const items = own.get(lease.by)
      if (items === undefined) own.set(lease.by, new Set([lease.item]))
      else items.add(lease.item)
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

/** So many items at once cannot be lent. */
export const tooLarge = (n: number, max: number): InvalidOptions =>
  new InvalidOptions({ problems: [{ option: "n", value: n, allowed: `a whole number from 0 to max, which is ${max}` }] })
