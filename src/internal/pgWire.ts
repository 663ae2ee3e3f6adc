/// <reference types="node" preserve="true" />
// The sockets of one session. The pool makes them itself, so that it hears of a
// session's end at once, sees the cancel requests that the driver sends on side
// connections, and leaves none behind.
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import { toMillis } from "./options.ts"

// The driver gives a cancel request 5 seconds and then destroys its connection.
const cancelMillis = 4500

/**
 * Runs `over` when a cancelled statement has had no answer for too long, and `answered` when
 * it has one. Gives what calls that off.
 */
export type Patience = (over: () => void, answered: () => void) => () => void

export class Wire {
  /** The session is over: its connection has ended, or will not be used again. */
  lost = false
  /**
   * Cancel requests of which nobody knows whether the server has seen them: they
   * may still hit whoever uses the session next.
   */
  unconfirmed = 0
  private main: Duplex | undefined = undefined
  onLost: (() => void) | undefined = undefined
  patience: Patience = noPatience
  /** All have been told that the connection has ended: a socket is `closed` a turn before. */
  private told = false
  private readonly sides = new Set<Duplex>()
  private readonly make: () => Duplex
  private readonly now: () => number

  constructor(make: () => Duplex, now: () => number) {
    this.make = make
    this.now = now
  }

  /** The first stream is the session's, the others carry cancel requests. */
  readonly open = (): Duplex => {
    const socket = this.make()
    // The driver's listeners come and go; an error must never find none.
    socket.on("error", ignore)
    if (this.main === undefined) this.watch(socket)
    else this.watchSide(socket)
    return socket
  }

  /** The connection is dead, also when its events are still to come. */
  get dead(): boolean {
    return this.lost || this.main?.destroyed === true
  }

  private watch(socket: Duplex): void {
    this.main = socket
    const lose = () => {
      if (this.lost) return
      this.lost = true
      this.onLost?.()
    }
    socket.once("end", lose)
    socket.once("error", lose)
    socket.once("close", () => {
      this.told = true
      lose()
    })
  }

  private watchSide(socket: Duplex): void {
    const since = this.now()
    let failed = false
    this.sides.add(socket)
    this.unconfirmed++
    this.awaitAnswer()
    socket.once("error", () => failed = true)
    socket.once("close", () => {
      this.sides.delete(socket)
      // The server closes a cancel request's connection when it has acted on it.
      if (!failed && this.now() - since < cancelMillis) this.unconfirmed--
    })
  }

  /**
   * Whoever interrupts a statement waits until the server has ended it. Where the server
   * says nothing at all, the end of the connection is what ends that wait.
   */
  private awaitAnswer(): void {
    const main = this.main!
    // What comes over the connection meanwhile may be something else, and with TLS the driver reads it elsewhere.
    const answered = () => {
      main.off("close", answered)
      callOff()
    }
    const callOff = this.patience(() => main.destroy(), answered)
    main.once("close", answered)
  }

  /**
   * Runs before the driver is to close the session. It hears that the connection has
   * ended by `close` alone, and told to close before that it would interrupt those who
   * listen instead of telling them why.
   */
  readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    const silent = this.lost && !this.told
    // Also under a borrower, who may have a transaction there.
    this.lost = true
    if (!silent) return Effect.void
    const main = this.main!
    main.destroy()
    return closed(main)
  })

  /**
   * Runs after the driver has said goodbye. Waits until the server has hung up,
   * so that the session no longer counts there, but not for ever: a socket whose
   * other side is silent would keep the process alive.
   */
  close(grace: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.onLost = undefined
      for (const side of this.sides) side.destroy()
      const { main } = this
      if (main === undefined || main.closed) return Effect.void
      return Effect.raceFirst(closed(main), Effect.interruptible(Effect.sleep(grace))).pipe(
        Effect.andThen(Effect.sync(() => main.destroy()))
      )
    })
  }
}

const ignore = (): void => {}

/** Nothing is waited for. */
export const noPatience: Patience = () => ignore

const closed = (socket: Duplex): Effect.Effect<void> =>
  Effect.interruptible(Effect.callback((resume) => {
    const done = () => resume(Effect.void)
    socket.once("close", done)
    return Effect.sync(() => socket.off("close", done))
  }))

const defaultKeepAlive = 60_000

/** Connects as the driver would, with TCP keepalive. */
export const connector = (config: PgClientConfig): () => Duplex => {
  const { stream } = config
  if (stream !== undefined) return stream
  const keepAliveInitialDelay = toMillis(config.keepAlive) ?? defaultKeepAlive
  // The driver reads the settings too, and fails before it asks for a socket if they are wrong.
  return () => {
    const { host, path, port } = addressOf(config)
    return path === undefined
      ? Net.connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay })
      : Net.connect({ path })
  }
}

export const addressOf = (config: PgClientConfig) => {
  let host: string | undefined
  let port: number | undefined
  if (config.url !== undefined) {
    const url = new URL(Redacted.value(config.url))
    const { hostname } = url
    if (hostname !== "") host = hostname.startsWith("[") ? hostname.slice(1, -1) : decodeURIComponent(hostname)
    if (url.port !== "") port = Number(url.port)
    for (const [name, value] of url.searchParams) {
      if (name === "host") host = value
      else if (name === "port") port = Number(value)
    }
  }
  host = config.host ?? host ?? "localhost"
  port = config.port ?? port ?? 5432
  return { host, port, path: config.path ?? (host.startsWith("/") ? `${host}/.s.PGSQL.${port}` : undefined) }
}
