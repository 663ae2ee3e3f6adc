import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scheduler } from "effect"
import { QueuePool } from "effect-queuepool"
import { settle, Source } from "./kit/items.ts"

class At extends Scheduler.MixedScheduler {
  n = 0
  constructor(readonly at: number) { super() }
  override shouldYield(fiber: any) {
    this.n++
    if (this.n === this.at) fiber.interruptUnsafe()
    return super.shouldYield(fiber)
  }
}
describe("x", () => {
  for (const how of ["use", "get"] as const) {
  it.effect("leak " + how, () => Effect.gen(function*() {
    const out: Array<string> = []
    for (let at = 1; at < 30; at++) {
      const source = new Source()
      const pool = yield* QueuePool.make({ acquire: source.acquire, max: 1 })
      yield* pool.use(() => Effect.void)
      const s = new At(at)
      const f = Effect.runFork(how === "use" ? pool.use(() => Effect.void) : Effect.scoped(pool.get), { scheduler: s })
      const exit = yield* Fiber.await(f)
      yield* settle
      const st = yield* pool.stats
      out.push(`${at} ${s.n} ${exit._tag} idle ${st.idle} used ${st.used}`)
      if (s.n < at) break
    }
    throw new Error(out.join("\n"))
  }))
  }
})
