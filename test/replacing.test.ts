import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Schedule, Scope } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { lose } from "../src/internal/registered.ts"
import { books, borrow, closedBooks, elapse, several } from "./kit/books.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { insideOf } from "./kit/modelInside.ts"
import { record, recycled, recycledAt, told } from "./kit/observe.ts"

type Pool = QueuePool.QueuePool<Thing, Refused>
type Options = Partial<QueuePool.Options<Thing, Refused, Scope.Scope>>

/** A pool whose items are old after a second, and may stay for five more. */
const ageing = Effect.fnUntraced(function*(options: Options = {}) {
  const source = new Source()
  const pool = yield* QueuePool.make<Thing, Refused, Scope.Scope>({
    acquire: source.acquire,
    max: 4,
    recycle: RecyclePolicy.age(1000),
    replaceTimeout: 5000,
    drainTimeout: 0,
    closeTimeout: 1000,
    ...options
  })
  const events = yield* record(pool)
  return { events, pool, source }
})

const idsOf = (pool: Pool) => Effect.map(pool.use(({ id }) => Effect.succeed(id)), (id) => id)

const { bare, opening } = { bare: "bare", opening: "opening" } as const

/** The books agree, and nothing is kept of replacements that are over. */
const atRest = Effect.fnUntraced(function*(source: Source, pool: Pool, expected: Parameters<typeof books>[2] = {}) {
  const stats = yield* books(source, pool, expected)
  const { replacing } = insideOf(pool).state
  assert.deepStrictEqual([replacing[bare].size, replacing[opening].size], [0, 0], "nothing retained")
  return stats
})

describe("an item that is only old, and that min needs", () => {
  it.effect("E15: goes when another is open in its place, and not before", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 1 })
      source.opens.push({ slow: 300 })
      yield* elapse(1001)
      // Lent while the other is being opened.
      assert.strictEqual(yield* idsOf(pool), 1)
      yield* elapse(299)
      assert.deepStrictEqual([source.attempts, source.closed], [2, []])
      yield* elapse(1)
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
      assert.deepStrictEqual(source.closed, [1])
      assert.strictEqual((yield* atRest(source, pool)).idle, 1)
      assert.strictEqual(yield* idsOf(pool), 2)
    }))

  it.effect("is replaced in one step with the opening of the other: there is one item too many at no time", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 1, maxIdle: 1 })
      yield* elapse(1001)
      assert.deepStrictEqual(told(events).slice(0, 5), ["Opening 2", "Opened 2", "Recycled 1", "Closed 1"])
      assert.deepStrictEqual((yield* atRest(source, pool)).recycled, { age: 1 })
    }))

  it.effect("that is lent, past its age, is replaced when it comes back; it serves nobody else once the other is open", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 1 })
      const holder = yield* borrow(pool)
      yield* elapse(1500)
      source.opens.push({ slow: 100 })
      yield* holder.letGo
      assert.deepStrictEqual([source.attempts, source.closed], [2, []])
      const again = yield* borrow(pool)
      assert.strictEqual(again.item?.id, 1)
      yield* elapse(100)
      // Under its borrower it stays.
      assert.deepStrictEqual([source.live, source.closed], [2, []])
      assert.strictEqual(yield* idsOf(pool), 2)
      yield* again.letGo
      assert.deepStrictEqual(source.closed, [1])
      assert.strictEqual((yield* atRest(source, pool)).idle, 1)
    }))

  it.effect("that is borrowed past its age, before the recycler saw it, is lent all the same", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 1, order: "fifo" })
      yield* settle
      source.opens.push({ slow: 100 })
      const late = yield* Effect.forkChild(Effect.andThen(Effect.sleep(1001), borrow(pool)))
      yield* elapse(1001)
      const holder = yield* Fiber.join(late)
      assert.deepStrictEqual([holder.item?.id, source.attempts], [1, 2])
      yield* elapse(100)
      yield* holder.letGo
      assert.deepStrictEqual((yield* atRest(source, pool)).recycled, { age: 1 })
    }))

  const soft = {
    age: RecyclePolicy.age(1000),
    "age with jitter": RecyclePolicy.age(1000, { jitter: 0.1 }),
    uses: RecyclePolicy.uses(1),
    schedule: RecyclePolicy.schedule(Schedule.recurs(0)),
    "after": RecyclePolicy.after(Schedule.spaced(1000)),
    "age and uses": RecyclePolicy.all([RecyclePolicy.age(1000), RecyclePolicy.uses(1)])
  }

  for (const [name, rule] of Object.entries(soft)) {
    it.effect(`stays when it comes back and ${name} speaks`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* ageing({ recycle: rule })
        const holder = yield* borrow(pool)
        yield* elapse(1001)
        source.opens.push({ slow: 100 })
        yield* holder.letGo
        assert.deepStrictEqual([source.attempts, source.closed], [2, []])
        assert.strictEqual(yield* idsOf(pool), 1)
        yield* elapse(100)
        assert.deepStrictEqual(source.closed, [1])
        assert.strictEqual((yield* atRest(source, pool)).idle, 1)
      }))
  }

  const hard = {
    failed: RecyclePolicy.failed,
    when: RecyclePolicy.when(({ uses }) => uses > 0),
    "age and failed": RecyclePolicy.all([RecyclePolicy.age(1000), RecyclePolicy.failed])
  }

  for (const [name, rule] of Object.entries(hard)) {
    it.effect(`goes at once when ${name} speaks besides`, () =>
      Effect.gen(function*() {
        const { pool, source } = yield* ageing({ min: 1, recycle: [RecyclePolicy.age(1000), rule] })
        yield* Effect.forkChild(pool.use(() => Effect.andThen(Effect.sleep(1500), Effect.fail("bad"))))
        yield* settle
        source.opensOtherwise = { slow: 100 }
        yield* elapse(1500)
        assert.deepStrictEqual(source.closed, [1])
        yield* elapse(100)
        assert.strictEqual((yield* atRest(source, pool)).idle, 1)
        assert.strictEqual(source.attempts, 2)
      }))
  }
})

