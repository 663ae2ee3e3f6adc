/** Runs a pool through a sequence of commands and holds it to its contract at every step. */
import { Cause, Effect, Exit, Scope, Stream } from "effect"
import { type PoolEvent, QueuePool } from "effect-queuepool"
import { Borrowers } from "./modelBorrowers.ts"
import { Control } from "./modelControl.ts"
import { detach } from "./modelDetach.ts"
import { Due } from "./modelDue.ts"
import { checkLeftovers, Ending } from "./modelEnd.ts"
import { Listener } from "./modelEvents.ts"
import { Fairness } from "./modelFairness.ts"
import { ModelHooks } from "./modelHooks.ts"
import { type Inside, insideOf, itemsOf, viewOf } from "./modelInside.ts"
import { optionsOf } from "./modelOptions.ts"
import { type Command, limits, type Plan, strictly } from "./modelPlan.ts"
import { checkReplacing } from "./modelReplacing.ts"
import { checkSharing } from "./modelSharing.ts"
import { ModelSource, Refused } from "./modelSource.ts"
import { checkSettled, checkStep } from "./modelState.ts"
import { Swaps } from "./modelSwaps.ts"
import { Rng } from "./random.ts"
import { type Violation, World } from "./world.ts"

type Pool = QueuePool.QueuePool<unknown, Refused>

/** What there is once the pool is made. */
interface Made {
  readonly pool: Pool
  readonly inside: Inside
  readonly borrowers: Borrowers
  readonly swaps: Swaps
}

/** One run; `result` tells what it found. */
class Run {
  readonly world: World
  readonly source: ModelSource
  private readonly plan: Plan
  private readonly strict: boolean
  private readonly scope = Scope.makeUnsafe()
  private readonly fairness = new Fairness()
  private readonly listener: Listener
  private readonly control: Control
  private readonly due: Due
  private readonly hooks: ModelHooks
  private made: Made | undefined
  private given = 0

  constructor(plan: Plan) {
    this.plan = plan
    this.strict = strictly(plan)
    const world = this.world = new World(new Rng(plan.seed), plan.tasks, plan.maxOps)
    this.source = new ModelSource(world, plan)
    this.hooks = new ModelHooks(world, this.source)
    this.control = new Control(plan, world)
    this.listener = new Listener(world, plan, this.control.trials)
    this.due = new Due(plan, world, this.source)
    world.afterTask = () => this.checkStep()
  }

  private checkStep(): void {
    if (this.made === undefined) return
    const { plan, world } = this
    const { borrowers, inside } = this.made
    if (inside.state.closed) borrowers.noMore()
    const view = viewOf(inside)
    checkStep(inside, view, plan, world)
    this.due.look(view)
    if (plan.concurrency > 1) checkSharing(inside, view, plan, world, borrowers.alone)
    this.control.check(inside, view, borrowers.who)
    this.fairness.check(view, world, borrowers.who)
  }

  result(commands: ReadonlyArray<Command>): Violation | undefined {
    const { world } = this
    const made = this.make()
    if (made === undefined) return world.violation
    const ending = new Ending(
      made.pool,
      made.inside,
      made.borrowers,
      made.swaps,
      this.control,
      this.listener,
      this.plan,
      world,
      this.source,
      this.scope
    )
    for (const command of commands) {
      this.given++
      this.run(command, made, ending)
      this.checkStep()
      if (command.turns === undefined) this.settled(made)
      else world.turns(command.turns)
      if (world.violation !== undefined) return world.violation
    }
    this.settled(made)
    ending.run(() => this.settled(made))
    return world.violation
  }

  private make(): Made | undefined {
    const { plan, source, world } = this
    const making = world.fork(Scope.provide(QueuePool.make(optionsOf(plan, source, this.hooks)), this.scope))
    for (let waits = 0; waits < 40 && making.pollUnsafe() === undefined; waits++) world.advance(limits.open)
    const exit = making.pollUnsafe()
    if (exit !== undefined && Exit.isSuccess(exit)) {
      const pool = exit.value
      const inside = insideOf(pool)
      const borrowers = new Borrowers(pool, inside, plan, world, source, this.control)
      const swaps = new Swaps(pool, inside, borrowers, plan, world, source, this.control)
      if (this.strict) this.hooks.spoiled = (entry, why) => borrowers.ban((other) => other === entry, why)
      this.made = { pool, inside, borrowers, swaps }
      const hear = (event: PoolEvent.PoolEvent) => Effect.sync(() => void this.listener.heard.push(event))
      if (plan.listens) world.fork(Stream.runForEach(pool.events, hear))
      world.settle()
      if (plan.listens) this.listener.know(itemsOf(inside).map((item) => item.id))
      return this.made
    }
    // A warm-up that fails leaves nothing behind.
    if (plan.warm !== "eager" || plan.min === 0) world.fail("make", `a pool is not made: ${String(exit)}`)
    if (exit === undefined && !(plan.retry === "spaced" || plan.retry === "exponential")) world.fail("make", "it hangs")
    world.fork(Scope.close(this.scope, Exit.void))
    world.advance(plan.drainTimeout + limits.close + 100)
    checkLeftovers(world, source, 0)
    return undefined
  }

