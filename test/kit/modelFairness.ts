/**
 * The order of lending: a queue of our own, kept by looking at the pool's after every
 * task. Nobody who is lent an item came after one that still waits, but that those who
 * share may pass those who do not.
 */
import type { View } from "./modelInside.ts"
import type { World } from "./world.ts"

export class Fairness {
  private arrivals = 0
  private readonly arrived = new Map<number, number>()

  /** `who`: the borrower that a fiber works for. */
  check({ leases, queue }: View, world: World, who: (fiber: number) => number): void {
    // Who was lent an item without being seen in the queue came before who is seen there now.
    for (const { by } of leases) this.see(who(by))
    let last = -1
    let firstSharer = Infinity
    for (const waiter of queue) {
      const place = this.see(who(waiter.holder.id))
      if (place < last) world.fail("fifo", `the queue's order is not that of arrival`)
      last = place
      if (!waiter.alone) firstSharer = Math.min(firstSharer, place)
    }
    if (queue.length === 0) return
    const first = this.see(who(queue[0]!.holder.id))
    for (const { by, item } of leases) {
      if (this.see(who(by)) > (item.share === undefined ? first : firstSharer)) {
        world.fail("fifo", `item ${item.id} went to a borrower that came after the first waiter`)
      }
    }
  }

  private see(who: number): number {
    let place = this.arrived.get(who)
    if (place === undefined) this.arrived.set(who, place = ++this.arrivals)
    return place
  }
}
