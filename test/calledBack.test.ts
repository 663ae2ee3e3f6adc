/** A user's function, asked in the middle of a step, calls back into the pool: it may end what the step is about. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"
import { settle, Source, type Thing } from "./kit/items.ts"

type Pool = QueuePool.QueuePool<Thing, unknown>
type Usage = RecyclePolicy.Usage<Thing>

/** A pool with a rule that does something once, when it is asked at the moment it is armed for. */
const make = Effect.fnUntraced(function*(
  options: Omit<Partial<QueuePool.Options<Thing, unknown>>, "recycle">,
  rules: ReadonlyArray<RecyclePolicy.RecyclePolicy<Thing>> = []
) {
  const source = new Source()
  const run = Effect.runForkWith(yield* Effect.context())
  const death = yield* Deferred.make<void>()
  const scope = yield* Scope.fork(yield* Effect.scope)
  let armed: { readonly moment: Usage["moment"]; times: number; readonly does: (thing: Thing) => void } | undefined
  const rule = RecyclePolicy.when(({ item, moment }: Usage) => {
    if (armed?.moment !== moment || --armed.times > 0) return false
    const { does } = armed
    armed = undefined
    does(item)
    return false
  })
  const pool: Pool = yield* Scope.provide(
    QueuePool.make({
      acquire: source.acquire,
      sweep: "1 hour",
      monitor: ({ id }) => id === 1 ? Deferred.await(death) : Effect.never,
      ...options,
      recycle: [rule, ...rules]
    }),
    scope
  )
  const arm = (moment: Usage["moment"], does: (thing: Thing) => void, times = 1) =>
    Effect.sync(() => void (armed = { moment, times, does }))
  const kill = () => void Deferred.doneUnsafe(death, Exit.void)
  const close = () => void run(Scope.close(scope, Exit.void))
  return { arm, close, kill, pool, run, source }
})

const slow = RecyclePolicy.check((_: Thing) => Effect.as(Effect.sleep(100), false))

const pass = (millis: number) => Effect.andThen(settle, Effect.andThen(TestClock.adjust(millis), settle))

const lent = (pool: Pool) => Effect.forkChild(pool.use(({ id }) => Effect.succeed(id)), { startImmediately: true })

describe("a predicate that is asked as an item comes back", () => {
  it.effect("from a sweep's check ends it, and `minIdle` is kept as before", () =>
    Effect.gen(function*() {
      const { arm, kill, pool, source } = yield* make({ max: 1 }, [slow])
      yield* lent(pool)
      yield* settle
      yield* Effect.forkChild(pool.sweep)
      yield* settle
      const waiter = yield* lent(pool)
      yield* arm("lend", kill)
      yield* pass(100)
      assert.strictEqual(yield* Fiber.join(waiter), 2)
      yield* pool.resize({ max: 5, minIdle: 1 })
      yield* settle
      assert.deepStrictEqual([(yield* pool.stats).idle, source.closed], [1, [1]])
    }))

  it.effect("from the check before a lease ends it, and the pool goes on", () =>
    Effect.gen(function*() {
      const { arm, kill, pool } = yield* make({ max: 1, check: () => Effect.sleep(100), checkAfter: 0 })
      yield* lent(pool)
      yield* settle
      const waiter = yield* lent(pool)
      yield* arm("lend", kill)
      yield* pass(100)
      assert.strictEqual(yield* Fiber.join(waiter), 2)
      yield* pool.resize({ max: 2 })
      assert.deepStrictEqual((yield* pool.stats).idle, 1)
    }))
})

describe("a sweep whose rule", () => {
  const swept = (how: (pool: Pool, thing: Thing) => Effect.Effect<unknown, unknown>) =>
    Effect.gen(function*() {
      const checked: Array<number> = []
      const check = RecyclePolicy.check(({ id }: Thing) => {
        checked.push(id)
        return Effect.as(Effect.sleep(100), false)
      })
      const { arm, pool, run, source } = yield* make({ max: 1, monitor: undefined }, [check])
      yield* lent(pool)
      yield* settle
      // Asked once for the deadline, and once before the check.
      yield* arm("sweep", (thing) => void run(how(pool, thing)), 2)
      yield* Effect.forkChild(pool.sweep)
      yield* pass(200)
      assert.deepStrictEqual(checked, [])
      return { pool, source }
    })

  it.effect("recycles the item before its check leaves it alone", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* swept((pool, thing) => pool.invalidate(thing))
      assert.deepStrictEqual([source.closed, (yield* pool.stats).idle], [[1], 0])
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 2)
    }))

  it.effect("borrows the item before its check leaves it alone", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { pool } = yield* swept((pool) => Scope.provide(pool.get, scope))
      const { idle, used } = yield* pool.stats
      assert.deepStrictEqual([idle, used], [0, 1])
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* pool.stats).idle, 1)
    }))
})

