/// <reference types="node" preserve="true" />
/**
 * TCP, TLS and Unix sockets in a pool: connections for raw protocols, and for clients
 * built on them, that are never lent when they are dead or out of step.
 *
 * **Example** (A question and an answer)
 *
 * ```ts
 * import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
 * import { Effect } from "effect"
 * import * as Net from "node:net"
 *
 * // A server that answers each line with the same in capitals.
 * const server = Net.createServer((socket) => {
 *   socket.on("data", (data) => socket.write(data.toString().toUpperCase()))
 * })
 * await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
 * const { port } = server.address() as Net.AddressInfo
 *
 * const ask = (connection: SocketQueuePool.Connection, line: string) =>
 *   Effect.andThen(connection.write(`${line}\n`), connection.readUntil("\n"))
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* SocketQueuePool.make({ endpoint: { host: "127.0.0.1", port }, max: 2 })
 *   const hello = yield* pool.use((connection) => ask(connection, "hello"))
 *   const again = yield* pool.use((connection) => ask(connection, "again"))
 *   const { opened } = yield* pool.stats
 *   return [hello.toString(), again.toString(), opened]
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => ["HELLO", "AGAIN", 1]
 * server.close()
 * ```
 *
 * **When a connection is recycled**
 *
 * | what is seen | when it is idle | when it is lent | reason |
 * |---|---|---|---|
 * | the peer has ended the connection, or half of it; it was reset; it was ended, taken over or destroyed here | recycled at once | the borrower's reads and writes fail; recycled when it comes back | `"disconnected"` |
 * | bytes that nobody has read | recycled at once | recycled when it comes back; those that came before the borrower's first read or write fail that | `"unread bytes"` |
 * | a lease that failed or was interrupted after it had read or written, and had not said `settle` | | recycled when it comes back | `"out of step"` |
 * | a read or write that failed or was interrupted, also one whose failure was caught | | recycled when it comes back | `"out of step"` |
 * | a lease whose last word was a write: the answer is still to come | | recycled when it comes back | `"out of step"` |
 *
 * None of this takes a round trip. A connection that was idle for 2 milliseconds is
 * lent only after the event loop has turned, so that an end that came while the program
 * was busy is seen. What remains is an end that has not reached this machine.
 *
 * With `unread: "keep"`, for protocols in which the server speaks unasked or does not
 * answer, the second and the last row do not hold.
 *
 * **Pools of your own**
 *
 * `connect` is an `acquire` for any pool. To get the table above there, add `rules` to
 * `recycle`, and for the column "idle" `monitor`; `glance` is the check for the turn of
 * the event loop.
 *
 * **Example** (A pool for each endpoint)
 *
 * ```ts
 * import { QueuePoolMap } from "effect-queuepool"
 * import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
 *
 * const pools = QueuePoolMap.make({
 *   acquire: (endpoint: SocketQueuePool.Endpoint) => SocketQueuePool.connect(endpoint),
 *   max: 4,
 *   maxTotal: 20,
 *   recycle: SocketQueuePool.rules,
 *   monitor: SocketQueuePool.monitor,
 *   check: SocketQueuePool.glance,
 *   checkAfter: "2 millis"
 * })
 * ```
 *
 * **Gotchas**
 *
 * With a `concurrency` above 1 nobody knows whose bytes are whose, and the lease that
 * ends first finds the connection out of step. To share connections, make items of your
 * own that know their protocol, on `connect`.
 *
 * @since 1.0.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as internalConnect from "./internal/socketConnect.ts"
import * as internalEffect from "./internal/socketEffect.ts"
import type { ConnectOptions, Endpoint } from "./internal/socketEndpoint.ts"
import type { ConnectionError } from "./internal/socketErrors.ts"
import * as internalErrors from "./internal/socketErrors.ts"
import * as internalLiveness from "./internal/socketLiveness.ts"
import * as internalPool from "./internal/socketPool.ts"
import type { Connection, Options } from "./internal/socketTypes.ts"
import type { PoolError } from "./PoolError.ts"
import * as QueuePool from "./QueuePool.ts"
import type * as RecyclePolicy from "./RecyclePolicy.ts"

// The constructors have nothing to pipe.
// @effect-diagnostics missingPipeableSignature:off

export type { ConnectOptions, Endpoint, TcpEndpoint, Tls, UnixEndpoint } from "./internal/socketEndpoint.ts"
export {
  AlreadyReading,
  CertificateRejected,
  ConnectFailed,
  ConnectionClosed,
  ConnectionError,
  ConnectionLost,
  ConnectTimeout,
  DelimiterMissing,
  Ended,
  OutOfStep,
  type Reason,
  TlsFailed
} from "./internal/socketErrors.ts"
export type { Connection, Options, Taken } from "./internal/socketTypes.ts"

/** The error that making a pool adds to `PoolError`: only a warm-up can fail with that of an open. */
type WarmError<E, W> = "eager" extends W ? ConnectionError | E : never

