/** effect's own Pool. */
import { Effect, Exit, Pool, Scope } from "effect"
import type { Items } from "../items.ts"
import type { Contender, Lease, Setup } from "../model.ts"
import { itemLease } from "./common.ts"

const make = <A>(world: Items<A>, { age, idle, max, min = 0 }: Setup) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const { acquire } = world
    const made = min === max && age === undefined && idle === undefined
      ? Pool.make({ acquire, size: max })
      : Pool.makeWithTTL({
        acquire,
        min,
        max,
        timeToLive: age ?? idle ?? "60 seconds",
        timeToLiveStrategy: age === undefined ? "usage" : "creation"
      })
    const pool = yield* Scope.provide(made, scope)
    const borrow = Effect.gen(function*() {
      const lease = yield* Scope.make()
      const item = yield* Scope.provide(Pool.get(pool), lease)
      return itemLease(world, item, {
        endsLease: false,
        giveBack: Scope.close(lease, Exit.void),
        invalidate: Pool.invalidate(pool, item)
      }) satisfies Lease
    })
    const failing = Effect.suspend(() => {
      let id = 0
      const work = (item: A) => Effect.suspend(() => Effect.fail(`the work failed on ${id = world.idOf(item)}`))
      return Effect.map(Effect.exit(Pool.use(pool, work)), () => id)
    })
    return { borrow, failing, close: Scope.close(scope, Exit.void) }
  })

export const effectPool: Contender = {
  name: "effect",
  title: "effect Pool",
  packageName: "effect",
  setup: "`Pool.make` for a fixed size, else `Pool.makeWithTTL`; it has no timeouts, checks or retries to set",
  items: make
}
