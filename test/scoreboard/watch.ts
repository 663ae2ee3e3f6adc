/** How programs look at effects that may never end. All time is real and monotonic. */
import { Cause, Data, Effect, Exit, Fiber, Option } from "effect"
import { live, waitUntil } from "../kit/real.ts"
import type { Lease, Subject, Verdict } from "./model.ts"

export const sleep = (millis: number) => live(Effect.sleep(millis))

export const until = (done: () => boolean, millis: number): Effect.Effect<boolean> => waitUntil(done, millis)

export const seconds = (millis: number): string => `${(millis / 1000).toFixed(1)} s`

export const verdict = (green: boolean, figure: string): Verdict => ({ green, figure })

export interface Ending<A> {
  readonly exit: Exit.Exit<A, unknown>
  readonly millis: number
}

/** Runs an effect in a fiber that nobody waits for. */
export const begin = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const from = performance.now()
    let ending: Ending<A> | undefined
    const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
    fiber.addObserver((exit) => {
      ending = { exit, millis: performance.now() - from }
    })
    return {
      /** How it has ended, if it has. */
      now: () => ending,
      /** Waits for so long, and no longer, not even for an end by interruption. */
      within: (millis: number) =>
        Effect.map(until(() => ending !== undefined, millis), () => Option.fromUndefinedOr(ending)),
      stop: Effect.asVoid(Effect.forkDetach(Fiber.interrupt(fiber)))
    }
  })

/** How an effect ends within so many milliseconds, if it does. */
export const within = <A, E>(millis: number, effect: Effect.Effect<A, E>) =>
  Effect.flatMap(begin(effect), (begun) => begun.within(millis))

export const leaseOf = (ending: Option.Option<Ending<Lease>>): Lease | undefined =>
  Option.isSome(ending) && Exit.isSuccess(ending.value.exit) ? ending.value.exit.value : undefined

class NoItem extends Data.TaggedError("NoItem")<{ readonly message: string }> {}

/** Ours takes an item back when nobody is left who could return it: a program that forgets a lease still has it. */
const kept = new Set<Lease>()

/** A lease that is to be had within so many milliseconds: a program that has not got it shows nothing. */
export const borrowed = (pool: Subject, millis = 5000): Effect.Effect<Lease, unknown> =>
  Effect.flatMap(within(millis, pool.borrow), (ending) => {
    const lease = leaseOf(ending)
    if (lease === undefined) {
      return Effect.fail(new NoItem({ message: `no item to begin with: ${told(ending)}` }))
    }
    kept.add(lease)
    return Effect.succeed(lease)
  })

/** So many leases, asked for at once. */
export const borrowedAll = (pool: Subject, count: number) =>
  Effect.all(Array.from({ length: count }, () => borrowed(pool)), { concurrency: "unbounded" })

/** Ends an item's life and gives it back. */
export const discard = (lease: Lease): Effect.Effect<unknown> =>
  lease.endsLease ? lease.invalidate : Effect.andThen(lease.invalidate, lease.giveBack)

/** In words. */
export const told = <A>(ending: Option.Option<Ending<A>>): string => {
  if (Option.isNone(ending)) return "no end"
  const { exit, millis } = ending.value
  if (Exit.isSuccess(exit)) return seconds(millis)
  if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
  return `error in ${seconds(millis)}`
}

export const isTold = <A>(ending: Option.Option<Ending<A>>): boolean =>
  Option.isSome(ending) && Exit.isFailure(ending.value.exit) && !Cause.hasInterrupts(ending.value.exit.cause)
