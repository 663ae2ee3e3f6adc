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
//   would share while a shared item has room, but where it would pack and an item is
//   checked for it (`heldUp` in serving.ts);
// - a waiter that is given an item or a refusal is woken in its own turn.
//
// What a lease costs (bytes are counted by test/allocation.test.ts; under it stands what
// effect needs for an effect with an end, or for one in a scope of its own):
// - `use` of an idle item allocates the effect itself, which is the iterator of whoever yields it,
//   and what that ends with; its Loan, with its end, was another's before (loan.ts): some 200
//   bytes, where the floor takes 355. `get` allocates its entry in the
//   scope; the finalizer and what it succeeds with are made when an item is lent by `get` for
//   the first time. In here nothing is allocated: an item has had its lease since it was opened.
// - The calls are `lend`, which takes the next item off the idle list, and `giveBack`, which
//   asks in one row of compares (`calm`, `stays`, `keeps`) whether anything is to be done, and
//   puts it back. Rules are one compiled function, and are not even called while their limits
//   are far. What others share is joined and left without more, and the `Share` of an item is
//   kept for the next time. What is reset or checked takes the long way back, `takeBack`.
// - Where a lease comes after work on something else, as it does on a socket, half of what it
//   costs is what the processor has no more in its caches. So what a lease touches is little; in
//   which order it stands made no difference that could be measured.
// - What a constructor sets is `declare`d in the classes that a lease touches (test/declared.test.ts).
//   A field that is only named is undefined first, and the engine then remembers neither that it
//   is a number, and takes 16 bytes for each time that is stored, nor of what class its objects
//   are, and looks at each way through it. 2 % of a lease.
// - One who waits is a Loan too, and has what effect needs to resume it besides: with a yield of
//   its own, less than two bare yields. `enter` puts it in the queue; `pass` hands it the next
//   item that comes back. One task resumes up to 256 of them, and in the turn of the event loop
//   in which they were handed an item, if that comes back as it does among borrowers who only
//   yield (waking.ts).
// - The clock is read when a lease begins and when it ends, in a rush once for 32 of
//   these moments, and for those who have to wait at the end of the turn (rush.ts), but not when
//   an item comes back that is checked or reset. No fiber and no timer: who waits first sets one
//   alarm for all.
// - Events cost one branch while nobody listens; whoever does, or a hook, a limit of the
//   lease or a budget that is short, takes the long way: `pick`, `takeBack`.
import type * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import type { Counts } from "../PoolError.ts"
import type { Budget } from "./budget.ts"
import { Control } from "./control.ts"
import { Ending } from "./ending.ts"
import { Idle } from "./idle.ts"
import {
  type Borrower,
  type Holder,
  type Home,
  type Item,
  type Kind,
  type Lease,
  type Opening,
  reasonOf,
  type Refusal
} from "./item.ts"
import { Opener } from "./opener.ts"
import { Outage } from "./outage.ts"
import type { LeaseClock, Lends, Settings, Shell, Told, Totals, Work } from "./pooled.ts"
import { Queue } from "./queue.ts"
import { Registry } from "./registry.ts"
import { Replacing } from "./replacing.ts"
import type { Rules, Verdict } from "./rules.ts"
import type { Rush, Since } from "./rush.ts"
import { Serving } from "./serving.ts"
import type { Share } from "./share.ts"
import { Sharing } from "./sharing.ts"
import { Sweeper } from "./sweeper.ts"
import { newTally } from "./totals.ts"
import { type Turns, Waker } from "./waking.ts"

type AnyExit = Exit.Exit<unknown, unknown>

