// Defaults and the check of every option, all at once. Durations become
// milliseconds here, once.
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { InvalidOptions, PoolError, type Problem } from "../PoolError.ts"
import * as RecyclePolicy from "../RecyclePolicy.ts"
import { isRegistered } from "./capacities.ts"
import type { Size } from "./pooled.ts"
import type { Fairness } from "./seat.ts"

/** One option's rule: what it becomes, or what is allowed. */
export interface Rule {
  readonly initial: unknown
  readonly allowed: string
  /** The value as the pool uses it, or undefined when it is not allowed. */
  readonly read: (value: unknown) => unknown
}

const number = (initial: number, allowed: string, test: (value: number) => boolean): Rule => ({
  initial,
  allowed,
  read: (value) => typeof value === "number" && test(value) ? value : undefined
})

export const duration = (initial: number, allowed: string, test: (millis: number) => boolean): Rule => ({
  initial,
  allowed,
  read: (value) => {
    const millis = toMillis(value)
    return millis !== undefined && test(millis) ? millis : undefined
  }
})

export const oneOf = (...values: ReadonlyArray<string>): Rule => ({
  initial: values[0],
  allowed: values.map((value) => `"${value}"`).join(" or "),
  read: (value) => values.find((one) => one === value)
})

export const some = (allowed: string, test: (value: unknown) => boolean): Rule => ({
  initial: undefined,
  allowed,
  read: (value) => test(value) ? value : undefined
})

const finite = "a duration above zero, not Infinity"
const isFinite = (millis: number): boolean => millis > 0 && millis < Infinity
const isFunction = (value: unknown): boolean => typeof value === "function"

const table = {
  acquire: some(
    "an Effect, or a Stream of Effects",
    (value) => Effect.isEffect(value) || Stream.isStream(value)
  ),
  name: some("a string that is not empty", (value) => typeof value === "string" && value !== ""),
  max: number(10, "a whole number from 1, or Infinity", (n) => n >= 1 && (Number.isInteger(n) || n === Infinity)),
  min: number(0, "a whole number from 0 to max", (n) => n >= 0 && Number.isInteger(n)),
  minIdle: number(0, "a whole number from 0 to max", (n) => n >= 0 && Number.isInteger(n)),
  maxIdle: number(
    Infinity,
    "a whole number from 0, or Infinity",
    (n) => n >= 0 && (Number.isInteger(n) || n === Infinity)
  ),
  warm: oneOf("background", "lazy", "eager"),
  order: oneOf("lifo", "fifo", "hybrid"),
  concurrency: number(1, "a whole number from 1", (n) => n >= 1 && Number.isSafeInteger(n)),
  sharing: oneOf("spread", "pack"),
  targetUtilization: number(1, "a number above 0, up to 1", (n) => n > 0 && n <= 1),
  borrowTimeout: duration(30_000, "a duration from zero, or Infinity", (millis) => millis >= 0),
  maxWaiters: number(
    Infinity,
    "a whole number from 0, or Infinity",
    (n) => n >= 0 && (Number.isInteger(n) || n === Infinity)
  ),
  openConcurrency: number(
    4,
    "a whole number from 1, or Infinity",
    (n) => n >= 1 && (Number.isInteger(n) || n === Infinity)
  ),
  openTimeout: duration(30_000, finite, isFinite),
  retry: some("a Schedule", Schedule.isSchedule),
  check: some("a function from the item to an Effect", isFunction),
  checkAfter: duration(500, "a duration from zero, or Infinity", (millis) => millis >= 0),
  checkTimeout: duration(5_000, finite, isFinite),
  reset: some("a function from the item and the lease's Exit to an Effect", isFunction),
  resetTimeout: duration(5_000, finite, isFinite),
  recycle: some("rules, or predicates on Usage", (value) => RecyclePolicy.isInput(value)),
  sweep: some("a duration above zero, not Infinity, or a Schedule", (value) => {
    if (Schedule.isSchedule(value)) return true
    const millis = toMillis(value)
    return millis !== undefined && isFinite(millis)
  }),
  closeTimeout: duration(5_000, finite, isFinite),
  closeConcurrency: number(
    Infinity,
    "a whole number from 1, or Infinity",
    (n) => n >= 1 && (Number.isInteger(n) || n === Infinity)
  ),
  drainTimeout: duration(10_000, "a duration from zero, or Infinity", (millis) => millis >= 0),
  replaceTimeout: duration(0, "a duration from zero, not Infinity", (millis) => millis >= 0 && millis < Infinity),
  retireOver: duration(10_000, "a duration from zero, not Infinity", (millis) => millis >= 0 && millis < Infinity),
  leaseWarning: duration(Infinity, "a duration above zero", (millis) => millis > 0),
  maxLease: duration(Infinity, "a duration above zero", (millis) => millis > 0),
  monitor: some("a function from the item to an Effect", isFunction),
  onAcquire: some("a function from the item to an Effect", isFunction),
  onBorrow: some("a function from the item to an Effect", isFunction),
  onReturn: some("a function from the item and the lease's Exit to an Effect", isFunction),
  onRelease: some("a function from the item to an Effect", isFunction),
  whenSuspended: oneOf("wait", "fail"),
  capacity: some("a Capacity", isRegistered)
} satisfies Record<string, Rule>

