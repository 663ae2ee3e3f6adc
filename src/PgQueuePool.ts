/**
 * @since 1.0.0
 */
import type { PgClient, PgPoolConfig } from "@effect/sql-pg/PgClient"
import * as Client from "@effect/sql-pg/PgClient"
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Reactivity } from "effect/reactivity/Reactivity"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as internalClient from "./internal/pgClient.ts"
import * as internalErrors from "./internal/pgErrors.ts"
import * as internalOptions from "./internal/pgOptions.ts"
import * as internalPool from "./internal/pgPool.ts"
import type { PoolError } from "./PoolError.ts"
import type * as QueuePool from "./QueuePool.ts"
import type * as RecyclePolicy from "./RecyclePolicy.ts"

export interface Options<R = never>
  extends PgPoolConfig, Omit<QueuePool.Options<PgConnection, SqlError, R>, "acquire" | "reset">
{
  readonly reset?:
    | "rollback"
    | "discard"
    | "none"
    | ((connection: PgConnection, exit: Exit.Exit<unknown, unknown>) => Effect.Effect<unknown, unknown, R>)
    | undefined
}

type WarmError<W> = [W] extends ["eager"] ? SqlError : never

export class PgQueuePool extends Context.Service<PgQueuePool, QueuePool.QueuePool<PgConnection, SqlError>>()(
  "effect-queuepool/PgQueuePool"
) {}

export const make = <R = never, const W extends Options["warm"] = undefined>(
  options: Options<R> & { readonly warm?: W }
): Effect.Effect<QueuePool.QueuePool<PgConnection, SqlError>, PoolError | WarmError<W>, R | Scope.Scope> =>
  internalPool.makePool(options) as never

export const makeClient: {
  (
    config: Client.PgClientConfig
  ): (pool: QueuePool.QueuePool<PgConnection, SqlError>) => Effect.Effect<PgClient, never, Reactivity>
  (
    pool: QueuePool.QueuePool<PgConnection, SqlError>,
    config: Client.PgClientConfig
  ): Effect.Effect<PgClient, never, Reactivity>
} = dual(2, internalClient.makeClient)

export const layer = <R = never, const W extends Options["warm"] = undefined>(
  options: Options<R> & { readonly warm?: W }
): Layer.Layer<PgQueuePool | PgClient | SqlClient, PoolError | WarmError<W>, Exclude<R, Scope.Scope>> =>
  layerOf(options) as never

const layerOf = <R>(options: Options<R>) =>
  Client.layerFrom(Effect.flatMap(PgQueuePool, (pool) => internalClient.makeClient(pool, options))).pipe(
    Layer.provideMerge(Layer.effect(PgQueuePool, internalPool.makePool(options)))
  )

export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<PgQueuePool | PgClient | SqlClient, PoolError | SqlError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layerOf))

export const defaultRules: ReadonlyArray<RecyclePolicy.RecyclePolicy<unknown>> = internalOptions.defaultRules
export const disconnectRules: ReadonlyArray<RecyclePolicy.RecyclePolicy<unknown>> = internalOptions.disconnectRules
export const defaultRetry: Schedule.Schedule<unknown, SqlError | PoolError> = internalOptions.defaultRetry
export type SqlState = internalErrors.SqlState
export const sqlStates: ReadonlyArray<SqlState> = internalErrors.sqlStates
export const sqlState: (error: unknown) => string | undefined = internalErrors.sqlStateOf
export const isTransient: (error: unknown) => boolean = internalErrors.isTransient
