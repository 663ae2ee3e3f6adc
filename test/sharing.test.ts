/** Items that several borrowers have at once, and leases that share with nobody. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Pool, Schedule, Scope, Semaphore } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, type Borrower, closedBooks, elapse, ending, endings, several } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { insideOf, itemsOf } from "./kit/modelInside.ts"
import { record, recycled, told } from "./kit/observe.ts"
import { Rng } from "./kit/random.ts"

type Options = Partial<QueuePool.Options<Thing, Refused>>
type Things = QueuePool.QueuePool<Thing, Refused>

/** A pool of two places to an item, if the options say nothing else. */
const shared = Effect.fnUntraced(function*(options: Options) {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, concurrency: 2, ...options })
  // A test that has failed must not wait for its borrowers.
  yield* Effect.addFinalizer(() => Effect.forkDetach(elapse("1 minute")))
  return { source, pool }
})

/** The same pool for the kit's borrowers, who then share with nobody. */
const alone = <A, E>(pool: QueuePool.QueuePool<A, E>): QueuePool.QueuePool<A, E> =>
  Object.create(pool, { use: { value: pool.useExclusive } })

/** Which item each of them has. */
const items = (borrowers: ReadonlyArray<Borrower<Thing, unknown>>) => borrowers.map(({ item }) => item?.id)

/** A shared item takes one more, at once. */
const roomIsThere = (pool: Things) =>
  Effect.map(pool.useIfAvailable(Effect.succeed), ({ _tag }) => assert.strictEqual(_tag, "Some"))

const letAllGo = (borrowers: ReadonlyArray<Borrower<unknown, unknown>>) =>
  Effect.forEach(borrowers, ({ letGo }) => letGo, { discard: true })

describe("concurrency", () => {
  it.effect("so many borrowers have one item and no more, and the rest are served in their order", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 3 })
      const borrowers = yield* several(6, pool)
      assert.deepStrictEqual(items(borrowers), [1, 1, 1, undefined, undefined, undefined])
      const { idle, leases, pending, used } = yield* pool.stats
      assert.deepStrictEqual({ idle, leases, pending, used }, { idle: 0, leases: 3, pending: 3, used: 1 })
      yield* borrowers[1]!.letGo
      assert.deepStrictEqual(items(borrowers).slice(3), [1, undefined, undefined])
      yield* borrowers[0]!.letGo
      assert.deepStrictEqual(items(borrowers).slice(3), [1, 1, undefined])
      yield* letAllGo(borrowers)
      const stats = yield* books(source, pool)
      assert.deepStrictEqual([stats.idle, stats.borrowed, stats.leases, source.opened.length], [1, 6, 0, 1])
    }))

  it.effect("several leases that end at once serve as many waiters", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 4 })
      const holders = yield* several(4, pool)
      const waiters = yield* several(5, pool)
      for (const { fiber } of holders) fiber.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual(items(waiters), [1, 1, 1, 1, undefined])
      yield* letAllGo(waiters)
      yield* books(source, pool)
    }))

  it.effect("an idle item goes before a shared one, a shared one before an open, the least loaded first", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 3, concurrency: 3, min: 2 })
      yield* settle
      const [a, b, c, d] = yield* several(4, pool)
      // Two that were idle, and then each gets a second one.
      assert.deepStrictEqual(new Set(items([a!, b!])), new Set([1, 2]))
      assert.deepStrictEqual(new Set(items([c!, d!])), new Set([1, 2]))
      const first = a!.item!.id
      const e = yield* borrow(pool)
      const f = yield* borrow(pool)
      assert.deepStrictEqual(new Set(items([e, f])), new Set([1, 2]))
      assert.strictEqual(source.opened.length, 2)
      // All are full now.
      const g = yield* borrow(pool)
      assert.strictEqual(g.item?.id, 3)
      // One of three has left, and one of one: the new item is the least loaded.
      yield* a!.letGo
      const h = yield* borrow(pool)
      assert.strictEqual(h.item?.id, 3)
      const i = yield* borrow(pool)
      assert.include([first, 3], i.item?.id)
      const all = [b!, c!, d!, e, f, g, h, i]
      yield* letAllGo(all)
      assert.strictEqual((yield* books(source, pool)).idle, 3)
    }))

  it.effect("an idle item that needs a check does not keep a borrower from a shared one", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({
        max: 2,
        min: 2,
        check: () => Effect.never,
        checkAfter: 1000,
        checkTimeout: "1 minute"
      })
      yield* settle
      const first = yield* borrow(pool)
      yield* elapse(1000)
      const second = yield* borrow(pool)
      assert.deepStrictEqual(items([first, second]), [first.item!.id, first.item!.id])
      yield* letAllGo([first, second])
      yield* elapse("1 minute")
      yield* books(source, pool)
    }))

  it.effect("opens are not started for those whom the rooms of an open under way will serve", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 9, concurrency: 3, openConcurrency: 9 })
      source.opensOtherwise = { slow: 10 }
      const borrowers = yield* several(7, pool)
      assert.strictEqual(source.attempts, 3)
      const lone = yield* borrow(alone(pool))
      assert.strictEqual(source.attempts, 4)
      yield* elapse(10)
      assert.deepStrictEqual(endings([...borrowers, lone]), Array.from({ length: 8 }, () => "waits"))
      // Seven have three items between them, and the fourth is the other's.
      assert.strictEqual(new Set(items(borrowers)).size, 3)
      assert.notInclude(items(borrowers), lone.item!.id)
      yield* letAllGo([...borrowers, lone])
      yield* books(source, pool)
    }))

  it.effect("nor for those whom an item that is being checked will serve", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 9, check: () => Effect.sleep(10), checkAfter: 1000 })
      yield* pool.use(() => Effect.void)
      yield* elapse(1000)
      const borrowers = yield* several(2, pool)
      assert.strictEqual(source.attempts, 1)
      source.opensOtherwise = { slow: 20 }
      const third = yield* borrow(pool)
      assert.strictEqual(source.attempts, 2)
      yield* elapse(10)
      assert.deepStrictEqual(items([...borrowers, third]), [1, 1, undefined])
      yield* elapse(10)
      assert.deepStrictEqual(items([third]), [2])
      yield* letAllGo([...borrowers, third])
      yield* books(source, pool)
    }))

  it.effect("the trial of a swap is an open for nobody who waits", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2 })
      const swap = yield* Effect.forkChild(pool.swap(Effect.never))
      yield* settle
      const borrower = yield* borrow(pool)
      assert.strictEqual(borrower.item?.id, 1)
      yield* Fiber.interrupt(swap)
      yield* borrower.letGo
      yield* elapse("1 minute")
      assert.strictEqual((yield* pool.stats).idle, 1)
      assert.strictEqual(source.live, 1)
    }))

  it.effect("maxWaiters counts those whom no open and no room of one will serve", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 3, maxWaiters: 1 })
      source.opens.push({ slow: 10 })
      const borrowers = yield* several(5, pool)
      assert.deepStrictEqual(endings(borrowers), ["waits", "waits", "waits", "waits", "TooManyWaiters"])
      const lone = yield* borrow(alone(pool))
      assert.deepStrictEqual(endings([lone]), ["TooManyWaiters"])
      yield* elapse(10)
      assert.deepStrictEqual(items(borrowers), [1, 1, 1, undefined, undefined])
      yield* letAllGo(borrowers.slice(0, 4))
      yield* books(source, pool)
    }))

  it.effect("maxWaiters: nor one for whom an open was begun that another was promised", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 3, concurrency: 4, maxWaiters: 0 })
      source.opensOtherwise = { slow: 10 }
      const sharers = yield* several(2, pool)
      const lone = yield* borrow(alone(pool))
      const more = yield* several(2, pool)
      const last = yield* borrow(alone(pool))
      assert.deepStrictEqual([endings([...sharers, lone, ...more, last]), source.attempts], [
        Array.from({ length: 6 }, () => "waits"),
        3
      ])
      assert.deepStrictEqual(endings([yield* borrow(pool), yield* borrow(alone(pool))]), [
        "TooManyWaiters",
        "TooManyWaiters"
      ])
      yield* elapse(10)
      assert.isTrue([...sharers, lone, ...more, last].every(({ item }) => item !== undefined))
      yield* letAllGo([...sharers, lone, ...more, last])
      yield* books(source, pool)
    }))

  it.effect("maxWaiters: who has lost its open keeps nobody from the room of another", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, maxWaiters: 0, retry: Schedule.spaced(1000) })
      source.opens.push({ slow: 100 }, "fail")
      const sharer = yield* borrow(pool)
      const lone = yield* borrow(alone(pool))
      const next = yield* borrow(pool)
      assert.deepStrictEqual(endings([sharer, lone, next]), ["waits", "waits", "waits"])
      yield* elapse(100)
      assert.deepStrictEqual(items([sharer, lone, next]), [1, 3, 1])
      yield* letAllGo([sharer, lone, next])
      yield* books(source, pool)
    }))

  it.effect("maxWaiters 0 fills the rooms of an open, and never queues", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, maxWaiters: 0 })
      source.opens.push({ slow: 10 })
      const first = yield* borrow(alone(pool))
      const next = yield* borrow(pool)
      assert.deepStrictEqual(endings([first, next]), ["waits", "TooManyWaiters"])
      first.fiber.interruptUnsafe()
      const borrowers = yield* several(3, pool)
      assert.deepStrictEqual(endings(borrowers), ["waits", "waits", "TooManyWaiters"])
      yield* elapse(10)
      assert.deepStrictEqual(items(borrowers), [1, 1, undefined])
      yield* borrowers[0]!.letGo
      // Refused at once, it keeps nobody from the room that is there.
      const refused = yield* borrow(alone(pool))
      assert.deepStrictEqual(endings([refused]), ["TooManyWaiters"])
      yield* roomIsThere(pool)
      const last = yield* borrow(pool)
      assert.strictEqual(last.item?.id, 1)
      yield* letAllGo([borrowers[1]!, last])
      yield* books(source, pool)
    }))

  it.effect("an open that fails tells the borrower it was for, and the next is for the others", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 3 })
      source.opens.push("fail", { slow: 10 })
      const borrowers = yield* several(4, pool)
      assert.deepStrictEqual(endings(borrowers), ["Refused", "waits", "waits", "waits"])
      yield* elapse(10)
      assert.deepStrictEqual(items(borrowers), [undefined, 2, 2, 2])
      yield* letAllGo(borrowers.slice(1))
      yield* books(source, pool)
    }))

  it.effect("B2: when all opens fail, every borrower is answered", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, concurrency: 3 })
      source.opensOtherwise = "fail"
      const borrowers = [...yield* several(7, pool), yield* borrow(alone(pool))]
      assert.deepStrictEqual(endings(borrowers), Array.from({ length: 8 }, () => "Refused"))
      assert.strictEqual(source.attempts, 8)
      yield* books(source, pool)
    }))

  it.effect("with retry they all wait for one road, and one open serves them", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 4, concurrency: 3, retry: Schedule.spaced(100) })
      source.opens.push("fail", "fail")
      const borrowers = yield* several(3, pool)
      yield* elapse(100)
      assert.deepStrictEqual([items(borrowers), source.attempts], [[undefined, undefined, undefined], 2])
      yield* elapse(100)
      assert.deepStrictEqual([items(borrowers), source.attempts], [[3, 3, 3], 3])
      yield* letAllGo(borrowers)
      yield* books(source, pool)
    }))

  it.effect("what a smaller max leaves too many takes no newcomer", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2 })
      const borrowers = yield* several(4, pool)
      yield* pool.resize({ max: 1 })
      yield* borrowers[0]!.letGo
      yield* borrowers[2]!.letGo
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual(items([waiter]), [undefined])
      yield* borrowers[1]!.letGo
      assert.deepStrictEqual([items([waiter]), source.closed.length], [[borrowers[3]!.item!.id], 1])
      yield* letAllGo([waiter, borrowers[3]!])
      assert.deepStrictEqual([(yield* pool.stats).idle, source.live], [1, 1])
    }))

  it.effect("nobody joins while the pool is suspended, and all do when it goes on", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 9, concurrency: 4 })
      const holder = yield* borrow(pool)
      yield* pool.suspend
      const waiters = [yield* borrow(pool), yield* borrow(alone(pool)), ...yield* several(2, pool)]
      assert.deepStrictEqual(items(waiters), [undefined, undefined, undefined, undefined])
      yield* pool.resume
      yield* settle
      // Who shares joins; who does not gets an open rather than what is shared.
      assert.deepStrictEqual(items(waiters), [1, 2, 1, 1])
      yield* pool.suspend
      const others = [yield* borrow(alone(pool)), yield* borrow(pool)]
      yield* waiters[0]!.letGo
      yield* pool.resume
      yield* settle
      assert.deepStrictEqual([items(others), source.attempts], [[3, 1], 3])
      yield* letAllGo([holder, ...waiters, ...others])
      yield* books(source, pool)
    }))

  it.effect("getIfAvailable takes room, and none when there is none or it is kept for another", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1 })
      const holder = yield* borrow(pool)
      const available = Effect.map(pool.useIfAvailable(Effect.succeed), ({ _tag }) => _tag)
      assert.strictEqual(yield* available, "Some")
      const lone = yield* borrow(alone(pool))
      assert.strictEqual(yield* available, "None")
      lone.fiber.interruptUnsafe()
      assert.strictEqual(yield* available, "Some")
      const second = yield* borrow(pool)
      assert.strictEqual(yield* available, "None")
      yield* letAllGo([holder, second])
      yield* books(source, pool)
    }))

  it.effect("two items lost in one step put their borrowers back in the order in which they came", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 3 })
      const holders = yield* several(3, pool)
      const order: Array<number> = []
      const waiters = yield* Effect.forEach(
        [1, 2, 3, 4],
        (n) => Effect.forkChild(pool.use(() => Effect.sync(() => order.push(n))), { startImmediately: true })
      )
      source.opensOtherwise = { slow: 10 }
      for (const { fiber } of holders) fiber.interruptUnsafe()
      assert.strictEqual((yield* pool.stats).pending, 1)
      // Three have been handed the item, and none has run yet.
      lose(pool, source.opened[0], "died")
      yield* elapse(10)
      yield* Fiber.awaitAll(waiters)
      assert.deepStrictEqual(order, [1, 2, 3, 4])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { died: 1 })
    }))
})

