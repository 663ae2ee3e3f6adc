import { assert, it } from "@effect/vitest"
import { Clock, Effect, Scope } from "effect"
import * as Net from "node:net"
import { live, waitUntil } from "./real.ts"
import { make, Mode, type TcpProxy } from "./TcpProxy.ts"

interface Peer {
  readonly socket: Net.Socket
  readonly received: () => string
  /** How the connection ended for this side. */
  readonly end: () => "FIN" | "RST" | "refused" | undefined
}

const connect = (proxy: TcpProxy["Service"]) =>
  Effect.acquireRelease(
    Effect.sync((): Peer => {
      let received = ""
      let end: ReturnType<Peer["end"]>
      const socket = Net.connect({ port: proxy.port, host: proxy.host, noDelay: true })
      socket.on("data", (chunk) => received += chunk.toString())
      socket.on("end", () => end = "FIN")
      socket.on("error", (error: NodeJS.ErrnoException) => end = error.code === "ECONNREFUSED" ? "refused" : "RST")
      return { socket, received: () => received, end: () => end }
    }),
    (peer) => Effect.sync(() => peer.socket.destroy())
  )

/** A server that answers everything with the same, and ends when its client does. */
const echo = Effect.acquireRelease(
  Effect.callback<{ readonly server: Net.Server; readonly sockets: Set<Net.Socket>; readonly port: number }>(
    (resume) => {
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer((socket) => {
        sockets.add(socket)
        socket.on("close", () => sockets.delete(socket))
        socket.on("error", () => {})
        socket.pipe(socket)
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as Net.AddressInfo
        resume(Effect.succeed({ server, sockets, port }))
      })
    }
  ),
  ({ server, sockets }) =>
    Effect.sync(() => {
      server.close()
      for (const socket of sockets) socket.destroy()
    })
)

const set = Effect.fnUntraced(function*(mode?: Mode) {
  const server = yield* echo
  const proxy = yield* make({ port: server.port, mode })
  return { proxy, server }
})

const sees = Effect.fnUntraced(function*(what: () => boolean) {
  assert.isTrue(yield* waitUntil(what, "2 seconds"))
})

const open = (proxy: TcpProxy["Service"], count: number) => sees(() => Effect.runSync(proxy.counts).open === count)

/** Long enough for what should not happen to happen. */
const wait = live(Effect.sleep(50))

it.effect("passes both ways, the end included, and counts", () =>
  Effect.gen(function*() {
    const { proxy, server } = yield* set()
    const client = yield* connect(proxy)
    client.socket.write("hello")
    yield* sees(() => client.received() === "hello")
    assert.deepStrictEqual(yield* proxy.counts, { accepted: 1, open: 1, bytesToServer: 5, bytesToClient: 5 })
    client.socket.end(" world")
    yield* sees(() => client.received() === "hello world" && client.end() === "FIN" && server.sockets.size === 0)
    yield* open(proxy, 0)
    assert.deepStrictEqual(yield* proxy.counts, { accepted: 1, open: 0, bytesToServer: 11, bytesToClient: 11 })
    assert.strictEqual(proxy.through("postgres://me@db:1/x?y=z"), `postgres://me@127.0.0.1:${proxy.port}/x?y=z`)
  }))

it.effect("passes much data whole and in order", () =>
  Effect.gen(function*() {
    const { proxy } = yield* set()
    const client = yield* connect(proxy)
    const much = Array.from({ length: 400_000 }, (_, n) => `${n}`).join()
    client.socket.end(much)
    yield* sees(() => client.end() === "FIN")
    assert.strictEqual(client.received(), much)
  }))

