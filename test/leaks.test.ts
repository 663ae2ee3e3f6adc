import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { books, borrow, elapse } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged, record, told } from "./kit/observe.ts"

type Things = QueuePool.QueuePool<Thing, Refused>

v8.setFlagsFromString("--expose-gc")
const gc: () => void = vm.runInNewContext("gc")

/** A turn of the event loop, in which what was found dead is told of. */
const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

// What was looked at in this turn is kept until its end.
const collect = Effect.andThen(turn, Effect.andThen(Effect.sync(gc), Effect.andThen(turn, settle)))

/** Collects garbage until it is so. The bound is far more than is ever needed. */
const until = Effect.fnUntraced(function*(what: string, done: () => boolean) {
  for (let i = 0; i < 30 && !done(); i++) yield* collect
  assert.isTrue(done(), what)
})

/** Collects garbage more often than it takes where there is some. */
const often = Effect.repeat(collect, { times: 3 })

const isGone = (ref: WeakRef<object>) => () => ref.deref() === undefined

/** Ways to borrow for a scope that nobody closes. */
const ways: Record<string, (pool: Things) => Effect.Effect<unknown, unknown, Scope.Scope>> = {
  get: (pool) => pool.get,
  getExclusive: (pool) => pool.getExclusive,
  getIfAvailable: (pool) => pool.getIfAvailable,
  getN: (pool) => pool.getN(1)
}

const unscoped = (borrowed: Effect.Effect<unknown, unknown, Scope.Scope>) =>
  Effect.suspend(() => Effect.asVoid(Scope.provide(borrowed, Scope.makeUnsafe())))

/** None of them asks for a lease to be watched, or all do. */
const options: Record<string, Partial<Omit<QueuePool.Options<Thing, Refused>, "acquire" | "warm">>> = {
  "no options": {},
  concurrency: { concurrency: 2 },
  leaseWarning: { leaseWarning: "1 hour" },
  maxLease: { maxLease: "1 hour" },
  monitor: { monitor: () => Effect.never },
  onBorrow: { onBorrow: () => Effect.yieldNow }
}

describe("a lease whose scope is dropped", () => {
  for (const [kind, given] of Object.entries(options)) {
    for (const [way, borrowed] of Object.entries(ways)) {
      it.effect(`of ${way} with ${kind} is found: its item is closed, and the slot serves the next`, () =>
        logged(Effect.fnUntraced(function*(lines) {
          const source = new Source()
          const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, name: "db", ...given })
          const events = yield* record(pool)
          yield* pool.use(() => Effect.void)
          yield* Effect.forkChild(Effect.withSpan(unscoped(borrowed(pool)), "GET /users"))
          yield* elapse(1500)
          const waiter = yield* Effect.forkChild(pool.useExclusive(({ id }) => Effect.succeed(id)))
          yield* until("found", () => source.closed.length > 0)
          assert.strictEqual(yield* Fiber.join(waiter), 2)
          const [line] = lines
          assert.match(
            line!,
            /^Warn item 1 of pool "db" was never given back by "GET \/users" \(fiber \d+\), which has held it for 1500ms: the scope of the lease was dropped without being closed/
          )
          if (kind === "leaseWarning" || kind === "maxLease") assert.match(line!.split("\n")[1]!, /leaks\.test\.ts/)
          assert.deepStrictEqual(
            told(events).filter((one) => one.endsWith(" 1")).slice(-4),
            ["LeaseEnded 1", "TakenBack 1", "Recycled 1", "Closed 1"]
          )
          assert.deepInclude(events.find(({ _tag }) => _tag === "LeaseEnded"), {
            why: "leaked",
            held: 1500,
            by: "GET /users",
            cause: undefined
          })
          const { leaked, recycled, takenBack } = yield* books(source, pool)
          assert.deepStrictEqual([leaked, recycled, takenBack, lines.length], [1, { leaked: 1 }, 1, 1])
        })))
    }
  }

  for (const way of ["get", "getExclusive", "getN"]) {
    it.effect(`of ${way} that waited is found`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
        const holder = yield* borrow(pool)
        yield* Effect.forkChild(unscoped(ways[way]!(pool)))
        yield* settle
        yield* holder.letGo
        yield* until("found", () => source.closed.length > 0)
        assert.strictEqual((yield* books(source, pool)).leaked, 1)
      }))
  }

  for (const [way, borrowed] of Object.entries(ways)) {
    it.effect(`of ${way} with its fiber, that asked for it and sleeps for ever, unknown to all, is found`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, leaseWarning: "1 hour" })
        yield* pool.use(() => Effect.void)
        const sleeper = Effect.scoped(Effect.andThen(Effect.suspend(() => borrowed(pool)), Effect.callback(() => {})))
        // @effect-diagnostics-next-line runEffectInsideEffect:off
        const forget = () => void Effect.runFork(sleeper)
        forget()
        assert.strictEqual((yield* pool.stats).used, 1)
        yield* until("found", () => source.closed.length > 0)
        assert.strictEqual((yield* books(source, pool)).leaked, 1)
      }))
  }

  it.effect("is found again and again, of the same item and of others", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2 })
      for (let i = 1; i <= 3; i++) {
        // A lease that ended well comes before.
        for (const _ of [1, 2]) yield* Effect.scoped(pool.get)
        yield* Effect.forkChild(unscoped(pool.get))
        yield* settle
        yield* until(`found ${i}`, () => source.closed.length === i)
      }
      assert.strictEqual((yield* books(source, pool)).leaked, 3)
    }))

  it.effect("ends alone where others share the item", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 2 })
      const events = yield* record(pool)
      const other = yield* borrow(pool)
      yield* Effect.forkChild(unscoped(pool.get))
      yield* settle
      yield* until("found", () => told(events).includes("TakenBack 1"))
      assert.deepStrictEqual([source.closed, (yield* pool.stats).leases], [[], 1])
      yield* other.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { leaked: 1 })
    }))

  it.effect("after one of use, whose fiber is not taken for its own", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, maxLease: "1 hour" })
      const first = yield* borrow(pool)
      yield* Fiber.interrupt(first.fiber)
      yield* Effect.forkChild(unscoped(pool.get))
      yield* settle
      yield* until("found", () => source.closed.length > 0)
      assert.strictEqual((yield* books(source, pool)).leaked, 1)
    }))

  it.effect("in the middle of the pool's closing is found, and the closing goes on", () =>
    Effect.gen(function*() {
      const source = new Source()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(QueuePool.make({ acquire: source.acquire, drainTimeout: "Infinity" }), scope)
      yield* Effect.forkChild(unscoped(pool.get))
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.isUndefined(closing.pollUnsafe())
      yield* until("closed", () => closing.pollUnsafe() !== undefined)
      assert.strictEqual(source.live, 0)
    }))
})

