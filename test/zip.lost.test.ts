import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { QueuePool } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, elapse } from "./kit/books.ts"
import { settle, Source } from "./kit/items.ts"

describe("zip", () => {
  it.effect("waits again for an item that is lost while it waits for another pool's", () =>
    Effect.gen(function*() {
      const [a, b] = [new Source(), new Source()]
      const first = yield* QueuePool.make({ acquire: a.acquire, max: 1 })
      const second = yield* QueuePool.make({ acquire: b.acquire, max: 1 })
      const holder = yield* borrow(second)
      const both = yield* Effect.forkChild(Effect.scoped(QueuePool.zip(first, second)))
      yield* settle
      assert.strictEqual((yield* first.stats).used, 1)
      a.opensOtherwise = { slow: 10 }
      // One that dies as soon as it is open would not be replaced at once.
      yield* elapse("1 second")
      lose(first, a.opened[0], "died")
      yield* holder.letGo
      assert.isUndefined(both.pollUnsafe())
      yield* elapse(10)
      assert.deepStrictEqual((yield* Fiber.join(both)).map(({ id }) => id), [2, 1])
      yield* books(a, first)
      yield* books(b, second)
    }))
})
