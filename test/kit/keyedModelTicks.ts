/** A timetable of a run's own, beside the clock that the pools see. */
import type { World } from "./world.ts"

/** Things that are to happen at a time, after all that the pools do then. */
export class Ticks {
  private readonly list: Array<{ readonly at: number; readonly run: () => void }> = []
  private readonly world: World

  constructor(world: World) {
    this.world = world
  }

  get size(): number {
    return this.list.length
  }

  after(millis: number, run: () => void): () => void {
    const tick = { at: this.world.now + millis, run }
    let at = this.list.length
    while (at > 0 && this.list[at - 1]!.at > tick.at) at--
    this.list.splice(at, 0, tick)
    return () => {
      const index = this.list.indexOf(tick)
      if (index >= 0) this.list.splice(index, 1)
    }
  }

  /** The next timer of all. */
  private get wakesAt(): number {
    return (this.world as unknown as { readonly sleeps: ReadonlyArray<{ readonly at: number }> }).sleeps.at(-1)?.at ??
      Infinity
  }

  /** What runs may add others. */
  advance(millis: number): void {
    const { list, world } = this
    const end = world.now + millis
    world.settle()
    this.run()
    while (world.now < end && world.violation === undefined) {
      const next = Math.min(list[0]?.at ?? end, this.wakesAt, end)
      world.advance(Math.max(next - world.now, 1))
      this.run()
    }
  }

  private run(): void {
    const { list, world } = this
    while (list.length > 0 && list[0]!.at <= world.now) {
      list.shift()!.run()
      world.settle()
    }
  }
}
