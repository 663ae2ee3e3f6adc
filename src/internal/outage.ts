// What a pool holds back while its source is ill. After a failed open with a
// `retry` Schedule nothing opens until the Schedule's delay is over, and then one
// open alone, the probe. A refill of `min` that nobody waits for has a delay of its
// own. An open that succeeds ends all of it, unless items end as soon as they are
// open: then it takes one that was of use, or the time.
import type * as Cause from "effect/Cause"
import type { Opening } from "./item.ts"

export class Outage {
  lastFailure: Cause.Cause<unknown> | undefined = undefined
  /** A retry's delay is running. */
  blocked = false
  /** A refill's delay is running. */
  refillBlocked = false
  /** One open at a time: a warm-up's first, or the probe of a retry. */
  probing = false
  /** That open, while it is under way. Those that began before it do not stand in for it. */
  private probe: Opening | undefined = undefined
  /** Of several opens that fail together, the first ends the round and the others count no more. */
  round = 0
  /** Items that ended soon after they were opened, one after another, and were never lent. */
  shortLives = 0
  /** The newest of them. */
  private lastShort = 0
  /** Items end before those have them for whom they were opened: nothing opens until the refill's delay is over. */
  held = false
  /** Refills that came to nothing, one after another. */
  private failures = 0
  private readonly changed: () => void

  /** `changed` hears that it has become doubtful, or may be so no more. */
  constructor(changed: () => void) {
    this.changed = changed
  }

  /** Whether opens are of any use: what is lent may prove it. */
  get doubtful(): boolean {
    return this.shortLives > 0 || this.held
  }

  get mayOpen(): boolean {
    return !this.blocked && !this.held && !(this.probing && this.probe !== undefined)
  }

  began(opening: Opening): void {
    if (this.probing) this.probe = opening
  }

  /** True when this failure is the one to be retried. */
  failed(opening: Opening, cause: Cause.Cause<unknown>, retryable: boolean): boolean {
    this.lastFailure = cause
    if (this.probe === opening) this.probe = undefined
    if (!retryable || opening.round !== this.round) return false
    this.round++
    this.blocked = true
    return true
  }

  succeeded(): void {
    this.round++
    // Of what use it is will be seen.
    if (this.shortLives === 0) {
      this.failures = 0
      this.refillBlocked = false
    }
    this.blocked = this.probing = false
    this.probe = this.lastFailure = undefined
  }

  /** The delay is over: one open may try. */
  resume(): void {
    this.blocked = false
    this.probing = true
  }

  /** The Schedule is over: opens are free again. */
  end(): void {
    this.blocked = this.probing = false
  }

  /** An item has ended soon after it was opened, and nobody had it; how many have in a row. */
  wasted(item: number): number {
    this.lastShort = Math.max(this.lastShort, item)
    this.shortLives++
    this.changed()
    return this.shortLives
  }

  /** An item has lasted or was of use. One that is older says nothing of those that are opened now. */
  proved(item: number): void {
    if (item <= this.lastShort) return
    this.shortLives = 0
    this.held = false
    this.changed()
  }

  hold(): void {
    this.held = true
    this.changed()
  }

  /** The delay of a refill is over. */
  release(): void {
    this.held = this.refillBlocked = false
    this.changed()
  }

  /** Blocks the refill; how many have come to nothing in a row, or 0 when it is blocked already. */
  holdRefill(): number {
    if (this.refillBlocked) return 0
    this.refillBlocked = true
    return ++this.failures
  }
}
