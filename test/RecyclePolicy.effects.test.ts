import { assert, describe, it } from "@effect/vitest"
import { RecyclePolicy } from "effect-queuepool"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { compile, type Subject, type Verdict } from "../src/internal/rules.ts"
import { atReturn, boom, failure, item, opened, returned, start, told, wall } from "./kit/subject.ts"

describe("check", () => {
  const { all, any, check, failed, idle, mapInput, named, not, when } = RecyclePolicy

  /** What the checks say, or "unasked". */
  const asks = <A, R>(
    input: RecyclePolicy.Input<A, R>,
    subject: Subject<A>,
    spare = false
  ): Effect.Effect<string | undefined, never, R> => {
    const effect = compile(input).checkAtSweep(subject, opened + 50, spare)
    return effect === undefined ? Effect.succeed("unasked") : Effect.map(effect, told)
  }

  const yes = () => Effect.succeed(true)
  const no = () => Effect.succeed(false)

  it.effect("recycles when the answer is true, at a sweep", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const stale = check((item: string) =>
        Effect.sync(() => {
          asked.push(item)
          return item === "stale"
        })
      )
      const rules = compile(stale)
      assert.isTrue(rules.checks && rules.sweeps)
      assert.isFalse(rules.lends || rules.returns || rules.timed || rules.opens)
      assert.isUndefined(rules.atSweep(item({ value: "stale" }), opened, false))
      assert.deepStrictEqual(asked, [])
      assert.strictEqual(yield* asks(stale, item({ value: "stale" })), "check")
      assert.isUndefined(yield* asks(stale, item({ value: "good" })))
      assert.deepStrictEqual(asked, ["stale", "good"])
    }))

  it.effect("is silent at lend and at return, also inside not", () =>
    Effect.gen(function*() {
      const policy = not(check(yes))
      const rules = compile([policy, all([policy]), not(all([check(no)]))])
      assert.isUndefined(rules.atLend(item(), opened, false))
      assert.isUndefined(yield* atReturn(rules, item(), opened))
      assert.isUndefined(rules.atSweep(item(), opened, false))
      assert.strictEqual(rules.nextDue(item(), opened, false), Infinity)
      assert.strictEqual(yield* asks(policy, item()), undefined)
      assert.strictEqual(yield* asks(not(check(no, "healthy")), item()), "not healthy")
    }))

  it.effect("that fails or throws recycles the item, whatever it is composed into", () =>
    Effect.gen(function*() {
      const bad = check(() => Effect.fail("gone"), "ping")
      assert.strictEqual(yield* asks(bad, item()), "ping failed")
      assert.strictEqual(yield* asks(not(bad), item()), "ping failed")
      assert.strictEqual(yield* asks(named(bad, "pulse"), item()), "pulse failed")
      assert.strictEqual(yield* asks([failed, all([idle(10), bad])], item()), "ping failed")
      assert.strictEqual(yield* asks(any([check(no), bad, check(yes)]), item()), "ping failed")
      assert.strictEqual(yield* asks(check(() => Effect.die("bug")), item()), "check failed")
      assert.strictEqual(yield* asks(check(boom), item()), "check failed")
      assert.strictEqual(yield* asks(mapInput(check(yes), boom), item()), "check failed")
      const verdict = yield* compile(bad).checkAtSweep(item(), opened, false)!
      assert.deepStrictEqual(verdict?.cause, Cause.fail("gone"))
    }))

  it.effect("is asked last, and only when it matters", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const ask = (name: string, answer: boolean) =>
        check(() =>
          Effect.sync(() => {
            asked.push(name)
            return answer
          }), name)
      const asking = Effect.fnUntraced(function*(input: RecyclePolicy.Input<string>, spare = false) {
        asked.length = 0
        return [yield* asks(input, item(), spare), ...asked]
      })
      const [a, b, c] = [ask("a", true), ask("b", false), ask("c", true)]
      assert.deepStrictEqual(yield* asking(all([a, idle(100)])), ["unasked"])
      assert.deepStrictEqual(yield* asking(all([a, idle(10)])), ["a and idle", "a"])
      assert.deepStrictEqual(yield* asking(all([a, idle(10)]), true), ["unasked"])
      assert.deepStrictEqual(yield* asking(all([b, a])), [undefined, "b"])
      assert.deepStrictEqual(yield* asking(all([a, b])), [undefined, "a", "b"])
      assert.deepStrictEqual(yield* asking(all([a, c, idle(10)])), ["a and c and idle", "a", "c"])
      assert.deepStrictEqual(yield* asking(named(all([a, idle(10)]), "old")), ["old", "a"])
      assert.deepStrictEqual(yield* asking([a, idle(10)]), ["idle"])
      assert.deepStrictEqual(yield* asking([b, c, a, idle(100)]), ["c", "b", "c"])
      assert.deepStrictEqual(yield* asking([all([a, idle(100)]), b]), [undefined, "b"])
      assert.deepStrictEqual(yield* asking([all([a, idle(100)]), all([c, idle(100)])]), ["unasked"])
      assert.deepStrictEqual(yield* asking(all([any([a, idle(10)]), idle(10)])), ["idle and idle"])
      assert.deepStrictEqual(yield* asking(all([any([a, idle(100)]), b])), [undefined, "a", "b"])
      assert.deepStrictEqual(yield* asking(all([all([a, boom]), c])), ["rule failed"])
      assert.deepStrictEqual(yield* asking([all([a, boom]), c]), ["rule failed"])
    }))

  it.effect("asks no predicate twice in a sweep", () =>
    Effect.gen(function*() {
      let asked = 0
      const odd = when(() => {
        asked++
        return true
      })
      assert.strictEqual(yield* asks([all([odd, check(no)]), all([check(no), idle(10)])], item()), undefined)
      assert.strictEqual(asked, 1)
    }))

  it.effect("is run once in a sweep, wherever it stands", () =>
    Effect.gen(function*() {
      let runs = 0
      const stale = check((_: number) => Effect.sync(() => ++runs < 0), "stale")
      const length = (text: string) => text.length
      const mapped = mapInput(stale, length)
      const again = named(mapInput(stale, length), "again")
      const policy = [all([mapped, idle(10)]), mapped, again, all([idle(20), not(named(mapped, "fresh"))])]
      assert.strictEqual(yield* asks(policy, item()), "idle and not fresh")
      assert.strictEqual(runs, 1)
      // For another item it is another check.
      assert.isUndefined(yield* asks([mapped, mapInput(stale, () => 3)], item()))
      assert.strictEqual(runs, 3)
    }))

  it.effect("takes what it needs from the pool", () =>
    Effect.gen(function*() {
      class Limit extends Context.Service<Limit, number>()("Limit") {}
      const old = check((age: number) => Effect.map(Limit, (limit) => age > limit))
      assert.strictEqual(yield* asks(old, item({ value: 5 })).pipe(Effect.provideService(Limit, 3)), "check")
      assert.isUndefined(yield* asks(old, item({ value: 5 })).pipe(Effect.provideService(Limit, 9)))
    }))

  it.effect("waits for answers that take their time", () =>
    Effect.gen(function*() {
      const slow = check(() => Effect.as(Effect.yieldNow, true))
      assert.strictEqual(yield* asks([all([idle(10), slow])], item()), "idle and check")
    }))
})