describe("a lease is not taken for a leak", () => {
  for (const [way, borrowed] of Object.entries(ways)) {
    it.effect(`while the scope that has it by ${way} is alive, nor when that is closed`, () =>
      logged(Effect.fnUntraced(function*(lines) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
        yield* pool.use(() => Effect.void)
        const scope = yield* Scope.make()
        yield* Scope.provide(borrowed(pool), scope)
        yield* often
        assert.deepStrictEqual([source.closed, (yield* pool.stats).used], [[], 1])
        yield* Scope.close(scope, Exit.void)
        yield* often
        // The release of that lease is kept for the next one, and belongs to it.
        yield* Effect.scoped(Effect.andThen(pool.get, often))
        const { leaked, returned } = yield* books(source, pool)
        assert.deepStrictEqual([leaked, returned, lines], [0, 3, []])
      })))
  }

  it.effect("in a scope that was closed before, nor of use, nor of a fiber that only sleeps", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 2 })
      const closed = yield* Scope.make()
      yield* Scope.close(closed, Exit.void)
      yield* Scope.provide(pool.get, closed)
      const done = yield* Deferred.make<void>()
      const fibers = [
        yield* Effect.forkChild(pool.use(() => Deferred.await(done))),
        yield* Effect.forkChild(Effect.scoped(Effect.andThen(pool.get, Deferred.await(done))))
      ]
      yield* settle
      yield* often
      assert.strictEqual((yield* pool.stats).used, 2)
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.joinAll(fibers)
      assert.strictEqual((yield* books(source, pool)).leaked, 0)
    }))

  it.effect("when its item was taken back, and the scope is dropped later", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      // Its monitor stays, and keeps the item.
      const end = yield* Deferred.make<void>()
      const monitor = () => Effect.uninterruptible(Deferred.await(end))
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, maxLease: 1000, monitor })
      yield* Effect.forkChild(unscoped(pool.get))
      yield* elapse(1000)
      assert.deepStrictEqual(source.closed, [1])
      yield* often
      assert.deepStrictEqual([(yield* books(source, pool)).leaked, lines.length], [0, 1])
      yield* Deferred.succeed(end, undefined)
    })))
})

