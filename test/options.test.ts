import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Config,
  ConfigProvider,
  Context,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Result,
  Schedule,
  Scope
} from "effect"
import { PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

const acquire = Effect.succeed(1)

/** What making a pool with these options says, which the types would not allow. */
const problemsOf = (options: object): Effect.Effect<ReadonlyArray<PoolError.Problem>> =>
  Effect.scoped(Effect.gen(function*() {
    const result = yield* Effect.result(QueuePool.make({ acquire, ...options }))
    if (Result.isSuccess(result)) return []
    const { reason } = result.failure
    if (reason._tag !== "InvalidOptions") return yield* Effect.die(result.failure)
    return reason.problems
  }))

const inside = (pool: unknown) => (Reflect.get(pool as object, "pool") as { readonly settings: object }).settings

const wholeFrom1 = "a whole number from 1, or Infinity"
const wholeFrom0 = "a whole number from 0, or Infinity"
const fromZero = "a duration from zero, or Infinity"
const zeroToFinite = "a duration from zero, not Infinity"
const aboveZero = "a duration above zero, not Infinity"
const notADuration = [
  NaN,
  -1,
  -Infinity,
  "5",
  "",
  "soon",
  "-1 seconds",
  "-Infinity",
  null,
  true,
  Symbol.for("x"),
  () => 1,
  {},
  { second: 5 },
  { seconds: NaN },
  { seconds: "5" },
  { seconds: -5 },
  { seconds: undefined },
  [1],
  [NaN, 0],
  [-1, 0],
  new Date(0),
  -5n,
  Duration.seconds(-1)
]
const notANumber = [NaN, -1, -Infinity, 1.5, "5", null, {}, [], true, 5n]
const notAFunction = [5, "ping", null, {}, [], acquire, true]

/** Every option, what it says it allows, and values that it must not take. */
const bad: ReadonlyArray<readonly [string, string, ReadonlyArray<unknown>]> = [
  ["acquire", "an Effect, or a Stream of Effects", [
    undefined,
    null,
    5,
    "acquire",
    {},
    [],
    () => acquire,
    Promise.resolve(1)
  ]],
  ["name", "a string that is not empty", ["", 5, null, {}, Symbol.for("x")]],
  ["max", wholeFrom1, [0, -0, 0.5, ...notANumber]],
  ["min", "a whole number from 0 to max", [Infinity, ...notANumber]],
  ["warm", `"background" or "lazy" or "eager"`, ["", "Eager", true, false, null, 0, {}]],
  ["order", `"lifo" or "fifo" or "hybrid"`, ["", "LIFO", true, null, 0]],
  ["sharing", `"spread" or "pack"`, ["", "Pack", true, null, 1]],
  ["borrowTimeout", fromZero, notADuration],
  ["maxWaiters", wholeFrom0, notANumber],
  ["openConcurrency", wholeFrom1, [0, ...notANumber]],
  ["openTimeout", aboveZero, [0, Infinity, "Infinity", Duration.infinity, "0 seconds", ...notADuration]],
  ["retry", "a Schedule", [5, "1 second", null, {}, acquire, () => Schedule.forever]],
  ["check", "a function from the item to an Effect", notAFunction],
  ["checkAfter", fromZero, notADuration],
  ["checkTimeout", aboveZero, [0, Infinity, "Infinity", "0 seconds", ...notADuration]],
  ["reset", "a function from the item and the lease's Exit to an Effect", notAFunction],
  ["resetTimeout", aboveZero, [0, Infinity, "Infinity", "0 seconds", ...notADuration]],
  ["recycle", "rules, or predicates on Usage", [5, "idle", null, {}, [5], ["idle"], Schedule.forever, acquire]],
  [
    "sweep",
    "a duration above zero, not Infinity, or a Schedule",
    [0, Infinity, "Infinity", "0 seconds", acquire, ...notADuration]
  ],
  ["closeTimeout", aboveZero, [0, Infinity, "Infinity", "0 seconds", ...notADuration]],
  ["drainTimeout", fromZero, notADuration],
  ["minIdle", "a whole number from 0 to max", [Infinity, ...notANumber]],
  ["maxIdle", wholeFrom0, notANumber],
  ["concurrency", "a whole number from 1", [0, 0.5, Infinity, 2 ** 53, ...notANumber]],
  ["targetUtilization", "a number above 0, up to 1", [0, 1.1, Infinity, ...notANumber]],
  ["replaceTimeout", zeroToFinite, [Infinity, "Infinity", ...notADuration]],
  ["retireOver", zeroToFinite, [Infinity, "Infinity", ...notADuration]],
  ["leaseWarning", "a duration above zero", [0, "0 seconds", ...notADuration]],
  ["maxLease", "a duration above zero", [0, "0 seconds", ...notADuration]],
  ["monitor", "a function from the item to an Effect", notAFunction],
  ["onAcquire", "a function from the item to an Effect", notAFunction],
  ["onBorrow", "a function from the item to an Effect", notAFunction],
  ["onReturn", "a function from the item and the lease's Exit to an Effect", notAFunction],
  ["onRelease", "a function from the item to an Effect", notAFunction],
  ["whenSuspended", `"wait" or "fail"`, ["", "Wait", true, null, 0]],
  ["closeConcurrency", "a whole number from 1, or Infinity", [0, -1, 1.5, NaN, "2", null]],
  ["capacity", "a Capacity", [{}, null, 5, "server"]]
]

describe("a wrong option", () => {
  for (const [option, allowed, values] of bad) {
    it.effect(`${option} is refused by name, with its value and what is allowed`, () =>
      Effect.gen(function*() {
        for (const value of values) {
          const problems = yield* problemsOf({ [option]: value })
          assert.deepStrictEqual(problems, [{ option, value, allowed }], `${option}: ${typeof value}`)
        }
      }))
  }

  it.effect("I4: min above max is refused, also above the default of max", () =>
    Effect.gen(function*() {
      const allowed = (max: number) => `a whole number from 0 to max, which is ${max}`
      assert.deepStrictEqual(yield* problemsOf({ min: 5, max: 2 }), [{ option: "min", value: 5, allowed: allowed(2) }])
      assert.deepStrictEqual(yield* problemsOf({ min: 11 }), [{ option: "min", value: 11, allowed: allowed(10) }])
      assert.deepStrictEqual(yield* problemsOf({ min: 10 }), [])
    }))

  it.effect("I10: a key that is no option is refused", () =>
    Effect.gen(function*() {
      for (const option of ["size", "timeToLive", "toString", "constructor", "Max", ""]) {
        const problems = yield* problemsOf({ [option]: 5 })
        assert.strictEqual(problems.length, 1)
        assert.strictEqual(problems[0]!.option, option)
        assert.include(problems[0]!.allowed, "one of the options acquire, name, max, min, minIdle,")
      }
    }))

  it.effect("is listed with all the others, once each", () =>
    Effect.gen(function*() {
      const all = Object.fromEntries(bad.map(([option, , values]) => [option, values[0]]))
      const problems = yield* problemsOf({ ...all, size: 5 })
      assert.sameMembers(problems.map(({ option }) => option), [...bad.map(([option]) => option), "size"])
    }))

  it.effect("inside a rule is listed with its path", () =>
    Effect.gen(function*() {
      const problems = yield* problemsOf({
        max: 0,
        recycle: [RecyclePolicy.uses(0), RecyclePolicy.age("1 hour", { jitter: 2 })]
      })
      assert.deepStrictEqual(problems.map(({ option }) => option), ["max", "recycle[0].uses", "recycle[1].age.jitter"])
    }))

  it.effect("makes one typed error, whose message is a sentence with all of them", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(
        QueuePool.make({ acquire, name: "db", max: 0, min: NaN, borrowTimeout: "soon" as never })
      ))
      assert.strictEqual(error._tag, "PoolError")
      assert.strictEqual(
        error.message,
        `InvalidOptions: "db" does not take these options: max is 0, allowed is a whole number from 1, or Infinity; ` +
          `min is NaN, allowed is a whole number from 0 to max; ` +
          `borrowTimeout is "soon", allowed is a duration from zero, or Infinity`
      )
    }))

  it.effect("opens nothing and leaves nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      yield* Effect.exit(QueuePool.make({ acquire: source.acquire, min: 2, max: 1, warm: "eager" }))
      yield* settle
      assert.strictEqual(source.attempts, 0)
    }))

  it.effect("is shown in the message as far as it cannot be a secret", () =>
    Effect.gen(function*() {
      const shown = Effect.fnUntraced(function*(max: unknown) {
        const error = yield* Effect.flip(Effect.scoped(QueuePool.make({ acquire, max: max as number })))
        return /max is (.*), allowed/s.exec(error.message)?.[1]
      })
      const bare = Object.assign(Object.create(null), { password: "x" })
      const values: ReadonlyArray<readonly [unknown, string]> = [
        ["5", `"5"`],
        [() => 5, "a function"],
        [null, "null"],
        [{ seconds: NaN }, `{"seconds":NaN}`],
        [{}, "{}"],
        [[1, 2], "[1,2]"],
        [["x"], "an array"],
        [{ password: "x" }, "an object"],
        [bare, "an object"],
        [5n, "5"],
        [Symbol("x"), "Symbol(x)"],
        [true, "true"]
      ]
      for (const [value, text] of values) assert.strictEqual(yield* shown(value), text)
    }))
})

