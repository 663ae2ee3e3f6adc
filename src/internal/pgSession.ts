// A session as the pool lends it: a PgConnection that keeps account of what its
// borrower may have left behind, without a word to the server.
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type { Wire } from "./pgWire.ts"

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
  /** A transaction may be open. */
  open = false
  /** Something was sent since the last reset. */
  used = false

  /** The server has nothing of the last borrower's to undo, as far as transactions go. */
  get settled(): boolean {
    return this.running === 0 && !this.open
  }

  readonly begin = (): void => {
    this.running++
    this.used = true
  }

  readonly end = (): void => {
    this.running--
  }

  ended(sql: string, exit: Exit.Exit<unknown, unknown> | undefined): void {
    this.running--
    if (mayBegin(sql)) this.open = true
    else if (this.open && exit !== undefined && Exit.isSuccess(exit) && over.test(sql)) this.open = false
  }
}

export class Tracked implements Connection {
  readonly [PgConnection.TypeId]: PgConnection.TypeId = PgConnection.TypeId
  readonly config: PgConnection.Config
  readonly processId: number
  readonly wire: Wire
  readonly ledger: Ledger
  /** The driver's own: what is sent through it leaves no trace in the ledger. */
  readonly raw: Connection

  constructor(raw: Connection, config: PgConnection.Config, wire: Wire, ledger: Ledger) {
    this.raw = raw
    this.config = config
    this.processId = raw.processId
    this.wire = wire
    this.ledger = ledger
  }

  private track<A>(sql: string, statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    const { ledger } = this
    return Effect.suspend(() => {
      ledger.begin()
      return Effect.onExitPrimitive(statement, (exit) => {
        ledger.ended(sql, exit)
        return undefined
      })
    })
  }

  readonly query: Connection["query"] = (sql, params, prepare) => this.track(sql, this.raw.query(sql, params, prepare))

  readonly queryValues: Connection["queryValues"] = (sql, params, prepare) =>
    this.track(sql, this.raw.queryValues(sql, params, prepare))

  readonly stream: Connection["stream"] = (sql, params) =>
    Stream.unwrap(Effect.as(
      Effect.acquireRelease(
        Effect.sync(this.ledger.begin),
        // A stream that ends well may have been left before its statement was run.
        () => Effect.sync(() => this.ledger.ended(sql, undefined))
      ),
      this.raw.stream(sql, params)
    ))

  readonly listen: Connection["listen"] = (channel) => Effect.andThen(this.hold, this.raw.listen(channel))

  get pin(): Connection["pin"] {
    return Effect.andThen(
      this.hold,
      Effect.map(this.raw.pin, (raw) => new Tracked(raw, this.config, this.wire, this.ledger))
    )
  }

  get interrupt(): Connection["interrupt"] {
    return this.raw.interrupt
  }

  private get hold(): Effect.Effect<void, never, Scope.Scope> {
    return Effect.acquireRelease(Effect.sync(this.ledger.begin), () => Effect.sync(this.ledger.end))
  }
}

export class Session extends Tracked {
  /** When it was last opened, given back or checked. */
  provenAt: number

  constructor(raw: Connection, config: PgConnection.Config, wire: Wire, openedAt: number) {
    super(raw, config, wire, new Ledger())
    this.provenAt = openedAt
  }
}

// Most statements are told by their first letter.
const mayBegin = (sql: string): boolean => {
  const first = sql.charCodeAt(0) | 32
  if (first > 96 && first < 123) {
    return first === 98 /* b */ ? begins.test(sql) : first === 115 /* s */ && starts.test(sql)
  }
  const rest = sql.replace(blank, "")
  // What is neither a word nor a parenthesis is a comment in a comment, or nothing that we know.
  return begins.test(rest) || starts.test(rest) || /^[^a-z(]/i.test(rest)
}

const begins = /^begin\b/i
const starts = /^start\b/i
const blank = /^(?:[\s;]|--[^\n\r]*|\/\*(?:[^*/]|\*(?!\/)|\/(?!\*))*\*\/)+/

// Not ROLLBACK TO, nor AND CHAIN, nor COMMIT PREPARED: these leave a transaction, or say nothing of one.
const over = /^\s*(?:commit|rollback|end|abort)(?:\s+(?:work|transaction))?\s*;?\s*$/i
