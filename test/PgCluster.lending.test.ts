import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Scope } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import * as Balanced from "effect-queuepool/Balanced"
import { TestClock } from "effect/testing"
import { makeLender } from "../src/internal/pgLender.ts"
import { Roles } from "../src/internal/pgRoles.ts"
import { type ReadFromPrimary, serving } from "../src/internal/pgServing.ts"
import { interruptAtEvery } from "./kit/interruptAtEvery.ts"

interface Item {
  readonly node: string
}

const primary = (timeline = 1) => ({ role: "primary", timeline } as const)
const replica = { role: "replica", timeline: 0 } as const

interface Given {
  readonly max?: number
  readonly borrowTimeout?: Duration.Input
  readonly readFromPrimary?: ReadFromPrimary
  readonly choose?: Balanced.Choice
  /** How a node opens an item. */
  readonly open?: (node: string) => Effect.Effect<Item, string>
  readonly concurrency?: number
  readonly maxWaiters?: number
  readonly onBorrow?: Effect.Effect<unknown, unknown>
}

/** Three nodes that lend their own name, and who borrows by role. */
const world = Effect.fnUntraced(function*({
  borrowTimeout = "10 seconds",
  choose = Balanced.leastLoaded,
  concurrency = 1,
  max = 2,
  maxWaiters = Infinity,
  onBorrow = Effect.void,
  open = (node) => Effect.succeed({ node }),
  readFromPrimary = "fallback"
}: Given = {}) {
  const names = ["a", "b", "c"]
  const roles = new Roles(names)
  const pools = new Map<string, QueuePool.QueuePool<Item, string>>()
  for (const node of names) {
    pools.set(
      node,
      yield* QueuePool.make({
        acquire: Effect.suspend(() => open(node)),
        name: node,
        max,
        maxWaiters,
        borrowTimeout,
        concurrency,
        onBorrow: () => onBorrow
      })
    )
  }
  const clock = yield* Effect.clockWith(Effect.succeed)
  const { readers, writers } = serving(
    roles,
    choose,
    readFromPrimary,
    () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  )
  const lending = { roles, pools, borrowTimeout: Duration.toMillis(borrowTimeout) }
  return {
    roles,
    pools,
    readers,
    writers,
    reader: makeLender({ ...lending, name: "reader", fleet: readers, missing: "no node serves reads" }),
    writer: makeLender({ ...lending, name: "writer", fleet: writers, missing: "no node is the primary" })
  }
})

const nodeOf = ({ node }: Item) => Effect.succeed(node)

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** All that can be done without time has been done. */
const settled = Effect.replicateEffect(Effect.yieldNow, 20, { discard: true })

/** Takes all that a pool has until it is interrupted, at the latest by the end of the test. */
const hold = (pool: QueuePool.QueuePool<Item, string>) =>
  Effect.tap(
    Effect.forkScoped(pool.use(() => Effect.never), { startImmediately: true }),
    Effect.repeat(Effect.andThen(Effect.yieldNow, pool.stats), { until: ({ used }) => used === 1 })
  )

const reasonOf = (error: unknown): PoolError.Reason => {
  assert.instanceOf(error, PoolError.PoolError)
  return error.reason
}

