import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Random, Schedule, Scope } from "effect"
import { Capacity, QueuePool } from "effect-queuepool"
import { borrow, elapse, ending, endings, several } from "./kit/books.ts"
import { settle } from "./kit/items.ts"
import { Full, one, Server, unused } from "./kit/sharers.ts"

type Options = Partial<QueuePool.Options<number, Full>>

/** Delays are as long as they can be. */
const unjittered = Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0, nextIntUnsafe: () => 0 })

const isFull = (error: Full) => error._tag === "Full"

const pooled = (server: Server, capacity: Capacity.Capacity<Full>, options: Options = {}) =>
  unjittered(QueuePool.make<number, Full, Scope.Scope>(
    { max: 10, drainTimeout: 0, openConcurrency: 10, ...options, acquire: server.acquire, capacity }
  )) as Effect.Effect<QueuePool.QueuePool<number, Full>, never, Scope.Scope>

describe("a server that says that it is full", () => {
  it.effect("its borrowers wait until there is room, and are not told", () =>
    Effect.gen(function*() {
      const server = new Server(3)
      const capacity = Capacity.fromRefusal(isFull, { name: "server" })
      const pool = yield* pooled(server, capacity)
      const all = yield* several(8, pool)
      assert.strictEqual(all.filter(({ item }) => item !== undefined).length, 3)
      assert.deepStrictEqual(yield* one(capacity), { name: "server", permits: 3, used: 3, parked: 5 })
      // What is given back serves the next: nobody asks the server.
      const asked = server.asked.length
      yield* all[0]!.letGo
      assert.isDefined(all[3]!.item)
      assert.strictEqual(server.asked.length, asked)
      for (const { letGo } of all) yield* letGo
      assert.deepStrictEqual(endings(all), all.map(() => "served"))
      assert.isAtMost(server.peak, 3)
    }))

  it.effect("a budget of a server that never says so has no end", () =>
    Effect.gen(function*() {
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(new Server(100), capacity)
      const all = yield* several(3, pool)
      assert.deepStrictEqual(yield* one(capacity), { name: "capacity", permits: Infinity, used: 3, parked: 0 })
      for (const { letGo } of all) yield* letGo
    }))

  it.effect("an open tries again after 100 ms, doubled to 5 s, as long as somebody waits", () =>
    Effect.gen(function*() {
      const server = new Server(1)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(server, capacity, { borrowTimeout: "Infinity" })
      const [holder, waiter] = yield* several(2, pool)
      assert.deepStrictEqual(server.asked, [0, 0])
      yield* elapse(30_000)
      const waits = server.asked.slice(1).map((at, i, all) => i === 0 ? 0 : at - all[i - 1]!).slice(1)
      assert.deepStrictEqual(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000])
      yield* Fiber.interrupt(waiter!.fiber)
      const asked = server.asked.length
      yield* elapse(30_000)
      assert.deepStrictEqual([server.asked.length, (yield* one(capacity)).permits], [asked, 1])
      // When that works, it is 100 ms again.
      server.room = 2
      const more = yield* several(2, pool)
      yield* elapse(1)
      assert.strictEqual(server.open, 2)
      const before = server.asked.length
      yield* elapse(99)
      assert.strictEqual(server.asked.length, before)
      yield* elapse(1)
      assert.strictEqual(server.asked.length, before + 1)
      for (const { letGo } of [holder!, ...more]) yield* letGo
    }))

  it.effect("a delay is up to a fifth less", () =>
    Effect.gen(function*() {
      const server = new Server(0)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* Effect.provideService(pooledAtRandom(server, capacity), Random.Random, {
        nextDoubleUnsafe: () => 0.5,
        nextIntUnsafe: () => 0
      })
      const waiter = yield* borrow(pool)
      yield* elapse(89)
      assert.strictEqual(server.asked.length, 1)
      yield* elapse(1)
      assert.strictEqual(server.asked.length, 2)
      yield* Fiber.interrupt(waiter.fiber)
    }))

  it.effect("several that are refused together count as one", () =>
    Effect.gen(function*() {
      const server = new Server(1)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(server, capacity, { borrowTimeout: "Infinity" })
      const all = yield* Effect.forEach([1, 2, 3, 4], () => Effect.forkChild(pool.use(() => Effect.never)))
      yield* settle
      assert.deepStrictEqual([server.asked.length, (yield* one(capacity)).permits], [4, 1])
      yield* elapse(100)
      assert.strictEqual(server.asked.length, 5)
      yield* elapse(199)
      assert.strictEqual(server.asked.length, 5)
      yield* elapse(1)
      assert.strictEqual(server.asked.length, 6)
      yield* Fiber.interruptAll(all)
    }))

  it.effect("when there is more room, the budget grows twice as fast each time, and a refusal ends that", () =>
    Effect.gen(function*() {
      const server = new Server(1)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(server, capacity, { max: 100, openConcurrency: 100, borrowTimeout: "Infinity" })
      const all = yield* several(40, pool)
      assert.strictEqual((yield* one(capacity)).permits, 1)
      server.room = 20
      yield* elapse(5000)
      assert.deepStrictEqual([server.open, (yield* one(capacity)).permits], [20, 20])
      // 2, then 1, 2, 4 and 8 more at once; of those beyond 20 the first is refused.
      assert.isAtMost(server.refused, 40)
      const refused = server.refused
      server.room = 22
      yield* elapse(5000)
      yield* elapse(5000)
      assert.strictEqual(server.open, 22)
      assert.isAtMost(server.refused - refused, 10)
      for (const { letGo } of all) yield* letGo
    }))

  it.effect("so that many are served soon where each open takes its time", () =>
    Effect.gen(function*() {
      const server = new Server(1)
      const capacity = Capacity.fromRefusal(isFull)
      const acquire = Effect.andThen(Effect.sleep(10), server.acquire)
      const pool = yield* unjittered(
        QueuePool.make({ acquire, capacity, max: 100, openConcurrency: 100, drainTimeout: 0 })
      )
      const all = yield* several(50, pool)
      yield* elapse(10)
      server.room = 100
      yield* elapse(100)
      yield* elapse(70)
      assert.strictEqual(server.open, 50)
      for (const { letGo } of all) yield* letGo
    }))

  it.effect("a replacement says nothing of the room for more: it is not followed by an open in vain", () =>
    Effect.gen(function*() {
      const server = new Server(2)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(server, capacity, { borrowTimeout: "Infinity" })
      const all = yield* several(4, pool)
      assert.strictEqual(server.refused, 1)
      yield* pool.clear
      yield* all[0]!.letGo
      assert.deepStrictEqual([all[2]!.item !== undefined, server.refused, server.open], [true, 1, 2])
      for (const { letGo } of all) yield* letGo
    }))

  it.effect("nor does one in place of another that was learnt to have room", () =>
    Effect.gen(function*() {
      const server = new Server(1)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(server, capacity)
      const all = yield* several(2, pool)
      server.room = 2
      yield* elapse(100)
      assert.deepStrictEqual([server.open, (yield* one(capacity)).permits], [2, 3])
      for (const { letGo } of all) yield* letGo
      for (let i = 0; i < 5; i++) {
        yield* pool.clear
        for (const { letGo } of yield* several(2, pool)) yield* letGo
      }
      assert.deepStrictEqual([server.open, (yield* one(capacity)).permits], [2, 3])
    }))

  it.effect("others use the server too: a refusal makes the budget smaller, also to nothing", () =>
    Effect.gen(function*() {
      const server = new Server(3)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(server, capacity, { borrowTimeout: "Infinity" })
      const first = yield* several(4, pool)
      assert.strictEqual((yield* one(capacity)).permits, 3)
      // Others take what is given back.
      server.room = 0
      for (const { letGo } of first.slice(0, 3)) yield* letGo
      yield* pool.clear
      yield* first[3]!.letGo
      yield* settle
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual([waiter.item, (yield* one(capacity)).permits], [undefined, 0])
      server.room = 1
      yield* elapse(5000)
      assert.isDefined(waiter.item)
      yield* waiter.letGo
    }))

  it.effect("pools share what they learn, and give one another what they have idle", () =>
    Effect.gen(function*() {
      const server = new Server(2)
      const capacity = Capacity.fromRefusal(isFull)
      const a = yield* pooled(server, capacity)
      const b = yield* pooled(server, capacity)
      for (const { letGo } of yield* several(2, a)) yield* letGo
      const first = yield* borrow(b)
      assert.deepStrictEqual([first.item !== undefined, server.refused], [true, 1])
      const second = yield* borrow(b)
      assert.isDefined(second.item)
      yield* first.letGo
      yield* second.letGo
    }))

  it.effect("of several pools that wait one tries at a time, and another after five seconds if it hangs", () =>
    Effect.gen(function*() {
      const server = new Server(0)
      let hangs = false
      const acquire = Effect.suspend(() => hangs ? Effect.never : Effect.andThen(Effect.sleep(10), server.acquire))
      const capacity = Capacity.fromRefusal(isFull)
      const make = unjittered(
        QueuePool.make({ acquire, capacity, max: 10, borrowTimeout: "Infinity", openTimeout: 60_000, drainTimeout: 0 })
      )
      const [a, b] = [yield* make, yield* make]
      const waiters = [...yield* several(1, a), ...yield* several(1, b)]
      yield* elapse(10)
      assert.strictEqual(server.asked.length, 2)
      yield* elapse(99)
      assert.strictEqual(server.asked.length, 2)
      yield* elapse(11)
      assert.strictEqual(server.asked.length, 3)
      hangs = true
      yield* elapse(200)
      const opening = Effect.map(Effect.all([a.stats, b.stats]), (stats) => stats[0].opening + stats[1].opening)
      assert.strictEqual(yield* opening, 1)
      yield* elapse(4999)
      assert.strictEqual(yield* opening, 1)
      yield* elapse(1)
      assert.strictEqual(yield* opening, 2)
      for (const { fiber } of waiters) yield* Fiber.interrupt(fiber)
      yield* elapse(60_000)
      yield* unused(capacity)
    }))

  it.effect("a waiter has its own time all the same", () =>
    Effect.gen(function*() {
      const server = new Server(0)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(server, capacity, { borrowTimeout: 250 })
      const exit = Effect.exit(pool.use(() => Effect.void))
      const fiber = yield* Effect.forkChild(exit)
      yield* elapse(250)
      assert.strictEqual(
        ending(fiber.pollUnsafe()!.pipe((each) => Exit.isSuccess(each) ? each.value : each)),
        "BorrowTimeout"
      )
      yield* unused(capacity)
    }))

  it.effect("a try that hangs keeps others from trying for five seconds, not longer", () =>
    Effect.gen(function*() {
      const capacity = Capacity.fromRefusal(isFull)
      const server = new Server(1)
      let hang = false
      const acquire = Effect.suspend(() => hang ? Effect.never : server.acquire)
      const pool = yield* unjittered(
        QueuePool.make({ acquire, max: 10, capacity, borrowTimeout: "Infinity", openTimeout: 60_000, drainTimeout: 0 })
      )
      const all = yield* several(3, pool)
      hang = true
      yield* elapse(100)
      assert.strictEqual((yield* pool.stats).opening, 1)
      yield* elapse(4999)
      assert.strictEqual((yield* pool.stats).opening, 1)
      yield* elapse(1)
      assert.strictEqual((yield* pool.stats).opening, 2)
      for (const { fiber } of all) yield* Fiber.interrupt(fiber)
      yield* elapse(60_000)
    }))

  it.effect("a refill of `min` that is refused waits as a borrower does, and takes from nobody", () =>
    Effect.gen(function*() {
      const server = new Server(1)
      const capacity = Capacity.fromRefusal(isFull)
      const pool = yield* pooled(server, capacity, { min: 2 })
      yield* settle
      assert.deepStrictEqual([(yield* pool.stats).idle, (yield* one(capacity)).parked], [1, 0])
      server.room = 2
      yield* elapse(100)
      assert.strictEqual((yield* pool.stats).idle, 2)
    }))

  it.effect("other failures are told as ever, also where the predicate throws; a refusal is not retried", () =>
    Effect.gen(function*() {
      const server = new Server(0)
      const throws = yield* pooled(
        server,
        Capacity.fromRefusal(() => {
          throw new Error("thrown")
        })
      )
      assert.strictEqual(ending(yield* Effect.exit(throws.use(() => Effect.void))), "Full")
      const not = yield* pooled(server, Capacity.fromRefusal(() => false))
      assert.strictEqual(ending(yield* Effect.exit(not.use(() => Effect.void))), "Full")
      const capacity = Capacity.fromRefusal(isFull)
      const dies = yield* QueuePool.make({ acquire: Effect.die("broken"), capacity })
      assert.strictEqual(ending(yield* Effect.exit(dies.use(() => Effect.void))), "defect")
      const retried = yield* pooled(server, capacity, { retry: Schedule.spaced(1), borrowTimeout: "Infinity" })
      const before = server.asked.length
      const waiter = yield* borrow(retried)
      yield* elapse(99)
      assert.strictEqual(server.asked.length, before + 1)
      server.room = 1
      yield* elapse(1)
      assert.isDefined(waiter.item)
      yield* waiter.letGo
    }))

  it.effect("an eager pool and a swap are told; a predicate may close the pool", () =>
    Effect.gen(function*() {
      const server = new Server(1)
      const capacity = Capacity.fromRefusal(isFull)
      assert.strictEqual(
        ending(yield* Effect.exit(Effect.scoped(pooled(server, capacity, { min: 2, warm: "eager" })))),
        "Full"
      )
      yield* unused(capacity)
      const scope = yield* Scope.make()
      const fork = Effect.runForkWith(yield* Effect.context())
      const closes = Capacity.fromRefusal((error: Full) => {
        fork(Scope.close(scope, Exit.void))
        return isFull(error)
      })
      const pool = yield* Scope.provide(pooled(server, closes), scope)
      yield* pool.use(() => Effect.void)
      assert.strictEqual(ending(yield* Effect.exit(pool.swap(server.acquire, { over: 0 }))), "Full")
      const [holder, waiter] = yield* several(2, pool)
      assert.deepStrictEqual([holder!.item !== undefined, ending(waiter!.fiber.pollUnsafe())], [true, "Closed"])
      yield* holder!.letGo
      yield* unused(closes)
    }))

  it.effect("is asked as soon as a permit is there to find out: a pool that waits for another budget keeps none", () =>
    Effect.gen(function*() {
      const other = yield* Capacity.make({ permits: 1 })
      const server = new Server(1)
      const learnt = Capacity.fromRefusal(isFull, { name: "learnt" })
      const [a, b, both] = yield* Effect.forEach(
        [learnt, learnt, Capacity.all([other, learnt])],
        (capacity) => pooled(server, capacity)
      )
      const elsewhere = yield* QueuePool.make({ acquire: Effect.succeed("item"), capacity: other })
      const scope = yield* Scope.make()
      yield* Scope.provide(elsewhere.get, scope)
      const holder = yield* borrow(a!)
      const refused = yield* borrow(a!)
      yield* Fiber.interrupt(refused.fiber)
      server.room = 10
      const waiter = yield* borrow(both!)
      const next = yield* borrow(b!)
      yield* elapse(200)
      assert.deepStrictEqual([next.item, waiter.item, server.asked], [3, undefined, [0, 0, 100]])
      yield* Scope.close(scope, Exit.void)
      yield* elsewhere.clear
      yield* elapse(5000)
      assert.strictEqual(ending(waiter.fiber.pollUnsafe()), "waits")
      assert.isDefined(waiter.item)
      for (const { letGo } of [holder, next, waiter]) yield* letGo
    }))

  it.effect("is one limit among others: what is learnt of one is not learnt of another", () =>
    Effect.gen(function*() {
      const total = yield* Capacity.make({ permits: 5 })
      const server = new Server(2)
      const learnt = Capacity.fromRefusal(isFull, { name: "learnt" })
      const other = Capacity.fromRefusal((error: unknown) => error === "other", { name: "other" })
      const pool = yield* pooled(server, Capacity.all([total, learnt, other]))
      const all = yield* several(4, pool)
      const stats = yield* Capacity.all([total, learnt, other]).stats
      assert.deepStrictEqual(stats.map(({ permits, used }) => [permits, used]), [[5, 3], [2, 2], [Infinity, 3]])
      server.room = 3
      yield* elapse(300)
      assert.strictEqual(server.open, 3)
      for (const { letGo } of all) yield* letGo
    }))
})

const pooledAtRandom = (server: Server, capacity: Capacity.Capacity<Full>) =>
  QueuePool.make({ acquire: server.acquire, capacity })
