import type * as PoolError from "effect-queuepool/PoolError"
import type * as QueuePool from "effect-queuepool/QueuePool"
import * as QueuePoolMap from "effect-queuepool/QueuePoolMap"
import * as RecyclePolicy from "effect-queuepool/RecyclePolicy"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { describe, expect, it } from "tstyche"

interface Db {
  readonly query: Effect.Effect<string, "QueryFailed", Tracer>
}

class Config extends Context.Service<Config, "Config">()("Config") {}
class Checker extends Context.Service<Checker, "Checker">()("Checker") {}
class Tracer extends Context.Service<Tracer, "Tracer">()("Tracer") {}
class Special extends Context.Service<Special, "Special">()("Special") {}

declare const acquire: (tenant: string) => Effect.Effect<Db, "ConnectFailed", Config | Scope.Scope>
declare const plain: (tenant: string) => Effect.Effect<Db>
declare const map: QueuePoolMap.QueuePoolMap<string, Db, "ConnectFailed">

describe("QueuePoolMap.make", () => {
  it("infers the key, the item, the error and the needs from acquire", () => {
    expect(QueuePoolMap.make({ acquire })).type.toBe<
      Effect.Effect<
        QueuePoolMap.QueuePoolMap<string, Db, "ConnectFailed">,
        PoolError.PoolError,
        Config | Scope.Scope
      >
    >()
    expect(QueuePoolMap.make({ acquire: plain })).type.toBe<
      Effect.Effect<QueuePoolMap.QueuePoolMap<string, Db>, PoolError.PoolError, Scope.Scope>
    >()
  })

  it("asks for what its hooks and forKey need", () => {
    expect(QueuePoolMap.make({ acquire: plain, check: () => Effect.asVoid(Effect.service(Checker)) })).type.toBe<
      Effect.Effect<QueuePoolMap.QueuePoolMap<string, Db>, PoolError.PoolError, Checker | Scope.Scope>
    >()
    expect(
      QueuePoolMap.make({ acquire: plain, forKey: () => ({ check: () => Effect.asVoid(Effect.service(Special)) }) })
    ).type.toBe<
      Effect.Effect<QueuePoolMap.QueuePoolMap<string, Db>, PoolError.PoolError, Special | Scope.Scope>
    >()
    expect(
      QueuePoolMap.make({
        acquire,
        check: () => Effect.asVoid(Effect.service(Checker)),
        onBorrow: () => Effect.asVoid(Effect.service(Tracer)),
        forKey: (tenant) => tenant === "a" ? { reset: () => Effect.asVoid(Effect.service(Special)) } : undefined
      })
    ).type.toBe<
      Effect.Effect<
        QueuePoolMap.QueuePoolMap<string, Db, "ConnectFailed">,
        PoolError.PoolError,
        Config | Checker | Tracer | Special | Scope.Scope
      >
    >()
  })

  it("takes what a pool takes, of items of its type", () => {
    expect(QueuePoolMap.make).type.toBeCallableWith({
      acquire,
      max: 3,
      maxTotal: 5,
      fairness: "arrival" as const,
      idleTimeToLive: (tenant: string) => tenant === "a" ? "1 minute" as const : 5000,
      warm: "lazy" as const,
      recycle: [RecyclePolicy.idle("1 minute"), RecyclePolicy.when<Db>(({ uses }) => uses > 5)]
    })
  })

  it("knows no other options, nor what has no meaning for one of many pools", () => {
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ acquire, size: 5 })
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ acquire, warm: "eager" as const })
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ acquire, fairness: "luck" as const })
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ acquire: plain("a") })
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ max: 5 })
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ acquire, forKey: () => ({ size: 5 }) })
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ acquire, forKey: () => ({ warm: "lazy" as const }) })
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ acquire, forKey: () => ({ acquire: plain("a") }) })
    expect(QueuePoolMap.make).type.not.toBeCallableWith({ acquire, forKey: { max: 5 } })
  })

  it("tells forKey and idleTimeToLive which key it is", () => {
    void QueuePoolMap.make({
      acquire,
      forKey: (tenant) => {
        expect(tenant).type.toBe<string>()
        return undefined
      },
      idleTimeToLive: (tenant) => {
        expect(tenant).type.toBe<string>()
        return 5
      }
    })
  })
})

