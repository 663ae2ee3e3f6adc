// Which nodes serve writers and readers now, and how one of them is chosen.
import { Cheapest, type Choice, Turns } from "./balanceChoice.ts"
import { Fleet } from "./balanceFleet.ts"
import type { Roles } from "./pgRoles.ts"

export type ReadFromPrimary = "fallback" | "always" | "never"

export interface Serving {
  readonly readers: Fleet<string>
  readonly writers: Fleet<string>
}

// Latencies and faults are forgotten as the choice among endpoints does by default.
const pace = { decay: 10_000, slowStart: 0 }

const fleetOf = ({ cost }: Choice): Fleet<string> =>
  new Fleet<string>(pace, 0, () => cost === undefined ? new Turns() : new Cheapest(cost))

const endpointOf = (priority: number) => (node: string) => ({ key: node, label: node, priority, weight: 1 })

/** Follows the roles from now on. */
export const serving = (
  roles: Roles,
  choose: Choice,
  readFromPrimary: ReadFromPrimary,
  now: () => number
): Serving => {
  const writers = fleetOf(choose)
  const readers = fleetOf(choose)
  // As long as there is a node of the first priority nobody borrows of one of the second.
  const last = readFromPrimary === "always" ? 0 : 1
  roles.onChange = () => {
    const primary = roles.primary === undefined ? [] : [roles.primary]
    writers.update(primary.map(endpointOf(0)), now())
    const also = readFromPrimary === "never" ? [] : primary
    readers.update([...roles.replicas.map(endpointOf(0)), ...also.map(endpointOf(last))], now())
  }
  return { readers, writers }
}
