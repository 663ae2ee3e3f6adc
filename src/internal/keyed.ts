// A pool for each key, made by the first who asks for it and forgotten when nothing is
// left of it. All of them share a clock, a fiber that sleeps, and a budget of permits.
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Queue from "effect/Queue"
import { Closed, PoolError } from "../PoolError.ts"
import type { PoolEvent } from "../PoolEvent.ts"
import type { QueuePool } from "../QueuePool.ts"
import type { Alarm } from "./alarms.ts"
import type { Background } from "./background.ts"
import type { Borrowing } from "./borrowing.ts"
import { KeyMap } from "./keyMap.ts"
import type { Lender } from "./loan.ts"
import type { Settings } from "./options.ts"
import type { Permits } from "./permits.ts"
import { type Effects, Pool } from "./pool.ts"
import type { Totals } from "./pooled.ts"
import { QueuePoolImpl } from "./queuePool.ts"
import type { Rules } from "./rules.ts"
import { addTotals, newTotals } from "./totals.ts"

/** How the pool of one key is to be. */
export interface Plan<A, E, R> {
  readonly settings: Settings
  readonly effects: Effects<A, E, R>
  readonly rules: Rules<A, R>
  /** How long it may be unused before its items are closed, in milliseconds. */
  readonly idleTimeToLive: number
}

/** What all keys have in common. */
export interface Common<K, A, E, R> {
  readonly name: string
  /** How the pool of this key is to be, or why there can be none. May throw what the user's functions throw. */
  readonly planOf: (key: K, name: string) => Plan<A, E, R> | PoolError
  readonly background: Background<R>
  readonly permits: ReadonlyArray<Permits>
  /** Leases are watched, of whatever key. */
  readonly traces: boolean
}

/** A pool and its key. */
export class Entry<K, A, E, R> {
  readonly key: K
  readonly pool: Pool<A, E, R>
  readonly timeToLive: number
  alarm: Alarm | undefined = undefined
  /** Who holds the pool itself, and would not see that it is another. */
  private pins = 0
  /** When it was made, or last held. */
  private heldAt: number
  private face: QueuePool<A, E> | undefined = undefined

  constructor(key: K, pool: Pool<A, E, R>, madeAt: number, timeToLive: number) {
    this.key = key
    this.pool = pool
    this.heldAt = madeAt
    this.timeToLive = timeToLive
  }

  /** The pool itself, one and the same for all who hold it. */
  hold(): QueuePool<A, E> {
    this.pins++
    return this.face ??= new QueuePoolImpl(this.pool)
  }

  letGo(now: number): void {
    this.pins--
    this.heldAt = now
  }

  /** Nothing is left of it, and nobody has it. */
  get over(): boolean {
    const { state } = this.pool
    return this.pins === 0 && state.live === 0 && state.waiters.size === 0
  }

  /** Somebody has an item, or waits for one. */
  get inUse(): boolean {
    const { leases, waiters } = this.pool.state
    return this.pins > 0 || leases > 0 || waiters.size > 0
  }

  /** When it was last of use. What the pool opens for itself is no use. */
  get usedAt(): number {
    const { state } = this.pool
    state.rush.dateAll()
    return Math.max(this.heldAt, state.usedAt)
  }
}

/** An event of one key's pool, or of the key itself. */
export type KeyedEvent<K> =
  | (PoolEvent & { readonly key: K })
  | { readonly _tag: "KeyAdded" | "KeyRemoved"; readonly pool: string; readonly at: number; readonly key: K }

export class KeyedPools<K, A, E, R> {
  readonly entries = new KeyMap<K, Entry<K, A, E, R>>()
  readonly common: Common<K, A, E, R>
  /** Of the keys that are gone. */
  readonly gone: Totals = newTotals()
  closed = false
  /** Some lease is watched: where it was borrowed is asked for. */
  traces: boolean
  private readonly listeners = new Set<Queue.Queue<KeyedEvent<K>, Cause.Done>>()

  constructor(common: Common<K, A, E, R>) {
    this.common = common
    this.traces = common.traces
  }

  /** Where a borrower asks for an item of this key. */
  lender(key: K): Lender<A, E, R> {
    return new KeyLender(this, key)
  }

  /** The same for one that takes what is there, or goes without. */
  presentLender(key: K): Lender<A, E, R> {
    return new PresentLender(this, key)
  }

  /** The pool of a key, or why there is none. */
  entry(key: K): Entry<K, A, E, R> | PoolError {
    if (this.closed) return this.refusal
    const found = this.entries.get(key)
    if (found !== undefined) return found
    const { name, planOf } = this.common
    const plan = planOf(key, `${name}[${typeof key === "string" ? key : Formatter.format(key)}]`)
    if (plan instanceof PoolError) return plan
    // The user's functions may have asked for the key, or closed the map.
    return this.closed ? this.refusal : this.entries.get(key) ?? this.add(key, plan)
  }

  get refusal(): PoolError {
    return new PoolError({ pool: this.common.name, reason: new Closed() })
  }

