/** What the model found in shared items, groups, live control and hooks; each of these was red once. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, type Borrower, elapse, ending, endings, several } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

/** The same pool for the kit's borrowers, who then share with nobody. */
const alone = <A, E>(pool: QueuePool.QueuePool<A, E>): QueuePool.QueuePool<A, E> =>
  Object.create(pool, { use: { value: pool.useExclusive } })

/** The same pool for the kit's borrowers, who then take so many at once. */
const group = <A, E>(pool: QueuePool.QueuePool<A, E>, n: number): QueuePool.QueuePool<A, E> => {
  const use = (f: (item: A) => Effect.Effect<unknown>) =>
    Effect.scoped(Effect.flatMap(pool.getN(n), ([first]) => f(first!)))
  return Object.create(pool, { use: { value: use } })
}

const item = (borrower: Borrower<{ readonly id: number }, unknown>): number | undefined => borrower.item?.id

describe("shared items", () => {
  for (const way of ["interrupted", "out of time", "refused at once", "one too many"] as const) {
    it.effect(`takes newcomers again when who needed it alone is ${way}`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* QueuePool.make({
          acquire: source.acquire,
          max: 1,
          concurrency: 2,
          borrowTimeout: way === "out of time" ? 10 : way === "refused at once" ? 0 : "1 minute",
          maxWaiters: way === "one too many" ? 0 : Infinity
        })
        // With no time at all the open is for whoever comes next.
        yield* Effect.exit(pool.use(() => Effect.void))
        yield* settle
        const holder = yield* borrow(pool)
        const one = yield* borrow(alone(pool))
        if (way === "interrupted") yield* Fiber.interrupt(one.fiber)
        if (way === "out of time") yield* elapse(10)
        assert.notStrictEqual(ending(one.fiber.pollUnsafe()), "waits")
        assert.deepStrictEqual(Option.getOrUndefined(yield* pool.useIfAvailable(({ id }) => Effect.succeed(id))), 1)
        yield* holder.letGo
        yield* books(source, pool)
      }))
  }

  it.effect("who waits behind one who needed the item alone joins when that one leaves", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 2 })
      const holder = yield* borrow(pool)
      const one = yield* borrow(alone(pool))
      const behind = yield* borrow(pool)
      assert.deepStrictEqual([item(one), item(behind)], [undefined, undefined])
      yield* Fiber.interrupt(one.fiber)
      yield* settle
      assert.strictEqual(item(behind), 1)
      yield* holder.letGo
      yield* behind.letGo
      yield* books(source, pool)
    }))

  it.effect("what drains for one who is served with another item takes newcomers again", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2, concurrency: 2 })
      const first = yield* borrow(alone(pool))
      const sharer = yield* borrow(pool)
      const second = yield* borrow(alone(pool))
      yield* first.letGo
      assert.deepStrictEqual([item(first), item(sharer), item(second)], [1, 2, 1])
      assert.deepStrictEqual(Option.getOrUndefined(yield* pool.useIfAvailable(({ id }) => Effect.succeed(id))), 2)
      yield* sharer.letGo
      yield* second.letGo
      yield* books(source, pool)
    }))

  it.effect("two who share and one who does not open two items, not three", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opensOtherwise = { slow: 5 }
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 4, concurrency: 2 })
      const sharers = yield* several(2, pool)
      const one = yield* borrow(alone(pool))
      yield* elapse(20)
      assert.deepStrictEqual([...sharers.map(item), item(one)], [1, 1, 2])
      assert.strictEqual(source.attempts, 2)
      for (const borrower of [...sharers, one]) yield* borrower.letGo
      yield* books(source, pool)
    }))
})

