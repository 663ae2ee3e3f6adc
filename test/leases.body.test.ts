import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Context,
  Deferred,
  type Duration,
  Effect,
  Exit,
  Fiber,
  References,
  Scheduler,
  Scope
} from "effect"
import { QueuePool } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, elapse, ending } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"

type Things = QueuePool.QueuePool<Thing, Refused>

/** Pools that run what `use` is given in the borrower's fiber, and in one of its own. */
const kinds = {
  neither: {},
  maxLease: { maxLease: "1 hour" },
  monitor: { monitor: () => Effect.never }
} as const

class Service extends Context.Service<Service, string>()("test/Service") {}
const Colour = Context.Reference<string>("test/Colour", { defaultValue: () => "none" })

/** What fiber it was that ended, or was interrupted, is not part of what is compared. */
const anonymous = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isSuccess(exit)
    ? exit.value
    : exit.cause.reasons.map((reason) => Cause.isInterruptReason(reason) ? "interrupted" : Cause.fromReasons([reason]))

const boom = new Error("boom")

/** Bodies, by what they show of where they run. */
const bodies: Record<string, (pool: Things) => Effect.Effect<unknown, unknown, Scope.Scope | Service>> = {
  succeeds: (pool) => pool.use(({ id }) => Effect.succeed(id)),
  "succeeds later": (pool) => pool.use(({ id }) => Effect.as(settle, id)),
  fails: (pool) => pool.use(() => Effect.fail("no")),
  dies: (pool) => pool.use(() => Effect.andThen(settle, Effect.die(boom))),
  throws: (pool) =>
    pool.use(() => {
      throw boom
    }),
  "interrupts itself": (pool) => pool.use(() => Effect.interrupt),
  "interrupts itself later": (pool) => pool.use(() => Effect.andThen(settle, Effect.interrupt)),
  "fails in several ways": (pool) =>
    pool.use(() =>
      Effect.failCause(Cause.combine(Cause.fail("one"), Cause.combine(Cause.die(boom), Cause.interrupt())))
    ),
  "asks its services": (pool) => pool.use(() => Effect.all([Service, Colour])),
  "asks for its span": (pool) =>
    Effect.withSpan(pool.use(() => Effect.map(Effect.currentSpan, ({ name }) => name)), "the borrower's"),
  "asks for its log annotations": (pool) =>
    Effect.annotateLogs(
      pool.use(() => Effect.map(References.CurrentLogAnnotations, (all) => ({ ...all }))),
      "who",
      "the borrower"
    ),
  "asks for its scheduler": (pool) =>
    Effect.provideService(pool.use(() => Effect.service(Scheduler.MaxOpsBeforeYield)), Scheduler.MaxOpsBeforeYield, 7),
  "leaves finalizers in its scope": (pool) =>
    Effect.gen(function*() {
      const log: Array<string> = []
      yield* Effect.scoped(
        Effect.andThen(
          pool.use(() => Effect.addFinalizer(() => Effect.sync(() => void log.push("finalizer")))),
          Effect.sync(() => void log.push("after use"))
        )
      )
      return log
    }),
  "is not run when there is no item": (pool) =>
    pool.use(() => pool.useIfAvailable(() => Effect.die("never")).pipe(Effect.map((option) => option._tag))),
  "is run when there is one": (pool) => pool.useIfAvailable(() => Effect.succeed("here")),
  "has it alone": (pool) => pool.useExclusive(() => Effect.succeed("alone"))
}

/** Borrowers that are interrupted from outside, and what they log; each is to be the same as without a fiber between. */
const interrupted: Record<
  string,
  (pool: Things, log: (what: unknown) => Effect.Effect<void>) => Effect.Effect<unknown, unknown>
> = {
  "anywhere": (pool) => pool.use(() => Effect.never),
  "with finalizers that take their time": (pool, log) =>
    pool.use(() => Effect.onInterrupt(Effect.never, () => Effect.andThen(Effect.sleep(100), log("finalized")))),
  "with finalizers that die": (pool) => pool.use(() => Effect.onInterrupt(Effect.never, () => Effect.die(boom))),
  "in a region that cannot be": (pool, log) =>
    pool.use(() => Effect.uninterruptible(Effect.andThen(Effect.sleep(100), log("done")))),
  "in a region that cannot be, with a part that can": (pool, log) =>
    Effect.uninterruptible(
      Effect.flatMap(Effect.exit(pool.use(() => Effect.interruptible(Effect.never))), (exit) => log(anonymous(exit)))
    ),
  "in a region that cannot be, with a part that can and is recovered from": (pool, log) =>
    Effect.uninterruptible(
      Effect.flatMap(
        pool.use(() => Effect.catchCause(Effect.interruptible(Effect.never), () => Effect.succeed("recovered"))),
        log
      )
    ),
  "in a region that cannot be, with a part that can and finalizers that die": (pool, log) =>
    Effect.uninterruptible(
      Effect.flatMap(
        Effect.exit(pool.use(() => Effect.onExit(Effect.interruptible(Effect.never), () => Effect.die(boom)))),
        (exit) => log(anonymous(exit))
      )
    ),
  "where a mask restores": (pool, log) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.exit(restore(pool.use(() => Effect.never))), (exit) => log(anonymous(exit)))
    ),
  "in a region of all the borrow": (pool, log) =>
    Effect.uninterruptible(
      Effect.andThen(pool.use(() => Effect.andThen(Effect.sleep(100), log("body"))), log("after"))
    ),
  "and its finalizers hear by whom": (pool, log) =>
    pool.use(() => Effect.onInterrupt(Effect.never, (interruptors) => log(Array.from(interruptors))))
}