describe("leaseWarning", () => {
  it.effect("that would come only when maxLease has ended the lease is refused", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* problemsOf({ leaseWarning: "2 seconds", maxLease: "2 seconds" }), [{
        option: "leaseWarning",
        value: "2 seconds",
        allowed: "a duration below maxLease, which is 2000ms: a lease that is ended is told of anyway"
      }])
      assert.deepStrictEqual(yield* problemsOf({ leaseWarning: "1 seconds", maxLease: "2 seconds" }), [])
      assert.deepStrictEqual(yield* problemsOf({ leaseWarning: "Infinity", maxLease: "2 seconds" }), [])
    }))
})

describe("an option that was not given", () => {
  it.effect("has the default of the table, also when it is undefined", () =>
    Effect.gen(function*() {
      const defaults = {
        name: "pool",
        max: 10,
        min: 0,
        warm: "background",
        order: "lifo",
        sharing: "spread",
        borrowTimeout: 30_000,
        maxWaiters: Infinity,
        openConcurrency: 4,
        openTimeout: 30_000,
        retry: undefined,
        check: undefined,
        checkAfter: 500,
        checkTimeout: 5000,
        reset: undefined,
        resetTimeout: 5000,
        recycle: undefined,
        sweep: undefined,
        closeTimeout: 5000,
        drainTimeout: 10_000,
        minIdle: 0,
        maxIdle: Infinity,
        concurrency: 1,
        targetUtilization: 1,
        replaceTimeout: 0,
        retireOver: 10_000,
        leaseWarning: Infinity,
        maxLease: Infinity,
        monitor: undefined,
        onAcquire: undefined,
        onBorrow: undefined,
        onReturn: undefined,
        onRelease: undefined,
        whenSuspended: "wait",
        closeConcurrency: Infinity,
        capacity: undefined
      }
      // What is undefined by default is an effect or a rule, and not among the settings.
      const settings = Object.fromEntries(Object.entries(defaults).filter(([, value]) => value !== undefined))
      assert.deepStrictEqual(inside(yield* QueuePool.make({ acquire })), settings)
      const absent = Object.fromEntries(Object.keys(defaults).map((option) => [option, undefined]))
      assert.deepStrictEqual(inside(yield* QueuePool.make({ acquire, ...absent })), settings)
      // None is missing from the table above of wrong values.
      assert.sameMembers(bad.map(([option]) => option), ["acquire", ...Object.keys(defaults)])
    }))
})

