// Learns the role of each node and keeps it up to date, over one session per node
// that no borrower has: it works when the pool is exhausted, and its end is heard at once.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Learnt } from "./pgRole.ts"
import type { Roles } from "./pgRoles.ts"

export interface Watching<E> {
  readonly roles: Roles
  /** Connects, and gives what asks the server. `onLost` is told when the connection ends. */
  readonly open: (node: string, onLost: () => void) => Effect.Effect<Effect.Effect<Learnt, E>, E, Scope.Scope>
  /** How long between two questions, in milliseconds. */
  readonly interval: number
  /** How long a node may take to connect, and to answer. */
  readonly timeout: number
  /** Run when the node has come to be a replica. */
  readonly demoted: Effect.Effect<void>
}

// While there is no primary, one is looked for more often.
const seekMillis = 250

// Before a node that is out of reach is tried again.
const firstDelay = 100
const longestDelay = 5000

export const watch = <E>(node: string, watching: Watching<E>): Effect.Effect<never> => {
  const { demoted, interval, open, roles, timeout } = watching
  let failures = 0

  // Told when the time is over, not when the driver has given its statement up, which takes longer.
  const late = Effect.flatMap(Effect.sleep(timeout), () => {
    const error = new Cause.TimeoutError(`no answer within ${timeout}ms`)
    roles.lost(node, Cause.fail(error))
    return Effect.fail(error)
  })
  const inTime = <A, R>(effect: Effect.Effect<A, E, R>) => Effect.raceFirst(effect, late)

  const ask = Effect.fnUntraced(function*(question: Effect.Effect<Learnt, E>) {
    const learnt = yield* inTime(question)
    failures = 0
    if (roles.learnt(node, learnt)) yield* demoted
    const pause = roles.primary === undefined ? Math.min(interval, seekMillis) : interval
    const asked = yield* Effect.timeoutOption(roles.asked(node), pause)
    return Option.contains(asked, "anew")
  })

  const connect = Effect.suspend(() => {
    roles.opening(node)
    return inTime(open(node, () => roles.ask(node)))
  })

  const session = connect.pipe(
    Effect.flatMap((question) => Effect.repeat(ask(question), { until: (anew) => anew })),
    // Before the session is closed, which takes its time where the other side is silent.
    Effect.tapCause((cause) => Effect.sync(() => roles.lost(node, cause))),
    Effect.scoped
  )

  const again = Effect.gen(function*() {
    const delay = Math.min(interval, longestDelay, firstDelay * 2 ** failures++)
    // All programs lose a server at once, and need not come back at once.
    yield* Effect.sleep(delay * (0.8 + 0.4 * (yield* Random.next)))
  })

  return Effect.forever(Effect.catchCause(session, () => again))
}
