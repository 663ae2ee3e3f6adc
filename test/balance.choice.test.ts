import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import * as Balanced from "effect-queuepool/Balanced"
import { Cheapest, Turns } from "../src/internal/balanceChoice.ts"
import { Endpoint } from "../src/internal/balanceEndpoint.ts"
import { elapse } from "./kit/books.ts"
import { atRest, crowd, endpoints, hold, keys, loads, tally, visits, where } from "./kit/endpoints.ts"
import { settle } from "./kit/items.ts"
import { Rng } from "./kit/random.ts"

const seeds = Array.from({ length: 20 }, (_, i) => i + 1)

const seeded = <A, E, R>(seed: number, effect: Effect.Effect<A, E, R>) => Random.withSeed(effect, seed)

const weighted = (weights: Record<string, number>) => Object.entries(weights).map(([key, weight]) => ({ key, weight }))

describe("roundRobin", () => {
  it.effect("each in its turn, wherever it begins", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      for (const seed of seeds) {
        const balanced = yield* Balanced.make(lender, { endpoints: ["a", "b", "c"], choose: Balanced.roundRobin })
        const chosen = (yield* seeded(seed, visits(balanced, 9))).join("")
        assert.isTrue("abcabcabcabc".includes(chosen), `seed ${seed}: ${chosen}`)
      }
    }))

  it.effect("does not begin with the same endpoint everywhere", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const first = yield* Effect.forEach(seeds, (seed) =>
        Effect.flatMap(
          Balanced.make(lender, { endpoints: ["a", "b", "c"], choose: Balanced.roundRobin }),
          (balanced) => seeded(seed, where(balanced))
        ))
      assert.strictEqual(Object.keys(tally(first)).length, 3)
    }))

  it.effect("with weights: exactly as often as they say in every round, and spread", () =>
    Effect.gen(function*() {
      for (const seed of seeds) {
        const rng = new Rng(seed)
        const weights: Record<string, number> = {}
        for (const key of keys(1 + rng.int(6))) weights[key] = 1 + rng.int(7)
        const lender = yield* endpoints(Object.keys(weights))
        const total = Object.values(weights).reduce((a, b) => a + b)
        const heaviest = Math.max(...Object.values(weights))
        const balanced = yield* Balanced.make(lender, { endpoints: weighted(weights), choose: Balanced.roundRobin })
        const chosen = yield* seeded(seed, visits(balanced, 4 * total))
        // Any window of a whole round, not only those that begin with one.
        for (let from = 0; from <= 3 * total; from++) {
          assert.deepStrictEqual(
            tally(chosen.slice(from, from + total)),
            weights,
            `seed ${seed}, from ${from}: ${chosen.join(" ")}`
          )
        }
        // Between two turns of one endpoint every other has as many as its weight allows.
        for (const [key, weight] of Object.entries(weights)) {
          let last = -1
          for (const [i, one] of chosen.entries()) {
            if (one !== key) continue
            const rounds = Math.ceil(heaviest / weight)
            const between = last < 0 ? 0 : i - last - 1
            assert.isAtMost(between, rounds * (Object.keys(weights).length - 1), `seed ${seed}, ${key} at ${i}`)
            last = i
          }
        }
      }
    }))

  it.effect("the light ones do not all come in one round", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const balanced = yield* Balanced.make(lender, {
        endpoints: weighted({ a: 5, b: 1, c: 1 }),
        choose: Balanced.roundRobin
      })
      const chosen = (yield* visits(balanced, 14)).join("")
      assert.isFalse(/bc|cb/.test(chosen), chosen)
    }))

  it.effect("pick tells who is next, and takes nobody's turn", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b", "c"])
      const balanced = yield* Balanced.make(lender, {
        endpoints: weighted({ a: 3, b: 2, c: 1 }),
        choose: Balanced.roundRobin
      })
      for (let i = 0; i < 12; i++) {
        const next = yield* balanced.pick
        assert.strictEqual(yield* balanced.pick, next)
        assert.strictEqual(yield* where(balanced), next)
      }
    }))

  it("looks at no endpoint more often than the heaviest has its turn", () => {
    const pace = { decay: 1, slowStart: 0 }
    for (const [n, most] of [[8, 1], [1000, 1], [1000, 4]] as const) {
      const members = Array.from({ length: n }, (_, i) => new Endpoint(i, `${i}`, 0, i === 0 ? most : 1, pace))
      let looks = 0
      for (const endpoint of members) {
        const { weightAt } = endpoint
        endpoint.weightAt = (now) => {
          looks++
          return weightAt.call(endpoint, now)
        }
      }
      const turns = new Turns<number>()
      turns.changed(members)
      const rounds = n - 1 + most
      for (let i = 0; i < rounds; i++) turns.next(members, new Set(), 0, () => 0, false)
      assert.isAtMost(looks, n * most)
    }
  })
})

