/** The hooks and the monitors of a model run: how each goes, and on which items it may run. */
import { Context, Effect, Exit, Scope } from "effect"
import type { Hook, Turnout } from "./modelPlan.ts"
import { type Entry, type ModelSource, type Refused, take } from "./modelSource.ts"
import type { World } from "./world.ts"

export class ModelHooks {
  /** How often onReturn was run. */
  returns = 0
  /** Hears of an item that is to go because a hook failed. */
  spoiled: (entry: Entry, why: string) => void = () => {}
  private readonly world: World
  private readonly source: ModelSource

  constructor(world: World, source: ModelSource) {
    this.world = world
    this.source = source
  }

  readonly onAcquire: Effect.Effect<void, Refused, Scope.Scope> = Effect.withFiber(({ context }) => {
    const { source } = this
    const go = this.next("onAcquire")
    const entry = source.byScope.get(Context.getUnsafe(context, Scope.Scope))!
    return Effect.onError(source.play(go), () =>
      Effect.sync(() => {
        source.failures++
        entry.ban("onAcquire in vain")
      }))
  })

  readonly onBorrow = (value: unknown): Effect.Effect<void, Refused> => this.look("onBorrow", value)

  readonly onReturn = (value: unknown): Effect.Effect<void, Refused> | undefined => this.look("onReturn", value)

  readonly onRelease = (value: unknown): Effect.Effect<void, Refused> => {
    const { source, world } = this
    const entry = source.entryOf(value)
    if (entry !== undefined && entry.state !== "live") {
      world.fail("used after close", `item ${entry.number}: onRelease`)
    }
    entry?.ban("released")
    return source.play(this.next("onRelease"))
  }

  private look(hook: "onBorrow" | "onReturn", value: unknown): Effect.Effect<void, Refused> {
    const { source, world } = this
    const entry = source.entryOf(value)
    if (entry !== undefined && entry.state !== "live") {
      world.fail("used after close", `item ${entry.number}: ${hook}`)
    }
    if (hook === "onReturn") this.returns++
    const go = this.next(hook)
    // Whatever the user's function throws is a failure of the hook.
    if (go === "die") {
      if (entry !== undefined) this.spoiled(entry, `${hook} in vain`)
      throw new Error("broken hook")
    }
    // It may have nothing to do.
    if (go === "ok" && hook === "onReturn") return undefined as never
    return Effect.onExit(source.play(go), (exit) =>
      Effect.sync(() => {
        if (Exit.isFailure(exit) && entry !== undefined) this.spoiled(entry, `${hook} in vain`)
      }))
  }

  private next(hook: Hook): Turnout {
    this.source.tasks++
    return take(this.source.scripts[hook])
  }

  /** Ends when the item has died. */
  readonly monitor: Effect.Effect<void, Refused, Scope.Scope> = Effect.withFiber(({ context }) => {
    const entry = this.source.byScope.get(Context.getUnsafe(context, Scope.Scope))!
    this.source.monitors++
    const go = take(this.source.scripts.monitors)
    const watched = go === "hang"
      ? Effect.callback<void, Refused>((resume) => {
        entry.kill = resume
      })
      : this.source.play(go)
    return Effect.onExit(watched, () =>
      Effect.sync(() => {
        // Also when the pool has ended it, for then the item is closing.
        entry.kill = undefined
        entry.dead = true
        // The pool hears of it at once only when the fiber does not yield in between.
        if (this.source.strict) entry.ban("died")
      }))
  })
}
