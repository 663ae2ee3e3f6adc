/** User's functions that call back into the pool, at random: `EFFECT_QUEUEPOOL_SEED` runs one seed. */
import { assert, describe, it } from "@effect/vitest"
import { runCalls } from "./kit/calls.ts"
import { atMost } from "./kit/runs.ts"

const given = process.env["EFFECT_QUEUEPOOL_SEED"]
const first = Number(given ?? 1)
const count = given === undefined ? atMost(6000) : 1

const check = (seed: number): void => {
  const steps = 5 + seed % 40
  if (runCalls(seed, steps) === undefined) return
  // What is drawn follows what was drawn before: the fewest steps that fail.
  for (let few = 0; few <= steps; few++) {
    const violation = runCalls(seed, few)
    if (violation !== undefined) assert.fail(`EFFECT_QUEUEPOOL_SEED=${seed}, ${few} steps: ${violation.message}`)
  }
}

describe("functions that call back into the pool", () => {
  it(`leave it whole in ${count} runs from seed ${first}`, { timeout: 600_000 }, async () => {
    for (let seed = first; seed < first + count; seed++) {
      if (seed % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
      check(seed)
    }
  })
})