describe("a right option", () => {
  it.effect("may be a duration in any form", () =>
    Effect.gen(function*() {
      const forms: ReadonlyArray<readonly [Duration.Input, number]> = [
        [1500, 1500],
        [0.25, 0.25],
        ["1.5 seconds", 1500],
        ["2 minutes", 120_000],
        ["Infinity", Infinity],
        [Infinity, Infinity],
        [1_500_000_000n, 1500],
        [[1, 500_000_000], 1500],
        [{ seconds: 1, milliseconds: 500 }, 1500],
        [{ minutes: 1, seconds: undefined }, 60_000],
        [Duration.seconds(2), 2000],
        [Duration.infinity, Infinity],
        [0, 0],
        [Duration.zero, 0]
      ]
      for (const [borrowTimeout, millis] of forms) {
        const settings = inside(yield* QueuePool.make({ acquire, borrowTimeout })) as { readonly borrowTimeout: number }
        assert.strictEqual(settings.borrowTimeout, millis)
      }
    }))

  it.effect("may be at its bound", () =>
    Effect.gen(function*() {
      for (
        const options of [
          { max: 1 },
          { max: Infinity, min: 5 },
          { min: 10, warm: "lazy" },
          { maxWaiters: 0 },
          { maxWaiters: Infinity, openConcurrency: Infinity },
          { checkAfter: 0, drainTimeout: 0, borrowTimeout: 0 },
          { checkAfter: Infinity, drainTimeout: "Infinity", borrowTimeout: Duration.infinity },
          { openTimeout: 0.5, closeTimeout: 1, checkTimeout: 1, resetTimeout: 1 },
          { recycle: [] },
          { recycle: () => false },
          { recycle: RecyclePolicy.failed },
          { sweep: 1 },
          { sweep: Schedule.forever, retry: Schedule.forever }
        ]
      ) {
        assert.deepStrictEqual(yield* problemsOf(options), [])
      }
    }))

  it.effect("I6: max may be Infinity, and bounds nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: Infinity, openConcurrency: Infinity })
      const program = Effect.forEach(Array.from({ length: 100 }), () => pool.get, { concurrency: "unbounded" })
      yield* Effect.scoped(program)
      assert.strictEqual(source.peakLive, 100)
    }))

  it.effect("I8: borrowTimeout 0 tries once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 0 })
      const first = yield* Effect.flip(Effect.scoped(pool.get))
      assert.strictEqual(first._tag === "PoolError" && first.reason._tag, "BorrowTimeout")
      yield* settle
      // The open that it began serves whoever comes next.
      assert.strictEqual((yield* Effect.scoped(pool.get)).id, 1)
    }))

  it.effect("I8: borrowTimeout Infinity waits for as long as it takes", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: "Infinity" })
      const borrower = yield* pool.use(() =>
        Effect.gen(function*() {
          const borrower = yield* Effect.forkDetach(pool.use((thing) => Effect.succeed(thing.id)))
          yield* settle
          yield* TestClock.adjust("10000 days")
          assert.isUndefined(borrower.pollUnsafe())
          return borrower
        })
      )
      assert.strictEqual(yield* Fiber.join(borrower), 1)
    }))

  it.effect("I8: drainTimeout 0 takes lent items back at once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, drainTimeout: 0 }), scope)
      yield* pool.get
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      yield* TestClock.adjust(1)
      yield* settle
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual(source.closed, [1])
    }))

  // Rules are composed freely, so there is nothing to clamp: the nearer limit is simply the first to speak.
  it.effect("I9: an idle limit beyond the age limit is no error and does no harm", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({
        acquire,
        recycle: [RecyclePolicy.idle("2 hours"), RecyclePolicy.age("1 hour")]
      })
      yield* pool.use(() => Effect.void)
      yield* TestClock.adjust("1 day")
      yield* settle
      assert.deepStrictEqual((yield* pool.stats).recycled, { age: 1 })
    }))
})

