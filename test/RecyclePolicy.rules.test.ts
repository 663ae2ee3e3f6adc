import { assert, describe, it } from "@effect/vitest"
import { RecyclePolicy } from "effect-queuepool"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { compile, type Verdict } from "../src/internal/rules.ts"
import {
  atReturn,
  boom,
  both,
  bothCause,
  defect,
  failure,
  interruption,
  item,
  opened,
  returned,
  start,
  told
} from "./kit/subject.ts"

describe("idle", () => {
  it("recycles what was idle for strictly longer", () => {
    const rules = compile(RecyclePolicy.idle("1 second"))
    const subject = item({ idleSince: 7_000 })
    for (const at of ["atLend", "atSweep"] as const) {
      assert.isUndefined(rules[at](subject, 8_000, false))
      assert.strictEqual(told(rules[at](subject, 8_000.001, false)), "idle")
    }
  })

  it("spares min", () => {
    const rules = compile(RecyclePolicy.idle("1 second"))
    assert.isUndefined(rules.atLend(item(), 1e9, true))
    assert.isUndefined(rules.atSweep(item(), 1e9, true))
    assert.strictEqual(rules.nextDue(item(), opened, true), Infinity)
    assert.strictEqual(rules.nextDue(item(), opened, false), opened + 1_000)
  })

  it("is silent at return", () => {
    const rules = compile(RecyclePolicy.idle("1 second"))
    assert.isUndefined(rules.atReturn(item({ uses: 1 }), 1e9))
  })

  it("tells inside not whether the item was idle, whatever min is", () => {
    const rules = compile(RecyclePolicy.not(RecyclePolicy.idle("1 second")))
    for (const spare of [true, false]) {
      assert.strictEqual(told(rules.atSweep(item(), opened + 1_000, spare)), "not idle")
      assert.isUndefined(rules.atSweep(item(), opened + 1_001, spare))
      assert.strictEqual(rules.nextDue(item(), opened + 1_000, spare), -Infinity)
      assert.strictEqual(rules.nextDue(item(), opened + 1_001, spare), Infinity)
    }
    assert.strictEqual(told(Effect.runSync(atReturn(rules, item(), 1e9))), "not idle")
  })
})

describe("age", () => {
  it("recycles what is strictly older, also at min and at return", () => {
    const rules = compile(RecyclePolicy.age("1 second"))
    assert.strictEqual(rules.nextDue(item(), opened, true), opened + 1_000)
    assert.isUndefined(rules.atLend(item(), 6_000, true))
    assert.strictEqual(told(rules.atLend(item(), 6_000.001, true)), "age")
    assert.strictEqual(told(rules.atSweep(item(), 6_000.001, true)), "age")
    assert.isUndefined(returned(rules, item(), 6_000))
    assert.strictEqual(returned(rules, item(), 6_000.001), "age")
  })

  it("is never with Infinity, jitter or not, and needs no time", () => {
    for (const policy of [RecyclePolicy.age("Infinity"), RecyclePolicy.age(Infinity, { jitter: 1 })]) {
      const rules = compile([policy, RecyclePolicy.idle(Duration.infinity)])
      assert.isFalse(rules.timed || rules.idles || rules.opens)
      assert.strictEqual(rules.nextDue(item(), opened, false), Infinity)
      assert.isUndefined(rules.atSweep(item(), 1e300, false))
    }
  })

  it("jitter differs from item to item, and follows Effect's Random", () => {
    const rules = compile(RecyclePolicy.age("1 hour", { jitter: 0.5 }))
    const draw = (seed: string) => {
      const [first, second] = [item(), item()]
      const program = Effect.andThen(start(rules, first), start(rules, second))
      Effect.runSync(program.pipe(Random.withSeed(seed)))
      return [rules.nextDue(first, opened, false), rules.nextDue(second, opened, false)] as const
    }
    assert.notStrictEqual(...draw("a"))
    assert.deepStrictEqual(draw("a"), draw("a"))
    assert.notDeepEqual(draw("a"), draw("b"))
  })

  it("needs no start without jitter, and is silent until it has started with it", () => {
    const plain = compile(RecyclePolicy.age("1 second", { jitter: 0 }))
    assert.isFalse(plain.opens)
    assert.isUndefined(plain.start(item()))
    const jittered = compile(RecyclePolicy.age("1 second", { jitter: 0.1 }))
    assert.isTrue(jittered.opens)
    assert.isUndefined(jittered.atSweep(item(), 1e9, false))
  })
})

