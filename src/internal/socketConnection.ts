/// <reference types="node" preserve="true" />
// A connection as the pool lends it. It takes in by itself whatever comes, so that it
// hears of its end at once, and keeps account of whether the peer may still have
// something to say to the last borrower.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Buffer } from "node:buffer"
import type { Socket } from "node:net"
import { InvalidOptions } from "../PoolError.ts"
import type { Endpoint } from "./socketEndpoint.ts"
import {
  AlreadyReading,
  codeOf,
  ConnectionClosed,
  ConnectionError,
  ConnectionLost,
  DelimiterMissing,
  Ended,
  nameOf,
  OutOfStep,
  type Reason
} from "./socketErrors.ts"
import { Inbox } from "./socketInbox.ts"
import { heard, type Listeners, wake } from "./socketListeners.ts"
import { Step } from "./socketStep.ts"
import type { Connection, Taken } from "./socketTypes.ts"

/** Why a connection is not lent again. */
export type Fault = "disconnected" | "unread bytes" | "out of step"

// More than this waits in the operating system, until somebody reads.
const highWater = 64 * 1024

export class SocketConnection implements Connection {
  readonly endpoint: Endpoint
  readonly socket: Socket
  /** Told of what nobody should have to borrow it to find out. */
  onFault: ((fault: Fault) => void) | undefined = undefined
  /** When it was last opened or given back. */
  provenAt: number
  private readonly keepsUnread: boolean
  private readonly inbox = new Inbox()
  private readonly ends: Listeners = new Set()
  private readonly faults: Listeners = new Set()
  private readonly writers: Listeners = new Set()
  /** Tells the fiber that waits for bytes that there is something new. */
  private reader: (() => void) | undefined = undefined
  private reading = false
  private failure: Error | undefined = undefined
  /** The peer's end has come, or the connection is no more. */
  private over = false
  /** This side has sent its end. */
  private finished = false
  /** Taken over or released: what comes is not for us. */
  private closed = false
  private readonly step = new Step()

  constructor(endpoint: Endpoint, socket: Socket, keepsUnread: boolean, now: number) {
    this.endpoint = endpoint
    this.socket = socket
    this.keepsUnread = keepsUnread
    this.provenAt = now
    socket.on("data", this.onData)
    socket.on("drain", this.onDrain)
    socket.on("end", this.onEnd)
    socket.on("error", this.onError)
    socket.on("close", this.onEnd)
  }

  get unread(): number {
    return this.inbox.size
  }

  get isOpen(): boolean {
    return !(this.isDead || this.isSpoiled || this.isUnwanted)
  }

  get isDead(): boolean {
    return this.over || this.finished || this.closed || this.socket.destroyed
  }

  get isSpoiled(): boolean {
    return this.step.spoiled
  }

  /** Bytes have come that nobody has asked for. */
  get isUnwanted(): boolean {
    return this.step.used && !this.step.busy && this.isUnread
  }

  get isUnread(): boolean {
    return this.inbox.size > 0 && !this.keepsUnread
  }

  private get isWritable(): boolean {
    return this.socket.writable && !this.closed
  }

  /** Why nothing more can be read. */
  get whyDead(): ConnectionError {
    return this.error(this.reason("read"))
  }

  /** A lease has ended. Tells whether the next borrower would find the connection in step. */
  cameBack(exit: Exit.Exit<unknown, unknown> | undefined): boolean {
    return this.step.cameBack(exit, this.reading, this.keepsUnread)
  }

  readonly write = (data: string | Uint8Array): Effect.Effect<void, ConnectionError> =>
    this.operation(() => {
      this.step.owed = true
      return Effect.callback((resume) => {
        const { socket } = this
        if (!this.isWritable) return resume(this.fail("write"))
        if (socket.write(data)) return resume(Effect.void)
        const done = (): void => {
          this.writers.delete(done)
          resume(this.isWritable ? Effect.void : this.fail("write"))
        }
        this.writers.add(done)
        return Effect.sync(() => this.writers.delete(done))
      })
    })

  readonly read: Effect.Effect<Buffer, ConnectionError> = this.take(() => this.inbox.some())

  readonly readExactly = (count: number): Effect.Effect<Buffer, ConnectionError> =>
    Number.isSafeInteger(count) && count >= 0
      ? this.take(() => this.inbox.exactly(count))
      : this.refuse("count", count, "a whole number from 0")

  readonly readUntil = (
    delimiter: string | Uint8Array,
    options?: { readonly limit?: number | undefined }
  ): Effect.Effect<Buffer, ConnectionError> => {
    const limit = options?.limit ?? highWater
    if (!(limit >= 0)) return this.refuse("limit", limit, "a number from 0")
    const end = Buffer.from(delimiter as string)
    if (end.length === 0) return this.refuse("delimiter", delimiter, "a delimiter of at least one byte")
    return this.take(() => {
      const at = this.inbox.before(end)
      // The delimiter may have begun.
      if ((at ?? this.inbox.size - end.length) > limit) return this.error(new DelimiterMissing({ limit }))
      return at === undefined ? undefined : this.inbox.exactly(at + end.length)!.subarray(0, at)
    })
  }