describe("nothing is kept that is over", () => {
  /** What an item, its lease and its scope hang on, seen from outside. */
  const tracked = () => {
    const refs: Array<WeakRef<object>> = []
    const acquire = Effect.gen(function*() {
      refs.push(new WeakRef(yield* Effect.scope))
      const item = { big: new Array(1000).fill(0) }
      refs.push(new WeakRef(item))
      return item
    })
    return { acquire, refs }
  }

  for (const [concurrency, sharing] of [[1, "spread"], [2, "spread"], [3, "spread"], [3, "pack"]] as const) {
    it.effect(`of an item that was recycled, its leases and its scope, with concurrency ${concurrency}, ${sharing}`, () =>
      Effect.gen(function*() {
        const { acquire, refs } = tracked()
        const pool = yield* QueuePool.make({ acquire, max: 1, concurrency, sharing, monitor: () => Effect.never })
        const scopes: Array<WeakRef<object>> = []
        const lend = Effect.scoped(Effect.gen(function*() {
          scopes.push(new WeakRef(yield* Effect.scope))
          yield* pool.get
          yield* Effect.yieldNow
        }))
        // Several at once, one after the other, by use, and by use after get.
        yield* Effect.all([lend, lend, pool.use(() => settle), lend], { concurrency: "unbounded", discard: true })
        yield* Effect.andThen(lend, pool.use(() => Effect.void))
        yield* pool.clear
        yield* settle
        assert.strictEqual((yield* pool.stats).closed, (yield* pool.stats).opened)
        for (const ref of [...refs, ...scopes]) yield* until("collected", isGone(ref))
        assert.strictEqual(yield* pool.use(() => Effect.succeed("works")), "works")
      }))
  }

  it.effect("of an item that was taken back from a lease that got used before", () =>
    Effect.gen(function*() {
      const { acquire, refs } = tracked()
      const pool = yield* QueuePool.make({ acquire, max: 1, concurrency: 2, maxLease: 1000 })
      yield* Effect.scoped(Effect.andThen(pool.get, pool.get))
      for (const _ of [1, 2]) yield* Effect.forkChild(pool.use(() => Effect.never))
      yield* elapse(1000)
      yield* settle
      for (const ref of refs) yield* until("collected", isGone(ref))
    }))

  for (const [atOnce, kept] of [[3, 3], [20, 8]] as const) {
    it.effect(`of ${atOnce} leases that shared an item, while it lives on`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, concurrency: 20 })
        const scopes: Array<WeakRef<object>> = []
        const leases: Array<WeakRef<object>> = []
        const shared = Effect.scoped(Effect.gen(function*() {
          const scope = yield* Effect.scope
          scopes.push(new WeakRef(scope))
          for (let i = 0; i < atOnce; i++) yield* pool.get
          const { state } = scope
          if (state._tag !== "Open") return
          for (const finalizer of state.finalizers!.values()) leases.push(new WeakRef(finalizer))
        }))
        for (let i = 0; i < 5; i++) yield* shared
        for (const ref of scopes) yield* until("scope collected", isGone(ref))
        // The item keeps some for its next leases.
        const left = () => new Set(leases.flatMap((ref) => ref.deref() ?? []))
        yield* until("leases collected", () => left().size <= kept)
        assert.strictEqual((yield* books(source, pool)).opened, 1)
      }))
  }

  for (const [kind, given] of Object.entries(options)) {
    it.effect(`of a scope and a fiber that had an item, which is idle again (${kind})`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, ...given })
        yield* pool.use(() => Effect.void)
        const refs: Array<WeakRef<object>> = []
        const see = (what: object) => void refs.push(new WeakRef(what))
        const borrower = (how: Effect.Effect<unknown, unknown, Scope.Scope>) =>
          Effect.scoped(Effect.gen(function*() {
            see(yield* Effect.scope)
            see(yield* Effect.currentSpan)
            see(yield* Effect.fiber)
            yield* how
          })).pipe(Effect.withSpan("job"), Effect.forkChild, Effect.flatMap(Fiber.join))
        yield* borrower(pool.get)
        yield* borrower(pool.use(() => Effect.flatMap(Effect.fiber, (fiber) => Effect.sync(() => see(fiber)))))
        yield* borrower(
          Effect.asVoid(Effect.timeoutOption(pool.use(() => Effect.never), 0)).pipe(Effect.race(Effect.void))
        )
        yield* elapse(1)
        for (const ref of refs) yield* until("collected", isGone(ref))
        // What was interrupted in its onBorrow is not kept.
        assert.strictEqual((yield* books(source, pool)).idle, kind === "onBorrow" ? 0 : 1)
      }))
  }

  it.effect("of a pool that is dropped, with its items, lent or idle", () =>
    Effect.gen(function*() {
      const { acquire, refs } = tracked()
      const make = Effect.gen(function*() {
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(QueuePool.make({ acquire, max: 2, borrowTimeout: "Infinity" }), scope)
        yield* pool.use(() => Effect.void)
        refs.push(new WeakRef(pool), new WeakRef(scope))
        return pool
      })
      // One of them has a lease in a scope that is dropped too.
      yield* Effect.forkChild(make)
      yield* Effect.forkChild(Effect.flatMap(make, (pool) => unscoped(pool.get)))
      // Its opens have had their deadline by then.
      yield* elapse("1 minute")
      assert.strictEqual(refs.length, 8)
      for (const ref of refs) yield* until("collected", isGone(ref))
    }))
})
