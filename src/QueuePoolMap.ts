/**
 * A pool for each key: hosts, tenants, shards, one bound for each and one for all.
 *
 * The pool of a key is made when the key is first asked for, and forgotten when nothing
 * is left of it. When `maxTotal` items are open, a key that needs one makes others close
 * idle items, the coldest first.
 *
 * @since 1.0.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Capacity from "./Capacity.ts"
import { Background } from "./internal/background.ts"
import { permitsOf } from "./internal/capacities.ts"
import { Entry, type KeyedEvent, KeyedPools } from "./internal/keyed.ts"
import { mannerOf, scoped, scopedIfAvailable, Use, useIfAvailable } from "./internal/loan.ts"
import { type MapOptions, mapSettingsOf } from "./internal/mapOptions.ts"
import { clearingOf, permitsNumber } from "./internal/options.ts"
import { Permits } from "./internal/permits.ts"
import { statsOf } from "./internal/queuePool.ts"
import { at, here, hereInScope } from "./internal/site.ts"
import { addTotals, newTotals } from "./internal/totals.ts"
import type { PoolError } from "./PoolError.ts"
import type * as QueuePool from "./QueuePool.ts"

// A choice among the keys of a map, and how it is made; see `Balanced`.
export { leastLoaded, make as balanced, peakEwma, roundRobin } from "./Balanced.ts"

const TypeId = "~effect-queuepool/QueuePoolMap"

/**
 * Pools of items of type `A`, one for each key of type `K`, whose opening may fail with
 * `E`. Keys are compared by effect's `Equal`; one that is in use must not be changed.
 *
 * @category models
 * @since 1.0.0
 */
