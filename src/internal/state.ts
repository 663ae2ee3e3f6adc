// The pool as a synchronous state machine. There is no Effect in it: what takes
// time is asked of the Shell, which answers by calling back.
//
// An item is in one of these states, and only these edges are legal:
//
//   opening ──> fresh ──> idle <──> lent ──> resetting
//      │          │        │ ^        │ ^        │
//      │          │        v │        │ └────────┤
//      │          │     checking ─────┤          │
//      │          │     or swept      │          │
//      v          v        v          v          v
//   closing <──────────────────── (recycle) <────┘
//      └──> gone, when it is released or abandoned
//
// The one road back is `settle`: whatever was opened, checked, reset, given back
// or never taken up comes through it, and it decides: recycle the item, hand it
// to the first waiter, or put it into the idle list. The one way out is `recycle`.
//
// What always holds (checked by the model tests):
// - opening + idle + lent + closing <= max, but for what was more when max was made
//   smaller; `lent` counts items being checked or reset, and one that is shared once;
//   an opening that failed or came late counts as closing until it is gone;
// - after every public method, unless the pool is suspended: no waiter without a
//   supply while an item is idle, or while an open may start for it, and none that
//   would share while a shared item has room;
// - a waiter that is given an item or a refusal is woken in its own turn.
import type * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import { Closed, type Counts, LeaseEnded, Suspended } from "../PoolError.ts"
import { Idle } from "./idle.ts"
import {
  type Borrower,
  type Holder,
  holderName,
  type Item,
  type Kind,
  type Lease,
  leasesOf,
  type Opening,
  reasonOf,
  type Refusal,
  type Share
} from "./item.ts"
import { Opener } from "./opener.ts"
import { Outage } from "./outage.ts"
import type { LeaseClock, Pooled, Settings, Shell, Size, Told, Totals, Work } from "./pooled.ts"
import { Queue } from "./queue.ts"
import { Registry } from "./registry.ts"
import { Replacing } from "./replacing.ts"
import type { Rules, Verdict } from "./rules.ts"
import { Sharing } from "./sharing.ts"
import { Sweeper } from "./sweeper.ts"

type AnyExit = Exit.Exit<unknown, unknown>

export class PoolState<A, R> implements Pooled<A> {
  readonly settings: Settings
  readonly idle: Idle<Item<A>>
  readonly queue: Queue<A>
  readonly waiters: Queue<A>["waiters"]
  readonly items = new Registry<A>()
  readonly openings = new Set<Opening>()
  readonly outage = new Outage()
  readonly sharing: Sharing<A>
  readonly replacing: Replacing<A>
  readonly sweeper: Sweeper<A, R>
  readonly opener: Opener<A, R>
  lent = 0
  /** Leases that run, or are to be taken up. */
  leases = 0
  closing = 0
  checking = 0
  closed = false
  suspended = false
  /** Nobody is lent anything: closed, or suspended. */
  halted = false
  /** Somebody listens to the events. */
  listening = false
  lazy = false
  readonly totals: Totals = {
    opened: 0,
    openFailures: 0,
    closed: 0,
    abandoned: 0,
    borrowed: 0,
    returned: 0,
    takenBack: 0,
    leaked: 0,
    detached: 0,
    waited: 0,
    timeouts: 0,
    recycled: new Map<string, number>()
  }
  /** Several may have one item. */
  private readonly shares: boolean
  /** What counts as closing and never was an item: opens that were given up. */
  private readonly unopened = new Set<number>()
  private ids = 0
  /** The newest item that went because of another. */
  private condemned = 0
  private readonly shell: Shell<A, R>
  private readonly clock: LeaseClock<A> | undefined

  constructor(settings: Settings, rules: Rules<A, R>, shell: Shell<A, R>, clock: LeaseClock<A> | undefined) {
    this.settings = settings
    this.shell = shell
    this.clock = clock
    this.shares = settings.concurrency > 1
    this.idle = new Idle<Item<A>>(settings.order, () => settings.min, () => this.lent)
    this.queue = new Queue(this, shell)
    this.waiters = this.queue.waiters
    this.sharing = new Sharing<A>(settings.concurrency, this.onGiveBack)
    this.replacing = new Replacing<A>(this, () => this.opener)
    this.sweeper = new Sweeper(this, rules, this.replacing, shell.due)
    this.opener = new Opener(this, this.queue, this.sweeper, this.replacing, shell, this.onGiveBack)
  }

  get live(): number {
    return this.openings.size + this.idle.size + this.lent + this.closing
  }

