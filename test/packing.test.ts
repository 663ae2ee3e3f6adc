/** `sharing: "pack"`: who comes joins those who came last, and other items stay idle. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { QueuePool, RecyclePolicy } from "effect-queuepool"
import { books, borrow, type Borrower, elapse, several } from "./kit/books.ts"
import { Refused, settle, Source, type Thing } from "./kit/items.ts"
import { record } from "./kit/observe.ts"
import { Rng } from "./kit/random.ts"

type Options = Partial<QueuePool.Options<Thing, Refused>>
type Things = QueuePool.QueuePool<Thing, Refused>

/** So many items, all idle. */
const packing = Effect.fnUntraced(function*(count: number, options: Options = {}) {
  const source = new Source()
  const pool: Things = yield* QueuePool.make({
    acquire: source.acquire,
    concurrency: 3,
    sharing: "pack",
    min: count,
    max: count,
    warm: "eager",
    ...options
  })
  // A test that has failed must not wait for its borrowers.
  yield* Effect.addFinalizer(() => Effect.forkDetach(elapse("1 minute")))
  return { pool, source }
})

const alone = (pool: Things): Things => Object.create(pool, { use: { value: pool.useExclusive } })

const idOf = ({ item }: Borrower<Thing, unknown>) => item?.id

const invalidating = (pool: Things, thing: Thing) => () => Effect.runSync(pool.invalidate(thing))

const letAllGo = (borrowers: ReadonlyArray<Borrower<Thing, unknown>>) =>
  Effect.forEach(borrowers, ({ letGo }) => letGo, { discard: true })

