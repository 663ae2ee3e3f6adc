// Every deadline of all pools of a Background on one sleeping fiber. It sleeps until
// the earliest and is only started anew when an earlier one comes: a deadline that is
// cancelled, as most are, costs no timer. Each pool has alarms of its own, and they end
// with it: it stands in the sleeper's heap once, with the first of them.
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { Heap, type Node } from "./heap.ts"

export interface Alarm {
  dueAt: number
  slot: number
  readonly ring: () => void
}

/** The fiber that sleeps, for as long as any pool has an alarm. */
export class Sleeper {
  private readonly pools = new Heap<Alarms>()
  private readonly clock: Clock.Clock
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private sleeping: Fiber.Fiber<void> | undefined = undefined
  private wakesAt = Infinity
  private waking = false

  constructor(clock: Clock.Clock, now: () => number, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.clock = clock
    this.now = now
    this.fork = fork
  }

  /** The first alarm of a pool is another now; Infinity: it has none. */
  move(alarms: Alarms, at: number): void {
    this.pools.remove(alarms)
    alarms.dueAt = at
    if (at === Infinity) return
    this.pools.push(alarms)
    this.sleep()
  }

  /** The pool is gone. With the last that has an alarm, so is the fiber. */
  forget(alarms: Alarms): void {
    this.pools.remove(alarms)
    if (this.pools.size === 0) this.end()
  }

  private end(): void {
    const { sleeping } = this
    this.sleeping = undefined
    this.wakesAt = Infinity
    sleeping?.interruptUnsafe()
  }

  private sleep(): void {
    const next = this.pools.top
    if (this.waking || next === undefined || next.dueAt >= this.wakesAt) return
    this.end()
    this.wakesAt = next.dueAt
    // A timer counts whole milliseconds and may be early by a part of one.
    const millis = Math.max(1, Math.ceil(next.dueAt - this.now()))
    const fiber = this.fork(this.clock.sleep(Duration.millis(millis)))
    this.sleeping = fiber
    fiber.addObserver(() => {
      if (this.sleeping === fiber) this.wake()
    })
  }

  private wake(): void {
    this.sleeping = undefined
    this.wakesAt = Infinity
    const now = this.now()
    this.waking = true
    // One that throws must not cost the others, which may be other pools'.
    try {
      for (let next = this.pools.top; next !== undefined && next.dueAt <= now; next = this.pools.top) next.ringFirst()
    } finally {
      this.waking = false
      this.sleep()
    }
  }
}

/** The alarms of one pool. */
export class Alarms implements Node {
  /** When the first rings, and its place among those of other pools. */
  dueAt = Infinity
  slot = -1
  private readonly heap = new Heap<Alarm>()
  private readonly sleeper: Sleeper
  private stopped = false

  constructor(sleeper: Sleeper) {
    this.sleeper = sleeper
  }

  make(ring: () => void): Alarm {
    return { dueAt: Infinity, slot: -1, ring }
  }

  /** Rings once, at or after the time given; a time set before no longer counts. */
  set(alarm: Alarm, at: number): void {
    this.heap.remove(alarm)
    alarm.dueAt = at
    if (at < Infinity) this.heap.push(alarm)
    this.moved()
  }

  cancel(alarm: Alarm): void {
    if (alarm.slot < 0) return
    this.heap.remove(alarm)
    this.moved()
  }

  /** None rings any more, whatever is set. */
  stop(): void {
    this.stopped = true
    this.sleeper.forget(this)
  }

  ringFirst(): void {
    const alarm = this.heap.top!
    this.cancel(alarm)
    alarm.ring()
  }

  private moved(): void {
    const at = this.heap.top?.dueAt ?? Infinity
    if (at !== this.dueAt && !this.stopped) this.sleeper.move(this, at)
  }
}