describe("borrowing by role", () => {
  it.effect("waits for a node that has the role", () =>
    Effect.gen(function*() {
      const { roles, writer } = yield* world()
      const waiting = yield* fork(writer.use(nodeOf))
      roles.learnt("a", replica)
      yield* Effect.yieldNow
      assert.isUndefined(waiting.pollUnsafe())
      roles.learnt("b", primary())
      assert.strictEqual(yield* Fiber.join(waiting), "b")
    }))

  it.effect("fails when none comes to have it in time, and tells of each", () =>
    Effect.gen(function*() {
      const { reader, roles, writer } = yield* world()
      roles.learnt("a", replica)
      const waiting = yield* fork(Effect.flip(writer.use(nodeOf)))
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(waiting)
      assert.instanceOf(error, PoolError.PoolError)
      assert.strictEqual(
        error.message,
        "BorrowTimeout: no item of \"writer\" within 10s (0/0 lent, 1 waiting; last open failed: " +
          "no node is the primary: a is a replica, b has not answered yet, c has not answered yet)"
      )
      assert.strictEqual(yield* reader.use(nodeOf), "a")
    }))

  it.effect("fails at once with a time of zero, and waits for ever with Infinity", () =>
    Effect.gen(function*() {
      const none = yield* world({ borrowTimeout: 0 })
      assert.strictEqual(reasonOf(yield* Effect.flip(none.writer.use(nodeOf)))._tag, "BorrowTimeout")
      const { roles, writer } = yield* world({ borrowTimeout: "Infinity" })
      const waiting = yield* fork(writer.use(nodeOf))
      yield* TestClock.adjust("1000 days")
      roles.learnt("a", primary())
      assert.strictEqual(yield* Fiber.join(waiting), "a")
    }))

  it.effect("leaves the queue of a node that ceases to have it, and goes on with the time that is left", () =>
    Effect.gen(function*() {
      const { pools, roles, writer } = yield* world({ max: 1 })
      roles.learnt("a", primary())
      yield* hold(pools.get("a")!)
      const waiting = yield* fork(writer.use(nodeOf))
      const alone = yield* fork(writer.useExclusive(nodeOf))
      yield* settled
      assert.strictEqual((yield* pools.get("a")!.stats).pending, 2)
      yield* TestClock.adjust("6 seconds")
      // Nobody has the role for a while, and then a node that is all lent.
      roles.doubt("a")
      yield* settled
      assert.strictEqual((yield* pools.get("a")!.stats).pending, 0)
      const held = yield* hold(pools.get("b")!)
      roles.learnt("b", primary(2))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* pools.get("b")!.stats).pending, 2)
      yield* Fiber.interrupt(held)
      assert.strictEqual(yield* Fiber.join(waiting), "b")
      assert.strictEqual(yield* Fiber.join(alone), "b")
    }))

  it.effect("tells what the second node was at when the time ends there", () =>
    Effect.gen(function*() {
      const { pools, roles, writer } = yield* world({ max: 1 })
      yield* hold(pools.get("b")!)
      const waiting = yield* fork(Effect.flip(writer.use(nodeOf)))
      yield* TestClock.adjust("4 seconds")
      roles.learnt("b", primary())
      yield* TestClock.adjust("5 seconds")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(waiting)
      assert.instanceOf(error, PoolError.PoolError)
      assert.match(error.message, /^BorrowTimeout: no item of "writer" within 10s \(1\/1 lent, 1 waiting; /)
      assert.strictEqual((yield* pools.get("b")!.stats).pending, 0)
    }))

  it.effect("is told by the pool itself when it is the first that is waited for", () =>
    Effect.gen(function*() {
      const { pools, roles, writer } = yield* world({ max: 1 })
      roles.learnt("a", primary())
      yield* hold(pools.get("a")!)
      const waiting = yield* fork(Effect.flip(writer.use(nodeOf)))
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(waiting)
      assert.instanceOf(error, PoolError.PoolError)
      assert.strictEqual(error.pool, "a")
    }))

  it.effect("ends with the cluster, also for those who wait", () =>
    Effect.gen(function*() {
      const { roles, writer } = yield* world({ max: 1 })
      const first = yield* fork(Effect.flip(writer.use(nodeOf)))
      roles.close()
      assert.strictEqual(reasonOf(yield* Fiber.join(first))._tag, "Closed")
      assert.strictEqual(reasonOf(yield* Effect.flip(writer.use(nodeOf)))._tag, "Closed")
    }))

  it.effect("and for those in the queue of a node", () =>
    Effect.gen(function*() {
      const { pools, roles, writer } = yield* world({ max: 1 })
      roles.learnt("a", primary())
      yield* hold(pools.get("a")!)
      const second = yield* fork(Effect.flip(writer.use(nodeOf)))
      yield* settled
      roles.close()
      assert.strictEqual(reasonOf(yield* Fiber.join(second))._tag, "Closed")
    }))

  it.effect("gives what it lends a scope: that of the caller with get, its own with use", () =>
    Effect.gen(function*() {
      const { pools, roles, writer, writers } = yield* world()
      roles.learnt("a", primary())
      const used = Effect.map(pools.get("a")!.stats, ({ used }) => used)
      const scope = yield* Scope.make()
      assert.deepStrictEqual(yield* Scope.provide(writer.get, scope), { node: "a" })
      assert.strictEqual(yield* used, 1)
      assert.strictEqual(writers.all[0]?.load, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* used, 0)
      assert.strictEqual(writers.all[0]?.load, 0)
      assert.isDefined(writers.all[0]?.latencyAt(0))

      // What the body asks a scope for is the caller's.
      let open = false
      yield* Effect.scoped(Effect.gen(function*() {
        yield* writer.useExclusive(() =>
          Effect.acquireRelease(Effect.sync(() => open = true), () => Effect.sync(() => open = false))
        )
        assert.isTrue(open)
        assert.strictEqual(yield* used, 0)
      }))
      assert.isFalse(open)
      assert.strictEqual(yield* Effect.flip(writer.use(() => Effect.fail("mine"))), "mine")
    }))

  it.effect("gives up what it had of a node that it has left, while the lease of the next one runs", () =>
    Effect.gen(function*() {
      const { pools, roles, writer, writers } = yield* world({ max: 1 })
      roles.learnt("a", primary())
      yield* hold(pools.get("a")!)
      const scope = yield* Scope.make()
      const borrowed = yield* fork(Scope.provide(writer.get, scope))
      yield* settled
      assert.strictEqual(writers.find("a")?.load, 1)
      roles.learnt("b", primary(2))
      assert.deepStrictEqual(yield* Fiber.join(borrowed), { node: "b" })
      assert.isUndefined(writers.find("a"))
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("alone, where items are shared", () =>
    Effect.gen(function*() {
      const { pools, roles, writer } = yield* world({ concurrency: 5 })
      roles.learnt("a", primary())
      const stats = pools.get("a")!.stats
      yield* Effect.scoped(Effect.gen(function*() {
        yield* writer.get
        yield* writer.get
        assert.strictEqual((yield* stats).used, 1)
        yield* writer.getExclusive
        assert.strictEqual((yield* stats).used, 2)
      }))
    }))
})

describe("readers", () => {
  const three = ({ roles }: Effect.Success<ReturnType<typeof world>>) => {
    roles.learnt("a", primary())
    roles.learnt("b", replica)
    roles.learnt("c", replica)
  }

  it.effect("borrow where the fewest are", () =>
    Effect.gen(function*() {
      const it = yield* world({ max: 10 })
      three(it)
      const seen: Array<string> = []
      yield* Effect.scoped(Effect.gen(function*() {
        for (let i = 0; i < 6; i++) seen.push((yield* it.reader.get).node)
      }))
      assert.deepStrictEqual(seen.toSorted(), ["b", "b", "b", "c", "c", "c"])
    }))

  it.effect("or in turn", () =>
    Effect.gen(function*() {
      const it = yield* world({ choose: Balanced.roundRobin })
      three(it)
      const seen = yield* Effect.replicateEffect(it.reader.use(nodeOf), 4)
      assert.deepStrictEqual(seen.slice(0, 2), seen.slice(2))
      assert.deepStrictEqual(seen.toSorted(), ["b", "b", "c", "c"])
    }))

  it.effect("go on to another node when one cannot open, last of all to the primary, and are told the failure when none can", () =>
    Effect.gen(function*() {
      const broken = new Set(["b"])
      const it = yield* world({
        open: (node) => broken.has(node) ? Effect.fail(`no ${node}`) : Effect.succeed({ node })
      })
      three(it)
      for (let i = 0; i < 5; i++) assert.strictEqual(yield* it.reader.use(nodeOf), "c")
      broken.add("c")
      yield* it.pools.get("c")!.clear
      assert.strictEqual(yield* it.reader.use(nodeOf), "a")
      broken.add("a")
      yield* it.pools.get("a")!.clear
      assert.include(["no a", "no b", "no c"], yield* Effect.flip(it.reader.use(nodeOf)))
      assert.strictEqual(yield* Effect.flip(it.writer.use(nodeOf)), "no a")
    }))

  it.effect("but not when the borrower's own hook fails", () =>
    Effect.gen(function*() {
      let calls = 0
      const it = yield* world({ onBorrow: Effect.suspend(() => Effect.fail(++calls)) })
      three(it)
      assert.strictEqual(reasonOf(yield* Effect.flip(it.reader.use(nodeOf)))._tag, "HookFailed")
      assert.strictEqual(calls, 1)
    }))

  it.effect("also when an open dies, takes too long, or too many wait for it", () =>
    Effect.gen(function*() {
      const it = yield* world({
        maxWaiters: 0,
        max: 1,
        open: (node) => node === "b" ? Effect.die("broken") : Effect.succeed({ node })
      })
      three(it)
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* it.reader.use(nodeOf), "c")
      yield* hold(it.pools.get("c")!)
      const waiting = yield* fork(Effect.exit(it.pools.get("c")!.use(nodeOf)))
      yield* settled
      assert.strictEqual(yield* it.reader.use(nodeOf), "a")
      yield* Fiber.interrupt(waiting)
    }))

  for (
    const [readFromPrimary, alone, together] of [
      ["fallback", "a", "b"],
      ["never", undefined, "b"],
      ["always", "a", "ab"]
    ] as const
  ) {
    it.effect(`readFromPrimary: "${readFromPrimary}"`, () =>
      Effect.gen(function*() {
        const { readers, roles } = yield* world({ readFromPrimary })
        const next = () => readers.next(new Set(), 0, () => 0.5, false)?.endpoint.key
        roles.learnt("a", primary())
        assert.strictEqual(next(), alone)
        roles.learnt("b", replica)
        const seen = new Set<string>()
        for (let i = 0; i < 10; i++) {
          const { endpoint } = readers.next(new Set(), 0, () => i / 10, false)!
          seen.add(endpoint.key)
        }
        assert.strictEqual([...seen].toSorted().join(""), together)
      }))
  }
})

describe("interrupted at each of its steps a borrow leaves nothing behind", () => {
  const check = (kind: string, item: "idle" | "opened" | "waited for" | "exclusive" | "moved") =>
    it.effect(`${kind}, an item ${item}`, () =>
      Effect.gen(function*() {
        const operations = yield* interruptAtEvery(Effect.fnUntraced(function*(run, at) {
          const { pools, roles, writer, writers } = yield* world({ max: 1 })
          roles.learnt("a", primary())
          const pool = pools.get("a")!
          const held = yield* Deferred.make<void>()
          let holder: Fiber.Fiber<unknown, unknown> | undefined
          if (item === "idle") yield* pool.use(() => Effect.void)
          if (item === "waited for" || item === "moved") holder = yield* fork(pool.use(() => Deferred.await(held)))
          const scope = yield* Scope.make()
          const borrow = kind === "use"
            ? writer.use(() => Effect.void)
            : Scope.provide(item === "exclusive" ? writer.getExclusive : writer.get, scope)
          const fiber = yield* run(borrow)
          yield* settled
          if (item === "moved") {
            roles.doubt("a")
            roles.learnt("b", primary(2))
          }
          yield* Deferred.succeed(held, undefined)
          if (holder !== undefined) yield* Fiber.await(holder)
          yield* Fiber.await(fiber)
          yield* Scope.close(scope, Exit.void)
          // An open goes on when its borrower has left.
          yield* settled
          for (const [name, pool] of pools) {
            const { opening, pending, used } = yield* pool.stats
            assert.deepStrictEqual({ opening, pending, used }, { opening: 0, pending: 0, used: 0 }, `${at} ${name}`)
          }
          assert.deepStrictEqual(writers.all.map(({ load }) => load), [0], at)
        }, Effect.scoped))
        assert.isAbove(operations, 5)
      }))

  for (const kind of ["get", "use"]) {
    check(kind, "idle")
    check(kind, "opened")
    check(kind, "waited for")
    check(kind, "moved")
  }
  check("get", "exclusive")
})
