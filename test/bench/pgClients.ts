/**
 * The clients, each as its documents advise, behind one face: a number of fibers or promise
 * chains, each with one statement or transaction after the other for as long as it may.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted } from "effect"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { Reactivity } from "effect/reactivity"
import { SqlClient } from "effect/sql"
import type { Duplex } from "node:stream"
import { Pool } from "pg"
import Postgres from "postgres"
import type { Meter } from "./pgMeter.ts"
import { statement } from "./pgSocket.ts"
import { someRow, someTransfer, type WorkName } from "./pgWork.ts"

export const sessions = 10

export interface Client {
  readonly name: string
  /** So many at once, until the meter says that it is over. */
  readonly run: (work: WorkName, concurrency: number, meter: Meter) => Effect.Effect<unknown, unknown>
}

type AnyEffect = Effect.Effect<unknown, unknown>

const inEffect = (
  name: string,
  works: Partial<Record<WorkName, () => AnyEffect>>,
  most = Infinity
): Client => ({
  name,
  run: (work, concurrency, meter) => {
    const one = works[work]!
    const loop = Effect.gen(function*() {
      while (!meter.over) {
        const start = performance.now()
        yield* one()
        meter.record(start)
      }
    })
    return Effect.forEach(Array.from({ length: Math.min(concurrency, most) }), () => loop, {
      concurrency: "unbounded",
      discard: true
    })
  }
})

const inPromises = (
  name: string,
  works: Partial<Record<WorkName, () => PromiseLike<unknown>>>,
  most = Infinity
): Client => ({
  name,
  run: (work, concurrency, meter) => {
    const one = works[work]!
    const loop = async () => {
      while (!meter.over) {
        const start = performance.now()
        await one()
        meter.record(start)
      }
    }
    return Effect.promise(() => Promise.all(Array.from({ length: Math.min(concurrency, most) }, loop)))
  }
})

const worksOf = (sql: SqlClient.SqlClient): Record<WorkName, () => AnyEffect> => ({
  "select-1": () => sql`select 1 as one`,
  "ten-rows": () => {
    const first = someRow()
    return sql`select aid, bid, abalance, filler from accounts where aid between ${first} and ${first + 9}`
  },
  "tpc-b": () => {
    const { aid, bid, delta, tid } = someTransfer()
    return sql.withTransaction(Effect.gen(function*() {
      yield* sql`update accounts set abalance = abalance + ${delta} where aid = ${aid}`
      yield* sql`select abalance from accounts where aid = ${aid}`
      yield* sql`update tellers set tbalance = tbalance + ${delta} where tid = ${tid}`
      yield* sql`update branches set bbalance = bbalance + ${delta} where bid = ${bid}`
      yield* sql`insert into history (tid, bid, aid, delta) values (${tid}, ${bid}, ${aid}, ${delta})`
    }))
  }
})

const clientOf = <E, E2>(
  name: string,
  layer: Layer.Layer<SqlClient.SqlClient, E, E2>
) => Effect.map(Layer.build(layer), (context) => inEffect(name, worksOf(Context.get(context, SqlClient.SqlClient))))

// What has not been used for a while in a run of this kind must not be closed: its turn comes again.
const idleTimeout = "1 hour"

export const ours = (name: string, url: string, options: Omit<PgQueuePool.Options, "url" | "warm"> = {}) =>
  clientOf(name, PgQueuePool.layer({ url: Redacted.make(url), max: sessions, idleTimeout, ...options }))

export const pgClient = (name: string, url: string, options: Omit<PgClient.PgPoolConfig, "url"> = {}) =>
  clientOf(name, PgClient.layer({ url: Redacted.make(url), maxConnections: sessions, idleTimeout, ...options }))

const connections = (url: string, multiplex: boolean, stream?: () => Duplex) =>
  Effect.forEach(
    Array.from({ length: sessions }),
    () => PgConnection.make({ url: Redacted.make(url), multiplex, stream })
  )

/** The driver alone: every fiber has a session, and no client stands between them. */
export const driver = (name: string, url: string, multiplex: boolean, stream?: () => Duplex) =>
  Effect.map(connections(url, multiplex, stream), (idle) => {
    const { plain, shared } = lendersOf(idle)
    const borrow = multiplex ? shared : plain
    // Without `multiplex` no more than one fiber for each session: nobody waits.
    return inEffect(
      name,
      { "select-1": () => borrow((session) => session.query("select 1 as one")) },
      multiplex ? Infinity : sessions
    )
  })

