/** What a run over several pools and their budgets does, drawn from a seed; and the shortest run that still fails. */
import { Rng } from "./random.ts"
import type { TaskOrder } from "./world.ts"

/** How an open or a close goes. */
export type Go = "ok" | "fail" | "hang" | "stuck" | { readonly slow: number } | { readonly late: number }

export interface PoolPlan {
  /** By their numbers; with none it has no limit but its own. */
  readonly budgets: ReadonlyArray<number>
  readonly min: number
  readonly max: number
  readonly minIdle: number
  readonly concurrency: number
  readonly targetUtilization: number
  readonly openConcurrency: number
  readonly borrowTimeout: number
  readonly maxWaiters: number
  readonly replaceTimeout: number
  readonly uses: number
  readonly reset: boolean
  readonly retry: boolean
  readonly lazy: boolean
}

export interface CapacityPlan {
  readonly seed: number
  readonly tasks: TaskOrder
  readonly maxOps: number
  readonly budgets: ReadonlyArray<{ readonly permits: number; readonly fairness: "share" | "arrival" }>
  readonly pools: ReadonlyArray<PoolPlan>
}

export type Command =
  & ({ readonly pool: number })
  & (
    | { readonly do: "get"; readonly kind: "shared" | "alone" | "available" | "two" }
    | { readonly do: "work"; readonly holds: number }
    | { readonly do: "end"; readonly of: number; readonly exit: "ok" | "fail" | "die" }
    | { readonly do: "interrupt" | "detach" | "invalidate" | "keep"; readonly of: number }
    | { readonly do: "clear" | "suspend" | "resume" | "close" | "sweep" | "unswap" }
    | { readonly do: "opens" | "closes"; readonly go: Go; readonly always: boolean }
    | { readonly do: "swap"; readonly go: Go }
    | { readonly do: "resize"; readonly min: number; readonly max: number }
    | { readonly do: "permits"; readonly budget: number; readonly permits: number }
    | { readonly do: "advance"; readonly millis: number }
  )
  & { readonly turns?: number }

export const drawCapacityPlan = (seed: number): CapacityPlan => {
  const rng = new Rng(seed)
  const count = 1 + rng.int(2)
  const budgets = Array.from({ length: count }, () => ({
    permits: 1 + rng.int(5),
    fairness: rng.pick(["share", "arrival"])
  }))
  const pools = Array.from({ length: 2 + rng.int(4) }, (): PoolPlan => {
    const max = 1 + rng.int(4)
    return {
      budgets: count === 1
        ? rng.weighted<ReadonlyArray<number>>([[9, [0]], [1, []]])
        : rng.weighted<ReadonlyArray<number>>([[3, [0]], [3, [1]], [2, [0, 1]], [2, [1, 0]]]),
      max,
      min: rng.chance(0.6) ? 0 : rng.int(max + 1),
      minIdle: rng.chance(0.9) ? 0 : 1,
      concurrency: rng.chance(0.75) ? 1 : 2,
      targetUtilization: rng.chance(0.9) ? 1 : 0.5,
      openConcurrency: 1 + rng.int(4),
      borrowTimeout: rng.weighted([[1, 0], [3, 30], [4, 300]]),
      maxWaiters: rng.weighted([[6, Infinity], [1, rng.int(3)]]),
      replaceTimeout: rng.chance(0.85) ? 0 : 12,
      uses: rng.chance(0.8) ? 0 : 1 + rng.int(3),
      reset: rng.chance(0.2),
      retry: rng.chance(0.15),
      lazy: rng.chance(0.2)
    }
  })
  return {
    seed,
    tasks: rng.weighted([[3, "fifo"], [3, "fibers"], [3, "any"]] as const),
    maxOps: rng.weighted([[4, 2048], [1, 3 + rng.int(62)]]),
    budgets,
    pools
  }
}

