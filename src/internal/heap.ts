// A binary heap of nodes by time, the earliest on top. A node knows its place,
// so that it can be moved or removed without a search: O(log n) each.

export interface Node {
  dueAt: number
  /** Its place in the heap, or -1. */
  slot: number
}

export class Heap<T extends Node> {
  private readonly nodes: Array<T> = []

  get size(): number {
    return this.nodes.length
  }

  get top(): T | undefined {
    return this.nodes[0]
  }

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
      if (parent.dueAt <= node.dueAt) break
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
      if (down + 1 < length && this.nodes[down + 1]!.dueAt < this.nodes[down]!.dueAt) down++
      const child = this.nodes[down]!
      if (child.dueAt >= node.dueAt) break
      this.nodes[slot] = child
      child.slot = slot
      slot = down
    }
    this.nodes[slot] = node
    node.slot = slot
  }
}