describe("uses", () => {
  it("gives at most as many leases", () => {
    const rules = compile(RecyclePolicy.uses(3))
    const subject = item()
    assert.isUndefined(returned(rules, subject, opened))
    assert.isUndefined(returned(rules, subject, opened))
    assert.strictEqual(returned(rules, subject, opened), "uses")
    assert.strictEqual(told(rules.atLend(subject, opened, true)), "uses")
    assert.strictEqual(told(rules.atSweep(subject, opened, true)), "uses")
  })

  it("is never with Infinity", () => {
    assert.isUndefined(returned(compile(RecyclePolicy.uses(Infinity)), item({ uses: 1e15 }), opened))
  })
})

describe("rules on how a lease ended", () => {
  const says = (policy: RecyclePolicy.RecyclePolicy<unknown>) =>
    [Exit.void, failure, defect, interruption, both].map((exit) => returned(compile(policy), item(), opened, exit))

  it("failed is of failures and defects, and not of interruptions only", () => {
    assert.deepStrictEqual(says(RecyclePolicy.failed), [undefined, "failed", "failed", undefined, "failed"])
  })

  it("interrupted is of interruptions only", () => {
    const { interrupted } = RecyclePolicy
    assert.deepStrictEqual(says(interrupted), [undefined, undefined, undefined, "interrupted", undefined])
  })

  it("failedWith asks about causes, about interruptions only when told to", () => {
    const asked: Array<Cause.Cause<unknown>> = []
    const ask = (cause: Cause.Cause<unknown>) => {
      asked.push(cause)
      return !Cause.hasDies(cause)
    }
    const spoken = says(RecyclePolicy.failedWith(ask))
    assert.deepStrictEqual(spoken, [undefined, "failed", undefined, undefined, "failed"])
    assert.deepStrictEqual(asked, [Cause.fail("no row"), Cause.die("bug"), bothCause])
    const spokenToo = says(RecyclePolicy.failedWith(ask, { interruption: true, reason: "lost" }))
    assert.deepStrictEqual(spokenToo, [undefined, "lost", undefined, "lost", "lost"])
  })

  it("are silent before the first lease has ended", () => {
    const rules = compile([RecyclePolicy.failed, RecyclePolicy.interrupted, RecyclePolicy.failedWith(() => true)])
    assert.isUndefined(rules.atLend(item(), opened, false))
    assert.isUndefined(rules.atSweep(item(), opened, false))
  })

  it("go on holding until the next lease ends", () => {
    const rules = compile(RecyclePolicy.failed.pipe(RecyclePolicy.and(RecyclePolicy.idle(10))))
    const subject = item()
    assert.isUndefined(returned(rules, subject, opened + 5, failure))
    assert.strictEqual(rules.nextDue(subject, opened + 5, false), opened + 15)
    assert.strictEqual(told(rules.atSweep(subject, opened + 16, false)), "failed and idle")
    assert.isUndefined(returned(rules, subject, opened + 16))
    assert.strictEqual(rules.nextDue(subject, opened + 16, false), Infinity)
  })

  it("failedWith takes others with it", () => {
    const verdict = (input: RecyclePolicy.Input<unknown>) => {
      const spoken = compile(input).atReturn(item({ uses: 1, exit: failure }), opened)
      return [(spoken as Verdict).reason, (spoken as Verdict).also]
    }
    const yes = () => true
    const older = RecyclePolicy.failedWith(yes, { also: "older", reason: "older" })
    const all = RecyclePolicy.failedWith(yes, { also: "all", reason: "all" })
    assert.deepStrictEqual(verdict(RecyclePolicy.failed), ["failed", "none"])
    assert.deepStrictEqual(verdict(older), ["older", "older"])
    assert.deepStrictEqual(verdict(all), ["all", "all"])
    // The one that takes the most with it gives the reason, wherever it stands.
    assert.deepStrictEqual(verdict([RecyclePolicy.failed, older, RecyclePolicy.uses(1)]), ["older", "older"])
    assert.deepStrictEqual(verdict([older, all, RecyclePolicy.failed]), ["all", "all"])
    assert.deepStrictEqual(verdict([all, older]), ["all", "all"])
    assert.deepStrictEqual(verdict([older, RecyclePolicy.named(older, "second")]), ["older", "older"])
    assert.deepStrictEqual(verdict([RecyclePolicy.when(boom), all]), ["all", "all"])
    assert.deepStrictEqual(verdict(RecyclePolicy.all([RecyclePolicy.uses(1), older])), ["uses and older", "older"])
    assert.deepStrictEqual(verdict([RecyclePolicy.uses(1), RecyclePolicy.all([all, older])]), ["all and older", "all"])
    assert.deepStrictEqual(verdict(RecyclePolicy.named(all, "lost")), ["lost", "all"])
    assert.deepStrictEqual(verdict(RecyclePolicy.not(RecyclePolicy.failedWith(() => false, { also: "all" }))), [
      "not failed",
      "none"
    ])
  })
})

