import type { PgConnection } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Redacted, Scope, Stream } from "effect"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { SqlClient } from "effect/sql"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { ask, askPool, makePool, type Sessions, until, untilStats } from "./kit/sessions.ts"

type Session = PgConnection.PgConnection
type Run = Effect.Effect<unknown, unknown>

/** What a borrower may leave behind, and how the next one would notice. Of `sees`, `clean` is what it should see. */
interface Leak {
  readonly leave: (session: Session) => Run
  readonly sees: string
  readonly clean: unknown
  /** From which level on it does not pass to the next borrower. */
  readonly stops: "rollback" | "discard"
}

const run = (...statements: ReadonlyArray<string>) => (session: Session): Run =>
  Effect.forEach(statements, (sql) => session.query(sql), { discard: true })

const count = (from: string) => `select count(*)::int from ${from}`
const backend = "pid = pg_backend_pid()"
const inTransaction = "select exists (select from pg_locks where pid = pg_backend_pid() and locktype = 'transactionid')"

// The contract asks for a warning with the place of the borrow too, of a transaction that is rolled back: none is given.
const leaks: Record<string, Leak> = {
  "H17: an open transaction": {
    leave: run("BEGIN", "insert into leaked values (1)"),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H17: a transaction begun behind comments": {
    leave: run("/* one * / ; two */ -- three\n ; start transaction", "insert into leaked values (1)"),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H17: a transaction begun behind a comment in a comment": {
    leave: run("/* one /* two */ */ begin", "insert into leaked values (1)"),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H17: a transaction begun by values": {
    leave: (session) => Effect.andThen(session.queryValues("bEgIn"), session.query("insert into leaked values (1)")),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H17: a transaction begun by a stream": {
    leave: (session) =>
      Effect.andThen(Stream.runDrain(session.stream("begin")), session.query("insert into leaked values (1)")),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H17: a transaction begun by a pinned session": {
    leave: (session) => Effect.scoped(Effect.flatMap(session.pin, run("begin", "insert into leaked values (1)"))),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H17: a transaction that was chained": {
    leave: run("begin", "commit and chain", "insert into leaked values (1)"),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H17: a transaction rolled back to a savepoint": {
    leave: run("begin", "savepoint here", "rollback to here", "insert into leaked values (1)"),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H17: a transaction whose stream of COMMIT was never run": {
    leave: (session) =>
      Effect.andThen(
        run("begin", "insert into leaked values (1)")(session),
        Stream.runDrain(Stream.take(session.stream("commit"), 0))
      ),
    sees: inTransaction,
    clean: false,
    stops: "rollback"
  },
  "H18: a failed transaction": {
    leave: (session) => Effect.andThen(session.query("begin"), Effect.exit(session.query("select 1 / 0"))),
    sees: "select 1",
    clean: 1,
    stops: "rollback"
  },
  "H18: a statement that was interrupted in a transaction": {
    leave: (session) =>
      Effect.andThen(session.query("begin"), Effect.timeoutOption(session.query("select pg_sleep(10)"), 20)),
    sees: "select 1",
    clean: 1,
    stops: "rollback"
  },
  "H21: SET": { leave: run("set work_mem = '7MB'"), sees: "show work_mem", clean: "4MB", stops: "discard" },
  "H21: SET ROLE": {
    leave: run("set role pg_monitor"),
    sees: "select current_user::text",
    clean: "postgres",
    stops: "discard"
  },
  "H21: SET SESSION AUTHORIZATION": {
    leave: run("set session authorization pg_monitor"),
    sees: "select session_user::text",
    clean: "postgres",
    stops: "discard"
  },
  "H22: a temporary table": {
    leave: run("create temporary table mine (n int)"),
    sees: count("pg_class where relname = 'mine' and relpersistence = 't' and pg_table_is_visible(oid)"),
    clean: 0,
    stops: "discard"
  },
  "H22: an advisory lock": {
    leave: run("select pg_advisory_lock(42)"),
    sees: count(`pg_locks where locktype = 'advisory' and ${backend}`),
    clean: 0,
    stops: "discard"
  },
  "H22: LISTEN": { leave: run("listen news"), sees: count("pg_listening_channels()"), clean: 0, stops: "discard" },
  "H21: a cursor": {
    leave: run("begin", "declare mine cursor with hold for select 1", "commit"),
    sees: count("pg_cursors where name = 'mine'"),
    clean: 0,
    stops: "discard"
  },
  "H21: a prepared statement of its own": {
    leave: run("prepare mine as select 1"),
    sees: count("pg_prepared_statements where from_sql"),
    clean: 0,
    stops: "discard"
  },
  "H21: the last value of a sequence": {
    leave: run("create temporary sequence counter", "select nextval('counter')"),
    sees: "select count(*)::int from pg_class where relname = 'counter' and pg_table_is_visible(oid)",
    clean: 0,
    stops: "discard"
  }
}