type Given<E, R, W> = Options<E, R> & { readonly warm?: W | "background" | "lazy" | "eager" | undefined }

/**
 * Connects. The connection is the scope's; in a pool it is an `acquire`.
 *
 * **Details**
 *
 * TLS asks for the endpoint's host by name, and takes only a certificate that is for
 * that name and that is signed by someone known. Fails with a `ConnectionError`, also for
 * an endpoint or options that make no sense. A connect that fails, is interrupted or
 * takes longer than `connectTimeout` leaves no socket open.
 *
 * When the scope closes, what was written is sent and the connection ended; `closeGrace`
 * later at the latest it is destroyed.
 *
 * **Example** (A pool whose items are clients)
 *
 * ```ts
 * import { QueuePool, RecyclePolicy } from "effect-queuepool"
 * import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
 * import { Effect } from "effect"
 *
 * class Client {
 *   readonly connection: SocketQueuePool.Connection
 *   constructor(connection: SocketQueuePool.Connection) {
 *     this.connection = connection
 *   }
 * }
 *
 * const acquire = Effect.map(
 *   SocketQueuePool.connect({ host: "127.0.0.1", port: 1 }),
 *   (connection) => new Client(connection)
 * )
 *
 * const pool = QueuePool.make({
 *   acquire,
 *   recycle: RecyclePolicy.any(SocketQueuePool.rules).pipe(
 *     RecyclePolicy.mapInput((client: Client) => client.connection)
 *   ),
 *   monitor: ({ connection }) => SocketQueuePool.monitor(connection),
 *   check: ({ connection }) => SocketQueuePool.glance(connection),
 *   checkAfter: "2 millis"
 * })
 *
 * const error = await Effect.runPromise(Effect.flip(Effect.scoped(Effect.flatMap(pool, ({ get }) => get))))
 *
 * error.message // => "ConnectFailed: no connection to 127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1"
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const connect = (
  endpoint: Endpoint,
  options: ConnectOptions = {}
): Effect.Effect<Connection, ConnectionError, Scope.Scope> => internalConnect.connect(endpoint, options)

/**
 * Makes a pool of connections to one endpoint that lives as long as the current scope.
 *
 * **Details**
 *
 * Fails with a `PoolError` of reason `InvalidOptions` that names every wrong option;
 * with `warm: "eager"` also with the error of an open that failed.
 *
 * @see {@link connect} for items of your own making
 * @category constructors
 * @since 1.0.0
 */
export const make = <E = never, R = never, const W extends Options["warm"] = undefined>(
  options: Given<E, R, W>
): Effect.Effect<
  QueuePool.QueuePool<Connection, ConnectionError | E>,
  PoolError | WarmError<E, W>,
  Exclude<R, Scope.Scope> | Scope.Scope
> => makeNamed(options, "SocketQueuePool") as never

const makeNamed = Effect.fnUntraced(function*<E, R>(options: Options<E, R>, name: string) {
  const { settings, watch } = yield* internalPool.plan(options, name)
  const pool = yield* QueuePool.make<Connection, ConnectionError | E, R | Scope.Scope, Options["warm"]>(settings)
  watch(pool)
  return pool
})

/**
 * Makes a layer that provides a pool of connections under a tag.
 *
 * **Details**
 *
 * The options may be an Effect; the tag's key is the default `name`.
 *
 * @category layers
 * @since 1.0.0
 */
export const layer = <I, E, R = never, E2 = never, R2 = never, const W extends Options["warm"] = undefined>(
  tag: Context.Key<I, QueuePool.QueuePool<Connection, ConnectionError | E>>,
  options: Given<E, R, W> | Effect.Effect<Given<E, R, W>, E2, R2>
): Layer.Layer<I, PoolError | WarmError<E, W> | E2, Exclude<R | R2, Scope.Scope>> =>
  Layer.effect(
    tag,
    Effect.flatMap(optionsOf(options), (given) => makeNamed<E, R>(given, tag.key))
  ) as never

const optionsOf = <O extends object, E, R>(options: O | Effect.Effect<O, E, R>): Effect.Effect<O, E, R> =>
  Effect.isEffect(options) ? options : Effect.succeed(options)

/**
 * The class that `Service` makes; see `QueuePool.ServiceClass`.
 *
 * @category models
 * @since 1.0.0
 */
export interface ServiceClass<Self, Id extends string, E, LE, LR>
  extends QueuePool.ServiceClass<Self, Id, Connection, ConnectionError | E, LE, LR>
{}

