import { assert, describe, it } from "@effect/vitest"
import { Context, Data, Effect, Equal, Exit, Fiber, Hash, Redacted, Scope, Stream } from "effect"
import { type PoolError, type QueuePool, RecyclePolicy } from "effect-queuepool"
import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import * as Socket from "effect/socket/Socket"
import { TestClock } from "effect/testing"
import { settle } from "./kit/items.ts"
import { ask, reasonOf, sees, seesStats, serve, type ServerOptions, tlsServer } from "./kit/sockets.ts"

const kinds: Record<string, ServerOptions> = {
  TCP: {},
  TLS: { tls: tlsServer },
  Unix: { unix: true },
  "TLS over Unix": { unix: true, tls: tlsServer }
}

for (const [kind, options] of Object.entries(kinds)) {
  describe(kind, () => {
    it.effect("nested leases are of different connections, which serve again and again", () =>
      Effect.gen(function*() {
        const server = yield* serve(options)
        const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 3 })
        for (let round = 0; round < 3; round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const [one, two, three] = [yield* pool.get, yield* pool.get, yield* pool.get]
            assert.strictEqual(new Set([one, two, three]).size, 3)
            assert.strictEqual(yield* ask(one, `one ${round}`), `one ${round}`)
            assert.strictEqual(yield* ask(two, `two ${round}`), `two ${round}`)
            assert.strictEqual(yield* ask(three, `three ${round}`), `three ${round}`)
            assert.strictEqual((yield* pool.stats).used, 3)
          }))
        }
        const { idle, opened, recycled } = yield* pool.stats
        assert.deepStrictEqual({ idle, opened, recycled }, { idle: 3, opened: 3, recycled: {} })
        assert.strictEqual(server.peers.length, 3)
      }))

    it.effect("the end of the pool is a polite one: the peer sees it and answers", () =>
      Effect.gen(function*() {
        const server = yield* serve(options)
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(SocketQueuePool.make({ endpoint: server.endpoint, max: 2 }), scope)
        yield* Effect.scoped(Effect.all([pool.get, pool.get]))
        const sockets = yield* Effect.scoped(
          Effect.map(Effect.all([pool.get, pool.get]), (all) => all.map(({ socket }) => socket))
        )
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(server.peers.map((peer) => peer.sawEnd()), [true, true])
        assert.deepStrictEqual(sockets.map(({ destroyed, errored }) => [destroyed, errored]), [
          [true, null],
          [true, null]
        ])
        const { abandoned, closed } = yield* pool.stats
        assert.deepStrictEqual({ abandoned, closed }, { abandoned: 0, closed: 2 })
        yield* sees(() => server.open() === 0)
      }))

    it.effect("much data passes whole, in both directions at once", () =>
      Effect.gen(function*() {
        const server = yield* serve(options)
        const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
        const much = new Uint8Array(3_000_000).map((_, index) => index % 251)
        yield* pool.use((connection) =>
          Effect.gen(function*() {
            const writing = yield* Effect.forkChild(connection.write(much), { startImmediately: true })
            assert.isTrue((yield* connection.readExactly(much.length)).equals(much))
            yield* Fiber.join(writing)
          })
        )
        assert.strictEqual((yield* pool.stats).idle, 1)
      }))
  })
}

class Unwelcome extends Data.TaggedError("Unwelcome") {}

