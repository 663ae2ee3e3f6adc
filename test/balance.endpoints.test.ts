import { assert, describe, it } from "@effect/vitest"
import { Data, Effect, Exit, Fiber, MutableHashMap, Option, Queue, Scope, Stream, SubscriptionRef } from "effect"
import type { PoolError } from "effect-queuepool"
import * as Balanced from "effect-queuepool/Balanced"
import { elapse } from "./kit/books.ts"
import { atRest, endpoints, hold, keys, loads, tally, triedBy, visits, where } from "./kit/endpoints.ts"
import { settle } from "./kit/items.ts"
import { logged } from "./kit/observe.ts"

const listed = (balanced: Balanced.Balanced<string, unknown>) =>
  Effect.map(balanced.endpoints, (all) => all.map(({ key, priority, weight }) => `${key} ${priority} ${weight}`))

const problemsOf = (exit: Exit.Exit<unknown, PoolError.PoolError>) => {
  if (Exit.isSuccess(exit)) return assert.fail("it was taken")
  const [told] = exit.cause.reasons
  if (told?._tag !== "Fail" || told.error.reason._tag !== "InvalidOptions") return assert.fail("another error")
  return told.error.reason.problems
}

describe("endpoints that change", () => {
  it.effect("are added and removed while in use; those that stay keep what is known of them", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const list = yield* SubscriptionRef.make<ReadonlyArray<Balanced.Endpoint<string>>>(["a", "b"])
      const balanced = yield* Balanced.make(lender, { endpoints: SubscriptionRef.changes(list) })
      const holders = yield* Effect.forEach(keys(4), () => hold(balanced))
      yield* balanced.observe("a", 50)
      yield* SubscriptionRef.set(list, ["c", { key: "a", weight: 3, priority: 0 }])
      yield* settle
      assert.deepStrictEqual(yield* listed(balanced), ["c 0 1", "a 0 3"])
      assert.deepStrictEqual(yield* loads(balanced), { c: 0, a: 2 })
      assert.strictEqual((yield* balanced.endpoints)[1]!.latency, 50)
      const next = yield* hold(balanced)
      assert.strictEqual(next.at, "c")
      // The leases of "b" go on, and are known when it is back.
      yield* SubscriptionRef.set(list, ["b"])
      yield* settle
      assert.deepStrictEqual(yield* loads(balanced), { b: 2 })
      for (const { letGo } of [...holders, next]) yield* letGo
      assert.deepStrictEqual(yield* loads(balanced), { b: 0 })
      yield* SubscriptionRef.set(list, ["a", "b", "c"])
      yield* settle
      // "a" had its last lease after it was removed: nothing is left of it.
      assert.isUndefined((yield* balanced.endpoints)[0]!.latency)
      yield* atRest(lender, balanced)
    }))

  it.effect("a removed endpoint without leases is forgotten at once", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const list = yield* SubscriptionRef.make<ReadonlyArray<string>>(["a", "b"])
      const balanced = yield* Balanced.make(lender, { endpoints: SubscriptionRef.changes(list) })
      yield* balanced.observe("a", 50)
      yield* SubscriptionRef.set(list, ["b"])
      yield* settle
      yield* SubscriptionRef.set(list, ["a", "b"])
      yield* settle
      assert.isUndefined((yield* balanced.endpoints)[0]!.latency)
    }))

  it.effect("a new one is warmed up, the first are not, nor one that only changes its weight", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const list = yield* SubscriptionRef.make<ReadonlyArray<Balanced.Endpoint<string>>>(["a", "b"])
      const balanced = yield* Balanced.make(lender, {
        endpoints: SubscriptionRef.changes(list),
        choose: Balanced.roundRobin,
        slowStart: "10 seconds"
      })
      assert.deepStrictEqual(tally(yield* visits(balanced, 10)), { a: 5, b: 5 })
      const holder = yield* hold(balanced)
      const [stays, goes] = holder.at === "a" ? ["b", "a"] : ["a", "b"]
      yield* SubscriptionRef.set(list, [stays, "c"])
      yield* settle
      const { c = 0 } = tally(yield* visits(balanced, 110))
      assert.isTrue(c >= 9 && c <= 11, `${c}`)
      // So is one that was away.
      yield* SubscriptionRef.set(list, [stays, goes])
      yield* settle
      const { [goes]: back = 0 } = tally(yield* visits(balanced, 110))
      assert.isTrue(back >= 9 && back <= 11, `${back}`)
      yield* holder.letGo
    }))

  it.effect("a waiter at an endpoint that is removed is served there", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"], { max: 1 })
      const list = yield* SubscriptionRef.make<ReadonlyArray<string>>(["a"])
      const balanced = yield* Balanced.make(lender, { endpoints: SubscriptionRef.changes(list) })
      const [first, second] = [yield* hold(balanced), yield* hold(balanced)]
      yield* SubscriptionRef.set(list, ["b"])
      yield* settle
      assert.strictEqual(yield* where(balanced), "b")
      yield* first.letGo
      assert.strictEqual(second.at, "a")
      yield* second.letGo
      yield* atRest(lender, balanced)
    }))

  it.effect("none at all: borrowers fail at once, until there are some", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const list = yield* SubscriptionRef.make<ReadonlyArray<string>>([])
      const balanced = yield* Balanced.make(lender, { endpoints: SubscriptionRef.changes(list) })
      assert.deepStrictEqual(triedBy(yield* Effect.exit(where(balanced))), [])
      assert.strictEqual((yield* Effect.flip(balanced.pick)).message, `NoEndpoint: "servers" has no endpoints`)
      assert.deepStrictEqual(triedBy(yield* Effect.exit(Effect.scoped(balanced.getIfAvailable))), [])
      yield* SubscriptionRef.set(list, ["a"])
      yield* settle
      assert.strictEqual(yield* where(balanced), "a")
    }))

  it.effect("a list that is wrong is told of in the log and changes nothing", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const lender = yield* endpoints(["a", "b"])
        const list = yield* Queue.unbounded<ReadonlyArray<Balanced.Endpoint<string>>>()
        yield* Queue.offer(list, ["a"])
        const balanced = yield* Balanced.make(lender, { endpoints: Stream.fromQueue(list) })
        yield* Queue.offer(list, ["b", "b"])
        yield* settle
        assert.deepStrictEqual(yield* listed(balanced), ["a 0 1"])
        assert.match(lines.join(), /^Warn "servers" does not take these endpoints and keeps to the last/)
        yield* Queue.offer(list, ["b"])
        yield* settle
        assert.deepStrictEqual(yield* listed(balanced), ["b 0 1"])
      })
    ))

  it.effect("a Stream that fails is told of, and the last list stays", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const lender = yield* endpoints(["a"])
        const balanced = yield* Balanced.make(lender, {
          endpoints: Stream.concat(Stream.make(["a"]), Stream.fromEffect(Effect.die("broken")))
        })
        yield* settle
        assert.strictEqual(yield* where(balanced), "a")
        assert.match(lines.join(), /^Error the Stream of endpoints of "servers" has failed: it keeps to the last/)
      })
    ))

  it.effect("the choice is made when the first list is there, and is not when it is wrong, missing or fails", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const late = Stream.fromEffect(Effect.as(Effect.sleep(1000), ["a"]))
      const making = yield* Effect.forkChild(Balanced.make(lender, { endpoints: late }))
      yield* elapse(999)
      assert.isUndefined(making.pollUnsafe())
      yield* elapse(1)
      assert.isTrue(Balanced.isBalanced(yield* Fiber.join(making)))
      const none = yield* Effect.exit(Balanced.make(lender, { endpoints: Stream.empty }))
      assert.deepStrictEqual(problemsOf(none).map(({ allowed }) => allowed), [
        "an array, or a Stream that has at least one"
      ])
      const wrong = yield* Effect.exit(Balanced.make(lender, { endpoints: Stream.make(["a", "a"]) }))
      assert.deepStrictEqual(problemsOf(wrong).map(({ option }) => option), ["endpoints[1].key"])
      const broken = yield* Effect.exit(Balanced.make(lender, { endpoints: Stream.die("broken") }))
      assert.isTrue(Exit.isFailure(broken) && broken.cause.reasons[0]!._tag === "Die")
      yield* settle
    }))

  it.effect("with the scope of the choice ends the Stream, and that is no failure", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const lender = yield* endpoints(["a"])
        const scope = yield* Scope.make()
        let ended = false
        const list = Stream.concat(Stream.make(["a"]), Stream.never).pipe(
          Stream.ensuring(Effect.sync(() => void (ended = true)))
        )
        yield* Scope.provide(Balanced.make(lender, { endpoints: list }), scope)
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(ended)
        assert.deepStrictEqual(lines, [])
      })
    ))
})

