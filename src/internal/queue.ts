// Borrowers that could not be served at once: their turn, their deadline, and why
// one of them goes without.
import { BorrowTimeout, Closed, InvalidOptions, Suspended, TooManyWaiters } from "../PoolError.ts"
import {
  Borrower,
  type Holder,
  holderName,
  Item,
  type Lease,
  leasesOf,
  type Opening,
  reasonOf,
  type Refusal
} from "./item.ts"
import type { Pooled } from "./pooled.ts"
import type { Since } from "./rush.ts"
import { Waiters } from "./waiters.ts"

type Facts = Pick<BorrowTimeout, "counts" | "oldestLease" | "lastFailure" | "capacity"> & {
  /** The items that each fiber has, where that was looked for. */
  readonly own: ReadonlyMap<number, ReadonlySet<unknown>>
}

// Among more leases than this the oldest is not looked for: a diagnosis must not cost more than the wait.
const manyLeases = 1000

/** What the queue asks of the shell. */
interface Caller {
  readonly now: () => number
  readonly deadline: (at: number) => void
}

// One order for the borrowers of all pools: those that share permits are served by it.
let turns = 0

export const nextTurn = (): number => ++turns

export class Queue<A> {
  readonly waiters = new Waiters<Borrower<A>, Opening | Item<A>>()
  declare private readonly state: Pooled<A>
  declare private readonly shell: Caller
  /** How many borrowers ever asked for what was not there at once. */
  turns = 0
  /** Each borrower needs one item, and nothing is opened or asked for besides. */
  declare private readonly alike: boolean
  /** And whoever comes may wait. */
  declare private readonly lines: boolean

  constructor(state: Pooled<A>, shell: Caller) {
    this.state = state
    this.shell = shell
    const { borrowTimeout, concurrency, maxWaiters, targetUtilization } = state.settings
    this.alike = concurrency === 1 && targetUtilization === 1 && state.budget === undefined
    this.lines = this.alike && maxWaiters === Infinity && borrowTimeout > 0
  }

  /** A borrower in its order of arrival. */
  arrival(holder: Holder, alone: boolean, group: number, since: Since, again?: Borrower<A>): Borrower<A> {
    this.turns++
    return (again ?? new Borrower<A>()).come(
      nextTurn(),
      holder,
      alone && this.state.settings.concurrency > 1,
      group,
      since
    )
  }

  /** The borrower may be settled already when this returns. */
  enter(holder: Holder, alone: boolean, group: number, again?: Borrower<A>): Borrower<A> {
    const { shell, state, waiters } = this
    if (this.lines && waiters.bare !== undefined && group === 1 && !state.halted) return this.follow(holder, again)
    const { borrowTimeout, max, maxWaiters } = state.settings
    const borrower = this.arrival(holder, alone, group, state.asked(), again)
    if ((state.halted || group > max) && this.turnedAway(borrower, borrower.since)) return borrower
    state.lazy = false
    const bounded = maxWaiters < Infinity
    const before = bounded ? this.unserved : 0
    waiters.push(borrower)
    // What is not there for one who came before is not there for it.
    if (!this.alike || waiters.bare === borrower || waiters.bare === undefined) state.pump(borrower.since)
    // An item behind the one that needed a check may need none, and a group comes here first.
    if (!waiters.has(borrower)) {
      this.remind()
      return borrower
    }
    state.tally.waited++
    // Not when there is room for it in what is under way.
    if (bounded && this.unserved > Math.max(before, maxWaiters)) {
      waiters.leave(borrower)
      const now = borrower.since
      const reason = new TooManyWaiters({ maxWaiters, counts: state.counts() })
      this.refuse(borrower, { _tag: "Pool", reason }, now)
      this.left(now)
    } else if (borrowTimeout === 0) {
      const now = borrower.since
      this.timeOut(borrower, now, this.facts(now))
      this.left(now)
    } else if (borrowTimeout < Infinity && waiters.head === borrower) {
      // The alarm of who is behind is set when those before it have left.
      shell.deadline(this.deadline(borrower))
    }
    return borrower
  }

  /** Behind others, for whom nothing is in sight: nor is there for it, and all that is to be done was done for them. */
  private follow(holder: Holder, again?: Borrower<A>): Borrower<A> {
    const { state } = this
    state.lazy = false
    const borrower = this.arrival(holder, false, 1, state.asked(), again)
    this.waiters.append(borrower)
    state.tally.waited++
    return borrower
  }

