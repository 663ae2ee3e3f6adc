/** A map of pools under one total, run through a sequence of commands and held to its contract at every step. */
import { Effect, Exit, Scope, Stream } from "effect"
import { Capacity } from "effect-queuepool"
import { permitsOf } from "../../src/internal/capacities.ts"
import { exits, KeyedBorrowers, type Pool, type Things } from "./keyedModelBorrowers.ts"
import { KeyedEvents } from "./keyedModelEvents.ts"
import { KeyedInside } from "./keyedModelInside.ts"
import { drainTimeout, makeKeyed } from "./keyedModelMap.ts"
import { all, type Command, type KeyedPlan, type KeyPlan } from "./keyedModelPlan.ts"
import { KeyedRest } from "./keyedModelRest.ts"
import { KeyedSource, openTimeout } from "./keyedModelSource.ts"
import { Ticks } from "./keyedModelTicks.ts"
import { Rng } from "./random.ts"
import { type Violation, World } from "./world.ts"

/** Somebody who has the pool of a key, once they have it. */
interface Pin {
  readonly key: number
  readonly scope: Scope.Closeable
  pool: Pool | undefined
  /** Nothing more is heard of it. */
  over: boolean
}

export interface How {
  /** No open of this key ever ends. */
  readonly frozen?: number
  /** Nothing is left to chance. */
  readonly steady?: boolean
}

/** Always the same number. */
class Even extends Rng {
  override next(): number {
    return 0.5
  }
}

export class KeyedRun {
  readonly world: World
  readonly source: KeyedSource
  private readonly plans: ReadonlyArray<KeyPlan>
  private readonly ticks: Ticks
  private readonly borrowers: KeyedBorrowers
  private readonly inside: KeyedInside
  private readonly rest: KeyedRest
  private readonly events: KeyedEvents | undefined
  private readonly map: Things
  private readonly scope = Scope.makeUnsafe()
  private readonly pins: Array<Pin> = []
  private readonly keys: ReadonlyArray<number>
  private readonly frozen: number | undefined
  private readonly plan: KeyedPlan
  private closedAt = NaN
  /** What became of each key's borrowers and items until the end of the commands, and a while after. */
  lives: ReadonlyArray<ReadonlyArray<string>> = []

  constructor(plan: KeyedPlan, { frozen, steady = false }: How = {}) {
    this.plan = plan
    this.frozen = frozen
    this.plans = plan.keys.map((each) => each ?? plan.common)
    this.keys = plan.keys.map((_, key) => key)
    const strict = plan.maxOps === 2048
    const world = this.world = new World(steady ? new Even(0) : new Rng(plan.seed), plan.tasks, plan.maxOps)
    const ticks = this.ticks = new Ticks(world)
    const source = this.source = new KeyedSource(world, ticks, this.plans, !steady, strict)
    const borrowers = this.borrowers = new KeyedBorrowers(this.plans, world, ticks, source, strict)
    const outer = plan.outer === 0
      ? undefined
      : this.now(Capacity.make({ name: "outer", permits: plan.outer, fairness: plan.fairness }))
    this.map = this.now(Scope.provide(makeKeyed(plan, source, this.keyOf, outer), this.scope))
    const context = {
      map: this.map,
      plans: this.plans,
      times: plan.times,
      world,
      source,
      borrowers,
      name: this.name,
      keyOf: this.keyOf,
      strict,
      pins: (key: number) =>
        this.pins.reduce((sum, pin) => sum + (pin.key === key && pin.pool !== undefined ? 1 : 0), 0)
    }
    const inside = this.inside = new KeyedInside(context, outer && permitsOf(outer)[0])
    this.rest = new KeyedRest(context, inside)
    this.events = plan.listens ? new KeyedEvents(context) : undefined
    if (this.events !== undefined) {
      world.fork(Stream.runForEach(this.map.events, (event) => Effect.sync(() => this.events!.hear(event))))
      world.settle()
    }
    if (frozen !== undefined) source.scripts[frozen]!.opens.otherwise = "stuck"
    world.afterTask = () => inside.check()
  }

  /** Another value each time, where keys are compared by what is in them. */
  private readonly name = (key: number): unknown => this.plan.deep ? { shard: key, of: "abcde"[key] } : "abcde"[key]

  private readonly keyOf = (name: unknown): number =>
    typeof name === "string" ? "abcde".indexOf(name) : (name as { readonly shard: number }).shard