describe("keys", () => {
  it.effect("are compared by their value, and are told as text", () =>
    Effect.gen(function*() {
      class Address extends Data.Class<{ readonly host: string; readonly port: number }> {}
      const strings = yield* endpoints(["x:1", "y:2"])
      const known = MutableHashMap.make([new Address({ host: "x", port: 1 }), "x:1"], [
        new Address({ host: "y", port: 2 }),
        "y:2"
      ])
      const text = (key: Address) => Option.getOrThrow(MutableHashMap.get(known, key))
      const lender: Balanced.Lender<Address, { readonly id: number }, unknown> = {
        name: "addresses",
        get: (key) => strings.get(text(key)),
        use: (key, f) => strings.use(text(key), f),
        getIfAvailable: (key) => strings.getIfAvailable(text(key)),
        useIfAvailable: (key, f) => strings.useIfAvailable(text(key), f),
        statsOf: () => Effect.succeedNone
      }
      const list = [new Address({ host: "x", port: 1 }), new Address({ host: "y", port: 2 })]
      const balanced = yield* Balanced.make(lender, { endpoints: list.map((key, priority) => ({ key, priority })) })
      yield* balanced.observe(new Address({ host: "x", port: 1 }), 10)
      assert.strictEqual((yield* balanced.endpoints)[0]!.latency, 10)
      for (const pool of strings.pools.values()) yield* pool.suspend
      const exit = yield* Effect.forkChild(Effect.exit(balanced.use(() => Effect.void)))
      yield* elapse("15 seconds")
      yield* elapse("15 seconds")
      assert.match(triedBy(yield* Fiber.join(exit)).join(), /x.*1.*BorrowTimeout.*y.*2.*BorrowTimeout/)
      const twice = yield* Effect.exit(
        Balanced.make(lender, { endpoints: [list[0]!, new Address({ host: "x", port: 1 })] })
      )
      assert.deepStrictEqual(problemsOf(twice).map(({ allowed }) => allowed), ["each key once"])
    }))

  it.effect("a key that is a record is given as { key }", () =>
    Effect.gen(function*() {
      const strings = yield* endpoints(["a"])
      const lender: Balanced.Lender<{ readonly key: string; readonly zone?: string }, unknown, unknown> = {
        name: "records",
        get: ({ key }) => strings.get(key),
        use: ({ key }, f) => strings.use(key, f),
        getIfAvailable: ({ key }) => strings.getIfAvailable(key),
        useIfAvailable: ({ key }, f) => strings.useIfAvailable(key, f),
        statsOf: ({ key }) => strings.statsOf(key)
      }
      const balanced = yield* Balanced.make(lender, { endpoints: [{ key: { key: "a" }, weight: 2 }] })
      assert.deepStrictEqual(yield* balanced.pick, { key: "a" })
      const zoned = { key: "a", zone: "z" }
      const named = yield* Balanced.make(lender, { endpoints: [zoned as never] })
      assert.deepStrictEqual(yield* named.pick, zoned)
    }))
})

