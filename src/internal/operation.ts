// An Effect of our own kind.
import type * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import { identity } from "effect/Function"
import type { Holder } from "./item.ts"

export interface Evaluated<A, E, R> {
  start(fiber: Holder): Effect.Effect<A, E, R>
}

// What a class of such effects extends: its instances are evaluated by `start`, without the
// closure that `Effect.withFiber` would need for each. `evaluate` calls it, and each class
// brings its own: of a call that all of them share no compiler knows where it leads.
export const operation = (evaluate: Evaluate): new<A, E, R>() => Effect.Effect<A, E, R> => {
  const Operation = function() {}
  Operation.prototype = prototypeOf(evaluate)
  return Operation as never
}

/** The same for the instances of a class, which are something else besides. */
export const operationToo = <C extends new() => object>(klass: C, evaluate: Evaluate): C => {
  class Operation extends (klass as new() => object) {}
  Object.defineProperties(Operation.prototype, Object.getOwnPropertyDescriptors(prototypeOf(evaluate)))
  return Operation as C
}

export type Evaluate = (
  this: Evaluated<unknown, unknown, unknown>,
  fiber: Holder
) => Effect.Effect<unknown, unknown, unknown>

const prototypeOf = (evaluate: Evaluate): Effect.Effect<unknown, unknown, unknown> =>
  Effectable.Prototype<Effect.Effect<unknown, unknown, unknown> & Evaluated<unknown, unknown, unknown>>({
    label: "QueuePool",
    evaluate
  })

// Any function will do.
const marked = prototypeOf(identity as never)

/**
 * By which name effect knows what evaluates an effect. It is looked for among the effect's own
 * fields, from the last to the first, and only then with its prototype: an effect that has many
 * fields has it as its last one.
 */
export const evaluation: unique symbol = Reflect.ownKeys(marked).find((key) =>
  Reflect.get(marked, key) === identity
) as never
