/** Laws that compare two runs of one timetable: who is served when, with which item. */
import { Effect, Exit, type Fiber, Scope } from "effect"
import { QueuePool } from "effect-queuepool"
import { Rng } from "./random.ts"
import { World } from "./world.ts"

/** A borrower: it comes, holds for so long what it gets, and may be interrupted. */
export interface Visit {
  readonly id: number
  readonly client: number
  readonly comes: number
  readonly holds: number
  readonly interrupted: number | undefined
}

export interface Service {
  readonly begins: number
  readonly item: number
}

interface Settings {
  readonly max: number
  readonly order: "lifo" | "fifo"
  readonly borrowTimeout?: number
  /** Items are opened before anyone comes. */
  readonly warm?: boolean
  /** How long an open takes. */
  readonly opening?: number
  /** At these times the wall clock jumps. */
  readonly jumps?: ReadonlyArray<number>
}

/** No two of them do anything in the same moment, unless one waited for the other. */
export const drawVisits = (rng: Rng, clients: number): ReadonlyArray<Visit> =>
  Array.from({ length: 4 + rng.int(16) }, (_, id) => ({
    id,
    client: rng.int(clients),
    comes: rng.int(60) + id / 32,
    holds: 1 + rng.int(20),
    interrupted: rng.chance(0.3) ? rng.int(40) + 1 / 64 : undefined
  })).sort((a, b) => a.comes - b.comes)

/** The same visit, never interrupted. */
export const patient = (visit: Visit, comes = visit.comes): Visit => ({ ...visit, comes, interrupted: undefined })

/** Who was served when; `pools` is how many pools there are, each for the clients of its number. */
export const serve = (visits: ReadonlyArray<Visit>, settings: Settings, pools = 1): Map<number, Service> => {
  const world = new World(new Rng(1), "fifo", 2048)
  const served = new Map<number, Service>()
  const scope = Scope.makeUnsafe()
  let opened = 0
  const made = Array.from({ length: pools }, () => {
    const making = world.fork(Scope.provide(
      QueuePool.make({
        acquire: Effect.acquireRelease(
          Effect.map(settings.opening === undefined ? Effect.void : Effect.sleep(settings.opening), () => ++opened),
          () => Effect.void
        ),
        max: settings.max,
        min: settings.warm === true ? settings.max : 0,
        order: settings.order,
        borrowTimeout: settings.borrowTimeout ?? "Infinity",
        openConcurrency: 10
      }),
      scope
    ))
    world.settle()
    const exit = making.pollUnsafe()
    if (exit === undefined || Exit.isFailure(exit)) throw new Error("no pool")
    return exit.value
  })
  const start = world.now
  const fibers = new Map<number, Fiber.Fiber<unknown, unknown>>()
  const events: Array<readonly [at: number, does: () => void]> = []
  for (const visit of visits) {
    events.push([visit.comes, () => {
      const body = (item: number) => {
        served.set(visit.id, { begins: world.now - start, item })
        return Effect.sleep(visit.holds)
      }
      fibers.set(visit.id, world.fork(made[visit.client % pools]!.use(body)))
    }])
    if (visit.interrupted !== undefined) {
      events.push([visit.comes + visit.interrupted, () => fibers.get(visit.id)!.interruptUnsafe()])
    }
  }
  for (const at of settings.jumps ?? []) {
    events.push([at, () => void (world.wallShift += at % 2 === 0 ? 3.6e6 : -3.6e6)])
  }
  events.sort(([a], [b]) => a - b)
  for (const [at, does] of events) {
    world.advance(start + at - world.now)
    does()
    world.settle()
  }
  world.advance(2000)
  world.fork(Scope.close(scope, Exit.void))
  world.advance(2000)
  if (world.fibers > 0 || world.sleeping > 0) throw new Error(`${world.fibers} fibers, ${world.sleeping} timers left`)
  return served
}

/** A warm pool without rules, as a queue before so many counters: the whole truth about who begins when. */
export const expected = (
  visits: ReadonlyArray<Visit>,
  counters: number,
  borrowTimeout: number
): Map<number, number> => {
  const begins = new Map<number, number>()
  const free = new Array<number>(counters).fill(0)
  for (const visit of visits) {
    const first = free.indexOf(Math.min(...free))
    const at = Math.max(visit.comes, free[first]!)
    const cut = visit.comes + (visit.interrupted ?? Infinity)
    // Whoever leaves, or is out of time, before its turn takes nobody's.
    if (at > visit.comes && (cut <= at || visit.comes + borrowTimeout <= at)) continue
    begins.set(visit.id, at)
    free[first] = Math.min(at + visit.holds, cut)
  }
  return begins
}
