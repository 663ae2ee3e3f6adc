// How items leave: recycled by a rule or by hand, lost, taken back, detached, closed
// with the pool. The one way out is `recycle`; `gone` is the end of it.
import type * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import { Closed, LeaseEnded } from "../PoolError.ts"
import { type Holder, holderName, type Item, type Lease, leasesOf, type Opening } from "./item.ts"
import type { Opener } from "./opener.ts"
import type { LeaseClock, Pooled, Shell } from "./pooled.ts"
import type { Queue } from "./queue.ts"
import type { Verdict } from "./rules.ts"
import type { Sharing } from "./sharing.ts"
import type { Sweeper } from "./sweeper.ts"

/** The other parts of the state machine that it works with. */
interface Parts<A, R> {
  readonly queue: Queue<A>
  readonly sharing: Sharing<A>
  readonly sweeper: Sweeper<A, R>
  readonly opener: Opener<A, R>
}

export class Ending<A, R> {
  closing = 0
  /** What counts as closing and never was an item: opens that were given up. */
  private readonly unopened = new Set<number>()
  /** The newest item that went because of another. */
  private condemned = 0
  private readonly state: Pooled<A>
  private readonly queue: Queue<A>
  private readonly sharing: Sharing<A>
  private readonly sweeper: Sweeper<A, R>
  private readonly opener: Opener<A, R>
  private readonly shell: Shell<A, R>
  private readonly clock: LeaseClock<A> | undefined

  constructor(
    state: Pooled<A>,
    { opener, queue, sharing, sweeper }: Parts<A, R>,
    shell: Shell<A, R>,
    clock: LeaseClock<A> | undefined
  ) {
    this.state = state
    this.opener = opener
    this.queue = queue
    this.sharing = sharing
    this.sweeper = sweeper
    this.shell = shell
    this.clock = clock
  }

  // ---- recycling

  /** Recycles the item now if it is idle, or when it comes back. */
  doom(item: Item<A>, reason: string, now: number): void {
    if (item.status === "idle") return this.out(item, reason, now)
    item.doom ??= reason
    this.sharing.update(item)
  }

  condemn(item: Item<A>, spoken: Verdict | undefined, now: number): void {
    this.sentence(item, this.sweeper.final(item, spoken, true, now), now)
  }

  sentence(item: Item<A>, verdict: Verdict | undefined, now: number): void {
    if (verdict === undefined) return
    item.doom ??= verdict.reason
    this.sharing.update(item)
    if (verdict.also === "none") return
    const last = verdict.also === "all" ? this.state.newest : item.id - 1
    // All these are condemned already: many leases may fail of one cause.
    if (last <= this.condemned) return
    this.condemned = last
    for (const other of this.state.items.all()) {
      if (other !== item && other.id <= last) this.doom(other, verdict.reason, now)
    }
    for (const opening of this.state.openings) if (opening.id <= last) opening.doom ??= verdict.reason
  }

  /** The one way out. The item is in no list and no longer counts as idle or lent. */
  recycle(item: Item<A>, reason: string, now: number): void {
    // Also when something was done after the lease.
    const atReturn = item.uses > 0 && (item.idleSince === now || item.status === "resetting")
    this.closing++
    this.state.budget?.closes(item.id)
    this.removed(item)
    this.state.tally.recycled.set(reason, (this.state.tally.recycled.get(reason) ?? 0) + 1)
    if (this.state.listening) {
      this.state.tell({ _tag: "Recycled", item: item.id, reason, age: now - item.openedAt, uses: item.uses }, now)
    }
    this.shell.close(item.id, item.scope, atReturn && item.exit !== undefined ? item.exit : Exit.void)
  }

  private removed(item: Item<A>): void {
    item.status = "closing"
    this.state.budget?.busy(item)
    this.sharing.over(item)
    this.sweeper.forget(item)
    this.state.items.remove(item)
  }

  out(item: Item<A>, reason: string, now: number): void {
    // A predicate may have called back into the pool.
    if (!item.linked) return
    this.state.idle.remove(item)
    // Nobody had the time to use it. A limit as short as that, or a server that ends
    // what it is sent, must not make opens run wild.
    const { min, minIdle } = this.state.settings
    if (item.uses > 0 || now - item.openedAt >= shortLife) this.state.outage.proved(item.id)
    else if (this.state.outage.wasted(item.id) > min + minIdle) this.opener.holdRefill()
    this.recycle(item, reason, now)
  }

