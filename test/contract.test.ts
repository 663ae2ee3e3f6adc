/** Each scenario of the contract has a test that carries its number; the convention stands in kit/contract.ts. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { numbersIn, scenarios } from "./kit/contract.ts"

const here = fileURLToPath(new URL(".", import.meta.url))

// One speaks of the names of others, the other of how names are read.
const others = new Set(["lifecycle.test.ts", "contract.test.ts"])

/** Which files have a test with the number. */
const shownBy = (): ReadonlyMap<string, ReadonlyArray<string>> => {
  const shown = new Map<string, Array<string>>()
  const files = Fs.readdirSync(here, { recursive: true, encoding: "utf8" })
  for (const file of files.filter((file) => file.endsWith(".test.ts") && !others.has(file))) {
    for (const number of numbersIn(Fs.readFileSync(Path.join(here, file), "utf8"))) {
      shown.set(number, [...shown.get(number) ?? [], file])
    }
  }
  return shown
}

describe("the contract", () => {
  it("has a test for each of its numbers", () => {
    const shown = shownBy()
    const missing = Object.entries(scenarios).filter(([number]) => !shown.has(number))
    assert.deepStrictEqual(missing.map(([number, meaning]) => `${number}: ${meaning}`), [])
  })

  it("has no number that is not listed", () => {
    assert.deepStrictEqual([...shownBy().keys()].filter((number) => scenarios[number] === undefined), [])
  })

  it("has all numbers of each letter", () => {
    const sizes = { A: 16, B: 17, C: 10, D: 13, E: 16, F: 11, G: 10, H: 26, I: 12, J: 11, K: 5 }
    const all = Object.entries(sizes).flatMap(([letter, size]) =>
      Array.from({ length: size }, (_, index) => `${letter}${index + 1}`)
    )
    assert.deepStrictEqual(Object.keys(scenarios), all)
  })

  it("is read from the names of tests that run, and from nothing else", () => {
    const read = (source: string) => numbersIn(source)
    assert.deepStrictEqual(read("it.effect(\"B5: a hung open\", () =>"), ["B5"])
    assert.deepStrictEqual(read("  it.effect(`C4, C5: ten ${how} waiters`, () =>"), ["C4", "C5"])
    assert.deepStrictEqual(read("describe('J9: equal items', () => {"), ["J9"])
    assert.deepStrictEqual(read("for (const [name] of [[\"G1: back\", 1], [\"G2: on\", 2]]) {"), ["G1", "G2"])
    assert.deepStrictEqual(read("  \"H18: a failed transaction\": {"), ["H18"])
    for (
      const other of [
        "// it(\"B5: a comment\")",
        " * \"B5: a comment\"",
        "it.skip(\"B5: does not run\", () => {})",
        "it.todo(\"B5: is not there\")",
        "describe.skip(\"B5: does not run\", () => {",
        "assert.include(text, \"see B5: it\")",
        "it(\"QP-D1: of another list\", () => {",
        "it(\"CP-T5: of another list\", () => {",
        "const sql = \"B5\""
      ]
    ) assert.deepStrictEqual(read(other), [], other)
  })
})
