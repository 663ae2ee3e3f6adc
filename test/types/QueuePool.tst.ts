import * as PoolError from "effect-queuepool/PoolError"
import * as QueuePool from "effect-queuepool/QueuePool"
import * as RecyclePolicy from "effect-queuepool/RecyclePolicy"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { describe, expect, it } from "tstyche"

interface Db {
  readonly query: (sql: string) => Effect.Effect<ReadonlyArray<string>, "SqlError">
}

class S1 extends Context.Service<S1, "S1">()("S1") {}
class S2 extends Context.Service<S2, "S2">()("S2") {}
class S3 extends Context.Service<S3, "S3">()("S3") {}
class S4 extends Context.Service<S4, "S4">()("S4") {}
class S5 extends Context.Service<S5, "S5">()("S5") {}
class S6 extends Context.Service<S6, "S6">()("S6") {}

declare const acquire: Effect.Effect<Db, "Refused", Scope.Scope>
declare const safe: Effect.Effect<Db>

describe("make", () => {
  it("infers the item and its error", () => {
    expect(QueuePool.make({ acquire })).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db, "Refused">, PoolError.PoolError, Scope.Scope>
    >()
  })

  it("has no E when acquire cannot fail", () => {
    expect(QueuePool.make({ acquire: safe })).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db>, PoolError.PoolError, Scope.Scope>
    >()
  })

  it("fails with the E of acquire only when it may be eager", () => {
    type Made<E> = Effect.Effect<QueuePool.QueuePool<Db, "Refused">, PoolError.PoolError | E, Scope.Scope>
    expect(QueuePool.make({ acquire, warm: "eager" })).type.toBe<Made<"Refused">>()
    expect(QueuePool.make({ acquire, warm: "lazy" })).type.toBe<Made<never>>()
    expect(QueuePool.make({ acquire, warm: "background" })).type.toBe<Made<never>>()
    expect(QueuePool.make({ acquire, warm: undefined })).type.toBe<Made<never>>()
    const warm = undefined as unknown as "lazy" | "eager"
    expect(QueuePool.make({ acquire, warm })).type.toBe<Made<"Refused">>()
    const options: QueuePool.Options<Db, "Refused", Scope.Scope> = { acquire }
    expect(QueuePool.make(options)).type.toBe<Made<"Refused">>()
  })

  it("needs what each of its effects needs", () => {
    expect(QueuePool.make({
      acquire: Effect.andThen(S1, safe),
      check: () => S2,
      reset: () => S3,
      retry: Schedule.spaced(1).pipe(Schedule.tap(() => S4)),
      sweep: Schedule.spaced(1).pipe(Schedule.tap(() => S5)),
      recycle: RecyclePolicy.check(() => Effect.as(S6, true))
    })).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db>, PoolError.PoolError, S1 | S2 | S3 | S4 | S5 | S6 | Scope.Scope>
    >()
  })

  it("needs what a Schedule among the rules needs", () => {
    const recycle = [
      RecyclePolicy.schedule(Schedule.recurs(5).pipe(Schedule.tap(() => S2))),
      RecyclePolicy.after(Schedule.spaced(5).pipe(Schedule.tap(() => S2))),
      RecyclePolicy.failed
    ]
    expect(QueuePool.make({ acquire, recycle })).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db, "Refused">, PoolError.PoolError, S2 | Scope.Scope>
    >()
  })

  it("knows the item in its functions", () => {
    const made = QueuePool.make({
      acquire,
      check: (db) => {
        expect(db).type.toBe<Db>()
        return db.query("select 1")
      },
      reset: (db, exit) => {
        expect(db).type.toBe<Db>()
        expect(exit).type.toBe<Exit.Exit<unknown, unknown>>()
        return Effect.void
      },
      recycle: (usage) => usage.item.query.length > 5
    })
    expect(made).type.toBe<
      Effect.Effect<QueuePool.QueuePool<Db, "Refused">, PoolError.PoolError, Scope.Scope>
    >()
  })

  it("takes rules and predicates, alone and in an array, for any item or for this one", () => {
    const predicate = (usage: RecyclePolicy.Usage<Db>) => usage.uses > 5
    expect(QueuePool.make).type.toBeCallableWith({ acquire, recycle: predicate })
    expect(QueuePool.make).type.toBeCallableWith({ acquire, recycle: [predicate, RecyclePolicy.failed] })
    expect(QueuePool.make).type.toBeCallableWith({ acquire, recycle: RecyclePolicy.age("1 hour") })
    expect(QueuePool.make).type.toBeCallableWith({ acquire, recycle: () => true })
    expect(QueuePool.make).type.toBeCallableWith({
      acquire,
      recycle: (usage: { readonly age: number }) => usage.age > 5
    })
    expect(QueuePool.make).type.not.toBeCallableWith({
      acquire,
      recycle: (usage: RecyclePolicy.Usage<string>) => usage.item.length > 5
    })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, recycle: "1 hour" })
  })

  it("takes a retry that looks at the error of acquire", () => {
    const retry = Schedule.spaced("1 second").pipe(
      Schedule.setInputType<"Refused" | PoolError.PoolError>(),
      Schedule.while(({ input }) => input === "Refused")
    )
    expect(QueuePool.make).type.toBeCallableWith({ acquire, retry })
    expect(QueuePool.make).type.not.toBeCallableWith({
      acquire,
      retry: Schedule.spaced("1 second").pipe(Schedule.setInputType<"Other">())
    })
  })

  it("refuses what is no option, and wrong values", () => {
    expect(QueuePool.make).type.not.toBeCallableWith({})
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, size: 5 })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, max: "5" })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, warm: "hot" })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, order: "LIFO" })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, borrowTimeout: "soon" })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire, check: true })
    expect(QueuePool.make).type.not.toBeCallableWith({ acquire: Promise.resolve(1) })
  })

  it("takes undefined for every option that may be left out", () => {
    expect(QueuePool.make).type.toBeCallableWith({
      acquire,
      name: undefined,
      max: undefined,
      min: undefined,
      warm: undefined,
      order: undefined,
      borrowTimeout: undefined,
      maxWaiters: undefined,
      openConcurrency: undefined,
      openTimeout: undefined,
      retry: undefined,
      check: undefined,
      checkAfter: undefined,
      checkTimeout: undefined,
      reset: undefined,
      resetTimeout: undefined,
      recycle: undefined,
      sweep: undefined,
      closeTimeout: undefined,
      drainTimeout: undefined
    })
  })
})

