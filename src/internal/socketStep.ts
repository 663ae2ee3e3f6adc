// Whether the peer of a connection may still have something to say to the last borrower.
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"

export class Step {
  spoiled = false
  /** The connection has come back at least once: before that, a server may have a greeting to say. */
  used = false
  /** Read from or written to since it came back. */
  busy = false
  /** The last that was done was a write. */
  owed = false
  /** Read from or written to since it came back, or since it was last said to be in step. */
  private touched = false
  /** Who did it. */
  private operator: Fiber.Fiber<unknown, unknown> | undefined = undefined

  begin(operator: Fiber.Fiber<unknown, unknown>): void {
    this.touched = this.busy = true
    this.operator = operator
  }

  settle(): void {
    this.touched = this.owed = false
    this.operator = undefined
  }

  /** A lease has ended. Tells whether the next borrower would find the connection in step. */
  cameBack(exit: Exit.Exit<unknown, unknown> | undefined, reading: boolean, mayOwe: boolean): boolean {
    const operation = this.operator?.pollUnsafe()
    this.spoiled ||= reading || this.brokenOffBy(exit) ||
      // It had a fiber of its own, and the borrower has caught that fiber's failure.
      isFailure(operation) ||
      (this.owed && !mayOwe)
    if (this.spoiled) return false
    this.used = true
    this.busy = false
    this.settle()
    return true
  }

  brokenOffBy(exit: Exit.Exit<unknown, unknown> | undefined): boolean {
    return this.touched && isFailure(exit)
  }
}

const isFailure = (exit: Exit.Exit<unknown, unknown> | undefined): boolean => exit !== undefined && Exit.isFailure(exit)
