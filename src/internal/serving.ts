// Who waits gets what there is, and what is not there is opened: after each change
// `pump` keeps the promises that stand at the head of state.ts.
import type { Budget, Need } from "./budget.ts"
import type { Borrower, Item } from "./item.ts"
import type { Opener } from "./opener.ts"
import type { Lends } from "./pooled.ts"
import type { Queue } from "./queue.ts"
import type { Replacing } from "./replacing.ts"
import type { Sharing } from "./sharing.ts"
import type { Sweeper } from "./sweeper.ts"

/** The other parts of the state machine that it works with. */
interface Parts<A, R> {
  readonly queue: Queue<A>
  readonly sharing: Sharing<A>
  readonly replacing: Replacing<A>
  readonly sweeper: Sweeper<A, R>
  readonly opener: Opener<A, R>
}

export class Serving<A, R> {
  /** Several may have one item. */
  declare readonly shares: boolean
  declare private readonly state: Lends<A>
  declare private readonly queue: Queue<A>
  declare private readonly sharing: Sharing<A>
  declare private readonly replacing: Replacing<A>
  declare private readonly sweeper: Sweeper<A, R>
  declare private readonly opener: Opener<A, R>

  constructor(state: Lends<A>, { opener, queue, replacing, sharing, sweeper }: Parts<A, R>) {
    this.state = state
    this.opener = opener
    this.queue = queue
    this.replacing = replacing
    this.sharing = sharing
    this.sweeper = sweeper
    this.shares = state.settings.concurrency > 1
  }

  pump(now: number): void {
    if (this.state.closed) return
    this.opener.startTrial(now)
    if (!this.state.suspended) this.serve(now)
    if (this.state.budget !== undefined) this.ask(this.state.budget, now)
  }

  private serve(now: number): void {
    const { opener, state: { idle, waiters } } = this
    // Also for one with an open under way for it: that may take long, and what is here does not.
    while (waiters.size > this.state.checking && idle.size > 0 && !this.state.halted) this.serveNext(now)
    if (this.shares) this.pumpShared(now)
    else while (waiters.bare !== undefined && opener.mayOpen) opener.start(now)
    this.replacing.go(now)
    while (this.kept < this.wanted && opener.mayRefill) opener.start(now)
  }

  /** What is needed beyond what could be opened waits for a permit. */
  private ask(budget: Budget<A>, now: number): void {
    const parks = budget.want(this.need)
    if (parks && this.state.listening) this.state.tell({ _tag: "Parked", capacity: budget.lacking!.name }, now)
  }

  private get need(): Need | undefined {
    const { opener, state: { live, openings, outage, settings, waiters } } = this
    const atOnce = outage.probing ? 1 : settings.openConcurrency - openings.size
    const room = Math.min(settings.max - live, atOnce)
    if (opener.trial !== undefined && room > 0) return { opens: 1, urgent: true }
    if (!opener.hasRoom) return undefined
    const { bare, size, supplied } = waiters
    const lacking = (this.shares ? this.needed : size) - supplied
    if (bare !== undefined && lacking > 0) return { opens: Math.min(room, lacking), urgent: true }
    const ahead = this.wanted - this.kept
    return ahead > 0 && opener.mayGrow
      ? { opens: Math.min(room, ahead), urgent: this.state.warmTurn !== undefined }
      : undefined
  }

  /** The turn of the borrower for whom the open after so many would be; of a trial, which goes before all. */
  turnOf(opens: number): number {
    if (this.opener.trial !== undefined) return 0
    let { bare } = this.state.waiters
    for (let left = opens; left > 0 && bare !== undefined; left--) bare = bare.behind as Borrower<A> | undefined
    return bare?.turn ?? this.state.warmTurn ?? Infinity
  }

  /** Something may be to do for a waiter or for `min`. */
  get busy(): boolean {
    const { budget, waiters } = this.state
    // What drains may do so for a waiter that has just been served.
    const shared = this.shares && (waiters.size > 0 || this.sharing.draining.size > 0)
    return waiters.bare !== undefined || shared || this.kept < this.wanted || budget?.waits === true
  }

