/** Looks at the pool and at the server all the time, and notes what must not be. */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted, Stream } from "effect"
import type { QueuePool } from "effect-queuepool"
import { role } from "./setting.ts"
import type { World } from "./world.ts"

const live = ({ closing, idle, opening, used }: QueuePool.Stats): number => idle + used + opening + closing

/**
 * What holds of a pool's stats at each moment. `closing` counts also what is left of
 * opens that failed, and `abandoned` opens that never ended: so at work the books
 * agree within these, and at rest, where the events tell them apart, exactly.
 */
const laws = (stats: QueuePool.Stats): ReadonlyArray<string> => {
  const { abandoned, closed, closing, idle, openFailures, opened, pending, suspended, used } = stats
  const balance = opened - closed - abandoned
  const wrong: Array<string> = []
  if (Object.values(stats).some((value) => typeof value === "number" && value < 0)) wrong.push("a count is negative")
  if (balance > idle + used + closing) wrong.push("items are missing")
  if (balance < idle + used - Math.min(abandoned, openFailures)) wrong.push("there are more items than were opened")
  // A borrower whose item is being checked, and so counts as used, waits for that one.
  if (pending > used && idle > 0 && !suspended) wrong.push("borrowers wait beside idle items")
  return wrong
}

export class Watch {
  /** Looks at the pool, and at the server. */
  samples = 0
  answers = 0
  mostSessions = 0
  private abandoned = 0
  /** Of the items that were abandoned these had never been opened. */
  private abandonedOpens = 0
  private max = 0
  private below = false
  private readonly world: World

  constructor(world: World) {
    this.world = world
  }

  readonly stats = Effect.gen({ self: this }, function*() {
    const { notes, pool, setting } = this.world
    const stats = yield* pool.stats
    this.samples++
    this.abandoned = stats.abandoned
    for (const wrong of laws(stats)) notes.violate(`${wrong}: ${JSON.stringify(stats)}`)
    // A smaller `max` lets what is lent come back first; once below it, for good.
    if (stats.max !== this.max) this.below = false
    this.max = stats.max
    if (live(stats) <= stats.max) this.below = true
    else if (this.below || live(stats) > setting.max) notes.violate(`more items than max: ${JSON.stringify(stats)}`)
    return stats
  })

  /** When nobody is at work: opened = closed + abandoned + live. */
  readonly rest = Effect.gen({ self: this }, function*() {
    const { notes } = this.world
    const stats = yield* this.stats
    const { abandoned, borrowed, closed, opened, opening, pending, returned, takenBack } = stats
    if (opened - closed - (abandoned - this.abandonedOpens) !== live(stats) - opening) {
      notes.violate(`opened = closed + abandoned + live does not hold at rest: ${JSON.stringify(stats)}`)
    }
    if (pending > 0 || borrowed !== returned + takenBack) {
      notes.violate(`somebody still has an item, or waits for one: ${JSON.stringify(stats)}`)
    }
    return stats
  })

  readonly events = Effect.suspend(() => {
    const opened = new Set<number>()
    return Stream.runForEach(this.world.pool.events, (event) =>
      Effect.sync(() => {
        if (event._tag === "Opened") opened.add(event.item)
        else if (event._tag === "Closed" || event._tag === "CloseFailed") opened.delete(event.item)
        else if (event._tag === "Abandoned" && !opened.delete(event.item)) this.abandonedOpens++
        if (event._tag === "Abandoned") this.world.notes.log(`item ${event.item} is abandoned`)
      }))
  })

  /**
   * The sessions that the server sees, over a connection of our own that goes past the
   * proxy. Of these count those whose socket the pool still has: a process whose client
   * has gone, or that is stopped, ends when it comes to notice. A request to cancel is a
   * connection too, but no session: the server never shows one under a role.
   */
  readonly server = Effect.gen({ self: this }, function*() {
    const { pg } = this.world
    const admin = yield* PgConnection.make({ url: Redacted.make(pg.url), applicationName: "chaos-watch" })
    while (true) {
      const rows = yield* admin.queryValues("select pid from pg_stat_activity where usename = $1", [role])
      this.count(rows.map(([pid]) => Number(pid)))
      yield* Effect.sleep(50)
    }
  }).pipe(
    Effect.scoped,
    // Not while the server is away.
    Effect.ignore,
    Effect.andThen(Effect.sleep(100)),
    Effect.forever
  )

  private count(pids: ReadonlyArray<number>): void {
    const { notes, setting, sockets } = this.world
    const sessions = pids.filter(sockets.has).length
    this.answers++
    this.mostSessions = Math.max(this.mostSessions, sessions)
    if (sessions > setting.max + this.abandoned) {
      notes.violate(`the server sees ${sessions} sessions, max is ${setting.max}`)
    }
  }
}
