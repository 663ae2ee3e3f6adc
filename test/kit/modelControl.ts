/** Live control: a pool that is resized, suspended, or cleared over a time while it is in use. */
import { Exit } from "effect"
import type { QueuePool } from "effect-queuepool"
import type { Borrowers } from "./modelBorrowers.ts"
import { type Inside, itemsOf, type View } from "./modelInside.ts"
import { type LiveControl, type Plan, strictly } from "./modelPlan.ts"
import type { ModelSource, Refused } from "./modelSource.ts"
import type { World } from "./world.ts"

type Pool = QueuePool.QueuePool<unknown, Refused>
type Clearing = LiveControl & { readonly do: "clearWith" }

/** One number for both. */
const leaseOf = (item: number, borrower: number): number => item * 1e6 + borrower

export class Control {
  /** How often borrowers were to be refused. */
  suspensions = 0
  resized = 0
  /** The smallest `max` that the pool has had. */
  smallest: number
  /** The numbers of the opens that tried a new way to acquire. */
  readonly trials = new Set<number>()
  /** When each lease was first seen, by its item and its borrower. */
  private readonly handed = new Map<number, number>()
  /** The last open that has begun. */
  private newest = 0
  /** How many items those needed who waited after the last task. */
  private needed = 0
  /** Something was opened ahead after the last task. */
  private ahead = false
  private ceiling: number
  /** While nothing may begin: the leases that run, and the opens that are under way. */
  private still: ReadonlySet<number> | undefined = undefined
  private opens: ReadonlySet<unknown> | undefined = undefined
  private readonly plan: Plan
  private readonly world: World

  constructor(plan: Plan, world: World) {
    this.plan = plan
    this.world = world
    this.ceiling = this.smallest = plan.max
  }

  run(
    command: LiveControl,
    pool: Pool,
    inside: Inside,
    borrowers: Borrowers,
    source: ModelSource
  ): void {
    switch (command.do) {
      case "suspend":
        this.suspensions++
        return void this.world.fork(pool.suspend)
      case "resume":
        return void this.world.fork(pool.resume)
      case "resize":
        this.resized++
        this.smallest = Math.min(this.smallest, command.max)
        return void this.world.fork(pool.resize(this.sizeOf(command)))
      case "clearWith":
        return this.clear(command, pool, inside, borrowers, source)
    }
  }

  private clear(
    { idle, over }: Clearing,
    pool: Pool,
    inside: Inside,
    borrowers: Borrowers,
    source: ModelSource
  ): void {
    const { plan, world } = this
    const those = itemsOf(inside).filter((item) => !idle || item.status === "idle")
    const anew = those.filter(({ retirement }) => retirement === undefined)
    const cleared = world.fork(pool.clearWith(idle ? { only: "idle", over } : { over }))
    if (!strictly(plan)) return
    const exit = cleared.pollUnsafe()
    if (exit === undefined || !Exit.isSuccess(exit)) world.fail("clear", `it does not return: ${String(exit)}`)
    if (inside.state.closed) return
    const scopes = new Set<unknown>(those.map(({ scope }) => scope))
    if (over === 0) {
      return borrowers.ban(
        ({ scope, state }) => scopes.has(scope) || (!idle && state === "opening"),
        "cleared"
      )
    }
    for (const { scope } of those) {
      const entry = source.byScope.get(scope)!
      entry.goesBy = Math.min(entry.goesBy, world.now + over)
    }
    for (const { id, retirement, status } of those) {
      if (status === "closing" && plan.rules.length === 0) world.fail("clear", `item ${id} goes at once`)
      if (retirement !== undefined && retirement.at > world.now + over) world.fail("clear", `item ${id} goes late`)
    }
    // The oldest goes first, each in its own part of the time.
    let last = -Infinity
    for (const { id, retirement } of anew.toSorted((a, b) => a.openedAt - b.openedAt || a.id - b.id)) {
      if (retirement === undefined) continue
      if (retirement.at < last) world.fail("clear", `item ${id} goes before an older one`)
      last = retirement.at
    }
  }

  /** New bounds that do not contradict what the plan says of idle items. */
  private sizeOf({ max, min }: { readonly min: number; readonly max: number }) {
    const { maxIdle, minIdle } = this.plan
    return { min, max, minIdle: Math.min(minIdle, max), maxIdle: Math.max(maxIdle, min) }
  }

  /** When the borrower was handed the item, which one of a group is before it has all. */
  handedAt(item: number, borrower: number): number {
    return this.handed.get(leaseOf(item, borrower)) ?? this.world.now
  }

  /** After every task. `who`: the borrower that a fiber works for. */
  check(inside: Inside, view: View, who: (fiber: number) => number): void {
    this.checkMax(inside)
    const { lent, idle, openings, settings, suspended } = inside.state
    const above = idle.size + lent > settings.max
    const frozen = (above || suspended) && this.still !== undefined
    const leases = new Set<number>()
    for (const { by, item } of view.leases) {
      const lease = leaseOf(item.id, who(by))
      leases.add(lease)
      if (!this.handed.has(lease)) this.handed.set(lease, this.world.now)
      if (!frozen || this.still!.has(lease)) continue
      this.world.fail("lent anew", `item ${item.id} to ${who(by)}, ${above ? "above max" : "suspended"}`)
    }
    this.still = above || suspended ? leases : undefined
    this.checkNeed(inside, view)
    for (const opening of openings) {
      if (opening.trial !== undefined) this.trials.add(opening.id)
      else if (suspended && this.opens?.has(opening) === false) this.world.fail("suspended", "an open has started")
    }
    this.opens = suspended ? new Set(openings) : undefined
    if (suspended && this.plan.whenSuspended === "fail" && view.queue.length > 0) {
      this.world.fail("suspended", "a borrower waits")
    }
  }

  /** Where nothing is opened ahead, no more is than those need who wait. */
  private checkNeed({ state }: Inside, { queue }: View): void {
    const { plan } = this
    const alone = queue.filter((waiter) => waiter.alone).length
    const now = alone + Math.ceil((queue.length - alone) / plan.concurrency)
    // Their time may have ended in the same task.
    const needed = Math.max(this.needed, now)
    this.needed = now
    const ids = Array.from(state.openings).filter(({ trial }) => trial === undefined).map(({ id }) => id)
    const newest = Math.max(this.newest, ...ids)
    const begun = newest > this.newest
    this.newest = newest
    const ahead = state.settings.min > 0 || plan.minIdle > 0 || plan.targetUtilization < 1 || plan.replaceTimeout > 0
    // Who has no time at all, or is of a group that is refused, leaves as its open begins.
    // What a fiber that yields has done may be undone in the same task.
    const either = ahead || this.ahead
    this.ahead = ahead
    if (!begun || either || plan.borrowTimeout === 0 || plan.maxWaiters < Infinity) return
    if (ids.length + state.checking <= needed) return
    this.world.fail("need", `${ids.length} opening, ${state.checking} checking, and ${needed} are needed`)
  }

  /** More than `max` live only since before it was made smaller, and become no more. */
  private checkMax({ state }: Inside): void {
    const { closing, idle, lent, live, openings, settings } = state
    if (live > settings.max && live > this.ceiling) {
      this.world.fail(
        "max",
        `${openings.size} opening, ${idle.size} idle, ${lent} lent, ${closing} closing, max ${settings.max}`
      )
    }
    this.ceiling = Math.max(settings.max, Math.min(live, this.ceiling))
  }
}