describe("options", () => {
  it.effect("every wrong one is named in one error", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const wrong: Record<string, unknown> = {
        endpoints: [{ key: "a", priority: 0.5 }, { key: "b", priority: "x" }, { key: "c", weight: 0 }, "c", {
          key: "d",
          weight: Infinity
        }, { key: "e", weight: "1" }],
        name: "",
        choose: "leastLoaded",
        borrowTimeout: 0,
        measure: "all",
        decay: Infinity,
        slowStart: -1,
        panic: 2,
        breaker: { execute: () => Effect.void, state: 1 },
        fault: true,
        label: "x",
        retries: 3
      }
      const problems = problemsOf(yield* Effect.exit(Balanced.make(lender, wrong as never)))
      assert.deepStrictEqual(problems.map(({ option }) => option).sort(), [
        "borrowTimeout",
        "breaker",
        "choose",
        "decay",
        "endpoints[0].priority",
        "endpoints[1].priority",
        "endpoints[2].weight",
        "endpoints[3].key",
        "endpoints[4].weight",
        "endpoints[5].weight",
        "fault",
        "label",
        "measure",
        "name",
        "panic",
        "retries",
        "slowStart"
      ])
    }))

  it.effect("what is missing, null or of another kind", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const refused = (options: unknown) =>
        Effect.map(
          Effect.exit(Balanced.make(lender, options as never)),
          (exit) => problemsOf(exit).map(({ option }) => option)
        )
      const a = ["a"]
      assert.deepStrictEqual(yield* refused({}), ["endpoints"])
      assert.deepStrictEqual(yield* refused({ endpoints: [] }), ["endpoints"])
      assert.deepStrictEqual(yield* refused({ endpoints: "a" }), ["endpoints"])
      for (const choose of [null, {}, { name: "x", cost: 1 }]) {
        assert.deepStrictEqual(yield* refused({ endpoints: a, choose }), ["choose"])
      }
      for (const breaker of [null, 1, {}]) {
        assert.deepStrictEqual(yield* refused({ endpoints: a, breaker }), ["breaker"])
      }
      for (const borrowTimeout of ["soon", Number.NaN, -1]) {
        assert.deepStrictEqual(yield* refused({ endpoints: a, borrowTimeout }), ["borrowTimeout"])
      }
      for (const panic of ["0", -0.1]) assert.deepStrictEqual(yield* refused({ endpoints: a, panic }), ["panic"])
    }))

  it.effect("null is a key like others", () =>
    Effect.gen(function*() {
      const strings = yield* endpoints(["null"])
      const lender: Balanced.Lender<null, unknown, unknown> = {
        name: "nulls",
        get: () => strings.get("null"),
        use: (_, f) => strings.use("null", f),
        getIfAvailable: () => strings.getIfAvailable("null"),
        useIfAvailable: (_, f) => strings.useIfAvailable("null", f),
        statsOf: () => strings.statsOf("null")
      }
      const balanced = yield* Balanced.make(lender, { endpoints: [null] })
      assert.isNull(yield* balanced.pick)
    }))
})
