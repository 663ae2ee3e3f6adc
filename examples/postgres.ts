/**
 * An @effect/sql-pg program on this pool: SqlClient, a transaction, a LISTEN, and
 * the pool beside them. Starts a PostgreSQL of its own when DATABASE_URL is not set.
 *
 * npm run example postgres
 */
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Fiber, Layer, Queue, Redacted } from "effect"
import { RecyclePolicy } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { SqlClient } from "effect/sql"
import { EmbeddedPg } from "../test/kit/EmbeddedPg.ts"

// The only line that differs from a program on `PgClient.layer`.
const Database = Layer.unwrap(Effect.map(EmbeddedPg, (server) =>
  PgQueuePool.layer({
    url: Redacted.make(server.url),
    name: "examples/postgres",
    min: 1,
    max: 5
  })))

const program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient

  // Plain statements borrow a session each, for as long as they run.
  const [row] = yield* sql<{ readonly now: string }>`select now()::date::text as now`
  yield* Console.log(`today is ${row?.now}`)

  // A transaction holds one session to its end. One that fails is rolled back.
  const failed = yield* Effect.flip(sql.withTransaction(sql`select 1 / 0`))
  yield* Console.log(`rolled back: SQLSTATE ${PgQueuePool.sqlState(failed)}`)

  // A listener has a session of its own, and gives it back clean.
  const client = yield* PgClient.PgClient
  yield* Effect.scoped(Effect.gen(function*() {
    const notes = yield* client.listen("notes")
    const first = yield* Effect.forkChild(Queue.take(notes))
    yield* client.notify("notes", "hello")
    yield* Console.log(`heard: ${(yield* Fiber.join(first)).payload}`)
  }))

  // The pool itself: lend a session, look at the counts, recycle what is stale.
  const pool = yield* PgQueuePool.PgQueuePool
  const pid = yield* pool.use((session) =>
    Effect.map(session.query("select pg_backend_pid() as pid"), ({ rows }) => rows[0])
  )
  yield* Console.log(pid)
  yield* pool.clear
  const { closed, idle, opened, recycled } = yield* pool.stats
  yield* Console.log({ opened, closed, idle, recycled })
  yield* Console.log(RecyclePolicy.explain(PgQueuePool.defaultRules))
})

await Effect.runPromise(program.pipe(
  Effect.provide(Database.pipe(Layer.provide(EmbeddedPg.layerFromEnvironment())))
))
