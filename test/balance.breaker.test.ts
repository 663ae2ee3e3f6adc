import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Scope } from "effect"
import * as Balanced from "effect-queuepool/Balanced"
import { CircuitBreaker } from "effect/persistence"
import { elapse } from "./kit/books.ts"
import { atRest, ejected, endpoints, hold, keys, loads, tally, triedBy, visits, where } from "./kit/endpoints.ts"
import { settle } from "./kit/items.ts"

const breaking = (failures = 3) =>
  CircuitBreaker.make({ tripPolicy: CircuitBreaker.consecutive(failures), openDuration: "30 seconds" }).pipe(
    Effect.provide(CircuitBreaker.layerStoreMemory())
  )

const inOrder = (...keys: ReadonlyArray<string>) => keys.map((key, priority) => ({ key, priority }))

/** Two endpoints, of which "a" is first; it is ejected. */
const broken = Effect.fnUntraced(function*(options: Partial<Balanced.Options<string>> = {}, times = 3) {
  const lender = yield* endpoints(["a", "b"])
  const breaker = yield* breaking()
  const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), breaker, ...options })
  lender.source("a").opensOtherwise = "fail"
  assert.deepStrictEqual(tally(yield* visits(balanced, times)), { b: times })
  yield* settle
  assert.deepStrictEqual(yield* ejected(balanced), ["a"])
  return { lender, breaker, balanced, a: lender.source("a") }
})

const stateOf = (breaker: CircuitBreaker.CircuitBreaker, key: string) =>
  Effect.map(breaker.state(key), ({ _tag }) => _tag)

describe("ejection", () => {
  it.effect("after so many faults, and nobody asks the endpoint as long as others serve", () =>
    Effect.gen(function*() {
      const { a, balanced, lender } = yield* broken()
      assert.strictEqual(a.attempts, 3)
      assert.deepStrictEqual(tally(yield* visits(balanced, 50)), { b: 50 })
      assert.strictEqual(a.attempts, 3)
      yield* atRest(lender, balanced)
    }))

  it.effect("a lease that began is a success: it ends the row of failures", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const breaker = yield* breaking()
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), breaker })
      const { opens } = lender.source("a")
      for (let i = 0; i < 4; i++) {
        opens.push("fail", "fail", "ok")
        yield* visits(balanced, 2)
        // The error of the body is not the endpoint's.
        yield* Effect.exit(balanced.use(() => Effect.fail("mine")))
        yield* lender.pool("a").clear
        yield* settle
      }
      assert.deepStrictEqual(yield* ejected(balanced), [])
    }))

  it.effect("what the predicate calls a fault is a failure, what it does not a success, interruption neither", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const breaker = yield* breaking()
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), breaker, fault: Exit.isFailure })
      const fail = Effect.exit(balanced.use(() => Effect.fail("mine")))
      yield* fail
      yield* fail
      const holder = yield* hold(balanced)
      yield* holder.letGo
      yield* fail
      yield* fail
      assert.deepStrictEqual(yield* ejected(balanced), [])
      yield* fail
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), ["a"])
    }))

  it.effect("interruption says nothing", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const breaker = yield* breaking()
      const balanced = yield* Balanced.make(lender, {
        endpoints: inOrder("a", "b"),
        breaker,
        fault: (exit) => Exit.isFailure(exit) && !Exit.hasInterrupts(exit)
      })
      const fail = Effect.exit(balanced.use(() => Effect.fail("mine")))
      yield* fail
      yield* fail
      const holder = yield* hold(balanced)
      yield* Fiber.interrupt(holder.fiber)
      yield* fail
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), ["a"])
    }))

  it.effect("an outcome of before it was ejected says nothing of an endpoint that is back", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const breaker = yield* breaking()
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), breaker, fault: Exit.isFailure })
      const gate = yield* Deferred.make<void>()
      const failing = Effect.forkChild(balanced.use(() => Effect.andThen(Deferred.await(gate), Effect.fail("mine"))))
      yield* Effect.forEach(keys(3), () => failing)
      yield* settle
      assert.deepStrictEqual(yield* loads(balanced), { a: 3, b: 0 })
      lender.source("a").opens.push("fail", "fail", "fail")
      yield* visits(balanced, 3)
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), ["a"])
      yield* elapse("30 seconds")
      assert.strictEqual(yield* where(balanced), "a")
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), [])
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), [])
      yield* atRest(lender, balanced)
    }))
})

