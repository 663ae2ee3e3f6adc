// The background fiber. It begins when there is something for it to do: a cadence, or the
// first deadline that has come. It sleeps until a rule's deadline or the next tick of the
// `sweep` cadence, and nothing that fails inside ends it. Checks that a sweep
// starts run beside it, so a hung one delays no deadline.
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type { Alarm } from "./alarms.ts"
import type { Background } from "./background.ts"
import type { Item } from "./item.ts"
import type { ItemWork } from "./itemWork.ts"
import type { Rules, Verdict } from "./rules.ts"
import type { PoolState } from "./state.ts"
import type { Swept } from "./sweeper.ts"

type Cadence<R> = Schedule.Schedule<unknown, unknown, unknown, R>

/** The pool whose items it looks after. */
interface Host<A, R> {
  readonly settings: { readonly checkTimeout: number; readonly openConcurrency: number }
  readonly state: PoolState<A, R>
  readonly rules: Rules<A, R>
  readonly background: Background<R>
  readonly work: Pick<ItemWork<A, never, R>, "run">
}

export class Recycler<A, R> {
  /** Rings when a rule is due. */
  readonly dueAlarm: Alarm
  private readonly pool: Host<A, R>
  private readonly state: PoolState<A, R>
  private readonly rules: Rules<A, R>
  private readonly background: Background<R>
  /** A sweep's checks are under way. */
  private checking = false
  /** Sweeps that wait for that. */
  private readonly queued: Array<() => void> = []
  private due = false
  private tick = false
  private wake: (() => void) | undefined = undefined
  private fiber: Fiber.Fiber<void> | undefined = undefined

  constructor(pool: Host<A, R>) {
    this.pool = pool
    this.state = pool.state
    this.rules = pool.rules
    this.background = pool.background
    this.dueAlarm = this.background.alarms.make(() => {
      this.due = true
      this.ring()
    })
  }

  /** A rule may speak after this time: strictly after, hence the millisecond. */
  dueAfter(at: number): void {
    if (this.dueAlarm.slot >= 0 && this.dueAlarm.dueAt <= at + 1) return
    this.background.alarms.set(this.dueAlarm, at + 1)
  }

  /** Sweeps by a cadence. Without one there is no fiber until a rule is due. */
  start(cadence: Cadence<R>): void {
    this.fiber = this.background.fork(this.run(cadence))
  }

  /** The pool closes. */
  stop(): void {
    this.fiber?.interruptUnsafe()
  }

  /** Runs for the life of the pool. */
  private run(cadence: Cadence<R> | undefined): Effect.Effect<void, never, R> {
    const bell = Effect.callback<void>((resume) => {
      if (this.due || this.tick) resume(Effect.void)
      else this.wake = () => resume(Effect.void)
    })
    const pass = (next: Effect.Effect<void, never, R>) =>
      Effect.suspend(() => {
        if (this.due) {
          this.due = false
          const at = this.state.sweeper.sweepDue(this.background.now())
          if (at !== Infinity) this.dueAfter(at)
        }
        if (!this.tick) return Effect.void
        this.tick = false
        const sweep = Effect.exit(Effect.sync(() => this.sweepNow(undefined)))
        return Effect.flatMap(sweep, (exit) => Effect.andThen(next, exit))
      })
    const forever = (next: Effect.Effect<void, never, R>) =>
      Effect.forever(Effect.flatMap(bell, () => Effect.catchCause(pass(next), (cause) => this.survive(cause))))
    if (cadence === undefined) return forever(Effect.void)
    const { clock, now } = this.background
    const tickAlarm = this.background.alarms.make(() => {
      this.tick = true
      this.ring()
    })
    // The time of its steps starts as the wall clock's and goes on monotonically.
    const start = clock.currentTimeMillisUnsafe() - now()
    return Effect.flatMap(
      Effect.cached(Schedule.toStep(cadence)),
      (cached) => {
        const step = Effect.flatMap(cached, (step) => step(start + now(), undefined))
        const stepped = Pull.matchEffect(step, {
          onSuccess: ([, delay]) =>
            Effect.sync(() => {
              // A Schedule without a delay must not make the recycler spin.
              const millis = Math.max(1, Duration.toMillis(delay))
              this.background.alarms.set(tickAlarm, now() + millis)
            }),
          onDone: () => this.ended(undefined),
          onFailure: (cause) => this.ended(cause)
        })
        // Beside the recycler: a step that hangs must delay no deadline.
        const beside = Effect.asVoid(Effect.forkChild(Effect.scoped(stepped), { startImmediately: true }))
        return Effect.andThen(beside, forever(beside))
      }
    )
  }

