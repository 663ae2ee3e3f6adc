// When a connection is not lent again, and how a pool hears of it.
import * as Effect from "effect/Effect"
import { setImmediate } from "node:timers"
import * as RecyclePolicy from "../RecyclePolicy.ts"
import type { Fault, SocketConnection } from "./socketConnection.ts"
import type { Connection } from "./socketTypes.ts"

const rule = (
  reason: Fault,
  isFaulty: (connection: SocketConnection, usage: RecyclePolicy.Usage<Connection>) => boolean
): RecyclePolicy.RecyclePolicy<Connection> =>
  RecyclePolicy.when((usage) => isFaulty(usage.item as SocketConnection, usage), reason)

/** The last also takes note that the connection has come back. */
export const rules: ReadonlyArray<RecyclePolicy.RecyclePolicy<Connection>> = [
  rule("disconnected", ({ isDead }) => isDead),
  rule("unread bytes", (connection, { moment }) => moment === "return" ? connection.isUnread : connection.isUnwanted),
  rule(
    "out of step",
    (connection, { exit, moment }) => moment === "return" ? !connection.cameBack(exit) : connection.isSpoiled
  )
]

export const monitor = (connection: Connection): Effect.Effect<void> => (connection as SocketConnection).faulty

/**
 * Two turns of the event loop: the first may be the one that is under way, the
 * second asks the operating system what has come meanwhile.
 */
const turns = Effect.callback<void>((resume) => {
  setImmediate(() => setImmediate(() => resume(Effect.void)))
})

/** The end of a connection may have arrived while the program was busy, and not have been heard of yet. */
export const glance = (connection: Connection): Effect.Effect<boolean> => Effect.map(turns, () => connection.isOpen)
