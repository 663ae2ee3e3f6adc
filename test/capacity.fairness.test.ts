import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { Capacity, QueuePool } from "effect-queuepool"
import { permitsOf } from "../src/internal/capacities.ts"
import { borrow, elapse, endings, several } from "./kit/books.ts"
import { settle } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"
import { Full, one, type Pool, pools } from "./kit/sharers.ts"

/** So many fibers that borrow again as soon as they have given back, in the same step. */
const workers = (count: number, pool: Pool, holds: number) => {
  const again: Effect.Effect<never, unknown> = Effect.suspend(() =>
    Effect.flatMap(pool.use(() => Effect.sleep(holds)), () => again)
  )
  return Effect.forEach(Array.from({ length: count }), () => Effect.forkScoped(again))
}

const closes = (...sharers: ReadonlyArray<{ readonly source: { readonly closed: ReadonlyArray<number> } }>) =>
  sharers.reduce((sum, { source }) => sum + source.closed.length, 0)

for (const fairness of ["share", "arrival"] as const) {
  describe(`pools that need permits of several budgets, by ${fairness}`, () => {
    it.effect("are not passed for ever by those that need one", () =>
      Effect.gen(function*() {
        const [one, two] = yield* Effect.forEach(
          ["one", "two"],
          (name) => Capacity.make({ name, permits: 2, fairness })
        )
        const busy = [...yield* pools(2, one!), ...yield* pools(2, two!)]
        // Their permits come back at different moments.
        for (const [i, { pool }] of busy.entries()) yield* workers(3, pool, 7 + i)
        yield* elapse(100)
        const [both] = yield* pools(1, Capacity.all([one!, two!]))
        const served = yield* several(3, both.pool)
        yield* elapse(60)
        assert.isDefined(served[0]!.item)
        for (const { letGo } of served) yield* letGo
        yield* elapse(100)
        assert.deepStrictEqual(endings(served), ["served", "served", "served"])
      }))

    it.effect("do not wait in a circle", () =>
      Effect.gen(function*() {
        const [x, y, z] = yield* Effect.forEach([1, 2, 3], () => Capacity.make({ permits: 1, fairness }))
        const circle = yield* Effect.forEach(
          [[x!, y!], [y!, z!], [z!, x!], [x!, y!, z!]],
          (each) => Effect.map(pools(1, Capacity.all(each), { borrowTimeout: 1000 }), ([only]) => only)
        )
        for (const { pool } of circle) yield* workers(2, pool, 5)
        yield* elapse(900)
        for (const { pool } of circle) assert.isAbove((yield* pool.stats).borrowed, 5)
      }))
  })
}

