import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { EmbeddedPgCluster, type Node } from "./EmbeddedPgCluster.ts"

const recovers = ({ pg }: Node) =>
  Effect.map(pg.query("select pg_is_in_recovery() as value"), ([row]) => row?.["value"] === true)

const count = ({ pg }: Node) => Effect.map(pg.query("select count(*)::int as n from rows"), ([row]) => row?.["n"])

layer(EmbeddedPgCluster.layer({ maxConnections: 10 }), { excludeTestServices: true })(
  "a primary and two replicas",
  (it) => {
    it.effect("show the same rows, survive the loss of the primary, and take it back", () =>
      Effect.gen(function*() {
        const cluster = yield* EmbeddedPgCluster
        const [first, second, third] = cluster.nodes as [Node, Node, Node]
        assert.deepStrictEqual(yield* Effect.forEach(cluster.nodes, recovers), [false, true, true])
        yield* first.pg.query("create table rows (n int)")
        yield* first.pg.query("insert into rows select generate_series(1, 100)")
        yield* cluster.caughtUp(first, [second, third])
        assert.deepStrictEqual(yield* Effect.forEach(cluster.nodes, count), [100, 100, 100])

        const promoted = yield* cluster.failover(first)
        assert.notStrictEqual(promoted, first)
        const other = promoted === second ? third : second
        assert.deepStrictEqual(yield* Effect.forEach([promoted, other], recovers), [false, true])
        // Waits for the replica to have it.
        yield* promoted.pg.query("insert into rows values (101)")
        yield* cluster.caughtUp(promoted, [other])
        assert.strictEqual(yield* count(other), 101)

        yield* cluster.rebuild(first, promoted)
        assert.isTrue(yield* recovers(first))
        assert.strictEqual(yield* count(first), 101)

        // And the other way: who was the primary first is that again.
        yield* cluster.promote(first, [second, third].filter((node) => node !== promoted))
        yield* promoted.pg.stop("fast")
        yield* first.pg.query("insert into rows values (102)")
        yield* cluster.caughtUp(first, [other])
        assert.strictEqual(yield* count(other), 102)
      }))
  }
)
