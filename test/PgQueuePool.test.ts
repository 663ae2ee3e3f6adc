import { PgClient, type PgConnection } from "@effect/sql-pg"
import { assert, describe, layer } from "@effect/vitest"
import { Cause, Config, ConfigProvider, Context, Duration, Effect, Exit, Fiber, Redacted, Schedule } from "effect"
import { PoolError, RecyclePolicy } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { SqlClient } from "effect/sql"
import { ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { ask, askPool, listen, makePool, runs, type Sessions, until, untilStats } from "./kit/sessions.ts"

type Options = PgQueuePool.Options

const problemsOf = (options: object) =>
  Effect.map(Effect.flip(Effect.scoped(PgQueuePool.make(options as Options))), (error) => {
    assert.instanceOf(error, PoolError.PoolError)
    assert.strictEqual(error.reason._tag, "InvalidOptions")
    return error.reason._tag === "InvalidOptions" ? error.reason.problems : []
  })

const named = (problems: ReadonlyArray<PoolError.Problem>) => problems.map(({ option }) => option).toSorted()

/** What the driver's errors look like. */
const answer = (code: string, severity = "ERROR") =>
  new SqlError({ reason: new UnknownError({ cause: Object.assign(new Error("said"), { code, severity }) }) })
const broken = (code?: string, message = "broken") =>
  new SqlError({
    reason: new ConnectionError({ cause: Object.assign(new Error(message), code === undefined ? {} : { code }) })
  })
const noItem = new PoolError.PoolError({ pool: "p", reason: new PoolError.Closed() })

layer(EmbeddedPg.layerVitest, { excludeTestServices: true })("PgQueuePool", (it) => {
  describe("options", () => {
    it.effect("are all checked at once, by the names that were given", () =>
      Effect.gen(function*() {
        const problems = yield* problemsOf({
          maxConnections: 0,
          minConnections: 1.5,
          idleTimeout: "soon",
          connectionTTL: -1,
          multiplex: "yes",
          reset: "clean",
          checkAfter: Number.NaN,
          retry: 5,
          maximum: 3
        })
        assert.deepStrictEqual(named(problems), [
          "checkAfter",
          "connectionTTL",
          "idleTimeout",
          "maxConnections",
          "maximum",
          "minConnections",
          "multiplex",
          "reset",
          "retry"
        ])
      }))

    it.effect("do not have what only QueuePool has, and list the driver's", () =>
      Effect.gen(function*() {
        const [acquire] = yield* problemsOf({ acquire: Effect.void })
        assert.strictEqual(acquire?.option, "acquire")
        assert.match(acquire?.allowed ?? "", /^one of the options url, host, (?!.*acquire).*maxConnections, .*retry/)
      }))

    it.effect("that are undefined are as if not given", () =>
      Effect.gen(function*() {
        // Nobody listens on port 1: by default the pool goes on trying.
        const pool = yield* PgQueuePool.make({
          host: "127.0.0.1",
          port: 1,
          username: "nobody",
          retry: undefined,
          borrowTimeout: 250
        })
        const error = yield* Effect.flip(pool.use(() => Effect.void))
        assert.strictEqual(error.reason._tag, "BorrowTimeout")
      }))

    it.effect("of the driver's pool and of ours that mean the same exclude each other", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(named(yield* problemsOf({ max: 3, maxConnections: 3, min: 1, minConnections: 1 })), [
          "maxConnections",
          "minConnections"
        ])
      }))

    it.effect("with one wrong alone are named too, and the pool by its name", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(named(yield* problemsOf({ multiplex: 1 })), ["multiplex"])
        const error = yield* Effect.flip(
          Effect.scoped(PgQueuePool.make({ name: "mine", recycle: RecyclePolicy.uses(0) }))
        )
        assert.include(error.message, "\"mine\" does not take these options: recycle")
      }))

    it.effect("of the driver's pool are mapped on ours", () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ maxConnections: 4, minConnections: 2, multiplex: false })
        const { max, min } = yield* pool.stats
        assert.deepStrictEqual({ max, min }, { max: 4, min: 2 })
        assert.strictEqual(pool.name, "PgQueuePool")
      }))

    it.effect("idleTimeout and connectionTTL are rules", () =>
      Effect.gen(function*() {
        for (
          const [options, reason] of [[{ idleTimeout: "5 millis" }, "idle"], [
            { connectionTTL: "5 millis" },
            "age"
          ]] as const
        ) {
          const pool = yield* makePool(options)
          yield* askPool(pool, "select 1")
          yield* untilStats(pool, ({ recycled }) => recycled[reason] === 1)
        }
      }))

    it.effect("recycle takes the place of the default rules, beside which both limits still count", () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ recycle: RecyclePolicy.uses(2), max: 1 })
        for (let use = 0; use < 4; use++) yield* askPool(pool, "select 1")
        yield* untilStats(pool, ({ recycled }) => recycled["uses"] === 2)
        const both = yield* makePool({ recycle: [RecyclePolicy.uses(100), () => false], idleTimeout: "5 millis" })
        yield* askPool(both, "select 1")
        yield* untilStats(both, ({ recycled }) => recycled["idle"] === 1)
      }))

    it.effect("that are effects have what they need", () =>
      Effect.gen(function*() {
        class Level extends Context.Service<Level, string>()("Level") {}
        const pg = yield* EmbeddedPg
        const levels: Array<string> = []
        const note = Effect.map(Level, (level) => void levels.push(level))
        const layer = PgQueuePool.layer({
          url: Redacted.make(pg.url),
          reset: () => note,
          check: () => note,
          checkAfter: 0
        })
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* sql`select 1`
          yield* sql`select 1`
        }).pipe(Effect.provide(layer, { local: true }), Effect.provideService(Level, "here"))
        assert.include(levels, "here")
      }))

    it.effect("can come from the configuration", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const layer = PgQueuePool.layerConfig({
          url: Config.Redacted("URL"),
          max: Config.Int("MAX"),
          reset: Config.succeed("discard" as const)
        })
        const provider = (env: Record<string, unknown>) => ConfigProvider.layer(ConfigProvider.fromUnknown(env))
        const max = Effect.flatMap(PgQueuePool.PgQueuePool, (pool) => pool.stats).pipe(
          Effect.map((stats) => stats.max),
          Effect.provide(layer, { local: true })
        )
        assert.strictEqual(yield* Effect.provide(max, provider({ URL: pg.url, MAX: 3 })), 3)
        const missing = yield* Effect.flip(Effect.provide(max, provider({ URL: pg.url })))
        assert.strictEqual(missing._tag, "ConfigError")
        const wrong = yield* Effect.flip(Effect.provide(max, provider({ URL: pg.url, MAX: 0 })))
        assert.strictEqual(wrong._tag, "PoolError")
      }))
  })

  describe("the layer", () => {
    it.effect("with warm: \"eager\" fails with the error of the driver", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const layer = PgQueuePool.layer({
          url: Redacted.make(pg.url),
          database: "nothing",
          min: 1,
          warm: "eager"
        })
        const error = yield* Effect.flip(Effect.provide(PgQueuePool.PgQueuePool, layer, { local: true }))
        assert.strictEqual(PgQueuePool.sqlState(error), "3D000")
      }))

    it.effect("closes its sessions with itself", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const applicationName = "closes"
        const layer = PgQueuePool.layer({ url: Redacted.make(pg.url), applicationName })
        yield* Effect.provide(
          Effect.gen(function*() {
            const client = yield* PgClient.PgClient
            yield* client`select 1`
            assert.strictEqual(client.config.applicationName, applicationName)
            assert.strictEqual(yield* pg.sessionCount({ applicationName }), 1)
          }),
          layer,
          { local: true }
        )
        assert.strictEqual(yield* pg.sessionCount({ applicationName }), 0)
      }))

    it.effect("users of SqlClient hear of the pool's refusals as SqlError, users of the pool as PoolError", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const layer = PgQueuePool.layer({
          url: Redacted.make(pg.url),
          min: 1,
          max: 1,
          warm: "eager",
          borrowTimeout: "100 millis"
        })
        yield* Effect.gen(function*() {
          const client = yield* PgClient.PgClient
          const pool = yield* PgQueuePool.PgQueuePool
          yield* Effect.scoped(Effect.gen(function*() {
            yield* pool.get
            const errors = yield* Effect.all([
              Effect.flip(client`select 1`),
              Effect.flip(client.withTransaction(Effect.void)),
              Effect.flip(Effect.scoped(client.reserve)),
              Effect.flip(Effect.scoped(client.listen("news"))),
              Effect.flip(client.notify("news", ""))
            ])
            for (const error of errors) {
              assert.instanceOf(error, SqlError)
              assert.isTrue(error.isRetryable)
              assert.instanceOf(error.reason.cause, PoolError.PoolError)
            }
            assert.strictEqual((yield* Effect.flip(askPool(pool, "select 1")))._tag, "PoolError")
          }))
        }).pipe(Effect.provide(layer, { local: true }))
      }))
  })

  describe("errors", () => {
    it.effect("are told apart by their SQLSTATE", () =>
      Effect.sync(() => {
        const states = new Set(PgQueuePool.sqlStates.map(({ state }) => state))
        assert.strictEqual(states.size, PgQueuePool.sqlStates.length)
        assert.isTrue([...states].every((state) => /^[0-9A-Z]{2}([0-9A-Z]{3}|\*{3})$/.test(state)))
        assert.strictEqual(PgQueuePool.sqlState(answer("57P01")), "57P01")
        assert.strictEqual(PgQueuePool.sqlState(new Error("mine", { cause: answer("40001") })), "40001")
        for (const other of [broken("EPIPE"), new Error("none"), "text", null, undefined, noItem]) {
          assert.isUndefined(PgQueuePool.sqlState(other))
        }
        const endless: { cause?: unknown } = {}
        endless.cause = endless
        assert.isUndefined(PgQueuePool.sqlState(endless))
      }))

    it.effect("that may pass are retried while opening, and no others", () =>
      Effect.sync(() => {
        const openTimeout = new PoolError.PoolError({
          pool: "p",
          reason: new PoolError.OpenTimeout({ openTimeout: 1 })
        })
        const transient = [
          ...["53300", "53400", "57P03", "57P01", "08006"].map((state) => answer(state, "FATAL")),
          ...["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EAI_AGAIN", "ENOENT"].map((code) => broken(code)),
          broken(undefined, "Connection timed out"),
          broken(undefined, "Connection closed unexpectedly"),
          openTimeout
        ]
        const permanent = [
          ...["28P01", "28000", "3D000", "42501", "08P01", "25006", "57P04", "XX000"].map((state) =>
            answer(state, "FATAL")
          ),
          ...["ENOTFOUND", "DEPTH_ZERO_SELF_SIGNED_CERT"].map((code) => broken(code)),
          broken(undefined, "No username configured"),
          new SqlError({ reason: new ConnectionError({ cause: "text" }) }),
          noItem,
          new Error("Connection timed out"),
          undefined
        ]
        assert.deepStrictEqual(transient.filter((error) => !PgQueuePool.isTransient(error)), [])
        assert.deepStrictEqual(permanent.filter(PgQueuePool.isTransient), [])
      }))

    it.effect("that end a session recycle it, also as defects", () =>
      Effect.gen(function*() {
        const ends = (cause: Cause.Cause<unknown>) => {
          const [rule] = PgQueuePool.disconnectRules
          if (!RecyclePolicy.isRecyclePolicy(rule) || rule._tag !== "FailedWith") return assert.fail("no rule")
          return rule.predicate(cause)
        }
        const lost = [
          ...["08006", "57P01", "57P02", "57P03", "57P05", "25P03", "25006"].map((state) => answer(state)),
          answer("XX000", "FATAL"),
          answer("XX000", "PANIC"),
          broken("ECONNRESET"),
          broken()
        ]
        const kept = [
          ...["23505", "40001", "57014", "42501", "28P01", "XX000"].map((state) => answer(state)),
          new SqlError({ reason: new ConnectionError({ cause: noItem }) }),
          noItem,
          "text"
        ]
        assert.deepStrictEqual(lost.filter((error) => !ends(Cause.fail(error)) || !ends(Cause.die(error))), [])
        assert.deepStrictEqual(kept.filter((error) => ends(Cause.fail(error))), [])
        assert.isFalse(ends(Cause.interrupt(1)))
        yield* Effect.void
      }))

    it.effect("are retried with growing delays up to 5 seconds, for ever, until one is permanent", () =>
      Effect.gen(function*() {
        const step = yield* Schedule.toStep(PgQueuePool.defaultRetry)
        const delays: Array<number> = []
        for (let now = 0; delays.length < 20;) {
          const [, delay] = yield* Effect.orDie(step(now, broken("ECONNREFUSED")))
          delays.push(Duration.toMillis(delay))
          now += delays.at(-1)!
        }
        for (const [index, delay] of delays.entries()) {
          const middle = Math.min(5000, 100 * 2 ** index)
          assert.isTrue(delay >= middle * 0.8 - 1 && delay <= middle * 1.2 + 1, `${index}: ${delay}`)
        }
        assert.isTrue(Exit.isFailure(yield* Effect.exit(step(0, answer("28P01")))))
      }))

    it.effect("are told in the words of the rules", () =>
      Effect.sync(() => {
        const lost = "whose lease failed with \"disconnected\""
        const failover = "whose lease failed with \"read-only server\" (with every older item)"
        const time = "that was idle for more than 10m (above min), or is older than 30m (up to 5% earlier)"
        assert.strictEqual(
          RecyclePolicy.explain(PgQueuePool.defaultRules),
          `recycle an item ${time}, or ${lost}, or ${failover}`
        )
      }))
  })

  describe("parity", () => {
    it.effect("QP-T3: 100 tasks of 10 serializable transactions over 20 sessions lose no increment and share no value", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const url = Redacted.make(yield* pg.scopedDatabase())
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* sql`create table counter (n int not null)`
          yield* sql`insert into counter values (0)`
          const increment = Effect.gen(function*() {
            yield* sql`set transaction isolation level serializable`
            const [row] = yield* sql<{ n: number }>`select n from counter`
            yield* sql`update counter set n = ${row!.n + 1}`
            return row!.n + 1
          }).pipe(
            sql.withTransaction,
            Effect.retry({ while: (error) => error.reason._tag === "SerializationError" })
          )
          const values = yield* Effect.forEach(
            Array.from({ length: 100 }),
            () => Effect.replicateEffect(increment, 10),
            { concurrency: 2 }
          )
          assert.strictEqual(new Set(values.flat()).size, 1000)
          assert.deepStrictEqual(yield* sql`select n from counter`, [{ n: 1000 }])
        }).pipe(Effect.provide(PgQueuePool.layer({ url, max: 20 }), { local: true }))
      }))

    it.effect("QP-T4: a session returned in a transaction is rolled back and of use to the next borrower", () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ max: 1 })
        const first = yield* pool.use((session) =>
          Effect.as(
            Effect.andThen(session.query("begin"), session.query("create table qp_t4 (n int)")),
            session.processId
          )
        )
        assert.strictEqual(yield* askPool(pool, "select to_regclass('qp_t4')"), null)
        assert.strictEqual(yield* askPool(pool, "select pg_backend_pid()"), first)
      }))

    const killed = Effect.fnUntraced(function*(pool: Sessions) {
      return yield* pool.use((session) =>
        Effect.as(Effect.exit(session.query("select pg_terminate_backend(pg_backend_pid())")), session.processId)
      )
    })

    it.effect("QP-T5: a session that was closed behind the pool's back is noticed, and the next borrow opens one", () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ max: 1 })
        const first = yield* killed(pool)
        assert.notStrictEqual(yield* askPool(pool, "select pg_backend_pid()"), first)
        assert.strictEqual((yield* pool.stats).opened, 2)
      }))

    it.effect("QP-T6: a sweep every few milliseconds disturbs none of it", () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ max: 3, sweep: "2 millis", recycle: RecyclePolicy.when(() => false) })
        const events = yield* listen(pool)
        const work = Effect.andThen(
          pool.use((session) => Effect.andThen(session.query("begin"), session.query("select pg_sleep(0.001)"))),
          Effect.andThen(killed(pool), askPool(pool, "select 1"))
        )
        const answers = yield* Effect.replicateEffect(work, 20, { concurrency: 6 })
        assert.deepStrictEqual(answers, answers.map(() => 1))
        assert.isTrue(events.some((event) => event._tag === "Swept"))
      }))

    it.effect("CP-T4: an idle session that died is not lent; another is, and nothing is remembered of it", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* makePool({ max: 2, applicationName: "cp-t4" })
        const first = yield* askPool(pool, "select pg_backend_pid()")
        yield* untilStats(pool, ({ idle }) => idle === 1)
        yield* pg.query("select pg_terminate_backend($1)", [first])
        yield* until(Effect.sync(() => !runs(Number(first))))
        // The pool trusts a session that came back within the last 2 milliseconds.
        yield* Effect.sleep(5)
        assert.notStrictEqual(yield* askPool(pool, "select pg_backend_pid()"), first)
        yield* untilStats(
          pool,
          ({ closed, closing, idle, opened, used }) =>
            closed === 1 && closing === 0 && idle === 1 && opened === 2 && used === 0
        )
      }))

    it.effect("CP-T6: a session returned in a failed transaction comes back clean and stays", () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ max: 1 })
        const first = yield* pool.use((session) =>
          Effect.as(
            Effect.andThen(session.query("begin"), Effect.exit(session.query("select 1 / 0"))),
            session.processId
          )
        )
        assert.strictEqual(yield* askPool(pool, "select pg_backend_pid()"), first)
        assert.deepStrictEqual((yield* pool.stats).recycled, {})
      }))

    it.effect("CP-T7: a session returned closed is not kept, and nothing is remembered of it", () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ max: 1 })
        yield* killed(pool)
        yield* untilStats(pool, ({ closed, closing, idle, used }) => closed === 1 && closing + idle + used === 0)
      }))

    it.effect("CP-T8: the server sees one session for each that is lent, and no new ones when they are lent again", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const applicationName = "cp-t8"
        const pool = yield* makePool({ max: 5, applicationName })
        const seen = (count: number) =>
          Effect.scoped(Effect.gen(function*() {
            const sessions: ReadonlyArray<PgConnection.PgConnection> = yield* Effect.replicateEffect(pool.get, count)
            for (const session of sessions) yield* ask(session, "select 1")
            return yield* pg.sessionCount({ applicationName })
          }))
        assert.strictEqual(yield* seen(3), 3)
        yield* untilStats(pool, ({ idle }) => idle === 3)
        assert.strictEqual(yield* pg.sessionCount({ applicationName }), 3)
        assert.strictEqual(yield* seen(3), 3)
        assert.strictEqual(yield* seen(5), 5)
        assert.strictEqual((yield* pool.stats).opened, 5)
      }))

    it.effect("an interrupted borrower of a pool in use leaves it whole", () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ max: 2 })
        for (let round = 0; round < 30; round++) {
          const fibers = yield* Effect.forEach(Array.from({ length: 5 }), () =>
            Effect.forkChild(askPool(pool, "select pg_sleep(0.005)"), { startImmediately: true }))
          yield* Effect.sleep(round % 8)
          yield* Fiber.interruptAll(fibers)
        }
        assert.strictEqual(yield* askPool(pool, "select 1"), 1)
        yield* untilStats(pool, ({ idle, pending, used }) =>
          used === 0 && pending === 0 && idle > 0)
      }))
  })
})
