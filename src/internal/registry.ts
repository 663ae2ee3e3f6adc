// Every live item by its value, so that a borrower can name one. Items with equal
// values are different items and hang on one another; all is O(1), but for `find`
// among equals.
import { type Holder, type Item, leasesOf } from "./item.ts"

export class Registry<A> implements Iterable<Item<A>> {
  private readonly newest = new Map<unknown, Item<A>>()

  add(item: Item<A>): void {
    const older = item.older = this.newest.get(item.value)
    if (older !== undefined) older.newer = item
    this.newest.set(item.value, item)
  }

  remove(item: Item<A>): void {
    const { newer, older } = item
    if (older !== undefined) older.newer = newer
    if (newer !== undefined) newer.older = older
    else if (older !== undefined) this.newest.set(item.value, older)
    else this.newest.delete(item.value)
    item.older = item.newer = undefined
  }

  /** The item that a borrower means by this value: the one it holds, or else the one lent last. */
  find(value: unknown, holder: Holder | undefined): Item<A> | undefined {
    let best: Item<A> | undefined
    for (let item = this.newest.get(value); item !== undefined; item = item.older) {
      if (best === undefined || rank(item, holder) > rank(best, holder)) best = item
    }
    return best
  }

  /** A copy, for when what is done to one item can remove it and others. */
  all(): ReadonlyArray<Item<A>> {
    return Array.from(this)
  }

  *[Symbol.iterator](): Iterator<Item<A>> {
    for (const first of this.newest.values()) {
      for (let item: Item<A> | undefined = first; item !== undefined; item = item.older) yield item
    }
  }
}

// One's own, then the lent, then the others; of each kind the one that was lent last.
const rank = (item: Item<unknown>, holder: Holder | undefined): number => {
  if (item.status !== "lent") return item.lease.order - Number.MAX_SAFE_INTEGER
  let last = -Infinity
  for (const { by, order } of leasesOf(item)) {
    if (by === holder?.id) return Infinity
    last = Math.max(last, order)
  }
  return last
}
