import type { PgConnection } from "@effect/sql-pg"
import { assert, describe, layer } from "@effect/vitest"
import { Cause, Clock, Deferred, Effect, Exit, Fiber, Queue, Redacted, Scope } from "effect"
import { PoolError } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { Reactivity } from "effect/reactivity"
import { SqlClient } from "effect/sql"
import { SqlError } from "effect/sql/SqlError"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { byHand } from "./kit/real.ts"
import { ask, askPool, listen, makePool, runs, type Sessions, until, untilStats } from "./kit/sessions.ts"
import * as TcpProxy from "./kit/TcpProxy.ts"
import { certificate, privateKey } from "./kit/tls.ts"

/** Borrows so many sessions at once, and returns them. */
const warm = Effect.fnUntraced(function*(pool: Sessions, count: number) {
  yield* Effect.scoped(Effect.replicateEffect(pool.get, count))
  yield* untilStats(pool, ({ idle }) => idle === count)
})

/** Ends sessions, and keeps the event loop from turning until they are gone, as a long computation does. */
const killBusily = (pids: ReadonlyArray<number>): void => {
  for (const pid of pids) process.kill(pid, "SIGTERM")
  const start = performance.now()
  // The pool trusts a session that came back within the last 2 milliseconds.
  while (performance.now() < start + 5 || (pids.some(runs) && performance.now() < start + 5000));
}

const pids = (pool: Sessions, count: number) =>
  Effect.scoped(Effect.map(
    Effect.replicateEffect(pool.get, count),
    (sessions) => sessions.map((session: PgConnection.PgConnection) => session.processId)
  ))

