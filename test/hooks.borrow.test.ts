/** `onBorrow`: what stands between being handed an item and having it. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option, Scope } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, closedBooks, elapse, ending, endings, several } from "./kit/books.ts"
import { failures, hangs, Hook } from "./kit/hook.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

// What a hook's function does, it does where no Effect is.
// @effect-diagnostics runEffectInsideEffect:off

type Pool = QueuePool.QueuePool<Thing, Refused>
type Settings = Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">

const make = Effect.fnUntraced(function*(options: Settings = {}) {
  const source = new Source()
  const [hook, onReturn] = [new Hook(), new Hook()]
  const pool: Pool = yield* QueuePool.make({
    acquire: source.acquire,
    max: 1,
    drainTimeout: 0,
    onBorrow: hook.run,
    onReturn: onReturn.run,
    ...options
  })
  return { hook, onReturn, pool, source, events: yield* record(pool) }
})

/** A pool whose item has been of use: a new one that dies is not replaced at once. */
const seasoned = Effect.fnUntraced(function*(options: Settings = {}) {
  const made = yield* make(options)
  yield* made.pool.use(() => Effect.void)
  yield* settle
  return made
})

/** Every way to borrow, as the number of the item. */
const waiting = {
  use: (pool: Pool) => pool.use(({ id }) => Effect.succeed(id)),
  useExclusive: (pool: Pool) => pool.useExclusive(({ id }) => Effect.succeed(id)),
  get: (pool: Pool) => Effect.scoped(Effect.map(pool.get, ({ id }) => id)),
  getExclusive: (pool: Pool) => Effect.scoped(Effect.map(pool.getExclusive, ({ id }) => id)),
  getN: (pool: Pool) => Effect.scoped(Effect.map(pool.getN(1), ([item]) => item!.id))
}
const taking = {
  useIfAvailable: (pool: Pool) =>
    Effect.map(pool.useIfAvailable(({ id }) => Effect.succeed(id)), Option.getOrUndefined),
  getIfAvailable: (pool: Pool) =>
    Effect.scoped(Effect.map(pool.getIfAvailable, (item) => Option.getOrUndefined(item)?.id))
}
const ways: Record<string, (pool: Pool) => Effect.Effect<number | undefined, PoolError.PoolError | Refused>> = {
  ...waiting,
  ...taking
}

/** A pool whose items are idle, and which has told nothing yet. */
const warm = Effect.fnUntraced(function*(options: Settings = {}) {
  const made = yield* make({ min: options.max ?? 1, ...options })
  yield* settle
  made.events.length = 0
  return made
})

const reasonOf = (exit: Exit.Exit<unknown, unknown> | undefined) =>
  exit !== undefined && Exit.isFailure(exit) ? (Cause.squash(exit.cause) as PoolError.PoolError).reason : undefined

const messageOf = (exit: Exit.Exit<unknown, unknown> | undefined) => {
  const reason = reasonOf(exit)
  return reason?._tag === "HookFailed" ? (Cause.squash(reason.cause) as Error).message : undefined
}

