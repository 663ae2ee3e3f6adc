import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, several } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { insideOf } from "./kit/modelInside.ts"
import { record, recycled, recycledAt } from "./kit/observe.ts"

type Given = Partial<Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire" | "warm">>

/** A pool of so many idle items, whose releases take a tenth of a second. */
const filled = Effect.fnUntraced(function*(count: number, given: Given) {
  const source = new Source()
  source.closesOtherwise = { slow: 100 }
  const pool = yield* QueuePool.make({ acquire: source.acquire, max: 20, openConcurrency: 20, ...given })
  for (const { letGo } of yield* several(count, pool)) yield* letGo
  return { source, pool, events: yield* record(pool) }
})

/** The same, for a test that leaves some of them. */
const idle = Effect.fnUntraced(function*(count: number, given: Given) {
  const made = yield* filled(count, given)
  // No time passes while the test's scope closes the pool.
  yield* Effect.addFinalizer(() => {
    made.source.closesOtherwise = "ok"
    return elapse(1000)
  })
  return made
})

/** How many are idle and how many are closing, now and after each tenth of a second. */
const course = Effect.fnUntraced(function*(pool: QueuePool.QueuePool<Thing, Refused>, steps: number) {
  const seen: Array<readonly [number, number]> = []
  for (let i = 0; i < steps; i++) {
    if (i > 0) yield* elapse(100)
    yield* settle
    const { closing, idle } = yield* pool.stats
    seen.push([idle, closing])
  }
  return seen
})

/** How many items a sweep has put off. */
const putOff = (pool: object): number | undefined =>
  (Reflect.get(insideOf(pool).state.sweeper, "postponed") as ReadonlySet<unknown> | undefined)?.size

/** Always, once it is switched on. */
const bad = () => {
  const state = { on: false }
  return Object.assign(state, { rule: RecyclePolicy.when<Thing>(() => state.on, "bad") })
}

