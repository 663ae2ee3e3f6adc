/** What the command line of `bench:pg` asks for. */
import { parseArgs } from "node:util"

export interface Options {
  /** The parts of the run; empty: all. */
  readonly asked: ReadonlyArray<string>
  /** A missed target is a failure. */
  readonly check: boolean
  readonly rounds: number
  /** How long one client is timed in one round. */
  readonly millis: number
  readonly concurrencies: ReadonlyArray<number>
  readonly json: string
}

const number = (option: string, value: string): number => {
  const parsed = Number(value)
  if (Number.isInteger(parsed) && parsed > 0) return parsed
  throw new Error(`--${option} must be a whole number above 0, not ${value}`)
}

const part = "only"

export const parse = (args: ReadonlyArray<string>, names: ReadonlyArray<string>): Options => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      check: { type: "boolean", default: false },
      concurrency: { type: "string", multiple: true, default: ["1", "10", "64", "256"] },
      json: { type: "string", default: ".tmp/bench-pg.json" },
      millis: { type: "string", default: "100" },
      [part]: { type: "string", multiple: true, default: [] },
      quick: { type: "boolean", default: false },
      rounds: { type: "string" }
    }
  })
  const asked = values[part]
  const unknown = asked.filter((name) => !names.includes(name))
  if (unknown.length > 0) throw new Error(`unknown name ${unknown.join(", ")}; names: ${names.join(", ")}`)
  return {
    asked,
    check: values.check,
    rounds: number("rounds", values.rounds ?? (values.quick ? "4" : "24")),
    millis: number("millis", values.millis),
    concurrencies: values.concurrency.map((value) => number("concurrency", value)),
    json: values.json
  }
}
