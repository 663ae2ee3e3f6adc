/**
 * Pools of scoped items with a hard bound, a deadline for every wait, and rules
 * for the end of an item's life.
 *
 * @since 1.0.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { settingsOf } from "./internal/options.ts"
import { type Effects, Pool, register } from "./internal/pool.ts"
import { compile } from "./internal/rules.ts"
import type { Counts, PoolError } from "./PoolError.ts"
import type { PoolEvent } from "./PoolEvent.ts"
import type * as RecyclePolicy from "./RecyclePolicy.ts"

const TypeId = "~effect-queuepool/QueuePool"

/**
 * A pool of items of type `A`, whose opening may fail with `E`.
 *
 * @category models
 * @since 1.0.0
 */
export interface QueuePool<in out A, out E = never> extends Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  /**
   * Lends an item to the current scope; it is given back when the scope closes,
   * with the scope's `Exit`.
   *
   * **Details**
   *
   * An idle item is lent at once, without an asynchronous step, unless a `check`
   * is due. Otherwise the
   * borrower waits its turn, first come first served, for at most
   * `borrowTimeout`. It fails with the `E` of an open that was for it, or with a
   * `PoolError` whose reason is `BorrowTimeout`, `TooManyWaiters`, `OpenTimeout`
   * or `Closed`. Interruption gives up the place in the queue and loses nothing,
   * whatever its moment: an open that was under way goes on and its item serves
   * the next borrower.
   */
  readonly get: Effect.Effect<A, E | PoolError, Scope.Scope>
  /**
   * Lends an item for one effect and takes it back when the effect ends, in any
   * way. Waits, fails and is interrupted as `get`, and costs no scope.
   */
  use<B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2>
  /**
   * Recycles this item: now when it is idle, when it comes back when it is lent.
   * The reason, `"invalidated"` if none is given, stands in events and stats: keep
   * to a few.
   *
   * **Details**
   *
   * A value that is not an item of this pool, or no longer, changes nothing. Of
   * several items with equal values the one is meant that the calling fiber has
   * borrowed, or else the one that was lent last.
   */
  invalidate(item: A, reason?: string): Effect.Effect<void>
  /**
   * Recycles every item: the idle ones now, the lent and the opening ones when
   * they come back or arrive. The pool then refills to `min`.
   */
  readonly clear: Effect.Effect<void>
  /**
   * Applies the rules to all idle items now, the coldest first, and tells what was
   * recycled and why. Waits for the effectful checks among the rules, each for at
   * most `checkTimeout`; interruption leaves them to run.
   */
  readonly sweep: Effect.Effect<SweepResult>
  /** The counts of this moment and the totals since the pool was made. */
  readonly stats: Effect.Effect<Stats>
  /**
   * Every transition from the moment of subscription until the pool is closed. A
   * listener that falls 4096 events behind loses the oldest; it never slows the
   * pool. Subscribe before what you want to see: a fiber that is to run the stream
   * must have begun, as with `Effect.forkScoped({ startImmediately: true })`.
   */
  readonly events: Stream.Stream<PoolEvent>
}

/**
 * What a pool holds and has done. The counts are one consistent moment.
 *
 * @category models
 * @since 1.0.0
 */
export interface Stats {
  readonly idle: number
  /** Items lent, or being checked or reset. */
  readonly used: number
  /** Borrowers that wait. */
  readonly pending: number
  readonly opening: number
  readonly closing: number
  readonly min: number
  readonly max: number
  /** Totals since the pool was made. */
  readonly opened: number
  readonly openFailures: number
  readonly closed: number
  /** Items whose release, and opens whose end, did not come within `closeTimeout`. */
  readonly abandoned: number
  readonly borrowed: number
  readonly returned: number
  /** Leases whose item was closed under them; not counted as returned. */
  readonly takenBack: number
  /** Borrowers that found no idle item. */
  readonly waited: number
  readonly timeouts: number
  /** Items recycled, by reason. */
  readonly recycled: Readonly<Record<string, number>>
}

/**
 * What one sweep did: how many idle items it looked at, and the number and the
 * reason of each that it recycled.
 *
 * @category models
 * @since 1.0.0
 */
export interface SweepResult {
  readonly examined: number
  readonly recycled: ReadonlyArray<{ readonly item: number; readonly reason: string }>
}

/**
 * How to open an item, how many, how long anything may take, and when an item has
 * lived long enough.
 *
 * **Details**
 *
 * All options are checked together when the pool is made; one `InvalidOptions`
 * names every wrong one. Durations are `Duration.Input`. `R` is what `acquire` and
 * the other effects need; the constructors infer it for each of them.
 *
 * @category models
 * @since 1.0.0
 */
