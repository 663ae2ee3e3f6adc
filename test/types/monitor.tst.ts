import type * as PoolError from "effect-queuepool/PoolError"
import * as QueuePool from "effect-queuepool/QueuePool"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { describe, expect, it } from "tstyche"

interface Db {
  readonly died: Effect.Effect<void, "Lost", Watcher>
}

class Watcher extends Context.Service<Watcher, "Watcher">()("Watcher") {}
declare const acquire: Effect.Effect<Db>

describe("monitor", () => {
  it("may need services, which making the pool then needs, and fail with anything", () => {
    expect(QueuePool.make({ acquire, monitor: (db) => db.died })).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db>, PoolError.PoolError, Watcher | Scope.Scope>
    >()
  })

  it("asks of borrowers nothing, but that they hear of a lease that was ended", () => {
    expect(
      Effect.flatMap(QueuePool.make({ acquire, monitor: (db) => db.died }), (pool) => pool.use(() => Effect.succeed(1)))
    ).type.toBe<Effect.Effect<number, PoolError.PoolError, Watcher | Scope.Scope>>()
  })

  it("is a function to an Effect", () => {
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, monitor: Effect.void })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, monitor: () => true })
  })
})
