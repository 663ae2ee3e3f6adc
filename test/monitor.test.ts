import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { PoolError, QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, closedBooks, elapse, endings, several, Watch } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged, record, told } from "./kit/observe.ts"

type Options = Omit<QueuePool.Options<Thing, Refused>, "acquire" | "warm" | "monitor">

/** A pool whose items die when they are told to. */
const mortal = Effect.fnUntraced(function*(source: Source, options: Options = {}) {
  const deaths = new Map<number, Deferred.Deferred<void, unknown>>()
  const pool = yield* QueuePool.make({
    acquire: source.acquire,
    max: 1,
    name: "db",
    ...options,
    monitor: ({ id }) =>
      Effect.suspend(() => {
        const death = Deferred.makeUnsafe<void, unknown>()
        deaths.set(id, death)
        return Deferred.await(death)
      })
  })
  const die = (id: number, how: Exit.Exit<void, unknown> = Exit.void): void =>
    void Deferred.doneUnsafe(deaths.get(id)!, how)
  return { pool, die }
})

const boom = new Error("boom")

/** How a monitor may end, and what is told of it. */
const ends: ReadonlyArray<readonly [string, Exit.Exit<void, unknown>, Cause.Cause<unknown> | undefined]> = [
  ["completes", Exit.void, undefined],
  ["fails", Exit.fail("lost"), Cause.fail("lost")],
  ["dies", Exit.die(boom), Cause.die(boom)],
  ["interrupts itself", Exit.interrupt(1), Cause.interrupt(1)]
]