describe("while it stays, an item", () => {
  /** Its replacement hangs. */
  const staying = Effect.fnUntraced(function*(options: Options = {}) {
    const made = yield* ageing({ min: 1, openTimeout: 60_000, borrowTimeout: 500, ...options })
    yield* settle
    made.source.opensOtherwise = "hang"
    yield* elapse(1001)
    assert.deepStrictEqual([made.source.attempts, made.source.closed], [2, []])
    return made
  })

  it.effect("is lent until replaceTimeout is over, and not longer", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* staying()
      yield* elapse(5000)
      assert.strictEqual(yield* idsOf(pool), 1)
      yield* elapse(1)
      const since = events.find((event) => event._tag === "Opening" && event.item === 2)!.at
      assert.deepStrictEqual([recycled(events), recycledAt(events)], [[[1, "age"]], [since + 5001]])
      // The open that was for it is not begun again.
      yield* elapse(1000)
      assert.deepStrictEqual([source.attempts, (yield* pool.stats).opening], [2, 1])
    }))

  it.effect("is not lent after replaceTimeout, though the recycler has not come by", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* staying()
      yield* elapse(4000)
      const late = yield* Effect.forkChild(Effect.andThen(Effect.sleep(1001), borrow(pool)))
      yield* elapse(1001)
      const waiter = yield* Fiber.join(late)
      assert.deepStrictEqual([waiter.item, source.closed], [undefined, [1]])
    }))

  it.effect("goes when it comes back after replaceTimeout", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* staying()
      const holder = yield* borrow(pool)
      yield* elapse(5001)
      assert.deepStrictEqual(source.closed, [])
      yield* holder.letGo
      assert.deepStrictEqual(source.closed, [1])
    }))

  it.effect("is due at the end of replaceTimeout also when it was lent as it became old, and others are due at theirs", () =>
    Effect.gen(function*() {
      // The first is lent as it becomes old; its place among those that are due is by its new time.
      const { events, pool, source } = yield* ageing({ openTimeout: 60_000, max: 3, replaceTimeout: 2000 })
      const first = yield* borrow(pool)
      yield* first.letGo
      const holder = yield* borrow(pool)
      yield* elapse(500)
      const second = yield* borrow(pool)
      source.opensOtherwise = "hang"
      yield* second.letGo
      yield* elapse(600)
      yield* holder.letGo
      yield* elapse(401)
      // No room for the second and its replacement; the first stays until 3100.
      assert.deepStrictEqual(recycled(events), [[2, "age"]])
      yield* elapse(1599)
      assert.deepStrictEqual(source.closed, [2])
      yield* elapse(1)
      assert.deepStrictEqual(source.closed, [2, 1])
    }))

  it.effect("holds up no other that is due, though it came back, old, long before its deadline", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({
        openTimeout: 60_000,
        recycle: [RecyclePolicy.age(10_000), RecyclePolicy.uses(2)]
      })
      const first = yield* borrow(pool)
      yield* elapse(500)
      const second = yield* borrow(pool)
      yield* second.letGo
      yield* first.letGo
      yield* elapse(8500)
      source.opensOtherwise = "hang"
      assert.strictEqual(yield* idsOf(pool), 1)
      // The first stays until 14,000; the second is old at 10,500, and nobody needs it.
      yield* elapse(1500)
      assert.deepStrictEqual(recycled(events), [])
      yield* elapse(1)
      assert.deepStrictEqual(recycled(events), [[2, "age"]])
      yield* elapse(3499)
      assert.deepStrictEqual(source.closed, [2])
      yield* elapse(1)
      assert.deepStrictEqual(recycled(events), [[2, "age"], [1, "uses"]])
    }))

  it.effect("goes when replaceTimeout is over also where no rule has a deadline", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ openTimeout: 60_000, recycle: RecyclePolicy.uses(1) })
      source.opens.push("ok", "hang")
      yield* pool.use(() => Effect.void)
      yield* elapse(5000)
      assert.deepStrictEqual(source.closed, [])
      yield* elapse(1)
      assert.deepStrictEqual(recycled(events), [[1, "uses"]])
    }))

  it.effect("is looked at by time no more than it has to be", () =>
    Effect.gen(function*() {
      let looks = 0
      yield* staying({
        sweep: "1 hour",
        recycle: [
          RecyclePolicy.age(1000),
          RecyclePolicy.when(() => {
            looks++
            return false
          })
        ]
      })
      looks = 0
      for (let i = 0; i < 500; i++) yield* elapse(10)
      assert.strictEqual(looks, 0)
      yield* elapse(1)
      assert.strictEqual(looks, 1)
    }))

  it.effect("goes at once by invalidate, clear, or its own end; its replacement comes and is the only one", () =>
    Effect.gen(function*() {
      for (const how of ["invalidate", "clear", "lose"] as const) {
        const { pool, source } = yield* ageing({ min: 1 })
        yield* settle
        source.opens.push({ slow: 100 })
        yield* elapse(1001)
        if (how === "clear") yield* pool.clear
        else if (how === "invalidate") yield* pool.invalidate(source.opened[0]!)
        else lose(pool, source.opened[0], "died")
        yield* settle
        assert.deepStrictEqual(source.closed, [1], how)
        yield* elapse(100)
        // What a clear meets while it is being opened goes too.
        assert.strictEqual((yield* atRest(source, pool)).idle, 1, how)
        assert.strictEqual(source.attempts, how === "clear" ? 3 : 2, how)
      }
    }))

  it.effect("lent, and invalidated, goes when it comes back, and has been replaced once", () =>
    Effect.gen(function*() {
      for (const first of ["it comes back", "the other is open"]) {
        const { pool, source } = yield* ageing({ min: 1 })
        yield* settle
        source.opens.push({ slow: 100 })
        yield* elapse(1001)
        const holder = yield* borrow(pool)
        yield* pool.invalidate(source.opened[0]!)
        if (first === "it comes back") yield* holder.letGo
        yield* elapse(100)
        if (first === "the other is open") yield* holder.letGo
        assert.deepStrictEqual((yield* atRest(source, pool)).recycled, { invalidated: 1 }, first)
        assert.deepStrictEqual([source.attempts, source.closed], [2, [1]], first)
      }
    }))

  it.effect("goes at once when a rule without a deadline speaks: at lend, in a sweep, by a check", () =>
    Effect.gen(function*() {
      for (const how of ["lend", "sweep", "check", "check before a lease"] as const) {
        let bad = false
        const { events, pool, source } = yield* staying({
          max: 3,
          recycle: [
            RecyclePolicy.age(1000),
            RecyclePolicy.when(() => bad && how !== "check"),
            RecyclePolicy.check(() => Effect.succeed(bad))
          ],
          check: () => Effect.sync(() => !bad),
          checkAfter: how === "check before a lease" ? 0 : "Infinity"
        })
        source.opensOtherwise = "ok"
        bad = true
        if (how === "check" || how === "sweep") {
          const { recycled } = yield* pool.sweep
          assert.deepStrictEqual(recycled, [{ item: 1, reason: how === "check" ? "check" : "when" }])
        } else {
          const holder = yield* borrow(pool)
          bad = false
          assert.notStrictEqual(holder.item?.id, 1, how)
          yield* holder.letGo
        }
        yield* settle
        assert.deepStrictEqual([recycled(events).length, source.closed], [1, [1]], how)
      }
    }))

  it.effect("that needs a check is checked and lent: nobody waits for the replacement alone", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* staying({ check: () => Effect.sleep(100), checkAfter: 0 })
      const borrowers = [yield* borrow(pool), yield* borrow(pool)]
      yield* elapse(100)
      assert.deepStrictEqual(borrowers.map(({ item }) => item?.id), [1, undefined])
      yield* borrowers[0]!.letGo
      yield* elapse(100)
      assert.deepStrictEqual([borrowers[1]!.item?.id, source.closed], [1, []])
      yield* borrowers[1]!.letGo
    }))

  it.effect("may be shared as before; it takes no newcomer once the other is open", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ concurrency: 2, max: 2 })
      const first = yield* borrow(pool)
      yield* elapse(1500)
      source.opens.push({ slow: 100 })
      const second = yield* borrow(pool)
      assert.deepStrictEqual([second.item?.id, source.attempts], [1, 2])
      yield* second.letGo
      yield* elapse(100)
      const third = yield* borrow(pool)
      assert.strictEqual(third.item?.id, 2)
      assert.deepStrictEqual(source.closed, [])
      yield* first.letGo
      assert.deepStrictEqual(source.closed, [1])
      yield* third.letGo
      assert.strictEqual((yield* atRest(source, pool)).idle, 1)
    }))

  it.effect("lent, leaves with its borrower by detach: its replacement is an item like any other", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 1 })
      yield* settle
      source.opens.push({ slow: 100 })
      yield* elapse(1001)
      yield* Effect.scoped(Effect.gen(function*() {
        const item = yield* pool.get
        assert.isTrue(yield* pool.detach(item))
      }))
      yield* elapse(100)
      assert.deepStrictEqual([source.attempts, source.closed], [2, [1]])
      const { idle, used } = yield* pool.stats
      assert.deepStrictEqual([idle, used], [1, 0])
      const { replacing } = insideOf(pool).state
      assert.deepStrictEqual([replacing[bare].size, replacing[opening].size], [0, 0])
    }))

  it.effect("does not hold up the refill of min after the loss of another", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 2, recycle: RecyclePolicy.uses(1) })
      yield* settle
      source.opens.push("hang")
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.strictEqual(source.attempts, 3)
      yield* pool.invalidate(source.opened[0]!)
      yield* settle
      assert.deepStrictEqual([source.attempts, source.closed], [4, [1]])
      assert.strictEqual((yield* pool.stats).idle, 2)
    }))

  it.effect("is spared no idle rule's look at the others: there are as many as before", () =>
    Effect.gen(function*() {
      // Two are kept, and both have been idle for long; the one that is old is not the coldest.
      const { events, pool, source } = yield* ageing({
        min: 2,
        recycle: [RecyclePolicy.idle(100), RecyclePolicy.uses(2)]
      })
      yield* settle
      yield* idsOf(pool)
      yield* idsOf(pool)
      yield* elapse(500)
      assert.deepStrictEqual(recycled(events), [[2, "uses"]])
      assert.strictEqual((yield* atRest(source, pool)).idle, 2)
      assert.strictEqual(source.attempts, 3)
    }))
})

