// The places of pools at the budgets that they share, and who of those that wait is next.
import type { Owner } from "./colds.ts"
import { Ordered, type Placed } from "./heap.ts"

/** What a pool is to the others. */
export interface Member extends Owner {
  /** Something that is run at the time at which it was set last. */
  alarm(ring: () => void): Alarm
  now(): number
  /** From 0 to 1. */
  random(): number
  /** The turn of the borrower for whom the open after so many would be. */
  turn(opens: number): number
}

export interface Alarm {
  readonly set: (at: number) => void
  readonly cancel: () => void
}

/** What a budget has left. */
interface Left {
  readonly free: number
  /** How many of the seats reserve a permit. */
  readonly reserved: number
}

/** The place of one pool at one budget. */
export class Seat<P extends Left = Left> implements Placed {
  readonly permits: P
  readonly member: Member
  slot = -1
  /** Permits of opens, items and closings. */
  held = 0
  /** Of these, on their way back: closings. */
  coming = 0
  /** Permits that it was given and has not used yet: it will soon, or waits for one of another budget besides. */
  granted = 0
  /** While it is parked: how many opens it would start, beyond those that it was granted. */
  need = 0
  /** A borrower waits for them, who came at this turn. */
  urgent = false
  turn = 0
  /** When it was given one last, or kept one that others would have had: a count, not a time. */
  served = 0
  /** A borrower waits for a permit of another budget, or did, and then needs one of this. */
  reserves = false
  /** The places of the same pool at all budgets, this one among them, in the order in which it takes their permits. */
  all: ReadonlyArray<Seat<P>> = []

  constructor(permits: P, member: Member) {
    this.permits = permits
    this.member = member
  }

  /** What it will have when all closings are over. */
  get share(): number {
    return this.held + this.granted - this.coming
  }

  /** An open for a borrower may start. */
  get available(): boolean {
    return this.granted > 0 || this.permits.free > 0
  }

  /** An open that nobody waits for may start. */
  get spare(): boolean {
    return this.available && this.permits.reserved === 0
  }
}

/** Who gets the next permit: of the pools with the fewest the one served longest ago, or that whose borrower came first. */
export type Fairness = "share" | "arrival"

/** The seats that wait for a permit, the next on top. */
export class Parked<S extends Seat> extends Ordered<S> {
  private readonly fairness: Fairness

  constructor(fairness: Fairness) {
    super()
    this.fairness = fairness
  }

  /** What nobody waits for comes last. */
  protected override before(one: S, other: S): boolean {
    if (one.urgent !== other.urgent) return one.urgent
    if (this.fairness === "arrival") return one.turn < other.turn
    return one.share === other.share ? one.served < other.served : one.share < other.share
  }

  /** How much it is of all seats, at most `enough`: those for which it is 0 come after all others. */
  sum(of: (seat: S) => number, enough: number, slot = 0): number {
    const seat = this.nodes[slot]
    let sum = seat === undefined ? 0 : of(seat)
    if (sum === 0) return 0
    if (sum < enough) sum += this.sum(of, enough - sum, 2 * slot + 1)
    if (sum < enough) sum += this.sum(of, enough - sum, 2 * slot + 2)
    return sum
  }
}

/** How many the one should have before the other has one again, which has one too many: pools that have none take turns. */
export const poorer = (one: Seat, other: Seat): number =>
  other.share > 1
    ? Math.min(one.need, Math.max(0, other.share - 1 - one.share))
    : one.share < other.share && one.served < other.served
    ? 1
    : 0

/** How many opens it waits for whose borrowers came before this turn; no more than `enough` matter. */
export const earlier = ({ granted, member, need, turn: first }: Seat, turn: number, enough: number): number => {
  let count = 0
  for (let next = first; count < need && count < enough && next < turn; next = member.turn(granted + count)) count++
  return count
}