  counts(): Counts {
    return {
      idle: this.idle.size,
      lent: this.lent,
      opening: this.openings.size,
      closing: this.closing,
      leases: this.leases,
      waiting: this.waiters.size,
      min: this.settings.min,
      max: this.settings.max
    }
  }

  nextId(): number {
    return ++this.ids
  }

  // ---- borrowing

  /** The hot path: an idle item now, or one with room, or undefined when the borrower has to queue. */
  lend(holder: Holder, alone: boolean): Lease<A> | undefined {
    return this.lentAtOnce(this.pick(holder, alone))
  }

  /** An item that needs no check, at once or not at all. */
  lendIfAvailable(holder: Holder): Lease<A> | undefined {
    return this.lentAtOnce(this.pickAvailable(holder))
  }

  private lentAtOnce(lease: Lease<A> | undefined): Lease<A> | undefined {
    if (lease === undefined) return undefined
    this.grant(lease, 0)
    this.openAhead(lease.since)
    return lease
  }

  /**
   * An item now or later, for a borrower that something more stands before: a hook, or
   * others of its group. Until `begin` it has not got it. Undefined when nothing is
   * available to one that would not wait.
   */
  reserve(holder: Holder, kind: Kind, group: number): Borrower<A> | undefined {
    const alone = kind === "alone"
    const waits = kind !== "available"
    const lease = waits ? this.pick(holder, alone) : this.pickAvailable(holder)
    if (lease === undefined) return waits ? this.queue.enter(holder, alone, group) : undefined
    const borrower = this.queue.arrival(holder, alone, group, lease.since)
    borrower.waits = waits
    this.hand(lease, borrower)
    this.openAhead(lease.since)
    return borrower
  }

  private pick(holder: Holder, alone: boolean): Lease<A> | undefined {
    while (this.waiters.size === 0 && !this.halted) {
      const item = this.idle.next
      if (item === undefined) return this.shares && !alone ? this.lendShared(holder) : undefined
      const now = this.shell.now()
      if (this.unproven(item, now)) return undefined
      const lease = this.take(item, holder, alone, now)
      if (lease !== undefined) return lease
    }
    return undefined
  }

  /** A proven idle item, unless a rule speaks against it. */
  private take(item: Item<A>, holder: Holder, alone: boolean, now: number): Lease<A> | undefined {
    if (this.sweeper.spoiled(item, now)) {
      this.pump(now)
      return undefined
    }
    // A predicate may have called back into the pool.
    if (!item.linked || this.halted) return undefined
    this.idle.remove(item)
    return this.lendTo(item, holder, alone, now)
  }

  private lendShared(holder: Holder): Lease<A> | undefined {
    const now = this.shell.now()
    const item = this.roomy(now)
    if (item === undefined || !this.mayShare) return undefined
    return this.joinTo(item, holder, now)
  }

  /** Not while there are too many since `max` was made smaller: these go only when nobody has them. */
  private get mayShare(): boolean {
    return !this.halted && this.lent <= this.settings.max
  }

  /** The borrower has it from now on. */
  private grant(lease: Lease<A>, waited: number): void {
    lease.taken = true
    this.totals.borrowed++
    this.clock?.started(lease)
    if (this.listening) this.tell({ _tag: "Borrowed", item: lease.item.id, waited }, lease.since)
  }

  private openAhead(now: number): void {
    if (this.lazy || this.settings.targetUtilization < 1 || this.settings.minIdle > 0) {
      this.lazy = false
      this.pump(now)
    }
  }

  private pickAvailable(holder: Holder): Lease<A> | undefined {
    let lease = this.pick(holder, false)
    // The one whose turn it is needs a check; another may need none.
    while (lease === undefined && this.waiters.size === 0 && !this.halted) {
      const now = this.shell.now()
      const item = this.proven(now)
      if (item === undefined) return this.shares ? this.lendShared(holder) : undefined
      lease = this.take(item, holder, false, now)
    }
    return lease
  }

  /** The warmest that needs no check: mostly the warmest of all, if any. */
  private proven(now: number): Item<A> | undefined {
    let item = this.idle.warmest
    while (item !== undefined && this.unproven(item, now)) item = item.colder
    return item
  }

