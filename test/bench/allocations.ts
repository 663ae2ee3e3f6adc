/**
 * Bytes that one lease allocates, kept or not: what the heap grows by in 5,000 of them when
 * nothing is collected meanwhile. Needs a young generation that holds them all:
 *
 * node --expose-gc --min-semi-space-size=128 --max-semi-space-size=128 \
 *   --conditions=effect-queuepool:source test/bench/allocations.ts
 */
import { Console, Effect, Pool } from "effect"
import { QueuePool } from "effect-queuepool"
import {
  acquire,
  bare,
  effectGet,
  effectUse,
  floor,
  type Lender,
  optionsOf,
  ourGet,
  ourUse,
  sketched,
  type Work
} from "./pools.ts"

const leases = 5000
const size = 10
// Until the optimizing compiler has done its work.
const warmUps = 20
// A full collection may cost optimized code what it stood on: then half of the next rounds run without it.
const rounds = 24

const used = (): number => process.memoryUsage().heapUsed

const bytes = Effect.fnUntraced(function*(lender: Lender, borrowers: number, work: Work) {
  let least = Infinity
  for (let round = -warmUps; round < rounds; round++) {
    globalThis.gc!()
    const before = used()
    yield* lender.lend(borrowers, leases / borrowers, work)
    // What the machine does besides can only add to it.
    if (round >= 0) least = Math.min(least, (used() - before) / leases)
  }
  return Math.round(least)
})

const main = Effect.gen(function*() {
  const ours = yield* QueuePool.make(optionsOf(size))
  const effects = yield* Pool.make({ acquire, size })
  const alone = (lender: Lender) => bytes(lender, 1, "nothing")
  const contended = (lender: Lender) => bytes(lender, 100, "yield")
  yield* Console.log(JSON.stringify(
    yield* Effect.all({
      "use": alone(ourUse(ours)),
      "use, effect": alone(effectUse(effects)),
      "use, floor": alone(floor(size)),
      "get": alone(ourGet(ours)),
      "get, effect": alone(effectGet(effects)),
      "contended": contended(ourUse(ours)),
      "contended, effect": contended(effectUse(effects)),
      "contended, sketch": contended(yield* sketched(size)),
      "contended, bare": contended(bare("bare"))
    })
  ))
}).pipe(Effect.scoped)

await Effect.runPromise(main)
