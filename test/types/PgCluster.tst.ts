import type { PgClient, PgConnection } from "@effect/sql-pg"
import { Context, Effect, type Layer, Schedule, type Scope } from "effect"
import type { PoolError } from "effect-queuepool"
import * as PgCluster from "effect-queuepool/PgCluster"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { describe, expect, it } from "tstyche"

class Clock extends Context.Service<Clock, { readonly now: number }>()("Clock") {}

const nodes = [{ host: "a" }, { host: "b", name: "second" }]

describe("PgCluster", () => {
  it("provides two services that differ", () => {
    expect(PgCluster.layer({ nodes })).type.toBe<
      Layer.Layer<PgCluster.Reader | PgCluster.Writer, PoolError.PoolError>
    >()
    expect(PgCluster.Writer).type.not.toBeAssignableTo<typeof PgCluster.Reader>()
  })

  it("asks for what the user's own effects need", () => {
    const check = () => Clock
    expect(PgCluster.layer({ nodes, check })).type.toBe<
      Layer.Layer<PgCluster.Reader | PgCluster.Writer, PoolError.PoolError, Clock>
    >()
  })

  it("lends sessions, and tells why not", () => {
    const writer = Effect.flatMap(PgCluster.Writer, ({ get }) => get)
    expect(writer).type.toBe<
      Effect.Effect<PgConnection.PgConnection, SqlError | PoolError.PoolError, Scope.Scope | PgCluster.Writer>
    >()
    const role = Effect.flatMap(PgCluster.Reader, (reader) => reader.use(PgQueuePool.role))
    expect(role).type.toBe<
      Effect.Effect<PgCluster.Role, SqlError | PoolError.PoolError, PgCluster.Reader>
    >()
  })

  it("makes a client of each", () => {
    expect(PgCluster.layerClient(PgCluster.Reader)).type.toBe<
      Layer.Layer<PgClient.PgClient | SqlClient, never, PgCluster.Reader>
    >()
  })

  it("refuses what cannot be", () => {
    expect(PgCluster.layer).type.not.toBeCallableWith({})
    expect(PgCluster.layer).type.not.toBeCallableWith({ nodes, warm: "eager" })
    expect(PgCluster.layer).type.not.toBeCallableWith({ nodes, readFromPrimary: true })
    expect(PgCluster.layer).type.toBeCallableWith({ nodes, retry: Schedule.forever })
  })
})
