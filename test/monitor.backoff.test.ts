import { assert, describe, it } from "@effect/vitest"
import { Cause, Data, Effect, Fiber, Logger, Random, Schedule, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, elapse, endings, several } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged } from "./kit/observe.ts"

type Options = Omit<QueuePool.Options<Thing, Refused>, "acquire" | "monitor">

class Dead extends Data.TaggedError("Dead")<{ readonly message: string }> {}

/** The delays have no jitter: 100 ms, 200 ms, 400 ms and so on to 5 seconds. */
const steady: typeof Random.Random.Service = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0 }

/** A pool of which an item is dead as soon as it is open, unless it is one of those that live. */
const stillborn = Effect.fnUntraced(function*(
  source: Source,
  lives: (id: number) => boolean = () => false,
  options: Options = {}
) {
  return yield* Effect.provideService(
    QueuePool.make({
      acquire: source.acquire,
      max: 10,
      name: "db",
      ...options,
      monitor: ({ id }) => lives(id) ? Effect.never : Effect.fail(new Dead({ message: `item ${id} is dead` }))
    }),
    Random.Random,
    steady
  )
})

/** After how many milliseconds opens began, up to that time. */
const openings = Effect.fnUntraced(function*(source: Source, millis: number, step: number) {
  yield* settle
  const times: Array<number> = []
  let seen = 0
  for (let now = 0; now <= millis; now += step) {
    for (; seen < source.attempts; seen++) times.push(now)
    yield* elapse(step)
  }
  return times
})

/** How many began at each moment. */
const steps = (times: ReadonlyArray<number>): Array<readonly [number, number]> =>
  Array.from(new Set(times), (time) => [time, times.filter((other) => other === time).length])

const sentence = (error: unknown): string => String(error)

