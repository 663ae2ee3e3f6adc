/**
 * Rules for the end of an item's life: what there is, how they compose, and how a
 * pool tells which of them spoke. Runs on a virtual clock, so hours take no time.
 *
 * npm run example recycle-policies
 */
import { Cause, Console, Data, Effect, Fiber, Schedule, Stream } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { TestClock } from "effect/testing"

class Disconnected extends Data.TaggedError("Disconnected")<{}> {}

interface Connection {
  readonly id: number
  bytes: number
}

// Rules are values. Any of these ends a connection's life.
const policy = RecyclePolicy.any<Connection>([
  // Not used for ten minutes, and more than `min` are open.
  RecyclePolicy.idle("10 minutes"),
  // About an hour old: up to a tenth less, so that not all end together.
  RecyclePolicy.age("1 hour", { jitter: 0.1 }),
  // A lease ended because the server was lost. Then the older ones are lost too.
  RecyclePolicy.failedWith((cause) => Cause.squash(cause) instanceof Disconnected, {
    also: "older",
    reason: "disconnected"
  }),
  // A Schedule: each connection has its own copy, stepped once per lease.
  RecyclePolicy.schedule(Schedule.recurs(100)).pipe(RecyclePolicy.named("a hundred leases")),
  // A predicate, named.
  RecyclePolicy.when((usage: RecyclePolicy.Usage<Connection>) => usage.item.bytes > 1_000_000, "too many bytes"),
  // Composed: old enough and used enough.
  RecyclePolicy.age("30 minutes").pipe(RecyclePolicy.and(RecyclePolicy.uses(10)))
])

const program = Effect.gen(function*() {
  yield* Console.log(RecyclePolicy.explain(policy), "\n")

  let opened = 0
  const pool = yield* QueuePool.make({
    acquire: Effect.sync((): Connection => ({ id: ++opened, bytes: 0 })),
    min: 1,
    max: 5,
    recycle: policy
  })
  const log = yield* pool.events.pipe(
    Stream.runForEach((event) =>
      event._tag === "Recycled"
        ? Console.log(`item ${event.item}, ${event.uses} leases: ${event.reason}`)
        : Effect.void
    ),
    Effect.forkScoped({ startImmediately: true })
  )
  const lease = pool.use(() => Effect.void)
  const leases = (n: number) => Effect.repeat(lease, { times: n - 1 })

  yield* leases(100)
  yield* pool.use((connection) => Effect.sync(() => connection.bytes = 2_000_000))
  // Three at once, one of which loses its server.
  yield* Effect.all([
    pool.use(() => Effect.sleep("1 second")),
    pool.use(() => Effect.sleep("1 second")),
    Effect.ignore(pool.use(() => Effect.andThen(Effect.sleep("2 seconds"), Effect.fail(new Disconnected()))))
  ], { concurrency: "unbounded", discard: true }).pipe(Effect.forkChild({ startImmediately: true }))
  yield* TestClock.adjust("3 seconds")
  // Three are open; nobody comes for eleven minutes. `min` is spared.
  yield* Effect.forkChild(
    Effect.all([pool.use(() => Effect.sleep(1)), pool.use(() => Effect.sleep(1)), pool.use(() => Effect.sleep(1))], {
      concurrency: "unbounded",
      discard: true
    }),
    { startImmediately: true }
  )
  yield* TestClock.adjust("11 minutes")
  yield* leases(10)
  yield* TestClock.adjust("2 hours")
  yield* Fiber.interrupt(log)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(TestClock.layer())))
