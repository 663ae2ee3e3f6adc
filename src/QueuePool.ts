/**
 * Pools of scoped items with a hard bound, a deadline for every wait, and rules
 * for the end of an item's life.
 *
 * @since 1.0.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type { Pipeable } from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Capacity from "./Capacity.ts"
import { permitsOf } from "./internal/capacities.ts"
import { compact, type Settings, settingsOf } from "./internal/options.ts"
import { type Effects, Pool } from "./internal/pool.ts"
import { QueuePoolImpl, TypeId } from "./internal/queuePool.ts"
import { compile, type Rules } from "./internal/rules.ts"
import { at, hereInScope } from "./internal/site.ts"
import { Source } from "./internal/source.ts"
import { zipped } from "./internal/zip.ts"
import type { PoolError } from "./PoolError.ts"
import type { PoolEvent } from "./PoolEvent.ts"
import type * as RecyclePolicy from "./RecyclePolicy.ts"

/**
 * A pool of items of type `A`, whose opening may fail with `E`.
 *
 * @category models
 * @since 1.0.0
 */
export interface QueuePool<in out A, out E = never> extends Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  /**
   * Lends an item to the current scope; it is given back when the scope closes,
   * with the scope's `Exit`.
   *
   * **Details**
   *
   * An idle item is lent at once, without an asynchronous step, unless a `check`
   * is due. Otherwise the
   * borrower waits its turn, first come first served, for at most
   * `borrowTimeout`. It fails with the `E` of an open that was for it, or with a
   * `PoolError` whose reason is `BorrowTimeout`, `TooManyWaiters`, `OpenTimeout`
   * or `Closed`. Interruption gives up the place in the queue and loses nothing,
   * whatever its moment: an open that was under way goes on and its item serves
   * the next borrower.
   */
  readonly get: Effect.Effect<A, E | PoolError, Scope.Scope>
  /**
   * Lends an item for one effect and takes it back when the effect ends, in any
   * way. Waits, fails and is interrupted as `get`, and costs no scope.
   *
   * **Details**
   *
   * With `maxLease` or `monitor` the effect runs in a fiber of its own, which ends what
   * it has forked as a child when it ends, and a lease that is ended interrupts that
   * fiber alone: `use` then fails with the reason
   * `LeaseEnded` once the effect's finalizers have run. What it forks as its children
   * ends with it.
   */
  use<B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2>
  /**
   * As `get`, for an item that nobody else has meanwhile. The same as `get` unless
   * `concurrency` is above 1.
   *
   * **Details**
   *
   * The borrower waits in the same queue as all others. When no item is idle and none
   * may be opened for it, a shared one takes no newcomer until it is free.
   */
  readonly getExclusive: Effect.Effect<A, E | PoolError, Scope.Scope>
  /** As `use`, for an item that nobody else has meanwhile. */
  useExclusive<B, E2, R2>(f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2>
  /**
   * Lends an item if one is there for the taking: idle and in no need of a check, or
   * shared and with room. Never waits and opens nothing; passes nobody who waits. It
   * fails only with `Closed`, `Suspended` or `HookFailed`.
   */
  readonly getIfAvailable: Effect.Effect<Option.Option<A>, PoolError, Scope.Scope>
  /** As `getIfAvailable`, for one effect, which is not run when there is no item. */
  useIfAvailable<B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError, R2>
  /**
   * Lends `n` different items to the current scope, all or none: a borrower that
   * waits for its last ones cannot be blocked by another that does the same, for the
   * places of both in the queue are one behind the other.
   *
   * **Details**
   *
   * Each of the items is lent as by `getExclusive`, and counts as one borrower of its own.
   * What is there first is kept until all are there, and goes back unused when the borrower
   * fails or is interrupted. Fails as `get`, and with `InvalidOptions` when `n` is above
   * `max`, or comes to be while the borrower waits.
   */
  getN(n: number): Effect.Effect<Array<A>, E | PoolError, Scope.Scope>
  /**
   * Recycles this item: now when it is idle, when it comes back when it is lent.
   * The reason, `"invalidated"` if none is given, stands in events and stats: keep
   * to a few.
   *
   * **Details**
   *
   * A value that is not an item of this pool, or no longer, changes nothing. Of
   * several items with equal values the one is meant that the calling fiber has
   * borrowed, or else the one that was lent last.
   */
  invalidate(item: A, reason?: string): Effect.Effect<void>
  /**
   * Takes a lent item out of the pool for good: its slot is free at once, its lease is
   * over, and it is released when the current scope closes, with no deadline of the
   * pool's. Its permit of a shared `capacity` it keeps until then. It is for the borrower
   * to ask, from whatever fiber: whoever else does has the item released under it. `false`, and nothing changes, when the value is no item
   * of this pool, or nobody has it, or others have it too.
   */
  detach(item: A): Effect.Effect<boolean, never, Scope.Scope>
  /**
   * Recycles every item: the idle ones now, the lent and the opening ones when
   * they come back or arrive. The pool then refills to `min`.
   */
  readonly clear: Effect.Effect<void>
  /**
   * Recycles every item, or with `only: "idle"` those that nobody has. With `over`
   * each goes at a moment of its own within that time, the oldest first, so that the
   * items are not all opened anew at once; of two such orders the sooner counts.
   * Returns at once; the pool does the rest.
   */
  clearWith(options: ClearOptions): Effect.Effect<void, PoolError>
  /**
   * Opens items in a new way from now on: new credentials, another endpoint. The new
   * way is tried once, with one item; only when that is open are the old items
   * recycled, each at a moment of its own within `over` (default: the option
   * `retireOver`), the lent ones when they come back.
   *
   * **Details**
   *
   * When the trial fails, `swap` fails with its error and the pool goes on as before.
   * The trial needs room under `max`: if there is none, one idle item, or the next
   * that comes back, goes for it; it fails with `BorrowTimeout` when none does. It is
   * tried also while the pool is suspended, or other opens fail. Interruption gives
   * the trial up.
   */
  swap<R2>(
    acquire: Effect.Effect<A, E, R2>,
    options?: { readonly over?: Duration.Input | undefined }
  ): Effect.Effect<void, E | PoolError, Exclude<R2, Scope.Scope>>
  /**
   * Gives the pool new bounds while it is in use. Above a smaller `max` idle items are
   * recycled now, the coldest first, and lent or opening ones when they come back or
   * arrive; while more are lent, nothing is lent anew.
   */
  resize(size: SizeInput): Effect.Effect<void, PoolError>
  /**
   * Lends nothing and opens nothing until `resume`. Leases go on, also those whose
   * `onBorrow` still runs, what a `getN` or `zip` has of its items stays with it, and
   * rules and `clear` do their work. Borrowers wait with their timeouts running, or
   * fail with `Suspended`, as the option `whenSuspended` says.
   */
  readonly suspend: Effect.Effect<void>
  /** Serves those who wait, in their order. */
  readonly resume: Effect.Effect<void>
  /**
   * Applies the rules to all idle items now, the coldest first, and tells what was
   * recycled and why. Waits for the effectful checks among the rules, each for at
   * most `checkTimeout`; interruption leaves them to run.
   */
  readonly sweep: Effect.Effect<SweepResult>
  /** The counts of this moment and the totals since the pool was made. */
  readonly stats: Effect.Effect<Stats>
  /**
   * Every transition from the moment of subscription until the pool is closed. A
   * listener that falls 4096 events behind loses the oldest; it never slows the
   * pool. Subscribe before what you want to see: a fiber that is to run the stream
   * must have begun, as with `Effect.forkScoped({ startImmediately: true })`.
   */
  readonly events: Stream.Stream<PoolEvent>
}