describe("H11: items that are dead as soon as they are open", () => {
  it.effect("are opened for one that waits after growing delays, and it hears why it went without", () =>
    Effect.gen(function*() {
      const source = new Source()
      const lines: Array<unknown> = []
      const logger = Logger.make(({ cause, logLevel, message }) => void lines.push([logLevel, message, cause]))
      const pool = yield* Effect.provide(stillborn(source), Logger.layer([logger]))
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual(
        yield* openings(source, 29_000, 100),
        [0, 100, 300, 700, 1500, 3100, 6300, 11_300, 16_300, 21_300, 26_300]
      )
      yield* elapse(1000)
      assert.deepStrictEqual(endings([waiter]), ["BorrowTimeout"])
      const error = yield* Effect.flip(Fiber.join(waiter.fiber))
      assert.match(sentence(error), /; last open failed: item \d+ is dead\)$/)
      assert.deepStrictEqual(lines, [[
        "Warn",
        ["pool \"db\" loses items as soon as they are open and goes on trying"],
        Cause.fail(new Dead({ message: "item 1 is dead" }))
      ]])
      yield* elapse("1 hour")
      assert.strictEqual(source.attempts, 11)
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { died: 11 })
    }))

  it.effect("by monitors that just end, are told of too", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, borrowTimeout: 50, monitor: () => Effect.void })
      const waiter = yield* borrow(pool)
      yield* elapse(50)
      assert.match(
        sentence(yield* Effect.flip(Fiber.join(waiter.fiber))),
        /1 waiting; last open failed: the item ended as soon as it was open\)$/
      )
      assert.deepStrictEqual(lines, [
        "Warn pool \"pool\" loses items as soon as they are open and goes on trying"
      ])
      yield* books(source, pool)
    })))

  for (
    const [what, options] of [
      ["many that wait", {}],
      ["many that share", { concurrency: 2 }],
      ["many that wait, with a retry Schedule", { retry: Schedule.spaced(10) }],
      ["many that wait, with min", { min: 5 }],
      ["many that wait, with minIdle", { minIdle: 5 }],
      ["many that wait, ahead of need", { targetUtilization: 0.5 }]
    ] satisfies ReadonlyArray<readonly [string, Options]>
  ) {
    it.effect(`are opened for ${what} no more than openConcurrency and one at each step`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* stillborn(source, undefined, { borrowTimeout: 3000, ...options })
        const waiters = yield* several(20, pool)
        const times = yield* openings(source, 2900, 100)
        assert.deepStrictEqual(steps(times).slice(1), [[100, 5], [300, 5], [700, 5], [1500, 5]])
        // What is kept open is tried once more for each, before it is known.
        assert.isAtMost(steps(times)[0]![1], "min" in options || "minIdle" in options ? 10 : 2)
        yield* elapse(1000)
        assert.deepStrictEqual(new Set(endings(waiters)), new Set(["BorrowTimeout"]))
        yield* pool.resize({ min: 0, minIdle: 0 })
        yield* elapse(1)
        yield* books(source, pool)
      }))
  }

  const kept: ReadonlyArray<Options> = [{ min: 1 }, { min: 2 }, { min: 5 }, { minIdle: 2 }, {
    targetUtilization: 0.5,
    min: 2
  }]
  for (const options of kept) {
    it.effect(`are opened for ${JSON.stringify(options)} alone after growing delays`, () =>
      logged(Effect.fnUntraced(function*(lines) {
        const source = new Source()
        const pool = yield* stillborn(source, undefined, options)
        const kept = Math.max(options.min ?? 0, options.minIdle ?? 0)
        const [first, ...later] = steps(yield* openings(source, 20_000, 100))
        assert.isAtMost(first![1], 2 * kept)
        assert.deepStrictEqual(
          later,
          [100, 300, 700, 1500, 3100, 6300, 11_300, 16_300].map((time) => [time, kept] as const)
        )
        assert.strictEqual(lines.length, 1)
        assert.include(lines[0], "loses items as soon as they are open")
        yield* pool.resize({ min: 0, minIdle: 0 })
        yield* elapse(1)
        yield* books(source, pool)
      })))
  }

  it.effect("serve those who wait in their order, once they live", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      let lives = false
      const pool = yield* stillborn(source, () => lives, { max: 3 })
      const waiters = yield* several(3, pool)
      yield* elapse(650)
      lives = true
      yield* elapse(50)
      assert.isTrue(waiters.every(({ item }) => item !== undefined))
      yield* waiters[0]!.letGo
      assert.strictEqual(lines.length, 1)
      // An item was of use: the next is no longer suspected.
      yield* pool.resize({ max: 4 })
      const more = yield* several(2, pool)
      assert.isTrue(more.every(({ item }) => item !== undefined))
      assert.include(lines.at(-1), "pool \"db\" can open items again")
      assert.strictEqual(lines.length, 2)
      // And if they die again, the delays begin anew.
      for (const { letGo } of [...waiters, ...more]) yield* letGo
      yield* pool.clear
      yield* settle
      lives = false
      const last = yield* borrow(pool)
      const from = source.attempts
      yield* elapse(99)
      assert.strictEqual(source.attempts, from)
      yield* elapse(1)
      assert.strictEqual(source.attempts, from + 1)
      yield* Fiber.interrupt(last.fiber)
      yield* books(source, pool)
    })))

  it.effect("do not hold back a pool that has live items, nor are opened at each return of one", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* stillborn(source, (id) => id === 1, { max: 2 })
      yield* pool.use(() => Effect.void)
      let served = 0
      const worker = Effect.forever(pool.use(() => Effect.andThen(Effect.sleep(1), Effect.sync(() => void served++))))
      const workers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(worker))
      yield* elapse(1)
      for (let i = 0; i < 3000; i++) yield* elapse(1)
      assert.isAtLeast(served, 2900)
      // 100, 200, 400, 800, 1600 ms.
      assert.isAtMost(source.attempts, 8)
      yield* Fiber.interruptAll(workers)
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("are no better for the end of an item that is older than they are", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* stillborn(source, (id) => id <= 3, { min: 4 })
      yield* elapse(1500)
      yield* Effect.forEach(source.opened.slice(0, 2), (thing) => pool.invalidate(thing))
      yield* elapse(1)
      const before = source.attempts
      // The last delay was of 1.6 seconds, and at its end there is one for each that is missing.
      assert.deepStrictEqual(steps(yield* openings(source, 1600, 100)).slice(1), [[1600, 3]])
      assert.strictEqual(source.attempts, before + 3)
      yield* pool.resize({ min: 0 })
      yield* elapse(1)
      yield* books(source, pool)
    }))

  it.effect("are forgiven as soon as one that came later was of use", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = { slow: 10 }
      const pool = yield* stillborn(source, (id) => id !== 1)
      const waiters = yield* several(8, pool)
      yield* elapse(10)
      source.opensOtherwise = "ok"
      const served = () => waiters.filter(({ item }) => item !== undefined)
      // Three of four opens that were under way together; one more began before the first was seen to be dead.
      assert.deepStrictEqual([served().length, source.attempts], [3, 5])
      yield* served()[0]!.letGo
      assert.deepStrictEqual([served().length, source.attempts], [7, 8])
      yield* elapse(10)
      assert.strictEqual(served().length, 8)
      for (const { letGo } of waiters) yield* letGo
      yield* books(source, pool)
    }))

  it.effect("are told of only when opens are held back for them, and not for an item that is released", () =>
    Effect.gen(function*() {
      for (const [min, lives, expected] of [[1, 2, []], [2, 1, ["item 5 is dead"]]] as const) {
        const source = new Source()
        const causes: Array<string> = []
        const logger = Logger.make(({ cause }) => void causes.push((Cause.squash(cause) as Error).message))
        const pool = yield* Effect.provide(stillborn(source, (id) => id === lives, { min }), Logger.layer([logger]))
        yield* settle
        assert.deepStrictEqual(causes, [])
        if (min === 2) {
          assert.strictEqual(source.attempts, 4)
          yield* pool.clear
          yield* settle
          assert.deepStrictEqual(causes, [])
          yield* elapse(100)
        }
        assert.deepStrictEqual(causes, [...expected])
        yield* pool.resize({ min: 0 })
        yield* elapse(1)
        yield* books(source, pool)
      }
    }))

  it.effect("leave a borrower that gives up nothing, and the next that comes waits no longer than the delay", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* stillborn(source, (id) => id > 1)
      const waiter = yield* borrow(pool)
      yield* Fiber.interrupt(waiter.fiber)
      const next = yield* borrow(pool)
      yield* elapse(99)
      assert.deepStrictEqual([endings([next]), source.attempts], [["waits"], 1])
      yield* elapse(1)
      assert.strictEqual(next.item?.id, 2)
      yield* next.letGo
      yield* books(source, pool)
    }))

  it.effect("never make a pool warm, which is bounded by its maker", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const made = Scope.provide(stillborn(source, undefined, { min: 2, warm: "eager" }), scope)
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.timeout(made, "10 seconds")))
      yield* elapse("10 seconds")
      assert.isTrue(Cause.isTimeoutError(yield* Fiber.join(fiber)))
      assert.isAtMost(source.attempts, 20)
      yield* settle
      assert.strictEqual(source.live, 0)
    }))

  it.effect("that are lost as they arrive, by another word than the end of a monitor, are the same", () =>
    Effect.gen(function*() {
      const source = new Source()
      const around: { pool?: QueuePool.QueuePool<Thing, Refused> } = {}
      const lost = (thing: Thing) => Effect.sync(() => lose(around.pool!, thing, "lost"))
      const pool = around.pool = yield* Effect.provideService(
        QueuePool.make({
          acquire: source.acquire,
          monitor: (thing) => Effect.andThen(thing.id < 3 ? lost(thing) : Effect.void, Effect.never)
        }),
        Random.Random,
        steady
      )
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual(yield* openings(source, 1000, 100), [0, 100, 300])
      assert.strictEqual(waiter.item?.id, 3)
      yield* waiter.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { lost: 2 })
    }))

  it.effect("but not items that others had, or that lived for a while: these are replaced at once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        monitor: ({ id }) => id === 1 ? Effect.sleep(1000) : Effect.never
      })
      const holder = yield* borrow(pool)
      const waiter = yield* borrow(pool)
      yield* elapse(1000)
      assert.deepStrictEqual(endings([holder]), ["LeaseEnded"])
      assert.strictEqual(waiter.item?.id, 2)
      yield* waiter.letGo
      yield* books(source, pool)
    }))
})