  get wanted(): number {
    const { lent, settings: { concurrency, max, maxIdle, min, minIdle, targetUtilization }, sweeping } = this.state
    if (targetUtilization === 1 && minIdle === 0) return min
    // What a sweep looks at comes back, and then one that was opened instead would be too many.
    const out = lent - sweeping
    const ahead = targetUtilization === 1 ? 0 : Math.ceil(this.used / (concurrency * targetUtilization) - rounding)
    // No more than may be idle: the next return would recycle what is opened beyond.
    return Math.min(max, Math.max(min, Math.min(out + maxIdle, ahead), minIdle === 0 ? 0 : out + minIdle))
  }

  /** The places that are taken or waited for: a lease that shares with nobody takes all of its item. */
  private get used(): number {
    const { sharing, state: { waiters } } = this
    const alone = this.state.leases - sharing.leases + waiters.alone
    return alone * this.state.settings.concurrency + sharing.leases + waiters.size - waiters.alone
  }

  /** How many items there are or will be, when those that are replaced have gone. */
  private get kept(): number {
    return this.state.idle.size + this.state.lent + this.state.openings.size - this.replacing.underWay
  }

  /** An idle item goes to a waiter, or into the check before that. */
  serveNext(now: number): boolean {
    const { idle, waiters } = this.state
    const item = idle.next!
    // A predicate may have called back into the pool.
    if (this.sweeper.spoiled(item, now) || !item.linked || waiters.head === undefined || this.state.halted) return false
    idle.remove(item)
    this.state.rush.date(item, now)
    if (this.state.unproven(item, now)) this.state.startCheck(item)
    else this.state.handOver(item, waiters.head, now)
    return true
  }

  /** Not while there are too many since `max` was made smaller: these go only when nobody has them. */
  get mayShare(): boolean {
    return !this.state.halted && this.state.lent <= this.state.settings.max
  }

  /** A shared item for one more, if the rules have nothing against it. */
  roomy(now: number): Item<A> | undefined {
    for (let item = this.sharing.roomAt(now); item !== undefined; item = this.sharing.roomAt(now)) {
      const objection = this.sweeper.objection(item, now)
      // A predicate may have called back into the pool.
      if (item !== this.sharing.roomAt(now)) continue
      if (objection === undefined) return item
      this.state.ending.doom(item, objection, now)
    }
    return undefined
  }

  private pumpShared(now: number): void {
    const { opener, state: { waiters } } = this
    this.drain()
    for (let item = this.roomFor(now); item !== undefined; item = this.roomFor(now)) {
      const borrower = this.firstSharer()
      waiters.leave(borrower)
      this.state.hand(this.state.joinTo(item, borrower.holder, now), borrower)
      this.drain()
    }
    while (waiters.bare !== undefined && waiters.supplied < this.needed && opener.mayOpen) opener.start(now)
    this.drain()
  }

  /** An item for one alone is better opened than taken from those who share it, and never kept from one who came before. */
  private drain(): void {
    const { opener, queue, sharing, state: { waiters } } = this
    sharing.drain(waiters.head?.alone === true && !opener.mayOpen ? queue.aloneLeft : 0)
  }

  private roomFor(now: number): Item<A> | undefined {
    const item = this.sharers && !this.heldUp(now) ? this.roomy(now) : undefined
    // A predicate may have called back into the pool.
    return this.sharers ? item : undefined
  }

  /**
   * Who would pack waits for what is checked for it rather than for those who may be held up,
   * once: where a check has just failed the next may, too.
   */
  private heldUp(now: number): boolean {
    const { sharing, state: { checking, settings, waiters: { alone, size } } } = this
    return sharing.packs && !sharing.doubtful && settings.borrowTimeout > 0 &&
      size - alone <= (checking - alone) * settings.concurrency && sharing.flowing(now) === undefined
  }

  /** Somebody waits who would share an item. */
  private get sharers(): boolean {
    return this.state.waiters.size > this.state.waiters.alone && this.mayShare
  }

  /** Those who share may pass those who do not: for these, items are opened or drained, so they are few. */
  private firstSharer(): Borrower<A> {
    let borrower = this.state.waiters.head!
    while (borrower.alone) borrower = borrower.behind as Borrower<A>
    return borrower
  }

  /** How many items on their way the waiters need: one serves several who share. */
  private get needed(): number {
    const { alone, size } = this.state.waiters
    return alone + Math.ceil((size - alone) / this.state.settings.concurrency)
  }
}

// What a division may be off by must not open one more.
const rounding = 1e-9
