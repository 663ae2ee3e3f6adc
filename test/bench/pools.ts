/**
 * The pools, each as its documents advise, behind one face: a number of borrowers, each with
 * a number of leases one after the other. Ours has a timeout for the borrowers, five rules and
 * its statistics; the others are plain.
 */
import { Effect, Pool, type Scheduler } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import GenericPool from "generic-pool"
import * as Lightning from "lightning-pool"
import * as Tarn from "tarn"
import { sketch } from "./sketch.ts"

/** What is done with an item: nothing, or one turn of the scheduler (an `await`). */
export type Work = "nothing" | "yield"

export interface Lender {
  readonly name: string
  /** So many borrowers, each with so many leases. */
  readonly lend: (borrowers: number, each: number, work: Work) => Effect.Effect<void, unknown>
}

type AnyEffect = Effect.Effect<unknown, unknown>

export const acquire = Effect.acquireRelease(Effect.sync(() => ({})), () => Effect.void)

/** The five rules: with a deadline, a count, or the exit of the lease. */
export const fiveRules = [
  RecyclePolicy.age("1 hour", { jitter: 0.1 }),
  RecyclePolicy.idle("10 minutes"),
  RecyclePolicy.uses(1e9),
  RecyclePolicy.failed,
  RecyclePolicy.interrupted
]

/** A rule of the user's own, asked at each borrow and return. */
export const ownRule = ({ age, idle, uses }: RecyclePolicy.Usage<unknown>): boolean =>
  idle > 3_600_000 || (uses > 1e9 && age > 3_600_000)

export const optionsOf = (size: number) => ({
  acquire,
  min: size,
  max: size,
  warm: "eager" as const,
  openConcurrency: 100,
  borrowTimeout: "30 seconds" as const,
  recycle: fiveRules
})

/** The five rules and the user's own. */
export const ownOptionsOf = (size: number) => ({ ...optionsOf(size), recycle: [...fiveRules, ownRule] })

export const repeat = (times: number, one: () => AnyEffect): Effect.Effect<void, unknown> =>
  Effect.gen(function*() {
    for (let i = 0; i < times; i++) yield* one()
  })

export const together = (borrowers: number, each: AnyEffect): Effect.Effect<void, unknown> =>
  borrowers === 1 ? Effect.asVoid(each) : Effect.forEach(
    Array.from({ length: borrowers }),
    () => each,
    { concurrency: "unbounded", discard: true }
  )

const works: Record<Work, () => Effect.Effect<void>> = { nothing: () => Effect.void, yield: () => Effect.yieldNow }

const inEffect = (name: string, lease: (work: () => Effect.Effect<void>) => () => AnyEffect): Lender => ({
  name,
  lend: (borrowers, each, work) => together(borrowers, repeat(each, lease(works[work])))
})

export const ourUse = (pool: QueuePool.QueuePool<{}, unknown>, name = "use") =>
  inEffect(name, (work) => () => pool.use(work))

export const ourGet = (pool: QueuePool.QueuePool<{}, unknown>, name = "get") =>
  inEffect(name, (_) => () => Effect.scoped(pool.get))

export const effectUse = (pool: Pool.Pool<{}>, name = "effect use") =>
  inEffect(name, (work) => () => Pool.use(pool, work))

export const effectGet = (pool: Pool.Pool<{}>, name = "effect get") =>
  inEffect(name, (_) => () => Effect.scoped(Pool.get(pool)))

/** The least that effect's public API asks of whoever lends for the time of an effect. */
export const floor = (size: number): Lender => {
  const items = Array.from({ length: size }, () => ({}))
  return inEffect("floor", (work) => () =>
    Effect.withFiber(() => {
      const item = items.pop()!
      return Effect.onExitPrimitive(work(), () => {
        items.push(item)
        return undefined
      })
    }))
}

/**
 * The least for borrowers that wait: a queue of them and a list of items, each given item one
 * borrower, and all that are woken resumed by one task. It has no time, no rule and no end of
 * a wait, and is not safe under interruption.
 */
export const handOver = (size: number): Lender => {
  interface Waiter {
    readonly resume: (effect: Effect.Effect<void>) => void
    item: {}
    next: Waiter | undefined
  }
  const items = Array.from({ length: size }, () => ({}))
  let first: Waiter | undefined
  let last: Waiter | undefined
  let woken: Array<Waiter> = []
  let dispatcher: Scheduler.SchedulerDispatcher | undefined
  return inEffect("hand-over", (work) => {
    const lease = (item: {}) => Effect.onExitPrimitive(work(), () => back(item))
    const wake = () => {
      const now = woken
      woken = []
      for (const { item, resume } of now) resume(lease(item))
    }
    const back = (item: {}): undefined => {
      if (first === undefined) {
        items.push(item)
        return
      }
      first.item = item
      if (woken.push(first) === 1) dispatcher!.scheduleTask(wake, 0)
      first = first.next
    }
    return () =>
      Effect.withFiber((fiber) => {
        dispatcher ??= fiber.cache.scheduler.makeDispatcher()
        const item = items.pop()
        if (item !== undefined) return lease(item)
        return Effect.callback<void>((resume) => {
          const waiter: Waiter = { resume, item: resume, next: undefined }
          if (first === undefined) first = waiter
          else last!.next = waiter
          last = waiter
        })
      })
  })
}

export const sketched = (size: number) =>
  Effect.map(sketch(size), (pool) => inEffect("sketch", (work) => () => pool.use(work)))

/** No pool at all: what the work costs when the borrowers take turns, one to wait and one to work. */
export const bare = (name: string): Lender => ({
  name,
  lend: (borrowers, each) => together(borrowers, repeat(each, () => Effect.andThen(Effect.yieldNow, Effect.yieldNow)))
})

const inPromises = <A>(name: string, take: () => PromiseLike<A>, putBack: (item: A) => unknown): Lender => {
  const loops: Record<Work, (each: number) => Promise<void>> = {
    nothing: async (each) => {
      for (let i = 0; i < each; i++) {
        const item = await take()
        putBack(item)
      }
    },
    yield: async (each) => {
      for (let i = 0; i < each; i++) {
        const item = await take()
        await Promise.resolve()
        putBack(item)
      }
    }
  }
  return {
    name,
    lend: (borrowers, each, work) =>
      Effect.promise(() => Promise.all(Array.from({ length: borrowers }, () => loops[work](each))))
  }
}

export const genericPool = (size: number) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        GenericPool.createPool(
          { create: () => Promise.resolve({}), destroy: () => Promise.resolve() },
          { min: size, max: size }
        )
      ),
      (pool) => Effect.promise(() => pool.drain().then(() => pool.clear()))
    ),
    (pool) => inPromises("generic-pool", () => pool.acquire(), (item) => pool.release(item))
  )

export const lightningPool = (size: number) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const pool = new Lightning.Pool<{}>({ create: () => ({}), destroy: () => {} }, {
          min: size,
          max: size,
          // 1,000 when it is not told otherwise.
          maxQueue: 1_000_000
        })
        pool.start()
        return pool
      }),
      (pool) => Effect.promise(() => pool.closeAsync(true))
    ),
    (pool) => inPromises("lightning-pool", () => pool.acquire(), (item) => pool.release(item))
  )

export const tarn = (size: number) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        new Tarn.Pool<{}>({ create: () => Promise.resolve({}), destroy: () => {}, min: size, max: size })
      ),
      (pool) => Effect.promise(() => pool.destroy())
    ),
    (pool) => inPromises("tarn", () => pool.acquire().promise, (item) => pool.release(item))
  )
