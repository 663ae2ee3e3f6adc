/** Runs a pool through a sequence of commands and holds it to its contract at every step. */
import { Cause, Effect, Exit, Fiber, Schedule, Scope, Stream } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { Borrowers, isLost } from "./modelBorrowers.ts"
import { Listener } from "./modelEvents.ts"
import { checkSettled, checkStep, Fairness, idleOf, type Inside, insideOf, itemsOf } from "./modelInside.ts"
import { type Command, limits, type Plan, type Rule } from "./modelPlan.ts"
import { ModelSource, type Refused } from "./modelSource.ts"
import { Rng } from "./random.ts"
import { type Violation, World } from "./world.ts"

type Pool = QueuePool.QueuePool<unknown, Refused>

const retries = {
  none: undefined,
  finite: Schedule.spaced(limits.spaced).pipe(Schedule.upTo({ times: 2 })),
  now: Schedule.recurs(2),
  spaced: Schedule.spaced(limits.spaced),
  exponential: Schedule.exponential(5)
}

const policyOf = (rule: Rule, source: ModelSource): RecyclePolicy.RecyclePolicy<unknown> => {
  switch (rule) {
    case "idle":
      return RecyclePolicy.idle(limits.idle)
    case "age":
      return RecyclePolicy.age(limits.age)
    case "jitter":
      return RecyclePolicy.age(limits.age, { jitter: 0.5 })
    case "uses":
      return RecyclePolicy.uses(limits.uses)
    case "failed":
      return RecyclePolicy.failed
    case "lost":
      return RecyclePolicy.failedWith(isLost, { also: "all", reason: "lost" })
    case "lostOlder":
      return RecyclePolicy.failedWith(isLost, { also: "older", reason: "lost" })
    case "interrupted":
      return RecyclePolicy.interrupted
    case "when":
      return RecyclePolicy.when(({ uses }) => uses >= limits.uses, "uses")
    case "throws":
      return RecyclePolicy.when(({ moment, uses }) => {
        if (uses % 3 === 2 && moment !== "lend") throw new Error("no rule")
        return false
      })
    case "check":
      return RecyclePolicy.check((item) => Effect.map(source.check(item), (good) => good === false))
    case "recurs":
      return RecyclePolicy.schedule(Schedule.recurs(limits.uses))
    case "after":
      return RecyclePolicy.after(Schedule.spaced(limits.after)).pipe(RecyclePolicy.named("after"))
    case "both":
      return RecyclePolicy.all([RecyclePolicy.uses(1), RecyclePolicy.idle(limits.idle)])
  }
}

/** One run; `result` tells what it found. */
class Run {
  readonly world: World
  readonly source: ModelSource
  private readonly plan: Plan
  private readonly scope = Scope.makeUnsafe()
  private readonly fairness = new Fairness()
  private readonly listener: Listener
  private inside: Inside | undefined
  private pool: Pool | undefined
  private borrowers: Borrowers | undefined
  /** Idle items, by when they were first seen so. */
  private readonly resting = new WeakMap<object, readonly [idleSince: number, checkedAt: number, seenAt: number]>()
  private closing: Fiber.Fiber<void> | undefined
  private closedAt = NaN
  private closingSince = NaN
  /** Borrows until the pool was closed: there are no events after. */
  private asked = 0
  private stalled = 0
  private given = 0

  constructor(plan: Plan) {
    this.plan = plan
    this.world = new World(new Rng(plan.seed), plan.tasks, plan.maxOps)
    this.source = new ModelSource(this.world, plan.equal, plan.maxOps >= 2048)
    this.source.opens.next.push(...plan.opens)
    this.listener = new Listener(this.world, plan)
    this.world.afterTask = () => {
      if (this.inside === undefined) return
      if (this.inside.state.closed) this.borrowers?.noMore()
      checkStep(this.inside, plan, this.world)
      this.fairness.check(this.inside, this.world)
    }
  }

  result(commands: ReadonlyArray<Command>): Violation | undefined {
    const { world } = this
    if (!this.make()) return world.violation
    for (const command of commands) {
      this.given++
      this.run(command)
      if (command.turns === undefined) this.settled()
      else world.turns(command.turns)
      if (world.violation !== undefined) return world.violation
    }
    this.settled()
    this.recover()
    this.close()
    return world.violation
  }

  // ---- the pool

