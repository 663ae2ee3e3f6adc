// One budget of permits that several pools share. Every open, item, and closing of a
// pool holds one; a pool that gets none parks, and is given the next that comes back.
//
// What always holds:
// - used, of which the seats hold or were granted all, is above `total` only since
//   that was made smaller, or was learnt to be;
// - no permit is free while a seat is parked for a borrower, so no newcomer overtakes;
// - who is parked for a borrower makes others close idle items, the coldest first, no
//   more than are needed beyond what comes back anyway;
// - a pool that needs a permit of each of several budgets takes them in one order,
//   the same for all pools, and keeps those that it has while it waits for the next:
//   they are seldom free at the same moment, and nobody waits in a circle;
// - pools never call one another on the stack: what one does to another is done in a
//   turn of its own.
import { type Cold, Colds } from "./colds.ts"
import { earlier, type Fairness, Parked, poorer, type Seat } from "./seat.ts"

/** The place of one pool here. */
export type Place = Seat<Permits>

let made = 0

export class Permits {
  readonly name: string
  readonly fairness: Fairness
  /** Greater than that of all that were made before. */
  readonly id = ++made
  total: number
  used = 0
  /** How many permits are on their way back. */
  coming = 0
  /** How many opens are parked that borrowers wait for. */
  demand = 0
  /** How many seats reserve a permit. */
  reserved = 0
  private readonly parked: Parked<Place>
  private readonly colds = new Colds()
  private reclaiming = false
  private services = 0

  constructor(name: string, total: number, fairness: Fairness) {
    this.name = name
    this.total = total
    this.fairness = fairness
    this.parked = new Parked(fairness)
  }

  get free(): number {
    return this.total - this.used
  }

  /** How many more items have to go than are on their way. */
  get short(): number {
    return this.demand + Math.max(0, -this.free) - this.coming
  }

  // ---- permits come and go

  take(seat: Place): void {
    const parked = this.lift(seat)
    if (seat.granted === 0) this.grant(seat)
    seat.granted--
    seat.held++
    this.lower(seat, parked)
  }

  /** What holds a permit closes now. */
  closes(seat: Place): void {
    this.comes(seat, 1)
  }

  /** It takes long, or does not close after all: nobody counts on it any more. */
  stays(seat: Place): void {
    this.comes(seat, -1)
    this.reclaimSoon()
  }

  private comes(seat: Place, permits: number): void {
    const parked = this.lift(seat)
    this.coming += permits
    seat.coming += permits
    this.lower(seat, parked)
  }

  /** A permit comes back; `counted`: as one that was on its way. */
  give(seat: Place, counted: boolean): void {
    const parked = this.lift(seat)
    this.used--
    seat.held--
    if (counted) {
      this.coming--
      seat.coming--
    }
    this.lower(seat, parked)
    this.dispatch()
  }

  resize(total: number): void {
    this.total = total
    this.dispatch()
    this.reclaimSoon()
  }

  /** Free permits go to who is parked, one to each in turn. */
  dispatch(): void {
    for (let seat = this.parked.top; this.free > 0 && seat !== undefined; seat = this.parked.top) {
      const { need, urgent } = seat
      if (!urgent && this.reserved > 0) return
      this.unpark(seat)
      if (urgent) this.grantUrgent(seat, need)
      else this.grantSpare(seat, need)
    }
  }

  private grantUrgent(seat: Place, need: number): void {
    this.grant(seat)
    const opens = seat.granted
    if (!proceed(seat.all, opens, need)) return
    seat.member.wake()
    if (need > 1) proceed(seat.all, opens + 1, need - 1)
  }

  // With one of each other budget or not at all: what is opened ahead of need keeps nothing from anyone.
  private grantSpare(seat: Place, need: number): void {
    const lacking = seat.all.find(({ permits: { free, reserved } }) => free <= 0 || reserved > 0)
    if (lacking !== undefined) return lacking.permits.park(lacking, need, false)
    for (const each of seat.all) each.permits.grant(each)
    seat.member.wake()
    if (need > 1) this.enter(seat, need - 1, false)
  }

