// What is over, kept for the next who needs one: where to make one costs as much as all that is
// done with it besides. What was taken need not come back.

// So many lie ready in any case: as many borrowers as are resumed in one task.
const few = 256

// What a crowd has left is for the next crowd. But of those that nobody has needed in a thousand
// uses, some go: a thousand that were needed once are gone after 64,000 uses.
const uses = 1024
const gone = 16

export interface Spares<T> {
  take(): T
  /** It came back, and keeps nothing of whom it was for. */
  keep(one: T): void
  /** How many lie ready. */
  size(): number
}

export const spares = <T>(make: () => T): Spares<T> => {
  const ready: Array<T> = []
  let left = uses
  // So many have been ready all the time since `left` was full.
  let least = 0
  const look = (): void => {
    const idle = Math.min(gone, least - few)
    if (idle > 0) ready.length -= idle
    least = ready.length
    left = uses
  }
  return {
    take: () => {
      const one = ready.pop()
      if (ready.length < least) least = ready.length
      return one ?? make()
    },
    keep: (one) => {
      ready.push(one)
      if (--left === 0) look()
    },
    size: () => ready.length
  }
}
