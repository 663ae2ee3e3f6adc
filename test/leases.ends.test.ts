import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, elapse, ending, endings } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { logged, record, told } from "./kit/observe.ts"

const limited = (source: Source, options: Omit<QueuePool.Options<Thing, Refused>, "acquire" | "warm"> = {}) =>
  QueuePool.make({ acquire: source.acquire, max: 1, name: "db", maxLease: 1000, ...options })

/** What the pool told of the end of a lease. */
const reasonOf = (exit: Exit.Exit<unknown, unknown> | undefined): PoolError.LeaseEnded | undefined => {
  if (exit === undefined || Exit.isSuccess(exit)) return undefined
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  return error instanceof PoolError.PoolError && error.reason._tag === "LeaseEnded" ? error.reason : undefined
}

const sentence = (error: unknown): string => String(error)

const run = <A, E>(effect: Effect.Effect<A, E>) => Effect.tap(Effect.forkChild(effect), () => settle)

describe("J4: maxLease ends what use runs", () => {
  it.effect("by interruption: its finalizers have the item, which then goes, and the borrower goes on", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const source = new Source()
      const pool = yield* limited(source)
      const events = yield* record(pool)
      const log: Array<unknown> = []
      const fiber = yield* run(Effect.withSpan(
        pool.use(({ id }) =>
          Effect.onInterrupt(
            Effect.never,
            () => Effect.andThen(Effect.sleep(100), Effect.sync(() => void log.push(id, source.closed.length)))
          )
        ).pipe(
          Effect.catchReason("PoolError", "LeaseEnded", ({ cause, held, why }) => Effect.succeed([why, held, cause])),
          Effect.tap(() => Effect.yieldNow)
        ),
        "job"
      ))
      const waiter = yield* borrow(pool)
      yield* elapse(999)
      assert.deepStrictEqual([lines, endings([waiter])], [[], ["waits"]])
      yield* elapse(1)
      assert.match(
        lines[0]!,
        /^Warn item 1 of pool "db" is taken from "job" \(fiber \d+\), which has held it for 1000ms: maxLease is over\n/
      )
      assert.match(lines[0]!.split("\n")[1]!, /leases\.ends\.test\.ts/)
      assert.isUndefined(fiber.pollUnsafe())
      yield* elapse(100)
      assert.deepStrictEqual(log, [1, 0])
      assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(["maxLease", 1000, undefined]))
      assert.deepStrictEqual([waiter.item?.id, source.closed], [2, [1]])
      yield* waiter.letGo
      assert.deepStrictEqual(
        told(events).filter((one) => one.endsWith("1")),
        ["Opening 1", "Opened 1", "Borrowed 1", "LeaseEnded 1", "Returned 1", "Recycled 1", "Closed 1"]
      )
      const ended = events.find(({ _tag }) => _tag === "LeaseEnded")!
      assert.deepInclude(ended, { held: 1000, by: "job", why: "maxLease", cause: undefined })
      const { recycled, takenBack } = yield* books(source, pool)
      assert.deepStrictEqual([recycled, takenBack, lines.length], [{ maxLease: 1 }, 0, 1])
      yield* elapse("1 hour")
      assert.strictEqual(lines.length, 1)
    })))

  it.effect("and says why, in a sentence", () =>
    Effect.gen(function*() {
      const pool = yield* limited(new Source())
      const fiber = yield* run(Effect.flip(pool.use(() => Effect.never)))
      yield* elapse(1000)
      assert.strictEqual(
        sentence(yield* Fiber.join(fiber)),
        "PoolError: LeaseEnded: the item of \"db\" was taken back: maxLease is over, after 1s of this lease"
      )
    }))

  for (const way of ["useExclusive", "useIfAvailable"] as const) {
    it.effect(`and what ${way} runs`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* limited(source)
        yield* pool.use(() => Effect.void)
        const fiber = yield* run<unknown, unknown>(pool[way](() => Effect.never))
        yield* elapse(1000)
        assert.strictEqual(reasonOf(fiber.pollUnsafe())?.why, "maxLease")
        assert.deepStrictEqual((yield* books(source, pool)).recycled, { maxLease: 1 })
      }))
  }

  it.effect("and not what ends in time, again and again", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source, { max: 2 })
      const ends: Array<string> = []
      const worker = Effect.forEach(
        Array.from({ length: 20 }),
        () =>
          Effect.flatMap(Effect.exit(pool.use(() => Effect.sleep(999))), (exit) =>
            Effect.sync(() => ends.push(ending(exit))))
      )
      const fibers = [yield* run(worker), yield* run(Effect.andThen(Effect.sleep(500), worker))]
      yield* elapse("1 minute")
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(new Set(ends), new Set(["served"]))
      assert.strictEqual((yield* books(source, pool)).opened, 2)
    }))

  it.effect("though its finalizers hang: the item is closed under them after closeTimeout", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source, { closeTimeout: 500 })
      const release = yield* Deferred.make<void>()
      const fiber = yield* run(pool.use(() => Effect.onInterrupt(Effect.never, () => Deferred.await(release))))
      const waiter = yield* borrow(pool)
      yield* elapse(1499)
      assert.deepStrictEqual(source.closed, [])
      yield* elapse(1)
      assert.deepStrictEqual([source.closed, waiter.item?.id], [[1], 2])
      yield* waiter.letGo
      const { borrowed, recycled, returned, takenBack } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, returned, takenBack, recycled], [2, 1, 1, { maxLease: 1 }])
      // It comes back late, and harms nobody.
      const next = yield* borrow(pool)
      yield* Deferred.succeed(release, undefined)
      yield* settle
      assert.strictEqual(reasonOf(fiber.pollUnsafe())?.why, "maxLease")
      assert.strictEqual((yield* pool.stats).used, 1)
      yield* next.letGo
      yield* books(source, pool)
    }))

  it.effect("but not what cannot be interrupted: that has its own result, and its item goes", () =>
    Effect.gen(function*() {
      for (const millis of [1200, 5900, 6100, 60_000]) {
        const source = new Source()
        const pool = yield* limited(source)
        const fiber = yield* run(pool.use(() => Effect.uninterruptible(Effect.as(Effect.sleep(millis), "done"))))
        yield* elapse(6000)
        assert.deepStrictEqual(source.closed, [1])
        assert.strictEqual((yield* books(source, pool)).returned, millis < 6000 ? 1 : 0)
        yield* elapse(60_000)
        // The interruption waits at the end of the region, as it does everywhere.
        assert.strictEqual(reasonOf(fiber.pollUnsafe())?.why, "maxLease")
        const inside = yield* run(Effect.uninterruptible(pool.use(() => Effect.as(Effect.sleep(millis), "done"))))
        yield* elapse(60_000)
        assert.deepStrictEqual(inside.pollUnsafe(), Exit.succeed("done"))
        yield* books(source, pool)
      }
    }))

  it.effect("and keeps what else went wrong in it", () =>
    Effect.gen(function*() {
      const pool = yield* limited(new Source())
      const boom = new Error("boom")
      const body = (last: Effect.Effect<never, string>) =>
        pool.use(() => Effect.onExit(Effect.interruptible(Effect.never), () => last))
      for (
        const [last, kept] of [[Effect.die(boom), Cause.die(boom)], [Effect.fail("no"), Cause.fail("no")]] as const
      ) {
        const fiber = yield* run(Effect.exit(Effect.uninterruptible(body(last))))
        yield* elapse(1000)
        const exit = yield* Fiber.join(fiber)
        assert.strictEqual(reasonOf(exit)?.why, "maxLease")
        assert.isTrue(Exit.isFailure(exit) && exit.cause.reasons.length === 2)
        assert.deepInclude((exit as Exit.Failure<never, unknown>).cause.reasons, kept.reasons[0])
      }
      // Where the body can be interrupted, effect itself drops what its finalizers do then.
      const fiber = yield* run(body(Effect.die(boom)))
      yield* elapse(1000)
      assert.strictEqual(reasonOf(fiber.pollUnsafe())?.why, "maxLease")
    }))

  it.effect("also if it makes nothing of an interruption: it has its own result, and its item goes", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source)
      const body = Effect.catchCause(Effect.interruptible(Effect.never), () => Effect.succeed("so what"))
      const fiber = yield* run(Effect.uninterruptible(pool.use(() => body)))
      yield* elapse(1000)
      assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed("so what"))
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { maxLease: 1 })
    }))

  it.effect("and tells rules and onReturn of its Exit, but does not reset the item", () =>
    Effect.gen(function*() {
      const source = new Source()
      const log: Array<unknown> = []
      const pool = yield* limited(source, {
        recycle: ({ exit }) => {
          log.push("rule", reasonOf(exit)?.why)
          return false
        },
        onReturn: (_, exit) => Effect.sync(() => void log.push("onReturn", reasonOf(exit)?.why)),
        reset: () => Effect.sync(() => void log.push("reset"))
      })
      yield* run(pool.use(() => Effect.never))
      yield* elapse(1000)
      assert.deepStrictEqual(log, ["rule", "maxLease", "onReturn", "maxLease"])
      yield* books(source, pool)
    }))

  it.effect("of one lease at a time: the next one has all its time", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source)
      const first = yield* run(pool.use(() => Effect.sleep(700)))
      const second = yield* run(pool.use(() => Effect.sleep(999)))
      yield* elapse(1698)
      assert.deepStrictEqual([ending(first.pollUnsafe()), ending(second.pollUnsafe())], ["served", "waits"])
      yield* elapse(1)
      assert.strictEqual(ending(second.pollUnsafe()), "served")
      yield* books(source, pool)
    }))

  it.effect("within another one, whose lease goes on", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source, { max: 2 })
      const log: Array<string> = []
      const inner = Effect.andThen(
        Effect.sleep(600),
        Effect.onExit(pool.use(() => Effect.never), (exit) => Effect.sync(() => void log.push(`inner ${ending(exit)}`)))
      )
      const fiber = yield* run(pool.use(() => inner))
      yield* elapse(1000)
      // The outer one ends first, and takes the inner one along.
      assert.deepStrictEqual(log, ["inner interrupted"])
      assert.strictEqual(reasonOf(fiber.pollUnsafe())?.held, 1000)
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { maxLease: 1 })
      // The inner one alone is over: the outer body can deal with that.
      const other = yield* QueuePool.make({ acquire: source.acquire, max: 1, maxLease: 100 })
      const caught = yield* run(pool.use(() => Effect.exit(other.use(() => Effect.never))))
      yield* elapse(100)
      assert.strictEqual(reasonOf(yield* Fiber.join(caught))?.held, 100)
      yield* pool.clear
      yield* other.clear
    }))

  it.effect("of an item that was detached no more", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source)
      const fiber = yield* run(Effect.scoped(pool.use((item) => Effect.andThen(pool.detach(item), Effect.sleep(5000)))))
      yield* elapse(4999)
      assert.deepStrictEqual([source.closed, ending(fiber.pollUnsafe())], [[], "waits"])
      yield* elapse(1)
      assert.deepStrictEqual([source.closed, ending(fiber.pollUnsafe())], [[1], "served"])
    }))
})