  private add(key: K, { effects, idleTimeToLive, rules, settings }: Plan<A, E, R>): Entry<K, A, E, R> {
    const { background, permits } = this.common
    const pool = new Pool(settings, effects, rules, background, permits)
    const now = background.now()
    const entry = new Entry(key, pool, now, idleTimeToLive)
    this.entries.set(key, entry)
    this.traces ||= settings.leaseWarning < Infinity || settings.maxLease < Infinity
    pool.onQuiet = () => this.release(entry)
    if (idleTimeToLive < Infinity) {
      entry.alarm = background.alarms.make(() => this.look(entry))
      background.alarms.set(entry.alarm, now + idleTimeToLive)
    }
    if (this.listeners.size > 0) {
      this.listen(entry)
      this.tell(entry, "KeyAdded")
    }
    pool.begin()
    // Who asked may be interrupted before it asks the pool, which then hears of nobody.
    background.later(() => this.release(entry))
    return entry
  }

  // ---- keys come and go

  /** Forgets a key of which nothing is left. */
  release(entry: Entry<K, A, E, R>): void {
    if (entry.pool.state.closed || !entry.over) return
    if (entry.alarm !== undefined) this.common.background.alarms.cancel(entry.alarm)
    entry.pool.dispose(() => this.forget(entry))
  }

  private forget(entry: Entry<K, A, E, R>): void {
    this.entries.delete(entry.key)
    addTotals(this.gone, entry.pool.state.totals)
    if (this.listeners.size > 0) this.tell(entry, "KeyRemoved")
    // Who holds the pool still may ask it, in vain.
    entry.pool.hear(undefined)
  }

  /** Who held the pool itself does not any more. */
  letGo(entry: Entry<K, A, E, R>): void {
    entry.letGo(this.common.background.now())
    this.release(entry)
  }

  /** Its time to live may be over: then its items go, and with the last of them the key. */
  private look(entry: Entry<K, A, E, R>): void {
    const { alarms, now } = this.common.background
    const time = now()
    const at = (entry.inUse ? time : entry.usedAt) + entry.timeToLive
    if (at > time) return alarms.set(entry.alarm!, at)
    alarms.set(entry.alarm!, time + entry.timeToLive)
    entry.pool.state.ending.dismiss("key unused")
  }

  // ---- events

  /** Undefined: ends it. */
  subscribe(listener: Queue.Queue<KeyedEvent<K>, Cause.Done>): void {
    if (this.closed && this.entries.size === 0) return void Queue.endUnsafe(listener)
    this.listeners.add(listener)
    if (this.listeners.size === 1) { for (const entry of this.entries) this.listen(entry) }
  }

  unsubscribe(listener: Queue.Queue<KeyedEvent<K>, Cause.Done>): void {
    this.listeners.delete(listener)
    if (this.listeners.size === 0) { for (const { pool } of this.entries) pool.hear(undefined) }
  }

  private listen({ key, pool }: Entry<K, A, E, R>): void {
    pool.hear((event) => this.emit({ ...event, key }))
  }

  private tell({ key, pool }: Entry<K, A, E, R>, _tag: "KeyAdded" | "KeyRemoved"): void {
    this.emit({ _tag, pool: pool.settings.name, at: this.common.background.now(), key })
  }

  private emit(event: KeyedEvent<K>): void {
    for (const listener of this.listeners) Queue.offerUnsafe(listener, event)
  }

  // ---- the end

  /** All pools close side by side, each within its own time. They begin in one step: what one frees no other takes. */
  get close(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const entries = Array.from(this.entries)
      let left = entries.length + 1
      const ended = (): void => {
        if (--left > 0) return
        for (const listener of this.listeners) Queue.endUnsafe(listener)
        resume(Effect.void)
      }
      this.closed = true
      this.common.background.alarms.stop()
      for (const entry of entries) {
        entry.pool.dispose(() => {
          this.forget(entry)
          ended()
        })
      }
      ended()
    })
  }
}

class KeyLender<K, A, E, R> implements Lender<A, E, R> {
  private readonly pools: KeyedPools<K, A, E, R>
  private readonly key: K
  private refused: PoolError | undefined = undefined

  constructor(pools: KeyedPools<K, A, E, R>, key: K) {
    this.pools = pools
    this.key = key
  }

  current(): Borrowing<A, E, R> | undefined {
    const found = this.pools.entry(this.key)
    if (found instanceof Entry) return found.pool.borrowing
    this.refused = found
    return undefined
  }

  get refusal(): Effect.Effect<never, PoolError> {
    return Effect.fail(this.refused!)
  }
}

/** Makes no pool: where there is none, there is nothing to take. */
class PresentLender<K, A, E, R> implements Lender<A, E, R> {
  private readonly pools: KeyedPools<K, A, E, R>
  private readonly key: K

  constructor(pools: KeyedPools<K, A, E, R>, key: K) {
    this.pools = pools
    this.key = key
  }

  current(): Borrowing<A, E, R> | undefined {
    return this.pools.closed ? undefined : this.pools.entries.get(this.key)?.pool.borrowing
  }

  /** For who asks for an Option. */
  get refusal(): Effect.Effect<never, PoolError> {
    return this.pools.closed ? Effect.fail(this.pools.refusal) : Effect.succeedNone as Effect.Effect<never>
  }
}
