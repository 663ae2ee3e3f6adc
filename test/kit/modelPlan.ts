/** What a run of the model does: the pool's options and the commands. modelDraw.ts draws both from a seed. */
import type { TaskOrder } from "./world.ts"

/** How an open, a close, a check, a reset or a hook goes. */
export type Turnout =
  | "ok"
  | "fail"
  | "die"
  /** Never, and interruptible. */
  | "hang"
  /** Never, whoever interrupts. */
  | "stuck"
  /** An open that leaves something to close and then fails; a check that is false. */
  | "half"
  | { readonly slow: number }
  /** After so many milliseconds, whoever interrupts. */
  | { readonly late: number }

export type Rule =
  | "idle"
  | "age"
  | "jitter"
  | "uses"
  | "failed"
  | "lost"
  | "lostOlder"
  | "interrupted"
  | "when"
  | "throws"
  | "check"
  | "recurs"
  | "after"
  | "both"

export type Hook = "onAcquire" | "onBorrow" | "onReturn" | "onRelease"

export interface Plan {
  readonly seed: number
  readonly tasks: TaskOrder
  /** From 3: with 1 or 2, a fiber that yields comes back to yield again, and never gets on. */
  readonly maxOps: number
  readonly order: "lifo" | "fifo" | "hybrid"
  readonly min: number
  readonly max: number
  readonly minIdle: number
  readonly maxIdle: number
  readonly concurrency: number
  readonly sharing: "spread" | "pack"
  readonly targetUtilization: number
  readonly warm: "background" | "lazy" | "eager"
  readonly openConcurrency: number
  readonly borrowTimeout: number
  readonly maxWaiters: number
  readonly check: boolean
  readonly checkAfter: number
  readonly reset: boolean
  readonly retry: "none" | "finite" | "now" | "spaced" | "exponential"
  readonly rules: ReadonlyArray<Rule>
  readonly sweep: number | undefined
  readonly drainTimeout: number
  readonly replaceTimeout: number
  readonly whenSuspended: "wait" | "fail"
  readonly maxLease: number
  readonly monitor: boolean
  readonly hooks: ReadonlyArray<Hook>
  /** Somebody listens to the events. When nobody does, the pool does some things in another way. */
  readonly listens: boolean
  /** Items are equal primitives. */
  readonly equal: boolean
  /** The first opens. */
  readonly opens: ReadonlyArray<Turnout>
}

/** How a borrower asks and holds. */
export type Kind = "use" | "scoped" | "scope" | "sync" | "masked"
/** What it asks for: an item for itself, one that is there for the taking, or several at once. */
export type Mode = "alone" | "available" | 2 | 3
export type End = "ok" | "fail" | "lost" | "die" | "interrupt"

/** What of the source is scripted. */
export type Scripted =
  | "opens"
  | "closes"
  | "checks"
  | "resets"
  | "monitors"
  | Hook

export type LiveControl =
  | { readonly do: "suspend" | "resume" }
  | { readonly do: "resize"; readonly min: number; readonly max: number }
  /** Over a time, or only what is idle. */
  | { readonly do: "clearWith"; readonly idle: boolean; readonly over: number }

/** `turns`: so many tasks run before the next command; without it, all that are ready. */
export type Command =
  & { readonly turns?: number }
  & (
    | { readonly do: "get"; readonly kind: Kind; readonly mode?: Mode }
    | { readonly do: "interrupt" | "detach"; readonly of: number }
    | { readonly do: "release"; readonly of: number; readonly end: End }
    | { readonly do: "invalidate"; readonly what: "lent" | "idle" | "foreign"; readonly of: number }
    | { readonly do: "clear" | "sweep" | "close" | "unswap" }
    | LiveControl
    | { readonly do: "swap"; readonly go: Turnout; readonly over: number }
    /** The monitor of an item tells of its death. */
    | { readonly do: "kill"; readonly of: number; readonly go: "ok" | "fail" }
    | { readonly do: "advance" | "stall" | "wall"; readonly millis: number }
    | { readonly do: Scripted; readonly go: Turnout; readonly always: boolean }
  )

/** The deadlines of every run: small and different, so that they meet one another often. */
export const limits = {
  open: 20,
  check: 10,
  reset: 10,
  close: 16,
  idle: 25,
  age: 40,
  uses: 3,
  after: 50,
  spaced: 7
}

/** No fiber yields but where it waits: what the model does is done when the call returns. */
export const strictly = ({ maxOps }: Pick<Plan, "maxOps">): boolean => maxOps >= 2048
