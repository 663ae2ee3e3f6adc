/** One run: a server, a proxy, a pool, 50 fibers, faults; at the end the books, and nothing left. */
import { PgClient } from "@effect/sql-pg"
import { Cause, Console, Effect, Exit, Fiber, Logger, Random, Redacted, References, Schedule, Scope } from "effect"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { Reactivity } from "effect/reactivity"
import { SqlClient } from "effect/sql"
import * as Bank from "../../examples/demo/bank.ts"
import { EmbeddedPg } from "../kit/EmbeddedPg.ts"
import * as TcpProxy from "../kit/TcpProxy.ts"
import type { Args } from "./args.ts"
import { Borrows } from "./borrows.ts"
import { longestFault } from "./faults.ts"
import { leftBy } from "./leftovers.ts"
import { Notes } from "./notes.ts"
import * as Plan from "./plan.ts"
import { failure, summary } from "./report.ts"
import { closeBound, describe, draw, fibers, operationBound, optionsOf, role, type Setting } from "./setting.ts"
import { Sockets } from "./sockets.ts"
import { Stalls } from "./stalls.ts"
import { Watch } from "./watch.ts"
import { Work } from "./work.ts"
import type { World } from "./world.ts"

/** Asks every 20 milliseconds until the answer is yes, for at most 10 seconds. */
const eventually = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  condition.pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: (met) => met }),
    Effect.timeoutOption("10 seconds"),
    Effect.map((answer) => answer._tag === "Some")
  )

/** The bank, and the role that the pool is. Other superusers keep their sessions whatever the server is set to. */
const prepare = Effect.fnUntraced(function*(pg: EmbeddedPg["Service"]) {
  yield* pg.query(`create role ${role} login`)
  yield* pg.query(`grant create on schema public to ${role}`)
  yield* pg.query(`alter role ${pg.user} set idle_session_timeout = 0`)
  yield* pg.query(`alter role ${pg.user} set statement_timeout = 0`)
})

const urlOf = (pg: EmbeddedPg["Service"]) => Redacted.make(`postgres://${role}@${pg.host}:${pg.port}/${pg.database}`)

/** A client of the same role past proxy and pool. */
const direct = (pg: EmbeddedPg["Service"]) => PgClient.layer({ url: urlOf(pg), maxConnections: 1 })

const makeWorld = Effect.fnUntraced(function*(notes: Notes, setting: Setting, scope: Scope.Scope) {
  const pg = yield* EmbeddedPg
  const stalls = yield* Stalls.make(notes.now)
  const proxy = yield* TcpProxy.make({ port: pg.port })
  const sockets = new Sockets()
  const borrows = new Borrows(notes, stalls)
  const config = { url: urlOf(pg), stream: () => sockets.connect(proxy.host, proxy.port), prepare: setting.prepare }
  const options = { ...optionsOf(setting), ...config }
  const made = yield* Scope.provide(PgQueuePool.make(options), scope)
  const pool = borrows.of(made)
  const client = yield* PgQueuePool.makeClient(pool, config)
  const world: World = {
    notes,
    stalls,
    setting,
    pg,
    proxy,
    sockets,
    borrows,
    pool,
    swap: PgQueuePool.swap(made, {}, { over: 500 }),
    client,
    committed: new Set(),
    unknown: new Set()
  }
  return world
})

/** The sums agree, and each transaction took place once if the program knows that it did, and never otherwise. */
const audit = Effect.fnUntraced(function*({ committed, notes, unknown }: World) {
  for (const id of unknown) if (yield* Bank.took(id)) committed.add(id)
  const books = yield* Bank.audit(committed)
  notes.log(`books: ${JSON.stringify(books)}`)
  if (books.right) return
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly id: string }>`select id from history`
  const ids = new Set(rows.map(({ id }) => id))
  const lost = [...committed].filter((id) => !ids.has(id))
  const extra = [...ids].filter((id) => !committed.has(id))
  const text = JSON.stringify(books)
  notes.violate(`the books do not agree: ${text}; lost: ${lost.join() || "none"}; unasked: ${extra.join() || "none"}`)
})

const closePool = Effect.fnUntraced(function*({ notes, pg, sockets, stalls }: World, scope: Scope.Closeable) {
  const since = notes.now()
  const stalled = stalls.total
  yield* Scope.close(scope, Exit.void)
  const took = notes.now() - since - (stalls.total - stalled)
  if (took > closeBound) notes.violate(`closing the pool took ${Math.round(took)}ms, the bound is ${closeBound}ms`)
  const gone = eventually(Effect.map(pg.sessionCount({ user: role }), (count) => count === 0))
  if (!(yield* gone)) notes.violate(`${yield* pg.sessionCount({ user: role })} sessions are left on the server`)
  if (sockets.open > 0) notes.violate(`${sockets.open} sockets of the closed pool are open`)
})

