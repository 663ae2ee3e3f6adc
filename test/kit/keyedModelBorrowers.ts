/** Who asks for items of the keys of a run, has them, and lets them go. */
import { Effect, Exit, type Fiber, Option } from "effect"
import type { QueuePool, QueuePoolMap } from "effect-queuepool"
import type { End, Fate, KeyPlan, Kind } from "./keyedModelPlan.ts"
import { type KeyedSource, Refused, type Thing } from "./keyedModelSource.ts"
import type { Ticks } from "./keyedModelTicks.ts"
import type { World } from "./world.ts"

export type Things = QueuePoolMap.QueuePoolMap<unknown, Thing, Refused>
export type Pool = QueuePool.QueuePool<Thing, Refused>

export interface Borrower {
  readonly key: number
  readonly number: number
  readonly since: number
  readonly waits: boolean
  thing: Thing | undefined
  served: boolean
  over: boolean
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  end: ((exit: Exit.Exit<unknown, unknown>) => void) | undefined
}

export const exits: Record<End, Exit.Exit<void, Refused>> = {
  ok: Exit.void,
  fail: Exit.fail(new Refused()),
  die: Exit.die("broken")
}

export class KeyedBorrowers {
  readonly byKey: ReadonlyArray<Array<Borrower>>
  /** When something was last lent or waited for, of each key, and when a lease of it last ended. */
  readonly usedAt: Array<number>
  readonly endedAt: Array<number>
  served = 0
  private readonly plans: ReadonlyArray<KeyPlan>
  private readonly world: World
  private readonly ticks: Ticks
  private readonly source: KeyedSource
  private readonly strict: boolean

  constructor(plans: ReadonlyArray<KeyPlan>, world: World, ticks: Ticks, source: KeyedSource, strict: boolean) {
    this.plans = plans
    this.world = world
    this.ticks = ticks
    this.source = source
    this.strict = strict
    this.byKey = plans.map(() => [])
    this.usedAt = plans.map(() => -Infinity)
    this.endedAt = plans.map(() => -Infinity)
  }

  some(key: number, of: number, which: (borrower: Borrower) => boolean): Borrower | undefined {
    const found = this.byKey[key]!.filter((borrower) => !borrower.over && which(borrower))
    return found[of % Math.max(1, found.length)]
  }

  waiting(key: number): number {
    return this.byKey[key]!.reduce((sum, { over, served }) => sum + (over || served ? 0 : 1), 0)
  }

  leases(key: number): number {
    return this.byKey[key]!.reduce((sum, { end }) => sum + (end === undefined ? 0 : 1), 0)
  }

  borrow(map: Things, name: () => unknown, key: number, kind: Kind, fate: Fate, held: Pool | undefined): void {
    const { source, ticks, world } = this
    const mine = this.byKey[key]!
    const borrower: Borrower = {
      key,
      number: mine.length + 1,
      since: world.now,
      waits: kind !== "useNow" && kind !== "getNow",
      thing: undefined,
      served: false,
      over: false,
      fiber: undefined,
      end: undefined
    }
    mine.push(borrower)
    const alone = kind === "useAlone" || kind === "getAlone"
    const has = (thing: Thing) => this.has(borrower, thing, alone, fate)
    const late = source.shutAt < Infinity
    const lease: Effect.Effect<unknown, unknown> = kind === "pool" && held !== undefined
      ? held.use(has)
      : kind === "get"
      ? Effect.scoped(Effect.flatMap(map.get(name()), has))
      : kind === "useAlone"
      ? map.useExclusive(name(), has)
      : kind === "getAlone"
      ? Effect.scoped(Effect.flatMap(map.getExclusive(name()), has))
      : kind === "useNow"
      ? map.useIfAvailable(name(), has)
      : kind === "getNow"
      ? Effect.scoped(
        Effect.flatMap(map.getIfAvailable(name()), (found) => Option.isNone(found) ? Effect.void : has(found.value))
      )
      : map.use(name(), has)
    borrower.fiber = world.fork(Effect.onExit(lease, (exit) =>
      Effect.sync(() => {
        borrower.over = true
        this.usedAt[key] = world.now
        if (late && Exit.isSuccess(exit)) world.fail("lent after close", `to borrower ${borrower.number} of key ${key}`)
        const how = Exit.isSuccess(exit) ? "success" : exit.cause.reasons.map((reason) => this.tell(reason)).join()
        if (how.includes("Closed") && source.shutAt === Infinity) {
          world.fail("refused", `borrower ${borrower.number} of key ${key} hears that it is closed`)
        }
        source.trace(key, `borrower ${borrower.number} ends: ${how}`)
      })))
    if (fate.interrupted !== undefined) {
      if (fate.interrupted === 0) borrower.fiber.interruptUnsafe()
      else ticks.after(fate.interrupted, () => borrower.fiber!.interruptUnsafe())
    }
  }