for (const [way, ask] of Object.entries(ways)) {
  describe(`onBorrow of ${way}`, () => {
    it.effect("runs once before each lease, and is no step of its own when it has ended at once", () =>
      Effect.gen(function*() {
        const { events, hook, pool, source } = yield* warm({ onReturn: undefined })
        assert.strictEqual(Effect.runSync(ask(pool)), 1)
        assert.strictEqual(Effect.runSync(ask(pool)), 1)
        assert.deepStrictEqual(hook.begun, [1, 1])
        yield* settle
        assert.deepStrictEqual(told(events), ["Borrowed 1", "Returned 1", "Borrowed 1", "Returned 1"])
        const { borrowed, returned } = yield* books(source, pool)
        assert.deepStrictEqual([borrowed, returned], [2, 2])
      }))

    it.effect("that takes its time: the item is used, a lease is to begin, and nobody has borrowed", () =>
      Effect.gen(function*() {
        const { events, hook, pool, source } = yield* warm()
        hook.otherwise = () => Effect.sleep(100)
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* elapse(99)
        const { borrowed, idle, leases, pending, used } = yield* pool.stats
        assert.deepStrictEqual({ borrowed, idle, leases, pending, used }, {
          borrowed: 0,
          idle: 0,
          leases: 1,
          pending: 0,
          used: 1
        })
        assert.deepStrictEqual([ending(fiber.pollUnsafe()), events], ["waits", []])
        yield* elapse(1)
        assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(1))
        assert.deepInclude(events[0]!, { _tag: "Borrowed", waited: 100, at: 100 })
        assert.deepInclude(events[1]!, { _tag: "Returned", held: 0 })
        const after = yield* books(source, pool)
        assert.deepStrictEqual([after.borrowed, after.returned, after.leases], [1, 1, 0])
      }))

    for (const [how, [answer]] of Object.entries(failures)) {
      it.effect(`that ${how}: the borrower hears why, and the item goes as if it had never been lent`, () =>
        Effect.gen(function*() {
          const { events, hook, onReturn, pool, source } = yield* warm({ min: 0 })
          yield* pool.use(() => Effect.void)
          yield* settle
          events.length = 0
          hook.answers.set(1, answer)
          const before = yield* pool.stats
          const exit = yield* Effect.exit(ask(pool))
          const reason = reasonOf(exit)
          assert.strictEqual(reason?._tag, "HookFailed")
          assert.deepStrictEqual(
            (reason as PoolError.HookFailed).cause,
            Exit.isFailure(exit) ? (reason as PoolError.HookFailed).cause : undefined
          )
          assert.strictEqual((reason as PoolError.HookFailed).hook, "onBorrow")
          yield* settle
          assert.deepStrictEqual(told(events), ["BorrowFailed", "Recycled 1", "Closed 1"])
          assert.deepInclude(events[0]!, { reason: "HookFailed", waited: 0 })
          assert.deepInclude(events[1]!, { reason: "onBorrow failed", uses: 1 })
          const after = yield* books(source, pool)
          assert.deepStrictEqual(
            [after.borrowed, after.returned, after.timeouts, after.recycled],
            [before.borrowed, before.returned, 0, { "onBorrow failed": 1 }]
          )
          // No lease has ended for which anything is to be done.
          assert.deepStrictEqual([onReturn.begun, hook.running, source.closed], [[1], 0, [1]])
          assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 2)
        }))
    }

    for (const [how, answer] of Object.entries(hangs)) {
      it.effect(`that ${how} has checkTimeout; then the borrower hears of it, and a waiter gets a new item`, () =>
        Effect.gen(function*() {
          const { hook, pool, source } = yield* warm({ checkTimeout: 2000 })
          hook.answers.set(1, answer)
          const fiber = yield* Effect.forkChild(ask(pool))
          const waiter = yield* borrow(pool)
          yield* elapse(1999)
          assert.deepStrictEqual([ending(fiber.pollUnsafe()), hook.running], ["waits", 1])
          yield* elapse(1)
          assert.strictEqual(messageOf(fiber.pollUnsafe()), "onBorrow took longer than 2000ms")
          assert.strictEqual(hook.running, how === "hangs" ? 0 : 1)
          assert.deepStrictEqual([source.closed, waiter.item], [[1], { id: 2 }])
          yield* waiter.letGo
          yield* books(source, pool)
        }))
    }

    it.effect("is interrupted with its borrower, and the item goes, for nobody knows its state", () =>
      Effect.gen(function*() {
        const { events, hook, onReturn, pool, source } = yield* warm()
        hook.answers.set(1, () => Effect.never)
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* settle
        assert.strictEqual(hook.running, 1)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(hook.running, 0)
        assert.strictEqual(ending(fiber.pollUnsafe()), "interrupted")
        const stats = yield* books(source, pool)
        assert.deepStrictEqual([stats.borrowed, stats.recycled], [0, { "borrow given up": 1 }])
        assert.deepInclude(events[0]!, { _tag: "BorrowFailed", reason: "Interrupted" })
        assert.deepStrictEqual([onReturn.begun, source.closed], [[], [1]])
      }))

    it.effect("that cannot be interrupted does not hold up a borrower that is", () =>
      Effect.gen(function*() {
        const { hook, pool, source } = yield* warm()
        hook.answers.set(1, () => Effect.uninterruptible(Effect.sleep(1000)))
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* settle
        yield* Fiber.interrupt(fiber)
        yield* settle
        assert.deepStrictEqual([source.closed, hook.running], [[1], 1])
        yield* elapse(1000)
        assert.strictEqual(hook.running, 0)
        yield* books(source, pool)
      }))

    it.effect("interrupted at every operation, loses nothing and lends nothing that the hook has touched in vain", () =>
      Effect.gen(function*() {
        const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const { hook, onReturn, pool, source } = yield* warm()
          hook.answers.set(1, () => Effect.andThen(Effect.yieldNow, Effect.yieldNow))
          const fiber = yield* run(ask(pool))
          yield* Fiber.await(fiber)
          const stats = yield* books(source, pool)
          assert.strictEqual(hook.running, 0, at)
          assert.strictEqual(onReturn.begun.length, stats.borrowed, at)
          const touched = hook.begun.length > stats.borrowed
          assert.deepStrictEqual(stats.recycled, touched ? { "borrow given up": 1 } : {}, at)
          assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), touched ? 2 : 1, at)
        }, Effect.scoped))
        assert.isAbove(operations, 3)
      }))

    it.effect("when its item dies the hook is ended, and the borrower gets another with a hook of its own", () =>
      Effect.gen(function*() {
        const { events, hook, pool, source } = yield* warm({ max: 2 })
        hook.answers.set(2, () => Effect.never)
        hook.answers.set(1, () => Effect.sleep(100))
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* elapse(50)
        assert.deepStrictEqual(hook.begun, [2])
        lose(pool, source.opened[1], "lost")
        yield* settle
        assert.deepStrictEqual([hook.begun, hook.running, source.closed], [[2, 1], 1, [2]])
        yield* elapse(100)
        assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(1))
        const { borrowed, recycled, takenBack } = yield* books(source, pool)
        assert.deepStrictEqual([borrowed, takenBack, recycled], [1, 0, { lost: 1 }])
        assert.notInclude(told(events), "TakenBack 2")
      }))

    it.effect("D1: when the pool closes, is ended, and its borrower is a waiter like the others", () =>
      Effect.gen(function*() {
        for (const answer of Object.values(hangs)) {
          const scope = yield* Scope.make()
          const { hook, pool, source } = yield* Scope.provide(warm({ drainTimeout: "1 hour" }), scope)
          hook.answers.set(1, answer)
          const fiber = yield* Effect.forkChild(ask(pool))
          yield* settle
          yield* Scope.close(scope, Exit.void)
          yield* settle
          assert.strictEqual(ending(fiber.pollUnsafe()), "Closed")
          assert.deepStrictEqual([source.closed, (yield* pool.stats).recycled], [[1], { "pool closed": 1 }])
          closedBooks(source)
        }
      }))

    it.effect("may end its item, the pool, or only doom it, in its function and later", () =>
      Effect.gen(function*() {
        for (const later of [false, true]) {
          for (const deed of ["lose", "close", "invalidate", "clear"] as const) {
            const scope = yield* Scope.make()
            const { hook, pool, source } = yield* Scope.provide(warm({ max: 2 }), scope)
            const act = (): void => {
              if (deed === "lose") lose(pool, source.opened[1], "lost")
              else if (deed === "close") Effect.runFork(Scope.close(scope, Exit.void))
              else Effect.runSync(deed === "clear" ? pool.clear : pool.invalidate(source.opened[1]!))
            }
            hook.answers.set(2, () => {
              if (later) return Effect.andThen(Effect.yieldNow, Effect.sync(act))
              act()
              return Effect.void
            })
            const exit = yield* Effect.exit(ask(pool))
            const what = `${deed}${later ? ", later" : ""}`
            yield* settle
            if (deed === "close") {
              assert.strictEqual(ending(exit), "Closed", what)
              closedBooks(source)
              continue
            }
            // Who was handed a doomed item has it still, as any other borrower would.
            assert.deepStrictEqual(exit, Exit.succeed(deed === "lose" ? 1 : 2), what)
            const { borrowed, returned } = yield* books(source, pool)
            assert.deepStrictEqual([borrowed, returned, source.closed.includes(2)], [1, 1, true], what)
          }
        }
      }))

    it.effect("may borrow from the pool", () =>
      Effect.gen(function*() {
        const { hook, pool, source } = yield* warm({ max: 2 })
        const inner: Array<number> = []
        hook.answers.set(2, () =>
          Effect.asVoid(Effect.orDie(pool.use(({ id }) => Effect.sync(() => void inner.push(id))))))
        assert.strictEqual(yield* ask(pool), 2)
        assert.deepStrictEqual([inner, hook.begun], [[1], [2, 1]])
        assert.strictEqual((yield* books(source, pool)).borrowed, 2)
      }))
  })
}

