// Compiles a policy for the state machine, and keeps what its rules need to know of
// each item: deadlines that were drawn, copies of Schedules.
//
// The common policy, of idle, age, uses, exits and predicates without `not`, costs a few
// compares at a return, and its predicates: the tree is asked only when one of these holds.
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as RecyclePolicy from "../RecyclePolicy.ts"
import {
  all,
  any,
  type Asked,
  check,
  fact,
  idle,
  type Moment,
  type Node,
  past,
  type Pressure,
  type Project,
  ruleFailed,
  type Subject,
  usageOf,
  type Verdict,
  when
} from "./ruleNodes.ts"

// How a user's check or Schedule may fail is its own affair.
// @effect-diagnostics anyUnknownInErrorContext:off

export type { Pressure, Subject, Verdict }

export interface Rules<in A, out R = unknown> {
  /** Some rule reads the time at lend; only then can an item be due. */
  readonly timed: boolean
  /** Some rule reads idle time: `idleSince` must be stamped at return. */
  readonly idles: boolean
  /** `start` has something to do. */
  readonly opens: boolean
  /** `atReturn` may speak of an item that is not due. */
  readonly returns: boolean
  /** Of an item with fewer uses, that is not due, `atReturn` says nothing after a lease that succeeded. */
  readonly freeUses: number
  /** `atLend` may speak of an item that is not due. */
  readonly lends: boolean
  /** `atSweep` may speak of an item that is not due, without a return in between. */
  readonly sweeps: boolean
  /** Some rule speaks of an item of which nothing is known but that it has not been lent, or not so. */
  readonly negates: boolean
  /** There are effectful checks. */
  readonly checks: boolean
  /** A return can bring the due time nearer: it must be asked for again after each. */
  readonly hastens: boolean
  /** Once, when the item was opened. */
  start(subject: Subject<A>): Effect.Effect<void, never, R> | undefined
  /** `spare`: the pool is at `min` or below, and idle rules are silent. */
  atLend(subject: Subject<A>, now: number, spare: boolean): Verdict | undefined
  /** The same, of an item that is not due: at its last return nothing was said. */
  notDue(subject: Subject<A>, now: number, spare: boolean): Verdict | undefined
  /** `uses` and `exit` tell of this lease already. An Effect, when the step of a Schedule is one. */
  atReturn(subject: Subject<A>, now: number): Asked<R>
  atSweep(subject: Subject<A>, now: number, spare: boolean): Verdict | undefined
  /**
   * What the rules say when the checks, each run at most once, have answered.
   * Undefined when no check can matter: `atSweep` has said it all.
   */
  checkAtSweep(
    subject: Subject<A>,
    now: number,
    spare: boolean
  ): Effect.Effect<Verdict | undefined, never, R> | undefined
  /**
   * The time until which no rule speaks if nothing but time passes; Infinity: never.
   * It is before `now` only when a rule speaks at `now`. `idleSince` must be stamped.
   */
  nextDue(subject: Subject<A>, now: number, spare: boolean): number
}

export const compile = <A, R = never>(input: RecyclePolicy.Input<A, R> | undefined): Rules<A, R> =>
  new Compiled<A, R>(RecyclePolicy.any(input === undefined ? [] : [input].flat()) as RecyclePolicy.Rule<never, R>)

class Compiled<A, R> implements Rules<A, R> {
  readonly timed: boolean
  readonly idles: boolean
  readonly opens: boolean
  readonly returns: boolean
  readonly lends: boolean
  readonly sweeps: boolean
  readonly negates: boolean
  readonly checks: boolean
  readonly hastens: boolean
  readonly freeUses: number
  private readonly root: Node<R>
  private readonly openers: ReadonlyArray<Opener<R>>
  private readonly steps: boolean
  private readonly fallible: boolean
  private readonly undrawn: ReadonlyArray<number>
  private readonly unmade: ReadonlyArray<Stepper<R>>
  private readonly simple: boolean
  private readonly predicates: ReadonlyArray<Predicate>
  private readonly usesFloor: number
  private readonly ageFloor: number

  constructor(rule: RecyclePolicy.Rule<never, R>) {
    const plan = new Plan<R>()
    this.root = plan.node(rule, false, undefined, (value) => value)
    this.timed = plan.timed
    this.idles = plan.idles
    this.opens = plan.openers.length > 0
    this.returns = plan.returns
    this.lends = plan.lends
    this.checks = plan.checks.length > 0
    this.sweeps = plan.lends || this.checks
    this.negates = plan.negates
    this.hastens = plan.conjunctions && plan.timed && plan.returns
    this.openers = plan.openers
    this.steps = plan.steppers > 0
    this.fallible = plan.fallible
    this.undrawn = Array.from({ length: plan.deadlines }, () => Infinity)
    this.unmade = Array.from({ length: plan.steppers }, () => notMade)
    this.simple = plan.simple && (plan.predicates.length === 0 || !plan.conjunctions)
    this.predicates = plan.predicates
    this.usesFloor = plan.usesFloor
    this.ageFloor = plan.ageFloor
    this.freeUses = this.predicates.length === 0 && this.simple ? plan.usesFloor : plan.returns ? 0 : Infinity
  }

