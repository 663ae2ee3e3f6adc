/** Results as a table to read. */
import { type Result, verdictOf } from "./results.ts"

const number = (value: number): string =>
  value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 10 ? 2 : 0 })

const verdict = (result: Result): string => {
  const { floor, sure, target } = result
  const word = verdictOf(result)
  if (target === undefined || word === undefined) return ""
  const least = word === "out of reach" ? `: the least is ${floor!.toFixed(2)}` : ""
  return `${target.toFixed(2)}  ${word}${sure ? "" : ", not surely"}${least}`
}

const cellsOf = (result: Result): ReadonlyArray<string> => [
  result.name,
  result.work,
  `${number(result.ours)} ${result.unit}`,
  `${number(result.theirs)} ${result.unit}`,
  result.against,
  result.ratio.toFixed(2),
  `${result.spread[0].toFixed(2)} to ${result.spread[1].toFixed(2)}`,
  verdict(result)
]

const head = ["row", "work", "ours", "theirs", "against", "ratio", "quartiles", "at most"]
const numeric = new Set([2, 3, 5])

/** One line for each result, below a head. */
export const table = (results: ReadonlyArray<Result>): string => {
  const lines = [head, ...results.map(cellsOf)]
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  const padded = (cell: string, column: number): string =>
    numeric.has(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
  return lines.map((line) => line.map(padded).join("  ").trimEnd()).join("\n")
}
