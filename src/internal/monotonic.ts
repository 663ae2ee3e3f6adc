// Time as the pool counts it.
import type * as Clock from "effect/Clock"

// `Number` of a bigint costs more than to read the clock does, and keeps the bigint from being
// left out by the compiler. The halves of an integer of 64 bits are numbers already.
const nanos = new DataView(new ArrayBuffer(8))

/** Monotonic milliseconds, from a clock that has run for less than 292 years. */
export const monotonicMillis = (clock: Clock.Clock): number => {
  nanos.setBigInt64(0, clock.monotonicTimeNanosUnsafe())
  return (nanos.getInt32(0) * 2 ** 32 + nanos.getUint32(4)) / 1e6
}
