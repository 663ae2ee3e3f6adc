/** The model's look into the state machine. */
import type * as Alarms from "../../src/internal/alarms.ts"
import { type Borrower, type Item, type Lease, leasesOf } from "../../src/internal/item.ts"
import type { PoolState } from "../../src/internal/state.ts"

type AnyItem = Item<unknown>

export interface Inside {
  readonly state: PoolState<unknown, never>
  readonly deadlineAlarm: Alarms.Alarm
  readonly opens: { readonly retryAlarm: Alarms.Alarm }
  readonly refillAlarm: Alarms.Alarm
  readonly recycler: { readonly dueAlarm: Alarms.Alarm }
}

/** What there is at one moment, looked up once for all checks. */
export interface View {
  readonly items: ReadonlyArray<AnyItem>
  /** From the coldest. */
  readonly idle: ReadonlyArray<AnyItem>
  readonly leases: ReadonlyArray<Lease<unknown>>
  readonly queue: ReadonlyArray<Borrower<unknown>>
}

/** The private parts of a pool. */
export const insideOf = (pool: object): Inside => (pool as { readonly pool: Inside }).pool

export const itemsOf = ({ state }: Inside): Array<AnyItem> => Array.from(state.items)

const leasesAmong = (items: ReadonlyArray<AnyItem>): Array<Lease<unknown>> => {
  const leases: Array<Lease<unknown>> = []
  for (const item of items) for (const lease of leasesOf(item)) leases.push(lease)
  return leases
}

export const leasesIn = (inside: Inside): Array<Lease<unknown>> => leasesAmong(itemsOf(inside))

export const waitersOf = ({ state }: Inside): Array<Borrower<unknown>> => {
  const waiters: Array<Borrower<unknown>> = []
  for (let one = state.waiters.head; one !== undefined; one = one.behind as Borrower<unknown> | undefined) {
    waiters.push(one)
  }
  return waiters
}

export const idleOf = ({ state }: Inside): Array<AnyItem> => {
  const idle: Array<AnyItem> = []
  for (let one = state.idle.coldest; one !== undefined; one = one.warmer) idle.push(one)
  return idle
}

export const viewOf = (inside: Inside): View => {
  const items = itemsOf(inside)
  return { items, idle: idleOf(inside), leases: leasesAmong(items), queue: waitersOf(inside) }
}

/**
 * How many wait with nothing under way for them: an item that is opened or checked
 * serves several who share it, and what these do not need is for the others.
 */
export const unservedOf = (inside: Inside): number => {
  const { concurrency } = inside.state.settings
  const waiters = waitersOf(inside)
  const alone = waiters.filter((waiter) => waiter.alone)
  const bare = alone.filter(({ supply }) => supply === undefined).length
  const sharers = waiters.filter((waiter) => !waiter.alone)
  const supplies = sharers.filter(({ supply }) => supply !== undefined).length
  const beyond = Math.max(0, supplies - Math.ceil(sharers.length / concurrency))
  return Math.max(0, bare - beyond) + Math.max(0, sharers.length - supplies * concurrency)
}
