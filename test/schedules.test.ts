/**
 * Interleavings, explored and not hoped for: small concurrent programs run around a pool
 * under schedules in which any ready task may be the next. What must hold (bounds, one close
 * for each item, no two holders, the order of arrival, no lost hand-over, liveness at rest,
 * one end for each borrow, conservation) is looked at after every task.
 *
 * A failure prints its seed and the smallest program that still fails;
 * `EFFECT_QUEUEPOOL_SEED` runs one seed, `EFFECT_QUEUEPOOL_RUNS` so many programs from it or from 1.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Act, drawProgram, plain, type Program, showProgram, smallest } from "./kit/actors.ts"
import { runActors } from "./kit/actorsRun.ts"
import { explore } from "./kit/choices.ts"
import { runPlan } from "./kit/model.ts"
import { drawCommands, drawPlan } from "./kit/modelDraw.ts"
import type { Inside } from "./kit/modelInside.ts"
import { Rng } from "./kit/random.ts"
import { show, shrink } from "./kit/shrink.ts"
import type { Violation } from "./kit/world.ts"

const given = process.env["EFFECT_QUEUEPOOL_SEED"]
const first = Number(given ?? 1)
const programs = Number(process.env["EFFECT_QUEUEPOOL_RUNS"] ?? (given === undefined ? 1500 : 1))
const schedules = 4

/** Lets the runner breathe: the runs themselves wait for nothing. */
const breathe = () => new Promise((resolve) => setImmediate(resolve))

type Sabotage = ((inside: Inside) => void) | undefined

/** The first of so many schedules under which the program fails. */
const failing = (program: Program, seed: number, count: number, sabotage: Sabotage): Violation | undefined => {
  for (let schedule = 0; schedule < count; schedule++) {
    const rng = new Rng(seed * 1009 + schedule)
    const violation = runActors(program, rng, schedule % 4 === 3 ? "fibers" : "any", sabotage)
    if (violation !== undefined) return violation
  }
  return undefined
}

/** What a seed finds, with the smallest program that fails in the same way; undefined when it finds nothing. */
const find = (seed: number, sabotage?: Sabotage): string | undefined => {
  const program = drawProgram(new Rng(seed))
  const violation = failing(program, seed, schedules, sabotage)
  if (violation === undefined) return undefined
  // A smaller program has other schedules.
  const best = smallest(program, (less) => failing(less, seed, 30, sabotage)?.title === violation.title)
  return `EFFECT_QUEUEPOOL_SEED=${seed}: ${violation.message}\n${showProgram(best)}`
}

const lease = (turns = 0, end: "ok" | "fail" | "invalidate" = "ok", how: "use" | "scoped" = "use"): Act => ({
  do: "lease",
  how,
  turns,
  end
})
const interrupt = (of: number): Act => ({ do: "interrupt", of })

/** Under every schedule there is. */
const everySchedule = (name: string, program: Partial<Program> & Pick<Program, "actors">, limit = 60_000) =>
  it(`${name}, under every schedule`, { timeout: 120_000 }, () => {
    const whole = { ...plain, listens: false, ...program }
    let violation: Violation | undefined
    const { all, runs } = explore((rng) => (violation = runActors(whole, rng, "any")) !== undefined, limit)
    assert.isUndefined(violation, `${violation?.message}\n${showProgram(whole)}`)
    assert.isTrue(all, `${runs} runs were not all`)
    assert.isAbove(runs, 10)
  })