it.effect("what is looked at by a sweep is too old after its time, and is not replaced where `minIdle` has another", () =>
  Effect.gen(function*() {
    const { pool, source } = yield* make({ max: 5, minIdle: 1, order: "fifo", replaceTimeout: "10 seconds" }, [slow])
    yield* settle
    yield* pool.clearWith({ only: "idle", over: 50 })
    // The second is opened meanwhile, and was lent last: the sweep begins with the first.
    for (let i = 0; i < 2; i++) yield* Effect.scoped(Effect.andThen(pool.get, settle))
    yield* Effect.forkChild(pool.sweep)
    yield* pass(150)
    yield* pass(1000)
    assert.deepStrictEqual([source.attempts, source.closed, (yield* pool.stats).idle], [2, [1], 1])
  }))

it.effect("a rule closes the pool as the item of a swap's trial comes in: the swap ends, once", () =>
  Effect.gen(function*() {
    const { arm, close, pool, source } = yield* make({ min: 1, max: 3, warm: "eager" }, [RecyclePolicy.idle(100)])
    const swap = yield* Effect.forkChild(pool.swap(Effect.delay(source.acquire, 500), { over: 1000 }))
    yield* pass(400)
    yield* arm("sweep", close)
    yield* pass(200)
    assert.isTrue(Exit.isFailure(yield* Fiber.await(swap)))
    assert.strictEqual(source.live, 0)
  }))

describe("onReturn that gives the item of another back", () => {
  const returned = (after: () => Effect.Effect<void> | undefined) =>
    Effect.gen(function*() {
      const other = yield* Scope.make()
      let calls = 0
      const { pool, run, source } = yield* make({
        max: 1,
        concurrency: 2,
        onReturn: () => {
          if (++calls > 1) return undefined
          run(Scope.close(other, Exit.void))
          return after()
        }
      })
      yield* Scope.provide(pool.get, other)
      yield* Effect.scoped(pool.get)
      yield* settle
      assert.deepStrictEqual([calls, source.closed, (yield* pool.stats).recycled], [2, [1], { "reset failed": 1 }])
    })

  it.effect("and then throws is heard of", () =>
    returned(() => {
      throw new Error("broken")
    }))

  it.effect("and then has something to do for its own comes too late", () => returned(() => Effect.void))
})

it.effect("who borrows within the step in which the first who waits is served has its time too", () =>
  Effect.gen(function*() {
    const { arm, pool, run } = yield* make({
      max: 2,
      order: "fifo",
      borrowTimeout: "1 second",
      check: () => Effect.never,
      checkAfter: "5 seconds",
      checkTimeout: "30 seconds"
    })
    const [one, two] = [yield* Scope.make(), yield* Scope.make()]
    yield* Scope.provide(pool.get, one)
    yield* Scope.provide(pool.get, two)
    yield* Scope.close(one, Exit.void)
    yield* pass(6000)
    yield* Scope.close(two, Exit.void)
    let inner: Fiber.Fiber<unknown, unknown> | undefined
    yield* arm("lend", () => {
      inner = run(pool.use(() => Effect.void))
    })
    const first = yield* Effect.forkChild(pool.use(() => Effect.never))
    yield* pass(1001)
    assert.isTrue(Exit.isFailure(yield* Fiber.await(inner!)))
    yield* Fiber.interrupt(first)
  }))

it.effect("who borrows as the only item that needs no check is looked at shares it, and waits for no check", () =>
  Effect.gen(function*() {
    const { arm, pool, run } = yield* make({
      max: 2,
      concurrency: 2,
      order: "fifo",
      check: () => Effect.never,
      checkAfter: "5 seconds"
    })
    const [one, two] = [yield* Scope.make(), yield* Scope.make()]
    yield* Scope.provide(pool.getExclusive, one)
    const proven = yield* Scope.provide(pool.getExclusive, two)
    yield* Scope.close(one, Exit.void)
    yield* pass(6000)
    yield* Scope.close(two, Exit.void)
    let inner: Fiber.Fiber<Thing, unknown> | undefined
    yield* arm("lend", () => {
      inner = run(pool.use(Effect.succeed))
    })
    const outer = yield* Effect.forkChild(pool.useIfAvailable(() => Effect.never))
    yield* settle
    assert.deepStrictEqual(inner!.pollUnsafe(), Exit.succeed(proven))
    yield* Fiber.interrupt(outer)
    yield* pass(6000)
  }))

it.effect("a check that ends its item, and would then go on for ever, is interrupted", () =>
  Effect.gen(function*() {
    let interrupted = 0
    const { kill, pool } = yield* make({
      max: 1,
      checkAfter: 0,
      check: ({ id }) => {
        if (id > 1) return Effect.void
        kill()
        return Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      }
    })
    yield* pool.use(() => Effect.void)
    assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 2)
    assert.strictEqual(interrupted, 1)
  }))
