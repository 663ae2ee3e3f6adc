/**
 * PostgreSQL sessions in a pool: `PgClient` and `SqlClient` of @effect/sql-pg on a
 * pool with deadlines, rules, and sessions that come back clean.
 *
 * **Example** (Changing one line of a program)
 *
 * ```ts postgres
 * import * as PgQueuePool from "effect-queuepool/PgQueuePool"
 * import { Effect, Redacted } from "effect"
 * import { SqlClient } from "effect/sql"
 *
 * const program = Effect.gen(function*() {
 *   const sql = yield* SqlClient.SqlClient
 *   return yield* sql.withTransaction(sql`select 1 + 1 as two`)
 * })
 *
 * // Was: PgClient.layer({ url: Redacted.make(process.env["DATABASE_URL"]!) })
 * const Database = PgQueuePool.layer({ url: Redacted.make(process.env["DATABASE_URL"]!) })
 *
 * await Effect.runPromise(Effect.provide(program, Database)) // => [{ two: 2 }]
 * ```
 *
 * **The life of a session**
 *
 * A session whose connection ends is recycled at once, idle or lent, with the
 * reason `"disconnected"`; nobody has to borrow it first. A session that was idle
 * for 2 milliseconds is lent only after the event loop has turned, so that an end
 * that came while the program was busy is seen; one that was idle for `checkAfter`
 * is asked over the network. What remains is an end that has not reached this
 * machine yet, or that came within these 2 milliseconds: it fails the first
 * statement.
 *
 * A statement that is interrupted is cancelled by a request on another connection.
 * Where nobody can tell whether the server has seen that request, it could hit the
 * next borrower: the session is recycled, with the reason `"cancel unconfirmed"`.
 * Whoever interrupts waits for the server's answer, but not for longer than
 * `resetTimeout` (or 5 seconds, the driver's own limit): a session that is silent
 * until then is recycled as `"disconnected"`.
 *
 * **What passes from one borrower to the next**
 *
 * | left behind | `"none"` | `"rollback"` (default) | `"discard"` |
 * |---|---|---|---|
 * | a transaction, open or failed | passes | rolled back | rolled back |
 * | `SET`, `SET ROLE`, temporary tables, advisory locks, `LISTEN`, cursors, `PREPARE`, sequences | passes | passes | removed |
 * | round trips after a lease that left no transaction open | 0 | 0 | 1 |
 * | and after one that did | 0 | 1 | 2 |
 * | their time on one machine, where `select 1` takes 30 µs | 0 | 30 µs | 100 µs, 25 µs with `prepare: false` |
 *
 * Whoever gives the session back waits for none of this; the next borrower takes
 * another session, or waits. That a session has no transaction is known
 * from the texts of its statements: one can only begin with a statement whose first
 * word is BEGIN or START, and is over when a plain COMMIT or ROLLBACK has
 * succeeded. Whatever is less clear is rolled back. A session that comes back with
 * a statement, stream, listener or pin still open has `resetTimeout` to end it and
 * is recycled otherwise. A listener of `listen` ends with its scope, whatever the
 * reset.
 *
 * **Sessions that are shared**
 *
 * With `multiplex: true` several borrowers have one session, at most
 * `multiplexConcurrency` (32) of them, and the server is sent their statements one
 * behind the other, without a wait for answers in between. A statement joins others on
 * their session before it takes an idle one, for what is sent together costs half as
 * much, but not where no answer has come for 10 milliseconds: a slow one holds up only
 * those that were sent soon after it. `sharing: "spread"` spreads them over the
 * sessions that are open, but for those that were idle so long that they need a look
 * first. Whoever holds a lock in a transaction must not wait for a plain statement
 * before its end: that may have been sent behind one that waits for the lock. The
 * plain statements of a client run on shared sessions, and `use`, `get` and
 * `getIfAvailable` of the pool lend them. Transactions, streams, listeners and
 * `reserve` of a client, and `useExclusive`, `getExclusive` and `getN` of the pool,
 * have a session alone. A shared session that is pinned, streamed from or listened on
 * takes no newcomer until all who have it have left; their statements wait until the
 * pin, stream or listener has ended.
 *
 * A shared session is reset when the last of its borrowers has left. Until then it is
 * one session for all of them:
 *
 * | on a shared session | `"none"` | `"rollback"` (default) | `"discard"` |
 * |---|---|---|---|
 * | a transaction | cannot begin | cannot begin | cannot begin |
 * | `SET`, `SET ROLE`, temporary tables, advisory locks, `LISTEN`, `PREPARE`, sequences | hold for all who share it, and pass | hold for all who share it, and pass | hold for all who share it, and are removed after the last |
 * | an interrupted statement | is waited for | is waited for | is waited for |
 * | round trips after the last lease, if none was interrupted | 0 | 0 | 1 |
 *
 * A statement whose first word is BEGIN or START is refused on a shared session: the
 * statements of all others would run in its transaction. A client runs it on a session
 * that it has alone, which is rolled back after it, as without `multiplex`.
 *
 * The driver cannot cancel an interrupted statement on a shared session, for that could
 * hit another. The server runs it to its end, and the session takes no newcomer
 * meanwhile; it is recycled when that takes longer than `resetTimeout` after the last
 * lease. What is pinned, as the statements of a transaction are, is cancelled as ever.
 *
 * When a session dies, each statement under way on it fails with an error of its own.
 * An error that ends the session keeps newcomers from it at once.
 *
 * **Errors**
 *
 * `sqlStates` is this table as data. Every fatal error recycles the session, and
 * so does every loss of the connection.
 *
 * | SQLSTATE | means | a session whose lease fails with it | an open that fails with it |
 * |---|---|---|---|
 * | 08*** | connection exception | is recycled | is retried |
 * | 08P01 | protocol violation | is recycled | is told at once |
 * | 25006 | the server is read-only: it is a standby now | is recycled, with all older ones | is told at once |
 * | 25P03, 25P04 | a timeout of the transaction ended the session | is recycled | is told at once |
 * | 28*** | wrong user or password | is kept | is told at once |
 * | 3D000 | no such database | is kept | is told at once |
 * | 42501 | no permission to connect | is kept | is told at once |
 * | 53*** | the server is short of something; 53300: of connections | is kept | is retried |
 * | 57P01, 57P02 | ended by an administrator, a shutdown or a crash | is recycled | is retried |
 * | 57P03 | the server starts up, shuts down or recovers | is recycled | is retried |
 * | 57P04 | the database was dropped | is recycled | is told at once |
 * | 57P05 | `idle_session_timeout` | is recycled | is retried |
 * | none: refused, reset, timed out, unreachable | | is recycled | is retried |
 * | none: a host name that does not exist | | | is told at once |
 * | any other | | is kept | is told at once |
 *
 * Opens are retried on one road for all borrowers; a borrower waits until a session
 * is there, or until its own `borrowTimeout`, and is then told the last failure.
 * So a server that allows fewer sessions than `max` makes borrowers queue.
 *
 * @since 1.0.0
 */
