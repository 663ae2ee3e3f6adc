import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Option, Random, Scope } from "effect"
import { PoolError } from "effect-queuepool"
import * as Balanced from "effect-queuepool/Balanced"
import { elapse, ending } from "./kit/books.ts"
import { atRest, endpoints, hold, keys, loads, tally, triedBy, visits, where } from "./kit/endpoints.ts"
import { settle } from "./kit/items.ts"

/** "a" is before "b", "b" before "c". */
const inOrder = (...keys: ReadonlyArray<string>) => keys.map((key, priority) => ({ key, priority }))

const penalties = (balanced: Balanced.Balanced<string, unknown>) =>
  Effect.map(balanced.endpoints, (all) => Object.fromEntries(all.map(({ key, penalty }) => [key, Math.round(penalty)])))

describe("priorities", () => {
  it.effect("those of the lowest number serve, and the next when none of them can", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const balanced = yield* Balanced.make(lender, {
        endpoints: [{ key: "c", priority: 7 }, { key: "a", priority: -1 }, { key: "b", priority: -1 }]
      })
      const { a = 0, b = 0, c } = tally(yield* Random.withSeed(visits(balanced, 100), 1))
      assert.isUndefined(c)
      assert.isTrue(a > 20 && b > 20, `${a} ${b}`)
      for (const key of ["a", "b"]) {
        lender.source(key).opensOtherwise = "fail"
        yield* lender.pool(key).clear
      }
      yield* settle
      assert.deepStrictEqual(tally(yield* visits(balanced, 10)), { c: 10 })
      for (const key of ["a", "b"]) lender.source(key).opensOtherwise = "ok"
      const { a: again = 0, b: too = 0 } = tally(yield* visits(balanced, 10))
      assert.strictEqual(again + too, 10)
      yield* atRest(lender, balanced)
    }))
})

