/** One borrower of a model run, how its lease may end, and what it may be told. */
import { Cause, Exit, type Fiber, type Scope } from "effect"
import type { PoolError } from "effect-queuepool"
import { type End, type Kind, limits, type Mode, type Rule } from "./modelPlan.ts"
import type { Entry, Refused } from "./modelSource.ts"

export class Broken {
  readonly _tag = "Broken"
  readonly lost: boolean
  constructor(lost: boolean) {
    this.lost = lost
  }
}

export class Loan {
  readonly id: number
  readonly kind: Kind
  readonly mode: Mode | undefined
  readonly askedAt: number
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  scope: Scope.Closeable | undefined = undefined
  /** What it was lent; none until its lease has begun. */
  entries: ReadonlyArray<Entry> = []
  begunAt = Infinity
  /** An item that it was lent had not been reset. */
  soiled = false
  /** How many waited with nothing under way for them when it came. */
  unserved = 0
  /** It ended as it asked. */
  atOnce = false
  /** It had its items, and lost them before it could be told by which. */
  missed = false
  /** It asks for more than there may be. */
  tooMany = false
  interrupted = false
  /** Ends the lease. */
  resume: ((exit: Exit.Exit<void, Broken>) => void) | undefined = undefined
  exit: Exit.Exit<unknown, unknown> | undefined = undefined
  over = false

  constructor(id: number, kind: Kind, mode: Mode | undefined, askedAt: number) {
    this.id = id
    this.kind = kind
    this.mode = mode
    this.askedAt = askedAt
  }

  get begun(): boolean {
    return this.entries.length > 0
  }

  /** How many items it asks for. */
  get count(): number {
    return typeof this.mode === "number" ? this.mode : 1
  }

  /** It shares with nobody. */
  get alone(): boolean {
    return this.mode === "alone" || typeof this.mode === "number"
  }

  /** No event tells of it: it never came to borrow. */
  get untold(): boolean {
    if (this.begun || this.missed || this.exit === undefined) return false
    if (Exit.isSuccess(this.exit)) return this.mode === "available"
    const why = reasonOf(this.exit.cause)
    if (why === "InvalidOptions") return this.tooMany
    return this.mode === "available" && this.atOnce && why !== "HookFailed"
  }

  /** What was there for the taking was nothing. */
  get foundNothing(): boolean {
    return this.mode === "available" && !this.begun && this.exit !== undefined && Exit.isSuccess(this.exit)
  }
}

export const exitOf = (end: End): Exit.Exit<void, Broken> => {
  switch (end) {
    case "ok":
      return Exit.void
    case "die":
      return Exit.die("broken lease")
    case "interrupt":
      return Exit.interrupt(0)
    default:
      return Exit.fail(new Broken(end === "lost"))
  }
}

export const isLost = (cause: Cause.Cause<unknown>): boolean => {
  const error = Cause.squash(cause)
  return error instanceof Broken && error.lost
}

/** Why a lease that ended so ends the item, by the rules that read exits. */
export const speaks = (rule: Rule, entry: Entry, exit: Exit.Exit<unknown, unknown>): string | undefined => {
  if (rule === "uses" && entry.ended >= limits.uses) return rule
  if (Exit.isSuccess(exit)) return undefined
  const cut = Cause.hasInterruptsOnly(exit.cause)
  if ((rule === "failed" && !cut) || (rule === "interrupted" && cut)) return rule
  return (rule === "lost" || rule === "lostOlder") && !cut && isLost(exit.cause) ? rule : undefined
}

export const reasonOf = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "Interrupted"
  if (!cause.reasons.some(Cause.isFailReason)) return "defect"
  const error = Cause.squash(cause) as Refused | Broken | PoolError.PoolError
  return error._tag === "PoolError" ? error.reason._tag : error._tag
}