export interface Settings extends Size {
  readonly name: string
  readonly warm: "background" | "lazy" | "eager"
  readonly order: "lifo" | "fifo" | "hybrid"
  readonly concurrency: number
  readonly sharing: "spread" | "pack"
  readonly targetUtilization: number
  readonly borrowTimeout: number
  readonly maxWaiters: number
  readonly openConcurrency: number
  readonly openTimeout: number
  readonly checkAfter: number
  readonly checkTimeout: number
  readonly resetTimeout: number
  readonly closeTimeout: number
  readonly closeConcurrency: number
  readonly drainTimeout: number
  readonly replaceTimeout: number
  readonly retireOver: number
  readonly leaseWarning: number
  readonly maxLease: number
  readonly whenSuspended: "wait" | "fail"
}

const tableRows = Object.entries<Rule>(table)

export const optionNames: ReadonlyArray<string> = Object.keys(table)

const required = new Set(["acquire"])

/** The settings, or one error that names every wrong option. */
export const settingsOf = (
  options: object,
  fallbackName: string,
  known: ReadonlyArray<string> = optionNames
): Effect.Effect<Settings, PoolError> => {
  const given = options as Record<string, unknown>
  const problems: Array<Problem> = []
  const settings: Record<string, unknown> = {}
  for (const option of Object.keys(given)) {
    if (!Object.hasOwn(table, option)) {
      problems.push({ option, value: given[option], allowed: `one of the options ${known.join(", ")}` })
    }
  }
  for (const [option, { allowed, initial, read }] of tableRows) {
    const value = given[option]
    settings[option] = value === undefined && !required.has(option) ? initial : read(value)
    if (settings[option] === undefined && (value !== undefined || required.has(option))) {
      problems.push({ option, value, allowed })
    }
  }
  problems.push(...conflicts(settings))
  const { leaseWarning, maxLease } = settings as { readonly leaseWarning?: number; readonly maxLease?: number }
  if (leaseWarning !== undefined && maxLease !== undefined && leaseWarning < Infinity && leaseWarning >= maxLease) {
    const allowed = `a duration below maxLease, which is ${maxLease}ms: a lease that is ended is told of anyway`
    problems.push({ option: "leaseWarning", value: given["leaseWarning"], allowed })
  }
  if (settings["recycle"] !== undefined) problems.push(...RecyclePolicy.problems(settings["recycle"] as never))
  settings["name"] ??= fallbackName
  return accepted(String(settings["name"]), settings as unknown as Settings, problems)
}

/**
 * Only what a pool looks up in its settings later, in an object of one shape: what was read
 * from the table by name, one after the other, takes ten times the room.
 */
export const compact = (settings: Settings): Settings => ({
  name: settings.name,
  min: settings.min,
  max: settings.max,
  minIdle: settings.minIdle,
  maxIdle: settings.maxIdle,
  warm: settings.warm,
  order: settings.order,
  concurrency: settings.concurrency,
  sharing: settings.sharing,
  targetUtilization: settings.targetUtilization,
  borrowTimeout: settings.borrowTimeout,
  maxWaiters: settings.maxWaiters,
  openConcurrency: settings.openConcurrency,
  openTimeout: settings.openTimeout,
  checkAfter: settings.checkAfter,
  checkTimeout: settings.checkTimeout,
  resetTimeout: settings.resetTimeout,
  closeTimeout: settings.closeTimeout,
  closeConcurrency: settings.closeConcurrency,
  drainTimeout: settings.drainTimeout,
  replaceTimeout: settings.replaceTimeout,
  retireOver: settings.retireOver,
  leaseWarning: settings.leaseWarning,
  maxLease: settings.maxLease,
  whenSuspended: settings.whenSuspended
})

/** Some of them, to be set anew. */
export type SizeInput = { readonly [K in keyof Size]?: number | undefined }

/** The bounds that a pool is to have from now on, or one error that names what is wrong with them. */
export const sizeOf = (pool: string, given: SizeInput, now: Size): Effect.Effect<Size, PoolError> => {
  const { max, maxIdle, min, minIdle } = table
  const { problems, values } = readAll(given, { min, max, minIdle, maxIdle }, { ...now })
  problems.push(...conflicts(values))
  return accepted(pool, values as unknown as Size, problems)
}