describe("several items at once", () => {
  it.effect("what a group was lent goes back unused when it fails, also what was idle", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        min: 2,
        max: 2,
        warm: "eager",
        borrowTimeout: 10,
        recycle: [RecyclePolicy.failed, RecyclePolicy.interrupted, RecyclePolicy.uses(2)]
      })
      const events = yield* record(pool)
      const holder = yield* borrow(pool)
      const late = yield* borrow(group(pool, 2))
      yield* elapse(10)
      const cut = yield* borrow(group(pool, 2))
      yield* Fiber.interrupt(cut.fiber)
      yield* settle
      assert.deepStrictEqual(endings([late, cut]), ["BorrowTimeout", "interrupted"])
      assert.deepStrictEqual(told(events), [
        `Borrowed ${item(holder)}`,
        ...Array.from({ length: 4 }, () => "BorrowFailed")
      ])
      yield* holder.letGo
      const { borrowed, recycled, returned } = yield* books(source, pool)
      assert.deepStrictEqual({ borrowed, returned, recycled }, { borrowed: 1, returned: 1, recycled: {} })
    }))

  it.effect("who asks for idle items has not waited", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, min: 2, max: 2, warm: "eager" })
      const fiber = yield* Effect.forkChild(Effect.scoped(pool.getN(2)), { startImmediately: true })
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual((yield* books(source, pool)).waited, 0)
    }))

  it.effect("a group's time with its items begins when it has all of them", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, min: 2, max: 2, warm: "eager", maxLease: 30 })
      const holder = yield* borrow(pool)
      yield* elapse(10)
      const both = yield* Scope.make()
      const fiber = yield* Effect.forkChild(Scope.provide(pool.getN(2), both))
      yield* elapse(15)
      yield* holder.letGo
      assert.strictEqual(ending(fiber.pollUnsafe()), "served")
      yield* elapse(29)
      assert.strictEqual((yield* pool.stats).leases, 2)
      // The newer leases are due after the group's, though one of those was handed out before them.
      yield* elapse(1)
      assert.strictEqual((yield* pool.stats).takenBack, 2)
      yield* Scope.close(both, Exit.void)
      yield* books(source, pool)
    }))

  it.effect("a group whose item dies while it waits for the others keeps its place", () =>
    Effect.gen(function*() {
      const source = new Source()
      const deaths = new Map<number, Deferred.Deferred<void>>()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 4,
        monitor: ({ id }) => {
          const death = Deferred.makeUnsafe<void>()
          deaths.set(id, death)
          return Deferred.await(death)
        }
      })
      const three = yield* Scope.make()
      yield* Scope.provide(pool.getN(3), three)
      const others = yield* borrow(group(pool, 3))
      // What the group was handed dies, and no other can be opened.
      source.opensOtherwise = "hang"
      Deferred.doneUnsafe(deaths.get(4)!, Exit.void)
      yield* settle
      const newcomer = yield* borrow(pool)
      yield* Scope.close(three, Exit.void)
      yield* settle
      assert.deepStrictEqual([item(others) === undefined, item(newcomer)], [false, undefined])
      yield* others.letGo
      assert.notStrictEqual(item(newcomer), undefined)
      yield* newcomer.letGo
      yield* elapse("1 minute")
      yield* books(source, pool)
    }))

  it.effect("E7: a group that a smaller max has become too small for fails, and those behind it are served", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 3 })
      const events = yield* record(pool)
      const holders = yield* several(2, pool)
      const three = yield* borrow(group(pool, 3))
      const two = yield* borrow(group(pool, 2))
      const behind = yield* borrow(pool)
      yield* pool.resize({ max: 2 })
      yield* settle
      assert.deepStrictEqual(endings([three, two, behind]), ["InvalidOptions", "waits", "waits"])
      assert.isTrue(events.some((event) => event._tag === "BorrowFailed" && event.reason === "InvalidOptions"))
      for (const { letGo } of holders) yield* letGo
      assert.notStrictEqual(item(two), undefined)
      yield* two.letGo
      assert.notStrictEqual(item(behind), undefined)
      yield* behind.letGo
      // There were three.
      yield* pool.resize({ max: 3 })
      yield* books(source, pool)
    }))
})

