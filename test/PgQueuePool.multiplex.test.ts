import { PgClient, type PgConnection } from "@effect/sql-pg"
import { assert, describe, layer } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Option, Queue, Redacted, Scope, Stream } from "effect"
import { PoolError, RecyclePolicy } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { SqlClient } from "effect/sql"
import { SqlError } from "effect/sql/SqlError"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { byHand } from "./kit/real.ts"
import { ask, askPool, makePool, type Sessions, until, untilStats } from "./kit/sessions.ts"

type Program = Effect.Effect<unknown, unknown, SqlClient.SqlClient | PgClient.PgClient>
type Options = Parameters<typeof makePool>[0]

const tagOf = (error: unknown) => error instanceof SqlError ? error.reason._tag : error

/** What it fails with, which it must. */
const failure = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.orDie(Effect.map(Effect.flip(effect), tagOf))

/** All at once. */
const together = <A, E, R>(count: number, f: (index: number) => Effect.Effect<A, E, R>) =>
  Effect.all(Array.from({ length: count }, (_, index) => f(index)), { concurrency: "unbounded" })

// ---- programs that know nothing of our pool

const queries = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table people (id int primary key, name text not null unique)`
  yield* together(20, (id) => sql`insert into people ${sql.insert({ id, name: `n${id}` })}`)
  return yield* Effect.all({
    rows: sql`select id, name from people where id < ${5} order by id`,
    values: sql`select id from people order by id`.values,
    raw: Effect.map(sql`update people set name = name || '!'`.raw, (raw) => (raw as { rowCount: number }).rowCount),
    unprepared: sql`select name from people where id = ${1}`.unprepared,
    valuesUnprepared: sql`select 1 as a, 2 as a`.valuesUnprepared,
    unique: failure(sql`insert into people ${sql.insert({ id: 1, name: "twice" })}`),
    syntax: failure(sql`selec 1`),
    garbage: failure(sql`$$ begin`),
    nothing: failure(sql`select * from nothing`),
    again: sql`select count(*)::int as n from people`
  })
})

const parallel = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return yield* together(200, (n): Effect.Effect<unknown, SqlError> => {
    switch (n % 4) {
      case 0:
        return sql`select ${n}::int as n, 'some text' as t`
      case 1:
        return failure(sql`select ${n}::int / ${n % 8 === 1 ? 0 : "none"}::int`)
      case 2:
        return sql`select g from generate_series(1, ${n % 20}::int) g`.values
      default:
        return sql`select pg_sleep(0.001), ${n}::text as t`.unprepared
    }
  })
})

const transactions = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table entries (name text not null unique)`
  const insert = (name: string) => sql`insert into entries ${sql.insert({ name })}`
  const outcomes = yield* together(30, (n): Effect.Effect<unknown, unknown> => {
    const first = insert(`first ${n}`)
    const slow = sql`select pg_sleep(0.002)`
    switch (n % 6) {
      case 0:
        return Effect.as(sql.withTransaction(Effect.andThen(first, Effect.andThen(slow, insert(`second ${n}`)))), "ok")
      case 1:
        return Effect.flip(sql.withTransaction(Effect.andThen(first, Effect.fail("no"))))
      case 2:
        return Effect.map(Effect.flip(sql.withTransaction(Effect.andThen(first, insert(`first ${n}`)))), tagOf)
      case 3:
        return Effect.as(Effect.timeoutOption(sql.withTransaction(Effect.andThen(first, Effect.never)), 30), "cut")
      case 4:
        return sql.withTransaction(Effect.gen(function*() {
          yield* first
          yield* Effect.ignore(sql.withTransaction(Effect.andThen(insert(`inner ${n}`), insert(`first ${n}`))))
          yield* sql.withTransaction(insert(`last ${n}`))
          return "nested"
        }))
      default:
        return Effect.as(together(10, (m) => insert(`plain ${n} ${m}`)), "plain")
    }
  })
  const names = yield* sql<{ name: string }>`select name from entries order by 1`
  return { outcomes, names: names.map(({ name }) => name) }
})

const streams = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const numbers = (upTo: number) => sql<{ n: number }>`select n from generate_series(1, ${upTo}::int) n`.stream
  const sum = (upTo: number) => Stream.runFold(numbers(upTo), () => 0, (total, { n }) => total + n)
  return yield* Effect.all({
    sums: together(10, (n) => sum(n * 300)),
    plain: together(50, (n) => sql`select ${n}::int as n`),
    interleaved: Stream.runCollect(Stream.mapEffect(numbers(20), ({ n }) => sql`select ${n}::int * 2 as n`)),
    few: Stream.runCollect(Stream.take(numbers(5000), 3)),
    failed: Effect.map(
      Effect.flip(Stream.runDrain(sql`select 1 / (n - 3) from generate_series(1, 5) n`.stream)),
      tagOf
    ),
    inTransaction: sql.withTransaction(Effect.gen(function*() {
      yield* sql`create temporary table mine on commit drop as select 7 as n`
      return yield* Stream.runCollect(sql`select n from mine`.stream)
    }))
  }, { concurrency: "unbounded" })
})

