/** The model's look into a map of pools and its permits, after each task. */
import type { Permits } from "../../src/internal/permits.ts"
import type { Seat } from "../../src/internal/seat.ts"
import type { KeyedBorrowers, Things } from "./keyedModelBorrowers.ts"
import type { KeyPlan } from "./keyedModelPlan.ts"
import type { KeyedSource, Thing } from "./keyedModelSource.ts"
import { Fairness } from "./modelFairness.ts"
import { type Inside, viewOf } from "./modelInside.ts"
import type { World } from "./world.ts"

/** The insides that are looked into. */
export interface Entry {
  readonly key: unknown
  readonly pool: Inside
}

/** For whom a pool would open more if it could. */
export const needOf = (state: object) =>
  (state as { readonly serving: { readonly need: { readonly opens: number; readonly urgent: boolean } | undefined } })
    .serving.need

interface Pools {
  readonly entries: { readonly size: number; get(key: unknown): Entry | undefined } & Iterable<Entry>
}

/** A pool of a key, for as long as the map has it. */
export interface Watched {
  readonly key: number
  readonly state: Inside["state"]
  readonly pool: Inside
  readonly seats: ReadonlyArray<Seat>
  readonly fairness: Fairness
  /** As many as it may have had since `max` was made smaller. */
  most: number
}

/** What the checks look at. */
export interface KeyedContext {
  readonly map: Things
  readonly plans: ReadonlyArray<KeyPlan>
  /** How long each key may be unused. */
  readonly times: ReadonlyArray<number>
  readonly world: World
  readonly source: KeyedSource
  readonly borrowers: KeyedBorrowers
  /** Fibers yield nowhere: what is lent is had at once. */
  readonly strict: boolean
  readonly name: (key: number) => unknown
  readonly keyOf: (name: unknown) => number
  /** How many have the pool of a key. */
  readonly pins: (key: number) => number
}

interface Recycling {
  recycle(item: { readonly value: Thing }, reason: string, now: number): void
}

export class KeyedInside {
  readonly watched = new Map<Entry, Watched>()
  readonly total: Permits
  private readonly budgets: ReadonlyArray<Permits>
  private readonly most: Array<number>
  private readonly pools: Pools
  private readonly plans: ReadonlyArray<KeyPlan>
  private readonly times: ReadonlyArray<number>
  private readonly world: World
  private readonly source: KeyedSource
  private readonly borrowers: KeyedBorrowers
  private readonly strict: boolean
  private readonly keyOf: (name: unknown) => number
  private readonly pins: (key: number) => number
  /** Those that borrowers waited for after the last task, and what each had been granted. */
  private urgent: ReadonlyArray<Seat> = []
  private granted = new Map<Seat, { readonly granted: number; readonly share: number; readonly turn: number }>()

  constructor(
    { borrowers, keyOf, map, pins, plans, source, strict, times, world }: KeyedContext,
    outer: Permits | undefined
  ) {
    const parts = map as unknown as { readonly pools: Pools; readonly total: Permits }
    this.pools = parts.pools
    this.total = parts.total
    this.budgets = outer === undefined ? [parts.total] : [outer, parts.total]
    this.most = this.budgets.map(({ total }) => total)
    this.plans = plans
    this.times = times
    this.world = world
    this.source = source
    this.borrowers = borrowers
    this.strict = strict
    this.keyOf = keyOf
    this.pins = pins
  }

  /** How many items there may be. */
  get limit(): number {
    return Math.min(...this.budgets.map(({ total }) => total))
  }

  find(key: number): Watched | undefined {
    for (const one of this.watched.values()) if (one.key === key) return one
    return undefined
  }