export interface Options<
  A,
  E = never,
  R = never,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R
> {
  /**
   * Opens one item. Its scope lives as long as the item: closing it is the
   * release. Runs in the background with the pool's context, and goes on when the
   * borrower that it was for has left.
   */
  readonly acquire: Effect.Effect<A, E, R>
  /** The label in errors, events and logs. Default: the service's id, or `"pool"`. */
  readonly name?: string | undefined
  /** The bound on items opening, idle, lent and closing together; may be Infinity. Default: 10. */
  readonly max?: number | undefined
  /** Kept open: refilled after any loss, and spared by the idle rules. Default: 0. */
  readonly min?: number | undefined
  /**
   * How `min` is reached at the start: `"background"` (default), `"lazy"`, from the
   * first borrow on, or `"eager"`: the pool is made only when `min` is reached, the
   * first item alone and then the rest, and fails with the `E` of a failed open, or
   * goes on for as long as `retry` does: bound that with `Effect.timeout`.
   */
  readonly warm?: "background" | "lazy" | "eager" | undefined
  /**
   * Which idle item is lent: the one returned last, `"lifo"` (default), so that the
   * others grow cold and can be recycled, or the one returned first, `"fifo"`.
   */
  readonly order?: "lifo" | "fifo" | undefined
  /**
   * One budget for waiting, opening and checking. Default: 30 seconds. With zero a
   * borrower takes an idle item that needs no check or fails at once, and an open
   * begins for whoever comes next. `"Infinity"` sets no limit.
   */
  readonly borrowTimeout?: Duration.Input | undefined
  /**
   * How many borrowers may wait without an open or a check under way for them; one
   * more fails at once. Default: Infinity.
   */
  readonly maxWaiters?: number | undefined
  /** How many opens are under way at once. Default: 4. */
  readonly openConcurrency?: number | undefined
  /** The deadline of one open; an item that comes later is closed on arrival. Default: 30 seconds. */
  readonly openTimeout?: Duration.Input | undefined
  /**
   * How the pool retries failed opens: on one road for all borrowers, one open per
   * step. A borrower hears of a failure when the Schedule ends, or when its own
   * time does. Default: none, a failed open is told to the borrower it was for.
   */
  readonly retry?: Schedule.Schedule<unknown, NoInfer<E> | PoolError, unknown, RRetry> | undefined
  /**
   * Run before an item is lent that was idle for at least `checkAfter`. When it
   * fails, or succeeds with `false`, the item is recycled and the borrower gets
   * another. Default: none.
   */
  readonly check?: ((item: NoInfer<A>) => Effect.Effect<unknown, unknown, RCheck>) | undefined
  /** Default: 500 milliseconds. */
  readonly checkAfter?: Duration.Input | undefined
  /** Default: 5 seconds. */
  readonly checkTimeout?: Duration.Input | undefined
  /**
   * Run after an item came back and before anyone else gets it, with the `Exit` of
   * the lease. When it fails, the item is recycled. The function itself runs as
   * part of the return; where it finds nothing to do it may give `undefined`, and
   * the item is free at once. Default: none.
   */
  readonly reset?:
    | ((
      item: NoInfer<A>,
      exit: Exit.Exit<unknown, unknown>
    ) => Effect.Effect<unknown, unknown, RReset> | undefined)
    | undefined
  /** Default: 5 seconds. */
  readonly resetTimeout?: Duration.Input | undefined
  /** When an item has lived long enough: a rule, or several of which any may speak. Default: never. */
  readonly recycle?: RecyclePolicy.Input<NoInfer<A>, RRecycle> | undefined
  /**
   * How often the rules without a deadline of their own (`when`, `check`) look at
   * idle items; rules on time need none. Default: every 60 seconds when there are
   * such rules.
   */
  readonly sweep?: Duration.Input | Schedule.Schedule<unknown, unknown, unknown, RSweep> | undefined
  /** The deadline of one item's release; after it the item is abandoned. Default: 5 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
  /**
   * How long the closing of the pool waits for leases; then their items are closed
   * under them. Default: 10 seconds.
   */
  readonly drainTimeout?: Duration.Input | undefined
}

/** Options of which each effect may need something else. */
type Given<A, E, R, RCheck, RReset, RRetry, RRecycle, RSweep, W> =
  & Options<A, E, R, RCheck, RReset, RRetry, RRecycle, RSweep>
  & { readonly warm?: W | "background" | "lazy" | "eager" | undefined }

/** The error that making a pool adds to `PoolError`: only a warm-up can fail with `E`. */
type WarmError<E, W> = "eager" extends W ? E : never

/**
 * Tells whether a value is a `QueuePool`.
 *
 * @category guards
 * @since 1.0.0
 */