import * as Client from "@effect/sql-pg/PgClient"
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type { Reactivity } from "effect/reactivity/Reactivity"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as internalClient from "./internal/pgClient.ts"
import * as internalErrors from "./internal/pgErrors.ts"
import * as internalOptions from "./internal/pgOptions.ts"
import * as internalPool from "./internal/pgPool.ts"
import * as internalRole from "./internal/pgRole.ts"
import type { PoolError } from "./PoolError.ts"
import * as QueuePool from "./QueuePool.ts"
import type * as RecyclePolicy from "./RecyclePolicy.ts"

/**
 * What `PgClient.layer` takes, and the pool's own options.
 *
 * **Details**
 *
 * The names of the driver's own pool mean what they mean there: `maxConnections`
 * is `max`, `minConnections` is `min`, `idleTimeout` and `connectionTTL` take the
 * place of the limits among the default rules. Where the defaults differ from those
 * of `QueuePool`:
 *
 * - `recycle`: `defaultRules`. What you give takes their place, except that of the
 *   rules on lost sessions.
 * - `retry`: `defaultRetry`.
 * - `check`: asks the server with an empty statement. `checkAfter` stays 500
 *   milliseconds.
 * - `name`: `"PgQueuePool"`.
 *
 * `multiplexConcurrency` is `concurrency` of `QueuePool`, with `multiplex: true`, and
 * `sharing` is `"pack"`.
 *
 * Of the driver's settings, `connectTimeout` (5 seconds) is the deadline of one
 * connect, and TCP keepalive is on, after 1 minute, unless `keepAlive` says when.
 * The pool makes the sockets itself, by `stream` if you give that.
 *
 * **Gotchas**
 *
 * `warm: "eager"` goes on for as long as `retry` does, which by default is for ever
 * while the server is away: bound it with `Effect.timeout`.
 *
 * @category models
 * @since 1.0.0
 */