describe("leastLoaded", () => {
  it.effect("fills the endpoints evenly, whatever comes and goes", () =>
    Effect.gen(function*() {
      for (const seed of seeds) {
        const rng = new Rng(seed)
        const lender = yield* endpoints(keys(5))
        const balanced = yield* Balanced.make(lender, { endpoints: keys(5) })
        const holders: Array<Effect.Success<ReturnType<typeof hold>>> = []
        yield* seeded(
          seed,
          Effect.gen(function*() {
            for (let step = 0; step < 40; step++) {
              if (holders.length > 0 && rng.chance(0.3)) {
                yield* holders.splice(rng.int(holders.length), 1)[0]!.letGo
                continue
              }
              const before = yield* loads(balanced)
              const holder = yield* hold(balanced)
              holders.push(holder)
              assert.strictEqual(before[holder.at!], Math.min(...Object.values(before)), `seed ${seed}, step ${step}`)
            }
          })
        )
        for (const holder of holders) yield* holder.letGo
        yield* atRest(lender, balanced)
      }
    }))

  it.effect("with weights: as many for each as they say", () =>
    Effect.gen(function*() {
      for (const seed of seeds) {
        const lender = yield* endpoints(["a", "b", "c"])
        const weights = { a: 1, b: 2, c: 5 }
        const balanced = yield* Balanced.make(lender, { endpoints: weighted(weights) })
        const holders = yield* seeded(seed, Effect.forEach(Array.from({ length: 16 }), () => hold(balanced)))
        assert.deepStrictEqual(yield* loads(balanced), { a: 2, b: 4, c: 10 }, `seed ${seed}`)
        for (const holder of holders) yield* holder.letGo
      }
    }))

  it.effect("among equals by chance and weight: no endpoint starves when borrowers come one by one", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const balanced = yield* Balanced.make(lender, { endpoints: weighted({ a: 1, b: 3 }) })
      for (const seed of seeds) {
        const { a = 0, b = 0 } = tally(yield* seeded(seed, visits(balanced, 400)))
        // 100 are expected, with a deviation of 8.7.
        assert.isTrue(a > 55 && a < 145, `seed ${seed}: ${a} and ${b}`)
      }
    }))

  it.effect("above 8 endpoints: the better of two, and none is left out", () =>
    Effect.gen(function*() {
      for (const seed of seeds.slice(0, 5)) {
        const lender = yield* endpoints(keys(20))
        const balanced = yield* Balanced.make(lender, { endpoints: keys(20) })
        const { leave } = yield* seeded(seed, crowd(balanced, 400))
        const counts = Object.values(yield* loads(balanced))
        assert.strictEqual(counts.reduce((a, b) => a + b), 400)
        // By chance alone the fullest of 20 would have 20 with a deviation of 4.4.
        assert.isAtMost(Math.max(...counts), 24, `seed ${seed}: ${counts.join(" ")}`)
        assert.isAtLeast(Math.min(...counts), 14, `seed ${seed}: ${counts.join(" ")}`)
        yield* leave
        yield* atRest(lender, balanced)
      }
    }))

  it("looks at all of 8, and at two of 9 or of 1000; at all that are left when one was tried", () => {
    const looksAt = (n: number, tried: ReadonlyArray<number>) => {
      let looks = 0
      const members = Array.from({ length: n }, (_, i) => new Endpoint(i, "", 0, 1, { decay: 1, slowStart: 0 }))
      const chooser = new Cheapest<number>(() => looks++)
      const rng = new Rng(n)
      const next = chooser.next(members, new Set(tried.map((i) => members[i]!)), 0, () => rng.next())
      return { looks, found: next !== undefined }
    }
    assert.deepStrictEqual(looksAt(0, []), { looks: 0, found: false })
    assert.deepStrictEqual(looksAt(1, []), { looks: 1, found: true })
    assert.deepStrictEqual(looksAt(8, []), { looks: 8, found: true })
    assert.deepStrictEqual(looksAt(9, []), { looks: 2, found: true })
    assert.deepStrictEqual(looksAt(1000, []), { looks: 2, found: true })
    assert.deepStrictEqual(looksAt(9, [3]), { looks: 8, found: true })
    assert.deepStrictEqual(looksAt(1, [0]), { looks: 0, found: false })
  })

  it("the two are different ones, each pair as often as another", () => {
    const n = 9
    const seen = new Set<string>()
    const members = Array.from({ length: n }, (_, i) => new Endpoint(i, "", 0, 1, { decay: 1, slowStart: 0 }))
    let pair: Array<number> = []
    for (const endpoint of members) {
      endpoint.loadAt = () => {
        pair.push(endpoint.key)
        return 0
      }
    }
    const chooser = new Cheapest<number>((load) => load)
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n - 1; j++) {
        const draws = [(i + 0.5) / n, (j + 0.5) / (n - 1), 0]
        pair = []
        chooser.next(members, new Set(), 0, () => draws.shift()!)
        assert.notStrictEqual(pair[0], pair[1])
        seen.add(pair.join())
      }
    }
    assert.strictEqual(seen.size, n * (n - 1))
  })

  it.effect("a cost of one's own", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const balanced = yield* Balanced.make(lender, {
        endpoints: weighted({ a: 1, b: 2 }),
        choose: { name: "heaviest", cost: (_, weight) => -weight }
      })
      assert.deepStrictEqual(tally(yield* visits(balanced, 5)), { b: 5 })
    }))
})