describe("fairness by share", () => {
  it.effect("workers that borrow again at once let a late pool in within one longest lease", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 4 })
      const [a, b] = yield* pools(2, capacity)
      yield* workers(4, a.pool, 100)
      yield* elapse(50)
      const late = yield* several(2, b.pool)
      assert.deepStrictEqual(endings(late), ["waits", "waits"])
      yield* elapse(50)
      assert.deepStrictEqual(late.map(({ item }) => item?.id), [1, 2])
      assert.deepStrictEqual([a.source.live, b.source.live], [2, 2])
      for (const { letGo } of late) yield* letGo
    }))

  it.effect("who has no more than others keeps what it gives back, if it borrows it again at once", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 3 })
      const [a, b] = yield* pools(2, capacity, { borrowTimeout: "Infinity" })
      yield* workers(1, a.pool, 10)
      yield* workers(9, b.pool, 10)
      yield* elapse(1000)
      assert.deepStrictEqual([a.source.live, b.source.live, closes(a, b)], [1, 2, 0])
    }))

  it.effect("what is not borrowed again goes to who waits, whatever its pool has", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 3 })
      const [a, b] = yield* pools(2, capacity)
      const only = yield* borrow(a.pool)
      const many = yield* several(3, b.pool)
      yield* only.letGo
      assert.deepStrictEqual(many.map(({ item }) => item?.id), [1, 2, 3])
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { reclaimed: 1 })
      for (const { letGo } of many) yield* letGo
    }))

  it.effect("pools that can use less than their share leave the rest to the others", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 7 })
      const [small] = yield* pools(1, capacity, { max: 1, borrowTimeout: "Infinity" })
      const [b, c] = yield* pools(2, capacity, { borrowTimeout: "Infinity" })
      for (const { pool } of [b, c, small]) {
        yield* workers(20, pool, 10)
        yield* elapse(50)
      }
      yield* elapse(500)
      assert.deepStrictEqual([small.source.live, b.source.live, c.source.live], [1, 3, 3])
      const before = closes(small, b, c)
      yield* elapse(1000)
      assert.strictEqual(closes(small, b, c), before)
    }))

  it.effect("a return gives up no more than who waits can use, and not to one that has as much", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 6 })
      const [a, b, c] = yield* pools(3, capacity, { borrowTimeout: "Infinity" })
      yield* workers(20, a.pool, 10)
      yield* elapse(100)
      // One borrower each: a share of two is not for them.
      const [late] = yield* several(1, b.pool)
      const [later] = yield* several(1, c.pool)
      yield* elapse(200)
      assert.isDefined(late!.item)
      assert.isDefined(later!.item)
      assert.deepStrictEqual([a.source.live, b.source.live, c.source.live, a.source.closed.length], [4, 1, 1, 2])
      yield* late!.letGo
      yield* later!.letGo
    }))

  it.effect("what closes slowly counts for who waits: nothing more is given up", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 6 })
      const [a, b, c] = yield* pools(3, capacity, { borrowTimeout: "Infinity" })
      a.source.closesOtherwise = { slow: 500 }
      yield* workers(20, a.pool, 10)
      yield* elapse(100)
      const late = [...yield* several(1, b.pool), ...yield* several(1, c.pool)]
      yield* elapse(400)
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { "over share": 2 })
      yield* elapse(200)
      assert.isTrue(late.every(({ item }) => item !== undefined))
      a.source.closesOtherwise = "ok"
      for (const { letGo } of late) yield* letGo
    }))

  it.effect("one that is shared without a pause takes no newcomer, and goes to who waits", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a, b] = yield* pools(2, capacity, { concurrency: 2 })
      yield* workers(1, a.pool, 100)
      yield* elapse(50)
      yield* workers(1, a.pool, 100)
      const late = yield* borrow(b.pool)
      yield* elapse(50)
      // The second has it still.
      assert.deepStrictEqual([late.item, (yield* a.pool.stats).pending], [undefined, 1])
      yield* elapse(50)
      assert.isDefined(late.item)
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { "over share": 1 })
      yield* late.letGo
      yield* elapse(300)
      assert.strictEqual(a.source.live, 1)
    }))

  it.effect("of shared items no more take no newcomer than are needed", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 3 })
      const [a, b] = yield* pools(2, capacity, { concurrency: 2 })
      const leases = yield* Effect.forEach(
        [1, 2, 3, 4, 5, 6],
        () => Effect.forkScoped(a.pool.use(() => Effect.sleep(100)))
      )
      yield* settle
      assert.strictEqual(a.source.live, 3)
      yield* workers(6, a.pool, 35)
      const late = yield* borrow(b.pool)
      yield* elapse(300)
      yield* Fiber.awaitAll(leases)
      assert.isDefined(late.item)
      assert.deepStrictEqual([a.source.live, a.source.closed.length], [2, 1])
      yield* late.letGo
    }))

  it.effect("its close has a second from when it begins, before nobody counts on it any more", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [a] = yield* pools(1, capacity, { concurrency: 2, closeTimeout: 10_000 })
      const [b, c] = yield* pools(2, capacity, { borrowTimeout: "Infinity" })
      a.source.closesOtherwise = { late: 5000 }
      const shared = yield* several(4, a.pool)
      const late = yield* borrow(b.pool)
      // The first item takes no newcomer; the last lease on it goes on.
      yield* shared[0]!.letGo
      yield* elapse(600)
      const other = yield* borrow(c.pool)
      yield* shared[2]!.letGo
      yield* shared[3]!.letGo
      yield* elapse(300)
      yield* shared[1]!.letGo
      const [permits] = permitsOf(capacity)
      const counts = [permits!.coming]
      for (const millis of [699, 1, 299, 1]) {
        yield* elapse(millis)
        counts.push(permits!.coming)
      }
      assert.deepStrictEqual(counts, [2, 2, 1, 1, 0])
      yield* elapse(10_000)
      for (const { letGo } of [late, other]) yield* letGo
    }))

  it.effect("a shared item that takes no newcomer any more may leave its pool, and another goes instead", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [a, b] = yield* pools(2, capacity, { concurrency: 2 })
      const ends: Array<() => void> = []
      const pause = Effect.callback<void>((resume) => void ends.push(() => resume(Effect.void)))
      const lease = Effect.scoped(Effect.andThen(a.pool.get, pause))
      const keeps = Effect.scoped(Effect.gen(function*() {
        const item = yield* a.pool.get
        yield* pause
        assert.isTrue(yield* a.pool.detach(item))
        return yield* Effect.never
      }))
      for (const borrower of [lease, keeps, lease, lease]) {
        yield* Effect.forkScoped(borrower)
        yield* settle
      }
      assert.strictEqual(a.source.live, 2)
      const late = yield* borrow(b.pool)
      // The first item takes no newcomer, and is then the one's alone who takes it out of the pool.
      ends[0]!()
      yield* settle
      assert.strictEqual((yield* one(capacity)).used, 2)
      ends[1]!()
      yield* settle
      assert.deepStrictEqual([(yield* a.pool.stats).detached, late.item, (yield* one(capacity)).used], [
        1,
        undefined,
        2
      ])
      ends[2]!()
      ends[3]!()
      yield* settle
      assert.isDefined(late.item)
      yield* late.letGo
    }))
})

