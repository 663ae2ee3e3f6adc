// Several servers of which one is the primary: a pool for each, and who lends from which.
import type { PgClient, PgClientConfig } from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Reactivity } from "effect/reactivity/Reactivity"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type { PoolError } from "../PoolError.ts"
import type * as QueuePool from "../QueuePool.ts"
import type * as QueuePoolMap from "../QueuePoolMap.ts"
import type { Fleet } from "./balanceFleet.ts"
import { monotonicMillis } from "./monotonic.ts"
import { makeClient } from "./pgClient.ts"
import { type ClusterGiven, type ClusterParts, clusterPartsOf } from "./pgClusterOptions.ts"
import { isFailover, sqlStateOf } from "./pgErrors.ts"
import { type Lends, makeLender } from "./pgLender.ts"
import { type Plan, plan } from "./pgPool.ts"
import { learn, type Learnt, type Role } from "./pgRole.ts"
import { Roles } from "./pgRoles.ts"
import { serving } from "./pgServing.ts"
import { watch } from "./pgWatch.ts"
import { connector, Wire } from "./pgWire.ts"

type Session = PgConnection.PgConnection
type Pool = QueuePool.QueuePool<Session, SqlError>

type Question = Effect.Effect<Learnt, SqlError | PoolError>

/** One server, as it is known now. */
export interface NodeStatus {
  readonly node: string
  /** Undefined while it is out of reach, or has not answered yet. */
  readonly role: Role | undefined
  /** It is the one that the writer borrows from. */
  readonly writes: boolean
  readonly stats: QueuePool.Stats
}

/** What one of the two services is. */
export interface Sessions extends Lends<Session, SqlError> {
  readonly name: string
  readonly sql: PgClient
  readonly nodes: Effect.Effect<ReadonlyArray<NodeStatus>>
}

export interface Cluster {
  readonly reader: Sessions
  readonly writer: Sessions
}

/** The options of a map of pools. */
export type MapOptions<R> = QueuePoolMap.Options<string, Session, SqlError, R | Scope.Scope>

/** How the map is made: the internals know no public module. */
export type MakeMap<R> = (
  options: MapOptions<R>
) => Effect.Effect<QueuePoolMap.QueuePoolMap<string, Session, SqlError>, PoolError, R | Scope.Scope>

/** The server answers, and has no session to spare. */
const isFull = (error: SqlError): boolean => sqlStateOf(error)?.startsWith("53") === true

/** What the pool of a node has of its own. It tells of what makes the node's role doubtful. */
const ofNode = <R>(
  { settings }: Plan<R>,
  node: string,
  roles: Roles
): NonNullable<ReturnType<NonNullable<MapOptions<R>["forKey"]>>> => {
  const { acquire: _acquire, capacity: _capacity, name: _name, warm: _warm, ...own } = settings
  return {
    ...own,
    onReturn: (session, exit) => {
      if (Exit.isFailure(exit) && isFailover(exit.cause)) roles.doubt(node)
      return own.onReturn?.(session, exit)
    }
  }
}

const makePools = Effect.fnUntraced(function*<R>(
  makeMap: MakeMap<R>,
  plans: ReadonlyMap<string, Plan<R>>,
  { maxTotal, name }: ClusterParts<R>,
  { capacity, warm }: ClusterGiven<R>,
  roles: Roles
) {
  const map = yield* makeMap({
    name,
    maxTotal,
    capacity,
    warm,
    acquire: (node) => plans.get(node)!.acquire,
    forKey: (node) => ofNode(plans.get(node)!, node, roles),
    // Its nodes are the cluster's for as long as it lasts.
    idleTimeToLive: "Infinity"
  })
  const pools = new Map<string, Pool>()
  for (const [node, { watch }] of plans) {
    const pool = yield* map.pool(node)
    pools.set(node, pool)
    watch(pool)
  }
  return pools
})

export const makeCluster = <R>(makeMap: MakeMap<R>) =>
  Effect.fnUntraced(function*(
    options: ClusterGiven<R>
  ): Effect.fn.Return<Cluster, PoolError, R | Scope.Scope | Reactivity> {
    const parts = yield* clusterPartsOf(options)
    const { choose, name, readFromPrimary, roleInterval, roleTimeout } = parts
    const clock = yield* Clock.Clock
    const now = (): number => monotonicMillis(clock)
    const roles = new Roles(parts.nodes.keys())
    const { readers, writers } = serving(roles, choose, readFromPrimary, now)

    const plans = new Map<string, Plan<R>>()
    for (const [node, given] of parts.nodes) plans.set(node, yield* plan<R>(given, () => roles.ask(node)))
    const pools = yield* makePools(makeMap, plans, parts, options, roles)

    const open = (node: string, onLost: () => void) => {
      const config: PgClientConfig = parts.nodes.get(node)!
      const wire = new Wire(connector(config), now)
      const connect = PgConnection.make({ ...config, applicationName: `${name} roles`, stream: wire.open })
      // Registered first, so that it runs after the driver's own.
      return Effect.addFinalizer(() => wire.close(plans.get(node)!.grace)).pipe(
        Effect.andThen(connect),
        Effect.map((session): Question => {
          wire.onLost = onLost
          return learn(session)
        }),
        // Then one of the pool's own tells.
        Effect.catchIf(isFull, () => Effect.succeed<Question>(pools.get(node)!.use(learn)))
      )
    }
    yield* Effect.addFinalizer(() => Effect.sync(() => roles.close()))
    for (const node of plans.keys()) {
      const demoted = pools.get(node)!.clear
      yield* Effect.forkScoped(watch(node, { roles, open, interval: roleInterval, timeout: roleTimeout, demoted }))
    }

    const nodes = Effect.forEach(pools, ([node, pool]) =>
      Effect.map(pool.stats, (stats): NodeStatus => ({
        node,
        role: roles.roleOf(node),
        writes: roles.primary === node,
        stats
      })))
    const { borrowTimeout } = plans.values().next().value!
    const sessions = Effect.fnUntraced(function*(
      role: string,
      fleet: Fleet<string>,
      missing: string
    ): Effect.fn.Return<Sessions, never, Reactivity> {
      const lends = makeLender({
        name: `${name}/${role}`,
        roles,
        pools,
        borrowTimeout,
        fleet,
        missing
      })
      const sql = yield* makeClient(lends, options)
      return { ...lends, name: `${name}/${role}`, sql, nodes }
    })
    return {
      reader: yield* sessions("reader", readers, "no node serves reads"),
      writer: yield* sessions("writer", writers, "no node is the primary")
    }
  })
