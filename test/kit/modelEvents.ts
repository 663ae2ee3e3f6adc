/** What the events of a pool must tell: the life of each item along the legal edges, and one end for each borrow. */
import type { PoolEvent } from "effect-queuepool"
import { limits, type Plan } from "./modelPlan.ts"
import type { World } from "./world.ts"

type Event = PoolEvent.PoolEvent

/** What may be told of an item that is in the pool; by how many have it, see `checkBorrowed`. */
const lendable = [
  "Borrowed",
  "Returned",
  "Detached",
  "TakenBack",
  "LeaseEnded",
  "LeaseWarning",
  "Recycled",
  "CheckFailed",
  "ResetFailed"
]

/** From what an item was last seen as, to what it may be seen as next. */
const legal: Record<string, ReadonlyArray<string>> = {
  Opening: ["Opened", "OpenFailed", "Closed", "CloseFailed", "Abandoned"],
  OpenFailed: ["Closed", "CloseFailed", "Abandoned"],
  Opened: ["Borrowed", "Recycled", "CheckFailed"],
  Borrowed: lendable,
  Returned: lendable,
  TakenBack: lendable,
  LeaseEnded: lendable,
  LeaseWarning: lendable,
  ResetFailed: lendable,
  CheckFailed: ["Recycled"],
  Recycled: ["Closed", "CloseFailed", "Abandoned"],
  Detached: [],
  Closed: [],
  CloseFailed: [],
  Abandoned: []
}

const pooled = new Set(["Opened", "CheckFailed", ...lendable].filter((tag) => tag !== "Recycled" && tag !== "Detached"))

/** They end a lease. */
const back = new Set(["Returned", "Detached", "TakenBack"])

export class Listener {
  readonly heard: Array<Event> = []
  lent = 0
  refused = 0
  attempts = 0
  private looked = 0
  /** The open that a retry tries: 0 before it begins, undefined when there is none. */
  private probe: number | undefined = undefined
  /** What each item was last seen as. */
  private readonly last = new Map<number, string>()
  private readonly openedAt = new Map<number, number>()
  private readonly usedAt = new Map<number, number>()
  private readonly leases = new Map<number, number>()
  /** How many have each item. */
  private readonly out = new Map<number, number>()
  private min: number
  /** The leases that were ended from outside, by item and holder. */
  private readonly cut = new Set<string>()
  private closing = false
  private at = 0
  private readonly world: World
  private readonly plan: Plan
  private readonly trials: ReadonlySet<number>

  /** `trials`: opens that nobody waits for but who asked for a `swap`. */
  constructor(world: World, plan: Plan, trials: ReadonlySet<number>) {
    this.trials = trials
    this.world = world
    this.plan = plan
    this.min = plan.min
  }

  /** Items that lived before anyone could listen. */
  know(items: ReadonlyArray<number>): void {
    this.check()
    for (const item of items) if (!this.last.has(item)) this.last.set(item, "Opened")
  }

  check(): void {
    for (; this.looked < this.heard.length; this.looked++) this.look(this.heard[this.looked]!)
  }

  /** The items that no event has ended. */
  get living(): number {
    let living = 0
    for (const tag of this.last.values()) if (legal[tag]!.length > 0 && tag !== "OpenFailed") living++
    return living
  }

