/** What comes back by the short way is as free, as exclusive and as fresh as by the long one. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Scope } from "effect"
import { QueuePool, QueuePoolMap, RecyclePolicy } from "effect-queuepool"
import { forgo, lose } from "../src/internal/registered.ts"
import { borrow, type Borrower, elapse, several } from "./kit/books.ts"
import { atOnce, settle, Source, type Thing } from "./kit/items.ts"
import { bent, BentClock } from "./kit/observe.ts"

interface Moments {
  /** When one has left. */
  readonly midway?: () => void
  /** When both have. */
  readonly between?: () => void
  /** When the third has given up. */
  readonly after?: () => void
}

/** Two share the one item, and a third waits. */
const sharedByTwo = Effect.fnUntraced(function*<E>(pool: Pick<QueuePool.QueuePool<Thing, E>, "get" | "use">) {
  const scopes = [yield* Scope.make(), yield* Scope.make()] as const
  for (const scope of scopes) yield* Scope.provide(pool.get, scope)
  yield* settle
  const waiter = yield* atOnce(pool.use(() => Effect.never))
  const run = Effect.runSyncWith(yield* Effect.context())
  /** One turn: it is handed its place, the others leave, and it does not come. */
  const turn = ({ after, between, midway }: Moments = {}) =>
    Effect.sync(() => {
      run(Scope.close(scopes[0], Exit.void))
      midway?.()
      run(Scope.close(scopes[1], Exit.void))
      between?.()
      waiter.interruptUnsafe()
      after?.()
    })
  return { run, turn }
})

/** An item that came back in this very turn from others who shared it, and whose last borrower did not come for it. */
const leftAgain = Effect.fnUntraced(function*(options: Partial<QueuePool.Options<Thing, unknown>> = {}) {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 2, ...options })
  const { run, turn } = yield* sharedByTwo(pool)
  /** Whether another gets the item at once. */
  const another = () => run(pool.useIfAvailable(({ id }) => Effect.succeed(id)))
  return { another, pool, run, turn }
})

describe("an item that others shared in this turn", () => {
  it.effect("is had alone by who asks for it alone", () =>
    Effect.gen(function*() {
      const { another, pool, run, turn } = yield* leftAgain()
      let joined: unknown
      yield* turn({
        after: () => {
          run(pool.useExclusive(() => Effect.sync(() => void (joined = another()))))
        }
      })
      assert.deepStrictEqual(joined, Option.none())
      yield* settle
    }))

  it.effect("is shared again by those who share", () =>
    Effect.gen(function*() {
      const { another, pool, run, turn } = yield* leftAgain()
      let joined: unknown
      yield* turn({
        after: () => {
          run(pool.use(() => Effect.sync(() => void (joined = another()))))
        }
      })
      assert.deepStrictEqual(joined, Option.some(1))
      yield* settle
    }))
})

describe("an item that others share", () => {
  it.effect("is shared again when they have left, in the same turn too", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 2 })
      yield* Effect.replicateEffect(pool.use(() => pool.use(() => Effect.void)), 2)
      const alone = yield* pool.use(() => pool.useIfAvailable(({ id }) => Effect.succeed(id)))
      assert.deepStrictEqual(alone, Option.some(1))
    }))

  it.effect("is not taken from another by one who had left it before its work was done", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 2 })
      for (const [others, next] of [[0, pool.getExclusive], [0, pool.get], [1, pool.get]] as const) {
        const scopes = yield* Effect.replicateEffect(Scope.make(), 2)
        if (others === 1) yield* Scope.provide(pool.get, scopes[1]!)
        const gate = yield* Deferred.make<void>()
        const left = yield* Effect.forkChild(
          pool.use((item) =>
            Effect.withFiber(({ id }) => {
              forgo(pool, item, id)
              // It has none to leave any more.
              forgo(pool, item, id)
              return Deferred.await(gate)
            })
          ),
          { startImmediately: true }
        )
        yield* settle
        assert.strictEqual((yield* pool.stats).leases, others)
        yield* Scope.provide(next, scopes[0]!)
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(left)
        assert.strictEqual((yield* pool.stats).leases, others + 1)
        for (const scope of scopes) yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* pool.stats).leases, 0)
      }
    }))

  it.effect("is reset for who used it, when one who was to have it too does not come", () =>
    Effect.gen(function*() {
      let resets = 0
      const { turn } = yield* leftAgain({ reset: () => void resets++ })
      yield* turn()
      yield* settle
      assert.strictEqual(resets, 1)
    }))
})

