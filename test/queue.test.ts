import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import { Waiters } from "../src/internal/waiters.ts"
import { books, borrow, elapse, endings, several } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"
import { Rng } from "./kit/random.ts"

const timeoutOf = (exit: Exit.Exit<unknown, unknown> | undefined) => {
  assert.isTrue(exit !== undefined && exit._tag === "Failure")
  const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause)
  assert.instanceOf(error, PoolError.PoolError)
  assert.instanceOf(error.reason, PoolError.BorrowTimeout)
  return error.reason
}

describe("the queue", () => {
  it.effect("J8: maxWaiters counts those without an open under way for them; one more fails at once", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push({ slow: 10 })
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, maxWaiters: 1 })
      const borrowers = yield* several(3, pool)
      assert.deepStrictEqual(endings(borrowers), ["waits", "waits", "TooManyWaiters"])
      yield* elapse(10)
      assert.strictEqual((yield* pool.stats).pending, 1)
      yield* borrowers[0]!.letGo
      yield* borrowers[1]!.letGo
      yield* books(source, pool)
    }))

  it.effect("maxWaiters 0 lends, opens, and never queues", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, maxWaiters: 0 })
      const borrowers = yield* several(2, pool)
      assert.deepStrictEqual(endings(borrowers), ["waits", "TooManyWaiters"])
      yield* borrowers[0]!.letGo
      yield* books(source, pool)
    }))

  it.effect("borrowTimeout 0 tries once, and lets an open begin for whoever comes next", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        borrowTimeout: 0,
        check: () => Effect.void,
        checkAfter: 100
      })
      const reason = timeoutOf(yield* Effect.exit(pool.use(() => Effect.void)))
      assert.deepStrictEqual([reason.phase, reason.waited], ["opening", 0])
      yield* settle
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
      // One that needs a check is not there at once.
      yield* elapse(100)
      assert.strictEqual(timeoutOf(yield* Effect.exit(pool.use(() => Effect.void))).phase, "checking")
      yield* settle
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* pool.get
        assert.strictEqual(timeoutOf(yield* Effect.exit(pool.use(() => Effect.void))).phase, "waiting")
      }))
      assert.strictEqual((yield* books(source, pool)).timeouts, 3)
    }))

  it.effect("borrowTimeout Infinity waits as long as it takes", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: "Infinity" })
      const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
      yield* elapse("400 days")
      assert.deepStrictEqual(endings([waiter]), ["waits"])
      yield* holder.letGo
      yield* waiter.letGo
      yield* books(source, pool)
    }))

  it.effect("every waiter has its own deadline, and those that time out together are told in one step", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 100 })
      const holder = yield* borrow(pool)
      const early = yield* several(3, pool)
      yield* elapse(60)
      const late = yield* borrow(pool)
      yield* elapse(40)
      assert.deepStrictEqual(endings([...early, late]), ["BorrowTimeout", "BorrowTimeout", "BorrowTimeout", "waits"])
      yield* elapse(59)
      assert.deepStrictEqual(endings([late]), ["waits"])
      yield* elapse(1)
      assert.strictEqual(timeoutOf(late.fiber.pollUnsafe()).oldestLease?.held, 160)
      yield* holder.letGo
      yield* books(source, pool)
    }))

  it.effect("order fifo lends the item that came back first, to those who wait as well", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 3,
        order: "fifo",
        check: () => Effect.void,
        checkAfter: 10
      })
      const three = yield* several(3, pool)
      for (const index of [1, 0, 2]) yield* three[index]!.letGo
      const ids: Array<number> = []
      for (let i = 0; i < 4; i++) ids.push(yield* pool.use(({ id }) => Effect.succeed(id)))
      assert.deepStrictEqual(ids, [2, 1, 3, 2])
      // All of them need a check now.
      yield* elapse(10)
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
      yield* books(source, pool)
    }))

  it.effect("J6: a fiber that borrows what it holds itself fails at its time, and the error names it", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 1000 })
      const nested = pool.use(() => pool.use(() => Effect.void)).pipe(Effect.withSpan("nested"))
      const fiber = yield* Effect.forkChild(nested)
      yield* settle
      yield* elapse(1000)
      assert.deepStrictEqual(timeoutOf(yield* Fiber.await(fiber)).oldestLease, { held: 1000, by: "nested" })
      yield* books(source, pool)
    }))

  it.effect("the oldest lease is found among equal items too, and in a huge pool not looked for", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire: Effect.succeed("same"), max: 2, borrowTimeout: 100 })
      const first = yield* borrow(pool).pipe(Effect.withSpan("first"))
      yield* elapse(1)
      const second = yield* borrow(pool)
      const waiter = yield* borrow(pool)
      yield* elapse(100)
      assert.strictEqual(timeoutOf(waiter.fiber.pollUnsafe()).oldestLease?.by, "first")
      yield* first.letGo
      yield* second.letGo
      const source = new Source()
      const huge = yield* QueuePool.make({ acquire: source.acquire, max: 1001, borrowTimeout: 0, min: 1001 })
      while ((yield* huge.stats).idle < 1001) yield* settle
      const scope = yield* Scope.make()
      yield* Effect.replicateEffect(Scope.provide(huge.get, scope), 1001)
      yield* elapse(5)
      assert.isUndefined(timeoutOf(yield* Effect.exit(huge.use(Effect.succeed))).oldestLease)
      yield* Scope.close(scope, Exit.void)
      yield* books(source, huge)
    }))
})

