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
    const { budget, idle, lent, live, settings } = this.state
    if (settings.replaceTimeout === 0 || live >= settings.max || budget?.spare === false) return false
    // What the rules' functions did may have been the end of it.
    if (item.status === "closing") return false
    if (!wanted && idle.size + lent > this.state.wanted) return false
    item.stay = { reason, until: now + settings.replaceTimeout }
    this.bare.add(item)
    this.go(now)
    return true
  }

  /** How many opens are under way that add nothing in the end. */
  get underWay(): number {
    return this.opening.size
  }

  /** Opens what is to replace, as far as may be. */
  go(now: number): void {
    if (this.bare.size === 0) return
    for (const item of this.bare) {
      const opens = this.opens()
      if (!opens.mayRefill) return
      this.bare.delete(item)
      // One that is to go in any case is replaced when somebody needs it.
      if (item.doom !== undefined) continue
      this.opening.set(opens.start(now), item)
      this.state.ease()
    }
  }

  replaced(opening: Opening, now: number): void {
    const item = this.over(opening)
    if (item !== undefined) this.state.ending.doom(item, item.stay!.reason, now)
  }

  notReplaced(opening: Opening): void {
    const item = this.over(opening)
    if (item !== undefined) this.bare.add(item)
  }

  private over(opening: Opening): Item<A> | undefined {
    const item = this.opening.get(opening)
    this.opening.delete(opening)
    return item
  }

  /** The item is gone, replaced or not. */
  forget(item: Item<A>): void {
    if (item.stay === undefined) return
    this.bare.delete(item)
    for (const [opening, one] of this.opening) if (one === item) this.opening.delete(opening)
  }
}
