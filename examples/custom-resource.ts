/**
 * A pool of worker threads: costly to start, useful for a while, and able to die
 * by themselves. Shows acquire, check, reset, rules and retry on a real resource.
 *
 * npm run example custom-resource
 */
import { Console, Data, Effect, Schedule } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { Worker } from "node:worker_threads"

class WorkerDied extends Data.TaggedError("WorkerDied")<{ readonly code: number }> {}

interface Hasher {
  readonly threadId: number
  readonly alive: () => boolean
  readonly hash: (text: string) => Effect.Effect<string, WorkerDied>
}

const code = `
const { parentPort } = require("node:worker_threads")
const { createHash } = require("node:crypto")
parentPort.on("message", (text) => {
  if (text === "die") process.exit(1)
  parentPort.postMessage(createHash("sha256").update(text).digest("hex").slice(0, 16))
})
parentPort.postMessage("ready")
`

// One message out, one message back; a worker that ends instead is a typed error.
const answer = (worker: Worker, send?: string): Effect.Effect<string, WorkerDied> =>
  Effect.callback((resume) => {
    const onMessage = (text: string) => done(Effect.succeed(text))
    const onExit = (code: number) => done(Effect.fail(new WorkerDied({ code })))
    const done = (result: Effect.Effect<string, WorkerDied>) => {
      stop()
      resume(result)
    }
    const stop = () => {
      worker.off("message", onMessage)
      worker.off("exit", onExit)
    }
    worker.on("message", onMessage)
    worker.on("exit", onExit)
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    if (send !== undefined) worker.postMessage(send)
    return Effect.sync(stop)
  })

const acquire = Effect.gen(function*() {
  const worker = yield* Effect.acquireRelease(
    Effect.sync(() => new Worker(code, { eval: true })),
    (worker) => Effect.promise(() => worker.terminate())
  )
  let alive = true
  worker.once("exit", () => alive = false)
  yield* answer(worker)
  return {
    threadId: worker.threadId,
    alive: () => alive,
    hash: (text) => answer(worker, text)
  } satisfies Hasher
})

class Hashers extends QueuePool.Service<Hashers>()("examples/Hashers", {
  acquire,
  min: 1,
  max: 2,
  // Before a worker is lent: has it died in the meantime? A check without a round trip may run every time.
  check: (hasher) => Effect.sync(hasher.alive),
  checkAfter: 0,
  recycle: [RecyclePolicy.uses(1000), RecyclePolicy.failed, RecyclePolicy.interrupted],
  // Starting a worker may fail for want of memory: try again for a while before a borrower hears of it.
  retry: Schedule.exponential("50 millis").pipe(Schedule.upTo({ times: 5 }))
}) {}

const program = Effect.gen(function*() {
  const texts = Array.from({ length: 8 }, (_, index) => `text ${index}`)
  const hashes = yield* Effect.forEach(
    texts,
    (text) => Hashers.useItem((hasher) => Effect.map(hasher.hash(text), (hash) => `${hash} by ${hasher.threadId}`)),
    { concurrency: "unbounded" }
  )
  for (const hash of hashes) yield* Console.log(hash)

  // One of them dies in the middle of its work. Its borrower is told, the rule
  // `failed` recycles it, and the next borrower has another.
  const died = yield* Effect.flip(Hashers.useItem((hasher) => hasher.hash("die")))
  yield* Console.log(String(died))
  yield* Hashers.useItem((hasher) => Effect.flatMap(hasher.hash("after"), Console.log))
  yield* Console.log((yield* Hashers.stats).recycled)
})

await Effect.runPromise(program.pipe(Effect.provide(Hashers.layer)))