describe("an item whose monitor ends has died", () => {
  for (const [name, how, cause] of ends) {
    it.effect(`the monitor ${name}: what use runs is interrupted and told, and the next has another item`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const { die, pool } = yield* mortal(source)
        const events = yield* record(pool)
        const log: Array<unknown> = []
        const fiber = yield* Effect.forkChild(Effect.withSpan(
          Effect.flip(
            pool.use(({ id }) =>
              Effect.onInterrupt(Effect.never, () => Effect.sync(() => void log.push(id, source.closed.length)))
            )
          ),
          "job"
        ))
        yield* elapse(250)
        const waiter = yield* borrow(pool)
        die(1, how)
        yield* settle
        const error = yield* Fiber.join(fiber)
        assert.instanceOf(error, PoolError.PoolError)
        assert.deepInclude(error.reason, { _tag: "LeaseEnded" as const, why: "died" as const, held: 250, cause })
        assert.match(String(error), /^PoolError: LeaseEnded: the item of "db" died, after 250ms of this lease(: |$)/)
        // Its finalizers began before the release did.
        assert.deepStrictEqual(log, [1, 0])
        assert.deepStrictEqual([source.closed, waiter.item?.id], [[1], 2])
        yield* waiter.letGo
        assert.deepStrictEqual(
          told(events).filter((one) => one.endsWith(" 1")),
          ["Opening 1", "Opened 1", "Borrowed 1", "LeaseEnded 1", "TakenBack 1", "Recycled 1", "Closed 1"]
        )
        assert.deepInclude(events.find(({ _tag }) => _tag === "LeaseEnded"), {
          held: 250,
          by: "job",
          why: "died",
          cause
        })
        const { recycled, takenBack } = yield* books(source, pool)
        assert.deepStrictEqual([recycled, takenBack], [{ died: 1 }, 1])
      }))
  }

  it.effect("while it is idle: it is recycled at once, and replaced for min", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { die, pool } = yield* mortal(source, { max: 2, min: 2 })
      yield* elapse(5000)
      die(2)
      yield* settle
      assert.deepStrictEqual([source.closed, source.attempts], [[2], 3])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { died: 1 })
    }))

  it.effect("while get has lent it: it is closed under the borrower, who comes back late and harms nobody", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { die, pool } = yield* mortal(source)
      const events = yield* record(pool)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* pool.get
        die(1, Exit.fail("lost"))
        yield* settle
        assert.deepStrictEqual(source.closed, [1])
        assert.include(told(events), "LeaseEnded 1")
        assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 2)
      }))
      assert.strictEqual((yield* books(source, pool)).idle, 1)
    }))

  it.effect("between hand-over and take-up: its borrower has the next one, and no lease has ended", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { die, pool } = yield* mortal(source)
      const events = yield* record(pool)
      const done = Deferred.makeUnsafe<void>()
      yield* Effect.forkChild(pool.use(() => Deferred.await(done)), { startImmediately: true })
      yield* settle
      const waiter = yield* borrow(pool)
      // The holder's end hands the item over, in this very step.
      Deferred.doneUnsafe(done, Exit.void)
      die(1)
      yield* settle
      assert.strictEqual(waiter.item?.id, 2)
      yield* waiter.letGo
      assert.notInclude(told(events), "LeaseEnded 1")
      const { borrowed, recycled } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, recycled], [2, { died: 1 }])
    }))

  it.effect("between hand-over and take-up, though it was never lent in all its life: it is replaced at once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { die, pool } = yield* mortal(source, { min: 1 })
      yield* settle
      yield* pool.suspend
      const waiter = yield* borrow(pool)
      yield* elapse(2000)
      yield* pool.resume
      die(1)
      yield* settle
      assert.strictEqual(waiter.item?.id, 2)
      yield* waiter.letGo
      yield* books(source, pool)
    }))

  it.effect("and what its lease was measured for is forgotten: nothing more is told of it", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const { die, pool } = yield* mortal(source, { maxLease: 1000, leaseWarning: 800 })
      const events = yield* record(pool)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* pool.get
        yield* elapse(500)
        die(1)
        yield* elapse(60_000)
      }))
      assert.deepStrictEqual(lines, [])
      assert.strictEqual(told(events).filter((one) => one === "LeaseEnded 1").length, 1)
      yield* books(source, pool)
    })))

  for (const what of ["check", "reset", "onReturn", "sweep"] as const) {
    it.effect(`during its ${what}: that is stopped, and whoever waits has another`, () =>
      Effect.gen(function*() {
        const source = new Source()
        let stopped = 0
        const hang = ({ id }: Thing) =>
          id === 1 ? Effect.onInterrupt(Effect.never, () => Effect.sync(() => void stopped++)) : Effect.void
        const { die, pool } = yield* mortal(source, {
          ...(what === "check" ? { check: hang, checkAfter: 0 } : {}),
          ...(what === "reset" ? { reset: hang } : {}),
          ...(what === "onReturn" ? { onReturn: hang } : {}),
          ...(what === "sweep" ? { recycle: RecyclePolicy.check((thing) => Effect.as(hang(thing), false)) } : {})
        })
        yield* pool.use(() => Effect.void)
        if (what === "sweep") yield* Effect.forkChild(pool.sweep)
        yield* settle
        const waiter = yield* borrow(pool)
        assert.deepStrictEqual(endings([waiter]), ["waits"])
        die(1)
        yield* settle
        assert.deepStrictEqual([stopped, source.closed, waiter.item?.id], [1, [1], 2])
        yield* waiter.letGo
        yield* books(source, pool)
      }))
  }

  it.effect("that several share: all of them hear of it", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { die, pool } = yield* mortal(source, { concurrency: 3 })
      const sharers = yield* several(2, pool)
      const scope = yield* Scope.make()
      yield* Scope.provide(pool.get, scope)
      const waiter = yield* borrow(pool)
      die(1)
      yield* settle
      assert.deepStrictEqual(endings(sharers), ["LeaseEnded", "LeaseEnded"])
      assert.strictEqual(waiter.item?.id, 2)
      yield* Scope.close(scope, Exit.void)
      yield* waiter.letGo
      const { borrowed, returned, takenBack } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, returned, takenBack], [4, 1, 3])
    }))

  it.effect("of a lease that is ended already is not told of it again", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { die, pool } = yield* mortal(source, { maxLease: 1000 })
      const events = yield* record(pool)
      const release = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        Effect.flip(pool.use(() => Effect.onInterrupt(Effect.never, () => Deferred.await(release))))
      )
      yield* elapse(1000)
      die(1)
      yield* settle
      yield* Deferred.succeed(release, undefined)
      const error = yield* Fiber.join(fiber)
      assert.deepInclude((error as PoolError.PoolError).reason, { why: "maxLease" })
      assert.strictEqual(told(events).filter((one) => one === "LeaseEnded 1").length, 1)
      yield* books(source, pool)
    }))

  it.effect("in the middle of the pool's closing: that is not held up", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const { die, pool } = yield* Scope.provide(mortal(source, { max: 2, min: 2 }), scope)
      yield* settle
      const holder = yield* borrow(pool)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      die(holder.item!.id)
      yield* settle
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual(endings([holder]), ["LeaseEnded"])
      closedBooks(source)
    }))

  it.effect("and a monitor that calls back into the pool as it ends does no harm", () =>
    Effect.gen(function*() {
      const source = new Source()
      const around: { pool?: QueuePool.QueuePool<Thing, Refused> } = {}
      const dead = yield* Deferred.make<void>()
      const pool = around.pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 2,
        monitor: (thing) =>
          Effect.gen(function*() {
            if (thing.id > 1) return yield* Effect.never
            yield* Deferred.await(dead)
            yield* around.pool!.invalidate(thing, "by the monitor")
            yield* around.pool!.use(() => Effect.void)
            yield* around.pool!.clear
          })
      })
      const holder = yield* borrow(pool)
      yield* Deferred.succeed(dead, undefined)
      yield* settle
      assert.deepStrictEqual(endings([holder]), ["LeaseEnded"])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { "by the monitor": 1, cleared: 1 })
    }))

  it.effect("but not one that was detached", () =>
    Effect.gen(function*() {
      const source = new Source()
      const { die, pool } = yield* mortal(source)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* pool.use((item) => pool.detach(item))
        die(1)
        yield* settle
        assert.deepStrictEqual(source.closed, [])
      }))
      assert.deepStrictEqual([source.closed, (yield* pool.stats).recycled], [[1], {}])
    }))
})

