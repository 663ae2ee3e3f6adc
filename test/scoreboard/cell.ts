/**
 * One program on one pool, in a process of its own: `cell.ts PROGRAM POOL [URL]`. Each line that it prints is JSON, either
 * how far it is or, last, the verdict. It ends itself then, whatever the pool still has under way.
 */
import { Cause, Effect, Exit } from "effect"
import * as Fs from "node:fs"
import { arenaOf } from "./arena.ts"
import type { Verdict } from "./model.ts"
import { contenders } from "./pools/index.ts"
import { programs } from "./programs/index.ts"

/** What a cell prints. */
export type Line = { readonly progress: string } | { readonly verdict: Verdict } | { readonly problem: string }

// At once, for what follows may never let go of the event loop.
const print = (line: Line) => Fs.writeSync(1, `${JSON.stringify(line)}\n`)

const [id, name, url] = process.argv.slice(2)
const program = programs.find((program) => program.id === id)
const contender = contenders.find((contender) => contender.name === name)
if (program === undefined || contender === undefined) throw new Error(`No program ${id}, or no pool ${name}`)

const main = Effect.gen(function*() {
  const arena = yield* arenaOf(contender, url, (progress) => print({ progress }))
  // Not after the scope is closed: that may take for ever.
  const exit = yield* Effect.exit(program.run(arena))
  print(Exit.isSuccess(exit) ? { verdict: exit.value } : { problem: Cause.pretty(exit.cause) })
  process.exit(0)
})

Effect.runFork(Effect.scoped(main))