  start(subject: Subject<A>): Effect.Effect<void, never, R> | undefined {
    if (!this.opens) return undefined
    return Effect.suspend(() => {
      // No larger than they need to be: every item has them.
      const steppers = this.steps ? this.unmade.slice() : none
      const memo: Memo<R> = { deadlines: this.undrawn.slice(), steppers, failure: undefined }
      subject.memo = this.fallible ? memo : memo.deadlines
      return Effect.forEach(this.openers, (open) => open(subject, memo), { discard: true })
    })
  }

  atLend(subject: Subject<A>, now: number, spare: boolean): Verdict | undefined {
    return this.verdict(subject, now, spare, "lend")
  }

  atReturn(subject: Subject<A>, now: number): Asked<R> {
    if (
      this.simple && subject.uses < this.usesFloor && now <= subject.openedAt + this.ageFloor &&
      (subject.exit === undefined || subject.exit._tag === "Success")
    ) return firstThatHolds(this.predicates, subject, now, "return")
    const pending = this.steps ? step(subject, memoOf<R>(subject), now) : undefined
    if (pending === undefined) return this.verdict(subject, now, false, "return")
    // Of a shared item other leases may end before the steps do: what counts is how this one has.
    const { exit } = subject
    const returned: Subject<A> = Object.assign(Object.create(subject) as Subject<A>, { exit })
    return Effect.map(pending, () => this.verdict(returned, now, false, "return"))
  }

  notDue(subject: Subject<A>, now: number, spare: boolean): Verdict | undefined {
    return this.simple
      ? firstThatHolds(this.predicates, subject, now, "lend")
      : this.verdict(subject, now, spare, "lend")
  }

  atSweep(subject: Subject<A>, now: number, spare: boolean): Verdict | undefined {
    return this.verdict(subject, now, spare, "sweep")
  }

  checkAtSweep(
    subject: Subject<A>,
    now: number,
    spare: boolean
  ): Effect.Effect<Verdict | undefined, never, R> | undefined {
    const asked = this.root.ask?.({ subject, now, spare, answers: [] })
    return asked === undefined || Effect.isEffect(asked) ? asked : Effect.succeed(asked)
  }

  nextDue(subject: Subject<A>, now: number, spare: boolean): number {
    return failureOf(subject) === undefined ? this.root.due(subject, now, spare) : -Infinity
  }

  private verdict(subject: Subject<A>, now: number, spare: boolean, moment: Moment): Verdict | undefined {
    const spoken = this.root.speaks(subject, now, spare, moment)
    if (spoken !== undefined && !spoken.soft) return spoken
    const failure = failureOf(subject)
    if (failure === undefined) return spoken
    // The rule that speaks gives the reason, but an item with a rule that failed is not only old.
    return spoken === undefined ? ruleFailed(failure) : { ...spoken, soft: false }
  }
}

/** A predicate of the user's that nothing but `any` stands above. */
interface Predicate {
  readonly holds: (usage: RecyclePolicy.Usage<never>) => boolean
  readonly project: Project
  readonly verdict: Verdict
}

/** The first that holds, where no other rule has anything to say. */
const firstThatHolds = (
  predicates: ReadonlyArray<Predicate>,
  subject: Subject<unknown>,
  now: number,
  moment: Moment
): Verdict | undefined => {
  let usage: RecyclePolicy.Usage<never> | undefined
  for (let i = 0; i < predicates.length; i++) {
    const { holds, project, verdict } = predicates[i]!
    try {
      // Most ask of the item itself.
      if (usage === undefined || project !== predicates[i - 1]!.project) usage = usageOf(subject, now, moment, project)
      if (holds(usage)) return verdict
    } catch (error) {
      return ruleFailed(Cause.die(error))
    }
  }
  return undefined
}

// ---- what is kept for an item

/** What the rules keep for one item. */
interface Memo<R> {
  /** The deadlines that were drawn or computed when it was opened. */
  readonly deadlines: Array<number>
  readonly steppers: Array<Stepper<R>>
  failure: Cause.Cause<unknown> | undefined
}

/** An item's own copy of a Schedule. */
interface Stepper<R> {
  readonly step: (subject: Subject<unknown>, now: number, moment: Moment) => Effect.Effect<unknown, unknown, R>
  done: boolean
}

