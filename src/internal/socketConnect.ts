// Opens one connection, and ends it.
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as TLS from "node:tls"
import { InvalidOptions } from "../PoolError.ts"
import { monotonicMillis } from "./monotonic.ts"
import { SocketConnection } from "./socketConnection.ts"
import type { ConnectOptions, Endpoint } from "./socketEndpoint.ts"
import {
  CertificateRejected,
  codeOf,
  ConnectFailed,
  ConnectionError,
  ConnectTimeout,
  nameOf,
  type Reason,
  TlsFailed
} from "./socketErrors.ts"
import {
  connectProblems,
  type ConnectSettings,
  connectSettings,
  endpointProblems,
  tlsOptions
} from "./socketOptions.ts"

export const connect = (
  endpoint: Endpoint,
  options: ConnectOptions
): Effect.Effect<SocketConnection, ConnectionError, Scope.Scope> =>
  Effect.suspend(() => {
    const wrong = endpointProblems(endpoint)
    const problems = [...wrong, ...connectProblems(options)]
    if (problems.length === 0) return connectWith(endpoint, connectSettings(options))
    const name = wrong.length > 0 ? "an endpoint" : nameOf(endpoint)
    return Effect.fail(new ConnectionError({ endpoint: name, reason: new InvalidOptions({ problems }) }))
  })

/** The connection is the scope's from the moment it is there; one that is not yet is nobody's, and is destroyed. */
export const connectWith = (
  endpoint: Endpoint,
  settings: ConnectSettings
): Effect.Effect<SocketConnection, ConnectionError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Clock.Clock, (clock) => {
      const attempt = new Attempt(endpoint, settings, monotonicMillis(clock))
      const established = Effect.timeoutOrElse(attempt.established, {
        duration: settings.connectTimeout,
        orElse: () => Effect.fail(attempt.timeout)
      })
      return Effect.matchCauseEffect(restore(established), {
        onFailure: (cause) => {
          attempt.abandon()
          return Effect.failCause(cause)
        },
        onSuccess: (connection) =>
          Effect.as(Effect.addFinalizer((exit) => close(connection, settings.closeGrace, exit)), connection)
      })
    })
  )

class Attempt {
  private phase: "connecting" | "handshake" = "connecting"
  private connection: SocketConnection | undefined = undefined
  private readonly endpoint: Endpoint
  private readonly settings: ConnectSettings
  private readonly now: number

  constructor(endpoint: Endpoint, settings: ConnectSettings, now: number) {
    this.endpoint = endpoint
    this.settings = settings
    this.now = now
  }

  // The socket is made in the same step that listens to it.
  readonly established: Effect.Effect<SocketConnection, ConnectionError> = Effect.callback((resume) => {
    const tls = tlsOptions(this.endpoint)
    let socket: Net.Socket
    try {
      socket = open(this.endpoint, tls)
    } catch (cause) {
      // Certificates and keys are read before anything else is done.
      return resume(this.fail(new TlsFailed({ cause, code: codeOf(cause) })))
    }
    const { keepAlive, keepsUnread, noDelay } = this.settings
    const connection = this.connection = new SocketConnection(this.endpoint, socket, keepsUnread, this.now)
    socket.setNoDelay(noDelay)
    if (keepAlive < Infinity) socket.setKeepAlive(true, keepAlive)
    socket.once("connect", () => this.phase = "handshake")
    socket.once("error", (cause) => resume(this.fail(this.reason(cause, socket))))
    socket.once(tls === undefined ? "connect" : "secureConnect", () => resume(Effect.succeed(connection)))
  })

  get timeout(): ConnectionError {
    const { connectTimeout } = this.settings
    return this.error(new ConnectTimeout({ connectTimeout, phase: this.phase }))
  }

  abandon(): void {
    this.connection?.leave()
    this.connection?.socket.destroy()
  }

  private reason(cause: unknown, socket: Net.Socket): Reason {
    const code = codeOf(cause)
    if (this.phase === "connecting") return new ConnectFailed({ cause, code })
    const rejected = (socket as TLS.TLSSocket).authorizationError
    return rejected === null ? new TlsFailed({ cause, code }) : new CertificateRejected({ cause, code })
  }

  private fail(reason: Reason): Effect.Effect<never, ConnectionError> {
    return Effect.fail(this.error(reason))
  }

  private error(reason: Reason): ConnectionError {
    return new ConnectionError({ endpoint: nameOf(this.endpoint), reason })
  }
}

const open = (endpoint: Endpoint, tls: TLS.ConnectionOptions | undefined): Net.Socket => {
  const where = "path" in endpoint ? { path: endpoint.path } : { host: endpoint.host, port: endpoint.port }
  // The end of the peer is not the end of what is still to be written.
  const options = { ...where, allowHalfOpen: true }
  return tls === undefined ? Net.connect(options) : TLS.connect({ ...options, ...tls })
}

/** A polite end is one that the peer has seen and answered; it has its time. */
const close = (
  connection: SocketConnection,
  grace: number,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { socket } = connection
    connection.leave()
    if (!connection.isPolite(exit) || socket.destroyed) return Effect.sync(() => void socket.destroy())
    const closed = Effect.callback<void>((resume) => {
      const done = () => resume(Effect.void)
      socket.once("close", done)
      socket.end()
      // What the peer still says is dropped.
      socket.resume()
      return Effect.sync(() => socket.off("close", done))
    })
    return Effect.raceFirst(Effect.interruptible(closed), Effect.interruptible(Effect.sleep(grace))).pipe(
      Effect.andThen(Effect.sync(() => void socket.destroy()))
    )
  })
