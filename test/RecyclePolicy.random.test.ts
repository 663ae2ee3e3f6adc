// Policies at random, held against their meaning.
import { assert, describe, it } from "@effect/vitest"
import { RecyclePolicy } from "effect-queuepool"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import type { Asked } from "../src/internal/ruleNodes.ts"
import { compile, type Rules, type Subject, type Verdict } from "../src/internal/rules.ts"
import { both, defect, failure, interruption, item, opened, returned, start, told } from "./kit/subject.ts"

type Spec =
  | { readonly _tag: "idle" | "age" | "uses"; readonly limit: number }
  | { readonly _tag: "failed" | "interrupted" | "odd" }
  | { readonly _tag: "any" | "all"; readonly specs: ReadonlyArray<Spec> }
  | { readonly _tag: "not" | "named"; readonly spec: Spec }

const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32))

const generator = (seed: number) => {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (n: number) => Math.floor(next() * n)
  const one = <A>(values: ReadonlyArray<A>): A => values[below(values.length)]!
  const spec = (depth: number, tags: ReadonlyArray<Spec["_tag"]>): Spec => {
    const leaves = tags.filter((tag) => !["any", "all", "not", "named"].includes(tag))
    const _tag = one(depth === 0 ? leaves : tags)
    switch (_tag) {
      case "idle":
      case "age":
        return { _tag, limit: one([0, 10, 20, 30, 40, Infinity]) }
      case "uses":
        return { _tag, limit: 1 + below(4) }
      case "any":
      case "all":
        return { _tag, specs: Array.from({ length: below(4) }, () => spec(depth - 1, tags)) }
      case "not":
      case "named":
        return { _tag, spec: spec(depth - 1, tags) }
      default:
        return { _tag }
    }
  }
  const exit = () => one([undefined, Exit.void, failure, defect, interruption, both])
  const subject = () => {
    const exited = exit()
    const uses = exited === undefined ? 0 : 1 + below(4)
    return item({ exit: exited, uses, idleSince: uses === 0 ? opened : opened + below(50) })
  }
  return { below, one, spec, exit, subject }
}

const leaves = ["idle", "age", "uses", "failed", "interrupted"] as const
const positive = [...leaves, "any", "all", "named"] as const
const foreseeable = [...positive, "not"] as const
const every = [...foreseeable, "odd"] as const
const common = ["idle", "age", "uses", "failed", "any", "all"] as const

const build = (spec: Spec): RecyclePolicy.RecyclePolicy<unknown> => {
  switch (spec._tag) {
    case "idle":
      return RecyclePolicy.idle(spec.limit)
    case "age":
      return RecyclePolicy.age(spec.limit)
    case "uses":
      return RecyclePolicy.uses(spec.limit)
    case "failed":
      return RecyclePolicy.failed
    case "interrupted":
      return RecyclePolicy.interrupted
    case "odd":
      return RecyclePolicy.when((usage) => usage.uses % 2 === 1)
    case "any":
      return RecyclePolicy.any(spec.specs.map(build))
    case "all":
      return RecyclePolicy.all(spec.specs.map(build))
    case "not":
      return RecyclePolicy.not(build(spec.spec))
    case "named":
      return RecyclePolicy.named(build(spec.spec), "name")
  }
}

/** No verdict, a soft one, a hard one. */
type Meaning = 0 | 1 | 2

/** The meaning of a policy, told without any of the shortcuts: does it hold, or if negated, does it not? */
const means = (
  spec: Spec,
  subject: Subject<unknown>,
  now: number,
  spare: boolean,
  back: boolean,
  no = false
): Meaning => {
  const { exit } = subject
  const hard = (holds: boolean): Meaning => holds ? 2 : 0
  const soft = (holds: boolean): Meaning => holds === no ? 0 : no ? 2 : 1
  switch (spec._tag) {
    case "idle": {
      const over = !back && now - subject.idleSince > spec.limit
      return hard(no ? !over : over && !spare)
    }
    case "age":
      return soft(now - subject.openedAt > spec.limit)
    case "uses":
      return soft(subject.uses >= spec.limit)
    case "failed":
      return hard((exit === failure || exit === defect || exit === both) !== no)
    case "interrupted":
      return hard((exit === interruption) !== no)
    case "odd":
      return hard((subject.uses % 2 === 1) !== no)
    case "any":
    case "all": {
      if (spec.specs.length === 0) return 0
      const meanings = spec.specs.map((one) => means(one, subject, now, spare, back, no))
      const strongest = Math.max(...meanings) as Meaning
      return (spec._tag === "any") === no && meanings.includes(0) ? 0 : strongest
    }
    case "not":
      return means(spec.spec, subject, now, spare, back, !no)
    case "named":
      return means(spec.spec, subject, now, spare, back, no)
  }
}

const meaningOf = (verdict: Asked<never>): Meaning => verdict === undefined ? 0 : (verdict as Verdict).soft ? 1 : 2

const forRandom = (
  tags: ReadonlyArray<Spec["_tag"]>,
  test: (given: {
    readonly random: ReturnType<typeof generator>
    readonly spec: Spec
    readonly rules: Rules<unknown, never>
    readonly subject: Subject<unknown>
    readonly now: number
    readonly spare: boolean
    readonly hint: string
  }) => void
) => {
  const random = generator(seed)
  for (let run = 0; run < 5_000; run++) {
    const spec = random.spec(random.below(4), tags)
    const subject = random.subject()
    const now = subject.idleSince + random.below(50)
    const spare = random.one([true, false])
    const hint = `SEED=${seed} run ${run}: ${JSON.stringify({ spec, subject, now, spare })}`
    test({ random, spec, rules: compile(build(spec)), subject, now, spare, hint })
  }
}

