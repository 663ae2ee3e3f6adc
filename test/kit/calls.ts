/**
 * A pool whose user's functions call back into it in the middle of whatever it does: they borrow, give
 * back, interrupt, end items, and change the pool. No law of order holds then. What does: the data
 * agree after every task, nothing that could go on stands still, and in the end nothing is left.
 */
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { drawPlan, drawTurnout } from "./modelDraw.ts"
import { checkLeftovers } from "./modelEnd.ts"
import { ModelHooks } from "./modelHooks.ts"
import { type Inside, insideOf, itemsOf, viewOf } from "./modelInside.ts"
import { optionsOf } from "./modelOptions.ts"
import { limits, type Plan } from "./modelPlan.ts"
import { checkSharing } from "./modelSharing.ts"
import { ModelSource, type Refused } from "./modelSource.ts"
import { checkSettled, checkStep } from "./modelState.ts"
import { Rng } from "./random.ts"
import { type Violation, World } from "./world.ts"

type Pool = QueuePool.QueuePool<unknown, Refused>

// A function that is called by what another does may do something too, but no deeper.
const deepest = 2
const mostBorrowers = 24

class Calls {
  readonly world: World
  private readonly plan: Plan
  private readonly rng: Rng
  private readonly source: ModelSource
  private readonly hooks: ModelHooks
  private readonly scope = Scope.makeUnsafe()
  private made: { readonly pool: Pool; readonly inside: Inside } | undefined
  private armed = false
  private depth = 0
  private closing = false
  /** Of what `use` was given, those that go on only when they are told. */
  private readonly held: Array<() => void> = []
  private readonly scopes: Array<Scope.Closeable> = []
  private fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  /** By the numbers of their fibers, those who want an item for themselves. */
  private readonly lonely = new Set<number>()

  constructor(seed: number) {
    // Equal items, and what fails for ever, are the model's.
    const plan = this.plan = { ...drawPlan(seed), equal: false }
    this.rng = new Rng(seed ^ 0x2545f491)
    const world = this.world = new World(new Rng(seed), plan.tasks, plan.maxOps)
    this.source = new ModelSource(world, plan)
    this.hooks = new ModelHooks(world, this.source)
    world.afterTask = () => this.check()
  }

  private check(): void {
    // A function is called in the middle of a step.
    if (this.made === undefined || this.depth > 0) return
    const { inside } = this.made
    const view = viewOf(inside)
    checkStep(inside, view, this.plan, this.world)
    if (this.plan.concurrency > 1) {
      checkSharing(inside, view, this.plan, this.world, (fiber) => this.lonely.has(fiber))
    }
  }

  result(steps: number): Violation | undefined {
    const { rng, world } = this
    if (!this.make()) return world.violation
    this.armed = true
    for (let step = 0; step < steps && world.violation === undefined; step++) {
      this.step()
      this.check()
      if (rng.chance(0.3)) world.turns(rng.int(4))
      else this.settled()
    }
    if (world.violation === undefined) this.end()
    return world.violation
  }

  private make(): boolean {
    const { plan, world } = this
    const making = world.fork(Scope.provide(QueuePool.make(this.options()), this.scope))
    for (let waits = 0; waits < 40 && making.pollUnsafe() === undefined; waits++) world.advance(limits.open)
    const exit = making.pollUnsafe()
    // The model looks at those that cannot be made.
    if (exit === undefined || Exit.isFailure(exit)) return false
    const pool = exit.value
    this.made = { pool, inside: insideOf(pool) }
    if (plan.listens) world.fork(Stream.runForEach(pool.events, () => Effect.void))
    this.settled()
    return true
  }

