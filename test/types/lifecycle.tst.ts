import type * as PoolError from "effect-queuepool/PoolError"
import * as QueuePool from "effect-queuepool/QueuePool"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { describe, expect, it } from "tstyche"

interface Db {
  readonly query: string
}

class S1 extends Context.Service<S1, "S1">()("S1") {}
class S2 extends Context.Service<S2, "S2">()("S2") {}
class S3 extends Context.Service<S3, "S3">()("S3") {}
class S4 extends Context.Service<S4, "S4">()("S4") {}

declare const acquire: Effect.Effect<Db, "Refused">
declare const pool: QueuePool.QueuePool<Db, "Refused">
declare const cache: QueuePool.QueuePool<number>

type E = PoolError.PoolError

describe("hooks", () => {
  it("may need services each, which making the pool then needs", () => {
    expect(QueuePool.make({
      acquire,
      onAcquire: () => S1,
      onBorrow: () => S2,
      onReturn: () => S3,
      onRelease: () => S4
    })).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db, "Refused">, E, S1 | S2 | S3 | S4 | Scope.Scope>
    >()
  })

  it("of acquire fails as acquire does, and the others with anything", () => {
    expect(QueuePool.make).type.toBeCallableWith({ acquire, onAcquire: () => Effect.fail("Refused" as const) })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, onAcquire: () => Effect.fail("other") })
    expect(QueuePool.make).type.toBeCallableWith({ acquire, onBorrow: () => Effect.fail("other") })
  })

  it("on return may have nothing to do", () => {
    expect(QueuePool.make).type.toBeCallableWith({ acquire, onReturn: () => undefined })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, onBorrow: () => undefined })
  })
})

describe("acquire", () => {
  it("may be a Stream of effects", () => {
    const changes = undefined as unknown as Stream.Stream<Effect.Effect<Db, "Refused", S1>, never, S1>
    expect(QueuePool.make({ acquire: changes })).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db, "Refused">, E, S1 | Scope.Scope>
    >()
  })
})

describe("borrowing", () => {
  it("an item if there is one cannot fail with E", () => {
    expect(pool.getIfAvailable).type.toBe<Effect.Effect<Option.Option<Db>, E, Scope.Scope>>()
    expect(pool.useIfAvailable((db) => Effect.succeed(db.query))).type.toBe<Effect.Effect<Option.Option<string>, E>>()
  })

  it("alone is as ever", () => {
    expect(pool.getExclusive).type.toBe<Effect.Effect<Db, "Refused" | E, Scope.Scope>>()
    expect(pool.useExclusive((db) => Effect.as(S1, db))).type.toBe<Effect.Effect<Db, "Refused" | E, S1>>()
  })

  it("several gives an array", () => {
    expect(pool.getN(2)).type.toBe<Effect.Effect<Array<Db>, "Refused" | E, Scope.Scope>>()
  })

  it("of several pools gives a tuple, and fails with the errors of all", () => {
    expect(QueuePool.zip(pool, cache)).type.toBe<Effect.Effect<[Db, number], "Refused" | E, Scope.Scope>>()
    expect(QueuePool.zip(cache, cache)).type.toBe<Effect.Effect<[number, number], E, Scope.Scope>>()
  })
})

describe("live control", () => {
  it("swap needs what the new way needs, but for the scope of the item", () => {
    const next = undefined as unknown as Effect.Effect<Db, "Refused", S1 | Scope.Scope>
    expect(pool.swap(next)).type.toBe<Effect.Effect<void, "Refused" | E, S1>>()
    expect(pool.swap).type.not.toBeCallableWith(Effect.fail("other"))
  })

  it("of a service is static", () => {
    class Dbs extends QueuePool.Service<Dbs>()("Dbs", { acquire }) {}
    expect(Dbs.layer).type.toBe<Layer.Layer<Dbs, E>>()
    expect(Dbs.resize({ max: 3 })).type.toBe<Effect.Effect<void, E, Dbs>>()
    expect(Dbs.suspend).type.toBe<Effect.Effect<void, never, Dbs>>()
    expect(Dbs.getN(2)).type.toBe<Effect.Effect<Array<Db>, "Refused" | E, Dbs | Scope.Scope>>()
    expect(Dbs.swap(acquire)).type.toBe<Effect.Effect<void, "Refused" | E, Dbs>>()
    expect(Dbs.detach({ query: "" })).type.toBe<Effect.Effect<boolean, never, Dbs | Scope.Scope>>()
  })
})
