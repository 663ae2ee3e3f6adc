// A budget whose size nobody knows: a server says "full" when it is. Then there are as
// many permits as were in use, and after a while one more open tries. When that works
// the limit grows, twice as fast each time; a refusal makes it small again.
import { Permits, type Place } from "./permits.ts"
import type { Alarm, Member } from "./seat.ts"

export class LearntPermits extends Permits {
  private readonly isFull: (error: unknown) => boolean
  private readonly alarms = new WeakMap<Place, Alarm>()
  /** There was room for so many. */
  private proven = Infinity
  /** Refusals in a row. */
  private refusals = 0
  private growth = 1
  private probeAt = -Infinity
  /** An open may be under way that tries. */
  private probing = false

  constructor(name: string, isFull: (error: unknown) => boolean) {
    super(name, Infinity, "share")
    this.isFull = isFull
  }

  /** A failure with this error means that there is no room. */
  refuses(error: unknown): boolean {
    try {
      return this.isFull(error)
    } catch {
      return false
    }
  }

  /** An open has failed so, and holds its permit still. */
  refused(member: Member): void {
    this.total = this.proven = this.used - 1
    this.growth = 1
    const now = member.now()
    // Of several that fail together one counts.
    if (!this.probing && now < this.probeAt) return
    this.probing = false
    // 100 ms, doubled to 5 s, jittered down by up to a fifth: as a refill of `min`.
    this.probeAt = now + Math.min(5000, 100 * 2 ** this.refusals++) * (1 - 0.2 * member.random())
  }

  /** An open has worked; `dispatch` follows. */
  opened(): void {
    // One in place of another says nothing of the room for more.
    if (this.used <= this.proven) return
    this.probing = false
    this.probeAt = -Infinity
    this.refusals = 0
    this.proven = this.used
    this.total = Math.max(this.total, this.used + this.growth)
    this.growth *= 2
  }

  override park(seat: Place, need: number, urgent: boolean): void {
    super.park(seat, need, urgent)
    this.probeLater(seat)
  }

  private probeLater(seat: Place): void {
    const { member } = seat
    let alarm = this.alarms.get(seat)
    if (alarm === undefined) this.alarms.set(seat, alarm = member.alarm(() => this.probe(seat)))
    alarm.set(Math.max(this.probeAt, member.now()))
  }

  private probe(seat: Place): void {
    if (seat.slot < 0) return
    const now = seat.member.now()
    if (now >= this.probeAt) {
      // Others wait for what becomes of it.
      this.probeAt = now + probePatience
      this.probing = true
      this.total = Math.max(this.total, this.used + 1)
      this.dispatch()
    }
    if (seat.slot >= 0) this.probeLater(seat)
  }
}

// Milliseconds. One open that tries may hang; another does then.
const probePatience = 5000
