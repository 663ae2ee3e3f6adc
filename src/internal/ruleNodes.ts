// The rules of a compiled policy: a tree of `any` and `all` over rules and negated
// rules. `not` has been pushed down to the leaves, so a rule that speaks more never
// makes the whole speak less, and a rule may be silent (a check at lend, an idle
// rule at `min`) under `not` too.
//
// Each node knows when it may speak next if nothing but time passes, its `due`: it
// speaks at `now` only if now > due. What nobody can foresee (`when`, `check`) is
// never due; a cadence finds it.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Usage } from "../RecyclePolicy.ts"

// How a user's check may fail is its own affair.
// @effect-diagnostics anyUnknownInErrorContext:off

/** What the rules see and keep of an item. Times are monotonic milliseconds unless said. */
export interface Subject<A> {
  readonly value: A
  readonly openedAt: number
  /** The wall clock when it was opened. */
  readonly openedWall: number
  /** The last return; `openedAt` before the first. */
  idleSince: number
  /** Leases that have ended. */
  uses: number
  /** How the last of them ended. */
  exit: Exit.Exit<unknown, unknown> | undefined
  /** The rules' own state. */
  memo: unknown
  /** No rule speaks before this by time alone; kept by the state machine through `nextDue`. */
  dueAt: number
  /** Where the pool shares permits with others. */
  readonly budget: Pressure | undefined
}

/** How others fare who share permits with the pool. */
export interface Pressure {
  readonly pressed: boolean
  readonly overShare: boolean
}

export interface Verdict {
  readonly reason: string
  /** Which other items are recycled too. */
  readonly also: "none" | "older" | "all"
  /** The item is only old, not broken: it could serve on until another is open in its place. */
  readonly soft: boolean
  /** Why a rule failed, if that is the reason. */
  readonly cause?: Cause.Cause<unknown> | undefined
}

export type Moment = Usage<unknown>["moment"]

/** From an item to what a rule inside `mapInput` takes for the item. */
export type Project = (value: unknown) => unknown

export interface Node<R> {
  /** Its verdict may take other items with it. */
  readonly spreads: boolean
  /** Its verdict may be one that is not soft. */
  readonly hard: boolean
  readonly speaks: (subject: Subject<unknown>, now: number, spare: boolean, moment: Moment) => Verdict | undefined
  readonly due: (subject: Subject<unknown>, now: number, spare: boolean) => number
  /** Present where there are checks: its verdict with them, an Effect if one has to run. */
  readonly ask: ((pass: Pass) => Asked<R>) | undefined
}

/** One sweep's look at one item. */
export interface Pass {
  readonly subject: Subject<unknown>
  readonly now: number
  readonly spare: boolean
  /** By check: none runs twice. */
  readonly answers: Array<Exit.Exit<boolean, unknown>>
}

export type Asked<R> = Verdict | undefined | Effect.Effect<Verdict | undefined, never, R>

const failed = (reason: string, cause: Cause.Cause<unknown>): Verdict => ({ reason, also: "none", soft: false, cause })

export const ruleFailed = (cause: Cause.Cause<unknown>): Verdict => failed("rule failed", cause)

export const usageOf = (subject: Subject<unknown>, now: number, moment: Moment, project: Project): Usage<never> => ({
  item: project(subject.value) as never,
  age: now - subject.openedAt,
  idle: moment === "return" ? 0 : now - subject.idleSince,
  uses: subject.uses,
  exit: subject.exit,
  moment,
  pressed: subject.budget?.pressed ?? false,
  overShare: subject.budget?.overShare ?? false
})

// ---- the leaves

const spokenIf = (holds: boolean, negated: boolean, verdict: Verdict): Verdict | undefined =>
  (holds ? !negated : negated) ? verdict : undefined

/** A negated time rule speaks until its deadline, and then no more. */
const dueUntil = (deadline: number, now: number): number => now > deadline ? Infinity : -Infinity

export const idle = <R>(limit: number, negated: boolean, verdict: Verdict): Node<R> => ({
  spreads: false,
  hard: true,
  speaks: (subject, now, spare, moment) => {
    const over = moment !== "return" && now > subject.idleSince + limit
    return (negated ? !over : over && !spare) ? verdict : undefined
  },
  due: (subject, now, spare) => {
    const deadline = subject.idleSince + limit
    if (negated) return dueUntil(deadline, now)
    return spare ? Infinity : deadline
  },
  ask: undefined
})

export const past = <R>(
  deadline: (subject: Subject<unknown>) => number,
  negated: boolean,
  verdict: Verdict
): Node<R> => ({
  spreads: false,
  hard: !verdict.soft,
  speaks: (subject, now) => spokenIf(now > deadline(subject), negated, verdict),
  due: (subject, now) => negated ? dueUntil(deadline(subject), now) : deadline(subject),
  ask: undefined
})

/** What only a return changes. */
export const fact = <R>(
  holds: (subject: Subject<unknown>) => boolean,
  negated: boolean,
  verdict: Verdict
): Node<R> => {
  const speaks = (subject: Subject<unknown>): Verdict | undefined => {
    try {
      return spokenIf(holds(subject), negated, verdict)
    } catch (error) {
      return ruleFailed(Cause.die(error))
    }
  }
  return {
    spreads: verdict.also !== "none",
    hard: !verdict.soft,
    speaks,
    due: (subject) => speaks(subject) === undefined ? Infinity : -Infinity,
    ask: undefined
  }
}

