/** The hooks: whose context they have, and those at the two ends of an item's life, `onAcquire` and `onRelease`. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Option, Schedule, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, ending, endings } from "./kit/books.ts"
import { failures, hangs, Hook } from "./kit/hook.ts"
import { Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged, record, told } from "./kit/observe.ts"

type Pool = QueuePool.QueuePool<Thing, Refused>
type Settings = Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">

const make = Effect.fnUntraced(function*(options: Settings) {
  const source = new Source()
  const pool: Pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, drainTimeout: 0, ...options })
  return { pool, source, events: yield* record(pool) }
})

const Colour = Context.Reference<string>("test/Colour", { defaultValue: () => "none" })

describe("the context of hooks", () => {
  it.effect("K5: has the services and the span of the pool's maker, and nothing of whoever is served", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const look = (hook: string) => () =>
        Effect.gen(function*() {
          const span = yield* Effect.option(Effect.currentSpan)
          seen.push(
            `${hook}: ${yield* Colour}, ${Option.match(span, { onNone: () => "no span", onSome: (_) => _.name })}`
          )
        })
      const { pool } = yield* make({
        onAcquire: look("onAcquire"),
        onBorrow: look("onBorrow"),
        onReturn: look("onReturn"),
        onRelease: look("onRelease")
      }).pipe(Effect.provideService(Colour, "the pool's"), Effect.withSpan("maker"))
      const others = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        effect.pipe(Effect.provideService(Colour, "another's"), Effect.withSpan("another"))
      yield* others(pool.use(() => Effect.void))
      yield* settle
      yield* others(Effect.scoped(pool.get))
      yield* settle
      yield* others(pool.clear)
      yield* settle
      assert.deepStrictEqual(
        seen,
        ["onAcquire", "onBorrow", "onReturn", "onBorrow", "onReturn", "onRelease"].map((hook) =>
          `${hook}: the pool's, maker`
        )
      )
    }))

  it.effect("A16: can be interrupted, though the borrower cannot", () =>
    Effect.gen(function*() {
      for (const hook of ["onAcquire", "onBorrow", "onReturn"] as const) {
        const work = new Hook()
        work.otherwise = () => Effect.never
        const { pool, source } = yield* make({
          openTimeout: 1000,
          checkTimeout: 1000,
          resetTimeout: 1000,
          [hook]: work.run
        })
        const fiber = yield* Effect.forkChild(Effect.uninterruptible(pool.use(() => Effect.void)))
        yield* settle
        assert.strictEqual(work.running, 1, hook)
        yield* elapse(1000)
        assert.notStrictEqual(ending(fiber.pollUnsafe()), "waits", hook)
        assert.deepStrictEqual([work.running, source.closed], [0, [1]], hook)
      }
    }))

  it.effect("has a scope that ends with the hook; that of onAcquire is the item's", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const say = (what: string) => Effect.sync(() => void log.push(what))
      const scoped = (hook: string) => () =>
        Effect.acquireRelease(say(`${hook} begins`), () => say(`${hook} ends`)).pipe(
          Effect.andThen(Effect.yieldNow),
          Effect.andThen(say(hook))
        )
      const pool = yield* QueuePool.make({
        acquire: Effect.acquireRelease(say("open"), () => say("close")),
        max: 1,
        onAcquire: scoped("onAcquire"),
        onBorrow: scoped("onBorrow"),
        onReturn: scoped("onReturn"),
        onRelease: scoped("onRelease")
      })
      yield* pool.use(() => say("used"))
      yield* settle
      yield* pool.clear
      yield* settle
      const within = (hook: string) => [`${hook} begins`, hook, `${hook} ends`]
      assert.deepStrictEqual(log, [
        "open",
        "onAcquire begins",
        "onAcquire",
        ...within("onBorrow"),
        "used",
        ...within("onReturn"),
        ...within("onRelease"),
        "onAcquire ends",
        "close"
      ])
    }))
})

describe("onAcquire", () => {
  for (const [how, [answer, expected]] of Object.entries(failures)) {
    it.effect(`that ${how} ends the open as acquire would, and its item is released without onRelease`, () =>
      Effect.gen(function*() {
        const [onAcquire, onRelease] = [new Hook(), new Hook()]
        onAcquire.answers.set(1, answer)
        const { events, pool, source } = yield* make({ onAcquire: onAcquire.run, onRelease: onRelease.run })
        const borrowers = [yield* borrow(pool), yield* borrow(pool)]
        assert.deepStrictEqual(endings(borrowers), [expected, "waits"])
        assert.deepStrictEqual([source.closed, onRelease.begun, borrowers[1]!.item], [[1], [], { id: 2 }])
        yield* borrowers[1]!.letGo
        const { openFailures, opened, recycled: reasons } = yield* books(source, pool)
        assert.deepStrictEqual([opened, openFailures, reasons], [1, 1, {}])
        assert.includeMembers([...told(events)], ["OpenFailed 1", "BorrowFailed"])
        assert.notInclude(told(events), "Recycled 1")
      }))
  }

  it.effect("that fails is retried as acquire is, and tells its error when that is over", () =>
    Effect.gen(function*() {
      const onAcquire = new Hook()
      onAcquire.otherwise = () => Effect.fail(new Refused(onAcquire.begun.length))
      const { pool, source } = yield* make({
        onAcquire: onAcquire.run,
        retry: Schedule.max([Schedule.spaced(100), Schedule.recurs(2)])
      })
      const borrower = yield* borrow(pool)
      yield* elapse(199)
      assert.deepStrictEqual([onAcquire.begun, endings([borrower])], [[1, 2], ["waits"]])
      yield* elapse(1)
      assert.deepStrictEqual(borrower.fiber.pollUnsafe(), Exit.fail(new Refused(3)))
      assert.deepStrictEqual(source.closed, [1, 2, 3])
      onAcquire.otherwise = () => Effect.void
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 4)
    }))

  for (const [how, answer] of Object.entries(hangs)) {
    it.effect(`that ${how} has what acquire leaves of openTimeout; then its item is released and the slot is free`, () =>
      Effect.gen(function*() {
        const onAcquire = new Hook()
        onAcquire.answers.set(1, answer)
        const { pool, source } = yield* make({ onAcquire: onAcquire.run, openTimeout: 1000 })
        source.opens.push({ slow: 600 })
        const borrowers = [yield* borrow(pool), yield* borrow(pool)]
        yield* elapse(999)
        assert.deepStrictEqual([endings(borrowers), onAcquire.running], [["waits", "waits"], 1])
        yield* elapse(1)
        assert.deepStrictEqual([endings(borrowers), source.closed], [["OpenTimeout", "waits"], [1]])
        assert.deepStrictEqual(borrowers[1]!.item, { id: 2 })
        yield* borrowers[1]!.letGo
        assert.strictEqual((yield* books(source, pool)).abandoned, 0)
      }))
  }

  it.effect("that ends after openTimeout comes to nothing", () =>
    Effect.gen(function*() {
      const onAcquire = new Hook()
      onAcquire.answers.set(1, () => Effect.uninterruptible(Effect.sleep(1500)))
      const { pool, source } = yield* make({ onAcquire: onAcquire.run, openTimeout: 1000 })
      const borrower = yield* borrow(pool)
      yield* elapse(2000)
      assert.deepStrictEqual([endings([borrower]), onAcquire.running, source.closed], [["OpenTimeout"], 0, [1]])
      assert.strictEqual((yield* books(source, pool)).idle, 0)
    }))

  it.effect("fails an eager warm-up, with its error and nothing left open", () =>
    Effect.gen(function*() {
      for (const [how, [answer, expected]] of Object.entries(failures)) {
        const source = new Source()
        const onAcquire = new Hook()
        onAcquire.answers.set(2, answer)
        const scope = yield* Scope.make()
        const made = yield* Effect.exit(Scope.provide(
          QueuePool.make({ acquire: source.acquire, max: 3, min: 3, warm: "eager", onAcquire: onAcquire.run }),
          scope
        ))
        assert.strictEqual(ending(made), expected, how)
        yield* settle
        closedBooks(source)
      }
    }))

  it.effect("A4: whose borrower has left goes on, and its item serves the next", () =>
    Effect.gen(function*() {
      const onAcquire = new Hook()
      onAcquire.otherwise = () => Effect.sleep(100)
      const { pool, source } = yield* make({ onAcquire: onAcquire.run })
      const first = yield* borrow(pool)
      yield* Fiber.interrupt(first.fiber)
      const next = yield* borrow(pool)
      yield* elapse(100)
      assert.deepStrictEqual([next.item, onAcquire.begun], [{ id: 1 }, [1]])
      yield* next.letGo
      yield* books(source, pool)
    }))

  it.effect("A5: that runs when the pool closes is interrupted, and its item is released once", () =>
    Effect.gen(function*() {
      for (const answer of Object.values(hangs)) {
        const scope = yield* Scope.make()
        const onAcquire = new Hook()
        onAcquire.otherwise = answer
        const { pool, source } = yield* Scope.provide(make({ onAcquire: onAcquire.run }), scope)
        const borrower = yield* borrow(pool)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual([endings([borrower]), source.closed], [["Closed"], [1]])
        closedBooks(source)
      }
    }))

  it.effect("may use the pool, name an item that is not there yet, and close the pool", () =>
    Effect.gen(function*() {
      const around: { pool?: Pool } = {}
      const scope = yield* Scope.make()
      const { pool, source } = yield* Scope.provide(
        make({
          max: 2,
          onAcquire: (thing) => {
            const pool = around.pool!
            if (thing.id === 1) return Effect.andThen(pool.invalidate(thing), Effect.scoped(Effect.orDie(pool.get)))
            return thing.id === 2 ? Effect.void : Scope.close(scope, Exit.void)
          }
        }),
        scope
      )
      around.pool = pool
      const first = yield* borrow(pool)
      // The hook of the first item waited for the second, and so did the borrower.
      assert.strictEqual(source.attempts, 2)
      assert.isDefined(first.item)
      yield* first.letGo
      assert.strictEqual((yield* books(source, pool)).idle, 2)
      yield* pool.clear
      yield* settle
      const last = yield* borrow(pool)
      yield* settle
      assert.deepStrictEqual(endings([last]), ["Closed"])
      closedBooks(source)
    }))

  it.effect("belongs to a swap too: when it fails, the pool goes on as before", () =>
    Effect.gen(function*() {
      const onAcquire = new Hook()
      const { pool, source } = yield* make({ max: 2, onAcquire: onAcquire.run })
      yield* pool.use(() => Effect.void)
      onAcquire.answers.set(2, () => Effect.fail(new Refused(2)))
      assert.deepStrictEqual(yield* Effect.flip(pool.swap(source.acquire)), new Refused(2))
      yield* settle
      assert.deepStrictEqual([onAcquire.begun, source.closed], [[1, 2], [2]])
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
    }))
})

describe("onRelease", () => {
  it.effect("runs once for every item that was open, before its release, for whatever reason it goes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const log: Array<string> = []
      const { pool, source } = yield* Scope.provide(
        make({
          max: 3,
          drainTimeout: 1000,
          onRelease: ({ id }) => Effect.sync(() => void log.push(`${id}: ${source.closed.includes(id)}`))
        }),
        scope
      )
      yield* pool.use(pool.invalidate)
      yield* settle
      const kept = [yield* borrow(pool), yield* borrow(pool), yield* borrow(pool)]
      yield* kept[0]!.letGo
      yield* pool.clearWith({ only: "idle" })
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* kept[1]!.letGo
      yield* elapse(1000)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(log, ["1: false", "2: false", "3: false", "4: false"])
      assert.deepStrictEqual((yield* pool.stats).recycled, {
        invalidated: 1,
        cleared: 1,
        "pool closed": 1,
        "taken back": 1
      })
      closedBooks(source)
    }))

  for (const [how, [answer]] of Object.entries(failures)) {
    it.effect(`that ${how} keeps nothing from being released, and the log and the events tell of it`, () =>
      logged(Effect.fnUntraced(function*(lines) {
        const onRelease = new Hook()
        onRelease.answers.set(1, answer)
        const { events, pool, source } = yield* make({ onRelease: onRelease.run })
        assert.strictEqual(yield* pool.use((thing) => Effect.as(pool.invalidate(thing), "mine")), "mine")
        yield* settle
        assert.deepStrictEqual([source.closed, lines.length], [[1], 1])
        assert.match(lines[0]!, /^Warn item 1 of pool "pool" failed to close/)
        assert.include(told(events), "CloseFailed 1")
        const { abandoned, closed } = yield* books(source, pool)
        assert.deepStrictEqual([abandoned, closed], [0, 1])
      })))
  }

  for (const [how, answer] of Object.entries(hangs)) {
    it.effect(`that ${how} has half of closeTimeout, and the release has the rest`, () =>
      logged(Effect.fnUntraced(function*(lines) {
        const onRelease = new Hook()
        onRelease.answers.set(1, answer)
        const { events, pool, source } = yield* make({ onRelease: onRelease.run, closeTimeout: 4000 })
        yield* pool.use(pool.invalidate)
        source.closes.push({ slow: 1999 })
        const waiter = yield* borrow(pool)
        yield* elapse(1999)
        assert.strictEqual(onRelease.running, 1)
        yield* elapse(1)
        // It is told to end, and not waited for.
        assert.strictEqual(onRelease.running, how === "hangs" ? 0 : 1)
        assert.deepStrictEqual([source.closed, waiter.item], [[], undefined])
        yield* elapse(1999)
        assert.deepStrictEqual([source.closed, waiter.item], [[1], { id: 2 }])
        const closed = events.find(({ _tag }) => _tag === "CloseFailed") as { readonly cause: Cause.Cause<unknown> }
        assert.strictEqual((Cause.squash(closed.cause) as Error).message, "onRelease took longer than 2000ms")
        assert.strictEqual(lines.length, 1)
        yield* waiter.letGo
        assert.strictEqual((yield* books(source, pool)).abandoned, 0)
      })))
  }

  it.effect("that hangs before a release that hangs is abandoned with it, at closeTimeout", () =>
    Effect.gen(function*() {
      const onRelease = new Hook()
      onRelease.otherwise = () => Effect.never
      const { events, pool, source } = yield* make({ onRelease: onRelease.run, closeTimeout: 4000 })
      source.closes.push("hang")
      yield* pool.use(pool.invalidate)
      yield* elapse(3999)
      assert.notInclude(told(events), "Abandoned 1")
      yield* elapse(1)
      assert.include(told(events), "Abandoned 1")
      assert.strictEqual((yield* pool.stats).abandoned, 1)
    }))

  it.effect("D3: that hangs as the pool closes does not keep it longer than closeTimeout", () =>
    Effect.gen(function*() {
      for (const answer of Object.values(hangs)) {
        const scope = yield* Scope.make()
        const onRelease = new Hook()
        onRelease.otherwise = answer
        const { pool, source } = yield* Scope.provide(
          make({ max: 3, min: 3, onRelease: onRelease.run, closeTimeout: 4000 }),
          scope
        )
        yield* settle
        assert.strictEqual((yield* pool.stats).idle, 3)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* elapse(2000)
        assert.deepStrictEqual([ending(closing.pollUnsafe()), source.closed.length], ["served", 3])
        closedBooks(source)
      }
    }))

  it.effect("may use the pool, name its item that is gone, and close the pool", () =>
    Effect.gen(function*() {
      const around: { pool?: Pool } = {}
      const scope = yield* Scope.make()
      const seen: Array<string> = []
      const { pool, source } = yield* Scope.provide(
        make({
          max: 2,
          onRelease: (thing) =>
            Effect.gen(function*() {
              const pool = around.pool!
              yield* pool.invalidate(thing)
              seen.push(ending(yield* Effect.exit(pool.use(() => Effect.void))))
              if (thing.id === 1) yield* Effect.forkDetach(Scope.close(scope, Exit.void))
            })
        }),
        scope
      )
      around.pool = pool
      yield* pool.use(pool.invalidate)
      yield* elapse(10_000)
      assert.deepStrictEqual(seen, ["served", "Closed"])
      closedBooks(source)
    }))
})
