/** The parts of the benchmark that measure nothing: what it counts, asks and prints. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { measured } from "./bench/chance.ts"
import { median, quantile, type Samples, timed, weighed } from "./bench/measure.ts"
import { parse } from "./bench/options.ts"
import { type Curve, numbers, svgPlot, textPlot } from "./bench/plot.ts"
import { missed, resultOf, type Row, verdictOf } from "./bench/results.ts"
import { table } from "./bench/table.ts"

const samples: Samples = new Map([["fast", [1, 2, 9]], ["slow", [4, 4, 10]], ["other", [3, 5, 5]], ["base", [1, 1, 1]]])

const row: Row = { name: "row", work: "work", ours: "fast", against: { slow: "slow" }, target: 0.5 }

describe("medians", () => {
  it("are the middle, or halfway between the two in the middle, in any order", () => {
    assert.strictEqual(median([5, 1, 3]), 3)
    assert.strictEqual(median([4, 1, 3, 2]), 2.5)
    assert.deepStrictEqual([0, 0.25, 1].map((part) => quantile([10, 30, 20, 40, 50], part)), [10, 20, 50])
    assert.isNaN(median([]))
  })
})

describe("a row", () => {
  it("is the median of the ratios of each round, not the ratio of the medians", () => {
    const result = resultOf(row, samples, "ns", 1)
    assert.deepStrictEqual([result.ours, result.theirs, result.ratio], [2, 4, 0.5])
    assert.deepStrictEqual(result.spread, [0.375, 0.7])
    assert.strictEqual(resultOf({ ...row, against: { other: "other" } }, samples, "ns", 1).ratio, 0.4)
  })

  it("is against the one that is best by its own median", () => {
    const result = resultOf({ ...row, against: { slow: "slow", other: "other", fast: "fast" } }, samples, "ns", 1)
    assert.deepStrictEqual([result.against, result.ratio], ["fast", 1])
    assert.strictEqual(
      resultOf({ ...row, against: { other: "other", slow: "slow" } }, samples, "ns", 1).against,
      "slow"
    )
  })

  it("may be computed of several cases of one round", () => {
    const result = resultOf(
      { ...row, ours: (of) => of("fast") - of("base"), against: { itself: (of) => of("slow") - of("base") } },
      samples,
      "B",
      1
    )
    assert.deepStrictEqual([result.ours, result.theirs, result.ratio, result.unit], [1, 3, 1 / 3, "B"])
  })

  it("misses its target above it, and when there is no number", () => {
    const result = resultOf(row, samples, "ns", 1)
    assert.isFalse(missed(result))
    assert.isTrue(missed({ ...result, ratio: 0.501 }))
    assert.isTrue(missed({ ...result, ratio: Number.NaN }))
    assert.isFalse(missed({ ...result, target: undefined, ratio: 9 }))
  })

  it("is out of reach where the least that does the same misses the target too, and it is near to that", () => {
    const result = resultOf({ ...row, target: 0.2, floor: "base" }, samples, "ns", 1)
    assert.strictEqual(result.floor, 0.25)
    const verdict = (ratio: number, floor: number | undefined) => verdictOf({ ...result, ratio, floor })
    assert.deepStrictEqual(
      [verdict(0.2, 0.25), verdict(0.32, 0.25), verdict(0.33, 0.25), verdict(0.21, 0.2), verdict(0.3, undefined)],
      ["met", "out of reach", "MISSED", "MISSED", "MISSED"]
    )
    assert.include(table([{ ...result, ratio: 0.3, sure: true }]), "0.20  out of reach: the least is 0.25")
  })
})

describe("a verdict", () => {
  /** Ratios that spread evenly around one, in any order. */
  const around = (middle: number, spread: number, rounds: number): ReadonlyArray<number> =>
    Array.from({ length: rounds }, (_, round) => middle + spread * ((round * 5 % rounds) / (rounds - 1) - 0.5))
  const isSure = (ours: ReadonlyArray<number>, floor?: ReadonlyArray<number>, each = 1) => {
    const one = ours.map(() => 1)
    const of: Row = { name: "row", work: "work", ours: "ours", against: { one: "one" }, target: 0.5 }
    const all = new Map([["ours", ours], ["one", one], ["floor", floor ?? one]])
    return resultOf(floor === undefined ? of : { ...of, floor: "floor" }, all, "ns", each).sure
  }

  it("is sure where the target is not among what the median may be", () => {
    assert.deepStrictEqual(
      [0.3, 0.425, 0.435, 0.5, 0.565, 0.575, 0.7].map((middle) => isSure(around(middle, 0.4, 32))),
      [true, true, false, false, false, true, true]
    )
  })

  it("is sure after more rounds, or where they differ little", () => {
    assert.isFalse(isSure(around(0.45, 0.4, 32)))
    assert.isTrue(isSure(around(0.45, 0.4, 128)))
    assert.isTrue(isSure(around(0.45, 0.04, 32)))
    assert.isFalse(isSure(around(0.49, 0.4, 128)))
  })

  it("is not sure after fewer than four, whatever they were", () => {
    assert.deepStrictEqual([1, 3, 4].map((rounds) => isSure(Array.from({ length: rounds }, () => 0.1))), [
      false,
      false,
      true
    ])
  })

  it("counts the rounds of one process as one, for they are like one another", () => {
    const processes = [0.4, 0.44, 0.46, 0.48, 0.52, 0.4, 0.42, 0.54]
    const ratios = processes.flatMap((middle) => Array.from({ length: 8 }, () => middle))
    assert.isTrue(isSure(ratios))
    assert.isFalse(isSure(ratios, undefined, 8))
    assert.isTrue(isSure(processes.flatMap((middle) => around(middle - 0.1, 2, 9)), undefined, 9))
    assert.isFalse(isSure(processes.flatMap((middle) => around(middle - 0.1, 2, 9))))
  })

  it("hangs on the floor too, but not on which of two it is that are not missed", () => {
    const above = around(0.55, 0.04, 32)
    assert.isFalse(isSure(above, around(0.51, 0.2, 32)))
    assert.isTrue(isSure(above, around(0.54, 0.04, 32)))
    assert.isTrue(isSure(around(0.53, 0.4, 32), around(0.54, 0.04, 32)))
    assert.isFalse(isSure(around(0.7, 0.2, 32), around(0.54, 0.04, 32)))
  })

  it("says so when it is not, and is sure where there is no target", () => {
    const result = resultOf(row, samples, "ns", 1)
    assert.isFalse(result.sure)
    assert.include(table([result]), "0.50  met, not surely")
    assert.include(table([{ ...result, sure: true }]), "0.50  met")
    assert.notInclude(table([{ ...result, sure: true }]), "surely")
    assert.isTrue(resultOf({ ...row, target: undefined }, samples, "ns", 1).sure)
    assert.isTrue(resultOf(row, samples, "B").sure)
    assert.strictEqual(result.rounds, 3)
  })

  it("is missed by who is not as near to the floor as the row asks for", () => {
    const result = resultOf({ ...row, target: 0.2, floor: "base", near: 1.1 }, samples, "ns", 1)
    assert.deepStrictEqual([0.27, 0.28].map((ratio) => verdictOf({ ...result, ratio })), ["out of reach", "MISSED"])
  })
})

