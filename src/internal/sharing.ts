// Items that several borrowers have at once. They are listed by how many have
// them, so that a newcomer joins where there are fewest, and all is O(1).
//
// Who needs an item alone waits in the same queue as all others. When it is the first,
// no item is idle and none may be opened for it, one that is shared takes no newcomer
// until it is free: for each such waiter one, the least loaded first. It is then given
// to the head of the queue like any item that comes back. So neither kind starves the
// other.
import type { Holder, Item, Share } from "./item.ts"
import { Lease } from "./item.ts"

export class Sharing<A> {
  /** By the number of borrowers: what takes more of them, or would if it were not full. */
  private readonly loads: Array<Set<Item<A>>> = []
  private least = 1
  /** Leases of shared items that run. */
  leases = 0
  /** Shared items that take no newcomer, for a waiter that needs one alone. */
  readonly draining = new Set<Item<A>>()
  private readonly concurrency: number

  constructor(concurrency: number) {
    this.concurrency = concurrency
  }

  /** The item that a newcomer joins. */
  get room(): Item<A> | undefined {
    const item = this.leastLoaded
    return item === undefined || item.share!.load >= this.concurrency ? undefined : item
  }

  private get leastLoaded(): Item<A> | undefined {
    for (; this.least < this.loads.length; this.least++) {
      const set = this.loads[this.least]
      if (set !== undefined && set.size > 0) return set.values().next().value
    }
    return undefined
  }

  /** One more borrower has the item; the first makes it a shared one. */
  join(item: Item<A>, holder: Holder, now: number): Lease<A> {
    const share = item.share ??= {
      leases: new Set(),
      free: [item.lease],
      load: 0,
      sealed: false,
      used: false,
      pending: undefined
    }
    const lease = share.free.pop() ?? new Lease(item)
    share.leases.add(lease)
    this.leases++
    lease.begin(holder, now)
    this.update(item)
    return lease
  }

  /** A borrower has left; how many are left. An item that a lease was cut off from is doomed, and begins no other. */
  leave(item: Item<A>, lease: Lease<A>): number {
    const share = item.share!
    share.leases.delete(lease)
    this.leases--
    share.free.push(lease)
    this.update(item)
    return share.leases.size
  }

  /** Its last borrower has left: it is shared no more. */
  over(item: Item<A>): void {
    this.draining.delete(item)
    const { share } = item
    if (share === undefined) return
    this.list(item, share, 0)
    item.share = undefined
    this.leases -= share.leases.size
  }

  /** Nobody joins those who have it, until the last of them has left. */
  seal(item: Item<A>): void {
    if (item.share === undefined) return
    item.share.sealed = true
    this.update(item)
  }

  /** Whether it takes newcomers may have changed. */
  update(item: Item<A>): void {
    const { share } = item
    if (share === undefined) return
    const closed = item.doom !== undefined || share.sealed || share.pending !== undefined || this.draining.has(item)
    this.list(item, share, closed ? 0 : share.leases.size)
  }

  private list(item: Item<A>, share: Share<A>, load: number): void {
    if (share.load === load) return
    this.loads[share.load]?.delete(item)
    share.load = load
    if (load === 0) return
    const set = this.loads[load] ??= new Set()
    set.add(item)
    this.least = Math.min(this.least, load)
  }

  /** So many waiters need an item alone and have none in sight. Those that have drained for longest stay when some have left. */
  drain(waiters: number): void {
    const { draining } = this
    let kept = 0
    if (draining.size > waiters) {
      for (const item of draining) {
        if (kept++ < waiters) continue
        draining.delete(item)
        this.update(item)
      }
    }
    while (draining.size < waiters) {
      const item = this.leastLoaded
      if (item === undefined) return
      draining.add(item)
      this.update(item)
    }
  }
}
