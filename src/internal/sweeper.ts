// The rules at work on idle items: at lend, at their deadlines, and in sweeps.
import { Heap } from "./heap.ts"
import type { Item } from "./item.ts"
import type { Pooled } from "./pooled.ts"
import type { Replacing } from "./replacing.ts"
import type { Rules, Verdict } from "./rules.ts"

/** How many idle items a sweep looked at, and which it recycled and why. */
export interface Swept {
  readonly examined: number
  readonly recycled: Array<{ readonly item: number; readonly reason: string }>
}

/** What hears of the earliest time at which a rule may speak. */
interface Caller {
  due(at: number): void
}

export class Sweeper<A, R> {
  /** Idle items by the time at which a rule may speak. */
  readonly due = new Heap<Item<A>>()
  readonly rules: Rules<A, R>
  private readonly state: Pooled<A>
  private readonly caller: Caller
  private readonly replacing: Replacing<A>
  /** What a sweep would have recycled and may not yet. */
  private postponed: Set<Item<A>> | undefined = undefined
  /** Hears, once, that a sweep may go on. */
  whenRoom: (() => void) | undefined = undefined
  /** Some idle item is kept only because there are no more than `min`. */
  private spared = false

  constructor(state: Pooled<A>, rules: Rules<A, R>, replacing: Replacing<A>, caller: Caller) {
    this.state = state
    this.rules = rules
    this.replacing = replacing
    this.caller = caller
  }

  /** No more than `min` are open: the idle rules are silent. */
  get spare(): boolean {
    const { idle, lent, settings: { min, minIdle } } = this.state
    return idle.size + lent <= min || (minIdle > 0 && idle.size <= minIdle)
  }

  /** What a verdict comes to: an item that is only old may stay for a while. `wanted`: somebody would have it now. */
  final(item: Item<A>, verdict: Verdict | undefined, wanted: boolean, now: number): Verdict | undefined {
    if (verdict !== undefined && !verdict.soft) return verdict
    const { retirement, stay } = item
    if (stay !== undefined) return now > stay.until ? old(stay.reason) : undefined
    const spoken = verdict ?? (retirement !== undefined && now > retirement.at ? old(retirement.reason) : undefined)
    if (spoken === undefined || !this.replacing.mayStay(item, spoken.reason, wanted, now)) return spoken
    // Its place in the heap is by the time that it had.
    this.due.remove(item)
    item.dueAt = item.stay!.until
    if (item.status === "idle") this.schedule(item, now)
    return undefined
  }

  /** True when a rule spoke against an idle item at lend: it is recycled. */
  spoiled(item: Item<A>, now: number): boolean {
    // At the very bound the rules are asked: `schedule` may have set it to now.
    const due = now >= item.dueAt
    if (!this.rules.lends && !due) return false
    this.state.rush.date(item, now)
    const { spare } = this
    const spoken = due ? this.rules.atLend(item, now, spare) : this.rules.notDue(item, now, spare)
    const verdict = this.final(item, spoken, true, now)
    if (verdict === undefined) {
      if (now > item.dueAt) this.schedule(item, now)
      return false
    }
    this.state.ending.out(item, verdict.reason, now)
    return true
  }

  /** Why an item may not go from one lease to the next. */
  objection(item: Item<A>, now: number): string | undefined {
    const due = now > item.dueAt
    if (!this.rules.lends && !due) return undefined
    const spoken = due ? this.rules.atLend(item, now, true) : this.rules.notDue(item, now, true)
    return this.final(item, spoken, true, now)?.reason
  }

  /**
   * Each of these goes at a moment of its own within the time given, the oldest first.
   * Of two such orders the sooner counts.
   */
  retire(items: ReadonlyArray<Item<A>>, reason: string, over: number, now: number, random: () => number): void {
    const oldestFirst = items.toSorted((one, other) => one.openedAt - other.openedAt || one.id - other.id)
    // An item goes strictly after its time, hence the millisecond less.
    const span = Math.max(0, over - 1)
    for (const [index, item] of oldestFirst.entries()) {
      const at = now + span * (index + random()) / items.length
      if (item.retirement !== undefined && item.retirement.at <= at) continue
      item.retirement = { reason, at }
      // Its place in the heap is by the time that it had.
      this.due.remove(item)
      item.dueAt = Math.min(item.dueAt, at)
      if (item.status === "idle") this.schedule(item, now)
    }
  }

