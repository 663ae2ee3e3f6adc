// What a pool of sockets lends, and how it is told to.
import type * as Effect from "effect/Effect"
import type { Buffer } from "node:buffer"
import type * as Net from "node:net"
import type * as QueuePool from "../QueuePool.ts"
import type { ConnectOptions, Endpoint } from "./socketEndpoint.ts"
import type { ConnectionError } from "./socketErrors.ts"

/**
 * One connection, as it is lent.
 *
 * **Details**
 *
 * One fiber reads at a time, any may write. Deadlines are those of `Effect.timeout`
 * around an operation. Whatever reads or writes and fails or is interrupted leaves the
 * connection as it is, for this borrower to go on or not, and it is recycled when it
 * comes back.
 *
 * @category models
 * @since 1.0.0
 */
export interface Connection {
  readonly endpoint: Endpoint
  /**
   * Node's socket, to look at: addresses, the peer's certificate, counts of bytes. Its
   * bytes are read here already; to read it yourself see `takeOver`.
   */
  readonly socket: Net.Socket
  /** Bytes that have come and that nobody has read. */
  readonly unread: number
  /** It has no fault that would keep it from being lent. */
  readonly isOpen: boolean
  /** Sends the bytes, or the text as UTF-8; waits while the peer is slow to take what was sent before. */
  write(data: string | Uint8Array): Effect.Effect<void, ConnectionError>
  /**
   * The next bytes, as many as came together. Fails with the reason `Ended` after the
   * last, if the peer has ended the connection.
   */
  readonly read: Effect.Effect<Buffer, ConnectionError>
  /** So many bytes. Fewer are left unread, should the peer end before. */
  readExactly(count: number): Effect.Effect<Buffer, ConnectionError>
  /**
   * What comes before the delimiter, which is taken too. Fails with the reason
   * `DelimiterMissing` when that is more than `limit` bytes (65,536).
   */
  readUntil(
    delimiter: string | Uint8Array,
    options?: { readonly limit?: number | undefined }
  ): Effect.Effect<Buffer, ConnectionError>
  /**
   * Says that all is answered and read: a lease that fails from here on, before it reads
   * or writes again, does not cost the connection; nor does one whose last word was a
   * write, if that has no answer.
   */
  readonly settle: Effect.Effect<void>
  /** Has it recycled when it comes back. */
  readonly spoil: Effect.Effect<void>
  /** Sends this side's end after what was written; what the peer still says can be read. */
  readonly end: Effect.Effect<void>
  /** Waits until the peer has ended the connection, it broke, or it was taken over or released. */
  readonly ended: Effect.Effect<void>
  /**
   * Hands over the socket, paused, with the bytes that nobody has read, for another
   * protocol to go on with. It is still destroyed with the connection's scope: to keep
   * it, `detach` the connection from its pool.
   */
  readonly takeOver: Effect.Effect<Taken>
}

/**
 * A socket, and what was read from it before it was handed over.
 *
 * @category models
 * @since 1.0.0
 */
export interface Taken {
  readonly socket: Net.Socket
  readonly head: Buffer
}

/**
 * Where to connect to and how, and the options of `QueuePool`.
 *
 * **Details**
 *
 * `onAcquire` may fail with errors of its own (`E`), which become the pool's: it is the
 * place for a handshake. `recycle` is added to the `rules` of this module. `check` is
 * run for a connection that was idle for `checkAfter`; the look at what has come meanwhile
 * needs no option.
 *
 * @category models
 * @since 1.0.0
 */
export interface Options<E = never, R = never>
  extends
    ConnectOptions,
    Omit<QueuePool.Options<Connection, ConnectionError, R>, "acquire" | "onAcquire" | "retry" | "capacity">
{
  readonly endpoint: Endpoint
  readonly onAcquire?: ((connection: Connection) => Effect.Effect<unknown, E, R>) | undefined
  readonly retry?: QueuePool.Options<Connection, ConnectionError | NoInfer<E>, R>["retry"]
  readonly capacity?: QueuePool.Options<Connection, ConnectionError | NoInfer<E>, R>["capacity"]
}
