/** What a program of the scoreboard sees of a pool, whatever the pool. */
import type { Effect, Scope } from "effect"
import type { Book, Script } from "./book.ts"
import type { Gate } from "./gate.ts"
import type { Items } from "./items.ts"

/**
 * How a pool is to be set up: in milliseconds, and as far as it has the option. What is left out is as the pool's own
 * documents have it.
 */
export interface Setup {
  readonly max: number
  readonly min?: number | undefined
  readonly borrowTimeout?: number | undefined
  readonly openTimeout?: number | undefined
  readonly closeTimeout?: number | undefined
  readonly drainTimeout?: number | undefined
  /** How long an item may be idle. */
  readonly idle?: number | undefined
  /** How long an item may live; with jitter, where the pool has it. */
  readonly age?: number | undefined
  /** The deadline of one query. */
  readonly queryTimeout?: number | undefined
}

/** How a lease, or the item that it has, is ended by the pool's own means. */
export interface Ends {
  readonly giveBack: Effect.Effect<unknown>
  readonly invalidate: Effect.Effect<unknown>
  /** Whether to invalidate is to give back too. */
  readonly endsLease: boolean
}

export interface Lease extends Ends {
  /** The number of the item's open; of a session, that of its process. */
  readonly id: number
  /** Whether the item does its work: it lives, the session answers. */
  readonly works: Effect.Effect<boolean>
  /** The item dies, and nobody is told. */
  readonly die: () => void
  /** Sessions alone: runs a statement, with the deadline of the setup, and gives the first value of each row. */
  readonly query: (sql: string) => Effect.Effect<ReadonlyArray<unknown>, unknown>
}

export interface Subject {
  readonly borrow: Effect.Effect<Lease, unknown>
  /**
   * Borrows for one piece of work, which fails, in the form that the pool has for that; undefined where it has none.
   * Gives the number of the item.
   */
  readonly failing: Effect.Effect<number, unknown> | undefined
  /** Closes the pool, as its documents say, and ends when the pool says that it is closed. */
  readonly close: Effect.Effect<unknown, unknown>
}

/** Makes a pool; fails or dies when the pool refuses its options. */
export type Make<World> = (world: World, setup: Setup) => Effect.Effect<Subject, unknown, Scope.Scope>

export interface Sessions extends Gate {
  /** The server itself. */
  readonly direct: string
  /** Runs a statement as the superuser, at once: the bytes are on their way when it returns. */
  readonly admin: (sql: string) => Promise<ReadonlyArray<ReadonlyArray<unknown>>>
}

export interface Contender {
  /** As `--pool` takes it. */
  readonly name: string
  /** The package whose version is told. */
  readonly packageName: string
  readonly title: string
  /** How it was set up, in a line. */
  readonly setup: string
  /** A pool of anything. */
  readonly items?: (<A>(world: Items<A>, setup: Setup) => ReturnType<Make<Items<A>>>) | undefined
  /** A pool of PostgreSQL sessions. */
  readonly sessions?: Make<Sessions> | undefined
}

/** What a program is given. */
export interface Arena {
  /** A pool on items that follow the script; on sessions behind a gate, where the pool has nothing else. */
  readonly start: (
    setup: Setup,
    script?: Script
  ) => Effect.Effect<{ readonly book: Book; readonly pool: Subject }, unknown, Scope.Scope>
  /** The same on items that are all equal. */
  readonly startEqual: Arena["start"]
  /** A pool on sessions. */
  readonly startSessions: (
    setup: Setup,
    how?: { readonly direct?: boolean | undefined; readonly user?: string | undefined }
  ) => Effect.Effect<{ readonly sessions: Sessions; readonly pool: Subject }, unknown, Scope.Scope>
  readonly hasItems: boolean
  readonly admin: Sessions["admin"]
  /** Tells how far the program is, for the case that it is cut off. */
  readonly progress: (figure: string) => void
}

export interface Verdict {
  readonly green: boolean
  readonly figure: string
}

export interface Program {
  /** V1 to V22, as in the contract. */
  readonly id: string
  readonly name: string
  /** What green means, in a line. */
  readonly criterion: string
  /** Whether it needs PostgreSQL whatever the pool. */
  readonly onSessions: boolean
  /** Pools that cannot take part, by name, with the reason. */
  readonly absent: Readonly<Record<string, string>>
  /** What is to be known of a pool's red, by name. */
  readonly remarks: Readonly<Record<string, string>>
  readonly run: (arena: Arena) => Effect.Effect<Verdict, unknown, Scope.Scope>
}
