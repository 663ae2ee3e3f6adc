// Borrowing from one of several endpoints.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { BorrowTimeout, NoEndpoint, PoolError } from "../PoolError.ts"
import type { Stats } from "../QueuePool.ts"
import { Attempt, Borrower, notAdmitted, type Shell } from "./balanceAttempt.ts"
import { Circuits } from "./balanceBreaker.ts"
import { Cheapest, type Tried, Turns } from "./balanceChoice.ts"
import type { Endpoint } from "./balanceEndpoint.ts"
import { Fleet, type Next } from "./balanceFleet.ts"
import { type Checked, invalid, listOf, settingsOf } from "./balanceOptions.ts"
import { countsOf, noCounts } from "./counts.ts"
import { monotonicMillis } from "./monotonic.ts"

/** What lends the items of each key. */
export interface Lender<in K, in out A, out E> {
  readonly name: string
  get(key: K): Effect.Effect<A, E | PoolError, Scope.Scope>
  use<B, E2, R2>(key: K, f: (item: A) => Effect.Effect<B, E2, R2>): Effect.Effect<B, E | E2 | PoolError, R2>
  getIfAvailable(key: K): Effect.Effect<Option.Option<A>, PoolError, Scope.Scope>
  useIfAvailable<B, E2, R2>(
    key: K,
    f: (item: A) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError, R2>
  statsOf(key: K): Effect.Effect<Option.Option<Stats>>
}

type Holder = Fiber.Fiber<unknown, unknown>

const untried: Tried<never> = new Set<never>()

export class Balance<K, A, E> {
  readonly name: string
  private readonly lender: Lender<K, A, E>
  private readonly borrowTimeout: number
  readonly shell: Shell<K>

  constructor(lender: Lender<K, A, E>, name: string, borrowTimeout: number, shell: Shell<K>) {
    this.lender = lender
    this.name = name
    this.borrowTimeout = borrowTimeout
    this.shell = shell
  }

