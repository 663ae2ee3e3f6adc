// What a map of pools is made of, checked all at once: its own options, those of its
// pools, and what a function says of a single key.
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { InvalidOptions, PoolError, type Problem } from "../PoolError.ts"
import type * as RecyclePolicy from "../RecyclePolicy.ts"
import type { Plan } from "./keyed.ts"
import {
  compact,
  countFrom1,
  duration,
  fairness,
  oneOf,
  optionNames,
  readAll,
  type Rule,
  type Settings,
  settingsOf,
  some
} from "./options.ts"
import type { Effects } from "./pool.ts"
import { compile, type Rules } from "./rules.ts"
import type { Fairness } from "./seat.ts"

/** What the pool of a key may be told as effects, by its map or for its key. */
interface PoolEffects<A, E, R> extends Partial<Omit<Effects<A, E, R>, "acquire">> {
  readonly recycle?: RecyclePolicy.Input<A, R> | undefined
}

/** The options as they were given. */
export interface MapOptions<K, A, E, R> extends PoolEffects<A, E, R> {
  readonly acquire: (key: K) => Effect.Effect<A, E, R>
  readonly forKey?: ((key: K) => PoolEffects<A, E, R> | undefined) | undefined
  readonly maxTotal?: number | undefined
  readonly fairness?: Fairness | undefined
  readonly idleTimeToLive?: Duration.Input | ((key: K) => Duration.Input) | undefined
}

/** The options as the map uses them. */
export interface MapSettings<K, A, E, R> {
  readonly name: string
  readonly maxTotal: number
  readonly fairness: Fairness
  /** Leases are watched. */
  readonly traces: boolean
  readonly planOf: (key: K, name: string) => Plan<A, E, R> | PoolError
}

const lifetime = duration(600_000, "a duration above zero", (millis) => millis > 0)

const isFunction = (value: unknown): boolean => typeof value === "function"

const own: Record<string, Rule> = {
  acquire: some("a function from the key to an Effect", isFunction),
  forKey: some("a function from the key to options", isFunction),
  maxTotal: countFrom1(100),
  fairness,
  // Nobody waits for the pool of a key to be warm.
  warm: oneOf("background", "lazy"),
  idleTimeToLive: {
    ...lifetime,
    allowed: "a duration above zero, or a function from the key to one",
    read: (value) => isFunction(value) ? value : lifetime.read(value)
  }
}

/** What has no meaning for one of many pools. */
const absent = new Set(["acquire", "name", "capacity", "warm"])

/** What may be said of a single key. */
const ofKey = optionNames.filter((name) => !absent.has(name))

const known = [...Object.keys(own), "name", "capacity", ...ofKey]

/** The settings, or one error that names every wrong option. */
export const mapSettingsOf = <K, A, E, R>(
  options: MapOptions<K, A, E, R>,
  fallbackName: string
): Effect.Effect<MapSettings<K, A, E, R>, PoolError> => {
  const entries = Object.entries(options)
  const mine = Object.fromEntries(entries.filter(([name]) => Object.hasOwn(own, name)))
  const rest = Object.fromEntries(entries.filter(([name]) => !Object.hasOwn(own, name)))
  const initial = Object.fromEntries(Object.entries(own).map(([name, rule]) => [name, rule.initial]))
  const { problems, values } = readAll(mine, own, initial)
  if (options.acquire === undefined) {
    problems.push({ option: "acquire", value: undefined, allowed: own["acquire"]!.allowed })
  }
  const common = { ...rest, warm: values["warm"] }
  const settings = settled(common, fallbackName, known)
  const maxTotal = values["maxTotal"] as number
  if (!(settings instanceof PoolError) && settings.min > maxTotal) {
    problems.push({ option: "min", value: settings.min, allowed: `at most maxTotal, which is ${maxTotal}` })
  }
  if (settings instanceof PoolError) return Effect.fail(refusal(settings.pool, [...problems, ...problemsOf(settings)]))
  if (problems.length > 0) return Effect.fail(refusal(settings.name, problems))
  return Effect.succeed({
    name: settings.name,
    maxTotal: values["maxTotal"] as number,
    fairness: values["fairness"] as Fairness,
    traces: settings.leaseWarning < Infinity || settings.maxLease < Infinity,
    planOf: planner(options, common, compact(settings), values["idleTimeToLive"])
  })
}

/** The settings of a pool, whose `acquire` is made for each key. */
const settled = (given: object, name: string, known: ReadonlyArray<string>): Settings | PoolError => {
  const exit = Effect.runSyncExit(settingsOf({ ...given, acquire: Effect.void }, name, known))
  return Exit.isSuccess(exit)
    ? exit.value
    : exit.cause.reasons.map((reason) => (reason as { error: PoolError }).error)[0]!
}

const problemsOf = ({ reason }: PoolError): ReadonlyArray<Problem> => (reason as InvalidOptions).problems

const planner = <K, A, E, R>(
  options: MapOptions<K, A, E, R>,
  common: object,
  settings: Settings,
  idleTimeToLive: unknown
): MapSettings<K, A, E, R>["planOf"] => {
  const { acquire, forKey } = options
  // What is compiled keeps nothing of a pool: one is enough for all.
  const rules: Rules<A, R> = compile(options.recycle)
  return (key, name) => {
    const given = typeof idleTimeToLive === "function" ? (idleTimeToLive as (key: K) => unknown)(key) : idleTimeToLive
    const toLive = lifetime.read(given)
    const problems: Array<Problem> = []
    if (toLive === undefined) problems.push({ option: "idleTimeToLive", value: given, allowed: lifetime.allowed })
    const acquired = Effect.suspend(() => acquire(key))
    const plan = (settings: Settings, effects: PoolEffects<A, E, R>, rules: Rules<A, R>): Plan<A, E, R> | PoolError =>
      problems.length > 0
        ? refusal(name, problems)
        : { settings, effects: effectsOf(acquired, effects), rules, idleTimeToLive: toLive as number }
    const special = forKey?.(key)
    if (special === undefined) return plan({ ...settings, name }, options, rules)
    if (typeof special !== "object" || special === null) {
      return refusal(name, [...problems, { option: "forKey", value: special, allowed: "options, or undefined" }])
    }
    // What is undefined is as for all keys.
    const different: Record<string, unknown> = {}
    for (const [option, value] of Object.entries(special)) {
      if (absent.has(option)) problems.push({ option, value, allowed: `one of the options ${ofKey.join(", ")}` })
      else if (value !== undefined) different[option] = value
    }
    const own = settled({ ...common, ...different, name }, name, ofKey)
    if (own instanceof PoolError) return refusal(name, [...problems, ...problemsOf(own)])
    const { recycle } = different as PoolEffects<A, E, R>
    return plan(compact(own), { ...options, ...different }, recycle === undefined ? rules : compile(recycle))
  }
}

const refusal = (pool: string, problems: ReadonlyArray<Problem>): PoolError =>
  new PoolError({ pool, reason: new InvalidOptions({ problems }) })

const effectsOf = <A, E, R>(acquire: Effect.Effect<A, E, R>, given: PoolEffects<A, E, R>): Effects<A, E, R> => ({
  acquire,
  check: given.check,
  reset: given.reset,
  retry: given.retry,
  sweep: given.sweep,
  monitor: given.monitor,
  onAcquire: given.onAcquire,
  onBorrow: given.onBorrow,
  onReturn: given.onReturn,
  onRelease: given.onRelease
})