describe("an endpoint that cannot lend", () => {
  for (const how of ["fail", "die"] as const) {
    it.effect(`its open is to ${how}: another lends, and its fault counts as ten leases`, () =>
      Effect.gen(function*() {
        const lender = yield* endpoints(["a", "b"])
        lender.source("a").opensOtherwise = how
        const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
        assert.strictEqual(yield* where(balanced), "b")
        assert.strictEqual(yield* Effect.scoped(Effect.map(balanced.get, ({ id }) => id)), 1)
        assert.strictEqual(lender.source("a").attempts, 2)
        assert.deepStrictEqual(yield* penalties(balanced), { a: 20, b: 0 })
        yield* atRest(lender, balanced)
      }))
  }

  it.effect("fails fast: it does not draw the borrowers to itself", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      lender.source("a").opensOtherwise = "fail"
      const balanced = yield* Balanced.make(lender, { endpoints: ["a", "b"] })
      assert.deepStrictEqual(tally(yield* visits(balanced, 200)), { b: 200 })
      assert.isAtMost(lender.source("a").attempts, 1)
      // It is forgiven in time.
      lender.source("a").opensOtherwise = "ok"
      yield* elapse("60 seconds")
      assert.isAbove(tally(yield* Random.withSeed(visits(balanced, 200), 1))["a"]!, 50)
    }))

  it.effect("the error of the body is the caller's, and the body is not run again", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
      let runs = 0
      const bodies: Array<Effect.Effect<never, string>> = [
        Effect.fail("mine"),
        Effect.die("mine"),
        Effect.suspend(() => assert.fail("mine"))
      ]
      for (const effect of bodies) {
        // With an item that is there, and one that is to be opened.
        for (let i = 0; i < 2; i++) {
          runs = 0
          const exit = yield* Effect.exit(balanced.use(() => {
            runs++
            return effect
          }))
          assert.isTrue(Exit.isFailure(exit) && !(Cause.squash(exit.cause) instanceof PoolError.PoolError))
          assert.strictEqual(runs, 1)
          if (i > 0) yield* lender.pool("a").clear
        }
      }
      assert.deepStrictEqual(yield* penalties(balanced), { a: 0, b: 0 })
      yield* atRest(lender, balanced)
    }))

  it.effect("none can: the error names all that were tried, each once, and tells why", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c", "d"], { openTimeout: 100 })
      lender.source("a").opensOtherwise = "fail"
      lender.source("b").opensOtherwise = "hang"
      lender.source("c").opensOtherwise = "die"
      yield* lender.pool("d").suspend
      const balanced = yield* Balanced.make(lender, {
        endpoints: inOrder("a", "b", "c", "d"),
        borrowTimeout: "20 seconds"
      })
      const fiber = yield* Effect.forkChild(where(balanced))
      yield* elapse(100)
      yield* elapse("20 seconds")
      const exit = yield* Fiber.await(fiber)
      assert.deepStrictEqual(triedBy(exit), [
        ["a", "Refused"],
        ["b", "OpenTimeout"],
        ["c", "Die"],
        ["d", "BorrowTimeout"]
      ])
      const message = Exit.isFailure(exit) ? (Cause.squash(exit.cause) as Error).message : ""
      assert.strictEqual(
        message,
        `NoEndpoint: no endpoint of "servers" has lent an item within 20s: "a" (Refused), ` +
          `"b" (OpenTimeout: an item of "b" was not open within 100ms), "c" (broken 1), ` +
          `"d" (BorrowTimeout: no item of "d" within 19.9s (0/100 lent, 1 waiting))`
      )
      yield* atRest(lender, balanced)
    }))

  it.effect("by turns: each is tried once, and no turn is lost", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      lender.source("a").opensOtherwise = "fail"
      const balanced = yield* Balanced.make(lender, { endpoints: ["a", "b", "c"], choose: Balanced.roundRobin })
      const chosen = (yield* visits(balanced, 12)).join("")
      // What was for "a" comes to the one behind it, which has its own turn as well.
      assert.isTrue("bbcbbcbbcbbcbbc".includes(chosen), chosen)
      for (const key of ["b", "c"]) {
        lender.source(key).opensOtherwise = "fail"
        yield* lender.pool(key).clear
      }
      yield* settle
      const tried = triedBy(yield* Effect.exit(where(balanced))).map(([key]) => key)
      assert.deepStrictEqual(tried.toSorted(), ["a", "b", "c"])
    }))

  it.effect("the message tells of five", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(keys(7))
      for (const source of lender.sources.values()) source.opensOtherwise = "fail"
      const balanced = yield* Balanced.make(lender, { endpoints: keys(7), name: "all" })
      const error = yield* Effect.flip(Effect.scoped(balanced.get))
      assert.match(
        error.message,
        /^NoEndpoint: no endpoint of "all" has lent an item within 0ms: ("e\d" \(Refused\), ){5}2 more$/
      )
      assert.strictEqual(
        new PoolError.PoolError({
          pool: "p",
          reason: new PoolError.NoEndpoint({
            waited: 10,
            tried: [],
            untried: ["x", "y"]
          })
        }).message,
        `NoEndpoint: no endpoint of "p" has lent an item within 10ms: ; no time was left for 2 more`
      )
    }))

  it.effect("too many waiters, a suspension or the pool's end is no fault", () =>
    Effect.gen(function*() {
      const closed = yield* Scope.make()
      const lender = yield* endpoints(["a", "b", "c"], { max: 1, maxWaiters: 0, whenSuspended: "fail" })
      const { pools } = yield* Scope.provide(endpoints(["x"]), closed)
      yield* Scope.close(closed, Exit.void)
      lender.pools.set("x", pools.get("x")!)
      lender.sources.set("x", lender.source("a"))
      yield* lender.pool("b").suspend
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b", "x", "c") })
      const first = yield* hold(balanced)
      const second = yield* hold(balanced)
      assert.deepStrictEqual([first.at, second.at], ["a", "c"])
      const exit = yield* Effect.exit(where(balanced))
      assert.deepStrictEqual(triedBy(exit), [
        ["a", "TooManyWaiters"],
        ["b", "Suspended"],
        ["x", "Closed"],
        ["c", "TooManyWaiters"]
      ])
      assert.deepStrictEqual(yield* penalties(balanced), { a: 0, b: 0, x: 0, c: 0 })
      yield* first.letGo
      yield* second.letGo
    }))
})