describe("J4: maxLease and an item that get lent to a scope", () => {
  for (const way of ["get", "getExclusive", "getIfAvailable", "getN"] as const) {
    it.effect(`by ${way}: it is closed under the borrower, who comes back late and harms nobody`, () =>
      logged(Effect.fnUntraced(function*(lines) {
        const source = new Source()
        const pool = yield* limited(source)
        const events = yield* record(pool)
        yield* pool.use(() => Effect.void)
        const scope = yield* Scope.make()
        const borrowed: Effect.Effect<unknown, unknown, Scope.Scope> = way === "getN" ? pool.getN(1) : pool[way]
        yield* Scope.provide(borrowed, scope)
        const waiter = yield* borrow(pool)
        yield* elapse(1000)
        assert.deepStrictEqual([source.closed, waiter.item?.id], [[1], 2])
        assert.match(lines[0]!, /is taken from "fiber \d+", which has held it for 1000ms: maxLease is over\n/)
        yield* Scope.close(scope, Exit.void)
        yield* settle
        assert.strictEqual((yield* pool.stats).used, 1)
        yield* waiter.letGo
        assert.deepStrictEqual(
          told(events).filter((one) => one.endsWith("1")).slice(4),
          ["Borrowed 1", "LeaseEnded 1", "TakenBack 1", "Recycled 1", "Closed 1"]
        )
        const { recycled, takenBack } = yield* books(source, pool)
        assert.deepStrictEqual([recycled, takenBack], [{ maxLease: 1 }, 1])
      })))
  }

  it.effect("after one that use had: nothing of that lease is left", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source)
      // Its borrower is interrupted: whatever it had must not be taken for what the next one has.
      const first = yield* borrow(pool)
      yield* Fiber.interrupt(first.fiber)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* pool.get
        yield* elapse(1000)
        assert.deepStrictEqual(source.closed, [1])
      }))
      yield* books(source, pool)
    }))
})