describe("a map", () => {
  it("lends as a pool does, by key", () => {
    expect(map.get("a")).type.toBe<Effect.Effect<Db, "ConnectFailed" | PoolError.PoolError, Scope.Scope>>()
    expect(map.getExclusive("a")).type.toBe<Effect.Effect<Db, "ConnectFailed" | PoolError.PoolError, Scope.Scope>>()
    expect(map.getIfAvailable("a")).type.toBe<
      Effect.Effect<Option.Option<Db>, PoolError.PoolError, Scope.Scope>
    >()
    expect(map.use("a", (db) => db.query)).type.toBe<
      Effect.Effect<string, "ConnectFailed" | "QueryFailed" | PoolError.PoolError, Tracer>
    >()
    expect(map.useExclusive("a", (db) => db.query)).type.toBe<
      Effect.Effect<string, "ConnectFailed" | "QueryFailed" | PoolError.PoolError, Tracer>
    >()
    expect(map.useIfAvailable("a", (db) => db.query)).type.toBe<
      Effect.Effect<Option.Option<string>, "QueryFailed" | PoolError.PoolError, Tracer>
    >()
    expect(map.pool("a")).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db, "ConnectFailed">, PoolError.PoolError, Scope.Scope>
    >()
    expect(map.get).type.not.toBeCallableWith(5)
  })

  it("is controlled and looked at without errors of its items", () => {
    expect(map.clear()).type.toBe<Effect.Effect<void>>()
    expect(map.clear("a")).type.toBe<Effect.Effect<void>>()
    expect(map.clearWith({ only: "idle" }, "a")).type.toBe<Effect.Effect<void, PoolError.PoolError>>()
    expect(map.sweep()).type.toBe<Effect.Effect<QueuePoolMap.SweepResult<string>>>()
    expect(map.stats).type.toBe<Effect.Effect<QueuePoolMap.Stats>>()
    expect(map.statsOf("a")).type.toBe<Effect.Effect<Option.Option<QueuePool.Stats>>>()
    expect(map.keys).type.toBe<Effect.Effect<Array<string>>>()
    expect(map.resize(5)).type.toBe<Effect.Effect<void, PoolError.PoolError>>()
    expect(map.events).type.toBe<Stream.Stream<QueuePoolMap.Event<string>>>()
    expect(map.clear).type.not.toBeCallableWith(5)
    expect(map.clear).type.not.toBeCallableWith("a", "b")
  })

  it("is invariant in its key and its item", () => {
    expect(map).type.not.toBeAssignableTo<QueuePoolMap.QueuePoolMap<string, object, "ConnectFailed">>()
    expect(map).type.not.toBeAssignableTo<QueuePoolMap.QueuePoolMap<"a", Db, "ConnectFailed">>()
    expect(map).type.toBeAssignableTo<QueuePoolMap.QueuePoolMap<string, Db, "ConnectFailed" | "Other">>()
  })
})

describe("QueuePoolMap.layer and Service", () => {
  class Tag extends Context.Service<Tag, QueuePoolMap.QueuePoolMap<string, Db, "ConnectFailed">>()("Tag") {}

  it("need what acquire, hooks and options need, but no scope", () => {
    expect(QueuePoolMap.layer(Tag, { acquire })).type.toBe<Layer.Layer<Tag, PoolError.PoolError, Config>>()
    expect(
      QueuePoolMap.layer(
        Tag,
        Effect.as(Effect.andThen(Effect.service(Checker), Effect.fail("NoConfig" as const)), { acquire })
      )
    ).type.toBe<Layer.Layer<Tag, "NoConfig" | PoolError.PoolError, Config | Checker>>()
    expect(
      QueuePoolMap.layer(Tag, { acquire, forKey: () => ({ check: () => Effect.asVoid(Effect.service(Special)) }) })
    ).type.toBe<Layer.Layer<Tag, PoolError.PoolError, Config | Special>>()
  })

  it("a service has the map's operations, which then need the service", () => {
    class Tenants extends QueuePoolMap.Service<Tenants>()("Tenants", { acquire, max: 2 }) {}
    expect(Tenants.layer).type.toBe<Layer.Layer<Tenants, PoolError.PoolError, Config>>()
    expect(Tenants.get("a")).type.toBe<
      Effect.Effect<Db, "ConnectFailed" | PoolError.PoolError, Scope.Scope | Tenants>
    >()
    expect(Tenants.useItem("a", (db) => db.query)).type.toBe<
      Effect.Effect<string, "ConnectFailed" | "QueryFailed" | PoolError.PoolError, Tracer | Tenants>
    >()
    expect(Tenants.events).type.toBe<Stream.Stream<QueuePoolMap.Event<string>, never, Tenants>>()
  })
})
