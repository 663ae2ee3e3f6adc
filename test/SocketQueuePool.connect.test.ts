import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Redacted, Schedule, Scope } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import { TestClock } from "effect/testing"
import type * as Tls from "node:tls"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { settle } from "./kit/items.ts"
import { freePort } from "./kit/real.ts"
import { ask, fullBacklog, reasonOf, sees, seesStats, serve, tlsServer } from "./kit/sockets.ts"
import { expiredCertificate, expiredKey } from "./kit/socketsExpired.ts"
import * as TcpProxy from "./kit/TcpProxy.ts"
import { certificate, privateKey } from "./kit/tls.ts"

/** The sockets and pipes that this process has open, or is opening. */
const handles = () =>
  process.getActiveResourcesInfo().filter((name) =>
    /^(TCPSocket|TCPSocketWrap|TLSSocket|PipeWrap|TCPConnectWrap)/.test(name)
  ).length

/** What fails leaves no socket. */
const fails = Effect.fnUntraced(
  function*(endpoint: SocketQueuePool.Endpoint, options?: SocketQueuePool.ConnectOptions) {
    const before = handles()
    // In a scope that goes on: what a failed connect leaves would be there still.
    const error = yield* Effect.flip(SocketQueuePool.connect(endpoint, options))
    yield* sees(() => handles() <= before)
    return error
  }
)

describe("a connect that fails", () => {
  it.effect("nobody listens", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      const error = yield* fails({ host: "127.0.0.1", port })
      assert.strictEqual(
        error.message,
        `ConnectFailed: no connection to 127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}`
      )
      assert.strictEqual((error.reason as SocketQueuePool.ConnectFailed).code, "ECONNREFUSED")
      assert.isTrue(SocketQueuePool.isTransient(error))
      assert.strictEqual(reasonOf(yield* fails({ host: "127.0.0.1", port, tls: true })), "ConnectFailed")
      assert.include((yield* fails({ host: "::1", port })).message, `no connection to [::1]:${port}: `)
    }))

  it.effect("no such path", () =>
    Effect.gen(function*() {
      const error = yield* fails({ path: "/nowhere/at/all" })
      assert.strictEqual(
        error.message,
        "ConnectFailed: no connection to /nowhere/at/all: connect ENOENT /nowhere/at/all"
      )
    }))

  it.effect("a proxy that refuses", () =>
    Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: 1, mode: TcpProxy.Mode.Refuse() })
      assert.strictEqual(reasonOf(yield* fails({ host: proxy.host, port: proxy.port })), "ConnectFailed")
    }))

  it.effect("options that make no sense", () =>
    Effect.gen(function*() {
      const error = yield* fails({ host: "a", port: 0 }, { connectTimeout: -1 })
      assert.strictEqual(
        error.message,
        "InvalidOptions: an endpoint with endpoint.port, for which allowed is a whole number from 1 to 65535; " +
          "connectTimeout, for which allowed is a duration above zero, not Infinity"
      )
      assert.strictEqual(
        (yield* fails({ host: "a", port: 1 }, { noDelay: "yes" } as never)).message,
        "InvalidOptions: a:1 with noDelay, for which allowed is true or false"
      )
      const nothing = yield* fails(undefined as never)
      assert.include(nothing.message, "InvalidOptions: an endpoint with endpoint, for which allowed is { host, port }")
    }))

  it.effect("what Node will not even try", () =>
    Effect.gen(function*() {
      const error = yield* fails({ path: "a\0b" })
      assert.strictEqual(reasonOf(error), "ConnectFailed")
      const tls = yield* fails({ host: "localhost", port: 1, tls: { key: Redacted.make("no key") } })
      assert.strictEqual(reasonOf(tls), "TlsFailed")
    }))
})