describe("targetUtilization", () => {
  it.effect("opens as many as effect's Pool does, whatever the concurrency", () =>
    Effect.gen(function*() {
      for (const concurrency of [1, 2, 3, 4, 7]) {
        for (const targetUtilization of [0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 1]) {
          const [ours, theirs] = [new Source(), new Source()]
          const options = { min: 0, max: 20, concurrency, targetUtilization }
          const pool = yield* QueuePool.make({ ...options, acquire: ours.acquire, openConcurrency: 20 })
          const effects = yield* Pool.makeWithTTL({ ...options, acquire: theirs.acquire, timeToLive: "1 hour" })
          const scope = yield* Scope.make()
          const opened: Array<readonly [number, number]> = []
          for (let n = 1; n <= 14; n++) {
            yield* Effect.forkIn(Scope.provide(pool.get, scope), scope)
            yield* Effect.forkIn(Scope.provide(Pool.get(effects), scope), scope)
            yield* settle
            yield* settle
            opened.push([ours.live, theirs.live])
          }
          const what = `concurrency ${concurrency}, targetUtilization ${targetUtilization}`
          assert.deepStrictEqual(opened.map(([one]) => one), opened.map(([, other]) => other), what)
          yield* Scope.close(scope, Exit.void)
        }
      }
    }))

  it.effect("counts who waits, and a lease that shares with nobody as the whole of its item", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 9, concurrency: 4, targetUtilization: 0.5, openConcurrency: 9 })
      const lone = yield* borrow(alone(pool))
      assert.strictEqual(source.live, 2)
      const others = yield* several(2, alone(pool))
      assert.strictEqual(source.live, 6)
      // Two of the four places of a seventh are half of it.
      const sharers = yield* several(2, pool)
      assert.strictEqual(source.live, 7)
      yield* letAllGo([lone, ...others, ...sharers])
      yield* elapse(1000)
      yield* pool.clear
      yield* settle
      source.opensOtherwise = { slow: 10 }
      const attempts = source.attempts
      const waiter = yield* borrow(alone(pool))
      assert.strictEqual(source.attempts - attempts, 2)
      yield* elapse(10)
      yield* waiter.letGo
      yield* books(source, pool)
    }))

  it.effect("counts those who share and wait; and not those whose item was lost", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 9, concurrency: 4, targetUtilization: 0.5, openConcurrency: 9 })
      source.opensOtherwise = { slow: 10 }
      const sharers = yield* several(4, pool)
      assert.strictEqual(source.attempts, 2)
      yield* elapse(10)
      const [first] = items(sharers)
      lose(pool, source.opened.find(({ id }) => id === first), "died")
      yield* letAllGo(sharers)
      yield* elapse(1000)
      yield* pool.clear
      const { attempts } = source
      const lone = yield* borrow(alone(pool))
      assert.strictEqual(source.attempts, attempts + 2)
      yield* elapse(10)
      yield* lone.letGo
      yield* books(source, pool)
    }))

  it.effect("never above max, and one more is not opened for a rounding", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 12, concurrency: 7, targetUtilization: 0.7, openConcurrency: 12 })
      const borrowers = yield* several(49, pool)
      assert.strictEqual(source.live, 10)
      const more = yield* several(20, pool)
      assert.strictEqual(source.live, 12)
      yield* letAllGo([...borrowers, ...more])
      yield* books(source, pool)
    }))

  it.effect("what is opened ahead and fails is tried again after the delay of a refill", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 4, concurrency: 1, targetUtilization: 0.5 })
      source.opens.push("ok", "fail")
      const borrower = yield* borrow(pool)
      assert.deepStrictEqual([source.attempts, source.live], [2, 1])
      yield* elapse(100)
      assert.deepStrictEqual([source.attempts, source.live], [3, 2])
      yield* borrower.letGo
      yield* books(source, pool)
    }))
})

