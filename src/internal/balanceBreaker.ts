// What a circuit breaker is told of the endpoints, and what it says of them.
//
// The core depends on stable modules alone, and effect's breaker is none: so it is taken as
// a value, by its shape. It is asked nothing while an endpoint serves, and no borrower waits
// for it but one that is to find out whether an endpoint is back.
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Endpoint } from "./balanceEndpoint.ts"
import type { Fleet } from "./balanceFleet.ts"

/** The part of effect's `CircuitBreaker` that is used here. */
export interface Breaker {
  readonly execute: <A, E, R>(
    self: Effect.Effect<A, E, R>,
    options: { readonly key: string; readonly classify?: ((exit: Exit.Exit<A, E>) => Outcome) | undefined }
  ) => Effect.Effect<A, E | Failed, R>
  readonly state: (key: string) => Effect.Effect<Circuit, Failed>
}

export interface Failed {
  readonly _tag: string
}

export type Outcome =
  | { readonly _tag: "Success" }
  | { readonly _tag: "Ignored" }
  | { readonly _tag: "Failure"; readonly retryAfter?: Duration.Duration | undefined }

export type Circuit =
  | { readonly _tag: "Closed" }
  | { readonly _tag: "Open"; readonly retryAfter: Duration.Duration }
  | { readonly _tag: "HalfOpen"; readonly probing: boolean }

export const success: Outcome = { _tag: "Success" }
export const failure: Outcome = { _tag: "Failure" }
export const ignored: Outcome = { _tag: "Ignored" }

/** So many outcomes of one endpoint may be on their way to a store that is slow. */
const maxReports = 64

/** How long a borrower waits for the leave to probe, and how soon a breaker is asked again that could not say. */
const patience = 1000

/** The leave to find out whether an endpoint is back. */
export class Ticket {
  /** The breaker was asked. */
  asked = false
  outcome: Outcome = ignored
  private settled = false
  private heard: (() => void) | undefined = undefined

  /** Only the first counts. */
  settle(outcome: Outcome): void {
    if (this.settled) return
    this.settled = true
    this.outcome = outcome
    this.heard?.()
  }

  onSettled(heard: () => void): void {
    this.heard = heard
    if (this.settled) heard()
  }
}

export class Circuits<K> {
  private readonly breaker: Breaker
  private readonly fleet: Fleet<K>
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => void

  constructor(breaker: Breaker, fleet: Fleet<K>, now: () => number, fork: (effect: Effect.Effect<void>) => void) {
    this.breaker = breaker
    this.fleet = fleet
    this.now = now
    this.fork = fork
  }

  /** In the background: an endpoint's outcome is no borrower's to wait for. */
  report(endpoint: Endpoint<K>, outcome: Outcome): void {
    // What began before it was ejected says nothing of an endpoint that may be back.
    if (endpoint.ejected || endpoint.reports >= maxReports) return
    endpoint.reports++
    let admitted = false
    const call = this.breaker.execute(Effect.sync(() => void (admitted = true)), {
      key: endpoint.label,
      classify: () => outcome
    })
    this.fork(Effect.flatMap(Effect.exit(call), () => {
      endpoint.reports--
      // Others may share the breaker, and have ejected the endpoint.
      return admitted && outcome._tag === "Success" ? Effect.void : this.look(endpoint)
    }))
  }

  /** Asks for the leave to probe: false when others probe, or it is too soon. Who asks settles the ticket. */
  admit(endpoint: Endpoint<K>, ticket: Ticket): Effect.Effect<boolean> {
    const asked = Effect.callback<boolean>((resume) => {
      ticket.asked = true
      const held = Effect.callback<void>((done) => {
        ticket.onSettled(() => done(Exit.void))
        resume(Effect.succeed(true))
      })
      const call = this.breaker.execute(held, { key: endpoint.label, classify: () => ticket.outcome })
      this.fork(Effect.flatMap(Effect.exit(call), () => {
        this.fleet.probing(endpoint, false)
        resume(Effect.succeed(false))
        return this.look(endpoint)
      }))
    })
    return Effect.map(Effect.timeoutOption(asked, patience), Option.getOrElse(() => false))
  }

  /** What the breaker says of an endpoint is so. */
  private look(endpoint: Endpoint<K>): Effect.Effect<void> {
    return Effect.map(Effect.exit(this.breaker.state(endpoint.label)), (exit) => {
      const now = this.now()
      if (Exit.isFailure(exit)) {
        if (endpoint.ejected) this.fleet.eject(endpoint, now + patience)
        return
      }
      const circuit = exit.value
      switch (circuit._tag) {
        case "Closed":
          return this.fleet.restore(endpoint, now)
        case "Open":
          return this.fleet.eject(endpoint, now + Duration.toMillis(circuit.retryAfter))
        case "HalfOpen":
          return this.fleet.eject(endpoint, circuit.probing ? now + patience : now)
      }
    })
  }
}
