// An intrusive doubly linked list of idle items, from the coldest (returned
// longest ago) to the warmest. Every operation is O(1) and allocates nothing; an
// item is in at most one list, and `linked` tells whether it is.

export interface Node<T> {
  colder: T | undefined
  warmer: T | undefined
  linked: boolean
}

export class Idle<T extends Node<T>> {
  size = 0
  coldest: T | undefined = undefined
  warmest: T | undefined = undefined

  push(item: T): void {
    item.linked = true
    item.colder = this.warmest
    if (this.warmest === undefined) this.coldest = item
    else this.warmest.warmer = item
    this.warmest = item
    this.size++
  }

  /** After another, or as the coldest. */
  insert(item: T, after: T | undefined): void {
    const warmer = after === undefined ? this.coldest : after.warmer
    if (warmer === undefined) return this.push(item)
    item.linked = true
    item.colder = after
    item.warmer = warmer
    warmer.colder = item
    if (after === undefined) this.coldest = item
    else after.warmer = item
    this.size++
  }

  remove(item: T): void {
    const { colder, warmer } = item
    if (colder === undefined) this.coldest = warmer
    else colder.warmer = warmer
    if (warmer === undefined) this.warmest = colder
    else warmer.colder = colder
    item.colder = item.warmer = undefined
    item.linked = false
    this.size--
  }
}