describe("an exclusive lease", () => {
  it.effect("waits until the item is its own, and nobody joins meanwhile or while it lasts", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 3 })
      const holders = yield* several(2, pool)
      const lone = yield* borrow(alone(pool))
      const late = yield* several(2, pool)
      assert.deepStrictEqual(items([lone, ...late]), [undefined, undefined, undefined])
      yield* holders[0]!.letGo
      assert.deepStrictEqual(items([lone, ...late]), [undefined, undefined, undefined])
      yield* holders[1]!.letGo
      assert.deepStrictEqual(items([lone, ...late]), [1, undefined, undefined])
      const { leases, used } = yield* pool.stats
      assert.deepStrictEqual({ leases, used }, { leases: 1, used: 1 })
      yield* lone.letGo
      assert.deepStrictEqual(items(late), [1, 1])
      yield* letAllGo(late)
      yield* books(source, pool)
    }))

  it.effect("takes an idle item at once, and with a concurrency of 1 is like any other", () =>
    Effect.gen(function*() {
      for (const concurrency of [1, 2]) {
        const { pool, source } = yield* shared({ max: 2, concurrency })
        yield* pool.use(() => Effect.void)
        assert.strictEqual(yield* pool.useExclusive(({ id }) => Effect.succeed(id)), 1)
        yield* Effect.scoped(Effect.gen(function*() {
          assert.strictEqual((yield* pool.getExclusive).id, 1)
          // Also for one and the same fiber.
          assert.strictEqual((yield* pool.get).id, 2)
          const waiter = yield* borrow(alone(pool))
          assert.isUndefined(waiter.item)
          waiter.fiber.interruptUnsafe()
        }))
        assert.strictEqual((yield* books(source, pool)).idle, 2)
      }
    }))

  it.effect("is better opened than taken from those who share", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, concurrency: 3 })
      const holder = yield* borrow(pool)
      source.opens.push({ slow: 10 })
      const lone = yield* borrow(alone(pool))
      const joined = yield* borrow(pool)
      assert.deepStrictEqual([items([joined]), source.attempts], [[1], 2])
      yield* elapse(10)
      assert.deepStrictEqual(items([lone]), [2])
      yield* letAllGo([holder, lone, joined])
      yield* books(source, pool)
    }))

  it.effect("keeps nobody from an item any more when an open begins for it", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 3, concurrency: 3, openConcurrency: 1 })
      const holder = yield* borrow(pool)
      source.opensOtherwise = { slow: 10 }
      const [first, second] = yield* several(2, alone(pool))
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual([items([waiter]), source.attempts], [[undefined], 2])
      yield* elapse(10)
      assert.deepStrictEqual([items([first!, second!, waiter]), source.attempts], [[2, undefined, 1], 3])
      yield* elapse(10)
      assert.deepStrictEqual(items([second!]), [3])
      yield* letAllGo([holder, first!, second!, waiter])
      yield* books(source, pool)
    }))

  it.effect("while opens fail, is given what comes back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 3, retry: Schedule.spaced(100) })
      const holder = yield* borrow(pool)
      source.opensOtherwise = "fail"
      const lone = yield* borrow(alone(pool))
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual(items([lone, waiter]), [undefined, undefined])
      yield* holder.letGo
      assert.deepStrictEqual(items([lone]), [1])
      yield* lone.letGo
      assert.deepStrictEqual(items([waiter]), [1])
      yield* waiter.letGo
      yield* elapse(200)
      yield* books(source, pool)
    }))

  it.effect("does not delay one who shares and came before it", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1 })
      const holders = yield* several(2, pool)
      const [before, lone, after] = [yield* borrow(pool), yield* borrow(alone(pool)), yield* borrow(pool)]
      yield* holders[0]!.letGo
      assert.deepStrictEqual(items([before, lone, after]), [1, undefined, undefined])
      yield* holders[1]!.letGo
      assert.deepStrictEqual(items([lone, after]), [undefined, undefined])
      yield* before.letGo
      assert.deepStrictEqual(items([lone, after]), [1, undefined])
      yield* lone.letGo
      assert.deepStrictEqual(items([after]), [1])
      yield* after.letGo
      yield* books(source, pool)
    }))

  it.effect("is not starved by a stream of those who share", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, concurrency: 3 })
      const running = yield* several(4, pool)
      const lone = yield* borrow(alone(pool))
      for (let round = 0; lone.item === undefined; round++) {
        assert.isBelow(round, 6)
        running.push(yield* borrow(pool))
        yield* running.shift()!.letGo
      }
      // The others went on meanwhile, on the other item.
      assert.include(items(running), 3 - lone.item.id)
      assert.notInclude(items(running), lone.item.id)
      yield* lone.letGo
      yield* letAllGo(running)
      yield* books(source, pool)
    }))

  it.effect("does not starve those who share, however many come", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1 })
      const order: Array<string> = []
      const lines = yield* Effect.forEach(
        Array.from({ length: 12 }, (_, n) => n),
        (n) => borrow(n % 3 === 2 ? pool : alone(pool))
      )
      for (const [n, line] of lines.entries()) {
        assert.isDefined(line.item, `the ${n}th has its turn`)
        order.push(items(lines.slice(n + 1)).join())
        yield* line.letGo
      }
      assert.isTrue(order.every((others) => /^,*$/.test(others)))
      yield* books(source, pool)
    }))

  it.effect("several drain several items at once, the least loaded first", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 3, concurrency: 3 })
      const holders = yield* several(9, pool)
      const byItem = (id: number) => holders.filter(({ item }) => item?.id === id)
      yield* byItem(2)[0]!.letGo
      yield* byItem(2)[0]!.letGo
      yield* byItem(3)[0]!.letGo
      // Items 1, 2 and 3 have three, one and two.
      const [first, second] = yield* several(2, alone(pool))
      const sharers = yield* several(2, pool)
      yield* byItem(1)[0]!.letGo
      assert.deepStrictEqual(items([first!, second!, ...sharers]), [undefined, undefined, 1, undefined])
      for (const { letGo } of byItem(2)) yield* letGo
      // What is full is full, and the other drains still.
      assert.deepStrictEqual(items([first!, second!, ...sharers]), [2, undefined, 1, undefined])
      yield* byItem(1)[1]!.letGo
      assert.deepStrictEqual(items(sharers), [1, 1])
      for (const { letGo } of byItem(3)) yield* letGo
      assert.deepStrictEqual(items([first!, second!]), [2, 3])
      yield* letAllGo([...holders, first!, second!, ...sharers])
      yield* books(source, pool)
    }))

  it.effect("drains nothing when an open is under way that one who shares does not need", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 4 })
      const holders = yield* several(2, pool)
      source.opensOtherwise = { slow: 10 }
      const first = yield* borrow(alone(pool))
      const sharers = yield* several(2, pool)
      const second = yield* borrow(alone(pool))
      assert.strictEqual(source.attempts, 4)
      yield* holders[0]!.letGo
      assert.deepStrictEqual(items([first, ...sharers, second]), [undefined, 1, undefined, undefined])
      yield* elapse(10)
      assert.notInclude(items([first, ...sharers, second]), undefined)
      yield* letAllGo([...holders, first, ...sharers, second])
      yield* books(source, pool)
    }))

  it.effect("those that go on waiting when the pool is resumed drain what they need", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 9, openConcurrency: 1 })
      const holder = yield* borrow(pool)
      yield* pool.suspend
      const both = yield* several(2, alone(pool))
      source.opensOtherwise = { slow: 10 }
      yield* pool.resume
      assert.deepStrictEqual(Array.from(insideOf(pool).state.sharing.draining, ({ id }) => id), [1])
      yield* elapse(20)
      assert.deepStrictEqual(items(both), [2, 3])
      yield* letAllGo([holder, ...both])
      yield* books(source, pool)
    }))

  for (const how of ["is interrupted", "runs out of time", "is served by another item"] as const) {
    it.effect(`when it ${how}, the room that was kept for it is given to waiters at once`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* shared({ max: 2, concurrency: 3, borrowTimeout: 1000 })
        const holders = yield* several(3, pool)
        const first = yield* several(2, alone(pool))
        // One has the other item by an open; the second drains the first item.
        yield* settle
        assert.deepStrictEqual(items(first), [2, undefined])
        yield* elapse(500)
        yield* holders[0]!.letGo
        const waiters = yield* several(2, pool)
        assert.deepStrictEqual(items(waiters), [undefined, undefined])
        if (how === "is interrupted") first[1]!.fiber.interruptUnsafe()
        else if (how === "runs out of time") yield* elapse(500)
        else yield* first[0]!.letGo
        yield* settle
        assert.deepStrictEqual(items(waiters), [1, undefined])
        yield* letAllGo([...first, ...holders, ...waiters])
        yield* books(source, pool)
      }))
  }

  it.effect("served by another item, it keeps no newcomer from the one that drained for it", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, concurrency: 3 })
      const holder = yield* borrow(pool)
      const [first, second] = yield* several(2, alone(pool))
      yield* first!.letGo
      assert.deepStrictEqual(items([first!, second!]), [2, 2])
      yield* roomIsThere(pool)
      yield* letAllGo([holder, second!])
      yield* books(source, pool)
    }))

  it.effect("when one of several leaves, the item that has drained for longest goes on", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, concurrency: 3 })
      const holders = yield* several(5, pool)
      yield* holders[0]!.letGo
      yield* holders[1]!.letGo
      assert.deepStrictEqual(items(holders), [1, 1, 1, 2, 2])
      // Item 1 drains for it, and item 2 for the next.
      const first = yield* borrow(alone(pool))
      const others = yield* several(3, alone(pool))
      const sharer = yield* borrow(pool)
      assert.deepStrictEqual(items([first, ...others, sharer]), Array.from({ length: 5 }, () => undefined))
      for (const { fiber } of others.toReversed()) {
        fiber.interruptUnsafe()
        yield* settle
      }
      // As if they had never come.
      assert.deepStrictEqual(items([first, sharer]), [undefined, 2])
      yield* holders[2]!.letGo
      assert.deepStrictEqual(items([first]), [1])
      yield* letAllGo([...holders, first, sharer])
      yield* books(source, pool)
    }))

  it.effect("gives up its place when it times out at once, and what was kept for it is free", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, borrowTimeout: 0 })
      yield* Effect.exit(pool.use(() => Effect.void))
      const holder = yield* borrow(pool)
      assert.strictEqual(ending(yield* Effect.exit(pool.useExclusive(() => Effect.void))), "BorrowTimeout")
      yield* roomIsThere(pool)
      yield* holder.letGo
      yield* books(source, pool)
    }))

  it.effect("an item that is doomed while it drains is replaced for it when the last has left", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1 })
      const holders = yield* several(2, pool)
      const lone = yield* borrow(alone(pool))
      yield* pool.invalidate(source.opened[0]!)
      yield* holders[0]!.letGo
      assert.deepStrictEqual([items([lone]), source.closed], [[undefined], []])
      yield* holders[1]!.letGo
      assert.deepStrictEqual([items([lone]), source.closed], [[2], [1]])
      yield* lone.letGo
      yield* books(source, pool)
    }))

  it.effect("closes with the pool, waiting or not", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(
        QueuePool.make({ acquire: source.acquire, concurrency: 2, max: 2, drainTimeout: 1000 }),
        scope
      )
      const lone = yield* borrow(alone(pool))
      const sharers = yield* several(2, pool)
      const waiting = [yield* borrow(alone(pool)), yield* borrow(pool)]
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.deepStrictEqual(endings(waiting), ["Closed", "Closed"])
      assert.strictEqual(ending(yield* Effect.exit(pool.useExclusive(() => Effect.void))), "Closed")
      yield* sharers[0]!.letGo
      assert.deepStrictEqual(source.closed, [])
      yield* lone.letGo
      assert.deepStrictEqual(source.closed, [1])
      yield* elapse(1000)
      assert.isDefined(closing.pollUnsafe())
      const { borrowed, leases, returned, takenBack } = yield* pool.stats
      assert.deepStrictEqual({ borrowed, leases, returned, takenBack }, {
        borrowed: 3,
        leases: 0,
        returned: 2,
        takenBack: 1
      })
      yield* sharers[1]!.letGo
      closedBooks(source)
    }))
})