describe("options", () => {
  it.effect("all that is wrong is named at once", () =>
    Effect.gen(function*() {
      const wrong = (options: object) =>
        Effect.map(Effect.flip(SocketQueuePool.make(options as never)), (error) => {
          const { reason } = error
          return [error.pool, (reason as PoolError.InvalidOptions).problems.map(({ option }) => option).toSorted()]
        })
      assert.deepStrictEqual(yield* wrong({}), ["SocketQueuePool", ["endpoint"]])
      assert.deepStrictEqual(
        yield* wrong({
          name: "db",
          endpoint: { host: "", port: 70_000, tls: { servername: "127.0.0.1", ca: [], key: "secret", what: 1 } },
          connectTimeout: 0,
          closeGrace: "Infinity",
          keepAlive: 1,
          noDelay: 1,
          unread: "drop",
          max: 0,
          acquire: Effect.void,
          colour: "red"
        }),
        ["db", [
          "acquire",
          "closeGrace",
          "colour",
          "connectTimeout",
          "endpoint.host",
          "endpoint.port",
          "endpoint.tls.ca",
          "endpoint.tls.key",
          "endpoint.tls.servername",
          "endpoint.tls.what",
          "keepAlive",
          "max",
          "noDelay",
          "unread"
        ]]
      )
      assert.deepStrictEqual(yield* wrong({ endpoint: { path: "", port: 1, tls: 1 } }), ["SocketQueuePool", [
        "endpoint.path",
        "endpoint.port",
        "endpoint.tls"
      ]])
      assert.deepStrictEqual(yield* wrong({ endpoint: { host: "a", port: 1 }, closeGrace: -1 }), ["SocketQueuePool", [
        "closeGrace"
      ]])
      assert.deepStrictEqual(yield* wrong({ endpoint: { host: "a", port: 1 }, max: 0 }), ["SocketQueuePool", ["max"]])
      assert.deepStrictEqual(
        yield* wrong({
          endpoint: {
            host: "a",
            port: 1.5,
            tls: {
              passphrase: Redacted.make(""),
              cert: new Uint8Array(1),
              alpnProtocols: "h2",
              rejectUnauthorized: 0,
              key: [Redacted.make("key")]
            }
          }
        }),
        ["SocketQueuePool", [
          "endpoint.port",
          "endpoint.tls.alpnProtocols",
          "endpoint.tls.passphrase",
          "endpoint.tls.rejectUnauthorized"
        ]]
      )
    }))

  it("endpoints of the same content are one key", () => {
    const endpoint = () => ({ host: "db", port: 1, tls: { ca: ["a", new Uint8Array([1])], alpnProtocols: ["h2"] } })
    assert.isTrue(Equal.equals(endpoint(), endpoint()))
    assert.strictEqual(Hash.hash(endpoint()), Hash.hash(endpoint()))
    assert.isFalse(Equal.equals(endpoint(), { ...endpoint(), port: 2 }))
    assert.isFalse(Equal.equals({ path: "/a" }, { path: "/b" }))
    const key = Redacted.make("key")
    assert.isTrue(Equal.equals({ path: "/a", tls: { key } }, { path: "/a", tls: { key: Redacted.make("key") } }))
  })

  it.effect("a handshake's own error is the pool's, with an eager warm-up also that of making it", () =>
    Effect.gen(function*() {
      const { endpoint, open } = yield* serve()
      const onAcquire = (connection: SocketQueuePool.Connection) =>
        Effect.flatMap(ask(connection, "hello"), () => Effect.fail(new Unwelcome()))
      const pool = yield* SocketQueuePool.make({ endpoint, onAcquire })
      assert.instanceOf(yield* Effect.flip(pool.use(() => Effect.void)), Unwelcome)
      assert.instanceOf(
        yield* Effect.flip(SocketQueuePool.make({ endpoint, onAcquire, min: 1, warm: "eager" })),
        Unwelcome
      )
      yield* sees(() => open() === 0)
    }))

  it.effect("a connection that ends in its handshake is a failed open", () =>
    Effect.gen(function*() {
      const { endpoint, open } = yield* serve({ serve: ({ socket }) => socket.end() })
      const pool = yield* SocketQueuePool.make({ endpoint, onAcquire: (connection) => connection.ended })
      assert.strictEqual(reasonOf(yield* Effect.flip(pool.use(() => Effect.void))), "Ended")
      assert.strictEqual((yield* pool.stats).openFailures, 1)
      yield* sees(() => open() === 0)
    }))

  it.effect("what ends while the pool is warmed is replaced", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      let first: SocketQueuePool.Connection | undefined
      const pool = yield* SocketQueuePool.make({
        endpoint: server.endpoint,
        min: 2,
        warm: "eager",
        onAcquire: (connection) => {
          if (first === undefined) {
            first = connection
            return ask(connection, "first")
          }
          server.peers[0]!.socket.end()
          return first.ended
        }
      })
      yield* seesStats(pool, ({ idle, opened }) => idle === 2 && opened === 3)
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
    }))

  it.effect("rules are added to those of the module", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* serve()
      for (const recycle of [RecyclePolicy.uses(1), [RecyclePolicy.uses(1), RecyclePolicy.failed]]) {
        const pool = yield* SocketQueuePool.make({ endpoint, recycle })
        yield* pool.use((connection) => ask(connection, "hello"))
        yield* pool.use((connection) => connection.end)
        const { recycled } = yield* pool.stats
        assert.deepStrictEqual(recycled, { uses: 1, disconnected: 1 })
      }
    }))

  it.effect("TCP is asked for keepalive and no delay, or neither", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* serve()
      // What Node was told is to be seen on the socket's own account of its options.
      const told = (options: SocketQueuePool.ConnectOptions) =>
        Effect.scoped(Effect.map(SocketQueuePool.connect(endpoint, options), ({ socket }) => {
          const symbols = Object.getOwnPropertySymbols(socket)
          return ["kSetNoDelay", "kSetKeepAlive", "kSetKeepAliveInitialDelay"].map((name) =>
            (socket as never)[symbols.find((symbol) => symbol.description === name)!] as unknown
          )
        }))
      assert.deepStrictEqual(yield* told({}), [true, true, 60])
      assert.deepStrictEqual(yield* told({ keepAlive: "5 seconds" }), [true, true, 5])
      const [noDelay, keepAlive] = yield* told({ keepAlive: "Infinity", noDelay: false })
      assert.deepStrictEqual([Boolean(noDelay), Boolean(keepAlive)], [false, false])
    }))

  it.effect("a check is run for what was idle for checkAfter, since it came back or was checked", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* serve()
      const asked: Array<string> = []
      const pool = yield* SocketQueuePool.make({
        endpoint,
        max: 1,
        check: (connection) => Effect.map(ask(connection, "PING"), (answer) => void asked.push(answer)),
        checkAfter: "1 second",
        reset: (connection) => connection.unread === 0 && asked.length < 2 ? undefined : Effect.fail("no")
      })
      const use = pool.use(() => Effect.void)
      yield* use
      yield* TestClock.adjust("999 millis")
      yield* use
      yield* TestClock.adjust("999 millis")
      yield* use
      assert.deepStrictEqual(asked, [])
      yield* TestClock.adjust("1 second")
      yield* use
      assert.deepStrictEqual(asked, ["PING"])
      assert.strictEqual((yield* pool.stats).opened, 1)
      // What came back clean is proven for as long again.
      yield* TestClock.adjust("999 millis")
      yield* use
      assert.deepStrictEqual(asked, ["PING"])
      yield* TestClock.adjust("1 second")
      yield* use
      yield* settle
      assert.deepStrictEqual((yield* pool.stats).recycled, { "reset failed": 1 })
    }))

  it.effect("one that is open is lent again after checkAfter when there is no check", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* serve()
      const pool = yield* SocketQueuePool.make({ endpoint, checkAfter: "1 second" })
      const first = yield* pool.use(Effect.succeed)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* pool.use(Effect.succeed), first)
      assert.deepStrictEqual((yield* pool.stats).recycled, {})
    }))
})

