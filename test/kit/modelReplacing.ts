/** What must hold, at rest, of old items that stay until others are open in their place. */
import type { Item, Opening } from "../../src/internal/item.ts"
import { type Inside, itemsOf } from "./modelInside.ts"
import type { Plan } from "./modelPlan.ts"
import type { World } from "./world.ts"

type AnyItem = Item<unknown>

interface Parts {
  readonly bare: ReadonlySet<AnyItem>
  readonly opening: ReadonlyMap<Opening, AnyItem>
}

export const checkReplacing = (inside: Inside, plan: Plan, world: World): void => {
  const { state } = inside
  if (state.closed) return
  const { bare, opening } = state.replacing as unknown as Parts
  const items = new Set(itemsOf(inside))
  for (const [one, item] of opening) {
    if (!state.openings.has(one)) world.fail("replacing", `open ${one.id} is over`)
    if (bare.has(item)) world.fail("replacing", `item ${item.id} has an open under way, and none`)
  }
  const opens = Array.from(opening.values())
  if (new Set(opens).size < opens.length) world.fail("replacing", "two opens for one item")
  for (const item of [...bare, ...opens]) {
    if (!items.has(item) || item.stay === undefined) world.fail("replacing", `item ${item.id} is ${item.status}`)
  }
  for (const item of items) {
    const { doom, id, stay } = item
    if (stay === undefined) continue
    if (plan.replaceTimeout === 0) world.fail("replacing", `item ${id} stays`)
    if (doom === undefined && !bare.has(item) && !opens.includes(item)) {
      world.fail("replacing", `item ${id} stays, and nothing will be opened in its place`)
    }
    if (stay.until > world.now + plan.replaceTimeout) world.fail("replacing", `item ${id} stays until ${stay.until}`)
  }
  const { opener } = state
  if (opener.mayRefill && Array.from(bare).some(({ doom }) => doom === undefined)) {
    world.fail("replacing", "an open may start, and has not")
  }
}