/**
 * What a pool holds and has done. The counts are one consistent moment.
 *
 * @category models
 * @since 1.0.0
 */
export interface Stats {
  readonly idle: number
  /** Items lent, or being checked or reset. */
  readonly used: number
  /** Borrowers that wait. */
  readonly pending: number
  readonly opening: number
  readonly closing: number
  /** Opens that wait for a permit of the pool's `capacity`. */
  readonly parked: number
  /**
   * Leases that run: more than `used`, where several borrowers share an item. Among them
   * are those that are to begin: after an `onBorrow`, or when a `getN` has all its items.
   */
  readonly leases: number
  readonly suspended: boolean
  readonly min: number
  readonly max: number
  /** Totals since the pool was made. */
  readonly opened: number
  readonly openFailures: number
  readonly closed: number
  /** Items whose release, and opens whose end, did not come within `closeTimeout`. */
  readonly abandoned: number
  /** Leases that have begun: the borrower got its item. */
  readonly borrowed: number
  /** Leases that their borrowers have ended. */
  readonly returned: number
  /** Leases whose item was closed under them; not counted as returned. */
  readonly takenBack: number
  /** Items that left the pool with their borrowers. */
  readonly detached: number
  /** Leases whose scope was dropped without being closed. */
  readonly leaked: number
  /** Borrowers that found no idle item. */
  readonly waited: number
  readonly timeouts: number
  /** Items recycled, by reason. */
  readonly recycled: Readonly<Record<string, number>>
}

/**
 * What one sweep did: how many idle items it looked at, and the number and the
 * reason of each that it recycled.
 *
 * @category models
 * @since 1.0.0
 */
export interface SweepResult {
  readonly examined: number
  readonly recycled: ReadonlyArray<{ readonly item: number; readonly reason: string }>
}

/**
 * New bounds for a pool; those that are not given stay.
 *
 * @category models
 * @since 1.0.0
 */
