/**
 * What a keyed pool costs beside a plain one, and what 100,000 keys cost beside a few.
 * All of it in one process, rounds interleaved, medians; ratios, for absolute times
 * differ from machine to machine.
 *
 * npm run bench -- --check: fails where a target is missed
 */
import { Console, Effect } from "effect"
import { QueuePool, QueuePoolMap, RecyclePolicy } from "effect-queuepool"

const rounds = 15
const leases = 40_000
const many = 100_000

const options = { max: 10, recycle: [RecyclePolicy.idle("10 minutes"), RecyclePolicy.uses(1e9), RecyclePolicy.failed] }
const item = Effect.acquireRelease(Effect.sync(() => ({})), () => Effect.void)
const mapOf = (maxTotal: number) => QueuePoolMap.make({ acquire: (_: number) => item, maxTotal, ...options })

const repeated = (times: number, lease: (i: number) => Effect.Effect<void, unknown>) =>
  Effect.gen(function*() {
    for (let i = 0; i < times; i++) yield* lease(i)
  })

/** Nanoseconds for each of so many leases, as the median of the rounds. */
const timed = Effect.fnUntraced(
  function*(times: number, cases: Record<string, (i: number) => Effect.Effect<void, unknown>>) {
    const samples = Object.keys(cases).map((): Array<number> => [])
    for (let round = -3; round < rounds; round++) {
      for (const [index, lease] of Object.values(cases).entries()) {
        const start = process.hrtime.bigint()
        yield* repeated(times, lease)
        if (round >= 0) samples[index]!.push(Number(process.hrtime.bigint() - start) / times)
      }
    }
    return samples.map((sample) => sample.toSorted((a, b) => a - b)[rounds >> 1]!)
  }
)

const row = (what: string, ratio: number, target: number | undefined) =>
  Console.log(
    `${what.padEnd(72)} ${ratio.toFixed(2).padStart(6)}${target === undefined ? "" : `  at most ${target.toFixed(2)}`}`
  )

const main = Effect.gen(function*() {
  const missed: Array<string> = []
  const told = Effect.fnUntraced(function*(what: string, ratio: number, target?: number) {
    yield* row(what, ratio, target)
    if (target !== undefined && ratio > target) missed.push(what)
  })
  const use = () => Effect.void
  const pool = yield* QueuePool.make({ acquire: item, ...options })
  const few = yield* mapOf(Infinity)
  const large = yield* mapOf(Infinity)
  yield* repeated(many, (key) => large.use(key, use))
  const [plain, keyed, amongMany] = yield* timed(leases, {
    plain: () => pool.use(use),
    keyed: () => few.use(1, use),
    amongMany: () => large.use(many >> 1, use)
  })
  yield* told("use(key), one key, against use of a plain pool", keyed! / plain!, 1.3)
  yield* told("use(key), one of 100,000 keys, against the only one", amongMany! / keyed!, 1.2)

  // Each lease closes the coldest item of all and opens one of a new key.
  const small = yield* mapOf(100)
  const wide = yield* mapOf(many)
  yield* repeated(many, (key) => wide.use(key, use))
  let next = many
  const [turnover, wideTurnover] = yield* timed(2000, {
    small: () => small.use(next++, use),
    wide: () => wide.use(next++, use)
  })
  yield* told("a new key in the place of the coldest of 100,000, against of 100", wideTurnover! / turnover!, 2)
  if (missed.length > 0) process.exitCode = process.argv.includes("--check") ? 1 : 0
})

await Effect.runPromise(Effect.scoped(main))