  /** The borrower is gone, whatever it waits for or was given, and why. */
  abandon(borrower: Borrower<A>, why: string): void {
    if (borrower.queued) return this.queue.leave(borrower, why)
    const { lease } = borrower
    if (lease === undefined || borrower.begun) return
    borrower.begun = true
    const now = this.shell.now()
    if (this.listening) this.queue.tell(why, borrower, now)
    // It was lent and nobody saw it: not a use, and nothing to reset.
    this.leases--
    lease.over()
    const { item } = lease
    const { share } = item
    if (borrower.touched) item.doom ??= "borrow given up"
    if (!this.stillShared(lease)) {
      // What was to be done after the leases of others was put off until now.
      if (share?.used === true) this.clean(item, item.exit!, share.pending as Work<R> | undefined, false, now)
      else this.settle(item, now, false)
    }
    this.pump(now)
  }

  /** The borrower was handed an item, and goes without all the same. */
  refuseLent(borrower: Borrower<A>, refusal: Refusal): void {
    borrower.refusal = refusal
    this.abandon(borrower, reasonOf(refusal))
    borrower.stop?.()
    this.shell.wake(borrower)
  }

  /** An item that is in no list begins to be lent. */
  private lendTo(item: Item<A>, holder: Holder, alone: boolean, now: number): Lease<A> {
    item.status = "lent"
    this.lent++
    if (this.shares && !alone) return this.joinTo(item, holder, now)
    this.leases++
    item.lease.begin(holder, now)
    return item.lease
  }

  private joinTo(item: Item<A>, holder: Holder, now: number): Lease<A> {
    this.leases++
    return this.sharing.join(item, holder, now)
  }

  /** A shared item for one more, if the rules have nothing against it. */
  private roomy(now: number): Item<A> | undefined {
    for (let item = this.sharing.room; item !== undefined; item = this.sharing.room) {
      const objection = this.sweeper.objection(item, now)
      // A predicate may have called back into the pool.
      if (item !== this.sharing.room) continue
      if (objection === undefined) return item
      this.doom(item, objection, now)
    }
    return undefined
  }

  // ---- the road back

  private readonly onGiveBack = (lease: Lease<A>, exit: AnyExit): undefined => {
    this.giveBack(lease, exit)
  }

  /** A lease ends. */
  giveBack(lease: Lease<A>, exit: AnyExit): void {
    // Its item may have been taken back already.
    if (!lease.active) return
    const { item } = lease
    const { rules } = this.sweeper
    const now = this.shell.now()
    this.leases--
    lease.over()
    this.clock?.over(lease)
    item.idleSince = now
    item.uses++
    item.exit = exit
    this.outage.proved(item.id)
    this.totals.returned++
    if (this.listening) this.tell({ _tag: "Returned", item: item.id, held: now - lease.since }, now)
    let pending: Work<R> | undefined
    if (rules.returns || now > item.dueAt) {
      // Asked of a doomed item too: the verdict may take others with it.
      let verdict: Verdict | undefined | Work<R> = rules.atReturn(item, now)
      // One after the other: what another lease left to be waited for comes first.
      if (verdict !== undefined && !isVerdict(verdict) && item.share?.pending === undefined) {
        verdict = this.shell.attempt(item, verdict)
      }
      if (verdict === undefined || isVerdict(verdict)) this.condemn(item, verdict, now)
      else pending = verdict
      // What the rules' functions did may have been the end of the item.
      if (item.status === "closing") return
    }
    if (item.share !== undefined) pending = this.putOff(item, item.share, pending)
    if (this.stillShared(lease)) this.tend(item, exit)
    else this.clean(item, exit, pending, true, now)
    if (this.busy) this.pump(now)
  }

  /** What has still to be asked is put off until the last borrower has left. */
  private putOff(item: Item<A>, share: Share<A>, verdict: Work<R> | undefined): Work<R> | undefined {
    share.used = true
    const before = share.pending as Work<R> | undefined
    const all = verdict === undefined ? before : this.shell.both(item, before, verdict)
    share.pending = all
    return all
  }

  /** What is to be done after each lease, while others have the item. */
  private tend(item: Item<A>, exit: AnyExit): void {
    const work = this.settings.tends ? this.shell.afterLease(item, exit) : undefined
    // What the user's function did may have been the end of the item.
    if (work !== undefined && item.status === "lent") this.shell.tend(item, work)
  }

  /** Nobody has the item: what is to be done after its leases, and then it is free. `ended`: one has just ended. */
  private clean(item: Item<A>, exit: AnyExit, pending: Work<R> | undefined, ended: boolean, now: number): void {
    if (item.doom === undefined ? pending !== undefined || this.settings.resets : this.settings.tends) {
      item.status = "resetting"
      const work = this.shell.cleaning(item, exit, pending, ended)
      // What the user's function did may have been the end of the item.
      if (item.status !== "resetting") return
      if (work !== undefined) return this.shell.reset(item, work)
    }
    this.settle(item, now, false)
  }