describe("a replacement that fails", () => {
  it.effect("once: the old one stays and is lent; the next try is after the usual delay", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 1 })
      yield* settle
      source.opens.push("fail")
      yield* elapse(1001)
      assert.deepStrictEqual([source.attempts, source.closed], [2, []])
      assert.strictEqual(yield* idsOf(pool), 1)
      yield* elapse(79)
      assert.strictEqual(source.attempts, 2)
      yield* elapse(21)
      assert.deepStrictEqual([source.attempts, source.closed], [3, [1]])
      assert.deepStrictEqual(recycled(events), [[1, "age"]])
      assert.strictEqual((yield* atRest(source, pool)).idle, 1)
    }))

  it.effect("always: the old one is lent until replaceTimeout, with few tries between, and min is refilled after", () =>
    Effect.gen(function*() {
      for (const outcome of ["fail", "die"] as const) {
        const { pool, source } = yield* ageing({ min: 1 })
        yield* settle
        source.opensOtherwise = outcome
        yield* elapse(1001)
        for (let i = 0; i < 50; i++) {
          yield* elapse(100)
          assert.strictEqual(yield* idsOf(pool), 1)
        }
        yield* elapse(1)
        assert.deepStrictEqual(source.closed, [1])
        // 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 seconds, less a fifth at most.
        assert.isAtMost(source.attempts, 8)
        assert.isAtLeast(source.attempts, 5)
        source.opensOtherwise = "ok"
        yield* elapse(6000)
        const { idle, recycled } = yield* atRest(source, pool)
        assert.deepStrictEqual([idle, recycled], [1, { age: recycled["age"]! }])
      }
    }))

  it.effect("is tried again where nothing else would be: without min", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ recycle: RecyclePolicy.uses(1) })
      yield* pool.use(() => Effect.void)
      yield* elapse(100)
      // The first was replaced by the second, which comes back past its uses.
      source.opens.push("fail", "fail")
      yield* pool.use(() => Effect.void)
      yield* settle
      assert.strictEqual(source.attempts, 3)
      yield* elapse(100)
      assert.strictEqual(source.attempts, 4)
      yield* elapse(200)
      assert.deepStrictEqual([source.attempts, source.closed], [5, [1, 2]])
      assert.strictEqual((yield* atRest(source, pool)).idle, 1)
    }))

  it.effect("goes the road of retry", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 1, retry: Schedule.spaced(400) })
      yield* settle
      source.opens.push("fail", "fail")
      yield* elapse(1001)
      assert.strictEqual(source.attempts, 2)
      yield* elapse(399)
      assert.strictEqual(source.attempts, 2)
      yield* elapse(1)
      assert.deepStrictEqual([source.attempts, yield* idsOf(pool)], [3, 1])
      yield* elapse(400)
      assert.deepStrictEqual([source.attempts, source.closed], [4, [1]])
      assert.strictEqual((yield* atRest(source, pool)).idle, 1)
    }))

  it.effect("to the end of retry is tried again after the delay of a refill", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 1, retry: Schedule.recurs(1) })
      yield* settle
      source.opens.push("fail", "fail")
      yield* elapse(1002)
      assert.strictEqual(source.attempts, 3)
      yield* elapse(100)
      assert.deepStrictEqual([source.attempts, source.closed], [4, [1]])
      yield* atRest(source, pool)
    }))

  it.effect("in openTimeout holds its slot until it is gone, and no longer", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 1, max: 2, openTimeout: 500 })
      yield* settle
      source.opens.push("stuck")
      yield* elapse(1001)
      yield* elapse(500)
      assert.deepStrictEqual([source.attempts, (yield* pool.stats).closing], [2, 1])
      assert.strictEqual(yield* idsOf(pool), 1)
      yield* elapse(1000)
      assert.deepStrictEqual([source.attempts, source.closed], [3, [1]])
      yield* atRest(source, pool, { neverOpened: 1 })
    }))

  it.effect("B3: that a waiter was promised is told to it, and the old one still serves", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ max: 3, openConcurrency: 1, recycle: RecyclePolicy.uses(1) })
      source.opens.push("ok", { slow: 100 })
      const holder = yield* borrow(pool)
      const waiter = yield* borrow(pool)
      source.opens.push("fail")
      yield* holder.letGo
      // It is old, and serves the one who waited.
      assert.strictEqual(waiter.item?.id, 1)
      yield* waiter.letGo
      yield* elapse(1000)
      const { idle, recycled } = yield* atRest(source, pool)
      assert.deepStrictEqual([idle, recycled, source.attempts], [2, { uses: 1 }, 4])
    }))
})

