/** All the ways in which a program can be scheduled, one after another. */
import { Rng } from "./random.ts"

interface Choice {
  readonly taken: number
  readonly of: number
}

/** Instead of drawing, it takes the choices that it was told, and from there on the first of each. */
class Choices extends Rng {
  readonly taken: Array<Choice> = []
  private readonly told: ReadonlyArray<number>

  constructor(told: ReadonlyArray<number>) {
    super(1)
    this.told = told
  }

  override int(below: number): number {
    if (below <= 1) return 0
    const taken = this.told[this.taken.length] ?? 0
    this.taken.push({ taken, of: below })
    return taken
  }

  override chance(): boolean {
    return this.int(2) === 1
  }
}

export interface Explored {
  /** How many runs there were. */
  readonly runs: number
  /** Every way was taken: the limit came not first. */
  readonly all: boolean
}

/**
 * Runs with each sequence of choices in turn, as a search in depth, until `run` returns
 * true, all were taken, or there were `limit` of them. A run must make the same choices
 * when it is told the same.
 */
export const explore = (run: (rng: Rng) => boolean, limit: number): Explored => {
  let told: ReadonlyArray<number> = []
  for (let runs = 1; runs <= limit; runs++) {
    const choices = new Choices(told)
    const stop = run(choices)
    const { taken } = choices
    while (taken.length > 0 && taken.at(-1)!.taken + 1 >= taken.at(-1)!.of) taken.pop()
    if (stop || taken.length === 0) return { runs, all: !stop }
    told = taken.map((choice, index) => choice.taken + (index === taken.length - 1 ? 1 : 0))
  }
  return { runs: limit, all: false }
}