describe("a group", () => {
  const of: Row = { name: "row", work: "work", ours: "ours", against: { one: "one" }, target: 0.5 }

  /** What each process was asked for, and what came of all, when those from the first so many on are far from the target. */
  const measuring = (far: number, most: number, rounds = 16) =>
    Effect.gen(function*() {
      const asked: Array<number> = []
      const [result] = yield* measured([of], { rounds, most, each: 4 }, (rounds) =>
        Effect.sync((): Samples => {
          asked.push(rounds)
          const ratio = asked.length > far ? 0.4 : 0.49 + asked.length % 2 / 50
          return new Map([["ours", Array.from({ length: rounds }, () => ratio)], ["one", Array(rounds).fill(1)]])
        }))
      return { asked, rounds: result!.rounds, ratio: result!.ratio, sure: result!.sure }
    })

  it.effect("is measured as often as it was asked for where the verdict is sure", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* measuring(0, 48), { asked: [4, 4, 4, 4], rounds: 16, ratio: 0.4, sure: true })
    }))

  it.effect("is measured on until the verdict is sure, and all rounds count", () =>
    Effect.gen(function*() {
      const { asked, ratio, rounds, sure } = yield* measuring(4, 80)
      assert.isAbove(asked.length, 4)
      assert.isBelow(asked.length, 20)
      assert.strictEqual(rounds, asked.length * 4)
      assert.deepStrictEqual([ratio, sure], [0.4, true])
    }))

  it.effect("is measured on no longer than was said, and not at all where that is no more", () =>
    Effect.gen(function*() {
      const asked = (rounds: number) => Array.from({ length: rounds / 4 }, () => 4)
      assert.deepStrictEqual(yield* measuring(Infinity, 48), { asked: asked(48), rounds: 48, ratio: 0.5, sure: false })
      assert.deepStrictEqual(yield* measuring(Infinity, 16), { asked: asked(16), rounds: 16, ratio: 0.5, sure: false })
    }))

  it.effect("has a process for what is left of its rounds", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* measuring(0, 6, 6)).asked, [4, 2])
    }))
})

