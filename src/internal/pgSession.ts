// A session as the pool lends it: a PgConnection that keeps account of what its
// borrower may have left behind, without a word to the server.
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Connection as SqlConnection } from "effect/sql/SqlConnection"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { toSqlError } from "./pgErrors.ts"
import type { Wire } from "./pgWire.ts"
import type { View } from "./view.ts"

type Connection = PgConnection.PgConnection

/**
 * What is known of a session's transaction.
 *
 * The driver sends one statement at a time, by the extended protocol, which
 * refuses several in one text. So a transaction can only begin with a statement
 * whose first word is BEGIN or START, and is surely over when a plain COMMIT or
 * ROLLBACK has succeeded. Everything between may be a transaction, failed or not.
 */
export class Ledger {
  /** Statements, streams, listeners and pins that have not ended. */
  running = 0
  /** The statements among them. */
  statements = 0
  /** A transaction may be open. */
  open = false
  /** Something was sent since the last reset. */
  used = false
  /** The server may be at work on a statement for which nobody waits any more. */
  abandoned = false
  /** Until the reset: a statement was sent that is not counted, for it is over when its lease is. */
  sole = false
  private waiting: Array<() => void> | undefined = undefined

  /** The server has nothing of the last borrower's to undo, as far as transactions go. */
  get settled(): boolean {
    return this.running === 0 && !this.open
  }

  /** The server owes an answer. */
  get answers(): boolean {
    return this.statements > 0 || this.sole
  }

  /** Hears when what was sent is answered. */
  whenAnswered(heard: () => void): void {
    this.waiting ??= []
    this.waiting.push(heard)
  }

  /** A statement has ended, and on a session with a cancel request it was the only one. */
  answered(): void {
    const { waiting } = this
    if (waiting === undefined) return
    this.waiting = undefined
    for (const heard of waiting) heard()
  }

  begin(): void {
    this.running++
    this.used = true
  }

  end(): void {
    this.running--
  }

  ended(sql: string, exit: Exit.Exit<unknown, unknown> | undefined): void {
    this.running--
    if (begins(sql)) this.open = true
    else if (this.open && exit !== undefined && Exit.isSuccess(exit) && over.test(sql)) this.open = false
  }
}

/** What is done with a session. */
export type Run<A> = (session: Connection) => Effect.Effect<A, SqlError>

/** What a session asks of a pool that lends it to several borrowers at once. */
export interface Sharing {
  readonly isShared: (session: Tracked) => boolean
  /** Nobody else gets the session until all who have it have left. */
  readonly seal: (session: Tracked) => void
  /** The fiber goes on with a session that it has alone, and has this one no more. */
  readonly alone: <A>(session: Tracked, fiber: number, run: Run<A>) => Effect.Effect<A, SqlError>
}

/** Told to a borrower who would have others' statements run in its transaction. */
class SharedSession extends Data.TaggedError("SharedSession")<{ readonly message: string }> {}

const sharedSession = (): SqlError => {
  const message = "A transaction cannot begin on a session that others have too: " +
    "borrow it with getExclusive or useExclusive, or use withTransaction"
  return new SqlError({
    reason: new UnknownError({ cause: new SharedSession({ message }), message, operation: "query" })
  })
}

/** The statement was not sent: it needs a session for itself. */
export const needsAlone = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) =>
    Cause.isFailReason(reason) && reason.error instanceof SqlError && reason.error.reason.cause instanceof SharedSession
  )

export class Tracked implements Connection {
  // First what each statement touches.
  /** The driver's own: what is sent through it leaves no trace in the ledger. */
  readonly raw: Connection
  readonly ledger: Ledger
  /** Undefined when nobody else can send anything here: no `multiplex`, or pinned. */
  protected readonly sharing: Sharing | undefined
  readonly wire: Wire
  readonly [PgConnection.TypeId]: PgConnection.TypeId = PgConnection.TypeId
  readonly config: PgConnection.Config
  readonly processId: number

  constructor(
    raw: Connection,
    config: PgConnection.Config,
    wire: Wire,
    ledger: Ledger,
    sharing: Sharing | undefined
  ) {
    this.raw = raw
    this.config = config
    this.processId = raw.processId
    this.wire = wire
    this.ledger = ledger
    this.sharing = sharing
  }

  private track<A>(sql: string, statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    const { ledger, sharing } = this
    return Effect.suspend(() => {
      // A fiber can be interrupted between any two operations: only what has begun has an end.
      let begun = false
      const run = Effect.suspend(() => {
        if (sharing !== undefined && begins(sql) && sharing.isShared(this)) return Effect.fail(sharedSession())
        ledger.begin()
        ledger.statements++
        begun = true
        return statement
      })
      return Effect.onExitPrimitive(run, (exit) => {
        if (!begun) return undefined
        ledger.statements--
        ledger.answered()
        ledger.ended(sql, exit)
        if (sharing !== undefined && Exit.isFailure(exit)) this.failed(sharing, exit.cause)
        return undefined
      })
    })
  }

