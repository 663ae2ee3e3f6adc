/** Several pools that share budgets, run through a sequence of commands and held to their contract at every step. */
import { Effect, Exit, type Fiber, Schedule, Scope } from "effect"
import { Capacity, QueuePool, RecyclePolicy } from "effect-queuepool"
import { permitsOf } from "../../src/internal/capacities.ts"
import type { Permits } from "../../src/internal/permits.ts"
import type { Seat } from "../../src/internal/seat.ts"
import type { PoolState } from "../../src/internal/state.ts"
import type { CapacityPlan, Command, Go, PoolPlan } from "./capacityPlan.ts"
import { keepsAmiss } from "./keptPermits.ts"
import { Rng } from "./random.ts"
import { type Violation, World } from "./world.ts"

class Refused {
  readonly _tag = "Refused"
}

interface Script {
  readonly next: Array<Go>
  otherwise: Go
}

interface Thing {
  readonly pool: number
}

type Pool = QueuePool.QueuePool<Thing, Refused>

/** Whoever asks for an item, and keeps it until told. */
interface Borrower {
  readonly pool: One
  readonly since: number
  readonly worker: boolean
  readonly fiber: () => Fiber.Fiber<unknown, unknown>
  things: ReadonlyArray<Thing>
  end: ((exit: Exit.Exit<unknown, unknown>) => void) | undefined
  over: boolean
}

/** The insides that are looked into. */
type State = PoolState<unknown, never>
type Need = { readonly opens: number; readonly urgent: boolean } | undefined

interface One {
  readonly plan: PoolPlan
  readonly number: number
  readonly pool: Pool
  readonly scope: Scope.Closeable
  readonly state: State
  readonly seats: ReadonlyArray<Seat>
  readonly opens: Script
  readonly closes: Script
  live: number
  closed: boolean
  detached: number
  most: number
}

const limits = { open: 20, close: 20, drain: 15 } as const

class CapacityRun {
  readonly world: World
  readonly ones: ReadonlyArray<One>
  private readonly budgets: ReadonlyArray<Capacity.Budget>
  private readonly permits: ReadonlyArray<Permits>
  private readonly most: Array<number>
  private readonly seatsOf: ReadonlyArray<ReadonlyArray<Seat>>
  private readonly borrowers: Array<Borrower> = []
  private readonly kept: Array<Scope.Closeable> = []
  private readonly swaps: Array<Fiber.Fiber<unknown, unknown>> = []

  constructor(plan: CapacityPlan) {
    const world = this.world = new World(new Rng(plan.seed), plan.tasks, plan.maxOps)
    this.budgets = plan.budgets.map((options, i) => this.now(Capacity.make({ ...options, name: `budget ${i}` })))
    this.permits = this.budgets.map((budget) => permitsOf(budget)[0]!)
    this.most = plan.budgets.map(({ permits }) => permits)
    this.ones = plan.pools.map((each, number) => this.make(each, number))
    const seats = this.ones.flatMap(({ seats }) => seats)
    this.seatsOf = this.permits.map((permits) => seats.filter((seat) => seat.permits === permits))
    world.afterTask = () => this.checkStep()
  }

  private now<A, E>(effect: Effect.Effect<A, E>): A {
    const fiber = this.world.fork(effect)
    this.world.settle()
    const exit = fiber.pollUnsafe()
    if (exit === undefined || Exit.isFailure(exit)) throw new Error(`not made: ${String(exit)}`)
    return exit.value
  }

  private play(go: Go, closing: boolean): Effect.Effect<void, Refused> {
    if (go === "ok") return Effect.void
    if (go === "fail") return Effect.fail(new Refused())
    if (go === "hang") return closing ? Effect.interruptible(Effect.never) : Effect.never
    if (go === "stuck") return Effect.uninterruptible(Effect.never)
    return "slow" in go ? Effect.sleep(go.slow) : Effect.uninterruptible(Effect.sleep(go.late))
  }