  private options() {
    const { plan, source } = this
    const options = optionsOf(plan, source, this.hooks)
    const calling = <F extends ((...args: ReadonlyArray<never>) => unknown) | undefined>(f: F): F =>
      (f && ((...args: ReadonlyArray<never>) => {
        this.called()
        const result = f(...args)
        return Effect.isEffect(result)
          ? Effect.onInterrupt(result as Effect.Effect<unknown>, () => Effect.sync(() => this.called()))
          : result
      })) as F
    const asked = RecyclePolicy.when(() => {
      this.called()
      return this.armed && this.rng.chance(0.05)
    }, "asked")
    return {
      ...options,
      acquire: Effect.andThen(Effect.sync(() => this.called()), source.acquire),
      check: calling(options.check),
      reset: calling(options.reset),
      monitor: calling(options.monitor),
      onAcquire: calling(options.onAcquire),
      onBorrow: calling(options.onBorrow),
      onReturn: calling(options.onReturn),
      onRelease: calling(options.onRelease),
      recycle: [asked, ...options.recycle]
    }
  }

  /** A function of the user's is called: now and then it does something. */
  private called(): void {
    if (!this.armed || this.depth === deepest || !this.rng.chance(0.15)) return
    this.depth++
    try {
      this.act()
    } finally {
      this.depth--
    }
  }

  private step(): void {
    const { rng, source, world } = this
    const what = rng.weighted([[6, "act"], [3, "advance"], [1, "stall"], [2, "script"]] as const)
    switch (what) {
      case "act":
        return this.act()
      case "advance":
        return world.advance(rng.pick([1, 4, 6, 10, 20, 40, 300]))
      case "stall":
        return world.stall(rng.pick([1, 5, 30]))
      case "script":
        source.scripts[
          rng.pick([
            "opens",
            "closes",
            "checks",
            "resets",
            "monitors",
            "onAcquire",
            "onBorrow",
            "onReturn",
            "onRelease"
          ])
        ].next.push(drawTurnout(rng))
    }
  }

  private act(): void {
    const { rng, source, world } = this
    const { inside, pool } = this.made!
    const what = rng.weighted(
      [
        [10, "borrow"],
        [4, "get"],
        [10, "go on"],
        [4, "give back"],
        [3, "interrupt"],
        [3, "invalidate"],
        [3, "kill"],
        [2, "resize"],
        [1, "suspend"],
        [2, "resume"],
        [1, "clear"],
        [1, "sweep"],
        [1, "swap"],
        [0.4, "close"]
      ] as const
    )
    const one = <T>(values: ReadonlyArray<T>): T | undefined => values[rng.int(Math.max(1, values.length))]
    switch (what) {
      case "borrow":
        return this.borrow(false)
      case "get":
        return this.borrow(true)
      case "go on":
        return this.held.splice(rng.int(Math.max(1, this.held.length)), 1)[0]?.()
      case "give back": {
        const [scope] = this.scopes.splice(rng.int(Math.max(1, this.scopes.length)), 1)
        return scope && void world.fork(Scope.close(scope, Exit.void))
      }
      case "interrupt":
        return one(this.fibers)?.interruptUnsafe()
      case "invalidate": {
        const item = one(itemsOf(inside))
        return item && void world.fork(pool.invalidate(item.value))
      }
      case "kill": {
        const item = one(itemsOf(inside))
        return item && source.byScope.get(item.scope)?.kill?.(Exit.void)
      }
      case "resize": {
        const max = 1 + rng.int(4)
        return void world.fork(pool.resize({ max, min: rng.int(max + 1), minIdle: 0, maxIdle: Infinity }))
      }
      case "suspend":
        return void world.fork(pool.suspend)
      case "resume":
        return void world.fork(pool.resume)
      case "clear":
        return void world.fork(pool.clearWith({ over: rng.pick([0, 20]) }))
      case "sweep":
        return void world.fork(pool.sweep)
      case "swap":
        return void world.fork(Effect.exit(pool.swap(source.acquire, { over: rng.pick([0, 20]) })))
      case "close":
        return this.close()
    }
  }

  private close(): void {
    if (this.closing) return
    this.closing = true
    this.world.fork(Scope.close(this.scope, Exit.void))
  }