describe("what ends a hook as its borrower leaves", () => {
  it.effect("may close the pool: the item is given up once", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { hook, pool, source } = yield* Scope.provide(make({ max: 2, drainTimeout: "1 hour" }), scope)
      const holder = yield* borrow(pool)
      const close = Effect.sync(() => void Effect.runFork(Scope.close(scope, Exit.void)))
      hook.answers.set(2, () => Effect.onInterrupt(Effect.never, () => close))
      const fiber = yield* Effect.forkChild(pool.use(() => Effect.void))
      yield* settle
      yield* Fiber.interrupt(fiber)
      yield* settle
      const { leases, recycled } = yield* pool.stats
      assert.deepStrictEqual([leases, recycled, source.closed], [1, { "pool closed": 1 }, [2]])
      yield* holder.letGo
      yield* settle
      assert.deepStrictEqual((yield* pool.stats).recycled, { "pool closed": 2 })
      closedBooks(source)
    }))

  it.effect("may end the item of another of its group: nobody stays in the queue for that", () =>
    Effect.gen(function*() {
      const { hook, pool, source } = yield* warm({ max: 3 })
      hook.answers.set(
        2,
        () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => lose(pool, source.opened[0], "lost")))
      )
      const fiber = yield* Effect.forkChild(Effect.scoped(pool.getN(3)))
      yield* settle
      assert.deepStrictEqual(hook.begun, [3, 2])
      yield* Fiber.interrupt(fiber)
      yield* settle
      const { leases, pending } = yield* pool.stats
      assert.deepStrictEqual([leases, pending, source.closed.toSorted((a, b) => a - b)], [0, 0, [1, 2, 3]])
      yield* books(source, pool)
    }))
})

