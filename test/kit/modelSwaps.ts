/** New ways to acquire, tried and taken while a pool is in use. */
import { Exit, type Fiber } from "effect"
import type { QueuePool } from "effect-queuepool"
import type { Borrowers } from "./modelBorrowers.ts"
import type { Control } from "./modelControl.ts"
import { type Inside, itemsOf } from "./modelInside.ts"
import { reasonOf } from "./modelLoan.ts"
import { limits, type Plan, strictly, type Turnout } from "./modelPlan.ts"
import type { ModelSource, Refused } from "./modelSource.ts"
import type { World } from "./world.ts"

type Pool = QueuePool.QueuePool<unknown, Refused>

interface Swap {
  readonly way: number
  readonly over: number
  readonly askedAt: number
  readonly fiber: Fiber.Fiber<void, unknown>
  interrupted: boolean
  /** How many items had gone for swaps, or had to, and how often the pool had been resized, when it was asked for. */
  readonly gone: number
  readonly resized: number
}

export class Swaps {
  private readonly all: Array<Swap> = []
  private readonly pool: Pool
  private readonly inside: Inside
  private readonly borrowers: Borrowers
  private readonly plan: Plan
  private readonly world: World
  private readonly source: ModelSource
  private readonly control: Control

  constructor(
    pool: Pool,
    inside: Inside,
    borrowers: Borrowers,
    plan: Plan,
    world: World,
    source: ModelSource,
    control: Control
  ) {
    this.pool = pool
    this.inside = inside
    this.borrowers = borrowers
    this.plan = plan
    this.world = world
    this.source = source
    this.control = control
  }

  /** Those that have not ended. */
  get pending(): ReadonlyArray<Swap> {
    return this.all.filter(({ fiber }) => fiber.pollUnsafe() === undefined)
  }

  start(go: Turnout, over: number): void {
    const { pool, source, world } = this
    const { gone } = this
    const { resized } = this.control
    const way = this.all.length + 1
    // Of those whose fibers yield the last to ask may be the first to be heard.
    const { pending } = this
    if (!strictly(this.plan) && pending.length > 0) {
      for (const each of [...pending.map((swap) => swap.way), way]) source.ways.uncertain.add(each)
    }
    const fiber = world.fork(pool.swap(source.way(way, go), { over }))
    const { live, settings } = this.inside.state
    const above = Math.max(0, live - settings.max)
    const swap = { way, over, askedAt: world.now, fiber, interrupted: false, gone: gone + above, resized }
    this.all.push(swap)
    fiber.addObserver((exit) => this.ended(swap, exit))
  }

  /** The last one that was asked for is given up. */
  interrupt(): void {
    const swap = this.pending.at(-1)
    if (swap === undefined) return
    swap.interrupted = true
    swap.fiber.interruptUnsafe()
  }

  private ended(swap: Swap, exit: Exit.Exit<void, unknown>): void {
    const { inside, plan, source, world } = this
    const { ways } = source
    if (Exit.isSuccess(exit)) {
      ways.now = swap.way
      return this.superseded(swap)
    }
    const why = reasonOf(exit.cause)
    // It may have worked before it was given up; and what yields may begin with it after the end.
    if (why === "Interrupted" || (why === "Closed" && !strictly(plan))) ways.uncertain.add(swap.way)
    else ways.failed.add(swap.way)
    const known: Record<string, boolean> = {
      Interrupted: swap.interrupted,
      BorrowTimeout: world.now - swap.askedAt >= plan.borrowTimeout,
      OpenTimeout: world.now - swap.askedAt >= limits.open,
      Closed: inside.state.closed,
      Refused: source.failures > 0,
      defect: source.failures > 0
    }
    this.checkFailed(swap)
    if (known[why] !== true) world.fail("refusal", `swap ${swap.way} hears ${why}`)
  }

  /** How many items have gone for swaps. */
  private get gone(): number {
    return this.inside.state.totals.recycled.get("swapped") ?? 0
  }

  /** Where there was no room, one item goes for a trial that fails; who gave it up may not have heard that it worked. Others go for swaps that worked. */
  private checkFailed(swap: Swap): void {
    const worked = this.source.entries.some((entry) => entry.way === swap.way && entry.openedAt >= 0)
    if (worked || this.all.length > 1 || this.control.resized > swap.resized || this.gone <= swap.gone + 1) return
    this.world.fail("swap", `${this.gone - swap.gone} items have gone for a trial`)
  }

  /** All that was opened in an older way goes. */
  private superseded({ over, way }: Swap): void {
    const { borrowers, inside, plan, source, world } = this
    if (!strictly(plan) || inside.state.closed) return
    for (const { doom, id, retirement, scope } of itemsOf(inside)) {
      if (source.byScope.get(scope)!.way < way) continue
      if ([doom, retirement?.reason].includes("swapped")) world.fail("swap", `item ${id} is new, and goes`)
    }
    for (const entry of source.entries) {
      if (entry.way < way && entry.state === "live" && over > 0) entry.goesBy = Math.min(entry.goesBy, world.now + over)
    }
    borrowers.ban(
      (entry) => entry.way < way && (entry.state === "opening" || (entry.state === "live" && over === 0)),
      "swapped"
    )
  }

  /** At rest no trial waits that could go on. */
  checkSettled(): void {
    const { inside: { state }, world } = this
    const { idle, lent, live, opener, openings, settings } = state
    if (opener.trial === undefined || state.closed) return
    if (this.pending.length === 0) world.fail("swap", "a trial is left, and nobody asks for it")
    if (live < settings.max) world.fail("swap", "a trial waits, and there is room")
    if (idle.size > 0 && idle.size + lent + openings.size >= settings.max) {
      world.fail("swap", "a trial waits, and no idle item goes for it")
    }
  }
}
