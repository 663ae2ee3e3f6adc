// PgClient and SqlClient over a pool of sessions. @effect/sql-pg has the same
// over its own pool, but does not export it in parts.
import * as PgClient from "@effect/sql-pg/PgClient"
import type { PgConnection, Result, Row } from "@effect/sql-pg/PgConnection"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import type { Reactivity } from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { Acquirer, Borrower, Connection } from "effect/sql/SqlConnection"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import type { QueuePool } from "../QueuePool.ts"
import { begins, clientView, needsAlone, type Run, Session, Tracked } from "./pgSession.ts"
import { type Borrow, borrowingBy, type Made } from "./pgStatements.ts"
import { type Lends, ownView, viewOf } from "./viewed.ts"

type Transform = (<A extends object>(row: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined
type Rows = Effect.Effect<ReadonlyArray<Row>, SqlError>

class SessionConnection<S extends PgConnection = PgConnection> implements Connection {
  readonly session: S

  constructor(session: S) {
    this.session = session
  }

  protected query(sql: string, params: ReadonlyArray<unknown>, prepare?: boolean): Effect.Effect<Result, SqlError> {
    return this.session.query(sql, params, prepare)
  }

  protected values(sql: string, params: ReadonlyArray<unknown>, prepare?: boolean) {
    return this.session.queryValues(sql, params, prepare)
  }

  private rows(sql: string, params: ReadonlyArray<unknown>, transform: Transform, prepare = true): Rows {
    const result = this.query(sql, params, prepare)
    return Effect.map(result, transform === undefined ? rowsOf : ({ rows }) => transform(rows))
  }

  execute(sql: string, params: ReadonlyArray<unknown>, transform: Transform) {
    return this.rows(sql, params, transform)
  }

  executeUnprepared(sql: string, params: ReadonlyArray<unknown>, transform: Transform) {
    return this.rows(sql, params, transform, false)
  }

  executeRaw(sql: string, params: ReadonlyArray<unknown>) {
    return this.query(sql, params)
  }

  executeValues(sql: string, params: ReadonlyArray<unknown>) {
    return this.values(sql, params)
  }

  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return this.values(sql, params, false)
  }

  executeStream(sql: string, params: ReadonlyArray<unknown>, transform: Transform) {
    const stream = this.session.stream(sql, params)
    return transform === undefined
      ? stream
      : Stream.mapArray(stream, (rows) => transform(rows) as NonEmptyReadonlyArray<Row>)
  }
}

const rowsOf = (result: Result): ReadonlyArray<Row> => result.rows

const connectionOf = (session: PgConnection): Connection => new SessionConnection(session)

/** For who sends one statement in a lease and no more. */
class SoleConnection extends SessionConnection<Session> {
  /** Where a transaction is to begin, which needs a session for itself. */
  private readonly begin: <A>(run: Run<A>) => Effect.Effect<A, SqlError>

  constructor(session: Session, begin: <A>(run: Run<A>) => Effect.Effect<A, SqlError>) {
    super(session)
    this.begin = begin
  }

  protected override query(sql: string, params: ReadonlyArray<unknown>, prepare?: boolean) {
    return begins(sql)
      ? this.begin((session) => session.query(sql, params, prepare))
      : this.session.asSole(this.session.raw.query(sql, params, prepare))
  }

  protected override values(sql: string, params: ReadonlyArray<unknown>, prepare?: boolean) {
    return begins(sql)
      ? this.begin((session) => session.queryValues(sql, params, prepare))
      : this.session.asSole(this.session.raw.queryValues(sql, params, prepare))
  }
}

/** Of the pool that has opened the session, and has lent it to the fiber that sends the statement: it needs no error to have another. */
const ownConnectionOf = (session: PgConnection): Connection =>
  session instanceof Session
    ? session.connection ??= new SoleConnection(session, (run) => session.begin(run))
    : connectionOf(session)

/** Of whoever lends sessions of such pools. */
const soleConnectionOf = (session: PgConnection): Connection =>
  session instanceof Session ? new SoleConnection(session, (run) => run(session)) : connectionOf(session)

// With its session a transaction is gone, and there is nothing to roll back: what ended it stays a typed error.
const isTransaction = (connection: Connection): boolean =>
  !(connection instanceof SessionConnection && connection.session instanceof Tracked && connection.session.wire.dead)

/** A session can also die while it is rolled back: the client takes these statements' failures for defects. */
class TransactionConnection extends SessionConnection {
  override execute(sql: string, params: ReadonlyArray<unknown>, transform: Transform): Rows {
    const rows = super.execute(sql, params, transform)
    return undoes.test(sql)
      ? Effect.catchIf(rows, () => !isTransaction(this), () => Effect.succeed([]))
      : rows
  }
}

// As the client writes them, and nothing that a program could send.
const undoes = /^(?:ROLLBACK$|(?:ROLLBACK TO|RELEASE) SAVEPOINT effect_sql_\d+$)/

const transactionOf = (session: PgConnection): Connection => new TransactionConnection(session)

// PostgreSQL answers ROLLBACK to the COMMIT of a failed transaction, which is not an error there.
const commit = (connection: Connection): Effect.Effect<void, SqlError> =>
  Effect.flatMap(connection.executeRaw("COMMIT", []), (result) => {
    if ((result as Result).command !== "ROLLBACK") return Effect.void
    const message = "COMMIT rolled back a transaction that had failed"
    return Effect.fail(
      new SqlError({ reason: new UnknownError({ cause: new Error(message), message, operation: "commit" }) })
    )
  })

const PgJson = Statement.custom<PgClient.PgCustom>("PgJson")

const madeOf = (config: PgClient.PgClientConfig, acquirer: Acquirer): Made => {
  const { transformJson, transformQueryNames, transformResultNames } = config
  return {
    acquirer,
    compiler: PgClient.makeCompiler(transformQueryNames, transformJson),
    spanAttributes: [
      ...Object.entries(config.spanAttributes ?? {}),
      ["db.system.name", "postgresql"],
      ["db.namespace", config.database ?? config.username ?? "postgres"],
      ["server.address", config.host ?? "localhost"],
      ["server.port", config.port ?? 5432]
    ],
    transformRows: transformResultNames === undefined
      ? undefined
      : Statement.defaultTransforms(transformResultNames, transformJson).array
  }
}

export const makeClient = Effect.fnUntraced(function*(
  pool: Lends<PgConnection, SqlError>,
  config: PgClient.PgClientConfig
): Effect.fn.Return<PgClient.PgClient, never, Reactivity> {
  const own = ownView(pool, clientView)
  const lends = own ?? viewOf(pool, clientView)
  const pinned = Effect.flatMap(lends.getExclusive, (session) => session.pin)
  const borrower: Borrower = own !== undefined ? (f) => own.use((session) => f(ownConnectionOf(session))) : (f) => {
    const run = (session: PgConnection) => f(soleConnectionOf(session))
    return Effect.catchCauseIf(lends.use(run), needsAlone, () => lends.useExclusive(run))
  }
  const made = madeOf(config, Effect.map(lends.getExclusive, connectionOf))
  const client = yield* SqlClient.make({
    ...made,
    borrower,
    transactionAcquirer: Effect.map(pinned, transactionOf),
    driver: "pg",
    prepareTransactionControls: true,
    commit,
    isTransaction,
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`
  })
  const borrow: Borrow = (fiber, run) => own!.useIn(fiber, (session) => run(ownConnectionOf(session)))
  return Object.assign(own === undefined ? client : borrowingBy(client, borrow, made), {
    [PgClient.TypeId]: PgClient.TypeId,
    config,
    json: (value: unknown) => Statement.fragment([PgJson(value)]),
    listen: (channel: string) => Effect.flatMap(pinned, (session) => session.listen(channel)),
    notify: (channel: string, payload: string) =>
      Effect.asVoid(borrower((connection) => connection.executeRaw("SELECT pg_notify($1, $2)", [channel, payload])))
  })
})

export const clientOf =
  (config: PgClient.PgClientConfig) =>
  (pool: QueuePool<PgConnection, SqlError>): Effect.Effect<PgClient.PgClient, never, Reactivity> =>
    makeClient(pool, config)
