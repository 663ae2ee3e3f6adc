import { assert, describe, it } from "@effect/vitest"
import { RecyclePolicy } from "effect-queuepool"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Schedule from "effect/Schedule"

const { after, age, all, and, any, check, explain, failed, failedWith, idle, isInput, isRecyclePolicy } = RecyclePolicy
const { interrupted, mapInput, named, not, or, problems, schedule, uses, when } = RecyclePolicy

describe("a policy", () => {
  it("is immutable, pipeable and recognised", () => {
    const policy = any([idle("1 minute"), () => true])
    assert.isTrue(Object.isFrozen(policy))
    assert.isTrue(isRecyclePolicy(policy))
    assert.isTrue(isRecyclePolicy(policy) && policy._tag === "Any" && Object.isFrozen(policy.rules))
    assert.strictEqual(policy.pipe((self) => self), policy)
    for (const other of [null, undefined, 5, () => true, {}, Schedule.forever]) {
      assert.isFalse(isRecyclePolicy(other))
    }
  })

  it("does not change with the array that it was made of", () => {
    const rules = [uses(1)]
    const policy = any(rules)
    rules.push(uses(2))
    assert.strictEqual(policy.reason, "uses")
  })

  it("isInput takes what recycle takes", () => {
    for (const input of [failed, () => true, [], [failed, () => true]]) {
      assert.isTrue(isInput(input))
    }
    for (const input of [undefined, null, 5, "idle", {}, [5], [[failed]], Schedule.forever]) {
      assert.isFalse(isInput(input))
    }
  })

  it("has a reason", () => {
    const yes = () => true
    const reasons: ReadonlyArray<readonly [RecyclePolicy.RecyclePolicy<never, unknown>, string]> = [
      [idle(1), "idle"],
      [age(1), "age"],
      [uses(1), "uses"],
      [failed, "failed"],
      [failedWith(yes), "failed"],
      [failedWith(yes, { reason: "lost" }), "lost"],
      [interrupted, "interrupted"],
      [when(yes), "when"],
      [when(yes, "big"), "big"],
      [check(() => Effect.succeed(true)), "check"],
      [check(() => Effect.succeed(true), "stale"), "stale"],
      [schedule(Schedule.forever), "schedule"],
      [after(Schedule.forever), "after"],
      [any([]), "never"],
      [all([]), "never"],
      [any([failed]), "failed"],
      [any([failed, yes]), "failed or when"],
      [all([failed, yes]), "failed and when"],
      [any([failed, all([idle(1), age(1)])]), "failed or (idle and age)"],
      [all([failed, any([idle(1), age(1)])]), "failed and (idle or age)"],
      [any([all([idle(1), age(1)])]), "idle and age"],
      [or(failed, interrupted), "failed or interrupted"],
      [failed.pipe(or(interrupted)), "failed or interrupted"],
      [and(failed, interrupted), "failed and interrupted"],
      [failed.pipe(and([idle(1), age(1)])), "failed and (idle or age)"],
      [not(failed), "not failed"],
      [not(not(failed)), "failed"],
      [not([failed]), "not failed"],
      [not([failed, interrupted]), "not (failed or interrupted)"],
      [named(failed, "bad"), "bad"],
      [failed.pipe(named("bad")), "bad"],
      [pipe(yes, named("odd")), "odd"],
      [mapInput(failed, (item: string) => item.length), "failed"],
      [not(any([failed, idle(1)]).pipe(mapInput((item: string) => item.length))), "not (failed or idle)"]
    ]
    for (const [policy, reason] of reasons) assert.strictEqual(policy.reason, reason)
  })
})

