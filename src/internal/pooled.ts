// The state machine as its parts see it, and what all of them ask of the shell.
import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Counts } from "../PoolError.ts"
import type { Base, PoolEvent } from "../PoolEvent.ts"
import type { Budget } from "./budget.ts"
import type { Idle } from "./idle.ts"
import type { Borrower, Holder, Item, Lease, Opening, Refusal } from "./item.ts"
import type { Outage } from "./outage.ts"
import type { Registry } from "./registry.ts"
import type { Verdict } from "./rules.ts"
import type { Rush, Since } from "./rush.ts"
import type { Waiters } from "./waiters.ts"
import type { Waker } from "./waking.ts"

/** What can be set anew while the pool is in use. */
export interface Size {
  readonly min: number
  readonly max: number
  /** How many are kept idle, besides those that are lent. */
  readonly minIdle: number
  readonly maxIdle: number
}

export interface Settings extends Size {
  readonly name: string
  readonly order: "lifo" | "fifo" | "hybrid"
  readonly concurrency: number
  readonly sharing: "spread" | "pack"
  /** Below 1: more items are opened ahead of need. */
  readonly targetUtilization: number
  readonly borrowTimeout: number
  readonly maxWaiters: number
  readonly openConcurrency: number
  readonly closeConcurrency: number
  /** Infinity when there is no check. */
  readonly checkAfter: number
  /** There is something to do after a lease; `tends`: also when the item is to be recycled. */
  readonly resets: boolean
  readonly tends: boolean
  readonly retries: boolean
  /** Borrowers of a suspended pool fail. */
  readonly refuses: boolean
  /** How long an old item may wait for the one that replaces it; 0: not at all. */
  readonly replaceTimeout: number
}

/** What the parts of the pool count. */
export interface Tally {
  opened: number
  openFailures: number
  closed: number
  abandoned: number
  takenBack: number
  leaked: number
  detached: number
  waited: number
  timeouts: number
  readonly recycled: Map<string, number>
}

export interface Totals extends Tally {
  borrowed: number
  returned: number
}

/** What cannot be done at once: a rule's verdict, a hook, a reset. Opaque here. */
export type Work<R> = Effect.Effect<Verdict | undefined, unknown, R>

/** What the state machine asks for. None of these may call back before it returns. */
export interface Shell<A, R> {
  readonly now: () => number
  readonly rush: Rush
  readonly wallNow: () => number
  /** From 0 to 1. */
  readonly random: () => number
  readonly open: (opening: Opening) => void
  readonly cancelOpen: (opening: Opening) => void
  readonly check: (item: Item<A>) => void
  /** Runs a verdict as far as it comes without waiting: most steps of a Schedule do not wait. */
  readonly attempt: (item: Item<A>, verdict: Work<R>) => Verdict | undefined | Work<R>
  /** One after the other. */
  readonly both: (item: Item<A>, first: Work<R> | undefined, second: Work<R>) => Work<R>
  /** What the user wants done when a lease ends; undefined when there is nothing to do. */
  readonly afterLease: (item: Item<A>, exit: Exit.Exit<unknown, unknown>) => Work<R> | undefined
  /**
   * That, if a lease has just ended, and then a verdict that is still to come, and then
   * the reset; undefined when there is nothing to do.
   */
  readonly cleaning: (
    item: Item<A>,
    exit: Exit.Exit<unknown, unknown>,
    verdict: Work<R> | undefined,
    ended: boolean
  ) => Work<R> | undefined
  /** Runs it in the background; answers with `wasReset`. */
  readonly reset: (item: Item<A>, work: Work<R>) => void
  /** Runs it in the background while others have the item; answers with `wasTended`. */
  readonly tend: (item: Item<A>, work: Work<R>) => void
  /** Ends what is being done to the item: a check, a reset, what follows a lease; its outcome no longer matters. */
  readonly stop: (item: Item<A>) => void
  readonly close: (id: number, scope: Scope.Closeable, exit: Exit.Exit<unknown, unknown>) => void
  /** A waiter's time ends then. */
  readonly deadline: (at: number) => void
  /** Answers with `retryNow` or `retryOver`, unless an open succeeds meanwhile. */
  readonly retry: (cause: Cause.Cause<unknown>) => void
  /** Answers with `refillNow`; `failures` is how many opens failed in a row. */
  readonly refill: (failures: number) => void
  /** The earliest time at which a rule may speak has changed. */
  readonly due: (at: number) => void
  readonly takenBack: (lease: Lease<A>) => void
  /** Nobody can end the lease any more. */
  readonly leaked: (lease: Lease<A>) => void
  /** Ends what runs within the lease. */
  readonly interrupt: (fiber: Fiber.Fiber<unknown, unknown>) => void
  readonly empty: () => void
  readonly emit: (event: PoolEvent) => void
}

