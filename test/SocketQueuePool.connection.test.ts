import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import { TestClock } from "effect/testing"
import { settle } from "./kit/items.ts"
import { ask, type Peer, reasonOf, sees, serve } from "./kit/sockets.ts"

/** A connection, and the other end of it, which does nothing by itself. */
const pair = Effect.gen(function*() {
  const server = yield* serve({ serve: () => {} })
  const connection = yield* SocketQueuePool.connect(server.endpoint)
  yield* sees(() => server.peers.length === 1)
  return { server, peer: server.peers[0]!, connection }
})

/** Waits until that was sent and has come. */
const send = (connection: SocketQueuePool.Connection, { socket }: Peer, text: string) =>
  Effect.suspend(() => {
    const size = connection.unread + text.length
    socket.write(text)
    return sees(() => connection.unread === size)
  })

const text = Effect.map((bytes: Uint8Array) => new TextDecoder().decode(bytes))

describe("reading", () => {
  it.effect("takes what has come, what stands before a delimiter, and so many bytes", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      yield* send(connection, peer, "one\r")
      yield* send(connection, peer, "\ntwo\r\nthree")
      assert.strictEqual(yield* text(connection.readUntil("\r\n")), "one")
      assert.strictEqual(yield* text(connection.readUntil(new Uint8Array([13, 10]))), "two")
      assert.strictEqual(yield* text(connection.readExactly(0)), "")
      assert.strictEqual(yield* text(connection.readExactly(2)), "th")
      assert.strictEqual(connection.unread, 3)
      assert.strictEqual(yield* text(connection.read), "ree")
      assert.strictEqual(yield* text(connection.readExactly(0)), "")
    }))

  it.effect("waits until there is enough", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      for (
        const [read, expected] of [
          [connection.readUntil("--"), "a-b"],
          [connection.readExactly(5), "a-b--"],
          [connection.read, "a"]
        ] as const
      ) {
        const reading = yield* Effect.forkChild(text(read), { startImmediately: true })
        for (const piece of ["a", "-", "b", "-", "-"]) {
          peer.socket.write(piece)
          yield* settle
          yield* sees(() => peer.socket.writableLength === 0)
        }
        assert.strictEqual(yield* Fiber.join(reading), expected)
        while (connection.unread > 0) yield* connection.read
      }
    }).pipe(Effect.timeout("5 seconds")))

  it.effect("a delimiter that does not come within the limit is an error", () =>
    Effect.gen(function*() {
      const { connection, peer, server } = yield* pair
      yield* send(connection, peer, "12345\n")
      const error = yield* Effect.flip(connection.readUntil("\n", { limit: 4 }))
      assert.strictEqual(
        error.message,
        `DelimiterMissing: localhost:${server.port} has sent 4 bytes without the delimiter`
      )
      assert.strictEqual(yield* text(connection.readUntil("\n", { limit: 5 })), "12345")
      const reading = yield* Effect.forkChild(Effect.flip(connection.readUntil("\n", { limit: 4 })), {
        startImmediately: true
      })
      yield* send(connection, peer, "12345")
      assert.isUndefined(reading.pollUnsafe())
      yield* send(connection, peer, "6")
      assert.strictEqual(reasonOf(yield* Fiber.join(reading)), "DelimiterMissing")
    }))

  it.effect("what makes no sense is refused, and costs nothing", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* pair
      const wrong = [
        connection.readExactly(-1),
        connection.readExactly(NaN),
        connection.readUntil("", {}),
        connection.readUntil("\n", { limit: NaN })
      ]
      const named: Array<string> = []
      for (const read of wrong) {
        const { reason } = yield* Effect.flip(read)
        if (reason._tag === "InvalidOptions") named.push(...reason.problems.map(({ option }) => option))
      }
      assert.deepStrictEqual(named, ["count", "count", "delimiter", "limit"])
      assert.strictEqual(
        (yield* Effect.flip(wrong[0]!)).message,
        `InvalidOptions: localhost:${server.port} with count, for which allowed is a whole number from 0`
      )
      assert.isTrue(connection.isOpen)
    }))

  it.effect("two at a time are an error for the second, and the first gets what comes", () =>
    Effect.gen(function*() {
      const { connection, peer, server } = yield* pair
      const first = yield* Effect.forkChild(text(connection.read), { startImmediately: true })
      const error = yield* Effect.flip(connection.read)
      assert.strictEqual(
        error.message,
        `AlreadyReading: another fiber reads from the connection to localhost:${server.port}`
      )
      assert.strictEqual(reasonOf(yield* Effect.flip(connection.readExactly(1))), "AlreadyReading")
      peer.socket.write("hello")
      assert.strictEqual(yield* Fiber.join(first), "hello")
    }))

  it.effect("what nobody reads waits with the sender, beyond a bound", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      const size = 20_000_000
      peer.socket.write(new Uint8Array(size))
      yield* sees(() => connection.unread >= 64 * 1024)
      assert.isTrue(connection.socket.isPaused())
      assert.isBelow(connection.unread, 1_000_000)
      assert.strictEqual((yield* connection.readExactly(size)).length, size)
      assert.strictEqual(connection.unread, 0)
    }))

  it.effect("after an interrupted read the next goes on where it was", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      const reading = yield* Effect.forkChild(connection.readExactly(4), { startImmediately: true })
      yield* send(connection, peer, "ab")
      yield* Fiber.interrupt(reading)
      assert.isFalse(connection.isOpen)
      yield* send(connection, peer, "cd")
      assert.strictEqual(yield* text(connection.readExactly(4)), "abcd")
    }))
})

