/** What the fibers of a run do with the pool, one operation each. */
import type { PgConnection } from "@effect/sql-pg"
import { Cause, Effect, Fiber, Option, Queue, Random, Stream } from "effect"
import type { PoolError } from "effect-queuepool"
import type { SqlError } from "effect/sql/SqlError"
import { oneOf } from "./chance.ts"
import { Left, Wronged } from "./outcome.ts"
import { limits } from "./setting.ts"
import type { World } from "./world.ts"

type Session = PgConnection.PgConnection
type Failure = SqlError | PoolError.PoolError | Left | Wronged | Cause.TimeoutError

/** Whoever borrows must not find what another has left. */
const clean = Effect.fnUntraced(function*({ setting }: World, session: Session) {
  const rows = yield* session.queryValues(
    "select pg_current_xact_id_if_assigned() is null, coalesce(current_setting('chaos.mark', true), '')"
  )
  const [free, mark] = rows[0]!
  if (free !== true) return yield* new Wronged({ message: "a session was lent with a transaction open" })
  // Below "discard" a SET passes, by design.
  if (setting.reset === "discard" && mark !== "") {
    return yield* new Wronged({ message: "a session was lent with another borrower's setting" })
  }
})

const lease = Random.nextIntBetween(0, limits.lease / 1000 * 500)

/** An answer to the question of another would be the worst. */
const select = (world: World) =>
  Effect.gen(function*() {
    const asked = yield* Random.nextIntBetween(0, 1_000_000)
    yield* world.pool.use(Effect.fnUntraced(function*(session) {
      yield* clean(world, session)
      const rows = yield* session.queryValues("select $1::int", [asked])
      if (rows[0]?.[0] !== asked) {
        return yield* new Wronged({ message: `asked for ${asked} and was told ${String(rows[0]?.[0])}` })
      }
    }))
  })

const stream = ({ pool }: World) =>
  Effect.gen(function*() {
    const length = yield* Random.nextIntBetween(1, 3000)
    const left = yield* oneOf([length, length, Math.ceil(length / 3)])
    const count = yield* pool.useExclusive((session) =>
      session.stream(`select n, repeat('x', 100) from generate_series(1, ${length}) n`).pipe(
        Stream.take(left),
        Stream.runFold(() => 0, (sum) => sum + 1)
      )
    )
    if (count !== left) return yield* new Wronged({ message: `a stream of ${left} rows ended after ${count}` })
  })

const listen = ({ client }: World) =>
  Effect.scoped(Effect.gen(function*() {
    const channel = `channel_${yield* Random.nextIntBetween(0, 9)}`
    const messages = yield* client.listen(channel)
    yield* client.notify(channel, "hello")
    // Another session may have told it, and a network may have swallowed it.
    yield* Effect.timeoutOption(Queue.take(messages), limits.lease)
  }))

const long = ({ pool }: World) =>
  Effect.gen(function*() {
    const millis = yield* lease
    yield* pool.use((session) => session.query(`select pg_sleep(${millis / 1000})`))
  })

/** Interrupted while the server is at work on it, or about to be. */
const interrupted = <A, E, R>(effect: Effect.Effect<A, E, R>, within: number) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    yield* Effect.sleep(yield* Random.nextIntBetween(0, within))
    yield* Fiber.interrupt(fiber)
    const exit = yield* Fiber.await(fiber)
    if (exit._tag === "Failure" && !Cause.hasInterruptsOnly(exit.cause)) yield* exit
  })

const cancel = (world: World) => {
  // A shared session waits for the end of an interrupted statement, and so do those who share it.
  const seconds = world.setting.multiplex ? 0.5 : 5
  const sleep = world.pool.use((session) => session.query(`select pg_sleep(${seconds})`))
  const rows = world.pool.useExclusive((session) =>
    Stream.runDrain(session.stream("select n, pg_sleep(0.001) from generate_series(1, 5000) n"))
  )
  return Effect.flatMap(oneOf([sleep, sleep, rows]), (effect) => interrupted(effect, 100))
}

/** Interrupted while it waits, as far as it has to. */
const impatient = (world: World) => interrupted(select(world), 15)

const available = (world: World) => world.pool.useIfAvailable((session) => clean(world, session))

const several = (world: World) =>
  Effect.scoped(Effect.gen(function*() {
    const sessions = yield* world.pool.getN(2)
    if (sessions[0] === sessions[1]) return yield* new Wronged({ message: "one session was lent twice" })
    yield* Effect.forEach(sessions, (session) => clean(world, session), { concurrency: 2 })
  }))

/** Leaves a transaction open and a setting set, in each of the ways to leave. */
const dirty = (world: World) =>
  Effect.gen(function*() {
    const how = yield* oneOf(["leave", "fail", "interrupt"])
    const leave = world.pool.useExclusive(Effect.fnUntraced(function*(session) {
      yield* clean(world, session)
      yield* session.query("set chaos.mark = 'left'")
      yield* session.query("begin")
      yield* session.query("insert into litter values (pg_backend_pid())")
      if (how === "fail") return yield* new Left()
      if (how === "interrupt") return yield* Effect.never
    }))
    yield* how === "interrupt" ? interrupted(leave, limits.lease / 2) : leave
  })

const invalidate = ({ pool }: World) =>
  pool.use((session) => Effect.andThen(session.query("select 1"), pool.invalidate(session)))

/** Kept over a pause, by a scope. */
const hold = (world: World) =>
  Effect.scoped(Effect.gen(function*() {
    const session = yield* world.pool.get
    yield* Effect.sleep(yield* lease)
    yield* clean(world, session)
  }))

export const operations: Readonly<Record<string, (world: World) => Effect.Effect<unknown, Failure>>> = {
  select,
  stream,
  listen,
  long,
  cancel,
  impatient,
  available: (world) => Effect.map(available(world), Option.isSome),
  several,
  dirty,
  invalidate,
  hold
}

/** How often each comes, besides transactions. */
const weights: Readonly<Record<string, number>> = {
  select: 6,
  stream: 3,
  listen: 2,
  long: 2,
  cancel: 3,
  impatient: 3,
  available: 1,
  several: 1,
  dirty: 2,
  invalidate: 1,
  hold: 1
}

export const mix: ReadonlyArray<string> = Object.entries(weights).flatMap(([kind, times]) =>
  Array.from({ length: times }, () => kind)
)