  private look(): void {
    for (const entry of this.pools.entries) {
      if (this.watched.has(entry)) continue
      const { pool } = entry
      const { state } = pool
      const key = this.keyOf(entry.key)
      const { seats } = state.budget as unknown as { readonly seats: ReadonlyArray<Seat> }
      if (this.find(key) !== undefined) this.world.fail("two pools", `of key ${key}`)
      this.watched.set(entry, { key, state, pool, seats, fairness: new Fairness(), most: state.settings.max })
      this.borrowers.usedAt[key] = this.borrowers.endedAt[key] = this.world.now
      this.listen(key, state.ending as unknown as Recycling)
    }
    if (this.watched.size === this.pools.entries.size) return
    const there = new Set(this.pools.entries)
    for (const [entry, { key, seats, state }] of this.watched) {
      if (there.has(entry)) continue
      this.watched.delete(entry)
      const left = seats.some(({ coming, granted, held, reserves, slot }) =>
        coming + granted + held > 0 || reserves || slot >= 0
      )
      if (left) this.world.fail("forgotten", `key ${key} holds permits still`)
      if (state.live + state.waiters.size > 0) this.world.fail("forgotten", `key ${key} has something still`)
    }
  }

  /** Hears why an item goes, when it does. */
  private listen(key: number, ending: Recycling): void {
    const recycle = ending.recycle.bind(ending)
    ending.recycle = (item, reason, now) => {
      if (this.source.shutAt === Infinity) this.goes(key, item.value, reason)
      recycle(item, reason, now)
    }
  }

  private goes(key: number, thing: Thing, reason: string): void {
    const { borrowers, plans, source, world } = this
    const { now } = world
    const waiting = plans.map((_, each) => borrowers.waiting(each))
    // What has a permit may not have begun to open yet.
    const over = Math.max(0, Math.max(source.count(), ...this.budgets.map(({ used }) => used)) - this.limit)
    const lacking = waiting.reduce((sum, each) => sum + each, over)
    if (reason === "key unused") this.goesUnused(key, thing)
    // One that is shared goes when the last who has it lets go, whoever is short then.
    if (reason === "over share" && plans[key]!.concurrency === 1 && lacking - waiting[key]! <= 0) {
      world.fail("over share", `item ${thing.number} of key ${key}, and no other is short`)
    }
    if (reason !== "reclaimed") return
    // What closes for long is not counted on.
    const coming =
      Array.from(source.present).filter(({ goesSince, until }) =>
        goesSince > now - 1000 && goesSince <= now && until > now
      ).length
    if (lacking <= coming) {
      world.fail("reclaimed in vain", `item ${thing.number} of key ${key}: ${lacking} lack, ${coming} come`)
    }
    const { idle, lent, settings } = this.find(key)!.state
    const atMin = idle.size + lent < settings.min
    for (const { idleSince, key: other, number } of this.strict ? source.present : []) {
      const watched = this.find(other)
      if ((!atMin && !(idleSince < thing.idleSince)) || (watched?.state.settings.min ?? 1) > 0) continue
      const better = Array.from(watched!.state.items).find(({ value }) => (value as Thing).number === number)
      // What a sweep looks at meanwhile may be colder.
      if (better?.status !== "idle" || !better.linked || better.value === thing) continue
      world.fail(
        "reclaimed warm",
        `item ${thing.number}, and ${number} is colder, or its pool has more than it is to keep`
      )
    }
  }

  /** An item whose key was in use goes, or will when it comes back. */
  private goesUnused(key: number, { idleSince, uses }: Thing): void {
    const { borrowers, plans, world } = this
    // What was opened or reset meanwhile goes when that is done, whoever asks then.
    const meanwhile = idleSince === world.now && (uses === 0 || plans[key]!.reset)
    if (meanwhile) return
    const since = borrowers.endedAt[key]!
    if (world.now < since + this.times[key]!) world.fail("unused too early", `key ${key}, last used at ${since}`)
    if (this.pins(key) > 0) world.fail("unused too early", `somebody has the pool of key ${key}`)
  }