describe("a monitor", () => {
  it.effect("is interrupted when its item is released, once for each, and none is left", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const watch = new Watch()
      const log: Array<string> = []
      const pool = yield* watch.around(Scope.provide(
        QueuePool.make({
          acquire: source.acquire,
          max: 3,
          min: 3,
          monitor: ({ id }) => {
            log.push(`begin ${id}`)
            return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void log.push(`end ${id}`)))
          }
        }),
        scope
      ))
      yield* settle
      yield* pool.invalidate(source.opened[0]!)
      yield* settle
      assert.deepStrictEqual(log, ["begin 1", "begin 2", "begin 3", "end 1", "begin 4"])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(log.slice(5).sort(), ["end 2", "end 3", "end 4"])
      yield* settle
      assert.deepStrictEqual([watch.fibers, watch.timers], [0, 0])
      closedBooks(source)
    }))

  it.effect("that cannot be interrupted does not hold up the release, nor tells of it when it ends", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        monitor: () => Effect.uninterruptible(Effect.sleep(1000))
      })
      yield* pool.use((item) => pool.invalidate(item))
      yield* settle
      assert.deepStrictEqual([source.closed, (yield* pool.stats).closing], [[1], 0])
      yield* elapse(1000)
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 1 })
      assert.deepStrictEqual(lines, [])
    })))

  it.effect("has what it acquires for as long as the item lives, and no longer, though it goes on itself", () =>
    Effect.gen(function*() {
      const source = new Source()
      const log: Array<string> = []
      const listen = Effect.addFinalizer(() => Effect.sync(() => void log.push(`listener, ${source.closed.length}`)))
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        monitor: () => Effect.uninterruptible(Effect.andThen(listen, Effect.never))
      })
      yield* pool.use(() => Effect.void)
      assert.deepStrictEqual(log, [])
      yield* pool.clear
      yield* settle
      assert.deepStrictEqual(log, ["listener, 0"])
      yield* books(source, pool)
    }))

  it.effect("runs in the pool's context, with the services that it needs", () =>
    Effect.gen(function*() {
      class Watcher
        extends Context.Service<Watcher, { readonly watch: (id: number) => Effect.Effect<void> }>()("test/Watcher")
      {}
      const source = new Source()
      const watched: Array<number> = []
      const made = QueuePool.make({
        acquire: source.acquire,
        max: 1,
        monitor: ({ id }) => Effect.flatMap(Watcher, ({ watch }) => watch(id))
      })
      const pool = yield* Effect.provideService(made, Watcher, {
        watch: (id) => Effect.andThen(Effect.sync(() => void watched.push(id)), Effect.never)
      })
      // An uninterruptible borrower's flag does not reach it: it ends with its item.
      yield* Effect.uninterruptible(pool.use((item) => pool.invalidate(item)))
      assert.deepStrictEqual(watched, [1])
      yield* books(source, pool)
    }))

  it.effect("is not begun for an item that is recycled as it arrives", () =>
    Effect.gen(function*() {
      const source = new Source()
      source.opens.push({ slow: 100 })
      let begun = 0
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 1,
        min: 1,
        monitor: () =>
          Effect.suspend(() => {
            begun++
            return Effect.never
          })
      })
      yield* settle
      yield* pool.clear
      yield* elapse(100)
      assert.deepStrictEqual([source.opened.length, begun], [2, 1])
      yield* books(source, pool)
    }))
})