  private borrow(scoped: boolean): void {
    this.fibers = this.fibers.filter((fiber) => fiber.pollUnsafe() === undefined)
    if (this.fibers.length >= mostBorrowers || this.scopes.length >= mostBorrowers) return
    const { lonely, rng } = this
    const { pool } = this.made!
    const end = rng.weighted([[3, "held"], [2, "at once"], [1, "fails"]] as const)
    // A group that comes as another is asking item by item may block it until the time of both is over.
    const kind = rng.weighted(
      [[6, "shared"], [2, "alone"], [1, "available"], [this.depth > 0 ? 0 : 2, "several"]] as const
    )
    const many = 1 + rng.int(3)
    const alone = kind === "alone" || kind === "several"
    const mark = () => void (alone && lonely.add(Fiber.getCurrent()!.id))
    const body = (): Effect.Effect<void, string> => {
      this.called()
      return end === "at once" ? Effect.void : end === "fails" ? Effect.fail("failed") : Effect.callback((resume) => {
        this.held.push(() => resume(Effect.void))
      })
    }
    const marked = () => {
      // It may be run in a fiber of its own.
      mark()
      return Effect.suspend(body)
    }
    const scope = Scope.makeUnsafe()
    const asks = scoped
      ? Scope.provide(
        kind === "several"
          ? pool.getN(many)
          : kind === "alone"
          ? pool.getExclusive
          : kind === "available"
          ? pool.getIfAvailable
          : pool.get,
        scope
      )
      : kind === "several"
      ? Effect.scoped(Effect.flatMap(pool.getN(many), marked))
      : kind === "alone"
      ? pool.useExclusive(marked)
      : kind === "available"
      ? pool.useIfAvailable(marked)
      : pool.use(marked)
    if (scoped) this.scopes.push(scope)
    // It may have others come.
    const fiber = this.world.fork(Effect.andThen(Effect.sync(mark), asks))
    this.fibers.push(fiber)
  }

  private settled(): void {
    const { plan, world } = this
    const { inside } = this.made!
    world.settle()
    if (world.violation === undefined) checkSettled(inside, plan, world)
  }

  /** Once nobody calls back and the source is well, all that was begun ends, and the pool serves. */
  private end(): void {
    const { plan, source, world } = this
    const { inside: { state }, pool } = this.made!
    this.armed = false
    source.heal()
    world.fork(pool.resize({ min: plan.min, max: plan.max, minIdle: plan.minIdle, maxIdle: plan.maxIdle }))
    world.fork(pool.resume)
    const unended = () => this.fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length
    const calm = () => unended() === 0 && state.leases === 0 && state.closing === 0 && state.openings.size === 0
    this.settled()
    for (
      let passed = 0, step = 1;
      world.violation === undefined && !calm();
      passed += step, step = Math.min(2 * step, 1000)
    ) {
      if (passed > 20_000) {
        return world.fail("recovery", `${JSON.stringify(state.counts())}, ${unended()} borrowers unended`)
      }
      for (const goOn of this.held.splice(0)) goOn()
      for (const scope of this.scopes.splice(0)) world.fork(Scope.close(scope, Exit.void))
      this.settled()
      world.advance(step)
      this.settled()
    }
    if (world.violation !== undefined) return
    if (!this.closing && plan.borrowTimeout > 0) this.serve(pool)
    this.close()
    world.settle()
    world.advance(plan.drainTimeout + limits.close + 200)
    checkLeftovers(world, source, state.totals.abandoned)
    const { idle, lent, opening, waiting } = state.counts()
    if (idle + lent + opening + waiting > 0) world.fail("books", JSON.stringify(state.counts()))
  }

  private serve(pool: Pool): void {
    let exit: Exit.Exit<unknown, unknown> | undefined
    for (let tries = 0; tries < 20 && (exit === undefined || Exit.isFailure(exit)); tries++) {
      const served = this.world.fork(pool.use(Effect.succeed))
      for (let passed = 0; passed < 20_000 && served.pollUnsafe() === undefined; passed += 500) this.world.advance(500)
      exit = served.pollUnsafe()
      // Where nobody may wait, what is swept now is there next time.
      this.world.advance(500)
    }
    if (exit === undefined || Exit.isFailure(exit)) this.world.fail("recovery", `nobody is served: ${String(exit)}`)
  }
}

export const runCalls = (seed: number, steps: number): Violation | undefined => {
  const calls = new Calls(seed)
  try {
    return calls.result(steps)
  } catch (error) {
    calls.world.fail("crash", error instanceof Error ? error.stack ?? error.message : String(error))
    return calls.world.violation
  }
}
