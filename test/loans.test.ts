/** A borrowing that is over is used again for the next: of the one before, nothing may be left. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Option, Scheduler, Scope } from "effect"
import { QueuePool, QueuePoolMap } from "effect-queuepool"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import type { Borrower } from "../src/internal/item.ts"
import { loans } from "../src/internal/loan.ts"
import { evaluation } from "../src/internal/operation.ts"
import { behind } from "../src/internal/registered.ts"
import type { PoolState } from "../src/internal/state.ts"
import { elapse } from "./kit/books.ts"
import { atOnce, settle, Source } from "./kit/items.ts"

v8.setFlagsFromString("--expose-gc")
const gc = vm.runInNewContext("gc") as () => void

/** A pool of one item that somebody has. */
const lent = Effect.gen(function*() {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: "1 second" })
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
  yield* Scope.provide(pool.get, scope)
  return { pool, source, giveBack: Scope.close(scope, Exit.void) }
})

/** What those that lie ready have of whom they were for. */
const leftInSpares = (): Array<string> => {
  const ready = Array.from({ length: loans.size() }, () => loans.take() as Borrower<unknown>)
  ready.forEach(loans.keep)
  const its = new Set<string>(["ends", "plain", "waiting", "wholly", evaluation as never])
  return ready.flatMap((loan) =>
    Object.entries(loan).flatMap(([name, value]) =>
      its.has(name) || [undefined, false, 0, loan].includes(value) ? [] : [name]
    )
  )
}

/** Of one that does not wait, and whose item dies under its hook, while all pools are closed. */
const asksAsAllDies = Effect.gen(function*() {
  const dead = yield* Deferred.make<void>()
  const scope = yield* Scope.make()
  const acquire = (key: string) => Effect.succeed(key)
  let hook: Effect.Effect<void> = Effect.void
  const options = { acquire, max: 1, onBorrow: () => hook, monitor: () => Deferred.await(dead) }
  const map = yield* Scope.provide(QueuePoolMap.make(options), scope)
  yield* map.use("key", () => Effect.void)
  hook = Effect.never
  const asks = yield* atOnce(Effect.exit(map.useIfAvailable("key", () => Effect.void)))
  yield* settle
  Deferred.doneUnsafe(dead, Exit.void)
  yield* Scope.close(scope, Exit.void)
  return yield* Fiber.join(asks)
})

/** A scheduler whose turns come when they are called. */
const turnByTurn = () => {
  const turns: Array<() => void> = []
  const run = () => {
    for (let task = turns.shift(); task !== undefined; task = turns.shift()) task()
  }
  const slow: Scheduler.Scheduler = {
    executionMode: "async",
    shouldYield: () => false,
    makeDispatcher: () => ({ scheduleTask: (task) => void turns.push(task), flush: run })
  }
  return { run, slow, turns }
}

/** Collects until nothing of these is left, and tells how much is. */
const leftOf = (refs: ReadonlyArray<WeakRef<object>>): Effect.Effect<number> =>
  Effect.gen(function*() {
    // What a function has had on its stack goes with the next turns of the event loop, and what
    // the optimizing compiler is at work on in another thread when that is done.
    const left = () => refs.filter((ref) => ref.deref() !== undefined).length
    for (let i = 0; i < 100 && (i === 0 || left() > 0); i++) {
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      gc()
    }
    return left()
  })

