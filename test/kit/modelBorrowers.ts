/** The borrowers of a model run: how each borrows, holds and gives back, and what each may see. */
import { Effect, Exit, Fiber, Option, Scope } from "effect"
import type { PoolError, QueuePool } from "effect-queuepool"
import type { Lease } from "../../src/internal/item.ts"
import type { Control } from "./modelControl.ts"
import { idleOf, type Inside, itemsOf, leasesIn, unservedOf, waitersOf } from "./modelInside.ts"
import { type Broken, exitOf, Loan, reasonOf, speaks } from "./modelLoan.ts"
import { checkLend, checkNothing, checkReturn, lookBefore } from "./modelOrder.ts"
import { type End, type Kind, limits, type Mode, type Plan, strictly } from "./modelPlan.ts"
import type { Entry, ModelSource, Refused } from "./modelSource.ts"
import type { World } from "./world.ts"

type Pool = QueuePool.QueuePool<unknown, Refused>
type Failure = Broken | Refused | PoolError.PoolError

export class Borrowers {
  readonly loans: Array<Loan> = []
  /** Since the pool began to close: who may still begin a lease. */
  private lastLeases: Set<number> | undefined = undefined
  /** For which borrower a fiber works. */
  private readonly workers = new Map<number, Loan>()
  private readonly strict: boolean
  private readonly pool: Pool
  private readonly inside: Inside
  private readonly plan: Plan
  private readonly world: World
  private readonly source: ModelSource
  private readonly control: Control

  constructor(pool: Pool, inside: Inside, plan: Plan, world: World, source: ModelSource, control: Control) {
    this.strict = strictly(plan)
    this.pool = pool
    this.inside = inside
    this.plan = plan
    this.world = world
    this.source = source
    this.control = control
  }

  /** The borrower that a fiber works for, by number. */
  readonly who = (fiber: number): number => this.workers.get(fiber)?.id ?? -fiber

  /** Whether it asked for an item for itself. */
  readonly alone = (fiber: number): boolean => this.workers.get(fiber)?.alone === true

  /** The pool lends no more: who has an item now is the last. */
  noMore(): void {
    // Who was handed one and has not taken it up waits like the others.
    this.lastLeases ??= new Set(leasesIn(this.inside).filter(({ taken }) => taken).map(({ by }) => this.who(by)))
  }

  get leased(): Array<Loan> {
    return this.loans.filter((loan) => loan.begun && !loan.over)
  }

  get unended(): Array<Loan> {
    return this.loans.filter((loan) => !loan.over)
  }

  /** How many borrows the events must tell the end of. */
  get asked(): number {
    return this.loans.reduce((sum, loan) => sum + (loan.untold ? 0 : loan.count), 0)
  }

  borrow(kind: Kind, mode?: Mode): Loan {
    const { inside, plan, world } = this
    const loan = new Loan(this.loans.length + 1, kind, mode, world.now)
    this.loans.push(loan)
    // A fiber that yields asks later, and there may be room by then.
    loan.tooMany = this.strict && loan.count > inside.state.settings.max
    const before = lookBefore(inside, plan, world)
    loan.unserved = before.unserved
    loan.fiber = world.fork(this.program(loan))
    this.workers.set(loan.fiber.id, loan)
    loan.fiber.addObserver((exit) => this.ended(loan, exit))
    if (this.strict) {
      loan.atOnce = loan.exit !== undefined
      if (loan.begun) checkLend(inside, plan, world, loan, before)
      if (loan.foundNothing) checkNothing(inside, plan, world, before)
      const unserved = unservedOf(inside)
      if (unserved > Math.max(before.unserved, plan.maxWaiters)) {
        world.fail("maxWaiters", `${unserved} wait and nothing is under way, maxWaiters is ${plan.maxWaiters}`)
      }
    }
    world.afterTask()
    return loan
  }

