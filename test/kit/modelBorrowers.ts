/** The borrowers of a model run: how each borrows, holds and gives back, and what each may see. */
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import type { PoolError, QueuePool } from "effect-queuepool"
import type { Lease } from "../../src/internal/item.ts"
import { idleOf, type Inside, itemsOf, leasesIn, waitersOf } from "./modelInside.ts"
import { type End, type Kind, limits, type Plan, type Rule } from "./modelPlan.ts"
import type { Entry, ModelSource, Refused } from "./modelSource.ts"
import type { World } from "./world.ts"

type Pool = QueuePool.QueuePool<unknown, Refused>

export class Broken {
  readonly _tag = "Broken"
  readonly lost: boolean
  constructor(lost: boolean) {
    this.lost = lost
  }
}

export class Loan {
  readonly id: number
  readonly kind: Kind
  readonly askedAt: number
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  scope: Scope.Closeable | undefined = undefined
  entry: Entry | undefined = undefined
  /** How many waited without a supply when it came. */
  bare = 0
  interrupted = false
  /** Ends the lease. */
  resume: ((exit: Exit.Exit<void, Broken>) => void) | undefined = undefined
  exit: Exit.Exit<unknown, unknown> | undefined = undefined
  over = false

  constructor(id: number, kind: Kind, askedAt: number) {
    this.id = id
    this.kind = kind
    this.askedAt = askedAt
  }
}

const exitOf = (end: End): Exit.Exit<void, Broken> => {
  switch (end) {
    case "ok":
      return Exit.void
    case "die":
      return Exit.die("broken lease")
    case "interrupt":
      return Exit.interrupt(0)
    default:
      return Exit.fail(new Broken(end === "lost"))
  }
}

export const isLost = (cause: Cause.Cause<unknown>): boolean => {
  const error = Cause.squash(cause)
  return error instanceof Broken && error.lost
}

/** Why a lease that ended so ends the item, by the rules that read exits. */
const speaks = (rule: Rule, entry: Entry, exit: Exit.Exit<unknown, unknown>): string | undefined => {
  if (rule === "uses" && entry.leases >= limits.uses) return rule
  if (Exit.isSuccess(exit)) return undefined
  const cut = Cause.hasInterruptsOnly(exit.cause)
  if ((rule === "failed" && !cut) || (rule === "interrupted" && cut)) return rule
  return (rule === "lost" || rule === "lostOlder") && !cut && isLost(exit.cause) ? rule : undefined
}

export class Borrowers {
  readonly loans: Array<Loan> = []
  /** Since the pool began to close: who may still begin a lease. */
  private lastLeases: Set<number> | undefined = undefined
  private readonly pool: Pool
  private readonly inside: Inside
  private readonly plan: Plan
  private readonly world: World
  private readonly source: ModelSource

  constructor(pool: Pool, inside: Inside, plan: Plan, world: World, source: ModelSource) {
    this.pool = pool
    this.inside = inside
    this.plan = plan
    this.world = world
    this.source = source
  }

  /** The pool lends no more: who has an item now is the last. */
  noMore(): void {
    this.lastLeases ??= new Set(leasesIn(this.inside).map(({ by }) => by))
  }

  get leased(): Array<Loan> {
    return this.loans.filter((loan) => loan.entry !== undefined && !loan.over)
  }

  get unended(): Array<Loan> {
    return this.loans.filter((loan) => !loan.over)
  }

  borrow(kind: Kind): Loan {
    const { plan, pool, world } = this
    const loan = new Loan(this.loans.length + 1, kind, world.now)
    this.loans.push(loan)
    const waiting = this.inside.state.waiters.size
    loan.bare = this.bare()
    const idle = idleOf(this.inside)
    loan.fiber = world.fork(this.program(loan, pool))
    this.checkIdleOrder(loan, idle, waiting)
    if (plan.maxOps >= 2048 && this.bare() > Math.max(loan.bare, plan.maxWaiters)) {
      world.fail("maxWaiters", `${this.bare()} wait without a supply, maxWaiters is ${plan.maxWaiters}`)
    }
    loan.fiber.addObserver((exit) => this.ended(loan, exit))
    return loan
  }

  private bare(): number {
    return waitersOf(this.inside).filter((waiter) => waiter.supply === undefined).length
  }