export const isQueuePool = (u: unknown): u is QueuePool<unknown, unknown> => hasProperty(u, TypeId)

class QueuePoolImpl<A, E, R> implements QueuePool<A, E> {
  readonly [TypeId]: typeof TypeId = TypeId
  readonly name: string
  readonly get: Effect.Effect<A, E | PoolError, Scope.Scope>
  readonly use: QueuePool<A, E>["use"]
  readonly sweep: Effect.Effect<SweepResult>
  readonly events: Stream.Stream<PoolEvent>
  private readonly pool: Pool<A, E, R>

  constructor(pool: Pool<A, E, R>) {
    this.pool = pool
    register(this, pool)
    this.name = pool.settings.name
    this.get = pool.borrowing.get
    this.use = pool.borrowing.use
    this.sweep = pool.sweep
    this.events = pool.events
  }

  readonly invalidate = (item: A, reason = "invalidated"): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      this.pool.state.invalidate(item, reason, fiber)
      return Effect.void
    })

  readonly clear: Effect.Effect<void> = Effect.sync(() => this.pool.state.clear())

  readonly stats: Effect.Effect<Stats> = Effect.sync(() => statsOf(this.pool))

  pipe() {
    return pipeArguments(this, arguments)
  }
}

const statsOf = <A, E, R>({ state }: Pool<A, E, R>): Stats => {
  const { lent, waiting, ...counts }: Counts = state.counts()
  const { recycled, ...totals } = state.totals
  return { ...counts, used: lent, pending: waiting, ...totals, recycled: Object.fromEntries(recycled) }
}