const exitTag = (exit: Exit.Exit<unknown, unknown>) => exit._tag

/** Borrowers that end as they are told to. */
const ended = Effect.fnUntraced(function*(pool: Things, exit: Exit.Exit<unknown, unknown>) {
  const done = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkChild(pool.use(() => Effect.andThen(Deferred.await(done), exit)))
  yield* settle
  return { fiber, letGo: Effect.andThen(Deferred.succeed(done, undefined), settle) }
})

describe("rules and shared items", () => {
  it.effect("uses: every lease counts, and the item takes no newcomer and goes when the last has left", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, concurrency: 3, recycle: RecyclePolicy.uses(2) })
      const events = yield* record(pool)
      const holders = yield* several(3, pool)
      yield* holders[0]!.letGo
      const joined = yield* borrow(pool)
      assert.deepStrictEqual(items([joined]), [1])
      yield* holders[1]!.letGo
      const other = yield* borrow(pool)
      assert.deepStrictEqual([items([other]), source.closed], [[2], []])
      yield* holders[2]!.letGo
      assert.deepStrictEqual(source.closed, [])
      yield* joined.letGo
      assert.deepStrictEqual([source.closed, recycled(events)], [[1], [[1, "uses"]]])
      yield* other.letGo
      yield* books(source, pool)
    }))

  it.effect("failed: one that failed among those that did not is enough", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 3, recycle: RecyclePolicy.failed })
      const [first, second] = [yield* ended(pool, Exit.fail("bad")), yield* ended(pool, Exit.void)]
      yield* first.letGo
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual([items([waiter]), source.closed], [[undefined], []])
      yield* second.letGo
      assert.deepStrictEqual([items([waiter]), source.closed], [[2], [1]])
      yield* waiter.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { failed: 1 })
    }))

  it.effect("age: who comes too late gets another item, however long the others stay", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, recycle: RecyclePolicy.age(1000, { jitter: 0 }) })
      const holder = yield* borrow(pool)
      yield* elapse(1001)
      const newcomer = yield* borrow(pool)
      assert.deepStrictEqual([items([newcomer]), source.closed], [[2], []])
      yield* holder.letGo
      assert.deepStrictEqual(source.closed, [1])
      yield* newcomer.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { age: 1 })
    }))

  it.effect("age: a return tells too, and then nobody joins", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, recycle: RecyclePolicy.age(1000, { jitter: 0 }) })
      const holders = yield* several(2, pool)
      yield* elapse(1001)
      const waiter = yield* borrow(pool)
      yield* holders[0]!.letGo
      assert.deepStrictEqual(items([waiter]), [undefined])
      yield* holders[1]!.letGo
      assert.deepStrictEqual([items([waiter]), source.closed], [[2], [1]])
      yield* waiter.letGo
      yield* books(source, pool)
    }))

  it.effect("idle: not of an item that somebody has", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, recycle: RecyclePolicy.idle(1000) })
      yield* pool.use(() => Effect.void)
      const holder = yield* borrow(pool)
      yield* elapse(5000)
      const joined = yield* borrow(pool)
      assert.deepStrictEqual(items([joined]), [1])
      yield* letAllGo([holder, joined])
      assert.strictEqual((yield* books(source, pool)).idle, 1)
      yield* elapse(1001)
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("when: asked before each joins; a rule that refuses all lets a new item serve one", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2, concurrency: 4, recycle: RecyclePolicy.when(() => true) })
      const borrowers = yield* several(3, pool)
      assert.deepStrictEqual(items(borrowers), [1, 2, undefined])
      yield* borrowers[0]!.letGo
      assert.deepStrictEqual(items(borrowers), [1, 2, 3])
      yield* letAllGo(borrowers)
      yield* books(source, pool)
    }))

  for (const also of ["older", "all"] as const) {
    it.effect(`also ${also}: shared items go when they are free, and take no newcomer till then`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* shared({
          max: 4,
          concurrency: 3,
          recycle: RecyclePolicy.failedWith(() => true, { also })
        })
        const [first] = yield* several(3, pool)
        const failing = yield* ended(pool, Exit.fail("bad"))
        yield* several(2, pool)
        const third = yield* borrow(pool)
        assert.deepStrictEqual(items([first!, third]), [1, 3])
        yield* failing.letGo
        const newcomers = yield* several(2, pool)
        assert.deepStrictEqual(items(newcomers), also === "older" ? [3, 3] : [4, 4])
        assert.deepStrictEqual(source.closed, [])
        yield* elapse(0)
        assert.strictEqual((yield* pool.stats).leases, 8)
      }))
  }

  it.effect("make before break: who comes too late joins until another is open", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({
        max: 2,
        concurrency: 3,
        replaceTimeout: 1000,
        recycle: RecyclePolicy.age(1000, { jitter: 0 })
      })
      const holder = yield* borrow(pool)
      source.opensOtherwise = { slow: 10 }
      yield* elapse(1001)
      const newcomer = yield* borrow(pool)
      assert.deepStrictEqual([items([newcomer]), source.attempts], [[1], 2])
      yield* elapse(10)
      const late = yield* borrow(pool)
      assert.deepStrictEqual(items([late]), [2])
      yield* letAllGo([holder, newcomer, late])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { age: 1 })
    }))

  describe("a Schedule whose step waits", () => {
    /** Counts leases, each step after so long. */
    const stepped = (millis: number, limit: number, log: Array<string> = []) =>
      RecyclePolicy.schedule(
        Schedule.recurs(limit).pipe(Schedule.tap(({ attempt }) =>
          attempt === 1 ? Effect.void : Effect.acquireUseRelease(
            Effect.sync(() => log.push(`begin ${attempt - 1}`)),
            () => Effect.sleep(millis),
            (_, exit) => Effect.sync(() => log.push(`${exit._tag === "Success" ? "end" : "stop"} ${attempt - 1}`))
          )
        ))
      )

    it.effect("ends the sharing: nobody joins, and the last lease is followed by the rest of it", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const { pool, source } = yield* shared({ max: 1, concurrency: 3, recycle: stepped(100, 3, log) })
        const holders = yield* several(2, pool)
        yield* holders[0]!.letGo
        const waiter = yield* borrow(pool)
        yield* elapse(100)
        assert.deepStrictEqual([items([waiter]), log], [[undefined], ["begin 1", "end 1"]])
        yield* holders[1]!.letGo
        assert.deepStrictEqual(items([waiter]), [undefined])
        yield* elapse(100)
        assert.deepStrictEqual(items([waiter]), [1])
        yield* waiter.letGo
        // With the third lease it is done.
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { schedule: 1 })
      }))

    it.effect("its steps are one after the other, however the leases end", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const { pool, source } = yield* shared({ max: 1, concurrency: 3, recycle: stepped(100, 9, log) })
        yield* letAllGo(yield* several(3, pool))
        yield* elapse(300)
        assert.deepStrictEqual(log, ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"])
        assert.strictEqual((yield* books(source, pool)).idle, 1)
      }))

    it.effect("a lease that failed is not forgotten for those that follow", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* shared({
          max: 1,
          recycle: [RecyclePolicy.failed, stepped(100, 9)]
        })
        const [first, second] = [yield* ended(pool, Exit.fail("bad")), yield* ended(pool, Exit.void)]
        yield* first.letGo
        yield* second.letGo
        yield* elapse(200)
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { failed: 1 })
      }))

    it.effect("what a step acquires lives as long as the item, whichever lease it follows", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const schedule = Schedule.recurs(9).pipe(Schedule.tap(({ attempt }) =>
          Effect.andThen(
            attempt === 1 ? Effect.void : Effect.sleep(100),
            Effect.acquireRelease(
              Effect.sync(() => log.push(`acquire ${attempt}`)),
              () => Effect.sync(() => log.push(`release ${attempt}`))
            )
          )
        ))
        const source = new Source()
        const pool = yield* QueuePool.make({
          acquire: source.acquire,
          max: 1,
          concurrency: 2,
          recycle: RecyclePolicy.schedule(schedule)
        })
        yield* letAllGo(yield* several(2, pool))
        yield* elapse(200)
        assert.deepStrictEqual(log, ["acquire 1", "acquire 2", "acquire 3"])
        yield* pool.clear
        yield* settle
        assert.deepStrictEqual(log.slice(3), ["release 3", "release 2", "release 1"])
        yield* books(source, pool)
      }))

    it.effect("nothing of a step is kept when it has ended", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* shared({ max: 1, recycle: stepped(100, 99) })
        const sizes: Array<number> = []
        for (let i = 0; i < 4; i++) {
          yield* letAllGo(yield* several(2, pool))
          yield* elapse(200)
          const [item] = itemsOf(insideOf(pool))
          const { state } = item!.scope
          sizes.push(state._tag === "Open" ? state.finalizers?.size ?? 1 : 0)
        }
        assert.deepStrictEqual(sizes, [1, 1, 1, 1])
        yield* books(source, pool)
      }))

    it.effect("nor one that takes other items with it, for one that does not", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* shared({
          max: 2,
          recycle: [
            RecyclePolicy.failed,
            RecyclePolicy.failedWith((cause) => Cause.squash(cause) === "lost", { also: "all", reason: "lost" }),
            stepped(100, 9)
          ]
        })
        const fine = yield* several(2, pool)
        const [first, second] = [yield* ended(pool, Exit.fail("bad")), yield* ended(pool, Exit.fail("lost"))]
        yield* letAllGo(fine)
        yield* elapse(200)
        yield* first.letGo
        yield* second.letGo
        yield* elapse(200)
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { lost: 2 })
      }))

    for (const how of ["is lost", "is doomed", "is closed with the pool"] as const) {
      it.effect(`is interrupted when the item ${how}`, () =>
        Effect.gen(function*() {
          const log: Array<string> = []
          const scope = yield* Scope.make()
          const { pool, source } = yield* Scope.provide(
            shared({ max: 1, drainTimeout: 1000, recycle: stepped(1e9, 9, log) }),
            scope
          )
          const holders = yield* several(2, pool)
          yield* holders[0]!.letGo
          assert.deepStrictEqual(log, ["begin 1"])
          if (how === "is lost") lose(pool, source.opened[0], "died")
          else if (how === "is doomed") {
            yield* pool.invalidate(source.opened[0]!)
            yield* holders[1]!.letGo
          } else {
            yield* Effect.forkChild(Scope.close(scope, Exit.void))
            yield* elapse(1000)
          }
          yield* settle
          assert.deepStrictEqual([log, source.closed], [["begin 1", "stop 1"], [1]])
          yield* holders[1]!.letGo
        }))
    }
  })
})

