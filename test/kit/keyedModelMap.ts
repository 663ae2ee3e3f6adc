/** The map of a run, by its plan. */
import { type Effect, Schedule, type Scope } from "effect"
import { type Capacity, QueuePoolMap, RecyclePolicy } from "effect-queuepool"
import type { Things } from "./keyedModelBorrowers.ts"
import type { KeyedPlan, KeyPlan } from "./keyedModelPlan.ts"
import { type KeyedSource, openTimeout } from "./keyedModelSource.ts"

export const drainTimeout = 15

export const makeKeyed = (
  plan: KeyedPlan,
  source: KeyedSource,
  keyOf: (name: unknown) => number,
  capacity: Capacity.Capacity | undefined
): Effect.Effect<Things, unknown, Scope.Scope> => {
  const optionsOf = ({ failed, idle, pressed, reset, retry, uses, ...options }: KeyPlan) => ({
    ...options,
    reset: reset ? source.reset : undefined,
    retry: retry ? Schedule.spaced(7) : undefined,
    recycle: [
      ...(idle > 0 ? [RecyclePolicy.idle(idle)] : []),
      ...(uses > 0 ? [RecyclePolicy.uses(uses)] : []),
      ...(failed ? [RecyclePolicy.failed] : []),
      ...(pressed ? [RecyclePolicy.whenPressed(RecyclePolicy.uses(1))] : [])
    ]
  })
  const [first] = plan.times
  return QueuePoolMap.make({
    ...optionsOf(plan.common),
    name: "map",
    acquire: (name: unknown) => source.acquire(keyOf(name)),
    forKey: (name: unknown) => {
      const special = plan.keys[keyOf(name)]
      return special && optionsOf(special)
    },
    warm: plan.lazy ? "lazy" : "background",
    openTimeout,
    drainTimeout,
    maxTotal: plan.maxTotal,
    fairness: plan.fairness,
    idleTimeToLive: plan.times.every((time) => time === first) ? first : (name) => plan.times[keyOf(name)]!,
    capacity
  })
}