  private settled(made: Made): void {
    const { listener, plan, world } = this
    const { borrowers, inside, swaps } = made
    world.settle()
    if (world.violation !== undefined) return
    checkSettled(inside, plan, world)
    checkReplacing(inside, plan, world)
    borrowers.checkSettled()
    swaps.checkSettled()
    listener.check()
    this.due.check(inside)
    this.checkCost(made)
    const { detached, returned } = inside.state.totals
    if (plan.hooks.includes("onReturn") && this.hooks.returns !== returned - detached) {
      world.fail("onReturn", `${this.hooks.returns} runs after ${returned - detached} leases`)
    }
  }

  /** Fibers are paid for by work. */
  private checkCost({ borrowers, inside: { state } }: Made): void {
    const { given, plan, source, world } = this
    const { closed, abandoned, recycled, waited } = state.totals
    const ended = closed + abandoned + Array.from(recycled.values()).reduce((a, b) => a + b, 0)
    const own = source.monitors * 3 + borrowers.loans.length * (plan.monitor || plan.maxLease < Infinity ? 2 : 0)
    const work = own + source.entries.length * 4 + ended * 4 + source.tasks * 4 + waited * 2 + given * 6
    if (world.forks > 60 + work + world.now) world.fail("forks", `${world.forks} fibers for work of ${work}`)
  }

  private run(command: Command, { borrowers, inside, pool, swaps }: Made, ending: Ending): void {
    const { source, world } = this
    const one = <T>(values: ReadonlyArray<T>, of: number): T | undefined => values[of % values.length]
    switch (command.do) {
      case "get":
        return void borrowers.borrow(command.kind, command.mode)
      case "interrupt": {
        const loan = one(borrowers.unended.filter((loan) => loan.exit === undefined), command.of)
        return loan && borrowers.interrupt(loan)
      }
      case "release": {
        const loan = one(borrowers.leased, command.of)
        return loan && borrowers.release(loan, command.end)
      }
      case "detach": {
        const loan = one(borrowers.leased, command.of)
        return loan && detach(loan, pool, inside, borrowers, this.plan, world)
      }
      case "invalidate": {
        const items = itemsOf(inside).filter(({ status }) => (status === "idle") === (command.what === "idle"))
        const item = command.what === "foreign" ? undefined : one(items, command.of)
        const entry = item && source.byScope.get(item.scope)
        const before = inside.state.closing
        world.fork(pool.invalidate(item === undefined ? { number: 1 } : item.value))
        if (item === undefined && inside.state.closing !== before) world.fail("foreign", "an item is recycled")
        if (entry !== undefined && !this.plan.equal && this.strict) {
          borrowers.ban((other) => other === entry, "invalidated")
        }
        return
      }
      case "clear":
        world.fork(pool.clear)
        if (this.strict) borrowers.ban((entry) => entry.state === "live" || entry.state === "opening", "cleared")
        return
      case "clearWith":
      case "suspend":
      case "resume":
      case "resize":
        return this.control.run(command, pool, inside, borrowers, source)
      case "kill": {
        const watched = itemsOf(inside).map((item) => source.byScope.get(item.scope)!).filter((entry) => entry.kill)
        return one(watched, command.of)?.kill!(command.go === "ok" ? Exit.void : Exit.fail(new Refused()))
      }
      case "close":
        return ending.start()
      case "swap":
        return swaps.start(command.go, command.over)
      case "unswap":
        return swaps.interrupt()
      case "sweep":
        return void world.fork(pool.sweep)
      case "advance":
        return world.advance(command.millis)
      case "stall":
        return world.stall(command.millis)
      case "wall":
        world.wallShift += command.millis
        return
      default: {
        const script = source.scripts[command.do]
        if (command.always) script.otherwise = command.go
        else script.next.push(command.go)
      }
    }
  }
}

/** Stacks cost much and are wanted only of what crashes: that is run again. */
export const runPlan = (plan: Plan, commands: ReadonlyArray<Command>, stacks = false): Violation | undefined => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = stacks ? 10 : 0
  const run = new Run(plan)
  try {
    return run.result(commands)
  } catch (error) {
    if (!stacks) return runPlan(plan, commands, true)
    run.world.fail("crash", Cause.pretty(Cause.die(error)))
    return run.world.violation
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}
