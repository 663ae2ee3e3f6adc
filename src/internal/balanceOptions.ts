// The options of a choice of endpoint, all checked at once, and the endpoints as they are given.
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as MutableHashMap from "effect/MutableHashMap"
import * as Stream from "effect/Stream"
import { InvalidOptions, PoolError, type Problem } from "../PoolError.ts"
import type { Breaker } from "./balanceBreaker.ts"
import { type Choice, leastLoaded } from "./balanceChoice.ts"
import type { Given } from "./balanceFleet.ts"
import { toMillis } from "./options.ts"

export interface Settings<K> {
  readonly name: string
  readonly choose: Choice
  readonly borrowTimeout: number
  readonly measure: "lease" | "borrow" | "none"
  readonly decay: number
  readonly slowStart: number
  readonly panic: number
  readonly label: (key: K) => string
}

interface Rule {
  readonly initial: unknown
  readonly allowed: string
  readonly read: (value: unknown) => unknown
}

const some = (initial: unknown, allowed: string, test: (value: unknown) => boolean): Rule => ({
  initial,
  allowed,
  read: (value) => test(value) ? value : undefined
})

const duration = (initial: number, allowed: string, test: (millis: number) => boolean): Rule => ({
  initial,
  allowed,
  read: (value) => {
    const millis = toMillis(value)
    return millis !== undefined && test(millis) ? millis : undefined
  }
})

const isFunction = (value: unknown): boolean => typeof value === "function"

const has = (value: unknown, ...names: ReadonlyArray<string>): boolean =>
  typeof value === "object" && value !== null &&
  names.every((name) => isFunction((value as Record<string, unknown>)[name]))

export const isChoice = (value: unknown): boolean => {
  if (typeof value !== "object" || value === null) return false
  const { cost, name } = value as { readonly cost?: unknown; readonly name?: unknown }
  return typeof name === "string" && (cost === undefined || isFunction(cost))
}

const labelOf = (key: unknown): string => typeof key === "string" ? key : Formatter.format(key)

const table: Record<string, Rule> = {
  endpoints: some(
    undefined,
    "an array of keys or of { key, priority, weight }, or a Stream of such arrays",
    (value) => Array.isArray(value) || Stream.isStream(value)
  ),
  name: some(undefined, "a string that is not empty", (value) => typeof value === "string" && value !== ""),
  choose: some({ name: "leastLoaded", cost: leastLoaded }, "roundRobin, leastLoaded, peakEwma, or a Choice", isChoice),
  borrowTimeout: duration(30_000, "a duration above zero", (millis) => millis > 0),
  measure: some(
    "lease",
    `"lease" or "borrow" or "none"`,
    (value) => value === "lease" || value === "borrow" || value === "none"
  ),
  decay: duration(10_000, "a duration above zero, not Infinity", (millis) => millis > 0 && millis < Infinity),
  slowStart: duration(0, "a duration from zero, not Infinity", (millis) => millis >= 0 && millis < Infinity),
  panic: some(0, "a number from 0 to 1", (value) => typeof value === "number" && value >= 0 && value <= 1),
  breaker: some(undefined, "a CircuitBreaker", (value) => has(value, "execute", "state")),
  fault: some(undefined, "a function from the lease's Exit to a boolean", isFunction),
  label: some(labelOf, "a function from a key to a string", isFunction)
}

export interface Checked<K> extends Settings<K> {
  readonly breaker: Breaker | undefined
  readonly fault: ((exit: import("effect/Exit").Exit<unknown, unknown>) => boolean) | undefined
}

/** The settings, or one error that names every wrong option. */
export const settingsOf = <K>(options: object, fallbackName: string): Effect.Effect<Checked<K>, PoolError> => {
  const given = options as Record<string, unknown>
  const problems: Array<Problem> = []
  const settings: Record<string, unknown> = {}
  for (const option of Object.keys(given)) {
    if (Object.hasOwn(table, option)) continue
    problems.push({ option, value: given[option], allowed: `one of the options ${Object.keys(table).join(", ")}` })
  }
  for (const [option, { allowed, initial, read }] of Object.entries(table)) {
    const value = given[option]
    settings[option] = value === undefined ? initial : read(value)
    if (settings[option] === undefined && (value !== undefined || option === "endpoints")) {
      problems.push({ option, value, allowed })
    }
  }
  settings["name"] ??= fallbackName
  const checked = settings as unknown as Checked<K>
  const { endpoints } = settings
  if (Array.isArray(endpoints)) {
    const list = listOf(endpoints as ReadonlyArray<unknown>, checked)
    problems.push(...list.problems)
    if (endpoints.length === 0) problems.push({ option: "endpoints", value: endpoints, allowed: "one at least" })
  }
  return problems.length === 0 ? Effect.succeed(checked) : Effect.fail(invalid(checked.name, problems))
}

export const invalid = (pool: string, problems: ReadonlyArray<Problem>): PoolError =>
  new PoolError({ pool, reason: new InvalidOptions({ problems }) })

const fields = new Set(["key", "priority", "weight"])

/** A record of a key, or a key by itself: a record has a `key`, and nothing that is not its own. */
const recordOf = (given: unknown): { readonly key: unknown; readonly priority?: unknown; readonly weight?: unknown } =>
  typeof given === "object" && given !== null && Object.hasOwn(given, "key") &&
    Object.keys(given).every((name) => fields.has(name))
    ? given as { readonly key: unknown }
    : { key: given }

/** What is wrong with a list of endpoints, and what it says if nothing is. */
export const listOf = <K>(
  list: ReadonlyArray<unknown>,
  { label = labelOf }: { readonly label?: ((key: K) => string) | undefined }
): { readonly problems: ReadonlyArray<Problem>; readonly endpoints: ReadonlyArray<Given<K>> } => {
  const problems: Array<Problem> = []
  const seen = MutableHashMap.empty<unknown, number>()
  const endpoints = list.map((given, i) => {
    const { key, priority = 0, weight = 1 } = recordOf(given)
    if (typeof priority !== "number" || !Number.isSafeInteger(priority)) {
      problems.push({ option: `endpoints[${i}].priority`, value: priority, allowed: "a whole number" })
    }
    if (typeof weight !== "number" || !(weight > 0 && weight < Infinity)) {
      problems.push({ option: `endpoints[${i}].weight`, value: weight, allowed: "a number above zero, not Infinity" })
    }
    if (MutableHashMap.has(seen, key)) {
      problems.push({ option: `endpoints[${i}].key`, value: key, allowed: "each key once" })
    }
    MutableHashMap.set(seen, key, i)
    return { key, label: label(key as K), priority, weight } as Given<K>
  })
  return { problems, endpoints }
}
