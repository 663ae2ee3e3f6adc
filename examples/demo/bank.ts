/**
 * The bank that pgbench runs (TPC-B-like): branches, tellers, accounts, and a
 * history with one row per transaction. The sums of all four must agree.
 */
import { Effect, Random } from "effect"
import { SqlClient } from "effect/sql"

const branches = 10
const tellers = branches * 10
const accounts = branches * 1000

export const create = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table branches (bid int primary key, bbalance bigint not null default 0)`
  yield* sql`create table tellers (tid int primary key, bid int not null, tbalance bigint not null default 0)`
  yield* sql`create table accounts (aid int primary key, bid int not null, abalance bigint not null default 0)`
  yield* sql`create table history (id text primary key, tid int, bid int, aid int, delta bigint not null)`
  yield* sql`insert into branches select n from generate_series(1, ${branches}) n`
  yield* sql`insert into tellers select n, (n - 1) / 10 + 1 from generate_series(1, ${tellers}) n`
  yield* sql`insert into accounts select n, (n - 1) / 1000 + 1 from generate_series(1, ${accounts}) n`
})

/** One transaction, known by its id. */
export const transfer = Effect.fnUntraced(function*(id: string) {
  const sql = yield* SqlClient.SqlClient
  const aid = yield* Random.nextIntBetween(1, accounts)
  const tid = yield* Random.nextIntBetween(1, tellers)
  const bid = yield* Random.nextIntBetween(1, branches)
  const delta = yield* Random.nextIntBetween(-5000, 5000)
  yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`update accounts set abalance = abalance + ${delta} where aid = ${aid}`
    yield* sql`select abalance from accounts where aid = ${aid}`
    yield* sql`update tellers set tbalance = tbalance + ${delta} where tid = ${tid}`
    yield* sql`update branches set bbalance = bbalance + ${delta} where bid = ${bid}`
    yield* sql`insert into history values (${id}, ${tid}, ${bid}, ${aid}, ${delta})`
  }))
})

/** Whether a transaction took place: after a connection that was lost at COMMIT only the server knows. */
export const took = Effect.fnUntraced(function*(id: string) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql`select 1 from history where id = ${id}`
  return rows.length > 0
})

export interface Books {
  readonly accounts: number
  readonly tellers: number
  readonly branches: number
  readonly history: number
  readonly rows: number
  readonly right: boolean
}

/** The sums, and whether they agree with one another and with the transactions that were committed. */
export const audit = Effect.fnUntraced(function*(committed: ReadonlySet<string>) {
  const sql = yield* SqlClient.SqlClient
  const [sums] = yield* sql<Record<keyof Books, number>>`select
    (select sum(abalance) from accounts)::float as accounts,
    (select sum(tbalance) from tellers)::float as tellers,
    (select sum(bbalance) from branches)::float as branches,
    (select coalesce(sum(delta), 0) from history)::float as history,
    (select count(*) from history)::int as rows`
  const ids = yield* sql<{ readonly id: string }>`select id from history`
  const all = ids.length === committed.size && ids.every((row) => committed.has(row.id))
  const { accounts, branches, history, rows, tellers } = sums!
  const right = all && accounts === tellers && tellers === branches && branches === history
  return { accounts, tellers, branches, history, rows, right } satisfies Books
})
