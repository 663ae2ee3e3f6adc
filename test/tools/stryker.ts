/** How mutants are made and run: the settings of Stryker, and the plugin of it that leaves out what is not drawn. */
import type { Stryker } from "@stryker-mutator/core"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"

type Settings = ConstructorParameters<typeof Stryker>[0]
export type Result = Awaited<ReturnType<Stryker["runMutationTest"]>>[number]

/** So many of all mutants, the same ones for the same seed and sources. */
export interface Sample {
  readonly size: number
  readonly seed: number
}

/** Each mutant has a number by the seed, and those with the lowest are drawn: no matter in what order they come. */
export const draw = <M extends { readonly id: string }>(
  mutants: ReadonlyArray<M>,
  { seed, size }: Sample
): ReadonlyArray<M> => {
  const number = ({ id }: M) => createHash("sha256").update(`${seed} ${id}`).digest("hex")
  return mutants
    .map((mutant) => ({ mutant, number: number(mutant) }))
    .toSorted((a, b) => a.number < b.number ? -1 : 1)
    .slice(0, size)
    .map(({ mutant }) => mutant)
}

/** Stryker has no samples; but it asks, mutant by mutant, whether it compiles. */
class Drawn {
  static readonly inject = ["options"] as const
  private readonly drawn = new Set<string>()
  private readonly sample: Sample

  constructor(options: { readonly sample: Sample }) {
    this.sample = options.sample
  }

  init() {
    return Promise.resolve()
  }

  /** Has them all at once, but for those that no test reaches: of these, too few are left out rather than too many. */
  group(mutants: ReadonlyArray<Result>) {
    for (const { id } of draw(mutants, this.sample)) this.drawn.add(id)
    return Promise.resolve([mutants.map(({ id }) => id)])
  }

  check(mutants: ReadonlyArray<Result>) {
    const verdict = (id: string) =>
      this.drawn.has(id) ? { status: "passed" } : { status: "compileError", reason: "not drawn" }
    return Promise.resolve(Object.fromEntries(mutants.map(({ id }) => [id, verdict(id)])))
  }
}

/** The lines from a mutant's first to its last. */
const original = ({ fileName, location: { end, start } }: Result): string => {
  const lines = Fs.readFileSync(fileName, "utf8").split("\n").slice(start.line - 1, end.line)
  const last = lines.length - 1
  lines[last] = lines[last]!.slice(0, end.column - 1)
  lines[0] = lines[0]!.slice(start.column - 1)
  return lines.join("\n")
}

const brief = (code: string): string => {
  const line = code.replaceAll(/\s+/g, " ")
  return line.length > 90 ? `${line.slice(0, 60)} ... ${line.slice(-25)}` : line
}

export const show = (mutant: Result): void => {
  const { fileName, location: { start }, mutatorName, replacement, status } = mutant
  const reached = status === "NoCoverage" ? ", which no test reaches" : ""
  console.log(`${Path.relative(process.cwd(), fileName)}:${start.line}:${start.column}  ${mutatorName}${reached}`)
  console.log(`  - ${brief(original(mutant))}\n  + ${brief(replacement)}`)
}

/** Shows what survives as soon as it is known, and how far it is. */
class Live {
  private tested = 0
  private survived = 0

  onMutantTested(mutant: Result): void {
    if (!["Killed", "Timeout", "RuntimeError", "Survived"].includes(mutant.status)) return
    this.tested++
    if (mutant.status === "Survived") {
      this.survived++
      show(mutant)
    }
    if (this.tested % 20 === 0) console.log(`${this.tested} tested, ${this.survived} survived`)
  }
}

export const strykerPlugins = [
  { kind: "Checker", name: "drawn", injectableClass: Drawn },
  { kind: "Reporter", name: "live", injectableClass: Live }
]

export const settings = (
  mutate: Array<string>,
  sample: Sample | undefined
): Settings & { readonly sample?: Sample } => ({
  mutate,
  ...(sample === undefined ? undefined : { sample, checkers: ["drawn"] }),
  plugins: [import.meta.resolve("@stryker-mutator/vitest-runner"), import.meta.filename],
  warnings: false,
  testRunner: "vitest",
  vitest: { configFile: "test/tools/stryker.vitest.ts", related: false },
  coverageAnalysis: "perTest",
  // Its copy of the project, and what that does not need.
  tempDirName: ".tmp/stryker",
  cleanTempDir: "always",
  ignorePatterns: [".tmp", "dist"],
  // It would read the real one with a programming interface that TypeScript 7 has no more.
  tsconfigFile: "none.json",
  // One process: the machine has other things to do.
  concurrency: 1,
  // A mutant that takes longer than this and half again what its tests took without it loops for ever.
  timeoutMS: 15_000,
  timeoutFactor: 1.5,
  reporters: ["live"],
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- its enum is not exported where its type is
  logLevel: "warn" as NonNullable<Settings["logLevel"]>
})