  /** One idle item too many. What was opened ahead of need and trimmed again must not be opened at once. */
  trim(item: Item<A>, now: number): void {
    this.state.idle.remove(item)
    const { outage, settings, wanted } = this.state
    if (wanted > settings.min) {
      outage.wasted(item.id)
      this.opener.holdRefill()
    }
    this.recycle(item, "surplus", now)
  }

  invalidate(value: unknown, reason: string, holder: Holder): void {
    const item = this.state.items.find(value, holder)
    if (item === undefined) return
    const now = this.shell.now()
    this.doom(item, reason, now)
    this.state.pump(now)
  }

  /** The item has ended by itself: it is recycled at once, also under its borrowers. */
  lose(item: Item<A>, reason: string, cause?: Cause.Cause<unknown>): void {
    const now = this.shell.now()
    if (item.status === "idle") {
      this.out(item, reason, now)
    } else {
      if (this.unseen(item, now)) {
        this.state.outage.wasted(item.id)
        this.opener.holdAll(cause)
      }
      this.seize(item, reason, now)
      this.queue.expire(now)
    }
    this.state.pump(now)
  }

  /** It was opened for a borrower that has not even had its turn yet. */
  private unseen(item: Item<A>, now: number): boolean {
    return item.status === "lent" && item.uses === 0 && now - item.openedAt < shortLife &&
      leasesOf(item).every(({ taken }) => !taken)
  }

  /** Every item, or only the idle ones: now, or each at a moment of its own within the time given. */
  clear(idleOnly: boolean, over: number): void {
    if (this.state.closed) return
    const now = this.shell.now()
    if (this.state.listening) this.state.tell({ _tag: "Cleared" }, now)
    this.retire(this.state.items.all().filter((item) => !idleOnly || item.status === "idle"), "cleared", over, now)
    if (!idleOnly) { for (const opening of this.state.openings) opening.doom ??= "cleared" }
    this.state.pump(now)
  }

  /** Every item that nobody has, and no other is opened before somebody asks for one. */
  dismiss(reason: string): void {
    const now = this.shell.now()
    this.state.lazy = true
    for (const item of this.state.items.all()) this.doom(item, reason, now)
    for (const opening of this.state.openings) opening.doom ??= reason
    this.state.pump(now)
  }

  supersede(newest: Item<A>, over: number, now: number): void {
    if (this.state.listening) this.state.tell({ _tag: "Swapped" }, now)
    for (const opening of this.state.openings) opening.doom ??= "swapped"
    this.retire(this.state.items.all().filter((item) => item !== newest), "swapped", over, now)
  }

  private retire(items: ReadonlyArray<Item<A>>, reason: string, over: number, now: number): void {
    if (over > 0) return this.sweeper.retire(items, reason, over, now, this.shell.random)
    for (const item of items) this.doom(item, reason, now)
  }

  /** What was closing is released, or abandoned. */
  gone(id: number, took: number, how: "Closed" | "CloseFailed" | "Abandoned", cause?: Cause.Cause<unknown>): void {
    const now = this.shell.now()
    this.closing--
    this.sweeper.released(now)
    this.state.budget?.give(id)
    const opened = !this.unopened.delete(id)
    if (how === "Abandoned") this.state.tally.abandoned++
    else if (opened) this.state.tally.closed++
    if (this.state.listening) {
      this.state.tell(
        how === "CloseFailed" ? { _tag: how, item: id, took, cause: cause! } : { _tag: how, item: id, took },
        now
      )
    }
    if (this.state.closed) this.quiesce()
    else this.state.pump(now)
  }

  leaveOver(opening: Opening): void {
    this.closing++
    this.state.budget?.closes(opening.id)
    this.unopened.add(opening.id)
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
    const { share } = item
    if (share !== undefined && share.size > 1) {
      this.takeFrom(lease, now)
      this.sharing.leave(share, lease)
    } else {
      this.seize(item, item.doom!, now)
    }
    this.state.pump(now)
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
    else this.state.tally.leaked++
    if (this.state.listening) {
      this.state.tell({ _tag: "LeaseEnded", item: lease.item.id, held, by: holderName(lease), why, cause }, now)
    }
  }