  /** True when others have the item still. */
  private stillShared(lease: Lease<A>): boolean {
    const { item } = lease
    if (item.share === undefined) return false
    if (this.sharing.leave(item, lease) > 0) return true
    this.sharing.over(item)
    return false
  }

  /** An item that counts as lent is free: to a waiter, to the idle list, or out. A proven one needs no check. */
  private settle(item: Item<A>, now: number, proven: boolean): void {
    this.lent--
    if (item.doom !== undefined) return this.recycle(item, item.doom, now)
    // What is here goes before what is only being opened, and may never come.
    if (this.idle.size + this.lent >= this.settings.max) return this.recycle(item, "resized", now)
    if (this.opener.sacrifices) return this.recycle(item, "swapped", now)
    // An item must not keep what its last borrower made of it.
    if (item.exit !== undefined && Exit.isSuccess(item.exit)) item.exit = Exit.void
    // A new item serves one borrower whatever the rules say, or a rule that refuses all would open without end.
    if (this.waiters.size > 0 && item.status !== "fresh") {
      // A predicate may call back into the pool: until it has spoken the item counts as lent.
      this.lent++
      const objection = this.sweeper.objection(item, now)
      if (item.status === "closing") return
      this.lent--
      const reason = item.doom ?? objection
      if (reason !== undefined) return this.recycle(item, reason, now)
    }
    const { head } = this.waiters
    if (head === undefined || this.halted) this.store(item, now)
    else if (!proven && this.unproven(item, now)) this.startCheck(item)
    else this.handOver(item, head, now)
  }

  private store(item: Item<A>, now: number): void {
    // A check changes nothing in the order of the idle items.
    if (item.status === "checking" || item.status === "swept") this.idle.putBack(item)
    else this.idle.push(item)
    item.status = "idle"
    this.sweeper.watch(item, now)
    if (this.settings.minIdle > 0) this.sweeper.unspare(now)
    if (this.idle.size > this.settings.maxIdle) this.out(this.idle.coldest!, "surplus", now)
  }

  private handOver(item: Item<A>, borrower: Borrower<A>, now: number): void {
    this.waiters.leave(borrower)
    this.hand(this.lendTo(item, borrower.holder, borrower.alone, now), borrower)
  }

  private hand(lease: Lease<A>, borrower: Borrower<A>): void {
    borrower.lease = lease
    lease.handed = borrower
    this.shell.wake(borrower)
  }

  /**
   * The borrower takes up the item that it was handed, and that is not lost. Only now is
   * it told: until then it may still leave without.
   */
  begin(borrower: Borrower<A>): Lease<A> {
    const lease = borrower.lease!
    borrower.begun = true
    lease.handed = undefined
    lease.since = this.shell.now()
    this.grant(lease, lease.since - borrower.since)
    return lease
  }

  /** A reset has ended; `failed` is why the item cannot be kept. */
  wasReset(item: Item<A>, failed: Cause.Cause<unknown> | undefined, verdict: Verdict | undefined): void {
    if (item.status !== "resetting") return
    const now = this.shell.now()
    if (failed !== undefined) this.resetFailed(item, failed, now)
    this.condemn(item, verdict, now)
    this.settle(item, now, false)
    this.pump(now)
  }

  /** What was to be done after a lease has failed, while others have the item. */
  wasTended(item: Item<A>, failed: Cause.Cause<unknown>): void {
    if (item.status === "closing") return
    const now = this.shell.now()
    this.doom(item, "reset failed", now)
    if (this.listening) this.tell({ _tag: "ResetFailed", item: item.id, cause: failed }, now)
    this.pump(now)
  }

  private resetFailed(item: Item<A>, cause: Cause.Cause<unknown>, now: number): void {
    item.doom ??= "reset failed"
    if (this.listening) this.tell({ _tag: "ResetFailed", item: item.id, cause }, now)
  }

  /** A sweep's look at an item has ended; what it came to. */
  wasSwept(item: Item<A>, spoken: Verdict | undefined): Verdict | undefined {
    // The closing of the pool may have taken it meanwhile.
    if (item.status !== "swept") return undefined
    const now = this.shell.now()
    const verdict = this.sweeper.final(item, spoken, false, now)
    this.sentence(item, verdict, now)
    this.settle(item, now, false)
    this.pump(now)
    return verdict
  }