  private tell(reason: { readonly _tag: string }): string {
    const error =
      (reason as { readonly error?: { readonly _tag: string; readonly reason?: { readonly _tag: string } } }).error
    return [reason._tag, error?._tag, error?.reason?._tag].filter((part) => part !== undefined).join(" ")
  }

  private has(borrower: Borrower, thing: Thing, alone: boolean, fate: Fate): Effect.Effect<void, unknown> {
    const { source, ticks, world } = this
    return Effect.uninterruptibleMask((restore) => {
      const lent = this.lent(borrower, thing, alone)
      const holds = Effect.callback<unknown, unknown>((resume) => {
        borrower.end = (exit) => resume(exit)
        if (fate.holds !== undefined) ticks.after(fate.holds, () => borrower.end?.(exits[fate.exit]))
      })
      return Effect.onExit(restore(holds), (exit) =>
        Effect.sync(() => {
          borrower.end = undefined
          thing.holders--
          if (lent) thing.alone--
          thing.uses++
          thing.idleSince = this.endedAt[borrower.key] = this.usedAt[borrower.key] = world.now
          const { failed, uses } = this.plans[borrower.key]!
          if (uses > 0 && thing.uses >= uses) thing.banned ??= `used ${thing.uses} times`
          // An interruption is no failure.
          const died = Exit.isFailure(exit) && exit.cause.reasons.some(({ _tag }) => _tag !== "Interrupt")
          if (failed && died) thing.banned ??= "failed"
          source.trace(borrower.key, `borrower ${borrower.number} lets go`)
        })) as Effect.Effect<void, unknown>
    })
  }

  /** Tells whether nobody else may have it meanwhile. */
  private lent(borrower: Borrower, thing: Thing, alone: boolean): boolean {
    const { source, world } = this
    const { key, number } = borrower
    const { concurrency } = this.plans[key]!
    const lonely = alone && concurrency > 1
    borrower.thing = thing
    borrower.served = true
    this.served++
    source.trace(key, `borrower ${number} has item`)
    const what = `item ${thing.number} of key ${thing.key} to borrower ${number} of key ${key}`
    if (thing.key !== key) world.fail("another key's item", what)
    if (thing.holders >= concurrency || thing.alone > 0 || (lonely && thing.holders > 0)) {
      world.fail("two holders", what)
    }
    if (thing.state !== "open" || !thing.delivered) world.fail("lent dead", `${what}, which is ${thing.state}`)
    // Those who share may have been handed it before the last of its uses was over.
    if (thing.banned !== undefined && (concurrency === 1 || thing.holders === 0 && thing.idleSince < world.now)) {
      world.fail("lent spoiled", `${what}: ${thing.banned}`)
    }
    if (thing.busy) world.fail("lent unreset", what)
    if (source.shutAt < Infinity && this.strict) world.fail("lent after close", what)
    thing.holders++
    if (lonely) thing.alone++
    return lonely
  }
}
