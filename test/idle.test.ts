import { assert, describe, it } from "@effect/vitest"
import { Idle, type Node } from "../src/internal/idle.ts"
import { Rng } from "./kit/random.ts"

const orders = ["lifo", "fifo", "hybrid"] as const

type Order = (typeof orders)[number]

class One implements Node<One> {
  readonly id: number
  colder: One | undefined = undefined
  warmer: One | undefined = undefined
  linked = false
  core = false
  idleSince = 0

  constructor(id: number) {
    this.id = id
  }
}

const coreOf = (items: Iterable<One>) => Array.from(items).filter((item) => item.core)

const ids = (items: Iterable<One>) => Array.from(items, ({ id }) => id)

/** A list, and how many items of its pool are out. */
class Bench {
  readonly idle: Idle<One>
  out = 0
  min: number
  private now = 0

  constructor(order: Order, min = 0) {
    this.min = min
    this.idle = new Idle<One>(order, () => this.min, () => this.out)
  }

  /** So many items of this pool are out. */
  lent(count: number): Array<One> {
    this.out += count
    return Array.from({ length: count }, (_, index) => new One(index + 1))
  }

  giveBack(...items: ReadonlyArray<One>): void {
    for (const item of items) {
      this.out--
      item.idleSince = ++this.now
      this.idle.push(item)
    }
  }

  take(item: One): One {
    this.idle.remove(item)
    this.out++
    return item
  }

  putBack(...items: ReadonlyArray<One>): void {
    for (const item of items) {
      this.out--
      this.idle.putBack(item)
    }
  }

  borrow(): One {
    return this.take(this.idle.next!)
  }

  /** Borrows all there is, and gives back nothing. */
  order(): Array<number> {
    const borrowed: Array<number> = []
    while (this.idle.next !== undefined) borrowed.push(this.borrow().id)
    return borrowed
  }

  get core(): Array<number> {
    return ids(coreOf(this.idle))
  }
}

/** The links agree with one another and with what is told of them. */
const sound = (idle: Idle<One>, order: Order, hint = "") => {
  const items = Array.from(idle)
  assert.strictEqual(items.length, idle.size, hint)
  assert.strictEqual(idle.coldest, items[0], hint)
  assert.strictEqual(idle.warmest, items.at(-1), hint)
  const linked = ({ colder, linked, warmer }: One, index: number) =>
    linked && colder === items[index - 1] && warmer === items[index + 1]
  assert.isTrue(items.every(linked), hint)
  const core = coreOf(items)
  if (order !== "hybrid") assert.strictEqual(core.length, 0, hint)
  assert.strictEqual(idle.next, core[0] ?? items.at(order === "fifo" ? 0 : -1), hint)
}

