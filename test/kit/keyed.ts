/** A map of pools over scripted sources, one for each key, and what must hold of it. */
import { assert } from "@effect/vitest"
import { type PoolError, type QueuePool, QueuePoolMap } from "effect-queuepool"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { borrow as borrowOf } from "./books.ts"
import { type Refused, settle, Source, type Thing } from "./items.ts"

export type Things = QueuePoolMap.QueuePoolMap<string, Thing, Refused>
export type Options = QueuePoolMap.Options<string, Thing, Refused, Scope.Scope>

export class Sources {
  private readonly all = new Map<string, Source>()

  of(key: string): Source {
    const known = this.all.get(key)
    if (known !== undefined) return known
    const source = new Source()
    this.all.set(key, source)
    return source
  }

  readonly acquire = (key: string): Source["acquire"] => Effect.suspend(() => this.of(key).acquire)

  get live(): number {
    return Array.from(this.all.values()).reduce((sum, { live }) => sum + live, 0)
  }

  get opened(): number {
    return Array.from(this.all.values()).reduce((sum, { opened }) => sum + opened.length, 0)
  }

  /** No item was closed twice. */
  get once(): boolean {
    return Array.from(this.all.values()).every(({ closed }) => new Set(closed).size === closed.length)
  }
}

/** A map over new sources. */
export const make = Effect.fnUntraced(function*(options: Partial<Options> = {}) {
  const sources = new Sources()
  const map: Things = yield* QueuePoolMap.make({ acquire: sources.acquire, ...options })
  return { map, sources }
})

/** A borrower of a key that keeps its item until it is let go. */
export const borrow = (map: Things, key: string) =>
  borrowOf({ use: map.use.bind(map, key) } as unknown as QueuePool.QueuePool<Thing, Refused>)

/** One lease. */
export const use = (map: Things, key: string): Effect.Effect<number, Refused | PoolError.PoolError> =>
  map.use(key, ({ id }) => Effect.succeed(id))

/** What is there of a key, in a few numbers; undefined when the map has nothing of it. */
export const counts = (map: Things, key: string) =>
  Effect.map(map.statsOf(key), (found) => {
    if (Option.isNone(found)) return undefined
    const { closing, idle, opening, pending, used } = found.value
    return { idle, used, opening, closing, pending }
  })

/** All that is open of all keys, as the map counts it. */
export const size = (map: Things) =>
  Effect.map(map.stats, ({ closing, idle, opening, used }) => idle + used + opening + closing)

/** The items of a key: what is open, and what is under way. */
export const sizeOf = (map: Things, key: string) =>
  Effect.map(
    counts(map, key),
    (found) => found === undefined ? 0 : found.idle + found.used + found.opening + found.closing
  )

/**
 * The books of a map at rest agree with those of its sources, over all keys that are and
 * that were. `lent`: how many leases the scenario still has; `stuck`: items that were
 * abandoned and are open still.
 */
export const books = Effect.fnUntraced(function*(
  sources: Sources,
  map: Things,
  expected: { readonly lent?: number; readonly stuck?: number } = {}
) {
  const { lent = 0, stuck = 0 } = expected
  yield* settle
  const stats = yield* map.stats
  const { abandoned, closed, closing, idle, keys, leases, opened, opening, parked, pending, used } = stats
  assert.deepStrictEqual(
    { used, leases, pending, opening, closing, parked },
    { used: lent, leases: lent, pending: 0, opening: 0, closing: 0, parked: 0 }
  )
  assert.strictEqual(opened, closed + abandoned + idle + used, "opened = closed + abandoned + live")
  assert.strictEqual(sources.live, idle + used + stuck, "live items")
  assert.isTrue(sources.once, "closed once each")
  assert.isAtMost(idle + used, stats.maxTotal)
  assert.strictEqual(stats.borrowed - stats.returned - stats.takenBack, used)
  const each = yield* Effect.forEach(yield* map.keys, map.statsOf)
  assert.strictEqual(each.length, keys)
  assert.strictEqual(each.reduce((sum, found) => sum + Option.getOrThrow(found).idle, 0), idle)
  return stats
})

/** The events from now on, each as "key tag item reason", as far as it has them. */
export const record = Effect.fnUntraced(function*(map: Things) {
  const events: Array<QueuePoolMap.Event<string>> = []
  const fiber = yield* Effect.forkScoped(
    Stream.runForEach(map.events, (event) => Effect.sync(() => void events.push(event)))
  )
  yield* settle
  return {
    events,
    fiber,
    get told() {
      return events.map(tell)
    }
  }
})

const tell = (event: QueuePoolMap.Event<string>): string => {
  const { _tag, item, key, reason } = event as { _tag: string; key: string; item?: number; reason?: string }
  return [key, _tag, item, reason].filter((part) => part !== undefined).join(" ")
}