describe("schedule", () => {
  const { all, not, schedule } = RecyclePolicy

  /** The returns, a minute apart, until the item is recycled; at most 20. */
  const life = Effect.fnUntraced(function*<R>(policy: RecyclePolicy.Input<string, R>) {
    const rules = compile(policy)
    const subject = item()
    yield* start(rules, subject)
    for (let minute = 1; minute <= 20; minute++) {
      const verdict = yield* atReturn(rules, subject, opened + minute * 60_000)
      if (verdict !== undefined) return [minute, verdict.reason]
    }
    return undefined
  })

  it.effect("recurs is a number of leases", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* life(schedule(Schedule.recurs(3))), [3, "schedule"])
      assert.deepStrictEqual(yield* life(schedule(Schedule.recurs(1))), [1, "schedule"])
      assert.deepStrictEqual(yield* life(schedule(Schedule.forever)), undefined)
    }))

  it.effect("during is an age, strictly", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* life(schedule(Schedule.during("3 minutes"))), [4, "schedule"])
      assert.deepStrictEqual(yield* life(schedule(Schedule.during("2.5 minutes"))), [3, "schedule"])
    }))

  it.effect("upTo, while, max, min and concat compose", () =>
    Effect.gen(function*() {
      const { concat, during, forever, max, min, recurs, setInputType, upTo } = Schedule
      assert.deepStrictEqual(yield* life(schedule(forever.pipe(upTo({ times: 4 })))), [4, "schedule"])
      assert.deepStrictEqual(yield* life(schedule(forever.pipe(upTo({ duration: "4 minutes" })))), [5, "schedule"])
      assert.deepStrictEqual(yield* life(schedule(max([during("5 minutes"), recurs(3)]))), [3, "schedule"])
      assert.deepStrictEqual(yield* life(schedule(min([during("5 minutes"), recurs(3)]))), [6, "schedule"])
      assert.deepStrictEqual(yield* life(schedule(recurs(2).pipe(concat(recurs(2))))), [4, "schedule"])
      const used = forever.pipe(
        setInputType<RecyclePolicy.Usage<string>>(),
        Schedule.while(({ input }) => input.uses < 6)
      )
      assert.deepStrictEqual(yield* life(schedule(used)), [6, "schedule"])
      assert.deepStrictEqual(yield* life(schedule(Schedule.cron("* * * * *").pipe(upTo({ times: 2 })))), [
        2,
        "schedule"
      ])
    }))

  it.effect("is stepped with the usage, once when the item was opened and once per return", () =>
    Effect.gen(function*() {
      const steps: Array<readonly [number, RecyclePolicy.Usage<string>]> = []
      const recording = Schedule.fromStep(Effect.succeed((now: number, usage: RecyclePolicy.Usage<string>) => {
        steps.push([now - wall, usage])
        return Exit.succeed([0, Duration.zero] as [number, Duration.Duration])
      }))
      const rules = compile(all([RecyclePolicy.failed, schedule(recording)]))
      const subject = item()
      yield* start(rules, subject)
      rules.atLend(subject, opened + 10, false)
      yield* atReturn(rules, subject, opened + 20)
      rules.atSweep(subject, opened + 30, false)
      yield* atReturn(rules, subject, opened + 40, failure)
      const common = { item: "item", idle: 0 }
      assert.deepStrictEqual(steps, [
        [0, { ...common, age: 0, uses: 0, exit: undefined, moment: "open", pressed: false, overShare: false }],
        [20, { ...common, age: 20, uses: 1, exit: Exit.void, moment: "return", pressed: false, overShare: false }],
        [40, { ...common, age: 40, uses: 2, exit: failure, moment: "return", pressed: false, overShare: false }]
      ])
    }))

  it.effect("each item has its own copy, and each place in a policy", () =>
    Effect.gen(function*() {
      const rules = compile(schedule(Schedule.recurs(2)))
      const [first, second] = [item(), item()]
      yield* start(rules, first)
      yield* start(rules, second)
      for (const subject of [first, second]) {
        assert.isUndefined(yield* atReturn(rules, subject, opened))
        assert.strictEqual(told(yield* atReturn(rules, subject, opened)), "schedule")
      }
      const twice = schedule(Schedule.recurs(2))
      assert.deepStrictEqual(yield* life(all([twice, twice])), [2, "schedule and schedule"])
    }))

  it.effect("steps at once what it can", () =>
    Effect.gen(function*() {
      const rules = compile([schedule(Schedule.during("1 minute")), schedule(Schedule.spaced(1))])
      const subject = item()
      yield* start(rules, subject)
      assert.isUndefined(rules.atReturn(subject, opened))
      subject.uses = 1
      assert.strictEqual(told(rules.atReturn(subject, opened + 60_001) as Verdict), "schedule")
    }))

  it.effect("runs effectful steps, one after the other, with what they need", () =>
    Effect.gen(function*() {
      class Limit extends Context.Service<Limit, number>()("Limit") {}
      const order: Array<string> = []
      const slow = (name: string) =>
        Schedule.forever.pipe(
          Schedule.setInputType<RecyclePolicy.Usage<string>>(),
          Schedule.while(({ input }) =>
            Effect.gen(function*() {
              order.push(`${name} ${input.uses}`)
              yield* Effect.yieldNow
              order.push(name)
              return input.uses < (yield* Limit)
            })
          )
        )
      const policy = [schedule(slow("a")), schedule(slow("b"))]
      const ended = yield* life(policy).pipe(Effect.provideService(Limit, 2))
      assert.deepStrictEqual(ended, [2, "schedule"])
      assert.deepStrictEqual(order, ["a 0", "a", "b 0", "b", "a 1", "a", "b 1", "b", "a 2", "a", "b 2", "b"])
    }))

  it.effect("is not stepped again when it is done, and stays done", () =>
    Effect.gen(function*() {
      let steps = 0
      const once = Schedule.fromStep(Effect.succeed(() => {
        steps++
        return Cause.done(0)
      }))
      const policy = all([schedule(once), RecyclePolicy.idle(10)])
      const rules = compile(policy)
      const subject = item()
      yield* start(rules, subject)
      yield* atReturn(rules, subject, opened)
      yield* atReturn(rules, subject, opened + 10)
      assert.strictEqual(steps, 1)
      assert.strictEqual(rules.nextDue(subject, opened + 10, false), opened + 20)
      assert.strictEqual(told(rules.atSweep(subject, opened + 21, false)), "schedule and idle")
    }))

  it.effect("lets each item be lent once, though it is done when the item is opened", () =>
    Effect.gen(function*() {
      const rules = compile(schedule(Schedule.recurs(0)))
      const subject = item()
      yield* start(rules, subject)
      assert.strictEqual(rules.nextDue(subject, opened, false), Infinity)
      assert.isUndefined(rules.atLend(subject, opened, false))
      assert.isUndefined(rules.atSweep(subject, opened, false))
      assert.strictEqual(told(yield* atReturn(rules, subject, opened)), "schedule")
      assert.strictEqual(rules.nextDue(subject, opened, false), -Infinity)
    }))

  it.effect("that fails recycles the item, with the reason \"rule failed\" and the cause", () =>
    Effect.gen(function*() {
      const failing = (step: number, fail: () => Effect.Effect<never, string>) =>
        Schedule.fromStep(Effect.sync(() => {
          let steps = 0
          return () => ++steps < step ? Exit.succeed([0, Duration.zero] as [number, Duration.Duration]) : fail()
        }))
      const sync = () => Exit.fail("sync")
      const async = () => Effect.andThen(Effect.yieldNow, Effect.fail("async"))
      for (const fail of [sync, async, boom]) {
        assert.deepStrictEqual(yield* life(schedule(failing(3, fail))), [2, "rule failed"])
        assert.deepStrictEqual(yield* life(all([not(schedule(failing(3, fail))), () => false])), [2, "rule failed"])
        // At the opening: it is lent once.
        assert.deepStrictEqual(yield* life(schedule(failing(1, fail))), [1, "rule failed"])
      }
      assert.deepStrictEqual(yield* life(schedule(Schedule.cron("nonsense"))), [1, "rule failed"])
      const rules = compile(schedule(failing(2, sync)))
      const subject = item()
      yield* start(rules, subject)
      const verdict = yield* atReturn(rules, subject, opened)
      assert.deepStrictEqual(verdict, { reason: "rule failed", also: "none", soft: false, cause: Cause.fail("sync") })
      assert.strictEqual(told(rules.atSweep(subject, opened, false)), "rule failed")
      assert.strictEqual(rules.nextDue(subject, opened, false), -Infinity)
    }))

  it.effect("lets a rule with a reason speak first, though it failed", () =>
    Effect.gen(function*() {
      const policy = [schedule(Schedule.cron("nonsense")), RecyclePolicy.uses(1)]
      assert.deepStrictEqual(yield* life(policy), [1, "uses"])
    }))

  it("speaks at returns, and needs to know the time at them", () => {
    const { idles, lends, opens, returns, sweeps, timed } = compile(schedule(Schedule.recurs(3)))
    assert.deepStrictEqual([idles, lends, opens, returns, sweeps, timed], [true, false, true, true, false, false])
  })

  it("is silent on an item that was not started", () => {
    assert.isUndefined(returned(compile(schedule(Schedule.recurs(0))), item(), opened))
  })
})

