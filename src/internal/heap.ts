// A binary heap whose nodes know their places, so that one can be moved or removed
// without a search: O(log n) each.

export interface Placed {
  /** Its place in the heap, or -1. */
  slot: number
}

export abstract class Ordered<T extends Placed> {
  protected readonly nodes: Array<T> = []

  get size(): number {
    return this.nodes.length
  }

  get top(): T | undefined {
    return this.nodes[0]
  }

  protected abstract before(one: T, other: T): boolean

  push(node: T): void {
    this.nodes.push(node)
    this.rise(node, this.nodes.length - 1)
  }

  remove(node: T): void {
    const slot = node.slot
    if (slot < 0) return
    node.slot = -1
    const last = this.nodes.pop()!
    if (last === node) return
    this.rise(last, slot)
    this.sink(last, last.slot)
  }

  private rise(node: T, from: number): void {
    let slot = from
    while (slot > 0) {
      const up = (slot - 1) >> 1
      const parent = this.nodes[up]!
      if (!this.before(node, parent)) break
      this.nodes[slot] = parent
      parent.slot = slot
      slot = up
    }
    this.nodes[slot] = node
    node.slot = slot
  }

  private sink(node: T, from: number): void {
    const { length } = this.nodes
    let slot = from
    for (let down = 2 * slot + 1; down < length; down = 2 * slot + 1) {
      if (down + 1 < length && this.before(this.nodes[down + 1]!, this.nodes[down]!)) down++
      const child = this.nodes[down]!
      if (!this.before(child, node)) break
      this.nodes[slot] = child
      child.slot = slot
      slot = down
    }
    this.nodes[slot] = node
    node.slot = slot
  }
}

export interface Node extends Placed {
  dueAt: number
}

/** By time, the earliest on top. */
export class Heap<T extends Node> extends Ordered<T> {
  protected override before(one: T, other: T): boolean {
    return one.dueAt < other.dueAt
  }
}
