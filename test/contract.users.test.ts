/** Numbers I to K of the contract that no other test shows. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, References, Result, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, endings, several } from "./kit/books.ts"
import { failures } from "./kit/hook.ts"
import { type Outcome, Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged } from "./kit/observe.ts"

/** The options that making a pool refuses, and what it has opened then. */
const refused = Effect.fnUntraced(function*(options: object) {
  const source = new Source()
  const made = yield* Effect.result(QueuePool.make({ acquire: source.acquire, warm: "eager", ...options }))
  yield* settle
  if (Result.isSuccess(made)) return []
  assert.strictEqual(source.attempts, 0)
  const error = made.failure
  if (error._tag !== "PoolError" || error.reason._tag !== "InvalidOptions") return yield* Effect.die(error)
  return error.reason.problems.map(({ option }) => option)
}, Effect.scoped)

describe("bad options", () => {
  const sizes: ReadonlyArray<readonly [name: string, values: ReadonlyArray<object>]> = [
    ["I1: sizes of NaN", [{ min: NaN, max: NaN }, { minIdle: NaN, maxIdle: NaN }, { maxWaiters: NaN }]],
    ["I2: negative sizes and times", [
      { min: -1, max: -1 },
      { max: -Infinity, maxWaiters: -1, openConcurrency: -1 },
      { borrowTimeout: -1, openTimeout: "-1 seconds", checkTimeout: -1, resetTimeout: -1 },
      { closeTimeout: Duration.millis(-1), drainTimeout: -1, checkAfter: -1, sweep: -1, maxLease: -1 }
    ]],
    ["I3: a max of 0", [{ max: 0 }, { max: -0 }]],
    ["I5: fractional sizes", [{ max: 1.5 }, { min: 0.5, openConcurrency: 2.5 }, { maxWaiters: 0.1, concurrency: 1.5 }]],
    ["I7: a concurrency of none, or without a bound", [
      { concurrency: 0 },
      { concurrency: -1 },
      { concurrency: NaN },
      { concurrency: Infinity },
      { openConcurrency: 0 }
    ]]
  ]
  for (const [name, values] of sizes) {
    it.effect(`${name} are refused when the pool is made, all of them by name, and nothing is opened`, () =>
      Effect.gen(function*() {
        for (const options of values) {
          assert.sameMembers([...(yield* refused(options))], Object.keys(options))
        }
      }))
  }

  it.effect("I6: a min of Infinity is refused, also under a max of Infinity", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* refused({ min: Infinity }), ["min"])
      assert.deepStrictEqual(yield* refused({ min: Infinity, max: Infinity }), ["min"])
      assert.deepStrictEqual(yield* refused({ max: Infinity }), [])
    }))

  it.effect("I8: a time of 0 or of Infinity is taken where it has a meaning, and NaN nowhere", () =>
    Effect.gen(function*() {
      const times: Readonly<Record<string, readonly [zero: boolean, infinite: boolean]>> = {
        borrowTimeout: [true, true],
        checkAfter: [true, true],
        drainTimeout: [true, true],
        replaceTimeout: [true, false],
        retireOver: [true, false],
        leaseWarning: [false, true],
        maxLease: [false, true],
        openTimeout: [false, false],
        checkTimeout: [false, false],
        resetTimeout: [false, false],
        closeTimeout: [false, false],
        sweep: [false, false]
      }
      for (const [option, [zero, infinite]] of Object.entries(times)) {
        assert.deepStrictEqual(yield* refused({ [option]: 0 }), zero ? [] : [option])
        for (const value of [Infinity, "Infinity", Duration.infinity]) {
          assert.deepStrictEqual(yield* refused({ [option]: value }), infinite ? [] : [option])
        }
        assert.deepStrictEqual(yield* refused({ [option]: NaN }), [option])
      }
    }))
})

