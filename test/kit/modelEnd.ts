/** The end of a run: the pool recovers once its source is well, and closing it leaves nothing behind. */
import { Exit, Scope } from "effect"
import type { QueuePool } from "effect-queuepool"
import type { Borrowers } from "./modelBorrowers.ts"
import type { Control } from "./modelControl.ts"
import type { Listener } from "./modelEvents.ts"
import type { Inside } from "./modelInside.ts"
import { limits, type Mode, type Plan, strictly } from "./modelPlan.ts"
import type { ModelSource, Refused } from "./modelSource.ts"
import type { Swaps } from "./modelSwaps.ts"
import type { World } from "./world.ts"

type Pool = QueuePool.QueuePool<unknown, Refused>

export class Ending {
  private closingSince = NaN
  private closedAt = NaN
  private stalledBefore = 0
  /** Borrows until the pool was closed: there are no events after. */
  private asked = 0
  private settled: () => void = () => {}
  private readonly pool: Pool
  private readonly inside: Inside
  private readonly borrowers: Borrowers
  private readonly swaps: Swaps
  private readonly control: Control
  private readonly listener: Listener
  private readonly plan: Plan
  private readonly world: World
  private readonly source: ModelSource
  private readonly scope: Scope.Closeable

  constructor(
    pool: Pool,
    inside: Inside,
    borrowers: Borrowers,
    swaps: Swaps,
    control: Control,
    listener: Listener,
    plan: Plan,
    world: World,
    source: ModelSource,
    scope: Scope.Closeable
  ) {
    this.pool = pool
    this.inside = inside
    this.borrowers = borrowers
    this.swaps = swaps
    this.control = control
    this.listener = listener
    this.plan = plan
    this.world = world
    this.source = source
    this.scope = scope
  }

  /** The pool begins to close. */
  start(): void {
    if (!Number.isNaN(this.closingSince)) return
    const { borrowers, source, world } = this
    source.shut = true
    this.closingSince = world.now
    this.stalledBefore = world.stalled
    world.fork(Scope.close(this.scope, Exit.void)).addObserver(() => {
      this.closedAt = world.now
      this.asked = borrowers.asked
    })
  }

  run(settled: () => void): void {
    this.settled = settled
    this.recover()
    this.close()
  }

  /** Once the source is well and every lease has ended, the pool serves `max` borrowers at once. */
  private recover(): void {
    const { borrowers, inside: { state }, plan, pool, source, world } = this
    if (world.violation !== undefined) return
    source.heal()
    for (const command of [{ do: "resize", min: plan.min, max: plan.max }, { do: "resume" }] as const) {
      this.control.run(command, pool, this.inside, borrowers, source)
      world.afterTask()
    }
    this.releaseAll()
    this.settled()
    if (!Number.isNaN(this.closingSince)) return
    const calm = () =>
      borrowers.unended.length === 0 && this.swaps.pending.length === 0 && state.closing === 0 &&
      state.openings.size === 0 && state.lent === 0 &&
      (state.lazy || plan.rules.length > 0 || state.idle.size >= plan.min)
    if (!this.until(calm, true)) {
      return world.fail("recovery", `${JSON.stringify(state.counts())}, ${borrowers.unended.length} borrowers unended`)
    }
    if (plan.borrowTimeout === 0) return
    this.serve(plan.max, plan.concurrency === 1 ? undefined : "alone")
    if (plan.concurrency > 1) this.serve(plan.max * plan.concurrency, undefined)
  }

  /** So many at once; they come one after the other, because of `maxWaiters`, and again when a retry's delay outlasts `borrowTimeout`. */
  private serve(borrowers: number, mode: Mode | undefined): void {
    const { inside, world } = this
    for (let count = 1; count <= borrowers; count++) {
      let loan = this.borrowers.borrow("use", mode)
      const begun = () => {
        if (loan.over && !loan.begun) loan = this.borrowers.borrow("use", mode)
        return loan.begun
      }
      this.settled()
      if (this.until(begun, false)) continue
      world.fail(
        "recovery",
        `borrower ${count} of ${borrowers} gets none: ${JSON.stringify(inside.state.counts())}`
      )
    }
    this.releaseAll()
    this.settled()
  }

