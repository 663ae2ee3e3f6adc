/** What a keyed pool costs beside a plain one, and what 100,000 keys cost beside a few. */
import { Effect } from "effect"
import { QueuePool, QueuePoolMap } from "effect-queuepool"
import type { Timed } from "./measure.ts"
import { acquire, optionsOf, repeat } from "./pools.ts"

const many = 100_000
const leases = 5000
const changes = 100

// As much is asked of the items of each key as of those of a plain pool; none are kept for a key that nobody uses.
const options = { ...optionsOf(10), min: 0, warm: "background" as const }
const mapOf = (maxTotal: number) => QueuePoolMap.make({ ...options, acquire: (_: number) => acquire, maxTotal })

const use = () => Effect.void

/** The map has an item of each of the first keys. */
const filled = Effect.fnUntraced(function*(maxTotal: number, keys: number) {
  const map = yield* mapOf(maxTotal)
  let key = 0
  yield* repeat(keys, () => map.use(key++, use))
  return map
})

export const keyed: Timed = {
  rows: [
    {
      name: "keyed",
      work: "use(key), one key",
      ours: "one key",
      against: { "use of a plain pool": "plain" },
      target: 1.3
    },
    {
      name: "keyed-many",
      work: "use(key), one of 100,000 keys",
      ours: "many keys",
      against: { "the only key": "one key" },
      target: 1.2
    },
    {
      name: "keyed-turnover",
      work: "a new key in the place of the coldest of 100,000",
      ours: `turnover ${many}`,
      against: { "of 100": "turnover 100" },
      target: 2
    }
  ],
  cases: Effect.gen(function*() {
    const plain = yield* QueuePool.make(options)
    const one = yield* mapOf(Infinity)
    const large = yield* filled(Infinity, many)
    const few = yield* filled(100, 100)
    const wide = yield* filled(many, many)
    let next = many
    return [
      { name: "plain", count: leases, run: repeat(leases, () => plain.use(use)) },
      { name: "one key", count: leases, run: repeat(leases, () => one.use(1, use)) },
      { name: "many keys", count: leases, run: repeat(leases, () => large.use(many >> 1, use)) },
      // Each lease closes the coldest item of all and opens one of a new key.
      { name: "turnover 100", count: changes, run: repeat(changes, () => few.use(next++, use)) },
      { name: `turnover ${many}`, count: changes, run: repeat(changes, () => wide.use(next++, use)) }
    ]
  }),
  turns: 10
}
