/**
 * When an item of a pool has lived long enough.
 *
 * A `RecyclePolicy` is a rule, or rules composed, that decides from an item's
 * `Usage` whether the pool ends its life. Rules are immutable data: each knows its
 * reason, which appears in events, logs and metrics, and a time rule knows its next
 * deadline, so that nothing is polled. A plain predicate on `Usage` is accepted
 * wherever a rule is, and an array of rules means any of them.
 *
 * **Example** (Composing a policy)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.any([
 *   RecyclePolicy.idle("10 minutes"),
 *   RecyclePolicy.age("1 hour").pipe(RecyclePolicy.and(RecyclePolicy.uses(100)))
 * ])
 *
 * const words = RecyclePolicy.explain(policy)
 * const or = "that was idle for more than 10m (above min), or is older than 1h and had 100 leases"
 *
 * words // => `recycle an item ${or}`
 * ```
 *
 * @since 1.0.0
 */
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { dual, identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Pipeable from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type { Contravariant, Covariant } from "effect/Types"

// The combinators are pipeable; constructors with options have nothing to pipe.
// @effect-diagnostics missingPipeableSignature:off

const TypeId = "~effect-queuepool/RecyclePolicy"

/**
 * What a rule is told of an item.
 *
 * **Details**
 *
 * `age` is the time since the item was opened, `idle` the time since it last came
 * back, or since it was opened; both in milliseconds and monotonic, so that a
 * change of the wall clock changes nothing. `uses` counts the leases that have
 * ended, and `exit` is how the last of them did; it is undefined before the first
 * lease has ended. At `"return"` the lease that just ended is counted and `idle`
 * is 0.
 *
 * `moment` says when the rule is asked: before the item is lent, when it has come
 * back, or in a sweep. At `"open"` only a Schedule is stepped; no predicate is
 * asked then.
 *
 * `pressed` says that a pool which shares a `Capacity` with this one is short of
 * permits, and `overShare` that this pool then has more of them than is fair.
 *
 * @category models
 * @since 1.0.0
 */
export interface Usage<out A> {
  readonly item: A
  readonly age: number
  readonly idle: number
  readonly uses: number
  readonly exit: Exit.Exit<unknown, unknown> | undefined
  readonly moment: "open" | "lend" | "return" | "sweep"
  readonly pressed: boolean
  readonly overShare: boolean
}

/**
 * A rule, or rules composed, for items of type `A`. `R` is what its effects and
 * Schedules need, and becomes a requirement of the pool.
 *
 * **Details**
 *
 * `reason` is what a `Recycled` event says when the rule has spoken. A composed
 * rule tells which of its rules that was: `any` has the reason of the rule that
 * spoke, `all` the reasons of its rules joined by "and".
 *
 * **Gotchas**
 *
 * A rule that throws, and a Schedule that fails, recycle the item with the reason
 * `"rule failed"`, whatever they are composed into. A `check` that fails does so
 * with its own reason and the word "failed".
 *
 * @category models
 * @since 1.0.0
 */
export interface RecyclePolicy<in A, out R = never> extends Pipeable.Pipeable {
  readonly [TypeId]: {
    readonly _A: Contravariant<A>
    readonly _R: Covariant<R>
  }
  readonly _tag:
    | "Idle"
    | "Age"
    | "Uses"
    | "Failed"
    | "FailedWith"
    | "Interrupted"
    | "When"
    | "Check"
    | "Schedule"
    | "After"
    | "Any"
    | "All"
    | "Not"
    | "Named"
    | "MapInput"
  readonly reason: string
}

/**
 * A policy with its data, told apart by `_tag`.
 *
 * **When to use**
 *
 * Use to look into a policy, for example to print it in a way of your own.
 * `isRecyclePolicy` narrows to this union.
 *
 * **Example** (Reading the limit of a rule)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const limit = (policy: RecyclePolicy.RecyclePolicy<never>) =>
 *   RecyclePolicy.isRecyclePolicy(policy) && policy._tag === "Uses" ? policy.limit : undefined
 *
 * limit(RecyclePolicy.uses(100)) // => 100
 * limit(RecyclePolicy.failed) // => undefined
 * ```
 *
 * @category models
 * @since 1.0.0
 */
export type Rule<A = never, R = unknown> =
  & RecyclePolicy<A, R>
  & (
    | { readonly _tag: "Idle"; readonly limit: Duration.Input }
    | { readonly _tag: "Age"; readonly limit: Duration.Input; readonly jitter: number }
    | { readonly _tag: "Uses"; readonly limit: number }
    | { readonly _tag: "Failed" | "Interrupted" }
    | {
      readonly _tag: "FailedWith"
      readonly predicate: (cause: Cause.Cause<unknown>) => boolean
      readonly also: "none" | "older" | "all"
      readonly interruption: boolean
    }
    | { readonly _tag: "When"; readonly predicate: (usage: Usage<A>) => boolean }
    | { readonly _tag: "Check"; readonly predicate: (item: A) => Effect.Effect<boolean, unknown, R> }
    | { readonly _tag: "Schedule" | "After"; readonly schedule: Schedule.Schedule<unknown, Usage<A>, unknown, R> }
    | { readonly _tag: "Any" | "All"; readonly rules: ReadonlyArray<Rule<A, R>> }
    | { readonly _tag: "Not" | "Named"; readonly rule: Rule<A, R> }
    | { readonly _tag: "MapInput"; readonly rule: Rule<never, R>; readonly f: (item: A) => unknown }
  )

/** A rule as it may be given: a policy or a plain predicate. */
type One<A, R> = RecyclePolicy<A, R> | ((usage: Usage<A>) => boolean)

/**
 * What the option `recycle` and the combinators accept: a policy, a plain
 * predicate on `Usage`, or an array of these, which means any of them.
 *
 * @category models
 * @since 1.0.0
 */
export type Input<A, R = never> = One<A, R> | ReadonlyArray<One<A, R>>

// The item that satisfies every rule of a union, and all that the rules need.
type Item<P> = (
  P extends RecyclePolicy<infer A, unknown> ? (item: A) => void
    : P extends (usage: Usage<infer A>) => boolean ? (item: A) => void
    : never
) extends (item: infer A) => void ? A : never
type Requirements<P> = P extends RecyclePolicy<never, infer R> ? R : never

/**
 * Tests whether a value is a `RecyclePolicy`, and tells its data by `_tag`.
 *
 * **Example** (Telling policies from predicates)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * RecyclePolicy.isRecyclePolicy(RecyclePolicy.failed) // => true
 * RecyclePolicy.isRecyclePolicy(() => true) // => false
 * ```
 *
 * @category guards
 * @since 1.0.0
 */
export const isRecyclePolicy = (u: unknown): u is Rule => hasProperty(u, TypeId)

/**
 * Tests whether a value is what the option `recycle` accepts: a policy, a
 * function, or an array of these.
 *
 * **Gotchas**
 *
 * It does not look at the values inside the rules; `problems` does.
 *
 * **Example** (Testing what a user gave)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * RecyclePolicy.isInput([RecyclePolicy.failed, () => false]) // => true
 * RecyclePolicy.isInput("10 minutes") // => false
 * ```
 *
 * @category guards
 * @since 1.0.0
 */
export const isInput = (u: unknown): u is Input<never, unknown> => isOne(u) || (Array.isArray(u) && u.every(isOne))

const isOne = (u: unknown): boolean => isRecyclePolicy(u) || typeof u === "function"

type Data<T = Rule> = T extends { readonly _tag: string } ? Omit<T, Exclude<keyof RecyclePolicy<never>, "_tag">> : never

const Proto: object = {
  ...Pipeable.Prototype,
  [TypeId]: { _A: identity, _R: identity }
}

const make = <A = unknown, R = never>(reason: string, data: Data): Rule<A, R> =>
  Object.freeze(Object.assign(Object.create(Proto), data, { reason })) as Rule<A, R>

// What is neither a policy nor a function becomes a rule too, for `problems` to find.
const toRule = (input: unknown): Rule =>
  isRecyclePolicy(input)
    ? input
    : Array.isArray(input)
    ? compose("Any", input)
    : make("when", { _tag: "When", predicate: input as (usage: Usage<never>) => boolean })

const compose = (_tag: "Any" | "All", input: unknown): Rule => {
  const rules = Object.freeze(Array.isArray(input) ? input.map(toRule) : [toRule(input)])
  return make(join(rules, _tag === "Any" ? " or " : " and "), { _tag, rules })
}

const join = (rules: ReadonlyArray<Rule>, word: string): string =>
  rules.length === 0 ? "never" : rules.map((rule) => rules.length > 1 ? part(rule) : rule.reason).join(word)

const part = (rule: Rule): string => isCompound(rule) ? `(${rule.reason})` : rule.reason

const isCompound = (rule: Rule): boolean => {
  switch (rule._tag) {
    case "Any":
    case "All":
      return rule.rules.length > 1
    case "MapInput":
      return isCompound(rule.rule)
    default:
      return false
  }
}

/**
 * Recycles an item that was idle for longer than `limit`.
 *
 * **When to use**
 *
 * Use to let a pool shrink when it is not needed, and to end a connection before
 * something between you and the server does.
 *
 * **Details**
 *
 * The reason is `"idle"`. The items that make up the pool's `min` are spared. The
 * pool sleeps until the limit is reached; `"Infinity"` is never.
 *
 * **Gotchas**
 *
 * Inside `not` nothing is spared: there it only says whether the item was idle.
 *
 * **Example** (Recycling idle items)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.idle("10 minutes")
 *
 * policy.reason // => "idle"
 * RecyclePolicy.explain(policy) // => "recycle an item that was idle for more than 10m (above min)"
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const idle = (limit: Duration.Input): RecyclePolicy<unknown> => make("idle", { _tag: "Idle", limit })

/**
 * Recycles an item that was opened longer than `limit` ago.
 *
 * **When to use**
 *
 * Use to spread load over new servers, to pick up changes that only new
 * connections see, and to bound what leaks.
 *
 * **Details**
 *
 * The reason is `"age"`. With `jitter`, a fraction from 0 to 1, the limit is
 * shortened by up to that fraction, drawn once for each item from Effect's
 * `Random`: items opened together do not end together, and none lives longer than
 * `limit`. The pool sleeps until the limit is reached; `"Infinity"` is never.
 *
 * **Gotchas**
 *
 * It does not spare `min`: what falls below is opened anew. An item that is lent
 * is recycled when it comes back.
 *
 * **Example** (Recycling old items, not all at once)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.age("1 hour", { jitter: 0.1 })
 *
 * policy.reason // => "age"
 * RecyclePolicy.explain(policy) // => "recycle an item that is older than 1h (up to 10% earlier)"
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const age = (
  limit: Duration.Input,
  options?: { readonly jitter?: number | undefined }
): RecyclePolicy<unknown> => make("age", { _tag: "Age", limit, jitter: options?.jitter ?? 0 })

/**
 * Recycles an item that had `limit` leases.
 *
 * **When to use**
 *
 * Use to bound what each lease leaves behind: memory of a browser, caches of a
 * session.
 *
 * **Details**
 *
 * The reason is `"uses"`. An item is lent at most `limit` times. `limit` is a
 * whole number from 1, or `Infinity`, which is never.
 *
 * **Gotchas**
 *
 * 0 is not allowed: an item that may not be lent even once would be of no use. For
 * a new item with each lease use 1.
 *
 * **Example** (Limiting the leases of an item)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * RecyclePolicy.explain(RecyclePolicy.uses(50_000)) // => "recycle an item that had 50000 leases"
 * RecyclePolicy.problems(RecyclePolicy.uses(0)).length // => 1
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const uses = (limit: number): RecyclePolicy<unknown> => make("uses", { _tag: "Uses", limit })

/**
 * Recycles an item whose lease ended with a failure or a defect.
 *
 * **When to use**
 *
 * Use when a failure may have left the item in a bad state, and a new one is cheap.
 *
 * **Details**
 *
 * The reason is `"failed"`.
 *
 * **Gotchas**
 *
 * A lease that was only interrupted has not failed: see `interrupted`. An
 * ordinary failure of your program, such as a row that was not found, counts too:
 * see `failedWith`.
 *
 * **Example** (Recycling after failures and interruptions)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = [RecyclePolicy.failed, RecyclePolicy.interrupted]
 *
 * RecyclePolicy.explain(policy) // => "recycle an item whose lease failed, or whose lease was interrupted"
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const failed: RecyclePolicy<unknown> = make("failed", { _tag: "Failed" })

/**
 * Recycles an item whose lease ended with a cause that the predicate accepts, and
 * others with it if you say so.
 *
 * **When to use**
 *
 * Use to tell failures of the item, such as a lost connection, from those of your
 * program; and, with `also`, to let one dead connection to a restarted server end
 * the others before they are lent.
 *
 * **Details**
 *
 * - `also`: which other items are recycled with it: those opened `"older"` than
 *   it, or `"all"`. The idle are recycled at once, the lent when they come back.
 * - `interruption`: also ask about causes that are interruptions only. Default
 *   `false`.
 * - `reason`: default `"failed"`.
 *
 * When several rules speak at once, the one that takes the most others with it
 * gives the reason.
 *
 * **Example** (Ending every item when one has lost the server)
 *
 * ```ts
 * import * as Cause from "effect/Cause"
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const isLost = (cause: Cause.Cause<unknown>) => Cause.squash(cause) === "connection lost"
 * const policy = RecyclePolicy.failedWith(isLost, { also: "all", reason: "lost" })
 *
 * RecyclePolicy.explain(policy) // => `recycle an item whose lease failed with "lost" (with every other item)`
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const failedWith = (
  predicate: (cause: Cause.Cause<unknown>) => boolean,
  options?: {
    readonly also?: "older" | "all" | undefined
    readonly interruption?: boolean | undefined
    readonly reason?: string | undefined
  }
): RecyclePolicy<unknown> =>
  make(options?.reason ?? "failed", {
    _tag: "FailedWith",
    predicate,
    also: options?.also ?? "none",
    interruption: options?.interruption ?? false
  })

/**
 * Recycles an item whose lease was interrupted, and did not fail besides.
 *
 * **When to use**
 *
 * Use when work that was cut off leaves the item in an unknown state, such as a
 * protocol in the middle of an answer.
 *
 * **Details**
 *
 * The reason is `"interrupted"`.
 *
 * **Example** (Recycling after interruptions)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * RecyclePolicy.explain(RecyclePolicy.interrupted) // => "recycle an item whose lease was interrupted"
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const interrupted: RecyclePolicy<unknown> = make("interrupted", { _tag: "Interrupted" })

/**
 * Recycles an item of whose `Usage` the predicate is true.
 *
 * **When to use**
 *
 * Use to give a plain predicate a reason of its own. A predicate without one can
 * stand in a policy as it is.
 *
 * **Details**
 *
 * The predicate is asked before each lease, at each return and in each sweep, so
 * it must be quick. A new item serves the borrower that waits for it unasked, or a
 * rule that refuses all would open without end. The reason is `"when"` if none is
 * given.
 *
 * **Gotchas**
 *
 * Nobody knows when it will become true: an idle item is only asked about in the
 * cadence of the option `sweep`. Inside the options of a pool, TypeScript cannot
 * infer the item's type for it: annotate the parameter.
 *
 * **Example** (Recycling by a property of the item)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const bloated = RecyclePolicy.when((usage: RecyclePolicy.Usage<Buffer>) => usage.item.length > 1_000, "bloated")
 *
 * bloated.reason // => "bloated"
 * RecyclePolicy.explain(bloated) // => `recycle an item for which "bloated" holds`
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const when = <A>(predicate: (usage: Usage<A>) => boolean, reason?: string): RecyclePolicy<A> =>
  make(reason ?? "when", { _tag: "When", predicate })

/**
 * Recycles an idle item of which the effectful predicate is true. It is run in
 * sweeps only.
 *
 * **When to use**
 *
 * Use to find dead items before anyone borrows them, or to ask a server whether
 * they should be given up.
 *
 * **Details**
 *
 * It runs in the cadence of the option `sweep`, at most once for an item in one
 * sweep, while the item is out of circulation. In `all` it is run last and only
 * when the other rules have spoken: `all([idle("1 minute"), check(stale)])` asks
 * for items that were idle for a minute. At lend and at return it says nothing,
 * also inside `not`. The reason is `"check"` if none is given.
 *
 * **Gotchas**
 *
 * `true` means "recycle", as with every rule. A test of health is the opposite:
 * write `not(check(isHealthy))`. Either way an item whose check fails is recycled,
 * with "failed" added to the reason; one whose check takes longer than the pool's
 * `checkTimeout` with "rule failed". What it acquires is released when it ends.
 * As with `when`, annotate the parameter inside the options of a pool.
 *
 * **Example** (Recycling items that do not answer)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * interface Connection {
 *   readonly ping: Effect.Effect<boolean>
 * }
 *
 * const mute = RecyclePolicy.not(RecyclePolicy.check((connection: Connection) => connection.ping, "answers"))
 *
 * mute.reason // => "not answers"
 * ```
 *
 * @category constructors
 * @since 1.0.0
 */
export const check = <A, R = never>(
  predicate: (item: A) => Effect.Effect<boolean, unknown, R>,
  reason?: string
): RecyclePolicy<A, R> => make(reason ?? "check", { _tag: "Check", predicate })

/**
 * Recycles an item when its own copy of the Schedule is done.
 *
 * **When to use**
 *
 * Use to say with Effect's Schedules what the other rules cannot:
 * `Schedule.max` (the first that is done ends it), `Schedule.min` (the last),
 * `Schedule.upTo`, `Schedule.while`.
 *
 * **Details**
 *
 * Each item has its own copy. It is stepped once when the item was opened and once
 * at each return, with the `Usage` as input. So `recurs(100)` is at most 100
 * leases and `during("1 hour")` an age. The delays mean nothing here. The time
 * that the steps see starts as the wall clock's and goes on monotonically. The
 * reason is `"schedule"`.
 *
 * **Gotchas**
 *
 * It speaks at returns only: an idle item is not recycled because a Schedule of
 * time would be done by now. `age`, `idle` and `after` are for that. Each item is
 * lent at least once, also when its Schedule is done or fails when it is opened.
 *
 * **Example** (Limiting leases and age in one Schedule)
 *
 * ```ts
 * import * as Schedule from "effect/Schedule"
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.schedule(Schedule.max([Schedule.recurs(100), Schedule.during("1 hour")]))
 *
 * RecyclePolicy.explain(policy) // => "recycle an item whose schedule is done"
 * ```
 *
 * @see {@link after} for a deadline from the first delay of a Schedule
 *
 * @category constructors
 * @since 1.0.0
 */
export const schedule = <Output, A, E, R>(
  schedule: Schedule.Schedule<Output, Usage<A>, E, R>
): RecyclePolicy<A, R> => make("schedule", { _tag: "Schedule", schedule })

/**
 * Recycles an item when the first delay of the Schedule has passed since it was
 * opened.
 *
 * **When to use**
 *
 * Use for deadlines that `age` cannot tell: `cron("0 3 * * *")` ends items at
 * night, `spaced("1 hour")` with `Schedule.jittered` after about an hour.
 *
 * **Details**
 *
 * Each item's own copy of the Schedule is stepped once, when the item was opened,
 * with the wall clock's time. The delay that it gives is a deadline of monotonic
 * time, until which the pool sleeps. The reason is `"after"`.
 *
 * **Gotchas**
 *
 * A Schedule that is done at its first step gives no deadline. One without delays,
 * such as `Schedule.recurs`, gives a deadline that has passed at once. When it
 * fails, the item is lent once and recycled at its return.
 *
 * **Example** (Ending items at night)
 *
 * ```ts
 * import * as Schedule from "effect/Schedule"
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const nightly = RecyclePolicy.after(Schedule.cron("0 3 * * *")).pipe(RecyclePolicy.named("nightly"))
 *
 * nightly.reason // => "nightly"
 * ```
 *
 * @see {@link schedule} for a rule that steps its Schedule at each return
 *
 * @category constructors
 * @since 1.0.0
 */
export const after = <Output, A, E, R>(
  schedule: Schedule.Schedule<Output, Usage<A>, E, R>
): RecyclePolicy<A, R> => make("after", { _tag: "After", schedule })

/**
 * Recycles an item when any of the rules says so.
 *
 * **When to use**
 *
 * Use to nest alternatives in other combinators. The option `recycle` takes an
 * array as it is.
 *
 * **Details**
 *
 * The reason is that of the first rule that speaks, or of the one that takes the
 * most other items with it. Of no rules at all, none ever speaks.
 *
 * **Example** (Recycling for one of several reasons)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.any([RecyclePolicy.uses(100), RecyclePolicy.failed])
 *
 * RecyclePolicy.explain(policy) // => "recycle an item that had 100 leases, or whose lease failed"
 * ```
 *
 * @see {@link or} for two
 *
 * @category combinators
 * @since 1.0.0
 */
export const any: {
  <A, R = never>(rules: ReadonlyArray<One<A, R>>): RecyclePolicy<A, R>
  <const Rules extends ReadonlyArray<One<never, unknown>>>(
    rules: Rules
  ): RecyclePolicy<Item<Rules[number]>, Requirements<Rules[number]>>
} = (rules: ReadonlyArray<unknown>): Rule<unknown, never> => compose("Any", rules) as Rule<unknown, never>

/**
 * Recycles an item when all of the rules say so at the same time.
 *
 * **When to use**
 *
 * Use to add a condition to a rule.
 *
 * **Details**
 *
 * The reasons are joined by "and". The rules are asked in their order, until one
 * is silent; a `check` comes last.
 *
 * **Gotchas**
 *
 * At least one rule must be given.
 *
 * **Example** (Recycling old items that were used a lot)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.all([RecyclePolicy.age("1 hour"), RecyclePolicy.uses(100)])
 *
 * policy.reason // => "age and uses"
 * RecyclePolicy.explain(policy) // => "recycle an item that is older than 1h and had 100 leases"
 * ```
 *
 * @see {@link and} for two
 *
 * @category combinators
 * @since 1.0.0
 */
export const all: {
  <A, R = never>(rules: ReadonlyArray<One<A, R>>): RecyclePolicy<A, R>
  <const Rules extends ReadonlyArray<One<never, unknown>>>(
    rules: Rules
  ): RecyclePolicy<Item<Rules[number]>, Requirements<Rules[number]>>
} = (rules: ReadonlyArray<unknown>): Rule<unknown, never> => compose("All", rules) as Rule<unknown, never>

/**
 * Recycles an item when the rule says so and a pool that shares a `Capacity` with this
 * one is short of permits.
 *
 * **When to use**
 *
 * Use to keep items for long as long as nobody else needs their permits.
 *
 * **Details**
 *
 * Idle items are closed for those that are short in any case, the coldest of all pools
 * first, no more than are needed.
 *
 * **Example** (Keeping fewer items while others are short)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.whenPressed(RecyclePolicy.uses(10))
 *
 * RecyclePolicy.explain(policy) // => `recycle an item for which "pressed" holds and that had 10 leases`
 * ```
 *
 * @category combinators
 * @since 1.0.0
 */
export const whenPressed: {
  <A, R = never>(rule: One<A, R>): RecyclePolicy<A, R>
  <const P extends One<never, unknown>>(rule: P): RecyclePolicy<Item<P>, Requirements<P>>
} = (rule: unknown): Rule<unknown, never> =>
  compose("All", [when((usage: Usage<unknown>) => usage.pressed, "pressed"), rule]) as Rule<unknown, never>

/**
 * Recycles an item while its pool has more permits of a shared `Capacity` than is fair,
 * and another pool is short of them.
 *
 * **Details**
 *
 * A pool that is over its share gives up what comes back while borrowers of its own wait,
 * in any case; with this rule also what nobody waits for. The reason is `"over share"`.
 *
 * @category constructors
 * @since 1.0.0
 */
export const overShare: RecyclePolicy<unknown> = when((usage) => usage.overShare, "over share")

/**
 * Recycles an item when one of the two policies says so.
 *
 * **Example** (Recycling for one of two reasons)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.idle("10 minutes").pipe(RecyclePolicy.or(RecyclePolicy.failed))
 *
 * policy.reason // => "idle or failed"
 * ```
 *
 * @see {@link any} for more than two
 *
 * @category combinators
 * @since 1.0.0
 */
export const or: {
  <B, R2 = never>(that: Input<B, R2>): <A, R = never>(self: Input<A, R>) => RecyclePolicy<A & B, R | R2>
  <A, B, R = never, R2 = never>(self: Input<A, R>, that: Input<B, R2>): RecyclePolicy<A & B, R | R2>
} = dual(2, (self: unknown, that: unknown): Rule => compose("Any", [self, that]))

/**
 * Recycles an item when both policies say so at the same time.
 *
 * **Example** (Sparing items that were little used)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = RecyclePolicy.age("1 hour").pipe(RecyclePolicy.and((usage) => usage.uses > 10))
 *
 * policy.reason // => "age and when"
 * ```
 *
 * @see {@link all} for more than two
 *
 * @category combinators
 * @since 1.0.0
 */
export const and: {
  <B, R2 = never>(that: Input<B, R2>): <A, R = never>(self: Input<A, R>) => RecyclePolicy<A & B, R | R2>
  <A, B, R = never, R2 = never>(self: Input<A, R>, that: Input<B, R2>): RecyclePolicy<A & B, R | R2>
} = dual(2, (self: unknown, that: unknown): Rule => compose("All", [self, that]))

/**
 * Recycles an item when the policy does not say so.
 *
 * **When to use**
 *
 * Use inside `all` and `and`, to make an exception.
 *
 * **Details**
 *
 * The reason is that of the policy with "not" before it. The negation of a
 * negation is the policy itself.
 *
 * **Gotchas**
 *
 * Alone it recycles nearly every item: `not(failed)` ends each whose lease went
 * well. A rule that throws or fails recycles the item here too.
 *
 * **Example** (Recycling old items unless they are in steady use)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const busy = RecyclePolicy.not(RecyclePolicy.idle("1 minute"))
 * const policy = RecyclePolicy.age("1 hour").pipe(RecyclePolicy.and(RecyclePolicy.not(busy)))
 *
 * busy.reason // => "not idle"
 * policy.reason // => "age and idle"
 * ```
 *
 * @category combinators
 * @since 1.0.0
 */
export const not = <A, R = never>(policy: Input<A, R>): RecyclePolicy<A, R> => {
  const rule = toRule(policy)
  return (rule._tag === "Not" ? rule.rule : make(`not ${part(rule)}`, { _tag: "Not", rule })) as RecyclePolicy<A, R>
}

/**
 * Gives a policy a reason of its own.
 *
 * **When to use**
 *
 * Use to recognise a composed policy, a predicate or a Schedule in events, logs
 * and metrics.
 *
 * **Details**
 *
 * Of names within names the outermost is told.
 *
 * **Example** (Naming a policy)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const tired = RecyclePolicy.all([RecyclePolicy.age("1 hour"), RecyclePolicy.uses(100)]).pipe(
 *   RecyclePolicy.named("tired")
 * )
 *
 * tired.reason // => "tired"
 * RecyclePolicy.explain(tired) // => `recycle an item that is "tired" (that is older than 1h and had 100 leases)`
 * ```
 *
 * @category combinators
 * @since 1.0.0
 */
export const named: {
  (name: string): <A, R = never>(self: Input<A, R>) => RecyclePolicy<A, R>
  <A, R = never>(self: Input<A, R>, name: string): RecyclePolicy<A, R>
} = dual(2, (self: unknown, name: string): Rule => make(name, { _tag: "Named", rule: toRule(self) }))

/**
 * Makes a policy for items of one type from a policy for another.
 *
 * **When to use**
 *
 * Use when items wrap what a policy was written for.
 *
 * **Details**
 *
 * `f` is run each time that a rule looks at the item. If it throws, the rule has
 * failed.
 *
 * **Example** (Reusing a policy)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * interface Session {
 *   readonly buffer: Uint8Array
 * }
 *
 * const bloated = RecyclePolicy.when((usage: RecyclePolicy.Usage<Uint8Array>) => usage.item.length > 1_000, "bloated")
 * const policy = bloated.pipe(RecyclePolicy.mapInput((session: Session) => session.buffer))
 *
 * policy.reason // => "bloated"
 * ```
 *
 * @category combinators
 * @since 1.0.0
 */
export const mapInput: {
  <B, A>(f: (item: B) => A): <R = never>(self: Input<A, R>) => RecyclePolicy<B, R>
  <A, B, R = never>(self: Input<A, R>, f: (item: B) => A): RecyclePolicy<B, R>
} = dual(2, (self: unknown, f: (item: never) => unknown): Rule => {
  const rule = toRule(self)
  return make(rule.reason, { _tag: "MapInput", rule, f })
})

/**
 * Says in words which items a policy recycles.
 *
 * **When to use**
 *
 * Use to print the policy when a program starts, or in a test that holds it.
 *
 * **Example** (Printing a policy)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const policy = [RecyclePolicy.uses(10), RecyclePolicy.failed]
 *
 * RecyclePolicy.explain(policy) // => "recycle an item that had 10 leases, or whose lease failed"
 * RecyclePolicy.explain([]) // => "recycle nothing"
 * ```
 *
 * @category getters
 * @since 1.0.0
 */
export const explain = (policy: Input<never, unknown>): string => {
  const phrase = describe(toRule(policy), false)
  return phrase === undefined ? "recycle nothing" : `recycle an item ${print(phrase)}`
}

type Phrase = string | { readonly word: "and" | "or"; readonly phrases: ReadonlyArray<Phrase> }

const print = (phrase: Phrase): string => {
  // "that was idle, or is older": a relative clause goes on until another begins.
  let clause = ""
  const words = (phrase: Phrase, within: "and" | "or" | undefined): string => {
    if (typeof phrase !== "string") {
      const { phrases, word } = phrase
      const all = phrases.map((one) => words(one, word))
      if (word === "or" && within === undefined) return all.join(", or ")
      return word === "or" ? `(${all.join(" or ")})` : all.join(" and ")
    }
    const said = phrase.startsWith("that ") && clause === "that" ? phrase.slice(5) : phrase
    clause = phrase.slice(0, phrase.indexOf(" "))
    return said
  }
  return words(phrase, undefined)
}

// `not` is pushed down to the rules. Undefined: never.
const describe = (rule: Rule, negated: boolean): Phrase | undefined => {
  const is = (yes: string, no: string): string => negated ? no : yes
  const holds = (what: string): string => `for which ${what} ${is("holds", "does not hold")}`
  switch (rule._tag) {
    case "Idle": {
      const limit = time(rule.limit)
      return is(`that was idle for more than ${limit} (above min)`, `that was not idle for more than ${limit}`)
    }
    case "Age": {
      const earlier = rule.jitter === 0 ? "" : ` (up to ${Math.round(rule.jitter * 1e4) / 1e2}% earlier)`
      return `that ${is("is", "is not")} older than ${time(rule.limit)}${earlier}`
    }
    case "Uses":
      return `that had ${is("", "fewer than ")}${rule.limit} lease${rule.limit === 1 ? "" : "s"}`
    case "Failed":
      return `whose lease ${is("failed", "did not fail")}`
    case "Interrupted":
      return `whose lease was ${is("", "not ")}interrupted`
    case "FailedWith": {
      const what = rule.reason === "failed" ? "a matching cause" : `"${rule.reason}"`
      const yes = rule.interruption ? "failed or was interrupted" : "failed"
      const no = rule.interruption ? "neither failed nor was interrupted" : "did not fail"
      return `whose lease ${is(yes, no)} with ${what}${negated ? "" : others[rule.also]}`
    }
    case "When":
      return holds(rule.reason === "when" ? "a predicate" : `"${rule.reason}"`)
    case "Check":
      return `${holds(rule.reason === "check" ? "a check" : `"${rule.reason}"`)} or fails at a sweep`
    case "Schedule":
      return `whose schedule is ${is("", "not ")}done`
    case "After":
      return `that is ${is("", "not ")}past the time its schedule gave`
    case "Any":
    case "All": {
      const word = (rule._tag === "Any") === negated ? "and" : "or"
      const phrases = rule.rules.map((one) => describe(one, negated))
      const told = phrases.filter((one) => one !== undefined)
      if (told.length === 0 || (word === "and" && told.length < phrases.length)) return undefined
      const flat = told.flatMap((one) => typeof one !== "string" && one.word === word ? one.phrases : [one])
      return flat.length === 1 ? flat[0] : { word, phrases: flat }
    }
    case "Not":
      return describe(rule.rule, !negated)
    case "Named": {
      const phrase = describe(rule.rule, false)
      return phrase === undefined ? undefined : `that is ${is("", "not ")}"${rule.reason}" (${print(phrase)})`
    }
    case "MapInput":
      return describe(rule.rule, negated)
  }
}

const others = { none: "", older: " (with every older item)", all: " (with every other item)" }

const time = (limit: Duration.Input): string =>
  isDuration(limit) ? Duration.format(Duration.fromInputUnsafe(limit)) : "an invalid duration"

/**
 * Lists what is wrong with the values given to the constructors of a policy.
 *
 * **When to use**
 *
 * Use to test a policy that is made from configuration. A pool does so itself, and
 * fails with an `InvalidOptions` that has these problems among those of its other
 * options.
 *
 * **Details**
 *
 * Constructors keep what they are given and never throw. `option` is the path to
 * the rule, starting with the second argument, which is `"recycle"` by default.
 *
 * **Example** (Testing a policy)
 *
 * ```ts
 * import { RecyclePolicy } from "effect-queuepool"
 *
 * const [problem] = RecyclePolicy.problems([RecyclePolicy.failed, RecyclePolicy.uses(1.5)])
 *
 * problem?.option // => "recycle[1].uses"
 * problem?.value // => 1.5
 * problem?.allowed // => "a whole number from 1, or Infinity"
 * ```
 *
 * @category getters
 * @since 1.0.0
 */
export const problems = (
  policy: Input<never, unknown>,
  option: string = "recycle"
): ReadonlyArray<{ readonly option: string; readonly value: unknown; readonly allowed: string }> => {
  const found: Array<{ readonly option: string; readonly value: unknown; readonly allowed: string }> = []
  const need = (ok: boolean, option: string, value: unknown, allowed: string): void => {
    if (!ok) found.push({ option, value, allowed })
  }
  const walk = (rule: Rule, path: string): void => {
    need(typeof rule.reason === "string" && rule.reason !== "", `${path}.reason`, rule.reason, "text")
    switch (rule._tag) {
      case "Idle":
        return need(isLimit(rule.limit), `${path}.idle`, rule.limit, limitAllowed)
      case "Age": {
        const { jitter } = rule
        need(isLimit(rule.limit), `${path}.age`, rule.limit, limitAllowed)
        const ok = typeof jitter === "number" && jitter >= 0 && jitter <= 1
        return need(ok, `${path}.age.jitter`, jitter, "a number from 0 to 1")
      }
      case "Uses": {
        const ok = rule.limit === Infinity || (Number.isInteger(rule.limit) && rule.limit >= 1)
        return need(ok, `${path}.uses`, rule.limit, "a whole number from 1, or Infinity")
      }
      case "FailedWith": {
        const { also, interruption, predicate } = rule
        need(typeof predicate === "function", `${path}.failedWith`, predicate, "a predicate on Cause")
        need(Object.hasOwn(others, also), `${path}.failedWith.also`, also, `"older" or "all"`)
        return need(typeof interruption === "boolean", `${path}.failedWith.interruption`, interruption, "true or false")
      }
      case "When":
        return need(
          typeof rule.predicate === "function",
          path,
          rule.predicate,
          "a RecyclePolicy, or a predicate on Usage"
        )
      case "Check":
        return need(typeof rule.predicate === "function", `${path}.check`, rule.predicate, "an effectful predicate")
      case "Schedule":
      case "After": {
        const ok = Schedule.isSchedule(rule.schedule)
        return need(ok, `${path}.${rule._tag === "After" ? "after" : "schedule"}`, rule.schedule, "a Schedule")
      }
      case "Any":
        return rule.rules.forEach((one, index) => walk(one, `${path}[${index}]`))
      case "All":
        need(rule.rules.length > 0, `${path}.all`, rule.rules, "at least one rule")
        return rule.rules.forEach((one, index) => walk(one, `${path}.all[${index}]`))
      case "Not":
        return walk(rule.rule, `${path}.not`)
      case "Named":
        return walk(rule.rule, path)
      case "MapInput":
        need(typeof rule.f === "function", `${path}.mapInput`, rule.f, "a function")
        return walk(rule.rule, path)
      case "Failed":
      case "Interrupted":
    }
  }
  walk(toRule(policy), option)
  return found
}

const limitAllowed = "a duration from zero, or Infinity"

const isLimit = (limit: Duration.Input): boolean =>
  isDuration(limit) && !Duration.isNegative(Duration.fromInputUnsafe(limit))

// Duration takes NaN for zero, and an object without any of its fields too.
const isDuration = (limit: Duration.Input): boolean =>
  !Number.isNaN(limit) && Option.isSome(Duration.fromInput(limit)) &&
  (typeof limit !== "object" || Duration.isDuration(limit) || hasParts(Object.values(limit)))

const hasParts = (values: ReadonlyArray<unknown>): boolean =>
  values.length > 0 && values.every((value) => typeof value === "number" && !Number.isNaN(value))