class Pool extends Context.Service<
  Pool,
  QueuePool.QueuePool<SocketQueuePool.Connection, SocketQueuePool.ConnectionError>
>()("test/Pool") {}

describe("services", () => {
  it.effect("a layer provides a pool under a tag, named by it, from options or an Effect of them", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      for (const options of [{ endpoint: server.endpoint }, Effect.succeed({ endpoint: server.endpoint })]) {
        yield* Effect.provide(
          Effect.gen(function*() {
            const pool = yield* Pool
            assert.strictEqual(pool.name, "test/Pool")
            yield* pool.use((connection) => ask(connection, "hello"))
            server.peers.at(-1)!.socket.end()
            yield* seesStats(pool, ({ recycled }) => recycled["disconnected"] === 1)
          }),
          SocketQueuePool.layer(Pool, options)
        )
      }
    }))

  it.effect("a class has the pool's operations, and hears of connections that end", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      for (const fixed of [true, false]) {
        const options = { endpoint: server.endpoint, max: 1 }
        class Echo extends SocketQueuePool.Service<Echo>()("test/Echo", fixed ? options : Effect.succeed(options)) {}
        yield* Effect.provide(
          Effect.gen(function*() {
            const pool = yield* Echo
            assert.strictEqual(pool.name, "test/Echo")
            assert.strictEqual(yield* Echo.useItem((connection) => ask(connection, "hello")), "hello")
            server.peers.at(-1)!.socket.end()
            yield* seesStats(pool, ({ recycled }) => recycled["disconnected"] === 1)
            assert.strictEqual((yield* Echo.stats).closed, 1)
          }),
          Echo.layer
        )
      }
      yield* sees(() => server.open() === 0)
    }))

  it.effect("a class whose options are wrong fails with their problems", () =>
    Effect.gen(function*() {
      class Echo extends SocketQueuePool.Service<Echo>()("test/Echo", { endpoint: { host: "", port: 1 } }) {}
      const error = yield* Effect.flip(Effect.provide(Echo.stats, Echo.layer))
      assert.strictEqual(error.pool, "test/Echo")
      assert.include(error.message, "endpoint.host")
    }))
})

