/** A scripted source of items, with a ledger of what became of them. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Ledger } from "./ledger.ts"
import { type Outcome, play, Refused } from "./outcome.ts"

export interface Thing {
  readonly id: number
}

export { type Outcome, Refused }

export class Source {
  /** Opens begun, also those that failed. */
  attempts = 0
  readonly opened: Array<Thing> = []
  readonly closed: Array<number> = []
  readonly closeExits: Array<Exit.Exit<unknown, unknown>> = []
  /** Opens under way. */
  opening = 0
  peakOpening = 0
  peakLive = 0
  /** The next outcomes, in order; then `otherwise`. */
  readonly opens: Array<Outcome> = []
  readonly closes: Array<Outcome> = []
  opensOtherwise: Outcome = "ok"
  closesOtherwise: Outcome = "ok"
  /** Hears of everything, see scripted.ts. */
  protected readonly ledger: Ledger<Thing> | undefined

  constructor(ledger?: Ledger<Thing>) {
    this.ledger = ledger
  }

  get live(): number {
    return this.opened.length - this.closed.length
  }

  readonly acquire: Effect.Effect<Thing, Refused, import("effect/Scope").Scope> = Effect.suspend(() => {
    const id = ++this.attempts
    this.opening++
    this.peakOpening = Math.max(this.peakOpening, this.opening)
    const outcome = this.opens.shift() ?? this.opensOtherwise
    const open = play(outcome, id).pipe(
      Effect.onExit(() => Effect.sync(() => void this.opening--)),
      Effect.map(() => {
        const thing = { id }
        this.opened.push(thing)
        this.peakLive = Math.max(this.peakLive, this.live)
        this.ledger?.opened(thing)
        return thing
      })
    )
    return Effect.acquireRelease(
      open,
      (thing, exit) => {
        this.closeExits.push(exit)
        this.ledger?.closing(thing)
        return Effect.ensuring(
          Effect.orDie(play(this.closes.shift() ?? this.closesOtherwise, thing.id)),
          Effect.sync(() => {
            this.closed.push(thing.id)
            this.ledger?.closed(thing)
          })
        )
      },
      { interruptible: !(typeof outcome === "object" && "late" in outcome) }
    )
  })
}

/** Lets everything that is ready run. */
export const settle: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 20 })

/** In the same step, as far as it comes. */
export const atOnce = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkDetach(effect, { startImmediately: true })

/** A gate: `open` lets everyone who waits at `pass` go on. */
export const gate = Effect.map(Deferred.make<void>(), (deferred) => ({
  pass: Deferred.await(deferred),
  open: Deferred.succeed(deferred, undefined)
}))
