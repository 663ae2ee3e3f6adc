// Every deadline of a pool on one sleeping fiber. It sleeps until the earliest
// and is only started anew when an earlier one comes: a deadline that is
// cancelled, as most are, costs no timer.
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { Heap } from "./heap.ts"

export interface Alarm {
  dueAt: number
  slot: number
  readonly ring: () => void
}

export class Alarms {
  private readonly heap = new Heap<Alarm>()
  private readonly clock: Clock.Clock
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private sleeping: Fiber.Fiber<void> | undefined = undefined
  private wakesAt = Infinity
  private stopped = false

  constructor(clock: Clock.Clock, now: () => number, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.clock = clock
    this.now = now
    this.fork = fork
  }

  make(ring: () => void): Alarm {
    return { dueAt: Infinity, slot: -1, ring }
  }

  /** Rings once, at or after the time given; a time set before no longer counts. */
  set(alarm: Alarm, at: number): void {
    this.heap.remove(alarm)
    alarm.dueAt = at
    if (this.stopped || at === Infinity) return
    this.heap.push(alarm)
    this.sleep()
  }

  cancel(alarm: Alarm): void {
    this.heap.remove(alarm)
  }

  stop(): void {
    this.stopped = true
    this.sleeping?.interruptUnsafe()
    this.sleeping = undefined
  }

  private sleep(): void {
    const next = this.heap.top
    if (this.stopped || next === undefined || next.dueAt >= this.wakesAt) return
    const previous = this.sleeping
    this.sleeping = undefined
    previous?.interruptUnsafe()
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
    for (let alarm = this.heap.top; alarm !== undefined && alarm.dueAt <= now; alarm = this.heap.top) {
      this.heap.remove(alarm)
      alarm.ring()
    }
    this.sleep()
  }
}
