/** `onReturn`: what is done when a lease has ended, and its place among rules and `reset`. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, closedBooks, elapse, ending, endings } from "./kit/books.ts"
import { failures, hangs, Hook } from "./kit/hook.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record, recycled, told } from "./kit/observe.ts"

// What a hook's function does, it does where no Effect is.
// @effect-diagnostics runEffectInsideEffect:off

type Pool = QueuePool.QueuePool<Thing, Refused>
type Settings = Omit<QueuePool.Options<Thing, Refused, Scope.Scope>, "acquire">

const make = Effect.fnUntraced(function*(options: Settings = {}) {
  const source = new Source()
  const hook = new Hook()
  const pool: Pool = yield* QueuePool.make({
    acquire: source.acquire,
    max: 1,
    drainTimeout: 0,
    onReturn: hook.run,
    ...options
  })
  return { hook, pool, source, events: yield* record(pool) }
})

describe("onReturn", () => {
  it.effect("runs after every lease with its exit, and no borrower waits for that of its own", () =>
    Effect.gen(function*() {
      const exits: Array<unknown> = []
      const { pool, source } = yield* make({
        onReturn: (_, exit) => Effect.andThen(Effect.sleep(100), Effect.sync(() => void exits.push(exit)))
      })
      const interrupted = yield* borrow(pool)
      yield* Fiber.interrupt(interrupted.fiber)
      assert.strictEqual((yield* pool.stats).used, 1)
      yield* elapse(100)
      assert.strictEqual(yield* Effect.flip(pool.use(() => Effect.fail("no"))), "no")
      yield* elapse(100)
      yield* Effect.scoped(pool.get)
      yield* elapse(100)
      assert.strictEqual(ending(exits[0] as Exit.Exit<unknown, unknown>), "interrupted")
      assert.deepStrictEqual(exits.slice(1), [Exit.fail("no"), Exit.succeed({ id: 1 })])
      yield* books(source, pool)
    }))

  it.effect("holds the item until it has ended: the next borrower waits", () =>
    Effect.gen(function*() {
      const { hook, pool, source } = yield* make()
      hook.otherwise = () => Effect.sleep(100)
      const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
      yield* holder.letGo
      const { idle, leases, used } = yield* pool.stats
      assert.deepStrictEqual([holder.fiber.pollUnsafe(), waiter.item], [Exit.succeed({ id: 1 }), undefined])
      assert.deepStrictEqual({ idle, leases, used }, { idle: 0, leases: 0, used: 1 })
      yield* elapse(100)
      assert.deepStrictEqual(waiter.item, { id: 1 })
      yield* waiter.letGo
      yield* elapse(100)
      yield* books(source, pool)
    }))

  it.effect("that gives undefined frees the item in the step of the return, if nothing else is to do", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const { pool } = yield* make({
        min: 1,
        onReturn: () => void log.push("onReturn"),
        reset: () => void log.push("reset")
      })
      yield* settle
      for (const _ of [1, 2]) assert.strictEqual(Effect.runSync(pool.use(({ id }) => Effect.succeed(id))), 1)
      assert.deepStrictEqual(log, ["onReturn", "reset", "onReturn", "reset"])
    }))

  it.effect("comes after what the rules say at once, and before the reset", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const say = (what: string) => Effect.sync(() => void log.push(what))
      const later = (what: string) => Effect.andThen(say(`${what} begins`), Effect.andThen(Effect.yieldNow, say(what)))
      for (const bad of [false, true]) {
        log.length = 0
        const { events, pool, source } = yield* make({
          onReturn: () => later("onReturn"),
          reset: () => later("reset"),
          recycle: RecyclePolicy.when(({ exit }) => {
            if (exit !== undefined) log.push("rule")
            return bad && exit !== undefined
          }, "bad")
        })
        yield* pool.use(() => Effect.void)
        yield* settle
        assert.deepStrictEqual(log.slice(0, 3), ["rule", "onReturn begins", "onReturn"])
        assert.deepStrictEqual(log.slice(3), bad ? [] : ["reset begins", "reset"])
        assert.deepStrictEqual(recycled(events), bad ? [[1, "bad"]] : [])
        yield* books(source, pool)
      }
    }))

  it.effect("comes before what a rule has to be waited for, and that before the reset", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const say = (what: string) => Effect.sync(() => void log.push(what))
      const step = Effect.andThen(say("step begins"), Effect.andThen(Effect.sleep(10), say("step")))
      const { events, pool, source } = yield* make({
        onReturn: () => Effect.andThen(say("onReturn"), Effect.sleep(10)),
        reset: () => say("reset"),
        recycle: RecyclePolicy.schedule(
          Schedule.recurs(2).pipe(
            Schedule.setInputType<RecyclePolicy.Usage<Thing>>(),
            Schedule.tap(({ input }) => input.moment === "open" ? Effect.void : step)
          )
        )
      })
      yield* pool.use(() => Effect.void)
      yield* elapse(20)
      // Its Effect begins with the return, and is asked for when it is its turn.
      assert.deepStrictEqual(log, ["step begins", "onReturn", "step", "reset"])
      log.length = 0
      yield* pool.use(() => Effect.void)
      yield* elapse(20)
      assert.notInclude(log, "reset")
      assert.deepStrictEqual(recycled(events), [[1, "schedule"]])
      yield* books(source, pool)
    }))

  for (const [how, [answer]] of Object.entries(failures)) {
    it.effect(`that ${how}: the borrower sees nothing, the item goes without a reset, and a waiter gets a new one`, () =>
      Effect.gen(function*() {
        const reset = new Hook()
        const { events, hook, pool, source } = yield* make({ reset: reset.run })
        hook.answers.set(1, answer)
        const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
        yield* holder.letGo
        assert.deepStrictEqual(holder.fiber.pollUnsafe(), Exit.succeed({ id: 1 }))
        assert.deepStrictEqual([waiter.item, reset.begun, hook.running], [{ id: 2 }, [], 0])
        assert.includeMembers([...told(events)], ["Returned 1", "ResetFailed 1", "Recycled 1", "Closed 1"])
        yield* waiter.letGo
        const { borrowed, recycled, returned } = yield* books(source, pool)
        assert.deepStrictEqual([borrowed, returned, recycled], [2, 2, { "reset failed": 1 }])
      }))
  }

  for (const [how, answer] of Object.entries(hangs)) {
    it.effect(`that ${how} has resetTimeout, which it shares with the reset`, () =>
      Effect.gen(function*() {
        for (const hanging of ["onReturn", "reset"] as const) {
          const [hook, reset] = [new Hook(), new Hook()]
          const { events, pool, source } = yield* make({
            onReturn: hook.run,
            reset: hanging === "reset" ? reset.run : undefined,
            resetTimeout: 1000
          })
          hook.answers.set(1, hanging === "onReturn" ? answer : () => Effect.sleep(600))
          reset.answers.set(1, answer)
          yield* pool.use(() => Effect.void)
          const waiter = yield* borrow(pool)
          yield* elapse(999)
          assert.deepStrictEqual([waiter.item, reset.begun], [undefined, hanging === "reset" ? [1] : []])
          yield* elapse(1)
          assert.deepStrictEqual([waiter.item, source.closed], [{ id: 2 }, [1]])
          const failed = events.find(({ _tag }) => _tag === "ResetFailed") as { readonly cause: Cause.Cause<unknown> }
          assert.strictEqual(
            (Cause.squash(failed.cause) as Error).message,
            `onReturn${hanging === "reset" ? " and the reset" : ""} took longer than 1000ms`
          )
          hook.answers.clear()
          yield* waiter.letGo
          assert.strictEqual(hook.running + reset.running, how === "hangs" ? 0 : 1)
          yield* books(source, pool)
        }
      }))
  }

  it.effect("is run for an item that is to go, which waits for it; the release hears how the lease ended", () =>
    Effect.gen(function*() {
      const reset = new Hook()
      const { hook, pool, source } = yield* make({ reset: reset.run })
      hook.answers.set(1, () => Effect.sleep(100))
      const left = yield* Effect.exit(pool.use((thing) => Effect.andThen(pool.invalidate(thing), Effect.fail("no"))))
      const waiter = yield* borrow(pool)
      assert.deepStrictEqual([left, waiter.item, source.closed], [Exit.fail("no"), undefined, []])
      yield* elapse(100)
      assert.deepStrictEqual([waiter.item, source.closed, reset.begun], [{ id: 2 }, [1], []])
      assert.deepStrictEqual(source.closeExits, [Exit.fail("no")])
      yield* waiter.letGo
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 1 })
    }))

  it.effect("that fails for an item that is to go changes nothing but the events", () =>
    Effect.gen(function*() {
      const { events, hook, pool, source } = yield* make()
      hook.answers.set(1, failures["fails later"]![0])
      yield* pool.use(pool.invalidate)
      yield* settle
      assert.include(told(events), "ResetFailed 1")
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { invalidated: 1 })
    }))

  it.effect("during which the item is doomed: it is not reset", () =>
    Effect.gen(function*() {
      const reset = new Hook()
      const { hook, pool, source } = yield* make({ reset: reset.run })
      hook.answers.set(1, () => Effect.sleep(100))
      yield* pool.use(() => Effect.void)
      yield* pool.clear
      yield* elapse(100)
      assert.deepStrictEqual([source.closed, reset.begun], [[1], []])
      yield* books(source, pool)
    }))

  it.effect("is not run for a lease that nobody had, or that was closed under its borrower", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { hook, pool, source } = yield* Scope.provide(make({ max: 2, maxLease: 1000, closeTimeout: 1000 }), scope)
      const [holder, other] = [yield* borrow(pool), yield* borrow(pool)]
      const waiter = yield* borrow(pool)
      holder.fiber.interruptUnsafe()
      waiter.fiber.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual(hook.begun, [1])
      lose(pool, other.item, "lost")
      yield* other.letGo
      const late = yield* Scope.make()
      yield* Scope.provide(pool.get, late)
      yield* elapse(1000)
      yield* Scope.close(late, Exit.void)
      const kept = yield* Scope.make()
      yield* Scope.provide(pool.get, kept)
      yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* elapse(1)
      yield* Scope.close(kept, Exit.void)
      yield* settle
      assert.deepStrictEqual(hook.begun, [1])
      closedBooks(source)
    }))

  it.effect("is run for what comes back while the pool closes, for as long as that waits for leases", () =>
    Effect.gen(function*() {
      for (const [how, closed] of [["ends", 500], ["hangs", 1000]] as const) {
        const scope = yield* Scope.make()
        const { hook, pool, source } = yield* Scope.provide(make({ drainTimeout: 1000 }), scope)
        const holder = yield* borrow(pool)
        hook.answers.set(1, () => how === "ends" ? Effect.sleep(500) : Effect.never)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* settle
        yield* holder.letGo
        yield* elapse(closed - 1)
        assert.deepStrictEqual([hook.begun, source.closed, ending(closing.pollUnsafe())], [[1], [], "waits"])
        yield* elapse(1)
        assert.deepStrictEqual([source.closed, ending(closing.pollUnsafe()), hook.running], [[1], "served", 0])
        // It had come back: nothing was taken from anybody.
        const { recycled, takenBack } = yield* pool.stats
        assert.deepStrictEqual([recycled, takenBack], [{ "pool closed": 1 }, 0])
        closedBooks(source)
      }
    }))

  it.effect("may end its item, doom it, close the pool, in its function and later", () =>
    Effect.gen(function*() {
      for (const later of [false, true]) {
        for (const deed of ["lose", "close", "invalidate", "clear"] as const) {
          const scope = yield* Scope.make()
          const reset = new Hook()
          const { hook, pool, source } = yield* Scope.provide(make({ reset: reset.run }), scope)
          const act = (): void => {
            if (deed === "lose") lose(pool, source.opened[0], "lost")
            else if (deed === "close") Effect.runFork(Scope.close(scope, Exit.void))
            else Effect.runSync(deed === "clear" ? pool.clear : pool.invalidate(source.opened[0]!))
          }
          hook.answers.set(1, () => {
            if (later) return Effect.andThen(Effect.yieldNow, Effect.sync(act))
            act()
            return Effect.void
          })
          const [holder, waiter] = [yield* borrow(pool), yield* borrow(pool)]
          yield* holder.letGo
          const what = `${deed}${later ? ", later" : ""}`
          assert.deepStrictEqual([source.closed, reset.begun], [[1], []], what)
          if (deed === "close") {
            assert.deepStrictEqual(endings([waiter]), ["Closed"], what)
            closedBooks(source)
            continue
          }
          assert.deepStrictEqual(waiter.item, { id: 2 }, what)
          yield* waiter.letGo
          yield* books(source, pool)
        }
      }
    }))

  it.effect("whose function ends its item at once is followed by no function of reset", () =>
    Effect.gen(function*() {
      const around: { pool?: Pool } = {}
      const reset = new Hook()
      const { pool, source } = yield* make({
        onReturn: (thing) => {
          lose(around.pool!, thing, "lost")
          return undefined
        },
        reset: reset.run
      })
      around.pool = pool
      yield* pool.use(() => Effect.void)
      assert.deepStrictEqual(reset.begun, [])
      assert.deepStrictEqual((yield* books(source, pool)).recycled, { lost: 1 })
    }))

  it.effect("may borrow from the pool: another item, for its own is not free", () =>
    Effect.gen(function*() {
      const { hook, pool, source } = yield* make({ max: 2 })
      const inner: Array<number> = []
      hook.answers.set(1, () => Effect.orDie(Effect.scoped(Effect.map(pool.get, ({ id }) => void inner.push(id)))))
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.deepStrictEqual([inner, hook.begun], [[2], [1, 2]])
      assert.strictEqual((yield* books(source, pool)).idle, 2)
    }))

  it.effect("of items that are shared runs for each lease; one that fails ends the item when all have left", () =>
    Effect.gen(function*() {
      const { events, hook, pool, source } = yield* make({ concurrency: 2 })
      const [first, second] = [yield* borrow(pool), yield* borrow(pool)]
      hook.answers.set(1, () => Effect.andThen(Effect.sleep(100), Effect.die("bad")))
      yield* first.letGo
      const third = yield* borrow(pool)
      assert.deepStrictEqual(third.item, { id: 1 })
      yield* elapse(100)
      const fourth = yield* borrow(pool)
      assert.deepStrictEqual([told(events).includes("ResetFailed 1"), source.closed, fourth.item], [
        true,
        [],
        undefined
      ])
      hook.answers.clear()
      yield* second.letGo
      yield* third.letGo
      assert.deepStrictEqual([fourth.item, source.closed], [{ id: 2 }, [1]])
      yield* fourth.letGo
      assert.deepStrictEqual(hook.begun, [1, 1, 1, 2])
      yield* books(source, pool)
    }))

  it.effect("D9: of a shared item does not outlive it, whoever ends it", () =>
    Effect.gen(function*() {
      for (const how of ["lost", "detached", "closed"] as const) {
        const scope = yield* Scope.make()
        const { hook, pool, source } = yield* Scope.provide(make({ concurrency: 2 }), scope)
        const [first, second] = [yield* borrow(pool), yield* borrow(pool)]
        hook.answers.set(1, () => Effect.never)
        yield* first.letGo
        assert.strictEqual(hook.running, 1)
        if (how === "lost") lose(pool, source.opened[0], "lost")
        else if (how === "detached") yield* Effect.scoped(pool.detach(source.opened[0]!))
        else yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* elapse(1)
        assert.strictEqual(hook.running, 0, how)
        yield* second.letGo
        yield* Scope.close(scope, Exit.void)
        closedBooks(source)
      }
    }))
})
