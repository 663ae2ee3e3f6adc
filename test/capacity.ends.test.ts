import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schedule, Scope } from "effect"
import { Capacity, type PoolError, RecyclePolicy } from "effect-queuepool"
import { permitsOf } from "../src/internal/capacities.ts"
import { borrow, elapse, ending, several } from "./kit/books.ts"
import { type Outcome, type Refused, settle } from "./kit/items.ts"
import { one, type Pool, pools, unused } from "./kit/sharers.ts"

describe("a permit comes back", () => {
  const opens: Record<string, readonly [outcome: Outcome, after: number, ends: string]> = {
    "an open that fails": ["fail", 0, "Refused"],
    "an open that dies": ["die", 0, "defect"],
    "an open whose time is over": ["hang", 100, "OpenTimeout"],
    "an open that is late": [{ late: 150 }, 150, "OpenTimeout"],
    "an open that nothing ends, once it is abandoned": ["stuck", 200, "OpenTimeout"]
  }
  for (const [name, [outcome, after, ends]] of Object.entries(opens)) {
    it.effect(`F5: after ${name}`, () =>
      Effect.gen(function*() {
        const capacity = yield* Capacity.make({ permits: 1 })
        const [a, b] = yield* pools(2, capacity, { openTimeout: 100, closeTimeout: 100 })
        a.source.opens.push(outcome)
        const first = yield* borrow(a.pool)
        const second = yield* borrow(b.pool)
        yield* elapse(after - 1)
        if (after > 0) assert.isUndefined(second.item)
        yield* elapse(1)
        assert.deepStrictEqual([ending(first.fiber.pollUnsafe()), second.item?.id], [ends, 1])
        yield* second.letGo
        assert.deepStrictEqual((yield* one(capacity)).used, 1)
      }))
  }

  const closes: Record<string, readonly [outcome: Outcome, after: number]> = {
    "a close that works": ["ok", 0],
    "a close that fails": ["fail", 0],
    "a close that takes its time": [{ slow: 60 }, 60],
    "a close that nothing ends, once it is abandoned": ["stuck", 100]
  }
  for (const [name, [outcome, after]] of Object.entries(closes)) {
    it.effect(`F3: after ${name}, of what was cleared, invalidated or recycled by a rule`, () =>
      Effect.gen(function*() {
        const ways: ReadonlyArray<(pool: Pool) => Effect.Effect<void, PoolError.PoolError | Refused>> = [
          ({ clear }) => clear,
          (pool) => pool.use((item) => pool.invalidate(item)),
          (pool) => Effect.ignore(pool.use(() => Effect.fail("broken")))
        ]
        for (const way of ways) {
          const capacity = yield* Capacity.make({ permits: 1 })
          const [a, b] = yield* pools(2, capacity, { closeTimeout: 100, recycle: RecyclePolicy.failed })
          a.source.closes.push(outcome)
          yield* a.pool.use(() => Effect.void)
          yield* way(a.pool)
          const waiter = yield* borrow(b.pool)
          yield* elapse(after - 1)
          if (after > 0) assert.isUndefined(waiter.item)
          yield* elapse(1)
          assert.isDefined(waiter.item)
          yield* waiter.letGo
          assert.strictEqual((yield* one(capacity)).used, 1)
        }
      }))
  }

  it.effect("what was detached keeps its permit until it is released, also after its pool", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const scope = yield* Scope.make()
      const [a] = yield* Scope.provide(pools(1, capacity), scope)
      const [b] = yield* pools(1, capacity)
      const own = yield* Scope.make()
      yield* a.pool.use((item) => Scope.provide(a.pool.detach(item), own))
      yield* Scope.close(scope, Exit.void)
      const waiter = yield* borrow(b.pool)
      assert.deepStrictEqual([waiter.item, (yield* one(capacity)).used], [undefined, 1])
      yield* Scope.close(own, Exit.void)
      yield* settle
      assert.isDefined(waiter.item)
      yield* waiter.letGo
    }))

  it.effect("a detached item whose release fails gives its permit back too", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a] = yield* pools(1, capacity)
      a.source.closes.push("fail")
      yield* Effect.exit(Effect.scoped(Effect.flatMap(a.pool.get, a.pool.detach)))
      assert.deepStrictEqual([a.source.live, (yield* a.pool.stats).detached], [0, 1])
      yield* unused(capacity)
    }))

  it.effect("of items that are taken back as their pool closes, and of opens that it gives up", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 3 })
      const scope = yield* Scope.make()
      const [a] = yield* Scope.provide(pools(1, capacity, { drainTimeout: 50, max: 2 }), scope)
      const [b] = yield* pools(1, capacity)
      yield* Effect.forkScoped(a.pool.use(() => Effect.never))
      yield* settle
      a.source.opens.push({ slow: 1000 })
      yield* borrow(a.pool)
      const [first, waiter] = yield* several(2, b.pool)
      const parked = yield* borrow(a.pool)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.deepStrictEqual([ending(parked.fiber.pollUnsafe()), waiter!.item?.id], ["Closed", 2])
      assert.strictEqual((yield* one(capacity)).used, 3)
      yield* elapse(50)
      yield* Fiber.join(closing)
      assert.strictEqual((yield* one(capacity)).used, 2)
      yield* first!.letGo
      yield* waiter!.letGo
    }))

  it.effect("that its pool was granted, and is closed or suspended before it uses it", () =>
    Effect.gen(function*() {
      const fork = Effect.runForkWith(yield* Effect.context())
      for (const end of ["close", "suspend"] as const) {
        const capacity = yield* Capacity.make({ permits: 1 })
        const [a, c] = yield* pools(2, capacity)
        const scope = yield* Scope.make()
        const [b] = yield* Scope.provide(pools(1, capacity), scope)
        const holder = yield* borrow(a.pool)
        yield* borrow(b.pool)
        const last = yield* borrow(c.pool)
        a.source.closes.push({ slow: 5 })
        yield* holder.letGo
        // In the step in which it is given.
        const [permits] = permitsOf(capacity)
        const { give } = permits!
        permits!.give = (...args) => {
          delete (permits as { give?: unknown }).give
          give.apply(permits, args)
          fork(end === "close" ? Scope.close(scope, Exit.void) : b.pool.suspend)
        }
        yield* elapse(5)
        assert.isDefined(last.item)
        assert.strictEqual(b.source.attempts, 0)
        yield* last.letGo
      }
    }))
})

