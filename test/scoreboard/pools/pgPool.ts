/** The PgPool of @effect/sql-pg. */
import { PgPool } from "@effect/sql-pg"
import { Effect, Exit, Redacted, Scope } from "effect"
import type { Contender, Sessions, Setup } from "../model.ts"
import { sessionLease } from "./sessionLease.ts"

const make = ({ url }: Sessions, { age, idle, max, min, openTimeout, queryTimeout }: Setup) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const pool = yield* Scope.provide(
      PgPool.make({
        url: Redacted.make(url),
        maxConnections: max,
        minConnections: min,
        idleTimeout: idle,
        connectionTTL: age,
        connectTimeout: openTimeout
      }),
      scope
    )
    const borrow = Effect.gen(function*() {
      const lease = yield* Scope.make()
      const session = yield* Scope.provide(pool.get, lease)
      return sessionLease(session, queryTimeout, {
        endsLease: false,
        giveBack: Scope.close(lease, Exit.void),
        invalidate: pool.invalidate(session)
      })
    })
    const failing = Effect.suspend(() => {
      let id = 0
      return Effect.map(
        Effect.exit(pool.use((session) => Effect.suspend(() => Effect.fail(id = session.processId)))),
        () => id
      )
    })
    return { borrow, failing, close: Scope.close(scope, Exit.void) }
  })

export const pgPool: Contender = {
  name: "sql-pg",
  title: "@effect/sql-pg PgPool",
  packageName: "@effect/sql-pg",
  setup: "`connectTimeout`, `idleTimeout`, `connectionTTL`; a statement's time limit is `Effect.timeout`",
  sessions: make
}