export const when = <R>(
  predicate: (usage: Usage<never>) => boolean,
  project: Project,
  negated: boolean,
  verdict: Verdict
): Node<R> => ({
  spreads: false,
  hard: true,
  speaks: (subject, now, _spare, moment) => {
    try {
      return spokenIf(predicate(usageOf(subject, now, moment, project)), negated, verdict)
    } catch (error) {
      return ruleFailed(Cause.die(error))
    }
  },
  due: () => Infinity,
  ask: undefined
})

export const check = <R>(
  id: number,
  run: (value: unknown) => Effect.Effect<boolean, unknown, R>,
  negated: boolean,
  verdict: Verdict,
  label: string
): Node<R> => ({
  spreads: false,
  hard: true,
  speaks: () => undefined,
  due: () => Infinity,
  ask: Effect.fnUntraced(function*({ answers, subject }) {
    const answer = answers[id] ??= yield* Effect.exit(Effect.suspend(() => run(subject.value)))
    if (Exit.isFailure(answer)) return failed(`${label} failed`, answer.cause)
    return spokenIf(answer.value, negated, verdict)
  })
})

// ---- the branches

const reach = { none: 0, older: 1, all: 2 }

const isHard = (verdict: Verdict | undefined): boolean => verdict?.soft === false

const weight = ({ also, soft }: Verdict): number => soft ? -1 : reach[also]

/** Of two that speak, the one that takes more with it, and a hard one before a soft one; the first of equals. */
const farther = (first: Verdict | undefined, second: Verdict | undefined): Verdict | undefined =>
  first === undefined || (second !== undefined && weight(second) > weight(first)) ? second : first

export const any = <R>(nodes: ReadonlyArray<Node<R>>): Node<R> => {
  const spreads = nodes.some((node) => node.spreads)
  const sync = nodes.filter((node) => node.ask === undefined)
  const speaker = (nodes: ReadonlyArray<Node<R>>): Node<R>["speaks"] => (subject, now, spare, moment) => {
    let spoken: Verdict | undefined
    for (const node of nodes) {
      // After another verdict a soft one has no weight.
      if (spoken !== undefined && !node.hard) continue
      spoken = farther(spoken, node.speaks(subject, now, spare, moment))
      if (!spreads && isHard(spoken)) return spoken
    }
    return spoken
  }
  const first = speaker(sync)
  const asks = nodes.flatMap((node) => node.ask ?? [])
  return {
    spreads,
    hard: nodes.some((node) => node.hard),
    speaks: asks.length === 0 ? first : speaker(nodes),
    due: (subject, now, spare) => {
      let due = Infinity
      for (const node of nodes) due = Math.min(due, node.due(subject, now, spare))
      return due
    },
    ask: asks.length === 0 ? undefined : (pass) => {
      let spoken = first(pass.subject, pass.now, pass.spare, "sweep")
      if (isHard(spoken)) return spoken
      const pending: Array<Effect.Effect<Verdict | undefined, never, R>> = []
      for (const ask of asks) {
        const asked = ask(pass)
        if (Effect.isEffect(asked)) pending.push(asked)
        else if (isHard(asked)) return asked
        else spoken ??= asked
      }
      return pending.length === 0 ? spoken : firstOf(spoken, pending)
    }
  }
}

/** The first hard verdict; without one, the first. */
const firstOf = Effect.fnUntraced(
  function*<R>(spoken: Verdict | undefined, pending: ReadonlyArray<Effect.Effect<Verdict | undefined, never, R>>) {
    for (const effect of pending) {
      const verdict = yield* effect
      if (isHard(verdict)) return verdict
      spoken ??= verdict
    }
    return spoken
  }
)

export const all = <R>(nodes: ReadonlyArray<Node<R>>, name: string | undefined): Node<R> => {
  const together = (verdicts: ReadonlyArray<Verdict>): Verdict => ({
    reason: name ?? verdicts.map((verdict) => verdict.reason).join(" and "),
    also: verdicts.reduce((first, second) => farther(first, second)!).also,
    soft: verdicts.every((verdict) => verdict.soft)
  })
  // What ends the asking: silence, and a rule that failed.
  const ends = (verdict: Verdict | undefined): boolean => verdict === undefined || verdict.cause !== undefined
  const asks = nodes.some((node) => node.ask !== undefined)
  return {
    spreads: nodes.some((node) => node.spreads),
    hard: nodes.some((node) => node.hard),
    speaks: (subject, now, spare, moment) => {
      const verdicts: Array<Verdict> = []
      for (const node of nodes) {
        const verdict = node.speaks(subject, now, spare, moment)
        if (ends(verdict)) return verdict
        verdicts.push(verdict!)
      }
      return together(verdicts)
    },
    due: (subject, now, spare) => {
      let due = -Infinity
      for (const node of nodes) due = Math.max(due, node.due(subject, now, spare))
      return due
    },
    // What costs nothing is asked before any check is run.
    ask: !asks ? undefined : (pass) => {
      const asked: Array<Asked<R>> = []
      for (const { ask, speaks } of nodes) {
        const one = ask === undefined ? speaks(pass.subject, pass.now, pass.spare, "sweep") : ask(pass)
        if (!Effect.isEffect(one) && ends(one)) return one
        asked.push(one)
      }
      return Effect.gen(function*() {
        const verdicts: Array<Verdict> = []
        for (const one of asked) {
          const verdict = Effect.isEffect(one) ? yield* one : one
          if (ends(verdict)) return verdict
          verdicts.push(verdict!)
        }
        return together(verdicts)
      })
    }
  }
}
