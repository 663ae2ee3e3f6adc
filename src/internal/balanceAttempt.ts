// One borrower at one endpoint: what it costs the endpoint, and what the endpoint is to be
// held to for it.
//
// A fiber can be interrupted between any two of its operations. So an attempt is made first
// and does nothing, then what ends it is set up, and inside of that it begins.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { PoolError } from "../PoolError.ts"
import { type Circuits, failure, ignored, type Outcome, success, Ticket } from "./balanceBreaker.ts"
import type { Endpoint } from "./balanceEndpoint.ts"
import type { Fleet, Next } from "./balanceFleet.ts"
import { addFinalizer } from "./lease.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** What all attempts have in common. */
export interface Shell<K> {
  readonly fleet: Fleet<K>
  readonly circuits: Circuits<K> | undefined
  readonly measure: "lease" | "borrow" | "none"
  readonly fault: ((exit: AnyExit) => boolean) | undefined
  readonly now: () => number
  /** The error of a borrower who has given an endpoint up after so many milliseconds. */
  readonly late: (endpoint: Endpoint<K>, waited: number) => Effect.Effect<PoolError>
}

/** One who borrows: where it was, and until when it waits. */
export class Borrower<K> {
  readonly since: number
  readonly deadline: number
  /** What is given to one endpoint at least, when there are many. */
  readonly least: number
  /** What came of each endpoint that was tried. */
  readonly tried = new Map<Endpoint<K>, Cause.Cause<unknown>>()

  constructor(since: number, borrowTimeout: number) {
    this.since = since
    this.deadline = since + borrowTimeout
    this.least = Math.min(2000, borrowTimeout / 3)
  }
}

export class Attempt<K> {
  readonly borrower: Borrower<K>
  private readonly shell: Shell<K>
  private next: Next<K> | undefined = undefined
  private ticket: Ticket | undefined = undefined
  private since = 0
  private moves = 0
  private era = 0
  /** The borrower has its item. */
  lent = false
  /** The end of it is a scope's to tell. */
  private kept = false
  /** The borrower has given the endpoint up. */
  private cut = false

  constructor(shell: Shell<K>, borrower: Borrower<K>) {
    this.shell = shell
    this.borrower = borrower
  }

  get started(): boolean {
    return this.next !== undefined
  }

  get endpoint(): Endpoint<K> {
    return this.next!.endpoint
  }

  start(next: Next<K>): void {
    const { endpoint, probe } = this.next = next
    this.since = this.shell.now()
    this.moves = endpoint.moves
    this.era = endpoint.era
    endpoint.load++
    if (!probe) return
    this.ticket = new Ticket()
    this.shell.fleet.probing(endpoint, true)
  }

  /** One who is to find out whether the endpoint is back needs leave for that. */
  get admitted(): Effect.Effect<boolean> | undefined {
    return this.ticket === undefined ? undefined : this.shell.circuits!.admit(this.endpoint, this.ticket)
  }

  begin(): void {
    const { endpoint } = this
    const { fault, measure, now } = this.shell
    this.lent = true
    endpoint.moves++
    if (measure === "borrow") endpoint.observe(now() - this.since, now())
    // Its part is done, unless it is held to what becomes of the lease.
    if (fault === undefined) this.succeeded()
  }

  /** The lease is the scope's from now on. */
  beginIn(scope: Scope.Scope): void {
    this.begin()
    this.kept = true
    const end = (exit: AnyExit): Effect.Effect<void> => Effect.sync(() => this.finish(exit))
    if (!addFinalizer(scope, end)) this.finish((scope.state as Scope.State.Closed).exit)
  }

  end(exit: AnyExit): undefined {
    if (this.next !== undefined && !this.kept) this.finish(exit)
  }

  private finish(exit: AnyExit): void {
    const { endpoint, ticket } = this
    const { fleet, now } = this.shell
    endpoint.load--
    fleet.forget(endpoint)
    try {
      if (this.lent) this.returned(exit, now())
      else this.unserved(exit, now())
    } finally {
      if (ticket !== undefined) {
        ticket.settle(ignored)
        if (!ticket.asked) fleet.probing(endpoint, false)
      }
    }
  }