  private ring(): void {
    if (this.state.closed) return
    this.fiber ??= this.background.fork(this.run(undefined))
    const { wake } = this
    this.wake = undefined
    wake?.()
  }

  // What was due is tried again, but not at once.
  private survive(cause: Cause.Cause<unknown>): Effect.Effect<void> {
    this.dueAfter(this.background.now() + 1000)
    return Effect.logError(`the recycler of pool "${this.state.settings.name}" goes on after a failure`, cause)
  }

  private ended(cause: Cause.Cause<unknown> | undefined): Effect.Effect<void> {
    const { settings } = this.state
    if (this.state.listening) this.state.tell({ _tag: "RecyclerEnded", cause }, this.background.now())
    const message = `the sweep Schedule of pool "${settings.name}" has ${
      cause === undefined ? "ended" : "failed"
    }: rules without a deadline are no longer run on idle items`
    return cause === undefined ? Effect.logWarning(message) : Effect.logWarning(message, cause)
  }

  /** One pass over the idle items. `done` hears of it when the checks have ended too. */
  sweepNow(done: ((result: Swept) => void) | undefined): void {
    const { state } = this
    const { examined, recycled } = state.sweeper.sweep(this.background.now())
    const finish = () => {
      if (state.listening) state.tell({ _tag: "Swept", recycled: recycled.length }, this.background.now())
      done?.({ examined, recycled })
    }
    if (!this.rules.checks || state.closed) return finish()
    // One sweep's checks at a time, or those of several could empty the pool.
    if (this.checking) {
      if (done === undefined) return finish()
      this.queued.push(() => this.sweepNow(done))
      return
    }
    this.checking = true
    this.checkAll(recycled, () => {
      this.checking = false
      finish()
      // One goes on with checks of its own; those of a closed pool have none, and all of them end.
      while (!this.checking && this.queued.length > 0) this.queued.shift()!()
    })
  }

  private checkAll(recycled: Swept["recycled"], finish: () => void): void {
    const { state } = this
    // Only a few at once, and not more than half: a sweep must not empty the pool.
    const left = Array.from(idleItems(state))
    const { settings: { checkTimeout, openConcurrency }, work } = this.pool
    const atOnce = Math.min(openConcurrency, Math.ceil(left.length / 2))
    let running = 0
    const startNext = (): void => {
      state.sweeper.whenRoom = undefined
      // What came back in this turn is not yet known to be idle from now on.
      state.rush.dateAll()
      while (running < atOnce) {
        // Each may end in a release.
        if (left.length > 0 && state.sweeper.full(running)) {
          state.sweeper.whenRoom = startNext
          break
        }
        const item = left.pop()
        if (item === undefined) break
        const verdict = item.status === "idle" && !state.closed
          ? this.rules.checkAtSweep(item, this.background.now(), state.sweeper.spare)
          : undefined
        // What was asked may have called back into the pool.
        if (verdict === undefined || !item.linked) continue
        running++
        state.takeForSweep(item)
        work.run(item, Effect.scoped(verdict), checkTimeout, "a rule's check", (exit) => {
          running--
          const verdict = Exit.isSuccess(exit) ? exit.value : ruleFailed
          const spoken = state.wasSwept(item, verdict)
          if (spoken !== undefined) recycled.push({ item: item.id, reason: spoken.reason })
          startNext()
        })
      }
      if (running === 0 && left.length === 0) finish()
    }
    startNext()
  }
}

const ruleFailed: Verdict = { reason: "rule failed", also: "none", soft: false }

function* idleItems<A, R>(state: PoolState<A, R>): Iterable<Item<A>> {
  // The coldest is taken first, from the end.
  for (let item = state.idle.warmest; item !== undefined; item = item.colder) yield item
}