  /** The check before a lease has ended. */
  wasChecked(item: Item<A>, failed: Cause.Cause<unknown> | undefined): void {
    if (item.status !== "checking") return
    const now = this.shell.now()
    this.waiters.settle(item)
    this.checking--
    if (failed !== undefined) {
      item.doom ??= "check failed"
      if (this.listening) this.tell({ _tag: "CheckFailed", item: item.id, cause: failed }, now)
    } else {
      item.checkedAt = now
    }
    this.settle(item, now, true)
    this.pump(now)
  }

  /** Idle for `checkAfter`, and not checked since. */
  private unproven(item: Item<A>, now: number): boolean {
    const { checkAfter } = this.settings
    return now - item.idleSince >= checkAfter && now - item.checkedAt >= checkAfter
  }

  /** An item that is in no list is checked; a waiter without a supply gets it. */
  private startCheck(item: Item<A>): void {
    item.status = "checking"
    this.lent++
    this.checking++
    this.waiters.promise(item)
    this.shell.check(item)
  }

  /** An item was opened. */
  enter(item: Item<A>, now: number): void {
    this.lent++
    this.settle(item, now, true)
  }

  // ---- recycling

  /** Recycles the item now if it is idle, or when it comes back. */
  doom(item: Item<A>, reason: string, now: number): void {
    if (item.status === "idle") return this.out(item, reason, now)
    item.doom ??= reason
    this.sharing.update(item)
  }

  private condemn(item: Item<A>, spoken: Verdict | undefined, now: number): void {
    this.sentence(item, this.sweeper.final(item, spoken, true, now), now)
  }

  private sentence(item: Item<A>, verdict: Verdict | undefined, now: number): void {
    if (verdict === undefined) return
    item.doom ??= verdict.reason
    this.sharing.update(item)
    if (verdict.also === "none") return
    const last = verdict.also === "all" ? this.ids : item.id - 1
    // All these are condemned already: many leases may fail of one cause.
    if (last <= this.condemned) return
    this.condemned = last
    for (const other of this.items.all()) if (other !== item && other.id <= last) this.doom(other, verdict.reason, now)
    for (const opening of this.openings) if (opening.id <= last) opening.doom ??= verdict.reason
  }

  /** The one way out. The item is in no list and no longer counts as idle or lent. */
  private recycle(item: Item<A>, reason: string, now: number): void {
    // Also when something was done after the lease.
    const atReturn = item.uses > 0 && (item.idleSince === now || item.status === "resetting")
    this.closing++
    this.removed(item)
    this.totals.recycled.set(reason, (this.totals.recycled.get(reason) ?? 0) + 1)
    if (this.listening) {
      this.tell({ _tag: "Recycled", item: item.id, reason, age: now - item.openedAt, uses: item.uses }, now)
    }
    this.shell.close(item.id, item.scope, atReturn && item.exit !== undefined ? item.exit : Exit.void)
  }

  private removed(item: Item<A>): void {
    item.status = "closing"
    this.sharing.over(item)
    this.sweeper.forget(item)
    this.items.remove(item)
  }

  /** What was closing is released, or abandoned. */
  gone(id: number, took: number, how: "Closed" | "CloseFailed" | "Abandoned", cause?: Cause.Cause<unknown>): void {
    const now = this.shell.now()
    this.closing--
    const opened = !this.unopened.delete(id)
    if (how === "Abandoned") this.totals.abandoned++
    else if (opened) this.totals.closed++
    if (this.listening) {
      this.tell(
        how === "CloseFailed" ? { _tag: how, item: id, took, cause: cause! } : { _tag: how, item: id, took },
        now
      )
    }
    if (this.closed) this.quiesce()
    else this.pump(now)
  }

  leaveOver(opening: Opening): void {
    this.closing++
    this.unopened.add(opening.id)
  }

  invalidate(value: unknown, reason: string, holder: Holder): void {
    const item = this.items.find(value, holder)
    if (item === undefined) return
    const now = this.shell.now()
    this.doom(item, reason, now)
    this.pump(now)
  }

  /** The item has ended by itself: it is recycled at once, also under its borrowers. */
  lose(item: Item<A>, reason: string, cause?: Cause.Cause<unknown>): void {
    if (item.status === "closing") return
    const now = this.shell.now()
    if (item.status === "idle") {
      this.out(item, reason, now)
    } else {
      if (this.unseen(item, now)) {
        this.outage.wasted(item.id)
        this.opener.holdAll(cause)
      }
      this.seize(item, reason, now)
    }
    this.pump(now)
  }

