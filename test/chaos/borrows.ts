/** Every borrow of a pool, timed: it ends within its bound, whatever goes on. */
import { Effect } from "effect"
import type { Sessions } from "../kit/sessions.ts"
import type { Notes } from "./notes.ts"
import { borrowBound } from "./setting.ts"
import type { Stalls } from "./stalls.ts"

interface Borrow {
  readonly how: string
  readonly since: number
  readonly stalled: number
}

export class Borrows {
  count = 0
  /** Milliseconds, stalls included. */
  longest = 0
  private readonly pending = new Set<Borrow>()
  private readonly notes: Notes
  private readonly stalls: Stalls

  constructor(notes: Notes, stalls: Stalls) {
    this.notes = notes
    this.stalls = stalls
  }

  private readonly begin = (how: string): Borrow => {
    const borrow = { how, since: this.notes.now(), stalled: this.stalls.total }
    this.count++
    this.pending.add(borrow)
    return borrow
  }

  private readonly end = (borrow: Borrow): void => {
    if (!this.pending.delete(borrow)) return
    this.longest = Math.max(this.longest, this.notes.now() - borrow.since)
    this.judge(borrow)
  }

  private judge({ how, since, stalled }: Borrow): boolean {
    const waited = this.notes.now() - since
    const late = waited - (this.stalls.total - stalled) > borrowBound
    if (late) this.notes.violate(`a borrow by ${how} took ${Math.round(waited)}ms, the bound is ${borrowBound}ms`)
    return late
  }

  /** Those that have not ended and should have. */
  readonly look = (): void => {
    for (const borrow of this.pending) if (this.judge(borrow)) this.pending.delete(borrow)
  }

  private timed<A, E, R>(how: string, run: (lent: () => void) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      const borrow = this.begin(how)
      const end = () => this.end(borrow)
      return Effect.ensuring(run(end), Effect.sync(end))
    })
  }

  /** The same pool, with the time of its borrows taken. */
  readonly of = (pool: Sessions): Sessions => {
    const lending = (name: "use" | "useExclusive"): Sessions["use"] => (f) =>
      this.timed(name, (lent) =>
        pool[name]((session) => {
          lent()
          return f(session)
        }))
    const members: Partial<Sessions> = {
      get: this.timed("get", () => pool.get),
      getExclusive: this.timed("getExclusive", () => pool.getExclusive),
      getN: (n) => this.timed("getN", () => pool.getN(n)),
      use: lending("use"),
      useExclusive: lending("useExclusive")
    }
    return Object.create(pool, Object.getOwnPropertyDescriptors(members)) as Sessions
  }
}