describe("an old item is recycled as ever", () => {
  it.effect("when there is no room for both under max", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 1, max: 1 })
      yield* elapse(1001)
      assert.deepStrictEqual(told(events).slice(0, 2), ["Recycled 1", "Closed 1"])
      yield* elapse(900)
      const holder = yield* borrow(pool)
      yield* elapse(200)
      source.opens.push("hang")
      yield* holder.letGo
      assert.deepStrictEqual(source.closed, [1, 2])
      assert.strictEqual(source.peakLive, 1)
    }))

  it.effect("when there is no room because it counts itself: on its way from one lease to the next", () =>
    Effect.gen(function*() {
      // It becomes old while it is reset, and somebody waits for it.
      const { pool, source } = yield* ageing({ max: 1, reset: () => Effect.sleep(200) })
      const holder = yield* borrow(pool)
      yield* elapse(900)
      const waiter = yield* borrow(pool)
      yield* holder.letGo
      yield* elapse(200)
      assert.deepStrictEqual([source.closed, waiter.item?.id, source.peakLive], [[1], 2, 1])
      yield* waiter.letGo
      yield* elapse(200)
      yield* atRest(source, pool)
    }))

  it.effect("when nobody needs it: idle above min", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 1 })
      for (const { letGo } of yield* several(3, pool)) yield* letGo
      yield* elapse(1001)
      const { idle, recycled } = yield* atRest(source, pool)
      // Two are above min; the last one is replaced.
      assert.deepStrictEqual([idle, recycled, source.attempts], [1, { age: 3 }, 4])
    }))

  it.effect("when replaceTimeout is 0, the default", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 1, replaceTimeout: undefined })
      yield* elapse(1001)
      assert.deepStrictEqual(told(events).slice(0, 2), ["Recycled 1", "Opening 2"])
      yield* atRest(source, pool)
    }))

  it.effect("when it is to go in any case: it was invalidated before it came back", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing()
      const holder = yield* borrow(pool)
      yield* elapse(1500)
      yield* pool.invalidate(holder.item!)
      yield* holder.letGo
      const { idle, recycled } = yield* atRest(source, pool)
      assert.deepStrictEqual([idle, recycled, source.attempts], [0, { invalidated: 1 }, 1])
    }))

  it.effect("when it ends in a rule's own function", () =>
    Effect.gen(function*() {
      const around: { pool?: Pool } = {}
      const { pool, source } = yield* ageing({
        recycle: [
          RecyclePolicy.age(1000),
          RecyclePolicy.when(({ age, item, moment }) => {
            if (moment === "return" && age > 1000) lose(around.pool!, item, "died")
            return false
          })
        ]
      })
      around.pool = pool
      const [holder, other] = [yield* borrow(pool), yield* borrow(pool)]
      yield* elapse(1500)
      yield* holder.letGo
      assert.deepStrictEqual([source.closed, source.attempts, (yield* pool.stats).used], [[1], 2, 1])
      yield* other.letGo
      assert.deepStrictEqual((yield* atRest(source, pool)).recycled, { died: 2 })
    }))

  it.effect("kept ahead of need it is needed: by minIdle and by targetUtilization", () =>
    Effect.gen(function*() {
      for (const ahead of [{ minIdle: 1 }, { targetUtilization: 0.5 }]) {
        const { events, pool, source } = yield* ageing({ ...ahead, recycle: RecyclePolicy.age(1000) })
        const holder = yield* borrow(pool)
        const before = yield* pool.stats
        assert.deepStrictEqual([before.idle, before.used], [1, 1])
        yield* elapse(1001)
        assert.deepStrictEqual([source.closed, source.attempts], [[2], 3])
        assert.isBelow(told(events).indexOf("Opened 3"), told(events).indexOf("Recycled 2"))
        yield* holder.letGo
      }
    }))
})

