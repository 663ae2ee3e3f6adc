import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { Capacity, type PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import { permitsOf } from "../src/internal/capacities.ts"
import { books, borrow, elapse, ending, endings, several } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { gate, settle, Source, type Thing } from "./kit/items.ts"
import { record } from "./kit/observe.ts"
import { one, pools, unused } from "./kit/sharers.ts"

const message = (exit: Exit.Exit<unknown, unknown> | undefined): string =>
  exit !== undefined && Exit.isFailure(exit) ? (Cause.squash(exit.cause) as PoolError.PoolError).message : "none"

describe("what a borrower may do", () => {
  it.effect("F10: the budget counts what is borrowed; F11: two items of one fiber end at their time", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a, b] = yield* pools(2, capacity, { borrowTimeout: 100 })
      const nested = yield* Effect.forkChild(a.pool.use(() => b.pool.use(() => Effect.void)))
      const other = yield* Effect.forkChild(b.pool.use(() => a.pool.use(() => Effect.void)))
      yield* elapse(100)
      assert.strictEqual(ending(nested.pollUnsafe()), "BorrowTimeout")
      yield* elapse(100)
      assert.strictEqual(ending(other.pollUnsafe()), "BorrowTimeout")
      assert.deepStrictEqual(yield* one(capacity), { name: "capacity", permits: 1, used: 1, parked: 0 })
    }))

  it.effect("tries once: it fails at once when there is no permit, and nobody loses an item for it", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a] = yield* pools(1, capacity)
      const [b] = yield* pools(1, capacity, { borrowTimeout: 0 })
      yield* a.pool.use(() => Effect.void)
      const exit = yield* Effect.exit(b.pool.use(() => Effect.void))
      assert.strictEqual(
        message(exit),
        "BorrowTimeout: no item of \"pool 0\" within 0ms (0/10 lent, 1 waiting, capacity \"capacity\" has all of its 1 permits out)"
      )
      yield* settle
      assert.deepStrictEqual([a.source.live, (yield* one(capacity)).parked], [1, 0])
      assert.isTrue((yield* Effect.scoped(b.pool.getIfAvailable))._tag === "None")
    }))

  it.effect("too many waiters, groups and pairs leave nothing behind", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [a] = yield* pools(1, capacity)
      const [b] = yield* pools(1, capacity, { maxWaiters: 1, max: 2 })
      const holders = yield* several(2, a.pool)
      const waiters = yield* several(2, b.pool)
      assert.deepStrictEqual(endings(waiters), ["waits", "TooManyWaiters"])
      assert.strictEqual((yield* one(capacity)).parked, 1)
      const pair = yield* Effect.forkChild(Effect.scoped(Effect.asVoid(QueuePool.zip(a.pool, b.pool))))
      yield* Fiber.interrupt(waiters[0]!.fiber)
      yield* Fiber.interrupt(pair)
      assert.strictEqual((yield* one(capacity)).parked, 0)
      const group = yield* Effect.forkChild(Effect.scoped(Effect.asVoid(b.pool.getN(2))))
      yield* settle
      assert.deepStrictEqual([ending(group.pollUnsafe()), (yield* one(capacity)).parked], ["TooManyWaiters", 0])
      for (const { letGo } of holders) yield* letGo
    }))

  it.effect("is interrupted at any of its steps while it is parked or granted, and nothing is lost", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a, b, c] = yield* pools(3, capacity)
      const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
        const holder = yield* borrow(a.pool)
        const fiber = yield* run(Effect.scoped(Effect.andThen(b.pool.get, Effect.yieldNow)))
        yield* settle
        yield* holder.letGo
        yield* Fiber.await(fiber)
        yield* settle
        const after = yield* borrow(c.pool)
        assert.isDefined(after.item, at)
        yield* after.letGo
        assert.deepStrictEqual(yield* one(capacity), { name: "capacity", permits: 1, used: 1, parked: 0 }, at)
        yield* books(a.source, a.pool)
        yield* books(b.source, b.pool)
      }))
      assert.isAbove(operations, 8)
    }))

  it.effect("an exclusive borrower beside those who share, within the budget", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a, b] = yield* pools(2, capacity, { concurrency: 3 })
      const sharers = yield* several(2, a.pool)
      const alone = yield* Effect.forkChild(a.pool.useExclusive(() => Effect.sleep(10)))
      yield* settle
      const late = yield* borrow(b.pool)
      assert.strictEqual((yield* one(capacity)).parked, 2)
      for (const { letGo } of sharers) yield* letGo
      assert.isDefined(late.item)
      yield* late.letGo
      yield* elapse(10)
      assert.strictEqual(ending(alone.pollUnsafe()), "served")
    }))
})