/** Which items are to go and over how many milliseconds, or one error that names what is wrong. */
export const clearingOf = (
  pool: string,
  given: { readonly only?: "idle" | undefined; readonly over?: Duration.Input | undefined }
): Effect.Effect<{ readonly only: "idle" | undefined; readonly over: number }, PoolError> => {
  const rules = { only: oneOf("idle"), over: table.retireOver }
  const { problems, values } = readAll(given, rules, { only: undefined, over: 0 })
  return accepted(pool, values as { readonly only: "idle" | undefined; readonly over: number }, problems)
}

/** The milliseconds over which items are to go. */
export const spreadOf = (pool: string, over: Duration.Input): Effect.Effect<number, PoolError> => {
  const { problems, values } = readAll({ over }, { over: table.retireOver }, {})
  return accepted(pool, values["over"] as number, problems)
}

/** How many there may be, where there must be a limit or Infinity. */
export const countFrom1 = (initial: number): Rule =>
  number(initial, "a whole number from 1, or Infinity", (n) => n >= 1 && (Number.isInteger(n) || n === Infinity))

export const fairness = oneOf("share", "arrival")

const permits = countFrom1(NaN)

/** A budget for several pools, or one error that names what is wrong. */
export const budgetOf = (
  given: { readonly name?: string | undefined; readonly permits: number; readonly fairness?: Fairness | undefined }
): Effect.Effect<{ readonly name: string; readonly permits: number; readonly fairness: Fairness }, PoolError> => {
  const rules = { name: table.name, permits, fairness }
  const { problems, values } = readAll({ ...given, permits: given.permits ?? null }, rules, {
    name: "capacity",
    fairness: "share"
  })
  return accepted(String(values["name"]), values as never, problems)
}

/** How many permits a budget is to have from now on. */
export const permitsNumber = (pool: string, option: string, given: number): Effect.Effect<number, PoolError> => {
  const { problems, values } = readAll({ [option]: given ?? null }, { [option]: permits }, {})
  return accepted(pool, values[option] as number, problems)
}

/** Options of one operation: undefined where they are wrong, `otherwise` where they are not given. */
export const readAll = (
  options: object,
  rules: Record<string, Rule>,
  otherwise: Record<string, unknown>
): { readonly problems: Array<Problem>; readonly values: Record<string, unknown> } => {
  const given = options as Record<string, unknown>
  const problems: Array<Problem> = []
  const values: Record<string, unknown> = {}
  for (const option of Object.keys(given)) {
    if (!Object.hasOwn(rules, option)) {
      problems.push({ option, value: given[option], allowed: `one of the options ${Object.keys(rules).join(", ")}` })
    }
  }
  for (const [option, { allowed, read }] of Object.entries(rules)) {
    const value = given[option]
    values[option] = value === undefined ? otherwise[option] : read(value)
    if (value !== undefined && values[option] === undefined) problems.push({ option, value, allowed })
  }
  return { problems, values }
}

const accepted = <T>(pool: string, values: T, problems: ReadonlyArray<Problem>): Effect.Effect<T, PoolError> =>
  problems.length === 0
    ? Effect.succeed(values)
    : Effect.fail(new PoolError({ pool, reason: new InvalidOptions({ problems }) }))

const conflicts = ({ max, maxIdle, min, minIdle }: SizeInput): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  const atMost = (
    option: keyof Size,
    value: number | undefined,
    bound: keyof Size,
    limit: number | undefined
  ): void => {
    if (value === undefined || limit === undefined || value <= limit) return
    problems.push({ option, value, allowed: `a whole number from 0 to ${bound}, which is ${limit}` })
  }
  atMost("min", min, "max", max)
  atMost("minIdle", minIdle, "max", max)
  // Or what is over would be recycled and opened again without end.
  atMost("min", min, "maxIdle", maxIdle)
  atMost("minIdle", minIdle, "maxIdle", maxIdle)
  return problems
}

// Duration takes NaN, and an object of which it knows no field, for zero.
const isWhole = (value: object | null): boolean => {
  if (value === null || Duration.isDuration(value)) return value !== null
  const known = Array.isArray(value) || Object.keys(value).every((key) => units.has(key))
  const parts: ReadonlyArray<unknown> = Object.values(value).filter((part) => part !== undefined)
  return known && parts.length > 0 && parts.every((part) => typeof part === "number" && !Number.isNaN(part))
}

const units = new Set([
  "weeks",
  "days",
  "hours",
  "minutes",
  "seconds",
  "milliseconds",
  "microseconds",
  "nanoseconds"
])

/** The milliseconds of anything a user may have given for a duration. */
export const toMillis = (value: unknown): number | undefined => {
  if (value === undefined || Number.isNaN(value) || (typeof value === "object" && !isWhole(value))) return undefined
  const parsed = Duration.fromInput(value as Duration.Input)
  return Option.isSome(parsed) ? Duration.toMillis(parsed.value) : undefined
}
