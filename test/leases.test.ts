import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Exit, Fiber, Logger, Metric, References, type Scope } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import { TestClock } from "effect/testing"
import type { Alarms } from "../src/internal/alarms.ts"
import { leaseClock } from "../src/internal/leaseClock.ts"
import { books, borrow, elapse, endings, several, Watch } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged, record } from "./kit/observe.ts"

type Things = QueuePool.QueuePool<Thing, Refused>

const sentence = (error: unknown): string => String(error)

/** Every way to borrow an item and keep it for so long. */
const ways: Record<string, (pool: Things, millis: number) => Effect.Effect<unknown, unknown>> = {
  use: (pool, millis) => pool.use(() => Effect.sleep(millis)),
  useExclusive: (pool, millis) => pool.useExclusive(() => Effect.sleep(millis)),
  useIfAvailable: (pool, millis) => pool.useIfAvailable(() => Effect.sleep(millis)),
  get: (pool, millis) => Effect.scoped(Effect.andThen(pool.get, Effect.sleep(millis))),
  getExclusive: (pool, millis) => Effect.scoped(Effect.andThen(pool.getExclusive, Effect.sleep(millis))),
  getIfAvailable: (pool, millis) => Effect.scoped(Effect.andThen(pool.getIfAvailable, Effect.sleep(millis))),
  getN: (pool, millis) => Effect.scoped(Effect.andThen(pool.getN(1), Effect.sleep(millis)))
}

/** The first frame under the message: this very file, and no frame of the pool above it. */
const placeIn = (line: string): string => line.split("\n")[1] ?? "no place"