it.effect("holds everything back in a black hole, until it passes again", () =>
  Effect.gen(function*() {
    const { proxy, server } = yield* set()
    const old = yield* connect(proxy)
    old.socket.write("1")
    yield* sees(() => old.received() === "1")
    yield* proxy.setMode(Mode.BlackHole())
    const fresh = yield* connect(proxy)
    const leaver = yield* connect(proxy)
    old.socket.end("2")
    fresh.socket.write("3")
    leaver.socket.resetAndDestroy()
    yield* wait
    assert.deepStrictEqual([old.received(), fresh.received(), old.end(), server.sockets.size], ["1", "", undefined, 1])
    yield* proxy.setMode(Mode.Pass())
    yield* sees(() => old.received() === "12" && old.end() === "FIN" && fresh.received() === "3")
    yield* open(proxy, 1)
  }))

it.effect("refuses new connections and passes the open ones", () =>
  Effect.gen(function*() {
    const { proxy } = yield* set()
    const old = yield* connect(proxy)
    old.socket.write("1")
    yield* sees(() => old.received() === "1")
    yield* proxy.setMode(Mode.Refuse())
    const fresh = yield* connect(proxy)
    yield* sees(() => fresh.end() === "refused")
    old.socket.write("2")
    yield* sees(() => old.received() === "12")
    yield* proxy.setMode(Mode.Pass())
    const last = yield* connect(proxy)
    last.socket.write("3")
    yield* sees(() => last.received() === "3")
  }))

it.effect("resets open connections and new ones", () =>
  Effect.gen(function*() {
    const { proxy, server } = yield* set()
    const old = yield* connect(proxy)
    old.socket.write("1")
    yield* sees(() => old.received() === "1")
    yield* proxy.setMode(Mode.Reset())
    const fresh = yield* connect(proxy)
    yield* sees(() => old.end() === "RST" && fresh.end() === "RST" && server.sockets.size === 0)
  }))

it.effect("delays each chunk, and no more when it passes", () =>
  Effect.gen(function*() {
    const { proxy } = yield* set(Mode.Slow({ delay: "40 millis" }))
    const client = yield* connect(proxy)
    const start = yield* live(Clock.monotonicTimeNanos)
    client.socket.write("1")
    yield* sees(() => client.received() === "1")
    assert.isAbove(Number((yield* live(Clock.monotonicTimeNanos)) - start), 75e6)
    yield* proxy.setMode(Mode.Slow({ delay: "1 hour" }))
    client.socket.write("2")
    yield* wait
    yield* proxy.setMode(Mode.Pass())
    yield* sees(() => client.received() === "12")
  }))

it.effect("accepts and closes", () =>
  Effect.gen(function*() {
    const { proxy, server } = yield* set(Mode.AcceptThenClose())
    const client = yield* connect(proxy)
    client.socket.write("1")
    yield* sees(() => client.end() === "FIN")
    assert.strictEqual(server.sockets.size, 0)
  }))

it.effect("ends a connection after so many bytes", () =>
  Effect.gen(function*() {
    const { proxy, server } = yield* set(Mode.ByteLimit({ bytes: 5 }))
    const client = yield* connect(proxy)
    client.socket.write("123")
    yield* sees(() => client.received() === "123")
    client.socket.write("456")
    yield* sees(() => client.end() === "FIN" && server.sockets.size === 0)
    assert.strictEqual(client.received(), "12345")
    yield* open(proxy, 0)
  }))

it.effect("kills all, and everything at its scope's end", () =>
  Effect.gen(function*() {
    const server = yield* echo
    const outer = yield* Effect.scope
    const client = yield* Effect.scoped(Effect.gen(function*() {
      const proxy = yield* make({ port: server.port })
      const first = yield* connect(proxy)
      yield* sees(() => server.sockets.size === 1)
      assert.strictEqual(yield* proxy.killAll, 1)
      yield* sees(() => first.end() === "RST" && server.sockets.size === 0)
      const second = yield* Scope.provide(connect(proxy), outer)
      yield* sees(() => server.sockets.size === 1)
      return second
    }))
    yield* sees(() => client.end() === "RST" && server.sockets.size === 0)
  }))

it.effect("ends its client's connection when there is no server", () =>
  Effect.gen(function*() {
    const proxy = yield* make({ port: 1 })
    const client = yield* connect(proxy)
    yield* sees(() => client.end() === "RST")
    yield* open(proxy, 0)
  }))
