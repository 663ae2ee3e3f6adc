/**
 * Real time and real ports for helpers that deal with the operating system.
 */
import { Clock, Duration, Effect } from "effect"
import { randomInt } from "node:crypto"
import * as Net from "node:net"

/** Runs an effect on the real clock: a process does not wait for `TestClock`. */
export const live: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  Clock.Clock,
  Clock.Clock.defaultValue()
)

/** A clock whose sleeps are real and whose monotonic time is moved by hand: nothing gets old by itself, however slow the machine is. */
export const byHand = Effect.clockWith((clock) =>
  Effect.sync((): { readonly clock: Clock.Clock; readonly pass: (time: Duration.Input) => void } => {
    let now = clock.monotonicTimeNanosUnsafe()
    return {
      clock: Object.create(clock, { monotonicTimeNanosUnsafe: { value: () => now } }),
      pass: (time) => {
        now += BigInt(Math.round(Duration.toMillis(time) * 1e6))
      }
    }
  })
)

/**
 * Asks every 5 milliseconds until `done` or the time is up, and tells which.
 *
 * It polls, because a finalizer runs uninterruptibly, where a timeout could not
 * stop a plain wait.
 */
export const waitUntil = Effect.fnUntraced(function*(done: () => boolean, within: Duration.Input) {
  const clock = yield* Clock.Clock
  const end = clock.monotonicTimeNanosUnsafe() + BigInt(Math.round(Duration.toMillis(within) * 1e6))
  while (!done()) {
    if (clock.monotonicTimeNanosUnsafe() >= end) return false
    yield* Effect.sleep(5)
  }
  return true
}, live)

const isFree = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const server = Net.createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
  })

/**
 * A port that is free now on 127.0.0.1.
 *
 * It lies below the ports that systems hand to outgoing connections. A client
 * that keeps trying a closed port from that range sooner or later is given the
 * same port for its own end, connects to itself, and then holds the port.
 */
export const freePort: Effect.Effect<number> = Effect.gen(function*() {
  while (true) {
    const port = randomInt(15_000, 32_000)
    if (yield* isFree(port)) return port
  }
})
