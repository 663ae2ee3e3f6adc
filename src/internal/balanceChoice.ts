// How one of several endpoints is chosen: in turn, or by what it would cost.
import type { Endpoint } from "./balanceEndpoint.ts"

/** What an endpoint costs: the cheapest is chosen. Without a cost it is by turns. */
export interface Choice {
  readonly name: string
  readonly cost?: ((load: number, weight: number, latency: number | undefined) => number) | undefined
}

export type Cost = NonNullable<Choice["cost"]>

/** As many are all looked at; of more, two at random. */
const allOf = 8

/** Above every real latency: what was never measured and is being tried. */
const unknown = 1e12

/** In milliseconds. Faster than this all are the same: one that takes no time at all would leave nothing to the others. */
const fastest = 0.1

/** Its multiples, less their whole parts, lie evenly between 0 and 1, however many they are. */
const golden = (Math.sqrt(5) - 1) / 2

export const leastLoaded = (load: number, weight: number): number => load / weight

export const peakEwma = (load: number, weight: number, latency: number | undefined): number =>
  latency === undefined
    ? (load > 0 ? unknown + load / weight : 0)
    : (Math.max(latency, fastest) * (load + 1)) / weight

/** The endpoints that a borrower has tried already. */
export interface Tried<K> {
  readonly size: number
  has(endpoint: Endpoint<K>): boolean
}

export interface Chooser<K> {
  /** The members are others, or weigh otherwise. */
  changed(members: ReadonlyArray<Endpoint<K>>): void
  /** The next of these, none of which was tried: undefined if there is none. Told `peek`, it stays the next. */
  next(
    members: ReadonlyArray<Endpoint<K>>,
    tried: Tried<K>,
    now: number,
    random: () => number,
    peek: boolean
  ): Endpoint<K> | undefined
}

export class Cheapest<K> implements Chooser<K> {
  private readonly cost: Cost

  constructor(cost: Cost) {
    this.cost = cost
  }

  changed(): void {}

  next(
    members: ReadonlyArray<Endpoint<K>>,
    tried: Tried<K>,
    now: number,
    random: () => number
  ): Endpoint<K> | undefined {
    const { length } = members
    if (length <= allOf || tried.size > 0) return this.among(members, tried, now, random)
    const one = Math.floor(random() * length)
    const other = Math.floor(random() * (length - 1))
    return this.among([members[one]!, members[other < one ? other : other + 1]!], tried, now, random)
  }

  private among(
    members: ReadonlyArray<Endpoint<K>>,
    tried: Tried<K>,
    now: number,
    random: () => number
  ): Endpoint<K> | undefined {
    let best: Endpoint<K> | undefined
    let least = Infinity
    // Of those that cost the same each is chosen as often as its weight says.
    let weights = 0
    for (const endpoint of members) {
      if (tried.has(endpoint)) continue
      const weight = endpoint.weightAt(now)
      const cost = this.cost(endpoint.loadAt(now), weight, endpoint.latencyAt(now))
      if (best === undefined || cost < least) {
        best = endpoint
        least = cost
        weights = weight
      } else if (cost === least) {
        weights += weight
        if (random() * weights < weight) best = endpoint
      }
    }
    return best
  }
}

/**
 * By turns. In each round an endpoint saves up its weight, and is chosen when it has saved as
 * much as the heaviest: no endpoint is looked at more often than the heaviest is chosen.
 */
export class Turns<K> implements Chooser<K> {
  private at = -1
  private heaviest = 1
  private upcoming: Endpoint<K> | undefined = undefined

  changed(members: ReadonlyArray<Endpoint<K>>): void {
    this.upcoming = undefined
    this.heaviest = members.reduce((most, { weight }) => Math.max(most, weight), 0)
    for (const [i, endpoint] of members.entries()) {
      // Light ones that all began with nothing would all be chosen in the same round.
      if (endpoint.credit < 0) endpoint.credit = ((i * golden) % 1) * this.heaviest
    }
  }

  next(
    members: ReadonlyArray<Endpoint<K>>,
    tried: Tried<K>,
    now: number,
    random: () => number,
    peek: boolean
  ): Endpoint<K> | undefined {
    const { length } = members
    if (length === 0) return undefined
    // Many programs that start together do not all begin with the same one.
    if (this.at < 0) this.at = Math.floor(random() * length)
    if (tried.size > 0) return this.untried(members, tried)
    const next = this.upcoming ?? this.turn(members, now)
    this.upcoming = peek ? next : undefined
    return next
  }

  /** A borrower that goes on elsewhere takes nobody's turn. */
  private untried(members: ReadonlyArray<Endpoint<K>>, tried: Tried<K>): Endpoint<K> | undefined {
    for (let i = 0; i < members.length; i++) {
      const endpoint = members[(this.at + i) % members.length]!
      if (!tried.has(endpoint)) return endpoint
    }
    return undefined
  }

  private turn(members: ReadonlyArray<Endpoint<K>>, now: number): Endpoint<K> {
    for (;;) {
      const endpoint = members[this.at % members.length]!
      this.at = (this.at + 1) % members.length
      endpoint.credit = Math.min(endpoint.credit, this.heaviest) + endpoint.weightAt(now)
      if (endpoint.credit < this.heaviest) continue
      endpoint.credit -= this.heaviest
      return endpoint
    }
  }
}
