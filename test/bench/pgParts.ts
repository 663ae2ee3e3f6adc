/** What is measured together, and who is compared with whom. */
import type { Effect, Scope } from "effect"
import * as Clients from "./pgClients.ts"
import type { Pair } from "./pgResults.ts"
import { Echo } from "./pgSocket.ts"
import type { WorkName } from "./pgWork.ts"

type Opening = Effect.Effect<Clients.Client, unknown, Scope.Scope>

/** Everything that is compared stands in the same rounds. */
export interface Part {
  readonly name: string
  readonly work: WorkName
  /** Undefined: at each that is asked for. */
  readonly concurrencies?: ReadonlyArray<number>
  readonly clients: (url: string) => ReadonlyArray<Opening>
  readonly pairs: ReadonlyArray<Pair>
  /** The throughput against pg.Pool. */
  readonly poolTarget?: number
}

const multiplex = true

const peers = (url: string): ReadonlyArray<Opening> => [
  Clients.ours("ours", url),
  Clients.pgClient("PgClient", url),
  Clients.pgPool(url),
  Clients.postgresJs(url),
  Clients.ours("ours, multiplex", url, { multiplex }),
  Clients.pgClient("PgClient, multiplex", url, { multiplex })
]

const pairs = (target?: number, most?: string): ReadonlyArray<Pair> => [
  { client: "ours", against: "PgClient", target },
  { client: "ours, multiplex", against: "PgClient, multiplex", target },
  { client: "ours", against: "pg.Pool", most },
  { client: "ours, multiplex", against: "pg.Pool", most },
  { client: "ours", against: "postgres.js" },
  { client: "ours, multiplex", against: "postgres.js" }
]

/** What stands below us: the client without a pool, the driver without a client, sockets without a driver. */
const floors = (url: string): ReadonlyArray<Opening> => [
  Clients.floor("client, no pool", url, false),
  Clients.driver("driver alone", url, false),
  Clients.driver("driver alone, multiplex", url, true),
  Clients.sockets("sockets alone", url)
]

const hygiene = (url: string): ReadonlyArray<Opening> => [
  Clients.ours("rollback", url),
  Clients.ours("none, no check", url, { reset: "none", checkAfter: "Infinity" }),
  Clients.ours("discard", url, { reset: "discard" })
]

const hygienePairs: ReadonlyArray<Pair> = [
  { client: "rollback", against: "none, no check" },
  { client: "discard", against: "none, no check" }
]

const stream = () => new Echo()

export const parts: ReadonlyArray<Part> = [
  {
    name: "select-1",
    work: "select-1",
    clients: (url) => [...peers(url), ...floors(url)],
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
    clients: (url) => [
      Clients.ours("ours", url, { stream }),
      Clients.pgClient("PgClient", url, { stream }),
      Clients.ours("ours, multiplex", url, { stream, multiplex }),
      Clients.pgClient("PgClient, multiplex", url, { stream, multiplex }),
      Clients.floor("client, no pool", url, false, stream),
      Clients.driver("driver alone", url, false, stream)
    ],
    pairs: [
      { client: "ours", against: "PgClient" },
      { client: "ours, multiplex", against: "PgClient, multiplex" },
      { client: "ours", against: "client, no pool" }
    ]
  }
]
