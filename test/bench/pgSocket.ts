/**
 * What no client can be faster than: sockets of node alone, which send the bytes of a prepared
 * `select 1` and wait for the end of the answer, without reading it. And the other way round a
 * server without a network: it answers `select 1` at once, in this process, so that what is
 * left is the cost of the client.
 */
import { Effect } from "effect"
import * as Net from "node:net"
import { Duplex } from "node:stream"

const message = (type: string, ...parts: ReadonlyArray<string | Uint8Array>): Buffer => {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part as string)))
  const length = Buffer.alloc(4)
  length.writeInt32BE(body.length + 4)
  return Buffer.concat([Buffer.from(type), length, body])
}

const text = (value: string): string => `${value}\0`

const integers = (bytes: 2 | 4, ...values: ReadonlyArray<number>): Buffer =>
  Buffer.concat(values.map((value) => {
    const buffer = Buffer.alloc(bytes)
    buffer.writeIntBE(value, 0, bytes)
    return buffer
  }))

const ready = message("Z", "I")

const startup = ({ password, pathname, username }: URL): Buffer => {
  const settings = { user: username, database: pathname.slice(1) }
  if (password !== "") throw new Error("The floor needs a server that trusts its clients")
  const pairs = Object.entries(settings).flatMap(([name, value]) => [text(name), text(decodeURIComponent(value))])
  return message("", integers(4, 3 << 16), ...pairs, "\0")
}

const sync = message("S")
const prepare = Buffer.concat([message("P", text("one"), text("select 1 as one"), integers(2, 0)), sync])
// Binary results, as the driver asks for; no description, which a client keeps.
const execute = Buffer.concat([
  message("B", text(""), text("one"), integers(2, 0, 0, 1, 1)),
  message("E", text(""), integers(4, 0)),
  sync
])

/** The answer that ends with ReadyForQuery. */
const exchange = (socket: Net.Socket, bytes: Buffer): Promise<void> =>
  new Promise((resolve, reject) => {
    const onData = (chunk: Buffer) => {
      if (!chunk.subarray(-ready.length).equals(ready)) return
      socket.off("data", onData)
      socket.off("error", reject)
      resolve()
    }
    socket.on("data", onData).on("error", reject)
    socket.write(bytes)
  })

/** Connected, with the statement prepared; gives what runs it. */
export const statement = (address: string) =>
  Effect.gen(function*() {
    const url = new URL(address)
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => Net.connect({ host: url.hostname, port: Number(url.port), noDelay: true })),
      (socket) => Effect.sync(() => socket.destroy())
    )
    yield* Effect.promise(() => exchange(socket, startup(url)))
    yield* Effect.promise(() => exchange(socket, prepare))
    let done = () => {}
    socket.on("data", (chunk) => {
      if (chunk[chunk.length - ready.length] === 90) done()
    })
    return () =>
      new Promise<void>((resolve) => {
        done = resolve
        socket.write(execute)
      })
  })

const welcome = Buffer.concat([
  message("R", integers(4, 0)),
  message("S", text("client_encoding"), text("UTF8")),
  message("K", integers(4, 1, 2)),
  ready
])

const answers: Readonly<Record<string, Buffer>> = {
  P: message("1"),
  B: message("2"),
  D: message(
    "T",
    integers(2, 1),
    text("one"),
    integers(4, 0),
    integers(2, 0),
    integers(4, 23),
    integers(2, 4),
    integers(4, -1),
    integers(2, 1)
  ),
  E: Buffer.concat([message("D", integers(2, 1), integers(4, 4, 1)), message("C", text("SELECT 1"))]),
  S: ready
}

/** A session with a server that has one answer, and gives it in the next turn of the event loop. */
export class Echo extends Duplex {
  private started = false

  override _read(): void {}

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    done()
    const parts: Array<Buffer> = []
    if (!this.started) parts.push(welcome)
    else {
      for (let at = 0; at < chunk.length; at += chunk.readInt32BE(at + 1) + 1) {
        const answer = answers[String.fromCharCode(chunk[at]!)]
        if (answer !== undefined) parts.push(answer)
      }
    }
    this.started = true
    if (parts.length > 0) setImmediate(() => this.push(Buffer.concat(parts)))
  }
}
