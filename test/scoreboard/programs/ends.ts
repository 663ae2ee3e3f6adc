/** The end of items and of pools, when something hangs; and time that is set while they are idle. */
import { Effect, Option } from "effect"
import type { Program } from "../model.ts"
import {
  begin,
  borrowed,
  borrowedAll,
  discard,
  isTold,
  leaseOf,
  sleep,
  told,
  until,
  verdict,
  within
} from "../watch.ts"

const neverHangs = "ends a session without waiting for anything: its release cannot hang"

const v7: Program = {
  id: "V7",
  name: "one hung close does not stop the others",
  criterion: "10 idle items, idle limit 200 ms, the first close hangs: the other nine are closed within 4 s",
  onSessions: false,
  absent: { "sql-pg": neverHangs },
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { book, pool } = yield* start(
      { max: 10, idle: 200 },
      { close: (n) => ({ end: n === 1 ? "hang" : "succeed" }) }
    )
    for (const { giveBack } of yield* borrowedAll(pool, 10)) yield* giveBack
    const green = yield* until(() => book.closed === 9, 4000)
    return verdict(green, `${book.closed} of 9 closed`)
  })
}

const v8: Program = {
  id: "V8",
  name: "whoever ends an item does not wait for its close",
  criterion:
    "closes hang, close timeout 0.5 s: to end a lent item and give it back, to end an idle one (where the pool " +
    "can), and to borrow the next, take at most 3 s each",
  onSessions: false,
  absent: { "sql-pg": neverHangs },
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { pool } = yield* start({ max: 3, closeTimeout: 500 }, { close: () => ({ end: "hang" }) })
    const lent = yield* borrowed(pool)
    const idle = yield* borrowed(pool)
    yield* idle.giveBack
    const endings = [yield* within(3000, discard(lent))]
    if (!idle.endsLease) endings.push(yield* within(3000, idle.invalidate))
    const next = yield* within(3000, pool.borrow)
    const stuck = endings.filter(Option.isNone).length
    if (stuck > 0) return verdict(false, `${stuck} of ${endings.length} callers stuck`)
    return verdict(leaseOf(next) !== undefined, leaseOf(next) === undefined ? "next borrower stuck" : "nobody waits")
  })
}

const v9: Program = {
  id: "V9",
  name: "closing the pool has a deadline",
  criterion:
    "a lease that is never given back, or an open that hangs; open, drain and close timeout 0.5 s, borrow timeout " +
    "1 s: close ends within 3 s in both cases",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const setup = { max: 1, borrowTimeout: 1000, openTimeout: 500, drainTimeout: 500, closeTimeout: 500 }
    const lending = yield* start(setup)
    yield* borrowed(lending.pool)
    const opening = yield* start(setup, { open: () => ({ end: "hang" }) })
    yield* begin(opening.pool.borrow)
    yield* sleep(50)
    const [one, other] = yield* Effect.all([within(3000, lending.pool.close), within(3000, opening.pool.close)], {
      concurrency: 2
    })
    const figure = `lease ${told(one)}, open ${told(other)}`
    return verdict(Option.isSome(one) && Option.isSome(other), figure)
  })
}

const v10: Program = {
  id: "V10",
  name: "closing the pool closes the rest",
  criterion: "5 idle items, the first close hangs: the other four are closed within 3 s of the pool's close",
  onSessions: false,
  absent: { "sql-pg": neverHangs },
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { book, pool } = yield* start({ max: 5 }, { close: (n) => ({ end: n === 1 ? "hang" : "succeed" }) })
    for (const { giveBack } of yield* borrowedAll(pool, 5)) yield* giveBack
    yield* sleep(50)
    yield* begin(pool.close)
    const green = yield* until(() => book.closed === 4, 3000)
    return verdict(green, `${book.closed} of 4 closed`)
  })
}

const v14: Program = {
  id: "V14",
  name: "setting the clock changes nothing",
  criterion:
    "idle limit 0.4 s, the clock set back an hour: 5 idle items are closed within 3 s; idle limit 10 s, the clock " +
    "set forward an hour: none is closed in the next 1 s",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { now } = Date
    yield* Effect.addFinalizer(() => Effect.sync(() => void (Date.now = now)))
    const back = yield* start({ max: 5, idle: 400 })
    for (const { giveBack } of yield* borrowedAll(back.pool, 5)) yield* giveBack
    yield* sleep(50)
    Date.now = () => now() - 3_600_000
    yield* until(() => back.book.closed === 5, 3000)
    // Before the clock goes right again.
    const due = back.book.closed
    Date.now = now
    const forward = yield* start({ max: 5, idle: 10_000 })
    for (const { giveBack } of yield* borrowedAll(forward.pool, 5)) yield* giveBack
    yield* sleep(50)
    Date.now = () => now() + 3_600_000
    yield* sleep(1000)
    Date.now = now
    return verdict(due === 5 && forward.book.closed === 0, `${due} of 5 due, ${forward.book.closed} not due`)
  })
}

const v20: Program = {
  id: "V20",
  name: "a closed pool says so",
  criterion:
    "a borrower who waits when the pool closes is served or gets an error, and one who comes later gets an error " +
    "that the program can catch, within 3 s; borrow timeout 2 s, the lent item comes back after 0.2 s",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { pool } = yield* start({ max: 1, borrowTimeout: 2000, drainTimeout: 1000 })
    const lease = yield* borrowed(pool)
    const waiter = yield* begin(Effect.tap(pool.borrow, (lease) => lease.giveBack))
    yield* sleep(50)
    yield* begin(pool.close)
    yield* sleep(200)
    yield* begin(lease.giveBack)
    const later = yield* within(3000, pool.borrow)
    const waited = yield* waiter.within(3000)
    const answered = isTold(waited) || leaseOf(waited) !== undefined
    return verdict(answered && isTold(later), `waiter ${told(waited)}, later ${told(later)}`)
  })
}

export const ends: ReadonlyArray<Program> = [v7, v8, v9, v10, v14, v20]
