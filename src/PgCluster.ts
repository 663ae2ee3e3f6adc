/**
 * A PostgreSQL primary and its replicas as two services: `Writer` lends sessions of
 * the primary, `Reader` those of replicas, whichever server is which at the moment.
 *
 * **Example** (Writing to the primary, reading from replicas)
 *
 * ```ts postgres
 * import * as PgCluster from "effect-queuepool/PgCluster"
 * import { Effect, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const writer = yield* PgCluster.Writer
 *   const reader = yield* PgCluster.Reader
 *   const written = yield* writer.sql.withTransaction(writer.sql`select 1 as one`)
 *   const read = yield* reader.sql`select 2 as two`
 *   return [...written, ...read]
 * })
 *
 * // One server here, which readers share with writers as long as there is no replica.
 * const Database = PgCluster.layer({
 *   nodes: [{ url: Redacted.make(process.env["DATABASE_URL"]!) }]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Database)) // => [{ one: 1 }, { two: 2 }]
 * ```
 *
 * **Who is the primary**
 *
 * The servers tell. Beside its pool each node has one session, named after the cluster
 * with `roles` behind it, over which it is asked `pg_is_in_recovery()` every
 * `roleInterval`; at once when that session or one of the pool ends, or when the
 * primary of the cluster is lost; and over a new connection when a lease fails because its
 * server is read-only (25006), for the address may lead to another server now. What is
 * out of reach has no role, and lends to nobody. A node that comes to be a replica has
 * its sessions recycled; one that comes to be the primary keeps them.
 *
 * Of several that say they are the primary the one on the newest timeline is, and one
 * on an older timeline than was ever seen is not, also when it is the only one: it is
 * from before a failover, and what is written to it is lost.
 *
 * **During a failover**
 *
 * Statements that run on a server that dies fail, and the program repeats them as it
 * sees fit: whether one whose answer was lost has been done nobody can tell. Borrowers
 * that wait for the lost server go on to the next, and a writer waits for the new
 * primary within its `borrowTimeout`. This module promotes nobody: that is for whoever
 * watches over the servers, and who also keeps the old primary from coming back as one.
 *
 * **Gotchas**
 *
 * A program that starts, or is on the other side of a network that is cut, while only
 * the old primary can be reached takes that for the primary: keep it away (fence it),
 * or let commits wait for a replica (`synchronous_standby_names`). After a deliberate
 * return to an older timeline restart the program.
 *
 * @since 1.0.0
 */
import type { PgClient, PgClientConfig } from "@effect/sql-pg/PgClient"
import { layerFrom } from "@effect/sql-pg/PgClient"
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as Balanced from "./Balanced.ts"
import * as internalCluster from "./internal/pgCluster.ts"
import type * as PgQueuePool from "./PgQueuePool.ts"
import type { PoolError } from "./PoolError.ts"
import * as QueuePoolMap from "./QueuePoolMap.ts"

/**
 * What a server is: the primary, which alone takes writes, or a replica.
 *
 * @category models
 * @since 1.0.0
 */
export type Role = internalCluster.NodeStatus["role"] & string

/**
 * One server: what the driver needs to reach it, beside what all nodes share.
 *
 * @category models
 * @since 1.0.0
 */
export interface Node extends PgClientConfig {
  /** How the node is called in errors and stats; unlike all others. Default: its host and port. */
  readonly name?: string | undefined
}

/**
 * The nodes, what the cluster itself needs to know, and the options of the pool that
 * each node gets.
 *
 * **Details**
 *
 * All options but these six and `name` (default `"PgCluster"`) are those of
 * `PgQueuePool`, and hold for the pool of each node: `max` is per node.
 * `borrowTimeout` is one budget, also for what a borrower waits until there is a
 * primary.
 *
 * @category models
 * @since 1.0.0
 */
export interface Options<R = never> extends Omit<PgQueuePool.Options<R>, "url" | "path" | "warm"> {
  /** Every server that is, or may come to be, the primary or a replica. */
  readonly nodes: ReadonlyArray<Node>
  /**
   * What readers do with the primary: borrow from it while no replica serves
   * (`"fallback"`, the default), at any time (`"always"`), or `"never"`.
   */
  readonly readFromPrimary?: "fallback" | "always" | "never" | undefined
  /** How many sessions there may be of all nodes together. Default: Infinity, `max` of each. */
  readonly maxTotal?: number | undefined
  /** How readers choose among the nodes that serve them. Default: `Balanced.leastLoaded`. */
  readonly choose?: Balanced.Choice | undefined
  /**
   * How often each node is asked for its role; four times a second, if that is more,
   * while there is no primary. One that is out of reach is tried again after 100
   * milliseconds, doubled up to this, or to 5 seconds if that is less. Default: 2 seconds.
   */
  readonly roleInterval?: Duration.Input | undefined
  /** How long a node may take to connect, and to answer, before it counts as out of reach. Default: 2 seconds. */
  readonly roleTimeout?: Duration.Input | undefined
  /** As in `QueuePool`, but for `"eager"`, which would wait for a node that is away. */
  readonly warm?: "background" | "lazy" | undefined
}

