// Control of a pool that is in use: it is suspended, resumed, made larger or smaller.
import { Suspended } from "../PoolError.ts"
import type { Ending } from "./ending.ts"
import type { Pooled, Size } from "./pooled.ts"
import type { Queue } from "./queue.ts"
import type { Serving } from "./serving.ts"
import type { Sweeper } from "./sweeper.ts"

/** The state machine as this part sees it. */
interface Controlled<A> extends Pooled<A> {
  suspended: boolean
}

/** The other parts of the state machine that it works with. */
interface Parts<A, R> {
  readonly ending: Ending<A, R>
  readonly queue: Queue<A>
  readonly serving: Serving<A, R>
  readonly sweeper: Sweeper<A, R>
}

export class Control<A, R> {
  private readonly state: Controlled<A>
  private readonly ending: Ending<A, R>
  private readonly queue: Queue<A>
  private readonly serving: Serving<A, R>
  private readonly sweeper: Sweeper<A, R>
  private readonly now: () => number

  constructor(state: Controlled<A>, { ending, queue, serving, sweeper }: Parts<A, R>, now: () => number) {
    this.state = state
    this.ending = ending
    this.queue = queue
    this.serving = serving
    this.sweeper = sweeper
    this.now = now
  }

  /** Nobody is lent anything and nothing is opened until `resume`. */
  suspend(): void {
    const { state } = this
    if (state.halted) return
    const now = this.now()
    state.suspended = state.halted = true
    if (state.listening) state.tell({ _tag: "Suspended" }, now)
    if (state.settings.refuses) this.queue.refuseAll({ _tag: "Pool", reason: new Suspended() }, now)
    // Nothing is opened for those who stay: they keep no permit from others.
    if (state.budget !== undefined) state.pump(now)
  }

  resume(): void {
    const { state } = this
    if (!state.suspended || state.closed) return
    const now = this.now()
    state.suspended = state.halted = false
    if (state.listening) state.tell({ _tag: "Resumed" }, now)
    // Items came back meanwhile: also those whom an open or a check is for need not wait for it.
    const { idle, waiters } = state
    let left = waiters.size
    while (left > 0 && waiters.size > 0 && idle.size > 0 && !state.halted) if (this.serving.serveNext(now)) left--
    state.pump(now)
  }

  /** Idle items above the new `max` go now, the coldest first, and others when they come back. */
  resize(size: Size): void {
    const { state } = this
    if (state.closed) return
    const { idle, settings } = state
    const now = this.now()
    Object.assign(settings, size)
    state.ease()
    idle.fit()
    if (state.listening) state.tell({ _tag: "Resized", ...size }, now)
    const above = Math.max(idle.size + state.lent - size.max, idle.size - size.maxIdle)
    for (let left = above; left > 0 && idle.coldest !== undefined; left--) {
      const { coldest } = idle
      idle.remove(coldest)
      this.ending.recycle(coldest, "resized", now)
    }
    this.queue.refuseGroups(size.max, now)
    this.sweeper.unspare(now)
    state.pump(now)
  }
}
