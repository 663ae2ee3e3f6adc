/** generic-pool. */
import { Effect } from "effect"
import * as genericPool from "generic-pool"
import type { Items } from "../items.ts"
import type { Contender, Setup } from "../model.ts"
import { attempt, itemLease, made } from "./common.ts"

const make = <A>(world: Items<A>, { borrowTimeout = 5000, closeTimeout = 500, idle, max, min = 0 }: Setup) =>
  Effect.gen(function*() {
    // Its documents know `destroyTimeoutMillis`, its types do not.
    const options: genericPool.Options & { readonly destroyTimeoutMillis: number } = {
      min,
      max,
      testOnBorrow: true,
      acquireTimeoutMillis: borrowTimeout,
      destroyTimeoutMillis: closeTimeout,
      // The evictor is off unless it is given an interval, and looks at three items unless it is told.
      evictionRunIntervalMillis: 100,
      numTestsPerEvictionRun: max,
      ...(idle === undefined ? {} : { idleTimeoutMillis: idle })
    }
    const pool = yield* made(() =>
      genericPool.createPool<A>({
        create: world.open,
        destroy: world.close,
        validate: async (item) => world.isAlive(item)
      }, options)
    )
    pool.on("factoryCreateError", () => {})
    pool.on("factoryDestroyError", () => {})
    const borrow = Effect.map(attempt(() => pool.acquire()), (item) =>
      itemLease(world, item, {
        endsLease: true,
        giveBack: Effect.ignore(attempt(() => pool.release(item))),
        invalidate: Effect.ignore(attempt(() => pool.destroy(item)))
      }))
    const failing = Effect.suspend(() => {
      let id = 0
      const work = (item: A) => {
        id = world.idOf(item)
        return Promise.reject(new Error("the work failed"))
      }
      return Effect.map(Effect.exit(attempt(() => pool.use(work))), () => id)
    })
    return { borrow, failing, close: attempt(() => pool.drain().then(() => pool.clear())) }
  })

export const generic: Contender = {
  name: "generic-pool",
  title: "generic-pool",
  packageName: "generic-pool",
  setup:
    "`testOnBorrow` with `validate`, `acquireTimeoutMillis`, `destroyTimeoutMillis`, the evictor every 100 ms over " +
    "all items; closed by `drain` and `clear`",
  items: make
}
