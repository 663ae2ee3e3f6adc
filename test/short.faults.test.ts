/** What comes back by the short way is as free, as exclusive and as fresh as by the long one. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Option, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { borrow, type Borrower, elapse, several } from "./kit/books.ts"
import { settle, Source, type Thing } from "./kit/items.ts"

/** A TestClock that can be put forward within a step, as by a computation that takes so long. */
const stalling = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  let ahead = 0n
  const stalled = Object.create(clock, {
    monotonicTimeNanosUnsafe: { value: () => clock.monotonicTimeNanosUnsafe() + ahead }
  }) as Clock.Clock
  return { clock: stalled, stall: (millis: number) => Effect.sync(() => void (ahead += BigInt(millis) * 1_000_000n)) }
})

/** In the same step, as far as it comes. */
const atOnce = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkDetach(effect, { startImmediately: true })

/** An item that came back in this very turn from others who shared it, and whose last borrower did not come for it. */
const leftAgain = Effect.gen(function*() {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 2 })
  const scopes = [yield* Scope.make(), yield* Scope.make()]
  for (const scope of scopes) yield* Scope.provide(pool.get, scope)
  yield* settle
  const waiter = yield* atOnce(pool.use(() => Effect.never))
  const run = Effect.runSyncWith(yield* Effect.context())
  /** One turn: it is handed its place, the others leave, and it does not come. */
  const turn = (then: () => void) =>
    Effect.sync(() => {
      for (const scope of scopes) run(Scope.close(scope, Exit.void))
      waiter.interruptUnsafe()
      then()
    })
  /** Whether another gets the item at once. */
  const another = () => run(pool.useIfAvailable(({ id }) => Effect.succeed(id)))
  return { another, pool, run, turn }
})

describe("an item that others shared in this turn", () => {
  it.effect("is had alone by who asks for it alone", () =>
    Effect.gen(function*() {
      const { another, pool, run, turn } = yield* leftAgain
      let joined: unknown
      yield* turn(() => {
        run(pool.useExclusive(() => Effect.sync(() => void (joined = another()))))
      })
      assert.deepStrictEqual(joined, Option.none())
      yield* settle
    }))

  it.effect("is shared again by those who share", () =>
    Effect.gen(function*() {
      const { another, pool, run, turn } = yield* leftAgain
      let joined: unknown
      yield* turn(() => {
        run(pool.use(() => Effect.sync(() => void (joined = another()))))
      })
      assert.deepStrictEqual(joined, Option.some(1))
      yield* settle
    }))
})

describe("what is checked", () => {
  it.effect("an item that was idle for so long is checked, also when whom it was handed to did not come, in a turn that took long", () =>
    Effect.gen(function*() {
      const { clock, stall } = yield* stalling
      const source = new Source()
      let checks = 0
      const pool = yield* Effect.provideService(
        QueuePool.make({
          acquire: source.acquire,
          max: 1,
          checkAfter: "1 second",
          reset: () => undefined,
          check: () => Effect.sync(() => void checks++)
        }),
        Clock.Clock,
        clock
      )
      yield* pool.use(() => Effect.void)
      yield* settle
      yield* elapse(1000)
      yield* Effect.replicateEffect(pool.use(() => Effect.void), 4, { discard: true })
      let waiter: Fiber.Fiber<void, unknown> | undefined
      const before = checks
      yield* pool.use(() =>
        Effect.gen(function*() {
          waiter = yield* atOnce(pool.use(() => Effect.void))
        })
      )
      yield* stall(5000)
      waiter!.interruptUnsafe()
      const next = yield* atOnce(pool.use(() => Effect.void))
      yield* Fiber.join(next)
      assert.strictEqual(checks - before, 1)
    }))
})

describe("a rule that is asked as one of several leases of an item ends", () => {
  it.effect("cannot detach the item from under the others", () =>
    Effect.gen(function*() {
      const source = new Source()
      const detached = Scope.makeUnsafe()
      const run = Effect.runSyncWith(yield* Effect.context())
      let answer: boolean | undefined
      const asked = (item: Thing): boolean => {
        answer ??= run(Scope.provide(pool.detach(item), detached))
        return false
      }
      const pool: QueuePool.QueuePool<Thing, unknown> = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        concurrency: 2,
        recycle: RecyclePolicy.when<Thing>(({ item, moment }) => moment === "return" && asked(item))
      })
      const scopes = [yield* Scope.make(), yield* Scope.make()]
      for (const scope of scopes) yield* Scope.provide(pool.get, scope)
      yield* Scope.close(scopes[0]!, Exit.void)
      assert.isFalse(answer)
      assert.strictEqual((yield* pool.stats).leases, 1)
      yield* Scope.close(scopes[1]!, Exit.void)
      yield* Scope.close(detached, Exit.void)
    }))
})

describe("items that end as soon as they are open", () => {
  it.effect("hold back the opens for others no longer than until one of a later item has come back", () =>
    Effect.gen(function*() {
      let opened = 0
      const gates = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const acquire = Effect.suspend(() => {
        const item: Thing = { id: ++opened }
        return Effect.map(gates[opened - 1] === undefined ? Effect.void : Deferred.await(gates[opened - 1]!), () => {
          // Before its borrower has its turn.
          if (item.id === 1) queueMicrotask(() => lose(pool, item, "lost"))
          return item
        })
      })
      const pool: QueuePool.QueuePool<Thing> = yield* QueuePool.make({ acquire, max: 3, reset: () => undefined })
      // A test that has failed must not wait for its borrowers.
      yield* Effect.addFinalizer(() => Effect.forkDetach(elapse("1 minute")))
      const served: Array<Borrower<Thing, unknown>> = yield* several(2, pool)
      for (const gate of gates) {
        yield* Deferred.succeed(gate, undefined)
        yield* settle
      }
      // The first is lost, and until its delay is over nothing is opened but what was under way.
      const last = yield* borrow(pool)
      assert.deepStrictEqual([...served, last].map(({ item }) => item?.id), [2, undefined, undefined])
      yield* served[0]!.letGo
      assert.deepStrictEqual([...served, last].map(({ item }) => item?.id), [2, 2, 3])
      for (const { letGo } of [...served, last]) yield* letGo
    }))
})
