/**
 * PostgreSQL through our pool, beside the clients that others use: one process, one server,
 * rounds interleaved, all clients made anew for each, and ratios of what two clients did in the
 * same round.
 *
 * npm run bench:pg -- --check            fails where a target is missed
 * npm run bench:pg -- --quick            fewer rounds
 * npm run bench:pg -- --only select-1    this part alone; may be given several times
 * npm run bench:pg -- --concurrency 64   this many at once alone; may be given several times
 *
 * Server and clients share the processors: the CPU time of this process for each statement is
 * steadier than what was done in a second. It counts what the kernel does for the sockets too.
 * The targets are of the throughput. That of pg.Pool is met where one of ours meets it, without
 * `multiplex` or with: pg.Pool cannot send a statement behind another. Nor can anybody where
 * there is one at once: there it is out of reach where the client of @effect/sql-pg on its
 * driver, with no pool at all, misses it in the same rounds.
 */
import { Console, Effect, Random, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { EmbeddedPg } from "../kit/EmbeddedPg.ts"
import * as Clients from "./pgClients.ts"
import { type Sample, sample } from "./pgMeter.ts"
import { parse } from "./pgOptions.ts"
import { bestMeets, comparisonOf, comparisonTable, lineOf, lineTable, missed, type Pair } from "./pgResults.ts"
import { Echo } from "./pgSocket.ts"
import { createTables, type WorkName } from "./pgWork.ts"

/** What is measured together: everything that is compared stands in the same rounds. */
interface Part {
  readonly name: string
  readonly work: WorkName
  /** Undefined: at each that is asked for. */
  readonly concurrencies?: ReadonlyArray<number>
  readonly clients: (url: string) => Effect.Effect<ReadonlyArray<Clients.Client>, unknown, Scope.Scope>
  readonly pairs: ReadonlyArray<Pair>
  /** The throughput against pg.Pool. */
  readonly poolTarget?: number
}

const multiplex = true

const peers = (url: string) =>
  Effect.all([
    Clients.ours("ours", url),
    Clients.pgClient("PgClient", url),
    Clients.pgPool(url),
    Clients.postgresJs(url),
    Clients.ours("ours, multiplex", url, { multiplex }),
    Clients.pgClient("PgClient, multiplex", url, { multiplex })
  ])

const pairs = (target?: number, most?: string): ReadonlyArray<Pair> => [
  { client: "ours", against: "PgClient", target },
  { client: "ours, multiplex", against: "PgClient, multiplex", target },
  { client: "ours", against: "pg.Pool", most },
  { client: "ours, multiplex", against: "pg.Pool", most },
  { client: "ours", against: "postgres.js" },
  { client: "ours, multiplex", against: "postgres.js" }
]

/** What stands below us: the client without a pool, the driver without a client, sockets without a driver. */
const floors = (url: string) =>
  Effect.all([
    Clients.floor("client, no pool", url, false),
    Clients.driver("driver alone", url, false),
    Clients.driver("driver alone, multiplex", url, true),
    Clients.sockets("sockets alone", url)
  ])

const hygiene = (url: string) =>
  Effect.all([
    Clients.ours("rollback", url),
    Clients.ours("none, no check", url, { reset: "none", checkAfter: "Infinity" }),
    Clients.ours("discard", url, { reset: "discard" })
  ])

const hygienePairs: ReadonlyArray<Pair> = [
  { client: "rollback", against: "none, no check" },
  { client: "discard", against: "none, no check" }
]

const stream = () => new Echo()

const parts: ReadonlyArray<Part> = [
  {
    name: "select-1",
    work: "select-1",
    clients: (url) => Effect.map(Effect.all([peers(url), floors(url)]), (all) => all.flat()),
    pairs: [
      ...pairs(1, "client, no pool"),
      { client: "ours", against: "client, no pool" },
      { client: "ours", against: "driver alone" },
      { client: "ours", against: "sockets alone" }
    ],
    poolTarget: 1.3
  },
  { name: "ten-rows", work: "ten-rows", clients: peers, pairs: pairs() },
  { name: "tpc-b", work: "tpc-b", clients: peers, pairs: pairs() },
  { name: "hygiene", work: "select-1", concurrencies: [1, 64], clients: hygiene, pairs: hygienePairs },
  { name: "hygiene-tpc-b", work: "tpc-b", concurrencies: [10], clients: hygiene, pairs: hygienePairs },
  {
    name: "no-server",
    work: "select-1",
    concurrencies: [1, 64],
    clients: (url) =>
      Effect.all([
        Clients.ours("ours", url, { stream }),
        Clients.pgClient("PgClient", url, { stream }),
        Clients.ours("ours, multiplex", url, { stream, multiplex }),
        Clients.pgClient("PgClient, multiplex", url, { stream, multiplex }),
        Clients.floor("client, no pool", url, false, stream),
        Clients.driver("driver alone", url, false, stream)
      ]),
    pairs: [
      { client: "ours", against: "PgClient" },
      { client: "ours, multiplex", against: "PgClient, multiplex" },
      { client: "ours", against: "client, no pool" }
    ]
  }
]

const options = parse(process.argv.slice(2), parts.map(({ name }) => name))
const { asked, check, json, millis } = options

// Until the optimizing compiler has seen every client at its work, and all sessions are open.
const warmUps = [
  { concurrency: 64, millis: 300 },
  ...options.concurrencies.map((concurrency) => ({ concurrency, millis: 200 }))
]

// By then it has, and only the sessions are new.
const openAll = [{ concurrency: 64, millis: 60 }]

/** What each client did in each round, by concurrency. */
type Rounds = Map<number, Map<string, Array<Sample>>>

// What is opened once and again differs from itself by a fifth where there is one at once: all of
// these take the session that came back last, and it matters on which processor the server has it.
// So all is opened anew for each round, and the rounds know nothing of one another.
const measure = Effect.fnUntraced(function*(part: Part, url: string, rounds: Rounds, first: boolean) {
  const clients = yield* part.clients(url)
  for (const warmUp of first ? warmUps : openAll) {
    for (const client of clients) yield* sample(client, part.work, warmUp.concurrency, warmUp.millis)
  }
  for (const [concurrency, byClient] of rounds) {
    for (const { name } of clients) if (!byClient.has(name)) byClient.set(name, [])
    // In another order each time: who runs twice in a row, as the first and the last did when
    // every second round was turned round, is measured slower by an eighth than the others.
    for (const client of yield* Random.shuffle(clients)) {
      byClient.get(client.name)!.push(yield* sample(client, part.work, concurrency, millis))
    }
  }
}, Effect.scoped)

const resultOf = (part: Part, concurrency: number, rounds: ReadonlyMap<string, ReadonlyArray<Sample>>) => {
  const comparisons = part.pairs.map(({ most, ...pair }) =>
    comparisonOf(part.name, concurrency, { ...pair, most: concurrency === 1 ? most : undefined }, rounds)
  )
  return {
    lines: Array.from(rounds, ([name, samples]) => lineOf(part.name, concurrency, name, samples)),
    comparisons: part.poolTarget === undefined ? comparisons : bestMeets(comparisons, "pg.Pool", part.poolTarget)
  }
}

const run = Effect.fnUntraced(function*(part: Part, url: string) {
  const concurrencies = options.concurrencies.filter((one) => part.concurrencies?.includes(one) !== false)
  const rounds: Rounds = new Map(concurrencies.map((concurrency) => [concurrency, new Map()]))
  for (let done = 0; rounds.size > 0 && done < options.rounds; done++) yield* measure(part, url, rounds, done === 0)
  const results = Array.from(rounds, ([concurrency, byClient]) => resultOf(part, concurrency, byClient))
  const lines = results.flatMap((result) => result.lines)
  const comparisons = results.flatMap((result) => result.comparisons)
  if (lines.length > 0) yield* Console.log(`${lineTable(lines)}\n\n${comparisonTable(comparisons)}\n`)
  return { lines, comparisons }
})

const main = Effect.gen(function*() {
  const { query, url } = yield* EmbeddedPg
  yield* createTables
  const [version] = yield* query("select current_setting('server_version') as version")
  const results = yield* Effect.forEach(
    parts.filter(({ name }) => asked.length === 0 || asked.includes(name)),
    (part) => run(part, url)
  )
  const lines = results.flatMap((result) => result.lines)
  const comparisons = results.flatMap((result) => result.comparisons)
  const machine = { node: process.version, server: version, cpu: Os.cpus()[0]?.model, cores: Os.availableParallelism() }
  Fs.mkdirSync(Path.dirname(json), { recursive: true })
  Fs.writeFileSync(json, JSON.stringify({ machine, rounds: options.rounds, millis, lines, comparisons }, undefined, 2))
  const misses = comparisons.filter(missed)
  if (misses.length > 0) yield* Console.log(`missed:\n${comparisonTable(misses)}`)
  if (check && misses.length > 0) process.exitCode = 1
}).pipe(Effect.provide(EmbeddedPg.layer({ maxConnections: 150 })))

await Effect.runPromise(main)
