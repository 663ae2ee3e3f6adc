/** pg-pool, the pool of node-postgres. */
import { Effect } from "effect"
import { Pool } from "pg"
import type { Contender, Sessions, Setup } from "../model.ts"
import { attempt, clientLease, made } from "./common.ts"

const make = ({ url }: Sessions, { age, borrowTimeout = 5000, idle, max, min, queryTimeout }: Setup) =>
  Effect.gen(function*() {
    const pool = yield* made(() =>
      new Pool({
        connectionString: url,
        max,
        ...(min === undefined ? {} : { min }),
        connectionTimeoutMillis: borrowTimeout,
        ...(idle === undefined ? {} : { idleTimeoutMillis: idle }),
        ...(age === undefined ? {} : { maxLifetimeSeconds: age / 1000 }),
        ...(queryTimeout === undefined ? {} : { query_timeout: queryTimeout })
      })
    )
    pool.on("error", () => {})
    // A client that is lent tells its errors to nobody else.
    pool.on("connect", (client) => void client.on("error", () => {}))
    const borrow = Effect.map(attempt(() => pool.connect()), (client) =>
      clientLease(client, {
        endsLease: true,
        giveBack: Effect.sync(() => client.release()),
        invalidate: Effect.sync(() => client.release(true))
      }))
    const failing = Effect.suspend(() => {
      let id = 0
      pool.once("acquire", (client) => {
        id = (client as unknown as { readonly processID: number }).processID
      })
      return Effect.map(Effect.exit(attempt(() => pool.query("select 1 / 0"))), () => id)
    })
    return { borrow, failing, close: attempt(() => pool.end()) }
  })

export const nodePostgres: Contender = {
  name: "pg-pool",
  title: "pg-pool",
  packageName: "pg-pool",
  setup: "`connectionTimeoutMillis`, `idleTimeoutMillis`, `maxLifetimeSeconds`, `query_timeout`, `error` listeners",
  sessions: make
}