describe("the list of waiters", () => {
  interface Supply {
    readonly name: number
    waiter: Waiter | undefined
  }

  class Waiter {
    readonly turn: number
    readonly alone: boolean
    ahead: Waiter | undefined = undefined
    behind: Waiter | undefined = undefined
    supply: Supply | undefined = undefined

    constructor(turn: number, alone: boolean) {
      this.turn = turn
      this.alone = alone
    }
  }

  const namesOf = (supplies: Iterable<Supply>) => Array.from(supplies, ({ name }) => name).sort((a, b) => a - b)

  /** The list against an array: its order, its counts, and who has a supply. */
  const check = (list: Waiters<Waiter, Supply>, queue: ReadonlyArray<Waiter>, supplies: ReadonlySet<Supply>) => {
    const [forth, back]: [Array<Waiter>, Array<Waiter>] = [[], []]
    for (let one = list.head; one !== undefined; one = one.behind) forth.push(one)
    for (let one = forth.at(-1); one !== undefined; one = one.ahead) back.unshift(one)
    assert.deepStrictEqual(forth.map(({ turn }) => turn), queue.map(({ turn }) => turn))
    assert.deepStrictEqual(back.map(({ turn }) => turn), queue.map(({ turn }) => turn))
    assert.isTrue(queue.every((waiter) => list.has(waiter)))
    // Those that have one are the first ones, as many as there are.
    const supplied = Math.min(queue.length, supplies.size)
    assert.deepStrictEqual(queue.map(({ supply }) => supply !== undefined), queue.map((_, place) => place < supplied))
    const given = queue.flatMap(({ supply }) => supply ?? [])
    assert.isTrue(given.every((supply) => supply.waiter?.supply === supply && !list.spare.has(supply)))
    assert.deepStrictEqual(namesOf([...given, ...list.spare]), namesOf(supplies))
    const alone = queue.filter((waiter) => waiter.alone)
    assert.deepStrictEqual(
      [list.size, list.supplied, list.alone, list.bareAlone, list.bare],
      [
        queue.length,
        supplied,
        alone.length,
        alone.filter(({ supply }) => supply === undefined).length,
        queue[supplied]
      ]
    )
  }

  it("keeps its order, its counts and its supplies whatever happens", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const rng = new Rng(seed)
      const list = new Waiters<Waiter, Supply>()
      const queue: Array<Waiter> = []
      const supplies = new Set<Supply>()
      const gone: Array<Waiter> = []
      for (let n = 0; n < 100; n++) {
        const what = rng.weighted([[5, "push"], [3, "leave"], [2, "insert"], [3, "promise"], [2, "settle"]])
        if (what === "push") {
          const waiter = new Waiter(n, rng.chance(0.4))
          list.push(waiter)
          queue.push(waiter)
        } else if (what === "leave" && queue.length > 0) {
          const [waiter] = queue.splice(rng.int(queue.length), 1)
          list.leave(waiter!)
          assert.deepStrictEqual([list.has(waiter!), waiter!.supply], [false, undefined])
          gone.push(waiter!)
        } else if (what === "insert" && gone.length > 0) {
          const [waiter] = gone.splice(rng.int(gone.length), 1)
          const place = queue.findIndex(({ turn }) => turn > waiter!.turn)
          const next = place < 0 ? undefined : queue[place]
          list.insert(waiter!, next)
          queue.splice(place < 0 ? queue.length : place, 0, waiter!)
        } else if (what === "promise") {
          const supply: Supply = { name: n, waiter: undefined }
          supplies.add(supply)
          list.promise(supply)
        } else if (what === "settle" && supplies.size > 0) {
          const supply = rng.pick([...supplies])
          supplies.delete(supply)
          list.settle(supply)
          assert.isUndefined(supply.waiter)
        }
        check(list, queue, supplies)
      }
    }
  })
})
