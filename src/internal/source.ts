// An `acquire` that changes: the first makes the pool, and each that follows is tried
// before it replaces the last.
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InvalidOptions, PoolError } from "../PoolError.ts"

type Changes<A, E, R> = Stream.Stream<Effect.Effect<A, E, R>, never, R>

/** What takes the new way to acquire. */
interface Swaps<A, E, R> {
  readonly settings: { readonly name: string; readonly retireOver: number }
  readonly swap: (acquire: Effect.Effect<A, E, R>, over: number) => Effect.Effect<void, E | PoolError>
}

export class Source<A, E, R> {
  private readonly changes: Changes<A, E, R>
  private readonly initial = Deferred.makeUnsafe<Effect.Effect<A, E, R> | undefined>()
  private readonly pool = Deferred.makeUnsafe<Swaps<A, E, R>>()

  constructor(changes: Changes<A, E, R>) {
    this.changes = changes
  }

  /** For as long as the pool lives. */
  get run(): Effect.Effect<void, never, R> {
    return Effect.andThen(
      Effect.catchCause(Stream.runForEach(this.changes, this.take), (cause) => this.ended(cause)),
      Deferred.succeed(this.initial, undefined)
    )
  }

  private readonly take = (acquire: Effect.Effect<A, E, R>): Effect.Effect<unknown> =>
    Deferred.isDoneUnsafe(this.initial)
      ? Effect.flatMap(Deferred.await(this.pool), (pool) => this.swap(pool, acquire))
      : Deferred.succeed(this.initial, acquire)

  private swap(
    { settings: { name, retireOver }, swap }: Swaps<A, E, R>,
    acquire: Effect.Effect<A, E, R>
  ): Effect.Effect<void> {
    return Effect.catchCause(
      swap(acquire, retireOver),
      (cause) => Effect.logWarning(`pool "${name}" cannot open items in the new way and keeps to the old`, cause)
    )
  }

  private ended(cause: Cause.Cause<never>): Effect.Effect<void> {
    return Effect.logError("the Stream of a pool's acquire has failed: the pool keeps to the last", cause)
  }

  /** The way to acquire that the pool begins with. */
  first(pool: string): Effect.Effect<Effect.Effect<A, E, R>, PoolError> {
    return Effect.flatMap(Deferred.await(this.initial), (acquire) => {
      if (acquire !== undefined) return Effect.succeed(acquire)
      const allowed = "an Effect, or a Stream that has at least one"
      const problems = [{ option: "acquire", value: this.changes, allowed }]
      return Effect.fail(new PoolError({ pool, reason: new InvalidOptions({ problems }) }))
    })
  }

  feed(pool: Swaps<A, E, R>): void {
    Deferred.doneUnsafe(this.pool, Effect.succeed(pool))
  }
}
