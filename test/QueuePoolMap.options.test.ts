import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schedule, Scope } from "effect"
import { type PoolError, QueuePoolMap } from "effect-queuepool"
import { elapse, ending } from "./kit/books.ts"
import { type Refused, settle, Source, type Thing } from "./kit/items.ts"
import { borrow, counts, make, type Options, record, Sources, use } from "./kit/keyed.ts"
import { logged } from "./kit/observe.ts"

/** What is wrong, as option and value. */
const problems = (error: unknown): ReadonlyArray<readonly [string, unknown]> =>
  ((error as PoolError.PoolError).reason as PoolError.InvalidOptions).problems
    .map(({ option, value }) => [option, value] as const)

const refused = (options: Record<string, unknown>) => {
  const given = { acquire: () => Effect.void, ...options } as unknown as Options
  return Effect.flip(Effect.scoped(QueuePoolMap.make(given)))
}

const allowed = (error: PoolError.PoolError, option: string): string | undefined =>
  (error.reason as PoolError.InvalidOptions).problems.find((problem) => problem.option === option)?.allowed

describe("the options of a map", () => {
  it.effect("are checked all at once: one error names every wrong one", () =>
    Effect.gen(function*() {
      const wrong = {
        acquire: 1,
        forKey: {},
        maxTotal: 0,
        fairness: "luck",
        idleTimeToLive: 0,
        warm: "eager",
        name: "",
        max: NaN,
        borrowTimeout: -1,
        capacity: {},
        check: Effect.void,
        recycle: "never",
        leaseWarning: "soon",
        size: 5
      }
      const error = yield* refused(wrong)
      assert.deepStrictEqual(Object.fromEntries(problems(error)), wrong)
      assert.strictEqual(problems(error).length, Object.keys(wrong).length)
      assert.strictEqual(error.pool, "map")
      // Named by the value that was given, and by what is allowed for a map.
      assert.strictEqual(allowed(error, "warm"), "\"background\" or \"lazy\"")
      assert.strictEqual(allowed(error, "acquire"), "a function from the key to an Effect")
      assert.match(allowed(error, "size")!, /maxTotal.*idleTimeToLive/)
    }))

  for (const option of ["maxTotal", "fairness", "idleTimeToLive", "warm", "max"]) {
    it.effect(`a wrong ${option} alone is named alone, with the name of the map`, () =>
      Effect.gen(function*() {
        const error = yield* refused({ name: "tenants", [option]: "wrong" })
        assert.deepStrictEqual([problems(error), error.pool], [[[option, "wrong"]], "tenants"])
      }))
  }

  it.effect("an acquire that is missing is named", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(problems(yield* refused({ acquire: undefined })), [["acquire", undefined]])
      assert.deepStrictEqual(problems(yield* refused({ acquire: Effect.void })).length, 1)
    }))

  it.effect("bounds are compared: min above max, a warning after the lease", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(problems(yield* refused({ min: 3, max: 2 })), [["min", 3]])
      const error = yield* refused({ min: 3, maxTotal: 2, idleTimeToLive: 0 })
      assert.deepStrictEqual(problems(error), [["idleTimeToLive", 0], ["min", 3]])
      assert.strictEqual(allowed(error, "min"), "at most maxTotal, which is 2")
      yield* make({ min: 3, maxTotal: 3 })
      assert.deepStrictEqual(problems(yield* refused({ leaseWarning: 5, maxLease: 5 })), [["leaseWarning", 5]])
    }))

  for (const maxTotal of [NaN, -1, 1.5, "5", null]) {
    it.effect(`maxTotal ${String(maxTotal)} is refused`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(problems(yield* refused({ maxTotal })).map(([option]) => option), ["maxTotal"])
      }))
  }

  for (const idleTimeToLive of [0, -5, NaN, "soon", {}, null]) {
    it.effect(`idleTimeToLive ${JSON.stringify(idleTimeToLive)} is refused, of the map and of a key`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(problems(yield* refused({ idleTimeToLive })), [["idleTimeToLive", idleTimeToLive]])
        const { map } = yield* make({ idleTimeToLive: () => idleTimeToLive as never })
        assert.deepStrictEqual(problems(yield* Effect.flip(use(map, "a"))), [["idleTimeToLive", idleTimeToLive]])
        assert.deepStrictEqual(yield* map.keys, [])
      }))
  }

  it.effect("an idleTimeToLive that gives nothing is refused, not taken for the default", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ idleTimeToLive: () => undefined as never })
      assert.deepStrictEqual(problems(yield* Effect.flip(use(map, "a"))), [["idleTimeToLive", undefined]])
    }))

  it.effect("undefined is the default: 10 of a key, 100 of all, 10 minutes", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ maxTotal: undefined, max: undefined, idleTimeToLive: undefined, warm: undefined })
      yield* use(map, "a")
      assert.strictEqual((yield* map.stats).maxTotal, 100)
      assert.strictEqual((yield* Effect.scoped(Effect.flatMap(map.pool("a"), (pool) => pool.stats))).max, 10)
      yield* elapse(10 * 60_000 - 1)
      assert.deepStrictEqual(yield* map.keys, ["a"])
      yield* elapse(1)
      assert.deepStrictEqual(yield* map.keys, [])
    }))

  it.effect("warm: \"background\" opens min once the key is asked for, \"lazy\" when it is first borrowed", () =>
    Effect.gen(function*() {
      for (const warm of [undefined, "background", "lazy"] as const) {
        const { map, sources } = yield* make({ min: 3, warm })
        yield* Effect.scoped(Effect.gen(function*() {
          yield* map.pool("a")
          yield* settle
          assert.strictEqual(sources.opened, warm === "lazy" ? 0 : 3)
        }))
        yield* use(map, "a")
        yield* settle
        assert.strictEqual(sources.of("a").opened.length, 3)
      }
    }))

  it.effect("the effects and the hooks of a pool are those of each key", () =>
    Effect.gen(function*() {
      const ran: Array<string> = []
      const say = (what: string) => () => Effect.sync(() => void ran.push(what))
      const { map, sources } = yield* make({
        checkAfter: 0,
        check: say("check"),
        reset: say("reset"),
        onAcquire: say("onAcquire"),
        onBorrow: say("onBorrow"),
        onReturn: say("onReturn"),
        onRelease: say("onRelease"),
        monitor: (thing) => Effect.andThen(say("monitor")(), thing.id === 0 ? Effect.void : Effect.never),
        retry: Schedule.recurs(1),
        sweep: "1 second",
        recycle: ({ idle }) => idle >= 1500
      })
      sources.of("a").opens.push("fail")
      yield* Effect.forkChild(use(map, "a"))
      yield* elapse(1)
      yield* use(map, "a")
      yield* settle
      assert.deepStrictEqual(sources.of("a").attempts, 2)
      assert.deepStrictEqual(Array.from(new Set(ran)).toSorted(), [
        "check",
        "monitor",
        "onAcquire",
        "onBorrow",
        "onReturn",
        "reset"
      ])
      yield* elapse("1 second")
      assert.isFalse(ran.includes("onRelease"))
      yield* elapse("1 second")
      assert.isTrue(ran.includes("onRelease"))
      assert.deepStrictEqual(yield* map.keys, [])
    }))

  for (const warned of [{ leaseWarning: 100 }, { maxLease: 100 }]) {
    it.effect(`a lease that has ${Object.keys(warned)[0]} tells where it was borrowed, of the map and of a key`, () =>
      logged((lines) =>
        Effect.gen(function*() {
          const other = yield* make({ forKey: (key) => key === "watched" ? warned : undefined })
          yield* use(other.map, "b")
          yield* use(other.map, "watched")
          for (const { map } of [yield* make(warned), other]) {
            const lease = function leaseOfMine() {
              return map.get("watched")
            }
            const used = function useOfMine() {
              return map.use("watched", () => Effect.sleep(150))
            }
            yield* Effect.forkChild(Effect.scoped(Effect.andThen(lease(), Effect.sleep(150))))
            yield* Effect.forkChild(used())
            yield* elapse(150)
            const told = lines.join("\n")
            assert.match(told, /WARN.*map\[watched\].*\n *at leaseOfMine .*QueuePoolMap\.options/i)
            assert.match(told, /WARN.*map\[watched\].*\n *at useOfMine .*QueuePoolMap\.options/i)
            ;(lines as Array<string>).length = 0
          }
        })
      ))
  }

  it.effect("every way to borrow tells where", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const { map } = yield* make({ leaseWarning: 100, max: 1 })
        const asks: ReadonlyArray<() => Effect.Effect<unknown, unknown, Scope.Scope>> = [
          function getExclusiveOfMine() {
            return map.getExclusive("a")
          },
          function getIfAvailableOfMine() {
            return map.getIfAvailable("a")
          },
          function useExclusiveOfMine() {
            return map.useExclusive("a", () => Effect.sleep(150))
          },
          function useIfAvailableOfMine() {
            return map.useIfAvailable("a", () => Effect.sleep(150))
          }
        ]
        for (const ask of asks) {
          yield* use(map, "a")
          yield* Effect.forkChild(Effect.scoped(Effect.andThen(ask(), Effect.sleep(150))))
          yield* elapse(300)
          assert.match(
            lines.join("\n"),
            new RegExp(`WARN.*map\\[a\\].*\\n *at ${ask.name} .*QueuePoolMap.options`, "i")
          )
        }
      })
    ))

  class Watched extends QueuePoolMap.Service<Watched>()("test/Watched", {
    acquire: (key: string) => Effect.succeed(key),
    leaseWarning: 100
  }) {}
  class Given extends QueuePoolMap.Service<Given>()(
    "test/Given",
    Effect.succeed({ acquire: (key: string) => Effect.succeed(key), maxLease: 100 })
  ) {}

  for (
    const [kind, service] of Object.entries({
      options: Watched,
      "an Effect of options": Given as unknown as typeof Watched
    })
  ) {
    it.effect(`a service of ${kind} tells where its caller stands`, () =>
      logged((lines) =>
        Effect.gen(function*() {
          yield* service.stats
          const scoped = function leaseOfMine() {
            return service.get("a")
          }
          const used = function useOfMine() {
            return service.useItem("a", () => Effect.sleep(150))
          }
          yield* Effect.forkChild(Effect.scoped(Effect.andThen(scoped(), Effect.sleep(150))))
          yield* Effect.forkChild(used())
          yield* elapse(150)
          const told = lines.join("\n")
          assert.match(told, /WARN.*\[a\].*\n *at leaseOfMine .*QueuePoolMap\.options/i)
          assert.match(told, /WARN.*\[a\].*\n *at useOfMine .*QueuePoolMap\.options/i)
        }).pipe(Effect.provide(service.layer))
      ))
  }
})

