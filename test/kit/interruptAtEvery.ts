/** Interrupts an effect at each of its operations in turn. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"

type Runner = <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<Fiber.Fiber<A, E>>

/**
 * Interrupts the first fiber that it sees at the operation given: as that operation
 * begins, or, with `yields`, while the fiber has yielded before it.
 */
class Interrupter implements Scheduler.Scheduler {
  count = 0
  readonly executionMode: "sync" | "async"
  private readonly base: Scheduler.Scheduler
  private readonly at: number
  private readonly yields: boolean
  private target: unknown

  constructor(base: Scheduler.Scheduler, at: number, yields: boolean) {
    this.base = base
    this.at = at
    this.yields = yields
    this.executionMode = base.executionMode
  }

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    this.target ??= fiber
    if (fiber !== this.target || ++this.count !== this.at) return this.base.shouldYield(fiber)
    if (!this.yields) fiber.interruptUnsafe()
    else fiber.currentDispatcher.scheduleTask(() => fiber.interruptUnsafe(), -1)
    return this.yields
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this.base.makeDispatcher()
  }
}

/**
 * Runs a scenario again and again, until what it `run`s was interrupted at its first
 * operation, at its second, and so on to its last, each in both ways. The scenario
 * asserts. Returns how many operations there were.
 */
export const interruptAtEvery = Effect.fnUntraced(function*<E, R>(
  scenario: (run: Runner, at: string) => Effect.Effect<void, E, R>
) {
  const base = yield* Scheduler.Scheduler
  let operations = 0
  for (const yields of [false, true]) {
    for (let at = 1;; at++) {
      const scheduler = new Interrupter(base, at, yields)
      const run: Runner = (effect) =>
        Effect.contextWith((context: import("effect/Context").Context<never>) =>
          Effect.sync(() => Effect.runForkWith(context)(effect, { scheduler }))
        )
      yield* scenario(run, `operation ${at}${yields ? ", yielding" : ""}`)
      if (scheduler.count < at) break
      operations = Math.max(operations, at)
    }
  }
  return operations
})
