/**
 * A budget that several pools share.
 *
 * A pool whose option `capacity` names one opens an item only while it holds a permit,
 * and gives it back when the item is closed or abandoned. When no permit is free, the
 * open is parked and begins as soon as one is: nobody fails before its own
 * `borrowTimeout`. Pools that are short make the others close idle items, the coldest
 * of all pools first, and a pool that has more than its share recycles what comes back
 * instead of lending it to its own next borrower.
 *
 * **Example** (Two pools, never more than three items together)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Capacity, QueuePool } from "effect-queuepool"
 *
 * const program = Effect.gen(function*() {
 *   const capacity = yield* Capacity.make({ name: "server", permits: 3 })
 *   const readers = yield* QueuePool.make({ acquire: Effect.succeed("reader"), max: 3, capacity })
 *   const writers = yield* QueuePool.make({ acquire: Effect.succeed("writer"), max: 3, capacity })
 *   yield* Effect.scoped(readers.getN(3))
 *   // All three are idle readers: one of them is closed to make room.
 *   return yield* writers.use((writer) => Effect.succeed(writer))
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => "writer"
 * ```
 *
 * @since 1.0.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import { isRegistered, permitsOf, registerCapacity } from "./internal/capacities.ts"
import { LearntPermits } from "./internal/learntPermits.ts"
import { budgetOf, permitsNumber } from "./internal/options.ts"
import { Permits } from "./internal/permits.ts"
import type { PoolError } from "./PoolError.ts"

const TypeId = "~effect-queuepool/Capacity"

/**
 * A budget for pools whose opening may fail with an error that `E` covers.
 *
 * @category models
 * @since 1.0.0
 */
export interface Capacity<in E = unknown> extends Pipeable {
  readonly [TypeId]: (error: E) => void
  /** The budgets that it is made of, with the counts of this moment. */
  readonly stats: Effect.Effect<ReadonlyArray<Stats>>
}

/**
 * A budget with a size.
 *
 * @category models
 * @since 1.0.0
 */
export interface Budget extends Capacity {
  /**
   * Gives the budget another size while it is in use. When that is smaller than what is
   * in use, idle items are recycled now, the coldest first, and lent ones when they come
   * back, until it fits.
   */
  resize(permits: number): Effect.Effect<void, PoolError>
}

/**
 * What a budget holds.
 *
 * @category models
 * @since 1.0.0
 */
export interface Stats {
  readonly name: string
  /** Infinity where nothing limits it, or no limit is known. */
  readonly permits: number
  /** Permits of items, of opens under way, and of what is closing. */
  readonly used: number
  /** How many opens wait for a permit that a borrower needs. */
  readonly parked: number
}

/**
 * The size of a budget, and who comes first when it is short.
 *
 * @category models
 * @since 1.0.0
 */
export interface Options {
  /** The label in errors, events and stats. Default: `"capacity"`. */
  readonly name?: string | undefined
  /** How many items its pools may have together; may be Infinity. */
  readonly permits: number
  /**
   * With `"share"` (default) a permit goes to the pool that has the fewest, and of equals
   * to the one that was served longest ago; a pool that has more than its max-min fair
   * share gives up an item at each return, and so a pool that comes late is served within
   * one longest lease. Pools that need several items at once (`getN`, `zip`) may then each
   * have a part, until the time of one is over. An item that is idle while somebody waits
   * goes to who waits, though its own pool may want it in a moment: of pools that have
   * their shares and all want more, one lease in ten or twenty costs an open; where fewer
   * permits are than pools that want one, nearly every lease does. With `"arrival"` the borrower that came
   * first goes first, whatever its pool has: each change from one pool to the other costs
   * a close and an open.
   */
  readonly fairness?: "share" | "arrival" | undefined
}

class CapacityImpl implements Capacity {
  declare readonly [TypeId]: (error: unknown) => void
  private readonly permits: ReadonlyArray<Permits>

  /** Without permits it is none, and every pool refuses it by name. */
  constructor(permits: ReadonlyArray<Permits> | undefined) {
    this.permits = permits ?? []
    if (permits !== undefined) registerCapacity(this, permits)
  }

  readonly stats: Effect.Effect<ReadonlyArray<Stats>> = Effect.sync(() =>
    this.permits.map(({ demand, name, total, used }) => ({ name, permits: total, used, parked: demand }))
  )

  pipe() {
    return pipeArguments(this, arguments)
  }
}

class BudgetImpl extends CapacityImpl implements Budget {
  private readonly budget: Permits

  constructor(budget: Permits) {
    super([budget])
    this.budget = budget
  }

