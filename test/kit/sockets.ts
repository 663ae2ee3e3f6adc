/** Servers on loopback that count their connections, and what the tests of SocketQueuePool ask of them. */
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import type * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { Worker } from "node:worker_threads"
import { waitUntil } from "./real.ts"
import { certificate, privateKey } from "./tls.ts"

/** One connection as the server has it. */
export interface Peer {
  readonly socket: Net.Socket
  readonly received: () => string
  /** Ends it without a word. */
  readonly reset: () => void
  /** The client has sent its end. */
  readonly sawEnd: () => boolean
}

export interface Server {
  readonly port: number
  readonly endpoint: SocketQueuePool.Endpoint
  /** All connections there ever were. */
  readonly peers: ReadonlyArray<Peer>
  /** Connections that are open. */
  readonly open: () => number
  /** Stops listening. */
  readonly stop: Effect.Effect<void>
}

export interface ServerOptions {
  readonly tls?: Tls.TlsOptions | undefined
  readonly unix?: boolean | undefined
  /** Default: answers with the same, and ends when the client does. */
  readonly serve?: ((peer: Peer) => void) | undefined
}

const echo = ({ socket }: Peer): void => {
  socket.on("data", (data) => socket.write(data))
}

export const tlsServer: Tls.TlsOptions = { cert: certificate, key: privateKey }

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "sockets-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

/** A server for as long as the scope lasts; then what is still open is destroyed. */
export const serve = Effect.fnUntraced(function*({ serve = echo, tls, unix }: ServerOptions = {}) {
  const peers: Array<Peer> = []
  const raw = new Set<Net.Socket>()
  const accept = (socket: Net.Socket) => {
    let received = ""
    let ended = false
    // Under TLS the connection itself is another socket.
    const under = Array.from(raw).find(({ remotePort }) => remotePort === socket.remotePort)
    const peer: Peer = {
      socket,
      received: () => received,
      reset: () => void (under ?? socket).resetAndDestroy(),
      sawEnd: () => ended
    }
    peers.push(peer)
    socket.on("error", () => {})
    socket.on("data", (data) => received += data.toString("latin1"))
    socket.on("end", () => {
      ended = true
      socket.end()
    })
    serve(peer)
  }
  const server = tls === undefined
    ? Net.createServer({ allowHalfOpen: true, noDelay: true }, accept)
    : Tls.createServer({ noDelay: true, ...tls }, accept)
  // Before `accept`, which is told of the same connection.
  server.prependListener("connection", (socket: Net.Socket) => {
    raw.add(socket)
    socket.on("close", () => raw.delete(socket))
  })
  server.on("tlsClientError", (_: Error, socket: Net.Socket) => socket.destroy())
  const stop = Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
    for (const socket of raw) socket.destroy()
  })
  const path = unix === true ? Path.join(yield* folder, "socket") : undefined
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      const listening = () => resume(Effect.void)
      if (path === undefined) server.listen(0, "127.0.0.1", listening)
      else server.listen(path, listening)
    }),
    () => stop
  )
  const port = path === undefined ? (server.address() as Net.AddressInfo).port : 0
  const found: Server = {
    port,
    endpoint: path === undefined
      ? { host: "localhost", port, ...(tls === undefined ? {} : { tls: { ca: certificate } }) }
      : { path, ...(tls === undefined ? {} : { tls: { ca: certificate, servername: "localhost" } }) },
    peers,
    open: () => raw.size,
    stop
  }
  return found
})

/** The test fails if it does not come to be so. */
export const sees = Effect.fnUntraced(function*(what: () => boolean) {
  assert.isTrue(yield* waitUntil(what, "5 seconds"), `did not come to be: ${String(what)}`)
})

/** The same of the counts of a pool, or of a map of pools. */
export const seesStats = <Stats>(pool: { readonly stats: Effect.Effect<Stats> }, what: (stats: Stats) => boolean) =>
  sees(() => what(Effect.runSync(pool.stats)))

/** Says a line and reads one. */
export const ask = Effect.fnUntraced(function*(connection: SocketQueuePool.Connection, line: string) {
  yield* connection.write(`${line}\n`)
  return (yield* connection.readUntil("\n")).toString()
})

/** The tag of a ConnectionError's or PoolError's reason. */
export const reasonOf = (error: unknown): string => {
  const { reason } = error as { readonly reason?: { readonly _tag: string } }
  return reason?._tag ?? String(error)
}

/** A port where the operating system accepts nobody any more: a listener that never does, its backlog full. */
export const fullBacklog: Effect.Effect<number, never, Scope.Scope> = Effect.gen(function*() {
  const signal = new Int32Array(new SharedArrayBuffer(4))
  const worker = yield* Effect.acquireRelease(
    Effect.sync(() => new Worker(stalledListener, { eval: true, workerData: signal })),
    (worker) =>
      Effect.promise(() => {
        Atomics.store(signal, 0, 1)
        Atomics.notify(signal, 0)
        return worker.terminate()
      })
  )
  const port = yield* Effect.callback<number>((resume) => {
    worker.once("message", (port: number) => resume(Effect.succeed(port)))
  })
  yield* Effect.forEach(Array.from({ length: 8 }), () =>
    Effect.acquireRelease(
      Effect.sync(() => Net.connect({ host: "127.0.0.1", port }).on("error", () => {})),
      (socket) => Effect.sync(() => socket.destroy())
    ))
  return port
})

const stalledListener = `
const { parentPort, workerData } = require("node:worker_threads")
const server = require("node:net").createServer()
server.listen({ host: "127.0.0.1", port: 0, backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  // Its event loop does not turn any more, so it accepts nobody.
  setImmediate(() => Atomics.wait(workerData, 0, 0))
})
`