/**
 * Makes a class that names a pool of connections as a service, with its layer.
 *
 * **Example** (Connections as a service)
 *
 * ```ts
 * import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
 * import { Effect } from "effect"
 *
 * class Cache extends SocketQueuePool.Service<Cache>()("app/Cache", {
 *   endpoint: { host: "localhost", port: 6379 },
 *   max: 4
 * }) {}
 *
 * const max = Effect.map(Cache.stats, (stats) => stats.max)
 *
 * await Effect.runPromise(Effect.provide(max, Cache.layer)) // => 4
 * ```
 *
 * @category services
 * @since 1.0.0
 */
export const Service = <Self>() =>
<
  const Id extends string,
  E = never,
  R = never,
  E2 = never,
  R2 = never,
  const W extends Options["warm"] = undefined
>(
  id: Id,
  options: Given<E, R, W> | Effect.Effect<Given<E, R, W>, E2, R2>
): ServiceClass<Self, Id, E, PoolError | WarmError<E, W> | E2, Exclude<R | R2, Scope.Scope>> => {
  const planned = Effect.flatMap(internalPool.Watching, (watching) =>
    Effect.map(
      Effect.flatMap(optionsOf(options), (given) => internalPool.plan<E, R>(given, id)),
      ({ settings, watch }) => {
        watching.watch = watch
        return settings
      }
    ))
  const Class = QueuePool.Service<Self>()(id, planned)
  const unwatched = Class.layer
  const layer = Layer.unwrap(Effect.sync(() => {
    const watching: internalPool.Watching["Service"] = { watch: undefined }
    return unwatched.pipe(
      Layer.tap((context) => Effect.sync(() => watching.watch!(Context.get(context, Class)))),
      Layer.provide(Layer.succeed(internalPool.Watching, watching))
    )
  }))
  return Object.defineProperty(Class, "layer", { value: layer }) as never
}

/**
 * The rules on connections that are not to be lent again, which every pool of this
 * module has: those of the table in the module's documentation. They are asked without
 * waiting.
 *
 * **When to use**
 *
 * Use in the `recycle` of a pool whose items come from `connect`.
 *
 * **Gotchas**
 *
 * The last of them also takes note that a connection has come back: give all of them,
 * and not within `not` or `all`.
 *
 * @see {@link monitor} for the idle ones
 * @category rules
 * @since 1.0.0
 */
export const rules: ReadonlyArray<RecyclePolicy.RecyclePolicy<Connection>> = internalLiveness.rules

/**
 * Ends when a connection that nobody is at work with has ended, or has unread bytes.
 *
 * **When to use**
 *
 * Use as the `monitor` of a pool whose items come from `connect`, beside `rules`.
 *
 * **Details**
 *
 * From the first read or write of a lease until it comes back a connection is the
 * borrower's affair: its reads and writes fail, and the rules recycle it. A borrower who
 * has not begun loses the lease, with the reason `LeaseEnded`. A connection that was
 * read from or written to before it was first lent, in a handshake, is found by the
 * rules alone.
 *
 * @category rules
 * @since 1.0.0
 */
export const monitor: (connection: Connection) => Effect.Effect<void> = internalLiveness.monitor

/**
 * Lets the event loop turn, so that an end that came while the program was busy is
 * heard of, and tells whether the connection may be lent.
 *
 * **When to use**
 *
 * Use as the `check` of a pool whose items come from `connect`, with a `checkAfter` of
 * about 2 milliseconds.
 *
 * @category rules
 * @since 1.0.0
 */
export const glance: (connection: Connection) => Effect.Effect<boolean> = internalLiveness.glance

/**
 * Tells whether an open that failed with this error may succeed later by itself: the
 * host is down, starts, or is out of reach. An unknown name and a wrong certificate
 * are not.
 *
 * **Example** (Retrying what may pass)
 *
 * ```ts
 * import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
 * import { Schedule } from "effect"
 *
 * const retry = Schedule.exponential("100 millis").pipe(
 *   Schedule.setInputType<unknown>(),
 *   Schedule.while(({ input }) => SocketQueuePool.isTransient(input))
 * )
 *
 * const pool = SocketQueuePool.make({ endpoint: { host: "localhost", port: 6379 }, retry })
 * ```
 *
 * @category errors
 * @since 1.0.0
 */
export const isTransient: (error: unknown) => boolean = internalErrors.isTransient

/**
 * The connection as a `Socket` of effect, for what is written on those: `toChannel`,
 * RPC, and so on.
 *
 * **Details**
 *
 * To close the scope of its writer is to end the connection, which is recycled when it
 * comes back; so is one whose pull was interrupted. It cannot be upgraded to TLS.
 *
 * @category conversions
 * @since 1.0.0
 */
export const toSocket: (connection: Connection) => Socket.Socket = internalEffect.toSocket