  readonly use = <B, E2, R2>(
    f: (item: A, key: K) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E2 | PoolError, R2> =>
    this.each((attempt) => {
      const { key } = attempt.endpoint
      const body = (item: A): Effect.Effect<B, E2, R2> => {
        attempt.begin()
        return f(item, key)
      }
      return Effect.flatMap(this.lender.useIfAvailable(key, body), (served) =>
        Option.isSome(served) ? Effect.succeed(served.value) : attempt.limited(this.lender.use(key, body)))
    })

  readonly get: Effect.Effect<A, PoolError, Scope.Scope> = Effect.withFiber((fiber) => {
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    return this.each((attempt) =>
      Effect.flatMap(
        this.available(attempt, scope),
        (served) => Option.isSome(served) ? Effect.succeed(served.value) : attempt.limited(this.waited(attempt, scope))
      )
    )
  })

  private available(
    attempt: Attempt<K>,
    scope: Scope.Scope
  ): Effect.Effect<Option.Option<A>, PoolError, Scope.Scope> {
    return Effect.onExitPrimitive(this.lender.getIfAvailable(attempt.endpoint.key), (exit) => {
      if (Exit.isSuccess(exit) && Option.isSome(exit.value)) attempt.beginIn(scope)
      return undefined
    })
  }

  /** In a scope of its own: an item that comes when the borrower has gone elsewhere goes back at once. */
  private waited(attempt: Attempt<K>, scope: Scope.Scope): Effect.Effect<A, E | PoolError> {
    return Effect.suspend(() => {
      const own = Scope.forkUnsafe(scope)
      return Effect.onExitPrimitive(Scope.provide(this.lender.get(attempt.endpoint.key), own), (exit) => {
        if (Exit.isFailure(exit)) return Scope.close(own, exit)
        attempt.beginIn(own)
        return undefined
      })
    })
  }

  readonly getIfAvailable: Effect.Effect<Option.Option<A>, PoolError, Scope.Scope> = Effect.withFiber((fiber) => {
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    return this.any((attempt) => this.available(attempt, scope))
  })

  readonly useIfAvailable = <B, E2, R2>(
    f: (item: A, key: K) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError, R2> =>
    this.any((attempt) => {
      const { key } = attempt.endpoint
      return this.lender.useIfAvailable(key, (item) => {
        attempt.begin()
        return f(item, key)
      })
    })

  /** The endpoint that would be next. */
  readonly pick: Effect.Effect<K, PoolError> = Effect.withFiber((fiber) => {
    const next = this.next(untried, fiber, true)
    return next === undefined ? Effect.fail(this.noEndpoint(this.borrower())) : Effect.succeed(next.endpoint.key)
  })

  private borrower(): Borrower<K> {
    return new Borrower(this.shell.now(), this.borrowTimeout)
  }

  private next(tried: Tried<K>, fiber: Holder, peek: boolean): Next<K> | undefined {
    return this.shell.fleet.next(tried, this.shell.now(), randomOf(fiber), peek)
  }

  /** One endpoint after the other, until one lends. */
  private each<B, E2, R2>(
    lend: (attempt: Attempt<K>) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, Exclude<E2, E> | PoolError, R2> {
    // What an endpoint fails with ends in the cause of an error of our own.
    return Effect.suspend(() => this.from(this.borrower(), lend)) as never
  }

  private from<B, E2, R2>(
    borrower: Borrower<K>,
    lend: (attempt: Attempt<K>) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, unknown, R2> {
    const attempt = new Attempt(this.shell, borrower)
    const begun = Effect.withFiber<B, unknown, R2>((fiber) => {
      const next = this.next(borrower.tried, fiber, false)
      if (next === undefined) return Effect.fail(this.noEndpoint(borrower))
      attempt.start(next)
      const { admitted } = attempt
      return admitted === undefined
        ? lend(attempt)
        : Effect.flatMap(
          admitted,
          (yes): Effect.Effect<B, unknown, R2> => yes ? lend(attempt) : Effect.fail(notAdmitted)
        )
    })
    return Effect.catchCause(
      Effect.onExitPrimitive(begun, (exit) => attempt.end(exit)),
      (cause) => {
        if (!attempt.started || attempt.lent || Cause.hasInterrupts(cause)) return Effect.failCause(cause)
        borrower.tried.set(attempt.endpoint, cause)
        return this.shell.now() < borrower.deadline
          ? this.from(borrower, lend)
          : Effect.fail(this.noEndpoint(borrower))
      }
    )
  }

  /** All endpoints, none of which is waited for. */
  private any<B, E2, R2>(
    lend: (attempt: Attempt<K>) => Effect.Effect<Option.Option<B>, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError, R2> {
    return Effect.withFiber((fiber) => {
      const { fleet, now } = this.shell
      return this.anyOf(this.borrower(), fleet.inOrder(now(), randomOf(fiber))[Symbol.iterator](), lend)
    })
  }

  private anyOf<B, E2, R2>(
    borrower: Borrower<K>,
    endpoints: Iterator<Endpoint<K>>,
    lend: (attempt: Attempt<K>) => Effect.Effect<Option.Option<B>, E2, R2>
  ): Effect.Effect<Option.Option<B>, E2 | PoolError, R2> {
    const next = endpoints.next()
    if (next.done === true) {
      const none = borrower.tried.size < this.shell.fleet.all.length
      return none ? Effect.succeedNone : Effect.fail(this.noEndpoint(borrower))
    }
    const attempt = new Attempt(this.shell, borrower)
    const begun = Effect.suspend(() => {
      attempt.start({ endpoint: next.value, probe: false })
      return lend(attempt)
    })
    return Effect.matchCauseEffect(Effect.onExitPrimitive(begun, (exit) => attempt.end(exit)), {
      onSuccess: (served) => Option.isSome(served) ? Effect.succeed(served) : this.anyOf(borrower, endpoints, lend),
      onFailure: (cause) => {
        if (attempt.lent || Cause.hasInterrupts(cause)) return Effect.failCause(cause)
        borrower.tried.set(next.value, cause)
        return this.anyOf(borrower, endpoints, lend)
      }
    })
  }

  private noEndpoint({ since, tried }: Borrower<K>): PoolError {
    const reason = new NoEndpoint({
      waited: this.shell.now() - since,
      tried: Array.from(tried, ([{ label }, cause]) => ({ endpoint: label, cause })),
      untried: this.shell.fleet.all.filter((endpoint) => !tried.has(endpoint)).map(({ label }) => label)
    })
    return new PoolError({ pool: this.name, reason })
  }
}

const randomOf = (fiber: Holder): () => number => {
  const random = fiber.getRef(Random.Random)
  return () => random.nextDoubleUnsafe()
}

/** The endpoint's pool lent in vain: what it would say at the end of its own time, as far as that is known. */
const late = (pool: string, waited: number, stats: Option.Option<Stats>): PoolError => {
  const counts = Option.match(stats, { onNone: () => noCounts, onSome: countsOf })
  const unknown = { own: 0, oldestLease: undefined, lastFailure: undefined, capacity: undefined }
  return new PoolError({ pool, reason: new BorrowTimeout({ waited, phase: "waiting", counts, ...unknown }) })
}

/** The endpoints as they are given, or as they are from time to time. */
type Endpoints<R> = ReadonlyArray<unknown> | Stream.Stream<ReadonlyArray<unknown>, never, R>

export const make = Effect.fnUntraced(function*<K, A, E, R>(
  lender: Lender<K, A, E>,
  options: { readonly endpoints: Endpoints<R> }
) {
  const settings: Checked<K> = yield* settingsOf<K>(options, lender.name)
  const { borrowTimeout, breaker, choose, fault, measure, name, panic } = settings
  const clock = yield* Clock.Clock
  const now = (): number => monotonicMillis(clock)
  const { cost } = choose
  const fleet = new Fleet<K>(settings, panic, () => cost === undefined ? new Turns() : new Cheapest(cost))
  const fork = yield* FiberSet.makeRuntime()
  const circuits = breaker && new Circuits(breaker, fleet, now, (effect) => void fork(effect))
  const balance = new Balance(lender, name, borrowTimeout, {
    fleet,
    circuits,
    measure,
    fault,
    now,
    late: ({ key, label }, waited) => Effect.map(lender.statsOf(key), (stats) => late(label, waited, stats))
  })
  const { endpoints } = options
  if (!Stream.isStream(endpoints)) fleet.update(listOf(endpoints, settings).endpoints, now())
  else yield* follow(endpoints, settings, (list) => fleet.update(list, now()))
  return balance
})

/** Takes the first list of endpoints, and goes on with those that follow. */
const follow = Effect.fnUntraced(function*<K, R>(
  changes: Stream.Stream<ReadonlyArray<unknown>, never, R>,
  settings: Checked<K>,
  update: (endpoints: ReturnType<typeof listOf<K>>["endpoints"]) => void
) {
  const { name } = settings
  const first = yield* Deferred.make<void, PoolError>()
  const take = (list: ReadonlyArray<unknown>): Effect.Effect<unknown> =>
    Effect.suspend(() => {
      const { endpoints, problems } = listOf<K>(list, settings)
      if (problems.length === 0) {
        update(endpoints)
        return Deferred.succeed(first, undefined)
      }
      const error = invalid(name, problems)
      return Effect.flatMap(Deferred.fail(first, error), (isFirst) => {
        if (isFirst) return Effect.void
        return Effect.logWarning(`"${name}" does not take these endpoints and keeps to the last`, error)
      })
    })
  const allowed = "an array, or a Stream that has at least one"
  const none = invalid(name, [{ option: "endpoints", value: changes, allowed }])
  const followed = Effect.matchCauseEffect(Stream.runForEach(changes, take), {
    onSuccess: () => Deferred.fail(first, none),
    onFailure: (cause) =>
      Effect.flatMap(Deferred.failCause(first, cause), (isFirst) => {
        if (isFirst) return Effect.void
        return Effect.logError(`the Stream of endpoints of "${name}" has failed: it keeps to the last`, cause)
      })
  })
  yield* Effect.forkScoped(followed)
  yield* Deferred.await(first)
})
