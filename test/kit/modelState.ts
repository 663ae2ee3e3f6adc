/** What must hold of the state machine's data after every task, and at rest. */
import type * as Alarms from "../../src/internal/alarms.ts"
import { idleOf, type Inside, type View, waitersOf } from "./modelInside.ts"
import type { Plan } from "./modelPlan.ts"
import type { World } from "./world.ts"

/** After every task: the counts, the lists and the queue agree with one another. */
export const checkStep = (inside: Inside, view: View, plan: Plan, world: World): void => {
  checkItems(inside, view, world)
  checkTurn(inside, view, plan, world)
  checkQueue(inside, view, plan, world)
  checkCalm(inside, false, world)
}

/** The short way is closed as soon as something stands in it, and open again at rest. */
const checkCalm = ({ state }: Inside, rest: boolean, world: World): void => {
  const { calm } = state
  state.ease()
  if (calm && !state.calm) world.fail("calm", "a lease may go on the short way, and must not")
  if (rest && !calm && state.calm) world.fail("calm", "a lease might go on the short way, and may not")
}

const statuses = { idle: 0, lent: 0, checking: 0, swept: 0, resetting: 0, fresh: 0, closing: 0 }

const checkItems = ({ state }: Inside, { idle, items, leases }: View, world: World): void => {
  const count = { ...statuses }
  for (const item of items) {
    const { id, linked, status } = item
    count[status]++
    const held = item.share === undefined ? item.lease.active : item.share.size > 0
    if (held !== (status === "lent")) world.fail("holder", `item ${id} is ${status}, held by ${item.lease.by}`)
    if (linked !== (status === "idle")) world.fail("links", `item ${id} is ${status}`)
    if (status === "idle" && item.doom !== undefined) world.fail("doomed", `item ${id} is idle`)
  }
  const busy = count.lent + count.checking + count.swept + count.resetting
  if (
    count.idle !== state.idle.size || idle.length !== count.idle || count.checking !== state.checking ||
    count.swept !== state.sweeping || busy !== state.lent || count.fresh + count.closing > 0 || state.closing < 0
  ) {
    const { checking, closing, idle: { size }, lent } = state
    const counted = `${size} idle, ${lent} lent, ${checking} checking, ${closing} closing`
    world.fail("counts", `${counted}; items are ${items.map((item) => item.status).join(", ")}`)
  }
  if (state.idle.size > state.settings.maxIdle) world.fail("maxIdle", `${state.idle.size} idle`)
  if (leases.length !== state.leases) world.fail("leases", `${leases.length} run, ${state.leases} are counted`)
  const unseen = leases.filter(({ taken }) => !taken).length
  if (unseen !== state.unseen) world.fail("leases", `${unseen} are unseen, ${state.unseen} are counted`)
}

/** The item that is next is the right one by the order, and of the hybrid order's core there are no more than `min`. */
const checkTurn = ({ state }: Inside, { idle }: View, { order }: Plan, world: World): void => {
  let core = 0
  for (const item of idle) if (item.core) core++
  if (core > (order === "hybrid" ? state.settings.min : 0)) world.fail("core", `${core} items`)
  const next = order === "fifo" ? idle[0] : core > 0 ? idle.find((item) => item.core) : idle.at(-1)
  if (state.idle.next !== next) world.fail("core", `item ${state.idle.next?.id} is next, not ${next?.id}`)
}

/** The waiters that have a supply are a prefix, and each supply is promised once. */
const checkQueue = ({ state }: Inside, { items, queue }: View, plan: Plan, world: World): void => {
  const { checking, closed, idle, openings, suspended, waiters } = state
  if (queue.length !== waiters.size) world.fail("queue", `${queue.length} waiters, size ${waiters.size}`)
  const promised = new Set<unknown>(waiters.spare)
  let bare: unknown
  for (const waiter of queue) {
    if (!waiters.has(waiter) || waiter.settled) world.fail("queue", "a waiter is settled or left, and queued")
    if (waiter.supply === undefined) {
      bare ??= waiter
      continue
    }
    if (bare !== undefined) world.fail("supplies", "a supply behind the first without")
    if (waiter.supply.waiter !== waiter || promised.has(waiter.supply)) world.fail("supplies", "promised twice")
    promised.add(waiter.supply)
  }
  if (bare !== waiters.bare) world.fail("supplies", "`bare` is not the first without")
  let opening = 0
  for (const one of openings) {
    // A trial is for nobody, and waits for nothing but room.
    if (one.trial !== undefined) continue
    opening++
    if (!promised.has(one)) world.fail("supplies", `open ${one.id} is not promised`)
  }
  if (opening > plan.openConcurrency) world.fail("openConcurrency", `${opening} opening`)
  for (const item of items) {
    if (item.status === "checking" && !promised.has(item)) world.fail("supplies", `item ${item.id} is not promised`)
  }
  if (promised.size !== opening + checking) {
    world.fail("supplies", `${opening + checking}, and ${promised.size} promised`)
  }
  if (waiters.spare.size > 0 && bare !== undefined) world.fail("supplies", "a spare one while a waiter has none")
  if (queue.length > checking && idle.size > 0 && !suspended) world.fail("liveness", "a waiter while an item is idle")
  if (closed && (queue.length > 0 || openings.size > 0 || idle.size > 0)) {
    world.fail("closed", `${queue.length} wait, ${openings.size} opening, ${idle.size} idle`)
  }
}

