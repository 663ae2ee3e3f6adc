// An item as the rules see it, without a pool around it.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Rules, Subject, Verdict } from "../../src/internal/rules.ts"

export const opened = 5_000
export const wall = Date.UTC(2030, 0, 1)

export const item = <A = string>(fields: Partial<Subject<A>> = {}): Subject<A> => ({
  value: "item" as A,
  openedAt: opened,
  openedWall: wall,
  idleSince: opened,
  uses: 0,
  exit: undefined,
  memo: undefined,
  dueAt: Infinity,
  budget: undefined,
  ...fields
})

export const told = (verdict: Verdict | undefined) => verdict?.reason

/** What the rules say of an item at a return, the lease being counted. */
export const atReturn = Effect.fnUntraced(function*<A, R>(
  rules: Rules<A, R>,
  subject: Subject<A>,
  now: number,
  exit: Exit.Exit<unknown, unknown> = Exit.void
) {
  subject.uses++
  subject.exit = exit
  subject.idleSince = now
  const spoken = rules.atReturn(subject, now)
  return Effect.isEffect(spoken) ? yield* spoken : spoken
})

export const returned = <A>(
  rules: Rules<A, never>,
  subject: Subject<A>,
  now: number,
  exit?: Exit.Exit<unknown, unknown>
) => told(Effect.runSync(atReturn(rules, subject, now, exit)))

export const start = <A, R>(rules: Rules<A, R>, subject: Subject<A>) => rules.start(subject) ?? Effect.void

export const boom = (): never => {
  throw new Error("boom")
}

export const failure = Exit.fail("no row")
export const defect = Exit.die("bug")
export const interruption = Exit.interrupt(1)
export const bothCause = Cause.combine(Cause.fail("no row"), Cause.interrupt(1))
export const both = Exit.failCause(bothCause)