describe("reset and onReturn of shared items", () => {
  it.effect("reset runs when the last has left, with the exit of that lease", () =>
    Effect.gen(function*() {
      const resets: Array<string> = []
      const { pool, source } = yield* shared({
        max: 1,
        concurrency: 3,
        reset: ({ id }, exit) => Effect.sync(() => void resets.push(`${id} ${exitTag(exit)}`))
      })
      const [first, second] = [yield* ended(pool, Exit.fail("bad")), yield* ended(pool, Exit.void)]
      yield* second.letGo
      assert.deepStrictEqual(resets, [])
      const third = yield* ended(pool, Exit.void)
      yield* third.letGo
      yield* first.letGo
      assert.deepStrictEqual(resets, ["1 Failure"])
      yield* pool.useExclusive(() => Effect.void)
      yield* settle
      assert.deepStrictEqual(resets, ["1 Failure", "1 Success"])
      yield* books(source, pool)
    }))

  it.effect("nobody is lent the item while it is reset", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, reset: () => Effect.sleep(100) })
      const holders = yield* several(2, pool)
      yield* letAllGo(holders)
      const waiters = [yield* borrow(pool), yield* borrow(alone(pool))]
      assert.deepStrictEqual([items(waiters), (yield* pool.stats).used], [[undefined, undefined], 1])
      yield* elapse(100)
      assert.deepStrictEqual(items(waiters), [1, undefined])
      yield* waiters[0]!.letGo
      yield* elapse(100)
      assert.deepStrictEqual(items(waiters), [1, 1])
      yield* waiters[1]!.letGo
      yield* elapse(100)
      yield* books(source, pool)
    }))

  it.effect("A1: it runs too when the last to have the item leaves without having seen it", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const { pool, source } = yield* shared({
        max: 1,
        onReturn: (_, exit) => Effect.sync(() => void log.push(`return ${exitTag(exit)}`)),
        reset: (_, exit) => Effect.sync(() => void log.push(`reset ${exitTag(exit)}`))
      })
      const holders = yield* several(2, pool)
      const waiter = yield* borrow(pool)
      holders[0]!.fiber.interruptUnsafe()
      assert.strictEqual((yield* pool.stats).pending, 0)
      holders[1]!.fiber.interruptUnsafe()
      waiter.fiber.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual(log, ["return Failure", "return Failure", "reset Failure"])
      assert.deepStrictEqual([endings([waiter]), items([waiter])], [["interrupted"], [undefined]])
      assert.strictEqual((yield* books(source, pool)).borrowed, 2)
    }))

  it.effect("A1: and not when nobody has seen it", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const { pool, source } = yield* shared({
        max: 1,
        reset: () => {
          log.push("reset")
          return undefined
        }
      })
      const lone = yield* borrow(alone(pool))
      const waiters = yield* several(2, pool)
      lone.fiber.interruptUnsafe()
      assert.deepStrictEqual([(yield* pool.stats).leases, log], [2, ["reset"]])
      for (const { fiber } of waiters) fiber.interruptUnsafe()
      const { borrowed, idle } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, idle, log], [1, 1, ["reset"]])
    }))

  it.effect("A1: what a Schedule has still to say is waited for then, too", () =>
    Effect.gen(function*() {
      const schedule = Schedule.recurs(9).pipe(
        Schedule.tap(({ attempt }) => attempt > 1 ? Effect.sleep(100) : Effect.void)
      )
      const { pool, source } = yield* shared({
        max: 1,
        recycle: [RecyclePolicy.schedule(schedule), RecyclePolicy.failed]
      })
      source.opens.push({ slow: 10 })
      const around: { second?: Fiber.Fiber<unknown, unknown> } = {}
      // Both are handed the item; the first is through with it before the second has run, and then that one leaves.
      const first = yield* Effect.forkChild(
        Effect.exit(pool.use(() => Effect.fail("bad"))).pipe(
          Effect.andThen(Effect.sync(() => around.second!.interruptUnsafe()))
        )
      )
      yield* settle
      const second = yield* borrow(pool)
      around.second = second.fiber
      yield* elapse(10)
      yield* Fiber.join(first)
      assert.deepStrictEqual([endings([second]), items([second]), source.closed], [["interrupted"], [undefined], []])
      assert.strictEqual((yield* pool.stats).used, 1)
      yield* elapse(100)
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { failed: 1 })
    }))

  it.effect("onReturn runs for each lease; one that fails dooms the item", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const { pool, source } = yield* shared({
        max: 2,
        onReturn: ({ id }, exit) => {
          log.push(`${id} ${exitTag(exit)}`)
          return Exit.isSuccess(exit) ? undefined : Effect.fail("dirty")
        }
      })
      const events = yield* record(pool)
      const [first, second] = [yield* ended(pool, Exit.fail("bad")), yield* ended(pool, Exit.void)]
      yield* first.letGo
      assert.deepStrictEqual(log, ["1 Failure"])
      assert.include(told(events), "ResetFailed 1")
      const other = yield* borrow(pool)
      assert.deepStrictEqual([items([other]), source.closed], [[2], []])
      yield* second.letGo
      assert.deepStrictEqual([log, source.closed], [["1 Failure", "1 Success"], [1]])
      yield* other.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { "reset failed": 1 })
    }))

  for (const how of ["ends", "fails", "hangs"] as const) {
    it.effect(`an onReturn that still runs when the last has left, and then ${how}, is waited for`, () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        let runs = 0
        const { pool, source } = yield* shared({
          max: 1,
          resetTimeout: 1000,
          onReturn: () => {
            if (++runs > 1) return undefined
            const work = how === "hangs" ? Effect.never : Effect.sleep(100)
            return Effect.ensuring(
              how === "fails" ? Effect.andThen(work, Effect.fail("dirty")) : work,
              Effect.sync(() => void log.push("returned"))
            )
          },
          reset: () => Effect.sync(() => void log.push("reset"))
        })
        const holders = yield* several(2, pool)
        yield* holders[0]!.letGo
        const lone = yield* borrow(alone(pool))
        yield* holders[1]!.letGo
        assert.deepStrictEqual([items([lone]), log], [[undefined], []])
        yield* elapse(how === "hangs" ? 1000 : 100)
        assert.deepStrictEqual(
          [items([lone]), log],
          how === "ends" ? [[1], ["returned", "reset"]] : [[2], ["returned"]]
        )
        yield* lone.letGo
        const stats = yield* books(source, pool)
        assert.deepStrictEqual(stats.recycled, how === "ends" ? {} : { "reset failed": 1 })
      }))
  }

  it.effect("what onReturn does for each may overlap, and all of it comes before the reset", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      let runs = 0
      const { pool, source } = yield* shared({
        max: 1,
        concurrency: 3,
        onReturn: () => {
          const n = ++runs
          return Effect.andThen(Effect.sleep(400 - 100 * n), Effect.sync(() => void log.push(`return ${n}`)))
        },
        reset: () => Effect.sync(() => void log.push("reset"))
      })
      yield* letAllGo(yield* several(3, pool))
      const { tending } = Reflect.get(insideOf(pool), "work") as { readonly tending: ReadonlyMap<unknown, unknown> }
      assert.strictEqual(tending.size, 1)
      yield* elapse(200)
      assert.deepStrictEqual(log, ["return 2"])
      yield* elapse(300)
      assert.deepStrictEqual([log, tending.size], [["return 2", "return 1", "return 3", "reset"], 0])
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("an onReturn that runs is interrupted when the item is closed under the others", () =>
    Effect.gen(function*() {
      for (const how of ["lost", "closed"] as const) {
        const log: Array<string> = []
        let runs = 0
        const scope = yield* Scope.make()
        const { pool, source } = yield* Scope.provide(
          shared({
            max: 1,
            resetTimeout: "1 day",
            onReturn: () =>
              ++runs > 1
                ? undefined
                : Effect.onInterrupt(Effect.never, () => Effect.sync(() => void log.push("interrupted")))
          }),
          scope
        )
        const holders = yield* several(2, pool)
        yield* holders[0]!.letGo
        if (how === "lost") lose(pool, source.opened[0], "died")
        else {
          yield* Effect.forkChild(Scope.close(scope, Exit.void))
          yield* elapse("10 seconds")
        }
        yield* settle
        assert.deepStrictEqual([log, source.closed], [["interrupted"], [1]])
        yield* holders[1]!.letGo
      }
    }))
})

