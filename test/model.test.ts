/**
 * Random sequences of commands, outcomes and moments against the whole of a pool's
 * contract, under a scheduler that permutes what is ready. A failure prints its
 * seed and the shortest sequence that still fails; `EFFECT_QUEUEPOOL_SEED` runs one
 * seed, `EFFECT_QUEUEPOOL_RUNS` so many from it or from 1.
 */
import { assert, describe, it } from "@effect/vitest"
import { drawVisits, expected, patient, serve } from "./kit/laws.ts"
import { runPlan } from "./kit/model.ts"
import { drawCommands, drawPlan } from "./kit/modelDraw.ts"
import type { Command, Plan } from "./kit/modelPlan.ts"
import { Rng } from "./kit/random.ts"
import { atMost } from "./kit/runs.ts"
import { plainest, show, shrink } from "./kit/shrink.ts"

const given = process.env["EFFECT_QUEUEPOOL_SEED"]
const first = Number(given ?? 1)
const runs = Number(process.env["EFFECT_QUEUEPOOL_RUNS"] ?? (given === undefined ? 24_000 : 1))

const check = (seed: number): void => {
  const plan = drawPlan(seed)
  const one = { plan, commands: drawCommands(plan, 3 + (seed % 22)) }
  const violation = runPlan(one.plan, one.commands)
  if (violation === undefined) return
  const { title } = violation
  const best = shrink(one, ({ commands, plan }) => runPlan(plan, commands)?.title === title)
  const told = runPlan(best.plan, best.commands) ?? violation
  assert.fail(`EFFECT_QUEUEPOOL_SEED=${seed}: ${told.message}\n${show(best)}`)
}

/** Lets the runner breathe: the sequences themselves wait for nothing. */
const breathe = () => new Promise((resolve) => setImmediate(resolve))

const each = async (from: number, count: number, run: (seed: number) => void): Promise<void> => {
  for (let seed = from; seed < from + count; seed++) {
    if (seed % 250 === 0) await breathe()
    run(seed)
  }
}

const shards = runs < 1000 ? 1 : 6

describe("the model", () => {
  for (let shard = 0; shard < shards; shard++) {
    const from = first + Math.floor(runs * shard / shards)
    const count = first + Math.floor(runs * (shard + 1) / shards) - from
    it(
      `the contract holds in ${count} sequences from seed ${from}`,
      { timeout: 600_000 },
      () => each(from, count, check)
    )
  }
})

describe("what the model once found", () => {
  const once = (name: string, plan: Partial<Plan>, ...commands: ReadonlyArray<Command>) =>
    it(name, () => {
      for (let seed = 1; seed <= 50; seed++) assert.isUndefined(runPlan({ seed, ...plainest, ...plan }, commands))
    })

  once(
    "a borrower that leaves before it takes up its item has one event, not two",
    { max: 2 },
    { do: "get", kind: "use", turns: 3 },
    { do: "interrupt", of: 0 }
  )
  once(
    "a waiter whose open failed is promised the one that is for nobody",
    { min: 2, max: 4, warm: "lazy", openConcurrency: 2, retry: "now" },
    { do: "opens", go: "fail", always: false },
    { do: "get", kind: "use" }
  )
  once(
    "an item that is taken back before its borrower takes it up is not lent",
    { tasks: "any" },
    { do: "get", kind: "use" },
    { do: "get", kind: "use" },
    { do: "release", of: 0, end: "ok", turns: 0 },
    { do: "close", turns: 0 },
    { do: "stall", millis: 30 }
  )
  once(
    "who packs joins where a lease has just ended, and not those who came last and are held up",
    { max: 4, concurrency: 2, sharing: "pack" },
    { do: "get", kind: "use" },
    { do: "get", kind: "use" },
    { do: "get", kind: "use" },
    { do: "advance", millis: 100 },
    { do: "release", of: 0, end: "ok" },
    { do: "get", kind: "use" }
  )
  once("an eager pool is made though its fiber yields", { tasks: "any", maxOps: 11, min: 1, warm: "eager" })
  once(
    "an item that was spared when it was lent is due by idleness when it comes back",
    { min: 1, max: 2, rules: ["after", "idle"] },
    { do: "get", kind: "use" },
    { do: "get", kind: "use" },
    { do: "interrupt", of: 0 },
    { do: "advance", millis: 40 }
  )
  once(
    "whose time is over as it loses its item hears so at once",
    { borrowTimeout: 0, monitor: true, hooks: ["onBorrow"] },
    { do: "get", kind: "use" },
    { do: "onBorrow", go: { slow: 19 }, always: false },
    { do: "get", kind: "use" },
    { do: "kill", of: 0, go: "ok" }
  )
  once(
    "a trial has room at once where max was made smaller",
    { openConcurrency: 2 },
    { do: "closes", go: { late: 25 }, always: false },
    { do: "opens", go: { late: 40 }, always: false },
    { do: "resize", min: 4, max: 4 },
    { do: "resize", min: 0, max: 3 },
    { do: "swap", go: "ok", over: 0 }
  )
  once(
    "nobody shares an item whose onReturn has thrown",
    { concurrency: 3, hooks: ["onReturn"] },
    { do: "get", kind: "use" },
    { do: "onReturn", go: "die", always: false },
    { do: "get", kind: "use" },
    { do: "get", kind: "use" },
    { do: "get", kind: "use" },
    { do: "release", of: 0, end: "ok" }
  )
  once(
    "an onRelease that is abandoned as its fiber yields does not go on for ever",
    {
      tasks: "fibers",
      maxOps: 4,
      max: 3,
      minIdle: 2,
      rules: ["throws"],
      hooks: ["onRelease"],
      opens: ["fail"]
    },
    { do: "get", kind: "scoped" },
    { do: "release", of: 0, end: "ok" },
    { do: "sweep" },
    { do: "get", kind: "sync", turns: 1 },
    { do: "onRelease", go: "hang", always: false, turns: 3 },
    { do: "stall", millis: 30 }
  )
})

