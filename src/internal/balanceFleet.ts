// All endpoints of one choice, by priority, and which of them serve now. No Effect in it.
import * as MutableHashMap from "effect/MutableHashMap"
import * as Option from "effect/Option"
import type { Chooser, Tried } from "./balanceChoice.ts"
import { Endpoint, type Pace } from "./balanceEndpoint.ts"

/** An endpoint as it is given. */
export interface Given<K> {
  readonly key: K
  readonly label: string
  readonly priority: number
  readonly weight: number
}

/** The endpoints of one priority. */
class Tier<K> {
  readonly priority: number
  readonly chooser: Chooser<K>
  readonly members: Array<Endpoint<K>> = []
  /** Those that are not ejected, or all, when too few are not. */
  serving: ReadonlyArray<Endpoint<K>> = []
  /** When the first of the ejected may be probed. */
  due = Infinity

  constructor(priority: number, chooser: Chooser<K>) {
    this.priority = priority
    this.chooser = chooser
  }

  settle(panics: boolean): void {
    this.serving = panics ? this.members.slice() : this.members.filter(({ ejected }) => !ejected)
    this.chooser.changed(this.serving)
    this.due = Infinity
    for (const { probing, until } of this.members) {
      if (until !== undefined && !probing) this.due = Math.min(this.due, until)
    }
  }

  /** The ejected endpoint whose time came first. */
  probe(now: number, tried: Tried<K>): Endpoint<K> | undefined {
    if (this.due > now) return undefined
    let first: Endpoint<K> | undefined
    for (const endpoint of this.members) {
      const { probing, until = Infinity } = endpoint
      if (!probing && until <= now && until < (first?.until ?? Infinity) && !tried.has(endpoint)) first = endpoint
    }
    return first
  }
}

/** Where a borrower goes next, and whether it goes there to see if the endpoint is back. */
export interface Next<K> {
  readonly endpoint: Endpoint<K>
  readonly probe: boolean
}

export class Fleet<K> {
  private tiers: Array<Tier<K>> = []
  private members: ReadonlyArray<Endpoint<K>> = []
  /** Also those that are gone and have leases still. */
  private readonly known = MutableHashMap.empty<K, Endpoint<K>>()
  private readonly pace: Pace
  private readonly panic: number
  private readonly chooser: () => Chooser<K>

  constructor(pace: Pace, panic: number, chooser: () => Chooser<K>) {
    this.pace = pace
    this.panic = panic
    this.chooser = chooser
  }

  get all(): ReadonlyArray<Endpoint<K>> {
    return this.members
  }

  find(key: K): Endpoint<K> | undefined {
    return Option.getOrUndefined(MutableHashMap.get(this.known, key))
  }

  /** These are the endpoints from now on. What was known of those that stay is kept. */
  update(given: ReadonlyArray<Given<K>>, now: number): void {
    const first = this.members.length === 0
    const members = given.map(({ key, label, priority, weight }) => {
      const known = this.find(key)
      const endpoint = known ?? new Endpoint(key, label, priority, weight, this.pace)
      if (known === undefined) MutableHashMap.set(this.known, key, endpoint)
      if ((known === undefined && !first) || endpoint.gone) endpoint.warmUp(now)
      endpoint.gone = false
      endpoint.priority = priority
      endpoint.weight = weight
      return endpoint
    })
    const stay = new Set(members)
    for (const endpoint of this.members) {
      if (stay.has(endpoint)) continue
      endpoint.gone = true
      this.forget(endpoint)
    }
    this.members = members
    const tiers = new Map(this.tiers.map((tier) => [tier.priority, tier]))
    for (const tier of tiers.values()) tier.members.length = 0
    for (const endpoint of members) {
      let tier = tiers.get(endpoint.priority)
      if (tier === undefined) tiers.set(endpoint.priority, tier = new Tier(endpoint.priority, this.chooser()))
      tier.members.push(endpoint)
    }
    this.tiers = Array.from(tiers.values())
      .filter(({ members }) => members.length > 0)
      .sort((a, b) => a.priority - b.priority)
    this.settle()
  }

  /** The last lease of an endpoint that is gone is over. */
  forget(endpoint: Endpoint<K>): void {
    if (endpoint.gone && endpoint.load === 0) MutableHashMap.remove(this.known, endpoint.key)
  }

  eject(endpoint: Endpoint<K>, until: number): void {
    endpoint.until = until
    this.settle()
  }

  restore(endpoint: Endpoint<K>, now: number): void {
    if (!endpoint.ejected) return
    endpoint.era++
    endpoint.until = undefined
    endpoint.absolve(now)
    endpoint.warmUp(now)
    this.settle()
  }

  probing(endpoint: Endpoint<K>, probing: boolean): void {
    endpoint.probing = probing
    this.settle()
  }

  private settle(): void {
    const healthy = this.members.filter(({ ejected }) => !ejected).length
    const panics = healthy <= this.panic * this.members.length
    for (const tier of this.tiers) tier.settle(panics)
  }

  /**
   * An endpoint that may be back, of a priority that is served from now or that was before it;
   * or else one of the first priority that serves; or else, when none of those is left that
   * serve, one of the ejected.
   */
  next(tried: Tried<K>, now: number, random: () => number, peek: boolean): Next<K> | undefined {
    for (const tier of this.tiers) {
      const due = tier.probe(now, tried)
      if (due !== undefined) return { endpoint: due, probe: true }
      const endpoint = tier.chooser.next(tier.serving, tried, now, random, peek)
      if (endpoint !== undefined) return { endpoint, probe: false }
    }
    const last = this.lastResort(tried)
    return last === undefined ? undefined : { endpoint: last, probe: false }
  }

  /** Of the ejected, when all others were tried: the one that is to be back first. */
  private lastResort(tried: Tried<K>): Endpoint<K> | undefined {
    for (const { members } of this.tiers) {
      let first: Endpoint<K> | undefined
      for (const endpoint of members) {
        if (!tried.has(endpoint) && (first === undefined || endpoint.until! < first.until!)) first = endpoint
      }
      if (first !== undefined) return first
    }
    return undefined
  }

  /** All that may be asked: first the one that is next, then the others of its priority, from anywhere. */
  *inOrder(now: number, random: () => number): Iterable<Endpoint<K>> {
    const next = this.next(none, now, random, false)
    // To find out whether it is back takes more than this.
    const first = next?.probe === true ? undefined : next?.endpoint
    if (first !== undefined) yield first
    for (const ejected of [false, true]) {
      for (const { members } of this.tiers) {
        const start = Math.floor(random() * members.length)
        for (let i = 0; i < members.length; i++) {
          const endpoint = members[(start + i) % members.length]!
          if (endpoint !== first && endpoint.ejected === ejected) yield endpoint
        }
      }
    }
  }
}

const none: Tried<never> = new Set<never>()