  /** Lets time pass until it is so, in steps that grow. */
  private until(done: () => boolean, releasing: boolean): boolean {
    const { world } = this
    for (let step = 1, passed = 0; !done(); passed += step, step = Math.min(step * 2, 1000)) {
      if (passed > 20_000 || world.violation !== undefined) return world.violation !== undefined
      world.advance(step)
      this.settled()
      if (releasing) this.releaseAll()
    }
    return true
  }

  private releaseAll(): void {
    const { borrowers, world } = this
    for (let { leased } = borrowers; leased.length > 0 && world.violation === undefined; { leased } = borrowers) {
      for (const loan of leased) borrowers.release(loan, "ok")
      this.settled()
    }
  }

  private close(): void {
    const { borrowers, listener, plan, source, world } = this
    if (world.violation !== undefined) return
    this.start()
    this.settled()
    world.advance(plan.drainTimeout + limits.close + 2)
    const took = this.closedAt - this.closingSince
    // A sleep of nothing is one of a millisecond.
    if (!(took <= Math.max(1, plan.drainTimeout) + limits.close + world.stalled - this.stalledBefore)) {
      return world.fail("close", `it takes ${took} ms, drainTimeout is ${plan.drainTimeout}`)
    }
    this.releaseAll()
    const late = borrowers.borrow("use")
    this.settled()
    if (late.exit === undefined || borrowers.unended.length > 0) world.fail("close", "a borrower is left")
    world.advance(200)
    if (this.swaps.pending.length > 0) world.fail("close", "a swap is left")
    listener.check()
    checkLeftovers(world, source, this.inside.state.totals.abandoned)
    this.checkBooks()
  }

  private checkBooks(): void {
    const { inside: { state }, listener, plan, world } = this
    const { borrowed, returned } = state.totals
    const { closing, idle, lent, opening, waiting } = state.counts()
    if (idle + lent + opening + closing + waiting > 0) world.fail("books", JSON.stringify(state.counts()))
    if (listener.living > 0) world.fail("books", `${listener.living} items live on in the events`)
    const { abandoned, closed, detached, opened } = state.totals
    const ended = closed + detached
    if (opened < ended || opened > ended + abandoned) {
      world.fail("books", `${opened} opened, ${closed} closed, ${detached} detached, ${abandoned} abandoned`)
    }
    if (!plan.listens) return
    const takenBack = listener.heard.filter(({ _tag }) => _tag === "TakenBack").length
    if (borrowed !== returned + takenBack) {
      world.fail("books", `${borrowed} borrowed, ${returned} returned, ${takenBack} taken back`)
    }
    const told = listener.lent + listener.refused
    // A fiber that yields can be interrupted before it comes to ask, and one whose item is taken back may hear of it when
    // the pool is closed and tells nothing more.
    const seized = state.totals.recycled.get("taken back") ?? 0
    if (told > this.asked || (told + seized < this.asked && strictly(plan))) {
      world.fail("one end", `${this.asked} borrows, ${listener.lent} lent, ${listener.refused} refused`)
    }
  }
}

/** `abandoned`: how many items were. */
export const checkLeftovers = (world: World, source: ModelSource, abandoned: number): void => {
  if (world.sleeping > 0) world.fail("leftovers", `${world.sleeping} timers`)
  if (world.fibers !== source.stuck) world.fail("leftovers", `${world.fibers} fibers, ${source.stuck} of them stuck`)
  for (const entry of source.entries) {
    // The release of one that was abandoned may have been cut off as its fiber yielded.
    if (entry.owes && (source.strict || abandoned === 0)) {
      world.fail("leak", `item ${entry.number} is ${entry.state} and was never closed`)
    }
  }
}
