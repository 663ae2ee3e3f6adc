/** `getN`: several items at once, all or none, and in turn. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, closedBooks, elapse, ending, endings, several } from "./kit/books.ts"
import { Hook } from "./kit/hook.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

// Without an asynchronous step, and from where no Effect is.
// @effect-diagnostics runEffectInsideEffect:off

type Pool = QueuePool.QueuePool<Thing, Refused>
type Settings = Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">

const make = Effect.fnUntraced(function*(options: Settings) {
  const source = new Source()
  const pool: Pool = yield* QueuePool.make({ acquire: source.acquire, drainTimeout: 0, ...options })
  yield* settle
  return { pool, source, events: yield* record(pool) }
})

/** A pool with so many idle items, each of which was of use. */
const filled = Effect.fnUntraced(function*(count: number, options: Settings) {
  const { events, pool, source } = yield* make(options)
  for (const { letGo } of yield* several(count, pool)) yield* letGo
  events.length = 0
  return { events, pool, source, before: yield* pool.stats }
})

/** A borrower of `n` in a fiber of its own that keeps them until it is let go. */
const group = Effect.fnUntraced(function*(pool: Pool, n: number) {
  const scope = yield* Scope.make()
  let items: ReadonlyArray<number> | undefined
  const lent = Effect.map(pool.getN(n), (things) => {
    items = things.map(({ id }) => id)
  })
  const fiber = yield* Effect.forkChild(Scope.provide(lent, scope))
  yield* settle
  return {
    get items() {
      return items
    },
    fiber,
    letGo: Effect.andThen(Scope.close(scope, Exit.void), settle)
  }
})

const reasonOf = (exit: Exit.Exit<unknown, unknown> | undefined) =>
  exit !== undefined && Exit.isFailure(exit) ? (Cause.squash(exit.cause) as PoolError.PoolError).reason : undefined

const sorted = (ids: ReadonlyArray<number> | undefined) => ids?.toSorted((one, other) => one - other)

/** The reasons that were told of borrowers that went without. */
const refusals = (events: Effect.Success<ReturnType<typeof make>>["events"]) =>
  events.flatMap((event) => event._tag === "BorrowFailed" ? [event.reason] : [])

describe("getN", () => {
  it.effect("of items that are all there is no step of its own, and counts as so many leases", () =>
    Effect.gen(function*() {
      const { before, events, pool, source } = yield* filled(3, { max: 3, recycle: RecyclePolicy.uses(3) })
      const ids = Effect.runSync(Effect.scoped(Effect.map(pool.getN(3), (things) => things.map(({ id }) => id))))
      assert.deepStrictEqual(sorted(ids), [1, 2, 3])
      yield* settle
      assert.deepStrictEqual(told(events).filter((one) => one.startsWith("Borrowed")).length, 3)
      const { borrowed, returned, waited } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, returned, waited], [before.borrowed + 3, before.returned + 3, before.waited])
    }))

  it.effect("gives each back with the exit of its scope", () =>
    Effect.gen(function*() {
      const exits: Array<Exit.Exit<unknown, unknown>> = []
      const { pool } = yield* filled(2, { max: 2, onReturn: (_, exit) => void exits.push(exit) })
      exits.length = 0
      yield* Effect.exit(Effect.scoped(Effect.andThen(pool.getN(2), Effect.fail("no"))))
      assert.deepStrictEqual(exits, [Exit.fail("no"), Exit.fail("no")])
    }))

  it.effect("in a scope that is closed already ends all its leases at once", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(2, { max: 2 })
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      const things = yield* Scope.provide(pool.getN(2), scope)
      assert.strictEqual(things.length, 2)
      assert.strictEqual((yield* books(source, pool)).returned, 4)
    }))

  it.effect("in a scope that is closed already, where what comes back closes the pool, lends no item that is gone", () =>
    Effect.gen(function*() {
      const own = yield* Scope.make()
      const around: { armed: boolean } = { armed: false }
      const { pool, source } = yield* Scope.provide(
        filled(2, {
          max: 2,
          onReturn: () => {
            if (around.armed) Effect.runFork(Scope.close(own, Exit.void))
            return undefined
          }
        }),
        own
      )
      around.armed = true
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      yield* Effect.exit(Scope.provide(pool.getN(2), scope))
      yield* settle
      closedBooks(source)
      const { borrowed, returned, takenBack } = yield* pool.stats
      assert.strictEqual(borrowed, returned + takenBack)
    }))

  it.effect("keeps what is there first until all are there, and only then has it", () =>
    Effect.gen(function*() {
      const { before, events, pool, source } = yield* filled(3, { max: 3 })
      const holder = yield* borrow(pool)
      const three = yield* group(pool, 3)
      const { borrowed, idle, leases, pending, used } = yield* pool.stats
      assert.deepStrictEqual(
        { borrowed, idle, leases, pending, used },
        { borrowed: before.borrowed + 1, idle: 0, leases: 3, pending: 1, used: 3 }
      )
      assert.strictEqual(events.filter(({ _tag }) => _tag === "Borrowed").length, 1)
      yield* elapse(1000)
      yield* holder.letGo
      assert.deepStrictEqual(sorted(three.items), [1, 2, 3])
      const waits = events.flatMap((event) => event._tag === "Borrowed" ? [event.waited] : [])
      assert.deepStrictEqual(waits, [0, 1000, 1000, 1000])
      yield* three.letGo
      const held = events.flatMap((event) => event._tag === "Returned" ? [event.held] : [])
      assert.deepStrictEqual(held, [1000, 0, 0, 0])
      yield* books(source, pool)
    }))

  it.effect("has all the time of its leases from when all are there", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(2, { max: 2, maxLease: 1000 })
      const holder = yield* borrow(pool)
      const two = yield* group(pool, 2)
      yield* elapse(900)
      yield* holder.letGo
      yield* elapse(999)
      assert.deepStrictEqual(source.closed, [])
      yield* elapse(1)
      assert.strictEqual(source.closed.length, 2)
      yield* two.letGo
      yield* books(source, pool)
    }))
})

