/** Interruption at every step finds what is lost, and what is counted is counted. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { QueuePool } from "effect-queuepool"
import { books, borrow, elapse, several } from "./books.ts"
import { Cost, lagOf, threadMillis } from "./cost.ts"
import { interruptAtEvery } from "./interruptAtEvery.ts"
import { Ledger, Scripted, type Thing } from "./scripted.ts"

const one: Thing = { id: 1 }

describe("interruption at every step", () => {
  /** Takes an item and gives it back, with or without a gap in which it is lost. */
  const taking = (ledger: Ledger<Thing>, gap: boolean) => {
    const take = Effect.sync(() => ledger.lent(one))
    const back = Effect.sync(() => ledger.returned(one))
    return gap
      ? Effect.andThen(take, Effect.ensuring(Effect.yieldNow, back))
      : Effect.acquireUseRelease(take, () => Effect.yieldNow, () => back)
  }

  for (const gap of [false, true]) {
    it.effect(
      gap ? "finds the one at which an item is lost" : "finds nothing where none is",
      () =>
        Effect.gen(function*() {
          const lost: Array<string> = []
          const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
            const ledger = new Ledger<Thing>({ max: 1 })
            ledger.opened(one)
            yield* Fiber.await(yield* run(taking(ledger, gap)))
            if (Exit.isFailure(yield* Effect.exit(ledger.atRest()))) lost.push(at)
          }))
          assert.isAbove(operations, 2)
          assert.strictEqual(lost.length > 0, gap, lost.join())
        })
    )
  }
})

describe("cost", () => {
  it.effect("counts fibers, timers, tasks and operations of what it is around, and of nothing else", () =>
    Effect.gen(function*() {
      yield* elapse(1)
      const cost = new Cost()
      const work = Effect.forEach(
        [1, 2, 3],
        (millis) => Effect.forkDetach(Effect.andThen(Effect.yieldNow, Effect.sleep(millis)))
      )
      yield* Effect.flatMap(Effect.forkChild(cost.around(work)), Fiber.join)
      yield* elapse(0)
      assert.deepInclude(cost.watch, { forks: 3, fibers: 3, peakFibers: 3, armed: 3, timers: 3, peakTimers: 3 })
      const { operations, tasks } = cost
      yield* elapse(2)
      assert.deepInclude(cost.watch, { forks: 3, fibers: 1, peakFibers: 3, armed: 3, timers: 1, peakTimers: 3 })
      yield* elapse(1)
      assert.deepInclude(cost.watch, { fibers: 0, timers: 0 })
      assert.isAtLeast(tasks, 6)
      assert.isAbove(operations, tasks)
      const after = { operations: cost.operations, tasks: cost.tasks }
      yield* Effect.forEach(yield* work, Fiber.interrupt)
      assert.deepStrictEqual({ operations: cost.operations, tasks: cost.tasks }, after)
    }))

  it.effect("is the same each time, and more for more", () =>
    Effect.gen(function*() {
      const run = Effect.fnUntraced(function*(waiters: number) {
        const cost = new Cost()
        const source = new Scripted({ max: 1 })
        const pool = yield* cost.around(QueuePool.make({ acquire: source.acquire, max: 1 }))
        const borrowers = yield* cost.around(several(waiters, pool))
        for (const { letGo } of borrowers) yield* letGo
        yield* books(source, pool)
        const { armed, forks } = cost.watch
        return { tasks: cost.tasks, operations: cost.operations, forks, armed }
      })
      // The first sleep on a test's clock starts a fiber, which would warn of a test that forgets to adjust it.
      yield* elapse(1)
      const first = yield* run(20)
      assert.deepStrictEqual(yield* run(20), first)
      assert.isAbove((yield* run(40)).tasks, first.tasks)
    }))

  it.live("lag is at least the time for which nobody was answered", () =>
    Effect.gen(function*() {
      const busy = Effect.sync(() => {
        const end = threadMillis() + 30
        while (threadMillis() < end);
        return "done"
      })
      const [value, lag] = yield* lagOf(busy)
      assert.strictEqual(value, "done")
      assert.isAtLeast(lag, 29.9)
    }))

  it.effect("a borrower of the books tells who waits", () =>
    Effect.gen(function*() {
      const source = new Scripted({ max: 1 })
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      const [first, second] = [yield* borrow(pool), yield* borrow(pool)]
      assert.deepStrictEqual([first.item, second.item], [one, undefined])
      yield* first.letGo
      yield* elapse(1)
      assert.deepStrictEqual(second.item, one)
      yield* second.letGo
    }))
})