describe("forKey", () => {
  it.effect("says what is different for one key; what it leaves out is as for all", () =>
    Effect.gen(function*() {
      const checked: Array<string> = []
      const { map } = yield* make({
        max: 3,
        min: 1,
        recycle: () => false,
        forKey: (key) =>
          key === "big"
            ? { max: 5, min: undefined, check: () => Effect.sync(() => void checked.push(key)), checkAfter: 0 }
            : key === "once"
            ? { min: 0, recycle: ({ uses }) => uses > 0 }
            : undefined
      })
      const bounds = Effect.fnUntraced(function*(key: string) {
        yield* use(map, key)
        yield* use(map, key)
        const { max, min, opened } = yield* Effect.scoped(Effect.flatMap(map.pool(key), (pool) => pool.stats))
        return [min, max, opened]
      })
      assert.deepStrictEqual(yield* bounds("big"), [1, 5, 1])
      assert.deepStrictEqual(yield* bounds("other"), [1, 3, 1])
      assert.deepStrictEqual(yield* bounds("once"), [0, 3, 2])
      assert.deepStrictEqual(checked, ["big"])
    }))

  it.effect("what is undefined is as for all keys: not the pool's own default", () =>
    Effect.gen(function*() {
      let resets = 0
      const { map } = yield* make({
        max: 3,
        reset: () => Effect.sync(() => void resets++),
        forKey: () => ({ max: undefined, reset: undefined, recycle: undefined })
      })
      yield* use(map, "a")
      yield* settle
      assert.strictEqual((yield* Effect.scoped(Effect.flatMap(map.pool("a"), (pool) => pool.stats))).max, 3)
      assert.strictEqual(resets, 1)
    }))

  it.effect("is asked each time that the pool of a key is made, with that key", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const { map } = yield* make({ forKey: (key) => void asked.push(key) })
      yield* use(map, "a")
      yield* use(map, "a")
      yield* use(map, "b")
      assert.deepStrictEqual(asked, ["a", "b"])
      yield* map.clear("a")
      yield* settle
      yield* use(map, "a")
      assert.deepStrictEqual(asked, ["a", "b", "a"])
    }))

  it.effect("who asked for the key hears of every wrong option at once; nothing is kept, and no other key is touched", () =>
    Effect.gen(function*() {
      const wrong: object = {
        acquire: Effect.void,
        name: "other",
        capacity: 5,
        warm: "eager",
        max: 0,
        size: 1,
        maxTotal: 5
      }
      const { map, sources } = yield* make({
        forKey: (key) => key === "bad" ? wrong : undefined,
        idleTimeToLive: (key) => key === "bad" ? -1 : "1 minute"
      })
      yield* use(map, "good")
      for (const asks of [use(map, "bad"), Effect.scoped(map.get("bad")), Effect.scoped(map.pool("bad"))]) {
        const error = yield* Effect.flip<unknown, unknown, never>(asks)
        assert.strictEqual(problems(error).length, Object.keys(wrong).length + 1)
        assert.deepStrictEqual(Object.fromEntries(problems(error)), { ...wrong, idleTimeToLive: -1 })
        assert.strictEqual((error as PoolError.PoolError).pool, "map[bad]")
        for (const option of ["name", "size"]) {
          assert.notMatch(allowed(error as PoolError.PoolError, option)!, /warm|capacity|name/)
        }
      }
      assert.deepStrictEqual([yield* map.keys, sources.of("bad").attempts], [["good"], 0])
      assert.strictEqual(yield* use(map, "good"), 1)
    }))

  it.effect("its options are compared with the map's", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ min: 3, forKey: () => ({ max: 2 }) })
      assert.deepStrictEqual(problems(yield* Effect.flip(use(map, "a"))), [["min", 3]])
    }))

  it.effect("its options are refused together with a wrong idleTimeToLive", () =>
    Effect.gen(function*() {
      for (const forKey of [() => ({ max: 0 }), () => 7, () => ({})]) {
        const { map } = yield* make({ forKey, idleTimeToLive: () => NaN })
        const error = yield* Effect.flip(use(map, "a"))
        assert.strictEqual(problems(error).at(0)![0], "idleTimeToLive")
        assert.strictEqual(problems(error).length, Object.keys(forKey()).length + (forKey() === 7 ? 2 : 1))
      }
    }))

  for (const value of [null, 5, "max", true]) {
    it.effect(`${JSON.stringify(value)} is no set of options`, () =>
      Effect.gen(function*() {
        const { map } = yield* make({ forKey: () => value as never })
        assert.deepStrictEqual(problems(yield* Effect.flip(use(map, "a"))), [["forKey", value]])
      }))
  }

  it.effect("what it throws, or idleTimeToLive, is a defect of who asked, and leaves nothing", () =>
    Effect.gen(function*() {
      const boom = () => {
        throw new Error("boom")
      }
      const kinds: ReadonlyArray<Partial<Options>> = [{ forKey: boom }, { idleTimeToLive: boom }]
      for (const options of kinds) {
        const { map } = yield* make(options)
        const asks: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          use(map, "a"),
          Effect.scoped(map.get("a")),
          Effect.scoped(map.getExclusive("a")),
          map.useExclusive("a", Effect.succeed),
          Effect.scoped(map.pool("a"))
        ]
        for (const ask of asks) assert.strictEqual(ending(yield* Effect.exit(ask)), "defect")
        assert.deepStrictEqual(yield* map.keys, [])
        // Who takes what is there asks nothing of a key of which there is nothing.
        assert.strictEqual(ending(yield* Effect.exit(Effect.scoped(map.getIfAvailable("a")))), "served")
      }
    }))

  it.effect("may call back into the map, also for the same key: there is one pool", () =>
    Effect.gen(function*() {
      const source = new Source()
      const inner: Array<number> = []
      let asked = 0
      const runSync = Effect.runSyncWith(yield* Effect.context())
      const runFork = Effect.runForkWith(yield* Effect.context())
      const map: QueuePoolMap.QueuePoolMap<string, Thing, Refused> = yield* QueuePoolMap.make({
        acquire: (_: string) => source.acquire,
        max: 1,
        forKey: (key) => {
          runSync(map.stats)
          runSync(map.clear())
          if (++asked === 1) runFork(map.use(key, ({ id }) => Effect.sync(() => void inner.push(id))))
          return undefined
        }
      })
      assert.strictEqual(yield* map.use("a", ({ id }) => Effect.succeed(id)), 1)
      yield* settle
      assert.deepStrictEqual([inner, asked, source.opened.length, (yield* map.stats).keys], [[1], 2, 1, 1])
      const { borrowed, opened } = yield* map.stats
      assert.deepStrictEqual([borrowed, opened], [2, 1])
    }))

  it.effect("may close the map: then there is no pool", () =>
    Effect.gen(function*() {
      const sources = new Sources()
      const scope = yield* Scope.make()
      const runSync = Effect.runSyncWith(yield* Effect.context())
      const map = yield* Scope.provide(
        QueuePoolMap.make({
          acquire: sources.acquire,
          forKey: () => {
            runSync(Scope.close(scope, Exit.void))
            return undefined
          }
        }),
        scope
      )
      const exit = yield* Effect.exit(use(map, "a"))
      assert.strictEqual(ending(exit), "Closed")
      assert.strictEqual(sources.opened, 0)
    }))

  it.effect("gives the limits of its key, and the total stays the map's", () =>
    Effect.gen(function*() {
      const { map } = yield* make({ max: 1, maxTotal: 3, forKey: () => ({ max: 9 }) })
      const recorded = yield* record(map)
      const holders = yield* Effect.forEach([1, 2, 3, 4], () => borrow(map, "a"))
      assert.deepStrictEqual(yield* counts(map, "a"), { idle: 0, used: 3, opening: 0, closing: 0, pending: 1 })
      assert.isTrue(recorded.told.includes("a Parked"))
      for (const { letGo } of holders) yield* letGo
    }))
})