describe("the end of items", () => {
  for (
    const [how, hook] of [["hangs", Effect.never], [
      "cannot be interrupted",
      Effect.uninterruptible(Effect.never)
    ]] as const
  ) {
    it.effect(`an onRelease that ${how} costs half of closeTimeout, and the item is released`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, closeTimeout: 20, onRelease: () => hook })
        yield* pool.use(() => Effect.void)
        yield* pool.clear
        yield* elapse(9)
        assert.deepStrictEqual(source.closed, [])
        yield* elapse(1)
        assert.deepStrictEqual(source.closed, [1])
        assert.strictEqual((yield* books(source, pool)).abandoned, 0)
      }))
  }

  it.effect("C2: a part of the release that hangs keeps no other part from being run", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const part = (name: string, release: Effect.Effect<void> = Effect.void) =>
        Effect.acquireRelease(
          Effect.void,
          () => Effect.onExit(release, (exit) => Effect.sync(() => void log.push(`${name} ${exit._tag}`)))
        )
      const pool = yield* QueuePool.make({
        acquire: Effect.all([part("first"), part("second", Effect.never), part("third")]),
        closeTimeout: 20
      })
      yield* pool.use(() => Effect.void)
      yield* pool.clear
      yield* elapse(19)
      assert.deepStrictEqual(log, ["third Success"])
      yield* elapse(1)
      assert.deepStrictEqual(log, ["third Success", "second Failure", "first Success"])
      const { abandoned, closed, closing } = yield* pool.stats
      assert.deepStrictEqual({ abandoned, closed, closing }, { abandoned: 1, closed: 0, closing: 0 })
    }))

  it.effect("an item that was spared when its check began is due by idleness when there are more than min", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        min: 1,
        max: 2,
        warm: "eager",
        targetUtilization: 0.5,
        check: () => Effect.sleep(5),
        checkAfter: 1,
        recycle: RecyclePolicy.idle(25)
      })
      yield* elapse(100)
      // Its check takes longer than opening another.
      yield* pool.clearWith({ over: "1 hour" })
      const borrower = yield* borrow(pool)
      yield* elapse(5)
      assert.strictEqual(item(borrower), 2)
      yield* elapse(2)
      assert.deepStrictEqual(source.closed, [1])
      yield* borrower.letGo
      yield* books(source, pool)
    }))
})

describe("items that are old, or that leave", () => {
  it.effect("one that stays until it is replaced is reset, also when its rule had to be waited for", () =>
    Effect.gen(function*() {
      const source = new Source()
      const resets: Array<number> = []
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 2,
        replaceTimeout: "1 minute",
        recycle: RecyclePolicy.schedule(
          Schedule.while(
            Schedule.forever,
            ({ attempt }) => attempt === 1 ? true : Effect.delay(Effect.succeed(false), 5)
          )
        ),
        reset: ({ id }) => Effect.sync(() => void resets.push(id))
      })
      const holder = yield* borrow(pool)
      // It is to go after one lease, and no other can be opened in its place.
      source.opensOtherwise = "hang"
      yield* holder.letGo
      yield* elapse(5)
      assert.deepStrictEqual([resets, source.attempts], [[1], 2])
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
    }))

  it.effect("an onRelease that hangs keeps no item from being released that outlives the pool", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pools = yield* Scope.make()
      const pool = yield* Scope.provide(
        QueuePool.make({ acquire: source.acquire, closeTimeout: 20, drainTimeout: 0, onRelease: () => Effect.never }),
        pools
      )
      const keeper = yield* Scope.make()
      yield* pool.use((thing) => Scope.provide(pool.detach(thing), keeper))
      yield* Scope.close(pools, Exit.void)
      yield* Effect.forkChild(Scope.close(keeper, Exit.void))
      yield* elapse(9)
      assert.deepStrictEqual(source.closed, [])
      yield* elapse(1)
      assert.deepStrictEqual(source.closed, [1])
    }))
})
