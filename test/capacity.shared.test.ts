import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Capacity } from "effect-queuepool"
import { several } from "./kit/books.ts"
import { settle } from "./kit/items.ts"
import { one, pools } from "./kit/sharers.ts"

describe("an item that several borrowers have, while another pool waits for its permit", () => {
  it.effect("that was invalidated before is recycled for that, when the last of them leaves", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 1 })
      const [a] = yield* pools(1, capacity, { concurrency: 3 })
      const [b] = yield* pools(1, capacity)
      const holders = yield* several(3, a.pool)
      yield* a.pool.invalidate(holders[0]!.item!)
      const [waiter] = yield* several(1, b.pool)
      assert.strictEqual((yield* one(capacity)).parked, 1)
      for (const { letGo } of holders) {
        assert.isUndefined(waiter!.item)
        yield* letGo
      }
      yield* settle
      assert.isDefined(waiter!.item)
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { invalidated: 1 })
      yield* waiter!.letGo
    }))

  it.effect("takes no newcomer and goes, and with it no other: one is enough", () =>
    Effect.gen(function*() {
      const capacity = yield* Capacity.make({ permits: 2 })
      const [a] = yield* pools(1, capacity, { concurrency: 2 })
      const [b] = yield* pools(1, capacity)
      const holders = yield* several(4, a.pool)
      const [waiter] = yield* several(1, b.pool)
      const [first, second] = [1, 2].map((id) => holders.filter(({ item }) => item!.id === id))
      // One of each leaves, then the others.
      for (const { letGo } of [first![0]!, second![0]!, first![1]!, second![1]!]) yield* letGo
      yield* settle
      assert.isDefined(waiter!.item)
      assert.deepStrictEqual((yield* a.pool.stats).recycled, { "over share": 1 })
      yield* waiter!.letGo
    }))
})
