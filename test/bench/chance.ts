/** A group is measured on while what is said of it hangs on chance. */
import { Effect } from "effect"
import type { Samples } from "./measure.ts"
import { resultOf, type Row } from "./results.ts"

export interface Plan {
  readonly rounds: number
  /** It is measured on for as many at most, which are whole processes where they are more. */
  readonly most: number
  /** The rounds of one process. */
  readonly each: number
}

/** `run` takes so many rounds more, in a process of their own. */
export const measured = Effect.fnUntraced(function*<E>(
  rows: ReadonlyArray<Row>,
  { each, most, rounds }: Plan,
  run: (rounds: number) => Effect.Effect<Samples, E>
) {
  const samples = new Map<string, ReadonlyArray<number>>()
  const results = () => rows.map((row) => resultOf(row, samples, "ns", each))
  let done = 0
  while (done < rounds || (done < most && results().some(({ sure }) => !sure))) {
    const next = Math.min(most - done, each)
    for (const [name, took] of yield* run(next)) samples.set(name, [...samples.get(name) ?? [], ...took])
    done += next
  }
  return results()
})