describe("explain", () => {
  const yes = () => true
  const says = (cases: ReadonlyArray<readonly [RecyclePolicy.Input<never, unknown>, string]>) => {
    for (const [policy, words] of cases) assert.strictEqual(explain(policy), `recycle ${words}`)
  }

  it("says each rule in words", () => {
    const sure = () => Effect.succeed(true)
    says([
      [idle("10 minutes"), "an item that was idle for more than 10m (above min)"],
      [age("1 hour"), "an item that is older than 1h"],
      [age({ hours: 1, minutes: 30 }, { jitter: 0.07 }), "an item that is older than 1h 30m (up to 7% earlier)"],
      [age("Infinity"), "an item that is older than Infinity"],
      [age(NaN), "an item that is older than an invalid duration"],
      [uses(50_000), "an item that had 50000 leases"],
      [uses(1), "an item that had 1 lease"],
      [failed, "an item whose lease failed"],
      [interrupted, "an item whose lease was interrupted"],
      [failedWith(yes), "an item whose lease failed with a matching cause"],
      [
        failedWith(yes, { reason: "lost", also: "older" }),
        `an item whose lease failed with "lost" (with every older item)`
      ],
      [failedWith(yes, { also: "all" }), "an item whose lease failed with a matching cause (with every other item)"],
      [
        failedWith(yes, { interruption: true }),
        "an item whose lease failed or was interrupted with a matching cause"
      ],
      [yes, "an item for which a predicate holds"],
      [when(yes, "big"), `an item for which "big" holds`],
      [check(sure), "an item for which a check holds or fails at a sweep"],
      [check(sure, "stale"), `an item for which "stale" holds or fails at a sweep`],
      [schedule(Schedule.forever), "an item whose schedule is done"],
      [after(Schedule.forever), "an item that is past the time its schedule gave"]
    ])
  })

  it("says what is denied", () => {
    says([
      [not(idle("10 minutes")), "an item that was not idle for more than 10m"],
      [not(age("1 hour", { jitter: 0.1 })), "an item that is not older than 1h (up to 10% earlier)"],
      [not(uses(3)), "an item that had fewer than 3 leases"],
      [not(failed), "an item whose lease did not fail"],
      [not(interrupted), "an item whose lease was not interrupted"],
      [not(failedWith(yes, { also: "all", reason: "lost" })), `an item whose lease did not fail with "lost"`],
      [
        not(failedWith(yes, { interruption: true })),
        "an item whose lease neither failed nor was interrupted with a matching cause"
      ],
      [not(yes), "an item for which a predicate does not hold"],
      [not(check(() => Effect.succeed(true))), "an item for which a check does not hold or fails at a sweep"],
      [not(schedule(Schedule.forever)), "an item whose schedule is not done"],
      [not(after(Schedule.forever)), "an item that is not past the time its schedule gave"],
      [not(named(uses(3), "tired")), `an item that is not "tired" (that had 3 leases)`],
      [not([uses(3), failed]), "an item that had fewer than 3 leases and whose lease did not fail"],
      [not(all([uses(3), failed])), "an item that had fewer than 3 leases, or whose lease did not fail"]
    ])
  })

  it("says policies in words", () => {
    says([
      [
        [idle("10 minutes"), age("1 hour", { jitter: 0.1 }), uses(50_000), failed],
        "an item that was idle for more than 10m (above min), or is older than 1h (up to 10% earlier), " +
        "or had 50000 leases, or whose lease failed"
      ],
      [[failed, idle("1 minute")], "an item whose lease failed, or that was idle for more than 1m (above min)"],
      [[failed, any([uses(1), any([uses(2)])])], "an item whose lease failed, or that had 1 lease, or had 2 leases"],
      [
        all([age("1 hour"), all([uses(3), failed])]),
        "an item that is older than 1h and had 3 leases and whose lease failed"
      ],
      [
        [all([age("1 hour"), uses(3)]), failed],
        "an item that is older than 1h and had 3 leases, or whose lease failed"
      ],
      [
        all([age("1 hour"), any([uses(3), failed])]),
        "an item that is older than 1h and (had 3 leases or whose lease failed)"
      ],
      [
        all([any([uses(3), all([uses(4), failed])]), age("1 hour")]),
        "an item (that had 3 leases or had 4 leases and whose lease failed) and that is older than 1h"
      ],
      [
        [named(any([uses(3), age("1 hour")]), "tired"), uses(4)],
        `an item that is "tired" (that had 3 leases, or is older than 1h), or had 4 leases`
      ],
      [mapInput([uses(3), failed], (item: string) => item.length), "an item that had 3 leases, or whose lease failed"]
    ])
  })

  it("says nothing of what never speaks", () => {
    says([
      [[], "nothing"],
      [any([]), "nothing"],
      [all([]), "nothing"],
      [not([]), "nothing"],
      [all([failed, any([])]), "nothing"],
      [named([], "none"), "nothing"],
      [[failed, any([])], "an item whose lease failed"],
      [all([any([uses(3), any([])]), failed]), "an item that had 3 leases and whose lease failed"]
    ])
  })
})