describe("as a Socket of effect", () => {
  it.effect("is read, written and ended through its channel", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint })
      const text = yield* pool.use((connection) =>
        Stream.make("hello", " ", "world").pipe(
          Stream.encodeText,
          Stream.pipeThroughChannel(Socket.toChannelWith()(SocketQueuePool.toSocket(connection))),
          Stream.catch((error) =>
            error.reason._tag === "SocketCloseError" && error.reason.code === 1000 ? Stream.empty : Stream.fail(error)
          ),
          Stream.decodeText,
          Stream.mkString
        )
      )
      assert.strictEqual(text, "hello world")
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
    }))

  it.effect("tells of its end and of its faults in effect's words", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint })
      const socket = yield* Effect.map(pool.get, SocketQueuePool.toSocket)
      // Closing the reader's scope ends a pull that waits.
      const scope = yield* Scope.make()
      const reader = yield* Scope.provide(socket.reader, scope)
      const pulling = yield* Effect.forkChild(Effect.flip(reader.pull), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(pulling)).message, "1006")
      assert.strictEqual((yield* Effect.flip(reader.upgrade())).reason._tag, "SocketUpgradeError")
      const writer = yield* socket.writer
      yield* writer.write("once")
      yield* writer.writeAll(["more", " and more"])
      const second = yield* socket.reader
      yield* sees(() => server.peers[0]!.received() === "oncemore and more")
      server.peers[0]!.socket.resetAndDestroy()
      yield* sees(() => server.open() === 0)
      const errors = [yield* Effect.flip(writer.write("gone"))]
      while (errors.length < 2) {
        const exit = yield* Effect.exit(second.pull)
        if (Exit.isFailure(exit)) errors.push(yield* Effect.flip(exit))
      }
      assert.deepStrictEqual(errors.map(({ reason }) => reason._tag), ["SocketWriteError", "SocketReadError"])
    }))

  it.effect("a close event ends it", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint })
      yield* Effect.scoped(Effect.gen(function*() {
        const { writer } = SocketQueuePool.toSocket(yield* pool.get)
        const { write } = yield* writer
        yield* write(new Socket.CloseEvent())
        yield* sees(() => server.peers[0]!.sawEnd())
      }))
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
    }))
})
