// What the user wants done at the four moments of an item's life, and the watch
// over its death. All of it runs in the pool's context and has a deadline.
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { PoolError } from "../PoolError.ts"
import type { Background } from "./background.ts"

type AnyExit = Exit.Exit<unknown, unknown>
type ItemHook<A, R> = (item: A) => Effect.Effect<unknown, unknown, R>

export interface Hooks<A, E, R> {
  readonly monitor: ItemHook<A, R> | undefined
  readonly onAcquire: ((item: A) => Effect.Effect<unknown, E, R>) | undefined
  readonly onBorrow: ItemHook<A, R> | undefined
  readonly onReturn: ((item: A, exit: AnyExit) => Effect.Effect<unknown, unknown, R> | undefined) | undefined
  readonly onRelease: ItemHook<A, R> | undefined
}

/** What the user gave as effects. */
export interface Effects<A, E, R> extends Hooks<A, E, R> {
  readonly acquire: Effect.Effect<A, E, R>
  readonly check: ((item: A) => Effect.Effect<unknown, unknown, R>) | undefined
  readonly reset: ((item: A, exit: AnyExit) => Effect.Effect<unknown, unknown, R> | undefined) | undefined
  readonly retry: Schedule.Schedule<unknown, E | PoolError, unknown, R> | undefined
  readonly sweep: Schedule.Schedule<unknown, unknown, unknown, R> | Duration.Input | undefined
}

/**
 * `acquire` with the hooks around it. `onRelease` is the last finalizer of the item
 * and so the first to run; it has its own deadline, so that one that hangs leaves
 * time for the release.
 */
export const prepared = <A, E, R>(
  background: Background<R>,
  acquire: Effect.Effect<A, E, R>,
  { onAcquire, onRelease }: Hooks<A, E, R>,
  timeout: number
): Effect.Effect<A, E, R | Scope.Scope> => {
  const acquired = onAcquire === undefined
    ? acquire
    : Effect.tap(
      acquire,
      (item) =>
        Effect.flatMap(
          Scope.Scope,
          (scope) => apart(background, Scope.provide(Effect.suspend(() => onAcquire(item)), scope))
        )
    )
  if (onRelease === undefined) return acquired
  return Effect.tap(acquired, (item) => Effect.addFinalizer(() => beforeRelease(background, onRelease, item, timeout)))
}

// In a fiber of its own, as is `onRelease`: one that cannot even be interrupted must not
// hold up the release of the item.
const apart = <A, E, R>(background: Background<R>, hook: Effect.Effect<A, E, R>): Effect.Effect<A, E> =>
  Effect.callback((resume) => {
    const fiber = background.fork(hook)
    fiber.addObserver(resume)
    return Effect.sync(() => fiber.interruptUnsafe())
  })

const beforeRelease = <A, R>(
  background: Background<R>,
  hook: ItemHook<A, R>,
  item: A,
  timeout: number
): Effect.Effect<void> =>
  // Abandoned between the fork and its end, the hook would go on for ever.
  Effect.uninterruptibleMask((restore) => {
    const fiber = background.fork(Effect.scoped(Effect.suspend(() => hook(item))))
    const exit = fiber.pollUnsafe()
    // With no alarm of the pool's: an item that was detached, or came late, outlives them.
    const ended = exit ?? Effect.timeoutOrElse(Effect.interruptible(Fiber.join(fiber)), {
      duration: timeout,
      orElse: () => Effect.fail(new Cause.TimeoutError(`onRelease took longer than ${timeout}ms`))
    })
    return Effect.ensuring(restore(Effect.orDie(Effect.asVoid(ended))), Effect.sync(() => fiber.interruptUnsafe()))
  })

/** Watches over an item until it is released; `died` hears of its end before that. */
export const watch = <A, R>(
  background: Background<R>,
  monitor: ItemHook<A, R>,
  value: A,
  scope: Scope.Closeable,
  died: (cause: Cause.Cause<unknown> | undefined) => void
): void => {
  const fiber = background.fork(Scope.provide(Effect.suspend(() => monitor(value)), scope))
  fiber.addObserver((exit) => died(Exit.isFailure(exit) ? exit.cause : undefined))
  // Not waited for: a monitor that hangs must not hold up the release.
  background.fork(Scope.addFinalizer(scope, Effect.sync(() => fiber.interruptUnsafe())))
}

/**
 * The hook before a lease, for so many milliseconds; `left` when these are all that is left
 * of the borrower's time. `done` hears how it ended, perhaps at once; what is returned
 * ends it, and then `done` does not hear of it.
 */
export const beforeLease = <A, R>(
  background: Background<R>,
  hook: ItemHook<A, R>,
  item: A,
  timeout: number,
  left: boolean,
  done: (exit: AnyExit) => void
): () => void => {
  const { alarms } = background
  let over = false
  const end = (exit: AnyExit): void => {
    if (over) return
    over = true
    alarms.cancel(alarm)
    done(exit)
  }
  const stop = (): void => {
    if (over) return
    over = true
    alarms.cancel(alarm)
    fiber.interruptUnsafe()
  }
  const alarm = alarms.make(() => {
    const limit = left ? `the ${timeout}ms that were left of borrowTimeout` : `${timeout}ms`
    stop()
    done(Exit.fail(new Cause.TimeoutError(`onBorrow took longer than ${limit}`)))
  })
  const fiber = background.fork(Effect.scoped(Effect.suspend(() => hook(item))))
  const exit = fiber.pollUnsafe()
  if (exit === undefined) {
    alarms.set(alarm, background.now() + timeout)
    fiber.addObserver(end)
  } else {
    end(exit)
  }
  return stop
}