for (const [way, ask] of Object.entries(waiting)) {
  describe(`onBorrow of ${way}, of an item that was waited for`, () => {
    it.effect("runs when the item is there, and never beyond the borrower's time", () =>
      Effect.gen(function*() {
        const { events, hook, pool, source } = yield* make({ borrowTimeout: 1000 })
        const holder = yield* borrow(pool)
        hook.otherwise = () => Effect.never
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* elapse(900)
        yield* holder.letGo
        assert.deepStrictEqual([hook.begun, (yield* pool.stats).pending], [[1, 1], 0])
        yield* elapse(99)
        assert.strictEqual(ending(fiber.pollUnsafe()), "waits")
        yield* elapse(1)
        assert.strictEqual(
          messageOf(fiber.pollUnsafe()),
          "onBorrow took longer than the 100ms that were left of borrowTimeout"
        )
        assert.deepInclude(events.find(({ _tag }) => _tag === "BorrowFailed")!, { reason: "HookFailed", waited: 1000 })
        assert.strictEqual((yield* books(source, pool)).timeouts, 0)
      }))

    it.effect("that is interrupted before it began passes the item on untouched", () =>
      Effect.gen(function*() {
        const { hook, pool, source } = yield* make()
        const holder = yield* borrow(pool)
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* settle
        const next = yield* borrow(pool)
        holder.fiber.interruptUnsafe()
        while ((yield* pool.stats).pending > 1) yield* Effect.yieldNow
        fiber.interruptUnsafe()
        yield* settle
        assert.deepStrictEqual([hook.begun, next.item], [[1, 1], { id: 1 }])
        yield* next.letGo
        assert.deepStrictEqual((yield* books(source, pool)).recycled, {})
      }))

    it.effect("interrupted at every operation, loses nothing", () =>
      interruptAtEvery(Effect.fnUntraced(function*(run, at) {
        const { hook, pool, source } = yield* make()
        const holder = yield* borrow(pool)
        hook.otherwise = () => Effect.andThen(Effect.yieldNow, Effect.yieldNow)
        const fiber = yield* run(ask(pool))
        const last = yield* borrow(pool)
        yield* settle
        yield* holder.letGo
        yield* Fiber.await(fiber)
        yield* settle
        assert.isDefined(last.item, at)
        yield* last.letGo
        assert.strictEqual(hook.running, 0, at)
        const { recycled } = yield* books(source, pool)
        assert.deepStrictEqual(source.attempts, 1 + (recycled["borrow given up"] ?? 0), at)
      }, Effect.scoped)))

    it.effect("when its item dies has its old place in the queue again, and its old deadline", () =>
      Effect.gen(function*() {
        const { hook, pool, source } = yield* seasoned({ borrowTimeout: 1000 })
        const holder = yield* borrow(pool)
        hook.answers.set(1, () => Effect.never)
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* settle
        const next = yield* borrow(pool)
        yield* holder.letGo
        assert.strictEqual(hook.running, 1)
        source.opens.push({ slow: 300 }, "hang")
        yield* elapse(600)
        lose(pool, source.opened[0], "lost")
        assert.deepStrictEqual([(yield* pool.stats).pending, hook.running], [2, 1])
        yield* settle
        assert.strictEqual(hook.running, 0)
        yield* elapse(300)
        assert.deepStrictEqual([ending(fiber.pollUnsafe()), next.item], ["served", { id: 2 }])
        yield* next.letGo
        yield* books(source, pool)
      }))

    it.effect("when its item dies and no other comes in time hears that its time is over", () =>
      Effect.gen(function*() {
        const { hook, pool, source } = yield* seasoned({ borrowTimeout: 1000, openTimeout: 2000 })
        hook.answers.set(1, () => Effect.never)
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* elapse(600)
        source.opens.push("hang")
        lose(pool, source.opened[0], "lost")
        yield* elapse(399)
        assert.strictEqual(ending(fiber.pollUnsafe()), "waits")
        yield* elapse(1)
        assert.strictEqual(ending(fiber.pollUnsafe()), "BorrowTimeout")
        assert.deepInclude(reasonOf(fiber.pollUnsafe())!, { waited: 1000, phase: "opening" })
        yield* elapse(1600)
        yield* books(source, pool)
      }))

    it.effect("when its item dies in a suspended pool waits, or is turned away", () =>
      Effect.gen(function*() {
        for (const whenSuspended of ["wait", "fail"] as const) {
          const { hook, pool, source } = yield* seasoned({ whenSuspended })
          hook.answers.set(1, () => Effect.never)
          const fiber = yield* Effect.forkChild(ask(pool))
          yield* settle
          yield* pool.suspend
          assert.strictEqual(ending(fiber.pollUnsafe()), "waits")
          lose(pool, source.opened[0], "lost")
          yield* settle
          assert.strictEqual(ending(fiber.pollUnsafe()), whenSuspended === "fail" ? "Suspended" : "waits")
          yield* pool.resume
          yield* settle
          assert.strictEqual(ending(fiber.pollUnsafe()), whenSuspended === "fail" ? "Suspended" : "served")
          yield* books(source, pool)
        }
      }))
  })
}

