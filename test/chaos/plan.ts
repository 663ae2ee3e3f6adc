/**
 * The plan of a run: round by round one or two faults, or a fault while the owner of
 * the pool is at work on it; then all end, the pool has to recover, and there is calm
 * for a moment. Which, how long and how hard comes from the seed.
 */
import { Cause, Effect, Exit, Random } from "effect"
import { oneOf } from "./chance.ts"
import { type Fault, faults, longestFault, shortestFault } from "./faults.ts"
import { recoveryBound } from "./setting.ts"
import type { World } from "./world.ts"

interface Planned {
  readonly kind: string
  readonly fault: Fault
  readonly after: number
  readonly length: number
}

type Group = keyof typeof faults

const pick = (group: Group) =>
  Effect.gen(function*() {
    const [kind, fault] = yield* oneOf(Object.entries<Fault>(faults[group]))
    return {
      kind,
      fault,
      after: yield* Random.nextIntBetween(0, 300),
      length: yield* Random.nextIntBetween(shortestFault, longestFault)
    } satisfies Planned
  })

/** Drawn as a whole before any of it happens: what the run makes of it must not change what comes next. */
const round = Effect.gen(function*() {
  const groups = yield* Random.shuffle<Group>(["sessions", "network", "server"])
  const count = yield* Random.nextIntBetween(1, 2)
  const chosen = groups.slice(0, count)
  if (yield* Random.nextBoolean) chosen.push("pool")
  return {
    planned: yield* Effect.forEach(chosen, pick),
    // For what each fault draws itself.
    seed: yield* Random.nextIntBetween(0, 2 ** 31),
    calm: yield* Random.nextIntBetween(50, 800)
  }
})

const happen = (world: World, { after, fault, kind, length }: Planned, seed: string) =>
  Effect.gen(function*() {
    const { notes } = world
    yield* Effect.sleep(after)
    const exit = yield* Effect.exit(fault(world))
    notes.fault(kind)
    if (Exit.isFailure(exit)) {
      // A server that is away cannot be told anything.
      notes.log(`${kind}: did not begin: ${Cause.pretty(exit.cause).split("\n")[0]}`)
      if (Cause.hasDies(exit.cause)) notes.violate(`the fault ${kind} died: ${Cause.pretty(exit.cause)}`)
    } else {
      notes.log(`${kind}: ${exit.value}, for ${length}ms`)
      yield* Effect.sleep(length)
    }
  }).pipe(
    Effect.scoped,
    Effect.andThen(Effect.sync(() => world.notes.log(`${kind}: over`))),
    Effect.catchCause((cause) =>
      Effect.sync(() => world.notes.violate(`the fault ${kind} cannot be ended: ${Cause.pretty(cause)}`))
    ),
    Random.withSeed(seed)
  )

/** From now on nothing is wrong: a borrow and a select succeed in time. */
const recover = (world: World, after: string) =>
  Effect.gen(function*() {
    const { notes, pool, setting, stalls } = world
    const bound = recoveryBound(setting)
    const since = notes.now()
    const stalled = stalls.total
    const took = () => notes.now() - since - (stalls.total - stalled)
    while (!notes.failed) {
      const exit = yield* Effect.exit(Effect.timeout(pool.use((session) => session.query("select 1")), bound))
      if (took() > bound) return notes.violate(`no recovery after ${after} within ${bound}ms`)
      if (Exit.isSuccess(exit)) break
      notes.log(`probe: ${Cause.pretty(exit.cause).split("\n")[0]}`)
      yield* Effect.sleep(20)
    }
    notes.recovered(took(), after)
    notes.log(`recovered after ${Math.round(took())}ms`)
  })

export const run = (world: World, seconds: number) =>
  Effect.gen(function*() {
    const { notes } = world
    const end = notes.now() + seconds * 1000
    while (notes.now() < end && !notes.failed) {
      const { calm, planned, seed } = yield* round
      yield* Effect.forEach(planned, (one, index) => happen(world, one, `${seed}/${index}`), {
        concurrency: "unbounded",
        discard: true
      })
      yield* recover(world, planned.map(({ kind }) => kind).join(" and "))
      yield* Effect.sleep(calm)
    }
  })
