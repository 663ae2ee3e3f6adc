/** The ways in which a scripted effect can go. */
import * as Effect from "effect/Effect"

/** The default is to succeed at once. */
export type Outcome =
  | "ok"
  /** Fails with `Refused`. */
  | "fail"
  /** A defect. */
  | "die"
  /** Never, and interruptible. */
  | "hang"
  /** Never, whoever interrupts. */
  | "stuck"
  /** After so many milliseconds, and interruptible. */
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

/** It goes as told; `id` is in the error. */
export const play = (outcome: Outcome, id: number): Effect.Effect<void, Refused> => {
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