describe("the end of an item that several have", () => {
  it.effect("E1: invalidate keeps it for those who have it, and from all others", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 3 })
      const holders = yield* several(2, pool)
      yield* pool.invalidate(source.opened[0]!)
      yield* pool.invalidate(source.opened[0]!)
      const waiters = [yield* borrow(pool), yield* borrow(alone(pool))]
      yield* holders[1]!.letGo
      assert.deepStrictEqual([source.closed, items(waiters)], [[], [undefined, undefined]])
      yield* holders[0]!.letGo
      assert.deepStrictEqual([source.closed, items(waiters)], [[1], [2, undefined]])
      yield* waiters[0]!.letGo
      yield* waiters[1]!.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 1 })
    }))

  it.effect("J9: of equal items that one is meant which the fiber has, alone or with others", () =>
    Effect.gen(function*() {
      const closed: Array<number> = []
      let ids = 0
      const acquire = Effect.as(
        Effect.acquireRelease(Effect.sync(() => ++ids), (id) => Effect.sync(() => void closed.push(id))),
        "same"
      )
      for (const mine of ["shared", "alone"] as const) {
        const pool = yield* QueuePool.make({ acquire, max: 3, concurrency: 2 })
        const from = ids
        closed.length = 0
        const before = yield* several(3, pool)
        const done = yield* Deferred.make<void>()
        const use = mine === "shared" ? pool.use : pool.useExclusive
        const own = yield* Effect.forkChild(
          use((item) => Effect.andThen(pool.invalidate(item), Deferred.await(done)))
        )
        yield* settle
        const after = yield* several(mine === "shared" ? 1 : 2, pool)
        yield* letAllGo([...before, ...after])
        assert.deepStrictEqual(closed, [], "somebody has it still")
        yield* Deferred.succeed(done, undefined)
        yield* Fiber.join(own)
        yield* settle
        assert.deepStrictEqual(closed, [from + (mine === "shared" ? 2 : 3)])
      }
    }))

  it.effect("clear goes for it when the last has left; over a time, too", () =>
    Effect.gen(function*() {
      for (const over of [0, 1000]) {
        const { pool, source } = yield* shared({ max: 2 })
        const holders = yield* several(2, pool)
        yield* pool.clearWith({ over })
        yield* elapse(over + 1)
        const newcomer = yield* borrow(pool)
        assert.deepStrictEqual(items([newcomer]), [2])
        yield* holders[0]!.letGo
        assert.deepStrictEqual(source.closed, [])
        yield* holders[1]!.letGo
        assert.deepStrictEqual(source.closed, [1])
        yield* newcomer.letGo
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { cleared: 1 })
      }
    }))

  it.effect("lost under all of them, it is closed at once, and each lease counts as taken back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 1, concurrency: 3 })
      const events = yield* record(pool)
      const holders = yield* several(3, pool)
      const waiters = [yield* borrow(alone(pool)), ...(yield* several(2, pool))]
      lose(pool, source.opened[0], "died")
      yield* settle
      assert.deepStrictEqual([source.closed, items(waiters)], [[1], [2, undefined, undefined]])
      assert.deepStrictEqual(told(events).filter((event) => event.startsWith("TakenBack")), [
        "TakenBack 1",
        "TakenBack 1",
        "TakenBack 1"
      ])
      const { leases, returned, takenBack, used } = yield* pool.stats
      assert.deepStrictEqual({ leases, returned, takenBack, used }, { leases: 1, returned: 0, takenBack: 3, used: 1 })
      yield* waiters[0]!.letGo
      assert.deepStrictEqual(items(waiters), [2, 2, 2])
      // They come back late, and what they had is not theirs to give any more.
      yield* letAllGo(holders)
      assert.strictEqual((yield* pool.stats).leases, 2)
      yield* letAllGo(waiters)
      yield* books(source, pool)
    }))

  it.effect("lost while it drains, it lets who waits for it have the next", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* shared({ max: 2 })
      const holders = yield* several(3, pool)
      const [first, second] = yield* several(2, alone(pool))
      lose(pool, source.opened[1], "died")
      yield* settle
      assert.deepStrictEqual(items([first!, second!]), [3, undefined])
      yield* letAllGo(holders)
      assert.deepStrictEqual(items([second!]), [1])
      yield* letAllGo([first!, second!])
      yield* books(source, pool)
    }))

  it.effect("D3: closed with the pool, it waits for all of them, and takes back what is left", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(
        QueuePool.make({ acquire: source.acquire, max: 2, concurrency: 3, drainTimeout: 1000 }),
        scope
      )
      const holders = yield* several(5, pool)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      for (const holder of holders.filter(({ item }) => item!.id === 2)) yield* holder.letGo
      const first = holders.filter(({ item }) => item!.id === 1)
      yield* first[0]!.letGo
      assert.deepStrictEqual(source.closed, [2])
      yield* elapse(1000)
      assert.deepStrictEqual([source.closed, closing.pollUnsafe()], [[2, 1], Exit.void])
      const { borrowed, leases, recycled: reasons, returned, takenBack } = yield* pool.stats
      assert.deepStrictEqual({ borrowed, leases, reasons, returned, takenBack }, {
        borrowed: 5,
        leases: 0,
        reasons: { "pool closed": 1, "taken back": 1 },
        returned: 3,
        takenBack: 2
      })
      yield* letAllGo(first)
      closedBooks(source)
    }))

  it.effect("D1: who was handed a place and has not run when the pool closes hears Closed", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(
        QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 2, drainTimeout: 0 }),
        scope
      )
      const holders = yield* several(2, pool)
      const waiter = yield* borrow(pool)
      holders[0]!.fiber.interruptUnsafe()
      yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      lose(pool, source.opened[0], "died")
      yield* elapse(0)
      assert.deepStrictEqual(endings([waiter]), ["Closed"])
      const { borrowed, returned, takenBack } = yield* pool.stats
      assert.deepStrictEqual({ borrowed, returned, takenBack }, { borrowed: 2, returned: 1, takenBack: 1 })
      closedBooks(source)
    }))
})

