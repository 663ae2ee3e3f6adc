// What is over, kept for the next who needs one: where to make one costs as much as all that is
// done with it besides. What was taken need not come back.

// So many lie ready in any case: as many borrowers as are resumed in one task.
const few = 256

// What a crowd has left is for the next crowd. But while more than a few lie ready, one of so many
// that come back goes: a thousand that nobody needs any more are gone after 64,000 uses.
const oneIn = 64

export interface Spares<T> {
  take(): T
  /** It came back, and keeps nothing of whom it was for. */
  keep(one: T): void
  /** How many lie ready. */
  size(): number
}

export const spares = <T>(make: () => T): Spares<T> => {
  const ready: Array<T> = []
  let left = oneIn
  return {
    take: () => ready.pop() ?? make(),
    keep: (one) => {
      if (ready.length < few || --left > 0) ready.push(one)
      else left = oneIn
    },
    size: () => ready.length
  }
}
