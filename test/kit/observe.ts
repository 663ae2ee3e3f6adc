/** What a test sees of a pool, and a clock that it can bend. */
import type { PoolEvent, QueuePool } from "effect-queuepool"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import { settle } from "./items.ts"

type Event = PoolEvent.PoolEvent

/** The events of a pool from now on. */
export const record = Effect.fnUntraced(function*<A, E>(pool: QueuePool.QueuePool<A, E>) {
  const events: Array<Event> = []
  yield* Effect.forkScoped(Stream.runForEach(pool.events, (event) => Effect.sync(() => void events.push(event))))
  yield* settle
  return events
})

/** The items that were recycled, in order, with their reasons. */
export const recycled = (events: ReadonlyArray<Event>): ReadonlyArray<readonly [number, string]> =>
  events.flatMap((event) => event._tag === "Recycled" ? [[event.item, event.reason] as const] : [])

/** When they were, in milliseconds. */
export const recycledAt = (events: ReadonlyArray<Event>): ReadonlyArray<number> =>
  events.flatMap((event) => event._tag === "Recycled" ? [event.at] : [])

/** The tags of the events, and their items if they have any: `["Opening 1", "Opened 1", ...]`. */
export const told = (events: ReadonlyArray<Event>): ReadonlyArray<string> =>
  events.map((event) => "item" in event ? `${event._tag} ${event.item}` : event._tag)

/**
 * A clock over the clock of the test: its wall can be set, and its monotonic time
 * can move on without a timer having run, as after a stall of the event loop.
 */
export class BentClock implements Clock.Clock {
  /** Milliseconds by which the wall is off. */
  wall = 0
  /** Milliseconds of monotonic time that no timer has seen. */
  stalled = 0
  /** The part of its time after which a sleep ends: below 1 for a timer that is early. */
  wakes = 1
  /** How long the sleeps were that began. */
  readonly sleeps: Array<number> = []
  private readonly base: Clock.Clock

  constructor(base: Clock.Clock) {
    this.base = base
  }

  static readonly make = Effect.clockWith((base) => Effect.sync(() => new BentClock(base)))

  readonly currentTimeMillisUnsafe = (): number => this.base.currentTimeMillisUnsafe() + this.wall
  readonly currentTimeNanosUnsafe = (): bigint => this.base.currentTimeNanosUnsafe() + nanos(this.wall)
  readonly monotonicTimeNanosUnsafe = (): bigint => this.base.monotonicTimeNanosUnsafe() + nanos(this.stalled)
  readonly currentTimeMillis = Effect.sync(this.currentTimeMillisUnsafe)
  readonly currentTimeNanos = Effect.sync(this.currentTimeNanosUnsafe)
  readonly monotonicTimeNanos = Effect.sync(this.monotonicTimeNanosUnsafe)

  /** Within a step, as by a computation that takes so long. */
  stall(millis: number): Effect.Effect<void> {
    return Effect.sync(() => void (this.stalled += millis))
  }

  readonly sleep = (duration: Duration.Duration): Effect.Effect<void> => {
    this.sleeps.push(Duration.toMillis(duration))
    return this.base.sleep(Duration.times(duration, this.wakes))
  }
}

const nanos = (millis: number): bigint => BigInt(Math.round(millis * 1e6))

/** Provides a bent clock, to the making of a pool for instance. */
export const bent = <A, E, R>(effect: Effect.Effect<A, E, R>, clock: BentClock): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, clock)

/** Runs an effect with a logger that keeps the messages, each with its level before it. */
export const logged = Effect.fnUntraced(
  function*<A, E, R>(f: (lines: ReadonlyArray<string>) => Effect.Effect<A, E, R>) {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      const text = [message].flat().map(String).join(" ")
      // The clock of the test has something to say of a machine that is slow.
      if (!text.startsWith("A test is using time")) lines.push(`${logLevel} ${text}`)
    })
    return yield* Effect.provide(f(lines), Logger.layer([logger]))
  }
)
