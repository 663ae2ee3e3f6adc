/**
 * A ledger of items, kept beside a pool: it hears of every open, close, lend and
 * return from those who do them, and holds the pool to it at every step.
 *
 * - Every item that was opened is live, closing or closed, and is closed once.
 * - No more are live or closing than `max`, but those that the pool gave up as abandoned.
 * - No item has more holders than `concurrency`; none is held that is not live, and none
 *   is closed while it is held, unless the pool says that it took it back.
 * - The pool's own counts say the same: what it has idle or lent is live, and what is
 *   live is idle, lent, opening or closing in the pool, or was detached.
 *
 * A ledger throws nothing where it notices something: that would be a defect of some
 * fiber, which a pool may well survive. It notes it, and `proof` fails with all of it.
 */
import type { QueuePool } from "effect-queuepool"
import * as Effect from "effect/Effect"
import { CountingScheduler, scheduledBy } from "./cost.ts"

/** What the ledger asks of a pool. */
export interface Counted {
  readonly stats: Effect.Effect<QueuePool.Stats>
}

/** What the ledger noticed. */
export class Disagreement extends Error {
  readonly _tag = "Disagreement"
  readonly notes: ReadonlyArray<string>
  constructor(notes: ReadonlyArray<string>) {
    super(notes.join("\n"))
    this.notes = notes
  }
}

// Enough to see what is wrong: one mistake is often followed by thousands.
const manyNotes = 20

export class Ledger<A> {
  /** What was noticed, first things first. */
  readonly notes: Array<string> = []
  /** How many steps were looked at. */
  steps = 0
  /** How many items were opened, and how many of them closed. */
  opens = 0
  closes = 0
  peakLive = 0
  /** The largest that was allowed so far: a smaller one takes effect as items come back. */
  max: number
  readonly concurrency: number
  private readonly items = new Map<A, { state: "live" | "closing" | "closed"; holders: number }>()
  private live = 0
  private pool: Counted | undefined = undefined

  constructor(options: { readonly max: number; readonly concurrency?: number | undefined }) {
    this.max = options.max
    this.concurrency = options.concurrency ?? 1
  }

  /** From now on the counts of this pool are compared at every step. */
  watch(pool: Counted): void {
    this.pool = pool
    this.check()
  }

  // ---- the source tells

  opened(item: A): void {
    const known = this.items.get(item)
    if (known !== undefined && known.state !== "closed") this.note(`${name(item)} is opened while it is ${known.state}`)
    this.items.set(item, { state: "live", holders: 0 })
    this.opens++
    this.live++
    this.peakLive = Math.max(this.peakLive, this.live + this.closingNow)
    this.check()
  }

  closing(item: A): void {
    const entry = this.items.get(item)
    if (entry?.state !== "live") this.note(`${name(item)} is to be closed and is ${entry?.state ?? "unknown"}`)
    if (entry === undefined || entry.state !== "live") return
    if (entry.holders > 0 && (this.stats?.takenBack ?? 0) === 0) this.note(`${name(item)} is closed while it is held`)
    entry.state = "closing"
    this.live--
    this.check()
  }

  closed(item: A): void {
    const entry = this.items.get(item)
    if (entry?.state !== "closing") this.note(`${name(item)} is closed and was ${entry?.state ?? "unknown"}`)
    if (entry === undefined || entry.state === "closed") return
    entry.state = "closed"
    this.closes++
    this.check()
  }

  // ---- the borrower tells

  /** Runs what a borrower does with an item: it holds it as long as that runs. */
  holding<B, E, R>(item: A, body: Effect.Effect<B, E, R>): Effect.Effect<B, E, R> {
    return Effect.acquireUseRelease(
      Effect.sync(() => this.lent(item)),
      () => body,
      () => Effect.sync(() => this.returned(item))
    )
  }