describe("time", () => {
  it.effect("an endpoint that lends nothing is given up after its part, and the item that comes late is not lost", () =>
    Effect.gen(function*() {
      for (const by of ["use", "get"] as const) {
        const lender = yield* endpoints(["a", "b", "c"])
        lender.source("a").opens.push({ slow: 12_000 })
        const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b", "c") })
        const fiber = yield* Effect.forkChild(
          by === "use" ? where(balanced) : Effect.as(Effect.scoped(balanced.get), "b")
        )
        yield* elapse(9999)
        assert.deepStrictEqual(yield* loads(balanced), { a: 1, b: 0, c: 0 })
        yield* elapse(1)
        assert.strictEqual(yield* Fiber.join(fiber), "b")
        assert.deepStrictEqual(yield* penalties(balanced), { a: 10, b: 0, c: 0 })
        yield* elapse(2000)
        assert.strictEqual((yield* lender.pool("a").stats).idle, 1)
        yield* atRest(lender, balanced)
      }
    }))

  it.effect("of many endpoints each has two seconds at least", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(keys(100))
      for (const source of lender.sources.values()) source.opensOtherwise = "hang"
      const balanced = yield* Balanced.make(lender, { endpoints: keys(100), borrowTimeout: 7000 })
      const fiber = yield* Effect.forkChild(Effect.exit(where(balanced)))
      for (const [after, opens] of [[1999, 1], [1, 2], [2000, 3], [2000, 4], [999, 4]] as const) {
        yield* elapse(after)
        const attempts = Array.from(lender.sources.values(), ({ attempts }) => attempts)
        assert.strictEqual(attempts.reduce((a, b) => a + b), opens, `after ${after}`)
      }
      yield* elapse(1)
      const exit = yield* Fiber.join(fiber)
      assert.strictEqual(triedBy(exit).length, 4)
      assert.match(
        Exit.isFailure(exit) ? (Cause.squash(exit.cause) as Error).message : "",
        /no time was left for 96 more$/
      )
    }))

  it.effect("or a third of a time that is short", () =>
    Effect.gen(function*() {
      for (const [n, part] of [[2, 450], [3, 300], [100, 300]] as const) {
        const lender = yield* endpoints(keys(n))
        lender.source("e0").opensOtherwise = "hang"
        const balanced = yield* Balanced.make(lender, {
          endpoints: keys(n).map((key, priority) => ({ key, priority })),
          borrowTimeout: 900
        })
        const fiber = yield* Effect.forkChild(where(balanced))
        yield* elapse(part - 1)
        assert.isUndefined(fiber.pollUnsafe())
        yield* elapse(1)
        assert.strictEqual(yield* Fiber.join(fiber), "e1")
      }
    }))

  it.effect("while an endpoint serves others a borrower keeps its place there", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"], { max: 1, borrowTimeout: "Infinity" })
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), borrowTimeout: "60 seconds" })
      const served: Array<string> = []
      for (let i = 0; i < 5; i++) {
        yield* Effect.forkChild(balanced.use((_, key) => {
          served.push(key)
          return Effect.sleep("10 seconds")
        }))
      }
      // The last waits 40 seconds, which is more than its part.
      for (let i = 0; i < 5; i++) yield* elapse("10 seconds")
      assert.deepStrictEqual(served, ["a", "a", "a", "a", "a"])
      yield* atRest(lender, balanced)
    }))

  it.effect("an endpoint whose leases last longer than that is left, and it is its fault", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"], { max: 1 })
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
      const holder = yield* hold(balanced)
      const waiter = yield* hold(balanced)
      yield* elapse("15 seconds")
      assert.deepStrictEqual([holder.at, waiter.at], ["a", "b"])
      assert.deepStrictEqual(yield* penalties(balanced), { a: 10, b: 0 })
      yield* holder.letGo
      yield* waiter.letGo
      yield* atRest(lender, balanced)
    }))

  it.effect("to the end of its own time, where it serves others, and then it is nobody's fault", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"], { max: 1 })
      const balanced = yield* Balanced.make(lender, { endpoints: ["a"], borrowTimeout: "10 seconds" })
      const first = yield* hold(balanced)
      const second = yield* hold(balanced)
      yield* elapse("5 seconds")
      const third = yield* Effect.forkChild(Effect.exit(where(balanced)))
      yield* settle
      yield* first.letGo
      yield* elapse("10 seconds")
      assert.deepStrictEqual(triedBy(yield* Fiber.join(third)), [["a", "BorrowTimeout"]])
      assert.deepStrictEqual(yield* penalties(balanced), { a: 0 })
      yield* second.letGo
    }))

  it.effect("the timeout of the endpoint's own pool comes first", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"], { max: 1, borrowTimeout: 100 })
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), borrowTimeout: "Infinity" })
      const holder = yield* hold(balanced)
      const waiter = yield* hold(balanced)
      yield* elapse(100)
      assert.deepStrictEqual([holder.at, waiter.at], ["a", "b"])
      // "a" has lent nothing to anyone meanwhile.
      assert.deepStrictEqual(yield* penalties(balanced), { a: 10, b: 0 })
      const exit = yield* Effect.forkChild(Effect.exit(where(balanced)))
      yield* settle
      const next = yield* hold(balanced)
      yield* holder.letGo
      yield* elapse(100)
      yield* next.letGo
      yield* waiter.letGo
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(exit)))
      yield* lender.pool("a").suspend
      yield* lender.pool("b").suspend
      yield* elapse("10 minutes")
      const none = yield* Effect.forkChild(Effect.exit(where(balanced)))
      yield* elapse(100)
      yield* elapse(100)
      assert.deepStrictEqual(triedBy(yield* Fiber.join(none)), [["a", "BorrowTimeout"], ["b", "BorrowTimeout"]])
      assert.deepStrictEqual(yield* penalties(balanced), { a: 0, b: 0 })
    }))

  it.effect("and says nothing against an endpoint that has served others", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"], { max: 1, borrowTimeout: 100 })
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
      const borrowers = [yield* hold(balanced), yield* hold(balanced), yield* hold(balanced)]
      yield* elapse(50)
      yield* borrowers[0]!.letGo
      yield* elapse(50)
      assert.deepStrictEqual(borrowers.map(({ at }) => at), ["a", "a", "b"])
      assert.deepStrictEqual(yield* penalties(balanced), { a: 0, b: 0 })
      yield* Effect.forEach(borrowers, ({ letGo }) => letGo)
      yield* atRest(lender, balanced)
    }))

  it.effect("without a limit of its own the borrower itself waits and works", () =>
    Effect.gen(function*() {
      for (const [borrowTimeout, same] of [["Infinity", true], ["1 minute", false]] as const) {
        const lender = yield* endpoints(["a", "b"])
        const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), borrowTimeout })
        const id = Effect.withFiber(({ id }) => Effect.succeed(id))
        const [borrower, worker] = yield* Effect.all([id, balanced.use(() => id)])
        assert.strictEqual(borrower === worker, same)
      }
    }))

  it.effect("one who cannot be interrupted takes what comes late", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      lender.source("a").opens.push({ slow: 16_000 })
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
      const fiber = yield* Effect.forkChild(Effect.uninterruptible(where(balanced)))
      yield* elapse("15 seconds")
      yield* elapse("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), "a")
      yield* atRest(lender, balanced)
    }))

  it.effect("a lease that begins as its borrower begins to wait has all the time it needs", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      yield* lender.pool("a").use(() => Effect.void)
      // The item came back after it was asked for.
      lender.useIfAvailable = () => Effect.succeedNone
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
      const holder = yield* hold(balanced)
      yield* elapse("10 minutes")
      assert.isUndefined(holder.fiber.pollUnsafe())
      yield* holder.letGo
      assert.strictEqual(yield* Fiber.join(holder.fiber), "a")
    }))

  it.effect("an interruption of the borrower reaches a body that runs apart, and waits for it", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      lender.source("a").opens.push({ slow: 10 })
      const balanced = yield* Balanced.make(lender, { endpoints: ["a"] })
      const done = yield* Deferred.make<void>()
      let ended = false
      const fiber = yield* Effect.forkChild(balanced.use(() =>
        Effect.onInterrupt(Effect.never, () =>
          Effect.andThen(
            Deferred.await(done),
            Effect.sync(() => void (ended = true))
          ))
      ))
      yield* elapse(10)
      fiber.interruptUnsafe()
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      yield* Deferred.succeed(done, undefined)
      assert.strictEqual(ending(yield* Fiber.await(fiber)), "interrupted")
      assert.isTrue(ended)
      yield* atRest(lender, balanced)
    }))
})

