// When items came back. Where leases follow one another so fast that reading the clock
// at the end of each would cost as much as all else, an item counts as idle from the end
// of the turn in which it came back, or until it is lent again: a little too late, never
// too early, so that no rule speaks of it before its time.
import type { Item } from "./item.ts"

interface Caller {
  readonly now: () => number
  readonly later: (task: () => void) => void
}

export class Undated<A> {
  /** Leases begin so fast. */
  rapid = false
  private begun = -Infinity
  private ended = -Infinity
  /** What came back in this turn; some of it may be lent again. */
  private readonly items: Array<Item<A>> = []
  private readonly caller: Caller

  constructor(caller: Caller) {
    this.caller = caller
  }

  /** When a lease last ended. */
  get usedAt(): number {
    this.dateAll()
    return this.ended
  }

  set usedAt(now: number) {
    this.ended = now
  }

  /** A lease begins. */
  began(now: number): void {
    this.rapid = now - this.begun < rapidly
    this.begun = now
  }

  /** The item came back, and nobody has read the clock. */
  add(item: Item<A>): void {
    item.undated = true
    if (item.toBeDated) return
    item.toBeDated = true
    if (this.items.push(item) === 1) this.caller.later(this.dateAll)
  }

  /** If nobody knows since when it is idle, it is from now on. */
  date(item: Item<A>, now: number): void {
    if (!item.undated) return
    item.undated = false
    item.idleSince = this.ended = now
  }

  readonly dateAll = (): void => {
    if (this.items.length === 0) return
    const now = this.caller.now()
    for (const item of this.items.splice(0)) {
      item.toBeDated = false
      this.date(item, now)
    }
  }
}

// Milliseconds: 20,000 leases a second one after the other. A clock costs 40 to 100 ns,
// and a task in a turn of its own some times as much: it has to serve many.
const rapidly = 0.05