for (const [way, ask] of Object.entries(taking)) {
  describe(`onBorrow of ${way}`, () => {
    it.effect("is not run when there is nothing, and opens nothing when its item dies", () =>
      Effect.gen(function*() {
        const { hook, pool, source } = yield* make()
        assert.isUndefined(yield* ask(pool))
        assert.deepStrictEqual([hook.begun, source.attempts], [[], 0])
        yield* pool.use(() => Effect.void)
        yield* settle
        hook.answers.set(1, () => Effect.never)
        const fiber = yield* Effect.forkChild(ask(pool))
        yield* settle
        lose(pool, source.opened[0], "lost")
        yield* settle
        assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(undefined))
        assert.deepStrictEqual([source.attempts, (yield* books(source, pool)).waited], [1, 1])
      }))
  })
}

describe("onBorrow", () => {
  it.effect("with borrowTimeout 0 may still end at once; one that does not is no way to lend", () =>
    Effect.gen(function*() {
      const { hook, pool, source } = yield* warm({ borrowTimeout: 0 })
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
      yield* settle
      hook.answers.set(1, () => Effect.never)
      const fiber = yield* Effect.forkChild(pool.use(() => Effect.void))
      yield* elapse(1)
      assert.strictEqual(
        messageOf(fiber.pollUnsafe()),
        "onBorrow took longer than the 0ms that were left of borrowTimeout"
      )
      yield* books(source, pool)
    }))

  it.effect("is no part of the lease: maxLease and held count from its end", () =>
    Effect.gen(function*() {
      const { events, hook, pool, source } = yield* warm({ maxLease: 1000 })
      hook.otherwise = () => Effect.sleep(900)
      const fiber = yield* Effect.forkChild(pool.use(() => Effect.sleep(900)))
      yield* elapse(900)
      yield* elapse(900)
      assert.strictEqual(ending(fiber.pollUnsafe()), "served")
      assert.deepInclude(events.find(({ _tag }) => _tag === "Returned")!, { held: 900 })
      const late = yield* Effect.forkChild(pool.use(() => Effect.never))
      yield* elapse(900)
      yield* elapse(1000)
      assert.strictEqual(ending(late.pollUnsafe()), "LeaseEnded")
      yield* books(source, pool)
    }))

  it.effect("runs for everyone who shares an item; one that fails ends it for those to come", () =>
    Effect.gen(function*() {
      const { hook, onReturn, pool, source } = yield* make({ concurrency: 3 })
      const first = yield* borrow(pool)
      hook.answers.set(1, () => Effect.sleep(100))
      const second = yield* borrow(pool)
      assert.deepStrictEqual([second.item, (yield* pool.stats).leases], [undefined, 2])
      yield* elapse(100)
      assert.deepStrictEqual([second.item, hook.begun], [{ id: 1 }, [1, 1]])
      hook.answers.set(1, () => Effect.andThen(Effect.yieldNow, Effect.die("bad")))
      const [third, fourth] = [yield* borrow(pool), yield* borrow(pool)]
      assert.deepStrictEqual(endings([third, fourth]), ["HookFailed", "waits"])
      assert.deepStrictEqual([source.closed, (yield* pool.stats).leases], [[], 2])
      yield* first.letGo
      yield* second.letGo
      assert.deepStrictEqual([fourth.item, source.closed], [{ id: 2 }, [1]])
      yield* fourth.letGo
      assert.deepStrictEqual(onReturn.begun, [1, 1, 2])
      const { borrowed, recycled } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, recycled], [3, { "onBorrow failed": 1 }])
    }))

  it.effect("of a shared item that dies: all whose hooks run get another, in their order", () =>
    Effect.gen(function*() {
      const { hook, pool, source } = yield* seasoned({ concurrency: 3 })
      hook.answers.set(1, () => Effect.never)
      const borrowers = yield* several(3, pool)
      assert.strictEqual(hook.running, 3)
      source.opens.push({ slow: 100 })
      const late = yield* borrow(pool)
      lose(pool, source.opened[0], "lost")
      yield* elapse(100)
      assert.deepStrictEqual([...borrowers, late].map(({ item }) => item?.id), [2, 2, 2, undefined])
      for (const { letGo } of [...borrowers, late]) yield* letGo
      const { borrowed, takenBack } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, takenBack], [5, 0])
    }))

  it.effect("of several whose hooks run when the item dies, the one interrupted just then loses nothing", () =>
    Effect.gen(function*() {
      const { hook, pool, source } = yield* seasoned({ max: 2 })
      hook.answers.set(1, () => Effect.never)
      const first = yield* borrow(pool)
      lose(pool, source.opened[0], "lost")
      // It has been given its place again, and has not run since.
      first.fiber.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual([endings([first]), hook.running], [["interrupted"], 0])
      yield* books(source, pool)
    }))

  it.effect("that ends as its item dies counts for nothing: the next item has its own", () =>
    Effect.gen(function*() {
      for (const fails of [false, true]) {
        const { hook, pool, source } = yield* seasoned({ max: 2 })
        const end: { now?: () => void } = {}
        hook.answers.set(1, () =>
          Effect.callback((resume) => {
            end.now = () => resume(fails ? Effect.die("bad") : Effect.void)
          }))
        const borrower = yield* borrow(pool)
        if (fails) {
          lose(pool, source.opened[0], "lost")
          end.now!()
        } else {
          end.now!()
          lose(pool, source.opened[0], "lost")
        }
        yield* settle
        assert.deepStrictEqual([borrower.item, hook.begun], [{ id: 2 }, [1, 1, 2]])
        yield* borrower.letGo
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { lost: 1 })
      }
    }))

  it.effect("leaves no alarm behind, and no fiber", () =>
    Effect.gen(function*() {
      const { hook, pool, source } = yield* warm({ checkTimeout: 1000 })
      hook.otherwise = () => Effect.sleep(10)
      for (let i = 0; i < 3; i++) {
        const fiber = yield* Effect.forkChild(pool.use(() => Effect.void))
        yield* elapse(10)
        yield* Fiber.join(fiber)
        yield* settle
      }
      yield* elapse(5000)
      assert.deepStrictEqual((yield* books(source, pool)).recycled, {})
    }))
})
