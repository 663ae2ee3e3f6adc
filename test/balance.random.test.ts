import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, type Fiber, Option, Queue, Random, Stream } from "effect"
import { Balanced, QueuePoolMap } from "effect-queuepool"
import { CircuitBreaker } from "effect/persistence"
import { elapse, ending } from "./kit/books.ts"
import { keys } from "./kit/endpoints.ts"
import { settle, Source, type Thing } from "./kit/items.ts"
import { Rng } from "./kit/random.ts"

const all = keys(6)

/** A borrower, and where it is. */
interface Visit {
  at: string | undefined
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

const drawList = (rng: Rng): ReadonlyArray<Balanced.Endpoint<string>> =>
  all.filter(() => rng.chance(0.7)).map((key) =>
    rng.chance(0.3) ? key : { key, priority: rng.int(2), weight: rng.pick([0.5, 1, 3]) }
  )

/** Borrows in all ways, among endpoints that come, go, fail, hang and recover, under one total. */
const run = Effect.fnUntraced(function*(seed: number, choose: Balanced.Choice) {
  const rng = new Rng(seed)
  const sources = new Map(all.map((key) => [key, new Source()]))
  const source = (key: string): Source => sources.get(key)!
  const map = yield* QueuePoolMap.make({
    acquire: (key: string) => source(key).acquire,
    max: 3,
    maxTotal: 12,
    borrowTimeout: rng.pick([500, 5000]),
    openTimeout: 3000
  })
  const breaker = yield* CircuitBreaker.make({
    tripPolicy: CircuitBreaker.consecutive(2),
    openDuration: "5 seconds"
  }).pipe(Effect.provide(CircuitBreaker.layerStoreMemory()))
  const lists = yield* Queue.unbounded<ReadonlyArray<Balanced.Endpoint<string>>>()
  yield* Queue.offer(lists, all)
  const balanced: Balanced.Balanced<string, Thing> = yield* Balanced.make(map, {
    endpoints: Stream.fromQueue(lists),
    choose,
    breaker,
    borrowTimeout: "10 seconds",
    panic: rng.pick([0, 0.5]),
    slowStart: rng.pick([0, 2000]),
    ...(rng.chance(0.5) && { fault: (exit: Exit.Exit<unknown, unknown>) => ending(exit) === "Ill" })
  })
  const visits: Array<Visit> = []
  const outcomes: Record<string, number> = {}
  const arrive = Effect.fnUntraced(function*() {
    const body = (visit: { at: string | undefined }, ends: "well" | "ill") => (_: Thing, key: string) => {
      visit.at = key
      return Effect.andThen(
        Effect.sleep(rng.int(4000)),
        ends === "well" ? Effect.void : Effect.fail({ _tag: "Ill" } as const)
      )
    }
    const visit: { at: string | undefined; fiber?: Fiber.Fiber<unknown, unknown> } = { at: undefined }
    const work = body(visit, rng.chance(0.8) ? "well" : "ill")
    const effect: Effect.Effect<unknown, unknown> = rng.weighted([
      [4, balanced.use(work)],
      [2, Effect.scoped(Effect.flatMap(balanced.get, (item) => work(item, "somewhere")))],
      [1, balanced.useIfAvailable(work)],
      [
        1,
        Effect.scoped(
          Effect.flatMap(
            balanced.getIfAvailable,
            Option.match({ onNone: () => Effect.void, onSome: (item) => work(item, "somewhere") })
          )
        )
      ]
    ])
    visit.fiber = yield* Effect.forkChild(effect)
    visits.push(visit as Visit)
  })
  for (let step = 0; step < 120; step++) {
    yield* rng.weighted<Effect.Effect<unknown>>([
      [8, arrive()],
      [2, Effect.sync(() => visits.length > 0 && rng.pick(visits).fiber.interruptUnsafe())],
      [1, Queue.offer(lists, drawList(rng))],
      [
        2,
        Effect.sync(() => {
          const one = source(rng.pick(all))
          one.opensOtherwise = rng.pick(["ok", "ok", "fail", "hang", "die", { slow: 800 }])
        })
      ],
      [1, Effect.suspend(() => map.clear(rng.pick(all)))],
      [4, Effect.suspend(() => elapse(rng.pick([1, 100, 2000])))]
    ])
    yield* settle
    for (const { key, load } of yield* balanced.endpoints) {
      const here = visits.filter(({ at, fiber }) => at === key && fiber.pollUnsafe() === undefined).length
      assert.isAtLeast(load, here, `seed ${seed}, step ${step}: load of ${key}`)
    }
  }
  for (const one of sources.values()) one.opensOtherwise = "ok"
  for (let i = 0; i < 12; i++) yield* elapse(2000)
  yield* Queue.offer(lists, all)
  yield* settle
  for (const { fiber } of visits) {
    const exit = fiber.pollUnsafe()
    const how = ending(exit)
    outcomes[how] = (outcomes[how] ?? 0) + 1
    assert.include(["served", "interrupted", "Ill", "NoEndpoint"], how, `seed ${seed}`)
  }
  for (const { key, load } of yield* balanced.endpoints) assert.strictEqual(load, 0, `seed ${seed}: load of ${key}`)
  const { leases, opening, pending, used } = yield* map.stats
  assert.deepStrictEqual({ leases, opening, pending, used }, { leases: 0, opening: 0, pending: 0, used: 0 })
  // Once all is well, all are served, and in time from everywhere.
  yield* elapse("2 minutes")
  const found = new Set<string>()
  for (let i = 0; i < 80; i++) {
    const fiber = yield* Effect.forkChild(balanced.use((_, key) => Effect.succeed(key)))
    yield* elapse(500)
    const exit = fiber.pollUnsafe()
    assert.strictEqual(ending(exit), "served", `seed ${seed}, visit ${i}`)
    found.add(Exit.isSuccess(exit!) ? exit.value : "nowhere")
  }
  assert.deepStrictEqual([...found].toSorted(), all, `seed ${seed}: nobody starves`)
  return outcomes
})

describe("borrowers among endpoints that come, go, fail, hang and recover leave no load and no lease", () => {
  for (const choose of [Balanced.roundRobin, Balanced.leastLoaded, Balanced.peakEwma]) {
    it.effect(choose.name, () =>
      Effect.gen(function*() {
        const sum: Record<string, number> = {}
        for (let seed = 1; seed <= 12; seed++) {
          const outcomes = yield* Effect.scoped(run(seed, choose)).pipe(Random.withSeed(seed))
          for (const [how, count] of Object.entries(outcomes)) sum[how] = (sum[how] ?? 0) + count
        }
        // The runs have seen everything.
        for (const how of ["served", "interrupted", "Ill", "NoEndpoint"]) assert.isAbove(sum[how] ?? 0, 0, how)
      }))
  }
})