describe("J4: maxLease of an item that several share", () => {
  for (const way of ["use", "get"] as const) {
    it.effect(`by ${way}: the lease that is over ends alone, and the item goes when the others have left`, () =>
      Effect.gen(function*() {
        const source = new Source()
        const pool = yield* limited(source, { concurrency: 3 })
        const overdue = yield* run(
          way === "use" ? pool.use(() => Effect.never) : Effect.scoped(Effect.andThen(pool.get, Effect.never))
        )
        yield* elapse(500)
        const [other, another] = [yield* borrow(pool), yield* borrow(pool)]
        yield* elapse(500)
        const held = way === "use" ? "LeaseEnded" : "waits"
        assert.deepStrictEqual(endings([{ fiber: overdue }, other, another]), [held, "waits", "waits"])
        assert.deepStrictEqual([source.closed, (yield* pool.stats).leases], [[], 2])
        // It takes nobody new.
        const waiter = yield* borrow(pool)
        assert.deepStrictEqual(endings([waiter]), ["waits"])
        yield* other.letGo
        assert.deepStrictEqual(source.closed, [])
        yield* another.letGo
        assert.deepStrictEqual([source.closed, waiter.item?.id], [[1], 2])
        if (way === "get") yield* Fiber.interrupt(overdue)
        yield* waiter.letGo
        const { recycled, takenBack } = yield* books(source, pool)
        assert.deepStrictEqual([recycled, takenBack], [{ maxLease: 1 }, way === "use" ? 0 : 1])
      }))
  }

  it.effect("whose finalizers hang: that lease is cut off, the others keep the item", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source, { concurrency: 3, closeTimeout: 400 })
      const release = yield* Deferred.make<void>()
      const stuck = yield* run(pool.use(() => Effect.onInterrupt(Effect.never, () => Deferred.await(release))))
      yield* elapse(900)
      const other = yield* borrow(pool)
      yield* elapse(200)
      const newcomer = yield* borrow(pool)
      assert.deepStrictEqual([endings([newcomer]), newcomer.item], [["waits"], undefined])
      yield* elapse(300)
      assert.deepStrictEqual([(yield* pool.stats).leases, source.closed], [1, []])
      yield* other.letGo
      assert.deepStrictEqual([source.closed, newcomer.item?.id], [[1], 2])
      yield* newcomer.letGo
      yield* Deferred.succeed(release, undefined)
      yield* settle
      assert.deepStrictEqual(endings([{ fiber: stuck }]), ["LeaseEnded"])
      yield* books(source, pool)
    }))

  it.effect("and that is lost by a rule, in the step in which one of them leaves: each lease ends once", () =>
    Effect.gen(function*() {
      const source = new Source()
      const around: { pool?: QueuePool.QueuePool<Thing, Refused> } = {}
      let losing = false
      const pool = around.pool = yield* limited(source, {
        concurrency: 3,
        recycle: ({ item }) => {
          if (losing) lose(around.pool!, item, "lost")
          return false
        }
      })
      const borrowers = [yield* borrow(pool), yield* borrow(pool), yield* borrow(pool)]
      losing = true
      yield* borrowers[1]!.letGo
      losing = false
      assert.deepStrictEqual(source.closed, [1])
      for (const { letGo } of borrowers) yield* letGo
      const { borrowed, returned, takenBack } = yield* books(source, pool)
      assert.deepStrictEqual([borrowed, returned, takenBack], [3, 1, 2])
    }))

  it.effect("all together: the last to be cut off takes the item along", () =>
    Effect.gen(function*() {
      const source = new Source()
      const pool = yield* limited(source, { concurrency: 2, closeTimeout: 400 })
      const scopes = [yield* Scope.make(), yield* Scope.make()]
      for (const scope of scopes) yield* Scope.provide(pool.get, scope)
      yield* elapse(1000)
      assert.deepStrictEqual(source.closed, [1])
      for (const scope of scopes) yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* books(source, pool)).takenBack, 2)
    }))
})