const makeNamed = Effect.fnUntraced(function*<A, E, R>(options: Options<A, E, R>, name: string) {
  const settings = yield* settingsOf(options, name)
  const context = yield* Effect.context<R | Scope.Scope>()
  // Its own scope, so that a warm-up that fails or is interrupted leaves nothing behind.
  const scope = yield* Scope.fork(Context.get(context, Scope.Scope))
  const effects: Effects<A, E, R> = {
    acquire: options.acquire,
    check: options.check,
    reset: options.reset,
    retry: options.retry,
    sweep: options.sweep
  }
  const pool = new Pool(settings, effects, compile(options.recycle), context)
  yield* Scope.addFinalizer(scope, pool.close)
  yield* Effect.onExit(pool.start, (exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)
  return new QueuePoolImpl(pool) as QueuePool<A, E>
})

/**
 * Makes a pool that lives as long as the current scope.
 *
 * **When to use**
 *
 * Use when the pool is a value of one workflow. For an application's pool prefer
 * `layer` or `Service`.
 *
 * **Details**
 *
 * Fails with a `PoolError` of reason `InvalidOptions` that names every wrong
 * option; with `warm: "eager"` also with the `E` of an open that failed. When the
 * scope closes, waiters fail with `Closed` at once, leases get `drainTimeout`, and
 * all is over after `drainTimeout + closeTimeout` at the latest.
 *
 * **Example** (Making a pool and borrowing from it)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueuePool } from "effect-queuepool"
 *
 * let opened = 0
 * const program = Effect.gen(function*() {
 *   const pool = yield* QueuePool.make({
 *     acquire: Effect.acquireRelease(Effect.sync(() => ++opened), () => Effect.void),
 *     max: 2
 *   })
 *   const first = yield* Effect.scoped(pool.get)
 *   const second = yield* pool.use((item) => Effect.succeed(item))
 *   return [first, second]
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => [1, 1]
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const make = <
  A,
  E,
  R,
  const W extends Options<A>["warm"] = undefined,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R
>(
  options: Given<A, E, R, RCheck, RReset, RRetry, RRecycle, RSweep, W>
): Effect.Effect<
  QueuePool<A, E>,
  PoolError | WarmError<E, W>,
  R | RCheck | RReset | RRetry | RRecycle | RSweep | Scope.Scope
> =>
  // Only a warm-up fails with E, which the types of the options know and the code does not.
  // @effect-diagnostics-next-line unsafeEffectTypeAssertion:off
  makeNamed<A, E, R | RCheck | RReset | RRetry | RRecycle | RSweep>(options, "pool") as Effect.Effect<
    QueuePool<A, E>,
    PoolError | WarmError<E, W>,
    R | RCheck | RReset | RRetry | RRecycle | RSweep | Scope.Scope
  >

/**
 * Makes a layer that provides a pool under a tag.
 *
 * **When to use**
 *
 * Use when the tag exists already. To name a pool and its layer in one go, use
 * `Service`.
 *
 * **Details**
 *
 * The options may be an Effect: of `Config`, of secrets, of other services. A
 * layer is built once for all who share it; the tag's key is the default `name`.
 *
 * @category layers
 * @since 1.0.0
 */
// A tag is not a subject to pipe.
// @effect-diagnostics-next-line missingPipeableSignature:off
export const layer = <
  I,
  A,
  E,
  R,
  E2 = never,
  R2 = never,
  const W extends Options<A>["warm"] = undefined,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R
>(
  tag: Context.Key<I, QueuePool<A, E>>,
  options:
    | Given<A, E, R, RCheck, RReset, RRetry, RRecycle, RSweep, W>
    | Effect.Effect<Given<A, E, R, RCheck, RReset, RRetry, RRecycle, RSweep, W>, E2, R2>
): Layer.Layer<
  I,
  PoolError | WarmError<E, W> | E2,
  Exclude<R | RCheck | RReset | RRetry | RRecycle | RSweep | R2, Scope.Scope>
> => {
  const make = (given: Options<A, E, R | RCheck | RReset | RRetry | RRecycle | RSweep>) => makeNamed(given, tag.key)
  // @effect-diagnostics-next-line unsafeEffectTypeAssertion:off
  return Layer.effect(tag, Effect.isEffect(options) ? Effect.flatMap(options, make) : make(options)) as Layer.Layer<
    I,
    PoolError | WarmError<E, W> | E2,
    Exclude<R | RCheck | RReset | RRetry | RRecycle | RSweep | R2, Scope.Scope>
  >
}

/**
 * The class that `Service` makes: the tag of a pool, its layer, and the pool's
 * operations as static members.
 *
 * @category models
 * @since 1.0.0
 */
export interface ServiceClass<Self, Id extends string, A, E, LE, LR>
  extends Context.ServiceClass<Self, Id, QueuePool<A, E>>
{
  /** Builds the pool, once for all who share it. */
  readonly layer: Layer.Layer<Self, LE, LR>
  readonly get: Effect.Effect<A, E | PoolError, Scope.Scope | Self>
  /** The pool's `use`; `use` itself is the service's own. */
  readonly useItem: <B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<B, E | E2 | PoolError, R2 | Self>
  readonly invalidate: (item: A, reason?: string) => Effect.Effect<void, never, Self>
  readonly clear: Effect.Effect<void, never, Self>
  readonly sweep: Effect.Effect<SweepResult, never, Self>
  readonly stats: Effect.Effect<Stats, never, Self>
  readonly events: Stream.Stream<PoolEvent, never, Self>
}

/**
 * Makes a class that names a pool as a service, with its layer.
 *
 * **Example** (A pool as a service)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueuePool, RecyclePolicy } from "effect-queuepool"
 *
 * class Workers extends QueuePool.Service<Workers>()("app/Workers", {
 *   acquire: Effect.acquireRelease(Effect.succeed({ run: (n: number) => n * 2 }), () => Effect.void),
 *   max: 4,
 *   recycle: [RecyclePolicy.uses(1000), RecyclePolicy.failed]
 * }) {}
 *
 * const program = Workers.useItem((worker) => Effect.succeed(worker.run(21)))
 *
 * await Effect.runPromise(Effect.provide(program, Workers.layer)) // => 42
 * ```
 *
 * @category services
 * @since 1.0.0
 */
export const Service = <Self>() =>
<
  const Id extends string,
  A,
  E,
  R,
  E2 = never,
  R2 = never,
  const W extends Options<A>["warm"] = undefined,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R
>(
  id: Id,
  options:
    | Given<A, E, R, RCheck, RReset, RRetry, RRecycle, RSweep, W>
    | Effect.Effect<Given<A, E, R, RCheck, RReset, RRetry, RRecycle, RSweep, W>, E2, R2>
): ServiceClass<
  Self,
  Id,
  A,
  E,
  PoolError | WarmError<E, W> | E2,
  Exclude<R | RCheck | RReset | RRetry | RRecycle | RSweep | R2, Scope.Scope>
> => {
  const Tag = Context.Service<Self, QueuePool<A, E>>()(id)
  const with_ = <B, E3, R3>(f: (pool: QueuePool<A, E>) => Effect.Effect<B, E3, R3>) => Effect.flatMap(Tag, f)
  return Object.assign(Tag, {
    layer: layer(Tag, options),
    get: with_((pool) => pool.get),
    useItem: <B, E3, R3>(f: (item: A) => Effect.Effect<B, E3, R3>) => with_((pool) => pool.use(f)),
    invalidate: (item: A, reason?: string) => with_((pool) => pool.invalidate(item, reason)),
    clear: with_((pool) => pool.clear),
    sweep: with_((pool) => pool.sweep),
    stats: with_((pool) => pool.stats),
    events: Stream.unwrap(Effect.map(Tag, (pool) => pool.events))
  }) as never
}
