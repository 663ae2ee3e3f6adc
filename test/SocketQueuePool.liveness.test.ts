import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { type PoolEvent, QueuePool, RecyclePolicy } from "effect-queuepool"
import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import { TestClock } from "effect/testing"
import { settle } from "./kit/items.ts"
import { record, told } from "./kit/observe.ts"
import { live } from "./kit/real.ts"
import { ask, type Peer, reasonOf, sees, seesStats, serve, tlsServer } from "./kit/sockets.ts"
import * as TcpProxy from "./kit/TcpProxy.ts"

const ends: Record<string, (peer: Peer) => void> = {
  "ended by its peer": ({ socket }) => socket.end(),
  "reset": ({ reset }) => reset(),
  "closed by its peer": ({ socket }) => socket.destroy()
}

for (const tls of [undefined, tlsServer]) {
  describe(tls === undefined ? "TCP" : "TLS", () => {
    for (const [how, end] of Object.entries(ends)) {
      it.effect(`an idle connection that is ${how} is recycled at once, and replaced for min`, () =>
        Effect.gen(function*() {
          const server = yield* serve({ tls })
          const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, min: 1 })
          yield* pool.use((connection) => ask(connection, "hello"))
          end(server.peers[0]!)
          yield* seesStats(pool, ({ idle, opened }) => opened === 2 && idle === 1)
          assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
          yield* sees(() => server.open() === 1)
        }))

      it.effect(`one that was never lent and is ${how} too`, () =>
        Effect.gen(function*() {
          const server = yield* serve({ tls })
          const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, min: 1, warm: "eager" })
          yield* sees(() => server.peers.length === 1)
          end(server.peers[0]!)
          yield* seesStats(pool, ({ idle, opened }) => opened === 2 && idle === 1)
        }))

      it.effect(`a lent one that is ${how} fails what its borrower does, and is not lent again`, () =>
        Effect.gen(function*() {
          const server = yield* serve({ tls })
          const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
          yield* pool.use((connection) =>
            Effect.gen(function*() {
              assert.isTrue(connection.isOpen)
              yield* ask(connection, "hello")
              const reading = yield* Effect.forkChild(Effect.flip(connection.read), { startImmediately: true })
              end(server.peers[0]!)
              yield* connection.ended
              assert.isFalse(connection.isOpen)
              assert.include(["Ended", "ConnectionLost", "ConnectionClosed"], reasonOf(yield* Fiber.join(reading)))
              // The rest of the lease is the borrower's.
              yield* connection.ended
            })
          )
          yield* pool.use((connection) => ask(connection, "again"))
          assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
        }))
    }
  })
}

describe("what was said before the end", () => {
  it.effect("can still be read, and then the end", () =>
    Effect.gen(function*() {
      const server = yield* serve({
        serve: ({ socket }) => socket.on("data", () => socket.end("some\nmore"))
      })
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint })
      yield* pool.use((connection) =>
        Effect.gen(function*() {
          yield* connection.write("?")
          yield* connection.ended
          assert.strictEqual((yield* connection.readUntil("\n")).toString(), "some")
          const short = yield* Effect.flip(connection.readExactly(5))
          assert.strictEqual(
            short.message,
            `Ended: localhost:${server.port} has ended the connection after 4 bytes more`
          )
          assert.strictEqual(connection.unread, 4)
          assert.strictEqual((yield* connection.read).toString(), "more")
          const error = yield* Effect.flip(connection.read)
          assert.strictEqual(error.message, `Ended: localhost:${server.port} has ended the connection`)
          // Half of it is open still.
          yield* connection.write("!")
          yield* sees(() => server.peers[0]!.received() === "?!")
          yield* connection.end
          assert.strictEqual(reasonOf(yield* Effect.flip(connection.write("?"))), "ConnectionClosed")
        })
      )
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
    }))
})

/** A server that answers each line, and says more when it is told to. */
const talkative = serve({
  serve: ({ socket }) => {
    socket.on("data", (data) => {
      for (const line of data.toString().split("\n").slice(0, -1)) {
        if (line === "push") socket.write("pushed\n")
        else if (line !== "silence") socket.write(`${line}\n`)
      }
    })
  }
})

