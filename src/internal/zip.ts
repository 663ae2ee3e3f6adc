// Items of several pools at once, without deadlock: the pools are always asked in
// the order in which they were made.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { serialOf } from "./registered.ts"

interface Lends<A, E> {
  readonly getN: (n: number) => Effect.Effect<Array<A>, E, Scope.Scope>
}

export const zipped = <A, E>(pools: ReadonlyArray<Lends<A, E>>): Effect.Effect<Array<A>, E, Scope.Scope> => {
  const places = new Map<Lends<A, E>, Array<number>>()
  for (const [index, pool] of pools.entries()) {
    const known = places.get(pool)
    if (known === undefined) places.set(pool, [index])
    else known.push(index)
  }
  const ordered = Array.from(places).sort(([a], [b]) => serialOf(a) - serialOf(b))
  // Asked for here, where the caller stands above: a pool may want to tell where an item was borrowed.
  const asked = ordered.map(([pool, indexes]) => [pool.getN(indexes.length), indexes] as const)
  return allOrNone(Effect.suspend(() => {
    const items: Array<A> = []
    const lend = ([some, indexes]: typeof asked[number]) =>
      Effect.map(some, (lent) => {
        for (const [i, index] of indexes.entries()) items[index] = lent[i]!
      })
    return Effect.as(Effect.forEach(asked, lend, { discard: true }), items)
  }))
}

/** What it adds to the scope is taken out again when it fails: as after a success, for nobody has used it. */
const allOrNone = <A, E>(self: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Scope.Scope,
      (outer) =>
        Effect.flatMap(Scope.fork(outer), (inner) =>
          Effect.onExit(
            restore(Scope.provide(self, inner)),
            (exit) => Exit.isFailure(exit) ? Scope.close(inner, Exit.void) : Effect.void
          ))
    )
  )