describe("a borrowing that is used again", () => {
  it.effect("is not woken for the one before, who was woken and left before its turn", () =>
    Effect.gen(function*() {
      const { giveBack, pool } = yield* lent
      const left = yield* atOnce(pool.use(() => Effect.die("left")))
      let served = 0
      const next = Scope.makeUnsafe()
      // In one step: it is handed the item and leaves, another takes it, and a third waits.
      const waits = yield* Effect.flatMap(giveBack, () => {
        left.interruptUnsafe()
        return Effect.andThen(
          Scope.provide(pool.get, next),
          atOnce(pool.use(({ id }) => Effect.sync(() => served += id)))
        )
      })
      yield* settle
      assert.deepStrictEqual([served, (yield* pool.stats).pending, waits.pollUnsafe()], [0, 1, undefined])
      yield* Scope.close(next, Exit.void)
      assert.deepStrictEqual([yield* Fiber.join(waits), served, (yield* pool.stats).idle], [1, 1, 1])
    }))

  it.live("is resumed in a turn of its own scheduler, though the one before was woken in another's", () =>
    Effect.gen(function*() {
      let inside = false
      const other = new Scheduler.MixedScheduler("async", (task) => {
        const turn = setImmediate(() => {
          inside = true
          task()
          inside = false
        })
        return () => clearImmediate(turn)
      })
      for (const [before, after] of [[undefined, other], [other, undefined]] as const) {
        const { giveBack, pool } = yield* lent
        const fork = (effect: Effect.Effect<unknown, unknown>, scheduler: Scheduler.Scheduler | undefined) =>
          Effect.runForkWith(Context.empty())(effect, scheduler === undefined ? {} : { scheduler })
        const left = fork(pool.use(() => Effect.void), before)
        const next = Scope.makeUnsafe()
        const where: Array<boolean> = []
        yield* giveBack
        left.interruptUnsafe()
        yield* Scope.provide(pool.get, next)
        const waits = fork(pool.use(() => Effect.sync(() => void where.push(inside))), after)
        yield* Scope.close(next, Exit.void)
        yield* Fiber.join(waits)
        assert.deepStrictEqual(where, [after === other])
      }
    }))

  it.effect("is not woken for the one before, whose first item died as it was woken", () =>
    Effect.gen(function*() {
      const { run, slow, turns } = turnByTurn()
      const dead = yield* Deferred.make<void>()
      let opened = 0
      const pool = yield* QueuePool.make({
        acquire: Effect.sync(() => ++opened),
        max: 2,
        monitor: (item) => item === 1 ? Deferred.await(dead) : Effect.never
      })
      const scopes = Array.from({ length: 3 }, () => Scope.makeUnsafe())
      const take = (n: number) => Scope.provide(pool.get, scopes[n]!)
      const giveBack = (n: number) => Scope.close(scopes[n]!, Exit.void)
      yield* Effect.all([take(0), take(1)])
      const before = yield* atOnce(Effect.provideService(pool.use(Effect.succeed), Scheduler.Scheduler, slow))
      run()
      yield* giveBack(0)
      Deferred.doneUnsafe(dead, Exit.void)
      yield* settle
      assert.isAbove(turns.length, 1)
      turns.shift()!()
      assert.deepStrictEqual(before.pollUnsafe(), Exit.succeed(3))
      yield* take(2)
      let served = false
      const next = yield* atOnce(pool.use(() => Effect.sync(() => served = true)))
      // In one step: it is handed its item, and what is left to be heard by the one before is.
      yield* Effect.map(giveBack(1), () => {
        run()
        assert.isFalse(served)
      })
      yield* Fiber.join(next)
      assert.isTrue(served)
      yield* giveBack(2)
    }))

  it.effect("is not woken for the one before, who had its item before it slept", () =>
    Effect.gen(function*() {
      const { run, slow, turns } = turnByTurn()
      const shared = yield* QueuePool.make({
        acquire: Effect.sync(() => ({})),
        concurrency: 2,
        min: 2,
        max: 2,
        warm: "eager"
      })
      const scope = yield* Scope.make()
      yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
      // Both have an item each, of which one is drained for who wants one alone.
      yield* Scope.provide(Effect.all([shared.get, shared.get]), scope)
      const alone = yield* atOnce(Effect.scoped(shared.getExclusive))
      const { giveBack, pool } = yield* lent
      const before = yield* atOnce(
        Effect.provideService(shared.use(() => Effect.succeed("joined")), Scheduler.Scheduler, slow)
      )
      assert.deepStrictEqual([before.pollUnsafe(), turns.length > 0], [Exit.succeed("joined"), true])
      let served = false
      const next = yield* atOnce(pool.use(() => Effect.sync(() => served = true)))
      // In one step: it is handed its item, and what is left to be heard by the one before is.
      yield* Effect.map(giveBack, () => {
        run()
        assert.isFalse(served)
      })
      yield* Fiber.join(next)
      assert.isTrue(served)
      yield* Fiber.interrupt(alone)
    }))

  it.effect("waits for all of its own time, and is refused once", () =>
    Effect.gen(function*() {
      const { giveBack, pool } = yield* lent
      const refused: Array<unknown> = []
      const borrow = Effect.catchTag(pool.use(() => Effect.void), "PoolError", ({ reason }) =>
        Effect.sync(() =>
          void refused.push(reason._tag)
        ))
      for (const seen of [1, 2, 3]) {
        const waits = yield* atOnce(borrow)
        yield* elapse(999)
        assert.strictEqual(refused.length, seen - 1)
        yield* elapse(1)
        yield* Fiber.join(waits)
        assert.strictEqual(refused.length, seen)
      }
      assert.deepStrictEqual(refused, ["BorrowTimeout", "BorrowTimeout", "BorrowTimeout"])
      const served = yield* atOnce(borrow)
      yield* giveBack
      yield* Fiber.join(served)
      assert.strictEqual(refused.length, 3)
    }))

  it.effect("is still its own while it is given back, and another begins", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      let inside = false
      const pool: QueuePool.QueuePool<string> = yield* QueuePool.make({
        acquire: Effect.succeed("item"),
        min: 4,
        max: 4,
        recycle: ({ uses }) => {
          if (uses === 0 || inside) return false
          inside = true
          // @effect-diagnostics-next-line runEffectInsideEffect:off
          Effect.runSync(Effect.orDie(pool.use(() => Effect.sync(() => void seen.push(uses)))))
          inside = false
          return false
        }
      })
      yield* Effect.all(Array.from({ length: 3 }, () => pool.use(() => Effect.yieldNow)), { concurrency: "unbounded" })
      const { borrowed, idle, leases, returned } = yield* pool.stats
      assert.deepStrictEqual([leases, idle, seen.length >= 3, borrowed - returned], [0, 4, true, 0])
      assert.strictEqual(returned, seen.length + 3)
    }))

  it.effect("asks again where there is no pool any more, and hears of that alone", () =>
    Effect.gen(function*() {
      const exit = yield* asksAsAllDies
      assert.isFalse(Exit.isFailure(exit) && Cause.hasDies(exit.cause), String(exit))
    }))

  it.effect("leaves nothing of a hook whose item died as the pool did", () =>
    Effect.gen(function*() {
      yield* asksAsAllDies
      assert.deepStrictEqual(leftInSpares(), [])
      // Who takes it next has to wait.
      const other = yield* QueuePool.make({ acquire: Effect.succeed("item"), max: 1, onBorrow: () => Effect.void })
      assert.strictEqual(yield* other.use(Effect.succeed), "item")
      const { leases, pending } = yield* other.stats
      assert.deepStrictEqual([leases, pending], [0, 0])
    }))

  it.effect("leaves nothing of a hook where the next pool of its key has none", () =>
    Effect.gen(function*() {
      let dead = yield* Deferred.make<void>()
      let hook: Effect.Effect<void> | undefined = Effect.void
      const map = yield* QueuePoolMap.make({
        acquire: Effect.succeed<string>,
        max: 1,
        monitor: () => Deferred.await(dead),
        forKey: () => hook === undefined ? undefined : { onBorrow: () => hook! }
      })
      yield* map.use("key", () => Effect.void)
      hook = Effect.never
      const { run, slow } = turnByTurn()
      const asks = yield* atOnce(
        Effect.provideService(map.useIfAvailable("key", Effect.succeed), Scheduler.Scheduler, slow)
      )
      run()
      yield* settle
      run()
      Deferred.doneUnsafe(dead, Exit.void)
      yield* settle
      assert.deepStrictEqual(yield* map.keys, [])
      dead = yield* Deferred.make<void>()
      hook = undefined
      yield* map.use("key", () => Effect.void)
      run()
      assert.deepStrictEqual(asks.pollUnsafe(), Exit.succeed(Option.some("key")))
      assert.deepStrictEqual(leftInSpares(), [])
    }))

  it("is evaluated by the last of its own fields, where effect looks first", () => {
    const loan = loans.take()
    loans.keep(loan)
    assert.strictEqual(Object.keys(loan as object).at(-1), evaluation as never)
    // So it is by effect's name for it: of any other a loan would not be an effect.
    assert.include(String(evaluation), "evaluate")
  })

  it.effect("nor has the `get` of a pool to be looked up with its class", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire: Effect.succeed("item"), max: 1 })
      assert.isTrue(Object.hasOwn(pool.get, evaluation))
    }))

  it.effect("is one for each run of the same effect", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire: Effect.succeed("item"), max: 3 })
      const ids = new Set<number>()
      const use = pool.use(() => Effect.withFiber(({ id }) => Effect.as(Effect.yieldNow, ids.add(id))))
      yield* Effect.all(Array.from({ length: 10 }, () => use), { concurrency: "unbounded" })
      yield* use
      const { borrowed, returned } = yield* pool.stats
      assert.deepStrictEqual([ids.size, borrowed, returned], [11, 11, 11])
    }))

  it.effect("keeps nothing of whom it was for, nor of the pool", () =>
    Effect.gen(function*() {
      const refs: Array<WeakRef<object>> = []
      const seen = <A extends object>(value: A): A => {
        refs.push(new WeakRef(value))
        return value
      }
      // One at once, one that waits, one that is refused, one that fails.
      yield* Effect.scoped(Effect.gen(function*() {
        const acquire = Effect.sync(() => seen({ item: true }))
        const pool = seen(yield* QueuePool.make({ acquire, max: 1, borrowTimeout: "1 second" }))
        const use = <E>(end: Effect.Effect<void, E>) =>
          pool.use(seen((item) => Effect.andThen(Effect.succeed(item), end)))
        yield* use(Effect.void)
        yield* Effect.exit(use(Effect.fail(seen({ failed: true }))))
        const holds = seen(yield* atOnce(use(Effect.sleep(1500))))
        const refused = seen(yield* atOnce(Effect.exit(use(Effect.void))))
        // These leave between two steps of a borrowing, of which one begins to wait.
        for (const steps of [3, 4, 5, 6, 7, 8]) {
          const few = Effect.provideService(use(Effect.void), Scheduler.MaxOpsBeforeYield, steps)
          yield* Fiber.interrupt(seen(yield* atOnce(few)))
        }
        yield* elapse(1000)
        yield* Fiber.join(refused)
        const waits = seen(yield* atOnce(use(Effect.void)))
        yield* elapse(500)
        yield* Fiber.joinAll([holds, waits])
        // And one in a rush.
        seen((behind(pool) as { readonly state: PoolState<object, never> }).state.rush)
        yield* Effect.replicateEffect(pool.use(() => Effect.void), 4)
        const last = yield* Effect.scoped(Effect.andThen(pool.get, atOnce(pool.use(() => Effect.void))))
        yield* Fiber.join(last)
      }))
      yield* settle
      assert.deepStrictEqual([refs.length, yield* leftOf(refs)], [24, 0])
    }))

  it.effect("is forgotten by its pool when it was woken", () =>
    Effect.gen(function*() {
      const { giveBack, pool } = yield* lent
      const refs: Array<WeakRef<object>> = []
      yield* Effect.gen(function*() {
        const waits = yield* Effect.forEach([1, 2, 3], () => atOnce(Effect.scoped(pool.get)))
        refs.push(...waits.map((fiber) => new WeakRef(fiber)))
        yield* giveBack
        yield* Fiber.joinAll(waits)
      })
      yield* settle
      assert.strictEqual(yield* leftOf(refs), 0)
      assert.strictEqual((yield* pool.stats).borrowed, 4)
    }))
})
