// What the state machine moves: items, the openings they come from, and the
// borrowers that wait for them. Plain records; the rules for moving them stand in
// state.ts.
import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { Reason } from "../PoolError.ts"
import type * as Heap from "./heap.ts"
import type * as Idle from "./idle.ts"
import type { Subject } from "./rules.ts"
import type * as Waiters from "./waiters.ts"

export type Status = "fresh" | "idle" | "checking" | "swept" | "lent" | "resetting" | "closing"

export type Holder = Fiber.Fiber<unknown, unknown>

/** Gives an item back: what a lease's scope or `use` runs at its end. */
export type GiveBack = (exit: Exit.Exit<unknown, unknown>) => undefined

export class Item<A> implements Subject<A>, Idle.Node<Item<A>>, Heap.Node, Waiters.Supply {
  readonly id: number
  readonly value: A
  readonly scope: Scope.Closeable
  readonly openedAt: number
  readonly openedWall: number
  /** Made once, so that a lease allocates no closure. */
  readonly giveBack: GiveBack
  /** The same as a scope's finalizer; made when a scope first needs it. */
  release: ((exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>) | undefined = undefined
  status: Status = "fresh"
  idleSince: number
  lentAt: number
  /** When a check last passed. */
  checkedAt = -Infinity
  uses = 0
  exit: Exit.Exit<unknown, unknown> | undefined = undefined
  memo: unknown = undefined
  dueAt = Infinity
  slot = -1
  /** Who has it; only while it is lent. */
  holder: Holder | undefined = undefined
  /** The span in which it was borrowed last. */
  span: Tracer.AnySpan | undefined = undefined
  /** Its borrower has taken it up; until then it may be handed back unseen. */
  taken = false
  /** Why it is to be recycled when it comes back; only while it is busy. */
  doom: string | undefined = undefined
  /** The waiter that a check is for. */
  waiter: Waiters.Waiter | undefined = undefined
  colder: Item<A> | undefined = undefined
  warmer: Item<A> | undefined = undefined
  linked = false
  /** Other live items with an equal value, opened before and after it. */
  older: Item<A> | undefined = undefined
  newer: Item<A> | undefined = undefined

  constructor(
    id: number,
    value: A,
    scope: Scope.Closeable,
    openedAt: number,
    openedWall: number,
    giveBack: (item: Item<A>, exit: Exit.Exit<unknown, unknown>) => undefined
  ) {
    this.id = id
    this.value = value
    this.scope = scope
    this.openedAt = this.idleSince = this.lentAt = openedAt
    this.openedWall = openedWall
    this.giveBack = (exit) => giveBack(this, exit)
  }
}

export class Opening implements Waiters.Supply {
  readonly id: number
  readonly since: number
  /** The try of the retry road that it belongs to: of several that fail together, one counts. */
  readonly round: number
  waiter: Waiters.Waiter | undefined = undefined
  /** Why its item is to be recycled on arrival. */
  doom: string | undefined = undefined

  constructor(id: number, since: number, round: number) {
    this.id = id
    this.since = since
    this.round = round
  }
}

/** Why a borrower goes without: the pool's reason, or the cause of the open that was for it. */
export type Refusal =
  | { readonly _tag: "Pool"; readonly reason: Reason }
  | { readonly _tag: "Open"; readonly cause: Cause.Cause<unknown> }

export class Borrower<A> implements Waiters.Waiter {
  readonly holder: Holder
  readonly since: number
  readonly deadline: number
  ahead: Waiters.Waiter | undefined = undefined
  behind: Waiters.Waiter | undefined = undefined
  queued = false
  supply: Waiters.Supply | undefined = undefined
  item: Item<A> | undefined = undefined
  refusal: Refusal | undefined = undefined
  /** The lease has begun: the end of it now belongs to a scope or to `use`. */
  begun = false
  /** Set once the borrower's fiber sleeps. */
  resume: (() => void) | undefined = undefined

  constructor(holder: Holder, since: number, deadline: number) {
    this.holder = holder
    this.since = since
    this.deadline = deadline
  }

  get settled(): boolean {
    return this.item !== undefined || this.refusal !== undefined
  }
}

/** Who has an item: the span in which it was borrowed, or the fiber. */
export const holderName = ({ holder, span }: Pick<Item<never>, "holder" | "span">): string =>
  span !== undefined && span._tag === "Span" ? span.name : `fiber ${holder!.id}`