/**
 * One node as it is known now.
 *
 * @category models
 * @since 1.0.0
 */
export interface NodeStatus extends internalCluster.NodeStatus {}

/**
 * What `Reader` and `Writer` are: the borrowing half of a pool of sessions, and a
 * client that borrows so.
 *
 * @category models
 * @since 1.0.0
 */
export interface Sessions {
  /** The cluster's name with the role behind it, as it is in errors. */
  readonly name: string
  /**
   * Lends a session of a node that has the role to the current scope.
   *
   * **Details**
   *
   * Waits for at most `borrowTimeout` until a node has the role and a session for this
   * borrower; when the node ceases to have the role meanwhile, the borrower goes on to
   * the next. Fails with a `PoolError` of reason `BorrowTimeout`, which tells what is
   * known of each node, or as the pool of the node does. A node that cannot open a
   * session is left for another that can. Interruption gives up the place in the queue
   * and loses nothing.
   */
  readonly get: Effect.Effect<PgConnection, SqlError | PoolError, Scope.Scope>
  /** Lends a session for one effect, as `get`, and takes it back when the effect ends in any way. */
  use<B, E2, R2>(
    f: (session: PgConnection) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E2 | SqlError | PoolError, R2>
  /** As `get`, for a session that nobody else has meanwhile. The same unless `multiplex` is on. */
  readonly getExclusive: Effect.Effect<PgConnection, SqlError | PoolError, Scope.Scope>
  /** As `use`, for a session that nobody else has meanwhile. */
  useExclusive<B, E2, R2>(
    f: (session: PgConnection) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E2 | SqlError | PoolError, R2>
  /** A `SqlClient` whose statements, transactions and listeners run on sessions of this role. */
  readonly sql: PgClient
  /** All nodes of the cluster, as they are known now. */
  readonly nodes: Effect.Effect<ReadonlyArray<NodeStatus>>
}

/**
 * Sessions that read: of replicas, and as `readFromPrimary` says of the primary.
 *
 * **Gotchas**
 *
 * A replica shows what it has been sent: it may be behind what the same program has
 * just written. What must see that belongs on the `Writer`.
 *
 * @category services
 * @since 1.0.0
 */
export class Reader extends Context.Service<Reader, Sessions>()("effect-queuepool/PgCluster/Reader") {}

/**
 * Sessions that write: of the node that is the primary.
 *
 * **Details**
 *
 * A lease of a primary that is demoted under it fails with its statements; nothing is
 * repeated for the program.
 *
 * @category services
 * @since 1.0.0
 */
export class Writer extends Context.Service<Writer, Sessions>()("effect-queuepool/PgCluster/Writer") {}

/**
 * Makes both for the time of the current scope.
 *
 * **When to use**
 *
 * Use for more than one cluster in a program, each under tags of its own. Otherwise
 * prefer `layer`.
 *
 * **Details**
 *
 * Fails with a `PoolError` of reason `InvalidOptions` that names every wrong option.
 * Does not wait for any server.
 *
 * @category constructors
 * @since 1.0.0
 */
export const make = <R = never>(
  options: Options<R>
): Effect.Effect<{ readonly reader: Sessions; readonly writer: Sessions }, PoolError, R | Scope.Scope> =>
  Effect.provideServiceEffect(
    internalCluster.makeCluster<R>(QueuePoolMap.make)(options),
    Reactivity.Reactivity,
    Reactivity.make
  )

/**
 * Provides `Reader` and `Writer`. Fails, and does not wait, as `make`.
 *
 * @category layers
 * @since 1.0.0
 */
export const layer = <R = never>(
  options: Options<R>
): Layer.Layer<Reader | Writer, PoolError, Exclude<R, Scope.Scope>> =>
  Layer.effectContext(Effect.map(
    make(options),
    ({ reader, writer }) => Context.make(Reader, reader).pipe(Context.add(Writer, writer))
  ))

/**
 * Provides `PgClient` and `SqlClient` on one of the two services, for code that knows
 * only these.
 *
 * **Example** (Reports that read from replicas)
 *
 * ```ts postgres
 * import * as PgCluster from "effect-queuepool/PgCluster"
 * import { Effect, Layer, Redacted } from "effect"
 * import { SqlClient } from "effect/sql"
 *
 * const report = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select 3 as three`)
 *
 * const Database = PgCluster.layer({ nodes: [{ url: Redacted.make(process.env["DATABASE_URL"]!) }] })
 * const Reports = PgCluster.layerClient(PgCluster.Reader).pipe(Layer.provide(Database))
 *
 * await Effect.runPromise(Effect.provide(report, Reports)) // => [{ three: 3 }]
 * ```
 *
 * @category layers
 * @since 1.0.0
 */
export const layerClient = <I>(
  role: Context.Key<I, Sessions>
): Layer.Layer<PgClient | SqlClient, never, I> => layerFrom(Effect.map(role, ({ sql }) => sql))
