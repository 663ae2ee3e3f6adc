// The state machine as its parts see it: the queue of borrowers and the sweeper
// know this, and not the machine.
import type { Counts } from "../PoolError.ts"
import type { Base, PoolEvent } from "../PoolEvent.ts"
import type { Idle } from "./idle.ts"
import type { Item, Opening } from "./item.ts"
import type { Outage } from "./outage.ts"
import type { Registry } from "./registry.ts"

export interface Settings {
  readonly name: string
  readonly min: number
  readonly max: number
  readonly lifo: boolean
  readonly borrowTimeout: number
  readonly maxWaiters: number
  readonly openConcurrency: number
  /** Infinity when there is no check. */
  readonly checkAfter: number
  readonly resets: boolean
  readonly retries: boolean
}

export interface Totals {
  opened: number
  openFailures: number
  closed: number
  abandoned: number
  borrowed: number
  returned: number
  takenBack: number
  waited: number
  timeouts: number
  readonly recycled: Map<string, number>
}

/** An event without what all events have. */
export type Told = PoolEvent extends infer Event ? Event extends Base ? Omit<Event, keyof Base> : never : never

export interface Pooled<A> {
  readonly settings: Settings
  readonly totals: Totals
  readonly idle: Idle<Item<A>>
  readonly items: Registry<A>
  readonly openings: ReadonlySet<Opening>
  readonly outage: Outage
  readonly lent: number
  readonly checking: number
  readonly closed: boolean
  readonly listening: boolean
  /** No open starts but for a waiter. */
  lazy: boolean
  counts(): Counts
  tell(told: Told, at: number): void
  /** An idle item is recycled. */
  out(item: Item<A>, reason: string, now: number): void
  /** Gives every waiter its supply, as far as may be, and refills to `min`. */
  pump(now: number): void
}