describe("a reset with nothing to be waited for", () => {
  /** A pool whose next reset does something else. */
  const resetting = Effect.fnUntraced(function*(options: Partial<QueuePool.Options<Thing, unknown>> = {}) {
    const source = new Source()
    const run = Effect.runSyncWith(yield* Effect.context())
    const exits: Array<Exit.Exit<unknown, unknown>> = []
    let next: ((item: Thing) => Effect.Effect<unknown>) | undefined
    const pool = yield* QueuePool.make({
      acquire: source.acquire,
      max: 2,
      ...options,
      reset: (item, exit) => {
        const act = next
        next = undefined
        exits.push(exit)
        if (act !== undefined) run(act(item))
        return undefined
      }
    })
    yield* Effect.replicateEffect(pool.use(() => Effect.void), 3, { discard: true })
    return { exits, onNext: (act: (item: Thing) => Effect.Effect<unknown>) => void (next = act), pool, source }
  })

  it.effect("is told how the lease ended, of which nothing is left after it", () =>
    Effect.gen(function*() {
      const { exits, pool, source } = yield* resetting()
      yield* pool.use(() => Effect.succeed("mine"))
      assert.deepStrictEqual(exits.at(-1), Exit.succeed("mine"))
      yield* pool.clear
      yield* settle
      assert.deepStrictEqual(source.closeExits, [Exit.void])
    }))

  const ends: Record<string, (pool: QueuePool.QueuePool<Thing, unknown>, item: Thing) => Effect.Effect<unknown>> = {
    "invalidates it": (pool, item) => pool.invalidate(item),
    "hears that it is lost": (pool, item) => Effect.sync(() => lose(pool, item, "lost")),
    "clears the pool": (pool) => pool.clear
  }
  for (const [what, end] of Object.entries(ends)) {
    it.effect(`keeps no item where it ${what}`, () =>
      Effect.gen(function*() {
        const { onNext, pool, source } = yield* resetting()
        onNext((item) => end(pool, item))
        yield* pool.use(() => Effect.void)
        yield* settle
        assert.deepStrictEqual([source.live, (yield* pool.stats).used], [0, 0])
        assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 2)
      }))
  }

  it.effect("keeps none too many where it makes max smaller", () =>
    Effect.gen(function*() {
      const { onNext, pool, source } = yield* resetting()
      yield* pool.use(() =>
        Effect.suspend(() => {
          onNext(() => Effect.orDie(pool.resize({ max: 1 })))
          return pool.use(() => Effect.void)
        })
      )
      yield* settle
      assert.deepStrictEqual([source.closed, (yield* pool.stats).recycled], [[2], { resized: 1 }])
    }))
})

describe("what is checked", () => {
  it.effect("an item that was idle for so long is checked, also when whom it was handed to did not come, in a turn that took long", () =>
    Effect.gen(function*() {
      const clock = yield* BentClock.make
      const source = new Source()
      let checks = 0
      const pool = yield* bent(
        QueuePool.make({
          acquire: source.acquire,
          max: 1,
          checkAfter: "1 second",
          reset: () => undefined,
          check: () => Effect.sync(() => void checks++)
        }),
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
      yield* clock.stall(5000)
      waiter!.interruptUnsafe()
      const next = yield* atOnce(pool.use(() => Effect.void))
      yield* Fiber.join(next)
      assert.strictEqual(checks - before, 1)
    }))
})

describe("what is checked and shared", () => {
  it.effect("an item is checked that nobody has used for so long in a turn, though one was to have it", () =>
    Effect.gen(function*() {
      const clock = yield* BentClock.make
      let checks = 0
      const check = () => Effect.sync(() => void checks++)
      const { pool, run, turn } = yield* bent(leftAgain({ check, checkAfter: "1 second" }), clock)
      yield* turn({ between: () => run(clock.stall(5000)) })
      yield* pool.use(() => Effect.void)
      assert.strictEqual(checks, 1)
    }))

  it.effect("an item is not checked that others have just left, though one was to have it", () =>
    Effect.gen(function*() {
      let checks = 0
      const check = () => Effect.sync(() => void checks++)
      const { pool, turn } = yield* leftAgain({ check, checkAfter: "1 second" })
      yield* elapse("10 seconds")
      yield* turn()
      yield* pool.use(() => Effect.void)
      assert.strictEqual(checks, 0)
    }))
})

describe("an item that others share, past its time", () => {
  it.effect("is replaced from when the first of them leaves it", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        min: 1,
        max: 2,
        concurrency: 3,
        replaceTimeout: "1 minute",
        recycle: RecyclePolicy.age("2 minutes")
      })
      const scopes = yield* Effect.replicateEffect(Scope.make(), 2)
      for (const scope of scopes) yield* Scope.provide(pool.get, scope)
      yield* elapse("3 minutes")
      yield* Scope.close(scopes[0]!, Exit.void)
      yield* settle
      const { leases } = yield* pool.stats
      const opened = source.opened.length
      yield* Scope.close(scopes[1]!, Exit.void)
      assert.deepStrictEqual([opened, leases], [2, 1])
    }))
})

describe("an item that others shared until this moment, in a turn that took long", () => {
  it.effect("is not checked", () =>
    Effect.gen(function*() {
      const clock = yield* BentClock.make
      let checks = 0
      const check = () => Effect.sync(() => void checks++)
      const { pool, run, turn } = yield* bent(leftAgain({ check, checkAfter: 100 }), clock)
      yield* turn({ midway: () => run(clock.stall(200)) })
      yield* pool.use(() => Effect.void)
      assert.strictEqual(checks, 0)
    }))

  it.effect("keeps its key of a map for the whole of its time", () =>
    Effect.gen(function*() {
      const clock = yield* BentClock.make
      const source = new Source()
      const map = yield* bent(
        QueuePoolMap.make({ acquire: (_: string) => source.acquire, max: 1, concurrency: 2, idleTimeToLive: 100 }),
        clock
      )
      yield* map.use("key", () => Effect.void)
      yield* elapse(50)
      const { run, turn } = yield* sharedByTwo({ get: map.get("key"), use: (f) => map.use("key", f) })
      yield* turn({ midway: () => run(clock.stall(90)) })
      yield* elapse(51)
      assert.strictEqual(source.closed.length, 0)
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