describe("several of them", () => {
  it.effect("two of 2 in a pool of 3 both have their turn", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 3 })
      const groups = [yield* group(pool, 2), yield* group(pool, 2)]
      assert.deepStrictEqual(groups.map(({ items }) => items?.length), [2, undefined])
      assert.deepStrictEqual([(yield* pool.stats).used, (yield* pool.stats).pending], [3, 1])
      yield* groups[0]!.letGo
      assert.strictEqual(groups[1]!.items?.length, 2)
      yield* groups[1]!.letGo
      yield* books(source, pool)
    }))

  it.effect("ten of 3 in a pool of 4 have theirs one after the other, and those that want one in between", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 4 })
      const all: Array<Effect.Success<ReturnType<typeof group>>> = []
      for (let i = 0; i < 10; i++) all.push(yield* group(pool, 3), yield* group(pool, 1))
      const served = () => all.flatMap(({ items }, index) => items === undefined ? [] : [index])
      for (const [index, { letGo }] of all.entries()) {
        // Nobody is served before one that came earlier.
        assert.deepStrictEqual(served(), Array.from({ length: served().length }, (_, i) => i))
        assert.isAbove(served().length, index)
        yield* letGo
      }
      assert.strictEqual((yield* books(source, pool)).borrowed, 40)
    }))

  it.effect("lose items while they wait, and still none blocks another: who came first asks again first", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(3, { max: 3 })
      // The first has two, and waits for the third.
      const holder = yield* borrow(pool)
      const first = yield* group(pool, 3)
      const second = yield* group(pool, 3)
      const kept = source.opened.find(({ id }) => id !== holder.item!.id)!
      // What comes back and what is opened anew must not go to the second meanwhile.
      lose(pool, kept, "lost")
      assert.strictEqual((yield* pool.stats).pending, 5)
      yield* holder.letGo
      assert.strictEqual(first.items?.length, 3)
      assert.notInclude(first.items!, kept.id)
      yield* first.letGo
      assert.strictEqual(second.items?.length, 3)
      yield* second.letGo
      const { recycled, takenBack } = yield* books(source, pool)
      assert.deepStrictEqual([recycled, takenBack], [{ lost: 1 }, 0])
    }))

  it.effect("lose all that they had, in whatever order, and are served in theirs", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(6, { max: 6, openConcurrency: 6 })
      const holder = yield* group(pool, 1)
      const first = yield* group(pool, 3)
      const second = yield* group(pool, 3)
      const third = yield* group(pool, 2)
      assert.deepStrictEqual([first, second, third].map(({ items }) => items?.length), [3, undefined, undefined])
      // The second has two of its three.
      const mine = source.opened.filter(({ id }) => !first.items!.includes(id) && !holder.items!.includes(id))
      assert.strictEqual(mine.length, 2)
      for (const thing of mine.toReversed()) lose(pool, thing, "lost")
      yield* settle
      yield* holder.letGo
      assert.deepStrictEqual([second, third].map(({ items }) => items?.length), [3, undefined])
      yield* first.letGo
      assert.strictEqual(third.items?.length, 2)
      yield* second.letGo
      yield* third.letGo
      yield* books(source, pool)
    }))

  it.effect("in turn with those who want one: no group starves, and passes none", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 2 })
      const order: Array<string> = []
      const ask = (name: string, n: number) =>
        Effect.scoped(Effect.andThen(pool.getN(n), Effect.sync(() => void order.push(name)))).pipe(
          Effect.andThen(Effect.yieldNow)
        )
      const one = (name: string) =>
        pool.use(() => Effect.andThen(Effect.sync(() => void order.push(name)), Effect.yieldNow))
      const fibers = []
      for (let i = 0; i < 30; i++) fibers.push(yield* Effect.forkChild(i % 3 === 0 ? ask(`${i}`, 2) : one(`${i}`)))
      yield* Fiber.awaitAll(fibers)
      assert.deepStrictEqual(order, Array.from({ length: 30 }, (_, i) => `${i}`))
      yield* books(source, pool)
    }))
})

