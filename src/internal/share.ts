// What a shared item has besides: its borrowers, and its place in a list of items that
// as many share. It is kept for the next time that the item is shared.
import { type Item, Lease } from "./item.ts"

export class Share<A> {
  declare readonly item: Item<A>
  /** How many leases run. */
  size = 0
  /** The load under which it is listed; 0 when it takes no newcomer. */
  load = 0
  /** It takes no newcomer until it is free, whatever its load. */
  sealed = false
  /** One of its leases has ended. */
  used = false
  /** When the last of its leases ended, or, before that, the first began. */
  movedAt = 0
  /** Verdicts of rules that have to be waited for; they end the sharing. */
  pending: unknown = undefined
  before: Share<A> | undefined = undefined
  after: Share<A> | undefined = undefined
  /** As many as ever ran at once. */
  declare private readonly all: Array<Lease<A>>
  private retired: Lease<A> | undefined = undefined
  /** Those that are over and may be used again. */
  declare private readonly free: Array<Lease<A>>

  constructor(item: Item<A>) {
    this.item = item
    this.all = [item.lease]
    this.free = [item.lease]
  }

  /** The leases that run, those that began first before others. */
  get leases(): Array<Lease<A>> {
    return this.all.filter(({ active }) => active).sort((one, other) => one.order - other.order)
  }

  /** For one more borrower. */
  take(): Lease<A> {
    if (this.size === 0) {
      this.sealed = this.used = false
      this.pending = undefined
    }
    this.size++
    return this.free.pop() ?? this.more()
  }

  private more(): Lease<A> {
    const lease = new Lease(this.item)
    this.all.push(lease)
    return lease
  }

  putBack(lease: Lease<A>): void {
    this.size--
    if (lease !== this.retired) this.free.push(lease)
  }

  /** Nobody has the item any more: a few leases are kept for the next time. */
  rest(): void {
    if (this.all.length <= kept) return
    // The item's own is used again in any case.
    const others = this.free.filter((lease) => lease !== this.item.lease)
    this.all.splice(0, Infinity, this.item.lease, ...others.slice(1 - kept))
    this.free.splice(0, Infinity, ...this.all)
  }

  /** It is about to be put back, and is not used again: who has it may still end it later, and must not end another's. */
  retire(lease: Lease<A>): void {
    this.retired = lease
    this.all.splice(this.all.indexOf(lease), 1)
    if (this.item.lease === lease) this.free.push(this.item.lease = this.more())
  }
}

// Each is some 200 bytes, and most of the borrowers that share an item come again at once.
const kept = 8

/** Items that as many share, those that came to be so first before others. */
export class Load<A> {
  first: Share<A> | undefined = undefined
  private last: Share<A> | undefined = undefined

  add(share: Share<A>): void {
    share.before = this.last
    if (this.last === undefined) this.first = share
    else this.last.after = share
    this.last = share
  }

  remove(share: Share<A>): void {
    const { after, before } = share
    if (before === undefined) this.first = after
    else before.after = after
    if (after === undefined) this.last = before
    else after.before = before
    share.before = share.after = undefined
  }
}