export interface Options<R = never>
  extends Client.PgPoolConfig, Omit<QueuePool.Options<PgConnection, SqlError, R>, "acquire" | "concurrency" | "reset">
{
  /**
   * What happens to a session between two borrowers; the table in the module's
   * documentation tells what each level covers and costs. A function of your own
   * is run with the `Exit` of the lease, and a transaction that it leaves open is
   * rolled back after it. Default: `"rollback"`.
   */
  readonly reset?:
    | "rollback"
    | "discard"
    | "none"
    | ((connection: PgConnection, exit: Exit.Exit<unknown, unknown>) => Effect.Effect<unknown, unknown, R>)
    | undefined
}

/** The error that making a pool adds to `PoolError`: only a warm-up can fail with the driver's. */
type WarmError<W> = [W] extends ["eager"] ? SqlError : never

/**
 * The pool of sessions that `layer` provides beside `PgClient` and `SqlClient`.
 *
 * **When to use**
 *
 * Use to borrow a session itself, to look at the pool, and to recycle by hand. Its
 * errors are `SqlError` and `PoolError`; users of `SqlClient` see a `PoolError` as
 * the cause of a `SqlError` with the reason `ConnectionError`.
 *
 * **Example** (Borrowing a session)
 *
 * ```ts postgres
 * import * as PgQueuePool from "effect-queuepool/PgQueuePool"
 * import { Effect, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* PgQueuePool.PgQueuePool
 *   const { rows } = yield* pool.use((session) => session.query("select $1::int as n", [7]))
 *   const { opened } = yield* pool.stats
 *   return [rows, opened]
 * })
 *
 * const Database = PgQueuePool.layer({ url: Redacted.make(process.env["DATABASE_URL"]!) })
 *
 * await Effect.runPromise(Effect.provide(program, Database)) // => [[{ n: 7 }], 1]
 * ```
 *
 * @category services
 * @since 1.0.0
 */
export class PgQueuePool extends Context.Service<PgQueuePool, QueuePool.QueuePool<PgConnection, SqlError>>()(
  "effect-queuepool/PgQueuePool"
) {}

/**
 * Makes a pool of sessions that lives as long as the current scope.
 *
 * **When to use**
 *
 * Use for more than one pool in a program, each under a tag of its own. Otherwise
 * prefer `layer`.
 *
 * **Details**
 *
 * Fails with a `PoolError` of reason `InvalidOptions` that names every wrong
 * option; with `warm: "eager"` also with the `SqlError` of an open that failed.
 * What is wrong with the driver's own settings is told by the first open.
 *
 * **Example** (A pool without a client)
 *
 * ```ts postgres
 * import * as PgQueuePool from "effect-queuepool/PgQueuePool"
 * import { Effect, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const url = Redacted.make(process.env["DATABASE_URL"]!)
 *   const pool = yield* PgQueuePool.make({ url, max: 2, reset: "discard" })
 *   yield* pool.use((session) => session.query("set work_mem = '7MB'"))
 *   return yield* pool.use((session) => session.queryValues("select current_setting('work_mem') = '7MB'"))
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => [[false]]
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const make = <R = never, const W extends Options["warm"] = undefined>(
  options: Options<R> & { readonly warm?: W }
): Effect.Effect<QueuePool.QueuePool<PgConnection, SqlError>, PoolError | WarmError<W>, R | Scope.Scope> =>
  makePool(options) as never

const makePool = Effect.fnUntraced(function*<R>(options: Options<R>) {
  const { settings, watch } = yield* internalPool.plan(options)
  const pool = yield* QueuePool.make<PgConnection, SqlError, R | Scope.Scope, Options["warm"]>(settings)
  watch(pool)
  return pool
})

/**
 * Opens sessions in another way from now on: with another password, user, host, or
 * whatever else a session can be told. What is not given stays as the last swap that worked
 * has left it. Of `url` and the settings beside it, each is what `PgClient.layer` makes of it.
 *
 * **Details**
 *
 * One session is opened first, and only when that works do the old ones go, each at a
 * moment of its own within `over` (default: `retireOver`), or when it comes back after
 * it. Fails with the `SqlError` of that one, and the pool goes on as before; with
 * `BorrowTimeout` when there was no room for it; with `InvalidOptions` for settings that
 * are not a session's. Interruption gives it up. `swap` of the pool itself refuses
 * sessions that the pool has not opened itself.
 *
 * **Example** (Rotating a password)
 *
 * ```ts postgres
 * import * as PgQueuePool from "effect-queuepool/PgQueuePool"
 * import { Effect, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* PgQueuePool.make({ url: Redacted.make(process.env["DATABASE_URL"]!) })
 *   yield* PgQueuePool.swap(pool, { password: Redacted.make("next"), applicationName: "next" }, { over: 0 })
 *   return yield* pool.use((session) => session.query("show application_name"))
 * })
 *
 * const { rows } = await Effect.runPromise(Effect.scoped(program))
 * rows // => [{ application_name: "next" }]
 * ```
 *
 * @category combinators
 * @since 1.0.0
 */