describe("all or none", () => {
  /** A group of 3 that has two idle items and waits for a third, with everything that could tell of a use. */
  const waiting = Effect.fnUntraced(function*(options: Settings = {}) {
    const [onReturn, reset] = [new Hook(), new Hook()]
    const made = yield* filled(2, {
      max: 3,
      borrowTimeout: 1000,
      recycle: [RecyclePolicy.failed, RecyclePolicy.interrupted, RecyclePolicy.uses(2)],
      onReturn: onReturn.run,
      reset: reset.run,
      ...options
    })
    onReturn.begun.length = reset.begun.length = 0
    made.source.opens.push("hang")
    const three = yield* group(made.pool, 3)
    assert.deepStrictEqual([(yield* made.pool.stats).leases, (yield* made.pool.stats).pending], [2, 1])
    /** The two are idle again, and as if they had never been lent. */
    const unused = Effect.gen(function*() {
      yield* settle
      const { borrowed, idle, leases, pending, recycled, returned } = yield* made.pool.stats
      assert.deepStrictEqual({ borrowed, idle, leases, pending, recycled, returned }, {
        borrowed: made.before.borrowed,
        idle: 2,
        leases: 0,
        pending: 0,
        recycled: {},
        returned: made.before.returned
      })
      assert.deepStrictEqual([onReturn.begun, reset.begun, made.source.closed], [[], [], []])
    })
    return { ...made, three, unused }
  })

  it.effect("BorrowTimeout: what it had goes back unused", () =>
    Effect.gen(function*() {
      const { events, three, unused } = yield* waiting()
      yield* elapse(1000)
      assert.deepStrictEqual(endings([three]), ["BorrowTimeout"])
      yield* unused
      // It counts as three, which all went without for the same reason.
      assert.deepStrictEqual(refusals(events), ["BorrowTimeout", "BorrowTimeout", "BorrowTimeout"])
    }))

  it.effect("an interruption: what it had goes back unused", () =>
    Effect.gen(function*() {
      const { events, three, unused } = yield* waiting()
      three.fiber.interruptUnsafe()
      yield* unused
      assert.deepStrictEqual(refusals(events), ["Interrupted", "Interrupted", "Interrupted"])
    }))

  it.effect("an interruption: what it had goes to those who wait, and nothing of it to itself", () =>
    Effect.gen(function*() {
      const { events, pool, three } = yield* waiting()
      const next = yield* several(3, pool)
      three.fiber.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual(next.map(({ item }) => item !== undefined), [true, true, false])
      assert.strictEqual(refusals(events).length, 3)
      next[2]!.fiber.interruptUnsafe()
      for (const { letGo } of next) yield* letGo
    }))

  it.effect("an open that failed for it: it fails with its error, and what it had goes back unused", () =>
    Effect.gen(function*() {
      const { events, pool, three, unused } = yield* waiting({ openTimeout: 500 })
      yield* elapse(500)
      assert.deepStrictEqual(endings([three]), ["OpenTimeout"])
      yield* unused
      assert.deepStrictEqual(refusals(events), ["OpenFailed", "OpenFailed", "OpenFailed"])
      assert.strictEqual((yield* pool.stats).timeouts, 0)
    }))

  it.effect("TooManyWaiters: at once, and what it had goes back unused", () =>
    Effect.gen(function*() {
      const { before, events, pool, source } = yield* filled(2, {
        max: 3,
        maxWaiters: 0,
        recycle: RecyclePolicy.failed
      })
      const holder = yield* borrow(pool)
      source.opens.push({ slow: 100 })
      const opening = yield* borrow(pool)
      yield* settle
      const first = yield* borrow(pool)
      assert.deepStrictEqual([opening.item !== undefined, endings([first])], [true, ["waits"]])
      const fiber = yield* Effect.forkChild(Effect.scoped(pool.getN(2)))
      yield* settle
      assert.strictEqual(ending(fiber.pollUnsafe()), "TooManyWaiters")
      assert.deepStrictEqual(refusals(events), ["TooManyWaiters", "TooManyWaiters"])
      yield* elapse(100)
      for (const { letGo } of [holder, opening, first]) yield* letGo
      assert.strictEqual((yield* books(source, pool)).borrowed, before.borrowed + 3)
    }))

  it.effect("TooManyWaiters for the last alone: those before it go back unused", () =>
    Effect.gen(function*() {
      const { before, pool, source } = yield* filled(2, { max: 3, maxWaiters: 0, recycle: RecyclePolicy.failed })
      const holder = yield* borrow(pool)
      source.opens.push({ slow: 100 })
      // One is idle, one would be opened, and there is no room for a third.
      const fiber = yield* Effect.forkChild(Effect.scoped(pool.getN(3)))
      yield* settle
      assert.strictEqual(ending(fiber.pollUnsafe()), "TooManyWaiters")
      assert.strictEqual((yield* pool.stats).idle, 1)
      yield* elapse(100)
      yield* holder.letGo
      const { borrowed, idle, recycled } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, idle, recycled], [before.borrowed + 1, 3, {}])
    }))

  it.effect("with borrowTimeout 0: all that are there now, or none", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 4, min: 3, borrowTimeout: 0 })
      assert.strictEqual((yield* Effect.scoped(pool.getN(3))).length, 3)
      assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(pool.getN(4)))), "BorrowTimeout")
      yield* settle
      assert.strictEqual((yield* Effect.scoped(pool.getN(4))).length, 4)
      assert.strictEqual((yield* books(source, pool)).borrowed, 7)
    }))

  it.effect("Closed: while it waits, with some that are kept for it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { pool, source, three } = yield* Scope.provide(waiting({ drainTimeout: "1 hour" }), scope)
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(endings([three]), ["Closed"])
      assert.deepStrictEqual((yield* pool.stats).recycled, { "pool closed": 2 })
      closedBooks(source)
      assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(pool.getN(1)))), "Closed")
    }))

  it.effect("Suspended: those who wait as well, when whenSuspended is fail", () =>
    Effect.gen(function*() {
      const { events, pool, three, unused } = yield* waiting({ whenSuspended: "fail" })
      yield* pool.suspend
      yield* settle
      assert.deepStrictEqual(endings([three]), ["Suspended"])
      yield* unused
      assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(pool.getN(2)))), "Suspended")
      yield* settle
      assert.deepStrictEqual(refusals(events), ["Suspended", "Suspended", "Suspended", "Suspended", "Suspended"])
    }))

  it.effect("suspended, it waits, and has all of them when the pool goes on", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(2, { max: 2 })
      yield* pool.suspend
      const two = yield* group(pool, 2)
      assert.deepStrictEqual([two.items, (yield* pool.stats).idle], [undefined, 2])
      yield* pool.resume
      yield* settle
      assert.deepStrictEqual(sorted(two.items), [1, 2])
      yield* two.letGo
      yield* books(source, pool)
    }))

  it.effect("E7: when the pool becomes too small for it, it fails at once and not at its time", () =>
    Effect.gen(function*() {
      const { events, pool, three, unused } = yield* waiting({ borrowTimeout: "Infinity" })
      yield* pool.resize({ max: 2 })
      yield* settle
      const reason = reasonOf(three.fiber.pollUnsafe())
      assert.deepStrictEqual(
        reason,
        new PoolError.InvalidOptions({
          problems: [{ option: "n", value: 3, allowed: "a whole number from 0 to max, which is 2" }]
        })
      )
      yield* unused
      assert.deepStrictEqual(refusals(events), ["InvalidOptions", "InvalidOptions", "InvalidOptions"])
    }))

  it.effect("E7: so too when it had all of them and has lost one since", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(2, { max: 2, onBorrow: () => Effect.sleep(100) })
      yield* elapse(100)
      yield* settle
      const two = yield* Effect.forkChild(Effect.scoped(pool.getN(2)))
      yield* elapse(50)
      yield* pool.resize({ max: 1 })
      yield* settle
      assert.strictEqual(ending(two.pollUnsafe()), "waits")
      lose(pool, source.opened[0], "lost")
      lose(pool, source.opened[1], "lost")
      yield* elapse(100)
      assert.strictEqual(ending(two.pollUnsafe()), "InvalidOptions")
      source.peakLive = 0
      yield* books(source, pool)
    }))

  it.effect("resized but not below n, it waits on, and is served within the new bounds", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(3, { max: 4 })
      const holders = yield* several(3, pool)
      const two = yield* group(pool, 2)
      yield* pool.resize({ max: 2 })
      for (const { letGo } of holders) yield* letGo
      yield* settle
      assert.strictEqual(two.items?.length, 2)
      yield* two.letGo
      source.peakLive = source.live
      yield* books(source, pool)
    }))
})