  /** The seat, which is not parked, has one more that it has not used yet. */
  grant(seat: Place): void {
    this.used++
    seat.granted++
    seat.served = ++this.services
  }

  // Its place among the parked depends on what it holds.
  private lift(seat: Place): boolean {
    const parked = seat.slot >= 0
    this.parked.remove(seat)
    return parked
  }

  private lower(seat: Place, parked: boolean): void {
    if (parked) this.parked.push(seat)
  }

  // ---- parking

  /** So many opens wait for a permit of this. */
  park(seat: Place, need: number, urgent: boolean): void {
    // What is opened ahead of need must not take what a borrower needs besides.
    for (const other of seat.all) if (other !== seat) other.permits.reserve(other, urgent)
    this.enter(seat, need, urgent)
    this.reclaimSoon()
  }

  private enter(seat: Place, need: number, urgent: boolean): void {
    seat.need = need
    seat.urgent = urgent
    seat.turn = urgent ? seat.member.turn(seat.granted) : Infinity
    if (urgent) this.demand += need
    this.parked.push(seat)
  }

  /** It waits for nothing, and keeps at most so many that it was granted; `dispatch` follows. */
  leave(seat: Place, keeps: number): void {
    this.unpark(seat)
    this.reserve(seat, false)
    const granted = Math.min(seat.granted, keeps)
    this.used -= seat.granted - granted
    seat.granted = granted
  }

  private unpark(seat: Place): void {
    if (seat.slot < 0) return
    this.parked.remove(seat)
    if (seat.urgent) this.demand -= seat.need
    seat.need = 0
  }

  private reserve(seat: Place, reserves: boolean): void {
    if (seat.reserves === reserves) return
    seat.reserves = reserves
    this.reserved += reserves ? 1 : -1
  }

  /**
   * Others are short of permits, and have a better right to this one than the pool's own
   * next borrower, who came at this turn.
   */
  yields(seat: Place, turn: number): boolean {
    // Idle items go first, in a moment.
    if (this.short <= 0 || this.reclaiming) return false
    // Below 0: there are fewer permits than before, and all have to give up some.
    const coming = this.coming - Math.max(0, -this.free)
    const better = (other: Place): number =>
      !other.urgent ? 0 : this.fairness === "arrival" ? earlier(other, turn, coming + 1) : poorer(other, seat)
    const own = seat.slot < 0 ? 0 : better(seat)
    if (this.parked.sum(better, coming + own + 1) - own > coming) return true
    const parked = this.lift(seat)
    seat.served = ++this.services
    this.lower(seat, parked)
    return false
  }

  // ---- idle items of all pools

  idle(cold: Cold): void {
    this.colds.add(cold)
    this.reclaimSoon()
  }

  busy(cold: Cold): void {
    this.colds.remove(cold)
  }

  protected reclaimSoon(): void {
    const { coldest } = this.colds
    if (this.short <= 0 || this.reclaiming || coldest === undefined) return
    this.reclaiming = true
    coldest.owner.later(() => {
      this.reclaiming = false
      this.reclaim()
    })
  }

  private reclaim(): void {
    while (this.short > 0) {
      const cold = this.colds.victim
      if (cold === undefined) return
      cold.owner.reclaim(cold)
      cold.owner.wake()
    }
  }
}

/**
 * Takes permits for so many opens of a pool, all but the last of which have theirs, in
 * their order, and parks where one lacks. True when that has them all.
 */
export const proceed = (seats: ReadonlyArray<Place>, opens: number, need: number): boolean => {
  for (const seat of seats) {
    const { permits } = seat
    if (seat.granted >= opens) continue
    if (permits.free <= 0 || permits.demand > 0) {
      permits.park(seat, need, true)
      return false
    }
    permits.grant(seat)
  }
  return true
}