describe("who comes", () => {
  it.effect("joins those who came last until their item is full, and then takes an idle one", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* packing(3)
      const borrowers = yield* several(5, pool)
      const [a, b, c, d, e] = borrowers.map(idOf)
      assert.deepStrictEqual([a, b, c], [a, a, a])
      assert.notStrictEqual(d, a)
      assert.strictEqual(e, d)
      assert.strictEqual((yield* pool.stats).idle, 1)
      // There is a place where the first three are, but the last came elsewhere.
      yield* borrowers[0]!.letGo
      const sixth = yield* borrow(pool)
      assert.strictEqual(idOf(sixth), d)
      const seventh = yield* borrow(pool)
      assert.strictEqual(idOf(seventh), a)
      yield* letAllGo([...borrowers, sixth, seventh])
      yield* books(source, pool)
    }))

  it.effect("spreads where nobody says otherwise", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* packing(3, { sharing: undefined })
      const borrowers = yield* several(3, pool)
      assert.strictEqual(new Set(borrowers.map(idOf)).size, 3)
      yield* letAllGo(borrowers)
      yield* books(source, pool)
    }))

  it.effect("does not join where no lease has ended for 10 milliseconds, unless nothing is idle", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* packing(2)
      const slow = yield* borrow(pool)
      yield* elapse(9)
      const soon = yield* borrow(pool)
      assert.strictEqual(idOf(soon), idOf(slow))
      // Something ends there.
      yield* soon.letGo
      yield* elapse(9)
      const next = yield* borrow(pool)
      assert.strictEqual(idOf(next), idOf(slow))
      yield* elapse(1)
      const late = yield* borrow(pool)
      assert.notStrictEqual(idOf(late), idOf(slow))
      yield* elapse(10)
      const last = yield* several(3, pool)
      assert.deepStrictEqual(last.map(idOf), [idOf(late), idOf(late), idOf(slow)])
      yield* letAllGo([slow, next, late, ...last])
      yield* books(source, pool)
    }))

  it.effect("joins where a lease has ended rather than where the last came, who are held up", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* packing(2, { concurrency: 2 })
      const [a, b, c] = yield* several(3, pool)
      assert.notStrictEqual(idOf(c!), idOf(a!))
      yield* elapse(100)
      yield* a!.letGo
      const late = yield* borrow(pool)
      assert.strictEqual(idOf(late), idOf(b!))
      // The same for one who waits until there is room.
      const [d, waits] = yield* several(2, pool)
      assert.deepStrictEqual([idOf(d!), waits!.item], [idOf(c!), undefined])
      yield* elapse(100)
      yield* b!.letGo
      assert.strictEqual(idOf(waits!), idOf(late))
      yield* letAllGo([c!, d!, late, waits!])
      yield* books(source, pool)
    }))

  for (const [which, ends, item] of [["the check", "check", 1], ["a lease there", "lease", 0]] as const) {
    it.effect(`waits for a check rather than join those who are held up, until ${which} ends`, () =>
      Effect.gen(function*() {
        const done = yield* Deferred.make<void>()
        const { pool, source } = yield* packing(2, { check: () => Deferred.await(done), checkAfter: 2 })
        const [slow, other] = yield* several(2, pool)
        yield* elapse(10)
        const late = yield* several(2, pool)
        assert.deepStrictEqual(late.map(idOf), [undefined, undefined])
        if (ends === "check") yield* Deferred.succeed(done, undefined)
        else yield* other!.letGo
        yield* settle
        const ids = source.opened.map(({ id }) => id).toSorted((one) => one === idOf(slow!) ? -1 : 1)
        assert.deepStrictEqual(late.map(idOf), [ids[item], ids[item]])
        yield* Deferred.succeed(done, undefined)
        yield* letAllGo([slow!, other!, ...late])
        yield* books(source, pool)
      }))
  }

  /** One slow lease; the other item is idle, and its check never ends. */
  const slowAndUnproven = Effect.fnUntraced(function*(options: Options = {}) {
    const made = yield* packing(2, { check: () => Effect.never, checkAfter: 2, ...options })
    const slow = yield* borrow(made.pool)
    yield* elapse(10)
    return { ...made, slow }
  })

  it.effect("waits for no check when it may not wait", () =>
    Effect.gen(function*() {
      const { pool, slow } = yield* slowAndUnproven({ borrowTimeout: 0 })
      assert.strictEqual(yield* pool.use(({ id }) => Effect.succeed(id)), idOf(slow))
    }))

  it.effect("is not refused while there is room", () =>
    Effect.gen(function*() {
      const { pool } = yield* slowAndUnproven({ maxWaiters: 0 })
      const late = yield* several(5, pool)
      assert.deepStrictEqual(late.filter(({ fiber }) => fiber.pollUnsafe() !== undefined), [])
    }))

  it.effect("waits for no check that is for one who needs an item alone", () =>
    Effect.gen(function*() {
      const { pool, slow, source } = yield* slowAndUnproven({ max: 3 })
      const lone = yield* borrow(alone(pool))
      const sharer = yield* borrow(pool)
      assert.deepStrictEqual([idOf(lone), idOf(sharer)], [undefined, idOf(slow)])
      assert.strictEqual(source.opened.length, 2)
    }))

  it.effect("has nothing opened for it while there is room", () =>
    Effect.gen(function*() {
      const { pool, slow, source } = yield* slowAndUnproven({ max: 3 })
      const late = yield* several(4, pool)
      assert.deepStrictEqual([source.opened.length, late.filter((one) => idOf(one) === idOf(slow)).length], [2, 1])
    }))

  it.effect("waits for one check that fails, and not for the next", () =>
    Effect.gen(function*() {
      const { pool, slow } = yield* slowAndUnproven({
        check: () => Effect.delay(Effect.fail(new Refused(0)), 1000),
        min: 0,
        max: 6,
        warm: "background"
      })
      const others = yield* several(5, alone(pool))
      yield* letAllGo(others)
      yield* elapse(10)
      const late = yield* borrow(pool)
      assert.strictEqual(idOf(late), undefined)
      yield* elapse(1000)
      assert.strictEqual(idOf(late), idOf(slow))
    }))

  it.effect("joins others where leases end, if those who came last are held up", () =>
    Effect.gen(function*() {
      const { pool } = yield* packing(3, { concurrency: 2, check: () => Effect.never, checkAfter: 2 })
      const [x] = yield* several(3, pool)
      yield* elapse(10)
      const where = idOf(x!)
      yield* x!.letGo
      assert.strictEqual(idOf(yield* borrow(pool)), where)
    }))

  it.effect("waits for a check also where one has left long ago", () =>
    Effect.gen(function*() {
      const { pool } = yield* packing(2, { check: () => Effect.never, checkAfter: 2 })
      const [staying, leaving] = yield* several(2, pool)
      assert.strictEqual(idOf(staying!), idOf(leaving!))
      yield* leaving!.letGo
      yield* elapse(10)
      assert.strictEqual(idOf(yield* borrow(pool)), undefined)
    }))

  it.effect("waits for a check where those whom one has left are to go", () =>
    Effect.gen(function*() {
      const { pool } = yield* packing(3, { concurrency: 2, check: () => Effect.never, checkAfter: 2 })
      const [leaving] = yield* several(3, pool)
      yield* elapse(10)
      yield* leaving!.letGo
      yield* pool.invalidate(leaving!.item!)
      assert.strictEqual(idOf(yield* borrow(pool)), undefined)
    }))

  it.effect("does not join who is held up in the place of those of whom a rule disapproves", () =>
    Effect.gen(function*() {
      const rule: { old: Thing | undefined } = { old: undefined }
      const { pool } = yield* packing(3, {
        min: 0,
        concurrency: 2,
        warm: "background",
        recycle: RecyclePolicy.when(({ item }) => item === rule.old)
      })
      yield* letAllGo(yield* several(3, alone(pool)))
      const slow = yield* borrow(pool)
      yield* elapse(10)
      const fresh = yield* borrow(pool)
      rule.old = fresh.item
      assert.notInclude([idOf(slow), idOf(fresh)], idOf(yield* borrow(pool)))
    }))

  it.effect("does not join one who has the item alone, nor an item that is to go", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* packing(3)
      const before = yield* borrow(pool)
      const lone = yield* borrow(alone(pool))
      assert.notStrictEqual(idOf(lone), idOf(before))
      yield* before.letGo
      const first = yield* borrow(pool)
      assert.notStrictEqual(idOf(first), idOf(lone))
      yield* pool.invalidate(first.item!)
      const second = yield* borrow(pool)
      assert.notInclude([idOf(lone), idOf(first)], idOf(second))
      yield* letAllGo([lone, first, second])
      yield* books(source, pool)
    }))

  it.effect("and takes only what is there joins too", () =>
    Effect.gen(function*() {
      const { pool, source } = yield* packing(2)
      const first = yield* borrow(pool)
      const second = yield* pool.useIfAvailable(({ id }) => Effect.succeed(id))
      assert.deepStrictEqual(second, yield* Effect.asSome(Effect.succeed(idOf(first))))
      yield* first.letGo
      yield* books(source, pool)
    }))

  it.effect("is told of the rules, and so is what a predicate did meanwhile", () =>
    Effect.gen(function*() {
      const nothing = () => {}
      const around = { act: nothing, refuses: false }
      const { pool, source } = yield* packing(2, {
        min: 0,
        max: 3,
        warm: "background",
        recycle: RecyclePolicy.when(() => {
          const { act, refuses } = around
          Object.assign(around, { act: nothing, refuses: false })
          act()
          return refuses
        })
      })
      const both = yield* several(2, alone(pool))
      yield* letAllGo(both)
      const first = yield* borrow(pool)
      const other = both.map(({ item }) => item!).find((thing) => thing !== first.item)
      around.refuses = true
      around.act = invalidating(pool, other!)
      const second = yield* borrow(pool)
      assert.strictEqual(idOf(second), 3)
      yield* letAllGo([first, second])
      yield* books(source, pool)
    }))
})

