/** What lending costs in turns of the event loop, counted on one of our own. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Exit, Fiber, Scheduler, Scope } from "effect"
import { QueuePool } from "effect-queuepool"

/** As Node's: what is scheduled within a turn runs in the next. */
class Loop {
  turns = 0
  tasks = 0
  private next: Array<() => void> = []
  readonly scheduler = new Scheduler.MixedScheduler("async", (task) => {
    let cancelled = false
    this.next.push(() => {
      if (cancelled) return
      this.tasks++
      task()
    })
    return () => {
      cancelled = true
    }
  })

  fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(Context.empty())(effect, { scheduler: this.scheduler })
  }

  run<A, E>(effect: Effect.Effect<A, E>): A {
    const fiber = this.fork(effect)
    while (this.next.length > 0) {
      this.turns++
      for (const task of this.next.splice(0)) task()
    }
    const exit = fiber.pollUnsafe()
    if (exit === undefined || Exit.isFailure(exit)) throw new Error(String(exit))
    return exit.value
  }
}

/** Each reading is so much later than the one before. */
const steady = (millis: number): Clock.Clock => {
  let now = 0
  const wall = () => now += millis
  const nanos = () => BigInt(Math.round(wall() * 1e6))
  return {
    currentTimeMillisUnsafe: wall,
    currentTimeMillis: Effect.sync(wall),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: () => Effect.never
  }
}

/** What so many borrowers cost, each so often, on so many items, who each yield so often. */
const bill = (borrowers: number, each: number, items: number, yields: number, millis: number) => {
  const loop = new Loop()
  const scope = Scope.makeUnsafe()
  const make = QueuePool.make({ acquire: Effect.succeed("item"), min: items, max: items, warm: "eager" })
  const pool = loop.run(Effect.provideService(Scope.provide(make, scope), Clock.Clock, steady(millis)))
  const lease = pool.use(() => Effect.replicateEffect(Effect.yieldNow, yields))
  const before = { tasks: loop.tasks, turns: loop.turns }
  loop.run(Effect.all(
    Array.from({ length: borrowers }, () => Effect.replicateEffect(lease, each)),
    { concurrency: "unbounded", discard: true }
  ))
  const { tasks, turns } = loop
  loop.run(Scope.close(scope, Exit.void))
  return { tasks: tasks - before.tasks, turns: turns - before.turns }
}

describe("turns of the event loop", () => {
  for (const [how, millis] of [["at a run", 0.001], ["slowly", 1]] as const) {
    it(`are one for each time that all items change hands ${how}, where borrowers only yield`, () => {
      const changes = 100 * 20 / 10
      const { turns } = bill(100, 20, 10, 1, millis)
      assert.isAtLeast(turns, changes)
      assert.isAtMost(turns, changes + 10)
    })
  }

  it("have one task for each yield and one for each wake, where borrowers take longer", () => {
    const leases = 20 * 20
    const { tasks, turns } = bill(20, 20, 1, 3, 1)
    assert.isAtMost(turns, 4 * leases)
    assert.isAtLeast(tasks, 4 * leases - 1)
    // Some that came in vain.
    assert.isAtMost(tasks, 4 * leases + 20)
  })
})
