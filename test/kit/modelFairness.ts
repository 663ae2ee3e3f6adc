/**
 * The order of lending: a queue of our own, kept by looking at the pool's after every
 * task. Nobody is lent an item while one waits who came before, but that those who
 * share may pass those who do not.
 */
import type { View } from "./modelInside.ts"
import type { World } from "./world.ts"

export class Fairness {
  private arrivals = 0
  private readonly arrived = new Map<number, number>()
  /** Who waited after the last task, and who had which item. */
  private waited: ReadonlySet<number> = new Set()
  private had: ReadonlySet<number> = new Set()

  /** `who`: the borrower that a fiber works for. */
  check({ leases, queue }: View, world: World, who: (fiber: number) => number): void {
    const waits = new Set<number>()
    let last = -1
    // The first to wait of all, and of those who share, who waited before the task too.
    let first = Infinity
    let firstSharer = Infinity
    // Who was lent an item without being seen in the queue came before who is seen there now.
    for (const { by } of leases) this.see(who(by))
    for (const { alone, holder } of queue) {
      const waiter = who(holder.id)
      const place = this.see(waiter)
      waits.add(waiter)
      if (place < last) world.fail("fifo", "the queue's order is not that of arrival")
      last = place
      if (!this.waited.has(waiter)) continue
      first = Math.min(first, place)
      if (!alone) firstSharer = Math.min(firstSharer, place)
    }
    const has = new Set<number>()
    for (const { by, item } of leases) {
      const borrower = who(by)
      const lease = item.id * 1e6 + borrower
      has.add(lease)
      if (this.had.has(lease)) continue
      if (this.see(borrower) > (item.share === undefined ? first : firstSharer)) {
        world.fail("fifo", `item ${item.id} went to a borrower that came after the first waiter`)
      }
    }
    this.waited = waits
    this.had = has
  }

  private see(who: number): number {
    let place = this.arrived.get(who)
    if (place === undefined) this.arrived.set(who, place = ++this.arrivals)
    return place
  }
}