describe("J3: a lease that is held too long", () => {
  for (const [way, hold] of Object.entries(ways)) {
    it.effect(`by ${way} is told of once, in the log and the events: who, how long and where`, () =>
      logged(Effect.fnUntraced(function*(lines) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, leaseWarning: 2000, name: "db" })
        const events = yield* record(pool)
        yield* pool.use(() => Effect.void)
        // Of an idle item, and again of the same one.
        for (const _ of [1, 2]) {
          const fiber = yield* Effect.forkChild(Effect.withSpan(hold(pool, 10_000), "GET /users"))
          yield* elapse(1999)
          assert.deepStrictEqual(lines, [])
          yield* elapse(1)
          assert.strictEqual(lines.length, 1)
          assert.match(
            lines[0]!,
            /^Warn item 1 of pool "db" is still lent to "GET \/users" \(fiber \d+\), which has held it for 2000ms\n/
          )
          assert.match(placeIn(lines[0]!), /leases\.test\.ts:\d+/)
          assert.deepStrictEqual(
            events.flatMap((event) => event._tag === "LeaseWarning" ? [[event.item, event.held, event.by]] : []),
            [[1, 2000, "GET /users"]]
          )
          yield* elapse(10_000)
          assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)))
          assert.strictEqual((lines as Array<string>).splice(0).length, 1)
          events.length = 0
        }
        assert.strictEqual((yield* books(source, pool)).returned, 3)
      })))
  }

  for (const way of ["use", "get", "getN"]) {
    it.effect(`by ${way} of one that waited, is told of from the time it had the item`, () =>
      logged(Effect.fnUntraced(function*(lines) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, leaseWarning: 2000 })
        const holder = yield* borrow(pool)
        yield* Effect.forkChild(ways[way]!(pool, 10_000))
        yield* elapse(1500)
        yield* holder.letGo
        yield* elapse(1999)
        assert.deepStrictEqual(lines, [])
        yield* elapse(1)
        assert.match(
          lines[0]!,
          /^Warn item 1 of pool "pool" is still lent to "fiber \d+", which has held it for 2000ms\n/
        )
        assert.match(placeIn(lines[0]!), /leases\.test\.ts:\d+/)
        yield* elapse(10_000)
        assert.strictEqual(lines.length, 1)
      })))
  }

  it.effect("by zip is told of with the place of the zip", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const pool = yield* QueuePool.make({ acquire: new Source().acquire, leaseWarning: 2000 })
      const fiber = yield* Effect.forkChild(
        Effect.suspend(() => Effect.scoped(Effect.andThen(QueuePool.zip(pool, pool), Effect.never)))
      )
      yield* elapse(2000)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(lines.length, 2)
      for (const line of lines) assert.match(placeIn(line), /leases\.test\.ts:\d+/)
    })))

  it.effect("is not told of when it ends in time, however many there are and in whatever order they end", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 4, leaseWarning: 1000 })
      for (const order of [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]]) {
        const borrowers = yield* several(4, pool)
        for (const index of order) {
          yield* elapse(249)
          yield* borrowers[index]!.letGo
        }
      }
      yield* elapse(5000)
      assert.deepStrictEqual(lines, [])
      yield* books(source, pool)
    })))

  it.effect("is told of at its own time, of many that one alarm looks after", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const watch = new Watch()
      const pool = yield* watch.around(
        QueuePool.make({ acquire: source.acquire, max: 100, leaseWarning: 1000, borrowTimeout: "Infinity" })
      )
      const borrowers = []
      for (let i = 0; i < 100; i++) {
        borrowers.push(yield* borrow(pool))
        yield* TestClock.adjust(1)
        assert.strictEqual(watch.timers, 1)
      }
      // Every third one ends in time.
      for (const { letGo } of borrowers.filter((_, index) => index % 3 === 1)) yield* letGo
      for (let i = 0; i < 100; i++) {
        const before = lines.length
        yield* elapse(i === 0 ? 900 : 1)
        assert.strictEqual(lines.length - before, i % 3 === 1 ? 0 : 1, `at ${1000 + i}`)
        assert.isAtMost(watch.timers, 1)
      }
      yield* elapse(1000)
      assert.deepStrictEqual([lines.length, watch.timers], [67, 0])
      for (const { letGo } of borrowers) yield* letGo
      yield* books(source, pool)
    })))

  it.effect("is told of in the pool's context, and a logger that calls back into the pool finds it whole", () =>
    Effect.gen(function*() {
      const source = new Source()
      const around: { pool?: Things } = {}
      const seen: Array<unknown> = []
      const logger = Logger.make(({ fiber }) => {
        seen.push({ ...fiber.getRef(References.CurrentLogAnnotations) })
        // A logger is synchronous, and so is this.
        // @effect-diagnostics-next-line runEffectInsideEffect:off
        Effect.runSync(around.pool!.clear)
      })
      const pool = around.pool = yield* Effect.provide(
        QueuePool.make({ acquire: source.acquire, max: 2, leaseWarning: 1000 }),
        Logger.layer([logger])
      )
      const annotated = Effect.annotateLogs(pool.use(() => Effect.sleep(1500)), "who", "the borrower")
      const fibers = [yield* Effect.forkChild(annotated), yield* Effect.forkChild(annotated)]
      yield* elapse(1000)
      assert.deepStrictEqual(seen, [{}, {}])
      yield* elapse(500)
      assert.deepStrictEqual(endings(fibers.map((fiber) => ({ fiber }))), ["served", "served"])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { cleared: 2 })
    }))
})

