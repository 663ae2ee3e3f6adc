/** What a pool that needs permits of several budgets may keep while it waits. */
import type { Seat } from "../../src/internal/seat.ts"

/** When all sleep: one of each budget before the one where it waits, in its order, and of the others none. */
export const keepsAmiss = (seats: ReadonlyArray<Seat>): boolean => {
  const waits = seats.findIndex(({ slot, urgent }) => slot >= 0 && urgent)
  return seats.some(({ granted }, i) => granted !== (i < waits ? 1 : 0))
}