  /** Who came while another was first, as when a predicate borrows, may be first now. */
  private remind(): void {
    const { head } = this.waiters
    if (head !== undefined && this.state.settings.borrowTimeout < Infinity) this.shell.deadline(this.deadline(head))
  }

  /** Until when it waits. */
  deadline(borrower: Borrower<A>): number {
    return borrower.since + this.state.settings.borrowTimeout
  }

  /** How many wait with nothing under way for them: an item that is opened or checked serves several who share it. */
  private get unserved(): number {
    const { alone, size } = this.waiters
    return this.aloneLeft + Math.max(0, size - alone - this.promised * this.state.settings.concurrency)
  }

  /** How many need an item alone and have none in sight. What is promised to those who share beyond their need is for them. */
  get aloneLeft(): number {
    const { alone, bareAlone, size } = this.waiters
    const beyond = this.promised - Math.ceil((size - alone) / this.state.settings.concurrency)
    return Math.max(0, bareAlone - Math.max(0, beyond))
  }

  /** How many items on their way are promised to waiters who share. */
  private get promised(): number {
    const { alone, bareAlone, supplied } = this.waiters
    return supplied - (alone - bareAlone)
  }

  /** Who cannot be served need not wait. */
  private turnedAway(borrower: Borrower<A>, now: number): boolean {
    const { closed, settings, suspended } = this.state
    const { group } = borrower
    const reason = closed
      ? new Closed()
      : suspended && settings.refuses
      ? new Suspended()
      : group > settings.max
      ? tooLarge(group, settings.max)
      : undefined
    if (reason !== undefined) this.refuse(borrower, { _tag: "Pool", reason }, now)
    return reason !== undefined
  }

  /**
   * The item that it was handed is lost: it waits in its old place again, at once. Were those
   * who came later served meanwhile, groups could block one another.
   */
  enterAgain(borrower: Borrower<A>, now: number): void {
    borrower.lease = undefined
    // It is woken for the second time: with terms no loan becomes another's before it has heard of both.
    borrower.own.touched = borrower.own.ready = false
    if (borrower.waits) {
      if (this.turnedAway(borrower, now)) return
      let next = this.waiters.head
      while (next !== undefined && next.turn < borrower.turn) next = next.behind as Borrower<A> | undefined
      this.waiters.insert(borrower, next)
      // Whose time is over hears so when the item is gone.
      const deadline = this.deadline(borrower)
      if (deadline > now && deadline < Infinity) this.shell.deadline(deadline)
    }
    // Its hook may be under way.
    this.state.waker.wake(borrower)
  }

  /** The borrower leaves by itself, or because others of its group were refused. */
  leave(borrower: Borrower<A>, why: string): void {
    const now = this.shell.now()
    this.waiters.leave(borrower)
    if (this.state.listening) this.tell(why, borrower, now)
    this.left(now)
  }

  /** An item may have been kept from those who share it for the sake of one that is gone. */
  private left(now: number): void {
    if (this.state.settings.concurrency > 1 || this.state.budget !== undefined) this.state.pump(now)
    else this.state.rest()
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
    for (let { head } = this.waiters; head !== undefined && this.deadline(head) <= now; head = this.waiters.head) {
      facts ??= this.facts(now)
      this.timeOut(head, now, facts)
    }
    if (facts !== undefined) this.left(now)
    const { head } = this.waiters
    return head === undefined ? Infinity : this.deadline(head)
  }

  private timeOut(borrower: Borrower<A>, now: number, facts: Facts): void {
    const { supply } = borrower
    const { capacity } = facts
    this.state.tally.timeouts++
    this.waiters.leave(borrower)
    const reason = new BorrowTimeout({
      waited: now - borrower.since,
      phase: this.state.suspended
        ? "suspended"
        : supply === undefined
        ? capacity === undefined ? "waiting" : "parked"
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
      // What is kept for a group that waits is no nested borrow.
      if (lease.taken) {
        const items = own.get(lease.by)
        if (items === undefined) own.set(lease.by, new Set([lease.item]))
        else items.add(lease.item)
      }
      if (oldest === undefined || lease.since < oldest.since) oldest = lease
    }
    return {
      own,
      capacity: this.state.budget?.told,
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
    if (this.state.listening) this.tell(reasonOf(refusal), borrower, now)
    this.state.waker.wake(borrower)
    this.state.rest()
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
  new InvalidOptions({
    problems: [{ option: "n", value: n, allowed: `a whole number from 0 to max, which is ${max}` }]
  })