  readonly settle: Effect.Effect<void> = Effect.sync(() => this.step.settle())

  readonly spoil: Effect.Effect<void> = Effect.sync(() => {
    this.step.spoiled = true
  })

  readonly end: Effect.Effect<void> = Effect.sync(() => {
    this.finished = true
    this.socket.end()
  })

  readonly takeOver: Effect.Effect<Taken> = Effect.sync(() => {
    const { socket } = this
    const head = this.inbox.exactly(this.inbox.size)!
    this.leave()
    socket.pause()
    socket.off("data", this.onData)
    return { socket, head }
  })

  readonly ended: Effect.Effect<void> = heard(this.ends, () => this.over || this.closed)

  /** Ends when the connection has a fault that a borrower at work would not find by himself. */
  readonly faulty: Effect.Effect<void> = heard(this.faults, () => !this.isOpen)

  /** Nobody reads or writes any more. */
  leave(): void {
    this.closed = true
    this.reader?.()
    wake(this.writers)
    wake(this.ends)
  }

  /** In step with its peer, so that there is sense in a polite end. */
  isPolite(exit: Exit.Exit<unknown, unknown>): boolean {
    return !this.isSpoiled && this.failure === undefined && !this.step.brokenOffBy(exit)
  }

  private take(
    from: () => Buffer | ConnectionError | undefined
  ): Effect.Effect<Buffer, ConnectionError> {
    const attempt: Effect.Effect<Buffer, ConnectionError> = Effect.callback((resume) => {
      const found = this.closed ? undefined : from()
      if (found instanceof ConnectionError) return resume(Effect.fail(found))
      if (found !== undefined) {
        this.step.owed = false
        // Who does not read does not hear of the end either.
        if (this.socket.isPaused()) this.socket.resume()
        return resume(Effect.succeed(found))
      }
      if (this.over || this.closed) return resume(this.fail("read"))
      this.reader = () => {
        this.reader = undefined
        resume(attempt)
      }
      this.socket.resume()
      return Effect.sync(() => {
        this.reader = undefined
      })
    })
    return Effect.suspend(() => {
      let mine = false
      return this.operation(
        () => {
          if (this.reading) return Effect.fail(this.error(new AlreadyReading()))
          this.reading = mine = true
          return attempt
        },
        () => {
          if (mine) this.reading = false
        }
      )
    })
  }

  /** Whatever is interrupted, or fails, leaves nobody knows what behind. */
  private operation<A>(
    begin: () => Effect.Effect<A, ConnectionError>,
    end?: () => void
  ): Effect.Effect<A, ConnectionError> {
    return Effect.withFiber((fiber) => {
      const run = Effect.suspend(() => {
        const stale = this.isUnwanted
        this.step.begin(fiber)
        return stale ? Effect.fail(this.error(new OutOfStep({ unread: this.inbox.size }))) : begin()
      })
      return Effect.onExitPrimitive(run, (exit) => {
        end?.()
        if (Exit.isFailure(exit)) this.step.spoiled = true
        return undefined
      })
    })
  }

  private refuse(option: string, value: unknown, allowed: string): Effect.Effect<never, ConnectionError> {
    return Effect.fail(this.error(new InvalidOptions({ problems: [{ option, value, allowed }] })))
  }

  private fail(operation: "read" | "write"): Effect.Effect<never, ConnectionError> {
    return Effect.fail(this.error(this.reason(operation)))
  }

  private reason(operation: "read" | "write"): Reason {
    const { failure } = this
    if (failure !== undefined) return new ConnectionLost({ operation, cause: failure, code: codeOf(failure) })
    return operation === "read" && !this.closed && this.socket.readableEnded
      ? new Ended({ unread: this.inbox.size })
      : new ConnectionClosed({ operation })
  }

  private error(reason: Reason): ConnectionError {
    return new ConnectionError({ endpoint: nameOf(this.endpoint), reason })
  }

  private readonly onData = (chunk: Buffer): void => {
    if (this.closed) return
    this.inbox.add(chunk)
    if (this.reader !== undefined) this.reader()
    else if (this.inbox.size >= highWater) this.socket.pause()
    if (this.isUnwanted) this.tell("unread bytes")
  }

  private readonly onDrain = (): void => wake(this.writers)

  private readonly onError = (error: Error): void => {
    this.failure ??= error
    this.onEnd()
  }

  private readonly onEnd = (): void => {
    this.over = true
    // The pool first: those who wait for something run on at once.
    this.tell("disconnected")
    this.reader?.()
    // A peer that has sent its end may go on to read.
    if (!this.socket.writable) wake(this.writers)
    wake(this.ends)
  }

  private tell(fault: Fault): void {
    this.onFault?.(fault)
    if (!this.step.busy) wake(this.faults)
  }
}
