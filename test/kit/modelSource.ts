/** The items of a model run: how each open, close, check and reset goes, and a ledger of what became of them. */
import { Cause, Context, Effect, Exit, type Fiber, Scope } from "effect"
import type { Loan } from "./modelLoan.ts"
import { type Plan, type Scripted, strictly, type Turnout } from "./modelPlan.ts"
import type { World } from "./world.ts"

export class Refused {
  readonly _tag = "Refused"
}

/** One attempt to open, and the item that came of it. */
export class Entry {
  readonly number: number
  readonly value: unknown
  readonly scope: Scope.Scope
  readonly startedAt: number
  /** The way in which it is opened, see `Ways`. */
  readonly way: number
  state: "opening" | "failed" | "live" | "closing" | "closed" = "opening"
  /** It has something to close. */
  owes = false
  openedAt = NaN
  readonly holders = new Set<Loan>()
  /** It has left the pool, and is released when this closes. */
  keeper: Scope.Closeable | undefined = undefined
  /** It was lent, and has not been reset. */
  dirty = false
  /** When a check last passed. */
  checkedAt = -Infinity
  /** Leases that are over. */
  ended = 0
  /** Why it must not be lent any more, but to these, who have it or will have it by now. */
  banned: string | undefined = undefined
  spared: ReadonlySet<number> = new Set()
  /** Ends its monitor, as long as that watches. */
  kill: ((exit: Exit.Exit<void, Refused>) => void) | undefined = undefined
  /** Its monitor has ended. */
  dead = false
  /** It has had all its uses, and may stay until it is replaced. */
  tired = false
  /** The time by which it is to go; what is lent then goes when it comes back. */
  goesBy = Infinity

  constructor(number: number, value: unknown, scope: Scope.Scope, startedAt: number, way: number) {
    this.number = number
    this.value = value
    this.scope = scope
    this.startedAt = startedAt
    this.way = way
  }

  ban(why: string, spared: ReadonlyArray<number> = []): void {
    if (this.banned !== undefined) return
    this.banned = why
    this.spared = new Set(spared)
  }
}

/** The ways to acquire: 0 is the one that the pool began with, and each `swap` has one. */
export interface Ways {
  /** The last that was taken. */
  now: number
  /** They did not work. */
  readonly failed: Set<number>
  /** Nobody heard whether they did. */
  readonly uncertain: Set<number>
}

/** A queue of what is to happen next, and what happens when it is empty. */
export interface Script {
  readonly next: Array<Turnout>
  otherwise: Turnout
}

const script = (otherwise: Turnout = "ok"): Script => ({ next: [], otherwise })

export class ModelSource {
  readonly entries: Array<Entry> = []
  readonly byScope = new Map<Scope.Scope, Entry>()
  readonly scripts: Record<Scripted, Script> = {
    opens: script(),
    closes: script(),
    checks: script(),
    resets: script(),
    monitors: script("hang"),
    onAcquire: script(),
    onBorrow: script(),
    onReturn: script(),
    onRelease: script()
  }
  /** Effects that wait for ever: their fibers are not the pool's fault. */
  stuck = 0
  /** Checks, resets and hooks begun. */
  tasks = 0
  monitors = 0
  failures = 0
  readonly ways: Ways = { now: 0, failed: new Set(), uncertain: new Set() }
  /** No open may start any more. */
  shut = false
  private readonly world: World
  private readonly equal: boolean
  readonly strict: boolean

  constructor(world: World, plan: Plan) {
    this.world = world
    this.equal = plan.equal
    this.strict = strictly(plan)
    this.scripts.opens.next.push(...plan.opens)
  }

  heal(): void {
    for (const [name, one] of Object.entries(this.scripts)) {
      one.next.length = 0
      one.otherwise = name === "monitors" ? "hang" : "ok"
    }
  }

  readonly acquire: Effect.Effect<unknown, Refused, Scope.Scope> = Effect.withFiber((fiber) =>
    this.begin(fiber, 0, take(this.scripts.opens))
  )

  /** A new way to acquire: the first open is its trial, and goes as told. */
  way(way: number, trial: Turnout): Effect.Effect<unknown, Refused, Scope.Scope> {
    let tried: Entry | undefined
    return Effect.withFiber((fiber) => {
      if (tried !== undefined) {
        if (tried.openedAt > this.world.now || Number.isNaN(tried.openedAt)) {
          this.world.fail("swap", `way ${way} is taken, and was not tried`)
        }
        return this.begin(fiber, way, take(this.scripts.opens))
      }
      const opening = this.begin(fiber, way, trial)
      tried = this.entries.at(-1)
      return opening
    })
  }