describe("out of step", () => {
  it.effect("unread bytes at the return recycle, unless they are kept", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      for (const unread of ["recycle", "keep"] as const) {
        const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1, unread })
        yield* pool.use((connection) =>
          Effect.gen(function*() {
            yield* connection.write("one\ntwo\n")
            yield* sees(() => connection.unread === 8)
            yield* connection.readUntil("\n")
          })
        )
        const { recycled } = yield* pool.stats
        assert.deepStrictEqual(recycled, unread === "keep" ? {} : { "unread bytes": 1 })
        if (unread === "keep") {
          const line = yield* pool.use((connection) => connection.readUntil("\n"))
          assert.strictEqual(line.toString(), "two")
        }
      }
    }))

  it.effect("what has come before it is read is no fault while the lease lasts", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      for (let round = 0; round < 2; round++) {
        yield* pool.use((connection) =>
          Effect.gen(function*() {
            yield* connection.write("one\ntwo\n")
            yield* sees(() => connection.unread === 8)
            assert.isTrue(connection.isOpen)
            for (const word of ["one", "two"]) {
              assert.strictEqual((yield* connection.readUntil("\n")).toString(), word)
            }
          })
        )
      }
      assert.deepStrictEqual((yield* pool.stats).recycled, {})
    }))

  it.effect("what comes while a connection is idle recycles it at once, unless it is kept", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      for (const unread of ["recycle", "keep"] as const) {
        const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1, unread })
        const connection = yield* pool.use((connection) => Effect.as(ask(connection, "hello"), connection))
        server.peers.at(-1)!.socket.write("surprise\n")
        yield* sees(() => connection.unread > 0)
        assert.deepStrictEqual(
          (yield* pool.stats).recycled,
          unread === "keep" ? {} : { "unread bytes": 1 }
        )
      }
    }))

  it.effect("what comes before the first word of a lease is not taken for its answer", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      const { port } = server
      for (const unread of ["recycle", "keep"] as const) {
        const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1, unread })
        yield* pool.use((connection) => ask(connection, "hello"))
        const answer = pool.use((connection) =>
          Effect.gen(function*() {
            server.peers.at(-1)!.socket.write("stale\n")
            yield* sees(() => connection.unread > 0)
            return yield* ask(connection, "fresh")
          })
        )
        if (unread === "keep") assert.strictEqual(yield* answer, "stale")
        else {
          assert.strictEqual(
            (yield* Effect.flip(answer)).message,
            `OutOfStep: 6 bytes that nobody asked for had come from localhost:${port} before this lease`
          )
          assert.deepStrictEqual((yield* pool.stats).recycled, { "unread bytes": 1 })
        }
      }
    }))

  it.effect("one that had much to read, and has been read, hears of its end", () =>
    Effect.gen(function*() {
      const server = yield* serve({
        serve: ({ socket }) => socket.on("data", () => socket.write(new Uint8Array(1_000_000)))
      })
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      yield* pool.use((connection) =>
        Effect.gen(function*() {
          yield* connection.write("?")
          let length = 0
          while (length < 1_000_000) {
            yield* sees(() =>
              connection.unread > 0 && (connection.socket.isPaused() || connection.unread + length === 1_000_000)
            )
            length += (yield* connection.readExactly(connection.unread)).length
          }
        })
      )
      server.peers[0]!.socket.end()
      yield* seesStats(pool, ({ recycled }) => recycled["disconnected"] === 1)
    }))

  it.effect("a greeting is no surprise", () =>
    Effect.gen(function*() {
      const server = yield* serve({ serve: ({ socket }) => socket.write("welcome\n") })
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, min: 1, warm: "eager" })
      const greeting = yield* pool.use((connection) => connection.readUntil("\n"))
      assert.strictEqual(greeting.toString(), "welcome")
      assert.strictEqual((yield* pool.stats).idle, 1)
    }))

  it.effect("a lease that fails or is interrupted after it has begun to talk, and has not settled", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      const failing = (talk: (connection: SocketQueuePool.Connection) => Effect.Effect<unknown, unknown>) =>
        Effect.exit(pool.use((connection) => Effect.andThen(talk(connection), Effect.fail("oh"))))
      const recycled = Effect.map(pool.stats, ({ recycled }) => recycled["out of step"] ?? 0)
      yield* failing(() => Effect.void)
      assert.strictEqual(yield* recycled, 0)
      // What went well before is forgotten.
      yield* pool.use((connection) => ask(connection, "hello"))
      yield* failing(() => Effect.void)
      assert.strictEqual(yield* recycled, 0)
      yield* failing((connection) => Effect.andThen(ask(connection, "hello"), connection.settle))
      assert.strictEqual(yield* recycled, 0)
      yield* failing((connection) => ask(connection, "hello"))
      assert.strictEqual(yield* recycled, 1)
      const fiber = yield* Effect.forkChild(
        pool.use((connection) => Effect.andThen(ask(connection, "hello"), Effect.never))
      )
      yield* sees(() => server.peers.length === 2 && server.peers[1]!.received() === "hello\n")
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* recycled, 2)
      yield* sees(() => server.open() === 0)
    }))

  it.effect("a lease whose last word was a write, unless it settles or unread bytes are kept", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      for (const [unread, settles] of [["recycle", false], ["recycle", true], ["keep", false]] as const) {
        const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1, unread })
        yield* pool.use((connection) =>
          Effect.andThen(connection.write("silence\n"), settles ? connection.settle : Effect.void)
        )
        const { recycled } = yield* pool.stats
        assert.deepStrictEqual(recycled, unread === "recycle" && !settles ? { "out of step": 1 } : {})
      }
    }))

  it.effect("a read that was given up, though the lease ends well", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      const lease = yield* Effect.forkChild(pool.use((connection) =>
        connection.write("silence\n").pipe(
          Effect.andThen(Effect.timeoutOption(connection.read, "1 second")),
          // It goes on with what it has.
          Effect.andThen(ask(connection, "hello"))
        )
      ))
      yield* sees(() => server.peers[0]?.received() === "silence\n")
      yield* settle
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(lease), "hello")
      assert.deepStrictEqual((yield* pool.stats).recycled, { "out of step": 1 })
    }))

  it.effect("what a fiber of the lease did before it was interrupted or failed, though the lease ends well", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      for (const wrong of [Effect.interrupt, Effect.fail("oh")]) {
        const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
        yield* pool.use((connection) =>
          Effect.gen(function*() {
            // Between one operation and the next.
            const fiber = yield* Effect.forkChild(Effect.andThen(ask(connection, "hello"), wrong))
            yield* Fiber.await(fiber)
          })
        )
        assert.deepStrictEqual((yield* pool.stats).recycled, { "out of step": 1 })
        // Unless all was said and read.
        yield* pool.use((connection) =>
          Effect.gen(function*() {
            const settled = Effect.andThen(ask(connection, "hello"), connection.settle)
            yield* Fiber.await(yield* Effect.forkChild(Effect.andThen(settled, wrong)))
          })
        )
        assert.strictEqual((yield* pool.stats).idle, 1)
      }
    }))

  it.effect("a fiber that reads on after its lease", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      const reading = yield* pool.use((connection) =>
        Effect.forkDetach(Effect.flip(connection.read), { startImmediately: true })
      )
      assert.deepStrictEqual((yield* pool.stats).recycled, { "out of step": 1 })
      assert.strictEqual(reasonOf(yield* Fiber.join(reading)), "ConnectionClosed")
    }))

  it.effect("one that its borrower has spoiled, ended or taken over", () =>
    Effect.gen(function*() {
      const server = yield* talkative
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      yield* pool.use(({ spoil }) => spoil)
      yield* pool.use(({ end }) => end)
      yield* pool.use(({ takeOver }) => takeOver)
      yield* pool.use(({ socket }) => Effect.sync(() => socket.destroy()))
      assert.deepStrictEqual((yield* pool.stats).recycled, { "out of step": 1, disconnected: 3 })
      yield* sees(() => server.open() === 0)
    }))

  it.effect("is destroyed at once: there is no sense in a polite end", () =>
    Effect.gen(function*() {
      const server = yield* serve({ serve: ({ socket }) => void socket.pause() })
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      const connection = yield* pool.use((connection) => Effect.as(connection.spoil, connection))
      yield* settle
      assert.isTrue(connection.socket.destroyed)
      assert.strictEqual((yield* pool.stats).closed, 1)
    }))
})

