/**
 * Random sequences of commands over several pools that share budgets. A failure prints
 * its seed and the fewest commands that still fail; `EFFECT_QUEUEPOOL_SEED` runs one
 * seed, `EFFECT_QUEUEPOOL_RUNS` so many from it or from 1.
 */
import { assert, describe, it } from "@effect/vitest"
import { serveBeside } from "./kit/capacityLaws.ts"
import { runCapacity } from "./kit/capacityModel.ts"
import { drawCapacityCommands, drawCapacityPlan, shorten, showCapacity } from "./kit/capacityPlan.ts"
import { drawVisits, patient } from "./kit/laws.ts"
import { Rng } from "./kit/random.ts"
import { atMost } from "./kit/runs.ts"

const given = process.env["EFFECT_QUEUEPOOL_SEED"]
const first = Number(given ?? 1)
const runs = Number(process.env["EFFECT_QUEUEPOOL_RUNS"] ?? (given === undefined ? 3200 : 1))

const check = (seed: number): void => {
  const plan = drawCapacityPlan(seed)
  const commands = drawCapacityCommands(plan, 5 + (seed % 40))
  const violation = runCapacity(plan, commands)
  if (violation === undefined) return
  const fewest = shorten(commands, (fewer) => runCapacity(plan, fewer)?.title === violation.title)
  const told = runCapacity(plan, fewest) ?? violation
  assert.fail(`EFFECT_QUEUEPOOL_SEED=${seed}: ${told.message}\n${showCapacity(plan, fewest)}`)
}

describe("the model of pools that share budgets", () => {
  it(`the contract holds in ${runs} sequences from seed ${first}`, { timeout: 600_000 }, async () => {
    for (let seed = first; seed < first + runs; seed++) {
      if (seed % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
      check(seed)
    }
  })
})

describe("laws of pools that share", () => {
  const tables = atMost(300)
  it(`a pool is served as if alone while the budget is not binding, whatever becomes of the other, in ${tables} timetables`, () => {
    for (let seed = 1; seed <= tables; seed++) {
      const rng = new Rng(seed)
      const visits = drawVisits(rng, 2).map((visit) => patient(visit))
      const max = 1 + rng.int(3)
      const settings = { max, permits: 2 * max, fairness: rng.pick(["share", "arrival"]) } as const
      const alone = serveBeside(visits, { ...settings, other: "nobody asks" })
      for (const other of ["works", "hangs", "fails"] as const) {
        assert.deepStrictEqual(serveBeside(visits, { ...settings, other }), alone, `seed ${seed}, the other ${other}`)
      }
    }
  })

  it(`when it is, all are served in time though the opens of the other fail, in ${tables} timetables`, () => {
    for (let seed = 1; seed <= tables; seed++) {
      const rng = new Rng(seed)
      const visits = drawVisits(rng, 2).map((visit) => patient(visit))
      const served = serveBeside(visits, {
        max: 2,
        permits: 2,
        fairness: rng.pick(["share", "arrival"]),
        other: "fails"
      })
      for (const { client, id } of visits) if (client === 0) assert.isTrue(served.has(id), `seed ${seed}, visit ${id}`)
    }
  })
})
