// What is over, kept for the next who needs one: where to make one costs as much as all that is
// done with it besides.

// So many lie ready whatever is in use: as many borrowers as are resumed in one task.
const few = 256

// Beyond that, what a crowd has left is for the next crowd. While less than one of so many is in
// use, what comes back goes: of those that lie ready, each use costs one.
const perOne = 16

export interface Spares<T> {
  take(): T
  /** It came back, and keeps nothing of whom it was for. */
  keep(one: T): void
  /** One that was taken is not to be used again. */
  lose(): void
  /** How many lie ready. */
  size(): number
}

export const spares = <T>(make: () => T): Spares<T> => {
  const ready: Array<T> = []
  // Those that lie ready, and those in use.
  let all = 0
  const made = (): T => {
    all++
    return make()
  }
  return {
    take: () => ready.pop() ?? made(),
    keep: (one) => {
      const size = ready.length
      if (size < few || size < perOne * (all - size)) ready.push(one)
      else all--
    },
    lose: () => {
      all--
    },
    size: () => ready.length
  }
}