describe("what keeps nobody waiting", () => {
  it.effect("a close that hangs, when another pool has an idle item: it is not counted on after a second", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 3 })
      const [a, b, c] = yield* pools(3, capacity, { closeTimeout: 5000 })
      yield* a.pool.use(() => Effect.void)
      yield* elapse(10)
      for (const { letGo } of yield* several(2, b.pool)) yield* letGo
      a.source.closes.push("stuck")
      const waiter = yield* borrow(c.pool)
      yield* elapse(999)
      assert.deepStrictEqual([waiter.item, b.source.closed], [undefined, []])
      yield* elapse(1)
      assert.deepStrictEqual([waiter.item?.id, b.source.closed.length], [1, 1])
      yield* waiter.letGo
      yield* elapse(4000)
      assert.deepStrictEqual([(yield* one(capacity)).used, (yield* a.pool.stats).abandoned], [2, 1])
      for (const { closed } of [b.source, c.source]) assert.isAtMost(closed.length, 1)
    }))

  it.effect("several that hang, each for a second from its own beginning", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 4 })
      const [a, b, c] = yield* pools(3, capacity, { closeTimeout: 5000 })
      for (const { letGo } of yield* several(2, a.pool)) yield* letGo
      yield* elapse(10)
      for (const { letGo } of yield* several(2, b.pool)) yield* letGo
      a.source.closesOtherwise = { late: 3000 }
      const first = yield* borrow(c.pool)
      yield* elapse(600)
      const second = yield* borrow(c.pool)
      yield* elapse(400)
      assert.deepStrictEqual([first.item?.id, second.item], [1, undefined])
      yield* elapse(600)
      assert.deepStrictEqual([second.item?.id, b.source.closed.length], [2, 2])
      yield* elapse(2000)
      assert.strictEqual((yield* one(capacity)).used, 2)
      a.source.closesOtherwise = "ok"
      yield* first.letGo
      yield* second.letGo
    }))

  it.effect("a pool whose opens hang, or whose source is down, or which is suspended, does not park", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [hangs] = yield* pools(1, capacity, { openConcurrency: 1 })
      const [down] = yield* pools(1, capacity, { retry: Schedule.spaced(100), borrowTimeout: "Infinity" })
      const [still, other] = yield* pools(2, capacity)
      hangs.source.opensOtherwise = "hang"
      const stuck = yield* several(2, hangs.pool)
      down.source.opensOtherwise = "fail"
      const without = yield* several(2, down.pool)
      yield* still.pool.suspend
      const suspended = yield* several(2, still.pool)
      assert.deepStrictEqual(yield* one(capacity), { name: "capacity", permits: 2, used: 1, parked: 0 })
      // Nobody is short: the item stays.
      yield* other.pool.use(() => Effect.void)
      yield* settle
      assert.deepStrictEqual([other.source.live, (yield* one(capacity)).used], [1, 2])
      // One that was parked gives up its place.
      yield* still.pool.resume
      yield* settle
      assert.deepStrictEqual([other.source.live, still.source.live], [0, 1])
      assert.strictEqual((yield* one(capacity)).parked, 1)
      yield* still.pool.suspend
      assert.strictEqual((yield* one(capacity)).parked, 0)
      yield* still.pool.resume
      for (const { fiber } of [...stuck, ...without, ...suspended]) yield* Fiber.interrupt(fiber)
      yield* elapse(30_000)
      assert.strictEqual((yield* one(capacity)).parked, 0)
    }))

  it.effect("who waits at two budgets is passed by others, blocks nobody, and does not make the pools spin", () =>
    Effect.gen(function*() {
      const one = yield* Capacity.make({ name: "one", permits: 1 })
      const two = yield* Capacity.make({ name: "two", permits: 1 })
      const [x] = yield* pools(1, one)
      const [y] = yield* pools(1, two)
      const [p] = yield* pools(1, Capacity.all([one, two]))
      const [q] = yield* pools(1, Capacity.all([two, one]))
      const [r] = yield* pools(1, Capacity.all([one, two, one]))
      const holders = [yield* borrow(x.pool), yield* borrow(y.pool)]
      const waiters = [yield* borrow(p.pool), yield* borrow(q.pool), yield* borrow(r.pool)]
      yield* holders[0]!.letGo
      // There is a permit of the one, and none of the other: it is free for x.
      yield* x.pool.use(() => Effect.void)
      assert.deepStrictEqual(waiters.map(({ item }) => item), [undefined, undefined, undefined])
      yield* holders[1]!.letGo
      for (let i = 0; i < 3; i++) {
        const served = waiters.filter(({ fiber, item }) => item !== undefined && fiber.pollUnsafe() === undefined)
        assert.strictEqual(served.length, 1)
        yield* served[0]!.letGo
      }
      assert.deepStrictEqual((yield* Capacity.all([one, two]).stats).map(({ parked, used }) => [used, parked]), [
        [1, 0],
        [1, 0]
      ])
    }))

  it.effect("what was granted of two budgets is taken by nobody meanwhile", () =>
    Effect.gen(function*() {
      const fork = Effect.runForkWith(yield* Effect.context())
      const one = yield* Capacity.make({ permits: 1 })
      const two = yield* Capacity.make({ permits: 1 })
      const [x] = yield* pools(1, one)
      const [y] = yield* pools(1, two)
      const [p] = yield* pools(1, Capacity.all([one, two]))
      const holder = yield* borrow(x.pool)
      const waiter = yield* borrow(p.pool)
      x.source.closes.push({ slow: 5 })
      yield* holder.letGo
      const [permits] = permitsOf(one)
      const { give } = permits!
      permits!.give = (...args) => {
        delete (permits as { give?: unknown }).give
        give.apply(permits, args)
        fork(y.pool.use(() => Effect.void))
      }
      yield* elapse(5)
      assert.deepStrictEqual([waiter.item?.id, y.source.attempts], [1, 0])
      yield* waiter.letGo
      assert.strictEqual(y.source.attempts, 1)
    }))

  it.effect("what is opened ahead of need waits also for what a borrower of two other budgets will need", () =>
    Effect.gen(function*() {
      const [one, two, three] = yield* Effect.forEach([1, 2, 3], () => Capacity.make({ permits: 1 }))
      const [h1] = yield* pools(1, one!)
      const [h3] = yield* pools(1, three!)
      const first = yield* borrow(h1.pool)
      const third = yield* borrow(h3.pool)
      const [p] = yield* pools(1, Capacity.all([one!, two!]), { min: 1 })
      const [x] = yield* pools(1, Capacity.all([two!, three!]))
      const waiter = yield* borrow(x.pool)
      yield* h1.pool.clear
      yield* first.letGo
      assert.deepStrictEqual([p.source.attempts, waiter.item], [0, undefined])
      yield* third.letGo
      assert.deepStrictEqual([p.source.attempts, waiter.item?.id], [0, 1])
      yield* waiter.letGo
      yield* x.pool.clear
      yield* settle
      assert.strictEqual(p.source.live, 1)
    }))

  it.effect("what is opened ahead of need does not take what a borrower needs besides", () =>
    Effect.gen(function*() {
      const one = yield* Capacity.make({ permits: 1 })
      const two = yield* Capacity.make({ permits: 1 })
      // Each gives up its item, in turn, and would have it back at once.
      const [x] = yield* pools(1, one, { min: 1 })
      const [y] = yield* pools(1, two, { min: 1 })
      yield* elapse(2000)
      const [p] = yield* pools(1, Capacity.all([one, two]))
      const waiter = yield* borrow(p.pool)
      assert.deepStrictEqual([waiter.item?.id, x.source.attempts, y.source.attempts], [1, 1, 1])
      yield* waiter.letGo
      yield* p.pool.clear
      yield* settle
      assert.deepStrictEqual([x.source.live, y.source.live], [1, 1])
    }))
})