describe("what use runs in a fiber of its own is the same as in the borrower's", () => {
  for (const [name, body] of Object.entries(bodies)) {
    it.effect(`when it ${name}`, () =>
      Effect.gen(function*() {
        const seen: Record<string, unknown> = {}
        for (const [kind, options] of Object.entries(kinds)) {
          const source = new Source()
          const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, ...options })
          yield* pool.use(() => Effect.void)
          const exit = yield* Effect.exit(body(pool)).pipe(
            Effect.provideService(Service, "a service"),
            Effect.provideService(Colour, "blue")
          )
          seen[kind] = anonymous(exit)
          assert.strictEqual((yield* books(source, pool)).idle, 1)
        }
        assert.deepStrictEqual(seen["maxLease"], seen["neither"])
        assert.deepStrictEqual(seen["monitor"], seen["neither"])
      }))
  }

  for (const [name, borrower] of Object.entries(interrupted)) {
    it.effect(`when it is interrupted ${name}`, () =>
      Effect.gen(function*() {
        const seen: Record<string, unknown> = {}
        for (const [kind, options] of Object.entries(kinds)) {
          const source = new Source()
          const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, ...options })
          yield* pool.use(() => Effect.void)
          const log: Array<unknown> = []
          const write = (what: unknown) => Effect.map(pool.stats, ({ used }) => void log.push(what, used))
          const fiber = yield* Effect.forkChild(borrower(pool, write))
          yield* elapse(10)
          fiber.interruptUnsafe(4711)
          yield* settle
          log.push("then")
          yield* elapse(1000)
          seen[kind] = [ending(fiber.pollUnsafe()), ...log]
          assert.strictEqual((yield* books(source, pool)).idle, 1)
        }
        assert.deepStrictEqual(seen["maxLease"], seen["neither"])
        assert.deepStrictEqual(seen["monitor"], seen["neither"])
      }))
  }

  it.effect("when it is run without a turn of the event loop", () =>
    Effect.gen(function*() {
      for (const options of Object.values(kinds)) {
        const source = new Source()
        const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1, ...options })
        yield* pool.use(() => Effect.void)
        // @effect-diagnostics-next-line runEffectInsideEffect:off
        assert.strictEqual(Effect.runSync(pool.use(({ id }) => Effect.succeed(id))), 1)
        // @effect-diagnostics-next-line runEffectInsideEffect:off
        assert.deepStrictEqual(Effect.runFork(pool.use(({ id }) => Effect.succeed(id))).pollUnsafe(), Exit.succeed(1))
        yield* books(source, pool)
      }
    }))

  it.effect("but for what it forks as its children, which end with it", () =>
    Effect.gen(function*() {
      const pool = yield* QueuePool.make({ acquire: new Source().acquire, maxLease: 1000 })
      const child = yield* pool.use(() => Effect.forkChild(Effect.never))
      assert.strictEqual(ending(child.pollUnsafe()), "interrupted")
    }))
})