describe("writing", () => {
  it.effect("waits while the peer takes nothing, and goes on when it does", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      peer.socket.pause()
      const size = 20_000_000
      const writing = yield* Effect.forkChild(connection.write(new Uint8Array(size)), { startImmediately: true })
      yield* sees(() => connection.socket.writableNeedDrain)
      assert.isUndefined(writing.pollUnsafe())
      peer.socket.resume()
      yield* Fiber.join(writing)
      yield* sees(() => peer.received().length === size)
    }))

  it.effect("that waits is interrupted, and spoils the connection", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      peer.socket.pause()
      const writing = yield* Effect.forkChild(connection.write(new Uint8Array(20_000_000)), { startImmediately: true })
      yield* sees(() => connection.socket.writableNeedDrain)
      assert.isTrue(connection.isOpen)
      yield* Fiber.interrupt(writing)
      assert.isFalse(connection.isOpen)
    }))

  it.effect("that waits fails when the connection breaks", () =>
    Effect.gen(function*() {
      const { connection, peer, server } = yield* pair
      peer.socket.pause()
      const writing = yield* Effect.forkChild(Effect.flip(connection.write(new Uint8Array(20_000_000))), {
        startImmediately: true
      })
      yield* sees(() => connection.socket.writableNeedDrain)
      peer.reset()
      const error = yield* Fiber.join(writing)
      assert.include(error.message, `ConnectionLost: write: the connection to localhost:${server.port} broke: `)
      const reading = yield* Effect.flip(connection.read)
      assert.include(reading.message, `ConnectionLost: read: the connection to localhost:${server.port} broke: `)
    }))

  it.effect("fails with what the socket was destroyed with", () =>
    Effect.gen(function*() {
      const { connection } = yield* pair
      connection.socket.destroy(new Error("enough"))
      yield* connection.ended
      const { reason } = yield* Effect.flip(connection.write("?"))
      assert.deepInclude(reason, { operation: "write", code: undefined })
      assert.include((yield* Effect.flip(connection.read)).message, "broke: enough")
    }))

  it.effect("that waits outlasts the peer's end, for it may go on to read", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      peer.socket.pause()
      const writing = yield* Effect.forkChild(connection.write(new Uint8Array(20_000_000)), { startImmediately: true })
      yield* sees(() => connection.socket.writableNeedDrain)
      peer.socket.end()
      yield* connection.ended
      yield* settle
      assert.isUndefined(writing.pollUnsafe())
      peer.socket.resume()
      yield* Fiber.join(writing)
    }))
})

