/**
 * The model's look into the state machine: what must hold of its data after every
 * task, and in which order it lends.
 */
import type * as Alarms from "../../src/internal/alarms.ts"
import { type Borrower, type Item, type Lease, leasesOf } from "../../src/internal/item.ts"
import type { PoolState } from "../../src/internal/state.ts"
import type { Plan } from "./modelPlan.ts"
import type { World } from "./world.ts"

type AnyItem = Item<unknown>

export interface Inside {
  readonly state: PoolState<unknown, never>
  readonly deadlineAlarm: Alarms.Alarm
  readonly opens: { readonly retryAlarm: Alarms.Alarm }
  readonly refillAlarm: Alarms.Alarm
  readonly recycler: { readonly dueAlarm: Alarms.Alarm }
}

/** The private parts of a pool. */
export const insideOf = (pool: object): Inside => (pool as { readonly pool: Inside }).pool

export const itemsOf = ({ state }: Inside): Array<AnyItem> => {
  return Array.from(state.items)
}

export const leasesIn = (inside: Inside): Array<Lease<unknown>> =>
  itemsOf(inside).flatMap((item) => Array.from(leasesOf(item)))

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

/** After every task: the counts, the lists and the queue agree with one another and with `max`. */
export const checkStep = (inside: Inside, plan: Plan, world: World): void => {
  const { state } = inside
  const { checking, closing, idle, lent, openings, waiters } = state
  const live = openings.size + idle.size + lent + closing
  const counts = `${openings.size} opening, ${idle.size} idle, ${lent} lent, ${closing} closing`
  if (live > plan.max || closing < 0) world.fail("max", `${counts}, max ${plan.max}`)
  if (openings.size > plan.openConcurrency) world.fail("openConcurrency", counts)

  const items = itemsOf(inside)
  const idling = idleOf(inside)
  const count = (...statuses: ReadonlyArray<string>) => items.filter((item) => statuses.includes(item.status)).length
  if (
    count("idle") !== idle.size || idling.length !== idle.size || count("checking") !== checking ||
    count("lent", "checking", "swept", "resetting") !== lent || count("fresh", "closing") > 0
  ) world.fail("counts", `${counts}, ${checking} checking; items are ${items.map((item) => item.status).join(", ")}`)
  for (const item of items) {
    if (Array.from(leasesOf(item)).length > 0 !== (item.status === "lent")) {
      world.fail("holder", `item ${item.id} is ${item.status}, held by ${item.lease.by}`)
    }
    if (item.linked !== (item.status === "idle")) world.fail("links", `item ${item.id} is ${item.status}`)
    if (item.status === "idle" && item.doom !== undefined) world.fail("doomed", `item ${item.id} is idle`)
  }

  // The supplies: the waiters that have one are a prefix, and each is promised once.
  const queue = waitersOf(inside)
  if (queue.length !== waiters.size) world.fail("queue", `${queue.length} waiters, size ${waiters.size}`)
  const bare = queue.findIndex((waiter) => waiter.supply === undefined)
  if ((bare < 0 ? undefined : queue[bare]) !== waiters.bare) world.fail("supplies", "`bare` is not the first without")
  const promised = new Set<unknown>(waiters.spare)
  for (const [index, waiter] of queue.entries()) {
    if (!waiter.queued || waiter.settled) world.fail("queue", `waiter ${index} is settled or left, and queued`)
    if (waiter.supply === undefined) continue
    if (bare >= 0 && index > bare) world.fail("supplies", "a supply behind the first without")
    if (waiter.supply.waiter !== waiter || promised.has(waiter.supply)) world.fail("supplies", "promised twice")
    promised.add(waiter.supply)
  }
  const supplies: Array<unknown> = [...openings, ...items.filter((item) => item.status === "checking")]
  if (promised.size !== supplies.length || !supplies.every((supply) => promised.has(supply))) {
    world.fail("supplies", `${supplies.length} under way, ${promised.size} promised`)
  }
  if (waiters.spare.size > 0 && bare >= 0) world.fail("supplies", "a spare one while a waiter has none")
  if (bare >= 0 && idle.size > 0) world.fail("liveness", "a waiter without a supply while an item is idle")
  if (state.closed && (queue.length > 0 || openings.size > 0 || idle.size > 0)) world.fail("closed", counts)
}

/** When all that can run has run: nothing stands still that could go on, and what waits has an alarm. */
export const checkSettled = (inside: Inside, plan: Plan, world: World): void => {
  const { state } = inside
  const { idle, lent, openings, settings, waiters } = state
  const { blocked, probing, refillBlocked } = state.outage
  const { now } = world
  if (state.closed) return
  // A timer counts whole milliseconds.
  const armed = (alarm: Alarms.Alarm, at: number) => alarm.slot >= 0 && alarm.dueAt <= at && alarm.dueAt > now - 1
  if (blocked && !armed(inside.opens.retryAlarm, Infinity)) {
    world.fail("liveness", "retry waits and nothing will end it")
  }
  if (refillBlocked && !armed(inside.refillAlarm, Infinity)) {
    world.fail("liveness", "the refill waits and nothing will end it")
  }
  const mayOpen = !blocked && state.live < plan.max &&
    openings.size < (probing ? 1 : plan.openConcurrency)
  if (waiters.bare !== undefined && mayOpen) world.fail("liveness", "a waiter without a supply while an open may start")
  if (
    idle.size + lent + openings.size < settings.min && mayOpen && !state.lazy && !refillBlocked
  ) world.fail("min", `${idle.size} idle, ${lent} lent, ${openings.size} opening, min ${settings.min}`)
  const { head } = waiters
  if (head !== undefined && head.deadline !== Infinity) {
    if (head.deadline <= now) world.fail("borrowTimeout", `a waiter since ${head.since} waits at ${now}`)
    if (!armed(inside.deadlineAlarm, head.deadline)) world.fail("borrowTimeout", "no alarm for the first deadline")
  }
  for (const item of idleOf(inside)) {
    if (item.dueAt < Infinity && item.slot < 0) world.fail("due", `item ${item.id} is idle and not in the heap`)
  }
  const { top } = state.sweeper.due
  if (top !== undefined && !armed(inside.recycler.dueAlarm, top.dueAt + 1)) {
    world.fail("due", `an item is due after ${top.dueAt}, no alarm at ${now}`)
  }
}

/**
 * The order of lending: a queue of our own, kept by looking at the pool's after every
 * task. Nobody who is lent an item came after one that still waits.
 */
export class Fairness {
  private arrivals = 0
  private readonly arrived = new Map<number, number>()

  check(inside: Inside, world: World): void {
    const queue = waitersOf(inside)
    const lent = leasesIn(inside)
    // Who was lent an item without being seen in the queue came before who is seen there now.
    for (const { by } of lent) this.see(by)
    let last = -1
    for (const waiter of queue) {
      const place = this.see(waiter.holder.id)
      if (place < last) world.fail("fifo", `the queue's order is not that of arrival`)
      last = place
    }
    if (queue.length === 0) return
    const first = this.see(queue[0]!.holder.id)
    for (const { by, item } of lent) {
      if (this.see(by) > first) {
        world.fail("fifo", `item ${item.id} went to a borrower that came after the first waiter`)
      }
    }
  }

  private see(holder: number): number {
    let place = this.arrived.get(holder)
    if (place === undefined) this.arrived.set(holder, place = ++this.arrivals)
    return place
  }
}