  /** After every task, whoever's. */
  check(): void {
    const { source, world } = this
    this.look()
    for (const [i, permits] of this.budgets.entries()) this.checkBooks(permits, i)
    if (this.budgets.length === 1) this.checkGrants()
    const shut = source.shutAt < Infinity
    const count = source.count()
    for (const [i, { total, used }] of this.budgets.entries()) {
      // What has a permit may not have begun to open yet.
      this.most[i] = Math.max(total, Math.min(this.most[i]!, Math.max(count, used)))
      if (count > this.most[i]) world.fail("total", `${count} items of ${total}`)
    }
    for (const one of this.watched.values()) {
      const { fairness, key, pool, state } = one
      const mine = source.count(key)
      one.most = Math.max(state.settings.max, Math.min(one.most, Math.max(mine, state.live)))
      if (mine > one.most) world.fail("max", `${mine} items of key ${key}, max is ${state.settings.max}`)
      if (!shut) fairness.check(viewOf(pool), world, (fiber) => fiber)
    }
  }

  /** What nobody waits for is not opened before what a borrower waits for. */
  private checkGrants(): void {
    const seats = Array.from(this.watched.values()).flatMap(({ seats }) => seats)
    const urgent = seats.filter((seat) => seat.slot >= 0 && seat.urgent)
    const passed = urgent.find((seat) => this.urgent.includes(seat))
    const { fairness } = this.total
    for (const seat of seats) {
      const before = this.granted.get(seat)
      const more = seat.granted - (before?.granted ?? 0)
      if (more <= 0 || passed === undefined) continue
      if (!seat.urgent) this.world.fail("ahead of a borrower", "a permit is granted to a pool in which nobody waits")
      for (const other of urgent) {
        const was = this.granted.get(other)
        if (other === seat || !this.urgent.includes(other) || was?.turn !== other.turn || was.share !== other.share) {
          continue
        }
        const unfair = fairness === "arrival"
          ? more === 1 && before !== undefined && this.urgent.includes(seat) && other.turn < before.turn
          : other.share < seat.share - 1
        if (unfair) this.world.fail("unfair", `a permit goes to one with ${seat.share}, and another has ${other.share}`)
      }
    }
    this.urgent = urgent
    this.granted = new Map(seats.map((seat) => [seat, { granted: seat.granted, share: seat.share, turn: seat.turn }]))
  }

  private checkBooks(permits: Permits, which: number): void {
    const { coming, demand, free, reserved, used } = permits
    const sums = { used: 0, coming: 0, demand: 0, reserved: 0 }
    let waits = false
    for (const { seats } of this.watched.values()) {
      for (const seat of seats) {
        if (seat.permits !== permits) continue
        sums.used += seat.granted + seat.held
        sums.coming += seat.coming
        if (seat.slot >= 0 && seat.urgent) sums.demand += seat.need
        if (seat.reserves) sums.reserved++
        if (seat.slot >= 0 && (seat.urgent || reserved === 0)) waits = true
      }
    }
    if (used !== sums.used || coming !== sums.coming || demand !== sums.demand || reserved !== sums.reserved) {
      this.world.fail("conservation", `budget ${which} has ${JSON.stringify({ used, coming, demand, reserved, sums })}`)
    }
    if (free > 0 && waits) this.world.fail("lost permit", `budget ${which} has ${free} free and somebody is parked`)
  }

  /** At the end. */
  checkLeft(): void {
    const { plans, world } = this
    for (const [i, permits] of this.budgets.entries()) {
      const { coming, demand, reserved, used } = permits
      if (coming + demand + reserved + used !== 0) {
        world.fail("leak", `budget ${i} is left with ${JSON.stringify({ coming, demand, reserved, used })}`)
      }
      const { colds, parked } = permits as unknown as {
        readonly colds: { readonly coldest: unknown }
        readonly parked: { readonly size: number }
      }
      if (colds.coldest !== undefined || parked.size > 0) world.fail("leak", `budget ${i} knows what is gone`)
    }
    if (this.watched.size > 0) world.fail("leak", `${this.watched.size} of ${plans.length} keys are not forgotten`)
  }
}
