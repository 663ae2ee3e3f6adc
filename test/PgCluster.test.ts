import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schedule } from "effect"
import { PoolError } from "effect-queuepool"
import * as PgCluster from "effect-queuepool/PgCluster"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { SqlClient } from "effect/sql"
import * as Net from "node:net"
import { makeCluster, nodesOf, portOf, rolesOf, untilRoles } from "./kit/cluster.ts"
import { EmbeddedPgCluster, type Node } from "./kit/EmbeddedPgCluster.ts"
import { ask, until } from "./kit/sessions.ts"

type Three = readonly [Node, Node, Node]

const servers = Effect.map(EmbeddedPgCluster, (cluster) => ({ cluster, three: cluster.nodes as unknown as Three }))

/** Servers of its own for each test: they end in another state than they began. */
const on = (options?: Parameters<typeof EmbeddedPgCluster.layer>[0]) =>
  Effect.provide(EmbeddedPgCluster.layer({ maxConnections: 40, ...options }), { local: true })

const port = ({ pg }: Node) => pg.port

/** Two sessions at once: they are of two nodes, for the second node has fewer borrowers. */
const twoOf = ({ get }: PgCluster.Sessions) =>
  Effect.scoped(Effect.gen(function*() {
    const seen = new Set<unknown>()
    for (const session of [yield* get, yield* get]) seen.add(yield* ask(session, "select inet_server_port()"))
    return seen
  }))