describe("the next permit, by share", () => {
  it.effect("goes to the pool that has fewest, however long ago another was served", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 4 })
      const [x, y, z] = yield* pools(3, capacity)
      const holders = [...yield* several(2, x.pool), ...yield* several(1, y.pool), ...yield* several(1, z.pool)]
      const [first] = yield* several(1, x.pool)
      const [second] = yield* several(1, y.pool)
      yield* holders[3]!.letGo
      assert.deepStrictEqual([first!.item, second!.item?.id], [undefined, 2])
      for (const { letGo } of [...holders, second!, first!]) yield* letGo
    }))

  it.effect("what is closing counts no more for its pool", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 3 })
      const [x, y, z] = yield* pools(3, capacity)
      const holders = [...yield* several(1, y.pool), ...yield* several(1, x.pool), ...yield* several(1, z.pool)]
      x.source.closes.push({ slow: 100 })
      yield* x.pool.clear
      yield* holders[1]!.letGo
      const [second] = yield* several(1, y.pool)
      const [first] = yield* several(1, x.pool)
      yield* holders[2]!.letGo
      assert.deepStrictEqual([first!.item?.id, second!.item], [2, undefined])
      yield* elapse(100)
      assert.isDefined(second!.item)
      for (const { letGo } of [...holders, first!, second!]) yield* letGo
    }))

  it.effect("what was granted counts already, and of equals the one that was served longest ago is next", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [x, y] = yield* pools(2, capacity)
      const holders = yield* several(1, y.pool)
      const [first, second] = [yield* several(3, x.pool), yield* several(2, y.pool)]
      yield* capacity.resize(3)
      yield* settle
      assert.deepStrictEqual([x.source.live, y.source.live], [1, 2])
      yield* capacity.resize(5)
      yield* settle
      assert.deepStrictEqual([x.source.live, y.source.live], [2, 3])
      for (const { letGo } of [...holders, ...first, ...second]) yield* letGo
    }))

  it.effect("also when what its pool has changes while it waits", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [y] = yield* pools(1, capacity)
      const holder = yield* borrow(y.pool)
      let fails = true
      const acquire = Effect.suspend(() => fails ? Effect.delay(Effect.fail(new Full()), 50) : Effect.succeed("item"))
      const x = yield* QueuePool.make({ acquire, capacity, max: 10, drainTimeout: 0 })
      const first = yield* borrow(x)
      const second = yield* borrow(x)
      const other = yield* borrow(y.pool)
      fails = false
      yield* elapse(50)
      assert.deepStrictEqual([endings([first]), second.item, other.item], [["Full"], "item", undefined])
      for (const { letGo } of [holder, second, other]) yield* letGo
    }))

  it.effect("pools that have one each take turns with those that have none, also after a long lease", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [a, b, c] = yield* pools(3, capacity)
      const holder = yield* borrow(a.pool)
      const before = yield* borrow(b.pool)
      const other = yield* borrow(c.pool)
      const waiter = yield* borrow(b.pool)
      yield* before.letGo
      assert.deepStrictEqual([other.item?.id, waiter.item], [1, undefined])
      // The long lease is over: its pool was served before the one that waits.
      const more = yield* several(3, a.pool)
      yield* holder.letGo
      assert.deepStrictEqual([more[0]!.item?.id, waiter.item], [1, undefined])
      yield* more[0]!.letGo
      assert.deepStrictEqual([more[1]!.item?.id, waiter.item?.id], [undefined, 2])
      for (const { letGo } of [other, waiter, ...more]) yield* letGo
    }))

  it.effect("nothing is given up to what is only opened ahead of need", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a] = yield* pools(1, capacity)
      const [holder, next] = yield* several(2, a.pool)
      const [m] = yield* pools(1, capacity, { min: 1 })
      yield* settle
      assert.strictEqual((yield* m.pool.stats).parked, 1)
      yield* holder!.letGo
      assert.deepStrictEqual([next!.item?.id, m.source.attempts], [1, 0])
      yield* next!.letGo
      assert.deepStrictEqual([a.source.live, m.source.attempts], [1, 0])
    }))

  it.effect("what is idle goes before what comes back in the same step", () =>
    Effect.gen(function*() {
      const fork = Effect.runForkWith(yield* Effect.context())
      const capacity = yield* Capacity.make({ permits: 2 })
      const [a] = yield* pools(1, capacity, { max: 1 })
      const [b, c] = yield* pools(2, capacity)
      yield* c.pool.use(() => Effect.void)
      const scope = yield* Scope.make()
      yield* Scope.provide(a.pool.get, scope)
      const next = yield* borrow(a.pool)
      const late = yield* Effect.sync(() => {
        const fiber = fork(b.pool.use(() => Effect.void))
        fork(Scope.close(scope, Exit.void))
        return fiber
      })
      yield* settle
      assert.deepStrictEqual([next.item?.id, a.source.closed, c.source.closed], [1, [], [1]])
      yield* Fiber.join(late)
      yield* next.letGo
    }))

  it.effect("a pool gives up as many as others lack, of many that wait, and no more", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 8 })
      const [a] = yield* pools(1, capacity)
      const others = yield* Effect.forEach([1, 2, 3, 4, 5], () => pools(1, capacity))
      const holders = yield* several(8, a.pool)
      const more = yield* several(8, a.pool)
      a.source.closesOtherwise = { slow: 500 }
      const late = yield* Effect.forEach(others, ([{ pool }]) => borrow(pool))
      for (const { letGo } of holders) yield* letGo
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { "over share": 5 })
      yield* elapse(500)
      assert.isTrue(late.every(({ item }) => item !== undefined))
      a.source.closesOtherwise = "ok"
      for (const { letGo } of [...late, ...more]) yield* letGo
    }))
})