export const swap: {
  (
    config: Partial<Client.PgClientConfig>,
    options?: { readonly over?: Duration.Input | undefined }
  ): (pool: QueuePool.QueuePool<PgConnection, SqlError>) => Effect.Effect<void, SqlError | PoolError>
  (
    pool: QueuePool.QueuePool<PgConnection, SqlError>,
    config: Partial<Client.PgClientConfig>,
    options?: { readonly over?: Duration.Input | undefined }
  ): Effect.Effect<void, SqlError | PoolError>
} = dual(
  ([pool]: IArguments) => QueuePool.isQueuePool(pool),
  (
    pool: QueuePool.QueuePool<PgConnection, SqlError>,
    config: Partial<Client.PgClientConfig>,
    options?: { readonly over?: Duration.Input | undefined }
  ) => internalPool.swap(pool, config, options?.over)
)

/**
 * Makes a `PgClient`, which is a `SqlClient`, that borrows from a pool.
 *
 * **When to use**
 *
 * Use with `make` and `PgClient.layerFrom` to provide several databases.
 *
 * **Details**
 *
 * A statement borrows a session for as long as it runs, with no scope. A stream, a
 * listener, a transaction and `reserve` hold one until they end, and alone. Of the
 * config it takes the transforms and what spans say of the server.
 *
 * **Gotchas**
 *
 * A transaction that loses its session fails with the error of the statement that
 * noticed. (In the driver's own client it dies, since there is nothing left to roll
 * back.)
 *
 * **Example** (A client on a pool)
 *
 * ```ts postgres
 * import { PgClient } from "@effect/sql-pg"
 * import * as PgQueuePool from "effect-queuepool/PgQueuePool"
 * import { Effect, Redacted } from "effect"
 * import { SqlClient } from "effect/sql"
 *
 * const Database = PgClient.layerFrom(Effect.gen(function*() {
 *   const config = { url: Redacted.make(process.env["DATABASE_URL"]!), applicationName: "reports" }
 *   return yield* Effect.flatMap(PgQueuePool.make(config), PgQueuePool.makeClient(config))
 * }))
 *
 * const name = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`show application_name`)
 *
 * await Effect.runPromise(Effect.provide(name, Database)) // => [{ application_name: "reports" }]
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const makeClient: {
  (
    config: Client.PgClientConfig
  ): (pool: QueuePool.QueuePool<PgConnection, SqlError>) => Effect.Effect<Client.PgClient, never, Reactivity>
  (
    pool: QueuePool.QueuePool<PgConnection, SqlError>,
    config: Client.PgClientConfig
  ): Effect.Effect<Client.PgClient, never, Reactivity>
} = dual(2, internalClient.makeClient)

/**
 * Provides `PgClient` and `SqlClient` on a pool of sessions, and the pool itself.
 *
 * **When to use**
 *
 * Use in the place of `PgClient.layer`.
 *
 * **Details**
 *
 * Fails with a `PoolError` of reason `InvalidOptions`; with `warm: "eager"` also
 * with the `SqlError` of an open that failed. Without it the layer is built whether
 * or not the server is there.
 *
 * @see {@link make} for the pool alone
 * @category layers
 * @since 1.0.0
 */
export const layer = <R = never, const W extends Options["warm"] = undefined>(
  options: Options<R> & { readonly warm?: W }
): Layer.Layer<
  PgQueuePool | Client.PgClient | SqlClient,
  PoolError | WarmError<W>,
  Exclude<R, Scope.Scope>
> => layerOf(options) as never

const layerOf = <R>(options: Options<R>) =>
  Client.layerFrom(Effect.flatMap(PgQueuePool, internalClient.clientOf(options))).pipe(
    Layer.provideMerge(Layer.effect(PgQueuePool, makePool(options)))
  )