describe("laws", () => {
  for (const listens of [false, true]) {
    it.effect(
      `a newcomer comes where a few lines say, ${listens ? "told of or not" : "in a rush or not"}`,
      () =>
        Effect.gen(function*() {
          for (let seed = 1; seed <= 60; seed++) {
            const rng = new Rng(seed)
            const concurrency = 2 + rng.int(3)
            const { pool, source } = yield* packing(2 + rng.int(3), { concurrency })
            if (listens) yield* record(pool)
            yield* settle
            // What the items are to be: who has them, and when something last ended there.
            const having = new Map(source.opened.map((thing) => [thing, new Set<Borrower<Thing, unknown>>()]))
            const moved = new Map<Thing, number>()
            let last: Thing | undefined
            let left: Thing | undefined
            let now = 0
            for (let n = 0; n < 60; n++) {
              const at = `seed ${seed}, step ${n}`
              const what = rng.weighted([[5, "borrow"], [4, "end"], [1, "wait"]])
              const taken = Array.from(having).flatMap(([thing, all]) =>
                Array.from(all, (one) => [thing, one] as const)
              )
              if (what === "wait") {
                const millis = rng.pick([1, 4, 10])
                now += millis
                yield* elapse(millis)
              } else if (what === "end" && taken.length > 0) {
                const [thing, one] = rng.pick(taken)
                yield* one.letGo
                having.get(thing)!.delete(one)
                moved.set(thing, now)
                left = having.get(thing)!.size > 0 ? thing : undefined
              } else if (taken.length < having.size * concurrency) {
                const loadOf = (thing: Thing) => having.get(thing)!.size
                const roomy = (thing: Thing | undefined) =>
                  thing !== undefined && loadOf(thing) > 0 && loadOf(thing) < concurrency
                const shared = source.opened.filter(roomy)
                const least = Math.min(...shared.map(loadOf))
                const room = roomy(last) ? [last!] : shared.filter((thing) => loadOf(thing) === least)
                const idle = source.opened.filter((thing) => loadOf(thing) === 0)
                const one = yield* borrow(pool)
                const { item } = one
                const joins = (thing: Thing) => now - moved.get(thing)! < 10
                // Those who came last are held up: where one has left others are not.
                const others = roomy(left) && joins(left!) ? [left!] : idle.length > 0 ? idle : room
                const may = [...room.filter(joins), ...(room.every(joins) && room.length > 0 ? [] : others)]
                assert.include(may, item, at)
                if (loadOf(item!) === 0) moved.set(item!, now)
                having.get(item!)!.add(one)
                last = item
              }
            }
            for (const all of having.values()) yield* letAllGo(Array.from(all))
            yield* books(source, pool)
          }
        }),
      30_000
    )
  }
})