describe("a connect that does not come to an end", () => {
  for (const tls of [false, true]) {
    it.effect(`${tls ? "TLS" : "TCP"} to a full backlog ends at connectTimeout`, () =>
      Effect.gen(function*() {
        const port = yield* fullBacklog
        const before = handles()
        const connecting = yield* Effect.forkChild(
          Effect.flip(SocketQueuePool.connect({ host: "127.0.0.1", port, tls }, { connectTimeout: "3 seconds" }))
        )
        yield* sees(() => handles() > before)
        yield* TestClock.adjust("2999 millis")
        assert.isUndefined(connecting.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        const error = yield* Fiber.join(connecting)
        assert.strictEqual(error.message, `ConnectTimeout: no connection to 127.0.0.1:${port} within 3000ms`)
        assert.isTrue(SocketQueuePool.isTransient(error))
        yield* sees(() => handles() <= before)
      }))
  }

  it.effect("a server that answers no handshake", () =>
    Effect.gen(function*() {
      const server = yield* serve({ serve: () => {} })
      const connecting = yield* Effect.forkChild(
        Effect.flip(SocketQueuePool.connect({ host: "localhost", port: server.port, tls: true }))
      )
      yield* sees(() => server.peers.length === 1 && server.peers[0]!.received() !== "")
      yield* settle
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(connecting)
      assert.strictEqual(error.message, `ConnectTimeout: no TLS handshake with localhost:${server.port} within 10000ms`)
      yield* sees(() => server.open() === 0)
    }))

  it.effect("the pool's openTimeout ends it too", () =>
    Effect.gen(function*() {
      const server = yield* serve({ serve: () => {} })
      const pool = yield* SocketQueuePool.make({
        endpoint: { host: "localhost", port: server.port, tls: true },
        openTimeout: "1 second"
      })
      const borrower = yield* Effect.forkChild(Effect.flip(pool.use(() => Effect.void)))
      yield* sees(() => server.peers.length === 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(reasonOf(yield* Fiber.join(borrower)), "OpenTimeout")
      yield* sees(() => server.open() === 0)
    }))

  it.effect("interruption leaves no socket", () =>
    Effect.gen(function*() {
      const server = yield* serve({ serve: () => {} })
      const connecting = yield* Effect.forkChild(
        SocketQueuePool.connect({ host: "localhost", port: server.port, tls: true })
      )
      yield* sees(() => server.peers.length === 1)
      yield* Fiber.interrupt(connecting)
      yield* sees(() => server.open() === 0)
    }))
})

describe("TLS", () => {
  const tlsTo = (port: number, tls: SocketQueuePool.Tls = { ca: certificate }) => ({ host: "localhost", port, tls })

  it.effect("asks for the host by name and takes a certificate for it", () =>
    Effect.gen(function*() {
      const names: Array<string> = []
      const server = yield* serve({
        tls: {
          ...tlsServer,
          SNICallback: (name, done) => {
            names.push(name)
            done(null)
          }
        }
      })
      const connection = yield* SocketQueuePool.connect(tlsTo(server.port))
      assert.isTrue((connection.socket as Tls.TLSSocket).authorized)
      assert.strictEqual(yield* ask(connection, "hello"), "hello")
      // An address is no name to ask for.
      const byAddress = yield* SocketQueuePool.connect({ ...tlsTo(server.port), host: "127.0.0.1" })
      assert.isTrue((byAddress.socket as Tls.TLSSocket).authorized)
      assert.deepStrictEqual(names, ["localhost"])
    }))

  const rejected = (
    error: SocketQueuePool.ConnectionError
  ) => [reasonOf(error), (error.reason as SocketQueuePool.CertificateRejected).code, SocketQueuePool.isTransient(error)]

  it.effect("a certificate for another name is an error", () =>
    Effect.gen(function*() {
      const server = yield* serve({ tls: tlsServer })
      const error = yield* fails(tlsTo(server.port, { ca: certificate, servername: "example.com" }))
      assert.deepStrictEqual(rejected(error), ["CertificateRejected", "ERR_TLS_CERT_ALTNAME_INVALID", false])
      assert.include(
        error.message,
        `CertificateRejected: the certificate of localhost:${server.port} is not accepted: `
      )
      assert.include(error.message, "example.com")
      yield* sees(() => server.open() === 0)
    }))

  it.effect("one that nobody known has signed is an error, unless it is not looked at", () =>
    Effect.gen(function*() {
      const server = yield* serve({ tls: tlsServer })
      assert.deepStrictEqual(rejected(yield* fails({ host: "localhost", port: server.port, tls: true })), [
        "CertificateRejected",
        "DEPTH_ZERO_SELF_SIGNED_CERT",
        false
      ])
      const connection = yield* SocketQueuePool.connect(tlsTo(server.port, { rejectUnauthorized: false }))
      assert.isFalse((connection.socket as Tls.TLSSocket).authorized)
      assert.strictEqual(yield* ask(connection, "hello"), "hello")
    }))

  it.effect("one that is too old is an error", () =>
    Effect.gen(function*() {
      const server = yield* serve({ tls: { cert: expiredCertificate, key: expiredKey } })
      assert.deepStrictEqual(rejected(yield* fails(tlsTo(server.port, { ca: [expiredCertificate] }))), [
        "CertificateRejected",
        "CERT_HAS_EXPIRED",
        false
      ])
    }))

  it.effect("a server that speaks no TLS, or ends the connection, is an error", () =>
    Effect.gen(function*() {
      const plain = yield* serve({ serve: ({ socket }) => socket.on("data", () => socket.write("HELO what?\r\n")) })
      assert.strictEqual(reasonOf(yield* fails(tlsTo(plain.port))), "TlsFailed")
      const closing = yield* serve({ serve: ({ socket }) => socket.end() })
      const error = yield* fails(tlsTo(closing.port))
      assert.include(error.message, `TlsFailed: no TLS handshake with localhost:${closing.port}: `)
      yield* sees(() => plain.open() + closing.open() === 0)
    }))

  it.effect("no protocol in common is an error", () =>
    Effect.gen(function*() {
      const server = yield* serve({ tls: { ...tlsServer, ALPNProtocols: ["h2"] } })
      assert.strictEqual(
        reasonOf(yield* fails(tlsTo(server.port, { ca: certificate, alpnProtocols: ["http/1.1"] }))),
        "TlsFailed"
      )
    }))

  it.effect("a certificate and key of the client's own are shown, and the best protocol chosen", () =>
    Effect.gen(function*() {
      const server = yield* serve({
        tls: { ...tlsServer, requestCert: true, ca: certificate, ALPNProtocols: ["h2", "http/1.1"] }
      })
      const connection = yield* SocketQueuePool.connect(tlsTo(server.port, {
        ca: new TextEncoder().encode(certificate),
        cert: certificate,
        key: Redacted.make(privateKey),
        passphrase: Redacted.make("not needed"),
        alpnProtocols: ["http/1.1"]
      }))
      assert.strictEqual(yield* ask(connection, "hello"), "hello")
      assert.isTrue((server.peers[0]!.socket as Tls.TLSSocket).authorized)
      assert.strictEqual((connection.socket as Tls.TLSSocket).alpnProtocol, "http/1.1")
    }))
})

describe("what may pass", () => {
  it("is told from what will not", () => {
    const endpoint = "[::1]:1"
    const error = (reason: SocketQueuePool.Reason) => new SocketQueuePool.ConnectionError({ endpoint, reason })
    const failed = (code: string | undefined) =>
      error(new SocketQueuePool.ConnectFailed({ cause: new AggregateError([]), code }))
    assert.isTrue(SocketQueuePool.isTransient(failed("EHOSTUNREACH")))
    assert.isFalse(SocketQueuePool.isTransient(failed("ENOTFOUND")))
    assert.isFalse(SocketQueuePool.isTransient(failed(undefined)))
    const pool = (reason: PoolError.Reason) => new PoolError.PoolError({ pool: "db", reason })
    assert.isTrue(SocketQueuePool.isTransient(pool(new PoolError.OpenTimeout({ openTimeout: 1 }))))
    assert.isFalse(SocketQueuePool.isTransient(pool(new PoolError.Closed())))
    assert.isTrue(SocketQueuePool.isTransient(error(new SocketQueuePool.Ended({ unread: 0 }))))
    assert.isFalse(SocketQueuePool.isTransient(new Error("oh")))
    assert.isFalse(SocketQueuePool.isTransient({ reason: "oh" }))
    // What has no words of its own is told by its code.
    assert.strictEqual(failed("EHOSTUNREACH").message, "ConnectFailed: no connection to [::1]:1: EHOSTUNREACH")
    assert.strictEqual(
      error(new SocketQueuePool.TlsFailed({ cause: "oh", code: undefined })).message,
      "TlsFailed: no TLS handshake with [::1]:1: oh"
    )
  })

  it.effect("is retried by a pool until it has passed", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      const proxy = yield* TcpProxy.make({ port: server.port, mode: TcpProxy.Mode.Refuse() })
      const pool = yield* SocketQueuePool.make({
        endpoint: { host: proxy.host, port: proxy.port },
        retry: Schedule.spaced("1 second").pipe(
          Schedule.setInputType<unknown>(),
          Schedule.while(({ input }) => SocketQueuePool.isTransient(input))
        )
      })
      const borrower = yield* Effect.forkChild(pool.use((connection) => ask(connection, "hello")))
      yield* seesStats(pool, ({ openFailures }) => openFailures === 1)
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(borrower), "hello")
    }))
})

