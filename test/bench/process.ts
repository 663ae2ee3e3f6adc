/** A script in a process of its own, which is told what to do and answers once. */
import { Data, Effect } from "effect"
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"

export class Ended extends Data.TaggedError("Ended")<{
  readonly script: string
  readonly task: unknown
  readonly code: number | null
  readonly signal: string | null
}> {}

/** By a script that stands beside this one. */
export const inProcess = <Done>(script: string, task: object): Effect.Effect<Done, Ended> =>
  Effect.callback((resume) => {
    const child = fork(fileURLToPath(new URL(script, import.meta.url)), { serialization: "advanced" })
    child.once("message", (done: Done) => resume(Effect.succeed(done)))
    child.once("exit", (code, signal) => resume(Effect.fail(new Ended({ script, task, code, signal }))))
    child.send(task)
    return Effect.sync(() => child.kill())
  })

/** What such a script does with what it is told. */
export const answer = (run: (task: never) => Effect.Effect<object, unknown>): void => {
  process.once("message", (task: object) => {
    // Who has asked is gone.
    process.once("disconnect", () => process.exit())
    // What waits without end is to end, not to be waited for.
    process.channel?.unref()
    const told = (done: object) => Effect.sync(() => process.send!(done, undefined, undefined, () => process.exit()))
    void Effect.runPromise(Effect.flatMap(run(task as never), told))
  })
}