describe("faults of leases", () => {
  for (const fault of [undefined, Exit.isFailure]) {
    it.effect(`one that lends again owes nothing any more, ${fault ? "once the lease is over well" : "at once"}`, () =>
      Effect.gen(function*() {
        const lender = yield* endpoints(["a"])
        const balanced = yield* Balanced.make(lender, { endpoints: ["a"], fault })
        lender.source("a").opensOtherwise = "fail"
        yield* Effect.exit(where(balanced))
        assert.deepStrictEqual(yield* penalties(balanced), { a: 10 })
        lender.source("a").opensOtherwise = "ok"
        const holder = yield* hold(balanced)
        assert.deepStrictEqual(yield* penalties(balanced), { a: fault ? 10 : 0 })
        yield* holder.letGo
        assert.deepStrictEqual(yield* penalties(balanced), { a: 0 })
        yield* atRest(lender, balanced)
      }))
  }

  it.effect("are not made good by a lease that began before them", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const balanced = yield* Balanced.make(lender, { endpoints: ["a"], fault: Exit.isFailure })
      const holder = yield* hold(balanced)
      yield* elapse(1)
      yield* Effect.exit(balanced.use(() => Effect.fail("ill")))
      yield* holder.letGo
      assert.deepStrictEqual(yield* penalties(balanced), { a: 10 })
      yield* where(balanced)
      assert.deepStrictEqual(yield* penalties(balanced), { a: 0 })
      yield* atRest(lender, balanced)
    }))

  it.effect("those that the predicate says", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const exits: Array<string> = []
      const balanced = yield* Balanced.make(lender, {
        endpoints: inOrder("a", "b"),
        fault: (exit) => {
          exits.push(ending(exit))
          return Exit.isFailure(exit) && Cause.squash(exit.cause) === "broken"
        }
      })
      yield* Effect.exit(balanced.use(() => Effect.fail("mine")))
      yield* where(balanced)
      assert.deepStrictEqual(yield* penalties(balanced), { a: 0, b: 0 })
      yield* Effect.exit(balanced.use(() => Effect.fail("broken")))
      assert.deepStrictEqual(yield* penalties(balanced), { a: 10, b: 0 })
      yield* Effect.exit(Effect.scoped(Effect.andThen(balanced.get, Effect.fail("broken"))))
      assert.deepStrictEqual(yield* penalties(balanced), { a: 20, b: 0 })
      const holder = yield* hold(balanced)
      yield* Fiber.interrupt(holder.fiber)
      assert.strictEqual(exits.length, 5)
      yield* atRest(lender, balanced)
    }))

  it.effect("a predicate that throws costs no count", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const balanced = yield* Balanced.make(lender, {
        endpoints: ["a"],
        fault: () => {
          throw new Error("mine")
        }
      })
      const exit = yield* Effect.exit(where(balanced))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      yield* atRest(lender, balanced)
    }))
})

