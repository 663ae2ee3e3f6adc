// How a pool opens connections, and hears of their faults.
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { InvalidOptions, PoolError } from "../PoolError.ts"
import type * as QueuePool from "../QueuePool.ts"
import { monotonicMillis } from "./monotonic.ts"
import { optionNames, settingsOf } from "./options.ts"
import { connectWith } from "./socketConnect.ts"
import type { Fault, SocketConnection } from "./socketConnection.ts"
import type { ConnectionError } from "./socketErrors.ts"
import { glance, rules } from "./socketLiveness.ts"
import { connectOptionNames, connectProblems, connectSettings, endpointProblems } from "./socketOptions.ts"
import type { Connection, Options } from "./socketTypes.ts"

// A connection that was idle for less can hardly have ended unseen. It is the
// shortest time after which the pool looks at it again; `checkAfter` is when the
// user's check is run.
const glanceAfter = 2

/** All that is asked of a pool. */
type Connections = Pick<QueuePool.QueuePool<Connection, unknown>, "invalidate">

/** How to make the pool, and what is then to be told of it. */
export interface Plan<E, R> {
  readonly settings: QueuePool.Options<Connection, ConnectionError | E, R | Scope.Scope>
  readonly watch: (pool: Connections) => void
}

/** Where a plan that is made deep inside a layer leaves what it is to be told. */
export class Watching extends Context.Service<Watching, {
  watch: ((pool: Connections) => void) | undefined
}>()("effect-queuepool/internal/socketPool/Watching") {}

/** What `QueuePool` has and this pool has not. */
const absent = "acquire"

const known = ["endpoint", ...connectOptionNames, ...optionNames.filter((name) => name !== absent)]

interface Parts<E, R> {
  readonly ours: Pick<Options<E, R>, "connectTimeout" | "closeGrace" | "keepAlive" | "noDelay" | "unread">
  readonly rest: Omit<Options<E, R>, "endpoint" | keyof Parts<E, R>["ours"]>
  readonly checkAfter: number
  readonly closeTimeout: number
}

/** The parts, or one error that names every wrong option. */
const partsOf = <E, R>(options: Options<E, R>, name: string): Effect.Effect<Parts<E, R>, PoolError> => {
  const { endpoint, ...others } = options
  const pick = (ours: boolean): object =>
    Object.fromEntries(Object.entries(others).filter(([option]) => connectOptionNames.has(option) === ours))
  const ours = pick(true)
  const rest = pick(false)
  const problems = [...endpointProblems(endpoint), ...connectProblems(ours)]
  if (absent in rest) {
    problems.push({ option: absent, value: rest[absent], allowed: `one of the options ${known.join(", ")}` })
  }
  return Effect.matchEffect(settingsOf({ ...rest, acquire: Effect.void }, name, known), {
    onFailure: ({ pool, reason }) => {
      const all = [...problems, ...(reason as InvalidOptions).problems]
      return Effect.fail(new PoolError({ pool, reason: new InvalidOptions({ problems: all }) }))
    },
    onSuccess: ({ checkAfter, closeTimeout, name }) =>
      problems.length > 0
        ? Effect.fail(new PoolError({ pool: name, reason: new InvalidOptions({ problems }) }))
        : Effect.succeed({ ours, rest: { ...rest, name }, checkAfter, closeTimeout })
  })
}

export const plan = Effect.fnUntraced(function*<E, R>(
  options: Options<E, R>,
  name: string
): Effect.fn.Return<Plan<E, R>, PoolError> {
  const { checkAfter, closeTimeout, ours, rest } = yield* partsOf(options, name)
  const clock = yield* Clock.Clock
  const given = connectSettings(ours)
  const connectTo = connectWith(options.endpoint, {
    ...given,
    closeGrace: Math.min(given.closeGrace, closeTimeout / 2)
  })

  // Connections can have faults before the pool is there: while it is warmed.
  let pool: Connections | undefined
  const early = new Map<SocketConnection, Fault>()
  const run = Effect.runSyncWith(yield* Effect.context())
  const recycle = (connection: SocketConnection, fault: Fault): void => {
    if (pool === undefined) early.set(connection, fault)
    else run(pool.invalidate(connection, fault))
  }
  const { check, onAcquire, reset } = rest
  return {
    settings: {
      ...rest,
      acquire: connectTo,
      // The last part of an open: from here on the pool knows the connection.
      onAcquire: (connection) =>
        Effect.flatMap(onAcquire === undefined ? Effect.void : onAcquire(connection), () => {
          const opened = connection as SocketConnection
          if (opened.isDead) return Effect.fail(opened.whyDead)
          opened.onFault = (fault) => recycle(opened, fault)
          return Effect.void
        }),
      recycle: [...(rest.recycle === undefined ? [] : [rest.recycle].flat()), ...rules],
      checkAfter: Math.min(glanceAfter, checkAfter),
      check: (connection) =>
        Effect.flatMap(glance(connection), (isOpen): Effect.Effect<unknown, unknown, R> => {
          const proven = monotonicMillis(clock) - (connection as SocketConnection).provenAt < checkAfter
          return check === undefined || proven ? Effect.succeed(isOpen) : check(connection)
        }),
      reset: (connection, exit) => {
        ;(connection as SocketConnection).provenAt = monotonicMillis(clock)
        return reset?.(connection, exit)
      }
    },
    watch: (made) => {
      pool = made
      for (const [connection, fault] of early) recycle(connection, fault)
      early.clear()
    }
  }
})