describe("interrupted at each step", () => {
  for (const [kind, options] of Object.entries({ TCP: {}, TLS: { tls: tlsServer } })) {
    it.effect(`a ${kind} connect, a write and a read leave no socket`, () =>
      Effect.gen(function*() {
        const server = yield* serve(options)
        const operations = yield* interruptAtEvery((run, at) =>
          Effect.gen(function*() {
            const before = handles()
            const fiber = yield* run(
              Effect.scoped(
                Effect.flatMap(SocketQueuePool.connect(server.endpoint), (connection) => ask(connection, at))
              )
            )
            const exit = yield* Fiber.await(fiber)
            if (Exit.isFailure(exit)) assert.isTrue(Cause.hasInterruptsOnly(exit.cause), at)
            yield* sees(() => server.open() === 0 && handles() <= before)
          })
        )
        assert.isAbove(operations, 10)
      }))

    it.effect(`a ${kind} lease leaves nobody out of step`, () =>
      Effect.gen(function*() {
        const server = yield* serve(options)
        const plain = QueuePool.make({
          acquire: SocketQueuePool.connect(server.endpoint),
          max: 1,
          recycle: SocketQueuePool.rules,
          monitor: SocketQueuePool.monitor
        })
        for (const make of [SocketQueuePool.make({ endpoint: server.endpoint, max: 1 }), plain]) {
          const scope = yield* Scope.make()
          const pool = yield* Scope.provide(make, scope)
          yield* interruptAtEvery((run, at) =>
            Effect.gen(function*() {
              const fiber = yield* run(Effect.scoped(Effect.flatMap(pool.get, (connection) => ask(connection, at))))
              yield* Fiber.await(fiber)
              assert.strictEqual(yield* pool.use((connection) => ask(connection, `after ${at}`)), `after ${at}`)
              const { opened, closed, idle, closing } = yield* pool.stats
              assert.strictEqual(opened - closed, idle + closing)
            })
          )
          yield* Scope.close(scope, Exit.void)
          yield* sees(() => server.open() === 0)
        }
      }))
  }
})
