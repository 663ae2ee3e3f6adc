// Takes the options of PgQueuePool apart: what is the driver's, what is the
// pool's, and what the names of sql-pg's own pool mean for ours.
import type { PgPoolConfig } from "@effect/sql-pg/PgClient"
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { SqlError } from "effect/sql/SqlError"
import { InvalidOptions, PoolError, type Problem } from "../PoolError.ts"
import type * as QueuePool from "../QueuePool.ts"
import * as RecyclePolicy from "../RecyclePolicy.ts"
import { optionNames, settingsOf, toMillis } from "./options.ts"
import { isDisconnect, isFailover, isTransient } from "./pgErrors.ts"
import type { Level } from "./pgReset.ts"

type Rule = RecyclePolicy.RecyclePolicy<unknown>

/** What the user gives: the driver's settings and the pool's. */
export interface Given<R>
  extends PgPoolConfig, Omit<QueuePool.Options<PgConnection, SqlError, R>, "acquire" | "concurrency" | "reset">
{
  readonly reset?: Level<R> | undefined
}

export const disconnectRules: ReadonlyArray<Rule> = [
  RecyclePolicy.failedWith(isDisconnect, { reason: "disconnected" }),
  RecyclePolicy.failedWith(isFailover, { reason: "read-only server", also: "older" })
]

// Sessions opened together must not end together; a twentieth is what psycopg_pool takes.
const ageRule = (limit: Duration.Input): Rule => RecyclePolicy.age(limit, { jitter: 0.05 })

export const defaultRules: ReadonlyArray<Rule> = [
  RecyclePolicy.idle("10 minutes"),
  ageRule("30 minutes"),
  ...disconnectRules
]

export const defaultRetry: Schedule.Schedule<unknown, SqlError | PoolError> = Schedule.min([
  Schedule.exponential("100 millis", 2),
  Schedule.spaced("5 seconds")
]).pipe(
  Schedule.jittered,
  Schedule.setInputType<SqlError | PoolError>(),
  Schedule.while(({ input }) => isTransient(input))
)

/** How many statements share a session where `multiplex` is on: as in sql-pg's own pool. */
const defaultConcurrency = 32

const driverNames: ReadonlySet<string> = new Set([
  "url",
  "host",
  "port",
  "path",
  "ssl",
  "database",
  "username",
  "password",
  "connectTimeout",
  "keepAlive",
  "stream",
  "applicationName",
  "startupParameters",
  "startupOptions",
  "spanAttributes",
  "transformResultNames",
  "transformQueryNames",
  "transformJson",
  "types",
  "multiplex",
  "multiplexConcurrency",
  "prepare",
  "preparedStatementCacheSize",
  "maxMessageSize"
])

/** What is the client's, not a session's. */
const clientNames: ReadonlySet<string> = new Set([
  "spanAttributes",
  "transformResultNames",
  "transformQueryNames",
  "transformJson",
  "multiplex",
  "multiplexConcurrency"
])

/** What a session is opened with. */
export const sessionSettings: ReadonlyArray<string> = Array.from(driverNames).filter((name) => !clientNames.has(name))

/** sql-pg's names for what our pool has under others. */
const synonyms = { maxConnections: "max", minConnections: "min" } as const
/** What `QueuePool` has and this pool has not: it is the driver's to say. */
const absent = ["acquire", "concurrency"] as const
const limits = ["idleTimeout", "connectionTTL"] as const

const known = [
  ...driverNames,
  ...Object.keys(synonyms),
  ...limits,
  ...optionNames.filter((name) => !absent.some((one) => one === name))
]

const levels = ["rollback", "discard", "none"] as const

/** `recycle` and the two limits replace the default rules, but for those on lost sessions. */
const rulesOf = <R>({ connectionTTL, idleTimeout, recycle }: Given<R>): RecyclePolicy.Input<PgConnection, R> => [
  ...(recycle === undefined ? [] : [recycle].flat()),
  RecyclePolicy.idle(idleTimeout ?? (recycle === undefined ? "10 minutes" : "Infinity")),
  ageRule(connectionTTL ?? (recycle === undefined ? "30 minutes" : "Infinity")),
  ...disconnectRules
]

/** What is left for `QueuePool.make` to be told. */
export type Rest<R> = Omit<QueuePool.Options<PgConnection, SqlError, R>, "acquire" | "check" | "checkAfter" | "reset">

export interface Parts<R> {
  readonly rest: Rest<R>
  readonly borrowTimeout: number
  readonly checkAfter: number
  readonly closeTimeout: number
  readonly resetTimeout: number
}

/** The parts, or one error that names every wrong option. */
export const partsOf = <R>(options: Given<R>): Effect.Effect<Parts<R>, PoolError> =>
  Effect.suspend(() => {
    const given = options as Readonly<Record<string, unknown>>
    const problems: Array<Problem> = []
    const wrong = (option: string, allowed: string) => problems.push({ option, value: given[option], allowed })
    const { check, checkAfter, reset, ...rest } = Object.fromEntries(
      Object.entries(given).filter(([name]) => !driverNames.has(name) && !limits.some((limit) => limit === name))
    )
    rest["name"] ??= "PgQueuePool"
    const names = new Map<string, string>()
    for (const [theirs, ours] of Object.entries(synonyms)) {
      const value = rest[theirs]
      delete rest[theirs]
      if (value === undefined) continue
      if (rest[ours] === undefined) {
        rest[ours] = value
        names.set(ours, theirs)
      } else wrong(theirs, `nothing beside ${ours}, which means the same`)
    }
    for (const limit of limits) {
      if (given[limit] !== undefined && !((toMillis(given[limit]) ?? -1) >= 0)) {
        wrong(limit, "a duration from zero, or Infinity")
      }
    }
    const { multiplex, multiplexConcurrency = defaultConcurrency } = given
    if (multiplex !== undefined && typeof multiplex !== "boolean") wrong("multiplex", "true or false")
    if (reset !== undefined && typeof reset !== "function" && !levels.some((level) => level === reset)) {
      wrong(
        "reset",
        `${levels.map((level) => `"${level}"`).join(", ")} or a function from session and Exit to an Effect`
      )
    }
    for (const name of absent) if (rest[name] !== undefined) wrong(name, `one of the options ${known.join(", ")}`)
    const concurrency = multiplex === true ? multiplexConcurrency as number : 1
    names.set("concurrency", "multiplexConcurrency")
    const all = { ...rest, check, checkAfter, acquire: Effect.void, concurrency: multiplexConcurrency }
    return Effect.matchEffect(settingsOf(all, "PgQueuePool", known), {
      onFailure: ({ pool, reason }) => {
        const renamed = (reason as InvalidOptions).problems.map(({ allowed, option, value }) => ({
          option: names.get(option) ?? option,
          value,
          allowed
        }))
        return Effect.fail(new PoolError({ pool, reason: new InvalidOptions({ problems: [...problems, ...renamed] }) }))
      },
      onSuccess: ({ borrowTimeout, checkAfter, closeTimeout, name, resetTimeout }) =>
        problems.length > 0
          ? Effect.fail(new PoolError({ pool: name, reason: new InvalidOptions({ problems }) }))
          : Effect.succeed({
            borrowTimeout,
            checkAfter,
            closeTimeout,
            resetTimeout,
            rest: {
              ...rest,
              concurrency,
              sharing: options.sharing ?? "pack",
              retry: options.retry ?? defaultRetry,
              recycle: rulesOf(options)
            }
          })
    })
  })
