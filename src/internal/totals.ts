// What a pool has done since it was made.
import type { Tally, Totals } from "./pooled.ts"

export const newTally = (): Tally => ({
  opened: 0,
  openFailures: 0,
  closed: 0,
  abandoned: 0,
  takenBack: 0,
  leaked: 0,
  detached: 0,
  waited: 0,
  timeouts: 0,
  recycled: new Map<string, number>()
})

export const newTotals = (): Totals => ({ ...newTally(), borrowed: 0, returned: 0 })

/** What others have done is added. */
export const addTotals = (sum: Totals, { recycled, ...counts }: Totals): void => {
  for (const [name, count] of Object.entries(counts)) sum[name as keyof typeof counts] += count
  for (const [reason, count] of recycled) sum.recycled.set(reason, (sum.recycled.get(reason) ?? 0) + count)
}