describe("what is available", () => {
  it.effect("is lent by any endpoint that has it, without waiting and without an open", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"], { max: 1 })
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b", "c") })
      assert.isTrue(Option.isNone(yield* Effect.scoped(balanced.getIfAvailable)))
      assert.isTrue(Option.isNone(yield* balanced.useIfAvailable(() => Effect.void)))
      for (const source of lender.sources.values()) assert.strictEqual(source.attempts, 0)
      yield* lender.pool("c").use(() => Effect.void)
      const lent = yield* Effect.scoped(Effect.gen(function*() {
        const item = yield* balanced.getIfAvailable
        assert.deepStrictEqual(yield* loads(balanced), { a: 0, b: 0, c: 1 })
        assert.isTrue(Option.isNone(yield* balanced.getIfAvailable))
        return item
      }))
      assert.deepStrictEqual(lent, Option.some({ id: 1 }))
      assert.deepStrictEqual(yield* balanced.useIfAvailable((_, key) => Effect.succeed(key)), Option.some("c"))
      assert.strictEqual(yield* Effect.flip(balanced.useIfAvailable(() => Effect.fail("mine"))), "mine")
      yield* atRest(lender, balanced)
    }))

  it.effect("each endpoint is asked once, the one that is next first", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const asked: Array<string> = []
      lender.useIfAvailable = (key) => Effect.sync(() => (asked.push(key), Option.none()))
      const balanced = yield* Balanced.make(lender, { endpoints: ["a", "b", "c"], choose: Balanced.roundRobin })
      for (let i = 0; i < 12; i++) {
        const next = yield* balanced.pick
        asked.length = 0
        yield* balanced.useIfAvailable(() => Effect.void)
        assert.strictEqual(asked[0], next)
        assert.deepStrictEqual(asked.toSorted(), ["a", "b", "c"])
      }
    }))

  it.effect("passes over what cannot lend, and fails only when none can", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"], { whenSuspended: "fail" })
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
      yield* lender.pool("b").use(() => Effect.void)
      yield* lender.pool("a").suspend
      assert.deepStrictEqual(yield* balanced.useIfAvailable((_, key) => Effect.succeed(key)), Option.some("b"))
      yield* lender.pool("b").suspend
      const exit = yield* Effect.exit(balanced.useIfAvailable(() => Effect.void))
      assert.deepStrictEqual(triedBy(exit), [["a", "Suspended"], ["b", "Suspended"]])
    }))
})

