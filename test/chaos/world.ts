/** What the parts of a run share. */
import type { PgClient } from "@effect/sql-pg"
import type { Effect } from "effect"
import type { PoolError } from "effect-queuepool"
import type { SqlError } from "effect/sql/SqlError"
import type { EmbeddedPg } from "../kit/EmbeddedPg.ts"
import type { Sessions } from "../kit/sessions.ts"
import type { TcpProxy } from "../kit/TcpProxy.ts"
import type { Borrows } from "./borrows.ts"
import type { Notes } from "./notes.ts"
import type { Setting } from "./setting.ts"
import type { Sockets } from "./sockets.ts"
import type { Stalls } from "./stalls.ts"

export interface World {
  readonly notes: Notes
  readonly stalls: Stalls
  readonly setting: Setting
  readonly pg: EmbeddedPg["Service"]
  readonly proxy: TcpProxy["Service"]
  readonly sockets: Sockets
  readonly borrows: Borrows
  /** Its borrows are timed. */
  readonly pool: Sessions
  /** Has the pool open its sessions anew. */
  readonly swap: Effect.Effect<void, SqlError | PoolError.PoolError>
  /** Borrows from the pool too. */
  readonly client: PgClient.PgClient
  /** Transactions that the program knows to have been committed. */
  readonly committed: Set<string>
  /** Transactions of which it does not know, because somebody interrupted them. */
  readonly unknown: Set<string>
}
