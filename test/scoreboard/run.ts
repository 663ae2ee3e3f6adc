/** Runs one program on one pool in a process of its own, and cuts it off when it does not end. */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as Path from "node:path"
import type { Line } from "./cell.ts"
import type { Contender, Program, Verdict } from "./model.ts"
import { seconds } from "./watch.ts"

/** In milliseconds. */
export interface Limits {
  /** No program that is alive takes longer: its own waits sum up to less. */
  readonly whole: number
  /** For a program that has told how far it is, and then tells no more: it has the event loop for itself. */
  readonly silence: number
}

const generous: Limits = { whole: 30_000, silence: 10_000 }

const cell = Path.join(import.meta.dirname, "cell.ts")

export const run = (
  program: Program,
  contender: Contender,
  url: string | undefined,
  limits: Limits = generous
): Effect.Effect<Verdict> =>
  Effect.callback((resume) => {
    const from = performance.now()
    const child = spawn(
      process.execPath,
      ["--conditions=effect-queuepool:source", cell, program.id, contender.name, ...(url === undefined ? [] : [url])],
      { stdio: ["ignore", "pipe", "pipe"] }
    )
    let last: Line = { progress: "nothing done" }
    let rest = ""
    let errors = ""
    let cut = false
    const stop = () => {
      cut = true
      child.kill("SIGKILL")
    }
    const timer = setTimeout(stop, limits.whole)
    let quiet = setTimeout(() => {}, 0)
    child.stdout.on("data", (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split("\n")
      rest = lines.pop()!
      // What a pool itself prints is not for us.
      for (const line of lines) if (line.startsWith("{\"")) last = JSON.parse(line) as Line
      clearTimeout(quiet)
      quiet = setTimeout(stop, limits.silence)
    })
    child.stderr.on("data", (chunk: Buffer) => errors += chunk.toString())
    child.on("close", (code) => {
      clearTimeout(timer)
      clearTimeout(quiet)
      const end = (): Verdict => {
        if ("verdict" in last) return last.verdict
        if ("problem" in last) return { green: false, figure: `broke off: ${last.problem.split("\n")[0]}` }
        if (cut) return { green: false, figure: `cut off after ${seconds(performance.now() - from)}: ${last.progress}` }
        const why = errors.split("\n").find((line) => /^\s*\w*Error\b/.test(line))
        return { green: false, figure: `process ended (${code}): ${why ?? errors.trim().split("\n").at(-1)}` }
      }
      resume(Effect.succeed(end()))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })
