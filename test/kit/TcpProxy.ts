/**
 * A TCP proxy that misbehaves on demand, for tests of what a broken network
 * does to a pool.
 */
import { Context, Data, Duration, Effect, Layer, type Scope } from "effect"
import * as Net from "node:net"
import { freePort } from "./real.ts"

/**
 * What the proxy does, to open connections and to new ones unless it says
 * otherwise:
 *
 * - `Pass` forwards. What a former mode held back is forwarded too.
 * - `BlackHole` accepts and forwards nothing, not even the end of a connection.
 * - `Refuse` closes the listener to new connections; the open ones pass.
 * - `Reset` ends them with RST.
 * - `Slow` forwards each chunk after a delay, in order.
 * - `AcceptThenClose` ends new connections with FIN; the open ones pass.
 * - `ByteLimit` forwards so many bytes from the server to each client, counted
 *   from the switch to this mode, and then ends the connection with FIN.
 */
export type Mode = Data.TaggedEnum<{
  Pass: {}
  BlackHole: {}
  Refuse: {}
  Reset: {}
  Slow: { readonly delay: Duration.Input }
  AcceptThenClose: {}
  ByteLimit: { readonly bytes: number }
}>

export const Mode = Data.taggedEnum<Mode>()

export interface Counts {
  readonly accepted: number
  readonly open: number
  readonly bytesToServer: number
  readonly bytesToClient: number
}

interface Bytes {
  toServer: number
  toClient: number
}

interface Target {
  readonly host: string
  readonly port: number
}

export interface Options {
  readonly host?: string | undefined
  readonly port: number
  readonly mode?: Mode | undefined
}

export class TcpProxy extends Context.Service<TcpProxy, {
  readonly host: string
  readonly port: number
  readonly mode: Effect.Effect<Mode>
  readonly setMode: (mode: Mode) => Effect.Effect<void>
  readonly counts: Effect.Effect<Counts>
  /** Resets all open connections and returns how many there were. */
  readonly killAll: Effect.Effect<number>
  /** The same url, by way of this proxy. */
  readonly through: (url: string) => string
}>()("effect-queuepool/test/kit/TcpProxy") {
  static readonly layer = (options: Options): Layer.Layer<TcpProxy> => Layer.effect(TcpProxy, make(options))
}

/** Listens on a port of 127.0.0.1, which stays the same, until the scope closes. */
export const make: (options: Options) => Effect.Effect<TcpProxy["Service"], never, Scope.Scope> = Effect.fnUntraced(
  function*({ host = "127.0.0.1", mode: initial = Mode.Pass(), port: target }: Options) {
    let mode = initial
    let accepted = 0
    const bytes: Bytes = { toServer: 0, toClient: 0 }
    const links = new Set<Link>()

    const accept = (client: Net.Socket) => {
      accepted++
      const link = new Link(client, { host, port: target }, bytes, (link) => links.delete(link))
      links.add(link)
      if (mode._tag === "AcceptThenClose") link.finish()
      else link.obey(mode)
    }

    const port = yield* freePort
    let listener: Net.Server | undefined
    const listen = Effect.callback<void>((resume) => {
      const server = Net.createServer({ allowHalfOpen: true, noDelay: true }, accept)
      server.once("error", (error) => resume(Effect.die(error)))
      server.listen(port, "127.0.0.1", () => {
        listener = server
        resume(Effect.void)
      })
    })
    // It stops listening at once; its end would wait for the open connections.
    const refuse = Effect.sync(() => {
      listener?.close()
      listener = undefined
    })
    const killAll = Effect.sync(() => {
      const count = links.size
      for (const link of links) link.reset()
      return count
    })

    const setMode = (next: Mode) =>
      Effect.suspend(() => {
        mode = next
        for (const link of links) link.obey(next)
        if (next._tag === "Refuse") return refuse
        return listener === undefined ? listen : Effect.void
      }).pipe(Effect.uninterruptible)

    yield* Effect.acquireRelease(setMode(mode), () => Effect.andThen(refuse, killAll))

    return TcpProxy.of({
      host: "127.0.0.1",
      port,
      mode: Effect.sync(() => mode),
      setMode,
      counts: Effect.sync(() => ({
        accepted,
        open: links.size,
        bytesToServer: bytes.toServer,
        bytesToClient: bytes.toClient
      })),
      killAll,
      through: (url) => {
        const copy = new URL(url)
        copy.hostname = "127.0.0.1"
        copy.port = `${port}`
        return copy.href
      }
    })
  }
)

