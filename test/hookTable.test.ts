/** The failure table of the contract: what happens when a hook fails, dies, throws or hangs. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending } from "./kit/books.ts"
import { Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"

type Options = Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">

const make = Effect.fnUntraced(function*(options: Options) {
  const source = new Source()
  const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2, ...options })
  yield* settle
  return { pool, source, events: yield* record(pool) }
})

/** How a hook goes wrong, once; the time after which that is known. */
const failures: ReadonlyArray<readonly [name: string, effect: () => Effect.Effect<never, Refused>]> = [
  ["fails", () => Effect.fail("no" as never)],
  ["dies", () => Effect.die(new Error("broken"))],
  ["throws", () => {
    throw new Error("broken")
  }],
  ["is interrupted", () => Effect.interrupt],
  ["hangs", () => Effect.never],
  ["cannot even be interrupted", () => Effect.uninterruptible(Effect.never)]
]

/** The effect the first time, and nothing after. */
const once = (effect: () => Effect.Effect<never, Refused>) => {
  let calls = 0
  return () => ++calls === 1 ? effect() : Effect.void
}

const used = (exit: Exit.Exit<unknown, unknown> | undefined) => ending(exit)

for (const [how, effect] of failures) {
  describe(`a hook that ${how}`, () => {
    it.effect("onAcquire: the open has failed, its item is released, and the slot is free", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1, onAcquire: once(effect), openTimeout: "1 second" })
        const first = yield* Effect.forkChild(pool.use(() => Effect.void))
        yield* elapse("10 seconds")
        assert.notStrictEqual(used(first.pollUnsafe()), "served")
        assert.notStrictEqual(used(first.pollUnsafe()), "waits")
        assert.deepStrictEqual(source.closed, [1])
        assert.strictEqual(used(yield* Effect.exit(pool.use(() => Effect.void))), "served")
        assert.strictEqual((yield* pool.stats).openFailures, 1)
        assert.strictEqual(source.live, 1)
      }))

    it.effect("onBorrow: the borrower hears HookFailed, the item is recycled, and the next gets another", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1, onBorrow: once(effect), checkTimeout: "1 second" })
        let ran = false
        const first = yield* Effect.forkChild(pool.use(() => Effect.sync(() => ran = true)))
        yield* elapse("10 seconds")
        assert.deepStrictEqual([used(first.pollUnsafe()), ran], ["HookFailed", false])
        assert.deepStrictEqual(source.closed, [1])
        assert.strictEqual(used(yield* Effect.exit(pool.use(() => Effect.void))), "served")
        yield* books(source, pool)
      }))

    it.effect("onBorrow: so do those who waited, and who get for a scope", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1, checkTimeout: "1 second", onBorrow: () => effect() })
        const all = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(Effect.scoped(pool.get)))
        yield* elapse("20 seconds")
        assert.deepStrictEqual(all.map((fiber) => used(fiber.pollUnsafe())), ["HookFailed", "HookFailed", "HookFailed"])
        assert.strictEqual(source.live, 0)
      }))

    it.effect("onReturn: the borrower sees nothing, and the item is recycled", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1, onReturn: once(effect), resetTimeout: "1 second" })
        assert.strictEqual(yield* pool.use(() => Effect.succeed("mine")), "mine")
        yield* elapse("10 seconds")
        assert.deepStrictEqual(source.closed, [1])
        assert.strictEqual((yield* pool.stats).recycled["reset failed"], 1)
        assert.strictEqual(used(yield* Effect.exit(pool.use(() => Effect.void))), "served")
        yield* settle
        yield* books(source, pool)
      }))

    it.effect("onRelease: the item is released all the same, and its slot is free", () =>
      Effect.gen(function*() {
        const { pool, source } = yield* make({ max: 1, onRelease: once(effect), closeTimeout: "4 seconds" })
        yield* Effect.flatMap(pool.use(Effect.succeed), pool.invalidate)
        // Half of closeTimeout is the hook's, and the rest is the release's.
        yield* elapse("2 seconds")
        assert.deepStrictEqual(source.closed, [1])
        assert.strictEqual((yield* pool.stats).closing, 0)
        assert.strictEqual((yield* pool.stats).abandoned, 0)
        yield* books(source, pool)
      }))
  })
}