  private now<A, E>(effect: Effect.Effect<A, E>): A {
    const fiber = this.world.fork(effect)
    this.world.settle()
    const exit = fiber.pollUnsafe()
    if (exit === undefined || Exit.isFailure(exit)) throw new Error(`not made: ${String(exit)}`)
    return exit.value
  }

  // ---- commands

  result(commands: ReadonlyArray<Command>): Violation | undefined {
    const { world } = this
    for (const command of commands) {
      this.run(command)
      this.inside.check()
      if (command.turns === undefined) this.settled()
      else world.turns(command.turns)
      if (world.violation !== undefined) return world.violation
    }
    this.settled()
    for (let round = 0; round < 3; round++) {
      this.endAll()
      this.settled()
      this.ticks.advance(100)
    }
    this.lives = this.source.traces.map((trace) => trace.slice())
    this.finish()
    return world.violation
  }

  private calm = true

  private settled(): void {
    this.world.settle()
    if (this.world.violation !== undefined) return
    this.calm = true
    // What a fiber does as it starts is no task.
    this.inside.check()
    this.rest.check()
    this.events?.check()
  }

  private run(command: Command): void {
    const { borrowers, map, name, source, world } = this
    const { key } = command
    const calm = this.calm
    this.calm = false
    const only: [key?: unknown] = key === all ? [] : [name(key)]
    const concerned = key === all ? this.keys : [key]
    const pin = this.pins.find((pin) => pin.key === key && pin.pool !== undefined)
    switch (command.do) {
      case "get":
        return borrowers.borrow(map, () => name(key), key, command.kind, command.fate, pin?.pool)
      case "end":
        return borrowers.some(key, command.of, ({ end }) => end !== undefined)?.end!(exits[command.exit])
      case "interrupt":
        return borrowers.some(key, command.of, () => true)?.fiber!.interruptUnsafe()
      case "pin":
        return this.pin(key)
      case "unpin":
        return pin && this.unpin(pin)
      case "invalidate": {
        const of = this.keys.find((other) => (other === key) !== command.foreign && borrowers.leases(other) > 0)
        const borrower = of === undefined ? undefined : borrowers.some(of, command.of, ({ end }) => end !== undefined)
        if (borrower === undefined) return
        if (!command.foreign) borrower.thing!.banned ??= "invalidated"
        return void world.fork(map.invalidate(name(key), borrower.thing!))
      }
      case "clear":
        if (calm) { for (const each of concerned) this.ban(each, "cleared") }
        return void world.fork(map.clear(...only))
      case "clearWith": {
        const { idle, over } = command
        for (const each of calm ? concerned : []) {
          for (const thing of source.of(each, ({ idle }) => idle)) {
            thing.goesBy = Math.min(thing.goesBy, world.now + over)
          }
        }
        return void world.fork(map.clearWith({ ...(idle ? { only: "idle" } : {}), over }, ...only))
      }
      case "sweep":
        return void world.fork(map.sweep(...only))
      case "suspend":
      case "resume":
        return void (pin && world.fork(pin.pool![command.do]))
      case "resize":
        return void (pin && world.fork(pin.pool!.resize({ min: command.min, max: command.max })))
      case "total":
        return void world.fork(map.resize(command.maxTotal))
      case "opens":
      case "closes": {
        if (command.do === "opens" && key === this.frozen) return
        const script = source.scripts[key]![command.do]
        if (command.always) script.otherwise = command.go
        else script.next.push(command.go)
        return
      }
      case "close":
        return this.close()
      case "advance":
        return this.ticks.advance(command.millis)
    }
  }

  /** None of them may be lent again. */
  private ban(key: number, why: string): void {
    for (const thing of this.source.of(key, ({ delivered, state }) => delivered && state === "open")) {
      thing.banned ??= why
    }
  }

  private pin(key: number): void {
    const pin: Pin = { key, scope: Scope.makeUnsafe(), pool: undefined, over: false }
    this.pins.push(pin)
    const got = Effect.map(Scope.provide(this.map.pool(this.name(key)), pin.scope), (pool) => {
      const other = this.pins.find((each) => each.key === key && each !== pin && each.pool !== undefined)?.pool
      if (other !== undefined && other !== pool) this.world.fail("two pools", `of key ${key}`)
      pin.pool = pool
    })
    this.world.fork(Effect.onError(got, () => Effect.sync(() => void (pin.over = true))))
  }