describe("a pool", () => {
  const pool: QueuePool.QueuePool<Db, "Refused"> = undefined as never

  it("lends to a scope", () => {
    expect(pool.get).type.toBe<Effect.Effect<Db, "Refused" | PoolError.PoolError, Scope.Scope>>()
    expect(Effect.scoped(pool.get)).type.toBe<Effect.Effect<Db, "Refused" | PoolError.PoolError>>()
  })

  it("lends for one effect, with its error and its needs", () => {
    const used = pool.use((db) => {
      expect(db).type.toBe<Db>()
      return Effect.andThen(S1, db.query("select 1"))
    })
    expect(used).type.toBe<
      Effect.Effect<ReadonlyArray<string>, "Refused" | "SqlError" | PoolError.PoolError, S1>
    >()
  })

  it("tells its reasons apart", () => {
    const handled = Effect.catchReason(pool.use(() => Effect.void), "PoolError", "BorrowTimeout", (reason) => {
      expect(reason).type.toBe<PoolError.BorrowTimeout>()
      return Effect.succeed(reason.waited)
    })
    expect(handled).type.toBeAssignableTo<Effect.Effect<void | number, "Refused" | PoolError.PoolError>>()
    const others = Effect.catchReasons(pool.use(() => Effect.void), "PoolError", {
      Closed: () => Effect.succeed("closed"),
      TooManyWaiters: ({ maxWaiters }) => Effect.succeed(maxWaiters)
    })
    expect(others).type.toBeAssignableTo<Effect.Effect<void | string | number, "Refused" | PoolError.PoolError>>()
  })

  it("never fails in what it does besides", () => {
    expect(pool.stats).type.toBe<Effect.Effect<QueuePool.Stats>>()
    expect(pool.sweep).type.toBe<Effect.Effect<QueuePool.SweepResult>>()
    expect(pool.clear).type.toBe<Effect.Effect<void>>()
    expect(pool.invalidate(undefined as unknown as Db)).type.toBe<Effect.Effect<void>>()
    expect(pool.invalidate).type.not.toBeCallableWith("something else")
  })

  it("is invariant in its item, and covariant in its error", () => {
    expect<QueuePool.QueuePool<Db>>().type.toBeAssignableTo<QueuePool.QueuePool<Db, "Refused">>()
    expect<QueuePool.QueuePool<Db, "Refused">>().type.not.toBeAssignableTo<QueuePool.QueuePool<Db>>()
    expect<QueuePool.QueuePool<"a">>().type.not.toBeAssignableTo<QueuePool.QueuePool<string>>()
    expect<QueuePool.QueuePool<string>>().type.not.toBeAssignableTo<QueuePool.QueuePool<"a">>()
  })
})