describe("an item that a group was handed", () => {
  it.effect("and that dies before the others are there is replaced: the borrower never hears of it", () =>
    Effect.gen(function*() {
      for (const early of ["idle", "handed"] as const) {
        const { pool, source } = yield* filled(2, { max: 2 })
        const holders = early === "idle" ? [yield* borrow(pool)] : yield* several(2, pool)
        const two = yield* group(pool, 2)
        if (early === "handed") yield* holders.pop()!.letGo
        const mine = source.opened.find(({ id }) => id !== holders[0]!.item!.id)!
        yield* elapse(5)
        lose(pool, mine, "lost")
        yield* settle
        assert.deepStrictEqual([two.items, (yield* pool.stats).leases], [undefined, 2], early)
        yield* holders[0]!.letGo
        assert.strictEqual(two.items?.length, 2, early)
        assert.notInclude(two.items!, mine.id)
        yield* two.letGo
        const { recycled, takenBack } = yield* books(source, pool)
        assert.deepStrictEqual([recycled, takenBack], [{ lost: 1 }, 0], early)
      }
    }))

  it.effect("and that dies after all were there, before the borrower runs, is replaced too", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(2, { max: 2 })
      const holder = yield* borrow(pool)
      const two = yield* group(pool, 2)
      holder.fiber.interruptUnsafe()
      assert.strictEqual((yield* pool.stats).pending, 0)
      lose(pool, source.opened[0], "lost")
      assert.strictEqual((yield* pool.stats).pending, 1)
      yield* settle
      assert.deepStrictEqual(sorted(two.items), [2, 3])
      yield* two.letGo
      yield* books(source, pool)
    }))

  it.effect("and that is doomed meanwhile is lent all the same, and goes when it comes back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(2, { max: 2 })
      const holder = yield* borrow(pool)
      const two = yield* group(pool, 2)
      yield* pool.clear
      yield* holder.letGo
      assert.strictEqual(two.items?.length, 2)
      yield* two.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { cleared: 2 })
    }))

  it.effect("and that is doomed meanwhile goes at once when the group gives it up", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* filled(2, { max: 2 })
      const holder = yield* borrow(pool)
      const two = yield* group(pool, 2)
      yield* pool.clear
      yield* Fiber.interrupt(two.fiber)
      yield* settle
      assert.deepStrictEqual(source.closed.filter((id) => id !== holder.item!.id).length, 1)
      yield* holder.letGo
      yield* books(source, pool)
    }))
})