describe("users' errors", () => {
  // DESIGN lends the item itself and no handle, so there is nothing to revoke. What holds instead: one who
  // still uses an item that it has given back takes nothing from whoever has it now.
  it.effect("J2: what one does with an item after the return ends no lease of others and counts nothing", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, recycle: RecyclePolicy.failed })
      const scope = yield* Scope.make()
      const item = yield* Scope.provide(pool.get, scope)
      yield* Scope.close(scope, Exit.void)
      const next = yield* borrow(pool)
      assert.strictEqual(next.item, item)
      // A second end of the lease, with another exit, and a word about the item.
      yield* Scope.close(scope, Exit.fail("late"))
      yield* pool.invalidate(item)
      const { returned, used } = yield* pool.stats
      assert.deepStrictEqual({ returned, used, closed: source.closed }, { returned: 1, used: 1, closed: [] })
      yield* next.letGo
      assert.deepStrictEqual(endings([next]), ["served"])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 1 })
    }))

  it.effect("J7: a fiber of the lease's scope has ended before the item is anyone else's", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const lease = Effect.scoped(Effect.gen(function*() {
        yield* pool.get
        yield* Effect.forkScoped(
          Effect.onExit(
            Effect.never,
            () => Effect.andThen(Effect.sleep(10), Effect.sync(() => log.push("child ends")))
          ),
          { startImmediately: true }
        )
        yield* Effect.sleep(1)
      }))
      const first = yield* Effect.forkChild(lease)
      yield* settle
      const next = yield* Effect.forkChild(pool.use(() => Effect.sync(() => log.push("next begins"))))
      yield* elapse(1)
      yield* elapse(10)
      yield* Fiber.joinAll([first, next])
      assert.deepStrictEqual(log, ["child ends", "next begins"])
      yield* books(source, pool)
    }))

  // What outlives the lease otherwise has the item itself, as above (J2).
  it.effect("J7: with maxLease, or a monitor, what use has forked as its children ends with the lease", () =>
    Effect.gen(function*() {
      for (const options of [{ maxLease: "1 hour" }, { monitor: () => Effect.never }] as const) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, ...options })
        const ended: Array<boolean> = []
        const child = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void ended.push(true)))
        yield* pool.use(() => Effect.asVoid(Effect.forkChild(child, { startImmediately: true })))
        assert.deepStrictEqual(ended, [true])
        yield* books(source, pool)
      }
    }))

  it.effect("J10: whatever fails, dies, throws or hangs, nothing is unhandled, and the books agree", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const unhandled: Array<unknown> = []
      const note = (error: unknown) => void unhandled.push(error)
      yield* Effect.acquireRelease(
        Effect.sync(() => void process.on("unhandledRejection", note).on("uncaughtException", note)),
        () => Effect.sync(() => void process.off("unhandledRejection", note).off("uncaughtException", note))
      )
      const outcomes: ReadonlyArray<Outcome> = ["fail", "die", "hang", "stuck", { slow: 10 }, { late: 5000 }]
      for (const [how, [hook]] of Object.entries(failures)) {
        for (const outcome of outcomes) {
          const source = new Source()
          source.opens.push("ok", outcome, "ok")
          source.closes.push(outcome)
          const scope = yield* Scope.make()
          const odd = ({ id }: Thing) => id % 2 === 1 ? hook() : Effect.void
          const pool = yield* Scope.provide(
            QueuePool.make({
              acquire: source.acquire,
              max: 3,
              min: 1,
              borrowTimeout: 2000,
              openTimeout: 500,
              closeTimeout: 500,
              retry: Schedule.spaced(100),
              check: odd,
              checkAfter: 50,
              reset: odd,
              onAcquire: ({ id }) => id === 2 ? hook() : Effect.void,
              onBorrow: ({ id }) => id === 3 ? hook() : Effect.void,
              onReturn: ({ id }) => id === 4 ? hook() : Effect.void,
              onRelease: odd,
              monitor: ({ id }) => id === 5 ? hook() : Effect.never,
              recycle: [
                RecyclePolicy.when(({ uses }) => {
                  if (uses === 3) throw new Error(how)
                  return false
                }),
                RecyclePolicy.check(odd as () => Effect.Effect<boolean, Refused>)
              ],
              sweep: 100
            }),
            scope
          )
          const fibers = yield* Effect.forEach(
            Array.from({ length: 20 }),
            (_, i) =>
              Effect.forkChild(Effect.exit(Effect.andThen(
                Effect.sleep(i * 20),
                pool.use(() => i % 3 === 0 ? Effect.die(how) : Effect.sleep(i % 7))
              )))
          )
          for (let i = 0; i < 30; i++) yield* elapse(100)
          assert.isTrue(fibers.every((fiber) => fiber.pollUnsafe() !== undefined))
          const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
          yield* elapse("20 seconds")
          assert.isDefined(closing.pollUnsafe())
          // What hangs for good in its release was abandoned.
          if (outcome !== "stuck") closedBooks(source)
        }
      }
      // The turns in which Node would tell of them.
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.deepStrictEqual(unhandled, [])
      assert.deepStrictEqual(lines.filter((line) => line.startsWith("Fatal")), [])
    })))
})

describe("contexts", () => {
  class Who extends Context.Service<Who, string>()("test/Who") {}

  it.effect("K5: what a sweep runs has the pool's context, also when a borrower asks for the sweep", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const scope = yield* Scope.make()
      const look = () =>
        Effect.gen(function*() {
          const { who: note } = yield* References.CurrentLogAnnotations
          const span = yield* Effect.option(Effect.currentSpan)
          seen.push(`${yield* Who} ${String(note)} ${span._tag === "Some" ? span.value.name : "no span"}`)
          return false
        })
      const pool = yield* Scope.provide(
        QueuePool.make({
          acquire: Effect.acquireRelease(Effect.succeed("item"), look),
          sweep: 100,
          recycle: RecyclePolicy.check(look)
        }),
        scope
      ).pipe(Effect.provideService(Who, "pool"), Effect.annotateLogs("who", "pool"))
      const asBorrower = <A, E>(effect: Effect.Effect<A, E>) =>
        effect.pipe(
          Effect.withSpan("borrower"),
          Effect.annotateLogs("who", "borrower"),
          Effect.provideService(Who, "borrower"),
          Effect.uninterruptible
        )
      yield* asBorrower(pool.use(() => Effect.void))
      yield* asBorrower(pool.sweep)
      yield* elapse(150)
      yield* asBorrower(pool.clear)
      yield* settle
      assert.deepStrictEqual(seen, Array.from({ length: 3 }, () => "pool pool no span"))
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("K2: a return in an uninterruptible region, by a fiber that is interrupted already, is whole when it is over", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      let seen: object | undefined
      const holder = yield* Effect.forkChild(Effect.uninterruptible(
        Effect.andThen(
          pool.use(() => Effect.sleep(10)),
          Effect.map(pool.stats, ({ idle, pending, used }) => {
            seen = { idle, pending, used }
          })
        )
      ))
      yield* settle
      const [waiter] = yield* several(1, pool)
      holder.interruptUnsafe()
      yield* elapse(10)
      // Its own next step saw the item with the waiter, and none idle.
      assert.deepStrictEqual(seen, { idle: 0, pending: 0, used: 1 })
      assert.deepStrictEqual(waiter!.item, { id: 1 })
      yield* waiter!.letGo
      yield* books(source, pool)
    }))
})