  private program(loan: Loan): Effect.Effect<unknown, unknown> {
    const hold = Effect.callback<void, Broken>((resume) => {
      loan.resume = resume
    })
    const body = (...items: ReadonlyArray<unknown>): Effect.Effect<void, Broken> => {
      // What the pool runs in a fiber of its own has begun in it.
      this.workers.set(Fiber.getCurrent()!.id, loan)
      if (loan.kind === "sync") return Effect.sync(() => void (this.begin(loan, items) && this.finish(loan, Exit.void)))
      return Effect.onExit(
        Effect.suspend(() => this.begin(loan, items) ? hold : Effect.void),
        (exit) => Effect.sync(() => this.finish(loan, exit))
      )
    }
    const all = (items: ReadonlyArray<unknown>) => items.length === 0 ? Effect.void : body(...items)
    const asked = Effect.suspend((): Effect.Effect<unknown, unknown> => {
      // The fiber runs for the first time before the model knows it.
      this.workers.set(Fiber.getCurrent()!.id, loan)
      switch (loan.kind) {
        case "use":
        case "sync":
        case "masked":
          return this.use(loan, body)
        case "scoped":
          return Effect.scoped(Effect.flatMap(this.get(loan), all))
        case "scope": {
          const scope = loan.scope = Scope.makeUnsafe()
          const begin = (items: ReadonlyArray<unknown>) => items.length > 0 && this.begin(loan, items)
          return Effect.map(Effect.provideService(this.get(loan), Scope.Scope, scope), begin)
        }
      }
    })
    return loan.kind === "masked" ? Effect.uninterruptible(asked) : asked
  }

  private use(
    { mode }: Loan,
    body: (...items: ReadonlyArray<unknown>) => Effect.Effect<void, Broken>
  ): Effect.Effect<unknown, Failure> {
    const { pool } = this
    switch (mode) {
      case undefined:
        return pool.use((item) => body(item))
      case "alone":
        return pool.useExclusive((item) => body(item))
      case "available":
        return pool.useIfAvailable((item) => body(item))
      default:
        return Effect.scoped(Effect.flatMap(pool.getN(mode), (items) => body(...items)))
    }
  }

  private get({ mode }: Loan): Effect.Effect<ReadonlyArray<unknown>, Failure, Scope.Scope> {
    const { pool } = this
    switch (mode) {
      case undefined:
        return Effect.map(pool.get, (item) => [item])
      case "alone":
        return Effect.map(pool.getExclusive, (item) => [item])
      case "available":
        return Effect.map(pool.getIfAvailable, Option.toArray)
      default:
        return pool.getN(mode)
    }
  }

  /** A lease begins; false when the borrower cannot be told by which items. */
  private begin(loan: Loan, items: ReadonlyArray<unknown>): boolean {
    const { inside, lastLeases, plan, world } = this
    const leases = leasesIn(inside).filter(({ by }) => this.who(by) === loan.id)
    if (lastLeases !== undefined && !lastLeases.has(loan.id)) world.fail("lend after close", `to borrower ${loan.id}`)
    if (leases.length !== loan.count || items.length !== loan.count) {
      // A lease can be taken back between its beginning and this only when the fiber yields.
      const taken = lastLeases !== undefined || plan.monitor || plan.maxLease < Infinity
      if (this.strict || !taken) world.fail("lease", `borrower ${loan.id} has ${leases.length} of ${loan.count} items`)
      loan.missed = true
      return false
    }
    loan.begunAt = world.now
    loan.entries = leases.map(({ item }) => this.source.byScope.get(item.scope)!)
    for (const [index, entry] of loan.entries.entries()) {
      this.checkLent(loan, entry, leases[index]!)
      if (!items.includes(entry.value)) world.fail("lease", `borrower ${loan.id} has another item than it was told`)
    }
    // One that is shared is reset when the last of its borrowers has left.
    loan.soiled = loan.entries.some(({ dirty }) => dirty)
    for (const entry of loan.entries) entry.holders.add(loan)
    if (plan.reset && plan.concurrency === 1 && loan.soiled) world.fail("not reset", `before borrower ${loan.id}`)
    world.afterTask()
    return true
  }

