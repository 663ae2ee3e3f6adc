/** Random timetables of visits to a pool, or to what should do the same, and what came of each. */
import { Effect, Exit, type Fiber, Scope } from "effect"
import { Rng } from "./random.ts"
import { World } from "./world.ts"

/** How a visit ends by itself. */
export type End = "ok" | "fail" | "die" | "invalidate"

export type Command =
  /** Comes, and holds for so long what it gets. */
  | {
    readonly do: "visit"
    readonly at: number
    readonly id: number
    readonly client: number
    readonly holds: number
    readonly end: End
  }
  /** Is interrupted, wherever it is. */
  | { readonly do: "leave"; readonly at: number; readonly id: number }
  /**
   * The first who has an item and the first who waits for one are interrupted in one step: what the one gives
   * back has just been given to the other.
   */
  | { readonly do: "cut"; readonly at: number }
  | { readonly do: "clear" | "sweep" | "suspend" | "resume"; readonly at: number }
  | { readonly do: "resize"; readonly at: number; readonly max: number }
  /** The wall clock is set. */
  | { readonly do: "jump"; readonly at: number; readonly by: number }

export type Visit = Extract<Command, { readonly do: "visit" }>
type Control = Extract<Command, { readonly do: "clear" | "sweep" | "suspend" | "resume" | "resize" }>

/** What is visited. */
export interface Place {
  /** Runs what a visit does, with the number of the item and with what invalidates it. */
  readonly use: (
    visit: Visit,
    body: (item: number, invalidate: Effect.Effect<void>) => Effect.Effect<void, unknown>
  ) => Effect.Effect<void, unknown>
  readonly control: (command: Control) => Effect.Effect<unknown, unknown>
  /** What else can be compared when all is over. */
  readonly report: () => unknown
}

export interface Seen {
  readonly begins: number
  readonly item: number
  ended: string
}

export interface Trace {
  /** Of those that were served, by their ids. */
  readonly visits: ReadonlyMap<number, Seen>
  /** Who had an item at each cut, in their order. */
  readonly cuts: ReadonlyArray<number | undefined>
  readonly report: unknown
}

/** When a visit comes: no two of them in one moment. */
const moment = (rng: Rng, id: number) => rng.int(60) + id / 32

/** Up to twenty visits of so many clients; some leave before they are done. */
export const drawVisits = (
  rng: Rng,
  clients: number,
  ends: ReadonlyArray<End>,
  cuts = 0
): ReadonlyArray<Command> => {
  const commands: Array<Command> = []
  const count = 4 + rng.int(16)
  for (let id = 0; id < count; id++) {
    const at = moment(rng, id)
    commands.push({ do: "visit", at, id, client: rng.int(clients), holds: 1 + rng.int(20), end: rng.pick(ends) })
    if (rng.chance(0.25)) commands.push({ do: "leave", at: at + rng.int(30) + 1 / 64, id })
    if (rng.chance(cuts)) commands.push({ do: "cut", at: at + rng.int(10) + 1 / 128 })
  }
  return inOrder(commands)
}

export const inOrder = (commands: ReadonlyArray<Command>): ReadonlyArray<Command> =>
  commands.toSorted((a, b) => a.at - b.at)

const boom = new Error("boom")

const bodyOf = (visit: Visit, invalidate: Effect.Effect<void>): Effect.Effect<void, unknown> =>
  Effect.andThen(
    Effect.sleep(visit.holds),
    { ok: Effect.void, fail: Effect.fail("no"), die: Effect.die(boom), invalidate }[visit.end]
  )

/**
 * Runs a timetable in a world of its own, and looks at what has come of it `until` then: both runs of a law
 * in the same moment, when all visits are long over.
 */
export const traceOf = (
  commands: ReadonlyArray<Command>,
  make: Effect.Effect<Place, unknown, Scope.Scope>,
  until = 1200
): Trace => {
  const world = new World(new Rng(1), "fifo", 2048)
  const scope = Scope.makeUnsafe()
  const making = world.fork(Scope.provide(make, scope))
  // What is opened ahead has the time for it.
  world.advance(100)
  const made = making.pollUnsafe()
  if (made === undefined || Exit.isFailure(made)) throw new Error(`no place: ${JSON.stringify(made)}`)
  const place = made.value
  const start = world.now
  const visits = new Map<number, Seen>()
  const fibers = new Map<number, Fiber.Fiber<unknown, unknown>>()
  const cuts: Array<number | undefined> = []

  const visit = (one: Visit) => {
    const fiber = world.fork(place.use(one, (item, invalidate) => {
      visits.set(one.id, { begins: world.now - start, item, ended: "" })
      return bodyOf(one, invalidate)
    }))
    fibers.set(one.id, fiber)
    fiber.addObserver((exit) => {
      const seen = visits.get(one.id)
      if (seen !== undefined) seen.ended = `${exit._tag} at ${world.now - start}`
    })
  }
  const obey = (command: Command): void => {
    switch (command.do) {
      case "visit":
        return visit(command)
      case "leave":
        return fibers.get(command.id)?.interruptUnsafe()
      case "cut": {
        const running = Array.from(fibers).filter(([, fiber]) => fiber.pollUnsafe() === undefined)
        const holder = running.find(([id]) => visits.has(id))
        const waiter = running.find(([id]) => !visits.has(id))
        cuts.push(holder?.[0])
        holder?.[1].interruptUnsafe()
        return waiter?.[1].interruptUnsafe()
      }
      case "jump":
        world.wallShift = command.by
        return
      default:
        world.fork(Effect.exit(place.control(command)))
    }
  }
  for (const command of commands) {
    world.advance(start + command.at - world.now)
    obey(command)
    world.settle()
  }
  world.advance(start + until / 2 - world.now)
  world.fork(Effect.exit(place.control({ do: "resume", at: 0 })))
  world.advance(start + until - world.now)
  const report = place.report()
  world.fork(Scope.close(scope, Exit.void))
  world.advance(60_000)
  if (world.violation !== undefined) throw world.violation
  if (world.fibers > 0 || world.sleeping > 0) throw new Error(`${world.fibers} fibers, ${world.sleeping} timers left`)
  return { visits, cuts, report }
}

/**
 * Takes commands away for as long as what is left still fails. A law is broken when it says how; one that
 * throws is broken too.
 */
export const smallest = (
  commands: ReadonlyArray<Command>,
  law: (commands: ReadonlyArray<Command>) => string | undefined
): { readonly commands: ReadonlyArray<Command>; readonly broken: string } | undefined => {
  const ask = (some: ReadonlyArray<Command>) => {
    try {
      return law(some)
    } catch (error) {
      return String(error)
    }
  }
  let broken = ask(commands)
  if (broken === undefined) return undefined
  let best = commands
  for (let size = best.length >> 1; size >= 1; size >>= 1) {
    for (let at = 0; at < best.length;) {
      const less = best.toSpliced(at, size)
      const still = ask(less)
      if (still === undefined) at += size
      else [best, broken] = [less, still]
    }
  }
  return { commands: best, broken }
}
