import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Queue, Redacted, RequestResolver, Schema, Stream, Tracer } from "effect"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { Model } from "effect/schema"
import { Migrator, SqlClient, SqlModel, SqlResolver, SqlSchema, Statement } from "effect/sql"
import { SqlError } from "effect/sql/SqlError"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"

// Programs that are written for @effect/sql-pg and know nothing of our pool. Each is run on both, in a database of its
// own, and the results are compared, and with what is expected, so that both being wrong is not right.

type Program = Effect.Effect<unknown, unknown, SqlClient.SqlClient | PgClient.PgClient>

const setUp = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table people (id int primary key generated always as identity, name text not null unique, born int)`
  yield* sql`insert into people ${sql.insert([{ name: "Ada", born: 1815 }, { name: "Grace", born: 1906 }])}`
  return sql
})

const tagOf = (error: unknown) => error instanceof SqlError ? error.reason._tag : error

const rollbacks = Effect.gen(function*() {
  const sql = yield* setUp
  const names = Effect.map(
    sql<{ name: string }>`select name from people order by id`,
    (rows) => rows.map((row) => row.name)
  )
  const insert = (name: string) => sql`insert into people ${sql.insert({ name })}`
  const inside = yield* sql.withTransaction(Effect.andThen(insert("Barbara"), names))
  const failed = yield* Effect.flip(sql.withTransaction(Effect.andThen(insert("Edsger"), Effect.fail("no"))))
  const nested = yield* sql.withTransaction(Effect.gen(function*() {
    yield* insert("Donald")
    yield* Effect.ignore(sql.withTransaction(Effect.andThen(insert("Alan"), insert("Ada"))))
    yield* sql.withTransaction(insert("Tony"))
    return yield* names
  }))
  const hidden = yield* Effect.map(Effect.flip(sql.withTransaction(Effect.ignore(insert("Ada")))), tagOf)
  const died = yield* Effect.exit(sql.withTransaction(Effect.andThen(insert("Niklaus"), Effect.die("defect"))))
  const interrupted = yield* Effect.forkChild(sql.withTransaction(Effect.andThen(insert("John"), Effect.never)), {
    startImmediately: true
  })
  yield* Fiber.interrupt(interrupted)
  return { inside, failed, nested, hidden, died: Exit.isFailure(died), end: yield* names }
})

const statements = Effect.gen(function*() {
  const sql = yield* setUp
  const client = yield* PgClient.PgClient
  const values = yield* sql`select id, name from people order by id`.values
  const raw = yield* sql`update people set born = 1 where name = ${"Ada"}`.raw
  const unprepared = yield* sql`select name from people where id = ${1}`.unprepared
  const valuesUnprepared = yield* sql`select 1 as a, 2 as a`.valuesUnprepared
  const without = yield* client.withoutTransforms()`select 1 as some_name`
  const json = yield* sql<{ json: unknown }>`select ${client.json({ some_key: [1, null] })} as json`
  const types = yield* sql`select ${new Date(0)}::timestamptz as date, ${[
    1,
    2
  ]} as list, ${true} as yes, ${null}::int as none`
  const updated = yield* sql`update people set ${sql.update({ id: 2, born: 1907 }, ["id"])} where id = 2 returning *`
  const found = yield* sql`select name from people where ${sql.in("name", ["Grace", "Ada"])} order by name`
  const errors = yield* Effect.all([
    Effect.flip(sql`insert into people (name) values (${"Ada"})`),
    Effect.flip(sql`select * from nothing`),
    Effect.flip(sql`select 1 / 0`),
    Effect.flip(sql`insert into people (name) values (${null})`)
  ])
  const reserved = yield* Effect.scoped(Effect.gen(function*() {
    const connection = yield* sql.reserve
    yield* connection.execute("set application_name = 'reserved'", [], undefined)
    return yield* connection.executeValues("show application_name", [])
  }))
  return {
    values,
    raw: (raw as { rowCount: number }).rowCount,
    unprepared,
    valuesUnprepared,
    without,
    json,
    types,
    updated,
    found,
    errors: errors.map(tagOf),
    reserved,
    driver: client.driver ?? "pg"
  }
})

const streams = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const numbers = sql<{ n: number }>`select n from generate_series(1, 5000) n`.stream
  const sum = yield* Stream.runFold(numbers, () => 0, (total, row) => total + row.n)
  const few = yield* Stream.runCollect(Stream.take(numbers, 3))
  const failed = yield* Effect.flip(Stream.runDrain(sql`select 1 / (n - 3) from generate_series(1, 5) n`.stream))
  const inTransaction = yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`create temporary table mine on commit drop as select 7 as n`
    return yield* Stream.runCollect(sql`select n from mine`.stream)
  }))
  return { sum, few, failed: tagOf(failed), inTransaction }
})

const notifications = Effect.gen(function*() {
  const client = yield* PgClient.PgClient
  const heard = yield* Effect.scoped(Effect.gen(function*() {
    const queue = yield* client.listen("news")
    const second = yield* client.listen("Other \"news\"")
    yield* client.notify("news", "one")
    yield* client.notify("elsewhere", "none")
    yield* client`select pg_notify('Other "news"', 'two')`
    return [yield* Queue.take(queue), yield* Queue.take(second)].map(({ channel, payload }) => [channel, payload])
  }))
  const refused = yield* Effect.flip(client.notify("x".repeat(64), ""))
  const tooLong = yield* Effect.scoped(Effect.flip(client.listen("x".repeat(64))))
  return { heard, refused: tagOf(refused), tooLong: tagOf(tooLong) }
})

const resolvers = Effect.gen(function*() {
  const sql = yield* setUp
  let batches = 0
  const Person = Schema.Struct({ id: Schema.Finite, name: Schema.String })
  const byId = SqlResolver.findById({
    Id: Schema.Finite,
    Result: Person,
    ResultId: (person) => person.id,
    execute: (ids) => {
      batches++
      return sql`select id, name from people where ${sql.in("id", ids)}`
    }
  }).pipe(RequestResolver.setDelay("5 millis"))
  const find = SqlResolver.request(byId)
  const found = yield* Effect.all([find(1), find(2)], { concurrency: "unbounded" })
  const inTransaction = yield* sql.withTransaction(Effect.andThen(
    sql`update people set name = 'Augusta' where id = 1`,
    find(1)
  ))
  const insert = SqlSchema.findOne({
    Request: Schema.Struct({ name: Schema.String }),
    Result: Person,
    execute: (person) => sql`insert into people ${sql.insert(person).returning("*")}`
  })
  return { found, batches, inTransaction, inserted: yield* insert({ name: "Barbara" }) }
})

class Person extends Model.Class<Person>("Person")({
  id: Model.Field({ select: Schema.Finite, update: Schema.Finite, json: Schema.Finite }),
  name: Schema.String,
  born: Schema.NullOr(Schema.Finite)
}) {}

const plain = ({ born, id, name }: Person) => ({ id, name, born })

const models = Effect.gen(function*() {
  yield* setUp
  const people = yield* SqlModel.makeRepository(Person, { tableName: "people", spanPrefix: "People", idColumn: "id" })
  const inserted = yield* people.insert(Person.insert.make({ name: "Barbara", born: 1939 }))
  const updated = yield* people.update(Person.update.make({ id: inserted.id, name: "Barbara L.", born: null }))
  yield* people.delete(1)
  const gone = yield* Effect.flip(people.findById(1))
  return {
    inserted: plain(inserted),
    updated: plain(updated),
    gone: gone._tag,
    found: plain(yield* people.findById(2))
  }
})

const migrations = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const migrate = (more: Record<string, Effect.Effect<unknown, SqlError, SqlClient.SqlClient>>) =>
    Migrator.make({})({
      loader: Migrator.fromRecord({
        "0001_first": Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table first (n int)`),
        ...more
      })
    })
  const first = yield* migrate({})
  const again = yield* migrate({ "0002_second": Effect.asVoid(sql`create table second (n int)`) })
  const failed = yield* Effect.flip(migrate({ "0003_third": Effect.asVoid(sql`create table first (n int)`) }))
  const at = yield* sql`select migration_id, name from effect_sql_migrations order by 1`
  return { first, again, failed: failed._tag, at }
})

