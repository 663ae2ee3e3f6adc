/**
 * Cases timed side by side: in every round each of them runs, so that what disturbs one disturbs
 * the others too, and each round in another order, so that none of them always runs first, or
 * after the same one. What counts is the ratio of two cases in the same round, and of these ratios
 * the median.
 */
import { Effect, Random, type Scope } from "effect"

/** One thing that is timed. */
export interface Case {
  readonly name: string
  /** How many leases, or whatever is counted, one run is. */
  readonly count: number
  readonly run: Effect.Effect<unknown, unknown>
  /** Not timed: puts things back as they were. */
  readonly after?: Effect.Effect<unknown, unknown> | undefined
}

/** By the name of a case, what one of it took in each round. */
export type Samples = ReadonlyMap<string, ReadonlyArray<number>>

// The optimizing compiler has done its work on all cases after two.
const warmUps = 3

/** Cases that take turns. */
export interface Turns {
  readonly cases: ReadonlyArray<Case>
  /**
   * How often each of them runs in a round, one after the other; what it took is added up. What
   * other programs do to the caches of a machine holds for some 50 milliseconds: what is shorter
   * is compared under the same conditions, and many times. Default: once.
   */
  readonly turns?: number | undefined
}

/** Nanoseconds for one of each case, round by round. */
export const timed = Effect.fnUntraced(function*(all: ReadonlyArray<Turns>, rounds: number) {
  const samples = new Map(all.flatMap(({ cases }) => cases.map(({ name }): [string, Array<number>] => [name, []])))
  for (let round = -warmUps; round < rounds; round++) {
    for (const { cases, turns = 1 } of yield* Random.shuffle(all)) {
      const sums = new Map(cases.map(({ name }) => [name, 0]))
      for (let turn = 0; turn < turns; turn++) {
        for (const one of yield* Random.shuffle(cases)) {
          // Nobody pays for the garbage of another; of many turns each pays for his part, by chance.
          if (turns === 1) globalThis.gc?.({ type: "minor" })
          yield* Effect.yieldNow
          const start = process.hrtime.bigint()
          yield* one.run
          const took = Number(process.hrtime.bigint() - start)
          if (one.after !== undefined) yield* one.after
          sums.set(one.name, sums.get(one.name)! + took / one.count)
        }
      }
      if (round < 0) continue
      for (const [name, sum] of sums) samples.get(name)!.push(sum / turns)
    }
  }
  const result: Samples = samples
  return result
})

/** The value below which that part of them is, between two by their distance. */
export const quantile = (values: ReadonlyArray<number>, part: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const place = (sorted.length - 1) * part
  const below = sorted[Math.floor(place)] ?? Number.NaN
  const above = sorted[Math.ceil(place)] ?? Number.NaN
  return below === above ? below : below + (above - below) * (place - Math.floor(place))
}

export const median = (values: ReadonlyArray<number>): number => quantile(values, 0.5)

/** What is compared: a case by its name, or what is computed of several within one round. */
export type Quantity = string | ((of: (name: string) => number) => number)

/** One line of the table. */
export interface Row {
  /** For `--only`. */
  readonly name: string
  readonly work: string
  readonly ours: Quantity
  /** With several, the best of them counts. */
  readonly against: Readonly<Record<string, Quantity>>
  /** The ratio may be no more; undefined: it is only told. */
  readonly target?: number | undefined
  /** The least that does the same: where it misses the target too, the target is out of reach. */
  readonly floor?: Quantity | undefined
}

/** A row, filled in. */
export interface Result {
  readonly name: string
  readonly work: string
  readonly unit: "ns" | "B"
  readonly ours: number
  readonly against: string
  readonly theirs: number
  readonly ratio: number
  /** The quartiles of the ratio. */
  readonly spread: readonly [number, number]
  readonly target: number | undefined
  /** The ratio of the floor. */
  readonly floor: number | undefined
}

const seriesOf = (quantity: Quantity, samples: Samples): ReadonlyArray<number> => {
  if (typeof quantity === "string") return samples.get(quantity)!
  const rounds = samples.values().next().value!.length
  return Array.from({ length: rounds }, (_, round) => quantity((name) => samples.get(name)![round]!))
}

