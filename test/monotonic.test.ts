/** The pool's time is the clock's, to the last bit that a number has. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { monotonicMillis } from "../src/internal/monotonic.ts"

const at = (nanos: bigint) =>
  Effect.map(
    Clock.Clock,
    (clock): Clock.Clock => Object.create(clock, { monotonicTimeNanosUnsafe: { value: () => nanos } })
  )

const powers = Array.from({ length: 63 }, (_, bits) => 1n << BigInt(bits))

describe("monotonicMillis", () => {
  for (const sign of [1n, -1n]) {
    it.effect(`is what the ${sign < 0n ? "negative " : ""}nanoseconds divided by a million are`, () =>
      Effect.gen(function*() {
        for (const nanos of powers.flatMap((power) => [power - 1n, power, power + 1n, 3n * power / 2n])) {
          const clock = yield* at(sign * nanos)
          assert.strictEqual(monotonicMillis(clock), Number(sign * nanos) / 1e6, `${sign * nanos} ns`)
        }
      }))
  }

  it.effect("counts the clock's own time", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const before = clock.monotonicTimeNanosUnsafe()
      assert.strictEqual(monotonicMillis(clock), Number(before) / 1e6)
    }))
})
