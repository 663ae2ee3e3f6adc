/**
 * A PostgreSQL primary with two replicas under load: the primary crashes, a replica
 * takes over, reads go on and writes come back, and the program is not told.
 *
 * npm run example failover
 */
import { Console, Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import * as PgCluster from "effect-queuepool/PgCluster"
import { EmbeddedPgCluster } from "../test/kit/EmbeddedPgCluster.ts"

// The program names the servers; which of them is the primary it finds out.
const Database = Layer.unwrap(Effect.map(EmbeddedPgCluster, ({ nodes }) =>
  PgCluster.layer({
    name: "examples/failover",
    nodes: nodes.map(({ name, pg }) => ({ name, url: Redacted.make(pg.url) })),
    max: 5
  })))

const count = { begun: 0, written: 0, repeated: 0, read: 0 }

// A write whose answer was lost may have been done: so it is one that can be repeated.
const write = Effect.gen(function*() {
  const { sql } = yield* PgCluster.Writer
  const n = count.begun++
  yield* sql`insert into orders values (${n}) on conflict do nothing`.pipe(
    Effect.tapError(() => Effect.sync(() => count.repeated++)),
    Effect.retry(Schedule.spaced("10 millis"))
  )
  count.written++
})

const read = Effect.gen(function*() {
  const { sql } = yield* PgCluster.Reader
  yield* Effect.retry(sql`select count(*) from orders`, Schedule.spaced("10 millis"))
  count.read++
})

const report = (what: string) =>
  Effect.gen(function*() {
    const { nodes } = yield* PgCluster.Reader
    const roles = (yield* nodes).map(({ node, role, writes }) =>
      `${node}: ${role ?? "away"}${writes ? " (writes)" : ""}`
    )
    yield* Console.log(`${what}: ${count.written} written, ${count.read} read; ${roles.join(", ")}`)
  })

/** Goes on until the load has done so much more. */
const more = (writes: number, reads: number) =>
  Effect.suspend(() => {
    const { read, written } = count
    return Effect.void.pipe(
      Effect.repeat({
        schedule: Schedule.spaced("5 millis"),
        until: () => count.written >= written + writes && count.read >= read + reads
      })
    )
  })

const parallel = { concurrency: "unbounded" } as const

const program = Effect.gen(function*() {
  const servers = yield* EmbeddedPgCluster
  const { sql } = yield* PgCluster.Writer
  yield* sql`create table orders (n int primary key)`
  yield* servers.caughtUp(servers.nodes[0]!, servers.nodes.slice(1))

  const load = yield* Effect.forkChild(
    Effect.all([
      Effect.replicateEffect(Effect.forever(write), 4, parallel),
      Effect.replicateEffect(Effect.forever(read), 4, parallel)
    ], parallel)
  )
  yield* more(200, 200)
  yield* report("before")

  const primary = servers.nodes[0]!
  yield* servers.kill(primary)
  yield* more(0, 200)
  yield* report(`${primary.name} has crashed`)

  const promoted = yield* servers.failover(primary)
  yield* more(200, 200)
  yield* report(`${promoted.name} was promoted`)

  yield* servers.rebuild(primary, promoted)
  const { nodes } = yield* PgCluster.Reader
  yield* Effect.repeat(nodes, {
    schedule: Schedule.spaced("5 millis"),
    until: (nodes) => nodes.every(({ role }) => role !== undefined)
  })
  yield* more(200, 200)
  yield* report(`${primary.name} is back, as a replica`)

  yield* Fiber.interrupt(load)
  const [row] = yield* sql<{ readonly rows: number }>`select count(*)::int as rows from orders`
  yield* Console.log(`${row?.rows} rows, ${count.written} acknowledged; ${count.repeated} writes had to be repeated`)
  if (row === undefined || row.rows < count.written) return yield* Effect.die("an acknowledged write is lost")
})

await Effect.runPromise(program.pipe(
  Effect.provide(Database.pipe(Layer.provideMerge(EmbeddedPgCluster.layer())))
))