describe("after", () => {
  const { after } = RecyclePolicy
  const hour = 3_600_000

  const due = Effect.fnUntraced(function*(schedule: Schedule.Schedule<unknown, RecyclePolicy.Usage<string>, unknown>) {
    const rules = compile(after(schedule))
    const subject = item()
    yield* start(rules, subject)
    return rules.nextDue(subject, opened, true) - opened
  })

  it.effect("the first delay is a deadline, strictly", () =>
    Effect.gen(function*() {
      const rules = compile(after(Schedule.spaced("1 hour")))
      const subject = item()
      yield* start(rules, subject)
      assert.strictEqual(rules.nextDue(subject, opened, true), opened + hour)
      assert.isUndefined(rules.atLend(subject, opened + hour, true))
      assert.isUndefined(yield* atReturn(rules, subject, opened + hour))
      assert.strictEqual(told(rules.atLend(subject, opened + hour + 0.01, true)), "after")
      assert.strictEqual(told(rules.atSweep(subject, opened + hour + 0.01, true)), "after")
      assert.strictEqual(told(yield* atReturn(rules, subject, opened + hour + 0.01)), "after")
    }))

  it.effect("cron is a time of the wall clock", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* due(Schedule.cron("0 3 * * *", "UTC")), 3 * hour)
      assert.strictEqual(yield* due(Schedule.cron("30 0 2 1 *", "UTC")), 24.5 * hour)
    }))

  it.effect("jittered gives each item its own deadline", () =>
    Effect.gen(function*() {
      const first = yield* due(Schedule.spaced("1 hour").pipe(Schedule.jittered))
      const second = yield* due(Schedule.spaced("1 hour").pipe(Schedule.jittered))
      for (const delay of [first, second]) {
        assert.isAtLeast(delay, 0.8 * hour)
        assert.isAtMost(delay, 1.2 * hour)
      }
      assert.notStrictEqual(first, second)
    }).pipe(Random.withSeed("jitter")))

  it.effect("each place in a policy has its own", () =>
    Effect.gen(function*() {
      const rules = [after(Schedule.spaced("1 hour")), after(Schedule.spaced("2 hours"))]
      const [any, all] = [compile(rules), compile(RecyclePolicy.all(rules))]
      const subject = item()
      yield* start(any, subject)
      assert.strictEqual(any.nextDue(subject, opened, false), opened + hour)
      yield* start(all, subject)
      assert.strictEqual(all.nextDue(subject, opened, false), opened + 2 * hour)
    }))

  it("speaks when it is due", () => {
    const { idles, lends, opens, sweeps, timed } = compile(after(Schedule.forever))
    assert.deepStrictEqual([idles, lends, opens, sweeps, timed], [false, false, true, false, true])
  })

  it.effect("a Schedule that is done at once gives none", () =>
    Effect.gen(function*() {
      const rules = compile(after(Schedule.recurs(0)))
      const subject = item()
      yield* start(rules, subject)
      assert.isUndefined(yield* atReturn(rules, subject, opened))
      assert.strictEqual(yield* due(Schedule.recurs(0)), Infinity)
      assert.strictEqual(yield* due(Schedule.spaced("Infinity")), Infinity)
      assert.strictEqual(yield* due(Schedule.forever), 0)
    }))

  it.effect("that fails lets the item be lent once", () =>
    Effect.gen(function*() {
      const throwing = Schedule.fromStep(Effect.succeed(boom))
      for (const schedule of [Schedule.cron("nonsense"), throwing]) {
        const rules = compile(after(schedule as Schedule.Schedule<unknown, unknown, unknown>))
        const subject = item()
        yield* start(rules, subject)
        assert.strictEqual(rules.nextDue(subject, opened, false), Infinity)
        assert.isUndefined(rules.atLend(subject, opened, false))
        assert.isTrue(rules.returns)
        assert.strictEqual(told(yield* atReturn(rules, subject, opened)), "rule failed")
      }
    }))

  it.effect("inside not it speaks until then", () =>
    Effect.gen(function*() {
      const rules = compile(RecyclePolicy.not(after(Schedule.spaced("1 hour"))))
      const subject = item()
      yield* start(rules, subject)
      assert.strictEqual(told(rules.atSweep(subject, opened + hour, false)), "not after")
      assert.isUndefined(rules.atSweep(subject, opened + hour + 1, false))
    }))
})