it.effect("nor does it bring an endpoint back that is away", () =>
  Effect.gen(function*() {
    const lender = yield* endpoints(["a", "b"])
    const breaker = yield* breaking()
    const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), breaker, fault: Exit.isFailure })
    const old = yield* hold(balanced)
    lender.source("a").opens.push("fail", "fail", "fail")
    yield* visits(balanced, 3)
    yield* settle
    assert.deepStrictEqual(yield* ejected(balanced), ["a"])
    yield* elapse("30 seconds")
    yield* old.letGo
    assert.deepStrictEqual(yield* ejected(balanced), ["a"])
    assert.strictEqual(yield* stateOf(breaker, "a"), "Open")
    yield* atRest(lender, balanced)
  }))

describe("the way back", () => {
  it.effect("one borrower finds out, while the others go elsewhere; then all come", () =>
    Effect.gen(function*() {
      const { a, balanced, breaker, lender } = yield* broken()
      a.opensOtherwise = "ok"
      a.opens.push({ slow: 500 })
      yield* elapse(29_999)
      assert.strictEqual(yield* where(balanced), "b")
      yield* elapse(1)
      const probe = yield* hold(balanced)
      assert.strictEqual(yield* stateOf(breaker, "a"), "HalfOpen")
      assert.deepStrictEqual(tally(yield* visits(balanced, 20)), { b: 20 })
      assert.strictEqual(a.attempts, 4)
      yield* elapse(500)
      assert.strictEqual(probe.at, "a")
      // It has lent: the lease need not be over.
      assert.strictEqual(yield* stateOf(breaker, "a"), "Closed")
      assert.deepStrictEqual(yield* ejected(balanced), [])
      assert.deepStrictEqual(tally(yield* visits(balanced, 20)), { a: 20 })
      yield* probe.letGo
      yield* atRest(lender, balanced)
    }))

  it.effect("one that finds it ill goes on to another, and it is ejected anew", () =>
    Effect.gen(function*() {
      const { a, balanced, breaker, lender } = yield* broken()
      yield* elapse("30 seconds")
      assert.strictEqual(yield* where(balanced), "b")
      yield* settle
      assert.strictEqual(a.attempts, 4)
      assert.strictEqual(yield* stateOf(breaker, "a"), "Open")
      yield* elapse(29_999)
      yield* visits(balanced, 5)
      assert.strictEqual(a.attempts, 4)
      yield* elapse(1)
      a.opensOtherwise = "ok"
      assert.strictEqual(yield* Effect.scoped(Effect.map(balanced.get, ({ id }) => id)), 5)
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), [])
      yield* atRest(lender, balanced)
    }))

  it.effect("one that is interrupted leaves it to the next", () =>
    Effect.gen(function*() {
      const { a, balanced, lender } = yield* broken()
      a.opensOtherwise = "hang"
      yield* elapse("30 seconds")
      const probe = yield* hold(balanced)
      assert.strictEqual(a.attempts, 4)
      yield* Fiber.interrupt(probe.fiber)
      yield* settle
      const next = yield* hold(balanced)
      assert.isUndefined(next.at)
      assert.deepStrictEqual(yield* loads(balanced), { a: 1, b: 0 })
      yield* Fiber.interrupt(next.fiber)
      yield* settle
      yield* atRest(lender, balanced)
    }))

  it.effect("of two that may be back each is found out by one, the one that was away longer first", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const { execute, state } = yield* breaking(1)
      let calls = 0
      const breaker: Balanced.Breaker = {
        execute: (self, options) => {
          calls++
          return execute(self, options)
        },
        state
      }
      const balanced = yield* Balanced.make(lender, {
        endpoints: ["a", "b", { key: "c", priority: 1 }],
        choose: Balanced.roundRobin,
        breaker
      })
      for (const key of ["b", "a"]) {
        lender.source(key).opensOtherwise = "fail"
        yield* lender.pool(key).clear
        yield* visits(balanced, 2)
        yield* settle
        yield* elapse("1 second")
      }
      assert.deepStrictEqual(yield* ejected(balanced), ["a", "b"])
      for (const key of ["a", "b"]) lender.source(key).opensOtherwise = "hang"
      yield* elapse("30 seconds")
      calls = 0
      const borrowers = [yield* hold(balanced)]
      assert.deepStrictEqual(yield* loads(balanced), { a: 0, b: 1, c: 0 })
      borrowers.push(yield* hold(balanced))
      assert.deepStrictEqual(yield* loads(balanced), { a: 1, b: 1, c: 0 })
      borrowers.push(yield* hold(balanced))
      assert.deepStrictEqual(yield* loads(balanced), { a: 1, b: 1, c: 1 })
      // Two have asked for leave, and the third has told of "c".
      assert.strictEqual(calls, 3)
      yield* Effect.forEach(borrowers, ({ fiber }) => Fiber.interrupt(fiber))
      yield* atRest(lender, balanced)
    }))

  it.effect("it comes back with a part of its weight", () =>
    Effect.gen(function*() {
      const { a, balanced } = yield* broken({
        endpoints: ["a", "b"],
        choose: Balanced.roundRobin,
        slowStart: "10 seconds"
      }, 6)
      a.opensOtherwise = "ok"
      yield* elapse("30 seconds")
      yield* where(balanced)
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), [])
      const { a: cold = 0 } = tally(yield* visits(balanced, 110))
      assert.isTrue(cold >= 9 && cold <= 11, `${cold}`)
      yield* elapse("10 seconds")
      const { a: warm = 0 } = tally(yield* visits(balanced, 110))
      assert.strictEqual(warm, 55)
    }))

  it.effect("what is not served from is not probed", () =>
    Effect.gen(function*() {
      const { a, balanced, lender } = yield* broken()
      a.opensOtherwise = "ok"
      yield* elapse("30 seconds")
      yield* where(balanced)
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), [])
      // Now "b" is ejected, behind "a".
      a.opens.push("fail", "fail", "fail")
      yield* lender.pool("a").clear
      yield* lender.pool("b").clear
      const b = lender.source("b")
      b.opens.push("fail", "fail", "fail")
      yield* Effect.forEach(keys(3), () => Effect.exit(where(balanced)))
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), ["a", "b"])
      yield* elapse("30 seconds")
      yield* where(balanced)
      yield* settle
      const { attempts } = b
      yield* visits(balanced, 10)
      assert.strictEqual(b.attempts, attempts)
      assert.deepStrictEqual(yield* ejected(balanced), ["b"])
    }))
})