describe("what calls back into the pool of shared items", () => {
  // Rules and hooks are asked in the middle of a step of the pool.
  // @effect-diagnostics runEffectInsideEffect:off

  interface Around {
    pool: Things
    act: ((thing: Thing) => void) | undefined
  }

  /** A pool, a rule or hook of which does something once. */
  const calling = Effect.fnUntraced(function*(where: "rule" | "onReturn" | "reset", options: Options = {}) {
    const around = { act: undefined } as unknown as Around
    const act = (thing: Thing) => {
      const { act } = around
      around.act = undefined
      act?.(thing)
      return undefined
    }
    const made = yield* shared({
      max: 1,
      ...options,
      ...(where === "rule"
        ? { recycle: RecyclePolicy.when<Thing>(({ item }) => act(item) ?? false) }
        : { [where]: act })
    })
    around.pool = made.pool
    return { ...made, around }
  })

  for (const where of ["rule", "onReturn"] as const) {
    it.effect(`a ${where} that loses the item as one of several leaves`, () =>
      Effect.gen(function*() {
        const { around, pool, source } = yield* calling(where)
        const holders = yield* several(2, pool)
        const waiter = yield* borrow(pool)
        around.act = (thing) => lose(pool, thing, "died")
        yield* holders[0]!.letGo
        assert.deepStrictEqual([source.closed, items([waiter])], [[1], [2]])
        yield* letAllGo([holders[1]!, waiter])
        const { returned, takenBack } = yield* books(source, pool)
        assert.deepStrictEqual([returned, takenBack], [2, 1])
      }))

    it.effect(`a ${where} that loses the item as the last leaves`, () =>
      Effect.gen(function*() {
        const { around, pool, source } = yield* calling(where)
        const holders = yield* several(2, pool)
        yield* holders[0]!.letGo
        around.act = (thing) => lose(pool, thing, "died")
        yield* holders[1]!.letGo
        assert.deepStrictEqual(source.closed, [1])
        const { returned, takenBack } = yield* books(source, pool)
        assert.deepStrictEqual([returned, takenBack], [2, 0])
      }))
  }

  it.effect("an onReturn that takes its item away, and has more to do, does it for nobody", () =>
    Effect.gen(function*() {
      let runs = 0
      const around: { pool?: Things } = {}
      const { pool, source } = yield* shared({
        max: 1,
        onReturn: (thing) => {
          lose(around.pool!, thing, "died")
          return Effect.sync(() => void runs++)
        }
      })
      around.pool = pool
      const holders = yield* several(2, pool)
      yield* holders[0]!.letGo
      yield* holders[1]!.letGo
      assert.deepStrictEqual([runs, source.closed], [0, [1]])
      yield* books(source, pool)
    }))

  it.effect("a rule, asked before one joins, that makes the one who waits leave", () =>
    Effect.gen(function*() {
      const { around, pool, source } = yield* calling("rule")
      const holders = yield* several(2, pool)
      const waiter = yield* borrow(pool)
      let asked = 0
      around.act = () => {
        // The first time it is asked of the return.
        if (asked++ === 0) around.act = () => waiter.fiber.interruptUnsafe()
      }
      yield* holders[0]!.letGo
      assert.deepStrictEqual([endings([holders[0]!, waiter]), asked], [["served", "interrupted"], 1])
      yield* holders[1]!.letGo
      yield* books(source, pool)
    }))

  it.effect("a rule, asked before one joins, that closes the pool", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { around, pool, source } = yield* Scope.provide(calling("rule"), scope)
      const holder = yield* borrow(pool)
      around.act = () => Effect.runFork(Scope.close(scope, Exit.void))
      const late = yield* borrow(pool)
      assert.deepStrictEqual(endings([late]), ["Closed"])
      yield* holder.letGo
      yield* elapse("1 minute")
      closedBooks(source)
    }))

  it.effect("a rule, asked before one joins, that lets another in: never more than concurrency", () =>
    Effect.gen(function*() {
      const { around, pool, source } = yield* calling("rule")
      const holder = yield* borrow(pool)
      const scope = yield* Scope.make()
      around.act = () => void Effect.runSync(Scope.provide(pool.get, scope))
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual([items([waiter]), (yield* pool.stats).leases], [[undefined], 2])
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(items([waiter]), [1])
      yield* letAllGo([holder, waiter])
      yield* books(source, pool)
    }))

  it.effect("a rule, asked before one joins, that dooms what it is asked of", () =>
    Effect.gen(function*() {
      const { around, pool, source } = yield* calling("rule", { max: 2 })
      const holder = yield* borrow(pool)
      around.act = (thing) => Effect.runSync(pool.invalidate(thing))
      const newcomer = yield* borrow(pool)
      assert.deepStrictEqual(items([newcomer]), [2])
      yield* letAllGo([holder, newcomer])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 1 })
    }))

  it.effect("a reset that borrows the item it is for waits for it", () =>
    Effect.gen(function*() {
      const { around, pool, source } = yield* calling("reset")
      const holders = yield* several(2, pool)
      const got: Array<number> = []
      around.act = () => void Effect.runFork(pool.useExclusive(({ id }) => Effect.sync(() => void got.push(id))))
      yield* holders[0]!.letGo
      assert.deepStrictEqual(got, [])
      yield* holders[1]!.letGo
      assert.deepStrictEqual(got, [1])
      yield* books(source, pool)
    }))
})

describe("interruption at every operation", () => {
  const kinds = ["use", "get", "useExclusive", "getExclusive"] as const

  const borrowing = (pool: Things, kind: typeof kinds[number]): Effect.Effect<void, unknown> =>
    kind === "use" || kind === "useExclusive"
      ? pool[kind](() => Effect.yieldNow)
      : Effect.scoped(Effect.andThen(pool[kind], Effect.yieldNow))

  /** One that is free serves each kind, and the books are right. */
  const whole = Effect.fnUntraced(function*(pool: Things, source: Source, at: string) {
    assert.strictEqual((yield* books(source, pool)).idle, 1, at)
    assert.strictEqual(yield* pool.useExclusive(({ id }) => Effect.succeed(id)), source.opened.at(-1)!.id, at)
    const both = yield* several(2, pool)
    assert.deepStrictEqual(items(both), [source.opened.at(-1)!.id, source.opened.at(-1)!.id], at)
    yield* letAllGo(both)
    yield* books(source, pool)
  })

  for (const kind of kinds) {
    it.effect(`${kind} of an idle item, and of one that has to be opened, loses nothing`, () =>
      Effect.gen(function*() {
        const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const { pool, source } = yield* shared({ max: 1 })
          yield* Fiber.await(yield* run(borrowing(pool, kind)))
          if (source.opened.length === 0) yield* pool.use(() => Effect.void)
          yield* Fiber.await(yield* run(borrowing(pool, kind)))
          yield* whole(pool, source, at)
        }, Effect.scoped))
        assert.isAbove(operations, 3)
      }))

    it.effect(`${kind} beside one who shares, and of an item that is full, loses nothing`, () =>
      Effect.gen(function*() {
        const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const { pool, source } = yield* shared({ max: 1 })
          const holder = yield* borrow(pool)
          const first = yield* run(borrowing(pool, kind))
          yield* settle
          const second = yield* borrow(pool)
          const third = yield* borrow(pool)
          yield* holder.letGo
          yield* settle
          assert.deepStrictEqual(items([second, third]), [1, 1], at)
          yield* letAllGo([second, third])
          yield* Fiber.await(first)
          yield* whole(pool, source, at)
        }, Effect.scoped))
        assert.isAbove(operations, 3)
      }))

    it.effect(`${kind} that waits, is served as it leaves, and serves those behind it`, () =>
      Effect.asVoid(
        interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const { pool, source } = yield* shared({ max: 1 })
          const lone = yield* borrow(alone(pool))
          const waiter = yield* run(borrowing(pool, kind))
          yield* settle
          const behind = [yield* borrow(pool), yield* borrow(alone(pool)), yield* borrow(pool)]
          yield* lone.letGo
          for (const { letGo } of behind) yield* letGo
          yield* settle
          assert.deepStrictEqual(items(behind), [1, 1, 1], at)
          yield* Fiber.await(waiter)
          yield* whole(pool, source, at)
        }, Effect.scoped))
      ))
  }
})

/** A borrower that writes down when it begins and when it ends. */
interface Line {
  readonly end: Effect.Effect<void>
  readonly interrupt: Effect.Effect<void>
}

const line = (n: number, log: Array<string>) =>
  Effect.fnUntraced(function*(within: (body: Effect.Effect<void>) => Effect.Effect<void, unknown>) {
    const gate = yield* Deferred.make<void>()
    const body = Effect.acquireUseRelease(
      Effect.sync(() => void log.push(`begin ${n}`)),
      () => Deferred.await(gate),
      () => Effect.sync(() => void log.push(`end ${n}`))
    )
    const fiber = yield* Effect.forkChild(within(body))
    // One that is let go before it was served goes on at once when it is.
    const made: Line = { end: Effect.asVoid(Deferred.succeed(gate, undefined)), interrupt: Fiber.interrupt(fiber) }
    return made
  })

interface Task {
  readonly n: number
  readonly kind: "lone" | "sharer"
  readonly borrower: Borrower<Thing, unknown>
}

const removeAll = <A>(all: Array<A>, which: (one: A) => boolean): void => {
  for (let i = all.length; i-- > 0;) if (which(all[i]!)) all.splice(i, 1)
}

/** An item that takes one more. */
const roomIn = (pool: Things) => insideOf(pool).state.sharing.room

