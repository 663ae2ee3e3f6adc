/** What opens that fail, hang or are refused do to a pool. */
import { Effect, Exit, Option } from "effect"
import type { Program } from "../model.ts"
import {
  begin,
  borrowed,
  borrowedAll,
  discard,
  leaseOf,
  seconds,
  sleep,
  told,
  until,
  verdict,
  within
} from "../watch.ts"

const v1: Program = {
  id: "V1",
  name: "outage: many borrowers, every open fails",
  criterion: "300 borrowers, max 10, each open fails after 50 ms, borrow timeout 2 s: all have ended within 5 s, and " +
    "the event loop never stood still for 1 s",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ progress, start }) {
    const { pool } = yield* start({ max: 10, borrowTimeout: 2000 }, { open: () => ({ end: "fail", after: 50 }) })
    let lag = 0
    let last = performance.now()
    const timer = setInterval(() => {
      const now = performance.now()
      lag = Math.max(lag, now - last)
      last = now
    }, 5)
    yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(timer)))
    let ended = 0
    const from = performance.now()
    const one = Effect.ensuring(
      Effect.exit(pool.borrow),
      Effect.sync(() => {
        ended++
        progress(`${ended} of 300 ended`)
      })
    )
    progress("0 of 300 ended")
    for (let i = 0; i < 300; i++) yield* begin(one)
    const all = yield* until(() => ended === 300, 5000)
    const time = seconds(performance.now() - from)
    // The interval itself is 5 ms.
    const figure = `${all ? "" : `${ended} of 300 in `}${time}, lag ${
      lag < 1000 ? `${Math.round(lag)} ms` : seconds(lag)
    }`
    return verdict(all && lag < 1000, figure)
  })
}

const v2: Program = {
  id: "V2",
  name: "one hung open does not stop the others",
  criterion: "max 10, the first open hangs, its timeout is 5 s: a second borrower has an item within 2 s",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { pool } = yield* start(
      { max: 10, borrowTimeout: 10_000, openTimeout: 5000 },
      { open: (n) => ({ end: n === 1 ? "hang" : "succeed" }) }
    )
    // Who came first gets what is open first, and gives it back.
    yield* begin(Effect.tap(pool.borrow, ({ giveBack }) => giveBack))
    yield* sleep(50)
    const second = yield* within(6500, pool.borrow)
    const green = leaseOf(second) !== undefined && Option.getOrThrow(second).millis < 2000
    return verdict(green, told(second))
  })
}

const v3: Program = {
  id: "V3",
  name: "one hung replacement does not empty the pool",
  criterion:
    "three items of three are ended, the first new open hangs, its timeout is 5 s: of three borrowers two have " +
    "an item within 2 s",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { pool } = yield* start(
      { min: 3, max: 3, borrowTimeout: 10_000, openTimeout: 5000 },
      { open: (n) => ({ end: n === 4 ? "hang" : "succeed" }) }
    )
    for (const lease of yield* borrowedAll(pool, 3)) yield* begin(discard(lease))
    const waiting = yield* Effect.replicateEffect(begin(pool.borrow), 3)
    const served = () => waiting.filter(({ now }) => leaseOf(Option.fromUndefinedOr(now())) !== undefined).length
    const green = yield* until(() => served() >= 2, 2000)
    if (!green) yield* until(() => served() >= 2, 4500)
    const times = waiting.flatMap(({ now }) => now()?.millis ?? []).toSorted((a, b) => a - b)
    return verdict(green, served() >= 2 ? seconds(times[1]!) : `${served()} of 3 served in 6.5 s`)
  })
}

const v6: Program = {
  id: "V6",
  name: "a failed open is no lost place",
  criterion:
    "size 2, the first open fails, the second takes 0.3 s: two borrowers who come meanwhile, and may each try " +
    "again once, have an item each within 2 s",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { pool } = yield* start({ min: 2, max: 2 }, {
      open: (n) => n === 1 ? { end: "fail" } : { end: "succeed", after: n === 2 ? 300 : 0 }
    })
    yield* sleep(100)
    const waiting = yield* Effect.replicateEffect(begin(Effect.retry(pool.borrow, { times: 1 })), 2)
    const served = () => waiting.filter(({ now }) => leaseOf(Option.fromUndefinedOr(now())) !== undefined).length
    const green = yield* until(() => served() === 2, 2000)
    return verdict(green, `${served()} of 2 served`)
  })
}

const v11: Program = {
  id: "V11",
  name: "a server that allows fewer than max",
  criterion:
    "max 4, the server allows 2 and refuses the rest: 200 borrows of 5 ms by 20 fibers, borrow timeout 10 s: " +
    "all served",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ progress, start }) {
    const { pool } = yield* start(
      { max: 4, borrowTimeout: 10_000 },
      { open: (_, { live }) => ({ end: live > 2 ? "fail" : "succeed", after: 5 }) }
    )
    let served = 0
    let failed = 0
    const one = Effect.gen(function*() {
      const lease = yield* Effect.exit(pool.borrow)
      if (Exit.isSuccess(lease)) {
        served++
        yield* sleep(5)
        yield* lease.value.giveBack
      } else failed++
      progress(`${served} of 200 served, ${failed} failed`)
    })
    const fiber = Effect.replicateEffect(one, 10)
    yield* within(12_000, Effect.all(Array.from({ length: 20 }, () => fiber), { concurrency: "unbounded" }))
    return verdict(served === 200, `${served} of 200 served`)
  })
}

const v16: Program = {
  id: "V16",
  name: "min is reached without a borrower",
  criterion: "min 3, the first three opens fail, nobody borrows: three items are open within 3 s",
  onSessions: false,
  absent: {
    "tarn": "its `min` only spares idle items: nothing is opened ahead of need",
    "pg-pool": "its `min` only spares idle items: nothing is opened ahead of need"
  },
  remarks: {},
  run: Effect.fnUntraced(function*({ start }) {
    const { book } = yield* start({ min: 3, max: 5 }, { open: (n) => ({ end: n <= 3 ? "fail" : "succeed" }) })
    const green = yield* until(() => book.openedAt.length >= 3, 3000)
    return verdict(green, `${book.openedAt.length} of 3 open, ${book.opens} attempts`)
  })
}

const v19: Program = {
  id: "V19",
  name: "failed work ends its item, an outage is no storm",
  criterion:
    "work that fails, in the pool's own form for it, leaves its item to nobody (where there is such a form); " +
    "and 10 borrowers that try again at once make at most 300 opens in 2 s when each is refused at once",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ progress, start }) {
    const { pool } = yield* start({ max: 1 })
    let again = false
    if (pool.failing !== undefined) {
      const failed = yield* pool.failing
      again = (yield* borrowed(pool)).id === failed
    }
    const kept = pool.failing === undefined ? "" : again ? "item lent again, " : "item ended, "
    progress(`${kept}outage not over`)
    const outage = yield* start({ max: 10, borrowTimeout: 1500 }, { open: () => ({ end: "fail" }) })
    let over = false
    const one = Effect.whileLoop({
      while: () => !over,
      body: () => Effect.andThen(Effect.exit(outage.pool.borrow), Effect.yieldNow),
      step: () => {}
    })
    for (let i = 0; i < 10; i++) yield* begin(one)
    yield* sleep(2000)
    over = true
    const { opens } = outage.book
    return verdict(!again && opens <= 300, `${kept}${opens.toLocaleString("en")} opens`)
  })
}

export const outage: ReadonlyArray<Program> = [v1, v2, v3, v6, v11, v16, v19]