describe("the end", () => {
  it.effect("of this side lets the peer finish", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      peer.socket.removeAllListeners("end")
      peer.socket.on("end", () => peer.socket.end("last words"))
      yield* connection.write("first")
      yield* connection.end
      assert.strictEqual(yield* text(connection.readExactly(10)), "last words")
      assert.strictEqual(peer.received(), "first")
    }))

  it.effect("of the scope ends it politely after a success, and what it does then are errors", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(SocketQueuePool.connect(server.endpoint), scope)
      yield* ask(connection, "hello")
      const ended = yield* Effect.forkChild(connection.ended, { startImmediately: true })
      const left = yield* Effect.forkChild(connection.ended, { startImmediately: true })
      yield* Fiber.interrupt(left)
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(ended)
      yield* connection.ended
      assert.isTrue(server.peers[0]!.sawEnd())
      const { port } = server
      assert.strictEqual(
        (yield* Effect.flip(connection.read)).message,
        `ConnectionClosed: read: the connection to localhost:${port} is closed`
      )
      assert.strictEqual(
        (yield* Effect.flip(connection.write("?"))).message,
        `ConnectionClosed: write: the connection to localhost:${port} is closed`
      )
    }))

  it.effect("of the scope destroys it at once after a failure in the middle, or without a grace", () =>
    Effect.gen(function*() {
      // The peer ends nothing by itself: a polite end would have to wait.
      const server = yield* serve({ serve: ({ socket }) => void socket.removeAllListeners("end") })
      for (const [exit, closeGrace] of [[Exit.fail("oh"), "1 second"], [Exit.void, 0]] as const) {
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(SocketQueuePool.connect(server.endpoint, { closeGrace }), scope)
        yield* connection.write("hello")
        yield* sees(() => connection.socket.writableLength === 0)
        yield* Scope.close(scope, exit)
        assert.isTrue(connection.socket.destroyed)
      }
    }))

  /** A server that says one word, reads nothing, and does not end. */
  const mute = serve({
    serve: ({ socket }) => {
      socket.removeAllListeners("end")
      socket.write("word")
      socket.pause()
    }
  })

  it.effect("of the scope is that of a read or write that waits, and then it is destroyed at once", () =>
    Effect.gen(function*() {
      const server = yield* mute
      for (
        const wait of [
          (connection: SocketQueuePool.Connection) => connection.readExactly(100),
          (connection: SocketQueuePool.Connection) => connection.write(new Uint8Array(20_000_000))
        ]
      ) {
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(SocketQueuePool.connect(server.endpoint), scope)
        const waiting = yield* Effect.forkChild(Effect.flip<unknown, unknown, never>(wait(connection)), {
          startImmediately: true
        })
        yield* settle
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(connection.socket.destroyed)
        assert.strictEqual(reasonOf(yield* Fiber.join(waiting)), "ConnectionClosed")
      }
    }))

  it.effect("of the scope is told before the peer has answered, and nothing is read any more", () =>
    Effect.gen(function*() {
      const server = yield* mute
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(SocketQueuePool.connect(server.endpoint), scope)
      yield* sees(() => connection.unread === 4)
      const ended = yield* Effect.forkChild(connection.ended, { startImmediately: true })
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* Fiber.join(ended)
      assert.strictEqual(reasonOf(yield* Effect.flip(connection.read)), "ConnectionClosed")
      assert.isFalse(connection.socket.destroyed)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.isTrue(connection.socket.destroyed)
    }))

  it.effect("of the scope is polite also where much is unread", () =>
    Effect.gen(function*() {
      const server = yield* serve({ serve: ({ socket }) => void socket.write(new Uint8Array(5_000_000)) })
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(SocketQueuePool.connect(server.endpoint), scope)
      yield* sees(() => connection.socket.isPaused())
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(server.peers[0]!.sawEnd())
    }))

  it.effect("what comes while it is ended is dropped", () =>
    Effect.gen(function*() {
      const server = yield* serve({
        serve: ({ socket }) => {
          socket.removeAllListeners("end")
          socket.on("end", () => socket.end("too late"))
        }
      })
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(SocketQueuePool.connect(server.endpoint), scope)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual([connection.unread, connection.socket.bytesRead], [0, 8])
    }))
})

describe("taking over", () => {
  it.effect("hands over the socket with what nobody has read", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* pair
      yield* send(connection, peer, "101 now another protocol\nhead")
      yield* connection.readUntil("\n")
      const { head, socket } = yield* connection.takeOver
      assert.strictEqual(head.toString(), "head")
      assert.strictEqual(socket.listenerCount("data"), 0)
      // Nothing is lost until the taker listens.
      const { bytesRead } = socket
      peer.socket.write("body")
      yield* sees(() => socket.bytesRead === bytesRead + 4)
      const read = Effect.callback<string>((resume) => {
        socket.once("data", (data: Buffer) => resume(Effect.succeed(data.toString()))).resume()
      })
      assert.strictEqual(yield* read, "body")
      assert.strictEqual(reasonOf(yield* Effect.flip(connection.read)), "ConnectionClosed")
      assert.strictEqual(reasonOf(yield* Effect.flip(connection.write("?"))), "ConnectionClosed")
      yield* connection.ended
    }))

  it.effect("a connection that has left its pool is its taker's", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      const scope = yield* Scope.make()
      const socket = yield* pool.use((connection) =>
        Effect.gen(function*() {
          assert.isTrue(yield* Scope.provide(pool.detach(connection), scope))
          return (yield* connection.takeOver).socket
        })
      )
      yield* pool.use((connection) => ask(connection, "another"))
      assert.isFalse(socket.destroyed)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(socket.destroyed)
    }))
})
