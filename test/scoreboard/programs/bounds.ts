/** The limits that a pool is given, and what it makes of its options. */
import { Effect, Exit, Option, Scope } from "effect"
import type { Lease, Program, Setup } from "../model.ts"
import {
  begin,
  borrowed,
  borrowedAll,
  discard,
  isTold,
  leaseOf,
  seconds,
  sleep,
  told,
  until,
  verdict,
  within
} from "../watch.ts"

const closing = "those beyond max are closing: it does not wait for them"
const corrects = "puts a value of its own in the place of most wrong ones, and does not say so"
const timeout = "has no timeout of its own; the program can put an `Effect.timeout` around the borrow"

const v4: Program = {
  id: "V4",
  name: "max is never exceeded",
  criterion: "max 1, 20 times: borrow, and end the item while the lease goes on, if the pool lets it; a close takes " +
    "50 ms: never more than 1 item opening, open or closing",
  onSessions: false,
  absent: {},
  remarks: {
    "generic-pool": closing,
    "tarn": closing,
    "lightning-pool": closing,
    "pg-pool": closing
  },
  run: Effect.fnUntraced(function*({ start }) {
    const { book, pool } = yield* start({ max: 1 }, { close: () => ({ end: "succeed", after: 50 }) })
    const leases: Array<Lease> = []
    for (let i = 0; i < 20; i++) {
      const lease = leaseOf(yield* within(500, pool.borrow))
      // A pool that keeps to its max makes the next borrower wait for the lease.
      if (lease === undefined) break
      leases.push(lease)
      yield* begin(lease.invalidate)
    }
    for (const lease of leases) if (!lease.endsLease) yield* begin(lease.giveBack)
    return verdict(book.peakLive === 1 && leases.length > 0, `${book.peakLive} live of 1`)
  })
}

const wrong: ReadonlyArray<Setup> = [
  { max: Number.NaN },
  { max: -1 },
  { max: 0 },
  { max: 1.5 },
  { min: Number.NaN, max: 2 },
  { min: -1, max: 2 },
  { min: 5, max: 2 },
  { max: 2, idle: Number.NaN },
  { max: 2, idle: -5 }
]

const v13: Program = {
  id: "V13",
  name: "senseless options are refused",
  criterion:
    "max NaN, -1, 0, 1.5; min NaN, -1, above max; an idle time of NaN, -5: each an error when the pool is made",
  onSessions: false,
  absent: {},
  remarks: { "generic-pool": corrects, "lightning-pool": corrects },
  run: Effect.fnUntraced(function*({ start }) {
    let refused = 0
    for (const setup of wrong) {
      const scope = yield* Scope.make()
      const made = yield* within(1000, Scope.provide(start(setup), scope))
      if (isTold(made)) refused++
      else if (Option.isSome(made) && Exit.isSuccess(made.value.exit)) yield* begin(made.value.exit.value.pool.close)
      yield* begin(Scope.close(scope, Exit.void))
    }
    return verdict(refused === wrong.length, `${refused} of ${wrong.length} refused`)
  })
}

const v17: Program = {
  id: "V17",
  name: "items of one age do not go together",
  criterion: "20 items opened together, lifetime 1 s with jitter where there is some, 20 busy borrowers: between the " +
    "first and the last of the 20 replacements lie at least 100 ms, and at most 10 open at once",
  onSessions: false,
  absent: {
    "generic-pool": "items have no lifetime",
    "tarn": "items have no lifetime",
    "lightning-pool": "items have no lifetime"
  },
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { book, pool } = yield* start(
      { min: 20, max: 20, age: 1000, borrowTimeout: 10_000 },
      { open: () => ({ end: "succeed", after: 20 }) }
    )
    for (const { giveBack } of yield* borrowedAll(pool, 20)) yield* giveBack
    book.peakOpening = book.opening
    let over = false
    const busy = Effect.whileLoop({
      while: () => !over,
      body: () =>
        Effect.flatMap(
          Effect.exit(pool.borrow),
          (lease) => Exit.isFailure(lease) ? sleep(10) : Effect.andThen(sleep(10), lease.value.giveBack)
        ),
      step: () => {}
    })
    for (let i = 0; i < 20; i++) yield* begin(busy)
    yield* until(() => book.openedAt.length >= 40, 6000)
    over = true
    const replaced = book.openedAt.slice(20, 40)
    const spread = replaced.at(-1)! - replaced[0]!
    const figure = `${replaced.length} in ${Math.round(spread)} ms, ${book.peakOpening} at once`
    return verdict(replaced.length === 20 && spread >= 100 && book.peakOpening <= 10, figure)
  })
}

const v21: Program = {
  id: "V21",
  name: "items of equal value are told apart",
  criterion:
    "two items of one value are lent; the second is ended, the first given back: the second is closed (where " +
    "its opener can tell), and two borrowers are served again within 2 s",
  onSessions: false,
  absent: {
    "sql-pg": "makes its items itself: never two equal ones",
    "pg-pool": "makes its items itself: never two equal ones",
    "tarn": "has no means to end one certain item"
  },
  remarks: {},
  run: Effect.fnUntraced(function*({ startEqual }) {
    const { book, pool } = yield* startEqual({ max: 2, borrowTimeout: 2000 })
    const first = yield* borrowed(pool)
    const second = leaseOf(yield* within(2000, pool.borrow))
    if (second === undefined) return verdict(false, "a second item refused")
    yield* discard(second)
    yield* sleep(50)
    yield* first.giveBack
    yield* until(() => book.closed > 0, 1000)
    const [closed] = book.closedItems
    const waiting = yield* Effect.replicateEffect(begin(pool.borrow), 2)
    const served = () => waiting.filter(({ now }) => leaseOf(Option.fromUndefinedOr(now())) !== undefined).length
    const both = yield* until(() => served() === 2, 2000)
    if (closed === 1) return verdict(false, "the first was closed")
    return verdict(both, both ? "the second was closed" : `${served()} of 2 places left`)
  })
}

const v22: Program = {
  id: "V22",
  name: "a borrow within a borrow is told",
  criterion: "max 1, borrow timeout 1 s: a second borrow by the holder ends with an error within 4 s",
  onSessions: false,
  absent: {},
  remarks: { "effect": timeout, "sql-pg": timeout },
  run: Effect.fnUntraced(function*({ start }) {
    const { pool } = yield* start({ max: 1, borrowTimeout: 1000 })
    yield* borrowed(pool)
    const nested = yield* within(4000, pool.borrow)
    return verdict(isTold(nested), Option.isNone(nested) ? `no end in ${seconds(4000)}` : told(nested))
  })
}

export const bounds: ReadonlyArray<Program> = [v4, v13, v17, v21, v22]