  private make(): boolean {
    const { plan, source, world } = this
    const options = {
      acquire: source.acquire,
      name: "model",
      min: plan.min,
      max: plan.max,
      warm: plan.warm as "eager",
      order: plan.order,
      borrowTimeout: plan.borrowTimeout,
      maxWaiters: plan.maxWaiters,
      openConcurrency: plan.openConcurrency,
      openTimeout: limits.open,
      retry: retries[plan.retry],
      check: plan.check ? source.check : undefined,
      checkAfter: plan.checkAfter,
      checkTimeout: limits.check,
      reset: plan.reset ? source.reset : undefined,
      resetTimeout: limits.reset,
      recycle: plan.rules.map((rule) => policyOf(rule, source)),
      sweep: plan.sweep,
      closeTimeout: limits.close,
      drainTimeout: plan.drainTimeout
    } satisfies QueuePool.Options<unknown, Refused, Scope.Scope>
    const making = world.fork(Scope.provide(QueuePool.make(options), this.scope))
    for (let waits = 0; waits < 40 && making.pollUnsafe() === undefined; waits++) world.advance(limits.open)
    const exit = making.pollUnsafe()
    if (exit !== undefined && Exit.isSuccess(exit)) {
      this.pool = exit.value
      const inside = this.inside = insideOf(exit.value)
      this.borrowers = new Borrowers(exit.value, inside, plan, world, source)
      world.fork(
        Stream.runForEach(exit.value.events, (event) => Effect.sync(() => void this.listener.heard.push(event)))
      )
      world.settle()
      this.listener.know(itemsOf(inside).map((item) => item.id))
      return true
    }
    // A warm-up that fails leaves nothing behind.
    if (plan.warm !== "eager" || plan.min === 0) world.fail("make", `a pool is not made: ${String(exit)}`)
    if (exit === undefined && !(plan.retry === "spaced" || plan.retry === "exponential")) world.fail("make", "it hangs")
    world.fork(Scope.close(this.scope, Exit.void))
    world.advance(plan.drainTimeout + limits.close + 100)
    this.checkLeftovers()
    return false
  }

  private settled(): void {
    const { borrowers, inside, listener, plan, world } = this
    world.settle()
    if (world.violation !== undefined) return
    checkSettled(inside!, plan, world)
    borrowers!.checkSettled()
    listener.check()
    this.checkDue()
    this.checkCost()
  }

  /** What is due by time is gone a millisecond later, and `min` is spared by idle rules alone. */
  private checkDue(): void {
    const { inside, plan, world } = this
    // What became idle after a stall has been due for long, and its alarm rings in a millisecond.
    if (world.now <= world.stalledAt + 1) return
    const { idle, lent } = inside!.state
    for (const item of idleOf(inside!)) {
      // A millisecond of its own, since it is idle again.
      const seen = this.resting.get(item) ?? [item.idleSince, item.checkedAt, world.now]
      this.resting.set(
        item,
        seen[0] === item.idleSince && seen[1] === item.checkedAt ? seen : [item.idleSince, item.checkedAt, world.now]
      )
      if (world.now <= this.resting.get(item)![2] + 1) continue
      const age = world.now - item.openedAt
      const resting = world.now - item.idleSince
      if (plan.rules.includes("age") && age > limits.age + 1) world.fail("overdue", `item ${item.id} is ${age} ms old`)
      if (plan.rules.includes("after") && age > limits.after + 1) {
        world.fail("overdue", `item ${item.id}: after, ${age}`)
      }
      if (plan.rules.includes("idle") && resting > limits.idle + 1 && idle.size + lent > plan.min) {
        world.fail("overdue", `item ${item.id} is idle for ${resting} ms, ${idle.size + lent} items, min ${plan.min}`)
      }
    }
  }

  /** Fibers are paid for by work. */
  private checkCost(): void {
    const { given, inside, source, world } = this
    const { closed, abandoned, recycled, waited } = inside!.state.totals
    const ended = closed + abandoned + Array.from(recycled.values()).reduce((a, b) => a + b, 0)
    const work = source.entries.length * 4 + ended * 4 + source.tasks * 4 + waited * 2 + given * 6
    if (world.forks > 60 + work + world.now) world.fail("forks", `${world.forks} fibers for work of ${work}`)
  }

  // ---- the commands

  private run(command: Command): void {
    const { borrowers, pool, source, world } = this
    const one = <T>(values: ReadonlyArray<T>, of: number): T | undefined => values[of % values.length]
    switch (command.do) {
      case "get":
        return void borrowers!.borrow(command.kind)
      case "interrupt": {
        const loan = one(borrowers!.unended.filter((loan) => loan.exit === undefined), command.of)
        return loan && borrowers!.interrupt(loan)
      }
      case "release": {
        const loan = one(borrowers!.leased, command.of)
        return loan && borrowers!.release(loan, command.end)
      }
      case "invalidate": {
        const items = itemsOf(this.inside!).filter(({ status }) => (status === "idle") === (command.what === "idle"))
        const item = command.what === "foreign" ? undefined : one(items, command.of)
        const entry = item && source.byScope.get(item.scope)
        const before = this.inside!.state.closing
        world.fork(pool!.invalidate(item === undefined ? { number: 1 } : item.value))
        if (item === undefined && this.inside!.state.closing !== before) world.fail("foreign", "an item is recycled")
        if (entry !== undefined && !this.plan.equal && this.plan.maxOps >= 2048) {
          borrowers!.ban((other) => other === entry, "invalidated")
        }
        return
      }
      case "clear":
        world.fork(pool!.clear)
        if (this.plan.maxOps >= 2048) {
          borrowers!.ban((entry) => entry.state === "live" || entry.state === "opening", "cleared")
        }
        return
      case "sweep":
        return void world.fork(pool!.sweep)
      case "close":
        return this.startClose()
      case "advance":
        return world.advance(command.millis)
      case "stall":
        this.stalled += command.millis
        return world.stall(command.millis)
      case "wall":
        world.wallShift += command.millis
        return
      default: {
        const script = source[command.do]
        if (command.always) script.otherwise = command.go
        else script.next.push(command.go)
      }
    }
  }

