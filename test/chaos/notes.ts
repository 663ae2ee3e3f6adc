/** What a run writes down: the log of its faults, what it counts, and what must not be. */
import { Clock, Effect } from "effect"

export class Notes {
  /** Everything that must not be and was. The run ends with the first. */
  readonly violations: Array<string> = []
  readonly faults = new Map<string, number>()
  /** By kind of operation, by outcome. */
  readonly operations = new Map<string, Map<string, number>>()
  slowestRecovery = 0
  slowestRecoveryAfter = "none"
  private readonly lines: Array<string> = []
  private readonly start: number
  /** Monotonic milliseconds. */
  readonly now: () => number

  constructor(clock: Clock.Clock) {
    this.now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    this.start = this.now()
  }

  static readonly make = Effect.map(Clock.Clock, (clock) => new Notes(clock))

  get failed(): boolean {
    return this.violations.length > 0
  }

  get elapsed(): number {
    return this.now() - this.start
  }

  readonly log = (text: string): void => {
    this.lines.push(`${(this.elapsed / 1000).toFixed(3).padStart(9)}s  ${text}`)
    if (this.lines.length > 5000) this.lines.splice(0, 2500)
  }

  readonly last = (count: number): ReadonlyArray<string> => this.lines.slice(-count)

  readonly violate = (text: string): void => {
    // What is wrong for long would be told with every look at it.
    if (this.violations.length >= 20) return
    this.violations.push(text)
    this.log(`VIOLATION: ${text}`)
  }

  readonly fault = (kind: string): void => void this.faults.set(kind, (this.faults.get(kind) ?? 0) + 1)

  readonly operation = (kind: string, outcome: string): void => {
    const outcomes = this.operations.get(kind) ?? new Map<string, number>()
    this.operations.set(kind, outcomes)
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }

  readonly recovered = (took: number, after: string): void => {
    if (took <= this.slowestRecovery) return
    this.slowestRecovery = took
    this.slowestRecoveryAfter = after
  }
}
