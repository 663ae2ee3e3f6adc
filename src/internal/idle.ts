// An intrusive doubly linked list of idle items, from the coldest (returned
// longest ago) to the warmest. Nothing is allocated, and all but `putBack` is O(1);
// an item is in at most one list, and `linked` tells whether it is.

export interface Node<T> {
  colder: T | undefined
  warmer: T | undefined
  linked: boolean
  readonly idleSince: number
}

export class Idle<T extends Node<T>> {
  size = 0
  coldest: T | undefined = undefined
  warmest: T | undefined = undefined
  private lastPutBack: T | undefined = undefined

  push(item: T): void {
    item.linked = true
    item.colder = this.warmest
    if (this.warmest === undefined) this.coldest = item
    else this.warmest.warmer = item
    this.warmest = item
    this.size++
  }

  /**
   * To its place among the others. Items of a sweep come back in their order, so the
   * search begins where the last one was put.
   */
  putBack(item: T): void {
    const { lastPutBack } = this
    let after = lastPutBack?.linked === true && lastPutBack.idleSince <= item.idleSince ? lastPutBack : undefined
    for (let next = this.above(after); next !== undefined && next.idleSince <= item.idleSince;) {
      after = next
      next = next.warmer
    }
    this.lastPutBack = item
    const warmer = this.above(after)
    if (warmer === undefined) return this.push(item)
    item.linked = true
    item.colder = after
    item.warmer = warmer
    warmer.colder = item
    if (after === undefined) this.coldest = item
    else after.warmer = item
    this.size++
  }

  private above(item: T | undefined): T | undefined {
    return item === undefined ? this.coldest : item.warmer
  }

  remove(item: T): void {
    const { colder, warmer } = item
    if (colder === undefined) this.coldest = warmer
    else colder.warmer = warmer
    if (warmer === undefined) this.warmest = colder
    else warmer.colder = colder
    item.colder = item.warmer = undefined
    item.linked = false
    // An item that is gone must not be kept by this.
    if (this.lastPutBack === item) this.lastPutBack = undefined
    this.size--
  }
}