describe("the look before a connection is lent", () => {
  it.live("an end that came while the program was busy is seen: nobody is lent a dead one", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const pool = yield* SocketQueuePool.make({ endpoint: server.endpoint, max: 1 })
      for (let round = 0; round < 5; round++) {
        yield* pool.use((connection) => ask(connection, "hello"))
        yield* Effect.sync(() => {
          server.peers.at(-1)!.socket.destroy()
          const until = performance.now() + 5
          while (performance.now() < until);
        })
        assert.strictEqual(yield* pool.use((connection) => ask(connection, "again")), "again")
      }
      assert.strictEqual((yield* pool.stats).recycled["disconnected"], 5)
    }))
})

describe("a plain pool with the rules, the monitor and the glance", () => {
  const plain = (endpoint: SocketQueuePool.Endpoint) =>
    QueuePool.make({
      acquire: SocketQueuePool.connect(endpoint),
      max: 1,
      recycle: SocketQueuePool.rules,
      monitor: SocketQueuePool.monitor,
      check: SocketQueuePool.glance,
      checkAfter: "2 millis"
    })

  it.effect("recycles idle connections that end or speak unasked, at once", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const pool = yield* plain(server.endpoint)
      for (const end of [...Object.values(ends), ({ socket }: Peer) => socket.write("surprise")]) {
        yield* pool.use((connection) => ask(connection, "hello"))
        const { closed } = yield* pool.stats
        end(server.peers.at(-1)!)
        yield* seesStats(pool, (stats) => stats.closed === closed + 1)
      }
      // Also one that was never lent.
      yield* pool.use((connection) => connection.spoil)
      yield* pool.resize({ min: 1 })
      const { length } = server.peers
      yield* seesStats(pool, ({ idle }) => idle === 1)
      yield* sees(() => server.peers.length > length - 1)
      const { closed } = yield* pool.stats
      server.peers.at(-1)!.socket.end()
      yield* seesStats(pool, (stats) => stats.closed > closed)
    }))

  it.effect("leaves a borrower at work to find out, and takes the lease of one that has not begun", () =>
    Effect.gen(function*() {
      const server = yield* serve({
        serve: ({ socket }) => socket.on("data", () => socket.end("bye\n"))
      })
      const pool = yield* plain(server.endpoint)
      const words = yield* pool.use((connection) =>
        Effect.gen(function*() {
          yield* connection.write("?")
          yield* connection.ended
          yield* settle
          return (yield* connection.readUntil("\n")).toString()
        })
      )
      assert.strictEqual(words, "bye")
      assert.strictEqual((yield* pool.stats).recycled["disconnected"], 1)
      const waiting = yield* Deferred.make<void>()
      const idler = yield* Effect.forkChild(Effect.flip(pool.use(() =>
        Effect.andThen(
          Deferred.succeed(waiting, undefined),
          Effect.never
        )
      )))
      yield* Deferred.await(waiting)
      yield* sees(() => server.peers.length === 2)
      server.peers[1]!.socket.end()
      assert.strictEqual(reasonOf(yield* Fiber.join(idler)), "LeaseEnded")
    }))

  it.effect("the rules alone keep dead connections and those out of step from being lent", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const pool = yield* QueuePool.make({
        acquire: SocketQueuePool.connect(server.endpoint),
        max: 1,
        recycle: [RecyclePolicy.uses(100), ...SocketQueuePool.rules]
      })
      const use = pool.use((connection) => Effect.as(ask(connection, "hello"), connection))
      const first = yield* use
      server.peers[0]!.socket.end()
      yield* first.ended
      const second = yield* use
      assert.notStrictEqual(second, first)
      server.peers[1]!.socket.write("surprise")
      yield* sees(() => second.unread > 0)
      const third = yield* use
      yield* third.spoil
      assert.notStrictEqual(yield* use, third)
      assert.deepStrictEqual((yield* pool.stats).recycled, { "disconnected": 1, "unread bytes": 1, "out of step": 1 })
    }))

  it.effect("a glance tells whether a connection may be lent", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const connection = yield* SocketQueuePool.connect(server.endpoint)
      assert.isTrue(yield* SocketQueuePool.glance(connection))
      yield* connection.end
      assert.isFalse(yield* SocketQueuePool.glance(connection))
      // A monitor that comes late ends at once.
      yield* sees(() => connection.socket.closed)
      yield* SocketQueuePool.glance(connection)
      yield* SocketQueuePool.monitor(connection)
    }))
})

describe("behind a network that breaks", () => {
  it.effect("idle connections that a proxy resets are recycled at once, and their borrowers get others", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const proxy = yield* TcpProxy.make({ port: server.port })
      const pool = yield* SocketQueuePool.make({ endpoint: { host: proxy.host, port: proxy.port }, max: 3 })
      yield* Effect.scoped(Effect.all([pool.get, pool.get, pool.get]))
      yield* sees(() => server.peers.length === 3)
      yield* proxy.killAll
      yield* seesStats(pool, ({ recycled }) => recycled["disconnected"] === 3)
      assert.strictEqual(yield* pool.use((connection) => ask(connection, "hello")), "hello")
    }))

  it.effect("a black hole ends a read at its deadline, costs that connection alone, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const proxy = yield* TcpProxy.make({ port: server.port })
      const pool = yield* SocketQueuePool.make({ endpoint: { host: proxy.host, port: proxy.port }, max: 1 })
      yield* pool.use((connection) => ask(connection, "hello"))
      yield* proxy.setMode(TcpProxy.Mode.BlackHole())
      let begun = false
      const lost = yield* Effect.forkChild(pool.use((connection) => {
        begun = true
        return Effect.timeoutOption(ask(connection, "lost"), "1 second")
      }))
      yield* sees(() => begun)
      yield* settle
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(lost))._tag, "None")
      assert.deepStrictEqual((yield* pool.stats).recycled, { "out of step": 1 })
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      assert.strictEqual(yield* pool.use((connection) => ask(connection, "again")), "again")
      yield* sees(() => server.open() === 1)
    }))

  it.effect("connections that are accepted and then closed are not lent twice", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const proxy = yield* TcpProxy.make({ port: server.port, mode: TcpProxy.Mode.AcceptThenClose() })
      const pool = yield* SocketQueuePool.make({ endpoint: { host: proxy.host, port: proxy.port }, max: 1 })
      const error = yield* Effect.flip(pool.use((connection) => ask(connection, "hello")))
      assert.include(["Ended", "ConnectionLost", "ConnectionClosed"], reasonOf(error))
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      assert.strictEqual(yield* pool.use((connection) => ask(connection, "again")), "again")
      const { idle, opened, closed } = yield* pool.stats
      assert.deepStrictEqual([idle, opened - closed], [1, 1])
    }))

  it.effect("an answer that comes in pieces, slowly, is read whole", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const proxy = yield* TcpProxy.make({ port: server.port, mode: TcpProxy.Mode.Slow({ delay: 2 }) })
      const pool = yield* SocketQueuePool.make({ endpoint: { host: proxy.host, port: proxy.port }, max: 1 })
      yield* live(pool.use((connection) =>
        Effect.gen(function*() {
          for (let round = 0; round < 3; round++) assert.strictEqual(yield* ask(connection, "hello"), "hello")
        })
      ))
      assert.strictEqual((yield* pool.stats).idle, 1)
      yield* proxy.setMode(TcpProxy.Mode.Pass())
    }))

  it.effect("half an answer and then the end tells how much there was", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const proxy = yield* TcpProxy.make({ port: server.port })
      const pool = yield* SocketQueuePool.make({ endpoint: { host: proxy.host, port: proxy.port }, max: 1 })
      const error = yield* Effect.flip(pool.use((connection) =>
        Effect.gen(function*() {
          yield* ask(connection, "hello")
          yield* proxy.setMode(TcpProxy.Mode.ByteLimit({ bytes: 4 }))
          return yield* ask(connection, "again")
        })
      ))
      assert.deepStrictEqual(
        (error as SocketQueuePool.ConnectionError).reason,
        new SocketQueuePool.Ended({ unread: 4 })
      )
    }))
})

