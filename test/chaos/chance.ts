import { Effect, Random } from "effect"

/** One of several values, at least one: each as often as it stands there. */
export const oneOf = <const T>(values: ReadonlyArray<T>): Effect.Effect<T> =>
  Effect.map(Random.next, (dice) => values[Math.min(values.length - 1, Math.floor(dice * values.length))]!)