/** A client's connection and the one to the server behind it. */
class Link {
  mode: Mode = Mode.BlackHole()
  /** What `ByteLimit` still allows. */
  budget = 0
  server: Net.Socket | undefined
  readonly flows: Array<Flow> = []
  /** A peer's reset which a black hole holds back. */
  broken = false
  readonly client: Net.Socket
  readonly target: Target
  readonly bytes: Bytes
  readonly onClose: (link: Link) => void

  constructor(client: Net.Socket, target: Target, bytes: Bytes, onClose: (link: Link) => void) {
    this.client = client
    this.target = target
    this.bytes = bytes
    this.onClose = onClose
    this.watch(client)
  }

  obey(mode: Mode): void {
    this.mode = mode
    if (mode._tag === "Reset") return this.reset()
    if (mode._tag === "BlackHole") return
    if (mode._tag === "ByteLimit") this.budget = mode.bytes
    if (this.broken) return this.reset()
    if (this.server === undefined && !this.client.writableEnded) this.connect()
    for (const flow of this.flows) flow.deliver()
  }

  spend(bytes: number): void {
    this.budget -= bytes
    if (this.budget === 0) this.finish()
  }

  /** FIN to the client, whatever it still says; RST to the server. */
  finish(): void {
    this.server?.resetAndDestroy()
    this.client.removeAllListeners("data").resume().end()
  }

  reset(): void {
    this.client.resetAndDestroy()
    this.server?.resetAndDestroy()
  }

  private connect() {
    const server = Net.connect({ ...this.target, allowHalfOpen: true, noDelay: true })
    this.server = server
    this.watch(server)
    this.flows.push(new Flow(this, this.client, server, "toServer"), new Flow(this, server, this.client, "toClient"))
  }

  private watch(socket: Net.Socket) {
    socket.on("error", () => {})
    socket.on("close", (hadError) => {
      if (hadError) this.broken = true
      if (hadError && this.mode._tag !== "BlackHole") this.reset()
      if (this.client.closed && this.server?.closed !== false) this.onClose(this)
    })
  }
}

/** One direction of a link. It takes the next chunk when the last one is written. */
class Flow {
  // At most a chunk and the end: a paused socket still emits its end.
  readonly held: Array<Buffer | "end"> = []
  timer: NodeJS.Timeout | undefined
  readonly link: Link
  readonly source: Net.Socket
  readonly sink: Net.Socket
  readonly direction: keyof Bytes

  constructor(link: Link, source: Net.Socket, sink: Net.Socket, direction: keyof Bytes) {
    this.link = link
    this.source = source
    this.sink = sink
    this.direction = direction
    source.on("data", (chunk: Buffer) => {
      source.pause()
      this.held.push(chunk)
      this.deliver()
    })
    source.on("end", () => {
      this.held.push("end")
      if (this.held.length === 1) this.deliver()
    })
    source.on("close", () => clearTimeout(this.timer))
  }

  /** Forwards what is held as the present mode has it. */
  deliver(): void {
    clearTimeout(this.timer)
    const { mode } = this.link
    if (this.held.length === 0 || mode._tag === "BlackHole") return
    if (mode._tag === "Slow") this.timer = setTimeout(() => this.forward(), Duration.toMillis(mode.delay))
    else this.forward()
  }

  private forward() {
    const item = this.held.shift()
    if (item === undefined || this.sink.destroyed) return
    if (item === "end") {
      this.sink.end()
      return
    }
    const { bytes, mode } = this.link
    const limited = mode._tag === "ByteLimit" && this.direction === "toClient"
    const chunk = limited ? item.subarray(0, this.link.budget) : item
    bytes[this.direction] += chunk.length
    this.sink.write(chunk, () => {
      if (this.held.length > 0) this.deliver()
      else this.source.resume()
    })
    if (limited) this.link.spend(chunk.length)
  }
}