describe("schedules", () => {
  it(
    `programs of several fibers, ${programs} from seed ${first}, each under ${schedules}`,
    { timeout: 600_000 },
    async () => {
      for (let seed = first; seed < first + programs; seed++) {
        if (seed % 100 === 0) await breathe()
        const found = find(seed)
        if (found !== undefined) assert.fail(found)
      }
    }
  )

  it("the model's sequences, 250 from its seed 1, each under 6", { timeout: 600_000 }, async () => {
    for (let seed = 1; seed <= 250; seed++) {
      if (seed % 25 === 0) await breathe()
      const drawn = drawPlan(seed)
      const commands = drawCommands(drawn, 3 + (seed % 22))
      for (let schedule = 1; schedule <= 6; schedule++) {
        const plan = { ...drawn, tasks: schedule % 3 === 0 ? "fibers" : "any", seed: seed * 1009 + schedule } as const
        const violation = runPlan(plan, commands)
        if (violation === undefined) continue
        const { title } = violation
        const best = shrink({ plan, commands }, (one) => runPlan(one.plan, one.commands)?.title === title)
        assert.fail(`sequence ${seed}, schedule ${schedule}: ${violation.message}\n${show(best)}`)
      }
    }
  })

  everySchedule("a waiter that is interrupted as its item comes", {
    actors: [[lease(1)], [lease()], [lease()], [interrupt(1)]]
  })
  everySchedule("a waiter that is interrupted, all on one scheduler", {
    own: false,
    actors: [[lease(1)], [lease()], [interrupt(1)]]
  })
  everySchedule("an invalidation while others wait", {
    actors: [[lease(1, "invalidate")], [lease()], [interrupt(1)]]
  })
  everySchedule("an open that fails while others wait", {
    opens: ["fail"],
    actors: [[lease()], [lease()], [interrupt(0)]]
  })
  everySchedule("a check, and its borrower interrupted", {
    check: true,
    actors: [[lease()], [lease()], [interrupt(0)]]
  })
  everySchedule("a reset, and a waiter interrupted", {
    reset: true,
    actors: [[lease()], [lease()], [interrupt(1)]]
  })
  everySchedule("an item that is shared, and one of those who share it interrupted", {
    concurrency: 2,
    actors: [[lease(1)], [lease()], [lease()], [interrupt(1)]]
  })
  everySchedule("a check of an idle item, for two who want it and one of them interrupted", {
    check: true,
    actors: [[lease(), lease()], [lease()], [interrupt(1)]]
  })
  everySchedule("all is cleared, and max grows, as one waits", {
    actors: [[lease(1)], [lease()], [{ do: "clear" }, { do: "resize", max: 2 }]]
  })
  everySchedule("two items, opened one at a time, for three borrowers in scopes", {
    max: 2,
    actors: [[lease(0, "ok", "scoped")], [lease(0, "ok", "scoped")], [lease(0, "ok", "scoped")]]
  })
})

describe("what the schedules notice", () => {
  /** In so many seeds, with the pool broken on purpose. */
  const notices = (name: string, title: RegExp, sabotage: (inside: Inside) => void, seeds = 400) =>
    it(name, { timeout: 120_000 }, () => {
      for (let seed = 1; seed <= seeds; seed++) {
        const found = find(seed, sabotage)
        if (found === undefined) continue
        assert.match(found, title)
        // One that nobody could read is of no use.
        assert.isBelow(found.split("\n").length, 10, found)
        return
      }
      assert.fail(`not in ${seeds} seeds`)
    })

  notices(
    "a waiter that was handed its item and is interrupted keeps it",
    /one end|liveness|ledger|at rest/,
    ({ state }) => {
      const { abandon } = state
      state.abandon = function(borrower, why) {
        if (borrower.lease === undefined) abandon.call(this, borrower, why)
      }
    }
  )

  notices("the last comer is served first", /fifo/, ({ state: { waiters } }) => {
    const { insert, push } = waiters
    waiters.push = (waiter) =>
      waiters.head === undefined ? push.call(waiters, waiter) : insert.call(waiters, waiter, waiters.head)
  })

  notices(
    "who is interrupted as it waits uses up the open that was for it",
    /liveness|supplies/,
    ({ state: { waiters } }) => {
      const { promise } = waiters
      let opening = true
      waiters.promise = (supply) => {
        if (opening) promise.call(waiters, supply)
        opening = !opening
      }
    }
  )

  notices("an item that was invalidated is idle again", /lent again|doomed|ledger|counts|at rest/, ({ state }) => {
    const { giveBack } = state
    state.giveBack = function(lease, exit) {
      lease.item.doom = undefined
      giveBack.call(this, lease, exit)
    }
  })
})

describe("the search through all schedules", () => {
  it("takes each sequence of choices once", () => {
    const seen: Array<string> = []
    const explored = explore((rng) => {
      const one = rng.int(3)
      seen.push(`${one}${one === 1 ? "" : rng.chance(0.5) ? "y" : "n"}`)
      return false
    }, 100)
    assert.deepStrictEqual(explored, { runs: 5, all: true })
    assert.deepStrictEqual(seen, ["0n", "0y", "1", "2n", "2y"])
  })

  it("ends at its limit, and where it is told to", () => {
    const run = (rng: Rng) => rng.int(10) === 4
    assert.deepStrictEqual(explore(run, 3), { runs: 3, all: false })
    assert.deepStrictEqual(explore(run, 100), { runs: 5, all: false })
  })
})