const play = Effect.fnUntraced(function*({ seconds, seed }: Args, notes: Notes, tell: () => void) {
  const setting = yield* Random.withSeed(draw, `${seed}/setting`)
  yield* Console.log(`The pool: ${describe(setting)}`)
  const pg = yield* EmbeddedPg
  yield* prepare(pg)
  yield* Effect.provide(
    Effect.andThen(Bank.create, Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table litter (pid int)`)),
    direct(pg)
  )
  const scope = yield* Scope.make()
  const world = yield* Random.withSeed(makeWorld(notes, setting, scope), `${seed}/pool`)
  const watch = new Watch(world)
  const work = new Work(world)
  const looking = Effect.forever(Effect.andThen(
    watch.stats,
    Effect.suspend(() => {
      world.borrows.look()
      work.look()
      return Effect.sleep(25)
    })
  ))
  const watching = yield* Effect.forEach(
    [watch.server, watch.events, looking],
    (each) => Effect.forkScoped(each, { startImmediately: true })
  )
  const workers = yield* Effect.forEach(
    Array.from({ length: fibers }, (_, index) => index),
    (index) => Effect.forkScoped(Random.withSeed(work.fiber(index), `${seed}/fiber/${index}`))
  )
  yield* Random.withSeed(Plan.run(world, seconds), `${seed}/plan`)
  yield* work.stop
  const ended = yield* Effect.timeoutOption(Fiber.awaitAll(workers), operationBound(longestFault) * 2)
  if (ended._tag === "None") notes.violate("a fiber has not come to its end")
  else {
    for (const exit of ended.value) {
      if (Exit.isFailure(exit)) notes.violate(`a fiber has failed: ${Cause.pretty(exit.cause)}`)
    }
  }
  // What the last borrowers have left behind is cleaned and closed, and `min` is open.
  const calm = Effect.map(world.pool.stats, ({ closing, opening, pending, used }) => closing + opening + pending + used)
  if (!(yield* eventually(Effect.map(calm, (count) => count === 0)))) notes.violate("the pool does not come to rest")
  yield* Effect.sleep(50)
  const stats = yield* watch.rest
  yield* Fiber.interruptAll(watching)
  for (const line of summary(world, watch, stats)) yield* Console.log(line)
  if (notes.failed) {
    // It may be past an end in good order.
    exitAfter(15, tell)
    return yield* Scope.close(scope, Exit.void)
  }
  yield* closePool(world, scope)
  yield* Effect.provide(audit(world), direct(pg))
  const { rows } = yield* Effect.map(
    pg.query("select count(*)::int as n from history"),
    ([row]) => ({ rows: row?.["n"] })
  )
  yield* Console.log(`${"rows of history".padEnd(26)} ${String(rows)}`)
})

/** Whatever ends a fiber with a defect and is told to nobody is told to the log. */
const listening = (notes: Notes) =>
  Logger.layer([Logger.make(({ cause, logLevel, message }) => {
    notes.log(`${logLevel} ${[message].flat().map(String).join(" ")}`)
    if (Cause.hasDies(cause)) notes.violate(`a defect in a fiber: ${Cause.pretty(cause)}`)
  })])

/** Nothing may reach the process itself. */
const guarded = (notes: Notes) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const exception = (error: unknown) => notes.violate(`uncaught: ${String(error)}`)
      const rejection = (error: unknown) => notes.violate(`unhandled rejection: ${String(error)}`)
      process.on("uncaughtException", exception).on("unhandledRejection", rejection)
      return { exception, rejection }
    }),
    ({ exception, rejection }) =>
      Effect.sync(() => void process.off("uncaughtException", exception).off("unhandledRejection", rejection))
  )

/** Ends the process when a run that went wrong, or hangs, cannot be ended in order. Its server ends with it. */
const exitAfter = (seconds: number, first: () => void) =>
  setTimeout(() => {
    first()
    process.exit(1)
  }, seconds * 1000).unref()

/** Whether all held. */
export const run = (args: Args) =>
  Effect.gen(function*() {
    const { seconds, seed } = args
    const notes = yield* Notes.make
    yield* guarded(notes)
    yield* Console.log(`Chaos with the seed ${seed}, for ${seconds} seconds, ${fibers} fibers`)
    const tell = () => {
      for (const line of failure(notes, seed)) console.log(line)
    }
    const hanging = exitAfter(seconds + 120, () => {
      notes.violate("the run itself hangs")
      tell()
    })
    const left = yield* leftBy(
      play(args, notes, tell).pipe(
        Effect.scoped,
        Effect.provide([
          EmbeddedPg.layer({
            maxConnections: 60,
            // So that a statement ends soon after its client has gone.
            // And so that a crash of the server loses nothing that it has said to be committed.
            settings: { client_connection_check_interval: "200ms", synchronous_commit: "on" }
          }),
          Reactivity.layer,
          listening(notes)
        ]),
        Effect.provideService(References.UnhandledLogLevel, "Error"),
        // The server is one of the parts that could not do its work.
        Effect.catchCause((cause) => Effect.sync(() => notes.violate(`the run ended early: ${Cause.pretty(cause)}`)))
      )
    )
    // What a pool has left that had failed before says nothing more.
    if (!notes.failed) { for (const what of left) notes.violate(`left behind: ${what}`) }
    clearTimeout(hanging)
    if (notes.failed) tell()
    else yield* Console.log(`All held, with the seed ${seed}.`)
    return !notes.failed
  }).pipe(Effect.scoped)