describe("several old items", () => {
  it.effect("at once are replaced together as far as max allows; there are as many as before", () =>
    Effect.gen(function*() {
      for (const [max, cut] of [[6, 0], [5, 1], [4, 2], [3, 3]] as const) {
        const { pool, source } = yield* ageing({ min: 3, max })
        yield* settle
        source.opensOtherwise = { slow: 100 }
        yield* elapse(1001)
        assert.strictEqual(source.closed.length, cut, `max ${max}`)
        yield* elapse(1000)
        const { idle } = yield* atRest(source, pool)
        assert.deepStrictEqual([idle, source.attempts], [3, 6], `max ${max}`)
      }
    }))

  it.effect("are opened anew no more at once than openConcurrency allows", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 3, max: 6, openConcurrency: 1 })
      yield* elapse(500)
      source.peakOpening = 0
      source.opensOtherwise = { slow: 100 }
      yield* elapse(501)
      assert.deepStrictEqual([source.closed, source.opening], [[], 1])
      for (const closed of [1, 2, 3]) {
        yield* elapse(100)
        assert.strictEqual(source.closed.length, closed)
      }
      assert.strictEqual(source.peakOpening, 1)
      assert.deepStrictEqual(recycled(events).map(([, reason]) => reason), ["age", "age", "age"])
      assert.strictEqual((yield* atRest(source, pool)).idle, 3)
    }))

  it.effect("of which one goes by itself before its turn: nothing is opened for it", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ openConcurrency: 1, recycle: RecyclePolicy.uses(1) })
      const borrowers = yield* several(2, pool)
      source.opensOtherwise = { slow: 100 }
      for (const { letGo } of borrowers) yield* letGo
      const first = yield* borrow(pool)
      // It is the second: its turn has not come.
      assert.strictEqual(first.item?.id, 2)
      yield* pool.invalidate(first.item!)
      yield* elapse(100)
      yield* first.letGo
      yield* elapse(1000)
      const { idle, recycled } = yield* atRest(source, pool)
      assert.deepStrictEqual([idle, recycled, source.attempts], [1, { uses: 1, invalidated: 1 }, 3])
    }))

  it.effect("E9: of a clear over a time go one by one, each when another is open; lent ones when they come back", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 3, max: 5, recycle: undefined })
      yield* settle
      const holder = yield* borrow(pool)
      source.opensOtherwise = { slow: 100 }
      yield* pool.clearWith({ over: 3000 })
      let least = Infinity
      for (let i = 0; i < 40; i++) {
        yield* elapse(100)
        const { idle, used } = yield* pool.stats
        least = Math.min(least, idle + used)
      }
      assert.deepStrictEqual([least, recycled(events).length], [3, 2])
      yield* holder.letGo
      yield* elapse(100)
      const { idle, recycled: reasons } = yield* atRest(source, pool)
      assert.deepStrictEqual([idle, reasons, source.attempts], [3, { cleared: 3 }, 6])
    }))
})