describe("when too few are left", () => {
  it.effect("all are ejected: all are tried", () =>
    Effect.gen(function*() {
      const { a, balanced, lender } = yield* broken()
      lender.source("b").opensOtherwise = "fail"
      yield* lender.pool("b").clear
      yield* Effect.forEach(keys(3), () => Effect.exit(where(balanced)))
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), ["a", "b"])
      const { attempts } = a
      assert.deepStrictEqual(triedBy(yield* Effect.exit(where(balanced))), [["a", "Refused"], ["b", "Refused"]])
      assert.strictEqual(a.attempts, attempts + 1)
      a.opensOtherwise = "ok"
      assert.deepStrictEqual(tally(yield* visits(balanced, 5)), { a: 5 })
      // The circuits stay as they are until it is time.
      assert.deepStrictEqual(yield* ejected(balanced), ["a", "b"])
    }))

  it.effect("an ejected endpoint is the last resort of a borrower whom no other serves, the soonest first", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const breaker = yield* breaking(2)
      const balanced = yield* Balanced.make(lender, { endpoints: ["a", "b", "c"], breaker })
      const fail = (key: string) =>
        Effect.andThen(
          Effect.repeat(breaker.execute(Effect.fail("ill"), { key }).pipe(Effect.ignore), { times: 1 }),
          // Others have found it ill; this choice learns of it.
          Effect.repeat(Effect.andThen(where(balanced), settle), {
            until: () => Effect.map(ejected(balanced), (all) => all.includes(key))
          })
        )
      yield* fail("b")
      yield* elapse("1 second")
      yield* fail("c")
      assert.deepStrictEqual(yield* ejected(balanced), ["b", "c"])
      for (const key of ["a", "b", "c"]) {
        lender.source(key).opensOtherwise = "fail"
        yield* lender.pool(key).clear
      }
      yield* settle
      const exit = yield* Effect.exit(where(balanced))
      assert.deepStrictEqual(triedBy(exit).map(([key]) => key), ["a", "b", "c"])
    }))

  it.effect("no more than the part that panic says: ejections count for nothing", () =>
    Effect.gen(function*() {
      for (const [panic, expected] of [[0.5, ["a", "b"]], [0.4, ["b"]]] as const) {
        const { a, balanced } = yield* broken({
          endpoints: [{ key: "a", priority: 0 }, { key: "b", priority: 1 }],
          panic
        })
        a.opensOtherwise = "ok"
        const first = (yield* visits(balanced, 1))[0]!
        assert.strictEqual(first, expected[0])
      }
    }))
})

