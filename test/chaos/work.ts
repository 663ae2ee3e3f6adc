/** The fibers of a run: transactions between the accounts of a bank, and whatever else a pool is for. */
import { Cause, Effect, Fiber, Random } from "effect"
import { SqlClient } from "effect/sql"
import * as Bank from "../../examples/demo/bank.ts"
import { oneOf } from "./chance.ts"
import { longestFault } from "./faults.ts"
import { mix, operations } from "./operations.ts"
import { outcomeOf } from "./outcome.ts"
import { limits, operationBound } from "./setting.ts"
import type { World } from "./world.ts"

interface Running {
  readonly kind: string
  readonly since: number
  readonly stalled: number
}

export class Work {
  private readonly world: World
  private readonly running = new Set<Running>()
  private stopping = false
  private attempts = 0

  constructor(world: World) {
    this.world = world
  }

  /** Each fiber ends what it has begun, so that every outcome is known. */
  readonly stop = Effect.sync(() => void (this.stopping = true))

  /** Operations that have not ended and should have. */
  readonly look = (): void => {
    const { notes, stalls } = this.world
    const bound = operationBound(longestFault)
    for (const one of this.running) {
      const took = notes.now() - one.since
      if (took - (stalls.total - one.stalled) <= bound) continue
      this.running.delete(one)
      notes.violate(`an operation has not ended, ${one.kind}: ${Math.round(took)}ms, the bound is ${bound}ms`)
    }
  }

  private operation<A, E>(kind: string, operation: Effect.Effect<A, E>, interrupted = false) {
    return Effect.gen({ self: this }, function*() {
      const { notes, stalls } = this.world
      const running: Running = { kind, since: notes.now(), stalled: stalls.total }
      this.running.add(running)
      // In a fiber of its own: whoever interrupts what a borrower runs must not interrupt the borrower.
      const fiber = yield* Effect.forkChild(Effect.timeout(operation, limits.operation), { startImmediately: true })
      const exit = yield* Fiber.await(fiber)
      this.running.delete(running)
      const { name, wrong } = outcomeOf(exit, interrupted)
      notes.operation(kind, name)
      if (wrong !== undefined) notes.violate(`${kind} ended with ${name}: ${wrong}`)
      return exit
    })
  }

  /**
   * A transaction that fails is tried again with the same id. Whether it was committed is
   * asked first: a connection that died at COMMIT took the answer with it.
   */
  private transaction(fiber: number) {
    return Effect.gen({ self: this }, function*() {
      const { client, committed, notes } = this.world
      const id = `${fiber}-${++this.attempts}`
      const withClient = Effect.provideService(SqlClient.SqlClient, client)
      for (let first = true; !notes.failed; first = false) {
        if (!first) {
          yield* Effect.sleep(yield* Random.nextIntBetween(10, 100))
          const took = yield* this.operation("lookup", withClient(Bank.took(id)))
          if (took._tag === "Failure") continue
          if (took.value) break
        }
        const exit = yield* this.operation("transaction", withClient(Bank.transfer(id)))
        if (exit._tag === "Success") break
      }
      if (!notes.failed) committed.add(id)
    })
  }

  /** One that somebody interrupts, perhaps at its COMMIT. It is not tried again, only looked for at the end. */
  private given(fiber: number) {
    return Effect.gen({ self: this }, function*() {
      const { client, unknown } = this.world
      const id = `${fiber}-${++this.attempts}`
      unknown.add(id)
      const transfer = Effect.provideService(Bank.transfer(id), SqlClient.SqlClient, client)
      const kind = "interrupted transaction"
      yield* this.operation(
        kind,
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(transfer, { startImmediately: true })
          yield* Effect.sleep(yield* Random.nextIntBetween(0, 60))
          yield* Fiber.interrupt(fiber)
          const exit = yield* Fiber.await(fiber)
          if (exit._tag === "Failure" && !Cause.hasInterruptsOnly(exit.cause)) yield* exit
        })
      )
    })
  }

  readonly fiber = (index: number) =>
    Effect.gen({ self: this }, function*() {
      while (!this.stopping && !this.world.notes.failed) {
        const dice = yield* Random.next
        if (dice < 0.35) yield* this.transaction(index)
        else if (dice < 0.42) yield* this.given(index)
        else {
          const kind = yield* oneOf(mix)
          yield* this.operation(kind, operations[kind]!(this.world))
        }
        yield* Effect.sleep(yield* Random.nextIntBetween(0, 30))
      }
    })
}
