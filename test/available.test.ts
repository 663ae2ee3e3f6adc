/** `getIfAvailable` and `useIfAvailable`: an item that is there for the taking, or none. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, endings, several } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { gate, type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

// Rules call back into the pool from where no Effect is.
// @effect-diagnostics runEffectInsideEffect:off

type Pool = QueuePool.QueuePool<Thing, Refused>
type Settings = Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">

const make = Effect.fnUntraced(function*(options: Settings) {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, drainTimeout: 0, ...options })
  yield* settle
  return { pool, source }
})

/** A pool with items 1 to `count`, all idle, each returned a millisecond after the one before. */
const filled = Effect.fnUntraced(function*(count: number, options: Settings) {
  const { pool, source } = yield* make({ max: count, ...options })
  for (const { letGo } of yield* several(count, pool)) {
    yield* letGo
    yield* elapse(1)
  }
  return { pool, source, events: yield* record(pool) }
})

/** The number of the item, or undefined; both ways of asking must agree. */
const ways = {
  getIfAvailable: (pool: Pool) => Effect.scoped(Effect.map(pool.getIfAvailable, Option.map(({ id }) => id))),
  useIfAvailable: (pool: Pool) => pool.useIfAvailable(({ id }) => Effect.succeed(id))
}

for (const [name, ask] of Object.entries(ways)) {
  const idOf = (pool: Pool) => Effect.map(ask(pool), Option.getOrUndefined)

  describe(name, () => {
    it.effect("lends the idle item whose turn it is", () =>
      Effect.gen(function*() {
        for (const [order, id] of [["lifo", 3], ["fifo", 1], ["hybrid", 2]] as const) {
          const { events, pool, source } = yield* filled(3, { order, min: 2 })
          const { waited } = yield* pool.stats
          assert.strictEqual(yield* idOf(pool), id)
          yield* settle
          assert.deepStrictEqual(told(events), [`Borrowed ${id}`, `Returned ${id}`])
          const stats = yield* books(source, pool)
          assert.deepStrictEqual([stats.borrowed, stats.returned, stats.waited], [4, 4, waited])
        }
      }))

    it.effect("of a pool that has none opens nothing, waits for nothing and is told of nowhere", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 3, min: 2, warm: "lazy" })
        const events = yield* record(pool)
        const before = yield* pool.stats
        // The very step: nothing asynchronous in it.
        assert.deepStrictEqual(Effect.runSyncExit(ask(pool)), Exit.succeed(Option.none()))
        yield* elapse("1 minute")
        assert.deepStrictEqual([source.attempts, yield* pool.stats, told(events)], [0, before, []])
      }))

    it.effect("with all lent, though there is room for more, or with one being opened, has none", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 3 })
        const holder = yield* borrow(pool)
        assert.isUndefined(yield* idOf(pool))
        source.opens.push({ slow: 100 })
        const waiter = yield* borrow(pool)
        yield* Fiber.interrupt(waiter.fiber)
        assert.isUndefined(yield* idOf(pool))
        assert.strictEqual(source.attempts, 2)
        yield* elapse(100)
        assert.strictEqual(yield* idOf(pool), 2)
        yield* holder.letGo
        yield* books(source, pool)
      }))

    it.effect("passes nobody who waits", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1 })
        const [holder, first, second] = yield* several(3, pool)
        assert.isUndefined(yield* idOf(pool))
        holder!.fiber.interruptUnsafe()
        // The item is handed over, and one more waits for it.
        assert.isUndefined(yield* idOf(pool))
        yield* settle
        assert.deepStrictEqual([first!.item?.id, endings([second!])], [1, ["waits"]])
        yield* first!.letGo
        yield* second!.letGo
        assert.strictEqual(yield* idOf(pool), 1)
        yield* books(source, pool)
      }))

    it.effect("passes nobody who waits for a check while another item needs none", () =>
      Effect.gen(function*() {
        const works = yield* gate
        const { pool, source } = yield* filled(2, { order: "fifo", check: () => works.pass, checkAfter: 1000 })
        const [first, second] = yield* several(2, pool)
        yield* first!.letGo
        yield* elapse(1000)
        yield* second!.letGo
        const waiter = yield* borrow(pool)
        assert.deepInclude(yield* pool.stats, { idle: 1, pending: 1 })
        assert.isUndefined(yield* idOf(pool))
        yield* works.open
        yield* settle
        yield* waiter.letGo
        yield* books(source, pool)
      }))

    it.effect("skips items that need a check, and takes one behind them that does not", () =>
      Effect.gen(function*() {
        for (const order of ["fifo", "lifo", "hybrid"] as const) {
          let checks = 0
          const options = { order, min: 1, check: () => Effect.sync(() => ++checks), checkAfter: 1000 }
          const { pool, source } = yield* filled(3, options)
          const holders = yield* several(3, pool)
          yield* elapse(1000)
          const three = holders.find(({ item }) => item!.id === 3)!
          for (const holder of holders.filter((one) => one !== three)) yield* holder.letGo
          yield* elapse(1000)
          // Unproven, all that are idle.
          assert.isUndefined(yield* idOf(pool))
          yield* three.letGo
          assert.strictEqual(yield* idOf(pool), 3)
          assert.deepStrictEqual([checks, (yield* books(source, pool)).idle], [0, 3])
        }
      }))

    it.effect("takes one that a check has proven, wherever it stands", () =>
      Effect.gen(function*() {
        const [checked, swept] = [yield* gate, yield* gate]
        const { pool, source } = yield* filled(2, {
          check: () => checked.pass,
          checkAfter: 1000,
          recycle: RecyclePolicy.check(({ id }: Thing) =>
            id === 2 ? Effect.as(swept.pass, false) : Effect.succeed(false)
          )
        })
        yield* elapse(1000)
        // While a sweep has item 2, item 1 is checked for a borrower that has left when that is over.
        const sweep = yield* Effect.forkChild(pool.sweep)
        yield* settle
        const waiter = yield* borrow(pool)
        yield* Fiber.interrupt(waiter.fiber)
        yield* checked.open
        yield* settle
        yield* swept.open
        yield* Fiber.join(sweep)
        yield* books(source, pool)
        assert.strictEqual(yield* idOf(pool), 1)
      }))

    it.effect("asks the rules at lend: what they speak against goes, and the next is lent", () =>
      Effect.gen(function*() {
        const bad = new Set([3, 2])
        const { pool, source } = yield* filled(3, { recycle: RecyclePolicy.when(({ item }) => bad.has(item.id)) })
        assert.strictEqual(yield* idOf(pool), 1)
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { when: 2 })
        bad.add(1)
        assert.isUndefined(yield* idOf(pool))
        assert.strictEqual((yield* books(source, pool)).idle, 0)
      }))

    it.effect("asks them of those behind one that needs a check as well, and min is refilled", () =>
      Effect.gen(function*() {
        const bad = new Set<number>()
        const { pool, source } = yield* filled(4, {
          order: "fifo",
          min: 2,
          max: 5,
          check: () => Effect.void,
          checkAfter: 1000,
          recycle: RecyclePolicy.when(({ item }) => bad.has(item.id))
        })
        const [one, two, three, four] = yield* several(4, pool)
        yield* one!.letGo
        yield* elapse(1000)
        for (const { letGo } of [two!, three!, four!]) {
          yield* letGo
          yield* elapse(1)
        }
        bad.add(4).add(3)
        // Min is opened anew at once, not when these are closed.
        source.closesOtherwise = { slow: 10 }
        assert.strictEqual(yield* idOf(pool), 2)
        bad.add(2)
        assert.isUndefined(yield* idOf(pool))
        assert.strictEqual((yield* pool.stats).opening, 1)
        yield* elapse(10)
        assert.deepStrictEqual(source.closed, [4, 3, 2])
        source.closesOtherwise = "ok"
        // Item 1 and one that was opened for min.
        assert.deepStrictEqual([(yield* books(source, pool)).idle, source.attempts], [2, 5])
      }))

    it.effect("a rule that calls back into the pool does no harm", () =>
      Effect.gen(function*() {
        for (const what of ["clear", "suspend", "borrow"] as const) {
          const around: { run: () => void } = { run: () => {} }
          const { pool, source } = yield* filled(2, {
            recycle: RecyclePolicy.when(() => {
              around.run()
              return false
            })
          })
          const taken = yield* Deferred.make<void>()
          let other: Fiber.Fiber<void, unknown> | undefined
          around.run = () => {
            around.run = () => {}
            if (what === "borrow") other = Effect.runFork(pool.use(() => Deferred.await(taken)))
            else Effect.runSync(pool[what])
          }
          // The item went, or nothing is lent, or it is lent to another already.
          const expected = { clear: undefined, suspend: undefined, borrow: 1 }[what]
          assert.strictEqual(yield* idOf(pool), expected, what)
          yield* Deferred.succeed(taken, undefined)
          if (other !== undefined) yield* Fiber.join(other)
          yield* pool.resume
          assert.strictEqual((yield* books(source, pool)).idle, what === "clear" ? 0 : 2)
        }
      }))

    it.effect("of a closed pool fails with Closed, and of one that closes too", () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { pool, source } = yield* Scope.provide(make({ max: 2, drainTimeout: "1 minute" }), scope)
        const holder = yield* borrow(pool)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* settle
        assert.strictEqual(ending(yield* Effect.exit(ask(pool))), "Closed")
        yield* holder.letGo
        yield* Fiber.join(closing)
        const error = yield* Effect.flip(ask(pool))
        assert.strictEqual(error.message, `Closed: "pool" is closed`)
        closedBooks(source)
      }))

    it.effect("of a suspended pool has none, or fails with Suspended if the option says so", () =>
      Effect.gen(function*() {
        for (const whenSuspended of ["wait", "fail"] as const) {
          const { pool, source } = yield* filled(2, { whenSuspended })
          const holders = yield* several(2, pool)
          // Not suspended yet.
          assert.isUndefined(yield* idOf(pool))
          for (const { letGo } of holders.toReversed()) yield* letGo
          yield* pool.suspend
          const exit = yield* Effect.exit(ask(pool))
          if (whenSuspended === "wait") assert.deepStrictEqual(exit, Exit.succeed(Option.none()))
          else assert.strictEqual(ending(exit), "Suspended")
          yield* pool.resume
          assert.isDefined(yield* idOf(pool))
          yield* books(source, pool)
        }
      }))

    it.effect("joins a shared item with room when no item is idle, and has none when all are full", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 2, concurrency: 2 })
        const holder = yield* borrow(pool)
        assert.strictEqual(yield* idOf(pool), 1)
        const second = yield* borrow(pool)
        assert.isUndefined(yield* idOf(pool))
        // There is room for an item, but none is opened.
        assert.strictEqual(source.attempts, 1)
        yield* second.letGo
        yield* holder.letGo
        yield* books(source, pool)
      }))

    it.effect("joins one too when those that are idle need a check, or a rule has spoken against them", () =>
      Effect.gen(function*() {
        const bad = new Set<number>()
        const { pool, source } = yield* make({
          max: 3,
          concurrency: 2,
          order: "fifo",
          check: () => Effect.void,
          checkAfter: 1000,
          recycle: RecyclePolicy.when(({ item }) => bad.has(item.id))
        })
        // An item alone for each.
        const exclusive = yield* Effect.forEach(
          [1, 2, 3],
          () => Effect.forkChild(pool.useExclusive(() => Effect.never))
        )
        yield* settle
        yield* Fiber.interrupt(exclusive[0]!)
        yield* Fiber.interrupt(exclusive[1]!)
        const holder = yield* borrow(pool)
        assert.strictEqual(holder.item?.id, 1)
        yield* elapse(1000)
        yield* Fiber.interrupt(exclusive[2]!)
        // Item 2 needs a check and 3 does not.
        assert.strictEqual(yield* idOf(pool), 3)
        bad.add(3)
        assert.strictEqual(yield* idOf(pool), 1)
        yield* settle
        assert.deepStrictEqual(source.closed, [3])
        yield* holder.letGo
        assert.strictEqual((yield* books(source, pool)).idle, 2)
      }))

    it.effect("does not join an item that a waiter needs alone", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1, concurrency: 3 })
        const holder = yield* borrow(pool)
        const alone = yield* Effect.forkChild(pool.useExclusive(({ id }) => Effect.succeed(id)))
        yield* settle
        assert.isUndefined(yield* idOf(pool))
        yield* holder.letGo
        assert.strictEqual(yield* Fiber.join(alone), 1)
        yield* books(source, pool)
      }))

    it.effect("runs the hook before the lease, and fails with HookFailed when that fails", () =>
      Effect.gen(function*() {
        let fails = false
        const seen: Array<number> = []
        const { pool, source } = yield* make({
          max: 1,
          onBorrow: ({ id }) => fails ? Effect.fail("no") : Effect.sync(() => void seen.push(id))
        })
        assert.isUndefined(yield* idOf(pool))
        yield* pool.use(() => Effect.void)
        assert.strictEqual(yield* idOf(pool), 1)
        assert.deepStrictEqual(seen, [1, 1])
        fails = true
        assert.strictEqual(ending(yield* Effect.exit(ask(pool))), "HookFailed")
        assert.deepStrictEqual((yield* books(source, pool)).idle, 0)
      }))

    it.effect("interrupted at any step, loses nothing, with an item and without", () =>
      Effect.gen(function*() {
        const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const { pool, source } = yield* filled(1, {})
          const asking = name === "useIfAvailable"
            ? pool.useIfAvailable(() => Effect.yieldNow)
            : Effect.scoped(Effect.andThen(pool.getIfAvailable, Effect.yieldNow))
          yield* Fiber.await(yield* run(asking))
          assert.strictEqual((yield* books(source, pool)).idle, 1, at)
          const holder = yield* borrow(pool)
          assert.strictEqual(holder.item?.id, 1, at)
          yield* Fiber.await(yield* run(asking))
          assert.strictEqual((yield* pool.stats).used, 1, at)
          yield* holder.letGo
          assert.deepStrictEqual([(yield* books(source, pool)).idle, source.attempts], [1, 1], at)
        }, Effect.scoped))
        assert.isAbove(operations, 3)
      }))

    it.effect("interrupted at any step of a hook, or while it shares an item, loses nothing", () =>
      interruptAtEvery(Effect.fnUntraced(function*(run, at) {
        const { pool, source } = yield* make({ max: 1, concurrency: 2, onBorrow: () => Effect.yieldNow })
        const holder = yield* borrow(pool)
        const asking = yield* run(
          name === "useIfAvailable"
            ? Effect.asVoid(pool.useIfAvailable(() => Effect.yieldNow))
            : Effect.scoped(Effect.andThen(pool.getIfAvailable, Effect.yieldNow))
        )
        yield* Fiber.await(asking)
        assert.strictEqual((yield* pool.stats).leases, 1, at)
        yield* holder.letGo
        yield* books(source, pool)
        assert.strictEqual(ending(yield* Effect.exit(pool.use(() => Effect.void))), "served", at)
      }, Effect.scoped)))
  })
}

