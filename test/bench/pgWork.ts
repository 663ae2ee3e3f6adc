/**
 * What is asked of PostgreSQL: the same texts and the same round trips for every client, all
 * of them prepared once per session.
 */
import { Effect } from "effect"
import { EmbeddedPg } from "../kit/EmbeddedPg.ts"

export const workNames = ["select-1", "ten-rows", "tpc-b"] as const
export type WorkName = typeof workNames[number]

// As many branches as pgbench advises: so many that two transactions seldom want the same one.
const branches = 100
const tellers = branches * 10
const accounts = branches * 1000

export const createTables = Effect.gen(function*() {
  const { query } = yield* EmbeddedPg
  yield* query("create table branches (bid int primary key, bbalance int not null) with (fillfactor = 50)")
  yield* query(
    "create table tellers (tid int primary key, bid int not null, tbalance int not null) with (fillfactor = 50)"
  )
  yield* query(
    "create table accounts (aid int primary key, bid int not null, abalance int not null, filler text not null)"
  )
  yield* query("create table history (tid int, bid int, aid int, delta int)")
  yield* query(`insert into branches select n, 0 from generate_series(1, ${branches}) n`)
  yield* query(`insert into tellers select n, (n - 1) / 10 + 1, 0 from generate_series(1, ${tellers}) n`)
  yield* query(
    `insert into accounts select n, (n - 1) / 1000 + 1, 0, 'account ' || n from generate_series(1, ${accounts}) n`
  )
  yield* query("vacuum analyze")
})

const upTo = (most: number): number => 1 + Math.floor(Math.random() * most)

/** Where the ten rows begin. */
export const someRow = (): number => upTo(accounts - 10)

export interface Transfer {
  readonly aid: number
  readonly tid: number
  readonly bid: number
  readonly delta: number
}

export const someTransfer = (): Transfer => ({
  aid: upTo(accounts),
  tid: upTo(tellers),
  bid: upTo(branches),
  delta: upTo(10_001) - 5001
})