it.effect("an interruption is never taken for a failure of the endpoint", () =>
  Effect.gen(function*() {
    const lender = yield* endpoints(["a", "b"])
    lender.useIfAvailable = () => Effect.interrupt
    const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
    for (const effect of [where(balanced), balanced.useIfAvailable(() => Effect.void)]) {
      const fiber = yield* Effect.forkChild(effect)
      assert.strictEqual(ending(yield* Fiber.await<unknown, unknown>(fiber)), "interrupted")
    }
    assert.deepStrictEqual(yield* penalties(balanced), { a: 0, b: 0 })
    yield* atRest(lender, balanced)
  }))

it.effect("what failed, or was given up, leaves nothing in the scope of who asked", () =>
  Effect.gen(function*() {
    const lender = yield* endpoints(["a", "b"])
    lender.source("a").opensOtherwise = "fail"
    lender.source("b").opensOtherwise = "hang"
    const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b") })
    const scope = yield* Scope.make()
    const left = () => {
      const { state } = scope
      return state._tag === "Open" ? state.finalizers?.size ?? Number(state.finalizer !== undefined) : 0
    }
    for (let i = 0; i < 3; i++) {
      const fiber = yield* Effect.forkChild(Scope.provide(balanced.get, scope))
      yield* elapse("30 seconds")
      assert.strictEqual(ending(yield* Fiber.await(fiber)), "NoEndpoint")
      assert.strictEqual(left(), 0)
    }
    lender.source("a").opensOtherwise = "ok"
    yield* Scope.provide(balanced.get, scope)
    assert.strictEqual(left(), 1)
    yield* Scope.close(scope, Exit.void)
    yield* elapse("1 minute")
    yield* atRest(lender, balanced)
  }))

it.effect("in a scope that is closed already the item goes back at once", () =>
  Effect.gen(function*() {
    const lender = yield* endpoints(["a"])
    const balanced = yield* Balanced.make(lender, { endpoints: ["a"] })
    const scope = yield* Scope.make()
    yield* Scope.close(scope, Exit.void)
    // One that is to be opened, and one that is there.
    yield* Scope.provide(balanced.get, scope)
    yield* Scope.provide(balanced.get, scope)
    yield* atRest(lender, balanced)
  }))

it.effect("a value that pipes and tells what it is", () =>
  Effect.gen(function*() {
    const lender = yield* endpoints(["a"])
    const balanced = yield* Balanced.make<string>({ endpoints: ["a"], name: "one" })(lender)
    assert.isTrue(Balanced.isBalanced(balanced))
    assert.isFalse(Balanced.isBalanced(lender))
    assert.strictEqual(balanced.pipe(({ name }) => name), "one")
    assert.strictEqual((yield* Balanced.make(lender, { endpoints: ["a"] })).name, "servers")
    assert.strictEqual(yield* balanced.pick, "a")
  }))
