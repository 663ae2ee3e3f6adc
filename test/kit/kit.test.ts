/** What is scripted goes as told, and the ledger notices what it is there to notice. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Pool, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import * as Fs from "node:fs"
import { elapse, ending } from "./books.ts"
import { settle } from "./items.ts"
import type { Counted } from "./ledger.ts"
import { Ledger, type Outcome, Scripted, type Thing } from "./scripted.ts"

const one: Thing = { id: 1 }
const two: Thing = { id: 2 }

const poolOf = (source: Scripted, max: number) =>
  Effect.tap(
    QueuePool.make({
      acquire: source.acquire,
      check: source.check,
      checkAfter: 0,
      reset: source.reset,
      max,
      openTimeout: 100,
      checkTimeout: 100,
      resetTimeout: 100,
      closeTimeout: 100,
      borrowTimeout: 1000
    }),
    (pool) => Effect.sync(() => source.ledger.watch(pool))
  )

describe("scripted", () => {
  const outcomes: Record<string, readonly [outcome: Outcome, after: number, open: string]> = {
    succeeds: ["ok", 0, "served"],
    fails: ["fail", 0, "Refused"],
    dies: ["die", 0, "defect"],
    "is slow": [{ slow: 50 }, 50, "served"],
    "is late": [{ late: 50 }, 50, "served"],
    hangs: ["hang", 100, "OpenTimeout"],
    "cannot be interrupted": ["stuck", 100, "OpenTimeout"]
  }
  for (const [how, [outcome, after, open]] of Object.entries(outcomes)) {
    it.effect(`an open that ${how}`, () =>
      Effect.gen(function*() {
        const source = new Scripted({ max: 1 })
        source.opens.push(outcome)
        const pool = yield* poolOf(source, 1)
        const fiber = yield* Effect.forkChild(source.use(pool, () => Effect.void))
        yield* elapse(Math.max(0, after - 1))
        if (after > 0) assert.isUndefined(fiber.pollUnsafe())
        yield* elapse(1)
        assert.strictEqual(ending(fiber.pollUnsafe()), open)
        yield* elapse(200)
        yield* source.ledger.atRest()
      }))

    it.effect(`a check, a reset and a release that ${how}`, () =>
      Effect.gen(function*() {
        const source = new Scripted({ max: 2 })
        const pool = yield* poolOf(source, 2)
        yield* source.use(pool, () => Effect.void)
        yield* elapse(1)
        source.checks.push(outcome)
        source.resets.push("ok", outcome)
        source.closes.push(outcome)
        const fiber = yield* Effect.forkChild(source.use(pool, () => Effect.void))
        yield* elapse(after)
        assert.strictEqual(ending(fiber.pollUnsafe()), "served")
        yield* elapse(after)
        yield* pool.clear
        yield* elapse(500)
        assert.deepStrictEqual([source.checked, source.cleaned.length >= 2], [[1], true])
        yield* source.ledger.atRest()
        // A release that hangs ends as it is abandoned, but for one that cannot be interrupted.
        const stuck = outcome === "stuck" ? 1 : 0
        assert.strictEqual(source.ledger.opens - source.ledger.closes, stuck)
      }))
  }

  it.effect("one that cannot be interrupted is not, and one that hangs is", () =>
    Effect.gen(function*() {
      for (const [outcome, end] of [["stuck", "waits"], ["hang", "interrupted"], [{ late: 50 }, "waits"]] as const) {
        const source = new Scripted({ max: 1 })
        source.checksOtherwise = outcome
        const fiber = yield* Effect.forkDetach(source.check(one))
        yield* settle
        fiber.interruptUnsafe()
        yield* settle
        assert.strictEqual(ending(fiber.pollUnsafe()), end)
        source.heal()
        assert.isTrue(Exit.isSuccess(yield* Effect.exit(source.check(one))))
      }
    }))
})

/** A pool that says of itself what it is told. */
const saying = (says: Partial<QueuePool.Stats>): Counted => ({
  stats: Effect.succeed(
    { idle: 0, used: 0, opening: 0, closing: 0, pending: 0, abandoned: 0, detached: 0, takenBack: 0, ...says } as never
  )
})

