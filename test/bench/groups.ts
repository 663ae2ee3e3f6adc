/** What is measured together, in one process and one heap: the large ones come alone. */
import { keyed } from "./keyed.ts"
import { contended, crowd, uncontended } from "./lending.ts"
import type { Family, Timed } from "./measure.ts"
import { invalidate, sweep } from "./sizes.ts"

export const groups: ReadonlyArray<ReadonlyArray<Timed>> = [
  [uncontended, contended],
  [crowd],
  [sweep],
  [invalidate],
  [keyed]
]

export const namesOf = (families: ReadonlyArray<Family>): ReadonlyArray<string> =>
  families.flatMap(({ rows }) => rows.map(({ name }) => name))

/** Those that have one of these rows. */
export const having = <F extends Family>(families: ReadonlyArray<F>, rows: ReadonlyArray<string>): ReadonlyArray<F> =>
  families.filter((family) => namesOf([family]).some((name) => rows.includes(name)))
