// The one place that touches the data of a Scope. `Scope.state` is a public field
// with exported types, but effect exports no synchronous way to add a finalizer,
// and the effectful one costs a borrower a quarter of its time. A test compares
// what this writes with what effect writes.
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"

export type Finalizer = (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<unknown>

/** Adds the finalizer, which the scope has not, or returns false when the scope is closed already. */
export const addFinalizer = (scope: Scope.Scope, finalizer: Finalizer): boolean => {
  const { state } = scope
  if (state._tag !== "Empty") return state._tag === "Open" && addOneMore(state, finalizer)
  scope.state = { _tag: "Open", finalizerKey: finalizer, finalizer, finalizers: undefined }
  return true
}

const addOneMore = (state: Scope.State.Open, finalizer: Finalizer): boolean => {
  if (state.finalizers === undefined) {
    state.finalizers = new Map([[state.finalizerKey!, state.finalizer!]])
    state.finalizerKey = state.finalizer = undefined
  }
  state.finalizers.set(finalizer, finalizer)
  return true
}

/** Closes a scope that has no parent, and gives what is to be run for it, the last first. */
export const closeWithout = (
  scope: Scope.Scope,
  exit: Exit.Exit<unknown, unknown>
): ReadonlyArray<Finalizer> => {
  const { state } = scope
  if (state._tag === "Closed") return []
  scope.state = { _tag: "Closed", exit }
  if (state._tag === "Empty") return []
  return state.finalizers === undefined ? [state.finalizer!] : Array.from(state.finalizers.values()).toReversed()
}
