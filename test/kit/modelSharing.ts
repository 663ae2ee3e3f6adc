/** What must hold of shared items and of those who need one alone, after every task. */
import type { Item, Lease } from "../../src/internal/item.ts"
import type { Load, Share } from "../../src/internal/share.ts"
import type { Sharing } from "../../src/internal/sharing.ts"
import type { Inside, View } from "./modelInside.ts"
import type { Plan } from "./modelPlan.ts"
import type { World } from "./world.ts"

type AnyItem = Item<unknown>

/** The lists of items by their load, which are private. */
const listsOf = (sharing: Sharing<unknown>) =>
  sharing as unknown as { readonly loads: ReadonlyArray<Load<unknown> | undefined>; readonly least: number }

/** The items in one of them, and whether its links are those of a list. */
const inList = (load: Load<unknown> | undefined): { readonly items: Set<AnyItem>; readonly linked: boolean } => {
  const items = new Set<AnyItem>()
  let before: Share<unknown> | undefined
  for (let share = load?.first; share !== undefined; share = share.after) {
    if (share.before !== before || items.has(share.item)) return { items, linked: false }
    items.add(share.item)
    before = share
  }
  const { last } = (load ?? {}) as { readonly last?: Share<unknown> }
  return { items, linked: last === before }
}

/** Items that take one more borrower, with how many each has. */
export const roomsOf = ({ state }: Inside): ReadonlyMap<AnyItem, number> => {
  const rooms = new Map<AnyItem, number>()
  for (const [load, list] of listsOf(state.sharing).loads.entries()) {
    if (load >= state.settings.concurrency) continue
    for (const item of inList(list).items) rooms.set(item, load)
  }
  return rooms
}

/** Where one who packs joins others: in any case, and though an item is idle. */
export const packing = (inside: Inside, now: number) => {
  const { sharing } = inside.state
  const { last, left } = sharing as unknown as Record<"last" | "left", Share<unknown> | undefined>
  const rooms = roomsOf(inside)
  const has = (share: Share<unknown> | undefined) => share !== undefined && rooms.has(share.item) ? share : undefined
  const room = has(last) ?? Array.from(rooms.keys()).at(0)?.share
  const moves = (share: Share<unknown> | undefined) => share !== undefined && now - share.movedAt < 10
  return { room: room?.item, flowing: [room, has(left)].find(moves)?.item }
}

/** `alone`: whether that fiber's borrower asked for an item for itself. */
export const checkSharing = (
  inside: Inside,
  { items, queue }: View,
  plan: Plan,
  world: World,
  alone: (fiber: number) => boolean
): void => {
  const { checking, closed, lent, settings, sharing, suspended, waiters } = inside.state
  for (const item of items) {
    const { lease, share } = item
    if (share !== undefined) checkShare(item, share, plan, world)
    if (item.status !== "lent") continue
    const exclusive = share === undefined
    for (const { by } of exclusive ? [lease] : share.leases) {
      if (alone(by) !== exclusive) world.fail("kind", `item ${item.id} is ${exclusive ? "not " : ""}shared, by ${by}`)
    }
  }
  checkLists(inside, items, world)
  const { draining, room } = sharing
  for (const item of draining) {
    if (item.share?.load !== 0) world.fail("draining", `item ${item.id} takes newcomers, or nobody has it`)
  }

  const those = queue.filter((waiter) => waiter.alone)
  const bare = those.filter((waiter) => waiter.supply === undefined).length
  const supplied = queue.filter((waiter) => waiter.supply !== undefined).length
  if (those.length !== waiters.alone || bare !== waiters.bareAlone || supplied !== waiters.supplied) {
    world.fail(
      "counters",
      `${those.length} alone, ${bare} bare, ${supplied} supplied; counted ${waiters.alone}, ${waiters.bareAlone}, ${waiters.supplied}`
    )
  }
  if (closed || suspended) return
  // What is promised to those who share beyond their need is for the others.
  const beyond = supplied - (those.length - bare) - Math.ceil((queue.length - those.length) / plan.concurrency)
  const left = bare - Math.max(0, Math.min(beyond, bare))
  if (draining.size > left) world.fail("draining", `${draining.size} items for ${left} that need one alone`)
  // What is reset will be for one of them; and nothing drains for those behind one who shares.
  const coming = draining.size + items.filter((item) => item.status === "resetting" || item.status === "swept").length
  const listed = listsOf(sharing).loads.some((list) => list?.first !== undefined)
  if (listed && queue[0]?.alone === true && coming < left) {
    world.fail("draining", `${draining.size} items, and ${left} need one alone`)
  }
  // Nothing is lent anew as long as there are more than a new `max`.
  if (room === undefined || lent > settings.max) return
  const sharers = queue.length - those.length
  // Who would pack waits for a check rather than join those who may be held up.
  const waits = plan.sharing === "pack" && !sharing.doubtful && plan.borrowTimeout > 0 &&
    sharers <= (checking - those.length) * plan.concurrency && packing(inside, world.now).flowing === undefined
  if (sharers > 0 && !waits) world.fail("room", `item ${room.id} has room, a sharer waits`)
}

const checkShare = (item: AnyItem, share: Share<unknown>, plan: Plan, world: World): void => {
  const { leases, size } = share
  if (item.status !== "lent" || size !== leases.length || size > plan.concurrency) {
    world.fail(
      "share",
      `item ${item.id} is ${item.status} and has ${size} borrowers, of whom ${leases.length} are known`
    )
  }
  const { free } = share as unknown as { readonly free: ReadonlyArray<Lease<unknown>> }
  if (leases.some((lease) => lease.item !== item) || free.some(({ active }) => active)) {
    world.fail("share", `the leases of item ${item.id}`)
  }
}

/** Each shared item that takes newcomers is in the list of its load, and nothing else is in any. */
const checkLists = ({ state }: Inside, items: ReadonlyArray<AnyItem>, world: World): void => {
  const { draining } = state.sharing
  const { least, loads } = listsOf(state.sharing)
  for (const item of items) {
    const { doom, share } = item
    const shut = doom !== undefined || share?.pending !== undefined || draining.has(item)
    const load = share === undefined || shut ? 0 : share.size
    if (share !== undefined && share.load !== load) {
      world.fail("loads", `item ${item.id} is listed under ${share.load}, not ${load}`)
    }
    if (load > 0 && !inList(loads[load]).items.has(item)) {
      world.fail("loads", `item ${item.id} is not listed under ${load}`)
    }
  }
  for (const [load, list] of loads.entries()) {
    const { items, linked } = inList(list)
    if (!linked) world.fail("loads", `the links of load ${load}`)
    if (items.size > 0 && load < least) world.fail("loads", `${least} is not the least`)
    for (const item of items) if (item.share?.load !== load) world.fail("loads", `item ${item.id} is under ${load}`)
  }
}