export interface SizeInput {
  readonly min?: number | undefined
  readonly max?: number | undefined
  readonly minIdle?: number | undefined
  readonly maxIdle?: number | undefined
}

/**
 * Which items a `clearWith` recycles, and over what time.
 *
 * @category models
 * @since 1.0.0
 */
export interface ClearOptions {
  /** Only the items that are idle now. Default: all. */
  readonly only?: "idle" | undefined
  /** Default: at once. */
  readonly over?: Duration.Input | undefined
}

/**
 * How to open an item, how many, how long anything may take, and when an item has
 * lived long enough.
 *
 * **Details**
 *
 * All options are checked together when the pool is made; one `InvalidOptions`
 * names every wrong one. Durations are `Duration.Input`. `R` is what `acquire` and
 * the other effects need; the constructors infer it for each of them.
 *
 * @category models
 * @since 1.0.0
 */
export interface Options<
  A,
  E = never,
  R = never,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R,
  RMonitor = R,
  ROnAcquire = R,
  ROnBorrow = R,
  ROnReturn = R,
  ROnRelease = R
> {
  /**
   * Opens one item. Its scope lives as long as the item: closing it is the
   * release. Runs in the background with the pool's context, and goes on when the
   * borrower that it was for has left.
   *
   * With a `Stream` of such effects, for example `SubscriptionRef.changes`, the pool is
   * made when the first is there, and each that follows is taken as by `swap`: tried
   * first, and told of in the log when it fails.
   */
  readonly acquire: Effect.Effect<A, E, R> | Stream.Stream<Effect.Effect<A, E, R>, never, R>
  /** The label in errors, events and logs. Default: the service's id, or `"pool"`. */
  readonly name?: string | undefined
  /** The bound on items opening, idle, lent and closing together; may be Infinity. Default: 10. */
  readonly max?: number | undefined
  /** Kept open: refilled after any loss, and spared by the idle rules. Default: 0. */
  readonly min?: number | undefined
  /**
   * Kept idle besides the items that are lent, as far as `max` allows: opened ahead of
   * need, and spared by the idle rules. Default: 0.
   */
  readonly minIdle?: number | undefined
  /**
   * More idle items than these are recycled when one comes back, the coldest first: under
   * a load that comes and goes they are soon opened again, which `RecyclePolicy.idle`
   * avoids. Default: Infinity.
   */
  readonly maxIdle?: number | undefined
  /**
   * How `min` is reached at the start: `"background"` (default), `"lazy"`, from the
   * first borrow on, or `"eager"`: the pool is made only when `min` is reached, the
   * first item alone and then the rest, and fails with the `E` of a failed open, or
   * goes on for as long as `retry` does: bound that with `Effect.timeout`.
   */
  readonly warm?: "background" | "lazy" | "eager" | undefined
  /**
   * Which idle item is lent: the one returned last, `"lifo"` (default), so that the
   * others grow cold and can be recycled, or the one returned first, `"fifo"`.
   * `"hybrid"` is both: `min` items are used in turn, and those beyond them only when
   * none of these is idle, the one returned last first.
   */
  readonly order?: "lifo" | "fifo" | "hybrid" | undefined
  /**
   * How many borrowers may have one item at once, for items that can work for several
   * (pipelined connections, HTTP/2). A shared item is lent before another is opened.
   * Rules see each lease; `reset` runs when the last of an item's borrowers has left,
   * with the `Exit` of that lease. Default: 1.
   */
  readonly concurrency?: number | undefined
  /**
   * Where a borrower comes to with a `concurrency` above 1. With `"spread"` (default) an
   * idle item that needs no check is lent before a shared one, and of these the one with
   * the fewest borrowers: few share who need not. With `"pack"` a borrower joins those
   * who came last until their item is full, and the other items stay idle: what is sent
   * together costs less. Where no lease has ended for 10 milliseconds nobody joins while
   * another item is idle, or where leases do end, for there one that takes long may hold
   * up the rest. Who had to wait for a check, or until the pool was resumed, has an idle
   * item.
   */
  readonly sharing?: "spread" | "pack" | undefined
  /**
   * Opens items ahead of need: whenever more than this part of the open items'
   * capacity is in use, above 0 and up to 1. Default: 1, when nothing is free.
   */
  readonly targetUtilization?: number | undefined
  /**
   * One budget for waiting, opening, checking and `onBorrow`. Default: 30 seconds. With
   * zero a borrower takes an idle item that needs no check or fails at once, and an open
   * begins for whoever comes next. `"Infinity"` sets no limit.
   */
  readonly borrowTimeout?: Duration.Input | undefined
  /**
   * How many borrowers may wait without an open or a check under way for them; one
   * more fails at once. Default: Infinity.
   */
  readonly maxWaiters?: number | undefined
  /** How many opens are under way at once. Default: 4. */
  readonly openConcurrency?: number | undefined
  /** The deadline of one open; an item that comes later is closed on arrival. Default: 30 seconds. */
  readonly openTimeout?: Duration.Input | undefined
  /**
   * How the pool retries failed opens: on one road for all borrowers, one open per
   * step. A borrower hears of a failure when the Schedule ends, or when its own
   * time does. Default: none, a failed open is told to the borrower it was for.
   */
  readonly retry?: Schedule.Schedule<unknown, NoInfer<E> | PoolError, unknown, RRetry> | undefined
  /**
   * Run before an item is lent that was idle for at least `checkAfter`. When it
   * fails, or succeeds with `false`, the item is recycled and the borrower gets
   * another. Default: none.
   */
  readonly check?: ((item: NoInfer<A>) => Effect.Effect<unknown, unknown, RCheck>) | undefined
  /** Default: 500 milliseconds. */
  readonly checkAfter?: Duration.Input | undefined
  /** Default: 5 seconds. */
  readonly checkTimeout?: Duration.Input | undefined
  /**
   * Run after an item came back and before anyone else gets it, with the `Exit` of
   * the lease. When it fails, the item is recycled. The function itself runs as
   * part of the return; where it finds nothing to do it may give `undefined`, and
   * the item is free at once. Default: none.
   */
  readonly reset?:
    | ((
      item: NoInfer<A>,
      exit: Exit.Exit<unknown, unknown>
    ) => Effect.Effect<unknown, unknown, RReset> | undefined)
    | undefined
  /** Default: 5 seconds. */
  readonly resetTimeout?: Duration.Input | undefined
  /**
   * When an item has lived long enough: a rule, or several of which any may speak. Where
   * leases follow one another within 50 microseconds, the time is looked at once for 32 of
   * their beginnings and ends, and in each turn of the event loop; but for each of an item
   * that is due within the minute. Default: never.
   */
  readonly recycle?: RecyclePolicy.Input<NoInfer<A>, RRecycle> | undefined
  /**
   * How often the rules without a deadline of their own (`when`, `check`) look at
   * idle items; rules on time need none. Default: every 60 seconds when there are
   * such rules.
   */
  readonly sweep?: Duration.Input | Schedule.Schedule<unknown, unknown, unknown, RSweep> | undefined
  /** The deadline of one item's release; after it the item is abandoned. Default: 5 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
  /**
   * How many releases may be under way when a sweep of the recycler (a rule's deadline, the
   * `sweep` cadence, `pool.sweep`) begins another. What is due besides stays idle, and can
   * be lent unless a rule speaks against it then, and follows as those end; effectful
   * checks wait likewise. `pool.sweep` tells of what it has recycled itself. Recycling for
   * other reasons is not held back. Default: Infinity.
   */
  readonly closeConcurrency?: number | undefined
  /**
   * How long the closing of the pool waits for leases; then their items are closed
   * under them. Default: 10 seconds.
   */
  readonly drainTimeout?: Duration.Input | undefined
  /**
   * Make before break: how long an item that is only old (`age`, `uses`, `schedule`,
   * `after`, a `clear` or `swap` over a time) goes on serving while another is opened
   * in its place. When there is no room for both under `max`, or nobody needs the
   * item, it is recycled as ever. Default: 0, never.
   */
  readonly replaceTimeout?: Duration.Input | undefined
  /** How long the old items take to go after a `swap`. Default: 10 seconds. */
  readonly retireOver?: Duration.Input | undefined
  /**
   * A lease that lasts longer is told of once, in the log and the events: who has the
   * item, for how long, and where it was borrowed. Default: Infinity, none.
   */
  readonly leaseWarning?: Duration.Input | undefined
  /**
   * A lease that lasts longer is ended. What `use` runs is interrupted, and fails with
   * the reason `LeaseEnded` when its finalizers have run, for which it has
   * `closeTimeout`; then the item is recycled. An item that `get` lent to a scope is
   * closed under its borrower. Default: Infinity, none.
   */
  readonly maxLease?: Duration.Input | undefined
  /**
   * Runs beside each item for all its life, and ends, in any way, when the item has
   * died by itself. The item is then recycled at once, idle or lent, and what `use`
   * runs is interrupted and fails with the reason `LeaseEnded`. When items die as soon
   * as they are open, the pool waits ever longer before it opens the next. Default: none.
   */
  readonly monitor?: ((item: NoInfer<A>) => Effect.Effect<unknown, unknown, RMonitor>) | undefined
  /**
   * Runs when an item was acquired, as the last part of the open: within `openTimeout`, in
   * the item's scope, and it fails as `acquire` does.
   */
  readonly onAcquire?: ((item: NoInfer<A>) => Effect.Effect<unknown, NoInfer<E>, ROnAcquire>) | undefined
  /**
   * Runs before the borrower gets the item, for at most `checkTimeout` and within the
   * borrower's own time. When it fails, the borrower fails with the reason `HookFailed`
   * and the item is recycled (`"onBorrow failed"`), as it is when the borrower leaves
   * once the hook has begun (`"borrow given up"`). When the item ends meanwhile the
   * borrower gets another. The lease begins only after the hook: one that has not begun
   * is in no total, and no `onReturn` follows it.
   */
  readonly onBorrow?: ((item: NoInfer<A>) => Effect.Effect<unknown, unknown, ROnBorrow>) | undefined
  /**
   * Runs when a lease has ended, before `reset`, and shares its `resetTimeout`; also
   * when the item is to be recycled, but not when it was closed under its borrower. When
   * it fails, the item is recycled. Like `reset` it may give `undefined`.
   */
  readonly onReturn?:
    | ((
      item: NoInfer<A>,
      exit: Exit.Exit<unknown, unknown>
    ) => Effect.Effect<unknown, unknown, ROnReturn> | undefined)
    | undefined
  /**
   * Runs before an item is released, for at most half of `closeTimeout`. When it
   * fails, or takes longer, the item is released all the same and the failure is told of
   * as that of a release. An item whose open has failed is not told.
   */
  readonly onRelease?: ((item: NoInfer<A>) => Effect.Effect<unknown, unknown, ROnRelease>) | undefined
  /** What borrowers of a suspended pool do: `"wait"` (default) or `"fail"`. */
  readonly whenSuspended?: "wait" | "fail" | undefined
  /**
   * A budget that the pool shares with others: an item is opened only while it holds a
   * permit. Default: `Capacity.Current`, which is unlimited unless the program provides
   * another.
   */
  readonly capacity?: Capacity.Capacity<NoInfer<E>> | undefined
}