describe("when, and plain predicates", () => {
  it("are told the usage of the item", () => {
    const told: Array<RecyclePolicy.Usage<string>> = []
    const rules = compile<string>((usage) => {
      told.push(usage)
      return false
    })
    const subject = item({ idleSince: 6_000, uses: 2, exit: failure })
    rules.atLend(subject, 6_500, true)
    rules.atSweep(subject, 6_700, false)
    rules.atReturn(subject, 7_000)
    const common = { item: "item", uses: 2, exit: failure }
    assert.deepStrictEqual(told, [
      { ...common, age: 1_500, idle: 500, moment: "lend", pressed: false, overShare: false },
      { ...common, age: 1_700, idle: 700, moment: "sweep", pressed: false, overShare: false },
      { ...common, age: 2_000, idle: 0, moment: "return", pressed: false, overShare: false }
    ])
  })

  it("speak at lend, at return and at sweep", () => {
    for (const policy of [() => true, [() => true], RecyclePolicy.when(() => true)]) {
      const rules = compile(policy)
      assert.strictEqual(told(rules.atLend(item(), opened, true)), "when")
      assert.strictEqual(told(rules.atSweep(item(), opened, true)), "when")
      assert.strictEqual(returned(rules, item(), opened), "when")
    }
  })

  it("are never due: only a cadence finds them", () => {
    const rules = compile(() => true)
    assert.strictEqual(rules.nextDue(item(), opened, false), Infinity)
    assert.isTrue(rules.lends && rules.sweeps && rules.returns && rules.timed && rules.idles)
    const both = compile(RecyclePolicy.idle(10).pipe(RecyclePolicy.and(() => true)))
    assert.strictEqual(both.nextDue(item(), opened, false), Infinity)
  })

  it("count any true answer, and no other", () => {
    const answering = (answer: unknown) => compile(() => answer as boolean).atSweep(item(), opened, false)
    for (const answer of [true, 1, "yes"]) assert.isDefined(answering(answer))
    for (const answer of [false, 0, "", undefined, null]) assert.isUndefined(answering(answer))
  })
})

