// The public face of a pool.
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import { pipeArguments } from "effect/Pipeable"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import type { Counts, PoolError } from "../PoolError.ts"
import type { PoolEvent } from "../PoolEvent.ts"
import type { Borrowing } from "./borrowing.ts"
import { addFinalizer } from "./lease.ts"
import { clearingOf, type SizeInput, sizeOf, spreadOf } from "./options.ts"
import type { Pool } from "./pool.ts"
import { register } from "./registered.ts"
import type { Swept } from "./sweeper.ts"

export const TypeId = "~effect-queuepool/QueuePool"

export class QueuePoolImpl<A, E, R> {
  private readonly pool: Pool<A, E, R>

  constructor(pool: Pool<A, E, R>) {
    this.pool = pool
    register(this, pool)
  }

  // All of it by accessors: a pool that traces its leases looks at who asks, a function may
  // be taken from its pool, and a pool that does nothing must cost little.
  get [TypeId](): typeof TypeId {
    return TypeId
  }

  get name(): string {
    return this.pool.settings.name
  }

  get get(): Effect.Effect<A, E | PoolError, Scope.Scope> {
    return this.pool.borrowing.get
  }

  get getExclusive(): Effect.Effect<A, E | PoolError, Scope.Scope> {
    return this.pool.borrowing.getExclusive
  }

  get getIfAvailable(): Effect.Effect<Option.Option<A>, PoolError, Scope.Scope> {
    return this.pool.borrowing.getIfAvailable
  }

  get getN(): Borrowing<A, E, R>["getN"] {
    return this.pool.borrowing.getN
  }

  get use(): Borrowing<A, E, R>["use"] {
    return this.pool.borrowing.use
  }

  get useExclusive(): Borrowing<A, E, R>["useExclusive"] {
    return this.pool.borrowing.useExclusive
  }

  get useIfAvailable(): Borrowing<A, E, R>["useIfAvailable"] {
    return this.pool.borrowing.useIfAvailable
  }

  get sweep(): Effect.Effect<Swept> {
    return this.pool.sweep
  }

  get events(): Stream.Stream<PoolEvent> {
    return this.pool.events
  }

  get invalidate(): (item: A, reason?: string) => Effect.Effect<void> {
    return (item, reason = "invalidated") =>
      Effect.withFiber((fiber) => {
        this.pool.state.ending.invalidate(item, reason, fiber)
        return Effect.void
      })
  }

  get clear(): Effect.Effect<void> {
    return Effect.sync(() => this.pool.state.ending.clear(false, 0))
  }

  get clearWith(): (options: Parameters<typeof clearingOf>[1]) => Effect.Effect<void, PoolError> {
    return (options) =>
      Effect.map(
        clearingOf(this.name, options),
        ({ only, over }) => this.pool.state.ending.clear(only === "idle", over)
      )
  }

  get swap(): <R2>(
    acquire: Effect.Effect<A, E, R2>,
    options?: { readonly over?: Duration.Input | undefined }
  ) => Effect.Effect<void, E | PoolError, Exclude<R2, Scope.Scope>> {
    return (acquire, options) =>
      Effect.contextWith((caller: Context.Context<never>) =>
        Effect.flatMap(
          spreadOf(this.name, options?.over ?? this.pool.settings.retireOver),
          (millis) => {
            // Whoever asks for a swap is no parent of the opens that come long after.
            const context = Context.omit(Tracer.ParentSpan)(caller)
            // The scope is the item's, whatever scope the caller has.
            return this.pool.swap(inItsScope(acquire, context as never) as never, millis)
          }
        )
      )
  }

  get detach(): (item: A) => Effect.Effect<boolean, never, Scope.Scope> {
    return (item) =>
      Effect.withFiber((fiber) => {
        const scope = Context.getUnsafe(fiber.context, Scope.Scope)
        const detached = this.pool.state.ending.detach(item, fiber)
        if (detached === undefined) return Effect.succeed(false)
        // In the same step: between two, the fiber may be interrupted and the item lost.
        const { budget } = this.pool.state
        const close = (exit: Exit.Exit<unknown, unknown>) => Scope.close(detached.scope, exit)
        const release = budget === undefined
          ? close
          : (exit: Exit.Exit<unknown, unknown>) =>
            Effect.ensuring(close(exit), Effect.sync(() => budget.give(detached.id)))
        if (addFinalizer(scope, release)) return Effect.succeed(true)
        return Effect.as(release((scope.state as Scope.State.Closed).exit), true)
      })
  }

  get resize(): (size: SizeInput) => Effect.Effect<void, PoolError> {
    return (size) => {
      const { state } = this.pool
      return Effect.suspend(() =>
        Effect.map(sizeOf(this.name, size, state.settings), (sized) => state.control.resize(sized))
      )
    }
  }

  get suspend(): Effect.Effect<void> {
    return Effect.sync(() => this.pool.state.control.suspend())
  }

  get resume(): Effect.Effect<void> {
    return Effect.sync(() => this.pool.state.control.resume())
  }

  get stats(): Effect.Effect<ReturnType<typeof statsOf>> {
    return Effect.sync(() => statsOf(this.pool))
  }

  pipe() {
    return pipeArguments(this, arguments)
  }
}

const inItsScope = <A, E, R>(
  acquire: Effect.Effect<A, E, R>,
  context: Context.Context<R>
): Effect.Effect<A, E, Scope.Scope> =>
  Effect.flatMap(Scope.Scope, (scope) => Effect.provideContext(acquire, Context.add(context, Scope.Scope, scope)))

export const statsOf = <A, E, R>({ state }: Pool<A, E, R>) => {
  const { lent, waiting, ...counts }: Counts = state.counts()
  const { recycled, ...totals } = state.totals
  const { suspended } = state
  return {
    ...counts,
    used: lent,
    pending: waiting,
    parked: state.budget?.parked ?? 0,
    suspended,
    ...totals,
    recycled: Object.fromEntries(recycled)
  }
}
