/** What must not be left when all is over: sockets, timers, processes, fibers. */
import { Effect, Metric } from "effect"

type Counts = ReadonlyMap<string, number>

/** What keeps this process alive, by type: sockets, timers, child processes, and so on. */
const resources = (): Counts => {
  const counts = new Map<string, number>()
  for (const type of process.getActiveResourcesInfo()) counts.set(type, (counts.get(type) ?? 0) + 1)
  return counts
}

const more = (now: Counts, before: Counts): ReadonlyArray<string> =>
  [...now].flatMap(([type, count]) => {
    const was = before.get(type) ?? 0
    return count > was ? [`${count - was} ${type}`] : []
  })

/** A timer that runs this code counts as one still: so in a turn in which none does. */
const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** The fibers that live. */
class Fibers implements Metric.FiberRuntimeMetricsService {
  count = 0
  readonly recordFiberStart = () => void this.count++
  readonly recordFiberEnd = () => void this.count--
}

/** Runs an effect and tells what it has left behind: names, or nothing. */
export const leftBy = Effect.fnUntraced(function*<E, R>(effect: Effect.Effect<void, E, R>) {
  const fibers = new Fibers()
  yield* turn
  const before = resources()
  yield* Effect.provideService(effect, Metric.FiberRuntimeMetrics, fibers)
  // What the operating system has still to tell of sockets takes a turn or two.
  let left = more(resources(), before)
  for (let tries = 0; tries < 250 && left.length + fibers.count > 0; tries++) {
    yield* Effect.andThen(Effect.sleep(20), turn)
    left = more(resources(), before)
  }
  return fibers.count === 0 ? left : [...left, `${fibers.count} fibers`]
})