describe("the place of a borrow, by a service", () => {
  const untraced = { acquire: new Source().acquire, max: 1 }
  const options = { ...untraced, leaseWarning: 1000 }
  const made: Record<string, typeof options | Effect.Effect<typeof options>> = {
    options,
    "an Effect of options": Effect.succeed(options)
  }
  for (const [what, given] of Object.entries(made)) {
    class Things extends QueuePool.Service<Things>()(`test/${what}`, given) {}
    const calls = {
      useItem: () => Things.useItem(() => Effect.never),
      useExclusive: () => Things.useExclusive(() => Effect.never),
      useIfAvailable: () => Effect.asVoid(Things.useIfAvailable(() => Effect.never)),
      get: () => Effect.scoped(Effect.andThen(Things.get, Effect.never)),
      getExclusive: () => Effect.scoped(Effect.andThen(Things.getExclusive, Effect.never)),
      getIfAvailable: () => Effect.scoped(Effect.andThen(Things.getIfAvailable, Effect.never)),
      getN: () => Effect.scoped(Effect.andThen(Things.getN(1), Effect.never))
    }
    for (const [name, call] of Object.entries(calls)) {
      it.effect(`made from ${what} names the caller of ${name}`, () =>
        logged(Effect.fnUntraced(function*(lines) {
          yield* Effect.gen(function*() {
            yield* Things.useItem(() => Effect.void)
            // In a fiber of its own, which has no caller on its stack.
            const fiber = yield* Effect.forkChild(call())
            yield* elapse(1000)
            assert.strictEqual(lines.length, 1)
            assert.match(placeIn(lines[0]!), /leases\.test\.ts:\d+/)
            yield* Fiber.interrupt(fiber)
          }).pipe(Effect.provide(Things.layer))
        })))
    }
  }

  it("is not asked for where no lease is told of", () => {
    class Untraced extends QueuePool.Service<Untraced>()("test/Untraced", untraced) {}
    class Traced extends QueuePool.Service<Traced>()("test/Traced", { ...untraced, maxLease: 1000 }) {}
    const { stackTraceLimit } = Error
    // To take a stack sets the limit.
    const asked = (f: () => unknown) => {
      let times = 0
      Object.defineProperty(Error, "stackTraceLimit", {
        configurable: true,
        get: () => 10,
        set: () => {
          times++
        }
      })
      f()
      Object.defineProperty(Error, "stackTraceLimit", { configurable: true, writable: true, value: stackTraceLimit })
      return times
    }
    const uses = [() => Untraced.useItem(() => Effect.void), () => Untraced.get, () => Untraced.getN(1)]
    assert.deepStrictEqual(uses.map(asked), [0, 0, 0])
    assert.isAbove(asked(() => Traced.get), 0)
    // It is as it was afterwards.
    Error.stackTraceLimit = 33
    assert.isTrue(Effect.isEffect(Traced.get))
    assert.strictEqual(Error.stackTraceLimit, 33)
    Error.stackTraceLimit = stackTraceLimit
  })
})

