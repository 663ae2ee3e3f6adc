/** What came out of the rounds, and how it compares. */
import { median, quantile } from "./measure.ts"
import type { Sample } from "./pgMeter.ts"
import { near } from "./results.ts"

/** One client at one concurrency: medians over the rounds, and the latencies of all rounds together. */
export interface Line {
  readonly work: string
  readonly concurrency: number
  readonly client: string
  readonly perSecond: number
  /** Microseconds of this process's CPU time for each. */
  readonly cpu: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

/** A ratio, by the median and the quartiles of what it was in each round. */
export interface Ratio {
  readonly median: number
  readonly spread: readonly [number, number]
}

/** Two clients. Above 1 the first is the better one. */
export interface Comparison {
  readonly work: string
  readonly concurrency: number
  readonly client: string
  readonly against: string
  readonly throughput: Ratio
  /** Theirs by ours. */
  readonly cpu: Ratio
  /** Of the throughput: at least that; undefined: it is only told. */
  readonly target: number | undefined
  /** The ratio of what nothing of ours can be faster than: where that misses the target, the target is out of reach. */
  readonly most: number | undefined
}

/** Who is compared with whom. */
export interface Pair {
  readonly client: string
  readonly against: string
  readonly target?: number | undefined
  /** What nothing of ours can be faster than. */
  readonly most?: string | undefined
}

export type Rounds = ReadonlyMap<string, ReadonlyArray<Sample>>

export const lineOf = (work: string, concurrency: number, client: string, rounds: ReadonlyArray<Sample>): Line => {
  const latencies = Float64Array.from(rounds.flatMap((round) => round.latencies)).sort()
  const at = (part: number) => latencies[Math.floor((latencies.length - 1) * part)]!
  return {
    work,
    concurrency,
    client,
    perSecond: median(rounds.map(({ perSecond }) => perSecond)),
    cpu: median(rounds.map(({ cpu }) => cpu)),
    p50: at(0.5),
    p99: at(0.99),
    p999: at(0.999)
  }
}

const ratioOf = (ratios: ReadonlyArray<number>): Ratio => ({
  median: median(ratios),
  spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)]
})

export const comparisonOf = (
  work: string,
  concurrency: number,
  { against, client, most, target }: Pair,
  rounds: Rounds
): Comparison => {
  const ours = rounds.get(client)!
  const theirs = rounds.get(against)!
  const speeds = (all: ReadonlyArray<Sample>) =>
    ratioOf(all.map(({ perSecond }, round) => perSecond / theirs[round]!.perSecond))
  return {
    work,
    concurrency,
    client,
    against,
    throughput: speeds(ours),
    cpu: ratioOf(ours.map(({ cpu }, round) => theirs[round]!.cpu / cpu)),
    target,
    most: most === undefined ? undefined : speeds(rounds.get(most)!).median
  }
}

/** Of several clients against the same one, that with the best throughput has to meet the target. */
export const bestMeets = (
  comparisons: ReadonlyArray<Comparison>,
  against: string,
  target: number
): ReadonlyArray<Comparison> => {
  const all = comparisons.filter((one) => one.against === against)
  const best = Math.max(...all.map(({ throughput }) => throughput.median))
  return comparisons.map((one) => all.includes(one) && one.throughput.median === best ? { ...one, target } : one)
}

/**
 * Server and clients share the machine with whatever else runs there: of two that are equally
 * fast, the one or the other has the better median by chance. So a target is missed only
 * where three rounds of four have missed it.
 */
export const missed = (comparison: Comparison): boolean =>
  comparison.target !== undefined && !(comparison.throughput.spread[1] >= comparison.target) &&
  !outOfReach(comparison, comparison.target)

const outOfReach = ({ most, throughput }: Comparison, target: number): boolean =>
  most !== undefined && most < target && throughput.median * near >= most

const verdict = (comparison: Comparison): string => {
  const { most, target, throughput: { median, spread } } = comparison
  if (target === undefined) return ""
  const word = median >= target
    ? "met"
    : spread[1] >= target
    ? "met within the quartiles"
    : outOfReach(comparison, target)
    ? `out of reach: the most is ${most!.toFixed(2)}`
    : "MISSED"
  return `${target.toFixed(1)}  ${word}`
}

const aligned = (lines: ReadonlyArray<ReadonlyArray<string>>, numeric: ReadonlySet<number>): string => {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  const padded = (cell: string, column: number): string =>
    numeric.has(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
  return lines.map((line) => line.map(padded).join("  ").trimEnd()).join("\n")
}

const rounded = (value: number): string =>
  value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0, minimumFractionDigits: value < 100 ? 1 : 0 })

const millis = (value: number): string => value.toFixed(value < 10 ? 3 : 1)

/** One line for each client. */
export const lineTable = (lines: ReadonlyArray<Line>): string =>
  aligned([
    ["work", "at once", "client", "per second", "CPU us each", "p50 ms", "p99 ms", "p99.9 ms"],
    ...lines.map(({ client, concurrency, cpu, p50, p99, p999, perSecond, work }) => [
      work,
      `${concurrency}`,
      client,
      rounded(perSecond),
      rounded(cpu),
      millis(p50),
      millis(p99),
      millis(p999)
    ])
  ], new Set([1, 3, 4, 5, 6, 7]))

const spread = ({ spread: [low, high] }: Ratio): string => `${low.toFixed(2)} to ${high.toFixed(2)}`

/** One line for each comparison. */
export const comparisonTable = (comparisons: ReadonlyArray<Comparison>): string =>
  aligned([
    ["work", "at once", "client", "against", "throughput", "quartiles", "CPU time", "quartiles", "throughput at least"],
    ...comparisons.map((one) => [
      one.work,
      `${one.concurrency}`,
      one.client,
      one.against,
      one.throughput.median.toFixed(2),
      spread(one.throughput),
      one.cpu.median.toFixed(2),
      spread(one.cpu),
      verdict(one)
    ])
  ], new Set([1, 4, 6]))
