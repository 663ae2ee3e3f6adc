import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scheduler } from "effect"
import { ending } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { settle } from "./kit/items.ts"
import { books, borrow, make, type Options, record, type Things, use } from "./kit/keyed.ts"

const asks: Record<string, (map: Things) => Effect.Effect<unknown, unknown>> = {
  get: (map) => Effect.scoped(map.get("a")),
  "a get whose scope lasts": (map) => Effect.scoped(Effect.tap(map.get("a"), () => Effect.yieldNow)),
  getExclusive: (map) => Effect.scoped(map.getExclusive("a")),
  getIfAvailable: (map) => Effect.scoped(map.getIfAvailable("a")),
  use: (map) => map.use("a", () => Effect.yieldNow),
  useExclusive: (map) => map.useExclusive("a", () => Effect.yieldNow),
  useIfAvailable: (map) => map.useIfAvailable("a", () => Effect.yieldNow),
  pool: (map) => Effect.scoped(map.pool("a")),
  "use of a pool": (map) => Effect.scoped(Effect.flatMap(map.pool("a"), (pool) => pool.use(() => Effect.yieldNow))),
  "getN of a pool": (map) => Effect.scoped(Effect.flatMap(map.pool("a"), (pool) => pool.getN(2))),
  sweep: (map) => map.sweep(),
  clear: (map) => map.clear(),
  events: (map) => Effect.scoped(Effect.timeoutOption(record(map), 0))
}

/** What the map has of the key before: nothing, an idle item, or none to spare while others wait. */
const befores: Record<string, Partial<Options>> = {
  "an unknown key": {},
  "a key with an idle item": {},
  "a key with hooks": { onBorrow: () => Effect.yieldNow, reset: () => Effect.yieldNow },
  "a key that is exhausted": { max: 2 },
  "a map that is exhausted": { maxTotal: 2 }
}

describe("interrupted at every step, nothing is lost", () => {
  for (const [name, ask] of Object.entries(asks)) {
    for (const [before, options] of Object.entries(befores)) {
      it.effect(`${name}, of ${before}`, () =>
        Effect.gen(function*() {
          let operations = 0
          const count = yield* interruptAtEvery((run, at) =>
            Effect.scoped(Effect.gen(function*() {
              operations++
              const { map, sources } = yield* make({ max: 3, ...options })
              if (before === "a key with an idle item") yield* use(map, "a")
              const exhausted = before.includes("exhausted")
              const holders = exhausted
                ? [yield* borrow(map, options.maxTotal === undefined ? "a" : "b"), yield* borrow(map, "a")]
                : []
              const fiber = yield* run(ask(map))
              yield* settle
              for (const { letGo } of holders) yield* letGo
              yield* settle
              assert.notStrictEqual(ending(fiber.pollUnsafe()), "waits", at)
              yield* books(sources, map)
              // Only what has items is kept, and all can still be lent.
              for (const key of yield* map.keys) assert.isTrue((yield* use(map, key)) > 0, at)
              yield* settle
              const { idle, keys } = yield* map.stats
              assert.isAtLeast(idle, keys, at)
              yield* map.clear()
              assert.strictEqual((yield* books(sources, map)).keys, 0, at)
            }))
          )
          assert.isAtLeast(count, name === "clear" ? 1 : 2)
          assert.isAtLeast(operations, 2 * count)
        }))
    }
  }

  it.effect("a borrower between two of its steps when its key is forgotten finds it again", () =>
    Effect.gen(function*() {
      // It yields at every few steps: others run in between.
      for (const max of [3, 4, 5, 6, 7, 8, 9]) {
        const { map, sources } = yield* make({ recycle: ({ uses }) => uses >= 1 })
        const fibers = yield* Effect.forEach(Array.from({ length: 20 }), () =>
          Effect.forkChild(
            Effect.scoped(map.get("a")).pipe(
              Effect.repeat({ times: 5 }),
              Effect.provideService(Scheduler.MaxOpsBeforeYield, max)
            )
          ))
        yield* Fiber.joinAll(fibers)
        assert.strictEqual((yield* books(sources, map)).borrowed, 120)
        assert.deepStrictEqual(yield* map.keys, [])
      }
    }))

  it.effect("a borrower that is interrupted as its key is made leaves no key", () =>
    Effect.gen(function*() {
      const { map, sources } = yield* make({
        forKey: () => {
          Fiber.getCurrent()?.interruptUnsafe()
          return undefined
        }
      })
      for (const ask of [Effect.scoped(map.get("a")), map.use("a", Effect.succeed)]) {
        const fiber = yield* Effect.forkChild(ask)
        yield* settle
        assert.strictEqual(ending(fiber.pollUnsafe()), "interrupted")
      }
      yield* map.clear()
      assert.strictEqual((yield* books(sources, map)).keys, 0)
    }))
})
