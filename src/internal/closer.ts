// Ends what the pool has opened: items, opens that failed half-way, and opens
// whose time is over. Each has `closeTimeout`; what is not gone by then is
// abandoned: counted, logged, and left to end by itself.
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Alarm } from "./alarms.ts"
import type { Background } from "./background.ts"
import { closeWithout, type Finalizer } from "./lease.ts"

export type Gone = (
  id: number,
  took: number,
  how: "Closed" | "CloseFailed" | "Abandoned",
  cause?: Cause.Cause<unknown>
) => void

/** Something that counts as closing. */
export class Closing {
  readonly id: number
  readonly since: number
  over = false
  /** A finalizer has begun and not ended. */
  running = false
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  alarm: Alarm | undefined = undefined

  constructor(id: number, since: number) {
    this.id = id
    this.since = since
  }
}

export class Closer {
  private readonly background: Background<never>
  private readonly pool: string
  private readonly timeout: number
  private readonly gone: Gone

  constructor(background: Background<never>, pool: string, timeout: number, gone: Gone) {
    this.background = background
    this.pool = pool
    this.timeout = timeout
    this.gone = gone
  }

  /** Its time begins to count; `finish` follows, perhaps much later. */
  begin(id: number): Closing {
    const { alarms, now } = this.background
    const closing = new Closing(id, now())
    closing.alarm = alarms.make(() => this.abandon(closing))
    alarms.set(closing.alarm, closing.since + this.timeout)
    return closing
  }

  /** Closes the scope in its own turn, also when the closing was abandoned meanwhile. */
  finish(closing: Closing, scope: Scope.Closeable, exit: Exit.Exit<unknown, unknown>): void {
    this.background.later(() => this.next(closing, closeWithout(scope, exit), exit, []))
  }

  // Each finalizer has a fiber of its own: one that is interrupted, as it hangs, must
  // not keep the others from being run.
  private next(
    closing: Closing,
    finalizers: ReadonlyArray<Finalizer>,
    exit: Exit.Exit<unknown, unknown>,
    ended: Array<Exit.Exit<unknown, unknown>>
  ): void {
    const finalizer = finalizers[ended.length]
    if (finalizer === undefined) return this.end(closing, Exit.asVoidAll(ended))
    closing.fiber = this.background.fork(Effect.suspend(() => {
      closing.running = true
      return finalizer(exit)
    }))
    closing.fiber.addObserver((result) => {
      closing.running = false
      ended.push(result)
      this.next(closing, finalizers, exit, ended)
    })
  }

  private end(closing: Closing, exit: Exit.Exit<unknown, unknown>): void {
    if (closing.over) return
    closing.over = true
    const { alarms, now } = this.background
    alarms.cancel(closing.alarm!)
    const took = now() - closing.since
    if (Exit.isSuccess(exit)) return this.gone(closing.id, took, "Closed")
    this.warn("failed to close", closing.id, exit.cause)
    this.gone(closing.id, took, "CloseFailed", exit.cause)
  }

  private abandon(closing: Closing): void {
    closing.over = true
    // One that has not had its turn yet must at least begin.
    if (closing.running) closing.fiber!.interruptUnsafe()
    this.warn(`was not closed within ${this.timeout}ms and is abandoned`, closing.id)
    this.gone(closing.id, this.timeout, "Abandoned")
  }

  private warn(what: string, id: number, cause?: Cause.Cause<unknown>): void {
    const message = `item ${id} of pool "${this.pool}" ${what}`
    this.background.fork(cause === undefined ? Effect.logWarning(message) : Effect.logWarning(message, cause))
  }
}
