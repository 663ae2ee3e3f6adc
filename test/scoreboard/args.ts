/** The options of the command line, read strictly. */
import { parseArgs } from "node:util"

export interface Options {
  readonly markdown: boolean
  readonly programs: ReadonlyArray<string>
  readonly pools: ReadonlyArray<string>
}

const listed = (option: string, given: unknown, known: ReadonlyArray<string>): ReadonlyArray<string> => {
  if (typeof given !== "string") return known
  const names = given.split(",").map((name) => name.trim())
  const unknown = names.filter((name) => !known.includes(name))
  if (unknown.length > 0) {
    throw new Error(`--${option}: no "${unknown.join("\", \"")}"; there are ${known.join(", ")}`)
  }
  return known.filter((name) => names.includes(name))
}

/** Throws, with a message for the user, when there is anything that it does not know. */
export const optionsOf = (
  args: ReadonlyArray<string>,
  programs: ReadonlyArray<string>,
  pools: ReadonlyArray<string>
): Options => {
  const { values } = parseArgs({
    args: [...args],
    options: { markdown: { type: "boolean" }, only: { type: "string" }, pool: { type: "string" } },
    strict: true,
    allowPositionals: false
  })
  const given: Readonly<Record<string, string | boolean | undefined>> = values
  const list = (option: string, known: ReadonlyArray<string>) => listed(option, given[option], known)
  return { markdown: values.markdown ?? false, programs: list("only", programs), pools: list("pool", pools) }
}