describe("policies at random", () => {
  it.each([{ tags: every }, { tags: common }])("mean what they say: $tags", ({ tags }) => {
    forRandom(tags, ({ hint, now, rules, spare, spec, subject }) => {
      const idling = means(spec, subject, now, spare, false)
      assert.strictEqual(meaningOf(rules.atLend(subject, now, spare)), idling, hint)
      assert.strictEqual(meaningOf(rules.atSweep(subject, now, spare)), idling, hint)
      assert.strictEqual(meaningOf(rules.atReturn(subject, now)), means(spec, subject, now, false, true), hint)
    })
  })
})

describe("age", () => {
  it("jitter shortens, by at most its fraction, and is drawn once for each item", () => {
    const random = generator(seed)
    for (let run = 0; run < 500; run++) {
      const limit = 1 + random.below(1e6)
      const jitter = random.one([0.001, 0.1, 0.5, 1])
      const rules = compile(RecyclePolicy.age(limit, { jitter }))
      const subject = item()
      Effect.runSync(start(rules, subject).pipe(Random.withSeed(`${seed} ${run}`)))
      const due = rules.nextDue(subject, opened, true)
      const hint = `SEED=${seed} run ${run}: ${limit} ${jitter} ${due}`
      assert.isAtMost(due, opened + limit, hint)
      assert.isAtLeast(due, opened + limit * (1 - jitter), hint)
      assert.strictEqual(rules.nextDue(subject, opened + 1, false), due, hint)
      assert.isUndefined(rules.atSweep(subject, due, false), hint)
      assert.strictEqual(told(rules.atSweep(subject, due + 0.01, false)), "age", hint)
      assert.isUndefined(returned(rules, subject, due), hint)
      assert.strictEqual(returned(rules, subject, due + 0.01), "age", hint)
    }
  })
})

describe("nextDue", () => {
  it("no rule speaks until then, if nothing but time passes", () => {
    forRandom(foreseeable, ({ hint, now, random, rules, spare, spec, subject }) => {
      const speaks = (at: number) => rules.atSweep(subject, at, spare) !== undefined
      const due = rules.nextDue(subject, now, spare)
      assert.strictEqual(due < now, speaks(now), hint)
      if (speaks(now)) return
      for (const after of [0, 1, 9.5, 10, 20.5, 30, 50, random.below(100), due - now]) {
        const at = now + after
        if (at <= due) assert.strictEqual(means(spec, subject, at, spare, false), 0, `${hint} at ${at} due ${due}`)
      }
    })
  })

  it("a rule speaks then, if none is negated", () => {
    forRandom(positive, ({ hint, now, rules, spare, subject }) => {
      const due = rules.nextDue(subject, now, spare)
      if (due < Infinity) assert.isDefined(rules.atSweep(subject, Math.max(now, due + 0.5), spare), hint)
    })
  })

  it("a return never brings it nearer, unless the rules say so", () => {
    let hastened = 0
    forRandom(foreseeable, ({ hint, now, random, rules, subject }) => {
      const before = rules.nextDue(subject, now, false)
      if (before < now || rules.returns && rules.atReturn({ ...subject, uses: subject.uses + 1 }, now) !== undefined) {
        return
      }
      const later = now + random.below(20)
      const after = { ...subject, uses: subject.uses + 1, idleSince: later, exit: random.exit() ?? Exit.void }
      if (rules.atReturn(after, later) !== undefined) return
      const nearer = rules.nextDue(after, later, false) < before
      if (nearer) hastened++
      assert.isTrue(!nearer || rules.hastens, hint)
    })
    assert.isAbove(hastened, 0)
  })
})

describe("what the state machine need not ask", () => {
  it("at lend: lends", () => {
    forRandom(every, ({ hint, now, rules, spare, subject }) => {
      if (rules.atSweep(subject, subject.idleSince, spare) !== undefined || rules.lends) return
      if (now <= rules.nextDue(subject, subject.idleSince, spare)) {
        assert.isUndefined(rules.atLend(subject, now, spare), hint)
      }
    })
  })

  it("at return: returns", () => {
    forRandom(every, ({ hint, now, random, rules, subject }) => {
      const due = rules.nextDue(subject, now, false)
      if (rules.returns || rules.atSweep(subject, now, false) !== undefined) return
      const later = now + random.below(50)
      const after = { ...subject, uses: subject.uses + 1, idleSince: later, exit: random.exit() ?? Exit.void }
      if (later <= due) assert.isUndefined(rules.atReturn(after, later), hint)
    })
  })

  it("time: timed; idle time: idles", () => {
    forRandom(every, ({ hint, now, rules, spare, subject }) => {
      if (!rules.timed) {
        assert.strictEqual(told(rules.atSweep(subject, now, spare)), told(rules.atSweep(subject, NaN, spare)), hint)
      }
      if (!rules.idles) {
        const other = { ...subject, idleSince: NaN }
        assert.strictEqual(told(rules.atSweep(subject, now, spare)), told(rules.atSweep(other, now, spare)), hint)
      }
    })
  })
})
