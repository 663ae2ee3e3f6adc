/**
 * Laws that compare two runs: of one timetable on two pools, or of two timetables on one pool. A failure
 * prints its seed and the shortest timetable that still fails; `EFFECT_QUEUEPOOL_SEED` runs one seed.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Scope, Semaphore, Stream } from "effect"
import { type PoolEvent, QueuePool, RecyclePolicy } from "effect-queuepool"
import { type Command, drawVisits, inOrder, type Place, smallest, type Trace, traceOf } from "./kit/metamorphic.ts"
import { Rng } from "./kit/random.ts"
import { atMost } from "./kit/runs.ts"

const given = process.env["EFFECT_QUEUEPOOL_SEED"]
type Law = (commands: ReadonlyArray<Command>) => string | undefined

/** `draw` gives the timetable and the law for one seed. */
const law = (name: string, count: number, draw: (rng: Rng) => readonly [ReadonlyArray<Command>, Law]) => {
  const runs = given === undefined ? atMost(count) : 1
  return it(`${name}, in ${runs} timetables`, { timeout: 120_000 }, async () => {
    for (let seed = Number(given ?? 1), last = seed + runs; seed < last; seed++) {
      // Lets the runner breathe: the timetables themselves wait for nothing.
      if (seed % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
      const failed = smallest(...draw(new Rng(seed)))
      if (failed === undefined) continue
      const table = failed.commands.map((command) => `  ${JSON.stringify(command)}`).join("\n")
      assert.fail(`EFFECT_QUEUEPOOL_SEED=${seed}: ${failed.broken}\n${table}`)
    }
  })
}

interface Settings extends Omit<QueuePool.Options<number, string, Scope.Scope>, "acquire"> {
  /** Milliseconds. */
  readonly opening?: number
  readonly closing?: number
  /** Which opens fail, by their number. */
  readonly fails?: (open: number) => boolean
  readonly pools?: number
}

const line = (event: PoolEvent.PoolEvent): string =>
  Object.entries(event).filter(([key]) => !["cause", "pool", "by"].includes(key)).map(([, value]) => String(value))
    .join(" ")

const pause = (millis: number | undefined) => millis === undefined ? Effect.void : Effect.sleep(millis)

// Looks at pools when their world stands still.
// @effect-diagnostics runEffectInsideEffect:off

/** One pool, or several, each for the clients of its number. */
const poolOf = (settings: Settings): Effect.Effect<Place, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const { closing, fails, opening, pools: count = 1, ...options } = settings
    let opens = 0
    const acquire = Effect.acquireRelease(
      Effect.andThen(
        Effect.sync(() => ++opens),
        (open) => Effect.andThen(pause(opening), fails?.(open) === true ? Effect.fail("no") : Effect.succeed(open))
      ),
      () => pause(closing)
    )
    const events: Array<string> = []
    const pools = yield* Effect.replicateEffect(
      QueuePool.make({ acquire, borrowTimeout: "Infinity", openConcurrency: 10, ...options }),
      count
    )
    for (const pool of pools) {
      yield* Effect.forkScoped(
        Stream.runForEach(pool.events, (event) => Effect.sync(() => void events.push(line(event)))),
        { startImmediately: true }
      )
    }
    const [first] = pools
    return {
      use: ({ client }, body) => {
        const pool = pools[client % pools.length]!
        return pool.use((item) => body(item, pool.invalidate(item)))
      },
      control: (command) => {
        switch (command.do) {
          case "resize":
            return first!.resize({ min: command.max, max: command.max })
          default:
            return first![command.do]
        }
      },
      report: () => {
        const totals = pools.map((pool) => {
          const { borrowed, closed, idle, opened, recycled, returned } = Effect.runSync(pool.stats)
          return { borrowed, closed, idle, opened, recycled, returned }
        })
        return { totals, events }
      }
    }
  })

const semaphoreOf = (permits: number): Effect.Effect<Place> =>
  Effect.sync(() => {
    const semaphore = Semaphore.makeUnsafe(permits)
    return {
      use: (_, body) => semaphore.withPermit(Effect.suspend(() => body(1, Effect.void))),
      control: () => Effect.void,
      report: () => undefined
    }
  })

const textOf = (value: unknown): string =>
  JSON.stringify(value, (_, part: unknown) => part instanceof Map ? [...part].sort(([a], [b]) => a - b) : part)

