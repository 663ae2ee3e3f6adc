// What the state machine moves: items, the openings they come from, and the
// borrowers that wait for them. Plain records; the rules for moving them stand in
// state.ts.
import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { LeaseEnded, Reason } from "../PoolError.ts"
import type { Cold } from "./colds.ts"
import type * as Heap from "./heap.ts"
import type * as Idle from "./idle.ts"
import type { LearntPermits } from "./learntPermits.ts"
import type { Pressure, Subject } from "./rules.ts"
import { type Dated, type Since, timeOf } from "./rush.ts"
import type { Share } from "./share.ts"
import type { Site } from "./site.ts"
import type * as Waiters from "./waiters.ts"

export type Status = "fresh" | "idle" | "checking" | "swept" | "lent" | "resetting" | "closing"

export type Holder = Fiber.Fiber<unknown, unknown>

/** Where an item comes from, and goes back to. */
export interface Home<A> {
  /** What it shares its permits with others through. */
  readonly budget: Pressure | undefined
  /** When a lease last ended, but for those of items that are not dated yet. */
  usedAt: number
  /** A lease has come to its end. */
  giveBack(lease: Lease<A>, exit: Exit.Exit<unknown, unknown>): void
  /** A scope was dropped that had this lease. */
  leaked(lease: Lease<A>): void
}