describe("the end of a pool", () => {
  it.effect("takes the connection of a borrower that does not come, and waits for no silent peer", () =>
    Effect.gen(function*() {
      // It reads nothing and ends nothing.
      const server = yield* serve({ serve: ({ socket }) => void socket.pause() })
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(
        SocketQueuePool.make({
          endpoint: server.endpoint,
          max: 2,
          drainTimeout: "1 second",
          closeTimeout: "1 second",
          closeGrace: "10 seconds"
        }),
        scope
      )
      const events: Array<PoolEvent.PoolEvent> = yield* record(pool)
      const sockets: Array<SocketQueuePool.Connection> = []
      const holder = yield* Effect.forkChild(Effect.flip(pool.use((connection) => {
        sockets.push(connection)
        return Effect.forever(connection.write(new Uint8Array(1_000_000)))
      })))
      yield* sees(() => sockets.length === 1 && sockets[0]!.socket.writableNeedDrain)
      yield* pool.use((connection) => Effect.sync(() => void sockets.push(connection)))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      yield* TestClock.adjust("500 millis")
      // The idle one: half of closeTimeout is over.
      assert.deepStrictEqual(sockets.map(({ socket }) => socket.destroyed), [false, true])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(sockets.map(({ socket }) => socket.destroyed), [true, true])
      assert.include(told(events), "TakenBack 1")
      assert.strictEqual(reasonOf(yield* Fiber.join(holder)), "ConnectionClosed")
      assert.strictEqual((yield* pool.stats).abandoned, 0)
      yield* sees(() => server.peers.every(({ socket }) => socket.resume() !== undefined) && server.open() === 0)
    }))
})