/** Where two things begin to differ, if they do. */
const differs = (what: string, one: unknown, other: unknown): string | undefined => {
  const [a, b] = [textOf(one), textOf(other)]
  if (a === b) return undefined
  const at = Array.from(a).findIndex((letter, index) => b[index] !== letter)
  const around = (text: string) => text.slice(Math.max(0, (at < 0 ? a.length : at) - 80), at + 80)
  return `${what} differ\n  ...${around(a)}...\n  ...${around(b)}...`
}

const begins = ({ visits }: Trace) => new Map(Array.from(visits, ([id, { begins }]) => [id, begins]))

const totals = ({ report }: Trace) => (report as { readonly totals: unknown }).totals

const orders = ["lifo", "fifo", "hybrid"] as const

describe("a law", () => {
  // Invariant 16.
  law("disjoint use of one pool of n is that of n pools of one", 400, (rng) => {
    const clients = 1 + rng.int(4)
    // Each client comes again only when it has left.
    const busy = new Array<number>(clients).fill(0)
    const visits: Array<Command> = []
    for (const command of drawVisits(rng, clients, ["ok", "fail", "die", "invalidate"])) {
      if (command.do !== "visit") visits.push(command)
      else {
        const at = Math.max(command.at, busy[command.client]!)
        busy[command.client] = at + command.holds + 1
        visits.push({ ...command, at })
      }
    }
    const settings: Settings = {
      order: rng.pick(orders),
      ...(rng.chance(0.5) ? { reset: () => Effect.void } : undefined),
      recycle: rng.pick([[], [RecyclePolicy.failed], [RecyclePolicy.uses(2)], [RecyclePolicy.idle(5)]])
    }
    return [inOrder(visits), (commands) => {
      const one = traceOf(commands, poolOf({ ...settings, max: clients }))
      const many = traceOf(commands, poolOf({ ...settings, max: 1, pools: clients }))
      const ends = ({ visits }: Trace) =>
        new Map(Array.from(visits, ([id, { begins, ended }]) => [id, [begins, ended]]))
      return differs("who is served when, and how that ends", ends(one), ends(many))
    }]
  })

  // Invariant 16.
  law("one healthy idle item more, at any moment, makes nobody wait longer", 400, (rng) => {
    const max = 1 + rng.int(3)
    const slow = rng.chance(0.5)
    const settings: Settings = {
      order: rng.pick(orders),
      min: max,
      max,
      ...(slow ? { reset: () => Effect.sleep(3), closing: rng.pick([0, 4]) } : undefined)
    }
    // What follows a lease is the same for each visit, whatever item it had. One that leaves its wait has
    // none of that, and one that leaves its lease has: so where it takes time, nobody leaves.
    const commands = drawVisits(rng, 1, ["ok", "fail", "invalidate"])
      .filter((command) => !slow || command.do === "visit")
    const more: Command = { do: "resize", at: rng.int(70) + 1 / 128, max: max + 1 }
    return [commands, (commands) => {
      const before = begins(traceOf(commands, poolOf(settings)))
      const after = begins(traceOf(inOrder([...commands, more]), poolOf(settings)))
      for (const [id, at] of before) {
        const then = after.get(id)
        if (then === undefined || then > at) return `visit ${id} is served at ${then}, and without it at ${at}`
      }
      return undefined
    }]
  })

  // Invariant 16.
  law("one item for c borrowers at once is a semaphore of c permits", 400, (rng) => {
    const concurrency = 1 + rng.int(4)
    const settings: Settings = {
      max: 1,
      min: rng.int(2),
      concurrency,
      order: rng.pick(orders),
      // Whoever asks for one alone, or for a reset, asks for more than a semaphore has.
      recycle: rng.pick([[], [RecyclePolicy.uses(Infinity)], [RecyclePolicy.when(() => false)]])
    }
    return [drawVisits(rng, 1, ["ok", "fail", "die"], 0.2), (commands) => {
      const pool = traceOf(commands, poolOf(settings))
      const semaphore = traceOf(commands, semaphoreOf(concurrency))
      return differs("who is served when, and how that ends", pool.visits, semaphore.visits)
    }]
  })

  // Invariant 13.
  law("those who give up their wait leave the others as if they had never come", 400, (rng) => {
    const max = 1 + rng.int(3)
    const settings: Settings = {
      min: max,
      max,
      order: rng.pick(orders),
      concurrency: rng.pick([1, 1, 2]),
      opening: rng.pick([0, 2, 9]),
      closing: rng.pick([0, 3]),
      ...(rng.chance(0.4) ? { reset: () => Effect.sleep(2) } : undefined),
      ...(rng.chance(0.3) ? { onBorrow: () => Effect.void } : undefined),
      // None on time: items that end unused are refilled with a delay that a waiter cuts short.
      recycle: rng.pick([
        [],
        [RecyclePolicy.failed],
        [RecyclePolicy.uses(3)],
        [RecyclePolicy.interrupted]
      ])
    }
    return [drawVisits(rng, 1, ["ok", "ok", "fail", "die", "invalidate"], 0.3), (commands) => {
      const all = traceOf(commands, poolOf(settings))
      let cuts = 0
      const without = commands.flatMap((command): ReadonlyArray<Command> => {
        if (command.do === "visit" || command.do === "leave") return all.visits.has(command.id) ? [command] : []
        if (command.do !== "cut") return [command]
        // The waiter of the two never had an item; the other is interrupted all the same.
        const id = all.cuts[cuts++]
        return id === undefined ? [] : [{ do: "leave", at: command.at, id }]
      })
      const fewer = traceOf(without, poolOf(settings))
      return differs("who is served when, with what, and how that ends", all.visits, fewer.visits) ??
        differs("what became of the items", totals(all), totals(fewer))
    }]
  })

  // Invariant 12.
  law("a change of the wall clock changes nothing, to the last event", 200, (rng) => {
    const failing = rng.pick([0, 3, 5])
    const max = 1 + rng.int(4)
    const settings: Settings = {
      min: rng.int(max + 1),
      max,
      order: rng.pick(orders),
      concurrency: 1 + rng.int(2),
      borrowTimeout: rng.pick([10, 40, "Infinity"] as const),
      opening: rng.pick([0, 3]),
      closing: rng.pick([0, 7]),
      openTimeout: rng.pick([2, 1000]),
      closeTimeout: rng.pick([5, 1000]),
      check: () => Effect.sleep(1),
      checkAfter: rng.pick([0, 8]),
      ...(rng.chance(0.5) ? { reset: () => Effect.sleep(1) } : undefined),
      ...(rng.chance(0.5) ? { retry: Schedule.jittered(Schedule.exponential(4)) } : undefined),
      ...(rng.chance(0.5) ? { maxLease: 12, leaseWarning: 6 } : undefined),
      replaceTimeout: rng.pick([0, 5]),
      sweep: rng.pick([7, Schedule.fixed(11), Schedule.jittered(Schedule.spaced(9))]),
      fails: (open) => failing > 0 && open % failing === 0,
      recycle: [
        RecyclePolicy.age(30, { jitter: 0.4 }),
        RecyclePolicy.idle(15),
        RecyclePolicy.schedule(Schedule.during(22)),
        RecyclePolicy.after(Schedule.jittered(Schedule.spaced(26))),
        RecyclePolicy.when(({ uses }) => uses === 5),
        RecyclePolicy.check(() => Effect.succeed(false))
      ]
    }
    const commands = [...drawVisits(rng, 1, ["ok", "fail", "die", "invalidate"])]
    for (let left = rng.int(6); left > 0; left--) {
      const at = rng.int(80) + 1 / 256
      const what = rng.pick(["clear", "sweep", "suspend", "resume", "resize"])
      commands.push(what === "resize" ? { do: what, at, max: 1 + rng.int(4) } : { do: what, at })
    }
    const hour = 3_600_000
    const jumps = Array.from({ length: 1 + rng.int(5) }, (): Command => ({
      do: "jump",
      at: rng.int(80) + 1 / 512,
      by: rng.pick([hour, -hour, 1, -1, 1e12, -1e12, 0])
    }))
    return [inOrder([...commands, ...jumps]), (commands) => {
      const still = traceOf(commands.filter((command) => command.do !== "jump"), poolOf(settings), 400)
      const jumping = traceOf(commands, poolOf(settings), 400)
      return differs("who is served when", still.visits, jumping.visits) ??
        differs("the events", still.report, jumping.report)
    }]
  })
})
