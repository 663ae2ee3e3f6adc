/**
 * The smallest pool: what it opens, what it lends, what it closes.
 *
 * npm run example hello
 */
import { Console, Effect, Layer } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"

interface Session {
  readonly id: number
  readonly greet: (name: string) => Effect.Effect<string>
}

let opened = 0

// An item is described by how it is acquired and released. Here it is an object;
// it could be a socket, a browser, a worker.
const acquire = Effect.acquireRelease(
  Effect.gen(function*() {
    const id = ++opened
    yield* Console.log(`open   session ${id}`)
    return { id, greet: (name) => Effect.succeed(`Hello ${name}, from session ${id}`) } satisfies Session
  }),
  (session) => Console.log(`close  session ${session.id}`)
)

// A pool is a service with a layer.
class Sessions extends QueuePool.Service<Sessions>()("examples/Sessions", {
  acquire,
  max: 2,
  recycle: RecyclePolicy.uses(3)
}) {}

const greet = (name: string) =>
  Sessions.useItem((session) =>
    session.greet(name).pipe(
      Effect.flatMap(Console.log),
      // Long enough for the others to have to wait.
      Effect.andThen(Effect.sleep("20 millis"))
    )
  )

const program = Effect.gen(function*() {
  // Five borrowers, two sessions: three wait, first come first served.
  yield* Effect.forEach(["Ada", "Blaise", "Charles", "Dorothy", "Edsger"], greet, { concurrency: "unbounded" })

  // The same with a scope: the session is given back when the scope closes.
  yield* Effect.scoped(Effect.gen(function*() {
    const session = yield* Sessions.get
    yield* Console.log(`borrowed session ${session.id}`)
  }))

  const { borrowed, opened, recycled } = yield* Sessions.stats
  yield* Console.log(`borrowed ${borrowed} times, opened ${opened}, recycled ${JSON.stringify(recycled)}`)
})

// The layer opens the pool and, at the end, closes it and all that it holds.
await Effect.runPromise(program.pipe(Effect.provide(Layer.orDie(Sessions.layer))))
