/** A source of items in which everything that can go wrong goes as told, and whose ledger is kept. */
import type { PoolError, QueuePool } from "effect-queuepool"
import * as Effect from "effect/Effect"
import { Source, type Thing } from "./items.ts"
import { Ledger } from "./ledger.ts"
import { type Outcome, play, type Refused } from "./outcome.ts"

export { type Outcome, Refused } from "./outcome.ts"
export { Ledger, type Thing }

/**
 * `acquire`, `check` and `reset` are for the options of the same names. For each, and for
 * the release, there is a list of the next outcomes, in order, and one for all after.
 */
export class Scripted extends Source {
  /** Checks and resets begun, by item. */
  readonly checked: Array<number> = []
  readonly cleaned: Array<number> = []
  readonly checks: Array<Outcome> = []
  readonly resets: Array<Outcome> = []
  checksOtherwise: Outcome = "ok"
  resetsOtherwise: Outcome = "ok"
  override readonly ledger: Ledger<Thing>

  constructor(options: { readonly max: number; readonly concurrency?: number | undefined }) {
    const ledger = new Ledger<Thing>(options)
    super(ledger)
    this.ledger = ledger
  }

  readonly check = ({ id }: Thing): Effect.Effect<void, Refused> =>
    Effect.suspend(() => {
      this.checked.push(id)
      return play(this.checks.shift() ?? this.checksOtherwise, id)
    })

  readonly reset = ({ id }: Thing): Effect.Effect<void, Refused> =>
    Effect.suspend(() => {
      this.cleaned.push(id)
      return play(this.resets.shift() ?? this.resetsOtherwise, id)
    })

  /** Borrows from the pool, and the ledger hears who holds what. */
  readonly use = <E, B, E2, R2>(
    pool: QueuePool.QueuePool<Thing, E>,
    body: (item: Thing) => Effect.Effect<B, E2, R2>
  ): Effect.Effect<B, E | E2 | PoolError.PoolError, R2> => pool.use((item) => this.ledger.holding(item, body(item)))

  /** Everything goes well from now on. */
  heal(): void {
    for (const script of [this.opens, this.closes, this.checks, this.resets]) script.length = 0
    this.opensOtherwise =
      this.closesOtherwise =
      this.checksOtherwise =
      this.resetsOtherwise =
        "ok"
  }
}