  lent(item: A): void {
    const entry = this.items.get(item)
    if (entry?.state !== "live") this.note(`${name(item)} is lent and is ${entry?.state ?? "unknown"}`)
    if (entry === undefined) return
    entry.holders++
    if (entry.holders > this.concurrency) this.note(`${name(item)} has ${entry.holders} holders`)
    this.check()
  }

  returned(item: A): void {
    const entry = this.items.get(item)
    if (entry === undefined || entry.holders === 0) this.note(`${name(item)} is returned and nobody has it`)
    else entry.holders--
    this.check()
  }

  // ---- what must hold

  private get closingNow(): number {
    return this.opens - this.closes - this.live
  }

  private get stats(): QueuePool.Stats | undefined {
    return this.pool === undefined ? undefined : Effect.runSync(this.pool.stats)
  }

  /** Compares now; every entry does so by itself. */
  readonly check = (): void => {
    this.steps++
    const { stats } = this
    const abandoned = stats?.abandoned ?? 0
    const detached = stats?.detached ?? 0
    const open = this.live + this.closingNow
    if (open > this.max + abandoned + detached) this.note(`${open} items are open, max is ${this.max}`)
    if (stats === undefined) return
    const { closing, idle, opening, used } = stats
    if (idle + used + opening + closing > this.max) {
      this.note(`the pool has ${idle} idle, ${used} lent, ${opening} opening, ${closing} closing; max is ${this.max}`)
    }
    if (idle + used > this.live) this.note(`the pool has ${idle} idle and ${used} lent, ${this.live} are live`)
    if (this.live > idle + used + opening + closing + abandoned + detached) {
      this.note(
        `${this.live} are live, the pool has ${idle} idle, ${used} lent, ${opening} opening, ${closing} closing`
      )
    }
  }

  /** Compares after every task of the fibers that the effect starts, too. */
  readonly everyStep = <B, E, R>(effect: Effect.Effect<B, E, R>): Effect.Effect<B, E, R> =>
    scheduledBy((base) => new CountingScheduler(base, this.check), effect)

  /** Fails unless everything agreed so far, and ran at all. */
  readonly proof: Effect.Effect<void, Disagreement> = Effect.suspend(() =>
    this.notes.length > 0
      ? Effect.fail(new Disagreement([...this.notes]))
      : this.steps === 0
      ? Effect.fail(new Disagreement(["the ledger has heard of nothing"]))
      : Effect.void
  )

  /**
   * The same for a pool at rest: nothing is under way, and opened = closed + abandoned +
   * live to the last item. `held`: how many leases there are still.
   */
  readonly atRest = (held = 0): Effect.Effect<void, Disagreement> =>
    Effect.suspend(() => {
      this.check()
      const { stats } = this
      const holders = Array.from(this.items.values()).reduce((sum, entry) => sum + entry.holders, 0)
      if (holders !== held) this.note(`${holders} hold an item, not ${held}`)
      if (stats !== undefined) {
        const { abandoned, closing, detached, idle, opening, pending, used } = stats
        if (pending + opening + closing > 0) this.note(`${pending} wait, ${opening} opening, ${closing} closing`)
        if (this.live !== idle + used + detached) this.note(`${this.live} live, ${idle} idle and ${used} lent`)
        if (this.closingNow > abandoned) this.note(`${this.closingNow} are closing, ${abandoned} abandoned`)
      }
      return this.proof
    })

  /** The end: the pool is closed and so is all that was opened, but `stuck` items that never end. */
  readonly end = (stuck = 0): Effect.Effect<void, Disagreement> =>
    Effect.suspend(() => {
      if (this.opens !== this.closes + stuck) {
        this.note(`${this.opens} opened, ${this.closes} closed, ${stuck} stuck`)
      }
      return this.proof
    })

  private note(what: string): void {
    if (this.notes.length < manyNotes) this.notes.push(what)
  }
}

const name = (item: unknown): string => `item ${JSON.stringify(item)}`