describe("peakEwma", () => {
  /** Borrows for as long as the endpoint takes. */
  const work = (balanced: Balanced.Balanced<string, unknown>, takes: Record<string, number>) => {
    const chosen: Array<string> = []
    const one = balanced.use((_, key) => {
      chosen.push(key)
      return Effect.sleep(takes[key]!)
    })
    return { chosen, one: Effect.forkChild(one) }
  }

  it.effect(
    "a slow endpoint loses its borrowers, and regains them when it is fast again",
    () =>
      Effect.gen(function*() {
        for (const seed of seeds.slice(0, 3)) {
          yield* seeded(
            seed,
            Effect.gen(function*() {
              const lender = yield* endpoints(["a", "b"])
              const balanced = yield* Balanced.make(lender, {
                endpoints: ["a", "b"],
                choose: Balanced.peakEwma,
                decay: "1 second"
              })
              const takes = { a: 10, b: 10 }
              const { chosen, one } = work(balanced, takes)
              const phase = Effect.fnUntraced(function*(times: number) {
                chosen.length = 0
                for (let i = 0; i < times; i++) {
                  yield* one
                  yield* elapse(20)
                }
                return tally(chosen)
              })
              const { a = 0, b = 0 } = yield* phase(100)
              assert.isTrue(a > 25 && b > 25, `seed ${seed}: both ${a} ${b}`)
              takes.b = 500
              yield* phase(20)
              const { b: slow = 0 } = yield* phase(100)
              assert.isAtMost(slow, 4, `seed ${seed}: slow ${slow}`)
              takes.b = 10
              // So long until the average has faded from 500 to 10, and it is tried again.
              yield* phase(250)
              const { b: again = 0 } = yield* phase(100)
              assert.isAtLeast(again, 30, `seed ${seed}: again ${again}`)
            })
          )
        }
      }),
    30_000
  )

  it.effect("the peak counts at once, and fades; the answer of one who left counts for what it took", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const balanced = yield* Balanced.make(lender, { endpoints: ["a"], choose: Balanced.peakEwma, decay: 1000 })
      const latency = Effect.map(balanced.endpoints, ([a]) => a!.latency)
      assert.isUndefined(yield* latency)
      const take = (millis: number) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(balanced.use(() => Effect.sleep(millis)))
          yield* elapse(millis)
          return fiber
        })
      yield* take(100)
      assert.strictEqual(yield* latency, 100)
      yield* take(300)
      assert.strictEqual(yield* latency, 300)
      yield* elapse(700)
      yield* take(300)
      assert.strictEqual(yield* latency, 300)
      yield* elapse(1000)
      assert.closeTo((yield* latency)!, 300 / Math.E, 1e-9)
      // After e-folding, as much of the new as was forgotten of the old.
      yield* take(0)
      assert.closeTo((yield* latency)!, 300 / Math.E, 1e-9)
      const left = yield* hold(balanced)
      yield* elapse(50)
      const faded = yield* latency
      left.fiber.interruptUnsafe()
      yield* settle
      assert.strictEqual(yield* latency, faded)
      const late = yield* hold(balanced)
      yield* elapse(900)
      late.fiber.interruptUnsafe()
      yield* settle
      assert.strictEqual(yield* latency, 900)
    }))

  it.effect("what was never measured is tried first, and then not again before that is known", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a", "b"])
      const balanced = yield* Balanced.make(lender, { endpoints: ["a", "b"], choose: Balanced.peakEwma })
      yield* balanced.observe("a", "1 second")
      yield* balanced.observe("nobody", "1 second")
      const first = yield* hold(balanced)
      assert.strictEqual(first.at, "b")
      const others = [yield* hold(balanced), yield* hold(balanced)]
      assert.deepStrictEqual(others.map(({ at }) => at), ["a", "a"])
      yield* Effect.forEach([first, ...others], ({ letGo }) => letGo)
    }))

  it.effect("measures to the return, to the borrow, or not at all", () =>
    Effect.gen(function*() {
      for (
        const [measure, expected] of [["lease", 150], ["borrow", 50 * Math.exp(-0.01)], ["none", undefined]] as const
      ) {
        const lender = yield* endpoints(["a"])
        lender.source("a").opens.push({ slow: 50 })
        const balanced = yield* Balanced.make(lender, { endpoints: ["a"], measure })
        yield* Effect.forkChild(balanced.use(() => Effect.sleep(100)))
        yield* elapse(50)
        yield* elapse(100)
        assert.strictEqual((yield* balanced.endpoints)[0]!.latency, expected, measure)
      }
    }))

  it.effect("a lease of a scope is measured as well", () =>
    Effect.gen(function*() {
      const lender = yield* endpoints(["a"])
      const balanced = yield* Balanced.make(lender, { endpoints: ["a"] })
      yield* Effect.forkChild(Effect.scoped(Effect.andThen(balanced.get, Effect.sleep(70))))
      yield* elapse(70)
      assert.strictEqual((yield* balanced.endpoints)[0]!.latency, 70)
      yield* atRest(lender, balanced)
    }))
})