describe("J6: a borrow inside a borrow", () => {
  const nested = (pool: Things) => pool.use(() => pool.use(() => Effect.void))

  for (const options of [{}, { maxLease: "1 hour" }] as const) {
    it.effect(`of the only item fails in time and says why, ${"maxLease" in options ? "with" : "without"} maxLease`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, name: "db", ...options })
        const fiber = yield* Effect.forkChild(Effect.withSpan(nested(pool), "job"))
        yield* elapse("30 seconds")
        const error = yield* Effect.flip(Fiber.join(fiber))
        assert.strictEqual(
          sentence(error),
          "PoolError: BorrowTimeout: no item of \"db\" within 30s (1/1 lent, 1 waiting, a nested borrow that cannot " +
            "succeed: this fiber itself holds it, oldest lease 30s by \"job\")"
        )
        yield* books(source, pool)
      }))
  }

  it.effect("says so of all that one fiber holds, and only then that it cannot succeed", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2, borrowTimeout: 1000 })
      const message = (held: Effect.Effect<unknown, unknown, Scope.Scope>) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(Effect.flip(Effect.scoped(Effect.andThen(held, pool.get))))
          yield* elapse(1000)
          return sentence(yield* Fiber.join(fiber))
        })
      const twice = Effect.andThen(pool.get, pool.get)
      assert.include(yield* message(twice), "a nested borrow that cannot succeed: this fiber itself holds all of them")
      const other = yield* borrow(pool)
      assert.include(yield* message(pool.get), "this fiber itself holds 1 item")
      assert.notInclude(yield* message(pool.get), "cannot succeed")
      assert.notInclude(yield* message(Effect.andThen(pool.use(() => Effect.void), borrow(pool))), "itself")
      yield* other.letGo
    }))

  it.effect("is not blamed for an item that is being reset", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 2,
        borrowTimeout: 1000,
        resetTimeout: 5000,
        reset: ({ id }) => id === 1 ? undefined : Effect.never
      })
      const first = yield* borrow(pool)
      yield* pool.use(() => Effect.void)
      yield* first.letGo
      const fiber = yield* Effect.forkChild(Effect.flip(nested(pool)))
      yield* elapse(1000)
      const error = yield* Fiber.join(fiber)
      assert.include(sentence(error), "this fiber itself holds 1 item")
      assert.notInclude(sentence(error), "cannot succeed")
    }))

  it.effect("counts the items, not the leases, where a fiber shares one with itself", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 3, borrowTimeout: 1000 })
      const others = yield* borrow(pool)
      const alone = Effect.scoped(Effect.andThen(Effect.andThen(pool.get, pool.get), pool.getExclusive))
      const fiber = yield* Effect.forkChild(Effect.flip(alone))
      yield* elapse(1000)
      const error = yield* Fiber.join(fiber)
      assert.include(sentence(error), "this fiber itself holds 1 item")
      assert.strictEqual(own(error), 1)
      yield* others.letGo
      // Alone it holds the item as many times as it likes.
      const exclusive = yield* Effect.forkChild(Effect.flip(Effect.scoped(Effect.andThen(pool.get, pool.getExclusive))))
      yield* elapse(1000)
      assert.include(sentence(yield* Fiber.join(exclusive)), "this fiber itself holds it")
      yield* books(source, pool)
    }))

  it.effect("says nothing of a fiber that holds nothing, or after its leases are over", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 1000 })
      const holder = yield* borrow(pool)
      const fiber = yield* Effect.forkChild(Effect.flip(pool.use(() => Effect.void)))
      yield* elapse(1000)
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(own(error), 0)
      assert.notInclude(sentence(error), "itself")
      yield* holder.letGo
    }))
})

const own = (error: unknown): number | undefined =>
  error instanceof PoolError.PoolError && error.reason._tag === "BorrowTimeout" ? error.reason.own : undefined

describe("the cost, where no lease is watched", () => {
  /** Fibers that a borrower forks, and the timers that the pool has while an item is lent. */
  const cost = Effect.fnUntraced(function*(options: { readonly maxLease?: Duration.Input }) {
    const source = new Source()
    const watch = new Watch()
    const pool = yield* watch.around(QueuePool.make({ acquire: source.acquire, max: 1, ...options }))
    yield* pool.use(() => Effect.void)
    // The deadline of that open.
    yield* elapse("30 seconds")
    let forked = 0
    const metrics = { recordFiberStart: () => void forked++, recordFiberEnd: () => {} }
    const counted = Effect.provideService(pool.use(() => settle), Metric.FiberRuntimeMetrics, metrics)
    yield* counted
    yield* counted
    const holder = yield* borrow(pool)
    const { timers } = watch
    yield* holder.letGo
    yield* books(source, pool)
    return { forked, timers }
  })

  it.effect("is no fiber for what use runs, and no alarm", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* cost({}), { forked: 0, timers: 0 })
      // What it would be.
      assert.deepStrictEqual(yield* cost({ maxLease: "1 hour" }), { forked: 2, timers: 1 })
    }))

  it("is no clock at all", () => {
    const ends = { warn: () => {}, end: () => {}, cutOff: () => {} }
    const limits = { leaseWarning: Infinity, maxLease: Infinity, closeTimeout: 5000 }
    assert.isUndefined(leaseClock({} as Alarms, () => 0, limits, ends))
  })
})