  /** Nobody is to come where a statement is left that cannot be cancelled, nor to a session that has just died. */
  protected failed(sharing: Sharing, cause: Cause.Cause<unknown>): void {
    if (Cause.hasInterrupts(cause)) this.ledger.abandoned = true
    else if (!this.wire.dead) return
    sharing.seal(this)
  }

  readonly query: Connection["query"] = (sql, params, prepare) => this.track(sql, this.raw.query(sql, params, prepare))

  readonly queryValues: Connection["queryValues"] = (sql, params, prepare) =>
    this.track(sql, this.raw.queryValues(sql, params, prepare))

  readonly stream: Connection["stream"] = (sql, params) =>
    Stream.unwrap(Effect.as(
      Effect.acquireRelease(
        this.held,
        // A stream that ends well may have been left before its statement was run.
        () => Effect.sync(() => this.ledger.ended(sql, undefined))
      ),
      this.raw.stream(sql, params)
    ))

  readonly listen: Connection["listen"] = (channel) => Effect.andThen(this.hold, this.raw.listen(channel))

  get pin(): Connection["pin"] {
    return Effect.andThen(
      this.hold,
      Effect.map(this.raw.pin, (raw) => new Tracked(raw, this.config, this.wire, this.ledger, undefined))
    )
  }

  get interrupt(): Connection["interrupt"] {
    return this.raw.interrupt
  }

  private get hold(): Effect.Effect<void, never, Scope.Scope> {
    return Effect.acquireRelease(this.held, () => Effect.sync(() => this.ledger.end()))
  }

  // Meanwhile the statements of all others wait: so the fewer there are the better.
  private readonly held: Effect.Effect<void> = Effect.sync(() => {
    this.ledger.begin()
    this.sharing?.seal(this)
  })
}

export class Session extends Tracked {
  /** The session as a client's statements know it, once there was one. */
  connection: SqlConnection | undefined = undefined

  /** A transaction begins: with `multiplex` on a session for itself. */
  begin<A>(run: Run<A>): Effect.Effect<A, SqlError> {
    const { sharing } = this
    if (sharing === undefined) return run(this)
    // With a `multiplexConcurrency` of 1 it has the session for itself all the same.
    return Effect.withFiber(({ id }) => sharing.isShared(this) ? sharing.alone(this, id, run) : run(this))
  }

  /**
   * The only statement of its lease, which it cannot outlive: so there is nothing to count, and
   * what it leaves behind is known from its text.
   */
  asSole<A>(statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    const { ledger, sharing } = this
    ledger.used = true
    // A statement among those of others is not cancelled.
    ledger.sole = sharing === undefined
    return statement
  }

  /** Such a statement has failed, or what was done with its result; its lease is about to end. */
  soleFailed(cause: Cause.Cause<unknown>): void {
    if (this.sharing !== undefined) this.failed(this.sharing, cause)
  }

  constructor(raw: Connection, config: PgConnection.Config, wire: Wire, sharing: Sharing | undefined) {
    super(raw, config, wire, new Ledger(), sharing)
  }
}

/** A pool of sessions as a client sees it. */
export const clientView: View<Connection, SqlError> = {
  error: toSqlError,
  failed: (session, cause) => {
    if (session instanceof Session) session.soleFailed(cause)
  }
}

// Most statements are told by their first letter.
export const begins = (sql: string): boolean => {
  const first = sql.charCodeAt(0) | 32
  return first > 96 && first < 123 ? beginsAt(sql, 0) : beginsAt(sql, firstWord(sql))
}

const beginsAt = (sql: string, at: number): boolean => {
  const first = sql.charCodeAt(at) | 32
  // Most statements are a SELECT.
  const starts = first === 115 /* s */ && (sql.charCodeAt(at + 1) | 32) === 116 /* t */
  const word = first === 98 /* b */ ? begin : starts ? start : undefined
  if (word === undefined) return false
  word.lastIndex = at
  return word.test(sql)
}

const begin = /begin\b/iy
const start = /start\b/iy

/** Where the first word is: behind blanks, semicolons and comments. A comment may stand in a comment. */
const firstWord = (sql: string): number => {
  let comments = 0
  let at = 0
  for (; at < sql.length; at++) {
    const here = sql.charAt(at)
    const two = here + sql.charAt(at + 1)
    if (two === "/*") {
      comments++
      at++
    } else if (comments > 0) {
      if (two !== "*/") continue
      comments--
      at++
    } else if (two === "--") {
      while (at < sql.length && !lineEnds.includes(sql.charAt(at))) at++
    } else if (!blanks.includes(here)) {
      break
    }
  }
  return at
}

const lineEnds = "\n\r"
const blanks = " \t\n\v\f\r;"

// Not ROLLBACK TO, nor AND CHAIN, nor COMMIT PREPARED: these leave a transaction, or say nothing of one.
const over = /^\s*(?:commit|rollback|end|abort)(?:\s+(?:work|transaction))?\s*;?\s*$/i
