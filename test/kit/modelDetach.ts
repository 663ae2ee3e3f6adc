/** Items that leave the pool with their borrowers. */
import { Exit, Scope } from "effect"
import type { QueuePool } from "effect-queuepool"
import { leasesOf } from "../../src/internal/item.ts"
import type { Borrowers } from "./modelBorrowers.ts"
import { type Inside, itemsOf } from "./modelInside.ts"
import type { Loan } from "./modelLoan.ts"
import { type Plan, strictly } from "./modelPlan.ts"
import type { Refused } from "./modelSource.ts"
import type { World } from "./world.ts"

/** The borrower keeps its first item for good, if it has that alone; its scope closes when the borrower is done. */
export const detach = (
  loan: Loan,
  pool: QueuePool.QueuePool<unknown, Refused>,
  inside: Inside,
  borrowers: Borrowers,
  plan: Plan,
  world: World
): void => {
  const entry = loan.entries[0]!
  // Equal items cannot be told apart, and a fiber that yields detaches what it has no more.
  if (plan.equal || !strictly(plan)) return
  const item = itemsOf(inside).find(({ scope }) => scope === entry.scope)
  const leases = item === undefined ? [] : Array.from(leasesOf(item))
  const alone = leases.length === 1 && leases[0]!.taken
  const scope = Scope.makeUnsafe()
  const exit = world.fork(Scope.provide(pool.detach(entry.value), scope)).pollUnsafe()
  const detached = exit !== undefined && Exit.isSuccess(exit) && exit.value
  if (detached !== alone) world.fail("detach", `item ${entry.number} of ${leases.length} borrowers: ${detached}`)
  if (!detached) return void world.fork(Scope.close(scope, Exit.void))
  if (itemsOf(inside).includes(item!)) world.fail("detach", `item ${entry.number} is in the pool still`)
  borrowers.ban((other) => other === entry, "detached")
  entry.keeper = scope
}