it("an endpoint that takes no time at all leaves something to the others", () => {
  const cost = Balanced.peakEwma.cost!
  assert.isAbove(cost(1, 1, 0), cost(0, 1, 0.15))
  assert.isBelow(cost(0, 1, 0), cost(0, 1, 0.15))
  assert.strictEqual(cost(0, 1, 0), cost(0, 1, 0.01))
})

describe("slowStart", () => {
  it("an endpoint that is new, or back, comes to its weight by and by", () => {
    const endpoint = new Endpoint("a", "a", 0, 4, { decay: 1, slowStart: 1000 })
    assert.strictEqual(endpoint.weightAt(0), 4)
    endpoint.warmUp(5000)
    assert.deepStrictEqual([5000, 5050, 5500, 5999, 6000].map((now) => endpoint.weightAt(now)), [
      0.4,
      0.4,
      2,
      3.996,
      4
    ])
  })

  it("a cold endpoint has its turn, a tenth as often", () => {
    const members = ["a", "b"].map((key) => new Endpoint(key, key, 0, 1, { decay: 1, slowStart: 1000 }))
    members[1]!.warmUp(0)
    const turns = new Turns<string>()
    turns.changed(members)
    const chosen = Array.from({ length: 110 }, () => turns.next(members, new Set(), 0, () => 0, false)!.key)
    assert.deepStrictEqual(tally(chosen), { a: 100, b: 10 })
  })
})

it("faults count as leases, fade, and are bounded", () => {
  const endpoint = new Endpoint("a", "a", 0, 1, { decay: 1000, slowStart: 0 })
  assert.strictEqual(endpoint.loadAt(0), 0)
  endpoint.fault(0)
  assert.strictEqual(endpoint.loadAt(0), 10)
  assert.closeTo(endpoint.loadAt(1000), 10 / Math.E, 1e-9)
  assert.strictEqual(endpoint.loadAt(3100), 0)
  assert.strictEqual(endpoint.finesAt(3100), 0)
  for (let i = 0; i < 50; i++) endpoint.fault(4000)
  assert.strictEqual(endpoint.loadAt(4000), 20)
})

it("who lends again owes nothing any more", () => {
  const endpoint = new Endpoint("a", "a", 0, 1, { decay: 1000, slowStart: 0 })
  endpoint.fault(0)
  endpoint.fault(5)
  endpoint.absolve(4)
  assert.isAbove(endpoint.loadAt(5), 10)
  endpoint.absolve(5)
  assert.strictEqual(endpoint.loadAt(5), 0)
})

it("a latency without end is none", () => {
  const endpoint = new Endpoint("a", "a", 0, 1, { decay: 1000, slowStart: 0 })
  endpoint.observe(10, 0)
  endpoint.observe(Infinity, 0)
  assert.strictEqual(endpoint.latencyAt(0), 10)
})