describe("getIfAvailable", () => {
  it.effect("gives the item back with the scope, and in a closed scope at once", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(1, {})
      const scope = yield* Scope.make()
      assert.deepStrictEqual(yield* Scope.provide(pool.getIfAvailable, scope), Option.some({ id: 1 }))
      assert.isUndefined(yield* Effect.map(ways.getIfAvailable(pool), Option.getOrUndefined))
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* books(source, pool)).idle, 1)
      yield* Scope.provide(pool.getIfAvailable, scope)
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("the same effect can be run again and again", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(2, {})
      const lent = yield* Effect.scoped(Effect.all([pool.getIfAvailable, pool.getIfAvailable, pool.getIfAvailable]))
      assert.deepStrictEqual(lent.map(Option.map(({ id }) => id)), [Option.some(2), Option.some(1), Option.none()])
      yield* books(source, pool)
    }))
})

describe("useIfAvailable", () => {
  it.effect("does not run its effect when there is no item", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({})
      let ran = false
      const none = yield* pool.useIfAvailable(() => Effect.sync(() => void (ran = true)))
      assert.deepStrictEqual([none, ran], [Option.none(), false])
    }))

  it.effect("ends as its effect does, and the item comes back with that exit", () =>
    Effect.gen(function*() {
      const exits: Array<string> = []
      const { pool, source } = yield* filled(1, { reset: (_, exit) => void exits.push(exit._tag) })
      exits.length = 0
      const boom = new Error("boom")
      const throws = (): Effect.Effect<never> => {
        throw boom
      }
      assert.deepStrictEqual(yield* pool.useIfAvailable(() => Effect.succeed("yes")), Option.some("yes"))
      assert.deepStrictEqual(yield* Effect.exit(pool.useIfAvailable(() => Effect.fail("no"))), Exit.fail("no"))
      assert.deepStrictEqual(yield* Effect.exit(pool.useIfAvailable(throws)), Exit.die(boom))
      const fiber = yield* Effect.forkChild(pool.useIfAvailable(() => Effect.never))
      yield* settle
      assert.strictEqual((yield* pool.stats).used, 1)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(exits, ["Success", "Failure", "Failure", "Failure"])
      yield* books(source, pool)
    }))

  it.effect("is ended from outside as use is, where leases are", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(1, { maxLease: "1 minute" })
      assert.deepStrictEqual(yield* pool.useIfAvailable(({ id }) => Effect.succeed(id)), Option.some(1))
      const fiber = yield* Effect.forkChild(pool.useIfAvailable(() => Effect.never))
      yield* elapse("1 minute")
      assert.strictEqual(ending(fiber.pollUnsafe()), "LeaseEnded")
      yield* books(source, pool)
    }))
})