describe("getN where items are shared", () => {
  it.effect("lends different items that nobody else has, and those who share go on with the others", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 3, concurrency: 3 })
      const sharers = yield* several(2, pool)
      assert.deepStrictEqual(sharers.map(({ item }) => item?.id), [1, 1])
      const two = yield* group(pool, 2)
      assert.deepStrictEqual(sorted(two.items), [2, 3])
      const more = yield* borrow(pool)
      assert.strictEqual(more.item?.id, 1)
      const wants = yield* group(pool, 2)
      // One item is drained for it, and one of the first group's comes back.
      yield* two.letGo
      assert.deepStrictEqual(sorted(wants.items), [2, 3])
      yield* wants.letGo
      for (const { letGo } of [...sharers, more]) yield* letGo
      yield* books(source, pool)
    }))

  it.effect("waits for those who share to leave, and is not starved by those who come", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 2, concurrency: 2 })
      const sharers = yield* several(4, pool)
      const two = yield* group(pool, 2)
      const late = yield* several(2, pool)
      for (const { letGo } of sharers) {
        assert.isUndefined(two.items)
        yield* letGo
      }
      assert.deepStrictEqual([sorted(two.items), late.map(({ item }) => item)], [[1, 2], [undefined, undefined]])
      yield* two.letGo
      assert.isDefined(late[0]!.item)
      for (const { letGo } of late) yield* letGo
      yield* books(source, pool)
    }))
})

