/** One timetable for a pool that shares a budget with another, whatever becomes of the other. */
import { Effect, Exit, Scope } from "effect"
import { Capacity, QueuePool } from "effect-queuepool"
import type { Visit } from "./laws.ts"
import { Rng } from "./random.ts"
import { World } from "./world.ts"

interface Service {
  readonly begins: number
  readonly item: number
}

interface Settings {
  readonly max: number
  readonly permits: number
  readonly fairness: "share" | "arrival"
  /** How the opens of the other pool go. */
  readonly other: "works" | "hangs" | "fails" | "nobody asks"
}

/** Who of client 0 was served when, with which item; the others are clients of the other pool. */
export const serveBeside = (visits: ReadonlyArray<Visit>, settings: Settings): Map<number, Service> => {
  const { fairness, max, other, permits } = settings
  const world = new World(new Rng(1), "fifo", 2048)
  const scope = Scope.makeUnsafe()
  const now = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): A => {
    const fiber = world.fork(Scope.provide(effect, scope))
    world.settle()
    const exit = fiber.pollUnsafe()
    if (exit === undefined || Exit.isFailure(exit)) throw new Error("not made")
    return exit.value
  }
  const capacity = now(Capacity.make({ permits, fairness }))
  let opened = 0
  const works = Effect.acquireRelease(Effect.map(Effect.sleep(3), () => ++opened), () => Effect.sleep(2))
  const options = { max, capacity, borrowTimeout: 40, openTimeout: 15, drainTimeout: 0, openConcurrency: 10 }
  const acquires = {
    works: Effect.acquireRelease(Effect.as(Effect.sleep(3), 0), () => Effect.sleep(2)),
    hangs: Effect.never,
    fails: Effect.fail("down")
  }
  const pools = [
    now(QueuePool.make({ ...options, acquire: works })),
    now(
      QueuePool.make<number, string, Scope.Scope>({
        ...options,
        acquire: acquires[other === "nobody asks" ? "works" : other]
      })
    )
  ] as const
  const start = world.now
  const served = new Map<number, Service>()
  for (const visit of visits) {
    world.advance(start + visit.comes - world.now)
    if (visit.client !== 0 && other === "nobody asks") continue
    world.fork(pools[visit.client === 0 ? 0 : 1].use((item) => {
      if (visit.client === 0) served.set(visit.id, { begins: world.now - start, item })
      return Effect.sleep(visit.holds)
    }))
    world.settle()
  }
  world.advance(2000)
  world.fork(Scope.close(scope, Exit.void))
  world.advance(20_000)
  const [left] = now(capacity.stats)
  if (left!.used > 0 || world.sleeping > 0) throw new Error(`${left!.used} permits, ${world.sleeping} timers left`)
  return served
}
