/**
 * A small HTTP/1.1 client over pooled TLS sockets, against a server that the example
 * starts itself: keep-alive, `Connection: close`, a server that hangs up on an idle
 * connection, a deadline in the middle of an answer, a certificate for another name.
 *
 * npm run example https
 */
import { Console, Data, Effect } from "effect"
import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import { createServer } from "node:https"
import type { AddressInfo, Socket } from "node:net"
import { certificate, privateKey } from "../test/kit/tls.ts"

class BadAnswer extends Data.TaggedError("BadAnswer")<{ readonly message: string }> {}

interface Answer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
}

/** One question and its whole answer: then the connection is in step again, or ended. */
const get = Effect.fnUntraced(function*(connection: SocketQueuePool.Connection, path: string) {
  const host = "host" in connection.endpoint ? connection.endpoint.host : "localhost"
  yield* connection.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
  const head = (yield* connection.readUntil("\r\n\r\n")).toString("latin1")
  const [statusLine = "", ...lines] = head.split("\r\n")
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1])
  if (Number.isNaN(status)) return yield* new BadAnswer({ message: statusLine })
  const headers = new Map(lines.map((line) => {
    const colon = line.indexOf(":")
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const
  }))
  const body = yield* bodyOf(connection, headers)
  yield* headers.get("connection") === "close" ? connection.end : connection.settle
  return { status, headers, body } satisfies Answer
})

const bodyOf = Effect.fnUntraced(function*(
  connection: SocketQueuePool.Connection,
  headers: ReadonlyMap<string, string>
) {
  const length = headers.get("content-length")
  if (length !== undefined) return (yield* connection.readExactly(Number(length))).toString()
  let body = ""
  while (true) {
    const size = Number.parseInt((yield* connection.readUntil("\r\n")).toString(), 16)
    body += (yield* connection.readExactly(size)).toString()
    yield* connection.readUntil("\r\n")
    if (size === 0) return body
  }
})

// The server: it counts the connections that are made to it.
const server = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly sockets: Array<Socket> }>((resume) => {
    const sockets: Array<Socket> = []
    const https = createServer({ cert: certificate, key: privateKey }, (request, response) => {
      switch (request.url) {
        case "/close":
          return response.setHeader("Connection", "close").end("bye")
        case "/slow":
          return response.write("some of it, the rest never comes")
        case "/chunks":
          response.write("in ")
          return response.end("pieces")
        default:
          return response.end(`this is ${request.url}`)
      }
    })
    https.on("secureConnection", (socket: Socket) => sockets.push(socket))
    https.listen(0, "127.0.0.1", () => {
      const { port } = https.address() as AddressInfo
      resume(Effect.succeed({ port, sockets, https }))
    })
  }),
  (server) =>
    Effect.sync(() => {
      const { https } = server as typeof server & { readonly https: ReturnType<typeof createServer> }
      https.close()
      https.closeAllConnections()
    })
)

const program = Effect.gen(function*() {
  const { port, sockets } = yield* server
  const endpoint = { host: "localhost", port, tls: { ca: certificate, alpnProtocols: ["http/1.1"] } }
  const pool = yield* SocketQueuePool.make({ endpoint, name: "examples/https", max: 3 })
  const ask = (path: string) => pool.use((connection) => get(connection, path))
  const show = (what: string) =>
    Effect.flatMap(pool.stats, ({ idle, opened, recycled }) => Console.log(what, { opened, idle, recycled }))

  for (const path of ["/one", "/two", "/chunks"]) {
    const { body, status } = yield* ask(path)
    yield* Console.log(status, JSON.stringify(body))
  }
  yield* show("three answers, one after the other, over one connection:")

  yield* Effect.forEach(Array.from({ length: 30 }, (_, n) => `/${n}`), ask, { concurrency: 30 })
  yield* show("thirty at once, over three:")

  yield* ask("/close")
  yield* show("the server said `Connection: close`:")

  // Nobody has to borrow it to find out.
  const gone = sockets.find((socket) => !socket.destroyed)
  const idle = (yield* pool.stats).idle
  gone?.destroy()
  while ((yield* pool.stats).idle === idle) yield* Effect.sleep(1)
  yield* show("the server has hung up on an idle one:")

  const slow = yield* ask("/slow").pipe(Effect.timeoutOption("50 millis"))
  yield* show(`half an answer, given up after 50 milliseconds (${slow._tag}):`)

  // A client that asks for another name than the certificate's.
  const wrong = { ...endpoint, tls: { ...endpoint.tls, servername: "example.com" } }
  const error = yield* Effect.flip(Effect.scoped(SocketQueuePool.connect(wrong)))
  yield* Console.log(error.message)
})

await Effect.runPromise(Effect.scoped(program))
