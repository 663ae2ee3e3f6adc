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
// - opening + idle + lent + closing <= max; `lent` counts items being checked or
//   reset; an opening that failed or came late counts as closing until it is gone;
// - after every public method: no waiter without a supply while an item is idle,
//   or while an open may start;
// - a waiter that is given an item or a refusal is woken in its own turn.
import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { Closed, type Counts } from "../PoolError.ts"
import type { PoolEvent } from "../PoolEvent.ts"
import { Idle } from "./idle.ts"
import { type Borrower, type Holder, holderName, Item, Opening } from "./item.ts"
import { Outage } from "./outage.ts"
import type { Pooled, Settings, Told, Totals } from "./pooled.ts"
import { Queue } from "./queue.ts"
import { Registry } from "./registry.ts"
import type { Rules, Verdict } from "./rules.ts"
import { Sweeper } from "./sweeper.ts"

/** What the state machine asks for. None of these may call back before it returns. */
export interface Shell<A, R> {
  readonly now: () => number
  readonly wallNow: () => number
  readonly open: (opening: Opening) => void
  readonly cancelOpen: (opening: Opening) => void
  readonly check: (item: Item<A>) => void
  /** Runs a verdict as far as it comes without waiting: most steps of a Schedule do not wait. */
  readonly attempt: (item: Item<A>, verdict: Work<R>) => Verdict | undefined | Work<R>
  /** The reset, after a verdict that is still to come; undefined when there is nothing to do. */
  readonly cleaning: (
    item: Item<A>,
    exit: Exit.Exit<unknown, unknown>,
    verdict: Work<R> | undefined
  ) => Work<R> | undefined
  /** Runs it in the background; answers with `wasReset`. */
  readonly reset: (item: Item<A>, work: Work<R>) => void
  /** Ends the check or reset that is under way; its outcome no longer matters. */
  readonly stop: (item: Item<A>) => void
  readonly close: (id: number, scope: Scope.Closeable, exit: Exit.Exit<unknown, unknown>) => void
  readonly wake: (borrower: Borrower<A>) => void
  /** A waiter's time ends then. */
  readonly deadline: (at: number) => void
  /** Answers with `retryNow` or `retryOver`, unless an open succeeds meanwhile. */
  readonly retry: (cause: Cause.Cause<unknown>) => void
  /** Answers with `refillNow`; `failures` is how many opens failed in a row. */
  readonly refill: (failures: number) => void
  /** The earliest time at which a rule may speak has changed. */
  readonly due: (at: number) => void
  readonly takenBack: (item: Item<A>) => void
  readonly empty: () => void
  readonly emit: (event: PoolEvent) => void
}

/** What cannot be done at once: a rule's verdict, a reset. Opaque here. */
export type Work<R> = Effect.Effect<Verdict | undefined, unknown, R>

