// How long leases run, where `leaseWarning` or `maxLease` ask. All leases have the
// same time, so the order in which they began is the order in which they are due:
// a lease costs an entry in a set, and the pool one alarm.
import type { Alarm, Alarms } from "./alarms.ts"
import type { Lease } from "./item.ts"
import type { LeaseClock } from "./pooled.ts"

/** Rings for each lease that runs longer. */
class Countdown<A> {
  private readonly leases = new Set<Lease<A>>()
  private readonly alarms: Alarms
  private readonly millis: number
  private readonly alarm: Alarm

  constructor(alarms: Alarms, now: () => number, millis: number, ring: (lease: Lease<A>) => void) {
    this.alarms = alarms
    this.millis = millis
    this.alarm = alarms.make(() => {
      const at = now()
      for (const lease of this.leases) {
        if (lease.since + millis > at) return this.arm(lease)
        this.leases.delete(lease)
        ring(lease)
      }
    })
  }

  add(lease: Lease<A>): void {
    this.leases.add(lease)
    if (this.alarm.slot < 0) this.arm(lease)
  }

  remove(lease: Lease<A>): void {
    this.leases.delete(lease)
  }

  private arm(lease: Lease<A>): void {
    this.alarms.set(this.alarm, lease.since + this.millis)
  }
}

export interface Limits {
  /** Milliseconds; Infinity: none. */
  readonly leaseWarning: number
  readonly maxLease: number
  /** What the end of a lease may take beyond `maxLease`. */
  readonly closeTimeout: number
}

export interface Ends<A> {
  readonly warn: (lease: Lease<A>) => void
  readonly end: (lease: Lease<A>) => void
  /** It was ended, and has not come to its end. */
  readonly cutOff: (lease: Lease<A>) => void
}

/** Undefined when nobody asks: then a lease costs nothing. */
export const leaseClock = <A>(
  alarms: Alarms,
  now: () => number,
  { closeTimeout, leaseWarning, maxLease }: Limits,
  ends: Ends<A>
): LeaseClock<A> | undefined => {
  const countdown = (millis: number, ring: (lease: Lease<A>) => void): Countdown<A> | undefined =>
    millis < Infinity ? new Countdown(alarms, now, millis, ring) : undefined
  const cuts = countdown(maxLease + closeTimeout, ends.cutOff)
  const limits = countdown(maxLease, (lease) => {
    cuts!.add(lease)
    ends.end(lease)
  })
  const warnings = countdown(leaseWarning, ends.warn)
  if (limits === undefined && warnings === undefined) return undefined
  return {
    started: (lease) => {
      warnings?.add(lease)
      limits?.add(lease)
    },
    over: (lease) => {
      warnings?.remove(lease)
      limits?.remove(lease)
      cuts?.remove(lease)
    }
  }
}