  private acquire(one: () => One, go: (one: One) => Go): Effect.Effect<Thing, Refused, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.suspend(() => {
        const { number } = one()
        return Effect.map(this.play(go(one()), false), () => {
          one().live++
          return { pool: number }
        })
      }),
      () =>
        Effect.ensuring(
          Effect.suspend(() => Effect.orDie(this.play(take(one().closes), true))),
          Effect.sync(() => void one().live--)
        ),
      { interruptible: true }
    )
  }

  private make(plan: PoolPlan, number: number): One {
    const scope = Scope.makeUnsafe()
    const { budgets, lazy, reset, retry, uses, ...options } = plan
    const script = (): Script => ({ next: [], otherwise: "ok" })
    const pool = this.now(Scope.provide(
      QueuePool.make({
        ...options,
        min: 0,
        name: `pool ${number}`,
        acquire: this.acquire(() => one, ({ opens }) => take(opens)),
        warm: lazy ? "lazy" : "background",
        openTimeout: limits.open,
        closeTimeout: limits.close,
        drainTimeout: limits.drain,
        reset: reset ? () => Effect.sleep(1) : undefined,
        retry: retry ? Schedule.spaced(7) : undefined,
        recycle: uses === 0 ? [RecyclePolicy.failed] : [RecyclePolicy.failed, RecyclePolicy.uses(uses)],
        capacity: Capacity.all(budgets.map((i) => this.budgets[i]!))
      }),
      scope
    ))
    const { state } = (pool as unknown as { readonly pool: { readonly state: State } }).pool
    const one: One = {
      plan,
      number,
      pool,
      scope,
      state,
      seats: (state.budget as { readonly seats?: ReadonlyArray<Seat> } | undefined)?.seats ?? [],
      opens: script(),
      closes: script(),
      live: 0,
      closed: false,
      detached: 0,
      most: plan.max
    }
    this.world.fork(pool.resize({ min: plan.min }))
    this.world.settle()
    return one
  }

  // ---- commands

  result(commands: ReadonlyArray<Command>): Violation | undefined {
    const { world } = this
    for (const command of commands) {
      this.run(command)
      this.checkStep()
      if (command.turns === undefined) this.settled()
      else world.turns(command.turns)
      if (world.violation !== undefined) return world.violation
    }
    this.settled()
    this.finish()
    return world.violation
  }

  private run(command: Command): void {
    const { world } = this
    const one = this.ones[command.pool]!
    const { pool, state } = one
    switch (command.do) {
      case "get":
        return this.borrow(one, command.kind)
      case "work":
        return this.work(one, command.holds)
      case "end": {
        const borrower = this.some(command.of, ({ end }) => end !== undefined)
        const exits = { ok: Exit.void, fail: Exit.fail(new Refused()), die: Exit.die("broken") }
        return borrower?.end!(exits[command.exit])
      }
      case "interrupt":
        return this.some(command.of, () => true)?.fiber().interruptUnsafe()
      case "detach":
      case "keep": {
        // Only the fiber that has an item may take it out of the pool.
        const borrower = this.some(command.of, ({ end, things }) => end !== undefined && things.length === 1)
        if (borrower === undefined) return
        const scope = Scope.makeUnsafe()
        const inside = Scope.provide(borrower.pool.pool.detach(borrower.things[0]!), scope)
        borrower.end!(Exit.void)
        this.kept.push(scope)
        world.fork(inside)
        return
      }
      case "invalidate": {
        const borrower = this.some(command.of, ({ things }) => things.length > 0)
        if (borrower !== undefined) world.fork(borrower.pool.pool.invalidate(borrower.things[0]!))
        return
      }
      case "clear":
        return void world.fork(pool.clear)
      case "sweep":
        return void world.fork(pool.sweep)
      case "suspend":
        return void world.fork(pool.suspend)
      case "resume":
        return void world.fork(pool.resume)
      case "close":
        return this.close(one)
      case "opens":
      case "closes": {
        const script = one[command.do]
        if (command.always) script.otherwise = command.go
        else script.next.push(command.go)
        return
      }
      case "swap": {
        let tried = false
        const acquire = this.acquire(() => one, ({ opens }) => {
          if (tried) return take(opens)
          tried = true
          return command.go
        })
        this.swaps.push(world.fork(pool.swap(acquire, { over: 0 })))
        return
      }
      case "unswap":
        return this.swaps.pop()?.interruptUnsafe()
      case "resize":
        one.most = Math.max(state.live, command.max)
        return void world.fork(pool.resize({ min: command.min, max: command.max }))
      case "permits":
        this.most[command.budget] = Math.max(this.permits[command.budget]!.used, command.permits)
        return void world.fork(this.budgets[command.budget]!.resize(command.permits))
      case "advance":
        world.advance(command.millis)
    }
  }

  private some(of: number, which: (borrower: Borrower) => boolean): Borrower | undefined {
    const all = this.borrowers.filter((borrower) => !borrower.over && !borrower.worker && which(borrower))
    return all[of % Math.max(1, all.length)]
  }

  private borrow(one: One, kind: "shared" | "alone" | "available" | "two"): void {
    const { pool } = one
    const borrower: Borrower = {
      pool: one,
      since: this.world.now,
      worker: false,
      fiber: () => fiber,
      things: [],
      end: undefined,
      over: false
    }
    const holds = (things: ReadonlyArray<Thing>) =>
      Effect.callback<unknown, unknown>((resume) => {
        borrower.things = things
        borrower.end = (exit) => resume(exit)
      })
    const lease: Effect.Effect<unknown, unknown> = kind === "shared"
      ? pool.use((thing) => holds([thing]))
      : kind === "alone"
      ? pool.useExclusive((thing) => holds([thing]))
      : kind === "available"
      ? pool.useIfAvailable((thing) => holds([thing]))
      : Effect.scoped(Effect.flatMap(pool.getN(2), holds))
    this.borrowers.push(borrower)
    const fiber = this.world.fork(Effect.onExit(lease, () =>
      Effect.sync(() => {
        borrower.over = true
        borrower.end = undefined
        borrower.things = []
      })))
  }

  /** One that borrows again at once. */
  private work(one: One, holds: number): void {
    const lease = one.pool.use(() => holds === 0 ? Effect.yieldNow : Effect.sleep(holds))
    let left = 200
    const again: Effect.Effect<void> = Effect.suspend(() =>
      left-- === 0
        ? Effect.void
        : Effect.matchCauseEffect(lease, {
          onFailure: () => Effect.andThen(Effect.sleep(3), again),
          onSuccess: () => again
        })
    )
    const fiber = this.world.fork(again)
    this.borrowers.push({
      pool: one,
      since: this.world.now,
      worker: true,
      fiber: () => fiber,
      things: [],
      end: undefined,
      over: false
    })
  }

  private close(one: One): void {
    one.closed = true
    this.world.fork(Scope.close(one.scope, Exit.void))
  }

  // ---- what must hold

  /** After every task, whoever's. */
  private checkStep(): void {
    const { world } = this
    for (const [i, permits] of this.permits.entries()) {
      const { coming, demand, free, reserved, total, used } = permits
      const seats = this.seatsOf[i]!
      const sums = { used: 0, coming: 0, demand: 0, reserved: 0 }
      let waits = false
      for (const { coming, granted, held, need, reserves, slot, urgent } of seats) {
        sums.used += granted + held
        sums.coming += coming
        if (slot >= 0 && urgent) sums.demand += need
        if (reserves) sums.reserved++
        if (slot >= 0 && (urgent || reserved === 0)) waits = true
        if (Math.min(coming, granted, need, held - coming) < 0) {
          world.fail("seat", JSON.stringify({ coming, granted, held }))
        }
        if (slot < 0 && need > 0) world.fail("seat", `${need} needed by one that is not parked`)
      }
      if (used !== sums.used || coming !== sums.coming || demand !== sums.demand || reserved !== sums.reserved) {
        world.fail("conservation", `budget ${i} has ${JSON.stringify({ used, coming, demand, reserved, sums })}`)
      }
      if (free > 0 && waits) world.fail("lost permit", `budget ${i} has ${free} free and somebody is parked`)
      const most = this.most[i] = Math.max(total, Math.min(this.most[i]!, used))
      if (used > most) world.fail("total", `budget ${i} has ${used} of ${total} in use`)
    }
    for (const one of this.ones) {
      const { live } = one.state
      one.most = Math.max(one.state.settings.max, Math.min(one.most, live))
      if (live > one.most) world.fail("max", `pool ${one.number} has ${live} of ${one.state.settings.max}`)
      for (const { held } of one.seats) {
        const kept = held - live
        if (kept < 0 || kept > one.state.totals.detached) {
          world.fail("conservation", `pool ${one.number} has ${live} live and holds ${held} permits`)
        }
      }
    }
  }

  /** When all sleep. */
  private settled(): void {
    const { world } = this
    world.settle()
    if (world.violation !== undefined) return
    for (const one of this.ones) this.checkAsks(one)
    for (const [i, permits] of this.permits.entries()) {
      if (permits.short <= 0) continue
      const idle = this.ones.find((one) =>
        one.state.idle.size > 0 && one.seats.some((seat) => seat.permits === permits)
      )
      if (idle !== undefined) world.fail("idle", `budget ${i} is short, and pool ${idle.number} has an idle item`)
    }
    for (const { over, pool, since, things, worker } of this.borrowers) {
      if (!over && !worker && things.length === 0 && world.now > since + pool.plan.borrowTimeout + 1) {
        world.fail("late", `a borrower of pool ${pool.number} waits since ${since}`)
      }
    }
  }

  private checkAsks(one: One): void {
    const { world } = this
    const { closed, suspended, waiters } = one.state
    const seats = one.seats
    const { serving } = one.state as unknown as { readonly serving: { readonly need: Need } }
    const need = closed ? undefined : serving.need
    const parked = seats.filter(({ slot }) => slot >= 0)
    if (keepsAmiss(seats)) world.fail("hoards", `pool ${one.number} keeps what it was granted`)
    if (parked.length > 1) world.fail("parked", `pool ${one.number} is parked in two places`)
    if (need === undefined && parked.length > 0) world.fail("parked", `pool ${one.number} needs nothing and is parked`)
    if (need !== undefined && parked.length === 0) {
      world.fail(
        "not parked",
        `pool ${one.number} ${suspended ? "(suspended) " : ""}needs ${need.opens} and does not ask`
      )
    }
    if (need === undefined || parked.length === 0) return
    const [seat] = parked
    if (seat!.need !== need.opens || seat!.urgent !== need.urgent) {
      world.fail("stale", `pool ${one.number} needs ${need.opens} and asked for ${seat!.need}, ${waiters.size} wait`)
    }
  }

  // ---- the end

  private finish(): void {
    const { world } = this
    for (const one of this.ones) {
      one.opens.next.length = one.closes.next.length = 0
      one.opens.otherwise = one.closes.otherwise = "ok"
      world.fork(one.pool.resume)
    }
    // Whoever has something gives it back, and each of those who wait is served or ends in time.
    for (let round = 0; round < 12; round++) {
      for (const borrower of this.borrowers) borrower.end?.(Exit.void)
      this.settled()
      world.advance(100)
    }
    this.settled()
    for (const borrower of this.borrowers) {
      if (borrower.over || borrower.worker) continue
      if (borrower.end === undefined) world.fail("late", `a borrower of pool ${borrower.pool.number} is still there`)
      borrower.end?.(Exit.void)
    }
    for (const borrower of this.borrowers) borrower.fiber().interruptUnsafe()
    for (const one of this.ones) this.close(one)
    for (const scope of this.kept) world.fork(Scope.close(scope, Exit.void))
    world.settle()
    world.advance(2000)
    if (world.violation !== undefined) return
    for (const [i, { coming, demand, reserved, used }] of this.permits.entries()) {
      const left = { coming, demand, reserved, used }
      if (coming + demand + reserved + used !== 0) {
        world.fail("leak", `budget ${i} is left with ${JSON.stringify(left)}`)
      }
      const { colds, parked } = this.permits[i] as unknown as {
        readonly colds: { readonly coldest: unknown }
        readonly parked: { readonly size: number }
      }
      if (colds.coldest !== undefined || parked.size > 0) world.fail("leak", `budget ${i} knows a closed pool`)
    }
    if (world.sleeping > 0) world.fail("leak", `${world.sleeping} timers are left`)
  }
}

const take = ({ next, otherwise }: Script): Go => next.shift() ?? otherwise

export const runCapacity = (plan: CapacityPlan, commands: ReadonlyArray<Command>): Violation | undefined =>
  new CapacityRun(plan).result(commands)