describe("rounds", () => {
  it.effect("run every case once, each in an order of its own, and count none that warm up", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const caseOf = (name: string) => ({
        name,
        count: 10,
        run: Effect.sync(() => order.push(name)),
        after: name === "b" ? Effect.sync(() => order.push("after")) : undefined
      })
      const result = yield* timed([{ cases: [caseOf("a"), caseOf("b")] }], 2)
      const rounds = Array.from({ length: 5 }, (_, round) => order.slice(3 * round, 3 * round + 3).join(" "))
      assert.strictEqual(order.length, 3 * 5)
      assert.deepStrictEqual(new Set(rounds), new Set(["a b after", "b after a"]))
      assert.deepStrictEqual(Array.from(result, ([name, values]) => [name, values.length]), [["a", 2], ["b", 2]])
    }).pipe(Random.withSeed("rounds")))

  it.effect("have several turns of what is short, which are added up, and those of one family together", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const caseOf = (name: string) => ({ name, count: 1, run: Effect.sync(() => order.push(name)) })
      const families = [{ cases: [caseOf("a"), caseOf("b")], turns: 3 }, { cases: [caseOf("c")] }]
      const result = yield* timed(families, 9)
      const rounds = Array.from({ length: 12 }, (_, round) => order.slice(7 * round, 7 * round + 7).join(""))
      assert.strictEqual(order.length, 7 * 12)
      for (const round of rounds) assert.match(round, /^(c(ab|ba){3}|(ab|ba){3}c)$/)
      assert.isAbove(new Set(rounds).size, 6)
      assert.deepStrictEqual(Array.from(result.values(), ({ length }) => length), [9, 9, 9])
    }).pipe(Random.withSeed("turns")))

  it.effect("take the mean of the turns, for one of what a case counts", () =>
    Effect.gen(function*() {
      const { bigint } = process.hrtime
      let now = 0n
      const took = [10n, 20n, 60n]
      let runs = 0
      const run = Effect.sync(() => {
        now += took[runs++ % 3]!
      })
      process.hrtime.bigint = () => now
      const result = yield* Effect.ensuring(
        timed([{ cases: [{ name: "a", count: 10, run }], turns: 3 }], 2),
        Effect.sync(() => {
          process.hrtime.bigint = bigint
        })
      )
      assert.deepStrictEqual(result.get("a"), [3, 3])
    }))

  it.effect("of what is weighed leave out the first", () =>
    Effect.gen(function*() {
      let bytes = 0
      const result = yield* weighed(Effect.sync(() => ({ thing: ++bytes })), 2)
      assert.deepStrictEqual(Array.from(result), [["thing", [2, 3]]])
    }))
})