describe("closeConcurrency", () => {
  it.effect("bounds what is released at once of what is due by time", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* idle(5, { closeConcurrency: 2, recycle: RecyclePolicy.idle("1 second") })
      yield* elapse(1001)
      assert.deepStrictEqual(yield* course(pool, 4), [[3, 2], [1, 2], [0, 1], [0, 0]])
      assert.deepStrictEqual(recycledAt(events).map((at) => at - recycledAt(events)[0]!), [0, 0, 100, 100, 200])
      assert.deepStrictEqual(new Set(recycled(events).map(([, reason]) => reason)), new Set(["idle"]))
      yield* books(source, pool)
    }))

  it.effect("is unbounded by default", () =>
    Effect.gen(function*() {
      const { pool } = yield* idle(5, { recycle: RecyclePolicy.idle("1 second") })
      yield* elapse(1001)
      assert.deepStrictEqual(yield* course(pool, 2), [[0, 5], [0, 0]])
    }))

  it.effect("bounds a sweep by hand, which tells of what it has recycled itself", () =>
    Effect.gen(function*() {
      const state = bad()
      const { events, pool } = yield* idle(4, { closeConcurrency: 1, recycle: state.rule, sweep: "1 hour" })
      state.on = true
      const { examined, recycled: own } = yield* pool.sweep
      assert.deepStrictEqual([examined, own], [4, [{ item: 1, reason: "bad" }]])
      assert.deepStrictEqual(yield* course(pool, 5), [[3, 1], [2, 1], [1, 1], [0, 1], [0, 0]])
      assert.deepStrictEqual(recycled(events), [[1, "bad"], [2, "bad"], [3, "bad"], [4, "bad"]])
    }))

  it.effect("bounds a sweep by its cadence", () =>
    Effect.gen(function*() {
      const state = bad()
      const { pool } = yield* idle(3, { closeConcurrency: 2, recycle: state.rule, sweep: "10 seconds" })
      state.on = true
      yield* elapse("10 seconds")
      assert.deepStrictEqual(yield* course(pool, 3), [[1, 2], [0, 1], [0, 0]])
    }))

  it.effect("counts what is being released for another reason, which it does not hold back", () =>
    Effect.gen(function*() {
      const state = bad()
      const { pool } = yield* idle(4, { closeConcurrency: 2, recycle: state.rule, sweep: "1 hour" })
      const [one, other] = yield* several(2, pool)
      yield* pool.invalidate(one!.item!)
      yield* pool.invalidate(other!.item!)
      yield* one!.letGo
      yield* other!.letGo
      state.on = true
      assert.deepStrictEqual((yield* pool.sweep).recycled, [])
      assert.deepStrictEqual(yield* course(pool, 3), [[2, 2], [0, 2], [0, 0]])
      state.on = false
      for (const { letGo } of yield* several(3, pool)) yield* letGo
      yield* pool.clear
      assert.deepStrictEqual(yield* course(pool, 1), [[0, 3]])
    }))

  it.effect("an item that is put off may be lent, and is looked at anew", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* idle(3, {
        closeConcurrency: 1,
        order: "lifo",
        recycle: RecyclePolicy.idle("1 second")
      })
      const kept = yield* borrow(pool)
      yield* elapse(1001)
      yield* kept.letGo
      // 1 is released, 2 is put off, and 3 is not due.
      assert.deepStrictEqual(yield* course(pool, 1), [[2, 1]])
      const again = yield* borrow(pool)
      assert.strictEqual(again.item?.id, 3)
      yield* elapse(100)
      yield* again.letGo
      assert.deepStrictEqual(recycled(events), [[1, "idle"], [2, "idle"]])
      yield* elapse(100)
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("an item that is lent when its turn comes stays with its borrower", () =>
    Effect.gen(function*() {
      let on = false
      const rule = RecyclePolicy.when<Thing>(({ moment }) => on && moment === "sweep", "bad")
      const { pool, source } = yield* idle(2, { closeConcurrency: 1, recycle: rule, sweep: "1 hour" })
      on = true
      assert.deepStrictEqual((yield* pool.sweep).recycled, [{ item: 1, reason: "bad" }])
      const borrower = yield* borrow(pool)
      assert.strictEqual(borrower.item?.id, 2)
      yield* elapse(100)
      assert.deepStrictEqual(source.closed, [1])
      yield* borrower.letGo
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("an item that is put off stays when no rule speaks against it any more", () =>
    Effect.gen(function*() {
      const state = bad()
      const { pool, source } = yield* idle(3, { closeConcurrency: 1, recycle: state.rule, sweep: "1 hour" })
      state.on = true
      yield* pool.sweep
      assert.strictEqual(putOff(pool), 2)
      state.on = false
      yield* elapse(100)
      assert.strictEqual((yield* books(source, pool)).idle, 2)
      assert.strictEqual(putOff(pool), 0)
    }))

  it.effect("an item that is put off and goes for another reason is released once", () =>
    Effect.gen(function*() {
      const state = bad()
      const { events, pool, source } = yield* idle(3, { closeConcurrency: 1, recycle: state.rule, sweep: "1 hour" })
      state.on = true
      yield* pool.sweep
      yield* pool.invalidate(source.opened[1]!)
      assert.strictEqual(putOff(pool), 1)
      assert.deepStrictEqual(yield* course(pool, 3), [[1, 2], [0, 1], [0, 0]])
      assert.deepStrictEqual(recycled(events), [[1, "bad"], [2, "invalidated"], [3, "bad"]])
      yield* books(source, pool)
    }))

  it.effect("an item that is abandoned makes room", () =>
    Effect.gen(function*() {
      const state = bad()
      const { pool, source } = yield* idle(2, {
        closeConcurrency: 1,
        closeTimeout: "1 second",
        recycle: state.rule,
        sweep: "1 hour"
      })
      source.closes.push("hang")
      state.on = true
      yield* pool.sweep
      yield* elapse(999)
      assert.deepStrictEqual(yield* course(pool, 1), [[1, 1]])
      yield* elapse(1)
      assert.deepStrictEqual(yield* course(pool, 2), [[0, 1], [0, 0]])
    }))

  it.effect("a check begins only when its item could be released", () =>
    Effect.gen(function*() {
      const checked: Array<number> = []
      const { pool, source } = yield* idle(4, {
        closeConcurrency: 1,
        recycle: RecyclePolicy.check((thing) => Effect.sync(() => checked.push(thing.id) !== 2)),
        sweep: "1 hour"
      })
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      assert.deepStrictEqual(checked, [1])
      yield* elapse(100)
      // 2 passed and made room for the next at once.
      assert.deepStrictEqual(checked, [1, 2, 3])
      assert.isUndefined(sweep.pollUnsafe())
      yield* elapse(100)
      assert.deepStrictEqual(checked, [1, 2, 3, 4])
      assert.deepStrictEqual((yield* Fiber.join(sweep)).recycled.map(({ item }) => item), [1, 3, 4])
      yield* elapse(100)
      // What is released later for another reason ends no sweep twice.
      yield* pool.clear
      yield* elapse(100)
      assert.strictEqual((yield* books(source, pool)).idle, 0)
      assert.deepStrictEqual(yield* pool.sweep, { examined: 0, recycled: [] })
    }))

  it.effect("a sweep whose last checks pass ends once, whatever is released later", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* idle(4, {
        closeConcurrency: 1,
        recycle: RecyclePolicy.check(({ id }) => Effect.succeed(id === 1)),
        sweep: "1 hour"
      })
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* elapse(100)
      assert.deepStrictEqual((yield* Fiber.join(sweep)).recycled, [{ item: 1, reason: "check" }])
      yield* pool.clear
      yield* elapse(100)
      assert.strictEqual(events.filter(({ _tag }) => _tag === "Swept").length, 1)
    }))

  it.effect("a sweep whose checks are held back ends with the pool", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const checked: Array<number> = []
      const { pool, source } = yield* Scope.provide(
        filled(3, {
          closeConcurrency: 1,
          recycle: RecyclePolicy.check((thing) => Effect.sync(() => checked.push(thing.id) > 0)),
          sweep: "1 hour"
        }),
        scope
      )
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.isUndefined(sweep.pollUnsafe())
      yield* elapse(100)
      assert.deepStrictEqual((yield* Fiber.join(sweep)).recycled.map(({ item }) => item), [1])
      yield* Fiber.join(closing)
      assert.deepStrictEqual(checked, [1])
      closedBooks(source)
    }))

  it.effect("is a whole number from 1, or Infinity", () =>
    Effect.gen(function*() {
      for (const closeConcurrency of [0, -1, 1.5, Number.NaN, "2" as never]) {
        const error = yield* Effect.flip(QueuePool.make({ acquire: Effect.void, closeConcurrency }))
        assert.instanceOf(error.reason, PoolError.InvalidOptions)
        assert.deepStrictEqual(error.reason.problems, [
          { option: "closeConcurrency", value: closeConcurrency, allowed: "a whole number from 1, or Infinity" }
        ])
      }
      for (const closeConcurrency of [1, Number.POSITIVE_INFINITY]) {
        yield* QueuePool.make({ acquire: Effect.void, closeConcurrency })
      }
    }))
})