describe("a pool with replacements under way", () => {
  it.effect("closes in the middle: what is open or opening is closed, once, and nothing is kept", () =>
    Effect.gen(function*() {
      for (const outcome of ["hang", { slow: 10 }, "fail"] as const) {
        const scope = yield* Scope.make()
        const { pool, source } = yield* Scope.provide(ageing({ min: 2, max: 3 }), scope)
        yield* elapse(0)
        const holder = yield* borrow(pool)
        source.opensOtherwise = outcome
        yield* elapse(1001)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* elapse(1)
        assert.isDefined(closing.pollUnsafe())
        yield* holder.letGo
        closedBooks(source)
        const { replacing } = insideOf(pool).state
        assert.deepStrictEqual([replacing[bare].size, replacing[opening].size], [0, 0])
      }
    }))

  it.effect("lets no item stay as it closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { pool, source } = yield* Scope.provide(ageing({ drainTimeout: 5000 }), scope)
      const holder = yield* borrow(pool)
      yield* elapse(1500)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      yield* holder.letGo
      yield* Fiber.join(closing)
      assert.deepStrictEqual([source.attempts, source.closed], [1, [1]])
    }))

  it.effect("opens nothing while it is suspended: the old one stays until its time is over, or until resume", () =>
    Effect.gen(function*() {
      for (const resumes of [true, false]) {
        const { pool, source } = yield* ageing({ min: 1 })
        const holder = yield* borrow(pool)
        yield* pool.suspend
        yield* elapse(1001)
        yield* holder.letGo
        yield* elapse(1000)
        assert.deepStrictEqual([source.attempts, source.closed, (yield* pool.stats).idle], [1, [], 1])
        if (resumes) yield* pool.resume
        else yield* elapse(5000)
        yield* settle
        assert.deepStrictEqual([source.attempts, source.closed], [resumes ? 2 : 1, [1]])
        yield* pool.resume
        assert.strictEqual((yield* atRest(source, pool)).idle, 1)
      }
    }))

  it.effect("that is suspended meanwhile replaces what is on its way", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 1 })
      yield* settle
      source.opens.push({ slow: 100 })
      yield* elapse(1001)
      yield* pool.suspend
      yield* elapse(100)
      assert.deepStrictEqual(source.closed, [1])
      assert.strictEqual((yield* atRest(source, pool)).idle, 1)
    }))

  it.effect("made smaller: the coldest go, and what arrives is one too many only while all others are there", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ min: 2, max: 4 })
      yield* settle
      source.opensOtherwise = { slow: 100 }
      yield* elapse(1001)
      assert.strictEqual((yield* pool.stats).opening, 2)
      yield* pool.resize({ min: 1, max: 1 })
      yield* elapse(1000)
      const { closing, idle, opening } = yield* pool.stats
      assert.deepStrictEqual([idle, opening, closing, source.live], [1, 0, 0, 1])
      assert.strictEqual(yield* idsOf(pool), source.opened.at(-1)!.id)
    }))

  it.effect("made larger: what found no room before is not waited for, what comes now is", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 1, max: 1 })
      yield* elapse(500)
      yield* pool.resize({ max: 2 })
      yield* elapse(501)
      assert.isBelow(told(events).indexOf("Opened 2"), told(events).indexOf("Recycled 1"))
      yield* atRest(source, pool)
    }))

  it.effect("cleared over a time: what is being opened is not what replaces", () =>
    Effect.gen(function*() {
      const { events, pool, source } = yield* ageing({ min: 1 })
      yield* settle
      source.opensOtherwise = { slow: 100 }
      yield* elapse(1001)
      yield* pool.clearWith({ over: 60_000 })
      yield* elapse(100)
      // The second was being opened, and is recycled on arrival; the first stays for the third.
      assert.deepStrictEqual([source.closed, source.attempts], [[2], 3])
      assert.strictEqual((yield* pool.stats).idle, 1)
      yield* elapse(100)
      assert.deepStrictEqual([source.closed, recycled(events)], [[2, 1], [[2, "cleared"], [1, "age"]]])
      assert.strictEqual((yield* atRest(source, pool)).idle, 1)
    }))

  it.effect("whose sweep waits for a check of an item that becomes old meanwhile tells what it did", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({
        recycle: RecyclePolicy.check(() => Effect.as(Effect.sleep(500), false))
      })
      yield* pool.use(() => Effect.void)
      const sweep = yield* Effect.forkChild(pool.sweep)
      yield* settle
      yield* pool.clearWith({ over: 100 })
      yield* elapse(500)
      // Nobody needs it: it goes, and the sweep says so.
      assert.deepStrictEqual((yield* Fiber.join(sweep)).recycled, [{ item: 1, reason: "cleared" }])
      const { idle } = yield* atRest(source, pool)
      assert.deepStrictEqual([idle, source.attempts], [0, 1])
    }))

  it.effect("whose replacement arrives while the old one is checked, or reset, recycles it after", () =>
    Effect.gen(function*() {
      for (const what of ["check", "reset"] as const) {
        const slow = () => Effect.sleep(200)
        const { pool, source } = yield* ageing({
          min: 1,
          ...(what === "check" ? { check: slow, checkAfter: 0 } : { reset: slow })
        })
        yield* settle
        source.opens.push({ slow: 100 })
        yield* elapse(1001)
        const waiter = yield* borrow(pool)
        if (what === "reset") yield* waiter.letGo
        yield* elapse(200)
        if (what === "check") assert.strictEqual(waiter.item?.id, 2)
        yield* waiter.letGo
        yield* elapse(200)
        assert.deepStrictEqual(source.closed, [1], what)
        assert.strictEqual((yield* atRest(source, pool)).idle, 1)
      }
    }))

  it.effect("loses nothing when a borrower is interrupted at any of its steps", () =>
    interruptAtEvery(Effect.fnUntraced(function*(run, at) {
      const { pool, source } = yield* ageing({ min: 1, max: 2, recycle: RecyclePolicy.uses(1) })
      yield* settle
      const fiber = yield* run(pool.use(() => Effect.yieldNow))
      yield* Fiber.await(fiber)
      yield* elapse(100)
      assert.strictEqual((yield* atRest(source, pool)).idle, 1, at)
      assert.isAtMost(source.attempts, 2)
      assert.isAbove(yield* idsOf(pool), 0)
    }, Effect.scoped)))

  it.effect("serves several waiters with the old one and the new: each is lent once at a time", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* ageing({ max: 3, openConcurrency: 1 })
      const done = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(pool.use(() => Deferred.await(done)))
      yield* settle
      source.opens.push({ slow: 1000 })
      yield* elapse(1500)
      const order: Array<number> = []
      const waiters = yield* Effect.forEach(
        [1, 2, 3],
        () =>
          Effect.forkChild(pool.use(({ id }) => Effect.andThen(Effect.sleep(10), Effect.sync(() => order.push(id)))))
      )
      yield* settle
      yield* Deferred.succeed(done, undefined)
      yield* elapse(10)
      yield* elapse(10)
      yield* elapse(10)
      yield* Fiber.joinAll([holder, ...waiters])
      assert.deepStrictEqual(order, [1, 1, 1])
      yield* elapse(1000)
      yield* atRest(source, pool)
    }))
})