describe("a rule that throws", () => {
  const { all, any, failed, failedWith, idle, mapInput, named, not, when } = RecyclePolicy

  it("recycles the item, with the reason \"rule failed\" and the cause", () => {
    const policies: ReadonlyArray<RecyclePolicy.Input<string>> = [
      boom,
      [idle("1 day"), boom],
      when(boom, "big"),
      named(when(boom), "big"),
      not(when(boom)),
      all([not(idle("1 day")), boom]),
      all([boom, failed]),
      not(all([boom])),
      failedWith(boom),
      not(failedWith(boom)),
      mapInput(when(() => false), boom)
    ]
    for (const policy of policies) {
      const spoken = compile(policy).atReturn(item({ uses: 1, exit: failure }), opened) as Verdict
      assert.strictEqual(spoken.reason, "rule failed")
      assert.deepStrictEqual(spoken.cause, Cause.die(new Error("boom")))
    }
  })

  it("is not asked when a rule before it has decided", () => {
    let asked = 0
    const unasked = () => ++asked > 0
    assert.strictEqual(returned(compile(any([failed, unasked])), item(), opened, failure), "failed")
    assert.isUndefined(returned(compile(all([failed, unasked])), item(), opened))
    assert.strictEqual(asked, 0)
    assert.strictEqual(returned(compile(any([failed, boom])), item(), opened, failure), "failed")
    assert.isUndefined(returned(compile(all([failed, boom])), item(), opened))
  })

  it("is due at once, if it is one on the end of the lease", () => {
    const rules = compile(failedWith(boom))
    assert.strictEqual(rules.nextDue(item({ uses: 1, exit: failure }), opened, false), -Infinity)
  })
})

describe("any, all, not and named", () => {
  const { age, all, any, idle, named, not, uses } = RecyclePolicy

  it("any has the reason of the first rule that speaks", () => {
    const rules = compile(any([uses(2), age(10), uses(1)]))
    assert.strictEqual(returned(rules, item({ uses: 0 }), opened), "uses")
    assert.strictEqual(returned(rules, item({ uses: 0 }), opened + 11), "age")
    const nested = compile([idle(10), any([age(20), any([uses(1)])])])
    assert.strictEqual(returned(nested, item(), opened), "uses")
    assert.strictEqual(told(nested.atSweep(item(), opened + 30, true)), "age")
  })

  it("all has the reasons of its rules", () => {
    const rules = compile(all([any([idle(10), age(20)]), uses(1)]))
    const subject = item({ uses: 1 })
    assert.isUndefined(rules.atSweep(subject, opened + 10, false))
    assert.strictEqual(told(rules.atSweep(subject, opened + 11, false)), "idle and uses")
    assert.strictEqual(told(rules.atSweep(subject, opened + 21, true)), "age and uses")
    assert.isUndefined(rules.atSweep(item(), opened + 30, false))
  })

  it("of no rules speak never, also inside not", () => {
    for (const policy of [undefined, [], any([]), all([]), not([]), not(all([]))]) {
      const rules = compile(policy)
      assert.isUndefined(rules.atLend(item(), 1e9, false))
      assert.isUndefined(rules.atSweep(item(), 1e9, false))
      assert.isUndefined(returned(rules, item(), 1e9, failure))
      assert.strictEqual(rules.nextDue(item(), opened, false), Infinity)
      assert.isUndefined(rules.start(item()))
      assert.isUndefined(rules.checkAtSweep(item(), opened, false))
      const { checks, hastens, idles, lends, opens, returns, sweeps, timed } = rules
      assert.isFalse(checks || hastens || idles || lends || opens || returns || sweeps || timed)
    }
  })

  it("hear the nearest of several limits", () => {
    const rules = compile(any([age(20), age(30), age(20, { jitter: 0 }), uses(2), uses(3), idle(5), idle(9)]))
    assert.isUndefined(returned(rules, item(), opened + 20))
    assert.strictEqual(returned(rules, item(), opened + 21), "age")
    assert.strictEqual(returned(rules, item({ uses: 1 }), opened), "uses")
    assert.strictEqual(rules.nextDue(item(), opened, false), opened + 5)
    assert.strictEqual(rules.nextDue(item(), opened, true), opened + 20)
  })

  it("hasten only what a return can change", () => {
    assert.isFalse(compile(all([idle(10), age(20)])).hastens)
    assert.isFalse(compile(all([uses(10), RecyclePolicy.failed])).hastens)
    assert.isFalse(compile(any([uses(10), age(20)])).hastens)
    assert.isTrue(compile(any([idle(5), all([uses(10), age(20)])])).hastens)
    assert.isTrue(compile(all([not(idle(10)), age(20)])).hastens)
  })

  it("not has the reason of what it denies", () => {
    const reason = (policy: RecyclePolicy.RecyclePolicy<unknown>) => returned(compile(policy), item(), opened)
    assert.strictEqual(reason(not(uses(2))), "not uses")
    assert.strictEqual(reason(not(not(uses(1)))), "uses")
    assert.isUndefined(reason(not(not(uses(2)))))
    assert.isUndefined(reason(not(any([uses(2), uses(1)]))))
    assert.strictEqual(reason(not(any([uses(2), idle(1)]))), "not (uses or idle)")
    assert.strictEqual(reason(not(all([uses(2), uses(1)]))), "not (uses and uses)")
    assert.strictEqual(reason(not(named(uses(2), "tired"))), "not tired")
    assert.strictEqual(reason(not(any([not(uses(1)), age(1)]))), "not (not uses or age)")
  })

  it("named gives its name to all that is in it, the outermost to all", () => {
    const reason = (policy: RecyclePolicy.RecyclePolicy<unknown>) => returned(compile(policy), item(), opened)
    assert.strictEqual(reason(named(any([age(1), uses(1)]), "tired")), "tired")
    assert.strictEqual(reason(named(all([uses(1), uses(1)]), "tired")), "tired")
    assert.strictEqual(reason(named(named(uses(1), "inner"), "outer")), "outer")
    assert.strictEqual(reason(named(not(uses(2)), "fresh")), "fresh")
    assert.strictEqual(reason(all([named(uses(1), "tired"), not(age(1))])), "tired and not age")
  })
})

