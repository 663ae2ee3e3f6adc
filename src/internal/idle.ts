// An intrusive doubly linked list of idle items, from the coldest (returned longest
// ago) to the warmest, and the choice of the one to lend next. Nothing is allocated,
// and all but `putBack` and `fit` is O(1); an item is in at most one list, and
// `linked` tells whether it is.
//
// The order "hybrid" has two sets: the core, as many items as the pool always keeps,
// lent in turn so that all of them stay in use; and the extras, lent only when the
// core is empty and the last one first, so that the rest of them fall idle. Both are
// in the one list, and differ in `core`. `firstCore` goes up the list in search of
// the next one: over each extra once, however many there are, so O(1) too on average.
//
// In the order "lifo" the last one to come back is mostly the next to be lent: until
// another comes back, or somebody looks at the list, it is kept beside it.

export interface Node<T> {
  colder: T | undefined
  warmer: T | undefined
  linked: boolean
  /** Of the core. Kept while the item is away, for `putBack`. */
  core: boolean
  readonly idleSince: number
}

export class Idle<T extends Node<T>> {
  size = 0
  private bottom: T | undefined = undefined
  private top: T | undefined = undefined
  /** The warmest of all, if it is not in the list yet. */
  private hot: T | undefined = undefined
  declare private readonly lifo: boolean
  declare private readonly fifo: boolean
  declare private readonly hybrid: boolean
  declare private readonly places: () => number
  declare private readonly out: () => number
  private coreSize = 0
  /** The coldest of the core. */
  private firstCore: T | undefined = undefined
  private lastPutBack: T | undefined = undefined

  /**
   * For "hybrid": `places` is how many items the core takes, `out` how many are not
   * idle now and will be returned.
   */
  constructor(
    order: "lifo" | "fifo" | "hybrid" = "lifo",
    places: () => number = none,
    out: () => number = none
  ) {
    this.lifo = order === "lifo"
    this.fifo = order === "fifo"
    this.hybrid = order === "hybrid"
    this.places = places
    this.out = out
  }

  /** The one to lend. */
  get next(): T | undefined {
    return this.hot ?? this.firstCore ?? (this.fifo ? this.bottom : this.top)
  }

  get coldest(): T | undefined {
    this.cool()
    return this.bottom
  }

  get warmest(): T | undefined {
    this.cool()
    return this.top
  }

  /** The next one on the way from the coldest. */
  after(item: T): T | undefined {
    this.cool()
    return item.warmer
  }

  /** From the coldest; the current item may be removed. */
  *[Symbol.iterator](): Generator<T, void> {
    for (let item = this.coldest; item !== undefined;) {
      const warmer = this.after(item)
      yield item
      item = warmer
    }
  }

  /** A returned item. */
  push(item: T): void {
    this.size++
    item.linked = true
    if (this.lifo) {
      if (this.hot !== undefined) this.append(this.hot)
      this.hot = item
      return
    }
    this.append(item)
    if (!this.hybrid) return
    // The last ones to come back become the core: each that is still out has its place kept.
    item.core = this.out() < this.places() - this.coreSize
    if (item.core) this.joinCore(item)
  }

  /**
   * To its place among the others. Items of a sweep come back in their order, so the
   * search begins where the last one was put.
   */
  putBack(item: T): void {
    this.cool()
    this.size++
    item.linked = true
    const { lastPutBack } = this
    let after = lastPutBack?.linked === true && lastPutBack.idleSince <= item.idleSince ? lastPutBack : undefined
    for (let next = this.above(after); next !== undefined && next.idleSince <= item.idleSince;) {
      after = next
      next = next.warmer
    }
    this.lastPutBack = item
    const warmer = this.above(after)
    if (warmer === undefined) this.append(item)
    else {
      item.colder = after
      item.warmer = warmer
      warmer.colder = item
      if (after === undefined) this.bottom = item
      else after.warmer = item
    }
    // Its place may be gone meanwhile.
    item.core &&= this.coreSize < this.places()
    if (item.core) this.joinCore(item)
  }

  remove(item: T): void {
    this.size--
    item.linked = false
    if (item === this.hot) {
      this.hot = undefined
      return
    }
    if (item.core) this.leaveCore(item)
    const { colder, warmer } = item
    if (colder === undefined) this.bottom = warmer
    else colder.warmer = warmer
    if (warmer === undefined) this.top = colder
    else warmer.colder = colder
    item.colder = item.warmer = undefined
    // An item that is gone must not be kept by this.
    if (this.lastPutBack === item) this.lastPutBack = undefined
  }

  /** The core has lost places: the coldest in it become extras. Places that it gains are taken by what is returned. */
  fit(): void {
    while (this.firstCore !== undefined && this.coreSize > this.places()) {
      const item = this.firstCore
      this.leaveCore(item)
      item.core = false
    }
  }

  private cool(): void {
    if (this.hot === undefined) return
    this.append(this.hot)
    this.hot = undefined
  }

  private append(item: T): void {
    item.colder = this.top
    if (this.top === undefined) this.bottom = item
    else this.top.warmer = item
    this.top = item
  }

  private above(item: T | undefined): T | undefined {
    return item === undefined ? this.bottom : item.warmer
  }

  // `firstCore` tells nothing of where in the list it is, but the next of the core does:
  // an item stands before the first one if that is the next after it.
  private joinCore(item: T): void {
    this.coreSize++
    if (nextCore(item) === this.firstCore) this.firstCore = item
  }

  private leaveCore(item: T): void {
    this.coreSize--
    if (this.firstCore === item) this.firstCore = nextCore(item)
  }
}

const none = (): number => 0

/** The next warmer one of the core. */
const nextCore = <T extends Node<T>>({ warmer }: T): T | undefined => {
  while (warmer !== undefined && !warmer.core) warmer = warmer.warmer
  return warmer
}
