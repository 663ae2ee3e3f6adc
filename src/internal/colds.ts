// The idle items of all pools of one budget, from the coldest to the warmest: an
// intrusive list, so that nothing is allocated as items come and go.

/** The pool that has an item. */
export interface Owner {
  /** It has no more items than it is to keep. */
  readonly atMin: boolean
  /** In a turn of its own it looks again whether it can open. */
  wake(): void
  /** Runs it in a turn of its own. */
  later(task: () => void): void
  /** Recycles an idle item. */
  reclaim(cold: Cold): void
}

interface Idle {
  /** In the list of the idle items of its pool. */
  readonly linked: boolean
}

/** An idle item, as those see it who are short of permits. */
export class Cold {
  readonly owner: Owner
  readonly item: Idle
  colder: Cold | undefined = undefined
  warmer: Cold | undefined = undefined
  linked = false

  constructor(owner: Owner, item: Idle) {
    this.owner = owner
    this.item = item
  }
}

export class Colds {
  coldest: Cold | undefined = undefined
  private warmest: Cold | undefined = undefined

  add(cold: Cold): void {
    // One that a sweep has looked at keeps its place.
    if (cold.linked) return
    cold.linked = true
    cold.colder = this.warmest
    if (this.warmest === undefined) this.coldest = cold
    else this.warmest.warmer = cold
    this.warmest = cold
  }

  remove(cold: Cold): void {
    if (!cold.linked) return
    const { colder, warmer } = cold
    if (colder === undefined) this.coldest = warmer
    else colder.warmer = warmer
    if (warmer === undefined) this.warmest = colder
    else warmer.colder = colder
    cold.colder = cold.warmer = undefined
    cold.linked = false
  }

  /** The coldest, if one is found soon of a pool that has more than it is to keep. */
  get victim(): Cold | undefined {
    let spared: Cold | undefined
    let cold = this.coldest
    for (let looked = 0; cold !== undefined && looked < closeLook; looked++, cold = cold.warmer) {
      // A sweep may have it.
      if (!cold.item.linked) continue
      if (!cold.owner.atMin) return cold
      spared ??= cold
    }
    return spared
  }
}

// A search must not cost more than an open.
const closeLook = 32
