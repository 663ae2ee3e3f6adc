import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, several } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"

/** Items that are all equal: the source counts how many were opened and closed. */
const equals = (log: Array<string>) => {
  let ids = 0
  return Effect.acquireRelease(
    Effect.sync(() => {
      log.push(`open ${++ids}`)
      return { value: "same", id: ids }
    }),
    ({ id }) => Effect.sync(() => void log.push(`close ${id}`))
  ).pipe(Effect.map(({ value }) => value))
}

describe("invalidate", () => {
  it.effect("E1: a lent item is kept until it comes back; its replacement waits for the slot", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, min: 1 })
      const holder = yield* borrow(pool)
      const waiter = yield* borrow(pool)
      yield* pool.invalidate(holder.item!)
      yield* elapse(1000)
      assert.deepStrictEqual([source.closed, source.attempts], [[], 1])
      yield* holder.letGo
      assert.deepStrictEqual([source.closed, waiter.item], [[1], { id: 2 }])
      yield* waiter.letGo
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("E2: when all items were invalidated, a new one serves", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3 })
      const borrowers = yield* several(3, pool)
      for (const { letGo } of borrowers) yield* letGo
      for (const thing of source.opened.slice()) yield* pool.invalidate(thing)
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 4)
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 3 })
    }))

  it.effect("E3: with a return at the same time, by many, it closes once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const holder = yield* borrow(pool)
      const item = holder.item!
      const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(pool.invalidate(item)))
      holder.fiber.interruptUnsafe()
      yield* Fiber.awaitAll(fibers)
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 1 })
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("E4, J5: twice, of a foreign value, or of an item that is gone, it changes nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const [pool, other] = [
        yield* QueuePool.make({ acquire: source.acquire, max: 2 }),
        yield* QueuePool.make({ acquire: source.acquire, max: 2 })
      ]
      const foreign = yield* other.use(Effect.succeed)
      const item = yield* pool.use((thing) =>
        Effect.as(Effect.andThen(pool.invalidate(thing), pool.invalidate(thing)), thing)
      )
      yield* settle
      const before = yield* pool.stats
      for (const value of [item, foreign, { id: 1 }]) yield* pool.invalidate(value)
      assert.deepStrictEqual(yield* pool.stats, before)
      assert.strictEqual((yield* other.stats).idle, 1)
      assert.deepStrictEqual(source.closed, [item.id])
    }))

  it.effect("E5: the recycler and a borrower want an item in the same instant: one wins, and it is never both", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, recycle: RecyclePolicy.idle(1000) })
      yield* pool.use(() => Effect.void)
      const late = yield* Effect.forkChild(Effect.andThen(Effect.sleep(1001), borrow(pool)))
      yield* elapse(1001)
      const borrower = yield* Fiber.join(late)
      assert.notInclude(source.closed, borrower.item?.id)
      assert.isDefined(borrower.item)
      yield* borrower.letGo
      yield* books(source, pool)
    }))

  it.effect("an idle item that a rule refuses when it would be lent is opened anew, and no sweep finds it again", () =>
    Effect.gen(function*() {
      const source = new Source()
      let bad = false
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, recycle: RecyclePolicy.when(() => bad) })
      yield* pool.use(() => Effect.void)
      bad = true
      const borrower = yield* borrow(pool)
      bad = false
      assert.deepStrictEqual((yield* pool.sweep).recycled, [])
      assert.deepStrictEqual(borrower.item, { id: 2 })
      yield* borrower.letGo
      yield* books(source, pool)
    }))

  it.effect("J1: a lease ends once, however often its scope and its fiber end", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const scope = yield* Scope.make()
      yield* Scope.provide(pool.get, scope)
      yield* Scope.close(scope, Exit.void)
      const next = yield* borrow(pool)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* pool.stats).used, 1)
      yield* next.letGo
      assert.strictEqual((yield* books(source, pool)).returned, 2)
    }))

  it.effect("J1: in a scope that is closed already the lease ends at once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      for (const _ of [1, 2]) {
        yield* Scope.provide(pool.get, scope)
        assert.strictEqual((yield* books(source, pool)).idle, 1)
      }
    }))

  it.effect("a borrower can invalidate, and borrow again, in its own finalizer", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2 })
      const ids: Array<number> = []
      const again = (first: { readonly id: number }) =>
        Effect.andThen(pool.invalidate(first), pool.use(({ id }) => Effect.sync(() => void ids.push(id))))
      yield* Effect.scoped(Effect.gen(function*() {
        const first = yield* pool.get
        // Runs before the lease ends, since it was added after it.
        yield* Effect.addFinalizer(() => Effect.orDie(again(first)))
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        // Runs after the lease has ended.
        yield* Effect.addFinalizer(() => Effect.orDie(pool.use(({ id }) => Effect.sync(() => void ids.push(id)))))
        yield* pool.get
      }))
      assert.deepStrictEqual(ids, [2, 2])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 1 })
    }))
})