/** Gives an item back as a scope's finalizer. */
export type Release = (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>

/**
 * One borrower's hold on an item. A lease that is over is used again for the next,
 * so that borrowing allocates nothing: an item that is not shared has one of them
 * for all its life.
 */
export class Lease<A> {
  // First what each lease touches.
  declare readonly item: Item<A>
  /** It has begun and is not over. */
  active = false
  /** The fiber that has it, by number: the fiber itself would keep a dropped scope alive. */
  by = 0
  /** The span in which it was borrowed. */
  span: Tracer.AnySpan | undefined = undefined
  since = 0
  /** Its place among all of its pool that ever began. */
  order = 0
  /** Until then, the borrower that it was handed to. */
  handed: Borrower<A> | undefined = undefined
  /** The call that asked for it, and the frames around; only where long leases are told of. */
  site: Site | undefined = undefined
  /** The fiber that `use` runs in, where a lease can be ended from outside. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /**
   * Made when a scope first needs it. Only the scope has it while the lease runs: a
   * scope that is dropped takes it along, and so a leak is found.
   */
  release: Release | undefined = undefined
  /** What `get` succeeds with, once somebody has called it. */
  given: Exit.Exit<A> | undefined = undefined
  /** Why it was ended from outside. */
  ended: LeaseEnded | undefined = undefined

  constructor(item: Item<A>) {
    this.item = item
  }

  giveBack(exit: Exit.Exit<unknown, unknown>): void {
    this.item.home.giveBack(this, exit)
  }

  /** Its borrower has taken it up; until then it may be handed back unseen. */
  get taken(): boolean {
    return this.active && this.handed === undefined
  }

  begin(holder: Holder, now: number, order: number): void {
    this.active = true
    this.by = holder.id
    this.span = holder.cache.span
    this.since = now
    this.order = order
  }

  /** An item must not keep what belongs to its last borrower, nor take that one's fiber for the next one's. */
  over(): void {
    this.active = false
    this.handed = undefined
    this.span = this.site = this.fiber = undefined
  }
}

/** An item that a soft rule ended goes on serving until another is open in its place. */
export interface Stay {
  readonly reason: string
  /** When it goes in any case. */
  readonly until: number
}

/** It is to be retired after that time, though no rule says so. */
export interface Retirement {
  readonly reason: string
  readonly at: number
}

export class Item<A> implements Subject<A>, Idle.Node<Item<A>>, Heap.Node, Waiters.Supply, Dated {
  // First what each lease touches.
  declare readonly home: Home<A>
  declare readonly value: A
  status: Status = "fresh"
  /** The lease that it has, or had, or will have; when it is shared, see `share`. */
  declare lease: Lease<A>
  /** Once several might have had it at once. */
  sharing: Share<A> | undefined = undefined
  declare idleSince: number
  undated = false
  dueAt = Infinity
  slot = -1
  uses = 0
  exit: Exit.Exit<unknown, unknown> | undefined = undefined
  /** Why it is to be recycled when it comes back; only while it is busy. */
  doom: string | undefined = undefined
  /** When a check last passed. */
  checkedAt: number | undefined = undefined
  toBeDated = false
  linked = false
  colder: Item<A> | undefined = undefined
  warmer: Item<A> | undefined = undefined
  /** Of the two sets of the hybrid order, the core. */
  core = false
  declare readonly id: number
  declare readonly scope: Scope.Closeable
  declare readonly openedAt: number
  declare readonly openedWall: number
  memo: unknown = undefined
  /** The waiter that a check is for. */
  waiter: Waiters.Waiter | undefined = undefined
  /** Other live items with an equal value, opened before and after it. */
  older: Item<A> | undefined = undefined
  newer: Item<A> | undefined = undefined
  stay: Stay | undefined = undefined
  retirement: Retirement | undefined = undefined
  /** Its places among the idle items of all these pools. */
  places: ReadonlyArray<Cold> = nowhere

  constructor(
    home: Home<A>,
    id: number,
    value: A,
    scope: Scope.Closeable,
    openedAt: number,
    openedWall: number
  ) {
    this.home = home
    this.id = id
    this.value = value
    this.scope = scope
    this.openedAt = this.idleSince = openedAt
    this.openedWall = openedWall
    this.lease = new Lease(this)
  }

  get budget(): Pressure | undefined {
    return this.home.budget
  }

  /** While somebody has it whom others may join. */
  get share(): Share<A> | undefined {
    const { sharing } = this
    return sharing !== undefined && sharing.size > 0 ? sharing : undefined
  }
}

const nowhere: ReadonlyArray<never> = []

export class Opening implements Waiters.Supply {
  readonly id: number
  readonly since: number
  /** The try of the retry road that it belongs to: of several that fail together, one counts. */
  readonly round: number
  waiter: Waiters.Waiter | undefined = undefined
  /** Why its item is to be recycled on arrival. */
  doom: string | undefined = undefined
  /** Tries a new way to acquire; nobody waits for it but who asked for the trial. */
  trial: Trial | undefined = undefined
  /** It has failed because these have no room. */
  full: ReadonlyArray<LearntPermits> = nowhere

  constructor(id: number, since: number, round: number) {
    this.id = id
    this.since = since
    this.round = round
  }
}

/** A new way to acquire, tried before it replaces the old. */
export interface Trial {
  readonly acquire: unknown
  /** How long the old items take to go. */
  readonly over: number
}

/** Why a borrower goes without: the pool's reason, or the cause of the open that was for it. */
export type Refusal =
  | { readonly _tag: "Pool"; readonly reason: Reason }
  | { readonly _tag: "Open"; readonly cause: Cause.Cause<unknown> }

/** What a borrower asks for: an item that others may have too, one for itself, or what is there for the taking. */
export type Kind = "shared" | "alone" | "available"

/** As it stands in events. */
export const reasonOf = (refusal: Refusal): string => refusal._tag === "Open" ? "OpenFailed" : refusal.reason._tag

/** What looks, when a borrower is woken, whether its fiber goes on. */
export interface Sleeper {
  woken(): void
}

/** What only those have who ask for several items, do not wait, or have a hook before their lease. */
class Terms {
  /** How many items its fiber asked for in one step. */
  group = 1
  /** When its item is lost it waits for another. */
  waits = true
  /** The hook before a lease has begun on its item: nobody knows in what state that is. */
  touched = false
  /** Nothing stands any more between it and its item. */
  ready = false
  /** Ends the hook that is under way. */
  stop: (() => void) | undefined = undefined
  /** From when its fiber first sleeps, unless that hears by itself that it was woken. */
  sleeper: Sleeper | undefined = undefined
}

export class Borrower<A> implements Waiters.Waiter, Sleeper {
  // What ten thousand of them cost is memory that is in no cache: each has as few fields as can be.
  holder!: Holder
  ahead: Waiters.Waiter | undefined = undefined
  behind: Waiters.Waiter | undefined = undefined
  supply: Waiters.Supply | undefined = undefined
  /** It shares with nobody. */
  alone = false
  lease: Lease<A> | undefined = undefined
  refusal: Refusal | undefined = undefined
  /** Its number among all that ever waited; 0 before it comes, and when a loan is over. */
  turn = 0
  private asked: Since = 0
  terms: Terms | undefined = undefined

  /** One who is gone may come again. */
  come(turn: number, holder: Holder, alone: boolean, group: number, asked: Since): this {
    this.turn = turn
    this.holder = holder
    this.alone = alone
    this.asked = asked
    if (group > 1) this.own.group = group
    return this
  }

  /** It keeps nothing of what it was given. */
  gone(): void {
    this.holder = undefined as never
    this.lease = this.refusal = undefined
    this.asked = this.turn = 0
  }

  /** Its terms, to be changed. */
  get own(): Terms {
    return this.terms ??= new Terms()
  }

  get group(): number {
    return this.terms === undefined ? 1 : this.terms.group
  }

  get waits(): boolean {
    return this.terms === undefined || this.terms.waits
  }

  get touched(): boolean {
    return this.terms !== undefined && this.terms.touched
  }

  get ready(): boolean {
    return this.terms !== undefined && this.terms.ready
  }

  get since(): number {
    return timeOf(this.asked)
  }

  /** It was handed an item, and has neither taken it up nor given it up. Once taken up, the lease's end belongs to a scope or to `use`. */
  get handed(): boolean {
    return this.lease !== undefined && this.lease.handed === this
  }

  get settled(): boolean {
    return this.lease !== undefined || this.refusal !== undefined
  }

  woken(): void {
    this.terms?.sleeper?.woken()
  }
}

/** Who has an item: the span in which it was borrowed, or the fiber. */
export const holderName = ({ by, span }: Pick<Lease<never>, "by" | "span">): string =>
  span !== undefined && span._tag === "Span" ? span.name : `fiber ${by}`

/** The leases of an item that run. */
export const leasesOf = <A>({ lease, share }: Item<A>): Array<Lease<A>> =>
  share !== undefined ? share.leases : lease.active ? [lease] : []
