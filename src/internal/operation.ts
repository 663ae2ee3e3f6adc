// An Effect of our own kind.
import type * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type { Holder } from "./item.ts"

export interface Evaluated<A, E, R> {
  start(fiber: Holder): Effect.Effect<A, E, R>
}

// An Effect of our own kind: its instances are evaluated by `start`, without the
// closure that `Effect.withFiber` would need for each.
export const Operation: new<A, E, R>() => Effect.Effect<A, E, R> = (() => {
  const Operation = function() {}
  Operation.prototype = Effectable.Prototype<
    Effect.Effect<unknown, unknown, unknown> & Evaluated<unknown, unknown, unknown>
  >({
    label: "QueuePool",
    evaluate(fiber) {
      return this.start(fiber)
    }
  })
  return Operation as never
})()
