/** A plain statement of a client is all there is in its lease, and is not counted: the same holds of it as of all others. */
import { PgConnection } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Clock, Context, Effect, Layer, Redacted, Stream } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { Reactivity } from "effect/reactivity"
import { SqlClient } from "effect/sql"
import { SqlError } from "effect/sql/SqlError"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { byHand, waitUntil } from "./kit/real.ts"
import { ask, untilStats } from "./kit/sessions.ts"
import * as TcpProxy from "./kit/TcpProxy.ts"

/** A client, and the pool that it borrows from. */
const makeClient = (options: Omit<PgQueuePool.Options, "url"> & { readonly at?: string } = {}) =>
  Effect.gen(function*() {
    const pg = yield* EmbeddedPg
    const { at = pg.url, ...rest } = options
    const context = yield* Layer.build(PgQueuePool.layer({ url: Redacted.make(at), max: 1, ...rest }))
    return { sql: Context.get(context, SqlClient.SqlClient), pool: Context.get(context, PgQueuePool.PgQueuePool) }
  })

layer(EmbeddedPg.layer({ maxConnections: 20 }), { excludeTestServices: true })("a client's statement", (it) => {
  it.effect("V18: that is interrupted ends by resetTimeout where the server is silent", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port })
      const { pool, sql } = yield* makeClient({ at: proxy.through(pg.url), resetTimeout: "100 millis" })
      yield* sql`select 1`
      yield* proxy.setMode(TcpProxy.Mode.BlackHole())
      const stuck = yield* Effect.forkChild(sql`select 2`, { startImmediately: true })
      // It is used while the pool looks at it before the lease, too: who is interrupted then has sent nothing.
      yield* untilStats(pool, ({ borrowed }) => borrowed === 2)
      stuck.interruptUnsafe()
      // The driver takes 5 seconds.
      assert.isTrue(yield* waitUntil(() => stuck.pollUnsafe() !== undefined, "4 seconds"))
      yield* untilStats(pool, ({ closed }) => closed === 1)
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
    }))

  it.effect("is ended by maxLease, and told of by leaseWarning", () =>
    Effect.gen(function*() {
      const { pool, sql } = yield* makeClient({ leaseWarning: "20 millis", maxLease: "2 seconds" })
      const tags: Array<string> = []
      const heard = Stream.runForEach(pool.events, ({ _tag }) => Effect.sync(() => void tags.push(_tag)))
      yield* Effect.forkScoped(heard, { startImmediately: true })
      assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
      const error = yield* Effect.flip(sql`select pg_sleep(60)`)
      assert.instanceOf(error, SqlError)
      assert.instanceOf(error.reason.cause, PoolError.PoolError)
      assert.strictEqual(error.reason.cause.reason._tag, "LeaseEnded")
      yield* untilStats(pool, ({ closed }) => closed === 1)
      assert.include(tags, "LeaseWarning")
      assert.deepStrictEqual(yield* sql`select 2 as two`, [{ two: 2 }])
    }))

  it.effect("that undoes something else than the client's own transaction is told that its session is dead", () =>
    Effect.gen(function*() {
      const { pool, sql } = yield* makeClient({ max: 1 })
      yield* Effect.scoped(Effect.gen(function*() {
        const connection = yield* sql.reserve
        yield* Effect.exit(connection.execute("select pg_terminate_backend(pg_backend_pid())", [], undefined))
        yield* untilStats(pool, ({ recycled }) => recycled["disconnected"] === 1)
        for (const text of ["ROLLBACK PREPARED 'one'", "RELEASE SAVEPOINT one", "ROLLBACK TO SAVEPOINT one"]) {
          assert.strictEqual((yield* Effect.flip(connection.execute(text, [], undefined)))._tag, "SqlError", text)
        }
      }))
    }))

  it.effect("V18: is over with its lease: a cancel request after it has no answer, and costs nothing", () =>
    Effect.gen(function*() {
      const { pool, sql } = yield* makeClient({ resetTimeout: "50 millis", reset: "none" })
      yield* sql`select 1`
      yield* Effect.scoped(Effect.gen(function*() {
        const session = yield* pool.get
        yield* session.interrupt
        yield* Effect.sleep(200)
        assert.strictEqual(yield* ask(session, "select 1"), 1)
      }))
    }))

  it.effect("runs on a pool of the driver's own sessions too", () =>
    Effect.gen(function*() {
      const { url } = yield* EmbeddedPg
      const config = { url: Redacted.make(url) }
      const pool = yield* QueuePool.make({ acquire: PgConnection.make(config) })
      const sql = yield* Effect.provide(PgQueuePool.makeClient(pool, config), Reactivity.layer)
      assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
    }))

  it.effect("is proof of its session for checkAfter", () =>
    Effect.gen(function*() {
      const { clock, pass } = yield* byHand
      let asked = 0
      const check = () => Effect.sync(() => asked++)
      const { sql } = yield* makeClient({ check, checkAfter: "4 hours", recycle: [] }).pipe(
        Effect.provideService(Clock.Clock, clock)
      )
      for (const [hours, questions] of [[3, 0], [3, 0], [5, 1], [3, 1]] as const) {
        yield* sql`select 1`
        pass({ hours })
        yield* sql`select 2`
        assert.strictEqual(asked, questions)
      }
    }))

  for (const multiplex of [false, true]) {
    const given = multiplex ? ", with multiplex" : ""

    it.effect(`is discarded${given}`, () =>
      Effect.gen(function*() {
        const { sql } = yield* makeClient({ reset: "discard", multiplex })
        const show = sql`select current_setting('work_mem') as memory`
        const before = yield* show
        yield* sql`set work_mem = '7MB'`
        assert.deepStrictEqual(yield* show, before)
      }))

    it.effect(`that begins a transaction has it rolled back, whatever is asked for${given}`, () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const applicationName = `begins${given}`
        const { pool, sql } = yield* makeClient({ multiplex, applicationName })
        for (const begin of [sql`begin`, sql`begin`.raw, sql`begin`.values, sql`start transaction`.valuesUnprepared]) {
          yield* begin
          yield* untilStats(pool, ({ idle }) => idle === 1)
          assert.strictEqual(yield* pg.sessionCount({ applicationName, state: "idle" }), 1)
        }
        assert.strictEqual((yield* pool.stats).opened, 1)
      }))
  }

  it.effect("that is interrupted on a shared session keeps newcomers from it until the server is done with it", () =>
    Effect.gen(function*() {
      const { pool, sql } = yield* makeClient({ multiplex: true, max: 2, resetTimeout: "10 seconds" })
      const pid = "select pg_backend_pid()"
      const first = yield* pool.use((session) => ask(session, pid))
      const long = yield* Effect.forkChild(sql`select pg_sleep(0.3)`, { startImmediately: true })
      const neighbour = yield* Effect.forkChild(pool.use(() => Effect.never), { startImmediately: true })
      // It is sent with its lease.
      yield* untilStats(pool, ({ borrowed }) => borrowed === 3)
      long.interruptUnsafe()
      assert.isTrue(yield* waitUntil(() => long.pollUnsafe() !== undefined, "2 seconds"))
      assert.notStrictEqual(yield* pool.use((session) => ask(session, pid)), first)
      neighbour.interruptUnsafe()
      yield* untilStats(pool, ({ idle }) => idle === 2)
      assert.strictEqual((yield* pool.stats).closed, 0)
    }))
})
