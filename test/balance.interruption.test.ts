import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Balanced from "effect-queuepool/Balanced"
import { CircuitBreaker } from "effect/persistence"
import { elapse, ending } from "./kit/books.ts"
import { atRest, ejected, type Endpoints, endpoints, visits, where } from "./kit/endpoints.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { settle } from "./kit/items.ts"

interface World {
  readonly lender: Endpoints
  readonly balanced: Balanced.Balanced<string, { readonly id: number }>
}

type Prepare = (world: World) => Effect.Effect<unknown>

const nothing: Prepare = () => Effect.void

const failing: Prepare = ({ lender }) => Effect.sync(() => void lender.source("a").opens.push("fail"))

const hanging: Prepare = ({ lender }) => Effect.sync(() => void lender.source("a").opens.push("hang"))

const slow: Prepare = ({ lender }) => Effect.sync(() => void lender.source("a").opens.push({ slow: 10 }))

const warm: Prepare = ({ balanced }) => where(balanced) as Effect.Effect<unknown>

/** "a" may be back: whoever comes finds out. */
const due: Prepare = ({ balanced, lender }) =>
  Effect.gen(function*() {
    lender.source("a").opens.push("fail", "fail", "fail")
    yield* Effect.orDie(visits(balanced, 3))
    yield* settle
    assert.deepStrictEqual(yield* ejected(balanced), ["a"])
    yield* elapse("30 seconds")
  })

const ways: Record<string, (balanced: World["balanced"]) => Effect.Effect<unknown, unknown>> = {
  use: (balanced) => balanced.use(() => Effect.andThen(Effect.yieldNow, Effect.void)),
  get: (balanced) => Effect.scoped(Effect.andThen(balanced.get, Effect.yieldNow)),
  useIfAvailable: (balanced) => balanced.useIfAvailable(() => Effect.yieldNow),
  getIfAvailable: (balanced) => Effect.scoped(Effect.andThen(balanced.getIfAvailable, Effect.yieldNow))
}

const world = Effect.fnUntraced(function*() {
  const lender = yield* endpoints(["a", "b"], { openTimeout: "1 minute" })
  const breaker = yield* CircuitBreaker.make({
    tripPolicy: CircuitBreaker.consecutive(3),
    openDuration: "30 seconds"
  }).pipe(Effect.provide(CircuitBreaker.layerStoreMemory()))
  const balanced = yield* Balanced.make(lender, {
    endpoints: [{ key: "a" }, { key: "b", priority: 1 }],
    breaker
  })
  return { lender, breaker, balanced }
})

describe("a borrower interrupted at each of its operations leaves no lease, no load and no probe", () => {
  for (const [name, way] of Object.entries(ways)) {
    for (const [before, prepare] of Object.entries({ nothing, warm, failing, hanging, slow, due })) {
      it.effect(`${name}, ${before}`, () =>
        Effect.gen(function*() {
          const operations = yield* interruptAtEvery((run, at) =>
            Effect.scoped(Effect.gen(function*() {
              const made = yield* world()
              const { balanced, breaker, lender } = made
              yield* prepare(made)
              const fiber = yield* run(way(balanced))
              yield* elapse(10)
              yield* elapse("15 seconds")
              const exit = yield* Fiber.await(fiber)
              assert.include(["served", "interrupted"], ending(exit), at)
              if (before === "hanging") yield* elapse("1 minute")
              yield* atRest(lender, balanced, at)
              // Nobody has kept the leave to probe.
              const circuit = yield* breaker.state("a")
              assert.isFalse(circuit._tag === "HalfOpen" && circuit.probing, at)
              if (before === "due") {
                assert.strictEqual(yield* where(balanced), "a", at)
                yield* settle
                assert.deepStrictEqual(yield* ejected(balanced), [], at)
              }
              for (const source of lender.sources.values()) {
                assert.strictEqual(new Set(source.closed).size, source.closed.length, at)
              }
            }))
          )
          assert.isAbove(operations, 10)
        }))
    }
  }
})