describe("problems", () => {
  it("are none of good values", () => {
    const yes = () => true
    const policy = [
      ...[0, 1.5, "10 minutes", "Infinity", Infinity, 5n, [1, 5], { seconds: 1 }, Duration.infinity].map((limit) =>
        idle(limit as Duration.Input)
      ),
      age("1 hour"),
      ...[0, 0.5, 1].map((jitter) => age("1 hour", { jitter })),
      uses(1),
      uses(Infinity),
      failed,
      interrupted,
      failedWith(yes),
      failedWith(yes, { also: "older", interruption: true, reason: "lost" }),
      failedWith(yes, { also: "all" }),
      when(yes, "big"),
      yes,
      check(() => Effect.succeed(true)),
      schedule(Schedule.forever),
      after(Schedule.forever),
      any([]),
      all([failed]),
      not(failed),
      named(failed, "bad"),
      mapInput(failed, (item: string) => item.length)
    ]
    assert.deepStrictEqual(problems(policy), [])
    assert.deepStrictEqual(problems([]), [])
    assert.deepStrictEqual(problems(yes), [])
  })

  it("name each wrong value by its path", () => {
    const bad = (value: unknown) => value as never
    const found = (policy: unknown, option?: string) =>
      problems(bad(policy), option).map((problem) => [problem.option, problem.value, problem.allowed])
    const duration = "a duration from zero, or Infinity"
    for (
      const limit of [
        NaN,
        -1,
        "-1 seconds",
        "soon",
        "",
        -Infinity,
        "-Infinity",
        -1n,
        [NaN, 0],
        [1],
        null,
        undefined,
        true,
        {},
        {
          seconds: NaN
        },
        { seconds: "1" },
        { minute: null }
      ]
    ) {
      assert.deepStrictEqual(found(idle(bad(limit))), [["recycle.idle", limit, duration]])
      assert.deepStrictEqual(found([failed, age(bad(limit))]), [["recycle[1].age", limit, duration]])
    }
    for (const jitter of [NaN, -0.1, 1.1, "0.1", null]) {
      const problem = ["recycle.age.jitter", jitter ?? 0, "a number from 0 to 1"]
      assert.deepStrictEqual(found(age(1, { jitter: bad(jitter) })), jitter === null ? [] : [problem])
    }
    for (const limit of [0, -1, 1.5, NaN, -Infinity, "3", undefined]) {
      assert.deepStrictEqual(found(uses(bad(limit))), [["recycle.uses", limit, "a whole number from 1, or Infinity"]])
    }
    assert.deepStrictEqual(found(failedWith(bad(1), { also: bad("none of them"), interruption: bad(1), reason: "" })), [
      ["recycle.reason", "", "text"],
      ["recycle.failedWith", 1, "a predicate on Cause"],
      ["recycle.failedWith.also", "none of them", `"older" or "all"`],
      ["recycle.failedWith.interruption", 1, "true or false"]
    ])
    assert.deepStrictEqual(found(check(bad(1), "")), [
      ["recycle.reason", "", "text"],
      ["recycle.check", 1, "an effectful predicate"]
    ])
    assert.deepStrictEqual(found(schedule(bad("1 hour"))), [["recycle.schedule", "1 hour", "a Schedule"]])
    assert.deepStrictEqual(found(after(bad("1 hour"))), [["recycle.after", "1 hour", "a Schedule"]])
    assert.deepStrictEqual(found(named(failed, bad(7))), [["recycle.reason", 7, "text"]])
    assert.deepStrictEqual(found(all([])), [["recycle.all", [], "at least one rule"]])
    const one = "a RecyclePolicy, or a predicate on Usage"
    assert.deepStrictEqual(found(5), [["recycle", 5, one]])
    assert.deepStrictEqual(found([failed, null, [when(bad(5), "five")]]), [
      ["recycle[1]", null, one],
      ["recycle[2][0]", 5, one]
    ])
    assert.deepStrictEqual(found(any(bad(5))), [["recycle[0]", 5, one]])
    assert.deepStrictEqual(found(mapInput(bad(5), bad(6))), [
      ["recycle.mapInput", 6, "a function"],
      ["recycle", 5, one]
    ])
    assert.deepStrictEqual(found([not(all([failed, named(any([uses(0)]), "x")]))], "rules"), [
      ["rules[0].not.all[1][0].uses", 0, "a whole number from 1, or Infinity"]
    ])
  })
})
