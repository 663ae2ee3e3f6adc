/** The parts of bench:pg that measure nothing: what it asks, compares and prints, and the server that is none. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { ours, pgClient } from "./bench/pgClients.ts"
import { Meter } from "./bench/pgMeter.ts"
import { parse } from "./bench/pgOptions.ts"
import {
  bestMeets,
  type Comparison,
  comparisonOf,
  comparisonTable,
  lineOf,
  lineTable,
  missed
} from "./bench/pgResults.ts"
import { Echo } from "./bench/pgSocket.ts"

const rounds = (perSecond: ReadonlyArray<number>, cpu: ReadonlyArray<number>) =>
  perSecond.map((value, index) => ({ perSecond: value, cpu: cpu[index]!, latencies: [value, 1] }))

const all = new Map([
  ["ours", rounds([10, 30, 20, 60], [1, 2, 4, 4])],
  ["theirs", rounds([10, 10, 10, 10], [2, 2, 2, 2])]
])

const comparison = comparisonOf("work", 64, { client: "ours", against: "theirs", target: 1 }, all)

const withSpread = (high: number, target: number | undefined): Comparison => ({
  ...comparison,
  throughput: { median: 1, spread: [0, high] },
  target
})

describe("a comparison", () => {
  it("is the median and the quartiles of the ratios of each round", () => {
    assert.deepStrictEqual(comparison.throughput, { median: 2.5, spread: [1.75, 3.75] })
    assert.deepStrictEqual(comparison.cpu, { median: 0.75, spread: [0.5, 1.25] })
  })

  it("misses its target where three rounds of four do", () => {
    assert.deepStrictEqual([1.3, 1.2, Number.NaN].map((high) => missed(withSpread(high, 1.3))), [false, true, true])
    assert.isFalse(missed(withSpread(0, undefined)))
  })

  it("has a target out of reach where what no client can be faster than misses it too, and it is near to that", () => {
    const of = (middle: number, most: number | undefined): Comparison => ({
      ...comparison,
      throughput: { median: middle, spread: [0, middle] },
      target: 1.3,
      most
    })
    assert.deepStrictEqual(
      [of(1, 1.2), of(0.9, 1.2), of(1, 1.3), of(1, undefined), of(1.3, 1.2)].map(missed),
      [false, true, true, true, false]
    )
    assert.match(comparisonTable([of(1, 1.2)]), /1\.3 {2}out of reach: the most is 1\.20$/)
    const known = comparisonOf("work", 64, { client: "theirs", against: "theirs", most: "ours" }, all)
    assert.strictEqual(known.most, 2.5)
  })

  it("is held to the target where it is the best of several against the same client", () => {
    const slow = {
      ...comparison,
      client: "slow",
      throughput: { ...comparison.throughput, median: 1 },
      target: undefined
    }
    const fast = { ...comparison, client: "fast", target: undefined }
    const other = { ...fast, against: "another" }
    const targets = bestMeets([slow, fast, other], "theirs", 9).map(({ target }) => target)
    assert.deepStrictEqual(targets, [undefined, 9, undefined])
  })
})

describe("the tables", () => {
  it("have one line for each client and each comparison", () => {
    const line = lineOf("work", 64, "ours", all.get("ours")!)
    assert.deepStrictEqual(line, {
      work: "work",
      concurrency: 64,
      client: "ours",
      perSecond: 25,
      cpu: 3,
      p50: 1,
      p99: 30,
      p999: 30
    })
    assert.match(lineTable([line]), /client.*\nwork +64 +ours +25\.0 +3\.0 +1\.000 +30\.0 +30\.0$/)
    const table = comparisonTable([comparison, withSpread(0.5, 2), withSpread(3, 2), withSpread(3, undefined)])
    const [, met, miss, near, told] = table.split("\n")
    assert.match(met!, /ours +theirs +2\.50 +1\.75 to 3\.75 +0\.75 +0\.50 to 1\.25 +1\.0 {2}met$/)
    assert.match(miss!, /2\.0 {2}MISSED$/)
    assert.match(near!, /2\.0 {2}met within the quartiles$/)
    assert.match(told!, /1\.25$/)
  })
})

describe("the command line", () => {
  it("has defaults for all", () => {
    const { concurrencies, ...rest } = parse([], ["select-1"])
    assert.deepStrictEqual(concurrencies, [1, 10, 64, 256])
    assert.deepStrictEqual(rest, { asked: [], check: false, rounds: 24, millis: 100, json: ".tmp/bench-pg.json" })
    assert.strictEqual(parse(["--quick"], []).rounds, 4)
  })

  it("tells what is wrong", () => {
    assert.throws(() => parse(["--only", "speed"], ["select-1"]), "unknown name speed; names: select-1")
    assert.throws(() => parse(["--rounds", "0"], []), "--rounds must be a whole number above 0, not 0")
    assert.throws(() => parse(["--fast"], []), /--fast/)
  })
})

describe("the server that is none", () => {
  for (const multiplex of [false, true]) {
    it.live(`answers select 1 to every client${multiplex ? ", with multiplex" : ""}`, () =>
      Effect.gen(function*() {
        const settings = { stream: () => new Echo(), multiplex }
        const url = "postgres://nobody@127.0.0.1/nothing"
        for (const client of [yield* ours("ours", url, settings), yield* pgClient("theirs", url, settings)]) {
          const meter = new Meter(20)
          yield* client.run("select-1", 20, meter)
          assert.isAbove(meter.latencies.length, 0)
        }
      }))
  }
})
