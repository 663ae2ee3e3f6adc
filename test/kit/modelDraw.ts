/** Draws the plan and the commands of a run from its seed. */
import type { Command, Hook, Mode, Plan, Rule, Turnout } from "./modelPlan.ts"
import { Rng } from "./random.ts"

export const drawTurnout = (rng: Rng): Turnout =>
  rng.weighted<Turnout>([
    [5, "ok"],
    [4, "fail"],
    [1, "die"],
    [1, "hang"],
    [1, "stuck"],
    [1, "half"],
    [3, { slow: rng.pick([1, 5, 10, 19]) }],
    [2, { late: rng.pick([5, 15, 25, 40]) }]
  ])

const rules: ReadonlyArray<Rule> = [
  "idle",
  "age",
  "jitter",
  "uses",
  "failed",
  "lost",
  "lostOlder",
  "interrupted",
  "when",
  "throws",
  "check",
  "recurs",
  "after",
  "both"
]

const hooks: ReadonlyArray<Hook> = ["onAcquire", "onBorrow", "onReturn", "onRelease"]

export const drawPlan = (seed: number): Plan => {
  const rng = new Rng(seed)
  const max = 1 + rng.int(4)
  const min = rng.chance(0.5) ? 0 : Math.min(max, rng.int(4))
  const minIdle = rng.chance(0.8) ? 0 : Math.min(max, 1 + rng.int(2))
  const warm = rng.weighted([[7, "background"], [2, "lazy"], [2, "eager"]] as const)
  return {
    seed,
    tasks: rng.weighted([[3, "fifo"], [3, "fibers"], [3, "any"]] as const),
    maxOps: rng.weighted([[4, 2048], [1, 3 + rng.int(4)], [1, 3 + rng.int(62)]]),
    order: rng.pick(["lifo", "fifo", "hybrid"]),
    min,
    max,
    minIdle,
    maxIdle: rng.chance(0.8) ? Infinity : Math.max(min, minIdle) + rng.int(2),
    concurrency: rng.weighted([[4, 1], [3, 2], [2, 3]]),
    targetUtilization: rng.weighted([[4, 1], [1, 0.5]]),
    warm,
    openConcurrency: 1 + rng.int(3),
    borrowTimeout: rng.weighted([[1, 0], [2, 5], [3, 30], [4, Infinity]]),
    maxWaiters: rng.weighted([[5, Infinity], [1, rng.int(3)]]),
    check: rng.chance(0.35),
    checkAfter: rng.pick([0, 5, 20]),
    reset: rng.chance(0.3),
    retry: rng.weighted([[5, "none"], [2, "finite"], [1, "now"], [2, "spaced"], [1, "exponential"]] as const),
    rules: rng.chance(0.4) ? [] : Array.from({ length: 1 + rng.int(3) }, () => rng.pick(rules)),
    sweep: rng.chance(0.2) ? rng.pick([10, 30]) : undefined,
    drainTimeout: rng.pick([0, 25]),
    replaceTimeout: rng.weighted([[3, 0], [1, 12]]),
    whenSuspended: rng.pick(["wait", "fail"]),
    maxLease: rng.weighted([[5, Infinity], [1, 30]]),
    monitor: rng.chance(0.2),
    hooks: rng.chance(0.7) ? [] : hooks.filter(() => rng.chance(0.4)),
    listens: seed % 4 !== 0,
    sharing: seed % 3 === 0 ? "pack" : "spread",
    equal: rng.chance(0.15),
    opens: rng.chance(warm === "eager" ? 0.6 : 0.2)
      ? Array.from({ length: 1 + rng.int(3) }, () => drawTurnout(rng))
      : []
  }
}

const drawCommand = (rng: Rng, plan: Plan): Command => {
  // What the plan has no use for is not drawn.
  const when = (use: boolean, weight: number): number => use ? weight : 0
  const hook = (name: Hook): number => when(plan.hooks.includes(name), 3)
  const what = rng.weighted(
    [
      [30, "get"],
      [8, "interrupt"],
      [22, "release"],
      [5, "invalidate"],
      [2, "clear"],
      [2, "detach"],
      [2, "clearWith"],
      [2, "suspend"],
      [3, "resume"],
      [4, "resize"],
      [2, "sweep"],
      [when(plan.monitor, 4), "kill"],
      [2, "swap"],
      [1, "unswap"],
      [16, "advance"],
      [2, "stall"],
      [1, "wall"],
      [8, "opens"],
      [3, "closes"],
      [when(plan.check || plan.rules.includes("check"), 4), "checks"],
      [when(plan.reset, 3), "resets"],
      [when(plan.monitor, 2), "monitors"],
      [hook("onAcquire"), "onAcquire"],
      [hook("onBorrow"), "onBorrow"],
      [hook("onReturn"), "onReturn"],
      [hook("onRelease"), "onRelease"],
      [1, "close"]
    ] as const
  )
  switch (what) {
    case "get": {
      const kind = rng.weighted([[5, "use"], [3, "scoped"], [2, "scope"], [2, "sync"], [1, "masked"]] as const)
      const mode = rng.weighted<Mode | undefined>([[12, undefined], [4, "alone"], [1, "available"], [2, 2], [1, 3]])
      return mode === undefined ? { do: what, kind } : { do: what, kind, mode }
    }
    case "interrupt":
    case "detach":
      return { do: what, of: rng.int(8) }
    case "release":
      return {
        do: what,
        of: rng.int(8),
        end: rng.weighted([[6, "ok"], [2, "fail"], [1, "lost"], [1, "die"], [2, "interrupt"]] as const)
      }
    case "invalidate":
      return { do: what, what: rng.pick(["lent", "idle", "foreign"]), of: rng.int(8) }
    case "clearWith":
      return { do: what, idle: rng.chance(0.5), over: rng.pick([0, 10, 30]) }
    case "kill":
      return { do: what, of: rng.int(8), go: rng.pick(["ok", "fail"]) }
    case "swap":
      return { do: what, go: drawTurnout(rng), over: rng.pick([0, 10, 30]) }
    case "resize": {
      const max = 1 + rng.int(4)
      return { do: what, min: rng.int(max + 1), max }
    }
    case "advance":
      return { do: what, millis: rng.pick([1, 4, 5, 6, 10, 15, 20, 25, 40, 100, 300]) }
    case "stall":
      return { do: what, millis: rng.pick([1, 5, 30, 200]) }
    case "wall":
      return { do: what, millis: rng.pick([-3_600_000, 3_600_000]) }
    case "opens":
    case "closes":
    case "checks":
    case "resets":
    case "monitors":
    case "onAcquire":
    case "onBorrow":
    case "onReturn":
    case "onRelease":
      return { do: what, go: drawTurnout(rng), always: rng.chance(0.3) }
    default:
      return { do: what }
  }
}

export const drawCommands = (plan: Plan, length: number): ReadonlyArray<Command> => {
  const rng = new Rng(plan.seed ^ 0x5bd1e995)
  return Array.from({ length }, () => {
    const command = drawCommand(rng, plan)
    return rng.chance(0.3) ? { ...command, turns: rng.int(4) } : command
  })
}