describe("laws", () => {
  const tables = atMost(600)
  const laws = (name: string, law: (rng: Rng, seed: number) => void) =>
    it(
      `${name}, in ${tables} timetables`,
      { timeout: 120_000 },
      () => each(1, tables, (seed) => law(new Rng(seed), seed))
    )

  const begins = (served: ReturnType<typeof serve>) =>
    new Map(Array.from(served, ([id, { begins }]) => [id, begins] as const).sort(([a], [b]) => a - b))

  laws("a warm pool is a queue before so many counters", (rng, seed) => {
    const visits = drawVisits(rng, 1)
    const max = 1 + rng.int(4)
    const borrowTimeout = rng.pick([0, Infinity])
    const served = serve(visits, { max, order: rng.pick(["lifo", "fifo"]), borrowTimeout, warm: true })
    assert.deepStrictEqual(begins(served), expected(visits, max, borrowTimeout), `seed ${seed}`)
  })

  laws("waiters that give up leave no trace", (rng, seed) => {
    const visits = drawVisits(rng, 1)
    const settings = { max: 1 + rng.int(3), order: rng.pick(["lifo", "fifo"]), warm: true } as const
    const all = serve(visits, settings)
    const served = serve(visits.filter(({ id }) => all.has(id)), settings)
    assert.deepStrictEqual(served, all, `seed ${seed}`)
  })

  laws("one pool of n serves n clients as n pools of one", (rng, seed) => {
    const clients = 1 + rng.int(4)
    // Each client comes again only when it has left.
    const busy = new Array<number>(clients).fill(0)
    const visits = drawVisits(rng, clients).map((visit) => {
      const comes = Math.max(visit.comes, busy[visit.client]!)
      busy[visit.client] = comes + visit.holds + 1
      return patient(visit, comes)
    })
    const order = rng.pick(["lifo", "fifo"])
    const one = begins(serve(visits, { max: clients, order }))
    const many = begins(serve(visits, { max: 1, order }, clients))
    assert.deepStrictEqual(one, many, `seed ${seed}`)
  })

  laws("one more item makes nobody wait longer", (rng, seed) => {
    const visits = drawVisits(rng, 1).map((visit) => patient(visit))
    const max = 1 + rng.int(3)
    const settings = { order: rng.pick(["lifo", "fifo"]), warm: true } as const
    const more = begins(serve(visits, { ...settings, max: max + 1 }))
    for (const [id, at] of begins(serve(visits, { ...settings, max }))) {
      assert.isAtMost(more.get(id)!, at, `seed ${seed}, visit ${id}`)
    }
  })

  laws("the wall clock may jump", (rng, seed) => {
    const visits = drawVisits(rng, 1)
    const settings = { max: 1 + rng.int(3), order: rng.pick(["lifo", "fifo"]), borrowTimeout: 10, opening: 3 } as const
    const jumps = [rng.int(60), rng.int(60), rng.int(60)]
    assert.deepStrictEqual(serve(visits, { ...settings, jumps }), serve(visits, settings), `seed ${seed}`)
  })
})
