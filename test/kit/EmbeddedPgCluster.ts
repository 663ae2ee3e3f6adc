/**
 * A PostgreSQL primary and its streaming replicas on 127.0.0.1, each a server of
 * its own. Nothing here waits for a time: it waits for positions in the log.
 */
import { Context, Effect, Layer, type Scope } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { EmbeddedPg, EmbeddedPgError } from "./EmbeddedPg.ts"
import { run, type RunAs } from "./pgFiles.ts"
import * as PgServer from "./pgServer.ts"
import { live } from "./real.ts"

type Failure = SqlError | EmbeddedPgError

export interface Options extends Omit<PgServer.Options, "fill"> {
  /** Default: 2. */
  readonly replicas?: number | undefined
  /**
   * A commit is acknowledged when one replica has it too, so that the most advanced of them can take
   * over without loss. Default: true.
   */
  readonly synchronous?: boolean | undefined
}

export interface Node {
  readonly name: string
  readonly pg: EmbeddedPg["Service"]
  readonly server: PgServer.PgServer
}

export class EmbeddedPgCluster extends Context.Service<EmbeddedPgCluster, {
  /** The first is the primary at the start. */
  readonly nodes: ReadonlyArray<Node>
  readonly node: (name: string) => Node
  /** Ends the server without a word to anybody, as a crash does. */
  readonly kill: (node: Node) => Effect.Effect<void, EmbeddedPgError>
  /** Makes a replica the primary, and has these others follow it. */
  readonly promote: (node: Node, others?: ReadonlyArray<Node>) => Effect.Effect<void, Failure>
  /** Kills the primary, which stays away, and promotes the replica that has most of the log; returns that. */
  readonly failover: (primary: Node) => Effect.Effect<Node, Failure>
  /** Starts a server that has stopped, whatever it was, as a replica with a new copy of this primary's data. */
  readonly rebuild: (node: Node, primary: Node) => Effect.Effect<void, Failure>
  /** Waits until these replicas show all that the primary has written so far. */
  readonly caughtUp: (primary: Node, replicas: ReadonlyArray<Node>) => Effect.Effect<void, Failure>
}>()("effect-queuepool/test/kit/EmbeddedPgCluster") {
  static readonly layer = (options: Options = {}): Layer.Layer<EmbeddedPgCluster, Failure> =>
    Layer.effect(EmbeddedPgCluster, make(options))
}

// Three servers on a small machine: little memory, few processes, no fsync.
const small = {
  shared_buffers: "8MB",
  autovacuum: "off",
  io_method: "sync",
  max_parallel_workers: 0,
  max_worker_processes: 2,
  max_wal_senders: 8,
  max_logical_replication_workers: 0,
  // A replica that comes back finds what it missed.
  wal_keep_size: "256MB",
  wal_retrieve_retry_interval: "50ms",
  // What a replica is behind must not make it refuse queries.
  max_standby_streaming_delay: "-1"
}

const nodeName = (index: number): string => `node${index}`

const conninfo = (name: string, port: number): string =>
  `host=127.0.0.1 port=${port} user=postgres application_name=${name}`

const files = <A>(evaluate: () => A): Effect.Effect<A, EmbeddedPgError> =>
  Effect.try({
    try: evaluate,
    catch: (cause) => new EmbeddedPgError({ reason: "Files", message: `The copy of a server: ${String(cause)}`, cause })
  })

// The data of a server at work. Files come and go meanwhile, which cp takes for errors; the log is streamed later.
const copyScript = `cp -R "$1" "$2" 2>/dev/null
rm -f "$2/postmaster.pid" "$2/postmaster.opts" "$2/postgresql.auto.conf"
find "$2/pg_wal" "$2/pg_replslot" -type f -exec rm -f {} +
test -f "$2/global/pg_control"`

/** Fills a directory with what makes a server the replica of `primary`. */
const copyOf = (primary: Node, name: string) =>
  Effect.fnUntraced(function*(data: string, runAs: RunAs) {
    // Both are asked on the kit's one session, which a backup is bound to.
    const query = (sql: string, ...params: ReadonlyArray<string>) =>
      Effect.mapError(primary.pg.query(sql, params), (cause) =>
        new EmbeddedPgError({ reason: "Files", message: `The backup of ${primary.name}: ${String(cause)}`, cause }))
    yield* query("select pg_backup_start($1, true)::text", name)
    yield* run("sh", ["-c", copyScript, "sh", primary.server.data, data], runAs)
    const [stopped] = yield* query("select labelfile from pg_backup_stop(false)")
    yield* files(() => {
      const write = (file: string, text: string) => {
        const path = Path.join(data, file)
        Fs.writeFileSync(path, text, { mode: 0o600 })
        if (runAs !== undefined) {
          Fs.chownSync(path, runAs.uid, runAs.gid)
        }
      }
      write("backup_label", String(stopped?.["labelfile"]))
      write("standby.signal", "")
      write("postgresql.auto.conf", `primary_conninfo = '${conninfo(name, primary.server.port)}'\n`)
    })
  })