const notifications = Effect.gen(function*() {
  const client = yield* PgClient.PgClient
  const heard = yield* Effect.scoped(Effect.gen(function*() {
    const queue = yield* client.listen("news")
    yield* together(20, (n) => n % 2 === 0 ? client.notify("news", `${n}`) : client`select ${n}::int`)
    return yield* Effect.replicateEffect(Queue.take(queue), 10)
  }))
  return heard.map(({ payload }) => payload).toSorted()
})

const reserved = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const mine = Effect.scoped(Effect.gen(function*() {
    const connection = yield* sql.reserve
    yield* connection.executeUnprepared("begin", [], undefined)
    yield* connection.executeUnprepared("set local application_name = 'mine'", [], undefined)
    const name = yield* connection.executeValues("show application_name", [])
    yield* connection.executeUnprepared("rollback", [], undefined)
    return name
  }))
  return yield* Effect.all(
    [mine, together(20, () => sql`select current_setting('application_name') = 'mine' as mine`)],
    {
      concurrency: "unbounded"
    }
  )
})

const counter = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table counter as select 0 as n`
  const bump = sql.withTransaction(Effect.gen(function*() {
    const [row] = yield* sql<{ n: number }>`select n from counter for update`
    yield* sql`update counter set n = ${row!.n + 1}`
  }))
  yield* together(60, (n) => n % 3 === 0 ? bump : sql`update counter set n = n + 1`)
  return yield* sql`select n from counter`
})

const expected: Record<string, (result: never) => void> = {
  queries: ({ again, garbage, raw, rows, unique }: Effect.Success<typeof queries>) => {
    assert.deepStrictEqual([rows.length, raw, unique, garbage, again], [
      5,
      20,
      "UniqueViolation",
      "SqlSyntaxError",
      [{ n: 20 }]
    ])
  },
  parallel: (all: Effect.Success<typeof parallel>) => {
    assert.strictEqual(all.length, 200)
    assert.deepStrictEqual(all[100], [{ n: 100, t: "some text" }])
    assert.deepStrictEqual(all[106], Array.from({ length: 6 }, (_, index) => [index + 1]))
  },
  transactions: ({ names, outcomes }: Effect.Success<typeof transactions>) => {
    assert.deepStrictEqual(outcomes.slice(0, 6), ["ok", "no", "UniqueViolation", "cut", "nested", "plain"])
    assert.strictEqual(names.length, 10 + 0 + 0 + 0 + 10 + 50)
    assert.isFalse(names.some((name) => name.startsWith("inner")))
  },
  streams: ({ few, interleaved, sums }: Effect.Success<typeof streams>) => {
    assert.deepStrictEqual([sums[9], few.length, interleaved.length], [2700 * 2701 / 2, 3, 20])
  },
  notifications: (heard: Effect.Success<typeof notifications>) => {
    assert.deepStrictEqual(heard, ["0", "10", "12", "14", "16", "18", "2", "4", "6", "8"])
  },
  reserved: ([mine, others]: Effect.Success<typeof reserved>) => {
    assert.deepStrictEqual(mine, [["mine"]])
    assert.deepStrictEqual(others, others.map(() => [{ mine: false }]))
  },
  counter: (rows: Effect.Success<typeof counter>) => assert.deepStrictEqual(rows, [{ n: 60 }])
}

const programs: Record<string, Program> = {
  queries,
  parallel,
  transactions,
  streams,
  notifications,
  reserved,
  counter
}

const configs = {
  "the defaults": {},
  "nothing prepared, sessions discarded, names transformed": {
    prepare: false,
    reset: "discard",
    transformQueryNames: (name: string) => name.toLowerCase(),
    transformResultNames: (name: string) => name.toUpperCase().toLowerCase()
  },
  "few sessions for few": { maxConnections: 3, multiplexConcurrency: 2 },
  "one session for each": { maxConnections: 3, multiplexConcurrency: 1 },
  "two sessions, few statements prepared": { maxConnections: 2, preparedStatementCacheSize: 2 }
} as const

layer(EmbeddedPg.layerVitest, { excludeTestServices: true })("PgQueuePool with multiplex", (it) => {
  for (const [settings, config] of Object.entries(configs)) {
    for (const [name, program] of Object.entries(programs)) {
      it.effect(`programs give the same on PgClient.layer and here: ${name}, ${settings}`, () =>
        Effect.gen(function*() {
          const pg = yield* EmbeddedPg
          const theirs = Effect.fnUntraced(function*() {
            const url = Redacted.make(yield* pg.scopedDatabase())
            return yield* Effect.provide(program, PgClient.layer({ url, multiplex: true, ...config }), { local: true })
          }, Effect.scoped)
          const ours = Effect.fnUntraced(function*() {
            const url = Redacted.make(yield* pg.scopedDatabase())
            return yield* Effect.provide(program, PgQueuePool.layer({ url, multiplex: true, ...config }), {
              local: true
            })
          }, Effect.scoped)
          const result = yield* ours()
          assert.deepStrictEqual(result, yield* theirs())
          expected[name]!(result as never)
        }))
    }
  }

  /** A pool whose sessions are shared. */
  const shared = (options: Options = {}) => makePool({ multiplex: true, ...options })

  const pid = "select pg_backend_pid()"
  const count = (from: string) => `select count(*)::int from ${from}`
  const inTransaction = "select txid_current_if_assigned() is not null"

  /** Runs a program on a client on the pool. */
  const withClient = <A, E, R>(pool: Sessions, f: (sql: PgClient.PgClient) => Effect.Effect<A, E, R>) =>
    Effect.provide(
      Effect.flatMap(PgClient.PgClient, f),
      PgClient.layerFrom(PgQueuePool.makeClient(pool, {})),
      { local: true }
    )

  /** A statement that waits for a lock until that is released. The lock is one of the server's first database. */
  const blocked = Effect.fnUntraced(function*(key: number) {
    const pg = yield* EmbeddedPg
    yield* pg.query("select pg_advisory_lock($1)", [key])
    const waiting = Effect.map(
      pg.query("select count(*)::int as n from pg_locks where locktype = 'advisory' and objid = $1 and not granted", [
        key
      ]),
      ([row]) => Number(row?.["n"])
    )
    return {
      statement: `select pg_advisory_xact_lock_shared(${key})`,
      waits: (n: number) => until(Effect.map(waiting, (count) => count === n)),
      release: pg.query("select pg_advisory_unlock($1)", [key])
    }
  })

  /** Begins now, in a fiber that ends with the test. */
  const begun = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkScoped(effect, { startImmediately: true })

  describe("options", () => {
    it.effect("multiplexConcurrency is checked by its name, and concurrency is not for this pool", () =>
      Effect.gen(function*() {
        const options = { multiplex: "yes", multiplexConcurrency: 0, concurrency: 3 } as object
        const error = yield* Effect.flip(Effect.scoped(PgQueuePool.make(options)))
        assert.instanceOf(error, PoolError.PoolError)
        const { reason } = error
        if (reason._tag !== "InvalidOptions") return assert.fail(reason._tag)
        assert.deepStrictEqual(reason.problems.map(({ option }) => option).toSorted(), [
          "concurrency",
          "multiplex",
          "multiplexConcurrency"
        ])
        const allowed = reason.problems.find(({ option }) => option === "concurrency")?.allowed ?? ""
        assert.match(allowed, /multiplexConcurrency/)
        assert.notMatch(allowed, /, concurrency,/)
        const wrong = yield* Effect.flip(Effect.scoped(PgQueuePool.make({ multiplexConcurrency: 1.5 })))
        assert.include(wrong.message, "multiplexConcurrency")
      }))

    it.effect("32 statements share a session, or as many as multiplexConcurrency says, and one without multiplex", () =>
      Effect.gen(function*() {
        const settings: ReadonlyArray<readonly [Options, number]> = [
          [{}, 32],
          [{ multiplexConcurrency: 3 }, 3],
          [{ multiplex: false, multiplexConcurrency: 3 }, 1]
        ]
        for (const [options, most] of settings) {
          const pool = yield* shared({ max: 1, ...options })
          yield* Effect.scoped(Effect.gen(function*() {
            yield* Effect.replicateEffect(pool.get, most)
            assert.strictEqual((yield* pool.stats).leases, most)
            assert.isTrue(Option.isNone(yield* pool.getIfAvailable))
          }))
        }
      }))
  })

  describe("plain statements", () => {
    it.effect("200 at once run on few sessions, several in flight on each", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const applicationName = "few"
        const pool = yield* shared({ max: 4, multiplexConcurrency: 50, applicationName })
        const { release, statement, waits } = yield* blocked(1001)
        const answers = yield* begun(withClient(pool, (sql) =>
          together(200, (n) =>
            Effect.map(sql`select ${n}::int as n, (${sql.literal(statement)})::text`, ([row]) =>
              row?.["n"]))))
        yield* waits(4)
        const { leases, opened } = yield* pool.stats
        assert.deepStrictEqual({ leases, opened }, { leases: 200, opened: 4 })
        assert.strictEqual(yield* pg.sessionCount({ applicationName }), 4)
        yield* release
        assert.deepStrictEqual(
          yield* Fiber.join(answers),
          Array.from({ length: 200 }, (_, n) =>
            n)
        )
        assert.strictEqual((yield* pool.stats).opened, 4)
      }))

    for (const [sharing, sessions] of [[undefined, 1], ["pack", 1], ["spread", 3]] as const) {
      it.effect(`that are sent at once run on ${sessions} of 3 sessions with sharing ${sharing}`, () =>
        Effect.gen(function*() {
          // No session was idle for so long that it needs a look before, and none is held up.
          const { clock } = yield* byHand
          const pool = yield* Effect.provideService(
            shared({ min: 3, max: 3, warm: "eager", sharing }),
            Clock.Clock,
            clock
          )
          const pids = yield* withClient(pool, (sql) => together(6, () => sql`select pg_backend_pid() as pid`))
          assert.strictEqual(new Set(pids.map(([row]) => row?.["pid"])).size, sessions)
        }))
    }

    it.effect("are not held up by a slow one that was sent long before them, while a session is idle", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ min: 2, max: 2, warm: "eager" })
        const { release, statement, waits } = yield* blocked(1011)
        const slow = yield* begun(withClient(pool, (sql) => sql`select (${sql.literal(statement)})::text`))
        yield* waits(1)
        yield* Effect.sleep(20)
        yield* withClient(pool, (sql) => together(6, (n) => sql`select ${n}::int as n`))
        assert.strictEqual(slow.pollUnsafe(), undefined)
        yield* release
        yield* Fiber.join(slow)
      }))

    it.effect("an error is that of its own statement", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 1 })
        const states = yield* withClient(pool, (sql) =>
          together(40, (n) =>
            Effect.map(Effect.exit(n % 2 === 0 ? sql`select ${n}::int / 0` : sql`select ${n}::int`), (exit) =>
              Exit.isFailure(exit))))
        assert.deepStrictEqual(
          states,
          states.map((_, n) =>
            n % 2 === 0
          )
        )
        const { opened, recycled } = yield* pool.stats
        assert.deepStrictEqual({ opened, recycled }, { opened: 1, recycled: {} })
      }))

    it.effect("an error is no reason to keep others from the session", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 2 })
        yield* Effect.scoped(Effect.gen(function*() {
          const { processId } = yield* pool.get
          yield* Effect.exit(askPool(pool, "select 1 / 0"))
          assert.strictEqual(yield* askPool(pool, pid), processId)
        }))
      }))

    it.effect("reset runs when the last of those who share has left, with the exit of that lease", () =>
      Effect.gen(function*() {
        const exits: Array<boolean> = []
        const pool = yield* shared({ max: 1, reset: (_, exit) => Effect.sync(() => exits.push(Exit.isSuccess(exit))) })
        const scope = yield* Scope.make()
        yield* Scope.provide(pool.get, scope)
        yield* together(20, () => askPool(pool, pid))
        yield* Effect.exit(askPool(pool, "select 1 / 0"))
        assert.deepStrictEqual(exits, [])
        yield* Scope.close(scope, Exit.fail("last"))
        yield* untilStats(pool, ({ idle }) => idle === 1)
        assert.deepStrictEqual(exits, [false])
        yield* askPool(pool, pid)
        yield* untilStats(pool, ({ idle }) => idle === 1)
        assert.deepStrictEqual(exits, [false, true])
      }))
  })

  describe("a transaction", () => {
    it.effect("has its session alone: no neighbour's statement runs in it", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* shared({ at: yield* pg.scopedDatabase(), max: 3 })
        yield* withClient(pool, (sql) =>
          Effect.gen(function*() {
            yield* sql`create table entries (pid int)`
            const busy = new Set<unknown>()
            const transaction = sql.withTransaction(Effect.gen(function*() {
              const [row] = yield* sql`insert into entries values (pg_backend_pid()) returning pid`
              busy.add(row!["pid"])
              for (let i = 0; i < 3; i++) {
                assert.deepStrictEqual(
                  yield* sql`select pg_backend_pid() as pid, txid_current_if_assigned() is not null as inside`,
                  [{ pid: row!["pid"], inside: true }]
                )
              }
              busy.delete(row!["pid"])
            }))
            const neighbour = Effect.gen(function*() {
              for (let i = 0; i < 10; i++) {
                const before = new Set(busy)
                const [row] =
                  yield* sql`select pg_backend_pid() as pid, txid_current_if_assigned() is not null as inside`
                assert.isFalse(row!["inside"])
                // It was in the transaction all the while.
                assert.isFalse(before.has(row!["pid"]) && busy.has(row!["pid"]))
              }
            })
            yield* together(60, (n) => n % 3 === 0 ? transaction : neighbour)
            assert.deepStrictEqual(yield* sql`select count(*)::int as n from entries`, [{ n: 20 }])
          }))
      }))

    it.effect("does not starve under plain statements without end, nor do they under transactions", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 1 })
        yield* withClient(pool, (sql) =>
          Effect.scoped(Effect.gen(function*() {
            const answered = new Set<number>()
            yield* Effect.forEach(
              Array.from({ length: 40 }),
              (_, n) => begun(Effect.forever(Effect.map(sql`select ${n}::int`, () => answered.add(n)))),
              { discard: true }
            )
            yield* until(Effect.sync(() => answered.size === 40))
            for (let round = 0; round < 10; round++) {
              answered.clear()
              assert.deepStrictEqual(yield* sql.withTransaction(sql`select 1 as one`), [{ one: 1 }])
              yield* until(Effect.sync(() => answered.size === 40))
            }
            const transaction = sql.withTransaction(sql`select 1`)
            yield* Effect.forEach(Array.from({ length: 5 }), () => begun(Effect.forever(transaction)), {
              discard: true
            })
            for (let round = 0; round < 10; round++) {
              answered.clear()
              yield* until(Effect.sync(() => answered.size === 40))
            }
          })))
        assert.strictEqual((yield* pool.stats).opened, 1)
      }))

    it.effect("that is interrupted is cancelled and rolled back, and its neighbours are not", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 2 })
        yield* withClient(pool, (sql) =>
          Effect.scoped(Effect.gen(function*() {
            yield* Effect.acquireRelease(sql`create table of_the_cut (n int)`, () =>
              Effect.orDie(sql`drop table of_the_cut`))
            const { release, statement, waits } = yield* blocked(1002)
            const cut = yield* begun(
              sql.withTransaction(Effect.andThen(sql`insert into of_the_cut values (1)`, sql.unsafe(statement)))
            )
            yield* waits(1)
            const neighbours = yield* begun(together(10, () =>
              sql.unsafe(statement)))
            yield* waits(2)
            yield* Fiber.interrupt(cut)
            yield* waits(1)
            yield* release
            assert.strictEqual((yield* Fiber.join(neighbours)).length, 10)
            assert.deepStrictEqual(yield* sql`select n from of_the_cut`, [])
          })))
        const { opened, recycled } = yield* pool.stats
        assert.deepStrictEqual({ opened, recycled }, { opened: 2, recycled: {} })
      }))

    const beginnings = [
      "begin",
      "START TRANSACTION",
      "\n /* one /* two */ select */ ; -- three\n BEGIN read only",
      "/*/ still in it */ begin"
    ]

    it.effect("begun by a plain statement swallows nobody's: it has a session alone, and is rolled back", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        // It does not count as a failure of the session that it leaves.
        const pool = yield* shared({ at: yield* pg.scopedDatabase(), max: 2, recycle: RecyclePolicy.failed })
        yield* withClient(pool, (sql) =>
          Effect.gen(function*() {
            yield* sql`create table entries (n int)`
            yield* together(100, (n) =>
              n % 10 === 3
                ? sql.unsafe(beginnings[(n - 3) / 10 % beginnings.length]!).unprepared
                : sql`insert into entries values (${n}::int)`)
            assert.deepStrictEqual(yield* sql`select count(*)::int as n from entries`, [{ n: 90 }])
            for (const begin of beginnings) {
              for (const way of ["raw", "values", "unprepared", "valuesUnprepared"] as const) {
                yield* sql.unsafe(begin)[way]
                yield* untilStats(pool, ({ idle, opened }) => idle === opened)
                assert.deepStrictEqual(
                  yield* pg.query(
                    "select count(*)::int as n from pg_stat_activity where state like '%transaction%' and datname = $1",
                    [(yield* sql`select current_database() as name`)[0]!["name"]]
                  ),
                  [{ n: 0 }]
                )
              }
            }
          }))
        assert.deepStrictEqual((yield* pool.stats).recycled, {})
      }))

    it.effect("begun by one who shares the session is refused, and nothing is sent", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 1 })
        for (const begin of beginnings) {
          const error = yield* pool.use((session) =>
            Effect.tap(Effect.flip(session.query(begin)), () => session.query("select 1"))
          )
          assert.include(error.message, "useExclusive")
          assert.isFalse(error.isRetryable)
        }
        // What only looks like it is none.
        for (
          const other of [
            "/* begin */ select 1",
            "-- begin\nselect 1",
            "select 'begin'",
            "(select 1)",
            ";",
            "--",
            "/* begin"
          ]
        ) {
          const error = yield* Effect.exit(askPool(pool, other))
          assert.notInclude(String(error), "useExclusive")
        }
        const { opened, recycled } = yield* pool.stats
        assert.deepStrictEqual({ opened, recycled }, { opened: 1, recycled: {} })
      }))

    it.effect("may be begun while the session is opened, also before the pool is there", () =>
      Effect.gen(function*() {
        const pool = yield* shared({
          min: 1,
          warm: "eager",
          onAcquire: (session) =>
            Effect.andThen(
              Effect.andThen(session.query("begin"), session.query("commit")),
              Effect.scoped(session.listen("news"))
            )
        })
        assert.isFalse(yield* askPool(pool, inTransaction))
        assert.strictEqual((yield* pool.stats).opened, 1)
      }))

    it.effect("is for those to begin who have the session alone", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 2 })
        const begin = (session: PgConnection.PgConnection) =>
          Effect.andThen(
            session.query("begin"),
            Effect.andThen(session.query("select txid_current()"), ask(session, inTransaction))
          )
        assert.isTrue(yield* pool.useExclusive(begin))
        assert.isTrue(yield* Effect.scoped(Effect.flatMap(pool.getExclusive, begin)))
        assert.isTrue(yield* pool.use((session) => Effect.scoped(Effect.flatMap(session.pin, begin))))
        assert.isFalse(yield* askPool(pool, inTransaction))
        assert.deepStrictEqual((yield* pool.stats).recycled, {})
      }))
  })

  describe("a session that one has alone", () => {
    const holds: Record<string, (session: PgConnection.PgConnection) => Effect.Effect<unknown, SqlError, Scope.Scope>> =
      {
        "a pin": (session) => session.pin,
        "a listener": (session) => session.listen("news"),
        "a stream": (session) =>
          Effect.flatMap(
            Stream.toPull(session.stream("select n from generate_series(1, 5000) n")),
            (pull) => Effect.orDie(Effect.ignore(pull))
          )
      }

    for (const [name, hold] of Object.entries(holds)) {
      it.effect(`takes no newcomer: ${name}`, () =>
        Effect.gen(function*() {
          const pool = yield* shared({ max: 2 })
          yield* Effect.scoped(Effect.gen(function*() {
            const session = yield* pool.get
            assert.strictEqual(yield* askPool(pool, pid), session.processId)
            yield* hold(session)
            const others = yield* together(10, () => askPool(pool, pid))
            assert.isFalse(others.includes(session.processId))
          }))
          yield* untilStats(pool, ({ idle }) => idle === 2)
          const { opened, recycled } = yield* pool.stats
          assert.deepStrictEqual({ opened, recycled }, { opened: 2, recycled: {} })
        }))
    }

    it.effect("is another than those that are shared, for streams, listeners, transactions and reserve of a client", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 2 })
        yield* withClient(pool, (sql) =>
          Effect.gen(function*() {
            const uses: Record<string, Effect.Effect<unknown, unknown, Scope.Scope>> = {
              reserve: sql.reserve,
              listen: sql.listen("news"),
              stream: Effect.flatMap(
                Stream.toPull(sql`select n from generate_series(1, 5000) n`.stream),
                (pull) => pull
              ),
              transaction: begun(sql.withTransaction(Effect.andThen(sql`select 1`, Effect.never)))
            }
            for (const [name, use] of Object.entries(uses)) {
              yield* Effect.scoped(Effect.gen(function*() {
                const { processId } = yield* pool.get
                yield* use
                yield* until(Effect.map(pool.stats, ({ leases, used }) => leases === 2 && used === 2))
                // Nobody joins it either.
                const pids = yield* together(10, () => askPool(pool, pid))
                assert.deepStrictEqual(pids, pids.map(() => processId), name)
              }))
              yield* untilStats(pool, ({ idle }) => idle === 2)
            }
          }))
        assert.strictEqual((yield* pool.stats).opened, 2)
      }))
  })

  describe("a statement that is interrupted", () => {
    it.effect("cancels nothing of its neighbours; its session takes no newcomer, is quiet when it is idle, and stays", () =>
      Effect.gen(function*() {
        for (const reset of ["none", "rollback", "discard"] as const) {
          const pool = yield* shared({ max: 2, reset })
          yield* Effect.scoped(Effect.gen(function*() {
            const { release, statement, waits } = yield* blocked(1003)
            const first = Number(yield* askPool(pool, pid))
            yield* untilStats(pool, ({ idle }) => idle === 1)
            const cut = yield* begun(askPool(pool, statement))
            const neighbours = yield* begun(together(5, () => askPool(pool, pid)))
            yield* waits(1)
            yield* Fiber.interrupt(cut)
            // The server goes on with it.
            yield* waits(1)
            const others = yield* together(5, () => askPool(pool, pid))
            assert.isFalse(others.includes(first))
            yield* release
            assert.deepStrictEqual(yield* Fiber.join(neighbours), Array.from({ length: 5 }, () => first))
            yield* untilStats(pool, ({ idle }) => idle === 2)
            const { opened, recycled } = yield* pool.stats
            assert.deepStrictEqual({ opened, recycled }, { opened: 2, recycled: {} })
          }))
        }
      }))

    it.effect("keeps its session from the next borrower until the server is done with it", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* shared({ max: 1, reset: "none", applicationName: "interrupted once" })
        yield* Effect.scoped(Effect.gen(function*() {
          const { release, statement, waits } = yield* blocked(1004)
          const cut = yield* begun(askPool(pool, statement))
          yield* waits(1)
          yield* Fiber.interrupt(cut)
          const { idle, used } = yield* pool.stats
          assert.deepStrictEqual({ idle, used }, { idle: 0, used: 1 })
          const next = yield* begun(askPool(pool, pid))
          yield* release
          assert.isNumber(yield* Fiber.join(next))
          // The next one that comes back has nothing to wait for.
          yield* untilStats(pool, ({ idle }) => idle === 1)
          const [row] = yield* pg.query(
            "select query from pg_stat_activity where application_name = 'interrupted once'"
          )
          assert.strictEqual(row?.["query"], pid)
          assert.deepStrictEqual((yield* pool.stats).recycled, {})
        }))
      }))

    it.effect("and takes longer than resetTimeout costs the session", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 1, resetTimeout: "50 millis", closeTimeout: "200 millis" })
        yield* Effect.scoped(Effect.gen(function*() {
          const { release, statement, waits } = yield* blocked(1005)
          const first = yield* askPool(pool, pid)
          const cut = yield* begun(askPool(pool, statement))
          yield* waits(1)
          yield* Fiber.interrupt(cut)
          assert.notStrictEqual(yield* askPool(pool, pid), first)
          assert.deepStrictEqual((yield* pool.stats).recycled, { "reset failed": 1 })
          yield* release
        }))
      }))

    it.effect("at any moment leaves the session of use: nobody sees 57014, and no session is lost", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 1 })
        for (let delay = 0; delay < 20; delay++) {
          const [, answers] = yield* Effect.all([
            together(5, () => Effect.timeoutOption(askPool(pool, "select pg_sleep(0.01)"), delay)),
            together(5, () => askPool(pool, "select 1 from pg_sleep(0.002)"))
          ], { concurrency: "unbounded" })
          assert.deepStrictEqual(answers, answers.map(() => 1))
        }
        yield* untilStats(pool, ({ idle }) => idle === 1)
        const { opened, recycled } = yield* pool.stats
        assert.deepStrictEqual({ opened, recycled }, { opened: 1, recycled: {} })
      }))

    it.effect("by one who has pinned the session is cancelled", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* shared({ max: 1, applicationName: "pinned once" })
        yield* Effect.scoped(Effect.gen(function*() {
          const { release, statement, waits } = yield* blocked(1006)
          const cut = yield* begun(
            pool.use((session) => Effect.scoped(Effect.flatMap(session.pin, (own) => own.query(statement))))
          )
          yield* waits(1)
          yield* Fiber.interrupt(cut)
          yield* waits(0)
          yield* release
        }))
        yield* untilStats(pool, ({ idle }) => idle === 1)
        assert.deepStrictEqual((yield* pool.stats).recycled, {})
        // There was nothing to wait for.
        const [row] = yield* pg.query("select query from pg_stat_activity where application_name = 'pinned once'")
        assert.include(String(row?.["query"]), "pg_advisory_xact_lock_shared")
      }))

    it.effect("in a transaction is waited for, and that is rolled back", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 1 })
        yield* Effect.scoped(Effect.gen(function*() {
          const { release, statement, waits } = yield* blocked(1009)
          const cut = yield* begun(
            pool.useExclusive((session) =>
              Effect.andThen(
                session.query("begin"),
                Effect.andThen(session.query("select txid_current()"), session.query(statement))
              )
            )
          )
          yield* waits(1)
          yield* Fiber.interrupt(cut)
          yield* release
        }))
        assert.isFalse(yield* askPool(pool, inTransaction))
        assert.strictEqual((yield* pool.stats).opened, 1)
      }))

    it.effect("or a transaction, listener or reservation, at any of its operations, leaves all in order", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 2 })
        yield* withClient(pool, (sql) =>
          Effect.gen(function*() {
            // No stream: the driver's never ends when it is interrupted just before it sends its statement.
            const uses: Record<string, Effect.Effect<unknown, unknown>> = {
              statement: sql`select 1`,
              begin: sql`begin`,
              transaction: sql.withTransaction(sql.withTransaction(sql`select txid_current()`)),
              listen: Effect.scoped(sql.listen("news")),
              reserve: Effect.scoped(
                Effect.flatMap(sql.reserve, (own) => own.executeUnprepared("select 1", [], undefined))
              )
            }
            for (const [name, use] of Object.entries(uses)) {
              const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
                const neighbour = yield* Effect.forkChild(sql`select 1 as one`, { startImmediately: true })
                const fiber = yield* run(use)
                yield* Fiber.await(fiber)
                assert.deepStrictEqual(yield* Fiber.join(neighbour), [{ one: 1 }], `${name}, ${at}`)
                const rows = yield* sql`select txid_current_if_assigned() as txid`
                assert.deepStrictEqual(rows, [{ txid: null }], `${name}, ${at}`)
                yield* untilStats(
                  pool,
                  ({ closed, idle, leases, opened, pending }) => idle === opened - closed && leases + pending === 0
                )
              }))
              assert.isAbove(operations, 10, name)
            }
          }))
        // The driver gives a session up when its listener ends before it has quite begun.
        assert.deepStrictEqual(
          Object.keys((yield* pool.stats).recycled).filter((reason) => reason !== "disconnected"),
          []
        )
      }))
  })

  describe("a session that dies", () => {
    it.effect("fails each of 20 statements in flight with its own SqlError, and is replaced once", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* shared({ max: 1 })
        const first = Number(yield* askPool(pool, pid))
        yield* Effect.scoped(Effect.gen(function*() {
          const { release, statement, waits } = yield* blocked(1007)
          const flying = yield* begun(
            withClient(
              pool,
              (sql) => together(20, (n) => Effect.flip(n === 0 ? sql.unsafe(statement) : sql`select ${n}::int`))
            )
          )
          yield* waits(1)
          assert.strictEqual((yield* pool.stats).leases, 20)
          yield* pg.killBackends({ pid: first })
          const errors = yield* Fiber.join(flying)
          for (const error of errors) assert.instanceOf(error, SqlError)
          assert.deepStrictEqual(errors.map(tagOf), errors.map(() => "ConnectionError"))
          yield* release
          assert.notStrictEqual(yield* askPool(pool, pid), first)
        }))
        const { opened, recycled } = yield* pool.stats
        assert.deepStrictEqual({ opened, recycled }, { opened: 2, recycled: { disconnected: 1 } })
      }))

    it.effect("by the driver's own verdict takes no newcomer, whatever its borrowers make of it", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 1, reset: "none", recycle: [] })
        const first = yield* askPool(pool, pid)
        const scope = yield* Scope.make()
        // Keeps the dead session shared.
        yield* Scope.provide(pool.get, scope)
        const next = yield* pool.use((session) =>
          Effect.andThen(
            Effect.exit(session.query("copy (select 1) to stdout")),
            Effect.forkDetach(askPool(pool, pid), { startImmediately: true })
          )
        )
        assert.notStrictEqual(yield* Fiber.join(next), first)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
      }))

    it.effect("while it is idle is found before it is lent", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* shared({ max: 2 })
        yield* together(40, () => askPool(pool, pid))
        const first = Number(yield* askPool(pool, pid))
        yield* pg.killBackends({ pid: first })
        yield* untilStats(pool, ({ recycled }) => recycled["disconnected"] === 1)
        const pids = yield* together(40, () => askPool(pool, pid))
        assert.isFalse(pids.includes(first))
      }))

    it.effect("in a transaction fails that, and nothing of those who share others", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* shared({ max: 2 })
        yield* withClient(pool, (sql) =>
          Effect.gen(function*() {
            const [error, others] = yield* Effect.all([
              Effect.flip(sql.withTransaction(Effect.gen(function*() {
                const [row] = yield* sql<{ pid: number }>`select pg_backend_pid() as pid`
                yield* pg.killBackends({ pid: row!.pid })
                yield* sql`select 1`
              }))),
              together(40, (n) => sql`select ${n}::int as n, pg_sleep(0.001)`)
            ], { concurrency: "unbounded" })
            assert.instanceOf(error, SqlError)
            assert.strictEqual(others.length, 40)
          }))
        assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
      }))
  })

  describe("what those who share leave behind", () => {
    interface Leak {
      readonly leave: string
      readonly sees: string
      readonly clean: unknown
    }
    const leaks: Record<string, Leak> = {
      "SET": { leave: "set work_mem = '7MB'", sees: "show work_mem", clean: "4MB" },
      "SET ROLE": { leave: "set role pg_monitor", sees: "select current_user::text", clean: "postgres" },
      "a temporary table": {
        leave: "create temporary table mine (n int)",
        sees: count("pg_class where relname = 'mine' and relpersistence = 't' and pg_table_is_visible(oid)"),
        clean: 0
      },
      "an advisory lock": {
        leave: "select pg_advisory_lock(42)",
        sees: count("pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"),
        clean: 0
      },
      "LISTEN": { leave: "listen news", sees: count("pg_listening_channels()"), clean: 0 },
      "a prepared statement": {
        leave: "prepare mine as select 1",
        sees: count("pg_prepared_statements where from_sql"),
        clean: 0
      }
    }
    for (
      const options of [{ reset: "none" }, { reset: "rollback" }, { reset: "discard" }, {
        reset: "discard",
        prepare: false
      }] as const
    ) {
      for (const [name, { clean, leave, sees }] of Object.entries(leaks)) {
        const passes = options.reset !== "discard"
        it.effect(`with ${JSON.stringify(options)}, ${name} is seen by the others, and ${passes ? "passes" : "does not pass"} to the next`, () =>
          Effect.gen(function*() {
            const pg = yield* EmbeddedPg
            const pool = yield* shared({ at: yield* pg.scopedDatabase(), max: 1, ...options })
            const scope = yield* Scope.make()
            yield* Scope.provide(pool.get, scope)
            yield* askPool(pool, leave)
            assert.notDeepEqual(yield* askPool(pool, sees), clean)
            yield* Scope.close(scope, Exit.void)
            const next = yield* askPool(pool, sees)
            if (passes) assert.notDeepEqual(next, clean)
            else assert.deepStrictEqual(next, clean)
            assert.strictEqual((yield* pool.stats).opened, 1)
          }))
      }
    }

    it.effect("a transaction of one who had the session alone is rolled back before it is shared", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* shared({ at: yield* pg.scopedDatabase(), max: 1 })
        yield* askPool(pool, "create table entries (n int)")
        yield* pool.useExclusive((session) =>
          Effect.andThen(session.query("begin"), session.query("insert into entries values (1)"))
        )
        const seen = yield* together(10, () => askPool(pool, inTransaction))
        assert.deepStrictEqual(seen, seen.map(() => false))
        assert.strictEqual(yield* askPool(pool, count("entries")), 0)
      }))

    it.effect("a reset of one's own begins what it likes, and what it leaves open is rolled back", () =>
      Effect.gen(function*() {
        const pool = yield* shared({
          max: 1,
          reset: (session) => Effect.andThen(session.query("begin"), session.query("select txid_current()"))
        })
        for (let round = 0; round < 3; round++) {
          const seen = yield* together(5, () => askPool(pool, inTransaction))
          assert.deepStrictEqual(seen, seen.map(() => false))
        }
        const { opened, recycled } = yield* pool.stats
        assert.deepStrictEqual({ opened, recycled }, { opened: 1, recycled: {} })
      }))

    it.effect("a statement that was left running is waited for", () =>
      Effect.gen(function*() {
        const pool = yield* shared({ max: 1 })
        yield* Effect.scoped(Effect.gen(function*() {
          const { release, statement, waits } = yield* blocked(1008)
          const left = yield* pool.use((session) =>
            Effect.forkDetach(session.query(statement), { startImmediately: true })
          )
          yield* waits(1)
          const next = yield* begun(askPool(pool, pid))
          assert.strictEqual((yield* pool.stats).used, 1)
          yield* release
          yield* Fiber.join(next)
          assert.isTrue(Exit.isSuccess(yield* Fiber.await(left)))
          assert.strictEqual((yield* pool.stats).opened, 1)
        }))
      }))

    it.effect("a session that nobody has left dirty costs no round trip", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* shared({ max: 1, applicationName: "shared and counted" })
        yield* together(20, () => askPool(pool, pid))
        yield* untilStats(pool, ({ idle }) => idle === 1)
        const [row] = yield* pg.query(
          "select query from pg_stat_activity where application_name = 'shared and counted'"
        )
        assert.strictEqual(row?.["query"], pid)
      }))
  })
})