describe("layer", () => {
  class Pool extends Context.Service<Pool, QueuePool.QueuePool<Db, "Refused">>()("app/Pool") {}

  it("provides the tag and needs what the options need, but no scope", () => {
    expect(QueuePool.layer(Pool, { acquire })).type.toBe<Layer.Layer<Pool, PoolError.PoolError>>()
    expect(QueuePool.layer(Pool, { acquire: Effect.andThen(S1, acquire), check: () => S2 })).type.toBe<
      Layer.Layer<Pool, PoolError.PoolError, S1 | S2>
    >()
  })

  it("fails with E only when eager", () => {
    expect(QueuePool.layer(Pool, { acquire, warm: "eager" })).type.toBe<
      Layer.Layer<Pool, PoolError.PoolError | "Refused">
    >()
  })

  it("takes an Effect of options, with its error and its needs", () => {
    const options = undefined as unknown as Effect.Effect<
      { readonly acquire: typeof acquire; readonly max: number },
      Config.ConfigError,
      S1
    >
    expect(QueuePool.layer(Pool, options)).type.toBe<
      Layer.Layer<Pool, PoolError.PoolError | Config.ConfigError, S1>
    >()
    expect(QueuePool.layer(Pool, Effect.map(options, (given) => ({ ...given, warm: "eager" as const })))).type.toBe<
      Layer.Layer<Pool, PoolError.PoolError | Config.ConfigError | "Refused", S1>
    >()
    // Without `as const` it could be any string to TypeScript, but for what the option allows.
    expect(QueuePool.layer(Pool, Effect.succeed({ acquire, warm: "eager" }))).type.toBe<
      Layer.Layer<Pool, PoolError.PoolError | "Refused">
    >()
  })

  it("refuses items of another type", () => {
    expect(QueuePool.layer).type.not.toBeCallableWith(Pool, { acquire: Effect.succeed("not a Db") })
  })
})

describe("Service", () => {
  class Pool extends QueuePool.Service<Pool>()("app/Pool", {
    // Not data-first: in a literal with functions beside it, TypeScript loses the item of an overloaded call.
    acquire: S1.pipe(Effect.andThen(acquire)),
    recycle: [RecyclePolicy.failed, (usage) => usage.uses > 5]
  }) {}
  class Eager extends QueuePool.Service<Eager>()("app/Eager", { acquire, min: 1, warm: "eager" }) {}
  class Safe extends QueuePool.Service<Safe>()("app/Safe", Effect.as(S1, { acquire: safe, max: 5 })) {}

  it("infers its layer", () => {
    expect(Pool.layer).type.toBe<Layer.Layer<Pool, PoolError.PoolError, S1>>()
    expect(Eager.layer).type.toBe<Layer.Layer<Eager, PoolError.PoolError | "Refused">>()
    expect(Safe.layer).type.toBe<Layer.Layer<Safe, PoolError.PoolError, S1>>()
  })

  it("has the operations of the pool as static members", () => {
    expect(Pool.get).type.toBe<Effect.Effect<Db, "Refused" | PoolError.PoolError, Scope.Scope | Pool>>()
    expect(Safe.get).type.toBe<Effect.Effect<Db, PoolError.PoolError, Scope.Scope | Safe>>()
    expect(Pool.useItem((db) => db.query("select 1"))).type.toBe<
      Effect.Effect<ReadonlyArray<string>, "Refused" | "SqlError" | PoolError.PoolError, Pool>
    >()
    expect(Pool.stats).type.toBe<Effect.Effect<QueuePool.Stats, never, Pool>>()
    expect(Pool.sweep).type.toBe<Effect.Effect<QueuePool.SweepResult, never, Pool>>()
    expect(Pool.clear).type.toBe<Effect.Effect<void, never, Pool>>()
    expect(Pool.invalidate(undefined as unknown as Db)).type.toBe<Effect.Effect<void, never, Pool>>()
  })

  it("is a tag of the pool", () => {
    const name = Effect.gen(function*() {
      const pool = yield* Pool
      expect(pool).type.toBe<QueuePool.QueuePool<Db, "Refused">>()
      return pool.name
    })
    expect(name).type.toBe<Effect.Effect<string, never, Pool>>()
  })
})

describe("isQueuePool", () => {
  it("narrows", () => {
    const value: unknown = undefined
    if (QueuePool.isQueuePool(value)) expect(value).type.toBe<QueuePool.QueuePool<unknown, unknown>>()
  })
})