  private unpin(pin: Pin): void {
    this.borrowers.usedAt[pin.key] = this.borrowers.endedAt[pin.key] = this.world.now
    pin.pool = undefined
    pin.over = true
    this.world.fork(Scope.close(pin.scope, Exit.void))
  }

  // ---- the end

  private close(): void {
    const { scope, source, world } = this
    if (source.shutAt < Infinity) return
    source.shut()
    world.fork(Scope.close(scope, Exit.void)).addObserver(() => {
      this.closedAt = world.now
    })
  }

  private endAll(): void {
    for (const { end } of this.borrowers.byKey.flat()) end?.(Exit.void)
    for (const pin of this.pins) if (pin.pool !== undefined) this.unpin(pin)
  }

  private finish(): void {
    const { borrowers, plan, source, ticks, world } = this
    const broken = () => world.violation !== undefined
    source.heal()
    if (this.frozen !== undefined) source.scripts[this.frozen]!.opens.otherwise = "stuck"
    if (source.shutAt === Infinity) {
      for (const key of this.keys) {
        if (this.inside.find(key) === undefined) continue
        borrowers.usedAt[key] = borrowers.endedAt[key] = world.now
        world.fork(Effect.scoped(Effect.flatMap(this.map.pool(this.name(key)), (pool) => pool.resume)))
      }
    }
    // Whoever has something gives it back, and each of those who wait is served or ends in time.
    const patient = () => borrowers.byKey.some((each) => each.some(({ over }) => !over))
    // An open that is stuck keeps the only permit for its time and that of its close, which is 1.5 s.
    for (let round = 0; round < 100 && (round < 4 || patient()) && !broken(); round++) {
      this.endAll()
      this.settled()
      ticks.advance(40)
    }
    this.settled()
    if (broken()) return
    if (this.frozen === undefined) this.checkUnused()
    else for (const { fiber } of borrowers.byKey.flat()) fiber!.interruptUnsafe()
    this.settled()
    if (broken()) return
    const early = !Number.isNaN(this.closedAt)
    this.close()
    const allowed = drainTimeout + Math.max(...this.plans.map(({ closeTimeout }) => closeTimeout))
    ticks.advance(allowed + openTimeout + 2)
    const took = this.closedAt - source.shutAt
    if (!early && !(took <= allowed)) world.fail("close", `it takes ${took} ms of ${allowed}`)
    if (broken()) return
    this.inside.check()
    this.inside.checkLeft()
    this.events?.checkEnd()
    if (world.sleeping > 0) world.fail("leftovers", `${world.sleeping} timers`)
    if (world.fibers !== source.stuck) world.fail("leftovers", `${world.fibers} fibers, ${source.stuck} of them stuck`)
    const lost = source.things.find(({ owes }) => owes)
    if (lost !== undefined && plan.maxOps === 2048) {
      world.fail("leak", `item ${lost.number} of key ${lost.key} is ${lost.state}`)
    }
  }

  /** Nobody wants anything any more: each key is forgotten in its time, and with the last goes all that there was. */
  private checkUnused(): void {
    const { borrowers, inside, plan, plans, source, ticks, world } = this
    const left = borrowers.byKey.flat().find(({ over }) => !over)
    if (left !== undefined) world.fail("late", `borrower ${left.number} of key ${left.key} is still there`)
    if (source.shutAt < Infinity) return
    // A refill that comes to be after its time is over has another time to live.
    const most = Math.max(...plans.map(({ closeTimeout }) => closeTimeout)) + openTimeout + 1
    if (plan.times.some((time) => time === Infinity)) return
    ticks.advance(Math.max(...plan.times) + most)
    this.settled()
    if (world.violation !== undefined) return
    if (inside.watched.size > 0) {
      return world.fail("unused", `of ${plans.length} keys ${inside.watched.size} are there without end`)
    }
    const own = plan.listens ? 1 : 0
    if (world.sleeping > 0) world.fail("remains", `${world.sleeping} timers`)
    if (world.fibers !== source.stuck + own) {
      world.fail("remains", `${world.fibers - own} fibers, ${source.stuck} of them stuck`)
    }
  }
}

export const runKeyed = (plan: KeyedPlan, commands: ReadonlyArray<Command>): Violation | undefined =>
  new KeyedRun(plan).result(commands)