describe("a breaker that others use too", () => {
  it.effect("its state is learnt when an outcome is told", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const breaker = yield* breaking(1)
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), breaker })
      yield* breaker.execute(Effect.fail("ill"), { key: "a" }).pipe(Effect.ignore)
      assert.strictEqual(yield* where(balanced), "a")
      yield* settle
      assert.strictEqual(yield* where(balanced), "b")
      assert.deepStrictEqual(yield* ejected(balanced), ["a"])
    }))

  it.effect("whoever does not wait finds nothing out, and has what others have first", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const breaker = yield* breaking(1)
      const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), breaker })
      yield* breaker.execute(Effect.fail("ill"), { key: "a" }).pipe(Effect.ignore)
      assert.deepStrictEqual(yield* visits(balanced, 2), ["a", "b"])
      yield* elapse("30 seconds")
      const ask = balanced.useIfAvailable((_, key) => Effect.succeed(key))
      assert.deepStrictEqual(yield* ask, Option.some("b"))
      yield* lender.pool("b").clear
      assert.deepStrictEqual(yield* ask, Option.some("a"))
      assert.deepStrictEqual(yield* ejected(balanced), ["a"])
      assert.strictEqual(yield* stateOf(breaker, "a"), "Open")
    }))

  it.effect("while another probes nobody here does; it is asked again after a second", () =>
    Effect.gen(function*() {
      const { a, balanced, breaker } = yield* broken()
      a.opensOtherwise = "ok"
      yield* elapse("30 seconds")
      const other = yield* Deferred.make<void>()
      yield* Effect.forkChild(breaker.execute(Deferred.await(other), { key: "a" }))
      yield* settle
      assert.deepStrictEqual(tally(yield* visits(balanced, 5)), { b: 5 })
      assert.strictEqual(a.attempts, 3)
      yield* Deferred.succeed(other, undefined)
      yield* settle
      assert.strictEqual(yield* where(balanced), "b")
      yield* elapse("1 second")
      assert.strictEqual(yield* where(balanced), "a")
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), [])
    }))
})