  /** It was opened for a borrower that has not even had its turn yet. */
  private unseen(item: Item<A>, now: number): boolean {
    return item.status === "lent" && item.uses === 0 && now - item.openedAt < shortLife &&
      Array.from(leasesOf(item)).every(({ taken }) => !taken)
  }

  /** Every item, or only the idle ones: now, or each at a moment of its own within the time given. */
  clear(idleOnly: boolean, over: number): void {
    if (this.closed) return
    const now = this.shell.now()
    if (this.listening) this.tell({ _tag: "Cleared" }, now)
    this.retire(this.items.all().filter((item) => !idleOnly || item.status === "idle"), "cleared", over, now)
    if (!idleOnly) { for (const opening of this.openings) opening.doom ??= "cleared" }
    this.pump(now)
  }

  supersede(newest: Item<A>, over: number, now: number): void {
    if (this.listening) this.tell({ _tag: "Swapped" }, now)
    for (const opening of this.openings) opening.doom ??= "swapped"
    this.retire(this.items.all().filter((item) => item !== newest), "swapped", over, now)
  }

  private retire(items: ReadonlyArray<Item<A>>, reason: string, over: number, now: number): void {
    if (over > 0) return this.sweeper.retire(items, reason, over, now, this.shell.random)
    for (const item of items) this.doom(item, reason, now)
  }

  out(item: Item<A>, reason: string, now: number): void {
    // A predicate may have called back into the pool.
    if (!item.linked) return
    this.idle.remove(item)
    // Nobody had the time to use it. A limit as short as that, or a server that ends
    // what it is sent, must not make opens run wild.
    const { min, minIdle } = this.settings
    if (item.uses > 0 || now - item.openedAt >= shortLife) this.outage.proved(item.id)
    else if (this.outage.wasted(item.id) > min + minIdle) this.opener.holdRefill()
    this.recycle(item, reason, now)
  }

  /** An idle item leaves the list for a sweep's look. It is nobody's supply: that may take long. */
  takeForSweep(item: Item<A>): void {
    this.idle.remove(item)
    item.status = "swept"
    this.lent++
  }

  // ---- leases that are ended from outside

  /**
   * What runs in the lease is interrupted, if it is known, and its item goes when it
   * comes back; otherwise the item is closed under the borrower.
   */
  endLease(lease: Lease<A>, reason: "maxLease" | "leaked"): void {
    const { item } = lease
    const now = this.shell.now()
    this.tellEnded(lease, reason, undefined, now)
    item.doom ??= reason
    this.sharing.update(item)
    if (lease.fiber === undefined) this.cutOff(lease)
    else this.shell.interrupt(lease.fiber)
  }

  /** The lease is over, whatever its borrower does; so is the item, once nobody else has it. */
  cutOff(lease: Lease<A>): void {
    const { item } = lease
    const now = this.shell.now()
    if (item.share !== undefined && item.share.leases.size > 1) {
      this.takeFrom(lease, now)
      this.sharing.leave(item, lease)
    } else {
      this.seize(item, item.doom!, now)
    }
    this.pump(now)
  }

  /** The item reports its own death: its borrowers hear of it. */
  die(item: Item<A>, cause: Cause.Cause<unknown> | undefined): void {
    const now = this.shell.now()
    for (const lease of leasesOf(item)) {
      if (!lease.taken || lease.ended !== undefined) continue
      this.tellEnded(lease, "died", cause, now)
      if (lease.fiber !== undefined) this.shell.interrupt(lease.fiber)
    }
    this.lose(item, "died", cause)
  }

  private tellEnded(
    lease: Lease<A>,
    why: "maxLease" | "leaked" | "died",
    cause: Cause.Cause<unknown> | undefined,
    now: number
  ): void {
    const held = now - lease.since
    if (why !== "leaked") lease.ended = new LeaseEnded({ why, held, cause })
    else this.totals.leaked++
    if (this.listening) {
      this.tell({ _tag: "LeaseEnded", item: lease.item.id, held, by: holderName(lease), why, cause }, now)
    }
  }