describe("warm", () => {
  it.effect("background opens min by itself, and does not wait for it", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = { slow: 1000 }
      const pool = yield* QueuePool.make({ acquire: source.acquire, min: 3 })
      assert.strictEqual((yield* pool.stats).opening, 3)
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.strictEqual((yield* pool.stats).idle, 3)
    }))

  it.effect("lazy opens min from the first borrow on", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, min: 3, warm: "lazy" })
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(source.attempts, 0)
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.strictEqual((yield* pool.stats).idle, 3)
    }))

  it.effect("eager waits until min is reached, the first alone and then the rest", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = { slow: 1000 }
      const making = yield* Effect.forkScoped(QueuePool.make({ acquire: source.acquire, min: 4, warm: "eager" }))
      yield* settle
      assert.strictEqual(source.opening, 1)
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.strictEqual(source.opening, 3)
      assert.isUndefined(making.pollUnsafe())
      yield* TestClock.adjust("1 second")
      const pool = yield* Fiber.join(making)
      assert.strictEqual((yield* pool.stats).idle, 4)
    }))

  it.effect("eager with min 0 waits for nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      yield* QueuePool.make({ acquire: source.acquire, warm: "eager" })
      assert.strictEqual(source.attempts, 0)
    }))

  it.effect("eager fails with the error of the open, and leaves nothing open", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("ok", "fail")
      const error = yield* Effect.flip(
        Effect.scoped(QueuePool.make({ acquire: source.acquire, min: 3, openConcurrency: 1, warm: "eager" }))
      )
      assert.strictEqual(error._tag, "Refused")
      yield* settle
      assert.strictEqual(source.live, 0)
    }))

  it.effect("eager dies of a defect in acquire", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("die")
      const exit = yield* Effect.exit(QueuePool.make({ acquire: source.acquire, min: 1, warm: "eager" }))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
    }))

  it.effect("eager fails with OpenTimeout when the first open hangs", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("hang")
      const making = yield* Effect.forkScoped(
        Effect.flip(QueuePool.make({ acquire: source.acquire, min: 1, warm: "eager", name: "db" }))
      )
      yield* settle
      yield* TestClock.adjust("30 seconds")
      const error = yield* Fiber.join(making)
      assert.strictEqual(error._tag, "PoolError")
      assert.strictEqual(
        (error as PoolError.PoolError).message,
        `OpenTimeout: an item of "db" was not open within 30s`
      )
    }))
})

