/**
 * A real PostgreSQL for tests, examples and the demo, from npm alone: nothing
 * is installed, and nothing stays behind but a cache in the folder for temporary
 * files: a prepared data directory, and the binaries where they cannot be run in place.
 */
import { PgConnection } from "@effect/sql-pg"
import { Config, Context, Duration, Effect, Exit, Layer, Redacted, Scope, Semaphore } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import { randomUUID } from "node:crypto"
import { EmbeddedPgError } from "./pgFiles.ts"
import * as PgServer from "./pgServer.ts"
import { live } from "./real.ts"

export { EmbeddedPgError } from "./pgFiles.ts"

/** Sessions that have all of these; the kit's own are never among them. */
export interface SessionFilter {
  readonly applicationName?: string | undefined
  readonly user?: string | undefined
  readonly database?: string | undefined
  readonly pid?: number | undefined
  /** `idle`, `active`, `idle in transaction`, and so on. */
  readonly state?: string | undefined
}

/** What `globalSetup.ts` tells the tests. */
export type SharedPg = { readonly url: string; readonly embedded: boolean } | { readonly problem: string }

declare module "vitest" {
  export interface ProvidedContext {
    readonly postgres: SharedPg
  }
}

const applicationName = "effect-queuepool-kit"

export class EmbeddedPg extends Context.Service<EmbeddedPg, {
  readonly url: string
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
  /** Whether this is a server for tests: not so with `DATABASE_URL`. */
  readonly embedded: boolean
  /** Runs one statement on the kit's own session. */
  readonly query: (
    sql: string,
    params?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<PgConnection.Row>, SqlError>
  /** Makes an empty database and returns its url. */
  readonly createDatabase: (name?: string) => Effect.Effect<string, SqlError>
  /** The same, for the time of the scope: then the database is dropped, together with its sessions. */
  readonly scopedDatabase: (name?: string) => Effect.Effect<string, SqlError, Scope.Scope>
  readonly sessionCount: (filter?: SessionFilter) => Effect.Effect<number, SqlError>
  /** Ends sessions from the server's side, waits until they are gone, and returns how many. */
  readonly killBackends: (filter: SessionFilter) => Effect.Effect<number, SqlError | EmbeddedPgError>
  /** Suspends the process of one session: it holds its socket and answers nothing. */
  readonly pause: (pid: number) => Effect.Effect<void, SqlError | EmbeddedPgError>
  readonly resume: (pid: number) => Effect.Effect<void, EmbeddedPgError>
  readonly stop: (mode: PgServer.StopMode) => Effect.Effect<void, EmbeddedPgError>
  /** Starts a stopped server, with its data, on the same port. */
  readonly start: Effect.Effect<void, EmbeddedPgError>
  readonly restart: (options?: {
    readonly mode?: PgServer.StopMode | undefined
    readonly downFor?: Duration.Input | undefined
  }) => Effect.Effect<void, EmbeddedPgError>
  /** The last lines of the server's log. */
  readonly log: Effect.Effect<string, EmbeddedPgError>
}>()("effect-queuepool/test/kit/EmbeddedPg") {
  /** A server of one's own, which may be stopped and restarted. */
  static readonly layer = (options: PgServer.Options = {}): Layer.Layer<EmbeddedPg, EmbeddedPgError> =>
    Layer.effect(EmbeddedPg, Effect.flatMap(PgServer.make(options), EmbeddedPg.on))

  /** The service on a server that runs. */
  static readonly on = (server: PgServer.PgServer): Effect.Effect<EmbeddedPg["Service"], never, Scope.Scope> =>
    make({ url: `postgres://postgres@127.0.0.1:${server.port}/postgres`, embedded: true, server })

  /** The server of `DATABASE_URL` when that is set, else one of one's own. */
  static readonly layerFromEnvironment = (
    options: PgServer.Options = {}
  ): Layer.Layer<EmbeddedPg, EmbeddedPgError | Config.ConfigError> =>
    Layer.unwrap(Effect.map(
      Config.String("DATABASE_URL").pipe(Config.withDefault("")),
      (url) => url === "" ? EmbeddedPg.layer(options) : Layer.effect(EmbeddedPg, make({ url, embedded: false }))
    ))

  /** The server that `globalSetup.ts` started for all tests of the run. It cannot be stopped. */
  static readonly layerVitest: Layer.Layer<EmbeddedPg, EmbeddedPgError> = Layer.effect(
    EmbeddedPg,
    Effect.gen(function*() {
      // Not at the top: examples use this file too.
      const { inject } = yield* Effect.promise(() => import("vitest"))
      const shared: SharedPg | undefined = inject("postgres")
      if (shared === undefined || "problem" in shared) {
        const message = shared?.problem ?? "This vitest project does not have globalSetup.ts"
        return yield* new EmbeddedPgError({ reason: "Start", message })
      }
      return yield* make(shared)
    })
  )
}

const notOurs = (what: string) =>
  Effect.fail(
    new EmbeddedPgError({
      reason: "NotOurs",
      message: `Cannot ${what} a server that is shared or given by DATABASE_URL: use EmbeddedPg.layer()`
    })
  )

const quote = (name: string) => `"${name.replaceAll("\"", "\"\"")}"`

const withDatabase = (url: string, name: string): string => {
  const copy = new URL(url)
  copy.pathname = `/${encodeURIComponent(name)}`
  return copy.href
}

const make = Effect.fnUntraced(function*({ embedded, server, url }: {
  readonly url: string
  readonly embedded: boolean
  readonly server?: PgServer.PgServer | undefined
}) {
  const session = yield* makeSession(url)
  const { query } = session
  const where = `backend_type = 'client backend' and application_name <> '${applicationName}'
    and ($1::text is null or application_name = $1) and ($2::text is null or usename = $2)
    and ($3::text is null or datname = $3) and ($4::int is null or pid = $4) and ($5::text is null or state = $5)`
  const values = (filter: SessionFilter) =>
    [filter.applicationName, filter.user, filter.database, filter.pid, filter.state].map((value) => value ?? null)
  const count = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.map(query(`select count(*)::int as n from ${sql}`, params), (rows) => Number(rows[0]?.["n"]))

  const createDatabase = Effect.fnUntraced(function*(name = `test_${randomUUID()}`) {
    yield* query(`create database ${quote(name)}`)
    return name
  })

  const paused = new Set<number>()
  const signal = (pid: number, name: "SIGSTOP" | "SIGCONT") =>
    Effect.try({
      try: () => process.kill(pid, name),
      catch: (cause) => new EmbeddedPgError({ reason: "Backend", message: `Backend ${pid}: ${String(cause)}`, cause })
    })
  // A suspended backend keeps the server from stopping.
  const resumeAll = Effect.suspend(() => {
    const pids = [...paused]
    paused.clear()
    return Effect.forEach(pids, (pid) => Effect.ignore(signal(pid, "SIGCONT")), { discard: true })
  })
  yield* Effect.addFinalizer(() => resumeAll)

  const stop = (mode: PgServer.StopMode) =>
    server === undefined
      ? notOurs("stop")
      : resumeAll.pipe(Effect.andThen(session.close), Effect.andThen(server.stop(mode)))
  const start = server === undefined ? notOurs("start") : server.start

  const { hostname, pathname, port, username } = new URL(url)
  return EmbeddedPg.of({
    url,
    host: hostname,
    port: Number(port || 5432),
    user: decodeURIComponent(username),
    database: decodeURIComponent(pathname.slice(1)),
    embedded,
    query,
    createDatabase: (name) => Effect.map(createDatabase(name), (name) => withDatabase(url, name)),
    scopedDatabase: (name) =>
      Effect.acquireRelease(
        createDatabase(name),
        // The server may be down by now, and its data go with it.
        (name) => Effect.ignore(query(`drop database if exists ${quote(name)} with (force)`))
      ).pipe(Effect.map((name) => withDatabase(url, name))),
    sessionCount: (filter = {}) => count(`pg_stat_activity where ${where}`, values(filter)),
    killBackends: Effect.fnUntraced(function*(filter) {
      if (!embedded) return yield* notOurs("end sessions of")
      // Materialised: else the planner may end a session before it looks whether that matches.
      const rows = yield* query(
        `with matching as materialized (select pid from pg_stat_activity where ${where})
         select pid from matching where pg_terminate_backend(pid)`,
        values(filter)
      )
      const pids = rows.map((row) => Number(row["pid"]))
      const leaving = pids.filter((pid) => !paused.has(pid))
      if (leaving.length === 0) return pids.length
      yield* count(`pg_stat_activity where pid in (${leaving.join()})`, []).pipe(
        Effect.tap(Effect.sleep(2)),
        Effect.repeat({ until: (left) => left === 0, times: 1000 })
      )
      return pids.length
    }, live),
    pause: Effect.fnUntraced(function*(pid) {
      const sessions = embedded
        ? yield* count(`pg_stat_activity where ${where}`, values({ pid }))
        : yield* notOurs("suspend sessions of")
      return yield* sessions === 0
        ? new EmbeddedPgError({ reason: "Backend", message: `No session has the process id ${pid}` })
        : Effect.map(signal(pid, "SIGSTOP"), () => void paused.add(pid))
    }),
    resume: (pid) => Effect.suspend(() => paused.delete(pid) ? Effect.asVoid(signal(pid, "SIGCONT")) : Effect.void),
    stop,
    start,
    restart: ({ downFor = 0, mode = "fast" } = {}) =>
      stop(mode).pipe(Effect.andThen(Effect.sleep(downFor)), Effect.andThen(start), live),
    log: server === undefined ? notOurs("read the log of") : server.log
  })
})

/**
 * The kit's own session, connected when first needed and again when lost. It is
 * kept so that it works while clients hold all other sessions of the server.
 */
const makeSession = Effect.fnUntraced(function*(url: string) {
  const lock = Semaphore.makeUnsafe(1)
  let current: { readonly connection: PgConnection.PgConnection; readonly scope: Scope.Closeable } | undefined

  const close = Effect.suspend(() => {
    const scope = current?.scope
    current = undefined
    return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
  })
  const connect = Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const scope = yield* Scope.make()
    const connection = yield* PgConnection.make({ url: Redacted.make(url), applicationName, prepare: false }).pipe(
      restore,
      Scope.provide(scope),
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
    current = { connection, scope }
    return connection
  }))

  const query = (sql: string, params: ReadonlyArray<unknown> = []) =>
    Effect.gen(function*() {
      const kept = current?.connection
      const first = Effect.flatMap(
        kept === undefined ? connect : Effect.succeed(kept),
        (connection) => connection.query(sql, params)
      )
      // After a failure the next statement has a fresh session; a kept one may have ended long ago.
      const result = yield* first.pipe(
        Effect.tapError(() => close),
        Effect.catchIf(
          (error) => kept !== undefined && isLoss(error),
          () => Effect.flatMap(connect, (connection) => connection.query(sql, params))
        )
      )
      return result.rows
    }).pipe((query) => lock.withPermit(query), live)

  yield* Effect.addFinalizer(() => close)
  return { query, close }
})

const isLoss = (error: SqlError): boolean =>
  error.reason._tag === "ConnectionError" || /terminating connection|shutting down/.test(String(error.reason.cause))