/** The ratios of each round: ours, and the floor's, against the one that is best by its own median. */
const ratiosOf = (row: Row, samples: Samples) => {
  const ours = seriesOf(row.ours, samples)
  const [best, ...others] = Object.entries(row.against).map(([name, quantity]) => {
    const values = seriesOf(quantity, samples)
    return { name, values, middle: median(values) }
  })
  const theirs = others.reduce((one, other) => other.middle < one.middle ? other : one, best!)
  const against = (series: ReadonlyArray<number>) => series.map((value, round) => value / theirs.values[round]!)
  const floor = row.floor === undefined ? undefined : against(seriesOf(row.floor, samples))
  return { ours, theirs, ratios: against(ours), floor }
}

/** The medians of what it was in each round. */
export const resultOf = (row: Row, samples: Samples, unit: "ns" | "B"): Result => {
  const { floor, ours, ratios, theirs } = ratiosOf(row, samples)
  return {
    name: row.name,
    work: row.work,
    unit,
    ours: median(ours),
    against: theirs.name,
    theirs: theirs.middle,
    ratio: median(ratios),
    spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    target: row.target,
    floor: floor === undefined ? undefined : median(floor)
  }
}

export type Verdict = "met" | "out of reach" | "MISSED"

/** Who cannot reach a target has to come so near to what can be reached. */
export const near = 1.3

export const verdictOf = ({ floor, ratio, target }: Result): Verdict | undefined =>
  target === undefined
    ? undefined
    : ratio <= target
    ? "met"
    : floor !== undefined && floor > target && ratio <= near * floor
    ? "out of reach"
    : "MISSED"

export const missed = (result: Result): boolean => verdictOf(result) === "MISSED"

/**
 * Between these the median of all rounds that there could be is, in 99 cases of 100: so many
 * standard deviations of a binomial distribution around the middle of those that were measured.
 */
const medianWithin = (values: ReadonlyArray<number>): ReadonlyArray<number> => {
  const part = 2.58 / 2 / Math.sqrt(values.length)
  return [quantile(values, Math.max(0, 0.5 - part)), quantile(values, Math.min(1, 0.5 + part))]
}

/** Whether more rounds could turn a target that is met into one that is missed, or the other way. */
export const undecided = (row: Row, samples: Samples): boolean => {
  if (row.target === undefined) return false
  const result = resultOf(row, samples, "ns")
  const { floor, ratios } = ratiosOf(row, samples)
  const floors = floor === undefined ? [undefined] : medianWithin(floor)
  const verdicts = medianWithin(ratios).flatMap((ratio) =>
    floors.map((least) => missed({ ...result, ratio, floor: least }))
  )
  return new Set(verdicts).size > 1
}

/** Rows that are measured together. */
export interface Family {
  readonly rows: ReadonlyArray<Row>
}

/** Its cases are timed. */
export interface Timed extends Family {
  readonly cases: Effect.Effect<ReadonlyArray<Case>, unknown, Scope.Scope>
  /** As `Turns` has them. */
  readonly turns?: number
  /** Which part of the rounds is enough. Default: all. */
  readonly rounds?: number
}

/** Its cases are weighed: bytes on the heap for one of each. */
export interface Weighed extends Family {
  readonly weights: Effect.Effect<Readonly<Record<string, number>>, unknown>
}

/** As `timed`. The heap is the same whenever it is looked at: a few rounds are enough. */
export const weighed = Effect.fnUntraced(function*(weights: Weighed["weights"], rounds: number) {
  const samples = new Map<string, Array<number>>()
  for (let round = -1; round < rounds; round++) {
    for (const [name, bytes] of Object.entries(yield* weights)) {
      const values = samples.get(name) ?? []
      // What is made once for all, the compiled code among it, is there after the first.
      if (round >= 0) values.push(bytes)
      samples.set(name, values)
    }
  }
  const result: Samples = samples
  return result
})