describe("what a pool does besides", () => {
  it.effect("a new way to acquire waits for a permit, and takes one from what is idle", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a, b] = yield* pools(2, capacity)
      yield* a.pool.use(() => Effect.void)
      const ways = new Source()
      const swap = yield* Effect.forkChild(b.pool.swap(ways.acquire, { over: 0 }))
      yield* settle
      assert.deepStrictEqual([ending(swap.pollUnsafe()), a.source.live, ways.live], ["served", 0, 1])
    }))

  it.effect("no longer than a borrower, and then nobody is pressed for it", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a, b] = yield* pools(2, capacity, { borrowTimeout: 1000 })
      const holder = yield* borrow(a.pool)
      const ways = new Source()
      const swap = yield* Effect.forkChild(b.pool.swap(ways.acquire, { over: 0 }))
      const waiter = yield* Effect.forkChild(Effect.andThen(Effect.sleep(500), b.pool.use(() => Effect.sleep(1))))
      yield* elapse(999)
      assert.strictEqual((yield* one(capacity)).parked, 1)
      yield* elapse(1)
      assert.include(message(swap.pollUnsafe()), "capacity \"capacity\" has all of its 1 permits out")
      // The waiter is still there.
      assert.strictEqual((yield* one(capacity)).parked, 1)
      const given = yield* Effect.forkChild(b.pool.swap(ways.acquire, { over: 0 }))
      yield* settle
      yield* Fiber.interrupt(given)
      yield* elapse(500)
      assert.strictEqual(ending(waiter.pollUnsafe()), "BorrowTimeout")
      assert.strictEqual((yield* one(capacity)).parked, 0)
      yield* holder.letGo
      assert.deepStrictEqual([ways.attempts, a.source.live], [0, 1])
    }))

  it.effect("a pool that has the whole budget lent gives one up for its own trial", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [a] = yield* pools(1, capacity)
      const holders = yield* several(2, a.pool)
      const waiters = yield* several(2, a.pool)
      const ways = new Source()
      const swap = yield* Effect.forkChild(a.pool.swap(ways.acquire, { over: 0 }))
      yield* settle
      yield* holders[0]!.letGo
      assert.strictEqual(ending(swap.pollUnsafe()), "served")
      assert.deepStrictEqual(waiters.map(({ item }) => item?.id), [1, undefined])
      yield* holders[1]!.letGo
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { swapped: 2 })
      for (const { letGo } of waiters) yield* letGo
    }))

  it.effect("an item that is only old is replaced first when there is a permit, and at once when there is none", () =>
    Effect.gen(function*() {
      const options = { min: 1, replaceTimeout: 1000, recycle: RecyclePolicy.age(100) }
      for (const permits of [2, 1]) {
        const capacity = yield* Capacity.make({ permits })
        const [a] = yield* pools(1, capacity, options)
        yield* settle
        a.source.opens.push({ slow: 50 })
        yield* elapse(101)
        assert.deepStrictEqual([a.source.closed.length, a.source.opening], [permits === 2 ? 0 : 1, 1])
        yield* elapse(50)
        assert.deepStrictEqual([a.source.closed.length, a.source.live], [1, 1])
      }
    }))

  it.effect("an idle item that a sweep looks at is left to it, and keeps its place", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const looks = yield* gate
      const recycle = RecyclePolicy.check(() => Effect.as(looks.pass, false))
      const [a] = yield* pools(1, capacity, { recycle: recycle as never })
      const [b, c] = yield* pools(2, capacity)
      yield* a.pool.use(() => Effect.void)
      yield* elapse(10)
      yield* b.pool.use(() => Effect.void)
      const sweep = yield* Effect.forkChild(a.pool.sweep)
      yield* settle
      const first = yield* borrow(c.pool)
      assert.deepStrictEqual([first.item?.id, a.source.closed, b.source.closed], [1, [], [1]])
      yield* first.letGo
      yield* looks.open
      yield* Fiber.join(sweep)
      // It has been idle for longer than the other, though it comes back only now.
      const again = yield* borrow(b.pool)
      assert.deepStrictEqual([again.item?.id, a.source.closed, c.source.closed], [2, [1], []])
      yield* again.letGo
    }))

  it.effect("an item that a sweep looks at goes when it comes back, if somebody waits for its permit", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const looks = yield* gate
      const recycle = RecyclePolicy.check(() => Effect.as(looks.pass, false))
      const [a, b] = yield* pools(2, capacity, { recycle: recycle as never })
      yield* a.pool.use(() => Effect.void)
      const sweep = yield* Effect.forkChild(a.pool.sweep)
      yield* settle
      const waiter = yield* borrow(b.pool)
      assert.isUndefined(waiter.item)
      yield* looks.open
      yield* Fiber.join(sweep)
      yield* settle
      assert.isDefined(waiter.item)
      yield* waiter.letGo
    }))

  it.effect("of many that are idle not all are looked at for one that is not to be kept", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 41 })
      const [kept] = yield* pools(1, capacity, { max: 40, min: 40, openConcurrency: 40 })
      yield* settle
      assert.strictEqual(kept.source.live, 40)
      const [a, b] = yield* pools(2, capacity)
      yield* a.pool.use(() => Effect.void)
      const waiter = yield* borrow(b.pool)
      assert.deepStrictEqual([waiter.item?.id, kept.source.closed, a.source.closed], [1, [1], []])
      yield* waiter.letGo
    }))

  it.effect("a pool that somebody waits for until it is warm takes what others have idle; another does not", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 3 })
      const [a] = yield* pools(1, capacity)
      for (const { letGo } of yield* several(3, a.pool)) yield* letGo
      const [b] = yield* pools(1, capacity, { min: 1 })
      yield* settle
      assert.deepStrictEqual([a.source.live, b.source.attempts, (yield* b.pool.stats).parked], [3, 0, 1])
      assert.strictEqual((yield* one(capacity)).parked, 0)
      const [c] = yield* pools(1, capacity, { min: 2, warm: "eager" })
      assert.deepStrictEqual([c.source.live, (yield* c.pool.stats).idle], [2, 2])
      // The last goes to who has been refilling for longest, when it is free.
      assert.deepStrictEqual([a.source.live, b.source.live], [1, 0])
      yield* a.pool.clear
      yield* settle
      assert.strictEqual(b.source.live, 1)
    }))

  it.effect("a warm-up that is parked in vain ends with its scope, and asks for nothing then", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a] = yield* pools(1, capacity)
      const holder = yield* borrow(a.pool)
      const making = yield* Effect.forkChild(
        Effect.scoped(Effect.asVoid(pools(1, capacity, { min: 3, warm: "eager" })))
      )
      yield* settle
      // The first alone, then the others.
      assert.strictEqual((yield* one(capacity)).parked, 1)
      yield* Fiber.interrupt(making)
      assert.strictEqual((yield* one(capacity)).parked, 0)
      yield* holder.letGo
      assert.deepStrictEqual(a.source.closed, [])
    }))

  it.effect("a rule or a listener that uses another pool of the budget gets on with it", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [b] = yield* pools(1, capacity)
      const fork = Effect.runForkWith(yield* Effect.context())
      const calls: Array<string> = []
      const rule = RecyclePolicy.when(() => {
        fork(b.pool.use(() => Effect.sync(() => void calls.push("served"))))
        fork(b.pool.clear)
        return false
      })
      const [a] = yield* pools(1, capacity, { recycle: rule as never })
      const events = yield* record(a.pool)
      for (let i = 0; i < 5; i++) {
        const [first, second] = yield* several(2, a.pool)
        yield* first!.letGo
        yield* second!.letGo
      }
      yield* settle
      assert.isAtLeast(calls.length, 5)
      assert.isAtLeast(events.length, 10)
      yield* a.pool.clear
      yield* b.pool.clear
      yield* settle
      yield* unused(capacity)
    }))

  it.effect("a budget of a tenant within one of all: each has its limit, and neither blocks the other", () =>
    Effect.gen(function*() {
      const all = yield* Capacity.make({ name: "all", permits: 3 })
      const [red, blue] = yield* Effect.forEach(["red", "blue"], (name) => Capacity.make({ name, permits: 2 }))
      const [r1, r2] = yield* pools(2, Capacity.all([red!, all]), { borrowTimeout: 1000 })
      const [b1] = yield* pools(1, Capacity.all([blue!, all]), { borrowTimeout: 1000 })
      const reds = [...yield* several(1, r1.pool), ...yield* several(2, r2.pool)]
      const blues = yield* several(3, b1.pool)
      assert.deepStrictEqual(reds.map(({ item }) => item !== undefined), [true, true, false])
      assert.deepStrictEqual(blues.map(({ item }) => item !== undefined), [true, false, false])
      const stats = yield* Capacity.all([red!, blue!, all, red!]).stats
      assert.deepStrictEqual(stats, [
        { name: "red", permits: 2, used: 2, parked: 1 },
        // One is kept for the open that waits for one of all.
        { name: "blue", permits: 2, used: 2, parked: 0 },
        { name: "all", permits: 3, used: 3, parked: 2 }
      ])
      yield* elapse(1000)
      assert.include(message(reds[2]!.fiber.pollUnsafe()), "capacity \"red\" has all of its 2 permits out")
      assert.include(message(blues[1]!.fiber.pollUnsafe()), "capacity \"all\" has all of its 3 permits out")
      for (const { letGo } of [...reds, ...blues]) yield* letGo
      for (const { pool } of [r1, r2, b1]) yield* pool.clear
      yield* settle
      yield* unused(all, red!, blue!)
    }))

  it.effect("10,000 pools come and go, and the budget knows none of them", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [a] = yield* pools(1, capacity)
      const holder = yield* borrow(a.pool)
      for (let i = 0; i < 10_000; i++) {
        const scope = Scope.makeUnsafe()
        const pool = yield* Scope.provide(
          QueuePool.make({ acquire: Effect.succeed({} as Thing), capacity, drainTimeout: 0 }),
          scope
        )
        yield* pool.use(() => Effect.void)
        // Some leave while others wait for them, or wait themselves.
        if (i % 100 === 0) {
          const waiter = yield* Effect.forkChild(a.pool.use(() => Effect.void))
          yield* Effect.forkChild(Effect.scoped(pool.getN(2)))
          yield* Effect.yieldNow
          yield* Scope.close(scope, Exit.void)
          yield* Fiber.join(waiter)
        } else {
          yield* Scope.close(scope, Exit.void)
        }
      }
      yield* holder.letGo
      yield* a.pool.clear
      yield* settle
      yield* unused(capacity)
      const [permits] = permitsOf(capacity) as unknown as [
        { readonly parked: { readonly nodes: ReadonlyArray<unknown> }; readonly colds: Record<string, unknown> }
      ]
      assert.deepStrictEqual([permits.parked.nodes.length, permits.colds["coldest"], permits.colds["warmest"]], [
        0,
        undefined,
        undefined
      ])
    }))
})