const none: Array<never> = []

/** In the place of one until it is there. */
const notMade = { done: true } as unknown as Stepper<never>

type Opener<R> = (subject: Subject<unknown>, memo: Memo<R>) => Effect.Effect<void, never, R>

/** What is kept of the item; only the deadlines, where nothing else can come to be known. */
type Kept<R> = Memo<R> | Memo<R>["deadlines"] | undefined

const memoOf = <R>(subject: Subject<unknown>): Memo<R> | undefined => {
  const kept = subject.memo as Kept<R>
  return Array.isArray(kept) ? undefined : kept
}

const deadlineOf = (subject: Subject<unknown>, index: number): number => {
  const kept = subject.memo as Kept<unknown>
  return (Array.isArray(kept) ? kept : kept?.deadlines)?.[index] ?? Infinity
}

const settle = <R>(memo: Memo<R>, stepper: Stepper<R>, exit: Exit.Exit<unknown, unknown>): void => {
  if (Exit.isSuccess(exit)) return
  if (Pull.isDoneCause(exit.cause)) stepper.done = true
  else memo.failure = exit.cause
}

// As with Schedules that are done: not before the first lease.
const failureOf = (subject: Subject<unknown>): Cause.Cause<unknown> | undefined =>
  subject.uses > 0 ? memoOf(subject)?.failure : undefined

/** Steps every Schedule of the item; an Effect for those that cannot be at once. */
const step = <R>(
  subject: Subject<unknown>,
  memo: Memo<R> | undefined,
  now: number
): Effect.Effect<void, never, R> | undefined => {
  let pending: Effect.Effect<void, never, R> | undefined
  for (const stepper of memo?.steppers ?? []) {
    if (stepper.done) continue
    let stepped: Effect.Effect<unknown, unknown, R>
    try {
      stepped = stepper.step(subject, now, "return")
    } catch (error) {
      stepped = Exit.die(error)
    }
    if (Exit.isExit(stepped)) {
      settle(memo!, stepper, stepped)
      continue
    }
    const settled = Effect.map(Effect.exit(stepped), (exit) => settle(memo!, stepper, exit))
    pending = pending === undefined ? settled : Effect.andThen(pending, settled)
  }
  return pending
}

// ---- the way through a policy

/** What is learnt of a policy on the way through it. */
class Plan<R> {
  timed = false
  idles = false
  returns = false
  lends = false
  negates = false
  readonly checks: Array<{ readonly predicate: unknown; readonly project: Project }> = []
  readonly openers: Array<Opener<R>> = []
  readonly predicates: Array<Predicate> = []
  deadlines = 0
  steppers = 0
  /** The items have Schedules, which can fail. */
  fallible = false
  conjunctions = false
  /** Below these the tree has nothing to say at a return. */
  simple = true
  usesFloor = Infinity
  ageFloor = Infinity
  private readonly projections: Array<{ readonly outer: Project; readonly f: Project; readonly both: Project }> = []

  /** `f` after `outer`; the same function for the same two, so that equal checks are known as such. */
  project(outer: Project, f: Project): Project {
    const known = this.projections.find((one) => one.outer === outer && one.f === f)
    if (known !== undefined) return known.both
    const both: Project = (value) => f(outer(value))
    this.projections.push({ outer, f, both })
    return both
  }

  check(predicate: unknown, project: Project): number {
    const known = this.checks.findIndex((one) => one.predicate === predicate && one.project === project)
    return known >= 0 ? known : this.checks.push({ predicate, project }) - 1
  }

