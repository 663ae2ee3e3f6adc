/** What the README says of effect's own Pool, on the version that is installed. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Pool, Scope } from "effect"
import { settle } from "./kit/items.ts"

describe("effect's Pool", () => {
  it.effect("stops to grow behind an open that hangs", () =>
    Effect.gen(function*() {
      let attempts = 0
      const acquire = Effect.suspend(() => ++attempts === 1 ? Effect.never : Effect.succeed(attempts))
      const pool = yield* Pool.makeWithTTL({ acquire, min: 0, max: 10, timeToLive: "1 minute" })
      yield* Effect.forkChild(Effect.scoped(Pool.get(pool)))
      yield* settle
      const second = yield* Effect.forkChild(Effect.scoped(Pool.get(pool)))
      yield* settle
      assert.isUndefined(second.pollUnsafe())
      assert.strictEqual(attempts, 1)
    }))

  it.effect("may exceed max when a leased item is invalidated", () =>
    Effect.gen(function*() {
      let live = 0
      let peak = 0
      const acquire = Effect.acquireRelease(
        Effect.sync(() => {
          peak = Math.max(peak, ++live)
          return { live }
        }),
        () => Effect.sync(() => live--)
      )
      yield* Effect.scoped(Effect.gen(function*() {
        const pool = yield* Pool.make({ acquire, size: 1 })
        for (let i = 0; i < 3; i++) yield* Effect.flatMap(Pool.get(pool), (item) => Pool.invalidate(pool, item))
      }))
      assert.isAbove(peak, 1)
    }))

  it.effect("does not close while a release hangs", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const acquire = Effect.acquireRelease(Effect.succeed(1), () => Effect.never)
      const pool = yield* Scope.provide(Pool.make({ acquire, size: 1 }), scope)
      yield* Effect.scoped(Pool.get(pool))
      const closing = yield* Effect.forkDetach(Scope.close(scope, Exit.void))
      yield* settle
      assert.isUndefined(closing.pollUnsafe())
    }))

  it.effect("interrupts the borrowers of a closed one", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(Pool.make({ acquire: Effect.succeed(1), size: 1 }), scope)
      yield* Scope.close(scope, Exit.void)
      const borrower = yield* Effect.forkChild(Effect.scoped(Pool.get(pool)))
      const exit = yield* Fiber.await(borrower)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    }))
})
