/** The way to a PostgreSQL server: connections begin and end as a script has it, and are counted. */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"
import { freePort, live } from "../kit/real.ts"
import { Book, type Outcome, type Script } from "./book.ts"

export interface Gate {
  readonly book: Book
  /** The server, by way of the gate. */
  readonly url: string
  /** From now on not a byte passes, in either direction. */
  readonly blackHole: () => void
  /** How many sockets clients still have. A socket that is gone tells so only when it is written to. */
  readonly left: Effect.Effect<number>
}

// ReadyForQuery, idle: the client has its session.
const ready = Buffer.from("5a0000000549", "hex")

const after = (outcome: Outcome, run: () => void) => {
  if (outcome.end === "hang") return
  if (outcome.after === undefined) run()
  else setTimeout(run, outcome.after)
}

class Link {
  private state: "opening" | "open" | "closing" | "over" = "opening"
  private server: Net.Socket | undefined
  private readonly n: number
  private readonly client: Net.Socket
  private readonly book: Book
  private readonly isHole: () => boolean

  constructor(client: Net.Socket, target: URL, book: Book, isHole: () => boolean) {
    this.client = client
    this.book = book
    this.isHole = isHole
    const { n, outcome } = book.beginOpen()
    this.n = n
    client.on("error", () => this.over())
    client.on("end", () => this.end())
    client.on("close", () => this.over())
    // Nothing of a client that is not let in is read, but for its end.
    if (outcome.end === "hang") client.resume()
    after(outcome, () => outcome.end === "fail" ? this.refuse() : this.connect(target))
  }

  private connect(target: URL) {
    const { client } = this
    if (client.destroyed || this.state !== "opening") return
    const server = Net.connect({ host: target.hostname, port: Number(target.port), allowHalfOpen: true, noDelay: true })
    this.server = server
    client.on("data", (chunk: Buffer) => {
      if (!this.isHole()) server.write(chunk)
    })
    server.on("data", (chunk: Buffer) => {
      if (this.isHole()) return
      if (this.state === "opening" && chunk.includes(ready)) {
        this.state = "open"
        this.book.opened()
      }
      client.write(chunk)
    })
    server.on("error", () => {})
    // While the client takes its leave it is the script that says when that is over.
    server.on("end", () => {
      if (this.state !== "closing" && !this.isHole()) client.end()
    })
  }

  private refuse() {
    this.client.end()
    this.over()
  }

  /** The client has said its last. */
  private end() {
    if (this.isHole()) return
    if (this.state === "opening") return this.over()
    if (this.state !== "open") return
    this.state = "closing"
    after(this.book.beginClose(), () => this.over())
  }

  private over() {
    if (this.state === "over") return
    if (this.state === "opening") this.book.failed()
    else {
      if (this.state === "open") this.book.beginClose()
      this.book.ended(this.n)
    }
    this.state = "over"
    this.server?.end()
    this.client.end()
  }
}

/** Listens until the scope closes, and then ends what is open. */
export const gateTo = (url: string, script: Script): Effect.Effect<Gate, never, Scope.Scope> =>
  Effect.gen(function*() {
    const book = new Book(script)
    const target = new URL(url)
    const links = new Map<Net.Socket, Link>()
    let hole = false
    const server = Net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      links.set(client, new Link(client, target, book, () => hole))
      client.on("close", () => links.delete(client))
    })
    const port = yield* freePort
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(port, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.sync(() => {
          server.close()
          for (const client of links.keys()) client.resetAndDestroy()
        })
    )
    const through = new URL(url)
    through.hostname = "127.0.0.1"
    through.port = `${port}`
    return {
      book,
      url: through.href,
      blackHole: () => {
        hole = true
      },
      left: Effect.gen(function*() {
        for (let i = 0; i < 3; i++) {
          for (const client of links.keys()) {
            if (!client.writableEnded) client.write("\0")
          }
          yield* live(Effect.sleep(30))
        }
        return links.size
      })
    }
  })
