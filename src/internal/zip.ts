// Items of several pools at once, without deadlock: the pools are always asked in
// the order in which they were made.
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { PoolError } from "../PoolError.ts"
import { type Group, taken } from "./group.ts"
import { behind, serialOf } from "./registered.ts"
import type { Site } from "./site.ts"

/** What stands behind a public pool. */
interface Lends<A, E> {
  readonly borrowing: {
    readonly site: Site | undefined
    readonly group: (n: number, site: Site | undefined) => Group<A, E>
  }
}

export const zipped = <A, E>(pools: ReadonlyArray<object>): Effect.Effect<Array<A>, E | PoolError, Scope.Scope> => {
  const places = new Map<object, Array<number>>()
  for (const [index, pool] of pools.entries()) {
    const known = places.get(pool)
    if (known === undefined) places.set(pool, [index])
    else known.push(index)
  }
  const ordered = Array.from(places).sort(([a], [b]) => serialOf(a) - serialOf(b))
  // Asked for here, where the caller stands above: a pool may want to tell where an item was borrowed.
  const asked: Array<readonly [Lends<A, E>["borrowing"], ReadonlyArray<number>, Site | undefined]> = []
  for (const [pool, indexes] of ordered) {
    const { borrowing } = behind(pool) as Lends<A, E>
    asked.push([borrowing, indexes, borrowing.site])
  }
  return Effect.withFiber((fiber) => {
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    const groups = asked.map(([borrowing, { length }, site]) => borrowing.group(length, site))
    return Effect.map(taken(scope, groups), (lent) => {
      const items: Array<A> = []
      for (const [group, [, indexes]] of asked.entries()) {
        for (const [i, index] of indexes.entries()) items[index] = lent[group]![i]!
      }
      return items
    })
  })
}
