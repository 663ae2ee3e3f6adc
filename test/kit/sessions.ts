/** What the tests of PgQueuePool share: a database of one's own, a pool on it, and what is seen of both. */
import type { PgConnection } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { type Duration, Effect, Redacted, type Scope, Stream } from "effect"
import type { PoolError, PoolEvent, QueuePool } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import type { SqlError } from "effect/sql/SqlError"
import { EmbeddedPg } from "./EmbeddedPg.ts"
import { waitUntil } from "./real.ts"

export type Sessions = QueuePool.QueuePool<PgConnection.PgConnection, SqlError>

/** A pool on the server of the test; `url` is of another database, or goes by way of a proxy. */
export const makePool = (
  options: PgQueuePool.Options & { readonly url?: never; readonly at?: string } = {}
): Effect.Effect<Sessions, PoolError.PoolError | SqlError, Scope.Scope | EmbeddedPg> =>
  Effect.flatMap(EmbeddedPg, (pg) => {
    const { at = pg.url, ...rest } = options
    return PgQueuePool.make({ url: Redacted.make(at), ...rest })
  })

/** The first value of the first row. */
export const ask = (session: PgConnection.PgConnection, sql: string): Effect.Effect<unknown, SqlError> =>
  Effect.map(session.queryValues(sql), (rows) => rows[0]?.[0])

export const askPool = (pool: Sessions, sql: string): Effect.Effect<unknown, SqlError | PoolError.PoolError> =>
  pool.use((session) => ask(session, sql))

/** Waits until the condition holds; the test fails if it does not come to. */
export const until = <E, R>(
  condition: Effect.Effect<boolean, E, R>,
  within: Duration.Input = "10 seconds"
): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    let met = yield* condition
    for (let tries = 0; !met && tries < 5000; tries++) {
      const slept = yield* waitUntil(() => false, 2)
      met = slept || (yield* condition)
    }
    assert.isTrue(met, "what was waited for did not happen")
  }).pipe(Effect.timeout(within), Effect.orDie) as Effect.Effect<void, E, R>

export const untilStats = (pool: Sessions, test: (stats: QueuePool.Stats) => boolean): Effect.Effect<void> =>
  until(Effect.map(pool.stats, test))

/** The events of the pool from now on. */
export const listen = (pool: Sessions): Effect.Effect<Array<PoolEvent.PoolEvent>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const events: Array<PoolEvent.PoolEvent> = []
    yield* Effect.forkScoped(Stream.runForEach(pool.events, (event) => Effect.sync(() => void events.push(event))), {
      startImmediately: true
    })
    yield* Effect.yieldNow
    return events
  })

/** Whether a process is there still: a session is over when the process of its server is. */
export const runs = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
