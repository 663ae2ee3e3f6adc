/**
 * What an outage costs, counted: opens, fibers, timers, tasks and operations of fibers are the
 * same on every machine. What can only be timed or weighed is in bench/outage.ts.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Pool, Schedule, Scope } from "effect"
import { type PoolError, QueuePool } from "effect-queuepool"
import { ending } from "./kit/books.ts"
import { Cost } from "./kit/cost.ts"
import { Rng } from "./kit/random.ts"
import { Refused } from "./kit/scripted.ts"
import { World } from "./kit/world.ts"

const openConcurrency = 4
const borrowTimeout = 10_000
const openTimeout = 2000

/** How every open goes. */
const outages = {
  "fail after 50 ms": Effect.andThen(Effect.sleep(50), Effect.fail(new Refused(0))),
  hang: Effect.never,
  "are refused at once": Effect.fail(new Refused(0))
} as const

type Outage = keyof typeof outages

interface Lending {
  use<B, E, R>(f: (item: unknown) => Effect.Effect<B, E, R>): Effect.Effect<B, unknown, R>
}

interface Bill {
  readonly attempts: number
  /** Opens under way at one time. */
  readonly opening: number
  /** Fibers and timers of the pool, in all and at one time. */
  readonly forks: number
  readonly fibers: number
  readonly armed: number
  readonly timers: number
  readonly tasks: number
  readonly operations: number
  /** The most borrowers that ended in one task, in which nobody else has a turn. */
  readonly together: number
  /** How many borrowers ended how. */
  readonly ends: Readonly<Record<string, number>>
}

/** So many ask for an item at one moment and wait for so long: what that costs. */
const bill = (
  waiters: number,
  outage: Outage,
  make: (acquire: Effect.Effect<unknown, Refused>) => Effect.Effect<Lending, unknown, Scope.Scope>,
  millis = borrowTimeout + 1
): Bill => {
  const world = new World(new Rng(1), "fifo", 2048)
  const cost = new Cost()
  const scope = Scope.makeUnsafe()
  let attempts = 0
  let now = 0
  let opening = 0
  const acquire = Effect.suspend(() => {
    attempts++
    opening = Math.max(opening, ++now)
    return Effect.ensuring(outages[outage], Effect.sync(() => void now--))
  })
  const making = world.fork(cost.around(Scope.provide(make(acquire), scope)))
  world.settle()
  const made = making.pollUnsafe()
  if (made === undefined || Exit.isFailure(made)) throw new Error("no pool")
  const borrow = cost.around(made.value.use(() => Effect.void))
  const fibers = Array.from({ length: waiters }, () => world.fork(borrow))
  let left = 0
  let together = 0
  for (const fiber of fibers) fiber.addObserver(() => void left++)
  world.afterTask = () => {
    together = Math.max(together, left)
    left = 0
  }
  world.advance(millis)
  const ends: Record<string, number> = {}
  for (const fiber of fibers) {
    const end = ending(fiber.pollUnsafe())
    ends[end] = (ends[end] ?? 0) + 1
  }
  const { armed, forks, peakFibers, peakTimers } = cost.watch
  world.fork(Scope.close(scope, Exit.void))
  world.advance(60_000)
  if (world.violation !== undefined) throw world.violation
  const { operations, tasks } = cost
  return { attempts, opening, forks, fibers: peakFibers, armed, timers: peakTimers, tasks, operations, together, ends }
}

const ours = (retry?: Schedule.Schedule<unknown>) => (acquire: Effect.Effect<unknown, Refused>) =>
  QueuePool.make({
    acquire,
    max: 10,
    borrowTimeout,
    openTimeout,
    openConcurrency,
    ...(retry === undefined ? {} : { retry })
  })

/** What is to be the same for a thousand and for ten thousand. */
const fixed = ({ armed, attempts, fibers, forks, opening, timers }: Bill) => ({
  armed,
  attempts,
  fibers,
  forks,
  opening,
  timers
})

/** What one more waiter costs, from the first thousand to the tenth. */
const perWaiter = (few: Bill, many: Bill, what: "tasks" | "operations" | "forks" | "armed" | "attempts") =>
  (many[what] - few[what]) / 9000