const concurrent = Effect.gen(function*() {
  const sql = yield* setUp
  const bump = sql.withTransaction(Effect.gen(function*() {
    const [row] = yield* sql<{ born: number }>`select born from people where id = 1 for update`
    yield* sql`update people set born = ${row!.born + 1} where id = 1`
  }))
  yield* Effect.all(Array.from({ length: 40 }, () => bump), { concurrency: 20, discard: true })
  return yield* sql`select born from people where id = 1`
})

// One statement, by all that a client has to make it with, and run within a transaction and beside it.
const whereabouts = Effect.gen(function*() {
  const client = yield* PgClient.PgClient
  const clients = [client, client.safe, client.withoutTransforms(), client.safe.withoutTransforms().safe]
  type Row = { readonly pid: number }
  const all = clients.flatMap((sql) => {
    const one = sql<Row>`select pg_backend_pid() as pid`
    const text = "select pg_backend_pid() as pid"
    const pidOf = (values: Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, SqlError>) =>
      Effect.map(values, (rows) => rows.map(([pid]) => ({ pid: pid as number })))
    const values = pidOf(one.values)
    const unprepared = pidOf(one.valuesUnprepared)
    const raw = Effect.map(one.raw, (result) => (result as { readonly rows: ReadonlyArray<Row> }).rows)
    const stream = Stream.runCollect(one.stream)
    return [one, one.unprepared, one.withoutTransform, sql.unsafe<Row>(text), raw, stream, values, unprepared]
  })
  const pids = Effect.map(Effect.all(all), (results) => new Set(results.map(([row]) => row!.pid)))
  const outside = yield* Effect.context()
  return yield* client.withTransaction(Effect.gen(function*() {
    const own = yield* pids
    const nested = yield* client.withTransaction(pids)
    const twice = Effect.all([pids, pids], { concurrency: 2 })
    const beside = yield* Effect.promise(() => Effect.runPromiseWith(outside)(twice))
    const again = yield* pids
    return {
      safe: client.safe === client,
      own: own.size,
      same: [...nested, ...again].every((pid) => own.has(pid)),
      apart: beside.every((others) => others.size > 0 && [...others].every((pid) => !own.has(pid)))
    }
  }))
})