describe("roles", () => {
  it.live("are learnt from the servers: writers borrow from the primary, readers from the replica that has fewer borrowers", () =>
    Effect.gen(function*() {
      const { three: [first, second, third] } = yield* servers
      const cluster = yield* makeCluster()
      const { reader, writer } = cluster
      for (let i = 0; i < 5; i++) assert.strictEqual(yield* portOf(writer), port(first))
      yield* untilRoles(cluster, "primary!", "replica", "replica")
      assert.deepStrictEqual(yield* twoOf(reader), new Set<unknown>([port(second), port(third)]))
      assert.strictEqual(yield* writer.use(PgQueuePool.role), "primary")
      assert.strictEqual(yield* reader.use(PgQueuePool.role), "replica")
      assert.strictEqual(yield* Effect.scoped(Effect.flatMap(writer.get, PgQueuePool.role)), "primary")
      assert.strictEqual(yield* reader.useExclusive(PgQueuePool.role), "replica")
      assert.deepStrictEqual([reader.name, writer.name], ["PgCluster/reader", "PgCluster/writer"])
      // One session per node that asks, beside those of the pools.
      const asking = yield* first.pg.sessionCount({ applicationName: "PgCluster roles" })
      assert.strictEqual(asking, 1)
    }).pipe(Effect.scoped, on()))

  it.live("are those of two services, each with a client", () =>
    Effect.gen(function*() {
      const { cluster, three } = yield* servers
      const layer = PgCluster.layer({ nodes: nodesOf(three), name: "app" })
      const sql = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_is_in_recovery() as recovers`)
      const program = Effect.gen(function*() {
        const writer = yield* PgCluster.Writer
        const reader = yield* PgCluster.Reader
        yield* writer.sql.withTransaction(Effect.andThen(
          writer.sql`create table rows (n int)`,
          writer.sql`insert into rows values (1)`
        ))
        yield* cluster.caughtUp(three[0], three.slice(1))
        assert.deepStrictEqual(yield* reader.sql`select n from rows`, [{ n: 1 }])
        assert.strictEqual(
          PgQueuePool.sqlState(yield* Effect.flip(reader.sql`insert into rows values (2)`)),
          "25006"
        )
        const on = <I>(role: Parameters<typeof PgCluster.layerClient<I>>[0]) =>
          Effect.provide(sql, PgCluster.layerClient(role))
        assert.deepStrictEqual(yield* on(PgCluster.Writer), [{ recovers: false }])
        assert.deepStrictEqual(yield* on(PgCluster.Reader), [{ recovers: true }])
        assert.strictEqual(writer.name, "app/writer")
      })
      yield* Effect.provide(program, layer)
    }).pipe(Effect.scoped, on()))

  it.live("a writer's session that meets a read-only server (25006) is recycled with its peers, and the role learnt again", () =>
    Effect.gen(function*() {
      const { cluster: control, three: [first, second] } = yield* servers
      yield* first.pg.query("create table rows (n int)")
      yield* control.caughtUp(first, [second])
      // An address that leads to one server, and then to another.
      let target = first.pg.port
      const cluster = yield* makeCluster({
        nodes: [{ name: "address", username: "postgres", stream: () => Net.connect(target, "127.0.0.1") }],
        applicationName: "moved",
        readFromPrimary: "never",
        // Nothing but the failure can tell.
        roleInterval: "1 hour"
      })
      const { writer } = cluster
      yield* untilRoles(cluster, "primary!")
      target = second.pg.port
      // Two sessions on the new server.
      yield* Effect.scoped(Effect.all([writer.get, writer.get], { concurrency: 2 }))
      const error = yield* Effect.flip(writer.sql`insert into rows values (1)`)
      assert.strictEqual(PgQueuePool.sqlState(error), "25006")
      yield* untilRoles(cluster, "replica")
      yield* until(
        Effect.map(
          writer.nodes,
          ([node]) =>
            node!.stats.idle === 0 && node!.stats.closed === 2 && node!.stats.recycled["read-only server"]! > 0
        )
      )

      const waiting = yield* Effect.forkChild(writer.sql`insert into rows values (2) returning n`)
      yield* control.kill(first)
      yield* control.promote(second)
      yield* untilRoles(cluster, "primary!")
      assert.deepStrictEqual(yield* Fiber.join(waiting), [{ n: 2 }])
    }).pipe(Effect.scoped, on({ replicas: 1, synchronous: false })))

  it.live("a primary that has become a replica under its sessions loses them", () =>
    Effect.gen(function*() {
      const { three: [first, second] } = yield* servers
      let target = first.pg.port
      const cluster = yield* makeCluster({
        nodes: [{ name: "address", username: "postgres", stream: () => Net.connect(target, "127.0.0.1") }],
        roleInterval: "10 millis"
      })
      yield* portOf(cluster.writer)
      assert.strictEqual(yield* portOf(cluster.reader), first.pg.port)
      target = second.pg.port
      yield* first.pg.killBackends({ applicationName: "PgCluster roles" })
      yield* untilRoles(cluster, "replica")
      assert.strictEqual(yield* portOf(cluster.reader), second.pg.port)
    }).pipe(Effect.scoped, on({ replicas: 1 })))
})

describe("a node", () => {
  it.live("that has no session to spare for the question is asked over one of its pool", () =>
    Effect.gen(function*() {
      const { three: [first] } = yield* servers
      yield* first.pg.query("create role few login connection limit 2")
      const cluster = yield* makeCluster({ nodes: nodesOf([first]), username: "few", max: 1 })
      const { writer } = cluster
      yield* untilRoles(cluster, "primary!")
      const pid = yield* writer.use((session) => Effect.succeed(session.processId))
      yield* first.pg.query("alter role few connection limit 1")
      assert.strictEqual(yield* first.pg.killBackends({ applicationName: "PgCluster roles" }), 1)
      yield* until(Effect.map(first.pg.log, (log) => log.includes("too many connections for role")))
      yield* untilRoles(cluster, "primary!")
      assert.strictEqual(yield* writer.use((session) => Effect.succeed(session.processId)), pid)
    }).pipe(Effect.scoped, on({ replicas: 0, synchronous: false })))

  it.live("is asked again when one of its sessions is lost", () =>
    Effect.gen(function*() {
      const { cluster: control, three: [first, second] } = yield* servers
      const cluster = yield* makeCluster({ applicationName: "lost", roleInterval: "1 hour" })
      yield* untilRoles(cluster, "primary!", "replica")
      assert.strictEqual(yield* portOf(cluster.reader), port(second))
      // Its sessions outlive the promotion, and tell nobody.
      yield* control.promote(second)
      assert.deepStrictEqual(yield* rolesOf(cluster), ["primary!", "replica"])
      assert.strictEqual(yield* second.pg.killBackends({ applicationName: "lost" }), 1)
      yield* untilRoles(cluster, "primary", "primary!")
      assert.strictEqual(yield* portOf(cluster.writer), port(second))
      yield* control.kill(first)
    }).pipe(Effect.scoped, on({ replicas: 1, synchronous: false })))

  it.live("is out of reach as soon as the session ends over which it is asked", () =>
    Effect.gen(function*() {
      const { cluster: control, three } = yield* servers
      const cluster = yield* makeCluster({ nodes: nodesOf(three), roleInterval: "1 hour" })
      yield* untilRoles(cluster, "primary!")
      yield* control.kill(three[0])
      yield* untilRoles(cluster, "?")
    }).pipe(Effect.scoped, on({ replicas: 0, synchronous: false })))

  it.live("that holds its connection and answers nothing is out of reach, until it answers", () =>
    Effect.gen(function*() {
      const { three: [first] } = yield* servers
      const cluster = yield* makeCluster({
        nodes: nodesOf([first]),
        roleInterval: "20 millis",
        roleTimeout: "200 millis"
      })
      yield* untilRoles(cluster, "primary!")
      const [row] = yield* first.pg.query(
        "select pid from pg_stat_activity where application_name = 'PgCluster roles'"
      )
      const pid = Number(row?.["pid"])
      yield* first.pg.pause(pid)
      yield* untilRoles(cluster, "?")
      yield* first.pg.resume(pid)
      yield* untilRoles(cluster, "primary!")
    }).pipe(Effect.scoped, on({ replicas: 0, synchronous: false })))

  it.live("runs the user's hook when a session comes back", () =>
    Effect.gen(function*() {
      const { three } = yield* servers
      let returned = 0
      const { writer } = yield* makeCluster({ nodes: nodesOf(three), onReturn: () => Effect.sync(() => returned++) })
      yield* portOf(writer)
      assert.strictEqual(yield* Effect.flip(writer.use(() => Effect.fail("mine"))), "mine")
      yield* until(Effect.sync(() => returned === 2))
    }).pipe(Effect.scoped, on({ replicas: 0, synchronous: false })))
})

describe("failover", () => {
  it.live("in the middle of load loses no acknowledged write, and reads go on", () =>
    Effect.gen(function*() {
      const { cluster: control, three: [first] } = yield* servers
      const cluster = yield* makeCluster()
      const { reader, writer } = cluster
      yield* writer.sql`create table rows (n int primary key)`
      yield* control.caughtUp(first, control.nodes.slice(1))

      const acknowledged = new Set<number>()
      let next = 0
      const load = { over: false }
      let reads = 0
      const write = Effect.gen(function*() {
        while (!load.over) {
          const n = next++
          // A write whose answer was lost may be there: the second attempt then changes nothing.
          yield* writer.sql`insert into rows values (${n}) on conflict do nothing`.pipe(
            Effect.retry(Schedule.spaced(5))
          )
          acknowledged.add(n)
        }
      })
      const read = Effect.gen(function*() {
        while (!load.over) {
          yield* Effect.retry(reader.sql`select count(*) from rows`, Schedule.spaced(5))
          reads++
        }
      })
      const running = yield* Effect.forkChild(
        Effect.all([...Array.from({ length: 6 }, () => write), ...Array.from({ length: 3 }, () => read)], {
          concurrency: "unbounded",
          discard: true
        })
      )
      yield* until(Effect.sync(() => acknowledged.size > 100))
      const cut = yield* Effect.forkChild(Effect.exit(writer.sql`select pg_sleep(600)`))
      const sleeping = first.pg.query("select from pg_stat_activity where query like 'select pg_sleep%'")
      yield* until(Effect.map(sleeping, ({ length }) => length === 1))
      const before = acknowledged.size
      const promoted = yield* control.failover(first)
      yield* until(Effect.sync(() => acknowledged.size > before + 100))
      const readsThen = reads
      yield* until(Effect.sync(() => reads > readsThen + 20))
      load.over = true
      yield* Fiber.join(running)

      const rows = yield* promoted.pg.query("select n from rows")
      const there = new Set(rows.map((row) => row["n"]))
      assert.deepStrictEqual([...acknowledged].filter((n) => !there.has(n)), [])
      assert.isTrue(Exit.isFailure(yield* Fiber.join(cut)))
      assert.strictEqual(yield* portOf(writer), promoted.pg.port)

      // A primary from before the failover that comes back is not written to.
      const later = control.nodes.filter((node) => node !== first)
      yield* first.pg.start
      yield* untilRoles(
        cluster,
        "primary",
        ...later.map((node) => node === promoted ? "primary!" : "replica")
      )
      for (let i = 0; i < 10; i++) assert.notStrictEqual(yield* portOf(reader), first.pg.port)
      assert.strictEqual(yield* portOf(writer), promoted.pg.port)
      // Nor when it is the only one.
      yield* Effect.forEach(later, control.kill, { discard: true })
      yield* untilRoles(cluster, "primary", "?", "?")
      yield* Effect.forEach(later, ({ pg }) => pg.start, { discard: true })
      assert.strictEqual(yield* portOf(writer), promoted.pg.port)
      // As a replica it is welcome.
      yield* control.rebuild(first, promoted)
      yield* untilRoles(
        cluster,
        "replica",
        ...later.map((node) => node === promoted ? "primary!" : "replica")
      )
    }).pipe(Effect.scoped, on()))

  it.live("a borrower that waits in the queue of a lost primary goes on to the new one", () =>
    Effect.gen(function*() {
      const { cluster: control, three: [first] } = yield* servers
      const cluster = yield* makeCluster({ max: 1 })
      const { writer } = cluster
      yield* untilRoles(cluster, "primary!", "replica", "replica")
      const holder = yield* Effect.forkChild(writer.use((session) => session.query("select pg_sleep(60)")))
      yield* until(Effect.map(writer.nodes, ([node]) => node!.stats.used === 1 && node!.stats.pending === 0))
      const waiting = yield* Effect.forkChild(portOf(writer))
      yield* until(Effect.map(writer.nodes, ([node]) => node!.stats.pending === 1))
      const promoted = yield* control.failover(first)
      assert.strictEqual(yield* Fiber.join(waiting), promoted.pg.port)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(holder)))
    }).pipe(Effect.scoped, on()))

  it.live("the loss of replicas leaves the others, then the primary, and with \"never\" nobody", () =>
    Effect.gen(function*() {
      const { cluster: control, three: [first, second, third] } = yield* servers
      const cluster = yield* makeCluster()
      const { reader } = cluster
      const strict = yield* makeCluster({ readFromPrimary: "never", borrowTimeout: "50 millis" })
      yield* untilRoles(cluster, "primary!", "replica", "replica")
      yield* control.kill(second)
      yield* untilRoles(cluster, "primary!", "?", "replica")
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* portOf(reader), port(third))
      yield* control.kill(third)
      yield* untilRoles(cluster, "primary!", "?", "?")
      assert.strictEqual(yield* portOf(reader), port(first))

      yield* untilRoles(strict, "primary!", "?", "?")
      const error = yield* Effect.flip(Effect.scoped(strict.reader.get))
      assert.instanceOf(error, PoolError.PoolError)
      assert.match(
        error.message,
        /^BorrowTimeout: no item of "PgCluster\/reader" within \d+ms \(0\/0 lent, 1 waiting; last open failed: no node serves reads: node1 is the primary, node2 is out of reach \(.+\), node3 is out of reach \(.+\)\)$/
      )

      yield* second.pg.start
      yield* untilRoles(cluster, "primary!", "replica", "?")
      assert.strictEqual(yield* portOf(reader), port(second))
      const always = yield* makeCluster({ readFromPrimary: "always" })
      yield* untilRoles(always, "primary!", "replica", "?")
      assert.deepStrictEqual(yield* twoOf(always.reader), new Set<unknown>([port(first), port(second)]))
    }).pipe(Effect.scoped, on({ synchronous: false })))

  it.live("all down, then back: who waits is served", () =>
    Effect.gen(function*() {
      const { cluster: control, three } = yield* servers
      const cluster = yield* makeCluster()
      const { reader, writer } = cluster
      yield* writer.sql`create table rows (n int)`
      yield* untilRoles(cluster, "primary!", "replica", "replica")
      yield* Effect.forEach(three, control.kill, { discard: true })
      yield* untilRoles(cluster, "?", "?", "?")
      const waiting = yield* Effect.forkChild(
        Effect.all([writer.sql`insert into rows values (1) returning n`, portOf(reader)], { concurrency: 2 })
      )
      yield* Effect.forEach(three, ({ pg }) => pg.start, { concurrency: 3, discard: true })
      const [rows, from] = yield* Fiber.join(waiting)
      assert.deepStrictEqual(rows, [{ n: 1 }])
      assert.include(three.map(port), from!)
      yield* untilRoles(cluster, "primary!", "replica", "replica")
    }).pipe(Effect.scoped, on()))

  it.live("a cluster that starts before its servers serves when they are there, and ends with them away", () =>
    Effect.gen(function*() {
      const { cluster: control, three } = yield* servers
      yield* Effect.forEach(three, control.kill, { discard: true })
      const cluster = yield* makeCluster({ borrowTimeout: "Infinity" })
      const waiting = yield* Effect.forkChild(portOf(cluster.writer))
      yield* Effect.forEach(three, ({ pg }) => pg.start, { concurrency: 3, discard: true })
      assert.strictEqual(yield* Fiber.join(waiting), port(three[0]))
      yield* Effect.forEach(three, control.kill, { discard: true })
    }).pipe(Effect.scoped, on()))
})