const outcome = (rng: Rng): Go =>
  rng.weighted<Go>([
    [5, "ok"],
    [4, "fail"],
    [2, "hang"],
    [1, "stuck"],
    [4, { slow: rng.pick([1, 5, 10, 19]) }],
    [2, { late: rng.pick([5, 15, 25, 40]) }]
  ])

const drawCommand = (rng: Rng, { budgets, pools }: CapacityPlan): Command => {
  const pool = rng.int(pools.length)
  const what = rng.weighted(
    [
      [34, "get"],
      [4, "work"],
      [22, "end"],
      [8, "interrupt"],
      [2, "detach"],
      [1, "keep"],
      [4, "invalidate"],
      [3, "clear"],
      [1, "sweep"],
      [3, "suspend"],
      [4, "resume"],
      [3, "resize"],
      [5, "permits"],
      [2, "swap"],
      [1, "unswap"],
      [7, "opens"],
      [5, "closes"],
      [16, "advance"],
      [1, "close"]
    ] as const
  )
  switch (what) {
    case "get":
      return {
        do: what,
        pool,
        kind: rng.weighted([[12, "shared"], [3, "alone"], [1, "available"], [2, "two"]] as const)
      }
    case "work":
      return { do: what, pool, holds: rng.pick([0, 1, 7]) }
    case "end":
      return { do: what, pool, of: rng.int(8), exit: rng.weighted([[6, "ok"], [2, "fail"], [1, "die"]] as const) }
    case "interrupt":
    case "detach":
    case "keep":
    case "invalidate":
      return { do: what, pool, of: rng.int(8) }
    case "opens":
    case "closes":
      return { do: what, pool, go: outcome(rng), always: rng.chance(0.3) }
    case "swap":
      return { do: what, pool, go: outcome(rng) }
    case "resize": {
      const max = 1 + rng.int(4)
      return { do: what, pool, max, min: rng.int(max + 1) }
    }
    case "permits":
      return { do: what, pool, budget: rng.int(budgets.length), permits: 1 + rng.int(5) }
    case "advance":
      return { do: what, pool, millis: rng.pick([1, 4, 6, 10, 20, 25, 40, 100, 300, 1100]) }
    default:
      return { do: what, pool }
  }
}

export const drawCapacityCommands = (plan: CapacityPlan, length: number): ReadonlyArray<Command> => {
  const rng = new Rng(plan.seed ^ 0x5bd1e995)
  return Array.from({ length }, () => {
    const command = drawCommand(rng, plan)
    return rng.chance(0.3) ? { ...command, turns: rng.int(4) } : command
  })
}

/** Takes away commands, the most at once first, as long as the rest `fails`. */
export const shorten = (
  commands: ReadonlyArray<Command>,
  fails: (fewer: ReadonlyArray<Command>) => boolean
): ReadonlyArray<Command> => {
  let best = commands
  const keep = (fewer: ReadonlyArray<Command>): boolean => {
    if (!fails(fewer)) return false
    best = fewer
    return true
  }
  for (let again = true; again;) {
    again = false
    for (let size = Math.max(1, best.length >> 1); size >= 1; size >>= 1) {
      for (let at = 0; at < best.length;) {
        if (keep(best.toSpliced(at, size))) again = true
        else at += size
      }
    }
    for (const [at, { turns, ...settled }] of best.entries()) {
      if (turns !== undefined && keep(best.with(at, settled))) again = true
    }
  }
  return best
}

export const showCapacity = (plan: CapacityPlan, commands: ReadonlyArray<Command>): string => {
  const text = (value: unknown) => JSON.stringify(value, (_, each: unknown) => each === Infinity ? "Infinity" : each)
  return [
    `${plan.tasks}, ${plan.maxOps}`,
    ...plan.budgets.map((budget, i) => `budget ${i}: ${text(budget)}`),
    ...plan.pools.map((pool, i) => `pool ${i}: ${text(pool)}`),
    ...commands.map((command) => `  ${text(command)}`)
  ].join("\n")
}
