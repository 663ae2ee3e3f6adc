/**
 * Pools of scoped items with a hard bound, deadlines and recycling rules.
 *
 * @since 1.0.0
 */
export * as Balanced from "./Balanced.ts"
export * as Capacity from "./Capacity.ts"
export * as PoolError from "./PoolError.ts"
export type * as PoolEvent from "./PoolEvent.ts"
export * as QueuePool from "./QueuePool.ts"
export * as QueuePoolMap from "./QueuePoolMap.ts"
export * as RecyclePolicy from "./RecyclePolicy.ts"