  node(rule: RecyclePolicy.Rule<never, R>, negated: boolean, name: string | undefined, project: Project): Node<R> {
    const soft = !negated && ageing.has(rule._tag)
    const verdict: Verdict = { reason: name ?? rule.reason, also: "none", soft }
    this.simple &&= !negated
    this.negates ||= negated
    switch (rule._tag) {
      case "Idle": {
        const limit = millis(rule.limit)
        this.timed ||= limit < Infinity
        this.idles ||= limit < Infinity
        this.returns ||= negated
        return idle(limit, negated, verdict)
      }
      case "Age": {
        const { jitter } = rule
        const limit = millis(rule.limit)
        this.timed ||= limit < Infinity
        if (jitter === 0 || limit === Infinity) {
          this.ageFloor = Math.min(this.ageFloor, limit)
          return past((subject) => subject.openedAt + limit, negated, verdict)
        }
        this.ageFloor = Math.min(this.ageFloor, limit * (1 - jitter))
        return this.drawn(
          negated,
          verdict,
          (subject) => Effect.map(Random.next, (random) => subject.openedAt + limit * (1 - jitter * random))
        )
      }
      case "Uses": {
        const { limit } = rule
        this.returns = true
        this.usesFloor = Math.min(this.usesFloor, limit)
        return fact((subject) => subject.uses >= limit, negated, verdict)
      }
      case "Failed":
        this.returns = true
        return fact(
          ({ exit }) => exit !== undefined && Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause),
          negated,
          verdict
        )
      case "Interrupted":
        this.returns = true
        return fact(
          ({ exit }) => exit !== undefined && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause),
          negated,
          verdict
        )
      case "FailedWith": {
        const { interruption, predicate } = rule
        this.returns = true
        return fact(
          ({ exit }) =>
            exit !== undefined && Exit.isFailure(exit) && (interruption || !Cause.hasInterruptsOnly(exit.cause)) &&
            predicate(exit.cause),
          negated,
          negated ? verdict : { ...verdict, also: rule.also }
        )
      }
      case "When":
        this.timed = true
        this.idles = true
        this.returns = true
        this.lends = true
        this.predicates.push({ holds: rule.predicate, project, verdict })
        return when(rule.predicate, project, negated, verdict)
      case "Check": {
        const { predicate } = rule
        const run = (value: unknown) => predicate(project(value) as never)
        return check(this.check(predicate, project), run, negated, verdict, negated ? rule.reason : verdict.reason)
      }
      case "Schedule":
        return this.stepped(rule.schedule, project, negated, verdict)
      case "After": {
        const { schedule } = rule
        this.timed = true
        this.returns = true
        this.simple = false
        this.fallible = true
        return this.drawn(negated, verdict, (subject, memo) =>
          Effect.matchCause(
            Effect.flatMap(
              Schedule.toStep(schedule),
              (step) => step(subject.openedWall, usageOf(subject, subject.openedAt, "open", project))
            ),
            {
              onSuccess: ([, delay]) => subject.openedAt + Duration.toMillis(delay),
              onFailure: (cause) => {
                if (!Pull.isDoneCause(cause)) memo.failure = cause
                return Infinity
              }
            }
          ))
      }
      case "Any":
      case "All": {
        const nodes = rule.rules.map((one) => this.node(one, negated, name, project))
        if ((rule._tag === "Any") !== negated || nodes.length === 0) return nodes.length === 1 ? nodes[0]! : any(nodes)
        this.conjunctions = true
        return all(nodes, name)
      }
      case "Not":
        return this.node(rule.rule, !negated, verdict.reason, project)
      case "Named":
        return this.node(rule.rule, negated, verdict.reason, project)
      case "MapInput":
        return this.node(rule.rule, negated, name, this.project(project, rule.f as Project))
    }
  }

  // A deadline that is made once, when the item was opened.
  private drawn(
    negated: boolean,
    verdict: Verdict,
    draw: (subject: Subject<unknown>, memo: Memo<R>) => Effect.Effect<number, never, R>
  ): Node<R> {
    const index = this.deadlines++
    this.openers.push((subject, memo) =>
      Effect.map(draw(subject, memo), (at) => {
        memo.deadlines[index] = at
      })
    )
    return past((subject) => deadlineOf(subject, index), negated, verdict)
  }

  private stepped(
    schedule: Schedule.Schedule<unknown, RecyclePolicy.Usage<never>, unknown, R>,
    project: Project,
    negated: boolean,
    verdict: Verdict
  ): Node<R> {
    const index = this.steppers++
    this.fallible = true
    this.idles = true
    this.returns = true
    this.simple = false
    this.openers.push((subject, memo) =>
      Effect.flatMap(Schedule.toStep(schedule), (step) => {
        const stepper: Stepper<R> = {
          step: (subject, now, moment) =>
            step(subject.openedWall + (now - subject.openedAt), usageOf(subject, now, moment, project)),
          done: false
        }
        memo.steppers[index] = stepper
        const first = Effect.suspend(() => stepper.step(subject, subject.openedAt, "open"))
        return Effect.map(Effect.exit(first), (exit) => settle(memo, stepper, exit))
      })
    )
    // A Schedule that is done when the item is opened must not keep it, and the next, from being lent at all.
    const done = (subject: Subject<unknown>): boolean =>
      subject.uses > 0 && memoOf<R>(subject)?.steppers[index]?.done === true
    return fact(done, negated, verdict)
  }
}

/** They speak of an item that is only old. */
const ageing: ReadonlySet<string> = new Set(["Age", "Uses", "Schedule", "After"])

const millis = (limit: Duration.Input): number =>
  Option.match(Duration.fromInput(limit), { onNone: () => Infinity, onSome: Duration.toMillis })