describe("onBorrow of a group", () => {
  it.effect("runs for each item once all are there, one after the other, and then the borrower has them", () =>
    Effect.gen(function*() {
      const hook = new Hook()
      const { before, pool, source } = yield* filled(2, { max: 2, onBorrow: hook.run })
      const holder = yield* borrow(pool)
      hook.begun.length = 0
      hook.otherwise = () => Effect.sleep(100)
      const two = yield* group(pool, 2)
      assert.deepStrictEqual(hook.begun, [])
      yield* holder.letGo
      assert.deepStrictEqual([hook.begun.length, hook.running], [1, 1])
      yield* elapse(100)
      assert.deepStrictEqual([two.items, hook.begun.length, (yield* pool.stats).borrowed], [
        undefined,
        2,
        before.borrowed + 1
      ])
      yield* elapse(100)
      assert.deepStrictEqual(sorted(two.items), [1, 2])
      yield* two.letGo
      yield* books(source, pool)
    }))

  it.effect("that fails for one ends the borrowing: those it has touched go, the others are as they were", () =>
    Effect.gen(function*() {
      const [hook, onReturn] = [new Hook(), new Hook()]
      const { before, events, pool, source } = yield* filled(3, {
        max: 3,
        order: "fifo",
        onBorrow: hook.run,
        onReturn: onReturn.run
      })
      onReturn.begun.length = 0
      hook.answers.set(2, () => Effect.andThen(Effect.yieldNow, Effect.die("bad")))
      const exit = yield* Effect.exit(Effect.scoped(pool.getN(3)))
      assert.strictEqual(ending(exit), "HookFailed")
      const { borrowed, idle, recycled, returned } = yield* books(source, pool)
      assert.deepStrictEqual({ idle, recycled }, { idle: 1, recycled: { "onBorrow failed": 1, "borrow given up": 1 } })
      assert.deepStrictEqual([borrowed, returned, onReturn.begun], [before.borrowed, before.returned, []])
      assert.deepStrictEqual([hook.begun.slice(-2), sorted(source.closed)], [[1, 2], [1, 2]])
      assert.deepStrictEqual(refusals(events), ["HookFailed", "HookFailed", "HookFailed"])
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 3)
    }))

  it.effect("has what is left of the borrower's time, for all together", () =>
    Effect.gen(function*() {
      const hook = new Hook()
      const { pool, source } = yield* filled(3, { max: 3, borrowTimeout: 1000, onBorrow: hook.run })
      hook.otherwise = () => Effect.sleep(400)
      const fiber = yield* Effect.forkChild(Effect.scoped(pool.getN(3)))
      yield* elapse(999)
      assert.strictEqual(ending(fiber.pollUnsafe()), "waits")
      yield* elapse(1)
      assert.strictEqual(ending(fiber.pollUnsafe()), "HookFailed")
      assert.strictEqual(hook.running, 0)
      yield* books(source, pool)
    }))

  it.effect("that has passed is not run again when another of them dies; for the new one it is", () =>
    Effect.gen(function*() {
      const hook = new Hook()
      const { pool, source } = yield* filled(2, { max: 2, order: "fifo", onBorrow: hook.run })
      hook.begun.length = 0
      hook.answers.set(2, () => Effect.never)
      const two = yield* group(pool, 2)
      assert.deepStrictEqual(hook.begun, [1, 2])
      lose(pool, source.opened[1], "lost")
      yield* settle
      assert.deepStrictEqual([two.items, hook.begun, hook.running], [[1, 3], [1, 2, 3], 0])
      yield* two.letGo
      yield* books(source, pool)
    }))

  it.effect("when an item dies whose hook has passed, that one is asked for again", () =>
    Effect.gen(function*() {
      const hook = new Hook()
      const { pool, source } = yield* filled(2, { max: 2, order: "fifo", onBorrow: hook.run })
      hook.begun.length = 0
      hook.answers.set(2, () => Effect.sleep(100))
      const two = yield* group(pool, 2)
      lose(pool, source.opened[0], "lost")
      yield* settle
      yield* elapse(100)
      assert.deepStrictEqual([two.items, hook.begun], [[3, 2], [1, 2, 3]])
      yield* two.letGo
      yield* books(source, pool)
    }))
})