describe("a breaker that does not answer", () => {
  /** A breaker that is told what to do. */
  class Scripted implements Balanced.Breaker {
    calls = 0
    readonly state = () => this.circuit
    circuit: ReturnType<Balanced.Breaker["state"]> = Effect.succeed({ _tag: "Closed" })
    before: Effect.Effect<unknown, { readonly _tag: string }> = Effect.void
    after: Effect.Effect<void> = Effect.void
    readonly outcomes: Array<string> = []
    readonly execute: Balanced.Breaker["execute"] = (self, { classify, key }) =>
      Effect.suspend(() => {
        this.calls++
        return Effect.onExit(Effect.andThen(this.before, self), (exit) =>
          Effect.andThen(
            this.after,
            Effect.sync(() => void this.outcomes.push(`${key} ${classify!(exit as never)._tag}`))
          ))
      })
  }

  const scripted = Effect.fnUntraced(function*() {
    const lender = yield* endpoints(["a", "b"])
    const breaker = new Scripted()
    const balanced = yield* Balanced.make(lender, { endpoints: inOrder("a", "b"), breaker })
    return { lender, breaker, balanced }
  })

  const eject = Effect.fnUntraced(function*(balanced: Balanced.Balanced<string, unknown>, breaker: Scripted) {
    breaker.circuit = Effect.succeed({ _tag: "HalfOpen", probing: false })
    breaker.before = Effect.fail({ _tag: "Rejected" })
    yield* where(balanced as never)
    yield* settle
    assert.deepStrictEqual(yield* ejected(balanced as never), ["a"])
  })

  it.effect("so many outcomes wait for it, and no borrower does", () =>
    Effect.gen(function*() {
      const { balanced, breaker } = yield* scripted()
      const gate = yield* Deferred.make<void>()
      breaker.before = Deferred.await(gate)
      yield* visits(balanced, 200)
      assert.strictEqual(breaker.calls, 64)
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      yield* visits(balanced, 2)
      assert.strictEqual(breaker.calls, 66)
    }))

  it.effect("its failure ejects nobody", () =>
    Effect.gen(function*() {
      const { balanced, breaker } = yield* scripted()
      breaker.before = Effect.die("broken")
      breaker.circuit = Effect.fail({ _tag: "StoreError" })
      assert.deepStrictEqual(tally(yield* visits(balanced, 5)), { a: 5 })
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), [])
    }))

  it.effect("an ejected endpoint stays so for a second when it fails", () =>
    Effect.gen(function*() {
      const { balanced, breaker } = yield* scripted()
      yield* eject(balanced, breaker)
      breaker.circuit = Effect.fail({ _tag: "StoreError" })
      const { calls } = breaker
      assert.deepStrictEqual(tally(yield* visits(balanced, 5)), { b: 5 })
      // One asked for "a", all told of "b".
      assert.strictEqual(breaker.calls, calls + 6)
      yield* elapse("1 second")
      breaker.before = Effect.void
      breaker.circuit = Effect.succeed({ _tag: "Closed" })
      assert.strictEqual(yield* where(balanced), "a")
    }))

  it.effect("it hears of one who probes what was first, however late it asks", () =>
    Effect.gen(function*() {
      const { balanced, breaker } = yield* scripted()
      yield* eject(balanced, breaker)
      breaker.outcomes.length = 0
      breaker.before = Effect.void
      breaker.after = Effect.yieldNow
      breaker.circuit = Effect.succeed({ _tag: "Closed" })
      assert.strictEqual(yield* where(balanced), "a")
      yield* settle
      assert.deepStrictEqual(breaker.outcomes, ["a Success"])
    }))

  it.effect("one who is refused though it may be back asks once, and goes elsewhere", () =>
    Effect.gen(function*() {
      const { balanced, breaker } = yield* scripted()
      yield* eject(balanced, breaker)
      const { calls } = breaker
      assert.strictEqual(yield* where(balanced), "b")
      assert.strictEqual(breaker.calls, calls + 2)
      const [a] = yield* balanced.endpoints
      assert.deepStrictEqual([a!.ejected, a!.penalty], [true, 0])
    }))

  it.effect("one who asks to probe waits a second for leave, and goes elsewhere", () =>
    Effect.gen(function*() {
      const { balanced, breaker, lender } = yield* scripted()
      yield* eject(balanced, breaker)
      const gate = yield* Deferred.make<void>()
      breaker.before = Deferred.await(gate)
      const fiber = yield* Effect.forkChild(where(balanced))
      yield* elapse(999)
      assert.isUndefined(fiber.pollUnsafe())
      assert.deepStrictEqual(tally(yield* visits(balanced, 5)), { b: 5 })
      yield* elapse(1)
      assert.strictEqual(yield* Fiber.join(fiber), "b")
      // The leave that comes late is given back.
      breaker.circuit = Effect.succeed({ _tag: "Closed" })
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      assert.deepStrictEqual(yield* ejected(balanced), [])
      yield* atRest(lender, balanced)
    }))

  it.effect("with the end of the choice ends what is told", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const breaker = new Scripted()
      const scope = yield* Scope.make()
      const balanced = yield* Scope.provide(Balanced.make(lender, { endpoints: ["a"], breaker }), scope)
      let interrupted = false
      breaker.before = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (interrupted = true)))
      yield* where(balanced)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(interrupted)
      // The keyed pool may live on.
      assert.strictEqual(yield* where(balanced), "a")
    }))
})

it.effect("the endpoint's label is the key of its circuit", () =>
  Effect.gen(function*() {
    const lender = yield* endpoints(["a", "b"])
    const breaker = yield* breaking(1)
    lender.source("a").opensOtherwise = "fail"
    const balanced = yield* Balanced.make(lender, {
      endpoints: inOrder("a", "b"),
      breaker,
      label: (key) => `server:${key}`
    })
    yield* where(balanced)
    yield* settle
    assert.strictEqual(yield* stateOf(breaker, "server:a"), "Open")
  }))