  readonly resize = (permits: number): Effect.Effect<void, PoolError> =>
    Effect.suspend(() =>
      Effect.map(permitsNumber(this.budget.name, "permits", permits), (total) => {
        this.budget.resize(total)
      })
    )
}

/**
 * No limit at all: what a pool has that names no capacity.
 *
 * @category constructors
 * @since 1.0.0
 */
export const unlimited: Capacity = new CapacityImpl([])

/**
 * A budget of so many permits, for any pools of this process.
 *
 * **Details**
 *
 * Fails with `InvalidOptions` that names every wrong option. The budget holds nothing
 * that must be closed: it lives as long as its pools.
 *
 * A pool's `min` is spared as long as others have idle items, and refilled when nobody
 * waits for a permit. An item that was detached keeps its permit until it is released.
 * What takes longer than a second to close keeps its permit too, but nobody counts on it:
 * another idle item is closed instead.
 *
 * @category constructors
 * @since 1.0.0
 */
export const make = (options: Options): Effect.Effect<Budget, PoolError> =>
  Effect.map(budgetOf(options), ({ fairness, name, permits }) => new BudgetImpl(new Permits(name, permits, fairness)))

/**
 * Several budgets at once: an open needs a permit of each.
 *
 * **Details**
 *
 * A borrower's open takes them in one order, that of the budget made last first and those of
 * `fromRefusal` at the end, and keeps what it has while it waits for the next; so two pools
 * never wait for one another, and a pool that needs several is not passed for ever by those
 * that need one. What is opened ahead of need takes all at once or none.
 *
 * **Gotchas**
 *
 * Make the widest budget first, that of the server before those of the tenants: what is
 * kept while the server is full is then a permit of one tenant alone. The other way round,
 * a permit of the server would be kept for a tenant that has reached its own limit.
 *
 * @category combinators
 * @since 1.0.0
 */
export const all = <E = unknown>(capacities: ReadonlyArray<Capacity<E>>): Capacity<E> =>
  new CapacityImpl(capacities.every(isRegistered) ? permitsOf(...capacities) : undefined)

/**
 * A limit that nobody knows but the server: when an open fails with an error that means
 * "full", its borrower is not told, but waits, with its own timeout, until there is room.
 * Who makes an eager pool, or swaps, is told.
 *
 * **Details**
 *
 * The budget is then what was in use. An open is tried again when an item of these pools
 * is closed, for which idle ones are, and otherwise after a delay: 100 ms, doubled to 5
 * seconds, less up to a fifth at random. When one that is beyond what was in use works, the
 * budget grows, twice as fast each time. A predicate that throws means: not full.
 *
 * **Example** (A server that takes two)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Capacity, QueuePool } from "effect-queuepool"
 *
 * let open = 0
 * const acquire = Effect.acquireRelease(
 *   Effect.suspend(() => open < 2 ? Effect.succeed(++open) : Effect.fail("too many connections")),
 *   () => Effect.sync(() => open--)
 * )
 * const capacity = Capacity.fromRefusal((error: string) => error === "too many connections")
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* QueuePool.make({ acquire, max: 10, capacity })
 *   const lease = pool.use(() => Effect.as(Effect.sleep("1 millis"), "served"))
 *   return yield* Effect.all([lease, lease, lease], { concurrency: "unbounded" })
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => ["served", "served", "served"]
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
// A predicate is not a subject to pipe.
// @effect-diagnostics-next-line missingPipeableSignature:off
export const fromRefusal = <E>(
  isFull: (error: E) => boolean,
  options?: { readonly name?: string | undefined }
): Capacity<E> =>
  new CapacityImpl(
    typeof isFull === "function"
      ? [new LearntPermits(options?.name ?? "capacity", isFull as (error: unknown) => boolean)]
      : undefined
  )

/**
 * The capacity of pools that name none: unlimited, unless the program provides one.
 *
 * **Example** (One budget for all pools of a program)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Capacity, QueuePool } from "effect-queuepool"
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* QueuePool.make({ acquire: Effect.succeed("item"), max: 10 })
 *   yield* Effect.scoped(pool.get)
 *   const [budget] = yield* (yield* Capacity.Current).stats
 *   return budget?.used
 * })
 *
 * const limited = Effect.provide(Effect.scoped(program), Capacity.layer({ name: "process", permits: 20 }))
 *
 * await Effect.runPromise(limited) // => 1
 * ```
 *
 * @category services
 * @since 1.0.0
 */
export const Current: Context.Reference<Capacity> = Context.Reference<Capacity>("effect-queuepool/Capacity", {
  defaultValue: () => unlimited
})

/**
 * Provides a budget to all pools that name none.
 *
 * @category layers
 * @since 1.0.0
 */
export const layer = (options: Options): Layer.Layer<never, PoolError> => Layer.effect(Current, make(options))
