// An `acquire` that changes: the first makes the pool, and each that follows is tried
// before it replaces the last.
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { InvalidOptions, PoolError } from "../PoolError.ts"

type Changes<A, E, R> = Stream.Stream<Effect.Effect<A, E, R>, never, R>

/** What takes the new way to acquire. */
interface Swaps<A, E, R> {
  readonly swap: (acquire: Effect.Effect<A, E, R>, over: number) => Effect.Effect<void, E | PoolError>
}

interface Settings {
  readonly name: string
  readonly retireOver: number
  readonly closeTimeout: number
}

export class Source<A, E, R> {
  private readonly changes: Changes<A, E, R>
  private readonly settings: Settings
  private readonly initial = Deferred.makeUnsafe<Effect.Effect<A, E, R> | undefined>()
  private readonly pool = Deferred.makeUnsafe<Swaps<A, E, R>>()

  constructor(changes: Changes<A, E, R>, settings: Settings) {
    this.changes = changes
    this.settings = settings
  }

  /** For as long as the pool lives. A Stream that cannot be interrupted is left behind. */
  get run(): Effect.Effect<void, never, R> {
    const changes = Effect.matchCauseEffect(Stream.runForEach(this.changes, this.take), {
      onSuccess: () => Deferred.succeed(this.initial, undefined),
      onFailure: (cause) => this.failed(cause)
    })
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.forkDetach(changes),
        (fiber) =>
          Effect.onInterrupt(restore(Effect.asVoid(Fiber.await(fiber))), () => {
            fiber.interruptUnsafe()
            return Effect.timeoutOption(Fiber.await(fiber), this.settings.closeTimeout)
          })
      )
    )
  }

  private readonly take = (acquire: Effect.Effect<A, E, R>): Effect.Effect<unknown> =>
    Deferred.isDoneUnsafe(this.initial)
      ? Effect.flatMap(Deferred.await(this.pool), (pool) => this.swap(pool, acquire))
      : Deferred.succeed(this.initial, acquire)

  private swap(pool: Swaps<A, E, R>, acquire: Effect.Effect<A, E, R>): Effect.Effect<void> {
    const { name, retireOver } = this.settings
    return Effect.catchCause(
      pool.swap(acquire, retireOver),
      (cause) => Effect.logWarning(`pool "${name}" cannot open items in the new way and keeps to the old`, cause)
    )
  }

  private failed(cause: Cause.Cause<never>): Effect.Effect<unknown> {
    return Deferred.isDoneUnsafe(this.initial)
      ? Effect.logError(
        `the Stream of acquire of pool "${this.settings.name}" has failed: the pool keeps to the last`,
        cause
      )
      : Deferred.failCause(this.initial, cause)
  }

  /** The way to acquire that the pool begins with. */
  get first(): Effect.Effect<Effect.Effect<A, E, R>, PoolError> {
    return Effect.flatMap(Deferred.await(this.initial), (acquire) => {
      if (acquire !== undefined) return Effect.succeed(acquire)
      const allowed = "an Effect, or a Stream that has at least one"
      const problems = [{ option: "acquire", value: this.changes, allowed }]
      return Effect.fail(new PoolError({ pool: this.settings.name, reason: new InvalidOptions({ problems }) }))
    })
  }

  feed(pool: Swaps<A, E, R>): void {
    Deferred.doneUnsafe(this.pool, Effect.succeed(pool))
  }
}