describe("the idle items", () => {
  it.each(orders)("%s: none are there at first, and none when all are gone", (order) => {
    const bench = new Bench(order, 1)
    for (let i = 0; i < 2; i++) {
      const { coldest, next, size, warmest } = bench.idle
      assert.deepStrictEqual([coldest, next, size, warmest], [undefined, undefined, 0, undefined])
      bench.giveBack(...bench.lent(3))
      bench.order()
    }
  })

  it("lifo lends the one returned last, and is what a list has unless told otherwise", () => {
    for (const idle of [new Idle<One>(), new Idle<One>("lifo")]) {
      for (const id of [2, 1, 3]) idle.push(new One(id))
      assert.deepStrictEqual([idle.coldest, idle.next, idle.warmest].map((one) => one?.id), [2, 3, 3])
      idle.remove(idle.next!)
      assert.strictEqual(idle.next?.id, 1)
    }
  })

  it("fifo lends the one returned first", () => {
    const bench = new Bench("fifo", 2)
    const [a, b, c] = bench.lent(3)
    bench.giveBack(b!, a!, c!)
    assert.deepStrictEqual(ids(bench.idle), [2, 1, 3])
    assert.deepStrictEqual(bench.order(), [2, 1, 3])
  })

  it.each(orders)("%s: the coldest is the one returned first, whatever the order", (order) => {
    const bench = new Bench(order, 2)
    bench.giveBack(...bench.lent(5))
    assert.deepStrictEqual(ids(bench.idle), [1, 2, 3, 4, 5])
    bench.giveBack(bench.take(bench.idle.coldest!))
    assert.deepStrictEqual(ids(bench.idle), [2, 3, 4, 5, 1])
    sound(bench.idle, order)
  })

  it("lifo: an item that a check had goes after one that came back at the same time", () => {
    const idle = new Idle<One>("lifo")
    const [one, other] = [new One(1), new One(2)]
    idle.push(one)
    idle.push(other)
    idle.remove(one)
    idle.putBack(one)
    assert.strictEqual(idle.next, one)
    sound(idle, "lifo")
  })

  it.each(orders)("%s: an item that a check had is where it was", (order) => {
    const bench = new Bench(order, 2)
    bench.giveBack(...bench.lent(5))
    const lends = bench.idle.next
    const all = Array.from(bench.idle)
    const core = bench.core
    for (const item of all) bench.putBack(bench.take(item))
    const [a, b, c, d, e] = all.map((item) => bench.take(item))
    for (const item of [c, a, e, b, d]) bench.putBack(item!)
    assert.deepStrictEqual(ids(bench.idle), [1, 2, 3, 4, 5])
    assert.strictEqual(bench.idle.next, lends)
    assert.deepStrictEqual(bench.core, core)
    sound(bench.idle, order)
  })

  it.each(orders)("%s: on the way from the coldest each item may be removed", (order) => {
    const bench = new Bench(order, 2)
    bench.giveBack(...bench.lent(5))
    const seen: Array<number> = []
    for (const item of bench.idle) {
      seen.push(item.id)
      if (item.id !== 3) bench.idle.remove(item)
      sound(bench.idle, order)
    }
    assert.deepStrictEqual([seen, ids(bench.idle)], [[1, 2, 3, 4, 5], [3]])
    for (const item of bench.idle) bench.giveBack(bench.take(item))
    assert.deepStrictEqual(ids(bench.idle), [3])
  })

  it("an item that is gone is not kept", () => {
    const bench = new Bench("hybrid", 1)
    const [item] = bench.lent(1)
    bench.giveBack(item!)
    bench.putBack(bench.take(item!))
    bench.take(item!)
    assert.isEmpty(Object.values(bench.idle).filter((value) => value === item))
    assert.deepStrictEqual([item!.colder, item!.warmer, item!.linked], [undefined, undefined, false])
  })
})

