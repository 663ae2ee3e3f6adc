// How a session is opened, and how the pool hears of its end.
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import { InvalidOptions, PoolError } from "../PoolError.ts"
import type * as QueuePool from "../QueuePool.ts"
import { monotonicMillis } from "./monotonic.ts"
import { type Given, partsOf, sessionSettings } from "./pgOptions.ts"
import { checkOf, type Doom, resetOf } from "./pgReset.ts"
import { clientView, Session, type Sharing } from "./pgSession.ts"
import { connector, noPatience, Wire } from "./pgWire.ts"
import { behind, forgo, isShared, lose, seal } from "./registered.ts"
import { viewOf } from "./viewed.ts"

// A session that was idle for less can hardly have ended unseen. It is the
// shortest time after which the pool looks at its socket again; `checkAfter` is
// when it asks the server.
const glanceAfter = 2

// How long a session's server may take to hang up.
const maxGrace = 1000

type Sessions = QueuePool.QueuePool<PgConnection.PgConnection, SqlError>

type Config = PgClient.PgClientConfig

/** What a swap is given: other settings of the driver, and the time that the old sessions take to go. */
interface Changes {
  readonly config: Partial<Config>
  readonly over?: Duration.Input | undefined
}

type Swap = (changes: Changes) => Effect.Effect<void, SqlError | PoolError>

/** How each pool opens sessions in another way. */
const reopened = new WeakMap<object, Swap>()

export const swap = (pool: Sessions, config: Partial<Config>, over: Duration.Input | undefined): ReturnType<Swap> =>
  Effect.suspend(() => {
    const swapped = reopened.get(pool)
    const known = sessionSettings.join(", ")
    const problems = swapped === undefined
      ? [{ option: "pool", value: pool, allowed: "a pool that PgQueuePool has made" }]
      : Object.entries(config)
        .filter(([name]) => !sessionSettings.includes(name))
        .map(([option, value]) => ({ option, value, allowed: `one of the options ${known}` }))
    return problems.length > 0
      ? Effect.fail(new PoolError({ pool: "PgQueuePool", reason: new InvalidOptions({ problems }) }))
      : swapped!(over === undefined ? { config } : { config, over })
  })

/** The pool knows nothing of what such a session does, and could not tell when it has died. */
const foreign = Effect.suspend(() => {
  const message = "A session that the pool has not opened itself: swap with PgQueuePool.swap"
  return Effect.fail(new SqlError({ reason: new UnknownError({ cause: new Error(message), message }) }))
})

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
    },
    alone: (session, fiber, run) => {
      forgo(pool!, session, fiber)
      return viewOf(pool!, clientView).useExclusive(run)
    }
  }

  const patience = (over: () => void): () => void => {
    const waiting = fork(Effect.andThen(Effect.sleep(resetTimeout), Effect.sync(over)))
    return () => waiting.interruptUnsafe()
  }

  const opened = Effect.fnUntraced(function*(config: Config) {
    const wire = new Wire(connector(config), now)
    // Registered first, so that it runs after the driver's own.
    yield* Effect.addFinalizer(() => wire.close(grace))
    const raw = yield* PgConnection.make({ ...config, stream: wire.open })
    yield* Effect.addFinalizer(() => wire.leave)
    const session = new Session(raw, config, wire, sharing)
    wire.onLost = () => lost(session)
    // A cancel request that finds nothing to cancel has no answer.
    wire.patience = (over, answered) => {
      if (!session.ledger.answers) return noPatience(over, answered)
      session.ledger.whenAnswered(answered)
      return patience(over)
    }
    return session
  })
  const acquire = opened(options)
  const onAcquire = (session: PgConnection.PgConnection) =>
    session instanceof Session ? rest.onAcquire?.(session) ?? Effect.void : foreign
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
      onAcquire,
      check: (session) => check(session as Session),
      checkAfter: Math.min(glanceAfter, checkAfter),
      reset: (session, exit) => reset(session as Session, exit)
    },
    watch: (made) => {
      pool = made
      let last: Config = options
      reopened.set(made, ({ config, ...over }) =>
        Effect.suspend(() => {
          const next = { ...last, ...config }
          return Effect.tap(made.swap(opened(next), over), () => Effect.sync(() => void (last = next)))
        }))
      for (const session of early) lost(session)
      early.clear()
    }
  }
})
