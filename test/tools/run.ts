/**
 * Runs everything that CI runs: the scripts of package.json named below, two at a time, and the tests. Prints the time
 * that each took, the output of those that failed and of the tests, and, last, how many tests passed. With names as
 * arguments, runs these alone.
 */
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { styleText } from "node:util"

const root = Path.resolve(import.meta.dirname, "../..")
const { scripts } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8")) as {
  readonly scripts: Record<string, string>
}

// The slowest first.
const statics = ["test-types", "package-check", "check", "lint", "hygiene", "format-check", "lock-check"]
// Alone and last: its clocks and its PostgreSQL should not compete with compilers.
const tests = "coverage"

const asked = process.argv.slice(2)
const wanted = (name: string) => asked.length === 0 || asked.includes(name)

const unknown = asked.filter((name) => name !== tests && !statics.includes(name))
if (unknown.length > 0) throw new Error(`No step ${unknown.join(", ")}; there are ${[...statics, tests].join(", ")}`)

const report = Path.join(root, ".tmp/tests.json")
const path = [Path.join(root, "node_modules/.bin"), process.env["PATH"]].join(Path.delimiter)

// The steps write to a pipe, and should colour as if it were this terminal.
const colors = process.stdout.isTTY ? { FORCE_COLOR: "1" } : { NO_COLOR: "1", FORCE_COLOR: undefined }

const run = async (name: string): Promise<boolean> => {
  const start = performance.now()
  const child = spawn(scripts[name]!, {
    cwd: root,
    shell: true,
    env: { ...process.env, PATH: path, ...colors },
    stdio: ["ignore", "pipe", "pipe"]
  })
  let output = ""
  child.stdout.on("data", (chunk) => output += chunk)
  child.stderr.on("data", (chunk) => output += chunk)
  const passed = await new Promise<boolean>((resolve) => child.on("close", (code) => resolve(code === 0)))
  const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(6)
  const mark = passed ? styleText("green", "ok  ") : styleText("red", "FAIL")
  console.log(`${mark}${seconds} s  ${name}: ${styleText("dim", scripts[name]!)}`)
  if (!passed || name === tests) console.log(output.trimEnd().replace(/^/gm, "    "))
  return passed
}

const failed: Array<string> = []
const steps = statics.filter(wanted)

const worker = async (): Promise<void> => {
  for (let name = steps.shift(); name !== undefined; name = steps.shift()) {
    if (!(await run(name))) failed.push(name)
  }
}

await Promise.all([worker(), worker()])

let count = { numPassedTests: 0, numFailedTests: 0 }
if (wanted(tests)) {
  Fs.rmSync(report, { force: true })
  const passed = await run(tests)
  if (Fs.existsSync(report)) count = JSON.parse(Fs.readFileSync(report, "utf8"))
  // Tests can all pass and their step fail: by the coverage, or by an error outside of them.
  if (!passed && count.numFailedTests === 0) failed.push(tests)
}

const numFailed = failed.length + count.numFailedTests
if (failed.length > 0) console.log(`Failed: ${failed.join(", ")}`)
console.log(`${count.numPassedTests} passed, ${numFailed} failed`)
process.exitCode = numFailed === 0 ? 0 : 1