describe("layers", () => {
  class Tag extends Context.Service<Tag, QueuePool.QueuePool<Thing, Refused>>()("app/Things") {}

  it.effect("layer provides the pool under its tag, named after it", () =>
    Effect.gen(function*() {
      const source = new Source()
      const layer = QueuePool.layer(Tag, { acquire: source.acquire })
      const name = yield* Effect.provide(
        Effect.flatMap(Tag, (pool) => Effect.as(Effect.scoped(pool.get), pool.name)),
        layer
      )
      assert.strictEqual(name, "app/Things")
      // The layer's scope was the pool's.
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("layer takes an Effect of options, of Config for instance", () =>
    Effect.gen(function*() {
      class Sized extends Context.Service<Sized, QueuePool.QueuePool<number>>()("app/Sized") {}
      const options = Effect.map(
        Config.all({ max: Config.Int("POOL_MAX"), borrowTimeout: Config.Duration("POOL_TIMEOUT") }),
        (config) => ({ acquire: Effect.succeed(1), ...config })
      )
      const layer = QueuePool.layer(Sized, options)
      const maxOf = (env: Record<string, string>) =>
        Effect.flatMap(Sized, (pool) => pool.stats).pipe(
          Effect.map(({ max }) => max),
          Effect.provide(Layer.provide(layer, ConfigProvider.layer(ConfigProvider.fromUnknown(env))))
        )
      assert.strictEqual(yield* maxOf({ POOL_MAX: "3", POOL_TIMEOUT: "5 seconds" }), 3)
      const error = yield* Effect.flip(maxOf({ POOL_MAX: "-3", POOL_TIMEOUT: "5 seconds" }))
      assert.include(String(error), "max is -3")
      assert.include(String(yield* Effect.flip(maxOf({ POOL_TIMEOUT: "5 seconds" }))), "POOL_MAX")
    }))

  it.effect("Service makes a class with the layer and the operations", () =>
    Effect.gen(function*() {
      const source = new Source()
      class Db extends QueuePool.Service<Db>()("app/Db", {
        acquire: source.acquire,
        recycle: RecyclePolicy.when(({ moment }) => moment === "sweep", "swept")
      }) {}
      const program = Effect.gen(function*() {
        assert.strictEqual((yield* Db).name, "app/Db")
        const first = yield* Effect.scoped(Db.get)
        assert.strictEqual(yield* Db.useItem((thing) => Effect.succeed(thing)), first)
        yield* Db.invalidate(first)
        yield* settle
        assert.deepStrictEqual(source.closed, [1])
        yield* Db.useItem(() => Effect.void)
        assert.deepStrictEqual(yield* Db.sweep, { examined: 1, recycled: [{ item: 2, reason: "swept" }] })
        yield* Db.useItem(() => Effect.void)
        yield* Db.clear
        yield* settle
        const stats = yield* Db.stats
        assert.deepStrictEqual(stats.recycled, { invalidated: 1, swept: 1, cleared: 1 })
        assert.strictEqual(yield* Db.use((pool) => Effect.succeed(pool.name)), "app/Db")
      })
      yield* Effect.provide(program, Db.layer)
    }))

  it.effect("Service takes an Effect of options", () =>
    Effect.gen(function*() {
      class Db extends QueuePool.Service<Db>()("app/Db", Effect.succeed({ acquire: Effect.succeed(1), max: 7 })) {}
      assert.strictEqual((yield* Effect.provide(Db.stats, Db.layer)).max, 7)
    }))

  it.effect("a layer with wrong options fails with the typed error", () =>
    Effect.gen(function*() {
      class Db extends QueuePool.Service<Db>()("app/Db", { acquire: Effect.succeed(1), max: 0 }) {}
      const program = Effect.provide(Db.stats, Db.layer)
      const error = yield* Effect.flip(program)
      assert.strictEqual(error.pool, "app/Db")
      assert.strictEqual(error.reason._tag, "InvalidOptions")
      const handled = yield* Effect.catchReason(program, "PoolError", "InvalidOptions", ({ problems }) =>
        Effect.succeed(problems.length))
      assert.strictEqual(handled, 1)
    }))

  it.effect("an eager layer fails with the typed error of acquire", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("fail")
      class Db extends QueuePool.Service<Db>()("app/Db", { acquire: source.acquire, min: 1, warm: "eager" }) {}
      const caught = Layer.catchTag(Db.layer, "Refused", () => Layer.succeed(Db)({} as never))
      yield* Effect.provide(Effect.void, caught)
      assert.strictEqual(source.attempts, 1)
    }))

  it.effect("J11: a layer that is built twice is built once", () =>
    Effect.gen(function*() {
      const source = new Source()
      class Db extends QueuePool.Service<Db>()("app/Db", { acquire: source.acquire, min: 1, warm: "eager" }) {}
      class One extends Context.Service<One, QueuePool.QueuePool<Thing, unknown>>()("app/One") {}
      class Two extends Context.Service<Two, QueuePool.QueuePool<Thing, unknown>>()("app/Two") {}
      const one = Layer.provide(Layer.effect(One, Db), Db.layer)
      const two = Layer.provide(Layer.effect(Two, Db), Db.layer)
      yield* Effect.provide(
        Effect.gen(function*() {
          assert.strictEqual(yield* One, yield* Two)
          assert.strictEqual(source.attempts, 1)
        }),
        Layer.merge(one, two)
      )
    }))

  it.effect("what acquire needs is what the layer needs", () =>
    Effect.gen(function*() {
      class Url extends Context.Service<Url, string>()("app/Url") {}
      class Db extends QueuePool.Service<Db>()("app/Db", { acquire: Effect.map(Url, (url) => ({ url })) }) {}
      const layer = Layer.provide(Db.layer, Layer.succeed(Url)("there"))
      assert.strictEqual(yield* Effect.provide(Db.useItem(({ url }) => Effect.succeed(url)), layer), "there")
    }))
})

describe("a QueuePool", () => {
  it.effect("is recognised, named and pipeable", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire, name: "things" })
      assert.isTrue(QueuePool.isQueuePool(pool))
      assert.strictEqual(pool["~effect-queuepool/QueuePool"], "~effect-queuepool/QueuePool")
      for (const other of [null, undefined, {}, { name: "things" }, acquire]) {
        assert.isFalse(QueuePool.isQueuePool(other))
      }
      assert.strictEqual(pool.pipe((self) => self.name), "things")
    }))

  it.effect("tells its options' effects apart: what none needs is not run", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire, checkAfter: 0 })
      const events = yield* record(pool)
      yield* pool.use(() => Effect.void)
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.deepStrictEqual(told(events), [
        "Opening 1",
        "Opened 1",
        "Borrowed 1",
        "Returned 1",
        "Borrowed 1",
        "Returned 1"
      ])
    }))
})