type Body = (session: PgConnection.PgConnection) => AnyEffect

/** The least that lends sessions: from an array, and back; or one after the other. */
const lendersOf = (idle: Array<PgConnection.PgConnection>) => {
  let turn = 0
  return {
    plain: (f: Body): AnyEffect =>
      Effect.suspend(() => {
        const session = idle.pop()!
        return Effect.onExitPrimitive(f(session), () => {
          idle.push(session)
          return undefined
        })
      }),
    shared: (f: Body): AnyEffect => Effect.suspend(() => f(idle[turn++ % sessions]!))
  }
}

/** The client of @effect/sql-pg on no pool: a borrower that takes sessions from an array and puts them back. */
export const floor = (name: string, url: string, multiplex: boolean, stream?: () => Duplex) =>
  Effect.gen(function*() {
    const idle = yield* connections(url, multiplex, stream)
    const { plain, shared } = lendersOf(idle)
    const borrow = multiplex ? shared : plain
    const lends = { use: borrow, useExclusive: borrow, getExclusive: Effect.never } as never
    const client = yield* PgQueuePool.makeClient(lends, {})
    return inEffect(name, { "select-1": worksOf(client)["select-1"] }, multiplex ? Infinity : sessions)
  }).pipe(Effect.provide(Reactivity.layer))

/** Sockets alone. */
export const sockets = (name: string, url: string) =>
  Effect.map(Effect.forEach(Array.from({ length: sessions }), () => statement(url)), (all) => {
    const idle = [...all]
    return inPromises(name, {
      "select-1": () => {
        const run = idle.pop()!
        return run().then(() => idle.push(run))
      }
    }, sessions)
  })

export const pgPool = (url: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Pool({ connectionString: url, max: sessions, idleTimeoutMillis: 0 })),
      (pool) => Effect.promise(() => pool.end())
    ),
    (pool) =>
      inPromises("pg.Pool", {
        // A name makes it a prepared statement.
        "select-1": () => pool.query({ name: "one", text: "select 1 as one" }),
        "ten-rows": () => {
          const first = someRow()
          const text = "select aid, bid, abalance, filler from accounts where aid between $1 and $2"
          return pool.query({ name: "ten", text, values: [first, first + 9] })
        },
        "tpc-b": async () => {
          const { aid, bid, delta, tid } = someTransfer()
          const client = await pool.connect()
          const query = (name: string, text: string, values: Array<unknown>) => client.query({ name, text, values })
          try {
            await client.query("begin")
            await query("accounts", "update accounts set abalance = abalance + $1 where aid = $2", [delta, aid])
            await query("balance", "select abalance from accounts where aid = $1", [aid])
            await query("tellers", "update tellers set tbalance = tbalance + $1 where tid = $2", [delta, tid])
            await query("branches", "update branches set bbalance = bbalance + $1 where bid = $2", [delta, bid])
            const text = "insert into history (tid, bid, aid, delta) values ($1, $2, $3, $4)"
            await query("history", text, [tid, bid, aid, delta])
            await client.query("commit")
          } catch (error) {
            await client.query("rollback")
            throw error
          } finally {
            client.release()
          }
        }
      })
  )

export const postgresJs = (url: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => Postgres(url, { max: sessions })),
      (sql) => Effect.promise(() => sql.end())
    ),
    (sql) =>
      inPromises("postgres.js", {
        "select-1": () => sql`select 1 as one`,
        "ten-rows": () => {
          const first = someRow()
          return sql`select aid, bid, abalance, filler from accounts where aid between ${first} and ${first + 9}`
        },
        "tpc-b": () => {
          const { aid, bid, delta, tid } = someTransfer()
          return sql.begin(async (sql) => {
            await sql`update accounts set abalance = abalance + ${delta} where aid = ${aid}`
            await sql`select abalance from accounts where aid = ${aid}`
            await sql`update tellers set tbalance = tbalance + ${delta} where tid = ${tid}`
            await sql`update branches set bbalance = bbalance + ${delta} where bid = ${bid}`
            await sql`insert into history (tid, bid, aid, delta) values (${tid}, ${bid}, ${aid}, ${delta})`
          })
        }
      })
  )
