/** A scripted source of items, with a ledger of what became of them. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

export interface Thing {
  readonly id: number
}

/** How one open or close goes. The default is to succeed at once. */
export type Outcome =
  | "ok"
  | "fail"
  | "die"
  /** Never, and interruptible. */
  | "hang"
  /** Never, whoever interrupts. */
  | "stuck"
  | { readonly slow: number }
  /** After so many milliseconds, whoever interrupts. */
  | { readonly late: number }

export class Refused {
  readonly _tag = "Refused"
  readonly id: number
  constructor(id: number) {
    this.id = id
  }
}

const run = (outcome: Outcome, id: number): Effect.Effect<void, Refused> => {
  switch (outcome) {
    case "ok":
      return Effect.void
    case "fail":
      return Effect.fail(new Refused(id))
    case "die":
      return Effect.die(new Error(`broken ${id}`))
    case "hang":
      return Effect.never
    case "stuck":
      return Effect.uninterruptible(Effect.never)
    default:
      return "slow" in outcome ? Effect.sleep(outcome.slow) : Effect.uninterruptible(Effect.sleep(outcome.late))
  }
}

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

  get live(): number {
    return this.opened.length - this.closed.length
  }

  readonly acquire: Effect.Effect<Thing, Refused, import("effect/Scope").Scope> = Effect.suspend(() => {
    const id = ++this.attempts
    this.opening++
    this.peakOpening = Math.max(this.peakOpening, this.opening)
    const outcome = this.opens.shift() ?? this.opensOtherwise
    const open = run(outcome, id).pipe(
      Effect.onExit(() => Effect.sync(() => void this.opening--)),
      Effect.map(() => {
        const thing = { id }
        this.opened.push(thing)
        this.peakLive = Math.max(this.peakLive, this.live)
        return thing
      })
    )
    return Effect.acquireRelease(
      open,
      (thing, exit) => {
        this.closeExits.push(exit)
        return Effect.ensuring(
          Effect.orDie(run(this.closes.shift() ?? this.closesOtherwise, thing.id)),
          Effect.sync(() => void this.closed.push(thing.id))
        )
      },
      { interruptible: !(typeof outcome === "object" && "late" in outcome) }
    )
  })
}

/** Lets everything that is ready run. */
export const settle: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 20 })

/** A gate: `open` lets everyone who waits at `pass` go on. */
export const gate = Effect.map(Deferred.make<void>(), (deferred) => ({
  pass: Deferred.await(deferred),
  open: Deferred.succeed(deferred, undefined)
}))
