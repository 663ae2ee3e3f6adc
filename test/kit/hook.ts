/** A hook that does as it is told, item by item, and keeps count; and the ways in which one can fail. */
import * as Effect from "effect/Effect"
import { Refused, type Thing } from "./items.ts"

export class Hook {
  /** The items that it was run on, in order. */
  readonly begun: Array<number> = []
  /** Those on which it ended by itself. */
  readonly ended: Array<number> = []
  running = 0
  /** By the item's number; the default is to succeed at once. */
  readonly answers = new Map<number, () => Effect.Effect<unknown, Refused>>()
  otherwise: () => Effect.Effect<unknown, Refused> = () => Effect.void

  readonly run = (thing: Thing): Effect.Effect<unknown, Refused> => {
    this.begun.push(thing.id)
    const answer = (this.answers.get(thing.id) ?? this.otherwise)()
    return Effect.acquireUseRelease(
      Effect.sync(() => void this.running++),
      () => Effect.tap(answer, () => Effect.sync(() => void this.ended.push(thing.id))),
      () => Effect.sync(() => void this.running--)
    )
  }
}

const throws = (): never => {
  throw new Error("thrown")
}

/** How a hook fails, and how that ends an open. */
export const failures: Record<string, readonly [hook: () => Effect.Effect<unknown, Refused>, open: string]> = {
  fails: [() => Effect.fail(new Refused(1)), "Refused"],
  "fails later": [() => Effect.andThen(Effect.yieldNow, Effect.fail(new Refused(1))), "Refused"],
  dies: [() => Effect.die(new Error("died")), "defect"],
  throws: [throws, "defect"],
  "throws within": [() => Effect.suspend(throws), "defect"],
  "interrupts itself": [() => Effect.interrupt, "OpenInterrupted"],
  "interrupts itself later": [() => Effect.andThen(Effect.yieldNow, Effect.interrupt), "OpenInterrupted"]
}

/** How one hangs. */
export const hangs: Record<string, () => Effect.Effect<never>> = {
  hangs: () => Effect.never,
  "cannot be interrupted": () => Effect.uninterruptible(Effect.never)
}