  /** The item leaves the pool with its borrower, who has it alone and releases it. */
  detach(value: unknown, holder: Holder): Item<A> | undefined {
    const item = this.state.items.find(value, holder)
    if (item === undefined || item.status !== "lent") return undefined
    const [lease] = leasesOf(item)
    // In a rule that is asked at its return it has none any more, or others have one.
    if (lease === undefined || !lease.taken || (item.share !== undefined && item.share.size > 1)) return undefined
    const now = this.state.usedAt = this.shell.now()
    this.state.ended++
    lease.over()
    this.clock?.over(lease)
    this.state.tally.detached++
    this.state.lent--
    this.removed(item)
    // It keeps its permit until it is released: a server has it still.
    this.state.budget?.stays(item.id)
    this.shell.stop(item)
    if (this.state.listening) this.state.tell({ _tag: "Detached", item: item.id, held: now - lease.since }, now)
    if (this.state.closed) this.quiesce()
    else this.state.pump(now)
    return item
  }

  /** A busy item is recycled now; who has it gives back nothing. */
  private seize(item: Item<A>, reason: string, now: number): void {
    if (item.status === "checking") {
      this.state.checking--
      this.state.waiters.settle(item)
    } else if (item.status === "swept") this.state.sweeping--
    for (const lease of leasesOf(item)) this.takeFrom(lease, now)
    this.state.lent--
    this.recycle(item, item.doom ?? reason, now)
    this.shell.stop(item)
  }

  private takeFrom(lease: Lease<A>, now: number): void {
    const by = holderName(lease)
    const { handed } = lease
    this.state.ended++
    lease.over()
    // Its borrower has not heard of it yet.
    if (handed !== undefined) {
      this.state.forsaken++
      this.state.unseen--
      return this.queue.enterAgain(handed, now)
    }
    this.clock?.over(lease)
    this.state.usedAt = now
    this.state.tally.takenBack++
    if (this.state.listening) {
      this.state.tell({ _tag: "TakenBack", item: lease.item.id, held: now - lease.since, by }, now)
    }
  }

  // ---- closing the pool

  /** Waiters are refused, no open starts, what is not lent is closed. */
  close(): void {
    const now = this.shell.now()
    this.state.closed = this.state.halted = true
    if (this.state.listening) this.state.tell({ _tag: "PoolClosing" }, now)
    if (this.state.waiters.size > 0) this.queue.refuseAll({ _tag: "Pool", reason: new Closed() }, now)
    this.state.budget?.want(undefined)
    for (const opening of this.state.openings) {
      this.state.openings.delete(opening)
      this.leaveOver(opening)
      this.shell.cancelOpen(opening)
    }
    this.state.waiters.spare.clear()
    for (const item of this.state.items.all()) {
      if (item.status === "idle") this.doom(item, "pool closed", now)
      else if (item.status === "lent") this.closeLent(item, now)
      else this.seize(item, "pool closed", now)
    }
    this.quiesce()
  }

  /** A lent item goes when it comes back; who has not taken it up yet is a waiter like the others. */
  private closeLent(item: Item<A>, now: number): void {
    this.doom(item, "pool closed", now)
    for (const { handed } of leasesOf(item)) {
      if (handed !== undefined) this.state.refuseLent(handed, { _tag: "Pool", reason: new Closed() })
    }
  }

  /** The drain timeout is over: lent items are closed under their borrowers. */
  takeBack(): void {
    const now = this.shell.now()
    // All others were dealt with when the closing began, but for those that came back since.
    for (const item of this.state.items.all()) {
      for (const lease of leasesOf(item)) this.shell.takenBack(lease)
      if (item.status === "lent") item.doom = undefined
      this.seize(item, "taken back", now)
    }
  }

  private quiesce(): void {
    if (this.state.live > 0) return
    if (this.state.listening) this.state.tell({ _tag: "PoolClosed" }, this.shell.now())
    this.shell.empty()
  }
}

// Milliseconds. An item that a rule ends before is refilled with the delay of a failed open.
const shortLife = 1000
