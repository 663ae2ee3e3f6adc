/** Pools that share a budget, and a server that is full at times. */
import { assert } from "@effect/vitest"
import { Capacity, QueuePool } from "effect-queuepool"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Refused, Source, type Thing } from "./items.ts"

export type Pool = QueuePool.QueuePool<Thing, Refused>
export type Options = Partial<QueuePool.Options<Thing, Refused>>

export interface Sharer {
  readonly source: Source
  readonly pool: Pool
}

/** So many pools on one budget, each with a source of its own. */
export const pools = <const N extends number>(
  count: N,
  capacity: Capacity.Capacity,
  options: Options = {}
): Effect.Effect<Tuple<N>, never, Scope.Scope> =>
  Effect.orDie(Effect.forEach(Array.from({ length: count }, (_, i) => i), (i) => {
    const source = new Source()
    const pool = QueuePool.make<Thing, Refused, Scope.Scope>({
      max: 10,
      drainTimeout: 0,
      name: `pool ${i}`,
      capacity,
      ...options,
      acquire: source.acquire
    })
    return Effect.map(pool, (pool): Sharer => ({ source, pool: pool as never }))
  })) as never

type Tuple<N extends number> = number extends N ? Array<Sharer>
  : N extends 1 ? [Sharer]
  : N extends 2 ? [Sharer, Sharer]
  : N extends 3 ? [Sharer, Sharer, Sharer]
  : Array<Sharer>

/** The counts of the only budget. */
export const one = <E>(capacity: Capacity.Capacity<E>) => Effect.map(capacity.stats, ([stats]) => stats!)

/** Nobody holds or waits for a permit of these any more. */
export const unused = Effect.fnUntraced(function*<E>(...capacities: ReadonlyArray<Capacity.Capacity<E>>) {
  for (const capacity of capacities) {
    for (const { name, parked, used } of yield* capacity.stats) {
      assert.deepStrictEqual({ used, parked }, { used: 0, parked: 0 }, name)
    }
  }
})

export class Full {
  readonly _tag = "Full"
}

/** A server that takes so many, also from others. */
export class Server {
  room: number
  open = 0
  peak = 0
  refused = 0
  /** When it was asked. */
  readonly asked: Array<number> = []

  constructor(room: number) {
    this.room = room
  }

  readonly acquire: Effect.Effect<number, Full, Scope.Scope> = Effect.acquireRelease(
    Effect.clockWith((clock) =>
      Effect.suspend(() => {
        this.asked.push(clock.currentTimeMillisUnsafe())
        if (this.open >= this.room) {
          this.refused++
          return Effect.fail(new Full())
        }
        this.open++
        this.peak = Math.max(this.peak, this.open)
        return Effect.succeed(this.asked.length)
      })
    ),
    () => Effect.sync(() => void this.open--)
  )
}
