/** A statement that leaves its shared session for one of its own, and what a client's users are told. */
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Redacted, Schedule, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import * as PgCluster from "effect-queuepool/PgCluster"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { Reactivity } from "effect/reactivity"
import { SqlClient } from "effect/sql"
import { SqlError } from "effect/sql/SqlError"
import * as Net from "node:net"
import { makeCluster, untilRoles } from "./kit/cluster.ts"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { EmbeddedPgCluster } from "./kit/EmbeddedPgCluster.ts"
import { ask, until } from "./kit/sessions.ts"

type Sessions = QueuePool.QueuePool<PgConnection.PgConnection, SqlError>

const pid = "select pg_backend_pid()"

layer(EmbeddedPg.layer({ maxConnections: 20 }), { excludeTestServices: true })("a short way", (it) => {
  /** One server, whose sessions are shared. */
  const cluster = Effect.fnUntraced(function*(options: Omit<PgCluster.Options, "nodes">) {
    const { url } = yield* EmbeddedPg
    const { writer } = yield* PgCluster.make({
      nodes: [{ name: "only", url: Redacted.make(url) }],
      max: 1,
      multiplex: true,
      ...options
    })
    const stats = Effect.map(writer.nodes, ([node]) => node!.stats)
    yield* until(Effect.map(writer.nodes, ([node]) => node!.writes))
    return { stats, writer }
  })

  describe("a client", () => {
    for (
      const [what, seen] of [
        ["a pool", (pool: Sessions) => pool],
        ["what wraps a pool", (pool: Sessions): Sessions => Object.create(pool)]
      ] as const
    ) {
      it.effect(`runs on ${what} of sessions that others have made`, () =>
        Effect.gen(function*() {
          const { url } = yield* EmbeddedPg
          const pool = yield* QueuePool.make({ acquire: PgConnection.make({ url: Redacted.make(url) }), max: 1 })
          const sql = yield* Effect.provide(PgQueuePool.makeClient(seen(pool), {}), Reactivity.layer)
          const state = Effect.map(Effect.flip(sql`select 1 / 0`), PgQueuePool.sqlState)
          assert.strictEqual(yield* state, "22012")
          assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
        }))
    }

    for (const max of [1, 2]) {
      it.effect(`begins by plain statements where ${max} have a session each, with multiplex all the same`, () =>
        Effect.gen(function*() {
          const { url } = yield* EmbeddedPg
          const pool = yield* PgQueuePool.make({
            url: Redacted.make(url),
            max,
            multiplex: true,
            multiplexConcurrency: 1,
            borrowTimeout: "2 seconds"
          })
          const sql = yield* Effect.provide(PgQueuePool.makeClient(pool, {}), Reactivity.layer)
          yield* Effect.replicateEffect(sql`begin`.unprepared, max, { concurrency: "unbounded" })
          assert.isAtMost((yield* pool.stats).opened, max)
        }))
    }

    it.effect("begins on a cluster's session by all of its ways", () =>
      Effect.gen(function*() {
        const { writer } = yield* cluster({})
        for (const way of ["raw", "values", "unprepared", "valuesUnprepared"] as const) yield* writer.sql`begin`[way]
      }))

    it.effect("hears of the end of a session that it shares, with nobody left to keep from it", () =>
      Effect.gen(function*() {
        const { stats, writer } = yield* cluster({})
        const died = yield* Effect.exit(
          writer.use((session) => session.query("select pg_terminate_backend(pg_backend_pid())"))
        )
        assert.isTrue(Exit.isFailure(died))
        yield* until(Effect.map(stats, ({ leases }) => leases === 0))
        yield* writer.sql`select 1`
      }))
  })

  describe("a plain statement that begins a transaction, on a cluster", () => {
    it.effect("gets the one session alone, also when it was opened for it", () =>
      Effect.gen(function*() {
        const { stats, writer } = yield* cluster({ borrowTimeout: "2 seconds" })
        assert.strictEqual((yield* stats).opened, 0)
        const exit = yield* Effect.exit(writer.sql`begin`.unprepared)
        assert.isTrue(Exit.isSuccess(exit), String(exit))
      }))

    it.effect("ends nobody else's lease of its fiber", () =>
      Effect.gen(function*() {
        const { stats, writer } = yield* cluster({ borrowTimeout: "500 millis", multiplexConcurrency: 2 })
        const mine = yield* writer.use((session) => ask(session, pid))
        yield* Effect.scoped(Effect.gen(function*() {
          // Ours, as long as this scope is open.
          assert.strictEqual(yield* ask(yield* writer.get, pid), mine)
          const scope = yield* Scope.make()
          yield* Scope.provide(writer.get, scope)
          const waits = until(Effect.map(stats, ({ pending }) => pending === 1))
          const leaves = yield* Effect.forkChild(Effect.andThen(waits, Scope.close(scope, Exit.void)))
          yield* Effect.exit(writer.sql`begin`.unprepared)
          yield* Fiber.join(leaves)
          assert.strictEqual((yield* stats).leases, 1)
          const other = yield* Effect.exit(writer.useExclusive((session) => ask(session, pid)))
          assert.isTrue(Exit.isFailure(other), "another has alone what is ours")
        }))
      }))
  })

  describe("a client's users know one error", () => {
    it.effect("also when no session is open in time", () =>
      Effect.gen(function*() {
        const server = Net.createServer(() => {})
        const listening = yield* Deferred.make<number>()
        server.listen(0, "127.0.0.1", () =>
          Deferred.doneUnsafe(listening, Exit.succeed((server.address() as Net.AddressInfo).port)))
        yield* Effect.addFinalizer(() =>
          Effect.sync(() =>
            server.close()
          )
        )
        const options = {
          host: "127.0.0.1",
          port: yield* Deferred.await(listening),
          username: "nobody",
          openTimeout: "100 millis",
          closeTimeout: "200 millis",
          retry: Schedule.recurs(0)
        } as const
        const error = yield* Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.flip(sql`select 1`)).pipe(
          Effect.provide(PgQueuePool.layer(options), { local: true })
        )
        assert.instanceOf(error, SqlError)
      }))
  })
})

describe("a plain statement that begins a transaction and waits for a session of its own", () => {
  it.live("goes where the primary is, when that is elsewhere meanwhile", () =>
    Effect.gen(function*() {
      const servers = yield* EmbeddedPgCluster
      const [first, second] = servers.nodes
      const cluster = yield* makeCluster({ max: 1, multiplex: true, borrowTimeout: "15 seconds" })
      const { writer } = cluster
      yield* untilRoles(cluster, "primary!", "replica")
      yield* writer.sql`select 1`
      // Others have the one session of the primary.
      const others = yield* Effect.forkChild(Effect.exit(Effect.scoped(Effect.andThen(writer.get, Effect.never))), {
        startImmediately: true
      })
      const statsHave = (test: (stats: { readonly leases: number; readonly pending: number }) => boolean) =>
        until(Effect.map(writer.nodes, ([node]) => test(node!.stats)))
      yield* statsHave(({ leases }) => leases === 1)
      const begins = yield* Effect.forkChild(Effect.exit(writer.sql`begin`.unprepared))
      yield* statsHave(({ pending }) => pending === 1)
      yield* servers.kill(first!)
      yield* servers.promote(second!)
      const exit = yield* Fiber.join(begins)
      yield* Fiber.interrupt(others)
      assert.isTrue(Exit.isSuccess(exit), String(exit))
    }).pipe(
      Effect.scoped,
      Effect.provide(EmbeddedPgCluster.layer({ maxConnections: 20, replicas: 1 }), { local: true })
    ))
})