describe("hybrid", () => {
  it("the last ones returned are the core: lent first and in turn, then the extras, the last one first", () => {
    const bench = new Bench("hybrid", 2)
    bench.giveBack(...bench.lent(5))
    assert.deepStrictEqual(bench.core, [4, 5])
    assert.deepStrictEqual(bench.order(), [4, 5, 3, 2, 1])
  })

  it("one borrower at a time has all of the core in turn, and never an extra", () => {
    const bench = new Bench("hybrid", 3)
    bench.giveBack(...bench.lent(5))
    const borrowed: Array<number> = []
    for (let i = 0; i < 7; i++) {
      const item = bench.borrow()
      borrowed.push(item.id)
      bench.giveBack(item)
    }
    assert.deepStrictEqual(borrowed, [3, 4, 5, 3, 4, 5, 3])
    assert.deepStrictEqual(ids(bench.idle), [1, 2, 4, 5, 3])
  })

  it("without min is lifo, and with a min as large as the pool is fifo", () => {
    const lifo = new Bench("hybrid", 0)
    lifo.giveBack(...lifo.lent(3))
    assert.deepStrictEqual(lifo.order(), [3, 2, 1])
    const fifo = new Bench("hybrid", 3)
    fifo.giveBack(...fifo.lent(3))
    assert.deepStrictEqual(fifo.order(), [1, 2, 3])
    const alone = new Idle<One>("hybrid")
    for (const id of [1, 2]) alone.push(new One(id))
    assert.strictEqual(alone.next?.id, 2)
  })

  it("a place in the core that a recycled item leaves is taken by the next that is returned", () => {
    const bench = new Bench("hybrid", 2)
    bench.giveBack(...bench.lent(4))
    bench.idle.remove(bench.idle.next!)
    assert.deepStrictEqual(bench.core, [4])
    const [four, two] = [bench.borrow(), bench.borrow()]
    assert.deepStrictEqual([four.id, two.id], [4, 2])
    bench.giveBack(two, four)
    assert.deepStrictEqual(bench.core, [2, 4])
    assert.deepStrictEqual(bench.order(), [2, 4, 1])
  })

  it("an item of the core that a check has keeps its place", () => {
    const bench = new Bench("hybrid", 1)
    const [a, b] = bench.lent(2)
    bench.giveBack(b!, a!)
    assert.deepStrictEqual(bench.core, [1])
    bench.take(a!)
    bench.giveBack(bench.borrow())
    assert.deepStrictEqual(bench.core, [])
    bench.putBack(a!)
    assert.deepStrictEqual(bench.core, [1])
    assert.deepStrictEqual(ids(bench.idle), [1, 2])
    assert.deepStrictEqual(bench.order(), [1, 2])
  })

  it("an extra that a check has comes back as one, though the core has room", () => {
    const bench = new Bench("hybrid", 2)
    bench.giveBack(...bench.lent(4))
    const extra = bench.take(bench.idle.coldest!)
    bench.idle.remove(bench.idle.next!)
    bench.putBack(extra)
    assert.deepStrictEqual(bench.core, [4])
    assert.deepStrictEqual(bench.order(), [4, 2, 1])
  })

  it("a core that is cut keeps those returned last; the others are extras where they are", () => {
    const bench = new Bench("hybrid", 4)
    bench.giveBack(...bench.lent(5))
    assert.deepStrictEqual(bench.core, [2, 3, 4, 5])
    bench.min = 2
    bench.idle.fit()
    sound(bench.idle, "hybrid")
    assert.deepStrictEqual(bench.core, [4, 5])
    assert.deepStrictEqual(ids(bench.idle), [1, 2, 3, 4, 5])
    bench.min = 0
    bench.idle.fit()
    assert.deepStrictEqual(bench.core, [])
    assert.deepStrictEqual(bench.order(), [5, 4, 3, 2, 1])
    bench.idle.fit()
  })

  it("a core that is cut and not fitted takes nothing in, and shrinks as it is lent", () => {
    const bench = new Bench("hybrid", 3)
    bench.giveBack(...bench.lent(4))
    bench.min = 1
    for (const left of [2, 1, 1, 1]) {
      bench.giveBack(bench.borrow())
      assert.lengthOf(bench.core, left)
      sound(bench.idle, "hybrid")
    }
  })

  it("a core that has grown takes in what is returned", () => {
    const bench = new Bench("hybrid", 1)
    bench.giveBack(...bench.lent(3))
    bench.min = 2
    bench.idle.fit()
    assert.deepStrictEqual(bench.core, [3])
    const [three, two] = [bench.borrow(), bench.borrow()]
    bench.giveBack(three, two)
    assert.deepStrictEqual(bench.core, [3, 2])
  })

  it("an item of the core that a check has is an extra if its place is gone", () => {
    const bench = new Bench("hybrid", 2)
    bench.giveBack(...bench.lent(3))
    const two = bench.take(bench.idle.next!)
    bench.min = 1
    bench.idle.fit()
    bench.putBack(two)
    assert.deepStrictEqual(bench.core, [3])
    assert.deepStrictEqual(bench.order(), [3, 2, 1])
  })
})

/** The same, of arrays: the core and the extras apart, each from the coldest. */
class Naive {
  core: Array<Entry> = []
  extras: Array<Entry> = []
  readonly order: Order
  private puts = 0

  constructor(order: Order) {
    this.order = order
  }

  get all(): Array<One> {
    return [...this.core, ...this.extras].sort(byTime).map(({ item }) => item)
  }

  get next(): One | undefined {
    return (this.core[0] ?? this.extras.at(this.order === "fifo" ? 0 : -1))?.item
  }

  put(item: One, core: boolean): void {
    this[core ? "core" : "extras"].push({ item, put: this.puts++ })
    this.core.sort(byTime)
    this.extras.sort(byTime)
  }

  /** Whether it was of the core. */
  remove(item: One): boolean {
    const core = this.core.some((one) => one.item === item)
    this.core = this.core.filter((one) => one.item !== item)
    this.extras = this.extras.filter((one) => one.item !== item)
    return core
  }

  fit(places: number): void {
    while (this.core.length > places) this.extras.push(this.core.shift()!)
    this.extras.sort(byTime)
  }
}

interface Entry {
  readonly item: One
  readonly put: number
}

const byTime = (a: Entry, b: Entry) => a.item.idleSince - b.item.idleSince || a.put - b.put

