/** What is due by time is gone a millisecond later. */
import { idleOf, type Inside, type View } from "./modelInside.ts"
import { limits, type Plan } from "./modelPlan.ts"
import type { ModelSource } from "./modelSource.ts"
import type { World } from "./world.ts"

/** Since when an item is idle and when it was last checked, and when that was first seen. */
type Rest = readonly [idleSince: number, checkedAt: number | undefined, seenAt: number]

export class Due {
  private readonly resting = new WeakMap<object, Rest>()
  private readonly plan: Plan
  private readonly world: World
  private readonly source: ModelSource

  constructor(plan: Plan, world: World, source: ModelSource) {
    this.plan = plan
    this.world = world
    this.source = source
  }

  /** After every task: what a group had and did not use comes back as it went, and goes as late as any other. */
  look({ items }: View): void {
    for (const item of items) if (item.status !== "idle") this.resting.delete(item)
  }

  /** At rest. `min` is spared by the idle rules alone. */
  check(inside: Inside): void {
    const { plan, world } = this
    // What became idle after a stall has been due for long, and its alarm rings in a millisecond.
    if (world.now <= world.stalledAt + 1) return
    const { idle, lent, settings } = inside.state
    const spoils = idle.size + lent > settings.min && (settings.minIdle === 0 || idle.size > settings.minIdle)
    for (const item of idleOf(inside)) {
      // A millisecond of its own, since it is idle again.
      let rest = this.resting.get(item)
      if (rest === undefined || rest[0] !== item.idleSince || rest[1] !== item.checkedAt) {
        this.resting.set(item, rest = [item.idleSince, item.checkedAt, world.now])
      }
      if (world.now <= rest[2] + 1) continue
      // A replacement may be under way.
      if (item.stay !== undefined && world.now <= item.stay.until + 1) continue
      const { goesBy } = this.source.byScope.get(item.scope)!
      if (world.now > goesBy + 1) world.fail("overdue", `item ${item.id} was to go by ${goesBy}`)
      const age = world.now - item.openedAt
      const resting = world.now - item.idleSince
      if (plan.rules.includes("age") && age > limits.age + 1) world.fail("overdue", `item ${item.id} is ${age} ms old`)
      if (plan.rules.includes("after") && age > limits.after + 1) {
        world.fail("overdue", `item ${item.id}: after, ${age}`)
      }
      if (plan.rules.includes("idle") && resting > limits.idle + 1 && spoils) {
        world.fail(
          "overdue",
          `item ${item.id} is idle for ${resting} ms, ${idle.size + lent} items, min ${settings.min}`
        )
      }
    }
  }
}
