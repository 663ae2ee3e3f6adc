import * as Balanced from "effect-queuepool/Balanced"
import type * as PoolError from "effect-queuepool/PoolError"
import type * as QueuePoolMap from "effect-queuepool/QueuePoolMap"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { describe, expect, it } from "tstyche"

interface Db {
  readonly query: string
}

class Registry extends Context.Service<Registry, ReadonlyArray<string>>()("Registry") {}

declare const map: QueuePoolMap.QueuePoolMap<string, Db, "Refused">
declare const balanced: Balanced.Balanced<string, Db>
declare const breaker: CircuitBreaker.CircuitBreaker

type E = PoolError.PoolError

describe("Balanced", () => {
  it("is made of a map, as an argument or by a pipe", () => {
    expect(Balanced.make(map, { endpoints: ["a"] })).type.toBe<
      Effect.Effect<Balanced.Balanced<string, Db>, E, Scope.Scope>
    >()
    expect(map.pipe(Balanced.make({ endpoints: ["a", { key: "b", priority: 1, weight: 2 }] }))).type.toBe<
      Effect.Effect<Balanced.Balanced<string, Db>, E, Scope.Scope>
    >()
  })

  it("needs what the Stream of endpoints needs", () => {
    const endpoints = Stream.fromEffect(Registry)
    expect(Balanced.make(map, { endpoints })).type.toBe<
      Effect.Effect<Balanced.Balanced<string, Db>, E, Registry | Scope.Scope>
    >()
  })

  it("takes effect's circuit breaker as it is", () => {
    expect(Balanced.make).type.toBeCallableWith(map, { endpoints: ["a"], breaker })
    expect(breaker).type.toBeAssignableTo<Balanced.Breaker>()
  })

  it("takes the keys of the map, and no others", () => {
    expect(Balanced.make).type.not.toBeCallableWith(map, { endpoints: [1] })
    expect(Balanced.make).type.not.toBeCallableWith(map, { endpoints: [{ key: 1 }] })
    expect(Balanced.make).type.not.toBeCallableWith(map, { endpoints: [{ keys: "a" }] })
    expect<{ readonly key: string }>().type.not.toBeAssignableTo<Balanced.Endpoint<{ readonly key: string }>>()
    expect<{ readonly key: { readonly key: string } }>().type.toBeAssignableTo<
      Balanced.Endpoint<{ readonly key: string }>
    >()
  })

  it("the errors of the endpoints are within its own, those of the body are not", () => {
    expect(balanced.get).type.toBe<Effect.Effect<Db, E, Scope.Scope>>()
    expect(balanced.getIfAvailable).type.toBe<Effect.Effect<Option.Option<Db>, E, Scope.Scope>>()
    expect(balanced.use((db, key) => Effect.fail([db.query, key] as const))).type.toBe<
      Effect.Effect<never, readonly [string, string] | E>
    >()
    expect(balanced.useIfAvailable(() => Registry)).type.toBe<
      Effect.Effect<Option.Option<ReadonlyArray<string>>, E, Registry>
    >()
    expect(balanced.pick).type.toBe<Effect.Effect<string, E>>()
    expect(balanced.endpoints).type.toBe<Effect.Effect<ReadonlyArray<Balanced.EndpointStats<string>>>>()
  })
})
