// Items that several borrowers have at once. They are listed by how many have
// them, so that a newcomer joins where there are fewest, and all is O(1). A pool that packs
// has newcomers join where the last one did, until that item is full.
//
// Who needs an item alone waits in the same queue as all others. When it is the first,
// no item is idle and none may be opened for it, one that is shared takes no newcomer
// until it is free: for each such waiter one, the least loaded first. It is then given
// to the head of the queue like any item that comes back. So neither kind starves the
// other.
import type { Holder, Item, Lease } from "./item.ts"
import { Load, Share } from "./share.ts"

export class Sharing<A> {
  /** By the number of borrowers: what takes more of them, or would if it were not full. */
  private readonly loads: Array<Load<A>> = []
  private least = 1
  /** How many items are listed there. */
  private listed = 0
  /** Leases of shared items that run. */
  leases = 0
  /** Shared items that take no newcomer, for a waiter that needs one alone. */
  readonly draining = new Set<Item<A>>()
  /** Where a newcomer has joined others last. */
  private last: Share<A> | undefined = undefined
  /** Where one has left last. */
  private left: Share<A> | undefined = undefined
  /** The last check has failed: it may be long until one that is idle can be lent. */
  doubtful = false
  declare private readonly concurrency: number
  /** Who comes joins others before an idle item is taken. */
  declare readonly packs: boolean

  constructor(concurrency: number, packs: boolean) {
    this.concurrency = concurrency
    this.packs = packs
  }

  /** The item that a newcomer joins. */
  get room(): Item<A> | undefined {
    const { last } = this
    const share = last !== undefined && this.takes(last) ? last : this.leastLoaded
    return share !== undefined && this.takes(share) ? share.item : undefined
  }

  private takes({ load }: Share<A>): boolean {
    return load > 0 && load < this.concurrency
  }

  /**
   * Leases end there: nobody is held up by one that takes long. Of what was just begun that
   * is not known yet.
   */
  flows({ sharing }: Item<A>, now: number): boolean {
    return now - sharing!.movedAt < heldUp
  }

  /** The item that a newcomer joins though another is idle: where the last came, or where one has left, who then count as the last. */
  flowing(now: number): Item<A> | undefined {
    const { room } = this
    if (room !== undefined && this.flows(room, now)) return room
    const { left } = this
    if (left === undefined || !this.takes(left) || !this.flows(left.item, now)) return undefined
    this.last = left
    return left.item
  }

  /** Where leases end before where they do not. */
  roomAt(now: number): Item<A> | undefined {
    return (this.packs ? this.flowing(now) : undefined) ?? this.room
  }

  private get leastLoaded(): Share<A> | undefined {
    if (this.listed === 0) return undefined
    for (;; this.least++) {
      const first = this.loads[this.least]?.first
      if (first !== undefined) return first
    }
  }

  /** One more borrower has the item; the first makes it a shared one. */
  join(item: Item<A>, holder: Holder, now: number, order: number): Lease<A> {
    const share = item.sharing ??= new Share(item)
    const lease = share.take()
    this.leases++
    lease.begin(holder, now, order)
    if (share.size === 1) share.movedAt = now
    if (this.packs) this.last = share
    this.place(share)
    return lease
  }

  /** A borrower has left; how many are left. An item that a lease was cut off from is doomed, and begins no other. */
  leave(share: Share<A>, lease: Lease<A>): number {
    share.putBack(lease)
    this.leases--
    if (this.packs) this.left = share
    this.place(share)
    return share.size
  }

  /** Its last borrower has left: it is shared no more. */
  over(item: Item<A>): void {
    this.draining.delete(item)
    const { sharing } = item
    if (sharing === undefined) return
    // What is closed is kept by nobody.
    if (this.last === sharing) this.last = undefined
    if (this.left === sharing) this.left = undefined
    this.list(sharing, 0)
    this.leases -= sharing.size
    sharing.size = 0
    sharing.rest()
  }

  /** Nobody joins those who have it, until the last of them has left. */
  seal(item: Item<A> | undefined): void {
    const share = item?.share
    if (share === undefined) return
    share.sealed = true
    this.place(share)
  }

  /** Whether it takes newcomers may have changed. */
  update(item: Item<A>): void {
    if (item.share !== undefined) this.place(item.share)
  }

  private place(share: Share<A>): void {
    const { item } = share
    const closed = item.doom !== undefined || share.sealed || share.pending !== undefined || this.drains(item)
    this.list(share, closed ? 0 : share.size)
  }

  private drains(item: Item<A>): boolean {
    return this.draining.size > 0 && this.draining.has(item)
  }

  private list(share: Share<A>, load: number): void {
    if (share.load === load) return
    if (share.load > 0) {
      this.loads[share.load]!.remove(share)
      this.listed--
    }
    share.load = load
    if (load === 0) return
    const list = this.loads[load] ??= new Load()
    list.add(share)
    this.listed++
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
      const share = this.leastLoaded
      if (share === undefined) return
      draining.add(share.item)
      this.place(share)
    }
  }
}

// Milliseconds in which no lease of an item has ended: far more than a quick statement takes on a
// near server, and so long the statements that were sent behind a slow one may wait in vain.
const heldUp = 10