describe("interruption of a borrower whose lease can be ended", () => {
  for (const [kind, options] of Object.entries(kinds)) {
    for (const way of ["idle", "waiting"] as const) {
      it.effect(`at every operation, with ${kind}, of an item that is ${way}: it comes back when the body is over`, () =>
        Effect.gen(function*() {
          const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
            const source = new Source()
            let inUse = false
            const pool = yield* QueuePool.make({
              acquire: source.acquire,
              max: 1,
              drainTimeout: 0,
              onReturn: () => {
                assert.isFalse(inUse, at)
                return undefined
              },
              ...options
            })
            const holder = way === "waiting" ? yield* borrow(pool) : undefined
            if (holder === undefined) yield* pool.use(() => Effect.void)
            const body = Effect.onExit(
              Effect.suspend(() => {
                inUse = true
                return Effect.andThen(Effect.yieldNow, Effect.yieldNow)
              }),
              () => Effect.andThen(Effect.yieldNow, Effect.sync(() => void (inUse = false)))
            )
            const fiber = yield* run(pool.use(() => body))
            yield* settle
            yield* holder?.letGo ?? Effect.void
            const exit = yield* Fiber.await(fiber)
            assert.include(["served", "interrupted"], ending(exit), at)
            const { idle, recycled } = yield* books(source, pool)
            assert.deepStrictEqual([idle, inUse, recycled], [1, false, {}], at)
            assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), 1)
          }, Effect.scoped))
          assert.isAbove(operations, 5)
        }))
    }
  }

  for (const why of ["maxLease", "died"] as const) {
    it.effect(`at every operation, while its lease is ended (${why}), stays an interruption`, () =>
      Effect.gen(function*() {
        const seen: Array<string> = []
        yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const source = new Source()
          const dead = yield* Deferred.make<void>()
          const pool = yield* QueuePool.make({
            acquire: source.acquire,
            max: 1,
            drainTimeout: 0,
            ...(why === "died"
              ? { monitor: ({ id }: Thing) => id === 1 ? Deferred.await(dead) : Effect.never }
              : { maxLease: 1000 })
          })
          yield* pool.use(() => Effect.void)
          const slow = Effect.onExit(Effect.never, () => Effect.andThen(Effect.yieldNow, Effect.yieldNow))
          const fiber = yield* run(Effect.exit(pool.use(() => slow)).pipe(Effect.tap(Effect.yieldNow)))
          yield* settle
          if (why === "died") yield* Deferred.succeed(dead, undefined)
          yield* elapse(1000)
          const exit = yield* Fiber.await(fiber)
          seen.push(Exit.isSuccess(exit) ? ending(exit.value) : ending(exit))
          assert.include(["interrupted", "LeaseEnded"], seen.at(-1), at)
          yield* books(source, pool)
          assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), source.attempts)
        }, Effect.scoped))
        // As long as it comes before the end, the interruption is what counts: both ways of the kit, one after the other.
        const turns = seen.join(" ").split(/(?<=LeaseEnded) (?=interrupted)/)
        assert.strictEqual(turns.length, 2)
        for (const turn of turns) assert.match(turn, /^(interrupted )+(LeaseEnded ?)+$/)
      }))
  }
})

describe("a lease that is over before its borrower has begun", () => {
  /** What ends a lease that has begun: it is called between two turns of the borrower. */
  const ways: Record<
    string,
    (end: {
      readonly die: Effect.Effect<unknown>
      readonly lose: Effect.Effect<unknown>
      readonly close: Effect.Effect<unknown>
    }) => Effect.Effect<unknown>
  > = {
    "its item dies": ({ die }) => die,
    "its item is lost": ({ lose }) => lose,
    "the closing of the pool takes it back": ({ close }) => close
  }
  for (const [what, way] of Object.entries(ways)) {
    it.effect(`because ${what}, in whatever step: the body never runs without it`, () =>
      Effect.gen(function*() {
        const seen = new Set<string>()
        const clock = yield* Effect.clockWith((clock) => Effect.succeed(impatient(clock)))
        for (let run = 0; run < 100; run++) {
          const [operations, turns] = [3 + Math.floor(run / 20), run % 20]
          const source = new Source()
          const dead = yield* Deferred.make<void>()
          const scope = yield* Scope.make()
          const pool = yield* QueuePool.make({
            acquire: source.acquire,
            max: 1,
            drainTimeout: 0,
            monitor: ({ id }) => id === 1 ? Deferred.await(dead) : Effect.never
          }).pipe(Effect.provideService(Clock.Clock, clock), Scope.provide(scope))
          yield* pool.use(() => Effect.void)
          const body = Effect.flatMap(pool.stats, ({ leases }) => {
            assert.strictEqual(leases, 1)
            return Effect.andThen(Effect.yieldNow, Effect.succeed("served"))
          })
          // With fewer than three a fiber of effect's does not get on.
          const use = Effect.provideService(pool.use(() => body), Scheduler.MaxOpsBeforeYield, operations)
          const fiber = yield* Effect.forkChild(use, { startImmediately: true })
          yield* Effect.repeat(Effect.yieldNow, { times: turns })
          yield* way({
            die: Deferred.succeed(dead, undefined),
            lose: Effect.sync(() => lose(pool, source.opened[0], "lost")),
            close: Effect.suspend(() => {
              clock.hurry()
              return Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
            })
          })
          yield* elapse(10)
          seen.add(ending(yield* Fiber.await(fiber)))
          yield* Scope.close(scope, Exit.void)
          assert.strictEqual(source.live, 0)
        }
        // Before the lease the borrower has another item, or none, and after it has ended it does not matter any more.
        assert.include(seen, what.includes("closing") ? "Closed" : "LeaseEnded")
        assert.include(seen, "served")
        if (what.includes("closing")) assert.notInclude(seen, "LeaseEnded")
      }))
  }
})

/** A clock whose next sleep after `hurry` is over at once. */
const impatient = (base: Clock.Clock): Clock.Clock & { readonly hurry: () => void } => {
  let hurried = false
  return Object.create(base, {
    hurry: { value: () => void (hurried = true) },
    sleep: {
      value: (duration: Duration.Duration) => {
        if (!hurried) return base.sleep(duration)
        hurried = false
        return Effect.void
      }
    }
  }) as never
}
