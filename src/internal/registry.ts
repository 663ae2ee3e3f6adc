// Every live item by its value, so that a borrower can name one in O(1). Items
// with equal values are different items: they hang on one another as twins.
import type { Holder, Item } from "./item.ts"

export class Registry<A> implements Iterable<Item<A>> {
  private readonly newest = new Map<unknown, Item<A>>()

  add(item: Item<A>): void {
    item.twin = this.newest.get(item.value)
    this.newest.set(item.value, item)
  }

  remove(item: Item<A>): void {
    const first = this.newest.get(item.value)
    if (first === item) {
      if (item.twin === undefined) this.newest.delete(item.value)
      else this.newest.set(item.value, item.twin)
    } else {
      for (let twin = first; twin !== undefined; twin = twin.twin) {
        if (twin.twin === item) twin.twin = item.twin
      }
    }
    item.twin = undefined
  }

  /** The item that a borrower means by this value: the one it holds, or else the one lent last. */
  find(value: unknown, holder: Holder | undefined): Item<A> | undefined {
    let best: Item<A> | undefined
    for (let item = this.newest.get(value); item !== undefined; item = item.twin) {
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
      for (let item: Item<A> | undefined = first; item !== undefined; item = item.twin) yield item
    }
  }
}

const rank = (item: Item<unknown>, holder: Holder | undefined): number =>
  item.status !== "lent" ? -1 : item.holder === holder ? Infinity : item.lentAt
