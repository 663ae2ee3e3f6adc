/**
 * Many tenants under one total: a hot one takes most of it, others get theirs all the
 * same, a failing one harms nobody, and what is not used is closed.
 *
 * npm run example keyed
 */
import { Console, Data, Effect, Layer, Stream } from "effect"
import { QueuePoolMap, RecyclePolicy } from "effect-queuepool"

class Unreachable extends Data.TaggedError("Unreachable")<{ readonly tenant: string }> {}

interface Session {
  readonly tenant: string
  readonly query: Effect.Effect<string>
}

const connect = (tenant: string): Effect.Effect<Session, Unreachable> =>
  tenant === "broken"
    ? Effect.andThen(Effect.sleep("5 millis"), Effect.fail(new Unreachable({ tenant })))
    : Effect.as(Effect.sleep("5 millis"), {
      tenant,
      query: Effect.as(Effect.sleep("10 millis"), `rows of ${tenant}`)
    })

// At most 4 sessions of one tenant, and 6 of all. The large tenant may have 5, and a
// tenant that nobody asks for is forgotten after a while, with its sessions.
class Tenants extends QueuePoolMap.Service<Tenants>()("examples/Tenants", {
  acquire: (tenant: string) => Effect.acquireRelease(connect(tenant), () => Effect.void),
  max: 4,
  maxTotal: 6,
  forKey: (tenant) => tenant === "hot" ? { max: 5 } : undefined,
  recycle: RecyclePolicy.failed,
  idleTimeToLive: "300 millis"
}) {}

const query = (tenant: string) => Tenants.useItem(tenant, ({ query }) => query)

const show = (title: string) =>
  Effect.gen(function*() {
    const { idle, keys, maxTotal, used } = yield* Tenants.stats
    yield* Console.log(`${title}: ${idle + used} of ${maxTotal} sessions, of ${keys} tenants`)
  })

const program = Effect.gen(function*() {
  const counts: Record<string, number> = {}
  yield* Effect.forkChild(
    Stream.runForEach(Tenants.events, (event) =>
      event._tag === "KeyAdded" || event._tag === "KeyRemoved"
        ? Console.log(`  ${event._tag} ${event.key}`)
        : Effect.sync(() => void (counts[event._tag] = (counts[event._tag] ?? 0) + 1)))
  )
  yield* Effect.yieldNow

  yield* Console.log("Forty queries of one tenant, and two of another that comes later:")
  const answers = yield* Effect.all(
    [
      Effect.forEach(Array.from({ length: 40 }), () => query("hot"), { concurrency: "unbounded" }),
      Effect.delay(Effect.forEach(["acme", "acme"], query, { concurrency: "unbounded" }), "20 millis")
    ],
    { concurrency: "unbounded" }
  )
  yield* show(`${answers.flat().length} answers`)

  yield* Console.log("A tenant that cannot be reached, and one that can:")
  const failed = yield* Effect.flip(query("broken"))
  yield* Console.log(`  ${failed._tag}, and ${yield* query("acme")}`)

  yield* Console.log("Six tenants more, one session each: the coldest sessions of others make room:")
  yield* Effect.forEach(["b1", "b2", "b3", "b4", "b5", "b6"], query)
  yield* show("with the new ones")

  yield* Console.log("Nobody asks any more:")
  yield* Effect.sleep("400 millis")
  yield* show("in the end")

  const { abandoned, closed, opened } = yield* Tenants.stats
  yield* Console.log(`every session that was opened is closed: ${opened === closed + abandoned}`)
  yield* Console.log(`opens that failed: ${counts["OpenFailed"]}, queries: ${counts["Borrowed"]}`)
})

await Effect.runPromise(program.pipe(Effect.provide(Layer.orDie(Tenants.layer))))