export class PoolState<A, R> implements Lends<A>, Home<A> {
  // First what each lease touches.
  /** Nothing goes on besides that may concern a lease: nobody listens, and all else as far as is said in `ease`. */
  calm = false
  /** Not even that, and nobody will ask how long it was idle: it may be told a little less. */
  declare private readonly bare: boolean
  /** And what comes back may go to the next. */
  declare private readonly passes: boolean
  /** Several may have one item. */
  declare private readonly shares: boolean
  /** As `Sharing` says. */
  declare private readonly packs: boolean
  /** Some moments need no reading of the clock where they follow one another fast. */
  declare private readonly rushes: boolean
  /** Nothing is done when a lease ends but to reset the item, if that has to be, and to keep it. */
  declare private readonly plain: boolean
  /** A rule is to be asked before each lease. */
  declare private readonly asks: boolean
  /** Whether opens are of any use: a lease may prove it. */
  private doubtful = false
  private isHalted = false
  private isListening = false
  /** The next borrower is to have `min` opened. */
  lazy = false
  lent = 0
  /** Leases that ever began. */
  private begun = 0
  ended = 0
  declare readonly idle: Idle<Item<A>>
  declare readonly waiters: Queue<A>["waiters"]
  declare readonly settings: Settings
  declare private readonly rules: Rules<A, R>
  declare readonly budget: Budget<A> | undefined
  declare readonly rush: Rush
  readonly tally = newTally()
  usedAt = -Infinity
  declare readonly waker: Waker<A>
  declare private readonly shell: Shell<A, R>
  declare private readonly clock: LeaseClock<A> | undefined
  declare readonly opener: Opener<A, R>
  readonly outage = new Outage(() => this.ease())
  declare readonly serving: Serving<A, R>
  declare readonly sharing: Sharing<A>
  declare readonly sweeper: Sweeper<A, R>
  declare readonly replacing: Replacing<A>
  declare readonly queue: Queue<A>
  readonly items = new Registry<A>()
  readonly openings = new Set<Opening>()
  declare readonly ending: Ending<A, R>
  declare readonly control: Control<A, R>
  /** Leases that were handed to who has not come for them yet, and may not. */
  unseen = 0
  forsaken = 0
  checking = 0
  sweeping = 0
  closed = false
  /** Somebody waits until there are `min` items, since this turn. */
  warmTurn: number | undefined = undefined
  suspended = false
  /** Hears, within a step, that there is nothing: no item, none opening or closing, no waiter. */
  onRest: (() => void) | undefined = undefined
  private ids = 0

  constructor(
    settings: Settings,
    rules: Rules<A, R>,
    shell: Shell<A, R>,
    turns: Turns,
    clock: LeaseClock<A> | undefined,
    budget: Budget<A> | undefined
  ) {
    this.settings = settings
    this.budget = budget
    this.rules = rules
    this.shell = shell
    this.clock = clock
    this.shares = settings.concurrency > 1
    this.packs = this.shares && settings.sharing === "pack"
    this.plain = clock === undefined && !settings.tends && settings.targetUtilization === 1 &&
      settings.checkAfter > 0 &&
      !rules.hastens
    this.asks = rules.lends
    this.bare = this.plain && !this.shares && !settings.resets && settings.checkAfter === Infinity
    this.passes = this.bare && !this.asks
    this.rushes = this.bare || this.shares
    this.rush = shell.rush
    this.idle = new Idle<Item<A>>(settings.order, () => settings.min, () => this.lent)
    this.queue = new Queue(this, shell)
    this.waiters = this.queue.waiters
    this.waker = new Waker(turns, this.waiters)
    this.sharing = new Sharing<A>(settings.concurrency, this.packs)
    this.replacing = new Replacing<A>(this, () => this.opener)
    this.sweeper = new Sweeper(this, rules, this.replacing, shell)
    this.opener = new Opener(this, this, this.queue, this.sweeper, this.replacing, shell)
    this.ending = new Ending(this, this, shell, clock)
    this.serving = new Serving(this, this)
    this.control = new Control(this, this, shell.now)
    this.ease()
  }

  /** Nobody is lent anything: closed, or suspended. */
  get halted(): boolean {
    return this.isHalted
  }

  set halted(is: boolean) {
    this.isHalted = is
    this.ease()
  }

  /** Somebody listens to the events. */
  get listening(): boolean {
    return this.isListening
  }

