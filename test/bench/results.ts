/**
 * What came of the rounds: ratios of two cases in the same round, of these the median, and
 * whether it meets its target.
 */
import { median, quantile, type Samples } from "./measure.ts"

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
  /** Who cannot reach the target has to come so near to the floor. Default: `near`. */
  readonly near?: number | undefined
}

/** What a verdict hangs on. */
interface Judged {
  readonly ratio: number
  readonly target: number | undefined
  /** The ratio of the floor. */
  readonly floor: number | undefined
  readonly near: number
}

/** A row, filled in. */
export interface Result extends Judged {
  readonly name: string
  readonly work: string
  readonly unit: "ns" | "B"
  readonly ours: number
  readonly against: string
  readonly theirs: number
  /** The quartiles of the ratio. */
  readonly spread: readonly [number, number]
  readonly rounds: number
  /** Whether more rounds could hardly turn a target that is missed into one that is not, or the other way. */
  readonly sure: boolean
}

export type Verdict = "met" | "out of reach" | "MISSED"

/** Who cannot reach a target has to come so near to what can be reached. */
export const near = 1.3

export const verdictOf = ({ floor, near, ratio, target }: Judged): Verdict | undefined =>
  target === undefined
    ? undefined
    : ratio <= target
    ? "met"
    : floor !== undefined && floor > target && ratio <= near * floor
    ? "out of reach"
    : "MISSED"

export const missed = (judged: Judged): boolean => verdictOf(judged) === "MISSED"

const seriesOf = (quantity: Quantity, samples: Samples): ReadonlyArray<number> => {
  if (typeof quantity === "string") return samples.get(quantity)!
  const rounds = samples.values().next().value!.length
  return Array.from({ length: rounds }, (_, round) => quantity((name) => samples.get(name)![round]!))
}

/** The medians of each so many. */
const mediansOf = (values: ReadonlyArray<number>, each: number): ReadonlyArray<number> =>
  Array.from(
    { length: Math.ceil(values.length / each) },
    (_, index) => median(values.slice(index * each, (index + 1) * each))
  )

/**
 * Where the median of all that could have been drawn is, in 19 cases of 20, if each is drawn
 * by itself: 1.96 standard deviations of a binomial distribution to both sides of the middle place.
 * Of fewer than four it may be anywhere.
 */
const medianWithin = (values: ReadonlyArray<number>): ReadonlyArray<number> => {
  const part = 1.96 / 2 / Math.sqrt(values.length)
  return part > 0.5 ? [-Infinity, Infinity] : [quantile(values, 0.5 - part), quantile(values, 0.5 + part)]
}

const isSure = (judged: Judged, ratios: ReadonlyArray<number>, floors: ReadonlyArray<number> | undefined): boolean => {
  const floorWithin = floors === undefined ? [undefined] : medianWithin(floors)
  const verdicts = medianWithin(ratios).flatMap((ratio) =>
    floorWithin.map((floor) => missed({ ...judged, ratio, floor }))
  )
  return new Set(verdicts).size === 1
}

/**
 * The medians of what it was in each round, against the one that is best by its own median. Of
 * the rounds each so many were of one process, and are like one another; undefined: it is the same
 * whenever it is measured.
 */
export const resultOf = (row: Row, samples: Samples, unit: "ns" | "B", each?: number): Result => {
  const ours = seriesOf(row.ours, samples)
  const [best, ...others] = Object.entries(row.against).map(([name, quantity]) => {
    const values = seriesOf(quantity, samples)
    return { name, values, middle: median(values) }
  })
  const { middle, name, values } = others.reduce((one, other) => other.middle < one.middle ? other : one, best!)
  const against = (series: ReadonlyArray<number>) => series.map((value, round) => value / values[round]!)
  const ratios = against(ours)
  const floors = row.floor === undefined ? undefined : against(seriesOf(row.floor, samples))
  const judged: Judged = {
    ratio: median(ratios),
    target: row.target,
    floor: floors === undefined ? undefined : median(floors),
    near: row.near ?? near
  }
  return {
    ...judged,
    name: row.name,
    work: row.work,
    unit,
    ours: median(ours),
    against: name,
    theirs: middle,
    spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    rounds: ratios.length,
    sure: each === undefined || isSure(judged, mediansOf(ratios, each), floors && mediansOf(floors, each))
  }
}
