/** What the command line asks for. */

export interface Options {
  /** The names of what is to be measured; empty: all rows. */
  readonly asked: ReadonlyArray<string>
  /** A missed target is a failure. */
  readonly check: boolean
  readonly curves: boolean
  readonly long: boolean
  readonly rounds: number
  readonly json: string
  readonly svg: string | undefined
}

const flags = ["--check", "--curves", "--long"]
const values = ["--only NAME", "--rounds NUMBER", "--json FILE", "--svg FILE"]

/** Throws one error that names everything wrong, and all that would be right. */
export const parse = (args: ReadonlyArray<string>, names: ReadonlyArray<string>): Options => {
  const wrong: Array<string> = []
  const given = new Map<string, Array<string>>()
  for (let i = 0; i < args.length; i++) {
    const option = args[i]!
    const takes = values.find((one) => one.startsWith(`${option} `))
    if (takes === undefined && !flags.includes(option)) {
      wrong.push(`unknown option ${option}`)
      continue
    }
    const value = takes === undefined ? "" : args[++i]
    if (value === undefined || value.startsWith("--")) wrong.push(`${option} needs a value: ${takes}`)
    else given.set(option, [...given.get(option) ?? [], value])
  }
  const asked = given.get("--only") ?? []
  for (const name of asked) if (!names.includes(name)) wrong.push(`unknown name ${name}`)
  const rounds = Number(given.get("--rounds")?.at(-1) ?? 32)
  if (!(Number.isInteger(rounds) && rounds > 0)) wrong.push("--rounds must be a whole number above 0")
  if (wrong.length > 0) {
    throw new Error(
      `${wrong.join("; ")}\noptions: ${[...flags, ...values].join(", ")}\nnames: ${names.join(", ")}`
    )
  }
  return {
    asked,
    check: given.has("--check"),
    curves: given.has("--curves"),
    long: given.has("--long"),
    rounds,
    json: given.get("--json")?.at(-1) ?? ".tmp/bench.json",
    svg: given.get("--svg")?.at(-1)
  }
}