/** Options of which each effect may need something else. */
type Given<
  A,
  E,
  R,
  RCheck,
  RReset,
  RRetry,
  RRecycle,
  RSweep,
  RMonitor,
  ROnAcquire,
  ROnBorrow,
  ROnReturn,
  ROnRelease,
  W
> =
  & Options<A, E, R, RCheck, RReset, RRetry, RRecycle, RSweep, RMonitor, ROnAcquire, ROnBorrow, ROnReturn, ROnRelease>
  & { readonly warm?: W | "background" | "lazy" | "eager" | undefined }

/** The error that making a pool adds to `PoolError`: only a warm-up can fail with `E`. */
type WarmError<E, W> = "eager" extends W ? E : never

/**
 * Tells whether a value is a `QueuePool`.
 *
 * @category guards
 * @since 1.0.0
 */
export const isQueuePool = (u: unknown): u is QueuePool<unknown, unknown> => hasProperty(u, TypeId)

const makeNamed = Effect.fnUntraced(function*<A, E, R>(options: Options<A, E, R>, name: string) {
  const settings = compact(yield* settingsOf(options, name))
  const context = yield* Effect.context<R | Scope.Scope>()
  // Its own scope, so that a warm-up that fails or is interrupted leaves nothing behind.
  const scope = yield* Scope.fork(Context.get(context, Scope.Scope))
  const made = makeIn(scope, context, settings, options)
  return yield* Effect.onExit(made, (exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)
})

// What is compiled keeps nothing of a pool: one is enough for all.
const noRules = compile<unknown>(undefined)

const makeIn = Effect.fnUntraced(function*<A, E, R>(
  scope: Scope.Scope,
  context: Context.Context<R | Scope.Scope>,
  settings: Settings,
  options: Options<A, E, R>
) {
  const { acquire } = options
  const source = Effect.isEffect(acquire) ? undefined : new Source<A, E, R>(acquire, settings)
  const changes = source === undefined ? undefined : yield* Effect.forkIn(source.run, scope)
  const effects: Effects<A, E, R> = {
    acquire: Effect.isEffect(acquire) ? acquire : yield* source!.first,
    check: options.check,
    reset: options.reset,
    retry: options.retry,
    sweep: options.sweep,
    monitor: options.monitor,
    onAcquire: options.onAcquire,
    onBorrow: options.onBorrow,
    onReturn: options.onReturn,
    onRelease: options.onRelease
  }
  const permits = permitsOf(options.capacity ?? Context.get(context, Capacity.Current))
  const rules: Rules<A, R> = options.recycle === undefined ? noRules : compile(options.recycle)
  const pool = new Pool(settings, effects, rules, context, permits)
  yield* Scope.addFinalizer(scope, pool.close)
  // Ends first: what comes while the pool closes is not tried any more.
  if (changes !== undefined) yield* Scope.addFinalizer(scope, Effect.sync(() => changes.interruptUnsafe()))
  yield* pool.start(() => source?.feed(pool))
  return new QueuePoolImpl(pool) as QueuePool<A, E>
})

/**
 * Makes a pool that lives as long as the current scope.
 *
 * **When to use**
 *
 * Use when the pool is a value of one workflow. For an application's pool prefer
 * `layer` or `Service`.
 *
 * **Details**
 *
 * Fails with a `PoolError` of reason `InvalidOptions` that names every wrong
 * option; with `warm: "eager"` also with the `E` of an open that failed. When the
 * scope closes, waiters fail with `Closed` at once, leases get `drainTimeout`, and
 * all is over after `drainTimeout + closeTimeout` at the latest.
 *
 * **Example** (Making a pool and borrowing from it)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueuePool } from "effect-queuepool"
 *
 * let opened = 0
 * const program = Effect.gen(function*() {
 *   const pool = yield* QueuePool.make({
 *     acquire: Effect.acquireRelease(Effect.sync(() => ++opened), () => Effect.void),
 *     max: 2
 *   })
 *   const first = yield* Effect.scoped(pool.get)
 *   const second = yield* pool.use((item) => Effect.succeed(item))
 *   return [first, second]
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => [1, 1]
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const make = <
  A,
  E,
  R,
  const W extends Options<A>["warm"] = undefined,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R,
  RMonitor = R,
  ROnAcquire = R,
  ROnBorrow = R,
  ROnReturn = R,
  ROnRelease = R
>(
  options: Given<
    A,
    E,
    R,
    RCheck,
    RReset,
    RRetry,
    RRecycle,
    RSweep,
    RMonitor,
    ROnAcquire,
    ROnBorrow,
    ROnReturn,
    ROnRelease,
    W
  >
): Effect.Effect<
  QueuePool<A, E>,
  PoolError | WarmError<E, W>,
  | R
  | RCheck
  | RReset
  | RRetry
  | RRecycle
  | RSweep
  | RMonitor
  | ROnAcquire
  | ROnBorrow
  | ROnReturn
  | ROnRelease
  | Scope.Scope
> =>
  // Only a warm-up fails with E, which the types of the options know and the code does not.
  // @effect-diagnostics-next-line unsafeEffectTypeAssertion:off
  makeNamed<
    A,
    E,
    R | RCheck | RReset | RRetry | RRecycle | RSweep | RMonitor | ROnAcquire | ROnBorrow | ROnReturn | ROnRelease
  >(options, "pool") as Effect.Effect<
    QueuePool<A, E>,
    PoolError | WarmError<E, W>,
    | R
    | RCheck
    | RReset
    | RRetry
    | RRecycle
    | RSweep
    | RMonitor
    | ROnAcquire
    | ROnBorrow
    | ROnReturn
    | ROnRelease
    | Scope.Scope
  >

/**
 * Makes a layer that provides a pool under a tag.
 *
 * **When to use**
 *
 * Use when the tag exists already. To name a pool and its layer in one go, use
 * `Service`.
 *
 * **Details**
 *
 * The options may be an Effect: of `Config`, of secrets, of other services. A
 * layer is built once for all who share it; the tag's key is the default `name`.
 *
 * @category layers
 * @since 1.0.0
 */
// A tag is not a subject to pipe.
// @effect-diagnostics-next-line missingPipeableSignature:off
export const layer = <
  I,
  A,
  E,
  R,
  E2 = never,
  R2 = never,
  const W extends Options<A>["warm"] = undefined,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R,
  RMonitor = R,
  ROnAcquire = R,
  ROnBorrow = R,
  ROnReturn = R,
  ROnRelease = R
>(
  tag: Context.Key<I, QueuePool<A, E>>,
  options:
    | Given<
      A,
      E,
      R,
      RCheck,
      RReset,
      RRetry,
      RRecycle,
      RSweep,
      RMonitor,
      ROnAcquire,
      ROnBorrow,
      ROnReturn,
      ROnRelease,
      W
    >
    | Effect.Effect<
      Given<
        A,
        E,
        R,
        RCheck,
        RReset,
        RRetry,
        RRecycle,
        RSweep,
        RMonitor,
        ROnAcquire,
        ROnBorrow,
        ROnReturn,
        ROnRelease,
        W
      >,
      E2,
      R2
    >
): Layer.Layer<
  I,
  PoolError | WarmError<E, W> | E2,
  Exclude<
    R | RCheck | RReset | RRetry | RRecycle | RSweep | RMonitor | ROnAcquire | ROnBorrow | ROnReturn | ROnRelease | R2,
    Scope.Scope
  >
> => {
  const make = (
    given: Options<
      A,
      E,
      R | RCheck | RReset | RRetry | RRecycle | RSweep | RMonitor | ROnAcquire | ROnBorrow | ROnReturn | ROnRelease
    >
  ) => makeNamed(given, tag.key)
  // @effect-diagnostics-next-line unsafeEffectTypeAssertion:off
  return Layer.effect(tag, Effect.isEffect(options) ? Effect.flatMap(options, make) : make(options)) as Layer.Layer<
    I,
    PoolError | WarmError<E, W> | E2,
    Exclude<
      | R
      | RCheck
      | RReset
      | RRetry
      | RRecycle
      | RSweep
      | RMonitor
      | ROnAcquire
      | ROnBorrow
      | ROnReturn
      | ROnRelease
      | R2,
      Scope.Scope
    >
  >
}

/**
 * The class that `Service` makes: the tag of a pool, its layer, and the pool's
 * operations as static members.
 *
 * @category models
 * @since 1.0.0
 */
export interface ServiceClass<Self, Id extends string, A, E, LE, LR>
  extends Context.ServiceClass<Self, Id, QueuePool<A, E>>
{
  /** Builds the pool, once for all who share it. */
  readonly layer: Layer.Layer<Self, LE, LR>
  readonly get: Effect.Effect<A, E | PoolError, Scope.Scope | Self>
  readonly getExclusive: Effect.Effect<A, E | PoolError, Scope.Scope | Self>
  readonly getIfAvailable: Effect.Effect<Option.Option<A>, PoolError, Scope.Scope | Self>
  readonly getN: (n: number) => Effect.Effect<Array<A>, E | PoolError, Scope.Scope | Self>
  /** The pool's `use`; `use` itself is the service's own. */
  readonly useItem: <B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<B, E | E2 | PoolError, R2 | Self>
  readonly useExclusive: <B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<B, E | E2 | PoolError, R2 | Self>
  readonly useIfAvailable: <B, E2, R2>(
    f: (item: A) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<Option.Option<B>, E2 | PoolError, R2 | Self>
  readonly invalidate: (item: A, reason?: string) => Effect.Effect<void, never, Self>
  readonly detach: (item: A) => Effect.Effect<boolean, never, Scope.Scope | Self>
  readonly clear: Effect.Effect<void, never, Self>
  readonly clearWith: (options: ClearOptions) => Effect.Effect<void, PoolError, Self>
  readonly swap: <R2>(
    acquire: Effect.Effect<A, E, R2>,
    options?: { readonly over?: Duration.Input | undefined }
  ) => Effect.Effect<void, E | PoolError, Exclude<R2, Scope.Scope> | Self>
  readonly resize: (size: SizeInput) => Effect.Effect<void, PoolError, Self>
  readonly suspend: Effect.Effect<void, never, Self>
  readonly resume: Effect.Effect<void, never, Self>
  readonly sweep: Effect.Effect<SweepResult, never, Self>
  readonly stats: Effect.Effect<Stats, never, Self>
  readonly events: Stream.Stream<PoolEvent, never, Self>
}

/**
 * Makes a class that names a pool as a service, with its layer.
 *
 * **Example** (A pool as a service)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueuePool, RecyclePolicy } from "effect-queuepool"
 *
 * class Workers extends QueuePool.Service<Workers>()("app/Workers", {
 *   acquire: Effect.acquireRelease(Effect.succeed({ run: (n: number) => n * 2 }), () => Effect.void),
 *   max: 4,
 *   recycle: [RecyclePolicy.uses(1000), RecyclePolicy.failed]
 * }) {}
 *
 * const program = Workers.useItem((worker) => Effect.succeed(worker.run(21)))
 *
 * await Effect.runPromise(Effect.provide(program, Workers.layer)) // => 42
 * ```
 *
 * @category services
 * @since 1.0.0
 */
export const Service = <Self>() =>
<
  const Id extends string,
  A,
  E,
  R,
  E2 = never,
  R2 = never,
  const W extends Options<A>["warm"] = undefined,
  RCheck = R,
  RReset = R,
  RRetry = R,
  RRecycle = R,
  RSweep = R,
  RMonitor = R,
  ROnAcquire = R,
  ROnBorrow = R,
  ROnReturn = R,
  ROnRelease = R
>(
  id: Id,
  options:
    | Given<
      A,
      E,
      R,
      RCheck,
      RReset,
      RRetry,
      RRecycle,
      RSweep,
      RMonitor,
      ROnAcquire,
      ROnBorrow,
      ROnReturn,
      ROnRelease,
      W
    >
    | Effect.Effect<
      Given<
        A,
        E,
        R,
        RCheck,
        RReset,
        RRetry,
        RRecycle,
        RSweep,
        RMonitor,
        ROnAcquire,
        ROnBorrow,
        ROnReturn,
        ROnRelease,
        W
      >,
      E2,
      R2
    >
): ServiceClass<
  Self,
  Id,
  A,
  E,
  PoolError | WarmError<E, W> | E2,
  Exclude<
    R | RCheck | RReset | RRetry | RRecycle | RSweep | RMonitor | ROnAcquire | ROnBorrow | ROnReturn | ROnRelease | R2,
    Scope.Scope
  >
> => {
  const Tag = Context.Service<Self, QueuePool<A, E>>()(id)
  const with_ = <B, E3, R3>(f: (pool: QueuePool<A, E>) => Effect.Effect<B, E3, R3>) => Effect.flatMap(Tag, f)
  // Who asks is known here; in the fiber that asks the pool, nobody stands above.
  let traces = !Effect.isEffect(options) && tracesLeases(options)
  const lend = <B, E3, R3>(f: (pool: QueuePool<A, E>) => Effect.Effect<B, E3, R3>) => {
    if (!traces) return with_(f)
    const site = hereInScope(2)
    return with_((pool) => at(site, () => f(pool)))
  }
  const given = Effect.isEffect(options)
    ? Effect.tap(options, (given) => Effect.sync(() => void (traces = tracesLeases(given))))
    : options
  const members = {
    layer: layer(Tag, given),
    get get() {
      return lend((pool) => pool.get)
    },
    get getExclusive() {
      return lend((pool) => pool.getExclusive)
    },
    get getIfAvailable() {
      return lend((pool) => pool.getIfAvailable)
    },
    getN: (n: number) => lend((pool) => pool.getN(n)),
    useItem: <B, E3, R3>(f: (item: A) => Effect.Effect<B, E3, R3>) => lend((pool) => pool.use(f)),
    useExclusive: <B, E3, R3>(f: (item: A) => Effect.Effect<B, E3, R3>) => lend((pool) => pool.useExclusive(f)),
    useIfAvailable: <B, E3, R3>(f: (item: A) => Effect.Effect<B, E3, R3>) => lend((pool) => pool.useIfAvailable(f)),
    invalidate: (item: A, reason?: string) => with_((pool) => pool.invalidate(item, reason)),
    detach: (item: A) => with_((pool) => pool.detach(item)),
    clear: with_((pool) => pool.clear),
    clearWith: (options: ClearOptions) => with_((pool) => pool.clearWith(options)),
    swap: <R3>(acquire: Effect.Effect<A, E, R3>, options?: { readonly over?: Duration.Input | undefined }) =>
      with_((pool) => pool.swap(acquire, options)),
    resize: (size: SizeInput) => with_((pool) => pool.resize(size)),
    suspend: with_((pool) => pool.suspend),
    resume: with_((pool) => pool.resume),
    sweep: with_((pool) => pool.sweep),
    stats: with_((pool) => pool.stats),
    events: Stream.unwrap(Effect.map(Tag, (pool) => pool.events))
  }
  return Object.defineProperties(Tag, Object.getOwnPropertyDescriptors(members)) as never
}

/** Leases that last too long are told of, with the place where they began. */
const tracesLeases = (
  { leaseWarning, maxLease }: { readonly leaseWarning?: unknown; readonly maxLease?: unknown }
): boolean => leaseWarning !== undefined || maxLease !== undefined

// A pool's types are invariant: no other type has every pool in it.
// oxlint-disable-next-line no-explicit-any -- see above
type AnyPool = QueuePool<any, any>

/**
 * Lends one item of each of several pools to the current scope, all or none.
 *
 * **Details**
 *
 * The pools are asked in one fixed order, that in which they were made, whatever the
 * order of the arguments: programs that need the same pools cannot block one another.
 * A pool that is given twice is asked once, for two different items. What was lent
 * goes back at once when a later pool fails, as after a success: nobody has used it.
 *
 * **Example** (Two sessions at once)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueuePool } from "effect-queuepool"
 *
 * const program = Effect.gen(function*() {
 *   const from = yield* QueuePool.make({ acquire: Effect.succeed("from") })
 *   const to = yield* QueuePool.make({ acquire: Effect.succeed("to") })
 *   return yield* Effect.scoped(QueuePool.zip(from, to))
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => ["from", "to"]
 * ```
 *
 * @category combinators
 * @since 1.0.0
 */
export const zip = <const Pools extends ReadonlyArray<AnyPool>>(
  ...pools: Pools
): Effect.Effect<ItemsOf<Pools>, ErrorsOf<Pools>, Scope.Scope> =>
  // @effect-diagnostics-next-line anyUnknownInErrorContext:off
  zipped(pools) as never

/** The items that `zip` lends. */
type ItemsOf<Pools extends ReadonlyArray<AnyPool>> = {
  -readonly [K in keyof Pools]: Pools[K] extends QueuePool<infer A, infer _> ? A : never
}

type ErrorsOf<Pools extends ReadonlyArray<AnyPool>> =
  | { [K in keyof Pools]: Pools[K] extends QueuePool<infer _, infer E> ? E : never }[number]
  | PoolError
