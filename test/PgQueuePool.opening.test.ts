import type { PgConnection } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Redacted, Scope } from "effect"
import { PoolError } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { SqlClient } from "effect/sql"
import { SqlError } from "effect/sql/SqlError"
import * as Fs from "node:fs"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { askPool, listen, makePool, until, untilStats } from "./kit/sessions.ts"
import * as TcpProxy from "./kit/TcpProxy.ts"

const roleWithLimit = Effect.fnUntraced(function*(name: string, limit: number) {
  const pg = yield* EmbeddedPg
  yield* pg.query(`create role ${name} login connection limit ${limit}`)
  const url = new URL(pg.url)
  url.username = name
  return url.href
})

const timedOut = (error: unknown): PoolError.BorrowTimeout => {
  assert.instanceOf(error, PoolError.PoolError)
  assert.strictEqual(error.reason._tag, "BorrowTimeout")
  return error.reason as PoolError.BorrowTimeout
}

layer(EmbeddedPg.layer({ maxConnections: 60 }), { excludeTestServices: true })("opening sessions", (it) => {
  it.effect("H12: a server that allows fewer sessions than max makes borrowers queue, and fails none", () =>
    Effect.gen(function*() {
      const at = yield* roleWithLimit("five", 5)
      const pool = yield* makePool({ at, max: 10 })
      const peak = { now: 0, most: 0 }
      const exits = yield* Effect.forEach(
        Array.from({ length: 200 }),
        () =>
          Effect.exit(pool.use((session) =>
            Effect.suspend(() => {
              peak.most = Math.max(peak.most, ++peak.now)
              return Effect.ensuring(session.query("select pg_sleep(0.005)"), Effect.sync(() => peak.now--))
            })
          )),
        { concurrency: 20 }
      )
      assert.deepStrictEqual(exits.filter(Exit.isFailure), [])
      assert.strictEqual(peak.most, 5)
      const { openFailures, opened } = yield* pool.stats
      assert.strictEqual(opened, 5)
      assert.isAbove(openFailures, 0)
    }))

  it.effect("H13: sessions that end by age do not need one more than the server allows", () =>
    Effect.gen(function*() {
      const at = yield* roleWithLimit("one", 1)
      const pool = yield* makePool({ at, maxConnections: 1, connectionTTL: "20 millis" })
      for (let round = 0; round < 10; round++) {
        assert.strictEqual(yield* askPool(pool, "select 1 from pg_sleep(0.015)"), 1)
      }
      const { openFailures, recycled } = yield* pool.stats
      assert.strictEqual(openFailures, 0)
      assert.isAbove(recycled["age"] ?? 0, 1)
    }))

  for (
    const [what, state, options] of [
      ["a wrong password", "28P01", { username: "secret", password: Redacted.make("wrong") }],
      ["a role that does not exist", "28000", { username: "nobody" }],
      ["a database that does not exist", "3D000", { database: "nothing" }],
      ["a database that is not allowed", "42501", { username: "outsider", database: "closed" }],
      ["a setting that does not exist", "42704", { startupParameters: { no_such_setting: "1" } }]
    ] as const
  ) {
    it.effect(`H14: ${what} (${state}) is told at once, to every waiter, and not tried again by itself`, () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        if (state === "28P01") {
          // The server trusts everybody; this role it asks.
          yield* pg.query("create role secret login password 'right'")
          const [row] = yield* pg.query("show hba_file")
          const file = String(row?.["hba_file"])
          Fs.writeFileSync(file, `host all secret all scram-sha-256\n${Fs.readFileSync(file, "utf8")}`)
          yield* pg.query("select pg_reload_conf()")
          yield* until(Effect.map(
            pg.query("select exists (select from pg_hba_file_rules where 'secret' = any(user_name)) as yes"),
            ([found]) => found?.["yes"] === true
          ))
        }
        if (state === "42501") {
          yield* pg.query("create role outsider login")
          yield* pg.createDatabase("closed")
          yield* pg.query("revoke connect on database closed from public")
        }
        const pool = yield* makePool({ ...options, max: 2, borrowTimeout: "20 seconds" })
        const errors = yield* Effect.all(Array.from({ length: 5 }, () => Effect.flip(askPool(pool, "select 1"))), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(errors.map(PgQueuePool.sqlState), errors.map(() => state))
        yield* untilStats(pool, ({ closing, opening }) => opening + closing === 0)
        const { openFailures } = yield* pool.stats
        assert.isAtMost(openFailures, 5)
        yield* Effect.sleep(150)
        assert.strictEqual((yield* pool.stats).openFailures, openFailures)
      }))
  }

  it.effect("a wrong setting of the driver's is told at once", () =>
    Effect.gen(function*() {
      for (const wrong of [{ at: "mysql://nowhere" }, { startupParameters: { user: "me" } }]) {
        const pool = yield* makePool(wrong)
        const error = yield* Effect.flip(askPool(pool, "select 1"))
        assert.instanceOf(error, SqlError)
      }
    }))

  it.effect("H9: a black-holed connect fails in its own time, and holds up nobody else", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port, mode: TcpProxy.Mode.BlackHole() })
      const pool = yield* makePool({ at: proxy.through(pg.url), max: 3, connectTimeout: "2 seconds" })
      const first = yield* Effect.forkChild(askPool(pool, "select 1"), { startImmediately: true })
      yield* until(Effect.map(proxy.counts, ({ accepted }) => accepted === 1))
      // A link keeps the mode that it was born with only as long as the proxy does; so the second goes another way.
      const straight = yield* makePool({ max: 1 })
      assert.strictEqual(yield* askPool(straight, "select 1"), 1)
      const second = yield* Effect.forkChild(askPool(pool, "select 2"), { startImmediately: true })
      yield* until(Effect.map(proxy.counts, ({ accepted }) => accepted === 2))
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      assert.deepStrictEqual(yield* Effect.all([Fiber.join(first), Fiber.join(second)]), [1, 2])
    }))

  it.effect("H9: one connect that hangs for ever does not keep others from being served", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const hole = yield* TcpProxy.make({ port: pg.port, mode: TcpProxy.Mode.BlackHole() })
      let opened = 0
      const { connect } = yield* Effect.promise(() => import("node:net"))
      const pool = yield* makePool({
        max: 3,
        connectTimeout: "1 minute",
        drainTimeout: 0,
        stream: () => connect({ host: "127.0.0.1", port: opened++ === 0 ? hole.port : pg.port })
      })
      const answers = yield* Effect.forEach([1, 2, 3], (n) => askPool(pool, `select ${n}`), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(answers, [1, 2, 3])
      yield* untilStats(pool, ({ idle, opening }) => opening === 1 && idle > 0)
    }))

  it.effect("H1: a server that is down at the start fails borrowers in their time with the cause, and min refills when it is up", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port, mode: TcpProxy.Mode.Refuse() })
      const pool = yield* makePool({ at: proxy.through(pg.url), min: 2, max: 3, borrowTimeout: "250 millis" })
      const error = timedOut(yield* Effect.flip(askPool(pool, "select 1")))
      assert.include(Cause.pretty(error.lastFailure!), "ECONNREFUSED")
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      yield* untilStats(pool, ({ idle }) => idle === 2)
    }))

  it.effect("H16: a failover (25006) recycles the session and all older ones, but none that is newer", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 3 })
      yield* Effect.scoped(Effect.gen(function*() {
        const later = yield* Effect.scope
        const older = yield* Scope.make()
        yield* Scope.provide(pool.get, older)
        let newest: PgConnection.PgConnection | undefined
        const failed = yield* Effect.exit(pool.use((session) =>
          Effect.gen(function*() {
            newest = yield* Scope.provide(pool.get, later)
            yield* session.query("begin read only")
            return yield* session.query("create table t (n int)")
          })
        ))
        assert.isTrue(Exit.isFailure(failed))
        yield* Scope.close(older, Exit.void)
        yield* untilStats(pool, ({ closed, used }) => closed === 2 && used === 1)
        assert.deepStrictEqual((yield* pool.stats).recycled, { "read-only server": 2 })
        yield* newest!.query("select 1")
      }))
      yield* untilStats(pool, ({ idle }) => idle === 1)
    }))

  it.effect("an ordinary failure of a statement keeps the session", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1 })
      for (const sql of ["select 1 / 0", "select * from nothing", "set statement_timeout = -5", "raise"]) {
        yield* Effect.exit(pool.use((session) => session.query(sql)))
      }
      yield* Effect.exit(pool.use(() => Effect.fail("no")))
      assert.deepStrictEqual((yield* pool.stats).recycled, {})
      assert.strictEqual((yield* pool.stats).opened, 1)
    }))
})

