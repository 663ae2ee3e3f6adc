/** What the tests of PgCluster share: a cluster on the servers of the test, and what is seen of it. */
import type { PgClient } from "@effect/sql-pg"
import { Effect, Redacted, type Scope } from "effect"
import type { PoolError } from "effect-queuepool"
import * as PgCluster from "effect-queuepool/PgCluster"
import { EmbeddedPgCluster, type Node } from "./EmbeddedPgCluster.ts"
import { until } from "./sessions.ts"

export interface Cluster {
  readonly reader: PgCluster.Sessions
  readonly writer: PgCluster.Sessions
}

export const nodesOf = (servers: ReadonlyArray<Node>): ReadonlyArray<PgCluster.Node> =>
  servers.map(({ name, pg }) => ({ name, url: Redacted.make(pg.url) }))

/** A cluster on all servers. Waits for nothing. */
export const makeCluster = (
  options: Omit<PgCluster.Options, "nodes"> & { readonly nodes?: ReadonlyArray<PgCluster.Node> } = {}
): Effect.Effect<Cluster, PoolError.PoolError, Scope.Scope | EmbeddedPgCluster> =>
  Effect.flatMap(
    EmbeddedPgCluster,
    (servers) => PgCluster.make({ nodes: nodesOf(servers.nodes), max: 4, borrowTimeout: "30 seconds", ...options })
  )

/** The roles as the cluster knows them, `primary!` being the one that is written to. */
export const rolesOf = ({ reader }: Cluster): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(reader.nodes, (nodes) => nodes.map(({ role, writes }) => `${role ?? "?"}${writes ? "!" : ""}`))

export const untilRoles = (cluster: Cluster, ...roles: ReadonlyArray<string>): Effect.Effect<void> =>
  until(Effect.map(rolesOf(cluster), (known) => known.join() === roles.join()), "30 seconds")

/** Which server a client's statements run on. */
export const portOf = ({ sql }: { readonly sql: PgClient.PgClient }) =>
  Effect.map(sql<{ readonly port: number }>`select inet_server_port() as port`, (rows) => rows[0]?.port)
