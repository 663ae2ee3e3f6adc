/**
 * A choice of endpoint, where several serve: primary and replicas, the nodes of a cluster,
 * the addresses of a name.
 *
 * @since 1.0.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import type * as Option from "effect/Option"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as internal from "./internal/balance.ts"
import type * as breaker from "./internal/balanceBreaker.ts"
import * as choice from "./internal/balanceChoice.ts"
import type { PoolError } from "./PoolError.ts"

const TypeId = "~effect-queuepool/Balanced"

/**
 * A choice among the endpoints of a keyed pool: borrows from whichever is best, and from
 * another when that one cannot lend.
 *
 * @category models
 * @since 1.0.0
 */
export interface Balanced<in out K, out A> extends Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  /**
   * Lends an item of one of the endpoints to the current scope.
   *
   * **Details**
   *
   * When the chosen endpoint cannot lend, because its open fails, or its `PoolError` says
   * so, or it lends nothing to anyone for its part of the borrower's time, another is
   * asked, each once, for as long as `borrowTimeout`; then `get` fails with the reason
   * `NoEndpoint`, which names all that were tried and tells why. While an endpoint lends to
   * others, the borrower keeps its place there. Interruption gives up the place
   * in the queue, and loses no item and no count.
   */
  readonly get: Effect.Effect<A, PoolError, Scope.Scope>
  /**
   * Lends an item for one effect, which is told the key of the endpoint. Waits and fails as
   * `get`.
   *
   * **Details**
   *
   * Once the item is lent nothing is tried again: the error of the effect is the caller's.
   * An effect whose item was not there for the taking runs in a fiber of its own, as with
   * `maxLease`.
   */
  use<B, E2, R2>(
    f: (item: A, key: K) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E2 | PoolError, R2>
  /**
   * Lends an item if any endpoint has one for the taking; never waits and opens nothing.
   * Fails, with `NoEndpoint`, only when every endpoint does.
   */
  readonly getIfAvailable: Effect.Effect<Option.Option<A>, PoolError, Scope.Scope>
  /** As `getIfAvailable`, for one effect, which is not run when there is no item. */
  useIfAvailable<B, E2, R2>(
    f: (item: A, key: K) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError, R2>
  /**
   * The endpoint that would be chosen now. Where chance has a part in it, the next borrower
   * may be given another. Fails with `NoEndpoint` when there are none.
   */
  readonly pick: Effect.Effect<K, PoolError>
  /** What is known of each endpoint at this moment, in the order in which they were given. */
  readonly endpoints: Effect.Effect<ReadonlyArray<EndpointStats<K>>>
  /** Tells of a latency that was measured elsewhere, for example of one query. An unknown key changes nothing, nor does Infinity. */
  observe(key: K, latency: Duration.Input): Effect.Effect<void>
}

/**
 * One endpoint at one moment.
 *
 * @category models
 * @since 1.0.0
 */
export interface EndpointStats<K> {
  readonly key: K
  readonly priority: number
  readonly weight: number
  /** Borrowers of this choice that have an item of the endpoint or wait for one. */
  readonly load: number
  /** The average in milliseconds, as it fades; undefined as long as none was measured. */
  readonly latency: number | undefined
  /** How many leases its late faults count for. */
  readonly penalty: number
  /** Its circuit is open: it serves only when no other can. */
  readonly ejected: boolean
}

/**
 * One endpoint, or its key alone. Endpoints of the lowest `priority` serve as long as one of
 * them is not ejected, then those of the next. Of endpoints of one priority each gets
 * as much as its `weight` says. Default: priority 0, weight 1.
 *
 * A key that itself has a field `key` is to be given as `{ key }`.
 *
 * @category models
 * @since 1.0.0
 */
export type Endpoint<K> =
  | (K extends { readonly key: unknown } ? never : K)
  | { readonly key: K; readonly priority?: number | undefined; readonly weight?: number | undefined }

/**
 * How one of several endpoints is chosen.
 *
 * **Details**
 *
 * With `cost` the cheapest is: of up to 8 endpoints all are looked at, of more two at
 * random. `load` is how many have or want an item of the endpoint, and more after a
 * fault; `latency` is in milliseconds, undefined as long as none was measured. Among equals
 * it is by chance, each as often as its weight says. Without `cost` it is by turns.
 *
 * @category models
 * @since 1.0.0
 */
export interface Choice {
  readonly name: string
  readonly cost?: ((load: number, weight: number, latency: number | undefined) => number) | undefined
}

/**
 * Each in its turn, as often as its weight says, and spread evenly.
 *
 * @category choices
 * @since 1.0.0
 */
export const roundRobin: Choice = { name: "roundRobin" }

/**
 * The endpoint with the fewest leases and waiters of this choice, for its weight.
 *
 * @category choices
 * @since 1.0.0
 */
export const leastLoaded: Choice = { name: "leastLoaded", cost: choice.leastLoaded }

/**
 * The endpoint whose latency times its load is least, for its weight. The latency is an
 * average that rises at once and falls with the option `decay`, so that a slow
 * endpoint gets less and is tried again in time.
 *
 * @category choices
 * @since 1.0.0
 */
export const peakEwma: Choice = { name: "peakEwma", cost: choice.peakEwma }

/**
 * What is needed of a circuit breaker: `CircuitBreaker` of `effect/persistence` is one.
 *
 * @category models
 * @since 1.0.0
 */
export type Breaker = breaker.Breaker

/**
 * What lends the items of each key: a `QueuePoolMap` does.
 *
 * @category models
 * @since 1.0.0
 */
export type Lender<K, A, E> = internal.Lender<K, A, E>

/**
 * Which endpoints there are, and how one of them is chosen.
 *
 * @category models
 * @since 1.0.0
 */
export interface Options<K, R = never> {
  /**
   * The endpoints, or a `Stream` of them, for example `SubscriptionRef.changes`: the choice
   * is made when the first list is there. What is known of an endpoint is kept as long as it
   * is in the list; leases of one that is not go on. A list that is wrong is told of in the
   * log and changes nothing.
   */
  readonly endpoints: ReadonlyArray<Endpoint<K>> | Stream.Stream<ReadonlyArray<Endpoint<K>>, never, R>
  /** The label in errors and logs. Default: that of the keyed pool. */
  readonly name?: string | undefined
  /** Default: `leastLoaded`. */
  readonly choose?: Choice | undefined
  /**
   * One budget for all the endpoints that a borrower is with. Each may take an equal part of
   * what is left, and at least 2 seconds or a third of the whole, to lend anything to anyone;
   * less, where its own `borrowTimeout` is less. With Infinity that alone counts. Default: 30
   * seconds.
   */
  readonly borrowTimeout?: Duration.Input | undefined
  /**
   * Ejects endpoints, one circuit for each, and lets one borrower at a time find out whether
   * one is back, while the others go elsewhere. Failures are faults, successes are all other
   * leases. Default: none, no endpoint is ejected.
   */
  readonly breaker?: Breaker | undefined
  /**
   * Whether a lease that ended so is the endpoint's fault. A fault counts for 10 leases more
   * on the endpoint, all its faults together for at most 20, less with time (`decay`) and
   * none any more once it lends again; and it is a failure for the `breaker`. A lease that
   * did not begin is one without being asked for, if its open failed or nothing was lent to
   * anyone. With a predicate the `breaker` hears of a lease when it is over, and not when
   * it begins. Default: no lease is.
   */
  readonly fault?: ((exit: Exit.Exit<unknown, unknown>) => boolean) | undefined
  /**
   * What the latency of an endpoint is: `"lease"` (default), from when the endpoint was
   * chosen to the return, `"borrow"`, to when the item was lent, for leases that are long for
   * their own reasons, or `"none"`, only what `observe` is told.
   */
  readonly measure?: "lease" | "borrow" | "none" | undefined
  /** How long until about two thirds of a latency, or of a fault, are forgotten. Default: 10 seconds. */
  readonly decay?: Duration.Input | undefined
  /** Over how long an endpoint that is new, or back, comes from a tenth of its weight to all of it. Default: 0. */
  readonly slowStart?: Duration.Input | undefined
  /**
   * When no more than this part of all endpoints is left, the others serve too, as if
   * none were ejected. Default: 0, when all are ejected.
   */
  readonly panic?: number | undefined
  /** The name of an endpoint in errors, and the key of its circuit. Default: the key, as text. */
  readonly label?: ((key: K) => string) | undefined
}

/**
 * Tells whether a value is a `Balanced`.
 *
 * @category guards
 * @since 1.0.0
 */
export const isBalanced = (u: unknown): u is Balanced<unknown, unknown> => hasProperty(u, TypeId)

class BalancedImpl<K, A, E> implements Balanced<K, A> {
  readonly [TypeId]: typeof TypeId = TypeId
  readonly name: string
  readonly get: Balanced<K, A>["get"]
  readonly use: Balanced<K, A>["use"]
  readonly getIfAvailable: Balanced<K, A>["getIfAvailable"]
  readonly useIfAvailable: Balanced<K, A>["useIfAvailable"]
  readonly pick: Balanced<K, A>["pick"]
  private readonly balance: internal.Balance<K, A, E>

  constructor(balance: internal.Balance<K, A, E>) {
    this.balance = balance
    this.name = balance.name
    this.get = balance.get
    this.use = balance.use
    this.getIfAvailable = balance.getIfAvailable
    this.useIfAvailable = balance.useIfAvailable
    this.pick = balance.pick
  }

  readonly endpoints: Effect.Effect<ReadonlyArray<EndpointStats<K>>> = Effect.sync(() => {
    const { fleet, now } = this.balance.shell
    const at = now()
    return fleet.all.map((endpoint) => {
      const { ejected, key, load, priority, weight } = endpoint
      return { key, priority, weight, load, latency: endpoint.latencyAt(at), penalty: endpoint.finesAt(at), ejected }
    })
  })

  readonly observe = (key: K, latency: Duration.Input): Effect.Effect<void> =>
    Effect.sync(() => {
      const { fleet, now } = this.balance.shell
      fleet.find(key)?.observe(Duration.toMillis(latency), now())
    })

  pipe() {
    return pipeArguments(this, arguments)
  }
}

/**
 * Makes a choice of endpoint over a keyed pool, for as long as the current scope. The keyed
 * pool is the one that opens and lends, with its own limits and timeouts.
 *
 * **Details**
 *
 * Fails with the reason `InvalidOptions` that names every wrong option.
 *
 * **Example** (Two replicas, and the primary when neither can lend)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Balanced, QueuePoolMap } from "effect-queuepool"
 *
 * const open = (server: string) =>
 *   server === "replica-1" ? Effect.fail("refused") : Effect.succeed(`a session of ${server}`)
 *
 * const program = Effect.gen(function*() {
 *   const servers = yield* QueuePoolMap.make({ acquire: open, max: 5 })
 *   const readers = yield* Balanced.make(servers, {
 *     endpoints: ["replica-1", "replica-2", { key: "primary", priority: 1 }]
 *   })
 *   return yield* readers.use((session) => Effect.succeed(session))
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => "a session of replica-2"
 * ```
 *
 * **Example** (Ejecting a server that fails)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Balanced, QueuePoolMap } from "effect-queuepool"
 * import { CircuitBreaker } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const servers = yield* QueuePoolMap.make({
 *     acquire: (server: string) => server === "old" ? Effect.fail("refused") : Effect.succeed(server)
 *   })
 *   const balanced = yield* Balanced.make(servers, {
 *     endpoints: [{ key: "old", weight: 10 }, { key: "new" }],
 *     choose: Balanced.roundRobin,
 *     breaker: yield* CircuitBreaker.make({
 *       tripPolicy: CircuitBreaker.consecutive(3),
 *       openDuration: "30 seconds"
 *     })
 *   })
 *   for (let i = 0; i < 20; i++) yield* balanced.use(() => Effect.void)
 *   const endpoints = yield* balanced.endpoints
 *   return endpoints.filter(({ ejected }) => ejected).map(({ key }) => key)
 * })
 *
 * const provided = Effect.provide(program, CircuitBreaker.layerStoreMemory())
 *
 * await Effect.runPromise(Effect.scoped(provided)) // => ["old"]
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const make: {
  <K, R = never>(
    options: Options<K, R>
  ): <A, E>(self: Lender<K, A, E>) => Effect.Effect<Balanced<K, A>, PoolError, R | Scope.Scope>
  <K, A, E, R = never>(
    self: Lender<K, A, E>,
    options: Options<NoInfer<K>, R>
  ): Effect.Effect<Balanced<K, A>, PoolError, R | Scope.Scope>
} = dual(
  2,
  <K, A, E, R>(
    self: Lender<K, A, E>,
    options: Options<K, R>
  ): Effect.Effect<Balanced<K, A>, PoolError, R | Scope.Scope> =>
    Effect.map(internal.make<K, A, E, R>(self, options), (balance) => new BalancedImpl(balance))
)