  private returned(exit: AnyExit, now: number): void {
    const { endpoint } = this
    const { fault, measure } = this.shell
    endpoint.moves++
    const interrupted = Exit.hasInterrupts(exit)
    if (fault?.(exit) === true) {
      endpoint.fault(now)
      return this.tell(failure)
    }
    if (measure === "lease") {
      if (interrupted) endpoint.observeAtLeast(now - this.since, now)
      else endpoint.observe(now - this.since, now)
    }
    if (fault !== undefined && !interrupted) this.succeeded()
  }

  private succeeded(): void {
    this.endpoint.absolve(this.since)
    this.tell(success)
  }

  private unserved(exit: AnyExit, now: number): void {
    if (Exit.isSuccess(exit) || Cause.hasInterrupts(exit.cause) || !this.isFault(exit.cause)) return
    this.endpoint.fault(now)
    this.tell(failure)
  }

  /** Not what is no sign of illness: too many borrowers, or an end that was asked for. */
  private isFault(cause: Cause.Cause<unknown>): boolean {
    const errors = cause.reasons.filter(Cause.isFailReason).map(({ error }) => error)
    return errors.length < cause.reasons.length || errors.some((error) => {
      if (error === notAdmitted) return false
      const reason = error instanceof PoolError ? error.reason : undefined
      // Who waited in vain where others were served has met a busy endpoint, not an ill one.
      if (this.cut) return !this.moved(this.moves)
      if (reason?._tag === "BorrowTimeout") return !withheld.has(reason.phase) && !this.moved(this.moves)
      return reason === undefined || !harmless.has(reason._tag)
    })
  }

  private tell(outcome: Outcome): void {
    const { endpoint, ticket } = this
    if (ticket !== undefined) ticket.settle(outcome)
    else if (this.era === endpoint.era) this.shell.circuits?.report(endpoint, outcome)
  }

  private moved(since: number): boolean {
    return this.endpoint.moves !== since
  }

  /** How long this endpoint may take to lend anything to anyone: an equal part of the time that is left. */
  private window(): number {
    const { fleet, now } = this.shell
    const { deadline, least, tried } = this.borrower
    const left = Math.max(0, deadline - now())
    return Math.min(left, Math.max(least, left / Math.max(1, fleet.all.length - tried.size)))
  }

  /**
   * Gives the endpoint up, before it has lent, when it lends nothing to anyone for its part of
   * the time. As long as it serves others the borrower keeps its place in the queue.
   */
  limited<B, E, R>(lend: Effect.Effect<B, E, R>): Effect.Effect<B, E | PoolError, R> {
    if (this.borrower.deadline === Infinity) return lend
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.forkChild(restore(lend), { startImmediately: true, uninterruptible: true }),
        (fiber) =>
          fiber.pollUnsafe() ?? Effect.flatMap(
            Effect.catchCause(Effect.interruptible(this.watch(fiber)), ({ reasons }) => {
              for (const { fiberId } of reasons.filter(Cause.isInterruptReason)) fiber.interruptUnsafe(fiberId)
              return Fiber.await(fiber)
            }),
            (exit) => exit
          )
      )
    )
  }

  private watch<B, E>(fiber: Fiber.Fiber<B, E>): Effect.Effect<Exit.Exit<B, E | PoolError>> {
    const window = this.window()
    const { moves } = this.endpoint
    return Effect.flatMap(Effect.timeoutOption(Fiber.await(fiber), window), (ended) => {
      if (Option.isSome(ended)) return Effect.succeed(ended.value)
      // Asked before the borrower leaves, who is one of those that the error tells of.
      return Effect.flatMap(this.shell.late(this.endpoint, window), (error) => {
        if (this.lent) return Fiber.await(fiber)
        if (this.moved(moves) && this.shell.now() < this.borrower.deadline) return this.watch(fiber)
        this.cut = true
        fiber.interruptUnsafe()
        // One that cannot be interrupted may have been served meanwhile.
        return Effect.map(Fiber.await(fiber), (exit) => this.lent ? exit : Exit.fail(error))
      })
    })
  }
}

/** Others find out whether the endpoint is back, or it is too soon. */
export const notAdmitted = { _tag: "NotAdmitted" } as const

/** What kept the pool from lending was not in the endpoint. */
const withheld = new Set(["suspended", "parked"])

const harmless = new Set(["TooManyWaiters", "Suspended", "Closed", "InvalidOptions", "NoEndpoint"])
