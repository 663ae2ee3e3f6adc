// The budgets behind a public Capacity, for the pools that draw on it.
import type { Permits } from "./permits.ts"

const known = new WeakMap<object, ReadonlyArray<Permits>>()

export const registerCapacity = (capacity: object, permits: ReadonlyArray<Permits>): void => {
  known.set(capacity, permits)
}

export const isRegistered = (value: unknown): boolean => typeof value === "object" && value !== null && known.has(value)

/** Each of them once. */
export const permitsOf = (...capacities: ReadonlyArray<object>): ReadonlyArray<Permits> =>
  Array.from(new Set(capacities.flatMap((capacity) => known.get(capacity)!)))
