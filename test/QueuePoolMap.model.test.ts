/**
 * Random sequences of commands over several keys under one total. A failure prints its
 * seed and the fewest commands that still fail; `EFFECT_QUEUEPOOL_SEED` runs one seed,
 * `EFFECT_QUEUEPOOL_RUNS` so many from it or from 1.
 */
import { assert, describe, it } from "@effect/vitest"
import { KeyedRun, runKeyed } from "./kit/keyedModel.ts"
import { type Command, drawKeyedCommands, drawKeyedPlan, drawSteadyPlan, type KeyedPlan } from "./kit/keyedModelPlan.ts"
import { showKeyed, shrinkKeyed } from "./kit/keyedModelShrink.ts"

const given = process.env["EFFECT_QUEUEPOOL_SEED"]
const first = Number(given ?? 1)
const runs = Number(process.env["EFFECT_QUEUEPOOL_RUNS"] ?? (given === undefined ? 4200 : 1))

type Run = (
  plan: KeyedPlan,
  commands: ReadonlyArray<Command>
) => { readonly title: string; readonly message: string } | undefined

const hold = (seed: number, plan: KeyedPlan, commands: ReadonlyArray<Command>, run: Run): void => {
  const violation = run(plan, commands)
  if (violation === undefined) return
  const best = shrinkKeyed({ plan, commands }, (one) => run(one.plan, one.commands)?.title === violation.title)
  const told = run(best.plan, best.commands) ?? violation
  assert.fail(`EFFECT_QUEUEPOOL_SEED=${seed}: ${told.message}\n${showKeyed(best)}`)
}

const each = async (count: number, check: (seed: number) => void): Promise<void> => {
  for (let seed = first; seed < first + count; seed++) {
    if (seed % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
    check(seed)
  }
}

/** The lives of all keys but the first do not depend on it. */
const compare: Run = (plan, commands) => {
  const alone = new KeyedRun(plan, { steady: true })
  const frozen = new KeyedRun(plan, { steady: true, frozen: 0 })
  const broken = alone.result(commands) ?? frozen.result(commands)
  if (broken !== undefined) return broken
  for (const [key, trace] of alone.lives.entries()) {
    const other = frozen.lives[key]!
    const at = trace.findIndex((line, i) => line !== other[i])
    if (key === 0 || (at < 0 && trace.length === other.length)) continue
    const line = at < 0 ? trace.length : at
    return { title: "trace", message: `key ${key}: "${trace[line]}", and when key 0 is frozen "${other[line]}"` }
  }
  return undefined
}

describe("the model of several keys under one total", () => {
  it(`the contract holds in ${runs} sequences from seed ${first}`, { timeout: 900_000 }, () =>
    each(runs, (seed) => {
      const plan = drawKeyedPlan(seed)
      hold(seed, plan, drawKeyedCommands(plan, 5 + seed % 40, false), runKeyed)
    }))

  it(
    `invariant 17: freezing one key leaves the lives of others unchanged, in ${Math.ceil(runs / 7)} sequences`,
    { timeout: 900_000 },
    () =>
      each(Math.ceil(runs / 7), (seed) => {
        const plan = drawSteadyPlan(seed)
        hold(seed, plan, drawKeyedCommands(plan, 5 + seed % 40, true), compare)
      })
  )
})