  set listening(is: boolean) {
    this.isListening = is
    // Who waits since this turn has waited until now, and no longer.
    if (is) this.rush.dateAll()
    this.ease()
  }

  ease(): void {
    this.doubtful = this.outage.doubtful
    this.calm = this.plain && !this.isHalted && !this.isListening && this.atEase
  }

  /** No item is too many, none is missing but what others wait for, and opens are not held back until one proves of use. */
  private get atEase(): boolean {
    const { idle, lent, opener, outage, replacing, settings } = this
    return idle.size + lent <= settings.max && settings.minIdle === 0 && opener.trial === undefined &&
      replacing.underWay === 0 && !outage.held
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

  /** Leases that run, or are to be taken up. */
  get leases(): number {
    return this.begun - this.ended
  }

  get totals(): Totals {
    const { begun, ended, forsaken, tally, unseen } = this
    return { ...tally, borrowed: begun - forsaken - unseen, returned: ended - forsaken - tally.takenBack }
  }

  get closing(): number {
    return this.ending.closing
  }

  get wanted(): number {
    return this.serving.wanted
  }

  turnOf(opens: number): number {
    return this.serving.turnOf(opens)
  }

  get newest(): number {
    return this.ids
  }

  nextId(): number {
    return ++this.ids
  }

  /** The time at which a lease is asked for, or ends: a rush hears how fast these follow one another. */
  moment(): number {
    return this.calm && this.rushes ? this.rush.now() : this.shell.now()
  }

  asked(): Since {
    return this.calm && this.rushes ? this.rush.since() : this.shell.now()
  }

  // ---- borrowing

  /** The hot path: an idle item now, or one with room, or undefined when the borrower has to queue. */
  lend(holder: Holder, alone: boolean): Lease<A> | undefined {
    // Behind those who came before.
    if (this.waiters.head !== undefined) return undefined
    const item = this.idle.next
    if (this.shares && !alone && (item === undefined || this.packs)) {
      const { room } = this.sharing
      if (
        room !== undefined && this.goesAgain(room) &&
        (!this.packs || this.sharing.flows(room, this.rush.last))
      ) return this.joinTo(room, holder, this.rush.last)
    }
    if (item?.undated === true && this.goesAgain(item)) return this.lendAgain(item, holder)
    return this.lentAtOnce(this.pick(holder, alone))
  }

  /** What is shared, or has just come back in a rush, may be lent with nothing to be asked or opened. */
  private goesAgain(item: Item<A>): boolean {
    return this.calm && !this.asks && this.rush.before(item.dueAt)
  }

  private lendAgain(item: Item<A>, holder: Holder): Lease<A> {
    // How long it was idle nobody has known, and nobody will ask.
    item.undated = false
    this.idle.remove(item)
    return this.lendTo(item, holder, false, this.rush.last)
  }

  /** An item that needs no check, at once or not at all. */
  lendIfAvailable(holder: Holder): Lease<A> | undefined {
    return this.lentAtOnce(this.pickAvailable(holder))
  }

  private lentAtOnce(lease: Lease<A> | undefined): Lease<A> | undefined {
    if (lease === undefined) return undefined
    this.grant(lease, 0)
    this.lookFurther(lease.since)
    return lease
  }

  /**
   * An item now or later, for a borrower that something more stands before: a hook, or
   * others of its group. Until `begin` it has not got it. Undefined when nothing is
   * available to one that would not wait.
   */
  reserve(holder: Holder, kind: Kind, group: number, again?: Borrower<A>): Borrower<A> | undefined {
    const alone = kind === "alone"
    const waits = kind !== "available"
    const lease = waits ? this.pick(holder, alone) : this.pickAvailable(holder)
    if (lease === undefined) return waits ? this.queue.enter(holder, alone, group, again) : undefined
    const borrower = this.queue.arrival(holder, alone, group, lease.since, again)
    if (!waits) borrower.own.waits = false
    this.hand(lease, borrower)
    this.lookFurther(lease.since)
    return borrower
  }

  private pick(holder: Holder, alone: boolean): Lease<A> | undefined {
    while (this.waiters.size === 0 && !this.halted) {
      const item = this.idle.next
      if (item === undefined) {
        return this.shares && !alone
          ? this.lendShared(holder, this.shell.now(), false)
          : undefined
      }
      const now = this.moment()
      const packed = this.packs && !alone ? this.pack(holder, now) : undefined
      if (packed !== undefined) return packed
      this.rush.date(item, now)
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

  /** An item that others have, though another is idle. */
  private pack(holder: Holder, now: number): Lease<A> | undefined {
    return this.sharing.flowing(now) === undefined ? undefined : this.lendShared(holder, now, true)
  }

  /** `flowing`: only where leases end. */
  private lendShared(holder: Holder, now: number, flowing: boolean): Lease<A> | undefined {
    const item = this.serving.roomy(now)
    if (item === undefined || !this.serving.mayShare || (flowing && !this.sharing.flows(item, now))) return undefined
    return this.joinTo(item, holder, now)
  }

  /** The borrower has it from now on. */
  private grant(lease: Lease<A>, waited: number): void {
    this.clock?.started(lease)
    if (this.listening) this.tell({ _tag: "Borrowed", item: lease.item.id, waited }, lease.since)
  }

  /** More may be to be opened now; and who came as a predicate called back into the pool may share what was lent. */
  private lookFurther(now: number): void {
    const { settings } = this
    const joins = this.shares && this.waiters.head !== undefined
    if (this.lazy || settings.targetUtilization < 1 || settings.minIdle > 0 || joins) {
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
      if (item === undefined) return this.shares ? this.lendShared(holder, now, false) : undefined
      lease = this.take(item, holder, false, now)
    }
    return lease
  }

  /** The warmest that needs no check: mostly the warmest of all, if any. */
  private proven(now: number): Item<A> | undefined {
    this.rush.dateAll()
    let item = this.idle.warmest
    while (item !== undefined && this.unproven(item, now)) item = item.colder
    return item
  }

  /** The borrower, that waits or has not taken up what it was handed, is gone; and why. */
  abandon(borrower: Borrower<A>, why: string): void {
    if (this.waiters.has(borrower)) return this.queue.leave(borrower, why)
    const { lease } = borrower
    // What ends its hook may have closed the pool, and that has seen to it.
    if (lease === undefined || !borrower.handed) return
    const now = this.shell.now()
    if (this.listening) this.queue.tell(why, borrower, now)
    // It was lent and nobody saw it: not a use, and nothing to reset.
    this.ended++
    this.forsaken++
    this.unseen--
    lease.over()
    const { item } = lease
    this.rush.date(item, now)
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
    borrower.terms?.stop?.()
    this.waker.wake(borrower)
  }

  /** An item that is in no list begins to be lent. */
  private lendTo(item: Item<A>, holder: Holder, alone: boolean, now: number): Lease<A> {
    item.status = "lent"
    this.lent++
    this.budget?.busy(item)
    if (this.shares && !alone) return this.joinTo(item, holder, now)
    item.lease.begin(holder, now, ++this.begun)
    return item.lease
  }

  joinTo(item: Item<A>, holder: Holder, now: number): Lease<A> {
    return this.sharing.join(item, holder, now, ++this.begun)
  }

  // ---- the road back

  /** The fiber has the shared item no more, though what it was lent for goes on. */
  forgo(item: Item<A>, fiber: number): void {
    const lease = item.share?.leases.findLast(({ by }) => by === fiber)
    if (lease === undefined) return
    item.share!.retire(lease)
    this.giveBack(lease, Exit.void)
  }

  leaked(lease: Lease<A>): void {
    this.shell.leaked(lease)
  }

  /** A lease ends. */
  giveBack(lease: Lease<A>, exit: AnyExit): void {
    // Its item may have been taken back already.
    if (!lease.active) return
    const { item } = lease
    const free = this.calm && this.unspoken(item, exit)
    if (free && this.stays) {
      const { head } = this.waiters
      if (this.passes && head !== undefined && this.rush.before(item.dueAt)) {
        this.end(lease, Exit.void)
        return this.pass(lease, head, this.rush.last)
      }
      if (this.shares && this.leaves(item)) return this.leave(lease, exit)
      if (this.bare && head === undefined && this.rush.on && this.keeps(item)) {
        this.end(lease, Exit.void)
        this.keep(item)
        return this.rush.add(item)
      }
    }
    this.takeBack(lease, exit, free)
  }

  /** Others have the item still, and have seen it: since when it is idle their leases will tell. */
  private leaves({ dueAt, sharing }: Item<A>): boolean {
    return sharing !== undefined && sharing.size > 1 && this.unseen === 0 && this.rush.before(dueAt)
  }

  /** What `takeBack` comes to then, less the time. */
  private leave(lease: Lease<A>, exit: AnyExit): void {
    const { item } = lease
    const sharing = item.sharing!
    this.end(lease, exit)
    sharing.used = true
    sharing.movedAt = this.rush.last
    this.sharing.leave(sharing, lease)
    if (this.serving.busy) this.pump(this.shell.now())
  }

  /** `free`: no rule speaks but for the time. */
  private takeBack(lease: Lease<A>, exit: AnyExit, free: boolean): void {
    const { item } = lease
    const { rules } = this
    const now = this.shell.now()
    this.end(lease, exit)
    this.clock?.over(lease)
    item.idleSince = this.usedAt = now
    item.undated = false
    if (this.listening) this.tell({ _tag: "Returned", item: item.id, held: now - lease.since }, now)
    let pending: Work<R> | undefined
    if ((rules.returns && !free) || now > item.dueAt) {
      // Asked of a doomed item too: the verdict may take others with it.
      let verdict: Verdict | undefined | Work<R> = rules.atReturn(item, now)
      // One after the other: what another lease left to be waited for comes first.
      if (verdict !== undefined && !isVerdict(verdict) && item.share?.pending === undefined) {
        verdict = this.shell.attempt(item, verdict)
      }
      if (verdict === undefined || isVerdict(verdict)) this.ending.condemn(item, verdict, now)
      else pending = verdict
      // What the rules' functions did may have been the end of the item.
      if (item.status === "closing") return
    }
    if (item.share !== undefined) {
      item.share.movedAt = now
      pending = this.putOff(item, item.share, pending)
    }
    if (this.stillShared(lease)) {
      if (this.budget !== undefined) this.yieldShared(this.budget, item)
      this.tend(item, exit, now)
    } else this.clean(item, exit, pending, true, now)
    if (this.serving.busy) this.pump(now)
  }

  private end(lease: Lease<A>, exit: AnyExit): void {
    const { item } = lease
    this.ended++
    lease.over()
    item.uses++
    item.exit = exit
    if (this.doubtful) this.outage.proved(item.id)
  }

  /** The lease ended well, and but for its time no rule speaks of the item. */
  private unspoken(item: Item<A>, exit: AnyExit): boolean {
    return Exit.isSuccess(exit) && item.uses + 1 < this.rules.freeUses && item.doom === undefined
  }

  /** What comes back may stay. */
  private get stays(): boolean {
    return this.budget === undefined || this.budget.atEase
  }

  /** Nobody waits: it is to be idle, and nothing else is to be done. */
  private keeps(item: Item<A>): boolean {
    const { idle, settings } = this
    return (item.slot >= 0 || (!this.rules.timed && item.dueAt === Infinity)) && idle.size < settings.maxIdle &&
      idle.size + this.lent >= settings.min
  }

  /** What `settle` comes to then, less the time. */
  private keep(item: Item<A>): void {
    this.lent--
    item.status = "idle"
    this.idle.push(item)
    this.budget?.idle(item)
  }

  /** It goes to the first who waits: for all others there is as much as before. */
  private pass(lease: Lease<A>, borrower: Borrower<A>, now: number): void {
    const { item } = lease
    item.idleSince = this.usedAt = now
    // In a rush it came back later than that, and its borrower may still leave without it.
    item.undated = this.rush.on
    this.waiters.shift(borrower)
    lease.begin(borrower.holder, now, ++this.begun)
    this.hand(lease, borrower)
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
  private tend(item: Item<A>, exit: AnyExit, now: number): void {
    const work = this.settings.tends ? this.shell.afterLease(item, exit) : undefined
    // What the user's function did may have been the end of the item.
    if (work === undefined || item.status === "closing") return
    // What has failed already must not be lent once more before it is heard of.
    if (Exit.isExit(work) && Exit.isFailure(work)) this.resetFailed(item, work.cause, now)
    else if (item.status === "lent") this.shell.tend(item, work)
    // It ended the leases of all others too: what it wants done comes too late.
    else this.ending.doom(item, "reset failed", now)
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
    if (this.calm && item.doom === undefined && this.waiters.head === undefined && this.stays && this.keeps(item)) {
      forgetBorrower(item)
      this.keep(item)
    } else this.settle(item, now, false)
  }

  /** True when others have the item still. */
  private stillShared(lease: Lease<A>): boolean {
    const { item } = lease
    const { share } = item
    if (share === undefined) return false
    if (this.sharing.leave(share, lease) > 0) return true
    this.sharing.over(item)
    return false
  }

  /** An item that counts as lent is free: to a waiter, to the idle list, or out. A proven one needs no check. */
  private settle(item: Item<A>, now: number, proven: boolean): void {
    this.lent--
    if (item.doom !== undefined) return this.ending.recycle(item, item.doom, now)
    // What is here goes before what is only being opened, and may never come.
    if (this.idle.size + this.lent >= this.settings.max) return this.ending.recycle(item, "resized", now)
    if (this.opener.sacrifices) return this.ending.recycle(item, "swapped", now)
    forgetBorrower(item)
    // A new item serves one borrower whatever the rules say, or a rule that refuses all would open without end.
    if (this.waiters.size > 0 && item.status !== "fresh") {
      // A predicate may call back into the pool: until it has spoken the item counts as what it was.
      this.count(item, 1)
      const objection = this.sweeper.objection(item, now)
      if (item.status === "closing") return
      this.count(item, -1)
      const reason = item.doom ?? objection
      if (reason !== undefined) return this.ending.recycle(item, reason, now)
    }
    const { head } = this.waiters
    if (this.budget !== undefined && this.yielded(this.budget, item, head)) {
      return this.ending.recycle(item, "over share", now)
    }
    if (head === undefined || this.halted) this.store(item, now)
    else if (!proven && this.unproven(item, now)) this.startCheck(item)
    else this.handOver(item, head, now)
  }

  /** What is not idle counts as lent, and as what is done to it. */
  private count({ status }: Item<A>, by: 1 | -1): void {
    this.lent += by
    if (status === "checking") this.checking += by
    else if (status === "swept") this.sweeping += by
  }

  /** Another pool has a better right to the item's permit than the next borrower. */
  private yielded(budget: Budget<A>, { status }: Item<A>, head: Borrower<A> | undefined): boolean {
    return (status === "lent" || status === "resetting") && budget.yields(head?.turn ?? Infinity)
  }

  /** One that is shared may never come back whole unless it takes no newcomer. */
  private yieldShared(budget: Budget<A>, item: Item<A>): void {
    if (item.doom !== undefined || !budget.yields(this.waiters.head?.turn ?? Infinity)) return
    item.doom = "over share"
    this.sharing.update(item)
    budget.closes(item.id)
  }

  private store(item: Item<A>, now: number): void {
    // A check changes nothing in the order of the idle items.
    if (item.status === "checking" || item.status === "swept") {
      this.rush.dateAll()
      this.idle.putBack(item)
    } else this.idle.push(item)
    item.status = "idle"
    this.budget?.idle(item)
    this.sweeper.watch(item, now)
    if (this.settings.minIdle > 0) this.sweeper.unspare(now)
    if (this.idle.size > this.settings.maxIdle) this.ending.trim(this.idle.coldest!, now)
  }

  handOver(item: Item<A>, borrower: Borrower<A>, now: number): void {
    this.waiters.leave(borrower)
    this.hand(this.lendTo(item, borrower.holder, borrower.alone, now), borrower)
  }

  hand(lease: Lease<A>, borrower: Borrower<A>): void {
    borrower.lease = lease
    lease.handed = borrower
    this.unseen++
    this.waker.wake(borrower)
  }

  /**
   * The borrower takes up the item that it was handed, and that is not lost. Only now is
   * it told: until then it may still leave without.
   */
  begin(borrower: Borrower<A>): Lease<A> {
    const lease = borrower.lease!
    lease.handed = undefined
    this.unseen--
    // From when it was handed to it, unless somebody wants to know more exactly, or there was more to wait for.
    if (this.calm && borrower.terms === undefined) return lease
    lease.since = this.shell.now()
    this.grant(lease, lease.since - borrower.since)
    return lease
  }

  /** A reset has ended; `failed` is why the item cannot be kept. */
  wasReset(item: Item<A>, failed: Cause.Cause<unknown> | undefined, verdict: Verdict | undefined): void {
    if (item.status !== "resetting") return
    const now = this.shell.now()
    if (failed !== undefined) this.resetFailed(item, failed, now)
    this.ending.condemn(item, verdict, now)
    this.settle(item, now, false)
    this.pump(now)
  }

  /** What was to be done after a lease has failed, while others have the item. */
  wasTended(item: Item<A>, failed: Cause.Cause<unknown>): void {
    if (item.status === "closing") return
    const now = this.shell.now()
    this.resetFailed(item, failed, now)
    this.pump(now)
  }

  /** Or what was to be done before it. */
  private resetFailed(item: Item<A>, cause: Cause.Cause<unknown>, now: number): void {
    this.ending.doom(item, "reset failed", now)
    if (this.listening) this.tell({ _tag: "ResetFailed", item: item.id, cause }, now)
  }

  /** A sweep's look at an item has ended; what it came to. */
  wasSwept(item: Item<A>, spoken: Verdict | undefined): Verdict | undefined {
    // The closing of the pool may have taken it meanwhile.
    if (item.status !== "swept") return undefined
    const now = this.shell.now()
    const verdict = this.sweeper.final(item, spoken, false, now)
    this.ending.sentence(item, verdict, now)
    this.sweeping--
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
    this.sharing.doubtful = failed !== undefined
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
  unproven(item: Item<A>, now: number): boolean {
    const { checkAfter } = this.settings
    return now - item.idleSince >= checkAfter && now - (item.checkedAt ?? -Infinity) >= checkAfter
  }

  /** An item that is in no list is checked; a waiter without a supply gets it. */
  startCheck(item: Item<A>): void {
    item.status = "checking"
    this.count(item, 1)
    this.waiters.promise(item)
    this.shell.check(item)
  }

  /** An item was opened. */
  enter(item: Item<A>, now: number): void {
    this.lent++
    this.settle(item, now, true)
  }

  // ---- recycling

  /** An idle item leaves the list for a sweep's look. It is nobody's supply: that may take long. */
  takeForSweep(item: Item<A>): void {
    this.idle.remove(item)
    item.status = "swept"
    this.count(item, 1)
  }

  pump(now: number): void {
    this.serving.pump(now)
    if (!this.calm) this.ease()
    this.rest()
  }

  rest(): void {
    if (this.onRest !== undefined && this.live === 0 && this.waiters.size === 0) this.onRest()
  }

  tell(told: Told, at: number): void {
    this.shell.emit({ ...told, pool: this.settings.name, at })
  }
}

/** An item must not keep what its last borrower made of it. */
const forgetBorrower = (item: Item<unknown>): void => {
  if (item.exit !== undefined && Exit.isSuccess(item.exit)) item.exit = Exit.void
}

const isVerdict = (value: object): value is Verdict => "also" in value