  private begin(
    { context }: Fiber.Fiber<unknown, unknown>,
    way: number,
    go: Turnout
  ): Effect.Effect<unknown, Refused, Scope.Scope> {
    const { ways, world } = this
    const number = this.entries.length + 1
    const scope = Context.getUnsafe(context, Scope.Scope)
    const entry = new Entry(number, this.equal ? "item" : { number }, scope, world.now, way)
    this.entries.push(entry)
    this.byScope.set(scope, entry)
    // What nobody heard of may have been the last.
    if (way < ways.now && !ways.uncertain.has(way)) {
      // It may have been on its way when the new one was taken, and then it goes on arrival.
      entry.ban("opened in an old way")
    }
    if (ways.failed.has(way)) world.fail("swap", `attempt ${number} is by way ${way}, which has failed`)
    if (this.shut && this.strict) {
      world.fail("open after close", `attempt ${number} starts when the pool is closing`)
    }
    world.afterTask()
    return this.open(entry, go)
  }

  private open(entry: Entry, go: Turnout): Effect.Effect<unknown, Refused, Scope.Scope> {
    const close = (exit: Exit.Exit<unknown, unknown>) => Effect.suspend(() => this.close(entry, exit))
    const failed = Effect.sync(() => {
      entry.state = "failed"
      this.failures++
    })
    if (go === "half") {
      const half = Effect.sync(() => void (entry.owes = true))
      return Effect.andThen(
        Effect.acquireRelease(half, (_, exit) => close(exit)),
        Effect.andThen(failed, Effect.fail(new Refused()))
      )
    }
    const opened = Effect.map(Effect.onError(this.play(go), () => failed), () => {
      entry.state = "live"
      entry.owes = true
      entry.openedAt = this.world.now
      this.world.afterTask()
      return entry.value
    })
    return Effect.acquireRelease(opened, (_, exit) => close(exit), { interruptible: true })
  }

  private close(entry: Entry, _exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    if (!entry.owes) this.world.fail("double close", `item ${entry.number} is closed twice`)
    if (entry.keeper !== undefined) this.world.fail("detach", `item ${entry.number} is closed under who keeps it`)
    entry.owes = false
    entry.state = "closing"
    entry.ban("closed")
    this.world.afterTask()
    const closed = Effect.sync(() => void (entry.state = "closed"))
    return Effect.ensuring(Effect.orDie(this.play(take(this.scripts.closes), true)), closed)
  }

  readonly check = (value: unknown): Effect.Effect<unknown, unknown> =>
    this.look("checked", value, take(this.scripts.checks))

  readonly reset = (value: unknown): Effect.Effect<unknown, unknown> =>
    this.look("reset", value, take(this.scripts.resets))

  /** Equal items cannot be told apart by their values. */
  entryOf(value: unknown): Entry | undefined {
    return this.equal ? undefined : this.entries[(value as { readonly number: number }).number - 1]
  }

  private look(what: string, value: unknown, go: Turnout): Effect.Effect<unknown, unknown> {
    this.tasks++
    const entry = this.entryOf(value)
    if (entry !== undefined && entry.holders.size > 0) {
      this.world.fail("used while lent", `item ${entry.number} is ${what}`)
    }
    if (entry !== undefined && entry.state !== "live") {
      this.world.fail("used after close", `item ${entry.number} is ${what}`)
    }
    if (entry !== undefined && what === "reset") entry.dirty = false
    // A reset begins in the middle of a return.
    if (what === "checked") this.world.afterTask()
    const ended = (exit: Exit.Exit<unknown, unknown>) =>
      Effect.sync(() => {
        if (entry === undefined) return
        if (Exit.isSuccess(exit)) entry.checkedAt = this.world.now
        else if (!Cause.hasInterruptsOnly(exit.cause)) entry.ban(`${what} in vain`)
      })
    if (go === "half") {
      if (what === "checked") entry?.ban("checked in vain")
      return Effect.succeed(what !== "checked")
    }
    return Effect.onExit(this.play(go), ended)
  }

  play(go: Turnout, closing = false): Effect.Effect<void, Refused> {
    switch (go) {
      case "ok":
      case "half":
        return Effect.void
      case "fail":
        return Effect.fail(new Refused())
      case "die":
        return Effect.die("broken")
      case "hang":
        // No finalizer is interruptible.
        return closing ? this.counted(Effect.never) : Effect.never
      case "stuck":
        return this.counted(Effect.uninterruptible(Effect.never))
      default:
        return "slow" in go ? Effect.sleep(go.slow) : Effect.uninterruptible(Effect.sleep(go.late))
    }
  }

  private counted(never: Effect.Effect<never>): Effect.Effect<never> {
    let begun = 0
    return Effect.onExit(
      Effect.suspend(() => {
        this.stuck += begun = 1
        return never
      }),
      () => Effect.sync(() => void (this.stuck -= begun))
    )
  }
}

export const take = ({ next, otherwise }: Script): Turnout => next.shift() ?? otherwise