  private startClose(): void {
    if (this.closing !== undefined) return
    const { borrowers, source, world } = this
    source.shut = true
    this.closingSince = world.now
    this.stalled = 0
    this.closing = world.fork(Scope.close(this.scope, Exit.void))
    this.closing.addObserver(() => {
      this.closedAt = world.now
      this.asked = borrowers!.loans.length
    })
  }

  // ---- the end

  /** Once the source is well and every lease has ended, the pool serves `max` borrowers at once. */
  private recover(): void {
    const { plan, source, world } = this
    const { borrowers, inside, closing } = this
    if (world.violation !== undefined) return
    source.heal()
    this.releaseAll()
    this.settled()
    if (closing !== undefined) return
    const { state } = inside!
    const calm = () =>
      borrowers!.unended.length === 0 && state.closing === 0 && state.openings.size === 0 && state.lent === 0 &&
      (state.lazy || plan.rules.length > 0 || state.idle.size >= plan.min)
    if (!this.until(calm, true)) {
      return world.fail("recovery", `${JSON.stringify(state.counts())}, ${borrowers!.unended.length} borrowers unended`)
    }
    if (plan.borrowTimeout === 0) return
    // One after the other, because of `maxWaiters`, and again when a retry's delay outlasts `borrowTimeout`.
    for (let count = 1; count <= plan.max; count++) {
      let loan = borrowers!.borrow("use")
      const begun = () => {
        if (loan.over) loan = borrowers!.borrow("use")
        return loan.entry !== undefined && !loan.over
      }
      this.settled()
      if (this.until(begun, false)) continue
      world.fail("recovery", `borrower ${count} of max ${plan.max} gets none: ${JSON.stringify(state.counts())}`)
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
    for (
      let leased = borrowers!.leased;
      leased.length > 0 && world.violation === undefined;
      leased = borrowers!.leased
    ) {
      for (const loan of leased) borrowers!.release(loan, "ok")
      this.settled()
    }
  }

  private close(): void {
    const { borrowers, listener, plan, world } = this
    if (world.violation !== undefined) return
    this.startClose()
    this.settled()
    world.advance(plan.drainTimeout + limits.close + 2)
    const took = this.closedAt - this.closingSince
    // A sleep of nothing is one of a millisecond.
    if (!(took <= Math.max(1, plan.drainTimeout) + limits.close + this.stalled)) {
      return world.fail("close", `it takes ${took} ms, drainTimeout is ${plan.drainTimeout}`)
    }
    this.releaseAll()
    const late = borrowers!.borrow("use")
    this.settled()
    if (late.exit === undefined || borrowers!.unended.length > 0) world.fail("close", "a borrower is left")
    world.advance(200)
    listener.check()
    this.checkLeftovers()
    this.checkBooks()
  }

  private checkLeftovers(): void {
    const { source, world } = this
    if (world.sleeping > 0) world.fail("leftovers", `${world.sleeping} timers`)
    if (world.fibers !== source.stuck) world.fail("leftovers", `${world.fibers} fibers, ${source.stuck} of them stuck`)
    for (const entry of source.entries) {
      if (entry.owes) world.fail("leak", `item ${entry.number} is ${entry.state} and was never closed`)
    }
  }

  private checkBooks(): void {
    const { inside, listener, world } = this
    const { state } = inside!
    const { borrowed, returned } = state.totals
    const { closing, idle, lent, opening, waiting } = state.counts()
    if (idle + lent + opening + closing + waiting > 0) world.fail("books", JSON.stringify(state.counts()))
    if (listener.living > 0) world.fail("books", `${listener.living} items live on in the events`)
    const takenBack = listener.heard.filter(({ _tag }) => _tag === "TakenBack").length
    if (borrowed !== returned + takenBack) {
      world.fail("books", `${borrowed} borrowed, ${returned} returned, ${takenBack} taken back`)
    }
    const told = listener.lent + listener.refused
    // A fiber that yields can be interrupted before it comes to ask, and one whose item is taken back may hear of it when
    // the pool is closed and tells nothing more.
    const seized = state.totals.recycled.get("taken back") ?? 0
    if (told > this.asked || (told + seized < this.asked && this.plan.maxOps >= 2048)) {
      world.fail("one end", `${this.asked} borrows, ${listener.lent} lent, ${listener.refused} refused`)
    }
  }
}

export const runPlan = (plan: Plan, commands: ReadonlyArray<Command>): Violation | undefined => {
  const run = new Run(plan)
  try {
    return run.result(commands)
  } catch (error) {
    run.world.fail("crash", Cause.pretty(Cause.die(error)))
    return run.world.violation
  }
}
