/** The options of a model run's pool. */
import { Effect, Schedule, type Scope } from "effect"
import { type QueuePool, RecyclePolicy } from "effect-queuepool"
import type { ModelHooks } from "./modelHooks.ts"
import { isLost } from "./modelLoan.ts"
import { limits, type Plan, type Rule } from "./modelPlan.ts"
import type { ModelSource, Refused } from "./modelSource.ts"

const retries = {
  none: undefined,
  finite: Schedule.spaced(limits.spaced).pipe(Schedule.upTo({ times: 2 })),
  now: Schedule.recurs(2),
  spaced: Schedule.spaced(limits.spaced),
  exponential: Schedule.exponential(5)
}

const policyOf = (rule: Rule, source: ModelSource): RecyclePolicy.RecyclePolicy<unknown> => {
  switch (rule) {
    case "idle":
      return RecyclePolicy.idle(limits.idle)
    case "age":
      return RecyclePolicy.age(limits.age)
    case "jitter":
      return RecyclePolicy.age(limits.age, { jitter: 0.5 })
    case "uses":
      return RecyclePolicy.uses(limits.uses)
    case "failed":
      return RecyclePolicy.failed
    case "lost":
      return RecyclePolicy.failedWith(isLost, { also: "all", reason: "lost" })
    case "lostOlder":
      return RecyclePolicy.failedWith(isLost, { also: "older", reason: "lost" })
    case "interrupted":
      return RecyclePolicy.interrupted
    case "when":
      return RecyclePolicy.when(({ uses }) => uses >= limits.uses, "uses")
    case "throws":
      return RecyclePolicy.when(({ moment, uses }) => {
        if (uses % 3 === 2 && moment !== "lend") throw new Error("no rule")
        return false
      })
    case "check":
      return RecyclePolicy.check((item) => Effect.map(source.check(item), (good) => good === false))
    case "recurs":
      return RecyclePolicy.schedule(Schedule.recurs(limits.uses))
    case "after":
      return RecyclePolicy.after(Schedule.spaced(limits.after)).pipe(RecyclePolicy.named("after"))
    case "both":
      return RecyclePolicy.all([RecyclePolicy.uses(1), RecyclePolicy.idle(limits.idle)])
  }
}

export const optionsOf = (plan: Plan, source: ModelSource, hooks: ModelHooks) =>
  ({
    acquire: source.acquire,
    name: "model",
    min: plan.min,
    max: plan.max,
    minIdle: plan.minIdle,
    maxIdle: plan.maxIdle,
    concurrency: plan.concurrency,
    sharing: plan.sharing,
    targetUtilization: plan.targetUtilization,
    warm: plan.warm as "eager",
    order: plan.order,
    borrowTimeout: plan.borrowTimeout,
    maxWaiters: plan.maxWaiters,
    openConcurrency: plan.openConcurrency,
    openTimeout: limits.open,
    retry: retries[plan.retry],
    check: plan.check ? source.check : undefined,
    checkAfter: plan.checkAfter,
    checkTimeout: limits.check,
    reset: plan.reset ? source.reset : undefined,
    resetTimeout: limits.reset,
    recycle: plan.rules.map((rule) => policyOf(rule, source)),
    sweep: plan.sweep,
    closeTimeout: limits.close,
    drainTimeout: plan.drainTimeout,
    replaceTimeout: plan.replaceTimeout,
    maxLease: plan.maxLease,
    leaseWarning: plan.maxLease / 2,
    monitor: plan.monitor ? () => hooks.monitor : undefined,
    onAcquire: plan.hooks.includes("onAcquire") ? () => hooks.onAcquire : undefined,
    onBorrow: plan.hooks.includes("onBorrow") ? hooks.onBorrow : undefined,
    onReturn: plan.hooks.includes("onReturn") ? hooks.onReturn : undefined,
    onRelease: plan.hooks.includes("onRelease") ? hooks.onRelease : undefined,
    whenSuspended: plan.whenSuspended
  }) satisfies QueuePool.Options<unknown, Refused, Scope.Scope>
