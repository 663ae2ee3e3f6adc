/** lightning-pool. */
import { Effect } from "effect"
import { Pool, type PoolFactory } from "lightning-pool"
import { Client } from "pg"
import type { Items } from "../items.ts"
import type { Contender, Ends, Lease, Sessions, Setup, Subject } from "../model.ts"
import { attempt, clientLease, itemLease, made } from "./common.ts"

const poolOf = <A>(
  factory: PoolFactory<A>,
  { borrowTimeout = 5000, drainTimeout = 500, idle, max, min = 0 }: Setup,
  leaseOf: (item: A, ends: Ends) => Lease
): Effect.Effect<Subject, unknown> =>
  Effect.gen(function*() {
    const pool = yield* made(() =>
      new Pool<A>(factory, {
        min,
        max,
        acquireTimeoutMillis: borrowTimeout,
        // It retries no create unless it is told; here, for as long as the borrower waits.
        acquireMaxRetries: borrowTimeout / 100,
        acquireRetryWait: 100,
        houseKeepInterval: 100,
        ...(idle === undefined ? {} : { idleTimeoutMillis: idle })
      })
    )
    pool.on("error", () => {})
    pool.start()
    const borrow = Effect.map(attempt(() => pool.acquire()), (item) =>
      leaseOf(item, {
        endsLease: true,
        giveBack: Effect.sync(() => pool.release(item)),
        invalidate: Effect.sync(() => pool.destroy(item))
      }))
    return { borrow, failing: undefined, close: attempt(() => pool.close(drainTimeout)) }
  })

const items = <A>(world: Items<A>, setup: Setup) =>
  poolOf<A>(
    {
      create: world.open,
      destroy: world.close,
      validate: async (item) => world.isAlive(item)
    },
    setup,
    (item, ends) => itemLease(world, item, ends)
  )

const sessions = ({ url }: Sessions, setup: Setup) =>
  poolOf<Client>(
    {
      create: async () => {
        const client = new Client({ connectionString: url })
        client.on("error", () => {})
        await client.connect()
        return client
      },
      destroy: (client) => client.end(),
      validate: async (client) => void await client.query("select 1"),
      // Its documents have a rollback here; this is all that a server can undo.
      reset: async (client) => {
        await client.query("rollback")
        await client.query("discard all")
      }
    },
    setup,
    clientLease
  )

export const lightning: Contender = {
  name: "lightning-pool",
  title: "lightning-pool",
  packageName: "lightning-pool",
  setup:
    "`validate`, `acquireTimeoutMillis`, a create retried every 100 ms for as long as the borrower waits, housekeeping every 100 ms; " +
    "closed by `close(500)`",
  items,
  sessions
}
