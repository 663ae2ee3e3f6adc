// What the user wants done at the four moments of an item's life, and the watch
// over its death. All of it runs in the pool's context and has a deadline.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { HookFailed, PoolError } from "../PoolError.ts"
import type { Background } from "./background.ts"
import type { Item } from "./item.ts"

type AnyExit = Exit.Exit<unknown, unknown>
type ItemHook<A, R> = (item: A) => Effect.Effect<unknown, unknown, R>

export interface Hooks<A, E, R> {
  readonly monitor: ItemHook<A, R> | undefined
  readonly onAcquire: ((item: A) => Effect.Effect<unknown, E, R>) | undefined
  readonly onBorrow: ItemHook<A, R> | undefined
  readonly onReturn: ((item: A, exit: AnyExit) => Effect.Effect<unknown, unknown, R> | undefined) | undefined
  readonly onRelease: ItemHook<A, R> | undefined
}

/**
 * `acquire` with the hooks around it. `onRelease` is the last finalizer of the item
 * and so the first to run; it has its own deadline, so that one that hangs leaves
 * time for the release.
 */
export const prepared = <A, E, R>(
  acquire: Effect.Effect<A, E, R>,
  { onAcquire, onRelease }: Hooks<A, E, R>,
  timeout: number
): Effect.Effect<A, E, R | Scope.Scope> => {
  const acquired = onAcquire === undefined ? acquire : Effect.tap(acquire, onAcquire)
  if (onRelease === undefined) return acquired
  return Effect.contextWith((context) =>
    Effect.tap(acquired, (item) => {
      const hook = Effect.suspend(() => onRelease(item))
      return Effect.addFinalizer(() => Effect.orDie(Effect.provideContext(atMost(hook, timeout), context)))
    })
  )
}

/** Runs it in a fiber of its own, and waits no longer, not even for its interruption. */
const atMost = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  timeout: number
): Effect.Effect<A, E | Cause.TimeoutError, R> =>
  Effect.flatMap(Effect.forkDetach(effect, { startImmediately: true }), (fiber) => {
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return exit
    const ended = Effect.timeout(Fiber.join(fiber), timeout)
    return Effect.onExit(ended, () => Effect.sync(() => fiber.interruptUnsafe()))
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

/** The hook before a lease; undefined when it has succeeded at once. */
export const beforeLease = <A, R>(
  background: Background<R>,
  pool: string,
  hook: ItemHook<A, R>,
  { value }: Item<A>,
  timeout: number
): Effect.Effect<void, PoolError> | undefined => {
  const fiber = background.fork(Effect.scoped(Effect.suspend(() => hook(value))))
  const outcome = (exit: AnyExit): Exit.Exit<void, PoolError> =>
    Exit.isSuccess(exit)
      ? Exit.void
      : Exit.fail(new PoolError({ pool, reason: new HookFailed({ hook: "onBorrow", cause: exit.cause }) }))
  const exit = fiber.pollUnsafe()
  if (exit !== undefined) return Exit.isSuccess(exit) ? undefined : outcome(exit)
  return Effect.callback((resume) => {
    const { alarms } = background
    const end = (exit: AnyExit): void => {
      alarms.cancel(alarm)
      resume(outcome(exit))
    }
    const alarm = alarms.make(() => {
      end(Exit.fail(new Cause.TimeoutError(`onBorrow took longer than ${timeout}ms`)))
      fiber.interruptUnsafe()
    })
    alarms.set(alarm, background.now() + timeout)
    fiber.addObserver(end)
    return Effect.sync(() => {
      alarms.cancel(alarm)
      fiber.interruptUnsafe()
    })
  })
}