export class PoolState<A, R> implements Pooled<A> {
  readonly settings: Settings
  readonly idle = new Idle<Item<A>>()
  readonly queue: Queue<A>
  readonly waiters: Queue<A>["waiters"]
  readonly items = new Registry<A>()
  readonly openings = new Set<Opening>()
  readonly outage = new Outage()
  readonly sweeper: Sweeper<A, R>
  lent = 0
  closing = 0
  checking = 0
  closed = false
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
    waited: 0,
    timeouts: 0,
    recycled: new Map<string, number>()
  }
  /** What counts as closing and never was an item: opens that were given up. */
  private readonly unopened = new Set<number>()
  private ids = 0
  /** The newest item that went because of another. */
  private condemned = 0
  private readonly shell: Shell<A, R>

  constructor(settings: Settings, rules: Rules<A, R>, shell: Shell<A, R>) {
    this.settings = settings
    this.shell = shell
    this.queue = new Queue(this, shell)
    this.waiters = this.queue.waiters
    this.sweeper = new Sweeper(this, rules, shell.due)
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
      waiting: this.waiters.size,
      min: this.settings.min,
      max: this.settings.max
    }
  }

  // ---- borrowing

  /** The hot path: an idle item now, or undefined when the borrower has to queue. */
  lend(holder: Holder): Item<A> | undefined {
    if (this.waiters.size > 0 || this.closed) return undefined
    for (;;) {
      const item = this.settings.lifo ? this.idle.warmest : this.idle.coldest
      if (item === undefined) return undefined
      const now = this.shell.now()
      if (this.unproven(item, now)) return undefined
      if (this.sweeper.spoiled(item, now)) {
        this.pump(now)
        continue
      }
      // A predicate may have called back into the pool.
      if (!item.linked) continue
      this.idle.remove(item)
      this.lendTo(item, holder, now)
      item.taken = true
      if (this.listening) this.tell({ _tag: "Borrowed", item: item.id, waited: 0 }, now)
      return item
    }
  }

  /** The borrower is gone, whatever it waits for or was given. */
  abandon(borrower: Borrower<A>): void {
    if (borrower.queued) return this.queue.leave(borrower)
    const { item } = borrower
    if (item === undefined || borrower.begun) return
    borrower.begun = true
    const now = this.shell.now()
    if (this.listening) this.queue.tell("Interrupted", borrower, now)
    // It was lent and nobody saw it: not a use, and nothing to reset.
    if (item.status !== "lent") return
    this.totals.borrowed--
    this.settle(item, now, false)
    this.pump(now)
  }

  private lendTo(item: Item<A>, holder: Holder, now: number): void {
    item.status = "lent"
    item.taken = false
    item.holder = holder
    item.span = holder.cache.span
    item.lentAt = now
    this.lent++
    this.totals.borrowed++
  }

  // ---- the road back

  /** A lease ends. */
  giveBack(item: Item<A>, exit: Exit.Exit<unknown, unknown>): void {
    // Its item may have been taken back already.
    if (item.status !== "lent") return
    const { rules } = this.sweeper
    const now = this.shell.now()
    item.holder = undefined
    item.idleSince = now
    item.uses++
    item.exit = exit
    this.outage.shortLives = 0
    this.totals.returned++
    if (this.listening) this.tell({ _tag: "Returned", item: item.id, held: now - item.lentAt }, now)
    let pending: Work<R> | undefined
    if (rules.returns || now > item.dueAt) {
      // Asked of a doomed item too: the verdict may take others with it.
      let verdict: Verdict | undefined | Work<R> = rules.atReturn(item, now)
      if (verdict !== undefined && !isVerdict(verdict)) verdict = this.shell.attempt(item, verdict)
      if (verdict !== undefined) {
        if (isVerdict(verdict)) this.condemn(item, verdict, now)
        else pending = verdict
      }
    }
    if (item.doom === undefined && (pending !== undefined || this.settings.resets)) {
      item.status = "resetting"
      const work = this.shell.cleaning(item, exit, pending)
      // What the user's function did may have been the end of the item.
      if (item.status !== "resetting") return
      if (work !== undefined) return this.shell.reset(item, work)
    }
    this.settle(item, now, false)
    if (this.busy) this.pump(now)
  }

  /** An item that counts as lent is free: to a waiter, to the idle list, or out. A proven one needs no check. */
  private settle(item: Item<A>, now: number, proven: boolean): void {
    this.lent--
    item.holder = undefined
    if (item.doom !== undefined) return this.recycle(item, item.doom, now)
    // An item must not keep what its last borrower made of it.
    if (item.exit !== undefined && Exit.isSuccess(item.exit)) item.exit = Exit.void
    const { head } = this.waiters
    if (head === undefined) return this.store(item, now)
    // A new item serves one borrower whatever the rules say, or a rule that refuses all would open without end.
    const objection = item.status === "fresh" ? undefined : this.sweeper.objection(item, now)
    if (objection !== undefined) this.recycle(item, objection, now)
    else if (!proven && this.unproven(item, now)) this.startCheck(item)
    else this.handOver(item, head, now)
  }

  private store(item: Item<A>, now: number): void {
    // A check changes nothing in the order of the idle items.
    if (item.status === "checking" || item.status === "swept") this.idle.putBack(item)
    else this.idle.push(item)
    item.status = "idle"
    this.sweeper.watch(item, now)
  }

  private handOver(item: Item<A>, borrower: Borrower<A>, now: number): void {
    this.waiters.leave(borrower)
    borrower.item = item
    this.lendTo(item, borrower.holder, now)
    this.shell.wake(borrower)
  }

  /**
   * The borrower takes up the item that it was handed. Only now is it told: until
   * then it may still leave without. The item may have ended meanwhile: then the
   * borrower waits again, or has begun with nothing because the pool is closed.
   */
  begin(borrower: Borrower<A>): Item<A> | undefined {
    const item = borrower.item!
    if (item.status === "lent") {
      borrower.begun = item.taken = true
      if (this.listening) this.tellBorrowed(item, borrower.since)
      return item
    }
    const now = this.shell.now()
    if (this.closed) {
      borrower.begun = true
      if (this.listening) this.queue.tell("Closed", borrower, now)
    } else {
      this.queue.enterAgain(borrower, now)
    }
    return undefined
  }

  /** A reset has ended; `failed` is why the item cannot be kept. */
  wasReset(item: Item<A>, failed: Cause.Cause<unknown> | undefined, verdict: Verdict | undefined): void {
    if (item.status !== "resetting") return
    const now = this.shell.now()
    if (failed !== undefined) {
      item.doom ??= "reset failed"
      if (this.listening) this.tell({ _tag: "ResetFailed", item: item.id, cause: failed }, now)
    }
    if (verdict !== undefined) this.condemn(item, verdict, now)
    this.settle(item, now, false)
    this.pump(now)
  }

  /** A sweep's look at an item has ended. */
  wasSwept(item: Item<A>, verdict: Verdict | undefined): void {
    if (item.status !== "swept") return
    const now = this.shell.now()
    if (verdict !== undefined) this.condemn(item, verdict, now)
    this.settle(item, now, false)
    this.pump(now)
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

  // ---- opening

  private startOpen(now: number): void {
    const opening = new Opening(++this.ids, now, this.outage.round)
    this.openings.add(opening)
    this.outage.began(opening)
    this.waiters.promise(opening)
    if (this.listening) this.tell({ _tag: "Opening", item: opening.id }, now)
    this.shell.open(opening)
  }

  /** An item for the opening; the caller then runs the rules' start and calls `opened`. */
  admit(opening: Opening, value: A, scope: Scope.Closeable): Item<A> {
    return new Item(opening.id, value, scope, this.shell.now(), this.shell.wallNow(), this.onGiveBack)
  }

  private readonly onGiveBack = (item: Item<A>, exit: Exit.Exit<unknown, unknown>): undefined => {
    this.giveBack(item, exit)
  }

  opened(opening: Opening, item: Item<A>): void {
    this.openings.delete(opening)
    const now = this.shell.now()
    this.totals.opened++
    this.outage.succeeded()
    this.waiters.settle(opening)
    item.doom = opening.doom
    this.items.add(item)
    this.sweeper.admit(item, now)
    if (this.listening) this.tell({ _tag: "Opened", item: item.id, took: now - opening.since }, now)
    this.lent++
    this.settle(item, now, true)
    this.sweeper.unspare(now)
    this.pump(now)
  }

  /**
   * The open failed, or ran out of time. `retryable` says that the retry road, when
   * there is one, takes it. `leftover` says that the shell has still to end it: it
   * counts as closing until `gone`.
   */
  openFailed(opening: Opening, cause: Cause.Cause<unknown>, retryable: boolean, leftover: boolean): void {
    this.openings.delete(opening)
    const now = this.shell.now()
    if (leftover) {
      this.closing++
      this.unopened.add(opening.id)
    }
    this.totals.openFailures++
    if (this.listening) this.tell({ _tag: "OpenFailed", item: opening.id, took: now - opening.since, cause }, now)
    const waiter = opening.waiter as Borrower<A> | undefined
    this.waiters.settle(opening)
    const retries = retryable && this.settings.retries
    if (this.outage.failed(opening, cause, retries)) this.shell.retry(cause)
    if (!retries) {
      this.holdRefill()
      if (waiter !== undefined) {
        this.waiters.leave(waiter)
        this.queue.refuse(waiter, { _tag: "Open", cause }, now)
      }
    }
    this.pump(now)
  }

  /** The retry's delay is over: one open may try. */
  retryNow(): void {
    this.outage.resume()
    this.pump(this.shell.now())
  }

  /** The retry Schedule has ended: every waiter hears why. */
  retryOver(cause: Cause.Cause<unknown>): void {
    this.outage.end()
    this.holdRefill()
    const now = this.shell.now()
    this.queue.refuseAll({ _tag: "Open", cause }, now)
    this.pump(now)
  }

  refillNow(): void {
    this.outage.refillBlocked = false
    this.pump(this.shell.now())
  }

  private holdRefill(): void {
    if (this.settings.min === 0) return
    const failures = this.outage.holdRefill()
    if (failures > 0) this.shell.refill(failures)
  }

  // ---- recycling

  /** Recycles the item now if it is idle, or when it comes back. */
  doom(item: Item<A>, reason: string, now: number): void {
    if (item.status === "idle") this.out(item, reason, now)
    else item.doom ??= reason
  }

  private condemn(item: Item<A>, verdict: Verdict, now: number): void {
    item.doom ??= verdict.reason
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
    const atReturn = item.uses > 0 && item.idleSince === now
    item.status = "closing"
    this.closing++
    this.sweeper.forget(item)
    this.items.remove(item)
    this.totals.recycled.set(reason, (this.totals.recycled.get(reason) ?? 0) + 1)
    if (this.listening) {
      this.tell({ _tag: "Recycled", item: item.id, reason, age: now - item.openedAt, uses: item.uses }, now)
    }
    this.shell.close(item.id, item.scope, atReturn && item.exit !== undefined ? item.exit : Exit.void)
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

  invalidate(value: unknown, reason: string, holder: Holder): void {
    const item = this.items.find(value, holder)
    if (item === undefined) return
    const now = this.shell.now()
    this.doom(item, reason, now)
    this.pump(now)
  }

  /** The item has ended by itself: it is recycled at once, also under its borrower. */
  lose(value: unknown, reason: string): void {
    const item = this.items.find(value, undefined)
    if (item === undefined) return
    const now = this.shell.now()
    if (item.status === "idle") this.out(item, reason, now)
    else this.seize(item, reason, now)
    this.pump(now)
  }

  clear(): void {
    if (this.closed) return
    const now = this.shell.now()
    if (this.listening) this.tell({ _tag: "Cleared" }, now)
    for (const item of this.items.all()) this.doom(item, "cleared", now)
    for (const opening of this.openings) opening.doom ??= "cleared"
    this.pump(now)
  }

  out(item: Item<A>, reason: string, now: number): void {
    // A predicate may have called back into the pool.
    if (!item.linked) return
    this.idle.remove(item)
    // Nobody had the time to use it. A limit as short as that, or a server that ends
    // what it is sent, must not make opens run wild.
    if (item.uses > 0 || now - item.openedAt >= shortLife) this.outage.shortLives = 0
    else if (++this.outage.shortLives > this.settings.min) this.holdRefill()
    this.recycle(item, reason, now)
  }

  /** An idle item leaves the list for a sweep's look. It is nobody's supply: that may take long. */
  takeForSweep(item: Item<A>): void {
    this.idle.remove(item)
    item.status = "swept"
    this.lent++
  }

  // ---- closing the pool

  /** Waiters are refused, no open starts, what is not lent is closed. */
  close(): void {
    const now = this.shell.now()
    this.closed = true
    if (this.listening) this.tell({ _tag: "PoolClosing" }, now)
    this.queue.refuseAll({ _tag: "Pool", reason: new Closed() }, now)
    for (const opening of this.openings) {
      this.openings.delete(opening)
      this.closing++
      this.unopened.add(opening.id)
      this.shell.cancelOpen(opening)
    }
    this.waiters.spare.clear()
    for (const item of this.items.all()) {
      if (item.status === "idle" || item.status === "lent") this.doom(item, "pool closed", now)
      else this.seize(item, "pool closed", now)
    }
    this.quiesce()
  }

  /** The drain timeout is over: lent items are closed under their borrowers. */
  takeBack(): void {
    const now = this.shell.now()
    // All others were dealt with when the closing began.
    for (const item of this.items.all()) {
      if (item.taken) this.shell.takenBack(item)
      item.doom = undefined
      this.seize(item, "taken back", now)
    }
  }

  /** A busy item is recycled now; who has it gives back nothing. */
  private seize(item: Item<A>, reason: string, now: number): void {
    if (item.status === "checking") {
      this.checking--
      this.waiters.settle(item)
    }
    if (item.status === "lent") this.takeFrom(item, now)
    this.lent--
    item.holder = undefined
    this.recycle(item, item.doom ?? reason, now)
    this.shell.stop(item)
  }

  private takeFrom(item: Item<A>, now: number): void {
    const { id, lentAt, taken } = item
    // Its borrower has not heard of it yet.
    if (!taken) {
      this.totals.borrowed--
      return
    }
    this.totals.takenBack++
    if (this.listening) this.tell({ _tag: "TakenBack", item: id, held: now - lentAt, by: holderName(item) }, now)
  }

  private quiesce(): void {
    if (this.live > 0) return
    if (this.listening) this.tell({ _tag: "PoolClosed" }, this.shell.now())
    this.shell.empty()
  }

  // ---- what keeps the promises

  /** Something may be to do for a waiter or for `min`. */
  private get busy(): boolean {
    return this.waiters.bare !== undefined || this.idle.size + this.lent + this.openings.size < this.settings.min
  }

  pump(now: number): void {
    if (this.closed) return
    const { idle, settings, waiters } = this
    while (waiters.bare !== undefined && idle.size > 0) {
      const item = (settings.lifo ? idle.warmest : idle.coldest)!
      if (this.sweeper.spoiled(item, now) || !item.linked) continue
      idle.remove(item)
      if (this.unproven(item, now)) this.startCheck(item)
      else this.handOver(item, waiters.head!, now)
    }
    while (waiters.bare !== undefined && this.mayOpen()) this.startOpen(now)
    if (this.lazy || this.outage.refillBlocked) return
    while (idle.size + this.lent + this.openings.size < settings.min && this.mayOpen()) this.startOpen(now)
  }

  private mayOpen(): boolean {
    return this.outage.mayOpen && this.live < this.settings.max && this.openings.size < this.settings.openConcurrency
  }

  private tellBorrowed({ id }: Item<A>, since: number): void {
    const now = this.shell.now()
    this.tell({ _tag: "Borrowed", item: id, waited: now - since }, now)
  }

  tell(told: Told, at: number): void {
    this.shell.emit({ ...told, pool: this.settings.name, at })
  }
}

// Milliseconds. An item that a rule ends before is refilled with the delay of a failed open.
const shortLife = 1000

const isVerdict = (value: object): value is Verdict => "also" in value
