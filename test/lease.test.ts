import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { addFinalizer } from "../src/internal/lease.ts"

// The one place that writes the data of a Scope: here a change of its layout is noticed.
describe("addFinalizer", () => {
  for (const before of [0, 1, 2, 3]) {
    it.effect(`leaves a scope with ${before} finalizers as effect's own does`, () =>
      Effect.gen(function*() {
        const finalizer = () => Effect.void
        const [ours, theirs] = [yield* Scope.make(), yield* Scope.make()]
        for (const scope of [ours, theirs]) {
          for (let i = 0; i < before; i++) yield* Scope.addFinalizerExit(scope, finalizer)
        }
        assert.isTrue(addFinalizer(ours, finalizer))
        yield* Scope.addFinalizerExit(theirs, finalizer)
        // The keys are objects, each of its own; whose does not matter.
        const layout = ({ state }: Scope.Scope) =>
          state._tag !== "Open"
            ? state
            : state.finalizers === undefined
            ? { ...state, finalizerKey: state.finalizerKey instanceof Object }
            : { ...state, finalizers: Array.from(state.finalizers, ([key, each]) => [key instanceof Object, each]) }
        assert.deepStrictEqual(layout(ours), layout(theirs))
      }))
  }

  it.effect("runs once, with the exit, after those that were added later", () =>
    Effect.gen(function*() {
      for (const before of [0, 1, 2]) {
        const log: Array<unknown> = []
        const scope = yield* Scope.make()
        for (let i = 0; i < before; i++) yield* Scope.addFinalizer(scope, Effect.sync(() => void log.push("before")))
        addFinalizer(scope, (exit) => Effect.sync(() => void log.push(exit)))
        yield* Scope.addFinalizer(scope, Effect.sync(() => void log.push("after")))
        yield* Scope.close(scope, Exit.succeed("end"))
        assert.deepStrictEqual(log.slice(0, 2), ["after", Exit.succeed("end")])
        assert.strictEqual(log.length, before + 2)
      }
    }))

  it.effect("tells when the scope is closed already", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(addFinalizer(scope, () => Effect.die("never")))
    }))
})
