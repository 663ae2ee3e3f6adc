import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import * as Balanced from "effect-queuepool/Balanced"
import { endpoints, where } from "./kit/endpoints.ts"
import { Refused, settle } from "./kit/items.ts"

describe("what counts as a fault of an endpoint", () => {
  const busy = new PoolError.PoolError({ pool: "other", reason: new PoolError.Closed() })

  const cases: ReadonlyArray<readonly [string, ReadonlyArray<Refused | PoolError.PoolError>, boolean]> = [
    ["one failure among several that are none", [busy, new Refused(1)], true],
    ["not several failures that are none", [busy, busy], false]
  ]
  for (const [name, errors, counts] of cases) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const lender = yield* endpoints(["a", "b"])
        const cause = Cause.fromReasons(errors.map((error) => Cause.makeFailReason(error)))
        const ill = yield* QueuePool.make({ acquire: Effect.failCause(cause), name: "a" })
        lender.pools.set("a", ill as never)
        const balanced = yield* Balanced.make(lender, {
          endpoints: [{ key: "a", priority: 0 }, { key: "b", priority: 1 }]
        })
        assert.strictEqual(yield* where(balanced), "b")
        const [a] = yield* balanced.endpoints
        assert.strictEqual(a!.penalty > 0, counts)
      }))
  }
})

describe("roundRobin", () => {
  it.effect("goes round also with those who take what is there", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"], { min: 1 })
      yield* settle
      const balanced = yield* Balanced.make(lender, { endpoints: ["a", "b", "c"], choose: Balanced.roundRobin })
      const taken: Array<string> = []
      for (let i = 0; i < 9; i++) yield* balanced.useIfAvailable((_, key) => Effect.sync(() => taken.push(key)))
      assert.include("abcabcabcabc", taken.join(""))
      assert.strictEqual(taken.length, 9)
    }))
})
