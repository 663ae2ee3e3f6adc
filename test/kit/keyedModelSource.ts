/** The items of all keys of a run: how each open and close goes, and a ledger of what became of them. */
import { Effect, type Scope } from "effect"
import type { Go, KeyPlan } from "./keyedModelPlan.ts"
import type { Ticks } from "./keyedModelTicks.ts"
import type { World } from "./world.ts"

export class Refused {
  readonly _tag = "Refused"
}

export const openTimeout = 20

/** One attempt to open, and the item that came of it. */
export class Thing {
  readonly key: number
  readonly number: number
  readonly startedAt: number
  state: "opening" | "failed" | "open" | "closing" | "closed" = "opening"
  /** It has something to close. */
  owes = false
  /** The pool has it. */
  delivered = false
  /** Until then it takes a place, whatever it does. */
  until: number
  /** Since when others count on its place. */
  goesSince = Infinity
  idleSince = NaN
  /** Who has it; and how many of them have it alone. */
  holders = 0
  alone = 0
  /** A reset is under way. */
  busy = false
  /** Leases that are over. */
  uses = 0
  /** Why nobody may be lent it any more. */
  banned: string | undefined = undefined
  /** The time by which it is to go, if it is idle. */
  goesBy = Infinity

  constructor(key: number, number: number, startedAt: number, until: number) {
    this.key = key
    this.number = number
    this.startedAt = startedAt
    this.until = until
  }

  get idle(): boolean {
    return this.state === "open" && this.delivered && this.holders === 0 && !this.busy
  }
}

interface Script {
  readonly next: Array<Go>
  otherwise: Go
}

const script = (): Script => ({ next: [], otherwise: "ok" })

export class KeyedSource {
  readonly things: Array<Thing> = []
  /** Those that may take a place still. */
  readonly present = new Set<Thing>()
  readonly scripts: ReadonlyArray<{ readonly opens: Script; readonly closes: Script }>
  readonly totals = { opened: 0, closed: 0, abandoned: 0, unopened: 0, failures: 0 }
  readonly traces: ReadonlyArray<Array<string>>
  /** Effects that wait for ever: their fibers are not the pools' fault. */
  stuck = 0
  /** Since then no open may start. */
  shutAt = Infinity
  private readonly plans: ReadonlyArray<KeyPlan>
  private readonly world: World
  private readonly ticks: Ticks
  /** Ends in the same millisecond as other things fall into their order by chance. */
  private readonly ties: boolean
  private readonly strict: boolean

  constructor(world: World, ticks: Ticks, plans: ReadonlyArray<KeyPlan>, ties: boolean, strict: boolean) {
    this.world = world
    this.ticks = ticks
    this.plans = plans
    this.ties = ties
    this.strict = strict
    this.scripts = plans.map(() => ({ opens: script(), closes: script() }))
    this.traces = plans.map(() => [])
  }

  trace(key: number, what: string): void {
    this.traces[key]!.push(`${this.world.now} ${what}`)
  }

  heal(): void {
    for (const script of this.scripts.flatMap(({ closes, opens }) => [opens, closes])) {
      script.next.length = 0
      script.otherwise = "ok"
    }
  }

  /** What takes a place now, of one key or of all. */
  count(key?: number): number {
    let count = 0
    for (const { key: of, until } of this.present) {
      if (until > this.world.now && (key === undefined || of === key)) count++
    }
    return count
  }

  of(key: number, which: (thing: Thing) => boolean): Array<Thing> {
    return Array.from(this.present).filter((thing) => thing.key === key && which(thing))
  }

  /** An open that the pool still counts on. */
  opening = ({ startedAt, state }: Thing): boolean => state === "opening" && startedAt + openTimeout > this.world.now

  /** At rest: what is over by time. */
  settle(): void {
    const { present, totals, world } = this
    for (const thing of present) {
      if (thing.state === "opening" && !this.opening(thing)) this.late(thing)
      if (thing.until > world.now) continue
      present.delete(thing)
      totals.abandoned++
      if (!thing.delivered) totals.unopened++
    }
  }

  private late(thing: Thing): void {
    if (thing.goesSince < Infinity) return
    thing.goesSince = thing.startedAt + openTimeout
    this.totals.failures++
  }

  private gone(thing: Thing): void {
    const { totals } = this
    this.settle()
    if (!this.present.delete(thing)) return
    if (thing.delivered) totals.closed++
  }