export interface QueuePoolMap<in out K, in out A, out E = never> extends Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  /**
   * Lends an item of this key to the current scope, as a pool's `get`. What one key does
   * touches no other, unless `maxTotal` is reached.
   */
  get(key: K): Effect.Effect<A, E | PoolError, Scope.Scope>
  /** Lends an item of this key for one effect, as a pool's `use`. */
  use<B, E2, R2>(key: K, f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2>
  /** As `get`, for an item that nobody else has meanwhile. */
  getExclusive(key: K): Effect.Effect<A, E | PoolError, Scope.Scope>
  /** As `use`, for an item that nobody else has meanwhile. */
  useExclusive<B, E2, R2>(key: K, f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2>
  /**
   * Lends an item of this key if one is there for the taking; never waits and opens
   * nothing. A key of which the map has nothing stays so: no pool is made.
   */
  getIfAvailable(key: K): Effect.Effect<Option.Option<A>, PoolError, Scope.Scope>
  /** As `getIfAvailable`, for one effect, which is not run when there is no item. */
  useIfAvailable<B, E2, R2>(
    key: K,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError, R2>
  /**
   * The pool of a key itself, with all that a pool can do, for the life of the current
   * scope: until then the key is not forgotten. Who asks meanwhile has the same one. What
   * is set on it, by `suspend`, `swap` or `resize`, is forgotten with the key, whose next
   * pool is made anew. Fails when the options for this key are wrong, or the map is closed.
   */
  pool(key: K): Effect.Effect<QueuePool.QueuePool<A, E>, PoolError, Scope.Scope>
  /** Recycles this item of this key, as a pool's `invalidate`. */
  invalidate(key: K, item: A, reason?: string): Effect.Effect<void>
  /** Recycles every item, of one key or of all; the lent ones when they come back. */
  clear(...key: [key?: K]): Effect.Effect<void>
  /** As a pool's `clearWith`, for one key or for all. */
  clearWith(options: QueuePool.ClearOptions, ...key: [key?: K]): Effect.Effect<void, PoolError>
  /** Applies the rules to all idle items now, of one key or of all. */
  sweep(...key: [key?: K]): Effect.Effect<SweepResult<K>>
  /** The counts of this moment, and the totals since the map was made, of all keys together. */
  readonly stats: Effect.Effect<Stats>
  /** The same of one key, as its pool tells it; none when the map has nothing of it. */
  statsOf(key: K): Effect.Effect<Option.Option<QueuePool.Stats>>
  /** The keys that have items, or borrowers that wait, or whose pool somebody holds. */
  readonly keys: Effect.Effect<Array<K>>
  /** Sets how many items there may be of all keys together, as `Capacity`'s `resize`. */
  resize(maxTotal: number): Effect.Effect<void, PoolError>
  /** Every event of every key's pool from now on, and of keys that come and go, as a pool's `events`. */
  readonly events: Stream.Stream<Event<K>>
}

/**
 * An event of a key's pool, or of the key itself: `KeyAdded` when its pool is made, before
 * all events of the pool, and `KeyRemoved` when it is forgotten or closed, after all of
 * them.
 *
 * @category models
 * @since 1.0.0
 */
export type Event<K> = KeyedEvent<K>

/**
 * What the pools of all keys hold and have done; see the `Stats` of a pool. Counts of
 * keys that were forgotten are in the totals.
 *
 * @category models
 * @since 1.0.0
 */
export interface Stats extends Omit<QueuePool.Stats, "min" | "max" | "suspended"> {
  /** How many keys have items, or borrowers that wait, or whose pool somebody holds. */
  readonly keys: number
  readonly maxTotal: number
}

/**
 * What a sweep did: how many idle items it looked at, and which it recycled and why.
 *
 * @category models
 * @since 1.0.0
 */
export interface SweepResult<K> {
  readonly examined: number
  readonly recycled: ReadonlyArray<{ readonly key: K; readonly item: number; readonly reason: string }>
}

/**
 * What the pool of one key is told in place of what the map says of all.
 *
 * @category models
 * @since 1.0.0
 */
export type KeyOptions<A, E = never, R = never> = Omit<
  QueuePool.Options<A, E, R>,
  "acquire" | "name" | "warm" | "capacity"
>

/**
 * How to open an item of a key, and how many of one and of all. Everything that a pool
 * takes is taken for each key.
 *
 * @category models
 * @since 1.0.0
 */
export interface Options<
  K,
  A,
  E = never,
  R = never,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R,
  RMonitor = R,
  ROnAcquire = R,
  ROnBorrow = R,
  ROnReturn = R,
  ROnRelease = R,
  RKey = R
> extends
  Omit<
    QueuePool.Options<
      A,
      E,
      R,
      RCheck,
      RReset,
      RRetry,
      RRecycle,
      RSweep,
      RMonitor,
      ROnAcquire,
      ROnBorrow,
      ROnReturn,
      ROnRelease
    >,
    "acquire" | "warm"
  >
{
  /** Opens one item of the key, as a pool's `acquire`. */
  readonly acquire: (key: K) => Effect.Effect<A, E, R>
  /**
   * How `min` of a key is reached once the key is asked for. Default: `"background"`. A key
   * whose opens fail until nothing is left of it is forgotten like any other, and nothing
   * is opened for it before it is asked for again.
   */
  readonly warm?: "background" | "lazy" | undefined
  /**
   * What is different for one key; asked each time that the pool of a key is made. What it
   * leaves out, or undefined, is as for all keys. When an option is wrong, who asked for
   * the key hears of it; what the function throws is a defect of who asked.
   */
  readonly forKey?: ((key: K) => KeyOptions<NoInfer<A>, NoInfer<E>, RKey> | undefined) | undefined
  /** How many items there may be of all keys together: opening, idle, lent and closing. Default: 100. */
  readonly maxTotal?: number | undefined
  /** Who comes first when `maxTotal` is reached, as in `Capacity.Options`. Default: `"share"`. */
  readonly fairness?: "share" | "arrival" | undefined
  /**
   * A key of which nothing was lent for so long, and whose pool nobody had, is closed with
   * all its items, those of `min` too; what is opened or checked meanwhile goes when that
   * is done. A key that the rules leave without items is forgotten at once. May be
   * Infinity. Default: 10 minutes.
   */
  readonly idleTimeToLive?: Duration.Input | ((key: K) => Duration.Input) | undefined
}

/**
 * Tells whether a value is a `QueuePoolMap`.
 *
 * @category guards
 * @since 1.0.0
 */
export const isQueuePoolMap = (u: unknown): u is QueuePoolMap<unknown, unknown, unknown> => hasProperty(u, TypeId)

class QueuePoolMapImpl<K, A, E, R> implements QueuePoolMap<K, A, E> {
  readonly [TypeId]: typeof TypeId = TypeId
  private readonly pools: KeyedPools<K, A, E, R>
  private readonly total: Permits

  constructor(pools: KeyedPools<K, A, E, R>, total: Permits) {
    this.pools = pools
    this.total = total
  }

  get name(): string {
    return this.pools.common.name
  }

  readonly get = (key: K) =>
    scoped(this.pools.lender(key), mannerOf("shared", this.pools.traces ? hereInScope(1) : undefined))

  readonly getExclusive = (key: K) =>
    scoped(this.pools.lender(key), mannerOf("alone", this.pools.traces ? hereInScope(1) : undefined))

  readonly getIfAvailable = (key: K) =>
    scopedIfAvailable(this.pools.presentLender(key), this.pools.traces ? hereInScope(1) : undefined)

  readonly use = <B, E2, R2>(
    key: K,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E | E2 | PoolError, R2> => this.useAs("shared", key, f)

  readonly useExclusive = <B, E2, R2>(
    key: K,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E | E2 | PoolError, R2> => this.useAs("alone", key, f)

  private useAs<B, E2, R2>(
    kind: "shared" | "alone",
    key: K,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E | E2 | PoolError, R2> {
    const site = this.pools.traces ? here(2) : undefined
    return new Use<A, E, R, B, E2, R2>(this.pools.lender(key), mannerOf(kind, site), f)
  }

  readonly useIfAvailable = <B, E2, R2>(key: K, f: (item: A) => Effect.Effect<B, E2, R2>) =>
    useIfAvailable(this.pools.presentLender(key), this.pools.traces ? here(1) : undefined, f)

  readonly pool = (key: K): Effect.Effect<QueuePool.QueuePool<A, E>, PoolError, Scope.Scope> =>
    Effect.map(
      Effect.acquireRelease(
        Effect.suspend(() => {
          const entry = this.pools.entry(key)
          return entry instanceof Entry ? Effect.succeed([entry, entry.hold()] as const) : Effect.fail(entry)
        }),
        ([entry]) => Effect.sync(() => this.pools.letGo(entry))
      ),
      ([, pool]) => pool
    )

  readonly invalidate = (key: K, item: A, reason = "invalidated"): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      this.pools.entries.get(key)?.pool.state.ending.invalidate(item, reason, fiber)
      return Effect.void
    })

  readonly clear = (...key: [key?: K]): Effect.Effect<void> =>
    Effect.sync(() => {
      for (const { pool } of this.some(key)) pool.state.ending.clear(false, 0)
    })

  readonly clearWith = (options: QueuePool.ClearOptions, ...key: [key?: K]): Effect.Effect<void, PoolError> =>
    Effect.map(clearingOf(this.name, options), ({ only, over }) => {
      for (const { pool } of this.some(key)) pool.state.ending.clear(only === "idle", over)
    })

  readonly sweep = (...key: [key?: K]): Effect.Effect<SweepResult<K>> =>
    Effect.suspend(() => {
      const sweeps = this.some(key).map(({ key, pool }) =>
        Effect.map(pool.sweep, ({ examined, recycled }) => ({
          examined,
          recycled: recycled.map((each) => ({ key, ...each }))
        }))
      )
      return Effect.map(Effect.all(sweeps, { concurrency: "unbounded" }), (swept) => ({
        examined: swept.reduce((sum, { examined }) => sum + examined, 0),
        recycled: swept.flatMap(({ recycled }) => recycled)
      }))
    })

  /** The key that is given, if there is anything of it, or all. */
  private some(key: [key?: K]): ReadonlyArray<Entry<K, A, E, R>> {
    if (key.length === 0) return Array.from(this.pools.entries)
    const entry = this.pools.entries.get(key[0] as K)
    return entry === undefined ? [] : [entry]
  }

  get stats(): Effect.Effect<Stats> {
    return Effect.sync(() => {
      const { entries, gone } = this.pools
      const totals = newTotals()
      addTotals(totals, gone)
      const counts = { idle: 0, used: 0, pending: 0, opening: 0, closing: 0, parked: 0, leases: 0 }
      for (const { pool } of entries) {
        addTotals(totals, pool.state.totals)
        const stats = statsOf(pool)
        for (const name of Object.keys(counts) as Array<keyof typeof counts>) counts[name] += stats[name]
      }
      return {
        keys: entries.size,
        maxTotal: this.total.total,
        ...counts,
        ...totals,
        recycled: Object.fromEntries(totals.recycled)
      }
    })
  }

  readonly statsOf = (key: K): Effect.Effect<Option.Option<QueuePool.Stats>> =>
    Effect.sync(() => Option.map(Option.fromNullishOr(this.pools.entries.get(key)), ({ pool }) => statsOf(pool)))

  get keys(): Effect.Effect<Array<K>> {
    return Effect.sync(() => Array.from(this.pools.entries, ({ key }) => key))
  }

  readonly resize = (maxTotal: number): Effect.Effect<void, PoolError> =>
    Effect.suspend(() =>
      Effect.map(permitsNumber(this.name, "maxTotal", maxTotal), (total) => this.total.resize(total))
    )

  get events(): Stream.Stream<Event<K>> {
    return Stream.unwrap(Effect.map(
      Effect.acquireRelease(
        Effect.tap(
          Queue.sliding<Event<K>, Cause.Done>(eventBuffer),
          (listener) => Effect.sync(() => this.pools.subscribe(listener))
        ),
        (listener) => Effect.sync(() => this.pools.unsubscribe(listener))
      ),
      Stream.fromQueue
    ))
  }

  pipe() {
    return pipeArguments(this, arguments)
  }
}

// More than many pools do in a turn of the event loop.
const eventBuffer = 16_384

const makeNamed = Effect.fnUntraced(function*<K, A, E, R>(options: Options<K, A, E, R>, name: string) {
  const settings = yield* mapSettingsOf(options as MapOptions<K, A, E, R>, name)
  const context = yield* Effect.context<R | Scope.Scope>()
  const total = new Permits(settings.name, settings.maxTotal, settings.fairness)
  const pools = new KeyedPools<K, A, E, R | Scope.Scope>({
    name: settings.name,
    planOf: settings.planOf,
    background: new Background(context),
    permits: [...permitsOf(options.capacity ?? Context.get(context, Capacity.Current)), total],
    traces: settings.traces
  })
  yield* Effect.addFinalizer(() => pools.close)
  // The scope was closed before it was given to us.
  if (pools.closed) return yield* pools.refusal
  return new QueuePoolMapImpl(pools, total) as QueuePoolMap<K, A, E>
})

/**
 * Makes a map of pools that lives as long as the current scope.
 *
 * **Details**
 *
 * Fails with a `PoolError` of reason `InvalidOptions` that names every wrong option. When
 * the scope closes, all pools close side by side, each as a pool does: all is over after
 * `drainTimeout + closeTimeout` at the latest.
 *
 * **Example** (Two hosts, three items of each and four in all)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueuePoolMap } from "effect-queuepool"
 *
 * const program = Effect.gen(function*() {
 *   const hosts = yield* QueuePoolMap.make({
 *     acquire: (host: string) => Effect.succeed(`a connection to ${host}`),
 *     max: 3,
 *     maxTotal: 4
 *   })
 *   return yield* hosts.use("eu", (connection) => Effect.succeed(connection))
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => "a connection to eu"
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const make = <
  K,
  A,
  E,
  R,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R,
  RMonitor = R,
  ROnAcquire = R,
  ROnBorrow = R,
  ROnReturn = R,
  ROnRelease = R,
  RKey = R
>(
  options: Options<
    K,
    A,
    E,
    R,
    RCheck,
    RReset,
    RRetry,
    RRecycle,
    RSweep,
    RMonitor,
    ROnAcquire,
    ROnBorrow,
    ROnReturn,
    ROnRelease,
    RKey
  >
): Effect.Effect<
  QueuePoolMap<K, A, E>,
  PoolError,
  | R
  | RCheck
  | RReset
  | RRetry
  | RRecycle
  | RSweep
  | RMonitor
  | ROnAcquire
  | ROnBorrow
  | ROnReturn
  | ROnRelease
  | RKey
  | Scope.Scope
> =>
  makeNamed<
    K,
    A,
    E,
    R | RCheck | RReset | RRetry | RRecycle | RSweep | RMonitor | ROnAcquire | ROnBorrow | ROnReturn | ROnRelease | RKey
  >(options, "map")

/**
 * Makes a layer that provides a map of pools under a tag; its key is the default `name`.
 * The options may be an Effect.
 *
 * @category layers
 * @since 1.0.0
 */
// A tag is not a subject to pipe.
// @effect-diagnostics-next-line missingPipeableSignature:off
export const layer = <
  I,
  K,
  A,
  E,
  R,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R,
  RMonitor = R,
  ROnAcquire = R,
  ROnBorrow = R,
  ROnReturn = R,
  ROnRelease = R,
  RKey = R,
  E2 = never,
  R2 = never
>(
  tag: Context.Key<I, QueuePoolMap<K, A, E>>,
  options:
    | Options<
      K,
      A,
      E,
      R,
      RCheck,
      RReset,
      RRetry,
      RRecycle,
      RSweep,
      RMonitor,
      ROnAcquire,
      ROnBorrow,
      ROnReturn,
      ROnRelease,
      RKey
    >
    | Effect.Effect<
      Options<
        K,
        A,
        E,
        R,
        RCheck,
        RReset,
        RRetry,
        RRecycle,
        RSweep,
        RMonitor,
        ROnAcquire,
        ROnBorrow,
        ROnReturn,
        ROnRelease,
        RKey
      >,
      E2,
      R2
    >
): Layer.Layer<
  I,
  PoolError | E2,
  Exclude<
    | R
    | RCheck
    | RReset
    | RRetry
    | RRecycle
    | RSweep
    | RMonitor
    | ROnAcquire
    | ROnBorrow
    | ROnReturn
    | ROnRelease
    | RKey
    | R2,
    Scope.Scope
  >
> => {
  const make = (given: unknown) =>
    makeNamed(
      given as Options<
        K,
        A,
        E,
        | R
        | RCheck
        | RReset
        | RRetry
        | RRecycle
        | RSweep
        | RMonitor
        | ROnAcquire
        | ROnBorrow
        | ROnReturn
        | ROnRelease
        | RKey
      >,
      tag.key
    )
  return Layer.effect(tag, Effect.isEffect(options) ? Effect.flatMap(options, make) : make(options))
}

/**
 * The class that `Service` makes: the tag of a map of pools, its layer, and the map's
 * operations as static members.
 *
 * @category models
 * @since 1.0.0
 */
export interface ServiceClass<Self, Id extends string, K, A, E, LE, LR>
  extends Context.ServiceClass<Self, Id, QueuePoolMap<K, A, E>>
{
  /** Builds the map, once for all who share it. */
  readonly layer: Layer.Layer<Self, LE, LR>
  readonly get: (key: K) => Effect.Effect<A, E | PoolError, Scope.Scope | Self>
  readonly getExclusive: (key: K) => Effect.Effect<A, E | PoolError, Scope.Scope | Self>
  readonly getIfAvailable: (key: K) => Effect.Effect<Option.Option<A>, PoolError, Scope.Scope | Self>
  /** The map's `use`; `use` itself is the service's own. */
  readonly useItem: <B, E2, R2>(
    key: K,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<B, E | E2 | PoolError, R2 | Self>
  readonly useExclusive: <B, E2, R2>(
    key: K,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<B, E | E2 | PoolError, R2 | Self>
  readonly useIfAvailable: <B, E2, R2>(
    key: K,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<Option.Option<B>, E2 | PoolError, R2 | Self>
  readonly pool: (key: K) => Effect.Effect<QueuePool.QueuePool<A, E>, PoolError, Scope.Scope | Self>
  readonly invalidate: (key: K, item: A, reason?: string) => Effect.Effect<void, never, Self>
  readonly clear: (...key: [key?: K]) => Effect.Effect<void, never, Self>
  readonly clearWith: (options: QueuePool.ClearOptions, ...key: [key?: K]) => Effect.Effect<void, PoolError, Self>
  readonly sweep: (...key: [key?: K]) => Effect.Effect<SweepResult<K>, never, Self>
  readonly stats: Effect.Effect<Stats, never, Self>
  readonly statsOf: (key: K) => Effect.Effect<Option.Option<QueuePool.Stats>, never, Self>
  readonly keys: Effect.Effect<Array<K>, never, Self>
  readonly resize: (maxTotal: number) => Effect.Effect<void, PoolError, Self>
  readonly events: Stream.Stream<Event<K>, never, Self>
}

/**
 * Makes a class that names a map of pools as a service, with its layer.
 *
 * **Example** (A map of pools as a service)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueuePoolMap } from "effect-queuepool"
 *
 * class Tenants extends QueuePoolMap.Service<Tenants>()("app/Tenants", {
 *   acquire: (tenant: string) => Effect.succeed({ tenant }),
 *   max: 2,
 *   maxTotal: 50
 * }) {}
 *
 * const program = Tenants.useItem("acme", ({ tenant }) => Effect.succeed(tenant))
 *
 * await Effect.runPromise(Effect.provide(program, Tenants.layer)) // => "acme"
 * ```
 *
 * @category services
 * @since 1.0.0
 */
export const Service = <Self>() =>
<
  const Id extends string,
  K,
  A,
  E,
  R,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R,
  RMonitor = R,
  ROnAcquire = R,
  ROnBorrow = R,
  ROnReturn = R,
  ROnRelease = R,
  RKey = R,
  E2 = never,
  R2 = never
>(
  id: Id,
  options:
    | Options<
      K,
      A,
      E,
      R,
      RCheck,
      RReset,
      RRetry,
      RRecycle,
      RSweep,
      RMonitor,
      ROnAcquire,
      ROnBorrow,
      ROnReturn,
      ROnRelease,
      RKey
    >
    | Effect.Effect<
      Options<
        K,
        A,
        E,
        R,
        RCheck,
        RReset,
        RRetry,
        RRecycle,
        RSweep,
        RMonitor,
        ROnAcquire,
        ROnBorrow,
        ROnReturn,
        ROnRelease,
        RKey
      >,
      E2,
      R2
    >
): ServiceClass<
  Self,
  Id,
  K,
  A,
  E,
  PoolError | E2,
  Exclude<
    | R
    | RCheck
    | RReset
    | RRetry
    | RRecycle
    | RSweep
    | RMonitor
    | ROnAcquire
    | ROnBorrow
    | ROnReturn
    | ROnRelease
    | RKey
    | R2,
    Scope.Scope
  >
> => {
  const Tag = Context.Service<Self, QueuePoolMap<K, A, E>>()(id)
  const with_ = <B, E3, R3>(f: (map: QueuePoolMap<K, A, E>) => Effect.Effect<B, E3, R3>) => Effect.flatMap(Tag, f)
  // Who asks is known here; in the fiber that asks the map, nobody stands above.
  let traces = !Effect.isEffect(options) && tracesLeases(options)
  const lend = <B, E3, R3>(f: (map: QueuePoolMap<K, A, E>) => Effect.Effect<B, E3, R3>) => {
    if (!traces) return with_(f)
    const site = hereInScope(2)
    return with_((map) => at(site, () => f(map)))
  }
  const given = Effect.isEffect(options)
    ? Effect.tap(options, (given) => Effect.sync(() => void (traces = tracesLeases(given))))
    : options
  const members = {
    layer: layer(Tag, given),
    get: (key: K) => lend((map) => map.get(key)),
    getExclusive: (key: K) => lend((map) => map.getExclusive(key)),
    getIfAvailable: (key: K) => lend((map) => map.getIfAvailable(key)),
    useItem: <B, E3, R3>(key: K, f: (item: A) => Effect.Effect<B, E3, R3>) => lend((map) => map.use(key, f)),
    useExclusive: <B, E3, R3>(key: K, f: (item: A) => Effect.Effect<B, E3, R3>) =>
      lend((map) => map.useExclusive(key, f)),
    useIfAvailable: <B, E3, R3>(key: K, f: (item: A) => Effect.Effect<B, E3, R3>) =>
      lend((map) => map.useIfAvailable(key, f)),
    pool: (key: K) => with_((map) => map.pool(key)),
    invalidate: (key: K, item: A, reason?: string) => with_((map) => map.invalidate(key, item, reason)),
    clear: (...key: [key?: K]) => with_((map) => map.clear(...key)),
    clearWith: (options: QueuePool.ClearOptions, ...key: [key?: K]) => with_((map) => map.clearWith(options, ...key)),
    sweep: (...key: [key?: K]) => with_((map) => map.sweep(...key)),
    stats: with_((map) => map.stats),
    statsOf: (key: K) => with_((map) => map.statsOf(key)),
    keys: with_((map) => map.keys),
    resize: (maxTotal: number) => with_((map) => map.resize(maxTotal)),
    events: Stream.unwrap(Effect.map(Tag, (map) => map.events))
  }
  return Object.defineProperties(Tag, Object.getOwnPropertyDescriptors(members)) as never
}

/** Leases that last too long are told of, with the place where they began. */
const tracesLeases = (
  { leaseWarning, maxLease }: { readonly leaseWarning?: unknown; readonly maxLease?: unknown }
): boolean => leaseWarning !== undefined || maxLease !== undefined