/**
 * The same as `layer`, with every option a `Config`.
 *
 * **When to use**
 *
 * Use in the place of `PgClient.layerConfig`. Options that are not configuration,
 * such as rules, are given with `Config.succeed`.
 *
 * @category layers
 * @since 1.0.0
 */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<
  PgQueuePool | Client.PgClient | SqlClient,
  PoolError | SqlError | Config.ConfigError
> => Layer.unwrap(Effect.map(Config.unwrap(options), layerOf))

/**
 * Asks a session's server whether it is the primary, which takes writes, or a replica,
 * by `pg_is_in_recovery()`. A replica that is promoted keeps its sessions: the answer
 * holds for the moment.
 *
 * **Example** (Asking for the role)
 *
 * ```ts postgres
 * import * as PgQueuePool from "effect-queuepool/PgQueuePool"
 * import { Effect, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* PgQueuePool.make({ url: Redacted.make(process.env["DATABASE_URL"]!) })
 *   return yield* pool.use(PgQueuePool.role)
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => "primary"
 * ```
 *
 * @see The module `PgCluster`, which borrows by role
 * @category getters
 * @since 1.0.0
 */
export const role: (session: PgConnection) => Effect.Effect<"primary" | "replica", SqlError> = internalRole.roleOf

/**
 * The rules on sessions that are lost: they hold whatever you give as `recycle`.
 *
 * **Details**
 *
 * A lease that fails with an error that ends the session recycles it, with the
 * reason `"disconnected"`; one that fails because the server became a standby
 * (25006) recycles all older sessions too, with the reason `"read-only server"`.
 * They see the failure of the lease as a whole: what the borrower catches inside
 * it recycles nothing, unless the connection ends.
 *
 * @category rules
 * @since 1.0.0
 */
export const disconnectRules: ReadonlyArray<RecyclePolicy.RecyclePolicy<unknown>> = internalOptions.disconnectRules

/**
 * The rules of a pool without `recycle`.
 *
 * **Example** (Reading the default rules)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 * import * as PgQueuePool from "effect-queuepool/PgQueuePool"
 *
 * const words = RecyclePolicy.explain(PgQueuePool.defaultRules)
 * const time = "that was idle for more than 10m (above min), or is older than 30m (up to 5% earlier)"
 *
 * words.startsWith(`recycle an item ${time}, or whose lease failed with "disconnected"`) // => true
 * ```
 *
 * @category rules
 * @since 1.0.0
 */
export const defaultRules: ReadonlyArray<RecyclePolicy.RecyclePolicy<unknown>> = internalOptions.defaultRules

/**
 * How a pool without `retry` opens sessions again: after 100 milliseconds, doubled
 * up to 5 seconds, with jitter, for ever, as long as the error is transient. An
 * error that is not ends the retries, and is told to every borrower at once.
 *
 * @category errors
 * @since 1.0.0
 */
export const defaultRetry: Schedule.Schedule<unknown, SqlError | PoolError> = internalOptions.defaultRetry

/**
 * What a SQLSTATE, or a class of them, means to the pool.
 *
 * @category errors
 * @since 1.0.0
 */
export interface SqlState extends internalErrors.Row {}

/**
 * The table of SQLSTATEs in the module's documentation, as data. A state that is
 * not in it goes by its class, and else is kept and told.
 *
 * @category errors
 * @since 1.0.0
 */
export const sqlStates: ReadonlyArray<SqlState> = internalErrors.sqlStates

/**
 * Reads the SQLSTATE of an error, wherever in its causes it is.
 *
 * **Example** (Reading the state of a failed statement)
 *
 * ```ts postgres
 * import * as PgQueuePool from "effect-queuepool/PgQueuePool"
 * import { Effect, Redacted } from "effect"
 * import { SqlClient } from "effect/sql"
 *
 * const state = Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.flip(sql`select 1 / 0`)).pipe(
 *   Effect.map(PgQueuePool.sqlState),
 *   Effect.provide(PgQueuePool.layer({ url: Redacted.make(process.env["DATABASE_URL"]!) }))
 * )
 *
 * await Effect.runPromise(state) // => "22012"
 * ```
 *
 * @category errors
 * @since 1.0.0
 */
export const sqlState: (error: unknown) => string | undefined = internalErrors.sqlStateOf

/**
 * Tells whether an open that failed with this error may succeed later by itself:
 * what `defaultRetry` goes on for.
 *
 * **When to use**
 *
 * Use to write a `retry` of your own: `Schedule.while(({ input }) => isTransient(input))`.
 *
 * @category errors
 * @since 1.0.0
 */
export const isTransient: (error: unknown) => boolean = internalErrors.isTransient
