/** Runs a program of actors in a world of its own, whose schedule is chosen, and holds the pool to the contract at each task. */
import { Cause, Context, Effect, Exit, type Fiber, Scheduler, Scope, Stream } from "effect"
import { type PoolError, type PoolEvent, QueuePool } from "effect-queuepool"
import type { Act, Program } from "./actors.ts"
import { Fairness } from "./modelFairness.ts"
import { type Inside, insideOf, viewOf } from "./modelInside.ts"
import { checkSettled, checkStep } from "./modelState.ts"
import type { Rng } from "./random.ts"
import { Refused, Scripted, type Thing } from "./scripted.ts"
import { plainest } from "./shrink.ts"
import { type TaskOrder, type Violation, World } from "./world.ts"

type Pool = QueuePool.QueuePool<Thing, Refused>

class Broken {
  readonly _tag = "Broken"
}

class Actors {
  readonly world: World
  private readonly program: Program
  private readonly source: Scripted
  private readonly scope = Scope.makeUnsafe()
  private readonly fairness = new Fairness()
  private readonly fibers: Array<Fiber.Fiber<void>> = []
  /** By place. */
  private readonly interrupted = new Set<number>()
  private readonly invalidated = new Set<number>()
  /** Borrows that were begun, and ends of them that were told. */
  private asked = 0
  private told = 0
  /** Each fiber's last borrow: the order of arrival is of borrows. */
  private readonly borrows = new Map<number, number>()

  constructor(program: Program, rng: Rng, order: TaskOrder) {
    this.program = program
    this.world = new World(rng, order, 2048)
    const acts = program.actors.flat()
    const max = Math.max(program.max, ...acts.map((act) => act.do === "resize" ? act.max : 0))
    this.source = new Scripted({ max, concurrency: program.concurrency })
    this.source.opens.push(...program.opens)
  }

  run(sabotage?: (inside: Inside) => void): Violation | undefined {
    const { program, source, world } = this
    const pool = this.make()
    const inside = insideOf(pool)
    sabotage?.(inside)
    source.ledger.watch(pool)
    const plan = { seed: 0, ...plainest, ...program, maxOps: 2048, tasks: "any" } as const
    world.afterTask = () => {
      const view = viewOf(inside)
      checkStep(inside, view, plan, world)
      this.fairness.check(view, world, (fiber) => this.borrows.get(fiber)!)
      source.ledger.check()
      this.heed()
    }
    if (program.listens) this.listen(pool)
    world.settle()
    for (const [place, acts] of program.actors.entries()) this.fibers.push(this.start(place, acts, pool))
    // Opens that are slow, and refills of `min` after some that failed.
    for (const millis of [5, 5, 5, 5, 1000, 10_000, 10_000]) {
      world.settle()
      if (world.violation !== undefined) break
      checkSettled(inside, plan, world)
      world.advance(millis)
    }
    if (world.violation === undefined) this.atRest(pool)
    if (world.violation === undefined) this.end()
    return world.violation
  }

  private listen(pool: Pool): void {
    const hear = ({ _tag }: PoolEvent.PoolEvent) => {
      if (_tag === "Borrowed" || _tag === "BorrowFailed") this.told++
    }
    this.world.fork(Stream.runForEach(pool.events, (event) => Effect.sync(() => hear(event))))
  }

  private make(): Pool {
    const { program, scope, source, world } = this
    const { concurrency, max, min, openConcurrency, order } = program
    const making = world.fork(Scope.provide(
      QueuePool.make({
        acquire: source.acquire,
        max,
        min: Math.min(min, max),
        order,
        concurrency,
        openConcurrency,
        borrowTimeout: "Infinity",
        warm: "lazy",
        ...(program.check ? { check: () => Effect.yieldNow, checkAfter: 0 } : {}),
        ...(program.reset ? { reset: () => Effect.yieldNow } : {})
      }),
      scope
    ))
    world.settle()
    const exit = making.pollUnsafe()
    if (exit === undefined || Exit.isFailure(exit)) throw new Error("no pool")
    return exit.value
  }

  private start(place: number, acts: ReadonlyArray<Act>, pool: Pool): Fiber.Fiber<void> {
    const { context } = this.world
    const scheduler = Context.get(context, Scheduler.Scheduler)
    const own = Context.add(context, Scheduler.Scheduler, Object.create(scheduler) as Scheduler.Scheduler)
    // All of them exist before the first of them does anything.
    const acting = Effect.andThen(
      Effect.yieldNow,
      Effect.forEach(acts, (act) => this.act(act, place, pool), { discard: true })
    )
    const fiber = Effect.runForkWith(this.program.own ? own : context)(acting)
    fiber.addObserver((exit) => {
      if (Exit.isFailure(exit) && !(this.interrupted.has(place) && Cause.hasInterruptsOnly(exit.cause))) {
        this.world.fail("actor", `${place} ends with ${Cause.pretty(exit.cause)}`)
      }
    })
    return fiber
  }