const startNode = Effect.fnUntraced(function*(name: string, options: PgServer.Options) {
  const server = yield* PgServer.make(options)
  return { name, server, pg: yield* EmbeddedPg.on(server) } satisfies Node
})

const until = <E>(condition: Effect.Effect<boolean, E>, what: string): Effect.Effect<void, E | EmbeddedPgError> =>
  condition.pipe(
    Effect.tap((met) => met ? Effect.void : Effect.sleep(5)),
    Effect.repeat({ until: (met) => met }),
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () => Effect.fail(new EmbeddedPgError({ reason: "Backend", message: `${what} has not come about` }))
    }),
    Effect.asVoid,
    live
  )

const one = (node: Node, sql: string, params: ReadonlyArray<unknown> = []): Effect.Effect<unknown, SqlError> =>
  Effect.map(node.pg.query(`select (${sql}) as value`, params), ([row]) => row?.["value"])

const caughtUp = Effect.fnUntraced(function*(primary: Node, replicas: ReadonlyArray<Node>) {
  // A message in the log that is written out at once, and with it every commit that was not waited for.
  const position = yield* one(primary, "pg_logical_emit_message(false, 'kit', '', true)::text")
  yield* Effect.forEach(
    replicas,
    (node) =>
      until(
        Effect.map(one(node, "pg_last_wal_replay_lsn() >= $1::text::pg_lsn", [position]), (there) => there === true),
        `${node.name} at ${String(position)} of ${primary.name}`
      ),
    { discard: true }
  )
})

const follow = Effect.fnUntraced(function*(node: Node, primary: Node) {
  yield* node.pg.query(`alter system set primary_conninfo = '${conninfo(node.name, primary.server.port)}'`)
  yield* node.pg.query("select pg_reload_conf()")
})

const received = (node: Node) =>
  Effect.map(
    // What has been replayed may be more than what was received since the last start.
    one(node, "(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn)::float8"),
    Number
  )

const promote = Effect.fnUntraced(function*(node: Node, others: ReadonlyArray<Node> = []) {
  // A synchronous primary waits for a replica with its first commit: so they are told first.
  yield* Effect.forEach(others, (other) => follow(other, node), { discard: true })
  if ((yield* one(node, "pg_promote(true, 30)")) !== true) {
    return yield* new EmbeddedPgError({ reason: "Backend", message: `${node.name} was not promoted` })
  }
})

const make: (options: Options) => Effect.Effect<EmbeddedPgCluster["Service"], Failure, Scope.Scope> = Effect.fnUntraced(
  function*({ maxConnections = 40, replicas = 2, settings, synchronous = true, ...rest }: Options) {
    const options = {
      ...rest,
      maxConnections,
      settings: { ...small, synchronous_commit: synchronous ? "on" : "off", ...settings }
    }
    const primary = yield* startNode(nodeName(1), options)
    const nodes: Array<Node> = [primary]
    for (let index = 2; index <= replicas + 1; index++) {
      const name = nodeName(index)
      nodes.push(yield* startNode(name, { ...options, fill: copyOf(primary, name) }))
    }
    if (synchronous) {
      // On every node: whichever comes to be the primary. Before it is set no commit waits.
      yield* Effect.forEach(nodes, ({ pg }) =>
        Effect.andThen(
          pg.query("alter system set synchronous_standby_names = 'ANY 1 (*)'"),
          pg.query("select pg_reload_conf()")
        ), { discard: true })
    }
    yield* caughtUp(primary, nodes.slice(1))

    const running = (of: ReadonlyArray<Node>) =>
      Effect.filter(of, (node) => Effect.isSuccess(node.pg.query("select 1")))
    const kill = ({ pg }: Node) => pg.stop("immediate")
    return EmbeddedPgCluster.of({
      nodes,
      node: (name) => nodes.find((node) => node.name === name)!,
      kill,
      promote,
      failover: Effect.fnUntraced(function*(primary) {
        yield* kill(primary)
        const left = yield* running(nodes.filter((node) => node !== primary))
        let best: { readonly node: Node; readonly position: number } | undefined
        for (const node of left) {
          const position = yield* received(node)
          if (best === undefined || position > best.position) best = { node, position }
        }
        if (best === undefined) {
          return yield* new EmbeddedPgError({ reason: "Backend", message: "No replica is left to take over" })
        }
        const { node } = best
        yield* promote(node, left.filter((other) => other !== node))
        return node
      }),
      rebuild: Effect.fnUntraced(function*(node, primary) {
        yield* node.pg.stop("fast")
        const { data, runAs } = node.server
        yield* files(() => Fs.rmSync(data, { recursive: true, force: true }))
        yield* copyOf(primary, node.name)(data, runAs)
        // The settings of the primary were not copied, for they name whom that one followed.
        if (synchronous) {
          yield* files(() =>
            Fs.appendFileSync(
              Path.join(data, "postgresql.auto.conf"),
              "synchronous_standby_names = 'ANY 1 (*)'\n"
            )
          )
        }
        yield* node.pg.start
        yield* caughtUp(primary, [node])
      }),
      caughtUp
    })
  }
)
