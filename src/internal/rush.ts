// Time where leases follow one another so fast that reading the clock at both ends of
// each would cost as much as all else. If enough of them fall in one turn of the event
// loop, it is read once for so many, and again in each turn. What comes back meanwhile
// counts as idle from the end of the turn, or until it is lent again: a little too late,
// never too early, so that no rule speaks of it before its time. So it is with who comes
// and has to wait: nobody's time is cut short.

/** What came back. */
export interface Dated {
  /** It is idle for less than `idleSince` says; how long, a `Rush` will. */
  undated: boolean
  toBeDated: boolean
  idleSince: number
  /** Where it came back to. */
  readonly home: { usedAt: number }
}

/** When somebody came, to be told by the next reading of the clock: a little too late, never too early. */
class Moment {
  private at: number | undefined = undefined
  declare private readonly now: () => number

  constructor(now: () => number) {
    this.now = now
  }

  /** Asked sooner, it reads the clock itself. */
  get time(): number {
    return this.at ??= this.now()
  }

  passed(now: number): void {
    this.at ??= now
  }
}

/** A time, or what will tell it. */
export type Since = number | Moment

export const timeOf = (since: Since): number => typeof since === "number" ? since : since.time

/** Of all pools that share a clock. */
export class Rush {
  /** Leases follow one another so fast. */
  on = false
  /** When the clock was read last. */
  last = -Infinity
  /** For how many more moments of this turn that will do, of how many. */
  private left = 0
  private most = 0
  /** The end of this turn will be heard. */
  private ending = false
  /** How many readings this turn has had no need of, but for the moments told since the last. */
  private spared = 0
  /** So many turns in a row were not worth hearing of their ends. */
  private poor = 0
  /** So many readings more before it is tried again. */
  private rest = 0
  /** Of those who came since the clock was read last, if it is not told yet. */
  private moment: Moment | undefined = undefined
  /** What came back in this turn; some of it may be lent again. */
  private readonly items: Array<Dated> = []
  declare private readonly read: () => number
  declare private readonly later: (task: () => void) => void

  /** `read` reads the clock, `later` runs a task in its own turn. */
  constructor(read: () => number, later: (task: () => void) => void) {
    this.read = read
    this.later = later
  }

  /** Surely before that time, unless this turn takes longer than anybody should wait for. */
  before(due: number): boolean {
    return this.time() < due - stall
  }

  /** The time, or in a rush that of a few leases ago in this turn. */
  time(): number {
    if (this.left === 0) return this.now()
    this.left--
    return this.last
  }

  /** When somebody comes who has to wait. */
  since(): Since {
    if (this.left === 0) return this.now()
    this.left--
    return this.moment ??= new Moment(this.tell)
  }

  /** The time. */
  now(): number {
    const now = this.read()
    this.pass(now)
    this.on = now - this.last < rapidly * (1 + this.most - this.left) && this.rested
    this.last = now
    this.spared += this.most - this.left
    this.left = this.most = this.on ? together : 0
    if (this.on) this.hearEnd()
    return now
  }

  private get rested(): boolean {
    if (this.rest === 0) return true
    this.rest--
    return false
  }

  /** The item came back, and nobody has read the clock since. */
  add(item: Dated): void {
    this.spared++
    item.undated = true
    if (item.toBeDated) return
    item.toBeDated = true
    this.items.push(item)
    this.hearEnd()
  }

  /** If nobody knows since when it is idle, it is from now on. */
  date(item: Dated, now: number): void {
    if (!item.undated) return
    item.undated = false
    item.idleSince = item.home.usedAt = now
  }

  private readonly tell = (): number => {
    const now = this.read()
    this.pass(now)
    return now
  }

  /** Who comes from now on has come later. */
  private pass(now: number): void {
    this.moment?.passed(now)
    this.moment = undefined
  }

  dateAll(): void {
    if (this.items.length === 0 && this.moment === undefined) return
    const now = this.tell()
    for (const item of this.items.splice(0)) {
      item.toBeDated = false
      this.date(item, now)
    }
  }

  private hearEnd(): void {
    if (this.ending) return
    this.later(this.turnEnds)
    this.ending = true
  }

  private readonly turnEnds = (): void => {
    this.ending = false
    this.spared += this.most - this.left
    this.left = this.most = 0
    this.poor = this.spared < worthwhile ? this.poor + 1 : 0
    this.spared = 0
    if (this.poor >= patience) {
      this.poor--
      this.rest = pause
    }
    this.dateAll()
  }
}

// Milliseconds: 20,000 leases a second one after the other.
const rapidly = 0.05

// So many readings spared in a turn, of 40 to 100 ns each. To hear the end of the turn costs a
// round of an event loop that may have nothing else to do: 1,000.
const worthwhile = 16
// Turns that were not worth it, and readings until it is tried again.
const patience = 4
const pause = 1000

// Leases of one turn may grow longer without notice: the time that is told lags behind
// by no more than so many of them take. What is due within the minute is not left to it.
const together = 32
const stall = 60_000
