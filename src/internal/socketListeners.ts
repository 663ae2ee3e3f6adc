// Fibers that wait until something is so.
import * as Effect from "effect/Effect"

export type Listeners = Set<() => void>

export const wake = (listeners: Listeners): void => {
  for (const listener of Array.from(listeners)) listener()
}

/** Waits until it is so; the listeners are told when that may be. */
export const heard = (listeners: Listeners, isSo: () => boolean): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (isSo()) return resume(Effect.void)
    const done = (): void => {
      listeners.delete(done)
      resume(Effect.void)
    }
    listeners.add(done)
    return Effect.sync(() => listeners.delete(done))
  })
