/** Numbers D, E and G of the contract that no other test shows. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, endings, several, Watch } from "./kit/books.ts"
import { settle, Source, type Thing } from "./kit/items.ts"
import { bent, BentClock, logged, record, recycled, recycledAt, told } from "./kit/observe.ts"

const idOf = (pool: QueuePool.QueuePool<Thing, unknown>) => pool.use(({ id }) => Effect.succeed(id))

describe("the closing of a pool", () => {
  it.effect("D8: takes an item back from a lease whose scope outlives it, says whose, and is no deadlock", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const [inner, outer] = [yield* Scope.make(), yield* Scope.make()]
      const pool = yield* Scope.provide(
        QueuePool.make({ acquire: source.acquire, max: 1, name: "db", drainTimeout: 2000, leaseWarning: "1 hour" }),
        inner
      )
      yield* Effect.withSpan(Scope.provide(pool.get, outer), "GET /users")
      const closing = yield* Effect.forkChild(Scope.close(inner, Exit.void))
      yield* elapse(1999)
      assert.isUndefined(closing.pollUnsafe())
      yield* elapse(1)
      assert.isDefined(closing.pollUnsafe())
      closedBooks(source)
      assert.include(lines.join("\n"), "item 1 of pool \"db\" is closed under \"GET /users\"")
      assert.include(lines.join("\n"), "contract.ends.test.ts")
      // The lease ends when its scope does, and nothing is closed twice.
      yield* Scope.close(outer, Exit.void)
      assert.deepStrictEqual(source.closed, [1])
    })))

  it.effect("D11: opens nothing, sweeps nothing and checks nothing from the moment that it began", () =>
    Effect.gen(function*() {
      const source = new Source()
      const seen: Array<string> = []
      const scope = yield* Scope.make()
      const watch = new Watch()
      const pool = yield* watch.around(Scope.provide(
        QueuePool.make({
          acquire: source.acquire,
          max: 6,
          min: 4,
          drainTimeout: "1 minute",
          retry: Schedule.spaced(100),
          sweep: 500,
          recycle: [
            RecyclePolicy.age(1500),
            RecyclePolicy.check(({ id }: Thing) =>
              Effect.sync(() => {
                seen.push(`check ${id}`)
                return false
              })
            )
          ]
        }),
        scope
      ))
      const events = yield* record(pool)
      const holders = yield* several(2, pool)
      yield* elapse(600)
      assert.isNotEmpty(seen)
      // An outage: the retry road has a step due.
      source.opensOtherwise = "fail"
      yield* several(4, pool)
      const waiter = yield* borrow(pool)
      seen.length = 0
      const [attempts, count] = [source.attempts, events.length]
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.deepStrictEqual(endings([waiter]), ["Closed"])
      source.opensOtherwise = "ok"
      yield* elapse("50 seconds")
      for (const { letGo } of holders) yield* letGo
      assert.deepStrictEqual([source.attempts, seen], [attempts, []])
      const since = told(events.slice(count)).map((line) => line.split(" ")[0])
      assert.notIncludeMembers(since, ["Opening", "Retrying", "Swept", "Borrowed"])
      assert.strictEqual(since[0], "PoolClosing")
      yield* elapse("10 seconds")
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual({ fibers: watch.fibers, timers: watch.timers }, { fibers: 0, timers: 0 })
      closedBooks(source)
    }))

  it.effect("D11: ends the work on an item before that is closed", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const acquire = Effect.acquireRelease(Effect.succeed("item"), () => Effect.sync(() => void log.push("closed")))
      const work = (what: string) => () => Effect.onExit(Effect.never, () => Effect.sync(() => void log.push(what)))
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(
        QueuePool.make({
          acquire,
          min: 1,
          max: 1,
          sweep: 100,
          monitor: work("monitor ended"),
          checkTimeout: "1 hour",
          recycle: RecyclePolicy.check(work("check ended"))
        }),
        scope
      )
      yield* elapse(150)
      assert.deepStrictEqual([log, (yield* pool.stats).used], [[], 1])
      yield* Scope.close(scope, Exit.void)
      assert.sameMembers(log.slice(0, 2), ["monitor ended", "check ended"])
      assert.deepStrictEqual(log.slice(2), ["closed"])
    }))
})

describe("a sweep", () => {
  it.effect("E5: that wants an item in the instant in which a borrower does never takes it from the borrower", () =>
    Effect.gen(function*() {
      for (const first of ["the sweep", "the borrower"] as const) {
        const source = new Source()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(
          QueuePool.make({ acquire: source.acquire, max: 1, recycle: RecyclePolicy.idle(1000) }),
          scope
        )
        const closedWhileLent: Array<number> = []
        const late = Effect.andThen(
          Effect.sleep(1001),
          pool.use(({ id }) =>
            Effect.map(Effect.sleep(10), () => {
              closedWhileLent.push(...source.closed.filter((closed) => closed === id))
              return id
            })
          )
        )
        // Whose timer is armed first rings first.
        const use = pool.use(() => Effect.void)
        if (first === "the sweep") yield* use
        const borrower = yield* Effect.forkChild(late)
        yield* settle
        if (first === "the borrower") yield* use
        yield* elapse(1001)
        yield* elapse(10)
        assert.include([1, 2], yield* Fiber.join(borrower))
        assert.deepStrictEqual(closedWhileLent, [], first)
        yield* books(source, pool)
        yield* Scope.close(scope, Exit.void)
        closedBooks(source)
      }
    }))

  // A borrower waits beside an idle item only while a sweep has that in hand.
  for (const verdict of [true, false]) {
    it.effect(`E6: that has the only item in hand serves those who wait when it ${verdict ? "closes" : "keeps"} it`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const answer = yield* Deferred.make<boolean>()
        const pool = yield* QueuePool.make({
          acquire: source.acquire,
          max: 1,
          recycle: RecyclePolicy.check(({ id }: Thing) => id === 1 ? Deferred.await(answer) : Effect.succeed(false))
        })
        yield* pool.use(() => Effect.void)
        const sweep = yield* Effect.forkChild(pool.sweep)
        yield* settle
        const waiters = yield* several(2, pool)
        assert.deepStrictEqual(waiters.map(({ item }) => item), [undefined, undefined])
        yield* Deferred.succeed(answer, verdict)
        yield* settle
        assert.strictEqual((yield* Fiber.join(sweep)).recycled.length, verdict ? 1 : 0)
        for (const waiter of waiters) {
          assert.deepStrictEqual(waiter.item, { id: verdict ? 2 : 1 })
          yield* waiter.letGo
        }
        yield* books(source, pool)
      }))
  }

  it.effect("E11: that has not come yet lets nobody have an item past its age", () =>
    Effect.gen(function*() {
      const source = new Source()
      const clock = yield* BentClock.make
      const pool = yield* bent(
        QueuePool.make({ acquire: source.acquire, max: 1, recycle: RecyclePolicy.age("1 minute") }),
        clock
      )
      const events = yield* record(pool)
      yield* idOf(pool)
      clock.stalled = 60_000
      assert.strictEqual(yield* idOf(pool), 1)
      clock.stalled = 60_001
      // No timer has rung: it is the borrow that sees it.
      assert.strictEqual(yield* idOf(pool), 2)
      yield* settle
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
      yield* books(source, pool)
    }))
})

describe("a timer", () => {
  it.effect("G8: of a lease that has ended does nothing to the next lease of its item", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        leaseWarning: 800,
        maxLease: 1000,
        recycle: RecyclePolicy.failed
      })
      // Each holds for 799 ms: together they are past both limits many times.
      for (let i = 0; i < 5; i++) {
        const holder = yield* borrow(pool)
        yield* elapse(799)
        yield* holder.letGo
        assert.deepStrictEqual(endings([holder]), ["served"])
      }
      // And past them while the item is idle.
      yield* elapse(5000)
      assert.deepStrictEqual([lines, source.closed], [[], []])
      // Ended in the very instant of the first one's limit, and lent on.
      const scope = yield* Scope.make()
      const ends = yield* Effect.forkChild(
        Effect.andThen(Effect.sleep(1000), Effect.suspend(() => Scope.close(scope, Exit.void)))
      )
      yield* settle
      yield* Scope.provide(pool.get, scope)
      const next = yield* Effect.forkChild(pool.use(() => Effect.sleep(900)))
      yield* elapse(1000)
      yield* Fiber.join(ends)
      yield* elapse(900)
      assert.strictEqual(ending(next.pollUnsafe()), "served")
      yield* books(source, pool)
    })))

  it.effect("G8: of a wait that is over does nothing to the lease that came of it, nor to the next wait", () =>
    Effect.gen(function*() {
      const source = new Source()
      const clock = yield* BentClock.make
      const pool = yield* bent(QueuePool.make({ acquire: source.acquire, max: 1, borrowTimeout: 1000 }), clock)
      const [holder, waiter] = yield* several(2, pool)
      yield* elapse(500)
      yield* holder!.letGo
      assert.deepStrictEqual(waiter!.item, { id: 1 })
      const second = yield* borrow(pool)
      // The timer of the first wait rings, late, in the second one's time.
      clock.stalled = 499
      yield* elapse(500)
      assert.deepStrictEqual(endings([waiter!, second]), ["waits", "waits"])
      yield* elapse(1)
      assert.deepStrictEqual(endings([waiter!, second]), ["waits", "BorrowTimeout"])
      yield* waiter!.letGo
      assert.deepStrictEqual(endings([waiter!]), ["served"])
      yield* books(source, pool)
    }))

  it.effect("G10: after months with nothing to do rings in its time, and before one that is far", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        borrowTimeout: 250,
        recycle: [RecyclePolicy.idle(1000), RecyclePolicy.age("30 days")]
      })
      const events = yield* record(pool)
      yield* elapse("90 days")
      const start = yield* Effect.clockWith((clock) =>
        Effect.sync(() => Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
      )
      const holder = yield* borrow(pool)
      yield* elapse("29 days")
      const waiter = yield* borrow(pool)
      yield* elapse(249)
      assert.deepStrictEqual(endings([waiter]), ["waits"])
      yield* elapse(1)
      assert.deepStrictEqual(endings([waiter]), ["BorrowTimeout"])
      yield* holder.letGo
      yield* elapse(1001)
      assert.deepStrictEqual(recycled(events), [[1, "idle"]])
      assert.strictEqual(recycledAt(events)[0]! - start, 29 * 86_400_000 + 250 + 1001)
      yield* books(source, pool)
    }))
})