describe("fairness by arrival", () => {
  const served = Effect.fnUntraced(function*(permits: number, names: ReadonlyArray<string>) {
    const capacity = yield* Capacity.make({ permits, fairness: "arrival" })
    const [a, b] = yield* pools(2, capacity, { borrowTimeout: "Infinity" })
    const order: Array<string> = []
    for (const name of names) {
      yield* Effect.forkScoped((name.startsWith("a") ? a : b).pool.use(() => {
        order.push(name)
        return Effect.sleep(10)
      }))
      yield* settle
    }
    for (let i = 0; i <= names.length; i++) yield* elapse(10)
    return [order, a, b, capacity] as const
  })

  it.effect("F8: two that come back together serve the two that came first, of one pool or of two", () =>
    Effect.gen(function*() {
      for (
        const names of [
          ["a1", "a2", "b1", "b2", "a3"],
          ["a1", "a2", "b1", "a3", "b2", "a4"],
          ["a1", "b1", "b2", "b3", "a2", "a3"]
        ]
      ) {
        const [order] = yield* served(2, names)
        assert.deepStrictEqual(order, names)
      }
    }))

  it.effect("permits that come at once go by arrival, not one to each pool", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1, fairness: "arrival" })
      const [a, b, c] = yield* pools(3, capacity)
      const holder = yield* borrow(c.pool)
      const first = yield* several(2, a.pool)
      const second = yield* borrow(b.pool)
      yield* capacity.resize(3)
      yield* settle
      assert.deepStrictEqual([...first, second].map(({ item }) => item !== undefined), [true, true, false])
      for (const { letGo } of [holder, ...first, second]) yield* letGo
    }))

  it.effect("and each borrower has a turn of its own, also of one pool", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1, fairness: "arrival" })
      const [a, b, c] = yield* pools(3, capacity)
      const holder = yield* borrow(c.pool)
      const [first] = yield* several(1, a.pool)
      const [second] = yield* several(1, b.pool)
      const [third] = yield* several(1, a.pool)
      yield* capacity.resize(3)
      yield* settle
      assert.deepStrictEqual([first, second, third].map((each) => each!.item !== undefined), [true, true, false])
      for (const { letGo } of [holder, first!, second!, third!]) yield* letGo
    }))

  it.effect("an item stays in its pool when its next borrower came before the others'", () =>
    Effect.gen(function*() {
      const [order, a, b] = yield* served(2, ["a1", "b1", "a2", "b2", "a3", "b3"])
      assert.deepStrictEqual(order, ["a1", "b1", "a2", "b2", "a3", "b3"])
      assert.strictEqual(closes(a, b), 0)
    }))

  it.effect("a worker that borrows again at once stands behind who waits", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1, fairness: "arrival" })
      const [a, b] = yield* pools(2, capacity)
      yield* workers(1, a.pool, 10)
      yield* elapse(5)
      const late = yield* borrow(b.pool)
      yield* elapse(5)
      assert.isDefined(late.item)
      yield* late.letGo
      yield* elapse(10)
      assert.strictEqual(a.source.live, 1)
    }))

  it.effect("no more items change their pool than borrowers wait that came before", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2, fairness: "arrival" })
      const [a, b] = yield* pools(2, capacity)
      const [first, second] = yield* several(2, a.pool)
      a.source.closes.push({ slow: 50 })
      const other = yield* borrow(b.pool)
      const [third, fourth] = yield* several(2, a.pool)
      const last = yield* borrow(b.pool)
      yield* first!.letGo
      // The one that closes is for b's first; its second came after those of a.
      yield* second!.letGo
      assert.isDefined(third!.item)
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { "over share": 1 })
      yield* elapse(50)
      assert.isDefined(other.item)
      yield* third!.letGo
      assert.isDefined(fourth!.item)
      yield* other.letGo
      yield* fourth!.letGo
      assert.isDefined(last.item)
      yield* last.letGo
    }))

  it.effect("groups of several pools cannot block one another", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2, fairness: "arrival" })
      const [a, b, c] = yield* pools(3, capacity)
      const holders = yield* several(2, c.pool)
      const group = (pool: Pool) => Effect.forkChild(Effect.scoped(Effect.andThen(pool.getN(2), Effect.sleep(10))))
      const groups = [yield* group(a.pool), yield* group(b.pool)]
      yield* settle
      for (const { letGo } of holders) yield* letGo
      yield* elapse(10)
      yield* elapse(10)
      assert.deepStrictEqual(endings(groups.map((fiber) => ({ fiber }))), ["served", "served"])
    }))
})

describe("who is parked", () => {
  it.effect("tells of it once, and again when it has to wait again", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ name: "few", permits: 1 })
      const [a, b] = yield* pools(2, capacity)
      const events = yield* record(b.pool)
      const holder = yield* borrow(a.pool)
      // Not of what is opened ahead of need.
      yield* b.pool.resize({ min: 1 })
      yield* settle
      assert.deepStrictEqual(told(events), ["Resized"])
      yield* b.pool.resize({ min: 0 })
      yield* settle
      events.length = 0
      const waiters = yield* several(3, b.pool)
      assert.deepStrictEqual(events.map((event) => event._tag === "Parked" && event.capacity), ["few"])
      yield* holder.letGo
      assert.deepStrictEqual(told(events), ["Parked", "Opening 1", "Opened 1", "Borrowed 1"])
      assert.strictEqual((yield* one(capacity)).parked, 2)
      for (const { letGo } of waiters) yield* letGo
      assert.strictEqual((yield* one(capacity)).parked, 0)
      const again = yield* borrow(a.pool)
      const waiter = yield* borrow(b.pool)
      assert.strictEqual(told(events).at(-1), "Parked")
      yield* again.letGo
      yield* waiter.letGo
    }))
})