describe("hooks", () => {
  it.effect("run in the order of an item's life, each with its item", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const note = (what: string) => ({ id }: Thing) => Effect.sync(() => void log.push(`${what} ${id}`))
      const { pool } = yield* make({
        onAcquire: note("acquired"),
        onBorrow: note("borrowed"),
        onReturn: (item, exit) => Effect.andThen(note("returned")(item), Effect.sync(() => void log.push(exit._tag))),
        reset: note("reset"),
        onRelease: note("released")
      })
      const item = yield* pool.use((item) => Effect.as(Effect.sync(() => log.push("used")), item))
      yield* settle
      yield* pool.invalidate(item)
      yield* settle
      assert.deepStrictEqual(log, [
        "acquired 1",
        "borrowed 1",
        "used",
        "returned 1",
        "Success",
        "reset 1",
        "released 1"
      ])
    }))

  it.effect("the error of onAcquire is that of acquire, also of an eager warm-up", () =>
    Effect.gen(function*() {
      const source = new Source()
      const made = QueuePool.make({
        acquire: source.acquire,
        min: 1,
        warm: "eager",
        onAcquire: () => Effect.fail(new Refused(7))
      })
      const error = yield* Effect.flip(made)
      assert.deepStrictEqual(error, new Refused(7))
      assert.strictEqual(source.live, 0)
    }))

  it.effect("onReturn is run for an item that is to go, and reset is not", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const { pool } = yield* make({
        onReturn: () => Effect.sync(() => void log.push("returned")),
        reset: () => Effect.sync(() => void log.push("reset"))
      })
      yield* pool.use(pool.invalidate)
      yield* settle
      assert.deepStrictEqual(log, ["returned"])
    }))

  it.effect("onReturn may have nothing to do, and then the item is free in the same step", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ onReturn: () => undefined })
      yield* pool.use(() => Effect.void)
      assert.strictEqual((yield* pool.stats).idle, 1)
    }))

  it.effect("onBorrow that succeeds at once costs no asynchronous step", () =>
    Effect.gen(function*() {
      const { pool } = yield* make({ min: 1, onBorrow: () => Effect.void })
      const fiber = yield* Effect.forkChild(pool.use(() => Effect.succeed(1)), { startImmediately: true })
      assert.strictEqual(ending(fiber.pollUnsafe()), "served")
    }))

  it.effect("K5: run in the context of the pool", () =>
    Effect.gen(function*() {
      const seen: Array<string | undefined> = []
      const see = Effect.matchEffect(Effect.currentSpan, {
        onFailure: () => Effect.sync(() => void seen.push(undefined)),
        onSuccess: ({ name }) => Effect.sync(() => void seen.push(name))
      })
      const { pool } = yield* make({ onAcquire: () => see, onBorrow: () => see, onReturn: () => see })
      yield* Effect.withSpan(pool.use(() => Effect.void), "borrower")
      yield* settle
      assert.deepStrictEqual(seen, [undefined, undefined, undefined])
    }))

  it.effect("an item that is being lent when its borrower is interrupted is recycled", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 1, onBorrow: () => Effect.sleep("1 second") })
      const fiber = yield* Effect.forkChild(pool.use(() => Effect.void))
      yield* settle
      yield* Fiber.interrupt(fiber)
      yield* settle
      assert.deepStrictEqual(source.closed, [1])
      yield* books(source, pool)
    }))

  it.effect("with them waiters are served in their order", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* make({ max: 1, onBorrow: () => Effect.sleep(1), onReturn: () => Effect.sleep(1) })
      const first = yield* borrow(pool)
      yield* elapse(1)
      const rest = [yield* borrow(pool), yield* borrow(pool)]
      const order: Array<number> = []
      for (const [i, { fiber }] of [first, ...rest].entries()) fiber.addObserver(() => order.push(i))
      for (const { letGo } of [first, ...rest]) {
        yield* letGo
        yield* elapse(2)
      }
      yield* elapse(10)
      assert.deepStrictEqual(order, [0, 1, 2])
      yield* books(source, pool)
    }))

  it.effect("one that closes the pool under its own borrower does no harm", () =>
    Effect.gen(function*() {
      for (const hook of ["onBorrow", "onReturn", "onAcquire"] as const) {
        const source = new Source()
        const scope = yield* Scope.make()
        const close = () => Effect.asVoid(Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true }))
        const pool = yield* Scope.provide(
          QueuePool.make({ acquire: source.acquire, max: 1, drainTimeout: 0, [hook]: close }),
          scope
        )
        const exit = yield* Effect.exit(pool.use(() => Effect.void))
        assert.isTrue(Exit.isSuccess(exit) || !Cause.hasInterrupts(exit.cause), hook)
        yield* elapse("10 seconds")
        closedBooks(source)
      }
    }))

  it.effect("what fails is told in the events", () =>
    Effect.gen(function*() {
      const { events, pool } = yield* make({ max: 1, onReturn: () => Effect.fail("no") })
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.include(told(events).join(", "), "Returned 1, ResetFailed 1, Recycled 1, Closed 1")
    }))
})
