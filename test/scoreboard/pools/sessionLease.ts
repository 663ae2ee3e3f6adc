/** The lease of a session of @effect/sql-pg, in PgPool and in ours. */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"
import type { Ends, Lease } from "../model.ts"

export const sessionLease = (
  session: PgConnection.PgConnection,
  queryTimeout: number | undefined,
  ends: Ends
): Lease => {
  const query = (sql: string): Effect.Effect<ReadonlyArray<unknown>, unknown> => {
    const asked = Effect.map(session.queryValues(sql), (rows) => rows.map((row) => row[0]))
    return queryTimeout === undefined ? asked : Effect.timeout(asked, queryTimeout)
  }
  return {
    ...ends,
    id: session.processId,
    works: Effect.map(Effect.exit(query("select 1")), (exit) => exit._tag === "Success"),
    die: () => {},
    query
  }
}
