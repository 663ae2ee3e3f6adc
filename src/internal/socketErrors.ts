// What can go wrong with a connection.
import * as Data from "effect/Data"
import { hasProperty } from "effect/Predicate"
import type { InvalidOptions, Problem } from "../PoolError.ts"
import type { Endpoint } from "./socketEndpoint.ts"
import { unreachable } from "./unreachable.ts"

/**
 * No connection: the host has no address, nobody listens there, or it is out of reach.
 * `cause` is Node's error, and `code` that error's, such as `"ECONNREFUSED"`.
 *
 * @category errors
 * @since 1.0.0
 */
export class ConnectFailed extends Data.TaggedClass("ConnectFailed")<{
  readonly cause: unknown
  readonly code: string | undefined
}> {}

/**
 * No connection within `connectTimeout`, given here in milliseconds. `phase` is what had
 * not come: an answer of the host, or the end of the TLS handshake.
 *
 * @category errors
 * @since 1.0.0
 */
export class ConnectTimeout extends Data.TaggedClass("ConnectTimeout")<{
  readonly connectTimeout: number
  readonly phase: "connecting" | "handshake"
}> {}

/**
 * The TLS handshake failed: the server speaks no TLS, or none that both sides accept.
 *
 * @category errors
 * @since 1.0.0
 */
export class TlsFailed extends Data.TaggedClass("TlsFailed")<{
  readonly cause: unknown
  readonly code: string | undefined
}> {}

/**
 * The server's certificate was not accepted. `code` says why, for example
 * `"ERR_TLS_CERT_ALTNAME_INVALID"` (it is for another name), `"CERT_HAS_EXPIRED"` or
 * `"DEPTH_ZERO_SELF_SIGNED_CERT"` (nobody known has signed it).
 *
 * @category errors
 * @since 1.0.0
 */
export class CertificateRejected extends Data.TaggedClass("CertificateRejected")<{
  readonly cause: unknown
  readonly code: string | undefined
}> {}

/**
 * The connection broke. `operation` is what was asked of it.
 *
 * @category errors
 * @since 1.0.0
 */
export class ConnectionLost extends Data.TaggedClass("ConnectionLost")<{
  readonly operation: "read" | "write"
  readonly cause: unknown
  readonly code: string | undefined
}> {}

/**
 * The peer has sent its end: there is no more to read. What came before has been read,
 * or is too little for what was asked: `unread` tells how many bytes.
 *
 * @category errors
 * @since 1.0.0
 */
export class Ended extends Data.TaggedClass("Ended")<{ readonly unread: number }> {}

/**
 * The connection was ended, taken over or released on this side.
 *
 * @category errors
 * @since 1.0.0
 */
export class ConnectionClosed extends Data.TaggedClass("ConnectionClosed")<{
  readonly operation: "read" | "write"
}> {}

/**
 * The delimiter did not come within `limit` bytes.
 *
 * @category errors
 * @since 1.0.0
 */
export class DelimiterMissing extends Data.TaggedClass("DelimiterMissing")<{ readonly limit: number }> {}

/**
 * Another fiber reads from the connection: of two readers nobody knows who gets what.
 *
 * @category errors
 * @since 1.0.0
 */
export class AlreadyReading extends Data.TaggedClass("AlreadyReading") {}

/**
 * So many bytes had come before the lease said its first word: they are an answer to
 * somebody else. The connection is recycled when it comes back.
 *
 * @category errors
 * @since 1.0.0
 */
export class OutOfStep extends Data.TaggedClass("OutOfStep")<{ readonly unread: number }> {}

/**
 * Everything that a `ConnectionError` can tell.
 *
 * @category errors
 * @since 1.0.0
 */
export type Reason =
  | ConnectFailed
  | ConnectTimeout
  | TlsFailed
  | CertificateRejected
  | ConnectionLost
  | Ended
  | ConnectionClosed
  | DelimiterMissing
  | AlreadyReading
  | OutOfStep
  | InvalidOptions

/**
 * Why there is no connection, or why it could not be read from or written to.
 *
 * **When to use**
 *
 * Use `Effect.catchReason("ConnectionError", "Ended", ...)` to handle one reason.
 *
 * @category errors
 * @since 1.0.0
 */
export class ConnectionError extends Data.TaggedError("ConnectionError")<{
  /** As people write it: `"localhost:6379"`, or a path. */
  readonly endpoint: string
  readonly reason: Reason
}> {
  override get message(): string {
    return `${this.reason._tag}: ${describe(this.endpoint, this.reason)}`
  }
}

export const nameOf = (endpoint: Endpoint): string =>
  "path" in endpoint
    ? endpoint.path
    : endpoint.host.includes(":")
    ? `[${endpoint.host}]:${endpoint.port}`
    : `${endpoint.host}:${endpoint.port}`

const describe = (name: string, reason: Reason): string => {
  switch (reason._tag) {
    case "ConnectFailed":
      return `no connection to ${name}: ${wordsOf(reason)}`
    case "ConnectTimeout":
      return `no ${
        reason.phase === "connecting" ? "connection to" : "TLS handshake with"
      } ${name} within ${reason.connectTimeout}ms`
    case "TlsFailed":
      return `no TLS handshake with ${name}: ${wordsOf(reason)}`
    case "CertificateRejected":
      return `the certificate of ${name} is not accepted: ${wordsOf(reason)}`
    case "ConnectionLost":
      return `${reason.operation}: the connection to ${name} broke: ${wordsOf(reason)}`
    case "Ended":
      return `${name} has ended the connection${reason.unread === 0 ? "" : ` after ${reason.unread} bytes more`}`
    case "ConnectionClosed":
      return `${reason.operation}: the connection to ${name} is closed`
    case "DelimiterMissing":
      return `${name} has sent ${reason.limit} bytes without the delimiter`
    case "AlreadyReading":
      return `another fiber reads from the connection to ${name}`
    case "OutOfStep":
      return `${reason.unread} bytes that nobody asked for had come from ${name} before this lease`
    case "InvalidOptions":
      return `${name} with ${reason.problems.map(problem).join("; ")}`
  }
}

// A value could be anything, a key too.
const problem = ({ allowed, option }: Problem): string => `${option}, for which allowed is ${allowed}`

// The error of a host with several addresses has a code and no words.
const wordsOf = ({ cause, code }: { readonly cause: unknown; readonly code: string | undefined }): string =>
  cause instanceof Error && cause.message !== "" ? cause.message : code ?? String(cause)

export const codeOf = (cause: unknown): string | undefined =>
  hasProperty(cause, "code") ? String(cause.code) : undefined

export const isTransient = (error: unknown): boolean => {
  if (!hasProperty(error, "reason") || !hasProperty(error.reason, "_tag")) return false
  const { reason } = error
  switch (reason._tag) {
    case "OpenTimeout":
    case "ConnectTimeout":
    case "ConnectionLost":
    case "Ended":
      return true
    default:
      return hasProperty(reason, "code") && unreachable.has(String(reason.code))
  }
}
