// How a session is opened, and how the pool hears of its end.
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type { PoolError } from "../PoolError.ts"
import type * as QueuePool from "../QueuePool.ts"
import { monotonicMillis } from "./background.ts"
import { type Given, partsOf } from "./pgOptions.ts"
import { checkOf, type Doom, resetOf } from "./pgReset.ts"
import { Session, type Sharing } from "./pgSession.ts"
import { connector, noPatience, Wire } from "./pgWire.ts"
import { behind, isShared, lose, seal } from "./registered.ts"

// A session that was idle for less can hardly have ended unseen. It is the
// shortest time after which the pool looks at its socket again; `checkAfter` is
// when it asks the server.
const glanceAfter = 2

// How long a session's server may take to hang up.
const maxGrace = 1000

type Sessions = QueuePool.QueuePool<PgConnection.PgConnection, SqlError>

/** What the pool knows of a session. */
interface Behind {
  readonly state: {
    readonly items: { find(session: Session, holder: undefined): { readonly idleSince: number } | undefined }
  }
}

/** How to make the pool, and what is then to be told of it. */
export interface Plan<R> {
  readonly settings: QueuePool.Options<PgConnection.PgConnection, SqlError, R | Scope.Scope>
  readonly acquire: Effect.Effect<PgConnection.PgConnection, SqlError, R | Scope.Scope>
  readonly watch: (pool: Sessions) => void
  /** Milliseconds. */
  readonly borrowTimeout: number
  readonly grace: number
}

/** `onLost` is told of each session that ends by itself. */
export const plan = Effect.fnUntraced(function*<R>(
  options: Given<R>,
  onLost?: () => void
): Effect.fn.Return<Plan<R>, PoolError> {
  const { borrowTimeout, checkAfter, closeTimeout, resetTimeout, rest } = yield* partsOf(options)
  const clock = yield* Clock.Clock
  const now = (): number => monotonicMillis(clock)
  const connect = connector(options)
  const grace = Math.min(maxGrace, closeTimeout / 2)

  // Sessions can end before the pool is there: while it is warmed.
  let pool: Sessions | undefined
  const early = new Set<Session>()
  const context = yield* Effect.context()
  const run = Effect.runSyncWith(context)
  const fork = Effect.runForkWith(context)
  const doom: Doom = (session, reason) => {
    // Sessions come back only to a pool that is there.
    run(pool!.invalidate(session, reason))
  }
  const lost = (session: Session): void => {
    if (pool === undefined) early.add(session)
    else lose(pool, session, "disconnected")
    onLost?.()
  }

  // A session is shared only when it is lent, and lent only by a pool that is there.
  const sharing: Sharing | undefined = options.multiplex !== true ? undefined : {
    isShared: (session) => pool !== undefined && isShared(pool, session),
    seal: (session) => {
      if (pool !== undefined) seal(pool, session)
    }
  }

  const patience = (over: () => void): () => void => {
    const waiting = fork(Effect.andThen(Effect.sleep(resetTimeout), Effect.sync(over)))
    return () => waiting.interruptUnsafe()
  }

  const acquire = Effect.gen(function*() {
    const wire = new Wire(connect, now)
    // Registered first, so that it runs after the driver's own.
    yield* Effect.addFinalizer(() => wire.close(grace))
    const raw = yield* PgConnection.make({ ...options, stream: wire.open })
    yield* Effect.addFinalizer(() => wire.leave)
    const session = new Session(raw, options, wire, sharing)
    wire.onLost = () => lost(session)
    // A cancel request that finds nothing to cancel has no answer.
    wire.patience = (over) => session.ledger.answers ? patience(over) : noPatience(over)
    return session
  })
  // A session that ends while it is checked is in the pool no more, and its check is over.
  const idleFor = (session: Session): number =>
    now() - (behind(pool!) as Behind).state.items.find(session, undefined)!.idleSince
  const check = checkOf<R>(options.check, checkAfter, idleFor)
  const reset = resetOf<R>(options.reset ?? "rollback", doom)

  return {
    acquire,
    borrowTimeout,
    grace,
    settings: {
      ...rest,
      acquire,
      check: (session) => check(session as Session),
      checkAfter: Math.min(glanceAfter, checkAfter),
      reset: (session, exit) => reset(session as Session, exit)
    },
    watch: (made) => {
      pool = made
      for (const session of early) lost(session)
      early.clear()
    }
  }
})