describe("the command line", () => {
  it("has defaults", () => {
    assert.deepStrictEqual(parse([], ["use"]), {
      asked: [],
      check: false,
      curves: false,
      long: false,
      rounds: 32,
      json: ".tmp/bench.json",
      svg: undefined
    })
  })

  it("takes names several times, and of what can be given once the last", () => {
    const args = [
      "--only",
      "use",
      "--check",
      "--only",
      "get",
      "--json",
      "a",
      "--json",
      "b",
      "--rounds",
      "3",
      "--svg",
      "c"
    ]
    const { asked, check, json, rounds, svg } = parse(args, ["use", "get"])
    assert.deepStrictEqual({ asked, check, json, rounds, svg }, {
      asked: ["use", "get"],
      check: true,
      json: "b",
      rounds: 3,
      svg: "c"
    })
  })

  it("names all that is wrong and lists what is known", () => {
    const { message } = errorOf(() => parse(["--fast", "--only", "speed", "--rounds", "0", "--json"], ["use", "get"]))
    for (
      const part of ["option --fast", "name speed", "--rounds must", "--json needs", "--svg FILE", "names: use, get"]
    ) assert.include(message, part)
    assert.include(errorOf(() => parse(["--json", "--check"], [])).message, "--json needs a value")
  })
})

describe("the table", () => {
  it("has a line for each row, and tells which have missed", () => {
    const result = { ...resultOf(row, samples, "ns", 1), sure: true }
    const slow = { ...result, name: "slower", ratio: 2, theirs: 123_456 }
    const lines = table([result, slow, { ...result, target: undefined }]).split("\n")
    assert.strictEqual(lines.length, 4)
    assert.match(lines[1]!, /^row +work +2 ns +4 ns +slow +0\.50 +0\.38 to 0\.70 +0\.50 {2}met$/)
    assert.match(lines[2]!, /^slower .* 123,456 ns .* 2\.00 .* 0\.50 {2}MISSED$/)
    assert.match(lines[3]!, /0\.70$/)
    assert.strictEqual(new Set(lines.slice(0, 3).map((line) => line.indexOf("work"))).size, 1)
  })
})

describe("a curve", () => {
  const curve: Curve = {
    name: "curve",
    title: "A < B",
    x: { label: "items", values: [1, 10, 100] },
    y: { label: "nanoseconds", lines: { one: [0, 500, 1000], other: [1000, 500, 300_000] } }
  }

  it("is plotted as text, with a letter for each line and a star where they meet", () => {
    const lines = textPlot(curve).split("\n")
    assert.strictEqual(lines[0], "A < B (nanoseconds)")
    assert.match(lines[1]!, /^300k \| +b$/)
    assert.match(lines[15]!, /^ +0 \|\* +\* +a$/)
    assert.match(lines.at(-2)!, /^ +1 +10 +100 +items$/)
    assert.match(lines.at(-1)!, /^ +a one, b other$/)
  })

  it("is told in numbers", () => {
    const [head, one, other] = numbers(curve).split("\n").map((line) => line.trim().split(/ +/))
    assert.deepStrictEqual([head, one, other], [["items", "1", "10", "100"], ["one", "0", "500", "1000"], [
      "other",
      "1000",
      "500",
      "300k"
    ]])
  })

  it("is drawn as SVG, its labels apart", () => {
    const svg = svgPlot({ ...curve, y: { ...curve.y, lines: { one: [1, 1, 1], other: [1, 1, 1] } } })
    assert.include(svg, "<title>A &lt; B</title>")
    assert.strictEqual(svg.match(/<polyline /g)?.length, 2)
    const heights = Array.from(svg.matchAll(/x="568" y="(\d+)"/g), ([, y]) => Number(y))
    assert.deepStrictEqual(heights.map((y) => y - heights[0]!), [0, 14])
  })
})

const errorOf = (f: () => unknown): Error => {
  try {
    f()
  } catch (error) {
    return error as Error
  }
  throw new Error("it did not throw")
}
