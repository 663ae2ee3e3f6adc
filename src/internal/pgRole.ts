// What a server says of itself: whether it is the primary, and which one of those that say so.
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"

export type Role = "primary" | "replica"

/** What was learnt from a server. */
export interface Learnt {
  readonly role: Role
  /** Grows by one or more with each promotion. 0: not known, as of a replica. */
  readonly timeline: number
}

const value = (session: PgConnection, sql: string): Effect.Effect<unknown, SqlError> =>
  Effect.map(session.queryValues(sql), (rows) => rows[0]?.[0])

export const roleOf = (session: PgConnection): Effect.Effect<Role, SqlError> =>
  Effect.map(value(session, "select pg_is_in_recovery()"), (recovers) => recovers === true ? "replica" : "primary")

// The first eight digits of a log file's name are the timeline. The name that `pg_control_checkpoint`
// gives comes only with the first checkpoint after a promotion.
const timelineSql = "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"

/** Some services that speak PostgreSQL's protocol keep their log to themselves. */
const timelineOf = (session: PgConnection): Effect.Effect<number> =>
  value(session, timelineSql).pipe(
    Effect.map((digits) => Number.parseInt(String(digits), 16)),
    Effect.orElseSucceed(() => 0)
  )

export const learn = (session: PgConnection): Effect.Effect<Learnt, SqlError> =>
  Effect.flatMap(roleOf(session), (role) => {
    const timeline = role === "replica" ? Effect.succeed(0) : timelineOf(session)
    return Effect.map(timeline, (timeline) => ({ role, timeline }))
  })
