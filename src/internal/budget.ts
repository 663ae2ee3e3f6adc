// What stands between a pool and its opens: a permit of each budget that it shares
// with others. Without such a budget a pool has none of this.
import { Cold } from "./colds.ts"
import type { Item } from "./item.ts"
import { LearntPermits } from "./learntPermits.ts"
import { type Permits, type Place, proceed } from "./permits.ts"
import { type Alarm, type Member, Seat } from "./seat.ts"

/** For whom the next opens would be. */
export interface Need {
  readonly opens: number
  /** Somebody waits for the first of them; otherwise they are ahead of need. */
  readonly urgent: boolean
}

export class Budget<A> {
  private readonly seats: ReadonlyArray<Place>
  private readonly member: Member
  private readonly learnt: ReadonlyArray<LearntPermits>
  /** What closes, from when, as long as others count on it. */
  private coming: Map<number, number> | undefined = undefined
  private alarm: Alarm | undefined = undefined

  constructor(permits: ReadonlyArray<Permits>, member: Member) {
    this.member = member
    this.learnt = permits.filter((each) => each instanceof LearntPermits)
    this.seats = permits.toSorted(inOrder).map((each) => new Seat(each, member))
    for (const seat of this.seats) seat.all = this.seats
  }

  /** An item's places among the idle items of all pools. */
  places(item: Item<A>): ReadonlyArray<Cold> {
    return this.seats.map(() => new Cold(this.member, item))
  }

  /** An open for a borrower may start. */
  get available(): boolean {
    return this.seats.every((seat) => seat.available)
  }

  /** An open that nobody waits for may start. */
  get spare(): boolean {
    return this.seats.every((seat) => seat.spare)
  }

  /** Where a borrower of the pool waits for a permit. */
  get lacking(): Permits | undefined {
    return this.seats.find(({ slot, urgent }) => slot >= 0 && urgent)?.permits
  }

  /** The same, for who is told of it. */
  get told(): { readonly name: string; readonly used: number; readonly permits: number } | undefined {
    const { lacking } = this
    return lacking && { name: lacking.name, used: lacking.used, permits: lacking.total }
  }

  /** It was parked when it last asked. */
  get waits(): boolean {
    for (const { slot } of this.seats) if (slot >= 0) return true
    return false
  }

  /** How many opens wait for a permit. */
  get parked(): number {
    return this.seats.reduce((sum, { need }) => sum + need, 0)
  }

  take(): void {
    for (const seat of this.seats) seat.permits.take(seat)
  }

  /** This closes now, or will as soon as its borrowers have left. */
  closes(id: number): void {
    const coming = this.coming ??= new Map()
    const known = coming.delete(id)
    coming.set(id, this.member.now())
    if (coming.size === 1) this.watch(coming)
    if (known) return
    for (const seat of this.seats) seat.permits.closes(seat)
  }

  /** It does not close after all, or takes long. */
  stays(id: number): void {
    if (this.coming?.delete(id) !== true) return
    for (const seat of this.seats) seat.permits.stays(seat)
  }

  /** It is gone. */
  give(id: number): void {
    const counted = this.coming?.delete(id) === true
    if (counted && this.coming!.size === 0) this.alarm!.cancel()
    for (const seat of this.seats) seat.permits.give(seat, counted)
  }

  private watch(coming: ReadonlyMap<number, number>): void {
    this.alarm ??= this.member.alarm(() => this.late(coming))
    for (const since of coming.values()) return this.alarm.set(since + closePatience)
  }

  // A close that hangs must not keep others from what is idle elsewhere.
  private late(coming: ReadonlyMap<number, number>): void {
    const now = this.member.now()
    for (const [id, since] of coming) {
      if (now < since + closePatience) break
      this.stays(id)
    }
    this.watch(coming)
  }

  /**
   * What the pool needs beyond what it could take: it parks where one lacks. For a borrower
   * it keeps what comes before that one in the order, and else nothing. True when a borrower
   * begins to wait for one.
   */
  want(need: Need | undefined): boolean {
    const before = this.lacking
    const urgent = need?.urgent === true
    const lacking = need && this.seats.find((seat) => urgent ? !seat.available : !seat.spare)
    const kept = urgent && lacking !== undefined ? this.seats.indexOf(lacking) : 0
    for (const [i, seat] of this.seats.entries()) seat.permits.leave(seat, i < kept ? 1 : 0)
    if (lacking !== undefined && urgent) proceed(this.seats, 1, need.opens)
    else if (lacking !== undefined) lacking.permits.park(lacking, need!.opens, false)
    for (const { permits } of this.seats) permits.dispatch()
    return before === undefined && this.lacking !== undefined
  }

  /** What it wanted it wants no more; in a turn of its own the pool asks for what it needs still. */
  askAgain(): void {
    this.want(undefined)
    this.member.wake()
  }

  /** Others have a better right to a permit than the pool's own next borrower, who came at this turn. */
  yields(turn: number): boolean {
    for (const seat of this.seats) if (seat.permits.yields(seat, turn)) return true
    return false
  }

  /** It waits for no permit, and nobody is short of one that it has. */
  get atEase(): boolean {
    for (const { permits, slot } of this.seats) if (slot >= 0 || permits.short > 0) return false
    return true
  }

  /** Somebody who shares a budget with this pool is short of permits. */
  get pressed(): boolean {
    return this.seats.some(({ permits }) => permits.short > 0)
  }

  /** And this pool has more than its share. */
  get overShare(): boolean {
    return this.yields(Infinity)
  }

  idle(item: Item<A>): void {
    for (let i = 0; i < this.seats.length; i++) this.seats[i]!.permits.idle(item.places[i]!)
  }

  busy(item: Item<A>): void {
    for (let i = 0; i < this.seats.length; i++) this.seats[i]!.permits.busy(item.places[i]!)
  }

  /** Those that have no room, when an open has failed in this way. */
  full(error: unknown): ReadonlyArray<LearntPermits> {
    return this.learnt.filter((permits) => permits.refuses(error))
  }

  /** An open was refused by these, and holds its permits still. */
  refused(by: ReadonlyArray<LearntPermits>): void {
    for (const permits of by) permits.refused(this.member)
  }

  opened(): void {
    for (const permits of this.learnt) permits.opened()
  }
}

// The one made last is that which the fewest pools share: it is kept while the others are
// waited for. Where a permit is to find out whether there is room, it is used at once.
const inOrder = (one: Permits, other: Permits): number =>
  Number(one instanceof LearntPermits) - Number(other instanceof LearntPermits) || other.id - one.id

// Milliseconds. What takes longer to close is not counted on.
const closePatience = 1000
