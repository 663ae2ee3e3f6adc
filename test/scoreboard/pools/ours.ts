/** Ours: QueuePool, and PgQueuePool where sessions are asked for. */
import { Effect, Exit, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import * as Redacted from "effect/Redacted"
import type { Items } from "../items.ts"
import type { Contender, Ends, Lease, Sessions, Setup } from "../model.ts"
import { itemLease } from "./common.ts"
import { sessionLease } from "./sessionLease.ts"

const optionsOf = (setup: Setup) => {
  const { age, borrowTimeout = 5000, closeTimeout = 500, drainTimeout = 500, idle, max, min, openTimeout } = setup
  return {
    min,
    max,
    borrowTimeout,
    openTimeout,
    closeTimeout,
    resetTimeout: closeTimeout,
    drainTimeout,
    recycle: [
      ...(idle === undefined ? [] : [RecyclePolicy.idle(idle)]),
      ...(age === undefined ? [] : [RecyclePolicy.age(age, { jitter: 0.5 })]),
      RecyclePolicy.failed
    ]
  }
}

/** The pool in a scope of its own, which the program's end closes too. */
const subject = <A, E>(
  make: Effect.Effect<QueuePool.QueuePool<A, E>, unknown, Scope.Scope>,
  leaseOf: (item: A, ends: Ends) => Lease,
  idOf: (item: A) => number
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const pool = yield* Scope.provide(make, scope)
    const borrow = Effect.gen(function*() {
      const lease = yield* Scope.make()
      const item = yield* Scope.provide(pool.get, lease)
      return leaseOf(item, {
        endsLease: false,
        giveBack: Scope.close(lease, Exit.void),
        invalidate: pool.invalidate(item)
      })
    })
    const failing = Effect.suspend(() => {
      let id = 0
      return Effect.map(Effect.exit(pool.use((item) => Effect.suspend(() => Effect.fail(id = idOf(item))))), () => id)
    })
    return { borrow, failing, close: Scope.close(scope, Exit.void) }
  })

const items = <A>(world: Items<A>, setup: Setup) =>
  subject(
    Effect.suspend(() =>
      QueuePool.make({
        acquire: world.acquire,
        ...optionsOf(setup),
        retry: Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")]),
        check: (item) => Effect.sync(() => world.isAlive(item)),
        checkAfter: 0
      })
    ),
    (item, ends) => itemLease(world, item, ends),
    world.idOf
  )

const sessions = ({ url }: Sessions, setup: Setup) =>
  subject(
    Effect.suspend(() =>
      PgQueuePool.make({
        url: Redacted.make(url),
        ...optionsOf(setup),
        connectTimeout: setup.openTimeout,
        reset: "discard"
      })
    ),
    (session, ends) => sessionLease(session, setup.queryTimeout, ends),
    (session) => session.processId
  )

export const ours: Contender = {
  name: "ours",
  title: "effect-queuepool",
  packageName: "effect-queuepool",
  setup:
    "`check` with `checkAfter: 0`, `retry` with backoff, the rules `idle`, `age` with jitter and `failed`, all of " +
    "the timeouts; for sessions PgQueuePool with `reset: \"discard\"` and its own `check` and `retry`",
  items,
  sessions
}
