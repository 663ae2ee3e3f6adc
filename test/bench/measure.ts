/**
 * Cases timed side by side: in every round each of them runs, so that what disturbs one disturbs
 * the others too, and each round in another order, so that none of them always runs first, or
 * after the same one. What counts is the ratio of two cases in the same round, and of these ratios
 * the median.
 */
import { Effect, Random, type Scope } from "effect"
import type { Row } from "./results.ts"

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

// Leases take no less time after two rounds, alone and among 10,000 fibers: the optimizing compiler has seen all cases.
const warmUps = 3

/** Cases that take turns. */
export interface Turns {
  readonly cases: ReadonlyArray<Case>
  /**
   * How often each of them runs in a round, all of them in each turn; the times are added up. What
   * other programs do to the caches of a machine lasts some 50 milliseconds: cases that are shorter
   * meet the same conditions, and many of them. Default: once.
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
        for (const [place, one] of (yield* Random.shuffle(cases)).entries()) {
          // Nobody pays for the garbage of another. In turns somebody does, each time another: a
          // turn is too short to have garbage collected at all if it began with none.
          if (turns === 1 || turn + place === 0) globalThis.gc?.({ type: "minor" })
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
