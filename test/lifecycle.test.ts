/**
 * What the best pools of every ecosystem offer for the life of items, leases and
 * pools, feature by feature, and the tests that show it here. A feature whose test
 * is renamed or gone fails.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"

const textOf = (file: string) => Fs.readFileSync(Path.join(import.meta.dirname, `${file}.test.ts`), "utf8")

/** Feature by feature: who is known for it, and tests by file and name. */
const features: ReadonlyArray<readonly [feature: string, peers: string, tests: Readonly<Record<string, string>>]> = [
  ["a hard bound on items", "HikariCP, Commons Pool", {
    interruption: "A9: nine borrowers of three items, cancelled newest first, leave three idle and nobody waiting",
    model: "the contract holds"
  }],
  ["a minimum that is kept open", "HikariCP, psycopg_pool", {
    retry: "min is refilled after any loss, one that hung included",
    recycler: "E12: keeps min and lets the surplus go, the oldest return first"
  }],
  ["a number kept idle, and a bound on it", "pgxpool, lightning-pool, mysql2", {
    sizing: "items are opened ahead, as far as max allows"
  }],
  ["lazy start", "Commons Pool, psycopg", { opening: "B9: lazy opens nothing until the first borrow, and then min" }],
  ["start in the background", "effect, Agroal", { opening: "B9: background makes the pool at once and warms it" }],
  ["eager start: one first, then the rest, with its error", "asyncpg, HikariCP", {
    opening: "B9: eager makes the pool when min is reached, the first item alone and then the rest together"
  }],
  ["lifo", "effect, tarn", { effectPool: "the item that was returned last is lent first" }],
  ["fifo", "SQLAlchemy, sqlx", { queue: "order fifo lends the item that came back first, to those who wait as well" }],
  ["a fifo core and lifo extras", "generic-connection-pool", {
    idle: "the last ones returned are the core: lent first and in turn, then the extras, the last one first",
    control: "G-T3: one borrower at a time has the whole core in turn, twice over"
  }],
  ["waiters in their order, nobody passes", "psycopg_pool, effect", {
    effectPool: "no more than max borrowers have an item, and the others are served in their order"
  }],
  ["one timeout for all of a borrow", "HikariCP, deadpool", {
    queue: "every waiter has its own deadline, and those that time out together are told in one step",
    checking: "it counts for the borrower's time; what it finds later is for the next"
  }],
  ["a bound on waiters", "psycopg_pool, reactor-pool", {
    queue: "J8: maxWaiters counts those without an open under way for them; one more fails at once"
  }],
  ["never wait", "deadpool, sqlx, puddle", {
    available: "of a pool that has none opens nothing, waits for nothing and is told of nowhere",
    queue: "borrowTimeout 0 tries once, and lets an open begin for whoever comes next"
  }],
  ["longest life, with jitter", "HikariCP, DBConnection", {
    recycling: "with jitter is only ever shorter, and spreads the ends of items opened together"
  }],
  ["idle time above the minimum", "HikariCP, Commons Pool", { recycling: "spares min, and takes the coldest first" }],
  ["most uses", "asyncpg, pg-pool", { recycling: "gives at most n leases to borrowers that wait" }],
  ["a check before lending, after some idle time", "pgxpool, HikariCP", {
    checking: "runs before an item is lent that was idle for checkAfter, and no more often"
  }],
  ["a check in the background, keepalive", "Agroal, HikariCP", {
    recycling: "is run at sweep only, once for an item",
    recycler: "are no more at once than openConcurrency"
  }],
  ["reset on return", "psycopg_pool, asyncpg", {
    checking: "runs after a return and before anyone else has the item, with the exit, and delays no borrower",
    "PgQueuePool.hygiene": "a transaction that has ended costs no round trip, nor does a failed statement without one"
  }],
  ["recycled by how a lease ended, others with it", "SQLAlchemy", {
    recycling: "older takes those opened before: the idle now, the lent on return"
  }],
  ["recycled on its own report", "undici, DBConnection", {
    "PgQueuePool.death":
      "an idle session that is ended by the server is recycled at once, and nobody has to borrow for it"
  }],
  ["a leak is found and told", "SQLAlchemy, HikariCP", {
    leaks: "that asked for it and sleeps for ever, unknown to all, is found"
  }],
  ["a long lease is told of, with who and where", "HikariCP, Agroal, Vibur", {
    leases: "is told of at its own time, of many that one alarm looks after"
  }],
  ["a long lease is ended", "Commons Pool, DBConnection", {
    "leases.ends": "by interruption: its finalizers have the item, which then goes, and the borrower goes on"
  }],
  ["nested borrowing is named", "Agroal", {
    leases: "says so of all that one fiber holds, and only then that it cannot succeed"
  }],
  ["resize while in use", "HikariCP, lightning-pool, deadpool", {
    control: "E8: those who wait are served at once when max grows, in their order"
  }],
  ["suspend and resume", "HikariCP, MongoDB", {
    control: "E14: nothing is lent or opened, what is lent comes back, and resume serves in the order of arrival"
  }],
  ["recycle all, the lent when they come back", "HikariCP, psycopg_pool, asyncpg", {
    invalidation: "recycles the idle now, the lent when they come back, the opening when they arrive, and refills"
  }],
  ["recycle only the idle", "Agroal, generic-pool", { control: "only: " }],
  ["recycle all, spread over a time", "DBConnection", {
    control: "E9: with over each goes at a moment of its own, the oldest first, whatever was used last"
  }],
  ["recycle one", "every pool", {
    invalidation: "E1: a lent item is kept until it comes back; its replacement waits for the slot"
  }],
  ["make before break", "asked of sqlx and PostHog", {
    replacing: "E15: goes when another is open in its place, and not before"
  }],
  ["new credentials without a restart, verified first", "asked of HikariCP and postgres-nio", {
    swap: "tries the new way once, with one item, and then opens all in it"
  }],
  ["the closing waits for leases, with a bound", "reactor-pool, psycopg_pool", {
    closing: "D3: leases get drainTimeout; then their items are closed under them, and that is reported"
  }],
  ["waiters hear that the pool is closed", "commons-pool, tarn", {
    closing: "D1: every waiter fails at once with Closed, and nothing is opened any more"
  }],
  ["opens are retried with backoff, on one road", "psycopg_pool, DBConnection", {
    retry: "B7: it opens once per step, however many wait, with the backoff of its Schedule"
  }],
  ["a bound on opens at once", "MongoDB, HikariCP", {
    opening: "B4: a hung open holds up nobody: the others open beside it, up to openConcurrency"
  }],
  ["a failed open is told, with its cause", "tarn, deadpool", {
    opening: "B3: a failed open is told to the waiter that it was for, and to no other",
    retry: "B1, B13: a borrower whose time ends meanwhile hears the cause of the last failure"
  }],
  ["an open goes on when its borrower leaves", "puddle", {
    interruption: "A4: an open goes on when its borrower leaves, and serves the next: one open for both"
  }],
  ["several borrowers of one item", "effect, undici", {
    effectPool: "an item is shared by as many as concurrency says",
    "PgQueuePool.multiplex": "200 at once run on few sessions, several in flight on each"
  }],
  ["an item of one's own where others share", "effect", {
    sharing: "waits until the item is its own, and nobody joins meanwhile or while it lasts"
  }],
  ["opened ahead of need", "effect", { sharing: "opens as many as effect's Pool does, whatever the concurrency" }],
  ["an item leaves the pool for good", "pgx, sqlx, deadpool", {
    sizing: "frees the slot at once, and the item is released with the scope"
  }],
  ["several items, all or none", "nobody", {
    severalItems: "many that want more than half of the pool never block one another"
  }],
  ["hooks for acquire, borrow, return, release", "SQLAlchemy, pgxpool, r2dbc-pool", {
    hookTable: "run in the order of an item's life, each with its item"
  }],
  ["every transition is an event", "MongoDB, tarn, Agroal", {
    events: "of an item's life, in order and with their facts"
  }],
  ["counts and totals of one moment", "reactor-pool, sqlx", {
    events: "are snapshots: one that was taken does not change"
  }],
  ["a borrower may be interrupted at any step", "nobody", {
    interruption: "use of an idle item loses nothing",
    sharing: "loses nothing",
    available: "interrupted at any step, loses nothing, with an item and without"
  }],
  ["an item's release delays nobody, and has a bound", "tarn, pgxpool", {
    closing: "C2: one that ends after it was abandoned is not counted again"
  }],
  ["all time is virtual in tests", "reactor-pool, ZPool", {
    clock: "G9: leaves the trace of a scenario as it is, to the last event"
  }],
  ["nothing keeps the process or the memory of a closed pool", "HikariCP, node-pool", {
    closing: "D9: the whole takes drainTimeout and closeTimeout at most, whatever hangs, and leaves nothing"
  }],
  ["equal items are different", "commons-pool", {
    invalidation: "are different: each is lent to one borrower, and closed once"
  }]
]

describe("a feature of the best pools", () => {
  for (const [feature, peers, tests] of features) {
    it(`${feature} (${peers})`, () => {
      for (const [file, name] of Object.entries(tests)) assert.include(textOf(file), name, file)
    })
  }
})
