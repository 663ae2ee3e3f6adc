import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, elapse } from "./kit/books.ts"
import { settle, Source, type Thing } from "./kit/items.ts"

describe("a sweep whose rules take time", () => {
  it.effect("does not look at an item that was lent before its turn came", () =>
    Effect.gen(function*() {
      const source = new Source()
      const looked: Array<number> = []
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        min: 3,
        max: 3,
        warm: "eager",
        openConcurrency: 1,
        recycle: RecyclePolicy.check((thing: Thing) => {
          looked.push(thing.id)
          return Effect.delay(Effect.succeed(false), 10)
        })
      })
      const sweep = yield* Effect.forkChild(pool.sweep, { startImmediately: true })
      yield* settle
      assert.strictEqual(looked.length, 1)
      const borrower = yield* borrow(pool)
      yield* elapse(30)
      yield* Fiber.join(sweep)
      assert.strictEqual(looked.length, 2)
      assert.notInclude(looked, borrower.item!.id)
      yield* borrower.letGo
      assert.strictEqual((yield* books(source, pool)).idle, 3)
    }))

  it.effect("looks at what comes back meanwhile too", () =>
    Effect.gen(function*() {
      const source = new Source()
      const looked: Array<number> = []
      let meanwhile = () => {}
      const pool = yield* QueuePool.make({
        acquire: source.acquire,
        max: 3,
        recycle: RecyclePolicy.when<Thing>(({ item, moment }) => {
          if (moment !== "sweep") return false
          looked.push(item.id)
          meanwhile()
          meanwhile = () => {}
          return false
        })
      })
      const scopes = yield* Effect.replicateEffect(Scope.make(), 3)
      for (const scope of scopes) yield* Scope.provide(pool.get, scope)
      for (const scope of scopes.slice(0, 2)) yield* Scope.close(scope, Exit.void)
      yield* elapse("1 second")
      const run = Effect.runSyncWith(yield* Effect.context())
      meanwhile = () => run(Scope.close(scopes[2]!, Exit.void))
      yield* pool.sweep
      assert.deepStrictEqual(looked, [1, 2, 3])
    }))
})