/** When all that can run has run: nothing stands still that could go on, and what waits has an alarm. */
export const checkSettled = (inside: Inside, plan: Plan, world: World): void => {
  const { state } = inside
  const { blocked, held, refillBlocked } = state.outage
  const { now } = world
  if (state.closed) return
  // A timer counts whole milliseconds.
  const armed = (alarm: Alarms.Alarm, at: number) => alarm.slot >= 0 && alarm.dueAt <= at && alarm.dueAt > now - 1
  if (blocked && !armed(inside.opens.retryAlarm, Infinity)) {
    world.fail("liveness", "retry waits and nothing will end it")
  }
  if ((refillBlocked || held) && !armed(inside.refillAlarm, Infinity)) {
    world.fail("liveness", "the refill waits and nothing will end it")
  }
  checkOpens(inside, plan, world)
  checkCalm(inside, true, world)
  const first = Math.min(...waitersOf(inside).map((waiter) => state.queue.deadline(waiter)))
  if (first <= now) world.fail("borrowTimeout", `a waiter whose time ended at ${first} waits at ${now}`)
  if (first < Infinity && !armed(inside.deadlineAlarm, first)) {
    world.fail("borrowTimeout", "no alarm for the first deadline")
  }
  for (const item of idleOf(inside)) {
    if (item.dueAt < Infinity && item.slot < 0) world.fail("due", `item ${item.id} is idle and not in the heap`)
  }
  const { top } = state.sweeper.due
  if (top !== undefined && !armed(inside.recycler.dueAlarm, top.dueAt + 1)) {
    world.fail("due", `an item is due after ${top.dueAt}, no alarm at ${now}`)
  }
}

/** No open that is needed, and may start, has not. */
const checkOpens = ({ state }: Inside, plan: Plan, world: World): void => {
  const { idle, lent, openings, outage, settings, waiters } = state
  const mayOpen = !state.suspended && !outage.blocked && !outage.held && state.live < settings.max &&
    openings.size < (outage.probing ? 1 : plan.openConcurrency)
  if (!mayOpen) return
  // One that is on its way serves several who share it.
  const needed = waiters.alone + Math.ceil((waiters.size - waiters.alone) / plan.concurrency)
  const few = plan.concurrency === 1 || waiters.supplied < needed
  if (waiters.bare !== undefined && few) world.fail("liveness", "a waiter without a supply while an open may start")
  if (state.lazy || outage.refillBlocked) return
  const items = idle.size + lent + openings.size - state.replacing.underWay
  // Who has an item alone takes all the places of it.
  let places = waiters.alone * plan.concurrency + waiters.size - waiters.alone
  for (const { share } of state.items) places += share === undefined ? 0 : share.size
  for (const { lease, share } of state.items) if (share === undefined && lease.active) places += plan.concurrency
  const used = places / (items * plan.concurrency)
  // What a sweep looks at is nobody's, and comes back.
  const out = lent - Array.from(state.items).filter(({ status }) => status === "swept").length
  const wanted = Math.min(settings.max, Math.max(settings.min, settings.minIdle > 0 ? out + settings.minIdle : 0))
  // No more are opened ahead than may be idle.
  const ahead = plan.targetUtilization < 1 && used > plan.targetUtilization && items < out + settings.maxIdle
  if (items < wanted || ahead) {
    world.fail("min", `${idle.size} idle, ${lent} lent, ${openings.size} opening, min ${settings.min}, use ${used}`)
  }
}