  private look(event: Event): void {
    if (event.at < this.at) this.world.fail("events", `${event._tag} at ${event.at} after ${this.at}`)
    this.at = event.at
    if (event._tag === "BorrowFailed") this.refused++
    if (event._tag === "Resized") this.min = event.min
    this.checkProbe(event)
    const least = event._tag === "LeaseWarning"
      ? this.plan.maxLease / 2
      : event._tag === "LeaseEnded" && event.why === "maxLease"
      ? this.plan.maxLease
      : 0
    if ("held" in event && event.held < least) this.world.fail("early", `${event._tag} after ${event.held}`)
    if (event._tag === "PoolClosing") this.closing = true
    if (event._tag === "LeaseEnded") this.cut.add(`${event.item} of ${event.by}`)
    // Nobody loses an item because of what another did with it.
    if (event._tag === "TakenBack" && !this.closing && !this.cut.has(`${event.item} of ${event.by}`)) {
      this.world.fail("taken back", `item ${event.item} of ${event.by}`)
    }
    if (!("item" in event)) return
    const { item } = event
    const last = this.last.get(item) ?? ""
    // An item of the warm-up lived before anyone could listen.
    if (last !== "" && !legal[last]!.includes(event._tag)) {
      this.world.fail("events", `item ${item}: ${event._tag} after "${last}"`)
    }
    if (event._tag === "Recycled" && event.reason === "idle") this.checkSpared(item)
    this.checkBorrowed(event._tag, item, last)
    this.last.set(item, event._tag)
    switch (event._tag) {
      case "Opened":
        this.openedAt.set(item, event.at)
        this.usedAt.set(item, event.at)
        break
      case "Borrowed":
        this.lent++
        break
      case "Returned":
        this.usedAt.set(item, event.at)
        this.leases.set(item, (this.leases.get(item) ?? 0) + 1)
        break
      case "Recycled":
        this.checkRecycled(event)
        break
      default:
    }
  }

  private checkBorrowed(tag: Event["_tag"], item: number, last: string): void {
    const { plan, world } = this
    const out = this.out.get(item) ?? 0
    if (tag === "Borrowed") {
      this.out.set(item, out + 1)
      if (out >= plan.concurrency) world.fail("events", `item ${item}: Borrowed by ${out + 1}`)
    } else if (back.has(tag) || tag === "LeaseEnded" || tag === "LeaseWarning") {
      if (back.has(tag)) this.out.set(item, out - 1)
      if (out <= 0) world.fail("events", `item ${item}: ${tag}, and nobody has it`)
    } else if (out > 0 && tag !== "ResetFailed") {
      world.fail("events", `item ${item}: ${tag}, and ${out} have it`)
    } else if (last === "ResetFailed" && tag !== "Recycled" && tag !== "ResetFailed") {
      world.fail("events", `item ${item}: ${tag} after "${last}"`)
    }
  }

  /** In an outage one open is tried for each step of the retry Schedule. */
  private checkProbe(event: Event): void {
    if (event._tag === "Retrying") this.probe = 0
    else if (event._tag === "Opening" && !this.trials.has(event.item)) {
      if (this.probe !== undefined && this.probe > 0) {
        this.world.fail("retry", `item ${event.item} beside ${this.probe}`)
      }
      if (this.probe === 0) this.probe = event.item
    } else if (event._tag === "Opened" || (event._tag === "OpenFailed" && event.item === this.probe)) {
      this.probe = undefined
    }
  }

  // The idle rules spare `min`.
  private checkSpared(item: number): void {
    const open = Array.from(this.last.values()).filter((tag) => pooled.has(tag)).length
    if (open <= this.min) {
      this.world.fail("spare", `item ${item} is idle, and one of ${open}, min ${this.min}`)
    }
  }

  // No item ends before its time.
  private checkRecycled({ age, at, item, reason, uses }: Event & { readonly _tag: "Recycled" }): void {
    const { plan, world } = this
    if (age < at - (this.openedAt.get(item) ?? Infinity)) world.fail("events", `item ${item} is older than ${age}`)
    const idle = this.leases.has(item) ? at - this.usedAt.get(item)! : age
    const early = (reason === "age" && age <= (plan.rules.includes("jitter") ? limits.age / 2 : limits.age)) ||
      (reason === "idle" && idle <= limits.idle) || (reason === "uses" && uses < limits.uses) ||
      (reason === "after" && age <= limits.after)
    if (early) world.fail("early", `item ${item} ends by ${reason} at age ${age}, idle ${idle}, ${uses} uses`)
    if (uses !== (this.leases.get(item) ?? 0) && this.openedAt.has(item)) {
      world.fail("events", `item ${item} had ${this.leases.get(item)} leases, the event says ${uses}`)
    }
  }
}