  /** The map begins to close. */
  shut(): void {
    this.shutAt = this.world.now
    for (const thing of this.present) {
      if (this.opening(thing)) thing.until = this.shutAt + this.plans[thing.key]!.closeTimeout
    }
  }

  acquire(key: number): Effect.Effect<Thing, Refused, Scope.Scope> {
    return Effect.suspend(() => {
      const { closeTimeout } = this.plans[key]!
      const { now } = this.world
      const thing = new Thing(key, this.things.length + 1, now, now + openTimeout + closeTimeout)
      const mine = this.things.reduce((count, each) => count + (each.key === key ? 1 : 0), 1)
      this.things.push(thing)
      this.present.add(thing)
      if (this.shutAt < Infinity && this.strict) this.world.fail("open after close", `of key ${key}`)
      this.trace(key, `opening ${mine}`)
      this.world.afterTask()
      return this.open(thing, mine, take(this.scripts[key]!.opens))
    })
  }

  private open(thing: Thing, mine: number, go: Go): Effect.Effect<Thing, Refused, Scope.Scope> {
    const { key } = thing
    const failed = () => {
      // Those that take too long have failed at the end of their time.
      if (this.opening(thing)) {
        if (this.shutAt === Infinity) this.totals.failures++
        thing.goesSince = this.world.now
        thing.until = this.world.now + this.plans[key]!.closeTimeout
      } else {
        this.late(thing)
      }
      thing.state = "failed"
      this.trace(key, `failed ${mine}`)
    }
    const opened = Effect.map(
      Effect.onError(go === "half" ? Effect.void : this.play(go, false), () =>
        Effect.sync(() => {
          failed()
          this.gone(thing)
        })),
      () => {
        thing.owes = true
        if (go === "half") return thing
        thing.delivered = this.opening(thing) && this.shutAt === Infinity
        thing.state = "open"
        if (thing.delivered) {
          this.totals.opened++
          thing.until = Infinity
        } else {
          this.late(thing)
        }
        thing.idleSince = this.world.now
        this.trace(key, `opened ${mine}`)
        this.world.afterTask()
        return thing
      }
    )
    const acquired = Effect.acquireRelease(opened, () => Effect.suspend(() => this.close(thing, mine)), {
      interruptible: true
    })
    return go === "half"
      ? Effect.andThen(acquired, Effect.andThen(Effect.sync(failed), Effect.fail(new Refused())))
      : acquired
  }

  private close(thing: Thing, mine: number): Effect.Effect<void> {
    const { key } = thing
    const { world } = this
    if (!thing.owes) world.fail("double close", `item ${thing.number} is closed twice`)
    if (thing.holders > 0 && this.shutAt === Infinity) world.fail("closed under a borrower", `item ${thing.number}`)
    thing.owes = false
    thing.state = "closing"
    if (thing.until === Infinity) {
      thing.goesSince = world.now
      thing.until = world.now + this.plans[key]!.closeTimeout
    }
    this.trace(key, `closing ${mine}`)
    world.afterTask()
    const closed = Effect.sync(() => {
      thing.state = "closed"
      this.trace(key, `closed ${mine}`)
      this.gone(thing)
    })
    return Effect.ensuring(Effect.orDie(this.play(take(this.scripts[key]!.closes), true)), closed)
  }

  readonly reset = (thing: Thing): Effect.Effect<void> =>
    Effect.suspend(() => {
      thing.busy = true
      return Effect.ensuring(
        this.wait(1),
        Effect.sync(() => {
          thing.busy = false
          thing.idleSince = this.world.now
        })
      )
    })

  private wait(millis: number): Effect.Effect<void> {
    if (this.ties) return Effect.sleep(millis)
    return Effect.callback((resume) => Effect.sync(this.ticks.after(millis, () => resume(Effect.void))))
  }

  private play(go: Go, closing: boolean): Effect.Effect<void, Refused> {
    switch (go) {
      case "ok":
        return Effect.void
      case "half":
      case "fail":
        return Effect.fail(new Refused())
      case "die":
        return Effect.die("broken")
      case "hang":
        return closing ? Effect.interruptible(Effect.never) : Effect.never
      case "stuck":
        return Effect.suspend(() => {
          this.stuck++
          return Effect.uninterruptible(Effect.never)
        })
      default:
        return "slow" in go ? this.wait(go.slow) : Effect.uninterruptible(this.wait(go.late))
    }
  }
}

const take = ({ next, otherwise }: Script): Go => next.shift() ?? otherwise
