/**
 * How long this process has been kept from running: a slow machine, or a neighbour
 * that takes the processor, must not look like a pool that is late.
 *
 * A fiber wakes every 10 milliseconds. By as much as it is late the event loop has
 * stood still, and nothing in this process could have been on time. But what the
 * process itself was busy with meanwhile excuses nobody: it may have been the pool.
 */
import { Effect, type Scope } from "effect"

const every = 10
// Timers are late by a little always: that is no stall.
const usual = 20

/** The processor's time that this process has had, in milliseconds. */
const worked = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1000
}

export class Stalls {
  /** The longest time for which the event loop stood still, for whatever reason. */
  longest = 0
  private sum = 0
  private last: number
  private work = worked()
  private readonly now: () => number

  constructor(now: () => number) {
    this.now = now
    this.last = now()
  }

  /** Milliseconds since the start for which the process was kept from running, also of a time that has not ended. */
  get total(): number {
    return this.sum + this.kept
  }

  static readonly make = (now: () => number): Effect.Effect<Stalls, never, Scope.Scope> =>
    Effect.gen(function*() {
      const stalls = new Stalls(now)
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(every), Effect.sync(() => stalls.tick()))))
      return stalls
    })

  private get late(): number {
    const late = this.now() - this.last - every
    return late > usual ? late : 0
  }

  private get kept(): number {
    const { late } = this
    return late === 0 ? 0 : Math.max(0, late - (worked() - this.work))
  }

  private tick(): void {
    this.longest = Math.max(this.longest, this.late)
    this.sum += this.kept
    this.last = this.now()
    this.work = worked()
  }
}