describe("the message of a PoolError", () => {
  const counts: PoolError.Counts = { idle: 0, lent: 3, opening: 0, closing: 0, leases: 3, waiting: 2, min: 0, max: 3 }
  const timeout = (more: Partial<PoolError.BorrowTimeout>) =>
    new PoolError.PoolError({
      pool: "db",
      reason: new PoolError.BorrowTimeout({
        waited: 5000,
        phase: "waiting",
        counts,
        own: 0,
        oldestLease: undefined,
        lastFailure: undefined,
        capacity: undefined,
        ...more
      })
    }).message

  it("of BorrowTimeout tells the state", () => {
    assert.strictEqual(timeout({}), `BorrowTimeout: no item of "db" within 5s (3/3 lent, 2 waiting)`)
    assert.strictEqual(
      timeout({ waited: 40, oldestLease: { held: 41_234, by: "GET /users" } }),
      `BorrowTimeout: no item of "db" within 40ms (3/3 lent, 2 waiting, oldest lease 41.2s by "GET /users")`
    )
    assert.strictEqual(
      timeout({ phase: "opening", counts: { ...counts, lent: 1, opening: 1, closing: 1 } }),
      `BorrowTimeout: no item of "db" within 5s ` +
        `(1/3 lent, 1 opening, 1 closing, 2 waiting, this one for an item that was opening)`
    )
    assert.include(timeout({ phase: "checking" }), "this one for an item that was checking")
    const capacity = { name: "server", used: 20, permits: 20 }
    assert.include(timeout({ phase: "parked", capacity }), `, capacity "server" has all of its 20 permits out)`)
    assert.include(
      timeout({ phase: "parked", capacity: { ...capacity, permits: 15 } }),
      "its 15 permits out and 5 more)"
    )
    const none = (used: number) => timeout({ phase: "parked", capacity: { name: "server", used, permits: 0 } })
    assert.include(none(0), `, capacity "server" has no permits)`)
    assert.include(none(2), `, capacity "server" has no permits, and 2 out)`)
  })

  it("of BorrowTimeout tells the last failure, whatever it is", () => {
    const last = (error: unknown) => /last open failed: (.*)\)$/.exec(timeout({ lastFailure: Cause.fail(error) }))?.[1]
    assert.strictEqual(last(new Error("ECONNREFUSED")), "ECONNREFUSED")
    assert.strictEqual(last("refused"), `"refused"`)
    assert.strictEqual(last({ code: 5 }), `{"code":5}`)
    assert.strictEqual(last(Object.create(null)), "{}")
    assert.strictEqual(last({ _tag: "Refused", url: "secret" }), "Refused")
    assert.strictEqual(
      last(new PoolError.PoolError({ pool: "a", reason: new PoolError.Closed() })),
      `Closed: "a" is closed`
    )
    assert.strictEqual(last(new TypeError()), "TypeError")
  })

  it("of the others is a sentence", () => {
    const message = (reason: PoolError.Reason) => new PoolError.PoolError({ pool: "db", reason }).message
    assert.strictEqual(
      message(new PoolError.TooManyWaiters({ maxWaiters: 2, counts })),
      `TooManyWaiters: "db" has 2 waiting, maxWaiters is 2 (3/3 lent)`
    )
    assert.strictEqual(message(new PoolError.Closed()), `Closed: "db" is closed`)
    assert.strictEqual(
      message(new PoolError.OpenTimeout({ openTimeout: 1500 })),
      `OpenTimeout: an item of "db" was not open within 1.5s`
    )
    assert.strictEqual(
      message(new PoolError.HookFailed({ hook: "onBorrow", cause: Cause.fail(new Error("no")) })),
      `HookFailed: onBorrow of "db" failed: no`
    )
    assert.strictEqual(message(new PoolError.Suspended()), `Suspended: "db" is suspended`)
  })
})