  private program(loan: Loan, pool: Pool): Effect.Effect<unknown, unknown> {
    const hold = Effect.callback<void, Broken>((resume) => {
      loan.resume = resume
    })
    const lease = Effect.onExit(
      Effect.suspend(() => this.begin(loan) ? hold : Effect.void),
      (exit) => Effect.sync(() => this.finish(loan, exit))
    )
    switch (loan.kind) {
      case "use":
        return pool.use(() => lease)
      case "masked":
        return Effect.uninterruptible(pool.use(() => lease))
      case "sync":
        return pool.use(() => Effect.sync(() => void (this.begin(loan) && this.finish(loan, Exit.void))))
      case "scoped":
        return Effect.scoped(Effect.flatMap(pool.get, () => lease))
      case "scope": {
        const scope = loan.scope = Scope.makeUnsafe()
        return Effect.map(Effect.provideService(pool.get, Scope.Scope, scope), () => this.begin(loan))
      }
    }
  }

  /** A lease begins; false when the borrower cannot be told by which item. */
  private begin(loan: Loan): boolean {
    const { inside, world } = this
    const { fiber } = loan
    // The fiber runs for the first time before the model knows it.
    const holder = fiber ?? Fiber.getCurrent()!
    const lease = leasesIn(inside).find(({ by }) => by === holder.id)
    const item = lease?.item
    const { lastLeases } = this
    if (lastLeases !== undefined && !lastLeases.has(holder.id)) world.fail("lend after close", `to borrower ${loan.id}`)
    if (lease === undefined || item === undefined) {
      // A lease can be taken back between its beginning and this only when the fiber yields.
      if (lastLeases === undefined || this.plan.maxOps >= 2048) world.fail("lease", `borrower ${loan.id} has no item`)
      return false
    }
    const entry = this.source.byScope.get(item.scope)!
    loan.entry = entry
    if (entry.holder !== undefined) world.fail("two holders", `of item ${entry.number}`)
    if (entry.state !== "live") world.fail("lent and closed", `item ${entry.number} is ${entry.state}`)
    if (entry.banned !== undefined) world.fail("lent past its limit", `item ${entry.number}: ${entry.banned}`)
    const age = lease.since - item.openedAt
    if (this.plan.rules.includes("age") && age > limits.age) world.fail("lent past its limit", `age ${age}`)
    this.checkProven(entry, lease)
    entry.holder = holder
    entry.leases++
    world.afterTask()
    return true
  }

  /** What was idle for `checkAfter` is lent only after a check. */
  private checkProven(entry: Entry, { item: { idleSince, openedAt }, since: lentAt }: Lease<unknown>): void {
    const { check, checkAfter, equal } = this.plan
    // When fibers yield, time may pass between the end of a check, or of an open, and the pool's hearing of it.
    if (!check || equal || this.plan.maxOps < 2048) return
    const since = lentAt - Math.max(entry.checkedAt, checkAfter > 0 ? idleSince : openedAt)
    if (checkAfter > 0 ? since >= checkAfter : since > 0) this.world.fail("unproven", `item ${entry.number}`)
  }

  private finish(loan: Loan, exit: Exit.Exit<unknown, unknown>): void {
    const { entry } = loan
    if (entry === undefined || loan.over) return
    loan.over = true
    entry.holder = undefined
    entry.lastExit = exit
    entry.banned ??= entry.bannedAfter
    for (const rule of this.plan.rules) {
      const spoken = speaks(rule, entry, exit)
      if (spoken === undefined) continue
      entry.banned ??= spoken
      // The pool hears of it at once only when the fiber does not yield in between.
      if (this.plan.maxOps < 2048) continue
      if (rule === "lost") this.ban(() => true, rule)
      if (rule === "lostOlder") this.banOlder(entry, rule)
    }
  }

  private banOlder(than: Entry, why: string): void {
    const ids = new Map<unknown, number>(itemsOf(this.inside).map((item) => [item.scope, item.id]))
    this.ban((other) => (ids.get(other.scope) ?? NaN) < ids.get(than.scope)!, why)
  }

  /** None of these may be lent again; what is lent, or on its way to a borrower, may still be used. */
  ban(which: (entry: Entry) => boolean, why: string): void {
    const lent = new Set<unknown>()
    for (const item of itemsOf(this.inside)) {
      if (item.status === "lent") lent.add(item.scope)
    }
    for (const entry of this.source.entries) {
      if (!which(entry)) continue
      if (lent.has(entry.scope)) entry.bannedAfter ??= why
      else entry.banned ??= why
    }
  }

