// An intrusive FIFO of waiters, with O(1) leave from anywhere.
//
// An item on its way to the pool (one being opened or checked) is a supply, and
// is for one waiter when any is left that has none. Invariant: the waiters that
// have a supply are a prefix of the queue, and `bare` is the first that has none.
// So "who still needs one" is one field, and every change is O(1):
// - a waiter that leaves passes its supply to `bare`;
// - a waiter whose supply came to nothing takes the one of the last that has one.

export interface Supply {
  waiter: Waiter | undefined
}

export interface Waiter {
  /** It needs an item for itself, where others share one. */
  readonly alone: boolean
  ahead: Waiter | undefined
  behind: Waiter | undefined
  supply: Supply | undefined
}

export class Waiters<W extends Waiter, S extends Supply> {
  size = 0
  head: W | undefined = undefined
  /** The first waiter without a supply. */
  bare: W | undefined = undefined
  /** Supplies that are for nobody yet. */
  readonly spare = new Set<S>()
  /** How many waiters have a supply. */
  supplied = 0
  /** How many need an item for themselves, and how many of these have no supply. */
  alone = 0
  bareAlone = 0
  private tail: W | undefined = undefined

  /** It stands in the queue. */
  has(waiter: W): boolean {
    return waiter.ahead !== undefined || this.head === waiter
  }

  /** Behind all others. */
  push(waiter: W): void {
    this.append(waiter)
    // All others have one then.
    if (this.spare.size > 0) this.give(waiter, this.takeSpare())
    else this.bare ??= waiter
  }

  /** Behind all others; enough where one of these has no supply: nor is there one for it. */
  append(waiter: W): void {
    this.enter(waiter)
    const { tail } = this
    waiter.ahead = tail
    if (tail === undefined) this.head = waiter
    else tail.behind = waiter
    this.tail = waiter
  }

  /** The first leaves: most often it has no supply, nor have those behind it. */
  shift(first: W): void {
    const behind = first.behind as W | undefined
    if (first.supply !== undefined || first.alone || behind === undefined) return this.leave(first)
    this.head = this.bare = behind
    behind.ahead = first.behind = undefined
    this.size--
  }

  /** Back to its place, before `next`, or last when there is none: it was served in vain. */
  insert(waiter: W, next: W | undefined): void {
    if (next === undefined) return this.push(waiter)
    this.enter(waiter)
    const ahead = next.ahead as W | undefined
    waiter.ahead = ahead
    waiter.behind = next
    if (ahead === undefined) this.head = waiter
    else ahead.behind = waiter
    next.ahead = waiter
    // All others have one then.
    if (this.spare.size > 0) return this.give(waiter, this.takeSpare())
    if (this.bare === next) {
      this.bare = waiter
      return
    }
    if (next.supply === undefined) return
    // Those behind it have supplies: the last that has one gives it up.
    const last = (this.bare === undefined ? this.tail : this.bare.ahead) as W
    this.give(waiter, this.strip(last)!)
    this.bare = last
  }

  private enter(waiter: W): void {
    this.size++
    if (!waiter.alone) return
    this.alone++
    this.bareAlone++
  }

  private give(waiter: W, supply: S): void {
    waiter.supply = supply
    supply.waiter = waiter
    this.supplied++
    if (waiter.alone) this.bareAlone--
  }

  private strip(waiter: W): S | undefined {
    const supply = waiter.supply as S | undefined
    if (supply === undefined) return undefined
    waiter.supply = supply.waiter = undefined
    this.supplied--
    if (waiter.alone) this.bareAlone++
    return supply
  }

  /** The waiter leaves the queue, served or not. */
  leave(waiter: W): void {
    const supply = this.strip(waiter)
    if (this.bare === waiter) this.bare = waiter.behind as W | undefined
    const { ahead, behind } = waiter
    if (ahead === undefined) this.head = behind as W | undefined
    else ahead.behind = behind
    if (behind === undefined) this.tail = ahead as W | undefined
    else behind.ahead = ahead
    waiter.ahead = waiter.behind = undefined
    this.size--
    if (waiter.alone) {
      this.alone--
      this.bareAlone--
    }
    if (supply !== undefined) this.promise(supply)
  }

  /** A supply begins. */
  promise(supply: S): void {
    const waiter = this.bare
    if (waiter === undefined) {
      this.spare.add(supply)
      return
    }
    this.give(waiter, supply)
    this.bare = waiter.behind as W | undefined
  }

  /** A supply ends, for good or ill. Its waiter, still in the queue, takes a spare one, or else the last one promised. */
  settle(supply: S): void {
    const waiter = supply.waiter as W | undefined
    if (waiter === undefined) {
      this.spare.delete(supply)
      return
    }
    this.strip(waiter)
    const last = (this.bare === undefined ? this.tail : this.bare.ahead) as W
    const other = this.strip(last)
    this.bare = last
    if (other !== undefined) this.give(waiter, other)
    if (this.spare.size > 0) this.promise(this.takeSpare())
  }

  private takeSpare(): S {
    const first = this.spare.values().next().value!
    this.spare.delete(first)
    return first
  }
}