// What stands around a statement: who changes it, the span that it is sent in, and what follows its transaction.
const surroundings = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const told: Array<string> = []
  const transformer: Statement.Transformer = (_, constructor) => {
    told.push("withTransaction" in constructor ? "the client" : "a constructor")
    return Effect.succeed(constructor`select 2 as n`)
  }
  const transformed = Effect.provideService(sql`select 1 as n`, Statement.CurrentTransformer, transformer)
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const traced = Effect.provideService(sql`select 3 as n`, Statement.SpanPropagationEnabled, true)
  const rows = Effect.all([transformed, Effect.withTracer(traced, tracer)])
  const results = [
    yield* rows,
    yield* sql.withTransaction(Effect.gen(function*() {
      yield* sql.afterCommit(Effect.sync(() => told.push("after")))
      const inside = yield* rows
      told.push("within")
      return inside
    }))
  ]
  const waits = spans.map((span) => span.attributes.has("db.client.connection.wait_time_ms"))
  return { results, told, waits, names: spans.map(({ name }) => name) }
})

const expected: Record<string, (result: never) => void> = {
  rollbacks: ({ died, end, failed, hidden, nested }: Effect.Success<typeof rollbacks>) => {
    assert.deepStrictEqual(nested, ["Ada", "Grace", "Barbara", "Donald", "Tony"])
    assert.deepStrictEqual([end, failed, hidden, died], [nested, "no", "UnknownError", true])
  },
  streams: ({ few, sum }: Effect.Success<typeof streams>) => {
    assert.deepStrictEqual([sum, few.length], [12_502_500, 3])
  },
  notifications: ({ heard }: Effect.Success<typeof notifications>) => {
    assert.deepStrictEqual(heard, [["news", "one"], ["Other \"news\"", "two"]])
  },
  resolvers: ({ batches, found, inTransaction }: Effect.Success<typeof resolvers>) => {
    assert.deepStrictEqual([found.length, batches, inTransaction.name], [2, 2, "Augusta"])
  },
  models: ({ gone }: Effect.Success<typeof models>) => assert.strictEqual(gone, "NoSuchElementError"),
  migrations: ({ at, failed }: Effect.Success<typeof migrations>) => {
    assert.deepStrictEqual([at.length, failed], [2, "MigrationError"])
  },
  statements: ({ errors }: Effect.Success<typeof statements>) => {
    assert.deepStrictEqual(errors, ["UniqueViolation", "SqlSyntaxError", "UnknownError", "ConstraintError"])
  },
  whereabouts: (result: Effect.Success<typeof whereabouts>) => {
    assert.deepStrictEqual(result, { safe: true, own: 1, same: true, apart: true })
  },
  surroundings: ({ results, told, waits }: Effect.Success<typeof surroundings>) => {
    assert.deepStrictEqual(results, Array.from({ length: 2 }, () => [[{ n: 2 }], [{ n: 3 }]]))
    assert.deepStrictEqual(told, ["the client", "the client", "within", "after"])
    assert.deepStrictEqual(waits, [true, true])
  },
  concurrent: (rows: Effect.Success<typeof concurrent>) => assert.deepStrictEqual(rows, [{ born: 1855 }])
}