describe("soft verdicts", () => {
  const {
    after,
    age,
    all,
    any,
    check,
    failed,
    failedWith,
    idle,
    interrupted,
    mapInput,
    named,
    not,
    schedule,
    uses,
    when
  } = RecyclePolicy

  const yes = () => true
  const sure = () => Effect.succeed(true)

  /** What is said of an item one second old at the end of its second lease: the reason, and whether it is soft. */
  const heard = (input: RecyclePolicy.Input<string>, exit: Exit.Exit<unknown, unknown> = failure) => {
    const rules = compile(input)
    const subject = item()
    Effect.runSync(start(rules, subject))
    Effect.runSync(atReturn(rules, subject, opened + 500))
    const verdict = Effect.runSync(atReturn(rules, subject, opened + 1_000, exit))
    return verdict === undefined ? [] : [verdict.reason, verdict.soft]
  }

  const swept = (input: RecyclePolicy.Input<string>) => {
    const rules = compile(input)
    const asked = rules.checkAtSweep(item({ uses: 2 }), opened + 1_000, false)
    const verdict = asked === undefined ? undefined : Effect.runSync(asked)
    return verdict === undefined ? [] : [verdict.reason, verdict.soft]
  }

  it("are those of rules that tell how old an item is", () => {
    assert.deepStrictEqual(heard(age(999)), ["age", true])
    assert.deepStrictEqual(heard(age(1_000, { jitter: 0.9999 })), ["age", true])
    assert.deepStrictEqual(heard(uses(2)), ["uses", true])
    assert.deepStrictEqual(heard(schedule(Schedule.recurs(1))), ["schedule", true])
    assert.deepStrictEqual(heard(after(Schedule.spaced(10))), ["after", true])
  })

  it("are not those of rules that find it broken, or not needed", () => {
    assert.deepStrictEqual(heard(failed), ["failed", false])
    assert.deepStrictEqual(heard(failedWith(yes)), ["failed", false])
    assert.deepStrictEqual(heard(interrupted, interruption), ["interrupted", false])
    assert.deepStrictEqual(heard(yes), ["when", false])
    assert.deepStrictEqual(heard(when(boom)), ["rule failed", false])
    assert.deepStrictEqual(heard(failedWith(boom)), ["rule failed", false])
    assert.deepStrictEqual(heard(schedule(Schedule.cron("nonsense"))), ["rule failed", false])
    const idled = compile(idle(10)).atSweep(item(), opened + 11, false)!
    assert.deepStrictEqual([idled.reason, idled.soft], ["idle", false])
    assert.deepStrictEqual(swept(check(sure)), ["check", false])
    assert.deepStrictEqual(swept(check(boom)), ["check failed", false])
  })

  it("are no longer soft inside not, and again soft inside two", () => {
    assert.deepStrictEqual(heard(not(age(2_000))), ["not age", false])
    assert.deepStrictEqual(heard(not(uses(3))), ["not uses", false])
    assert.deepStrictEqual(heard(not(schedule(Schedule.recurs(9)))), ["not schedule", false])
    assert.deepStrictEqual(heard(not(after(Schedule.spaced(2_000)))), ["not after", false])
    assert.deepStrictEqual(heard(not(not(uses(2)))), ["uses", true])
    assert.deepStrictEqual(heard(named(not(all([not(uses(2)), not(age(1))])), "worn")), ["worn", true])
    assert.deepStrictEqual(heard(all([uses(2), not(age(2_000))])), ["uses and not age", false])
  })

  it("stay so under a name, and of another item", () => {
    assert.deepStrictEqual(heard(named(uses(2), "tired")), ["tired", true])
    assert.deepStrictEqual(heard(named(any([failed, uses(2)]), "bad")), ["bad", false])
    assert.deepStrictEqual(heard(mapInput(age(10), (text: string) => text.length)), ["age", true])
  })

  it("of all are soft if every one is", () => {
    assert.deepStrictEqual(heard(all([uses(2), age(10)])), ["uses and age", true])
    assert.deepStrictEqual(heard(all([uses(2), failed])), ["uses and failed", false])
    assert.deepStrictEqual(heard(all([failed, uses(2)])), ["failed and uses", false])
    assert.deepStrictEqual(heard(all([any([uses(2), failed]), age(10)])), ["failed and age", false])
    assert.deepStrictEqual(heard(all([any([uses(2), failed]), age(10)]), Exit.void), ["uses and age", true])
    assert.deepStrictEqual(swept(all([age(10), check(sure)])), ["age and check", false])
  })

  it("of any give way to a hard one, wherever it stands", () => {
    assert.deepStrictEqual(heard(any([uses(2), age(10)])), ["uses", true])
    assert.deepStrictEqual(heard([uses(2), age(10), failed]), ["failed", false])
    assert.deepStrictEqual(heard([failed, uses(2)]), ["failed", false])
    assert.deepStrictEqual(heard([uses(2), failed], Exit.void), ["uses", true])
    assert.deepStrictEqual(heard([uses(2), named(failed, "first"), named(failed, "second")]), ["first", false])
    assert.deepStrictEqual(heard([age(10), any([uses(2), any([uses(3), yes])])]), ["when", false])
    assert.deepStrictEqual(heard([age(10), all([uses(2), failed])]), ["uses and failed", false])
    assert.deepStrictEqual(heard([uses(2), boom]), ["rule failed", false])
  })

  it("give way to one that takes others with it, as hard ones do", () => {
    const older = failedWith(yes, { also: "older", reason: "older" })
    for (const rules of [[uses(2), failed, older], [older, failed, uses(2)], [failed, uses(2), older]]) {
      assert.deepStrictEqual(heard(rules), ["older", false])
    }
    assert.deepStrictEqual(heard([uses(2), failed, failedWith(() => false, { also: "all" })]), ["failed", false])
    assert.deepStrictEqual(heard([uses(2), failedWith(() => false, { also: "all" }), age(10)]), ["uses", true])
  })

  it("are hard when a Schedule of the item has failed, whatever the reason", () => {
    assert.deepStrictEqual(heard([schedule(Schedule.cron("nonsense")), uses(2)]), ["uses", false])
  })

  it("keep a predicate from being asked only where it cannot matter", () => {
    let asked = 0
    const odd = () => ++asked < 0
    assert.deepStrictEqual(heard([uses(1), odd, failed], Exit.void), ["uses", true])
    assert.strictEqual(asked, 2)
    assert.deepStrictEqual(heard([failed, odd]), ["failed", false])
    assert.strictEqual(asked, 3)
  })

  it("do not keep a check from being run, for it may find the item broken", () => {
    assert.deepStrictEqual(swept([check(sure), age(10)]), ["check", false])
    assert.deepStrictEqual(swept([check(() => Effect.succeed(false)), age(10), uses(1)]), ["age", true])
    const both = any([check(() => Effect.succeed(false)), uses(2)])
    assert.deepStrictEqual(swept([all([both, age(10)]), check(sure)]), ["check", false])
    assert.deepStrictEqual(swept([all([both, age(10)]), all([both, age(20)])]), ["uses and age", true])
    let runs = 0
    const counted = check(() => Effect.sync(() => ++runs > 0))
    assert.deepStrictEqual(swept([counted, age(10), not(uses(3))]), ["not uses", false])
    assert.strictEqual(runs, 0)
    // One that is silent before its checks are asked leaves what has spoken.
    assert.deepStrictEqual(swept([age(10), all([counted, idle(5_000)])]), ["age", true])
    assert.deepStrictEqual(swept([any([age(10), all([counted, idle(5_000)])]), check(sure)]), ["check", false])
    assert.strictEqual(runs, 0)
    assert.deepStrictEqual(swept([age(10), all([check(sure), boom])]), ["rule failed", false])
  })
})

