/// <reference types="node" preserve="true" />
// What happens to a session between two borrowers, and before the second.
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { SqlError } from "effect/sql/SqlError"
import { setImmediate } from "node:timers"
import type { Session } from "./pgSession.ts"

type AnyExit = Exit.Exit<unknown, unknown>

export type Level<R> =
  | "rollback"
  | "discard"
  | "none"
  | ((connection: PgConnection, exit: AnyExit) => Effect.Effect<unknown, unknown, R>)

/** Has the session recycled when the reset is over. */
export type Doom = (session: Session, reason: string) => void

class StillInUse extends Data.TaggedError("StillInUse")<{ readonly message: string }> {}

// Waits behind whatever the borrower has left running; the pool's resetTimeout ends that.
const rollback = ({ ledger, raw }: Session): Effect.Effect<void, SqlError | StillInUse> =>
  Effect.flatMap(raw.query("ROLLBACK"), () => {
    ledger.open = false
    return ledger.running === 0
      ? Effect.void
      : Effect.fail(new StillInUse({ message: "The session came back with a stream, listener or pin still open" }))
  })

// Whoever comes next must not wait for a statement that was left to run.
const quiet = ({ ledger, raw }: Session): Effect.Effect<void, SqlError> =>
  Effect.map(raw.query(""), () => {
    ledger.abandoned = false
  })

// What DISCARD ALL does, but for the statements that the driver has prepared: it
// would believe that it still has them. A block, because the driver sends one
// statement at a time, and each would be a round trip.
const discardOthers = `DO $discard$
DECLARE prepared text;
BEGIN
  EXECUTE 'CLOSE ALL';
  SET SESSION AUTHORIZATION DEFAULT;
  RESET ALL;
  FOR prepared IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP
    EXECUTE pg_catalog.format('DEALLOCATE %I', prepared);
  END LOOP;
  UNLISTEN *;
  PERFORM pg_catalog.pg_advisory_unlock_all();
  DISCARD PLANS;
  DISCARD TEMP;
  DISCARD SEQUENCES;
END $discard$`

const discard = ({ config, ledger, raw }: Session): Effect.Effect<void, SqlError> => {
  const prepares = config.prepare !== false && (config.preparedStatementCacheSize ?? 1) > 0
  return Effect.map(raw.query(prepares ? discardOthers : "DISCARD ALL"), () => {
    ledger.used = false
  })
}

const settle = (session: Session): Effect.Effect<void, SqlError | StillInUse> =>
  session.ledger.settled ? Effect.void : rollback(session)

/** The pool's reset: costs nothing where the ledger says that there is nothing to do. */
export const resetOf = <R>(level: Level<R>, doom: Doom) => {
  const work = (session: Session, exit: AnyExit): Effect.Effect<unknown, unknown, R> | undefined => {
    const { ledger } = session
    switch (level) {
      case "none":
        return undefined
      case "rollback":
        return ledger.settled ? undefined : rollback(session)
      case "discard":
        return ledger.used ? Effect.andThen(settle(session), discard(session)) : undefined
      default:
        return Effect.andThen(level(session, exit), Effect.suspend(() => settle(session)))
    }
  }
  return (session: Session, exit: AnyExit): Effect.Effect<unknown, unknown, R> | undefined => {
    const { ledger, wire } = session
    ledger.sole = false
    ledger.answered()
    if (wire.dead) doom(session, "disconnected")
    else if (wire.unconfirmed > 0) doom(session, "cancel unconfirmed")
    else if (ledger.abandoned) return Effect.flatMap(quiet(session), () => work(session, exit) ?? Effect.void)
    else return work(session, exit)
    return undefined
  }
}

/**
 * Two turns of the event loop: the first may be the one that is under way, the
 * second asks the operating system what has come meanwhile.
 */
const turns = Effect.callback<void>((resume) => {
  setImmediate(() => setImmediate(() => resume(Effect.void)))
})

/**
 * The pool's check, in two steps. The end of a session may have arrived while the
 * program was busy, and not have been read: so wait for it first, and the pool takes
 * the session away. Only one that was silent for `checkAfter` is asked; the answer to an empty text is the cheapest.
 */
export const checkOf = <R>(
  ask: ((connection: PgConnection) => Effect.Effect<unknown, unknown, R>) | undefined,
  checkAfter: number,
  idleFor: (session: Session) => number
) =>
(session: Session): Effect.Effect<unknown, unknown, R> =>
  Effect.flatMap(turns, () => {
    if (idleFor(session) < checkAfter) return Effect.void
    return ask === undefined ? session.raw.query("") : ask(session)
  })
