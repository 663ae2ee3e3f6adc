/** Several endpoints, each a pool of scripted items, and a choice among them. */
import { assert } from "@effect/vitest"
import { type PoolError, QueuePool } from "effect-queuepool"
import * as Balanced from "effect-queuepool/Balanced"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { settle, Source, type Thing } from "./items.ts"
import type { Refused } from "./items.ts"

type Pool = QueuePool.QueuePool<Thing, Refused>
type PoolOptions = Partial<QueuePool.Options<Thing, Refused>>

/** What a keyed pool offers to a choice. Each key has its own pool and its own source. */
export class Endpoints implements Balanced.Lender<string, Thing, Refused> {
  readonly name = "servers"
  readonly sources = new Map<string, Source>()
  readonly pools = new Map<string, Pool>()

  source(key: string): Source {
    return this.sources.get(key)!
  }

  pool(key: string): Pool {
    return this.pools.get(key)!
  }

  get(key: string): Effect.Effect<Thing, Refused | PoolError.PoolError, Scope.Scope> {
    return this.pool(key).get
  }

  use<B, E2, R2>(
    key: string,
    f: (item: Thing) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, Refused | E2 | PoolError.PoolError, R2> {
    return this.pool(key).use(f)
  }

  getIfAvailable(key: string): Effect.Effect<Option.Option<Thing>, PoolError.PoolError, Scope.Scope> {
    return this.pool(key).getIfAvailable
  }

  useIfAvailable<B, E2, R2>(
    key: string,
    f: (item: Thing) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError.PoolError, R2> {
    return this.pool(key).useIfAvailable(f)
  }

  statsOf(key: string): Effect.Effect<Option.Option<QueuePool.Stats>> {
    return Effect.asSome(this.pool(key).stats)
  }
}

export const endpoints = Effect.fnUntraced(function*(keys: Iterable<string>, options: PoolOptions = {}) {
  const lender = new Endpoints()
  for (const key of keys) {
    const source = new Source()
    lender.sources.set(key, source)
    lender.pools.set(key, yield* QueuePool.make({ acquire: source.acquire, name: key, max: 100, ...options }))
  }
  return lender
})

/** `n` keys: "e0", "e1", ... */
export const keys = (n: number): Array<string> => Array.from({ length: n }, (_, i) => `e${i}`)

type Choice = Balanced.Balanced<string, Thing>

/** Where a borrower comes that leaves at once. */
export const where = (balanced: Choice) => balanced.use((_, key) => Effect.succeed(key))

/** How often each endpoint was chosen. */
export const tally = (chosen: Iterable<string>): Record<string, number> => {
  const counts: Record<string, number> = {}
  for (const key of chosen) counts[key] = (counts[key] ?? 0) + 1
  return counts
}

/** Borrows so often, one after the other. */
export const visits = (balanced: Choice, times: number) =>
  Effect.forEach(Array.from({ length: times }), () => where(balanced))

/** A borrower that keeps its item until it is let go. */
export const hold = Effect.fnUntraced(function*(balanced: Choice) {
  const done = yield* Deferred.make<void>()
  let at: string | undefined
  const fiber: Fiber.Fiber<string, PoolError.PoolError> = yield* Effect.forkChild(balanced.use((_, key) => {
    at = key
    return Effect.as(Deferred.await(done), key)
  }))
  yield* settle
  return {
    fiber,
    /** Undefined as long as it waits. */
    get at() {
      return at
    },
    letGo: Effect.andThen(Deferred.succeed(done, undefined), settle)
  }
})

/** So many borrowers at once, who keep what they get until they are interrupted. */
export const crowd = Effect.fnUntraced(function*(balanced: Choice, size: number) {
  const fibers = yield* Effect.forEach(
    Array.from({ length: size }),
    () => Effect.forkChild(balanced.use(() => Effect.never))
  )
  yield* settle
  return { leave: Effect.andThen(Fiber.interruptAll(fibers), settle) }
})

/** The endpoints in short. */
export const loads = (balanced: Choice) =>
  Effect.map(balanced.endpoints, (all) => Object.fromEntries(all.map(({ key, load }) => [key, load])))

export const ejected = (balanced: Choice) =>
  Effect.map(balanced.endpoints, (all) => all.filter(({ ejected }) => ejected).map(({ key }) => key))

/** Nobody has anything, nobody waits, and nothing of it is left in the choice or in the pools. */
export const atRest = Effect.fnUntraced(function*(lender: Endpoints, balanced: Choice, at = "") {
  yield* settle
  for (const [key, load] of Object.entries(yield* loads(balanced))) assert.strictEqual(load, 0, `load of ${key} ${at}`)
  for (const [key, pool] of lender.pools) {
    const { leases, pending, used } = yield* pool.stats
    assert.deepStrictEqual({ leases, pending, used }, { leases: 0, pending: 0, used: 0 }, `${key} ${at}`)
  }
})

/** What an effect has failed with: the endpoints tried and the tags of what each told. */
export const triedBy = (exit: Exit.Exit<unknown, unknown>): ReadonlyArray<readonly [string, string]> => {
  if (Exit.isSuccess(exit)) return assert.fail("it has succeeded")
  const error = exit.cause.reasons.map((reason) => reason._tag === "Fail" ? reason.error : undefined)[0]
  const { reason } = error as PoolError.PoolError
  if (reason._tag !== "NoEndpoint") return assert.fail(reason._tag)
  return reason.tried.map(({ cause, endpoint }) => {
    const told = cause.reasons[0]!
    if (told._tag !== "Fail") return [endpoint, told._tag]
    const failed = told.error as { readonly _tag: string; readonly reason?: { readonly _tag: string } }
    return [endpoint, failed.reason?._tag ?? failed._tag]
  })
}