const programs: Record<string, Program> = {
  rollbacks,
  statements,
  streams,
  notifications,
  resolvers,
  models,
  migrations,
  whereabouts,
  surroundings,
  concurrent
}

const configs = {
  "the defaults": {},
  "names transformed, nothing prepared, sessions discarded": {
    transformQueryNames: (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    transformResultNames: (name: string) => name.replaceAll(/_[a-z]/g, (pair) => pair[1]!.toUpperCase()),
    prepare: false,
    reset: "discard"
  },
  "few sessions": { maxConnections: 3, minConnections: 1, idleTimeout: "1 second", connectionTTL: "5 seconds" },
  "sessions shared": { multiplex: true, maxConnections: 3 }
} as const

layer(EmbeddedPg.layerVitest, { excludeTestServices: true })("programs of @effect/sql-pg", (it) => {
  for (const [settings, config] of Object.entries(configs)) {
    for (const [name, program] of Object.entries(programs)) {
      it.effect(`give the same on PgClient.layer and here: ${name}, ${settings}`, () =>
        Effect.gen(function*() {
          const pg = yield* EmbeddedPg
          const theirs = Effect.fnUntraced(function*() {
            const url = Redacted.make(yield* pg.scopedDatabase())
            return yield* Effect.provide(program, PgClient.layer({ url, ...config }), { local: true })
          }, Effect.scoped)
          const ours = Effect.fnUntraced(function*() {
            const url = Redacted.make(yield* pg.scopedDatabase())
            return yield* Effect.provide(program, PgQueuePool.layer({ url, ...config }), { local: true })
          }, Effect.scoped)
          const result = yield* ours()
          assert.deepStrictEqual(result, yield* theirs())
          expected[name]!(result as never)
        }))
    }
  }

  it.effect("can look at the pool beside them", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const pool = yield* PgQueuePool.PgQueuePool
        yield* sql`select 1`
        yield* sql.withTransaction(sql`select 1`)
        assert.strictEqual((yield* pool.stats).borrowed, 2)
        assert.strictEqual(pool.name, "beside")
      }).pipe(Effect.provide(PgQueuePool.layer({ url: Redacted.make(pg.url), name: "beside" }), { local: true }))
    }))

  it.effect("can be built on a pool that is there already", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const config = { url: Redacted.make(pg.url) }
      const rows = yield* Effect.gen(function*() {
        return yield* (yield* SqlClient.SqlClient)`select 1 as one`
      }).pipe(Effect.provide(
        PgClient.layerFrom(Effect.flatMap(PgQueuePool.make(config), PgQueuePool.makeClient(config))).pipe(Layer.orDie),
        { local: true }
      ))
      assert.deepStrictEqual(rows, [{ one: 1 }])
    }))
})