  private checkLent(loan: Loan, entry: Entry, lease: Lease<unknown>): void {
    const { plan, world } = this
    const others = Array.from(entry.holders)
    const full = plan.concurrency === 1 || loan.alone || others.some(({ alone }) => alone) ? 1 : plan.concurrency
    if (others.length >= full) world.fail("two holders", `of item ${entry.number}`)
    if (entry.state !== "live") world.fail("lent and closed", `item ${entry.number} is ${entry.state}`)
    if (entry.banned !== undefined && !entry.spared.has(loan.id)) {
      world.fail("lent past its limit", `item ${entry.number}: ${entry.banned}`)
    }
    const { id, openedAt, stay } = lease.item
    const since = this.control.handedAt(id, loan.id)
    // A replacement may be under way.
    const stays = stay !== undefined && since <= stay.until
    if (entry.tired && !stays && plan.concurrency === 1) world.fail("lent past its limit", `item ${entry.number}: uses`)
    if (since > entry.goesBy && !stays) world.fail("lent past its limit", `item ${entry.number}: it was to go`)
    const age = since - openedAt
    // Where a fiber yields between an open and its end, time may pass; and a new item serves one borrower in any case.
    const delayed = !this.strict && lease.item.uses === 0 && world.stalledAt > openedAt
    if (plan.rules.includes("age") && age > limits.age && !stays && !delayed) {
      world.fail("lent past its limit", `age ${age}`)
    }
    this.checkProven(entry, lease, since)
  }

  /** What was idle for `checkAfter` is lent only after a check. */
  private checkProven(
    entry: Entry,
    { item: { idleSince, openedAt, share } }: Lease<unknown>,
    lentAt: number
  ): void {
    const { check, checkAfter, equal } = this.plan
    // When fibers yield, time may pass between the end of a check, or of an open, and the pool's hearing of it.
    // One that is shared needs no check: it may have been in use when the borrower joined.
    if (!check || equal || !this.strict || share !== undefined) return
    const since = lentAt - Math.max(entry.checkedAt, checkAfter > 0 ? idleSince : openedAt)
    if (checkAfter > 0 ? since >= checkAfter : since > 0) this.world.fail("unproven", `item ${entry.number}`)
  }

  private finish(loan: Loan, exit: Exit.Exit<unknown, unknown>): void {
    if (!loan.begun || loan.over) return
    loan.over = true
    const held = new Set<unknown>()
    for (const { by, item } of leasesIn(this.inside)) if (this.who(by) === loan.id) held.add(item.scope)
    for (const entry of loan.entries) {
      entry.holders.delete(loan)
      const { keeper } = entry
      entry.keeper = undefined
      if (keeper !== undefined) this.world.fork(Scope.close(keeper, exit))
      entry.ended++
      entry.dirty = !this.plan.equal
      // What was taken back does not come back.
      if (!held.has(entry.scope)) continue
      // The pool hears of it at once only when the fiber does not yield in between, and another may join meanwhile.
      if (!this.strict && this.plan.concurrency > 1) continue
      for (const rule of this.plan.rules) {
        const spoken = speaks(rule, entry, exit)
        if (spoken === undefined) continue
        if (spoken === "uses" && this.plan.replaceTimeout > 0) entry.tired = true
        else this.ban((other) => other === entry, spoken)
        if (!this.strict) continue
        if (rule === "lost") this.ban(() => true, rule)
        if (rule === "lostOlder") this.banOlder(entry, rule)
      }
    }
  }

  private banOlder(than: Entry, why: string): void {
    const ids = new Map<unknown, number>(itemsOf(this.inside).map((item) => [item.scope, item.id]))
    this.ban((other) => (ids.get(other.scope) ?? NaN) < ids.get(than.scope)!, why)
  }

  /** None of these may be lent again; what is lent, or on its way to a borrower, may still be used. */
  ban(which: (entry: Entry) => boolean, why: string): void {
    const spared = new Map<unknown, Array<number>>()
    for (const { by, item } of leasesIn(this.inside)) {
      const those = spared.get(item.scope)
      if (those === undefined) spared.set(item.scope, [this.who(by)])
      else those.push(this.who(by))
    }
    for (const entry of this.source.entries) if (which(entry)) entry.ban(why, spared.get(entry.scope))
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
    if (this.strict && loan.over && end !== "interrupt") checkReturn(this.inside, this.world, loan)
  }