describe("the ledger", () => {
  it.effect("agrees with a pool whose items are lent, shared, cleared, abandoned and taken back", () =>
    Effect.gen(function*() {
      const source = new Scripted({ max: 2, concurrency: 2 })
      source.opens.push("fail", "die", { slow: 5 })
      source.closes.push("ok", "stuck", "fail")
      const scope = yield* Scope.make()
      yield* source.ledger.everyStep(Effect.gen(function*() {
        const options = { acquire: source.acquire, max: 2, concurrency: 2, closeTimeout: 50, drainTimeout: 0 }
        const pool = yield* Scope.provide(QueuePool.make(options), scope)
        source.ledger.watch(pool)
        for (let i = 0; i < 12; i++) {
          const body = (item: Thing) => i % 4 === 0 ? pool.invalidate(item) : Effect.sleep(i)
          yield* Effect.forkChild(source.use(pool, body))
        }
        yield* elapse(100)
        yield* source.ledger.atRest()
        yield* Effect.forkChild(source.use(pool, () => Effect.never))
        yield* elapse(10)
        yield* source.ledger.atRest(1)
      }))
      yield* Effect.forkDetach(Scope.close(scope, Exit.void))
      yield* elapse(100)
      yield* source.ledger.end(1)
      assert.isAbove(source.ledger.steps, 60)
    }))

  /** What it says of something that no honest pool does. */
  const notices = (
    name: string,
    wrong: (ledger: Ledger<Thing>) => unknown,
    note: string,
    at: "steps" | "rest" | "end" = "steps"
  ) =>
    it.effect(`notices ${name}`, () =>
      Effect.gen(function*() {
        const ledger = new Ledger<Thing>({ max: 1 })
        wrong(ledger)
        const proof = at === "steps" ? ledger.proof : at === "rest" ? ledger.atRest() : ledger.end()
        const exit = yield* Effect.exit(proof)
        assert.isTrue(Exit.isFailure(exit))
        assert.include(String(Cause.squash((exit as Exit.Failure<never, unknown>).cause)), note)
      }))

  const opened = (...items: ReadonlyArray<Thing>) => (ledger: Ledger<Thing>) => {
    for (const item of items) ledger.opened(item)
    return ledger
  }
  notices("more items than max", opened(one, two), "2 items are open, max is 1")
  notices("one more while the old one is closing", (ledger) => {
    opened(one)(ledger).closing(one)
    ledger.opened(two)
  }, "2 items are open")
  notices("two holders", (ledger) => {
    opened(one)(ledger).lent(one)
    ledger.lent(one)
  }, "item {\"id\":1} has 2 holders")
  notices("an item lent that is closing", (ledger) => {
    opened(one)(ledger).closing(one)
    ledger.lent(one)
  }, "is lent and is closing")
  notices("an item lent that nobody opened", (ledger) => ledger.lent(two), "is lent and is unknown")
  notices("an item returned twice", (ledger) => {
    opened(one)(ledger).lent(one)
    ledger.returned(one)
    ledger.returned(one)
  }, "nobody has it")
  notices("an item closed while it is held", (ledger) => {
    opened(one)(ledger).lent(one)
    ledger.closing(one)
  }, "closed while it is held")
  notices("an item closed twice", (ledger) => {
    opened(one)(ledger).closing(one)
    ledger.closed(one)
    ledger.closing(one)
  }, "is to be closed and is closed")
  notices("an item opened twice", opened(one, one), "opened while it is live")
  notices("an item closed without having been opened", (ledger) => ledger.closed(one), "was unknown")
  notices("a pool with an item that is not there", (ledger) => ledger.watch(saying({ idle: 1 })), "0 are live")
  notices("a pool that has lost an item", (ledger) => {
    ledger.watch(saying({}))
    ledger.opened(one)
  }, "1 are live, the pool has 0 idle")
  notices("a pool that counts more than max", (ledger) => ledger.watch(saying({ opening: 2 })), "max is 1")
  notices("a holder that is left", (ledger) => opened(one)(ledger).lent(one), "1 hold an item, not 0", "rest")
  notices("a waiter that is left", (ledger) => ledger.watch(saying({ pending: 1 })), "1 wait", "rest")
  notices(
    "an item that the pool at rest has no more",
    (ledger) => {
      ledger.watch(saying({ opening: 1 }))
      ledger.opened(one)
    },
    "1 live, 0 idle",
    "rest"
  )
  notices(
    "a close that does not end",
    (ledger) => {
      ledger.watch(saying({ closing: 1 }))
      opened(one)(ledger).closing(one)
    },
    "1 are closing, 0 abandoned",
    "rest"
  )
  notices("an item that is never closed", opened(one), "1 opened, 0 closed, 0 stuck", "end")
  notices("that it was not used", () => {}, "has heard of nothing")

  it.effect("notices what is wrong between two entries, after each task", () =>
    Effect.gen(function*() {
      const ledger = new Ledger<Thing>({ max: 1 })
      let idle = 0
      ledger.watch({ stats: Effect.suspend(() => saying({ idle }).stats) })
      const wrong = Effect.gen(function*() {
        idle = 1
        yield* Effect.yieldNow
        idle = 0
      })
      yield* wrong
      yield* ledger.proof
      yield* Effect.flatMap(Effect.forkChild(ledger.everyStep(Effect.andThen(Effect.yieldNow, wrong))), Fiber.join)
      assert.include(ledger.notes, "the pool has 1 idle and 0 lent, 0 are live")
    }))

  it.effect("notices that effect's Pool opens more than its size", () =>
    Effect.gen(function*() {
      const source = new Scripted({ max: 1 })
      const pool = yield* Pool.make({ acquire: source.acquire, size: 1 })
      yield* Effect.scoped(Effect.gen(function*() {
        for (let i = 0; i < 3; i++) yield* Pool.invalidate(pool, yield* Pool.get(pool))
      }))
      assert.isAbove(source.ledger.peakLive, 1)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(source.ledger.proof)))
    }))
})

// The example of the README, as it stands there.
it.effect("a hung open holds up one borrower, and no slot for ever", () =>
  Effect.gen(function*() {
    const source = new Scripted({ max: 2 })
    source.opens.push("hang")
    source.closes.push("stuck", "fail")
    const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2, openTimeout: "1 second" })
    source.ledger.watch(pool)
    const borrower = yield* Effect.forkChild(source.use(pool, () => Effect.void))
    yield* elapse("1 second")
    assert.isDefined(borrower.pollUnsafe())
    yield* source.use(pool, () => Effect.void)
    yield* pool.clear
    yield* elapse("1 minute")
    yield* source.ledger.atRest()
  }))

it("the README's example is the one that runs here, and the README is short", () => {
  const read = (file: string) => Fs.readFileSync(new URL(file, import.meta.url), "utf8")
  const readme = read("README.md")
  const [, example] = /^```ts\n[^]*?(it\.effect[^]*?)```/m.exec(readme)!
  assert.include(read("kit.test.ts"), example!)
  assert.isBelow(readme.split("\n").length, 60)
})
