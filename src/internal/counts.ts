// What an error tells of a pool whose inside is not at hand.
import type { Counts } from "../PoolError.ts"

/** As far as stats tell it. */
type Told = Omit<Counts, "lent" | "waiting"> & { readonly used: number; readonly pending: number }

export const countsOf = ({ closing, idle, leases, max, min, opening, pending, used }: Told): Counts => ({
  idle,
  lent: used,
  opening,
  closing,
  leases,
  waiting: pending,
  min,
  max
})

/** Of a pool that is not there. */
export const noCounts: Counts = {
  idle: 0,
  lent: 0,
  opening: 0,
  closing: 0,
  leases: 0,
  waiting: 0,
  min: 0,
  max: 0
}
