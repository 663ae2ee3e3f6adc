/** Which item is lent, where no step came between the asking and the lending. */
import type { Item } from "../../src/internal/item.ts"
import { idleOf, type Inside, unservedOf } from "./modelInside.ts"
import type { Loan } from "./modelLoan.ts"
import { limits, type Plan } from "./modelPlan.ts"
import { packing, roomsOf } from "./modelSharing.ts"
import type { World } from "./world.ts"

type AnyItem = Item<unknown>

/** What a borrower finds. */
export interface Before {
  /** Nobody waits, and nothing forbids to lend. */
  readonly free: boolean
  readonly openings: number
  readonly unserved: number
  readonly idle: ReadonlyArray<AnyItem>
  /** The order in which these are lent: what comes back may be of the hybrid order's core no more. */
  readonly turn: ReadonlyArray<AnyItem>
  /** Those of them that need a check. */
  readonly unproven: ReadonlySet<AnyItem>
  readonly rooms: ReadonlyMap<AnyItem, number>
  /** Where one who packs joins others: in any case, and though an item is idle. */
  readonly packing: ReturnType<typeof packing> | undefined
}

export const lookBefore = (
  inside: Inside,
  { check, checkAfter, order, sharing }: Plan,
  { now }: World
): Before => {
  const { closed, lent, openings, settings, suspended, waiters } = inside.state
  const idle = idleOf(inside)
  const unproven = idle.filter((item) =>
    check && Math.min(now - item.idleSince, now - (item.checkedAt ?? -Infinity)) >= checkAfter
  )
  return {
    free: waiters.size === 0 && !closed && !suspended && lent <= settings.max,
    openings: openings.size,
    unserved: unservedOf(inside),
    idle,
    turn: inTurn(idle, order),
    unproven: new Set(unproven),
    rooms: roomsOf(inside),
    packing: sharing === "pack" ? packing(inside, now) : undefined
  }
}

/** The order in which idle items are lent. */
const inTurn = (idle: ReadonlyArray<AnyItem>, order: Plan["order"]): ReadonlyArray<AnyItem> => {
  if (order === "fifo") return idle
  if (order === "lifo") return idle.toReversed()
  return [...idle.filter(({ core }) => core), ...idle.filter(({ core }) => !core).toReversed()]
}

/** The item lent is at the right end of the idle list, but for those that the rules ended. */
export const checkLend = (inside: Inside, plan: Plan, world: World, loan: Loan, before: Before): void => {
  if (!before.free) {
    if (loan.mode === "available") world.fail("available", `borrower ${loan.id} passes those who wait`)
    return
  }
  // A borrower that takes what is there need not wait for the check of another; a group takes several.
  if (typeof loan.mode === "number" || (loan.mode === "available" && plan.check)) return
  const [entry] = loan.entries
  const from = before.turn
  const index = from.findIndex((item) => item.scope === entry!.scope)
  if (index < 0) return checkJoin(world, entry!, before, from[0])
  const flowing = before.packing?.flowing
  // What a rule has ended meanwhile is nobody's to join.
  if (loan.mode === undefined && flowing !== undefined && flowing.share?.load === before.rooms.get(flowing)) {
    world.fail("pack", `item ${entry!.number} was idle, and lent before another was full`)
  }
  if (from.slice(0, index).some((item) => item.status === "idle")) {
    world.fail("idle order", `item ${entry!.number} of ${from.length}`)
  }
  if (plan.reset && loan.soiled) world.fail("not reset", `item ${entry!.number}`)
  if (before.unproven.has(from[index]!)) world.fail("unproven", `item ${entry!.number}`)
  const { idle, lent, settings } = inside.state
  const since = from[index]!.idleSince
  if (
    plan.rules.includes("idle") && world.now > since + limits.idle && settings.minIdle === 0 &&
    idle.size + lent > settings.min
  ) {
    world.fail("lent past its limit", `item ${entry!.number} was idle for ${world.now - since} ms`)
  }
}

/** An idle item whose turn it is, and that needs no check, is lent before a shared one, and of these the one with the fewest borrowers. */
const checkJoin = (
  world: World,
  { number, scope }: { readonly number: number; readonly scope: unknown },
  { packing, rooms, unproven }: Before,
  next: AnyItem | undefined
): void => {
  const joined = Array.from(rooms).find(([item]) => item.scope === scope)
  if (joined === undefined) return
  const to = packing?.flowing ?? packing?.room
  if (to !== undefined) {
    if (to.scope !== scope && to.share?.load === rooms.get(to)) world.fail("pack", `item ${to.id} is to be joined`)
    if (packing?.flowing !== undefined) return
  }
  if (next?.status === "idle" && !unproven.has(next)) {
    world.fail("join", `item ${number} is shared, and another is idle`)
  }
  if (packing !== undefined) return
  for (const [item, load] of rooms) {
    if (load < joined[1] && item.share?.load === load) world.fail("join", `item ${item.id} has fewer borrowers`)
  }
}

/** Nothing was there for the taking, and no open has begun for who asked. */
export const checkNothing = ({ state }: Inside, plan: Plan, world: World, before: Before): void => {
  // What a rule ends when it is looked at may be refilled.
  const retires = [...before.idle, ...before.rooms.keys()].some(({ retirement }) => retirement !== undefined)
  if (plan.rules.length > 0 || retires) return
  if (state.openings.size > before.openings) world.fail("available", "an open has begun")
  if (!before.free) return
  const [next] = before.turn
  const proven = [next, before.idle.at(-1)].some((item) => item !== undefined && !before.unproven.has(item))
  if (proven || before.rooms.size > 0) world.fail("available", "an item is there, and nothing is lent")
}

/** What comes back is the warmest. */
export const checkReturn = (inside: Inside, world: World, loan: Loan): void => {
  const { idle } = inside.state
  const items = idleOf(inside).filter((item) => loan.entries.some((entry) => entry.scope === item.scope))
  if (items.length > 0 && items.at(-1) !== idle.warmest) world.fail("idle order", "returned, and not the warmest")
}