describe("a BorrowTimeout of getN", () => {
  it.effect("J6: speaks of a nested borrow only where the fiber holds items of an earlier one", () =>
    Effect.gen(function*() {
      const { pool } = yield* filled(2, { max: 2, borrowTimeout: 1000 })
      const messageOf = (exit: Exit.Exit<unknown, unknown> | undefined) =>
        exit !== undefined && Exit.isFailure(exit) ? (Cause.squash(exit.cause) as PoolError.PoolError).message : ""
      const holder = yield* borrow(pool)
      const alone = yield* Effect.forkChild(Effect.scoped(pool.getN(2)))
      yield* elapse(1000)
      assert.deepInclude(reasonOf(alone.pollUnsafe())!, { own: 0, phase: "waiting" })
      assert.notInclude(messageOf(alone.pollUnsafe()), "itself")
      yield* holder.letGo
      const nested = yield* Effect.forkChild(Effect.scoped(Effect.andThen(pool.getN(2), pool.getN(1))))
      yield* elapse(1000)
      assert.deepInclude(reasonOf(nested.pollUnsafe())!, { own: 2 })
      assert.include(messageOf(nested.pollUnsafe()), "a nested borrow that cannot succeed")
      const half = yield* Effect.forkChild(Effect.scoped(Effect.andThen(pool.get, pool.getN(2))))
      yield* elapse(1000)
      assert.deepInclude(reasonOf(half.pollUnsafe())!, { own: 1 })
      assert.include(messageOf(half.pollUnsafe()), "this fiber itself holds 1 item")
    }))
})

describe("getN interrupted at every operation", () => {
  for (
    const [what, options] of Object.entries<Settings>({
      "of idle items": {},
      "with hooks": { onBorrow: () => Effect.andThen(Effect.yieldNow, Effect.yieldNow) },
      "of items that are opened": { min: 0 }
    })
  ) {
    it.effect(`${what}, loses nothing and uses nothing that it has not got`, () =>
      Effect.gen(function*() {
        const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const { pool, source } = yield* make({ max: 3, min: 3, ...options })
          const fiber = yield* run(Effect.scoped(Effect.andThen(pool.getN(3), Effect.yieldNow)))
          const next = yield* group(pool, 3)
          yield* Fiber.await(fiber)
          yield* settle
          assert.strictEqual(next.items?.length, 3, at)
          yield* next.letGo
          const { borrowed } = yield* books(source, pool)
          assert.include([3, 6], borrowed, at)
        }, Effect.scoped))
        assert.isAbove(operations, 3)
      }))
  }

  it.effect("while one of its items dies and others come, loses nothing", () =>
    interruptAtEvery(Effect.fnUntraced(function*(run, at) {
      const { pool, source } = yield* filled(3, { max: 3 })
      const holders = yield* several(2, pool)
      const fiber = yield* run(Effect.scoped(Effect.andThen(pool.getN(3), Effect.yieldNow)))
      yield* settle
      const mine = source.opened.find(({ id }) => holders.every(({ item }) => item!.id !== id))!
      yield* holders[0]!.letGo
      lose(pool, mine, "lost")
      yield* settle
      yield* holders[1]!.letGo
      yield* Fiber.await(fiber)
      const next = yield* group(pool, 3)
      assert.strictEqual(next.items?.length, 3, at)
      yield* next.letGo
      yield* books(source, pool)
    }, Effect.scoped)))
})