  interrupt(loan: Loan): void {
    loan.interrupted = true
    loan.fiber!.interruptUnsafe()
  }

  release(loan: Loan, end: End): void {
    const exit = exitOf(end)
    if (loan.kind === "scope") {
      this.finish(loan, exit)
      this.world.fork(Scope.close(loan.scope!, exit))
    } else if (end === "interrupt") this.interrupt(loan)
    else loan.resume?.(exit)
    this.checkReturn(loan, end)
  }

  private ended(loan: Loan, exit: Exit.Exit<unknown, unknown>): void {
    const { plan, source, world } = this
    loan.exit = exit
    const begun = loan.entry !== undefined
    if (loan.kind === "scope" && (Exit.isFailure(exit) || !begun)) {
      this.finish(loan, exit)
      world.fork(Scope.close(loan.scope!, exit))
    }
    if (!begun || loan.kind !== "scope") loan.over = true
    if (begun || Exit.isSuccess(exit)) return
    // A borrower that went without: is it for a reason that there is?
    const why = reasonOf(exit.cause)
    const waited = world.now - loan.askedAt
    const known: Record<string, boolean> = {
      Interrupted: loan.interrupted,
      BorrowTimeout: waited >= plan.borrowTimeout,
      TooManyWaiters: loan.bare >= plan.maxWaiters || (plan.maxOps < 2048 && plan.maxWaiters < Infinity),
      Closed: this.inside.state.closed,
      OpenTimeout: world.now >= limits.open,
      Refused: source.failures > 0,
      defect: source.failures > 0
    }
    if (known[why] !== true) world.fail("refusal", `borrower ${loan.id} hears ${why} after ${waited} ms`)
  }

  /** At rest: nobody is lost, and nobody waits longer than allowed. */
  checkSettled(): void {
    const { inside, plan, world } = this
    const known = new Set(leasesIn(inside).map(({ by }) => by))
    for (let one = inside.state.waiters.head; one !== undefined; one = one.behind as typeof one | undefined) {
      known.add(one.holder.id)
    }
    for (const loan of this.loans) {
      if (loan.exit !== undefined || loan.entry !== undefined) continue
      if (!known.has(loan.fiber!.id)) {
        world.fail("lost borrower", `${loan.id} (${loan.kind}) neither waits nor has an item`)
      }
      // A fiber that yields comes to ask only after a stall.
      const askedAt = plan.maxOps < 2048 ? Math.max(loan.askedAt, world.stalledAt) : loan.askedAt
      if (world.now >= askedAt + plan.borrowTimeout + 1) world.fail("borrowTimeout", `borrower ${loan.id} waits`)
    }
  }

  // Without a step in between, the item lent is at the right end of the idle list, but for those that the rules ended.
  private checkIdleOrder(loan: Loan, before: ReturnType<typeof idleOf>, waiting: number): void {
    const { inside, plan, world } = this
    const { entry } = loan
    if (entry === undefined || waiting > 0 || plan.maxOps < 2048) return
    const from = plan.order === "lifo" ? before.toReversed() : before
    const index = from.findIndex((item) => item.scope === entry.scope)
    if (index < 0) return
    const skipped = from.slice(0, index)
    if (skipped.some((item) => item.status === "idle")) {
      world.fail("idle order", `item ${entry.number} of ${from.length}`)
    }
    const { idle, lent } = inside.state
    const since = from[index]!.idleSince
    if (plan.rules.includes("idle") && world.now > since + limits.idle && idle.size + lent > plan.min) {
      world.fail("lent past its limit", `item ${entry.number} was idle for ${world.now - since} ms`)
    }
  }

  private checkReturn(loan: Loan, end: End): void {
    const { idle } = this.inside.state
    const { entry } = loan
    if (entry === undefined || this.plan.maxOps < 2048 || !loan.over || end === "interrupt") return
    const item = idleOf(this.inside).find((item) => item.scope === entry.scope)
    if (item !== undefined && item !== idle.warmest) this.world.fail("idle order", "returned, and not the warmest")
  }
}

const reasonOf = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "Interrupted"
  if (!cause.reasons.some(Cause.isFailReason)) return "defect"
  const error = Cause.squash(cause) as Refused | Broken | PoolError.PoolError
  return error._tag === "PoolError" ? error.reason._tag : error._tag
}