const first = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32))
const runs = process.env["SEED"] === undefined ? 100 : 1

/** Items are borrowed, returned, checked and recycled. `stale`: some come back with the time of an earlier return. */
const live = (seed: number, order: Order, stale: boolean): void => {
  const rng = new Rng(seed)
  const max = 1 + rng.int(12)
  const naive = new Naive(order)
  let min = rng.int(max + 1)
  let now = 0
  let made = 0
  let step = 0
  const hint = () => `SEED=${seed} order ${order}, step ${step}, min ${min}`
  const lent: Array<One> = []
  const checked = new Map<One, boolean>()
  const out = () => lent.length + checked.size
  const idle = new Idle<One>(order, () => min, out)
  const hybrid = order === "hybrid"

  const take = (item: One) => {
    idle.remove(item)
    return naive.remove(item)
  }
  const anyOf = (items: Iterable<One>): One | undefined => {
    const list = Array.from(items)
    return list.length === 0 ? undefined : rng.pick(list)
  }
  const drop = (item: One | undefined) => item !== undefined && lent.splice(lent.indexOf(item), 1)

  const lend = () => {
    const item = idle.next
    if (item !== undefined) take(item)
    else if (idle.size + out() === max) return
    lent.push(item ?? new One(++made))
  }
  const giveBack = () => {
    const item = anyOf(lent)
    if (item === undefined) return
    drop(item)
    if (!stale || rng.chance(0.7)) item.idleSince = now
    naive.put(item, hybrid && out() < min - naive.core.length)
    const core = hybrid && out() < min - coreOf(idle).length
    idle.push(item)
    assert.strictEqual(item.core, core, hint())
  }
  const check = (): void => {
    const item = rng.chance(0.5) ? idle.coldest : anyOf(naive.all)
    if (item !== undefined) checked.set(item, take(item))
  }
  const checkedWell = () => {
    const item = rng.chance(0.5) ? checked.keys().next().value : anyOf(checked.keys())
    if (item === undefined) return
    naive.put(item, checked.get(item)! && naive.core.length < min)
    checked.delete(item)
    const core = item.core && coreOf(idle).length < min
    idle.putBack(item)
    assert.strictEqual(item.core, core, hint())
  }
  const handOver = () => {
    const item = anyOf(checked.keys())
    if (item === undefined) return
    checked.delete(item)
    lent.push(item)
  }
  const recycle = () => {
    const item = anyOf(naive.all)
    if (item !== undefined) take(item)
    if (rng.chance(0.3)) checked.delete(anyOf(checked.keys())!)
    if (rng.chance(0.3)) drop(anyOf(lent))
  }
  const sweep = () => {
    for (const item of idle) if (rng.chance(0.3)) take(item)
  }
  const resize = () => {
    min = rng.int(max + 1)
    idle.fit()
    naive.fit(min)
  }

  const steps = rng.weighted([
    [3, [8, 8, 2, 3, 1, 1, 0.2, 0.3] as const],
    [1, [6, 6, 5, 5, 2, 0, 0, 0] as const],
    [1, [3, 6, 1, 1, 0, 0, 0.5, 2] as const]
  ])
  const acts = [lend, giveBack, check, checkedWell, handOver, recycle, sweep, resize]
  const choices = acts.map((act, index) => [steps[index]!, act] as const)
  for (; step < 120; step++) {
    now += rng.int(3)
    rng.weighted(choices)()
    assert.strictEqual(idle.size, naive.all.length, hint())
    if (!stale) assert.strictEqual(idle.next, naive.next, hint())
    // The last one returned is in no list until somebody looks.
    if (rng.chance(0.5)) continue
    sound(idle, order, hint())
    const core = coreOf(idle)
    assert.isAtMost(core.length, min, hint())
    // Where an item is put back is open when the times are in no order.
    if (stale) continue
    assert.strictEqual(ids(idle).join(), ids(naive.all).join(), hint())
    assert.strictEqual(ids(core).join(), naive.core.map(({ item }) => item.id).join(), hint())
  }
}

describe("idle items at random", () => {
  it.each(orders)("%s: are those of a naive list", (order) => {
    for (let run = 0; run < runs; run++) live(first + run, order, false)
  })

  it.each(orders)("%s: hold together when times are not in order", (order) => {
    for (let run = 0; run < runs; run++) live(first + run, order, true)
  })
})