  private ended(loan: Loan, exit: Exit.Exit<unknown, unknown>): void {
    const { plan, strict, world } = this
    loan.exit = exit
    if (loan.kind === "scope" && (Exit.isFailure(exit) || !loan.begun)) {
      this.finish(loan, exit)
      world.fork(Scope.close(loan.scope!, exit))
    }
    if (!loan.begun || loan.kind !== "scope") loan.over = true
    if (Exit.isSuccess(exit)) return
    const why = reasonOf(exit.cause)
    const ends = plan.monitor || plan.maxLease < Infinity
    if (loan.begun) {
      // Its own end, unchanged.
      const known = why === "Broken" || why === "Interrupted" || why === "defect" || (why === "LeaseEnded" && ends)
      if (!known) world.fail("refusal", `borrower ${loan.id} hears ${why} after it had its item`)
      const early = strict && plan.maxLease < Infinity && !plan.monitor && world.now - loan.begunAt < plan.maxLease
      if (why === "LeaseEnded" && early) world.fail("early", `borrower ${loan.id} hears ${why}`)
      return
    }
    // A borrower that went without: is it for a reason that there is?
    const { failures } = this.source
    const waited = world.now - loan.askedAt
    const unserved = loan.unserved + loan.count - 1
    const known: Record<string, boolean> = {
      Interrupted: loan.interrupted,
      BorrowTimeout: waited >= plan.borrowTimeout,
      TooManyWaiters: unserved >= plan.maxWaiters || (!strict && plan.maxWaiters < Infinity),
      Closed: this.inside.state.closed,
      OpenTimeout: world.now >= limits.open,
      Suspended: plan.whenSuspended === "fail" && this.control.suspensions > 0,
      InvalidOptions: loan.count > this.control.smallest,
      HookFailed: plan.hooks.includes("onBorrow"),
      LeaseEnded: ends && (!strict || plan.hooks.includes("onBorrow")),
      Refused: failures > 0,
      defect: failures > 0
    }
    if (known[why] !== true) world.fail("refusal", `borrower ${loan.id} hears ${why} after ${waited} ms`)
  }

  /** At rest: nobody is lost, nobody waits longer than allowed, and no lease is left behind. */
  checkSettled(): void {
    const { inside, plan, world } = this
    const known = new Set(waitersOf(inside).map(({ holder }) => this.who(holder.id)))
    for (const item of idleOf(inside)) {
      if (plan.reset && this.source.byScope.get(item.scope)!.dirty) world.fail("not reset", `item ${item.id} is idle`)
    }
    for (const { by, item, since, taken } of leasesIn(inside)) {
      known.add(this.who(by))
      const loan = this.workers.get(by)
      if (loan === undefined || loan.over) world.fail("lost lease", `item ${item.id}, held by ${loan?.id}`)
      // What runs uninterruptibly, or for a hook, has `closeTimeout` to end.
      const slow = loan?.kind === "masked" || loan?.begun === false
      const longest = plan.maxLease + (slow ? limits.close : 0) + 1
      if (taken && world.now > world.stalledAt + 1 && world.now - since > longest) {
        world.fail("maxLease", `item ${item.id} is lent for ${world.now - since} ms`)
      }
      // Only a group waits for others with what it was handed, and for a hook who is to have it.
      if (!taken && typeof loan?.mode !== "number" && !plan.hooks.includes("onBorrow")) {
        world.fail("lost lease", `item ${item.id} is not taken up`)
      }
    }
    for (const loan of this.loans) {
      if (loan.exit !== undefined) continue
      if (loan.interrupted && loan.kind !== "masked") world.fail("interrupted", `borrower ${loan.id} goes on`)
      // Where the pool knows what runs in a lease, that ends with the item.
      const ends = loan.kind === "use" && typeof loan.mode !== "number" && !inside.state.closed
      const died = loan.entries.some(({ dead, keeper }) => dead && keeper === undefined)
      if (ends && died) world.fail("died", `borrower ${loan.id} goes on`)
      if (loan.begun) continue
      // The item may be gone, and the hook goes on.
      const hooked = plan.hooks.includes("onBorrow") &&
        (plan.monitor || plan.maxLease < Infinity || inside.state.closed)
      if (!known.has(loan.id) && !hooked) {
        world.fail("lost borrower", `${loan.id} (${loan.kind}) neither waits nor has an item`)
      }
      // A fiber that yields comes to ask only after a stall.
      const askedAt = this.strict ? loan.askedAt : Math.max(loan.askedAt, world.stalledAt)
      if (world.now >= askedAt + plan.borrowTimeout + 1) world.fail("borrowTimeout", `borrower ${loan.id} waits`)
    }
  }
}