  /** The item leaves the pool with its borrower, who has it alone and releases it. */
  detach(value: unknown, holder: Holder): Item<A> | undefined {
    const item = this.items.find(value, holder)
    if (item === undefined || item.status !== "lent") return undefined
    const [lease, ...others] = leasesOf(item)
    if (!lease!.taken || others.length > 0) return undefined
    const now = this.shell.now()
    this.leases--
    lease!.over()
    this.clock?.over(lease!)
    this.totals.returned++
    this.totals.detached++
    this.lent--
    this.removed(item)
    this.shell.stop(item)
    if (this.listening) this.tell({ _tag: "Detached", item: item.id, held: now - lease!.since }, now)
    if (this.closed) this.quiesce()
    else this.pump(now)
    return item
  }

  // ---- live control

  /** Nobody is lent anything and nothing is opened until `resume`. */
  suspend(): void {
    if (this.halted) return
    const now = this.shell.now()
    this.suspended = this.halted = true
    if (this.listening) this.tell({ _tag: "Suspended" }, now)
    if (this.settings.refuses) this.queue.refuseAll({ _tag: "Pool", reason: new Suspended() }, now)
  }

  resume(): void {
    if (!this.suspended || this.closed) return
    const now = this.shell.now()
    this.suspended = this.halted = false
    if (this.listening) this.tell({ _tag: "Resumed" }, now)
    // Items came back meanwhile: also those whom an open or a check is for need not wait for it.
    const { idle, waiters } = this
    let left = waiters.size
    while (left > 0 && waiters.size > 0 && idle.size > 0 && !this.halted) if (this.serveNext(now)) left--
    this.pump(now)
  }

  /** Idle items above the new `max` go now, the coldest first, and others when they come back. */
  resize(size: Size): void {
    if (this.closed) return
    const { idle, settings } = this
    const now = this.shell.now()
    Object.assign(settings, size)
    idle.fit()
    if (this.listening) this.tell({ _tag: "Resized", ...size }, now)
    const above = Math.max(idle.size + this.lent - size.max, idle.size - size.maxIdle)
    for (let left = above; left > 0 && idle.coldest !== undefined; left--) {
      const { coldest } = idle
      idle.remove(coldest)
      this.recycle(coldest, "resized", now)
    }
    this.queue.refuseGroups(size.max, now)
    this.sweeper.unspare(now)
    this.pump(now)
  }

  // ---- closing the pool

  /** Waiters are refused, no open starts, what is not lent is closed. */
  close(): void {
    const now = this.shell.now()
    this.closed = this.halted = true
    if (this.listening) this.tell({ _tag: "PoolClosing" }, now)
    this.queue.refuseAll({ _tag: "Pool", reason: new Closed() }, now)
    for (const opening of this.openings) {
      this.openings.delete(opening)
      this.leaveOver(opening)
      this.shell.cancelOpen(opening)
    }
    this.waiters.spare.clear()
    for (const item of this.items.all()) {
      if (item.status === "idle") this.doom(item, "pool closed", now)
      else if (item.status === "lent") this.closeLent(item, now)
      else this.seize(item, "pool closed", now)
    }
    this.quiesce()
  }

  /** A lent item goes when it comes back; who has not taken it up yet is a waiter like the others. */
  private closeLent(item: Item<A>, now: number): void {
    this.doom(item, "pool closed", now)
    for (const { handed } of Array.from(leasesOf(item))) {
      if (handed !== undefined) this.refuseLent(handed, { _tag: "Pool", reason: new Closed() })
    }
  }

  /** The drain timeout is over: lent items are closed under their borrowers. */
  takeBack(): void {
    const now = this.shell.now()
    // All others were dealt with when the closing began, but for those that came back since.
    for (const item of this.items.all()) {
      for (const lease of leasesOf(item)) this.shell.takenBack(lease)
      if (item.status === "lent") item.doom = undefined
      this.seize(item, "taken back", now)
    }
  }

  /** A busy item is recycled now; who has it gives back nothing. */
  private seize(item: Item<A>, reason: string, now: number): void {
    if (item.status === "checking") {
      this.checking--
      this.waiters.settle(item)
    }
    for (const lease of leasesOf(item)) this.takeFrom(lease, now)
    this.lent--
    this.recycle(item, item.doom ?? reason, now)
    this.shell.stop(item)
  }

  private takeFrom(lease: Lease<A>, now: number): void {
    // A rule that is asked as the lease ends may be what ends the item.
    if (!lease.active) return
    const by = holderName(lease)
    const { handed } = lease
    this.leases--
    lease.over()
    // Its borrower has not heard of it yet.
    if (handed !== undefined) return this.queue.enterAgain(handed, now)
    this.clock?.over(lease)
    this.totals.takenBack++
    if (this.listening) this.tell({ _tag: "TakenBack", item: lease.item.id, held: now - lease.since, by }, now)
  }

