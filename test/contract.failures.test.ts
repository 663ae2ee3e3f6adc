/** Numbers A to C of the contract that no other test shows. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, closedBooks, elapse, endings, several } from "./kit/books.ts"
import { type Outcome, Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged, record, recycled, told } from "./kit/observe.ts"

const idOf = (pool: QueuePool.QueuePool<Thing, unknown>) => pool.use(({ id }) => Effect.succeed(id))

describe("interruption", () => {
  it.effect("A1: is the borrower's one event, and spends no lease", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const events = yield* record(pool)
      const [holder, waiter, next] = yield* several(3, pool)
      holder!.fiber.interruptUnsafe()
      waiter!.fiber.interruptUnsafe()
      yield* settle
      yield* next!.letGo
      const ends = events.flatMap((event) => event._tag === "BorrowFailed" ? [event.reason] : [])
      assert.deepStrictEqual(ends, ["Interrupted"])
      assert.deepStrictEqual(told(events).filter((line) => line.startsWith("Borrowed")), ["Borrowed 1", "Borrowed 1"])
      assert.strictEqual((yield* books(source, pool)).borrowed, 2)
    }))

  // The reset is the pool's own work: what interrupts the borrower does not reach it. What can end it
  // early is the reset itself, the pool's closing (test/checking.test.ts), or its time (C6).
  it.effect("A7: of a borrower whose item is in its reset leaves the reset to end, and a waiter gets the item", () =>
    Effect.gen(function*() {
      const source = new Source()
      let resets = 0
      const reset = () => Effect.andThen(Effect.sleep(100), Effect.sync(() => void resets++))
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, reset })
      const [holder, waiter] = yield* several(2, pool)
      holder!.fiber.interruptUnsafe()
      yield* settle
      holder!.fiber.interruptUnsafe()
      yield* elapse(99)
      assert.deepStrictEqual([resets, waiter!.item], [0, undefined])
      yield* elapse(1)
      assert.deepStrictEqual([resets, waiter!.item], [1, { id: 1 }])
      yield* waiter!.letGo
      yield* elapse(100)
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("A7: of a reset itself ends the item, frees the slot and serves a waiter", () =>
    Effect.gen(function*() {
      const source = new Source()
      const reset = ({ id }: Thing) => id === 1 ? Effect.andThen(Effect.sleep(100), Effect.interrupt) : undefined
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, reset })
      const [holder, waiter] = yield* several(2, pool)
      holder!.fiber.interruptUnsafe()
      yield* elapse(100)
      assert.deepStrictEqual([source.closed, waiter!.item], [[1], { id: 2 }])
      yield* waiter!.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { "reset failed": 1 })
    }))

  it.effect("A10: of a fiber before it asks, where it can be interrupted, asks nothing of the pool", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const asks = [pool.use(() => Effect.void), Effect.asVoid(Effect.scoped(pool.get))]
      for (const ask of asks) {
        const late = Effect.uninterruptibleMask((restore) =>
          Effect.withFiber<void, unknown>((fiber) => {
            fiber.interruptUnsafe()
            return restore(ask)
          })
        )
        const exit = yield* Fiber.await(yield* Effect.forkChild(late))
        assert.isTrue(Exit.hasInterrupts(exit))
      }
      const { borrowed, opened, waited } = yield* books(source, pool)
      assert.deepStrictEqual({ borrowed, opened, waited }, { borrowed: 0, opened: 0, waited: 0 })
      assert.strictEqual(source.attempts, 0)
    }))
})

describe("opens", () => {
  it.effect("B11: a hook after acquire that fails ends the open, and what it has left open in the scope is closed", () =>
    Effect.gen(function*() {
      const source = new Source()
      const left: Array<string> = []
      const onAcquire = ({ id }: Thing) =>
        Effect.andThen(
          Effect.addFinalizer(() =>
            Effect.sync(() => void left.push(`rolled back ${id}, closed ${source.closed.length}`))
          ),
          id === 1 ? Effect.fail(new Refused(id)) : Effect.void
        )
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, onAcquire })
      const [first, second] = yield* several(2, pool)
      assert.deepStrictEqual(endings([first!, second!]), ["Refused", "waits"])
      // In the order of a scope: what was opened last is closed first.
      assert.deepStrictEqual([left, source.closed], [["rolled back 1, closed 0"], [1]])
      yield* second!.letGo
      const { idle, openFailures, opened } = yield* books(source, pool)
      assert.deepStrictEqual({ idle, openFailures, opened }, { idle: 1, openFailures: 1, opened: 1 })
    }))

  it.effect("B16: a waiter has one open, whatever happens in the pool while it waits", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 9, openConcurrency: 9 })
      const holders = yield* several(2, pool)
      source.opensOtherwise = { slow: 1000 }
      const waiters = yield* several(3, pool)
      assert.strictEqual(source.attempts, 5)
      // Each of these looks anew at what there is to do.
      yield* pool.sweep
      yield* pool.invalidate(holders[0]!.item!)
      yield* holders[0]!.letGo
      yield* pool.resize({ max: 8 })
      yield* pool.suspend
      yield* pool.resume
      yield* settle
      assert.strictEqual(source.attempts, 5)
      // One that leaves gives its open to the next that comes, and a return serves the first.
      waiters[2]!.fiber.interruptUnsafe()
      const [late] = yield* several(1, pool)
      yield* holders[1]!.letGo
      assert.deepStrictEqual([source.attempts, waiters[0]!.item], [5, { id: 2 }])
      yield* elapse(1000)
      for (const borrower of [waiters[0]!, waiters[1]!, late!]) {
        assert.isDefined(borrower.item)
        yield* borrower.letGo
      }
      assert.deepStrictEqual([(yield* books(source, pool)).idle, source.attempts], [4, 5])
    }))

  it.effect("B15: a spike over a few idle items ends with few more of them", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 50, min: 5, openConcurrency: 1 })
      yield* settle
      source.opensOtherwise = { slow: 150 }
      const spike = yield* Effect.forEach(
        Array.from({ length: 50 }),
        () => Effect.forkChild(pool.use(() => Effect.sleep(2)))
      )
      for (let i = 0; i < 10; i++) yield* elapse(2)
      assert.isTrue(spike.every((fiber) => fiber.pollUnsafe() !== undefined))
      yield* elapse(1000)
      assert.strictEqual((yield* books(source, pool)).idle, 6)
    }))
})

describe("items that end as soon as they are open", () => {
  it.effect("H11: are told of once, also when it is their maker who hears of their end", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, min: 1, max: 2, name: "db" })
      yield* settle
      const warning = "Warn pool \"db\" loses items as soon as they are open and goes on trying"
      // The first that ends is replaced at once: it may be chance.
      lose(pool, source.opened[0], "disconnected")
      yield* settle
      assert.deepStrictEqual([source.attempts, lines], [2, []])
      for (let end = 2; end < 6; end++) {
        lose(pool, source.opened.at(-1), "disconnected")
        yield* settle
        assert.deepStrictEqual([source.attempts, lines], [end, [warning]])
        // From 100 ms on, doubled each time, less up to a fifth.
        for (let wait = 0; source.attempts === end && wait < 20; wait++) yield* elapse(100)
      }
      // Each that lives, and is of use, is the end of it.
      assert.strictEqual(yield* idOf(pool), 6)
      lose(pool, source.opened.at(-1), "disconnected")
      yield* settle
      assert.deepStrictEqual([source.attempts, lines.filter((line) => line.startsWith("Warn"))], [7, [warning]])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { disconnected: 6 })
    })))
})

describe("releases", () => {
  for (const how of ["hang", "stuck", { slow: 3000 }] as const satisfies ReadonlyArray<Outcome>) {
    it.effect(`C3: that take their time (${JSON.stringify(how)}) block no sweep, no borrow, no other release, and not the closing`, () =>
      Effect.gen(function*() {
        const source = new Source()
        source.closes.push(how)
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(
          QueuePool.make({ acquire: source.acquire, max: 4, recycle: RecyclePolicy.idle(1000) }),
          scope
        )
        const events = yield* record(pool)
        for (const { letGo } of yield* several(3, pool)) yield* letGo
        yield* elapse(1001)
        // One sweep found three; the first of them never ends, or ends late.
        assert.deepStrictEqual(recycled(events).length, 3)
        assert.strictEqual(source.closed.length, 2)
        // A later sweep finds the next, and that is lent which has not come to it.
        assert.strictEqual(yield* idOf(pool), 4)
        yield* elapse(1001)
        assert.include(source.closed, 4)
        assert.strictEqual(yield* idOf(pool), 5)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* settle
        assert.include(source.closed, 5)
        yield* elapse("5 seconds")
        assert.isDefined(closing.pollUnsafe())
        if (how !== "stuck") closedBooks(source)
      }))
  }

  it.effect("C4: of one broken item wakes the first of those who wait, and opens one for it and no more", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const [holder, first, second] = yield* several(3, pool)
      yield* pool.invalidate(holder!.item!)
      yield* holder!.letGo
      assert.deepStrictEqual([first!.item, second!.item, source.attempts], [{ id: 2 }, undefined, 2])
      yield* first!.letGo
      assert.deepStrictEqual(second!.item, { id: 2 })
      yield* second!.letGo
      yield* books(source, pool)
    }))

  // The contract's default is to recycle on a defect or an interruption. Ours recycles nothing unless a
  // rule says so: DESIGN has `recycle: none` as the default, and `failed` and `interrupted` are the rules.
  it.effect("C7: without a rule no exit of a lease ends its item, and the exit is the borrower's own", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      for (const exit of [Exit.fail("no"), Exit.die("bug"), Exit.interrupt(1), Exit.void]) {
        const seen = yield* Fiber.await(yield* Effect.forkChild(pool.use((): Effect.Effect<void, string> => exit)))
        assert.strictEqual(Exit.isSuccess(seen), Exit.isSuccess(exit))
        assert.strictEqual(yield* idOf(pool), 1)
      }
      assert.deepStrictEqual((yield* books(source, pool)).recycled, {})
    }))

  it.effect("C9: an item that comes back too old is closed, and opened anew for a waiter or for min, or not at all", () =>
    Effect.gen(function*() {
      for (const needed of ["nobody", "min", "a waiter"] as const) {
        const source = new Source()
        const pool = yield* QueuePool.make({
          acquire: source.acquire,
          max: 1,
          min: needed === "min" ? 1 : 0,
          borrowTimeout: "Infinity",
          recycle: RecyclePolicy.age(1000)
        })
        const holder = yield* borrow(pool)
        const waiter = needed === "a waiter" ? yield* borrow(pool) : undefined
        yield* elapse(1001)
        assert.deepStrictEqual(source.closed, [])
        yield* holder.letGo
        assert.deepStrictEqual(source.closed, [1], needed)
        assert.strictEqual(source.attempts, needed === "nobody" ? 1 : 2, needed)
        if (waiter !== undefined) {
          assert.deepStrictEqual(waiter.item, { id: 2 })
          yield* waiter.letGo
        }
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { age: 1 })
      }
    }))

  it.effect("C9: an item that is never idle, in a pool that is always busy, comes to its age all the same", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, recycle: RecyclePolicy.age(100) })
      const busy = Effect.repeat(pool.use(() => Effect.sleep(7)), Schedule.recurs(99))
      const workers = [yield* Effect.forkChild(busy), yield* Effect.forkChild(busy)]
      for (let i = 0; i < 200; i++) yield* elapse(7)
      assert.isTrue(workers.every((fiber) => fiber.pollUnsafe() !== undefined))
      // 1,400 ms of leases of 7 ms: the 15th of each item is past 100 ms.
      assert.strictEqual((yield* books(source, pool)).recycled["age"], 13)
    }))
})