/** How long leases have run; only where somebody wants to know. */
export interface LeaseClock<A> {
  readonly started: (lease: Lease<A>) => void
  readonly over: (lease: Lease<A>) => void
}

/** An event without what all events have. */
export type Told = PoolEvent extends infer Event ? Event extends Base ? Omit<Event, keyof Base> : never : never

/** How items leave, for the parts that make them. */
export interface Ends<A> {
  /** An idle item is recycled. */
  out(item: Item<A>, reason: string, now: number): void
  /** An item is recycled now if it is idle, or when it comes back. */
  doom(item: Item<A>, reason: string, now: number): void
  /** All but this item go within the time given, and what is being opened. */
  supersede(newest: Item<A>, over: number, now: number): void
  /** Something counts as closing that never was an item. */
  leaveOver(opening: Opening): void
}

export interface Pooled<A> {
  readonly settings: Settings
  /** Where the pool shares permits with others. */
  readonly budget: Budget<A> | undefined
  /** Resumes those who wait no more. */
  readonly waker: Waker<A>
  readonly tally: Tally
  readonly idle: Idle<Item<A>>
  readonly items: Registry<A>
  readonly openings: Set<Opening>
  readonly outage: Outage
  readonly waiters: Waiters<Borrower<A>, Opening | Item<A>>
  readonly live: number
  readonly closing: number
  /** The newest item or opening. */
  readonly newest: number
  lent: number
  /** Leases that run, or are to be taken up. */
  readonly leases: number
  /** Those that are over. */
  ended: number
  /** Those of them that nobody has taken up. */
  forsaken: number
  /** Leases that were handed to who has not come for them yet. */
  unseen: number
  readonly rush: Rush
  /** When a lease last ended. */
  usedAt: number
  checking: number
  /** Items that a sweep looks at: they count as lent, and nobody has them or waits for them. */
  sweeping: number
  /** How many items there should be, for `min` or ahead of need. */
  readonly wanted: number
  closed: boolean
  /** Somebody waits until there are `min` items, since this turn. */
  readonly warmTurn: number | undefined
  readonly suspended: boolean
  /** Closed or suspended. */
  halted: boolean
  readonly listening: boolean
  /** No open starts but for a waiter. */
  lazy: boolean
  /** Something has changed that tells whether a lease can go on the short way. */
  ease(): void
  counts(): Counts
  /** The time at which a lease is asked for, or ends. */
  moment(): number
  /** The time at which somebody comes who has to wait. */
  asked(): Since
  tell(told: Told, at: number): void
  readonly ending: Ends<A>
  /** An item that was just opened. */
  enter(item: Item<A>, now: number): void
  /** The borrower was handed an item, and goes without all the same. */
  refuseLent(borrower: Borrower<A>, refusal: Refusal): void
  /** The next number for an item. */
  nextId(): number
  /** Gives every waiter its supply, as far as may be, and refills to `min`. */
  pump(now: number): void
  /** A waiter has left: nothing may be left of what the pool had. */
  rest(): void
}

/** The state machine as that part sees it which serves those who wait. */
export interface Lends<A> extends Pooled<A> {
  /** An item that has to be checked before it is lent. */
  unproven(item: Item<A>, now: number): boolean
  startCheck(item: Item<A>): void
  /** An item that is in no list goes to a waiter. */
  handOver(item: Item<A>, borrower: Borrower<A>, now: number): void
  /** A lease goes to a borrower that is in the queue no more. */
  hand(lease: Lease<A>, borrower: Borrower<A>): void
  /** A shared item has one more borrower. */
  joinTo(item: Item<A>, holder: Holder, now: number): Lease<A>
}