describe("laws", () => {
  it.effect("16: with max 1, a pool of concurrency c is a semaphore of c permits", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 25; seed++) {
        const rng = new Rng(seed)
        const concurrency = 1 + rng.int(5)
        const { pool, source } = yield* shared({ max: 1, concurrency })
        const semaphore = yield* Semaphore.make(concurrency)
        // The same of an item that is there.
        yield* pool.use(() => Effect.void)
        const logs: Record<"pool" | "semaphore", Array<string>> = { pool: [], semaphore: [] }
        const tasks: Array<Record<keyof typeof logs, Line>> = []
        for (let n = 0; n < 60; n++) {
          const what = rng.weighted([[4, "borrow"], [3, "end"], [1, "interrupt"]])
          if (what === "borrow" || tasks.length === 0) {
            const [one, other] = [line(n, logs.pool), line(n, logs.semaphore)]
            tasks.push({
              pool: yield* one((body) => pool.use(() => body)),
              semaphore: yield* other(semaphore.withPermit)
            })
          } else {
            const [task] = tasks.splice(rng.int(tasks.length), 1)
            for (const side of ["pool", "semaphore"] as const) yield* task![side][what]
          }
          yield* settle
          assert.deepStrictEqual(logs.pool, logs.semaphore, `seed ${seed}, step ${n}`)
        }
        for (const task of tasks) for (const side of ["pool", "semaphore"] as const) yield* task[side].interrupt
        yield* books(source, pool)
      }
    }))

  it.effect(
    "16: with max 1 and exclusive leases, it is a fair lock of one writer or c readers",
    () =>
      Effect.gen(function*() {
        for (let seed = 1; seed <= 25; seed++) {
          const rng = new Rng(seed)
          const concurrency = 2 + rng.int(4)
          const { pool, source } = yield* shared({ max: 1, concurrency })
          yield* pool.use(() => Effect.void)
          // Strictly first come, first served: nobody passes the first.
          const running = new Map<number, boolean>()
          const queue: Array<readonly [n: number, lone: boolean]> = []
          const serve = () => {
            for (let first = queue[0]; first !== undefined; first = queue[0]) {
              const [n, lone] = first
              const free = lone
                ? running.size === 0
                : running.size < concurrency && !Array.from(running.values()).includes(true)
              if (!free) return
              running.set(n, lone)
              queue.shift()
            }
          }
          const tasks = new Map<number, Borrower<Thing, unknown>>()
          for (let n = 0; n < 60; n++) {
            const what = rng.weighted([[4, "borrow"], [3, "end"], [1, "interrupt"]])
            const one = rng.pick([...(what === "end" ? running : tasks).keys()])
            if (what === "borrow" || one === undefined) {
              const lone = rng.chance(0.3)
              tasks.set(n, yield* borrow(lone ? alone(pool) : pool))
              queue.push([n, lone])
            } else {
              if (what === "end") yield* tasks.get(one)!.letGo
              else yield* Fiber.interrupt(tasks.get(one)!.fiber)
              running.delete(one)
              const place = queue.findIndex(([n]) => n === one)
              if (place >= 0) queue.splice(place, 1)
              tasks.delete(one)
            }
            serve()
            yield* settle
            const served = Array.from(tasks).filter(([, { item }]) => item !== undefined).map(([n]) => n)
            assert.deepStrictEqual(new Set(served), new Set(running.keys()), `seed ${seed}, step ${n}`)
          }
          for (const { fiber } of tasks.values()) fiber.interruptUnsafe()
          yield* books(source, pool)
        }
      }),
    30_000
  )

  it.effect("3, 4, 5: at every step, whoever comes, leaves, fails or dies", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 25; seed++) {
        const rng = new Rng(seed)
        const concurrency = 2 + rng.int(3)
        const max = 1 + rng.int(4)
        const { pool, source } = yield* shared({
          max,
          concurrency,
          openConcurrency: 1 + rng.int(3),
          sharing: seed % 2 === 0 ? "pack" : "spread",
          recycle: [RecyclePolicy.failed, RecyclePolicy.uses(12)]
        })
        const tasks: Array<Task> = []
        const last = { lone: -1, sharer: -1 }
        const served = new Set<Task>()
        for (let n = 0; n < 80; n++) {
          const at = `seed ${seed}, step ${n}`
          const what = rng.weighted([[5, "borrow"], [3, "end"], [2, "interrupt"], [1, "invalidate"], [1, "lose"]])
          const thing = source.opened.at(-1 - rng.int(max))
          const task = tasks[rng.int(tasks.length)]
          if (what === "borrow" || task === undefined || thing === undefined) {
            const lone = rng.chance(0.3)
            tasks.push({ n, kind: lone ? "lone" : "sharer", borrower: yield* borrow(lone ? alone(pool) : pool) })
          } else if (what === "invalidate") {
            yield* pool.invalidate(thing)
          } else if (what === "lose") {
            lose(pool, thing, "died")
            // Those who had it have nothing any more.
            for (const { borrower } of tasks) if (borrower.item === thing) yield* borrower.letGo
            removeAll(tasks, ({ borrower }) => borrower.item === thing)
          } else {
            if (what === "end" && task.borrower.item !== undefined) yield* task.borrower.letGo
            else yield* Fiber.interrupt(task.borrower.fiber)
            removeAll(tasks, (one) => one === task)
          }
          yield* settle
          const having = tasks.filter(({ borrower }) => borrower.item !== undefined)
          const waiting = tasks.filter(({ borrower }) => borrower.item === undefined)
          const { closing, idle, leases, opening, pending, used } = yield* pool.stats
          assert.deepStrictEqual([pending, leases], [waiting.length, having.length], at)
          assert.isAtMost(idle + used + opening + closing, max, at)
          if (pending > 0) assert.deepStrictEqual([idle, used], [0, max], at)
          for (const thing of source.opened) {
            const kinds = having.filter(({ borrower }) => borrower.item === thing).map(({ kind }) => kind)
            assert.isAtMost(kinds.length, kinds.includes("lone") ? 1 : concurrency, at)
          }
          // Those of one kind are served in the order in which they came, and who needs an item alone passes nobody.
          for (const task of having) {
            if (served.has(task)) continue
            served.add(task)
            assert.isAbove(task.n, last[task.kind], at)
          }
          for (const { kind, n } of having) last[kind] = Math.max(last[kind], n)
          if (waiting.length > 0) assert.isBelow(last.lone, waiting[0]!.n, at)
          // What has room is for the first, if that one shares.
          if (waiting[0]?.kind === "sharer") assert.strictEqual(roomIn(pool), undefined, at)
        }
        for (const { borrower } of tasks) borrower.fiber.interruptUnsafe()
        yield* books(source, pool)
      }
    }))
})

describe("cost", () => {
  /** How often the queue and the lists of shared items are looked at for each of so many borrowers that wait. */
  const looks = Effect.fnUntraced(function*(count: number, lone: number, how: "are served" | "leave") {
    const { pool, source } = yield* shared({ max: 4, concurrency: 4 })
    const { sharing, waiters } = insideOf(pool).state
    let looks = 0
    const push = waiters.push.bind(waiters)
    waiters.push = (waiter) => {
      for (const key of ["alone", "ahead", "behind", "supply", "turn"] as const) counted(waiter, key, () => looks++)
      push(waiter)
    }
    for (const key of ["update", "drain"] as const) {
      const original: (arg: never) => void = sharing[key].bind(sharing)
      sharing[key] = (arg: never) => {
        looks++
        original(arg)
      }
    }
    const holders = yield* several(16, pool)
    const waiting: Array<Fiber.Fiber<unknown, unknown>> = []
    for (let i = 0; i < lone; i++) waiting.push(yield* Effect.forkChild(pool.useExclusive(() => Effect.yieldNow)))
    for (let i = 0; i < count; i++) waiting.push(yield* Effect.forkChild(pool.use(() => Effect.yieldNow)))
    yield* settle
    assert.strictEqual((yield* pool.stats).pending, count + lone)
    for (const { fiber } of how === "are served" ? holders : waiting.map((fiber) => ({ fiber }))) {
      fiber.interruptUnsafe()
    }
    yield* Fiber.awaitAll(waiting)
    for (const { fiber } of holders) fiber.interruptUnsafe()
    yield* books(source, pool)
    return looks / (count + lone)
  })

  for (const how of ["are served", "leave"] as const) {
    it.effect(
      `10,000 who wait for a few items and ${how} take no more looks each than 1,000 do`,
      () =>
        Effect.gen(function*() {
          for (const lone of [0, 3, 500]) {
            for (const count of [1000, 10_000]) {
              assert.isBelow(yield* looks(count, lone, how), 30, `${count}, and ${lone} who need one alone`)
            }
          }
        }),
      30_000
    )
  }

  it.effect("where nobody shares an item none is looked for, however many once had one", () =>
    Effect.gen(function*() {
      const { pool } = yield* shared({ max: 1, concurrency: 32, sharing: "pack" })
      yield* letAllGo(yield* several(32, pool))
      let looks = 0
      const { sharing } = insideOf(pool).state as unknown as { readonly sharing: { loads: ReadonlyArray<unknown> } }
      sharing.loads = new Proxy(sharing.loads, {
        get: (loads, key: never) => {
          looks++
          return loads[key]
        }
      })
      yield* Effect.replicateEffect(pool.use(() => Effect.void), 100, { discard: true })
      // Each is put on a list and taken off.
      assert.strictEqual(looks, 200)
    }))
})

/** Counts how often a property is read. */
const counted = <T extends object>(target: T, key: keyof T, read: () => void): void => {
  let value: unknown = target[key]
  Object.defineProperty(target, key, {
    get: () => {
      read()
      return value
    },
    set: (next: unknown) => {
      value = next
    }
  })
}