  private quiesce(): void {
    if (this.live > 0) return
    if (this.listening) this.tell({ _tag: "PoolClosed" }, this.shell.now())
    this.shell.empty()
  }

  // ---- what keeps the promises

  get wanted(): number {
    const { concurrency, max, min, minIdle, targetUtilization } = this.settings
    if (targetUtilization === 1 && minIdle === 0) return min
    const ahead = targetUtilization === 1 ? 0 : Math.ceil(this.used / (concurrency * targetUtilization) - rounding)
    return Math.min(max, Math.max(min, ahead, minIdle === 0 ? 0 : this.lent + minIdle))
  }

  /** The places that are taken or waited for: a lease that shares with nobody takes all of its item. */
  private get used(): number {
    const { sharing, waiters } = this
    const alone = this.leases - sharing.leases + waiters.alone
    return alone * this.settings.concurrency + sharing.leases + waiters.size - waiters.alone
  }

  /** How many items there are or will be, when those that are replaced have gone. */
  private get kept(): number {
    return this.idle.size + this.lent + this.openings.size - this.replacing.underWay
  }

  /** Something may be to do for a waiter or for `min`. */
  private get busy(): boolean {
    const { waiters } = this
    // What drains may do so for a waiter that has just been served.
    const shared = this.shares && (waiters.size > 0 || this.sharing.draining.size > 0)
    return waiters.bare !== undefined || shared || this.kept < this.wanted
  }

  pump(now: number): void {
    if (this.closed) return
    const { idle, opener, waiters } = this
    opener.startTrial(now)
    if (this.suspended) return
    // Also for one with an open under way for it: that may take long, and what is here does not.
    while (waiters.size > this.checking && idle.size > 0 && !this.halted) this.serveNext(now)
    if (this.shares) this.pumpShared(now)
    else while (waiters.bare !== undefined && opener.mayOpen) opener.start(now)
    this.replacing.go(now)
    while (this.kept < this.wanted && opener.mayRefill) opener.start(now)
  }

  /** An idle item goes to a waiter, or into the check before that. */
  private serveNext(now: number): boolean {
    const { idle, waiters } = this
    const item = idle.next!
    // A predicate may have called back into the pool.
    if (this.sweeper.spoiled(item, now) || !item.linked || waiters.head === undefined || this.halted) return false
    idle.remove(item)
    if (this.unproven(item, now)) this.startCheck(item)
    else this.handOver(item, waiters.head, now)
    return true
  }

  private pumpShared(now: number): void {
    const { opener, waiters } = this
    this.drain()
    for (let item = this.roomFor(now); item !== undefined; item = this.roomFor(now)) {
      const borrower = this.firstSharer()
      waiters.leave(borrower)
      this.hand(this.joinTo(item, borrower.holder, now), borrower)
      this.drain()
    }
    while (waiters.bare !== undefined && waiters.supplied < this.needed && opener.mayOpen) opener.start(now)
    this.drain()
  }

  /** An item for one alone is better opened than taken from those who share it, and never kept from one who came before. */
  private drain(): void {
    const { opener, queue, sharing, waiters } = this
    sharing.drain(waiters.head?.alone === true && !opener.mayOpen ? queue.aloneLeft : 0)
  }

  private roomFor(now: number): Item<A> | undefined {
    const item = this.sharers ? this.roomy(now) : undefined
    // A predicate may have called back into the pool.
    return this.sharers ? item : undefined
  }

  /** Somebody waits who would share an item. */
  private get sharers(): boolean {
    return this.waiters.size > this.waiters.alone && this.mayShare
  }

  /** Those who share may pass those who do not: for these, items are opened or drained, so they are few. */
  private firstSharer(): Borrower<A> {
    let borrower = this.waiters.head!
    while (borrower.alone) borrower = borrower.behind as Borrower<A>
    return borrower
  }

  /** How many items on their way the waiters need: one serves several who share. */
  private get needed(): number {
    const { alone, size } = this.waiters
    return alone + Math.ceil((size - alone) / this.settings.concurrency)
  }

  tell(told: Told, at: number): void {
    this.shell.emit({ ...told, pool: this.settings.name, at })
  }
}

// Milliseconds. An item that a rule ends before is refilled with the delay of a failed open.
const shortLife = 1000

// What a division may be off by must not open one more.
const rounding = 1e-9

const isVerdict = (value: object): value is Verdict => "also" in value
