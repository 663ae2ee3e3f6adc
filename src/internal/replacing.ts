// Make before break: an item that is only old goes on serving until another is open
// in its place, when there is room for both, and in any case no longer than
// `replaceTimeout`.
import type { Item, Opening } from "./item.ts"
import type { Pooled } from "./pooled.ts"

/** What starts an open. */
interface Opens {
  readonly mayRefill: boolean
  readonly start: (now: number) => Opening
}

export class Replacing<A> {
  private readonly state: Pooled<A>
  private readonly opens: () => Opens
  /** Items that stay and have no open under way for them. */
  private readonly bare = new Set<Item<A>>()
  private readonly opening = new Map<Opening, Item<A>>()

  constructor(state: Pooled<A>, opens: () => Opens) {
    this.state = state
    this.opens = opens
  }

  /** True when the old item may stay for now. `wanted`: somebody uses it, or would now. */
  mayStay(item: Item<A>, reason: string, wanted: boolean, now: number): boolean {
    const { closed, idle, lent, live, settings } = this.state
    if (settings.replaceTimeout === 0 || closed || live >= settings.max) return false
    if (!wanted && idle.size + lent > settings.min) return false
    item.stay = { reason, until: now + settings.replaceTimeout }
    this.bare.add(item)
    this.go(now)
    return true
  }

  /** Opens what is to replace, as far as may be. */
  go(now: number): void {
    for (const item of this.bare) {
      const opens = this.opens()
      if (!opens.mayRefill) return
      this.bare.delete(item)
      this.opening.set(opens.start(now), item)
    }
  }

  replaced(opening: Opening, now: number): void {
    const item = this.opening.get(opening)
    if (item === undefined) return
    this.opening.delete(opening)
    this.state.doom(item, item.stay!.reason, now)
  }

  notReplaced(opening: Opening): void {
    const item = this.opening.get(opening)
    if (item === undefined) return
    this.opening.delete(opening)
    this.bare.add(item)
  }

  /** The item is gone, replaced or not. */
  forget(item: Item<A>): void {
    if (item.stay === undefined) return
    this.bare.delete(item)
    for (const [opening, one] of this.opening) if (one === item) this.opening.delete(opening)
  }
}