layer(EmbeddedPg.layer({ maxConnections: 20 }), { excludeTestServices: true })("a restart of the server", (it) => {
  it.effect(
    "H5: under load is got over: statements fail, borrowing does not, and the sessions come back",
    () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const before = yield* pg.createDatabase()
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const pool = yield* PgQueuePool.PgQueuePool
          yield* sql`create table counter (n int)`
          yield* sql`insert into counter values (0)`
          const events = yield* listen(pool)
          const errors: Array<SqlError> = []
          let running = true
          const worker = sql.withTransaction(sql`update counter set n = n + 1`).pipe(
            Effect.catchTag("SqlError", (error) => Effect.sync(() => void errors.push(error))),
            Effect.repeat({ while: () => running })
          )
          const workers = yield* Effect.forkChild(Effect.replicateEffect(worker, 10, { concurrency: "unbounded" }))
          const total = Effect.map(pool.stats, ({ returned }) => returned)
          yield* until(Effect.map(total, (returned) => returned > 50))
          for (const mode of ["fast", "immediate"] as const) {
            yield* pg.restart({ mode, downFor: "300 millis" })
            const seen = yield* total
            yield* until(Effect.map(total, (returned) => returned > seen + 50), "15 seconds")
          }
          running = false
          yield* Fiber.join(workers)
          // Each of ten statements may have been lost, twice; nobody failed for want of a session.
          assert.isAtMost(errors.length, 40)
          assert.deepStrictEqual(errors.filter((error) => error.message.includes("BorrowTimeout")), [])
          assert.isAtMost(events.filter((event) => event._tag === "OpenFailed").length, 40)
          assert.isEmpty(Object.keys((yield* pool.stats).recycled).filter((reason) => reason !== "disconnected"))
        }).pipe(Effect.provide(
          PgQueuePool.layer({ url: Redacted.make(before), max: 5 }),
          { local: true }
        ))
      }),
    40_000
  )

  it.effect("that takes a while (57P03 and refusals) is waited for by those who have the time", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 2 })
      assert.strictEqual(yield* askPool(pool, "select 1"), 1)
      yield* pg.stop("fast")
      yield* untilStats(pool, ({ idle }) => idle === 0)
      const waiting = yield* Effect.forkChild(askPool(pool, "select 2"), { startImmediately: true })
      yield* untilStats(pool, ({ openFailures }) => openFailures > 1)
      yield* pg.start
      assert.strictEqual(yield* Fiber.join(waiting), 2)
    }))
})
