import type { PgClient, PgConnection } from "@effect/sql-pg"
import { type Config, Context, Effect, type Layer, type Scope } from "effect"
import type { PoolError, QueuePool } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import type { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import { describe, expect, it } from "tstyche"

type Provided = PgQueuePool.PgQueuePool | PgClient.PgClient | SqlClient.SqlClient
type Sessions = QueuePool.QueuePool<PgConnection.PgConnection, SqlError>

class Needed extends Context.Service<Needed, string>()("Needed") {}

describe("layer", () => {
  it("provides the clients and the pool, and fails as the pool does", () => {
    expect(PgQueuePool.layer({})).type.toBe<Layer.Layer<Provided, PoolError.PoolError>>()
    expect(PgQueuePool.layer({ warm: "lazy" })).type.toBe<Layer.Layer<Provided, PoolError.PoolError>>()
  })

  it("can fail with the driver's error only when it is warmed eagerly", () => {
    expect(PgQueuePool.layer({ warm: "eager", min: 1 })).type.toBe<
      Layer.Layer<Provided, PoolError.PoolError | SqlError>
    >()
  })

  it("needs what its effects need", () => {
    expect(PgQueuePool.layer({ reset: () => Needed })).type.toBe<
      Layer.Layer<Provided, PoolError.PoolError, Needed>
    >()
    expect(PgQueuePool.layer({ check: (session) => Effect.andThen(Needed, session.query("select 1")) })).type.toBe<
      Layer.Layer<Provided, PoolError.PoolError, Needed>
    >()
  })

  it("takes a level of hygiene or a function, nothing else", () => {
    expect<PgQueuePool.Options["reset"]>().type.toBeAssignableFrom<"rollback" | "discard" | "none">()
    expect(PgQueuePool.layer).type.not.toBeCallableWith({ reset: "clean" })
    expect(PgQueuePool.layer).type.not.toBeCallableWith({ acquire: Effect.void })
  })
})

describe("layerConfig", () => {
  it("adds the errors of the configuration", () => {
    expect<ReturnType<typeof PgQueuePool.layerConfig>>().type.toBe<
      Layer.Layer<Provided, PoolError.PoolError | SqlError | Config.ConfigError>
    >()
  })
})

describe("make", () => {
  it("is scoped, and its errors are in the type", () => {
    expect(PgQueuePool.make({})).type.toBe<Effect.Effect<Sessions, PoolError.PoolError, Scope.Scope>>()
    expect(PgQueuePool.make({ warm: "eager" })).type.toBe<
      Effect.Effect<Sessions, PoolError.PoolError | SqlError, Scope.Scope>
    >()
  })

  it("lends sessions", () => {
    expect<Sessions["get"]>().type.toBe<
      Effect.Effect<PgConnection.PgConnection, SqlError | PoolError.PoolError, Scope.Scope>
    >()
  })
})
