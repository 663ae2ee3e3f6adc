/** What must hold of a map of pools when all that is ready has run. */
import { Effect, Option } from "effect"
import { keepsAmiss } from "./keptPermits.ts"
import { type KeyedContext, type KeyedInside, needOf, type Watched } from "./keyedModelInside.ts"

export class KeyedRest {
  private readonly context: KeyedContext
  private readonly inside: KeyedInside
  private rests = 0

  constructor(context: KeyedContext, inside: KeyedInside) {
    this.context = context
    this.inside = inside
  }

  check(): void {
    const { borrowers, plans, source, world } = this.context
    source.settle()
    for (const [key, { borrowTimeout }] of plans.entries()) {
      for (const { number, over, served, since, waits } of borrowers.byKey[key]!) {
        if (over || served) continue
        if (!waits || world.now > since + borrowTimeout + 1 || source.shutAt < Infinity) {
          world.fail("late", `borrower ${number} of key ${key} waits since ${since}`)
        }
      }
    }
    if (source.shutAt < Infinity) return
    for (const key of plans.keys()) this.checkKey(key, this.inside.find(key))
    this.checkWork()
    // They are dear.
    if (this.rests++ % 6 === 0) this.checkStats()
  }

  private checkKey(key: number, watched: Watched | undefined): void {
    const { borrowers, pins, plans, source, times, world } = this.context
    const plan = plans[key]!
    const idle = source.of(key, (thing) => thing.idle)
    const used = borrowers.waiting(key) + borrowers.leases(key) + pins(key)
    if (used > 0) borrowers.usedAt[key] = world.now
    const has = used + source.count(key) > 0
    if (has !== (watched !== undefined)) {
      world.fail("keys", `the map has ${has ? "nothing" : "something"} of key ${key}`)
    }
    if (watched === undefined) return
    const { live, settings, suspended } = watched.state
    if (live !== source.count(key)) world.fail("live", `${live} of key ${key}, the source has ${source.count(key)}`)
    if (idle.length > 0 && borrowers.waiting(key) > 0 && !suspended) {
      world.fail("idle", `of key ${key}, for which somebody waits`)
    }
    if (idle.length > 0 && world.now > borrowers.usedAt[key]! + times[key]! + 1) {
      world.fail("unused", `key ${key} since ${borrowers.usedAt[key]}, and has idle items`)
    }
    const kept = source.of(key, ({ delivered, state }) => state === "open" && delivered).length
    for (const { banned, goesBy, idleSince, number } of idle) {
      if (banned !== undefined) world.fail("kept", `item ${number} of key ${key}: ${banned}`)
      if (world.now > goesBy + 1) world.fail("kept", `item ${number} of key ${key} was to go by ${goesBy}`)
      if (plan.idle > 0 && kept > settings.min && world.now > idleSince + plan.idle + 1) {
        world.fail("overdue", `item ${number} of key ${key} is idle since ${idleSince}`)
      }
    }
    const { opener } = watched.state
    if (needOf(watched.state) !== undefined && opener.mayRefill) {
      world.fail("min", `key ${key} needs what it could open`)
    }
    if (keepsAmiss(watched.seats)) world.fail("hoards", `key ${key} keeps what it was granted`)
  }

  /** Nobody waits for what is there or could be. */
  private checkWork(): void {
    const { inside } = this
    const { plans, source, world } = this.context
    let needed = 0
    for (const key of plans.keys()) {
      const need = this.need(key)
      needed += need
      if (need > 0 && source.count() < inside.limit) {
        world.fail("sleeps", `key ${key} needs ${need}, and permits are free`)
      }
    }
    const over = source.count() - inside.limit
    const short = needed + Math.max(0, over)
    if (short === 0) return
    const idle = Array.from(source.present).find((thing) => thing.idle)
    if (idle === undefined) return
    const several = Array.from(inside.watched.values()).some(({ seats }) => seats.length > 1)
    const { coming } = inside.total
    if (several ? coming === 0 : short > coming) {
      world.fail(
        "idle elsewhere",
        `${needed} needed, ${over} too many, ${coming} close, and item ${idle.number} of key ${idle.key} is idle`
      )
    }
    const closing = Array.from(source.present).filter(({ goesSince }) =>
      goesSince > world.now - 1000 && goesSince < Infinity
    )
    if (plans.every(({ concurrency }) => concurrency === 1) && coming !== closing.length) {
      world.fail("coming", `${coming} are counted on, and ${closing.length} are closing`)
    }
  }

  /** How many opens would start for those who wait of a key, had they permits. */
  private need(key: number): number {
    const watched = this.inside.find(key)
    if (watched === undefined || watched.state.suspended || !watched.state.outage.mayOpen) return 0
    const { borrowers, plans, source } = this.context
    const { concurrency, openConcurrency } = plans[key]!
    if (concurrency > 1) {
      const need = needOf(watched.state)
      return need?.urgent === true ? need.opens : 0
    }
    const openings = source.of(key, source.opening).length
    const room = Math.min(watched.state.settings.max - source.count(key), openConcurrency - openings)
    return Math.max(
      0,
      Math.min(borrowers.waiting(key) - openings, watched.state.outage.probing ? 1 - openings : room, room)
    )
  }

  private checkStats(): void {
    const { inside } = this
    const { borrowers, map, name, plans, source, world } = this.context
    const stats = Effect.runSync(map.stats)
    const { opened, closed, abandoned, openFailures } = stats
    const had = { opened, closed, abandoned, openFailures }
    const { failures, unopened, ...totals } = source.totals
    const ought = { ...totals, openFailures: failures }
    if (
      JSON.stringify(had) !==
        JSON.stringify({
          opened: ought.opened,
          closed: ought.closed,
          abandoned: ought.abandoned,
          openFailures: failures
        })
    ) {
      world.fail("stats", `${JSON.stringify(had)}, and the source has ${JSON.stringify(ought)}`)
    }
    const { closing, idle, opening, used } = stats
    const live = Array.from(source.present).filter(({ delivered }) => delivered).length
    if (opened !== closed + abandoned - unopened + live) world.fail("stats", "opened = closed + abandoned + live")
    if (idle + used + opening + closing !== source.count()) world.fail("stats", `${idle} ${used} ${opening} ${closing}`)
    let waiting = 0
    let leases = 0
    for (const key of plans.keys()) {
      waiting += borrowers.waiting(key)
      leases += borrowers.leases(key)
      const one = Effect.runSync(map.statsOf(name(key)))
      if (Option.isSome(one) !== (inside.find(key) !== undefined)) world.fail("stats", `of key ${key}`)
    }
    const { borrowed, keys, pending, returned, takenBack } = stats
    if (pending !== waiting) world.fail("stats", `${pending} wait, and it is ${waiting}`)
    if (stats.leases !== leases || borrowed - returned - takenBack !== leases || borrowed < borrowers.served) {
      world.fail("stats", `${stats.leases} leases, and it is ${leases}`)
    }
    if (keys !== inside.watched.size || Effect.runSync(map.keys).length !== keys) world.fail("stats", `${keys} keys`)
    if (stats.maxTotal !== inside.total.total) world.fail("stats", "maxTotal")
  }
}