  /** The item was opened. */
  admit(item: Item<A>, now: number): void {
    if (this.rules.timed) item.dueAt = this.rules.nextDue(item, now, false)
  }

  /** The item is idle now. */
  watch(item: Item<A>, now: number): void {
    const { dueAt, slot } = item
    if ((this.rules.timed || dueAt < Infinity) && (slot < 0 || this.rules.hastens)) this.schedule(item, now)
  }

  forget(item: Item<A>): void {
    this.due.remove(item)
    this.postponed?.delete(item)
    this.replacing.forget(item)
  }

  /** Sets the time at which a rule may speak against the item while it is idle. */
  private schedule(item: Item<A>, now: number): void {
    const { due, rules, spare } = this
    due.remove(item)
    const at = item.stay?.until ?? Math.min(rules.nextDue(item, now, spare), item.retirement?.at ?? Infinity)
    // Never before now: a bound that is past already would make the sweep spin.
    item.dueAt = Math.max(now, at)
    if (spare && rules.idles) this.spared = true
    if (item.dueAt === Infinity) return
    due.push(item)
    if (due.top === item) this.caller.due(item.dueAt)
  }

  /** There may be more than `min` now: what was spared is looked at again. */
  unspare(now: number): void {
    if (!this.spared || this.spare) return
    this.spared = false
    // What is not idle now is scheduled anew when it is.
    for (const item of this.state.items.all()) if (item.status !== "idle") this.due.remove(item)
    this.each((item) => this.judge(item, now))
  }

  /** Recycles what is due by time alone; the time of the next. */
  sweepDue(now: number): number {
    const { due } = this
    for (let item = due.top; item !== undefined && item.dueAt < now; item = due.top) {
      // What is lent comes back into the heap when it is idle again.
      if (item.status === "idle") this.judge(item, now)
      else due.remove(item)
    }
    this.state.pump(now)
    return due.top === undefined ? Infinity : due.top.dueAt
  }

  /**
   * No rule may speak of any item, for their times are known and none has come: a sweep need
   * not look at each. What was postponed waits for a release, and not for a sweep.
   */
  private nothingDue(now: number): boolean {
    const { due: { top }, rules } = this
    return !rules.sweeps && !rules.negates && (top === undefined || now <= top.dueAt)
  }

  /** One pass over all idle items, the coldest first. */
  sweep(now: number): Swept {
    const examined = this.state.idle.size
    const recycled: Swept["recycled"] = []
    if (this.nothingDue(now)) return { examined, recycled }
    this.each((item) => {
      this.state.rush.date(item, now)
      const verdict = this.final(item, this.rules.atSweep(item, now, this.spare), false, now)
      if (verdict === undefined || this.postpone(item)) return
      this.state.ending.out(item, verdict.reason, now)
      recycled.push({ item: item.id, reason: verdict.reason })
    })
    this.state.pump(now)
    return { examined, recycled }
  }

  private judge(item: Item<A>, now: number): void {
    this.state.rush.date(item, now)
    const verdict = this.final(item, this.rules.atSweep(item, now, this.spare), false, now)
    if (verdict === undefined) this.schedule(item, now)
    else if (!this.postpone(item)) this.state.ending.out(item, verdict.reason, now)
  }

  /** No more of a sweep's releases may begin; of these, so many more are to be expected. */
  full(more: number): boolean {
    return this.state.closing + more >= this.state.settings.closeConcurrency
  }

  /** True when the item has to wait until others are released. */
  private postpone(item: Item<A>): boolean {
    if (!this.full(0)) return false
    this.due.remove(item)
    this.postponed ??= new Set()
    this.postponed.add(item)
    return true
  }

  /** What was closing is gone: what was put off may follow, if the rules still speak against it. */
  released(now: number): void {
    for (const item of this.postponed ?? none) {
      if (this.full(0)) break
      this.postponed!.delete(item)
      // What was lent meanwhile is looked at when it comes back.
      if (item.status === "idle") this.judge(item, now)
    }
    const { whenRoom } = this
    this.whenRoom = undefined
    whenRoom?.()
  }

  private each(look: (item: Item<A>) => void): void {
    const { idle } = this.state
    for (let item = idle.coldest; item !== undefined;) {
      const next = idle.after(item)
      look(item)
      item = next
    }
  }
}

const none: ReadonlyArray<never> = []

const old = (reason: string): Verdict => ({ reason, also: "none", soft: true })
