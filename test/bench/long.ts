/** Ten million leases, of all kinds: the heap is no larger after the last than after the first of them. */
import { Console, Effect } from "effect"
import { QueuePool } from "effect-queuepool"
import { optionsOf, ourGet, ourUse } from "./pools.ts"
import { heap } from "./weighing.ts"

const total = 10_000_000
const steps = 20
const size = 10
// Bytes: what the runtime itself learns and forgets. One byte per lease would be forty times as much.
const noise = 250_000

/** The heap after each part of them, in bytes. */
export const long = Effect.gen(function*() {
  const pool = yield* QueuePool.make(optionsOf(size))
  const each = total / steps
  const part = Effect.all([
    ourUse(pool).lend(1, each / 4, "nothing"),
    ourGet(pool).lend(1, each / 4, "nothing"),
    ourUse(pool).lend(100, each / 400, "yield"),
    ourUse(pool).lend(1000, each / 4000, "yield")
  ])
  const heaps: Array<number> = []
  for (let step = 0; step < steps; step++) {
    yield* part
    heaps.push(yield* heap)
  }
  const { borrowed, returned } = yield* pool.stats
  // The first part is compiled, and its feedback kept, while it runs.
  const grown = heaps.at(-1)! - heaps[1]!
  yield* Console.log(
    `long: ${returned.toLocaleString("en")} leases, heap ${(heaps[1]! / 1e6).toFixed(3)} MB after the first parts, ` +
      `${(heaps.at(-1)! / 1e6).toFixed(3)} MB after the last: ${grown > noise ? "GROWS" : "does not grow"}`
  )
  return { leases: returned, heaps, grows: grown > noise || borrowed !== returned }
}).pipe(Effect.scoped)
