/** What the events of a map tell, against what its counts say. */
import { Effect } from "effect"
import type { QueuePoolMap } from "effect-queuepool"
import type { KeyedContext } from "./keyedModelInside.ts"

export class KeyedEvents {
  private readonly tally = new Map<string, number>()
  private readonly keys = new Set<number>()
  private readonly context: KeyedContext
  private rests = 0

  constructor(context: KeyedContext) {
    this.context = context
  }

  readonly hear = (event: QueuePoolMap.Event<unknown>): void => {
    const { keyOf, world } = this.context
    const key = keyOf(event.key)
    this.tally.set(event._tag, this.of(event._tag) + 1)
    if (event._tag === "KeyAdded") {
      if (this.keys.has(key)) world.fail("events", `key ${key} is added twice`)
      this.keys.add(key)
    } else if (!this.keys.has(key)) {
      world.fail("events", `${event._tag} of key ${key}, which is not there`)
    } else if (event._tag === "KeyRemoved") {
      this.keys.delete(key)
    }
  }

  private of(...tags: ReadonlyArray<string>): number {
    return tags.reduce((sum, tag) => sum + (this.tally.get(tag) ?? 0), 0)
  }

  /** At rest, when all has been heard. */
  check(): void {
    const { map, source, world } = this.context
    if (this.rests++ % 6 > 0) return
    const stats = Effect.runSync(map.stats)
    const heard = [
      this.of("Opened"),
      this.of("OpenFailed"),
      this.of("Abandoned"),
      this.of("Borrowed"),
      this.of("Returned"),
      this.of("TakenBack"),
      this.keys.size
    ]
    const { abandoned, borrowed, keys, openFailures, opened, returned, takenBack } = stats
    const counted = [opened, openFailures, abandoned, borrowed, returned, takenBack, keys]
    // When all is closed nothing is heard any more, and what went last may not have been.
    if (source.shutAt < Infinity) return
    if (heard.join() !== counted.join()) world.fail("events", `${heard.join()} heard, ${counted.join()} counted`)
  }

  /** The map is closed. */
  checkEnd(): void {
    if (this.keys.size > 0) this.context.world.fail("events", `${this.keys.size} keys were not removed`)
  }
}