  private act(act: Act, place: number, pool: Pool): Effect.Effect<void> {
    switch (act.do) {
      case "lease":
        return this.lease(act, pool)
      case "yield":
        return Effect.yieldNow
      case "interrupt":
        // Who interrupts himself does so in a later turn.
        return act.of === place ? Effect.yieldNow : Effect.sync(() => {
          this.interrupted.add(act.of)
          this.fibers[act.of]!.interruptUnsafe()
        })
      case "clear":
        return pool.clear
      case "resize":
        return Effect.orDie(pool.resize({ max: act.max, min: Math.min(this.program.min, act.max) }))
    }
  }

  private lease({ end, how, turns }: Act & { readonly do: "lease" }, pool: Pool): Effect.Effect<void> {
    // Who shares an item may have been handed it before another invalidated it.
    const { invalidated, program: { concurrency }, source: { ledger }, world } = this
    const body = (item: Thing) =>
      ledger.holding(
        item,
        Effect.gen(function*() {
          if (concurrency === 1 && invalidated.has(item.id)) world.fail("lent again", `item ${item.id} was invalidated`)
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          if (end === "invalidate") {
            invalidated.add(item.id)
            yield* pool.invalidate(item)
          }
          if (end === "fail") return yield* Effect.fail(new Broken())
        })
      )
    const borrow: Effect.Effect<void, Broken | Refused | PoolError.PoolError> = how === "use"
      ? pool.use(body)
      : Effect.scoped(Effect.flatMap(pool.get, body))
    const asked = Effect.withFiber<void, Broken | Refused | PoolError.PoolError>((fiber) => {
      this.borrows.set(fiber.id, ++this.asked)
      return borrow
    })
    // A failed open is told to one of those who wait, and it goes on.
    return Effect.catchCause(asked, (cause) => {
      const expected = this.program.opens.includes("die")
        ? Cause.hasDies(cause)
        : cause.reasons.some((reason) => Cause.isFailReason(reason) && reason.error instanceof Refused)
      const broken = cause.reasons.some((reason) => Cause.isFailReason(reason) && reason.error instanceof Broken)
      return expected || broken || isRefused(cause) ? Effect.void : Effect.failCause(cause as Cause.Cause<never>)
    })
  }

  /** What the ledger has noticed ends the run. */
  private heed(): void {
    const [note] = this.source.ledger.notes
    if (note !== undefined) this.world.fail("ledger", note)
  }

  /** Nothing is under way: everyone was served, or refused by an open that failed, or interrupted. */
  private atRest(pool: Pool): void {
    const { fibers, source, world } = this
    const waits = fibers.findIndex((fiber) => fiber.pollUnsafe() === undefined)
    if (waits >= 0) return world.fail("liveness", `actor ${waits} waits for ever`)
    Effect.runSync(Effect.ignore(source.ledger.atRest()))
    this.heed()
    if (this.program.listens && this.told !== this.asked) {
      world.fail("one end", `${this.asked} borrows, ${this.told} ends were told`)
    }
    const { borrowed, idle, opening, pending, returned, used } = Effect.runSync(pool.stats)
    if (pending + used + opening > 0 || borrowed !== returned) {
      world.fail("at rest", `${pending} wait, ${used} lent, ${opening} opening, ${borrowed} borrowed, ${returned} back`)
    }
    if (idle < this.program.min && this.asked > 0) {
      world.fail("min", `${idle} idle, min ${this.program.min}`)
    }
  }

  private end(): void {
    const { scope, source, world } = this
    world.fork(Scope.close(scope, Exit.void))
    world.advance(100)
    Effect.runSync(Effect.ignore(source.ledger.end()))
    this.heed()
    if (world.fibers > 0 || world.sleeping > 0) {
      world.fail("leftovers", `${world.fibers} fibers, ${world.sleeping} timers`)
    }
  }
}

const isRefused = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => Cause.isFailReason(reason) && reason.error instanceof Refused)

/** `sabotage` may break the pool, to see that it is noticed. */
export const runActors = (
  program: Program,
  rng: Rng,
  order: TaskOrder,
  sabotage?: (inside: Inside) => void
): Violation | undefined => new Actors(program, rng, order).run(sabotage)
