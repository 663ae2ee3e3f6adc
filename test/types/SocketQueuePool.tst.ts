import { Context, Data, Effect, type Layer, type Scope } from "effect"
import { type PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import { describe, expect, it } from "tstyche"

class Needed extends Context.Service<Needed, string>()("Needed") {}
class Refused extends Data.TaggedError("Refused") {}

type Error = SocketQueuePool.ConnectionError
type Pool<E = Error> = QueuePool.QueuePool<SocketQueuePool.Connection, E>

const endpoint = { host: "localhost", port: 6379 }
const refuse = () => Effect.fail(new Refused())

describe("make", () => {
  it("lends connections, and fails to open as they do", () => {
    expect(SocketQueuePool.make({ endpoint })).type.toBe<Effect.Effect<Pool, PoolError.PoolError, Scope.Scope>>()
  })

  it("takes over the errors of a handshake, and what it needs", () => {
    expect(SocketQueuePool.make({ endpoint, onAcquire: refuse })).type.toBe<
      Effect.Effect<Pool<Error | Refused>, PoolError.PoolError, Scope.Scope>
    >()
    expect(SocketQueuePool.make({ endpoint, onAcquire: () => Needed })).type.toBe<
      Effect.Effect<Pool, PoolError.PoolError, Needed | Scope.Scope>
    >()
  })

  it("fails with the errors of an open only when it is warmed eagerly", () => {
    expect(SocketQueuePool.make({ endpoint, onAcquire: refuse, min: 1, warm: "eager" })).type.toBe<
      Effect.Effect<Pool<Error | Refused>, PoolError.PoolError | Error | Refused, Scope.Scope>
    >()
  })

  it("takes no acquire, and no endpoint that is neither TCP nor Unix", () => {
    expect(SocketQueuePool.make).type.not.toBeCallableWith({ endpoint, acquire: Effect.void })
    expect(SocketQueuePool.make).type.not.toBeCallableWith({ endpoint: { host: "localhost" } })
    expect(SocketQueuePool.make).type.not.toBeCallableWith({})
  })
})

describe("layer and Service", () => {
  class Plain extends Context.Service<Plain, Pool>()("Plain") {}
  class Cache extends SocketQueuePool.Service<Cache>()("Cache", { endpoint, onAcquire: refuse }) {}
  class Late extends SocketQueuePool.Service<Late>()("Late", Effect.as(Needed, { endpoint })) {}

  it("provide the pool, and need what the options need", () => {
    expect(SocketQueuePool.layer(Plain, { endpoint })).type.toBe<Layer.Layer<Plain, PoolError.PoolError>>()
    expect(Cache.layer).type.toBe<Layer.Layer<Cache, PoolError.PoolError>>()
    expect(Late.layer).type.toBe<Layer.Layer<Late, PoolError.PoolError, Needed>>()
    expect(Cache.useItem(({ read }) => read)).type.toBe<
      Effect.Effect<Buffer, Error | Refused | PoolError.PoolError, Cache>
    >()
  })
})

describe("connect", () => {
  it("is an acquire of any pool, with the rules and the monitor", () => {
    const pool = QueuePool.make({
      acquire: SocketQueuePool.connect(endpoint),
      recycle: [RecyclePolicy.idle("1 minute"), ...SocketQueuePool.rules],
      monitor: SocketQueuePool.monitor,
      check: SocketQueuePool.glance
    })
    expect(pool).type.toBe<Effect.Effect<Pool, PoolError.PoolError, Scope.Scope>>()
  })
})
