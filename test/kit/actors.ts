/** Small concurrent programs around one pool: what they consist of, how one is drawn, and how a failing one is made small. */
import type { Outcome } from "./outcome.ts"
import type { Rng } from "./random.ts"

export type Act =
  /** Borrows, holds the item for so many turns, and gives it back. */
  | {
    readonly do: "lease"
    readonly how: "use" | "scoped"
    readonly turns: number
    readonly end: "ok" | "fail" | "invalidate"
  }
  | { readonly do: "yield" }
  /** Interrupts an actor, by its place. */
  | { readonly do: "interrupt"; readonly of: number }
  | { readonly do: "clear" }
  | { readonly do: "resize"; readonly max: number }

export interface Program {
  readonly max: number
  readonly min: number
  readonly concurrency: number
  readonly order: "lifo" | "fifo"
  readonly openConcurrency: number
  /** A check and a reset, each of one turn. */
  readonly check: boolean
  readonly reset: boolean
  /** How the first opens go. */
  readonly opens: ReadonlyArray<Outcome>
  /** Each actor has a scheduler of its own, and is woken in a task of its own. */
  readonly own: boolean
  /** Somebody hears the pool's events: one more fiber. */
  readonly listens: boolean
  /** Fibers that run at once, each its acts in order. */
  readonly actors: ReadonlyArray<ReadonlyArray<Act>>
}

export const plain: Omit<Program, "actors"> = {
  max: 1,
  min: 0,
  concurrency: 1,
  order: "lifo",
  openConcurrency: 1,
  check: false,
  reset: false,
  opens: [],
  own: true,
  listens: true
}

const drawAct = (rng: Rng, actors: number): Act => {
  const what = rng.weighted([[10, "lease"], [3, "yield"], [5, "interrupt"], [1, "clear"], [1, "resize"]] as const)
  switch (what) {
    case "lease":
      return {
        do: what,
        how: rng.pick(["use", "scoped"]),
        turns: rng.int(3),
        end: rng.weighted([[6, "ok"], [1, "fail"], [2, "invalidate"]] as const)
      }
    case "interrupt":
      return { do: what, of: rng.int(actors) }
    case "resize":
      return { do: what, max: 1 + rng.int(3) }
    default:
      return { do: what }
  }
}

export const drawProgram = (rng: Rng): Program => {
  const max = 1 + rng.int(3)
  const actors = 2 + rng.int(5)
  const opens = rng.chance(0.6)
    ? []
    : Array.from({ length: 1 + rng.int(3) }, () => rng.pick<Outcome>(["fail", "die", { slow: 5 }, "ok"]))
  return {
    max,
    min: rng.chance(0.7) ? 0 : 1,
    concurrency: rng.chance(0.7) ? 1 : 2,
    order: rng.pick(["lifo", "fifo"]),
    openConcurrency: 1 + rng.int(2),
    check: rng.chance(0.3),
    reset: rng.chance(0.3),
    opens,
    own: rng.chance(0.6),
    listens: true,
    actors: Array.from({ length: actors }, () => Array.from({ length: 1 + rng.int(4) }, () => drawAct(rng, actors)))
  }
}

/** The smallest program that `fails` still, found by leaving out one thing after another. */
export const smallest = (first: Program, fails: (program: Program) => boolean): Program => {
  let best = first
  const keep = (program: Program): boolean => {
    if (!fails(program)) return false
    best = program
    return true
  }
  const less = (): boolean => {
    let smaller = false
    for (let actor = 0; actor < best.actors.length;) {
      // Its place is kept, for those who interrupt others by theirs.
      const acts = best.actors[actor]!
      if (acts.length > 0 && keep({ ...best, actors: best.actors.with(actor, []) })) smaller = true
      for (let at = 0; at < best.actors[actor]!.length;) {
        const actors = best.actors.with(actor, best.actors[actor]!.toSpliced(at, 1))
        if (keep({ ...best, actors })) smaller = true
        else at++
      }
      actor++
    }
    for (const key of Object.keys(plain) as Array<keyof typeof plain>) {
      if (JSON.stringify(best[key]) === JSON.stringify(plain[key])) continue
      if (keep({ ...best, [key]: plain[key] })) smaller = true
    }
    return smaller
  }
  while (less());
  return best
}

export const showProgram = ({ actors, ...options }: Program): string =>
  [
    JSON.stringify(options),
    ...actors.map((acts, index) => {
      const told = acts.map(({ do: what, ...rest }) => [what, ...Object.values(rest)].join(" "))
      return `  actor ${index}: ${told.join(", ") || "nothing"}`
    })
  ].join("\n")
