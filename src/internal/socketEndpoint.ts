// Where a connection leads, and how it is made.
import type * as Duration from "effect/Duration"
import type { Redacted } from "effect/Redacted"

/**
 * Where to connect to. A plain value: two of the same content are equal for effect's
 * `Equal` and `Hash`, and so are one key.
 *
 * @category models
 * @since 1.0.0
 */
export type Endpoint = TcpEndpoint | UnixEndpoint

/**
 * A host, by name or address, and a port. A name with several addresses is tried at
 * each of them. `tls: true` is TLS by the host's name.
 *
 * @category models
 * @since 1.0.0
 */
export interface TcpEndpoint {
  readonly host: string
  readonly port: number
  readonly tls?: boolean | Tls | undefined
}

/**
 * A Unix socket. With TLS it needs the `servername` that the certificate is for.
 *
 * @category models
 * @since 1.0.0
 */
export interface UnixEndpoint {
  readonly path: string
  readonly tls?: boolean | Tls | undefined
}

/**
 * How TLS is spoken; the names are those of effect's `TlsUpgradeOptions`.
 *
 * @category models
 * @since 1.0.0
 */
export interface Tls {
  /** The name that is asked for and that the certificate must be for. Default: the host, if it is a name. */
  readonly servername?: string | undefined
  /** Who may have signed the server's certificate, as PEM. Default: who Node trusts. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /** The client's own certificate, as PEM. */
  readonly cert?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /** The key of that certificate, as PEM. */
  readonly key?:
    | Redacted<string | Uint8Array>
    | ReadonlyArray<Redacted<string | Uint8Array>>
    | undefined
  /** The passphrase of that key. */
  readonly passphrase?: Redacted | undefined
  /** The protocols to choose from, the best first; `alpnProtocol` of the connection's `socket` tells which it is. */
  readonly alpnProtocols?: ReadonlyArray<string> | undefined
  /** `false` takes any certificate, and so anyone who answers. Default: true. */
  readonly rejectUnauthorized?: boolean | undefined
}

/**
 * How to connect.
 *
 * @category models
 * @since 1.0.0
 */
export interface ConnectOptions {
  /** The deadline of one connect, name lookup and TLS handshake included. Default: 10 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * How long a connection that is released waits for its peer to end it too; then it is
   * destroyed. Zero destroys it at once, as happens to one that is out of step or
   * broken. In a pool at most half of `closeTimeout`. Default: 1 second.
   */
  readonly closeGrace?: Duration.Input | undefined
  /** After how long without a word TCP asks whether the peer is still there. `"Infinity"`: never. Default: 1 minute. */
  readonly keepAlive?: Duration.Input | undefined
  /** Sends small writes at once. Default: true. */
  readonly noDelay?: boolean | undefined
  /** Whether bytes that nobody has read, or an answer still to come, end a connection. Default: `"recycle"`. */
  readonly unread?: "recycle" | "keep" | undefined
}