describe("B14: 10,000 who wait in an outage", () => {
  for (const outage of Object.keys(outages) as Array<Outage>) {
    it(`whose opens ${outage} and are tried again cost no more opens, fibers, timers and tasks than one`, () => {
      for (const [retry, steps] of [[Schedule.spaced(100), 100], [Schedule.exponential(100), 7]] as const) {
        const [one, few, many] = [
          bill(1, outage, ours(retry)),
          bill(1000, outage, ours(retry)),
          bill(10_000, outage, ours(retry))
        ]
        assert.deepStrictEqual([few.ends, many.ends], [{ BorrowTimeout: 1000 }, { BorrowTimeout: 10_000 }])
        // Those that were under way when the first failed, and one for each step.
        assert.isAtMost(many.attempts, openConcurrency + steps)
        assert.isAtMost(many.attempts, one.attempts + openConcurrency - 1)
        assert.isAtMost(many.opening, openConcurrency)
        // One open may begin and end three alarms, each of which may be the first to ring.
        assert.isAtMost(many.forks, 10 + 5 * many.attempts)
        assert.isAtMost(many.armed, 10 + 5 * many.attempts)
        assert.isAtMost(many.fibers, openConcurrency + 1)
        assert.isAtMost(many.timers, openConcurrency + 1)
        assert.isAtMost(many.tasks, 60 + 3 * many.attempts)
        for (const what of ["attempts", "forks", "armed"] as const) {
          assert.strictEqual(perWaiter(few, many, what), 0, what)
        }
        assert.isAtMost(perWaiter(few, many, "tasks"), 0.01)
        assert.isAtMost(many.together, 300)
        assert.isAtMost(perWaiter(few, many, "operations"), 12)
      }
    })
  }

  it("whose opens fail after 50 ms, each told to one of them, are opened for a few at a time", () => {
    const [few, many] = [bill(1000, "fail after 50 ms", ours()), bill(10_000, "fail after 50 ms", ours())]
    // Four every 50 ms for ten seconds. Those for whom none was in that time hear of the last.
    assert.deepStrictEqual(many.ends, { Refused: 796, BorrowTimeout: 9204 })
    assert.strictEqual(many.attempts, openConcurrency * borrowTimeout / 50)
    assert.deepStrictEqual(fixed(many), fixed(few))
    assert.isAtMost(many.together, 300)
    assert.isAtMost(many.opening, openConcurrency)
    assert.isAtMost(many.fibers, openConcurrency + 1)
    // An open sleeps, and so does the pool until the first deadline.
    assert.isAtMost(many.timers, openConcurrency + 1)
    assert.isAtMost(many.forks, many.attempts + 20)
    assert.isAtMost(many.tasks, 2 * many.attempts + 50)
    assert.isAtMost(perWaiter(few, many, "operations"), 12)
  })

  it("whose opens hang keep a few opens under way and no more", () => {
    const [few, many] = [bill(1000, "hang", ours()), bill(10_000, "hang", ours())]
    assert.deepStrictEqual(many.ends, { OpenTimeout: 16, BorrowTimeout: 9984 })
    assert.strictEqual(many.attempts, openConcurrency * borrowTimeout / openTimeout)
    assert.deepStrictEqual(fixed(many), fixed(few))
    assert.isAtMost(many.together, 300)
    assert.isAtMost(many.fibers, openConcurrency + 1)
    assert.strictEqual(many.timers, 1)
    assert.isAtMost(many.forks, 2 * many.attempts)
    assert.isAtMost(perWaiter(few, many, "operations"), 12)
  })

  it("whose opens are refused at once hear it one by one, in time with their number", () => {
    const [few, many] = [bill(1000, "are refused at once", ours()), bill(10_000, "are refused at once", ours())]
    assert.deepStrictEqual(many.ends, { Refused: 10_000 })
    // One open for each, in a fiber of its own, and nothing else.
    assert.strictEqual(many.attempts, 10_000)
    assert.isAtMost(many.forks, many.attempts + 10)
    assert.strictEqual(many.armed, few.armed)
    assert.isAtMost(many.fibers, openConcurrency + 1)
    assert.isAtMost(perWaiter(few, many, "tasks"), 1.25)
    assert.isAtMost(perWaiter(few, many, "operations"), 22)
  })

  it("who are all interrupted at once leave for the same, each", () => {
    const storm = (waiters: number) => {
      const world = new World(new Rng(1), "fifo", 2048)
      const cost = new Cost()
      const scope = Scope.makeUnsafe()
      const making = world.fork(cost.around(Scope.provide(ours()(Effect.never), scope)))
      world.settle()
      const pool =
        (making.pollUnsafe() as Exit.Success<QueuePool.QueuePool<unknown, Refused>, PoolError.PoolError>).value
      const fibers = Array.from({ length: waiters }, () => world.fork(cost.around(pool.use(() => Effect.void))))
      world.settle()
      const before = { forks: cost.watch.forks, operations: cost.operations, tasks: cost.tasks }
      for (const fiber of fibers) fiber.interruptUnsafe()
      world.settle()
      assert.isTrue(fibers.every((fiber) => ending(fiber.pollUnsafe()) === "interrupted"))
      return {
        forks: cost.watch.forks - before.forks,
        operations: cost.operations - before.operations,
        tasks: cost.tasks - before.tasks
      }
    }
    const [few, many] = [storm(1000), storm(10_000)]
    assert.deepStrictEqual({ ...many, operations: 0 }, { ...few, operations: 0 })
    assert.isAtMost((many.operations - few.operations) / 9000, 12)
  })
})

describe("what the bill would show", () => {
  it("effect's Pool forks for each that wakes, and each failure wakes all", () => {
    const theirs = (acquire: Effect.Effect<unknown, Refused>) =>
      Effect.map(Pool.makeWithTTL({ acquire, min: 0, max: 10, timeToLive: 60_000 }), (pool): Lending => ({
        use: (f) => Effect.scoped(Effect.flatMap(Pool.get(pool), f))
      }))
    const [few, many] = [bill(40, "fail after 50 ms", theirs, 1000), bill(80, "fail after 50 ms", theirs, 1000)]
    assert.deepStrictEqual([few.ends, many.ends], [{ Refused: 40 }, { Refused: 80 }])
    assert.isAbove(many.forks, 5 * many.attempts)
    // Twice as many, and more than three times the work.
    assert.isAbove(many.operations, 3 * few.operations)
  })
})
