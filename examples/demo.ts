/**
 * The main job, on a real PostgreSQL that this program starts and stops: 64 fibers
 * share at most 10 sessions and run pgbench's transaction. Meanwhile half of the
 * backends are killed, the server allows fewer sessions than the pool's `max`, and
 * the server restarts. At the end the books must be right.
 *
 * npm run demo [-- --seconds 15]
 */
import { NodeRuntime } from "@effect/platform-node"
import { Clock, Console, Duration, Effect, Fiber, Layer, Redacted, References, Schedule, Stream } from "effect"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { EmbeddedPg } from "../test/kit/EmbeddedPg.ts"
import * as Bank from "./demo/bank.ts"
import { Histogram } from "./demo/histogram.ts"

const fibers = 64
const sessions = 10
const seconds = Number(process.argv[process.argv.indexOf("--seconds") + 1] ?? 15) || 15

const counters = { transactions: 0, retries: 0, attempts: 0 }
/** When the pool tries again to open a session, in monotonic milliseconds. */
let retryAt = 0
const committed = new Set<string>()
const borrowing = new Histogram()

// A transaction that fails is tried again, with the same id. When it is not known
// whether it was committed, the server is asked first.
const transact = Effect.fnUntraced(function*(fiber: number) {
  const id = `${fiber}-${++counters.attempts}`
  let asked = true
  const attempt = Effect.gen(function*() {
    if (!asked && (yield* Bank.took(id))) return
    asked = false
    yield* Bank.transfer(id)
  })
  yield* Effect.retry(
    Effect.tapError(attempt, () => Effect.sync(() => counters.retries++)),
    Schedule.jittered(Schedule.spaced("50 millis"))
  )
  committed.add(id)
  counters.transactions++
})

const progress = Effect.gen(function*() {
  const pool = yield* PgQueuePool.PgQueuePool
  const { isTTY } = process.stdout
  const began = Number(yield* Clock.monotonicTimeNanos)
  let last = 0
  const line = Effect.gen(function*() {
    const stats = yield* pool.stats
    const now = Number(yield* Clock.monotonicTimeNanos)
    const recycled = Object.values(stats.recycled).reduce((sum, count) => sum + count, 0)
    const rate = (counters.transactions - last) * (isTTY ? 5 : 1)
    last = counters.transactions
    const wait = retryAt - now / 1e6
    const text = `${((now - began) / 1e9).toFixed(1).padStart(5)}s ${String(rate).padStart(6)} tps  ` +
      `lent ${stats.used}  idle ${stats.idle}  waiting ${stats.pending}  opening ${stats.opening}  ` +
      `opened ${stats.opened}  recycled ${recycled}` + (wait > 0 ? `  next open in ${(wait / 1000).toFixed(1)}s` : "")
    process.stdout.write(isTTY ? `\r${text}\u001b[K` : `${text}\n`)
  })
  yield* Effect.repeat(line, Schedule.spaced(isTTY ? "200 millis" : "1 second"))
})

const say = (text: string) => Console.log(process.stdout.isTTY ? `\r\u001b[K${text}` : text)

const trouble = Effect.gen(function*() {
  const server = yield* EmbeddedPg
  const quarter = Duration.seconds(seconds / 4)
  yield* Effect.sleep(quarter)
  const pids = yield* server.query("select pid from pg_stat_activity where usename = 'teller'")
  for (const { pid } of pids.slice(0, Math.ceil(pids.length / 2))) yield* server.killBackends({ pid: Number(pid) })
  yield* say(`-- killed ${Math.ceil(pids.length / 2)} of ${pids.length} backends`)
  yield* Effect.sleep(quarter)
  yield* server.query("alter role teller connection limit 5")
  const killed = yield* server.killBackends({ user: "teller" })
  yield* say(`-- the server now allows 5 sessions, the pool's max is ${sessions}; killed all ${killed}`)
  yield* Effect.sleep(quarter)
  yield* server.query("alter role teller connection limit -1")
  yield* say("-- the limit is gone; the server restarts")
  yield* server.restart({ downFor: "500 millis" })
  yield* say("-- the server is back")
  yield* Effect.sleep(quarter)
})

const report = Effect.gen(function*() {
  const pool = yield* PgQueuePool.PgQueuePool
  const stats = yield* pool.stats
  const books = yield* Bank.audit(committed)
  const rows: ReadonlyArray<readonly [string, string | number]> = [
    ["transactions", counters.transactions],
    ["per second", Math.round(counters.transactions / seconds)],
    ["retries", counters.retries],
    ["borrowed", stats.borrowed],
    ["borrowing, p50", `${borrowing.percentile(0.5).toFixed(2)} ms`],
    ["borrowing, p99", `${borrowing.percentile(0.99).toFixed(2)} ms`],
    ["sessions opened", stats.opened],
    ["opens that failed", stats.openFailures],
    ...Object.entries(stats.recycled).map(([reason, count]) => [`recycled: ${reason}`, count] as const),
    ["sum of accounts", books.accounts],
    ["sum of tellers", books.tellers],
    ["sum of branches", books.branches],
    ["sum of history", books.history],
    ["rows of history", books.rows]
  ]
  yield* say("")
  for (const [name, value] of rows) yield* Console.log(`${name.padEnd(24)}${String(value).padStart(14)}`)
  yield* Console.log(books.right ? "The books are right." : "THE BOOKS ARE WRONG.")
  if (!books.right) process.exitCode = 1
})

const main = Effect.gen(function*() {
  yield* Console.log(`${fibers} fibers, at most ${sessions} sessions, ${seconds} seconds. Ctrl-C ends it.`)
  yield* Bank.create
  const pool = yield* PgQueuePool.PgQueuePool
  yield* Effect.forkScoped(Stream.runForEach(pool.events, (event) =>
    Effect.sync(() => {
      if (event._tag === "Borrowed") borrowing.add(event.waited)
      if (event._tag === "Retrying") retryAt = event.at + event.in
    })))
  const line = yield* Effect.forkScoped(progress)
  const ended = yield* Effect.forkScoped(trouble)
  // Each fiber finishes the transaction that it has begun, so that every outcome is known.
  const teller = (fiber: number) =>
    Effect.whileLoop({
      while: () => ended.pollUnsafe() === undefined,
      body: () => transact(fiber),
      step: () => {}
    })
  yield* Effect.forEach(Array.from({ length: fibers }, (_, fiber) => fiber), teller, {
    concurrency: "unbounded",
    discard: true
  })
  yield* Fiber.join(ended)
  yield* Fiber.interrupt(line)
  yield* report
}).pipe(Effect.scoped, Effect.onInterrupt(() => say("Stopped.")))

// The pool is made as any PgClient: one line. Leases end with their fibers here,
// so closing need not wait for them.
const Bank_ = Layer.unwrap(Effect.gen(function*() {
  const server = yield* EmbeddedPg
  yield* server.query("create role teller login")
  yield* server.query("create database bank owner teller")
  return PgQueuePool.layer({
    url: Redacted.make(`postgres://teller@${server.host}:${server.port}/bank`),
    name: "bank",
    max: sessions,
    drainTimeout: "200 millis",
    closeTimeout: "300 millis"
  })
}))

NodeRuntime.runMain(main.pipe(
  Effect.provide(Bank_.pipe(Layer.provideMerge(EmbeddedPg.layer()))),
  // The line of progress tells what the pool would log.
  Effect.provideService(References.MinimumLogLevel, "Error"),
  Effect.timeoutOrElse({ duration: Duration.seconds(seconds * 4 + 60), orElse: () => Effect.die("the demo hangs") })
))
