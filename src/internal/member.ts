// What a pool is to those with whom it shares permits.
import type { Background } from "./background.ts"
import type { Cold } from "./colds.ts"
import type { Item } from "./item.ts"
import type { Alarm, Member } from "./seat.ts"
import type { PoolState } from "./state.ts"

export class PoolMember<A, R> implements Member {
  private readonly background: Background<R>
  private readonly state: () => PoolState<A, R>
  private waking = false

  constructor(background: Background<R>, state: () => PoolState<A, R>) {
    this.background = background
    this.state = state
  }

  wake(): void {
    if (this.waking) return
    this.waking = true
    this.later(() => {
      this.waking = false
      this.state().pump(this.now())
    })
  }

  later(task: () => void): void {
    this.background.later(task)
  }

  alarm(ring: () => void): Alarm {
    const { alarms } = this.background
    const alarm = alarms.make(ring)
    return { set: (at) => alarms.set(alarm, at), cancel: () => alarms.cancel(alarm) }
  }

  now(): number {
    return this.background.now()
  }

  random(): number {
    return this.background.random()
  }

  turn(opens: number): number {
    return this.state().turnOf(opens)
  }

  get atMin(): boolean {
    return this.state().sweeper.spare
  }

  reclaim({ item }: Cold): void {
    this.state().ending.out(item as Item<A>, "reclaimed", this.now())
  }
}
