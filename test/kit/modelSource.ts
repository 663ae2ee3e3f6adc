/** The items of a model run: how each open, close, check and reset goes, and a ledger of what became of them. */
import { Cause, Context, Effect, Exit, Scope } from "effect"
import type { Turnout } from "./modelPlan.ts"
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
  state: "opening" | "failed" | "live" | "closing" | "closed" = "opening"
  /** It has something to close. */
  owes = false
  openedAt = NaN
  holder: object | undefined = undefined
  /** When a check last passed. */
  checkedAt = -Infinity
  leases = 0
  lastExit: Exit.Exit<unknown, unknown> | undefined = undefined
  /** Why it must not be lent any more. */
  banned: string | undefined = undefined
  /** Why it must not be lent any more after the lease that runs. */
  bannedAfter: string | undefined = undefined

  constructor(number: number, value: unknown, scope: Scope.Scope, startedAt: number) {
    this.number = number
    this.value = value
    this.scope = scope
    this.startedAt = startedAt
  }
}

/** A queue of what is to happen next, and what happens when it is empty. */
export interface Script {
  readonly next: Array<Turnout>
  otherwise: Turnout
}

const script = (): Script => ({ next: [], otherwise: "ok" })

export class ModelSource {
  readonly entries: Array<Entry> = []
  readonly byScope = new Map<Scope.Scope, Entry>()
  readonly opens = script()
  readonly closes = script()
  readonly checks = script()
  readonly resets = script()
  /** Effects that wait for ever: their fibers are not the pool's fault. */
  stuck = 0
  /** Checks and resets begun. */
  tasks = 0
  failures = 0
  /** No open may start any more. */
  shut = false
  private readonly world: World
  private readonly equal: boolean
  private readonly strict: boolean

  /** `strict`: no fiber yields between being started and its first step. */
  constructor(world: World, equal: boolean, strict: boolean) {
    this.world = world
    this.equal = equal
    this.strict = strict
  }

  heal(): void {
    for (const one of [this.opens, this.closes, this.checks, this.resets]) {
      one.next.length = 0
      one.otherwise = "ok"
    }
  }

  readonly acquire: Effect.Effect<unknown, Refused, Scope.Scope> = Effect.withFiber((fiber) => {
    const number = this.entries.length + 1
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    const entry = new Entry(number, this.equal ? "item" : { number }, scope, this.world.now)
    this.entries.push(entry)
    this.byScope.set(scope, entry)
    if (this.shut && this.strict) {
      this.world.fail("open after close", `attempt ${number} starts when the pool is closing`)
    }
    this.world.afterTask()
    return this.open(entry, take(this.opens))
  })

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
    entry.owes = false
    entry.state = "closing"
    entry.banned ??= "closed"
    this.world.afterTask()
    const closed = Effect.sync(() => void (entry.state = "closed"))
    return Effect.ensuring(Effect.orDie(this.play(take(this.closes), true)), closed)
  }

  readonly check = (value: unknown): Effect.Effect<unknown, unknown> => this.look("checked", value, take(this.checks))

  readonly reset = (value: unknown): Effect.Effect<unknown, unknown> => this.look("reset", value, take(this.resets))

  private look(what: string, value: unknown, go: Turnout): Effect.Effect<unknown, unknown> {
    this.tasks++
    // Equal items cannot be told apart from here.
    const entry = this.equal ? undefined : this.entries[(value as { readonly number: number }).number - 1]
    if (entry?.holder !== undefined) this.world.fail("used while lent", `item ${entry.number} is ${what}`)
    if (entry !== undefined && entry.state !== "live") {
      this.world.fail("used after close", `item ${entry.number} is ${what}`)
    }
    this.world.afterTask()
    const ended = (exit: Exit.Exit<unknown, unknown>) =>
      Effect.sync(() => {
        if (entry === undefined) return
        if (Exit.isSuccess(exit)) entry.checkedAt = this.world.now
        else if (!Cause.hasInterruptsOnly(exit.cause)) entry.banned ??= `${what} in vain`
      })
    if (go === "half") {
      if (what === "checked" && entry !== undefined) entry.banned ??= "checked in vain"
      return Effect.succeed(what !== "checked")
    }
    return Effect.onExit(this.play(go), ended)
  }

  private play(go: Turnout, closing = false): Effect.Effect<void, Refused> {
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

const take = ({ next, otherwise }: Script): Turnout => next.shift() ?? otherwise