describe("J9: items that are equal", () => {
  it.effect("are different: each is lent to one borrower, and closed once", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const pool = yield* QueuePool.make({ acquire: equals(log), max: 3 })
      const borrowers = yield* several(3, pool)
      assert.deepStrictEqual((yield* pool.stats).used, 3)
      for (const { letGo } of borrowers) yield* letGo
      yield* pool.clear
      yield* settle
      assert.sameMembers(log, ["open 1", "open 2", "open 3", "close 1", "close 2", "close 3"])
      assert.strictEqual((yield* pool.stats).idle, 0)
    }))

  it.effect("invalidate means the one that the calling fiber has, wherever it stands among them", () =>
    Effect.gen(function*() {
      for (const index of [0, 1, 2]) {
        const log: Array<string> = []
        const pool = yield* QueuePool.make({ acquire: equals(log), max: 3 })
        const fibers = yield* Effect.forEach(
          [0, 1, 2],
          (i) =>
            Effect.tap(
              Effect.forkChild(Effect.scoped(Effect.gen(function*() {
                const item = yield* pool.get
                // Until all of them have one.
                yield* Effect.sleep(1)
                if (i === index) yield* pool.invalidate(item)
                return yield* Effect.never
              }))),
              () => settle
            )
        )
        yield* elapse(1)
        yield* Fiber.interruptAll(fibers)
        yield* settle
        assert.deepStrictEqual(log.slice(3), [`close ${index + 1}`])
        assert.strictEqual((yield* pool.stats).idle, 2)
      }
    }))

  it.effect("invalidate by a fiber that has none means the one that was lent last, or else an idle one", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const pool = yield* QueuePool.make({ acquire: equals(log), max: 3 })
      const borrowers = []
      for (let i = 0; i < 3; i++) {
        borrowers.push(yield* borrow(pool))
        yield* elapse(1)
      }
      yield* borrowers[2]!.letGo
      yield* pool.invalidate("same")
      yield* borrowers[0]!.letGo
      yield* borrowers[1]!.letGo
      assert.deepStrictEqual(log.slice(3), ["close 2"])
      yield* pool.invalidate("same")
      yield* settle
      yield* pool.invalidate("same")
      yield* pool.invalidate("other")
      yield* settle
      assert.strictEqual(log.length, 6)
      assert.strictEqual((yield* pool.stats).closed, 3)
    }))

  it.effect("NaN, undefined and null are items as any", () =>
    Effect.gen(function*() {
      for (const value of [NaN, undefined, null, 0, ""]) {
        const pool = yield* QueuePool.make({ acquire: Effect.succeed(value), max: 2 })
        yield* Effect.scoped(Effect.flatMap(pool.get, (item) => pool.invalidate(item)))
        yield* pool.use((item) => Effect.sync(() => assert.deepStrictEqual(item, value)))
        yield* settle
        assert.deepStrictEqual((yield* pool.stats).recycled, { invalidated: 1 })
        assert.strictEqual((yield* pool.stats).idle, 1)
      }
    }))
})

describe("clear", () => {
  it.effect("recycles the idle now, the lent when they come back, the opening when they arrive, and refills", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push("ok", "ok", "ok", { slow: 100 })
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 5, min: 3 })
      yield* settle
      const lent = yield* borrow(pool)
      yield* pool.invalidate(source.opened[0]!)
      yield* settle
      const { idle, opening, used } = yield* pool.stats
      assert.deepStrictEqual({ idle, opening, used }, { idle: 1, opening: 1, used: 1 })
      yield* pool.clear
      yield* settle
      assert.deepStrictEqual(source.closed, [1, 2])
      yield* elapse(100)
      // Nobody saw the one that arrived.
      assert.deepStrictEqual(source.closed, [1, 2, 4])
      yield* lent.letGo
      const stats = yield* books(source, pool)
      assert.deepStrictEqual(stats.recycled, { invalidated: 1, cleared: 3 })
      assert.strictEqual(stats.idle, 3)
    }))

  it.effect("between a hand-over and the borrower's turn does not take the item away", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
      holder.fiber.interruptUnsafe()
      yield* pool.clear
      yield* settle
      assert.deepStrictEqual([waiter.item, source.closed], [{ id: 1 }, []])
      yield* waiter.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { cleared: 1 })
    }))

  it.effect("again and again, with items in every state, keeps the books", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      source.opensOtherwise = source.closesOtherwise = { slow: 7 }
      const pool = yield* Scope.provide(
        QueuePool.make({
          acquire: source.acquire,
          max: 4,
          min: 2,
          check: () => Effect.sleep(3),
          checkAfter: 0,
          reset: () => Effect.sleep(5)
        }),
        scope
      )
      const fibers = yield* Effect.forEach(Array.from({ length: 30 }), (_, i) =>
        Effect.forkChild(Effect.andThen(Effect.sleep(i), pool.use(() => Effect.sleep(i % 4)))))
      for (let i = 0; i < 40; i++) {
        yield* elapse(i % 3)
        yield* pool.clear
        const { closing, idle, max, opening, used } = yield* pool.stats
        assert.isAtMost(idle + used + opening + closing, max)
      }
      yield* elapse(1000)
      assert.isTrue(fibers.every((fiber) =>
        fiber.pollUnsafe() !== undefined
      ))
      assert.isAtLeast((yield* books(source, pool)).idle, 2)
      source.closesOtherwise = "ok"
      yield* Scope.close(scope, Exit.void)
      closedBooks(source)
    }))
})
