import { assert, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { Capacity, QueuePoolMap } from "effect-queuepool"
import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import { ask, reasonOf, sees, seesStats, serve, tlsServer } from "./kit/sockets.ts"

const byEndpoint = (maxTotal: number) =>
  QueuePoolMap.make({
    acquire: (endpoint: SocketQueuePool.Endpoint) => SocketQueuePool.connect(endpoint),
    max: 2,
    maxTotal,
    recycle: SocketQueuePool.rules,
    monitor: SocketQueuePool.monitor,
    check: SocketQueuePool.glance,
    checkAfter: "2 millis"
  })

it.effect("connections of several endpoints, by the content of the endpoint, nested and again", () =>
  Effect.gen(function*() {
    const servers = [yield* serve(), yield* serve({ tls: tlsServer }), yield* serve({ unix: true })]
    const map = yield* byEndpoint(6)
    for (let round = 0; round < 3; round++) {
      yield* Effect.scoped(Effect.gen(function*() {
        for (const { endpoint } of servers) {
          // Another object of the same content is the same key.
          const connection = yield* map.get({ ...endpoint })
          assert.strictEqual(yield* ask(connection, `round ${round}`), `round ${round}`)
        }
      }))
    }
    assert.deepStrictEqual(servers.map(({ peers }) => peers.length), [1, 1, 1])
    const { idle, keys } = yield* map.stats
    assert.deepStrictEqual({ idle, keys }, { idle: 3, keys: 3 })
  }))

it.effect("the end of a server recycles its connections and no others", () =>
  Effect.gen(function*() {
    const [one, two] = [yield* serve(), yield* serve()]
    const map = yield* byEndpoint(4)
    for (const { endpoint } of [one, two]) yield* map.use(endpoint, (connection) => ask(connection, "hello"))
    yield* one.stop
    yield* seesStats(map, ({ idle }) => idle === 1)
    assert.isTrue(Option.isSome(yield* map.statsOf(two.endpoint)))
    assert.strictEqual(yield* map.use(two.endpoint, (connection) => ask(connection, "again")), "again")
    assert.strictEqual(reasonOf(yield* Effect.flip(map.get(one.endpoint))), "ConnectFailed")
    assert.strictEqual(two.peers.length, 1)
  }))

it.effect("a server that is full makes another close what is idle there", () =>
  Effect.gen(function*() {
    const servers = [yield* serve(), yield* serve(), yield* serve()]
    const map = yield* byEndpoint(2)
    for (const { endpoint } of servers) yield* map.use(endpoint, (connection) => ask(connection, "hello"))
    yield* sees(() => servers[0]!.open() === 0)
    assert.strictEqual((yield* map.stats).idle, 2)
  }))

it.effect("pools of sockets share a capacity", () =>
  Effect.gen(function*() {
    const [one, two] = [yield* serve(), yield* serve()]
    const capacity = yield* Capacity.make({ permits: 1 })
    const pools = [
      yield* SocketQueuePool.make({ endpoint: one.endpoint, capacity }),
      yield* SocketQueuePool.make({ endpoint: two.endpoint, capacity })
    ]
    for (const pool of pools) yield* pool.use((connection) => ask(connection, "hello"))
    yield* seesStats(pools[0]!, ({ closed }) => closed === 1)
    yield* sees(() => one.open() === 0)
  }))
