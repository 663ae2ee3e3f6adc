/** tarn. */
import { Effect } from "effect"
import { Pool } from "tarn"
import type { Items } from "../items.ts"
import type { Contender, Setup } from "../model.ts"
import { attempt, itemLease, made } from "./common.ts"

const make = <A>(
  world: Items<A>,
  { borrowTimeout = 5000, closeTimeout = 500, idle, max, min = 0, openTimeout = 5000 }: Setup
) =>
  Effect.gen(function*() {
    // It ends an item's life when `validate` says so, and has no other way.
    const retired = new Set<A>()
    const pool = yield* made(() =>
      new Pool<A>({
        create: world.open,
        destroy: world.close,
        validate: (item) => world.isAlive(item) && !retired.has(item),
        min,
        max,
        acquireTimeoutMillis: borrowTimeout,
        createTimeoutMillis: openTimeout,
        destroyTimeoutMillis: closeTimeout,
        reapIntervalMillis: 100,
        ...(idle === undefined ? {} : { idleTimeoutMillis: idle })
      })
    )
    const borrow = Effect.map(attempt(() => pool.acquire().promise), (item) => {
      const giveBack = Effect.sync(() => pool.release(item))
      return itemLease(world, item, {
        endsLease: true,
        giveBack,
        invalidate: Effect.suspend(() => {
          retired.add(item)
          return giveBack
        })
      })
    })
    return { borrow, failing: undefined, close: attempt(() => pool.destroy()) }
  })

export const tarn: Contender = {
  name: "tarn",
  title: "tarn",
  packageName: "tarn",
  setup: "`validate`, all of its timeouts, reaping every 100 ms, creates retried as by default; " +
    "an item is ended by `validate`",
  items: make
}