/** Runs a leak in a lease, and what the next borrower of the same session sees. */
const leakAndLook = Effect.fnUntraced(function*(pool: Sessions, { leave, sees }: Leak) {
  const first = yield* pool.use((session) => Effect.as(leave(session), session.processId))
  return yield* pool.use((session) =>
    Effect.map(Effect.exit(ask(session, sees)), (seen) => ({ same: session.processId === first, seen }))
  )
})

const levels = ["none", "rollback", "discard"] as const

const settings = [
  { reset: "none" },
  { reset: "rollback" },
  { reset: "discard" },
  { reset: "discard", prepare: false },
  { reset: "discard", preparedStatementCacheSize: 0 }
] as const

layer(EmbeddedPg.layerVitest, { excludeTestServices: true })("the hygiene of sessions", (it) => {
  for (const options of settings) {
    for (const [name, leak] of Object.entries(leaks)) {
      const passes = levels.indexOf(options.reset) < levels.indexOf(leak.stops)
      const given = JSON.stringify(options)
      it.effect(`${name} ${passes ? "passes" : "does not pass"} to the next borrower, with ${given}`, () =>
        Effect.gen(function*() {
          const pg = yield* EmbeddedPg
          const at = yield* pg.scopedDatabase()
          const pool = yield* makePool({ at, max: 1, ...options })
          yield* askPool(pool, "create table leaked (n int)")
          const { same, seen } = yield* leakAndLook(pool, leak)
          assert.isTrue(same, "the session was recycled")
          if (passes) assert.notDeepEqual(seen, Exit.succeed(leak.clean))
          else {
            assert.deepStrictEqual(seen, Exit.succeed(leak.clean))
            assert.strictEqual(yield* askPool(pool, count("leaked")), 0)
          }
        }))
    }
  }

  it.effect("a transaction that has ended costs no round trip, nor does a failed statement without one", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 1, applicationName: "counted" })
      const last = Effect.map(
        pg.query("select query from pg_stat_activity where application_name = 'counted'"),
        (rows) => rows[0]?.["query"]
      )
      const endings: ReadonlyArray<ReadonlyArray<string>> = [
        ["select 1"],
        ["select 1 / 0"],
        ["begin", "commit"],
        ["Begin", "select 1 / 0", "\n ABORT work ; "],
        ["start transaction", "end transaction"],
        ["savepoint nowhere"]
      ]
      for (const statements of endings) {
        yield* pool.use((session) => Effect.forEach(statements, (sql) => Effect.exit(session.query(sql))))
        yield* untilStats(pool, ({ idle }) => idle === 1)
        assert.strictEqual(yield* last, statements.at(-1))
      }
      for (const statements of [["begin"], ["begin", "rollback to nowhere"], ["/* begin */ begin"]]) {
        yield* pool.use((session) => Effect.forEach(statements, (sql) => Effect.exit(session.query(sql))))
        yield* untilStats(pool, ({ idle }) => idle === 1)
        assert.strictEqual(yield* last, "ROLLBACK")
      }
      assert.strictEqual((yield* pool.stats).opened, 1)
    }))

  it.effect("H20: a transaction of which the borrower leaves the end running is rolled back after it", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1 })
      const left = yield* pool.use((session) =>
        Effect.forkDetach(
          Effect.andThen(
            session.query("begin"),
            Effect.andThen(session.query("select pg_sleep(0.05)"), session.query("commit"))
          ),
          { startImmediately: true }
        )
      )
      const seen = yield* askPool(pool, "select 1")
      assert.strictEqual(seen, 1)
      yield* Fiber.await(left)
      yield* untilStats(pool, ({ idle }) => idle === 1)
    }))

  it.effect("H20: a session that comes back pinned is recycled when the reset's time is over", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1, resetTimeout: "100 millis" })
      const outer = yield* Scope.make()
      yield* Effect.addFinalizer((exit) => Scope.close(outer, exit))
      const pid = yield* pool.use((session) => Effect.as(Scope.provide(session.pin, outer), session.processId))
      assert.notStrictEqual(yield* askPool(pool, "select pg_backend_pid()"), pid)
      assert.deepStrictEqual((yield* pool.stats).recycled, { "reset failed": 1 })
    }))

  it.effect("H19: a session whose rollback hangs is recycled", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 1, resetTimeout: "200 millis" })
      const pid = yield* pool.use((session) =>
        Effect.andThen(session.query("begin"), Effect.as(pg.pause(session.processId), session.processId))
      )
      assert.notStrictEqual(yield* askPool(pool, "select pg_backend_pid()"), pid)
      yield* pg.resume(pid)
      yield* until(Effect.map(pg.sessionCount({ pid }), (left) => left === 0))
    }))

  it.effect("a reset of one's own runs with the exit, and what it leaves open is rolled back", () =>
    Effect.gen(function*() {
      const exits: Array<boolean> = []
      const pool = yield* makePool({
        max: 1,
        reset: (session, exit) => {
          exits.push(Exit.isSuccess(exit))
          return run("reset all", "begin", "select txid_current()")(session)
        }
      })
      yield* pool.use((session) => session.query("set work_mem = '7MB'"))
      yield* Effect.exit(pool.use((session) => Effect.andThen(session.query("select 1"), Effect.fail("no"))))
      assert.strictEqual(yield* askPool(pool, "show work_mem"), "4MB")
      assert.strictEqual(yield* askPool(pool, inTransaction), false)
      assert.deepStrictEqual(exits.slice(0, 2), [true, false])
    }))

  it.effect("discard leaves the statements that the driver has prepared", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const at = Redacted.make(pg.url)
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const twice = sql.withTransaction(sql`select ${1}::int as n`)
        yield* twice
        // In a transaction, a statement that the server had forgotten would fail it.
        assert.deepStrictEqual(yield* twice, [{ n: 1 }])
        const names = yield* sql<
          { n: number }
        >`select count(*)::int as n from pg_prepared_statements where not from_sql`
        assert.isAtLeast(names[0]!.n, 3)
      }).pipe(Effect.provide(PgQueuePool.layer({ url: at, max: 1, reset: "discard" }), { local: true }))
    }))

  it.effect("discard asks nothing of a session of which nobody asked anything", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 1, reset: "discard", applicationName: "unasked" })
      yield* pool.use(() => Effect.void)
      yield* untilStats(pool, ({ idle, returned }) => idle === 1 && returned === 1)
      const rows = yield* pg.query("select query from pg_stat_activity where application_name = 'unasked'")
      assert.deepStrictEqual(rows, [{ query: "" }])
    }))

  it.effect("H22: the listener of a scope is gone with it, without any reset", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1, reset: "none" })
      yield* Effect.scoped(Effect.flatMap(pool.get, (session) => session.listen("news")))
      assert.strictEqual(yield* askPool(pool, count("pg_listening_channels()")), 0)
    }))

  it.effect("A15, H23: a statement interrupted late cancels nothing of the next borrower", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1 })
      for (let delay = 5; delay < 35; delay++) {
        yield* Effect.timeoutOption(askPool(pool, "select pg_sleep(0.02)"), delay)
        assert.strictEqual(yield* askPool(pool, "select 1 from pg_sleep(0.002)"), 1)
      }
      assert.strictEqual((yield* pool.stats).opened, 1)
    }))

  it.effect("the session is one and the same value in every lease, and has the driver's face", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1 })
      const first = yield* pool.use(Effect.succeed)
      const second = yield* Effect.scoped(pool.get)
      assert.strictEqual(first, second)
      assert.isFunction(first.query)
      assert.strictEqual(first.config.applicationName, undefined)
      yield* Effect.scoped(Effect.gen(function*() {
        const session = yield* pool.get
        const pinned = yield* session.pin
        assert.strictEqual(pinned.processId, session.processId)
        assert.strictEqual(yield* ask(yield* pinned.pin, "select 1"), 1)
        const slow = yield* Effect.forkChild(Effect.flip(pinned.query("select pg_sleep(10)")), {
          startImmediately: true
        })
        yield* until(Effect.map(pinned.interrupt, () => slow.pollUnsafe() !== undefined))
        assert.strictEqual((yield* Fiber.join(slow)).reason._tag, "StatementTimeoutError")
        yield* pool.invalidate(session)
      }))
      yield* untilStats(pool, ({ closed }) => closed === 1)
    }))
})
