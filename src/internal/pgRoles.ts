// Which node has which role, as far as is known now, and who waits for that to change.
//
// Of several nodes that say they are the primary the one on the newest timeline is
// meant, and none that is on an older one than was ever seen: that is a primary from
// before a failover, and what is written there is lost.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Learnt, Role } from "./pgRole.ts"

interface Node {
  learnt: Learnt | undefined
  /** What it was when last something was known. */
  was: Role | undefined
  /** Why nothing is known. */
  failure: Cause.Cause<unknown> | undefined
  /** It is to be asked without delay, by the session that there is or by a new one. */
  asked: "again" | "anew" | undefined
  wake: (() => void) | undefined
}

export class Roles {
  closed = false
  /** Told of each change, before those who wait. */
  onChange: () => void = () => {}
  private readonly nodes = new Map<string, Node>()
  private readonly waiting = new Set<() => void>()
  private newest = 0

  constructor(names: Iterable<string>) {
    for (const name of names) {
      this.nodes.set(name, { learnt: undefined, was: undefined, failure: undefined, asked: undefined, wake: undefined })
    }
  }

  private node(name: string): Node {
    return this.nodes.get(name)!
  }

  roleOf(name: string): Role | undefined {
    return this.node(name).learnt?.role
  }

  get primary(): string | undefined {
    let found: string | undefined
    for (const [name, { learnt }] of this.nodes) {
      if (learnt?.role === "primary" && learnt.timeline >= this.newest) found ??= name
    }
    return found
  }

  get replicas(): ReadonlyArray<string> {
    return [...this.nodes.keys()].filter((name) => this.roleOf(name) === "replica")
  }

  /** Returns whether the node has come to be a replica, having been the primary. */
  learnt(name: string, learnt: Learnt): boolean {
    const node = this.node(name)
    const { learnt: before, was } = node
    node.learnt = learnt
    node.was = learnt.role
    node.failure = undefined
    this.newest = Math.max(this.newest, learnt.timeline)
    if (before?.role !== learnt.role || before.timeline !== learnt.timeline) this.change(name)
    return was === "primary" && learnt.role === "replica"
  }

  /** Nothing is known of the node any more. */
  lost(name: string, failure: Cause.Cause<unknown>): void {
    const node = this.node(name)
    node.failure = failure
    this.forget(name, node)
  }

  /** The node has shown that it is not what it was: perhaps its address leads to another server now. */
  doubt(name: string): void {
    this.node(name).asked = "anew"
    this.forget(name, this.node(name))
    this.ask(name)
  }

  private forget(name: string, node: Node): void {
    if (node.learnt === undefined) return
    node.learnt = undefined
    this.change(name)
  }

  /** The node is to be asked at once. */
  ask(name: string): void {
    const node = this.node(name)
    node.asked ??= "again"
    node.wake?.()
  }

  /** A new session asks. */
  opening(name: string): void {
    this.node(name).asked = undefined
  }

  /** Waits until the node is to be asked, and tells how. */
  readonly asked = (name: string): Effect.Effect<"again" | "anew"> =>
    Effect.callback((resume) => {
      const node = this.node(name)
      const wake = () => {
        const how = node.asked!
        node.wake = undefined
        if (how === "again") node.asked = undefined
        // Last: whoever waited may go on, and wait again, within it.
        resume(Effect.succeed(how))
      }
      if (node.asked !== undefined) return wake()
      node.wake = wake
      return Effect.sync(() => {
        node.wake = undefined
      })
    })

  /** Waits until this holds: looked at now and with each change, the last of which is that the cluster is closed. */
  readonly until = (test: () => boolean): Effect.Effect<void> =>
    Effect.callback<void>((resume) => {
      const look = () => {
        if (!test()) return
        this.waiting.delete(look)
        resume(Effect.void)
      }
      this.waiting.add(look)
      look()
      return Effect.sync(() => this.waiting.delete(look))
    })

  close(): void {
    this.closed = true
    this.tell()
  }

  private change(name: string): void {
    if (this.primary === undefined) {
      // Another may be the primary already.
      for (const other of this.nodes.keys()) if (other !== name) this.ask(other)
    }
    this.tell()
  }

  private tell(): void {
    this.onChange()
    for (const look of this.waiting) look()
  }

  /** A sentence for those who were not served. */
  describe(): string {
    return [...this.nodes].map(([name, node]) => `${name} ${words(node, this.newest)}`).join(", ")
  }
}

const words = ({ failure, learnt }: Node, newest: number): string => {
  if (learnt !== undefined) {
    return learnt.role === "primary" && learnt.timeline < newest
      ? "was the primary before a failover"
      : `is ${learnt.role === "primary" ? "the primary" : "a replica"}`
  }
  return failure === undefined ? "has not answered yet" : `is out of reach (${reasonOf(failure)})`
}

/** The innermost message says most. */
const reasonOf = (cause: Cause.Cause<unknown>): string => {
  let error = Cause.squash(cause)
  while (error instanceof Error && error.cause instanceof Error) error = error.cause
  return error instanceof Error ? error.message : String(error)
}
