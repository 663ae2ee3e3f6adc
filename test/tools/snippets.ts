/**
 * Turns each `ts` fence of README.md and of the public modules' docstrings into a module under .tmp/snippets, which
 * `tsc` checks and test/docs.test.ts runs. Code stands on the line it has in its source, so errors point there.
 *
 * A line `expression // => value` asserts that the expression, awaited if it is at the top level, equals the value,
 * which is itself an expression: `1`, `[1, 2]`, `Option.some("a")`.
 */
import * as Equal from "effect/Equal"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { inspect, isDeepStrictEqual } from "node:util"

export interface Snippet {
  readonly source: string
  readonly line: number
  /** A fence marked `ts postgres` runs with `DATABASE_URL` set. */
  readonly postgres: boolean
  readonly module: string
}

const root = Path.resolve(import.meta.dirname, "../..")
const folder = Path.join(root, ".tmp/snippets")

// Groups: indentation, what the value goes to, the expression, the value.
const assertion = /^( *)((?:const|let) \w+(?:: [^=]+)? = |return |(?:yield\* )?[cC]onsole\.log\()?(.+?) \/\/ => (.+)$/

const rewrite = (line: string, at: string): string => {
  const rewritten = line.replace(assertion, (_, indent: string, target = "", code: string, value: string) => {
    const logged = target.endsWith("(")
    const expression = logged ? code.slice(0, -1) : code
    const actual = indent === "" ? `await (${expression})` : expression
    return `${indent}${target}__is(${actual}, (${value}), ${JSON.stringify(at)})${logged ? ")" : ""}`
  })
  if (/\/\/ *=>/.test(rewritten)) throw new Error(`${at}: \`// => value\` must follow an expression on its line`)
  return rewritten
}

/** Groups: what stands before the fence on each of its lines, the marks. */
const fence = /^((?: *\* ?)? *)```(.*)$/

const extract = (source: string): Array<Snippet & { readonly text: string }> => {
  const snippets: Array<Snippet & { readonly text: string }> = []
  let open: { readonly margin: number; readonly marks: Array<string>; readonly lines: Array<string> } | undefined
  for (const [index, line] of Fs.readFileSync(Path.join(root, source), "utf8").split("\n").entries()) {
    const found = fence.exec(line)
    if (open === undefined) {
      if (found !== null) open = { margin: found[1]!.length, marks: found[2]!.split(" "), lines: [] }
    } else if (found === null) {
      open.lines.push(line.slice(open.margin))
    } else {
      const first = index - open.lines.length
      if (open.marks[0] === "ts") {
        const lines = open.lines.map((code, offset) => rewrite(code, `${source}:${first + offset + 1}`))
        snippets.push({
          source,
          line: first,
          postgres: open.marks.includes("postgres"),
          module: Path.join(folder, `${source.replace(/\.\w+$/, "")}-${first}.ts`),
          text: "\n".repeat(first) + lines.join("\n") + "\n"
        })
      }
      open = undefined
    }
  }
  return snippets
}

/** Writes the modules and returns them. */
export const writeSnippets = (): Array<Snippet> => {
  const sources = Fs.globSync(["README.md", "src/*.ts"], { cwd: root }).toSorted()
  const snippets = sources.flatMap(extract)
  const modules = new Set(snippets.map((snippet) => snippet.module))
  for (const old of Fs.globSync("**/*.ts", { cwd: folder })) {
    if (!modules.has(Path.join(folder, old))) Fs.rmSync(Path.join(folder, old))
  }
  for (const { module, text } of snippets) {
    const help = Path.relative(Path.dirname(module), import.meta.filename)
    // An unchanged file is left alone: the compiler may be reading it.
    const content = `import { is as __is } from ${JSON.stringify(help)}${text}`
    if (Fs.existsSync(module) && Fs.readFileSync(module, "utf8") === content) continue
    Fs.mkdirSync(Path.dirname(module), { recursive: true })
    Fs.writeFileSync(module, content)
  }
  return snippets
}

/** What a line `expression // => value` becomes. */
export const is = <A>(actual: A, expected: unknown, at: string): A => {
  if (Equal.equals(actual, expected) || isDeepStrictEqual(actual, expected)) return actual
  throw new Error(`${at}: expected ${inspect(expected)}, got ${inspect(actual)}`)
}

if (import.meta.main) console.log(`${writeSnippets().length} snippets`)
