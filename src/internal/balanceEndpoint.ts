// One endpoint as its borrowers see it: how many have or want something of it, how fast
// it is, and how much of it is to be believed. No Effect in it; time is given.

/** The part of its weight that an endpoint begins with while it is warmed up. */
const coldest = 0.1

/** What one fault costs: as if so many leases ran. */
const fine = 10
const worst = 20
/** Less than half a lease is none. */
const forgotten = 0.5

export interface Pace {
  /** Over how many milliseconds a latency, or a fault, is forgotten. */
  readonly decay: number
  /** Over how many milliseconds an endpoint that is new, or back, comes to its full weight. */
  readonly slowStart: number
}

export class Endpoint<K> {
  readonly key: K
  readonly label: string
  priority: number
  weight: number
  /** Leases and waiters of ours. */
  load = 0
  /** How often one was lent or came back: a sign of life. */
  moves = 0
  /** No longer among the endpoints; here for as long as it has leases. */
  gone = false
  /** When an ejected endpoint may be probed; undefined: not ejected. */
  until: number | undefined = undefined
  /** One borrower finds out whether it is back. */
  probing = false
  /** How often it came back: what began before that says nothing of what is now. */
  era = 0
  /** What the circuit breaker has not yet taken note of. */
  reports = 0
  /** What it has saved up for its turn; below zero: it had none yet. */
  credit = -1
  private since = -Infinity
  private latency: number | undefined = undefined
  private measured = 0
  private fines = 0
  private fined = 0
  private readonly pace: Pace

  constructor(key: K, label: string, priority: number, weight: number, pace: Pace) {
    this.key = key
    this.label = label
    this.priority = priority
    this.weight = weight
    this.pace = pace
  }

  get ejected(): boolean {
    return this.until !== undefined
  }

  /** It is new, or back. */
  warmUp(now: number): void {
    this.since = now
  }

  weightAt(now: number): number {
    const { slowStart } = this.pace
    const age = now - this.since
    return age >= slowStart ? this.weight : this.weight * Math.max(coldest, age / slowStart)
  }

  /** What stands against it: leases, waiters, and faults that count as leases. */
  loadAt(now: number): number {
    return this.load + this.finesAt(now)
  }

  finesAt(now: number): number {
    if (this.fines === 0) return 0
    const left = this.fines * this.faded(this.fined, now)
    if (left >= forgotten) return left
    this.fines = 0
    return 0
  }

  fault(now: number): void {
    this.fines = Math.min(worst, this.finesAt(now) + fine)
    this.fined = now
  }

  /** It lends again, to one who asked then: what was before says nothing any more. */
  absolve(asked: number): void {
    if (asked >= this.fined) this.fines = 0
  }

  /** Undefined as long as none was measured. It fades, so that a slow endpoint is tried again. */
  latencyAt(now: number): number | undefined {
    return this.latency === undefined ? undefined : this.latency * this.faded(this.measured, now)
  }

  /** Rises at once and falls slowly: one slow answer tells more than many fast ones. */
  observe(millis: number, now: number): void {
    const { latency } = this
    // It would never fade.
    if (millis === Infinity) return
    if (latency === undefined || millis >= latency) {
      this.latency = millis
    } else {
      const old = this.faded(this.measured, now)
      this.latency = latency * old + millis * (1 - old)
    }
    this.measured = now
  }

  /** An answer that nobody waited for took longer than this. */
  observeAtLeast(millis: number, now: number): void {
    if (millis > (this.latencyAt(now) ?? 0)) this.observe(millis, now)
  }

  private faded(since: number, now: number): number {
    return Math.exp((since - now) / this.pace.decay)
  }
}