describe("mapInput", () => {
  it("shows the rules inside another item", () => {
    const long = RecyclePolicy.when((usage: RecyclePolicy.Usage<number>) => usage.item > 3, "long")
    const twice = long.pipe(
      RecyclePolicy.mapInput((chars: ReadonlyArray<string>) => chars.length),
      RecyclePolicy.mapInput((text: string) => Array.from(text))
    )
    assert.strictEqual(told(compile(twice).atSweep(item({ value: "four" }), opened, false)), "long")
    assert.isUndefined(compile(twice).atSweep(item({ value: "two" }), opened, false))
  })

  it("shows it to checks and Schedules too", () => {
    const length = RecyclePolicy.mapInput((text: string) => text.length)
    const checked = compile(RecyclePolicy.check((n: number) => Effect.succeed(n > 3)).pipe(length))
    assert.strictEqual(told(Effect.runSync(checked.checkAtSweep(item({ value: "four" }), opened, false)!)), "check")
    const seen: Array<number> = []
    const seeing = Schedule.fromStep(Effect.succeed((_: number, usage: RecyclePolicy.Usage<number>) => {
      seen.push(usage.item)
      return Exit.succeed([0, Duration.zero] as [number, Duration.Duration])
    }))
    const stepped = compile([length(RecyclePolicy.schedule(seeing)), length(RecyclePolicy.after(seeing))])
    const subject = item({ value: "three" })
    Effect.runSync(start(stepped, subject))
    assert.isUndefined(returned(stepped, subject, opened))
    assert.deepStrictEqual(seen, [5, 5, 5])
  })
})

describe("values that are not allowed", () => {
  it("do not keep a policy from being compiled", () => {
    const rules = compile([RecyclePolicy.idle("soon" as never), RecyclePolicy.uses(NaN)])
    assert.isUndefined(returned(rules, item(), 1e9))
    assert.isUndefined(rules.atSweep(item(), 1e9, false))
  })
})