layer(EmbeddedPg.layer({ maxConnections: 40 }), { excludeTestServices: true })("the death of sessions", (it) => {
  it.effect("an idle session that is ended by the server is recycled at once, and nobody has to borrow for it", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 3, applicationName: "idle" })
      const events = yield* listen(pool)
      yield* warm(pool, 3)
      assert.strictEqual(yield* pg.killBackends({ applicationName: "idle" }), 3)
      yield* untilStats(pool, ({ closed, idle }) => idle === 0 && closed === 3)
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 3 })
      assert.deepStrictEqual(
        events.flatMap((event) => event._tag === "Recycled" ? [event.reason] : []),
        ["disconnected", "disconnected", "disconnected"]
      )
    }))

  it.effect("and min is opened anew", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ min: 2, max: 3, applicationName: "min" })
      yield* untilStats(pool, ({ idle }) => idle === 2)
      yield* pg.killBackends({ applicationName: "min" })
      yield* untilStats(pool, ({ idle, opened }) => idle === 2 && opened === 4)
    }))

  it.effect("sessions that end while the pool is warmed are found", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      let opened = 0
      const pool = yield* makePool({
        min: 2,
        warm: "eager",
        applicationName: "warm",
        recycle: [],
        openConcurrency: 1,
        // Opening the second ends the first.
        password: Effect.suspend(() =>
          opened++ === 1
            ? Effect.as(Effect.orDie(pg.killBackends({ applicationName: "warm" })), Redacted.make(""))
            : Effect.succeed(Redacted.make(""))
        )
      })
      yield* untilStats(pool, ({ idle, opened, recycled }) =>
        idle === 2 && opened === 3 && recycled["disconnected"] === 1)
    }))

  it.effect("H2, H3: after all idle sessions are killed no borrower sees an error, 50 times", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 5, applicationName: "killed" })
      for (let round = 0; round < 50; round++) {
        yield* warm(pool, 5)
        const victims = yield* pids(pool, 5)
        yield* pg.killBackends({ applicationName: "killed" })
        yield* until(Effect.sync(() => !victims.some(runs)))
        yield* Effect.sleep(5)
        const answers = yield* Effect.all(Array.from({ length: 10 }, () => askPool(pool, "select 1")), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(answers, answers.map(() => 1))
      }
    }))

  it.effect("H2, H3: nor when they are killed while the event loop is busy and has not heard of it, 50 times", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 5, applicationName: "busy" })
      for (let round = 0; round < 50; round++) {
        yield* warm(pool, 5)
        const victims = yield* pids(pool, 5)
        yield* untilStats(pool, ({ idle }) => idle === 5)
        const answers = yield* Effect.suspend(() => {
          killBusily(victims)
          return Effect.all(Array.from({ length: 10 }, () => askPool(pool, "select 1")), { concurrency: "unbounded" })
        })
        assert.deepStrictEqual(answers, answers.map(() => 1))
      }
      assert.isUndefined((yield* pool.stats).recycled["check failed"])
    }))

  it.effect("H4: a session that ends while it is lent fails its statement, is recycled on return, and the next waiter is served", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 1 })
      const held = yield* Deferred.make<number>()
      const borrower = yield* Effect.forkChild(
        Effect.flip(
          pool.use((session) =>
            Effect.andThen(Deferred.succeed(held, session.processId), session.query("select pg_sleep(60)"))
          )
        ),
        { startImmediately: true }
      )
      const pid = yield* Deferred.await(held)
      const waiter = yield* Effect.forkChild(askPool(pool, "select pg_backend_pid()"), { startImmediately: true })
      yield* until(Effect.map(pg.sessionCount({ pid, state: "active" }), (active) => active === 1))
      yield* pg.killBackends({ pid })
      const error = yield* Fiber.join(borrower)
      assert.instanceOf(error, SqlError)
      assert.strictEqual(error.reason._tag, "ConnectionError")
      assert.notStrictEqual(yield* Fiber.join(waiter), pid)
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
    }))

  it.effect("whoever listens on a session that ends without a word is told so, and is not interrupted", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port })
      for (const multiplex of [false, true]) {
        yield* proxy.setMode(TcpProxy.Mode.Pass())
        const pool = yield* makePool({ max: 1, multiplex, at: proxy.through(pg.url) })
        yield* Effect.scoped(Effect.gen(function*() {
          const session = yield* pool.get
          const news = yield* session.listen("news")
          // The first byte that comes is followed by the end of the connection.
          yield* proxy.setMode(TcpProxy.Mode.ByteLimit({ bytes: 1 }))
          yield* pg.query("notify news")
          const error = yield* Effect.flip(Queue.take(news))
          assert.instanceOf(error, SqlError)
          assert.strictEqual(error.reason._tag, "ConnectionError")
        }))
        yield* untilStats(pool, ({ closed, recycled }) => closed === 1 && recycled["disconnected"] === 1)
      }
    }))

  it.effect("a transaction whose session is taken from it fails with the error of its statement", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1, maxLease: "50 millis" })
      const client = yield* Effect.provide(PgQueuePool.makeClient(pool, {}), Reactivity.layer)
      const error = yield* Effect.flip(client.withTransaction(client`select pg_sleep(60)`))
      assert.strictEqual(error.reason._tag, "ConnectionError")
    }))

  it.effect("one whose session dies while it is rolled back fails with the error that it is rolled back for", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port })
      const pool = yield* makePool({ max: 1, at: proxy.through(pg.url) })
      const client = yield* Effect.provide(PgQueuePool.makeClient(pool, {}), Reactivity.layer)
      const savepoint = <A, E, R>(effect: Effect.Effect<A, E, R>) => client.withTransaction(effect)
      for (const nested of [false, true]) {
        let pid = 0
        let sent = 0
        const body = Effect.gen(function*() {
          const [row] = yield* client<{ readonly pid: number }>`select pg_backend_pid() as pid`
          pid = row!.pid
          yield* pg.pause(pid)
          sent = (yield* proxy.counts).bytesToServer
          return yield* Effect.fail("the body's own")
        })
        const transaction = yield* Effect.forkChild(
          Effect.exit(client.withTransaction(nested ? savepoint(body) : body)),
          { startImmediately: true }
        )
        yield* until(Effect.map(proxy.counts, ({ bytesToServer }) => sent > 0 && bytesToServer > sent))
        yield* proxy.killAll
        assert.deepStrictEqual(yield* Fiber.join(transaction), Exit.fail("the body's own"))
        yield* pg.resume(pid)
      }
    }))

  it.effect("also when the borrower tells nobody", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      for (const reset of ["rollback", "none"] as const) {
        const pool = yield* makePool({ max: 1, reset, recycle: [] })
        yield* Effect.scoped(Effect.gen(function*() {
          const session = yield* pool.get
          const waiter = yield* Effect.forkScoped(askPool(pool, "select 1"), { startImmediately: true })
          yield* pg.killBackends({ pid: session.processId })
          yield* Effect.exit(session.query("select 1"))
          return waiter
        })).pipe(Effect.exit)
        assert.strictEqual(yield* askPool(pool, "select 1"), 1)
        assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
      }
    }))

  it.effect("H20, H24: a session that the driver gives up is not handed on, even if the borrower catches the failure", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1 })
      yield* askPool(pool, "select 1")
      // What the driver does not understand ends the session, in the turn in which the statement fails.
      const [failed, answer] = yield* Effect.all([
        pool.use((session) => Effect.exit(session.query("copy (select 1) to stdout"))),
        askPool(pool, "select 1")
      ], { concurrency: "unbounded" })
      assert.isTrue(Exit.isFailure(failed))
      assert.strictEqual(answer, 1)
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
    }))

  it.effect("a transaction that loses its session fails as a SqlError, and the pool goes on", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        // In PgClient the rollback that cannot be sent makes it a defect.
        const error = yield* Effect.flip(sql.withTransaction(sql.withTransaction(Effect.gen(function*() {
          const [row] = yield* sql<{ pid: number }>`select pg_backend_pid() as pid`
          yield* pg.killBackends({ pid: row!.pid })
          yield* sql`select 1`
        }))))
        assert.strictEqual(PgQueuePool.sqlState(error), "57P01")
        assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
        const pool = yield* PgQueuePool.PgQueuePool
        assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
      }).pipe(Effect.provide(PgQueuePool.layer({ url: Redacted.make(pg.url), max: 1 }), { local: true }))
    }))

  it.effect("a session that was idle for checkAfter is asked before it is lent, and not before", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port })
      const bytes = Effect.map(proxy.counts, ({ bytesToServer }) => bytesToServer)
      const { clock, pass } = yield* byHand
      const pool = yield* makePool({ at: proxy.through(pg.url), max: 1, checkAfter: "80 millis" }).pipe(
        Effect.provideService(Clock.Clock, clock)
      )
      const borrow = pool.use(() => Effect.void)
      yield* borrow
      let before = yield* bytes
      pass(79)
      yield* borrow
      assert.strictEqual(yield* bytes, before)
      pass(80)
      yield* borrow
      const asked = yield* bytes
      assert.isAbove(asked, before)
      // Its answer is proof for as long.
      before = asked
      pass(79)
      yield* borrow
      assert.strictEqual(yield* bytes, before)
    }))

  it.effect("a check of one's own takes the place of the question", () =>
    Effect.gen(function*() {
      const asked: Array<number> = []
      const pool = yield* makePool({
        max: 1,
        checkAfter: 0,
        check: (session) => Effect.sync(() => asked.push(session.processId) < 2)
      })
      const first = yield* pool.use(() => Effect.void).pipe(Effect.andThen(askPool(pool, "select pg_backend_pid()")))
      const second = yield* askPool(pool, "select pg_backend_pid()")
      assert.notStrictEqual(first, second)
      assert.deepStrictEqual((yield* pool.stats).recycled, { "check failed": 1 })
    }))

  it.effect("H8, H10: a session behind a black hole is not lent: its check fails in time, and it is closed in time", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port })
      const pool = yield* makePool({
        at: proxy.through(pg.url),
        max: 1,
        checkAfter: "10 millis",
        checkTimeout: "50 millis",
        closeTimeout: "100 millis",
        borrowTimeout: "5 seconds",
        connectTimeout: "100 millis"
      })
      yield* askPool(pool, "select 1")
      yield* proxy.setMode(TcpProxy.Mode.BlackHole())
      yield* Effect.sleep(20)
      const answer = yield* Effect.forkChild(askPool(pool, "select 1"), { startImmediately: true })
      yield* untilStats(pool, ({ recycled }) => recycled["check failed"] === 1)
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      assert.strictEqual(yield* Fiber.join(answer), 1)
    }))

  for (const mode of ["Reset", "FIN"] as const) {
    it.effect(`idle sessions whose connections end by ${mode} are recycled at once`, () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const proxy = yield* TcpProxy.make({ port: pg.port })
        const pool = yield* makePool({ at: proxy.through(pg.url), max: 2 })
        yield* warm(pool, 2)
        if (mode === "Reset") yield* proxy.killAll
        else {
          yield* proxy.setMode(TcpProxy.Mode.ByteLimit({ bytes: 1 }))
          yield* pg.killBackends({ applicationName: "@effect/sql-pg" })
        }
        yield* untilStats(pool, ({ recycled }) => recycled["disconnected"] === 2)
      }))
  }

  it.effect("D9, H26: a closed pool leaves no socket, also when the servers of its sessions are silent", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const scope = yield* Scope.make()
      const sockets: Array<Net.Socket> = []
      const pool = yield* Scope.provide(
        makePool({
          max: 3,
          // Of which a silent server has half.
          closeTimeout: "2 seconds",
          drainTimeout: "50 millis",
          stream: () => {
            const socket = Net.connect({ host: pg.host, port: pg.port })
            sockets.push(socket)
            return socket
          }
        }),
        scope
      )
      yield* warm(pool, 3)
      const held = yield* Effect.forkChild(
        Effect.scoped(Effect.andThen(Effect.replicateEffect(pool.get, 2), Effect.never)),
        { startImmediately: true }
      )
      const first = (yield* pids(pool, 1))[0]!
      yield* pg.pause(first)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(sockets.map(({ destroyed }) => destroyed), [true, true, true])
      const { abandoned, closed } = yield* pool.stats
      assert.deepStrictEqual({ abandoned, closed }, { abandoned: 0, closed: 3 })
      yield* Fiber.interrupt(held)
      yield* pg.resume(first)
    }))

  it.effect("nor that of a cancel request that is still under way", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const hole = yield* TcpProxy.make({ port: pg.port, mode: TcpProxy.Mode.BlackHole() })
      const scope = yield* Scope.make()
      const sockets: Array<Net.Socket> = []
      const stream = () => {
        const socket = Net.connect({ host: pg.host, port: sockets.length === 0 ? pg.port : hole.port })
        sockets.push(socket)
        return socket
      }
      const pool = yield* Scope.provide(makePool({ max: 1, drainTimeout: 0, stream }), scope)
      // The session is open: the time is that of the statement alone.
      yield* askPool(pool, "select 1")
      yield* Effect.forkChild(Effect.timeoutOption(askPool(pool, "select pg_sleep(30)"), 10))
      yield* until(Effect.sync(() => sockets.length === 2 && sockets.every(({ connecting }) => !connecting)))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(sockets.map(({ destroyed }) => destroyed), [true, true])
    }))

  it.effect("A15, H23: a cancel request that nobody has answered costs the session", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      let opened = 0
      const pool = yield* makePool({
        max: 1,
        stream: () => {
          const socket = Net.connect({ host: pg.host, port: pg.port })
          // The second is that of the cancel request: it breaks before the server has it.
          if (++opened === 2) socket.once("connect", () => socket.destroy(new Error("broken")))
          return socket
        }
      })
      const first = yield* askPool(pool, "select pg_backend_pid()")
      yield* Effect.timeoutOption(askPool(pool, "select pg_sleep(1)"), 10)
      assert.notStrictEqual(yield* askPool(pool, "select pg_backend_pid()"), first)
      assert.deepStrictEqual((yield* pool.stats).recycled, { "cancel unconfirmed": 1 })
    }))

  it.effect("an error of a pool inside a lease says nothing of the session", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        // The only session is taken by the transaction that waits for another.
        const error = yield* Effect.flip(Effect.scoped(Effect.andThen(sql.reserve, sql`select 1`)))
        assert.instanceOf(error, SqlError)
        assert.strictEqual(error.reason._tag, "ConnectionError")
        assert.include(error.message, "BorrowTimeout: no item of \"PgQueuePool\" within")
        assert.deepStrictEqual((yield* (yield* PgQueuePool.PgQueuePool).stats).recycled, {})
      }).pipe(
        Effect.provide(PgQueuePool.layer({ url: Redacted.make(pg.url), max: 1, borrowTimeout: "20 millis" }), {
          local: true
        })
      )
    }))

  describe("by TLS", () => {
    const tlsOn = Effect.fnUntraced(function*() {
      const pg = yield* EmbeddedPg
      const [row] = yield* pg.query("show data_directory")
      const data = String(row?.["data_directory"])
      const { gid, uid } = Fs.statSync(data)
      for (const [name, text] of [["server.crt", certificate], ["server.key", privateKey]] as const) {
        Fs.writeFileSync(Path.join(data, name), text, { mode: 0o600 })
        Fs.chownSync(Path.join(data, name), uid, gid)
      }
      yield* pg.query("alter system set ssl = on")
      yield* pg.query("select pg_reload_conf()")
      yield* until(Effect.map(pg.query("show ssl"), ([row]) => row?.["ssl"] === "on"))
    })
    const ssl = { ca: certificate }
    const encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"

    it.effect("a session is encrypted and verified by its host's name, dies unseen by nobody, and is rolled back", () =>
      Effect.gen(function*() {
        yield* tlsOn()
        const pg = yield* EmbeddedPg
        for (const host of ["localhost", "127.0.0.1"]) {
          const pool = yield* makePool({ host, ssl, max: 2, applicationName: "tls" })
          assert.strictEqual(yield* askPool(pool, encrypted), true)
          yield* pool.use((session) => session.query("begin"))
          assert.strictEqual(yield* askPool(pool, encrypted), true)
          yield* warm(pool, 2)
          yield* pg.killBackends({ applicationName: "tls" })
          yield* untilStats(pool, ({ idle }) => idle === 0)
          for (let round = 0; round < 10; round++) {
            yield* warm(pool, 2)
            const victims = yield* pids(pool, 2)
            yield* untilStats(pool, ({ idle }) => idle === 2)
            const answer = yield* Effect.suspend(() => {
              killBusily(victims)
              return askPool(pool, encrypted)
            })
            assert.strictEqual(answer, true)
          }
        }
      }))

    it.effect("an interrupted statement keeps its session, also past the time that the server had to answer", () =>
      Effect.gen(function*() {
        yield* tlsOn()
        const pool = yield* makePool({ host: "localhost", ssl, max: 1, resetTimeout: "500 millis" })
        const pid = yield* askPool(pool, "select pg_backend_pid()")
        yield* Effect.timeoutOption(askPool(pool, "select pg_sleep(10)"), 50)
        yield* askPool(pool, "select pg_sleep(0.8)")
        assert.strictEqual(yield* askPool(pool, "select pg_backend_pid()"), pid)
      }))

    it.effect("a certificate that is not trusted is told at once", () =>
      Effect.gen(function*() {
        yield* tlsOn()
        const pool = yield* makePool({ host: "localhost", ssl: true })
        const error = yield* Effect.flip(askPool(pool, "select 1"))
        assert.instanceOf(error, SqlError)
        assert.include(String(error.reason.cause), "self-signed certificate")
      }))
  })

  it.effect("with a stream of one's own, as with a unix socket, it is the same", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      // A relay, since the server of the tests has no unix socket.
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "pg-"))),
        (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
      )
      yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer((client) => {
            const upstream = Net.connect({ host: pg.host, port: pg.port })
            client.on("error", () => upstream.destroy()).pipe(upstream).on("error", () => client.destroy()).pipe(client)
          })
          server.listen(Path.join(directory, ".s.PGSQL.5432"), () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const config = { username: "postgres", database: "postgres", max: 1, applicationName: "unix" }
      const url = Redacted.make(`postgres:///postgres?host=${encodeURIComponent(directory)}`)
      const path = Path.join(directory, ".s.PGSQL.5432")
      for (const where of [{ host: directory }, { path }, { url }, { stream: () => Net.connect({ path }) }]) {
        const pool = yield* PgQueuePool.make({ ...config, ...where })
        assert.strictEqual(yield* askPool(pool, "select 1"), 1)
        yield* untilStats(pool, ({ idle }) => idle === 1)
        yield* pg.killBackends({ applicationName: "unix" })
        yield* untilStats(pool, ({ recycled }) => recycled["disconnected"] === 1)
      }
    }))

  it.effect("the address is found in every part of the settings, and keepalive is set", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const database = "postgres"
      const username = "postgres"
      const url = (text: string) => ({ url: Redacted.make(text) })
      for (
        const where of [
          { host: pg.host, port: pg.port, username, database },
          { ...url("postgres://nobody@nowhere:1/nothing"), host: pg.host, port: pg.port, username, database },
          url(`postgres://postgres@nowhere/postgres?host=127.0.0.1&port=${pg.port}&sslmode=disable`),
          { ...url(`postgres://postgres@127.0.0.1:${pg.port}/postgres`), keepAlive: "10 seconds" as const }
        ]
      ) {
        const pool = yield* PgQueuePool.make({ max: 1, ...where })
        assert.strictEqual(yield* pool.use((session) => ask(session, "select 1")), 1)
      }
      const wrong = yield* PgQueuePool.make({ host: pg.host, port: pg.port, username, keepAlive: "1 millis" })
      assert.include((yield* Effect.flip(wrong.use(Effect.succeed))).message, "keepAlive")
      const ipv6 = yield* PgQueuePool.make({
        ...url(`postgres://postgres@[::1]:${pg.port}/postgres`),
        borrowTimeout: "300 millis"
      })
      const error = yield* Effect.flip(ipv6.use(Effect.succeed))
      assert.instanceOf(error, PoolError.PoolError)
      assert.include(Cause.pretty((error.reason as PoolError.BorrowTimeout).lastFailure!), "::1")
    }))
})
