/** What a run over the keys of one map does, drawn from a seed. */
import { Rng } from "./random.ts"
import type { TaskOrder } from "./world.ts"

/** How an open or a close goes. `half`: it fails with something left to close. */
export type Go = "ok" | "fail" | "die" | "half" | "hang" | "stuck" | { readonly slow: number } | {
  readonly late: number
}

/** What the pool of a key is told. No time limit can end in the same millisecond as an open or a close. */
export interface KeyPlan {
  readonly min: number
  readonly max: number
  readonly order: "lifo" | "fifo"
  readonly concurrency: number
  readonly openConcurrency: number
  readonly borrowTimeout: number
  readonly closeTimeout: number
  /** The limit of the idle rule; 0: none. */
  readonly idle: number
  /** The limit of the rule of uses; 0: none. */
  readonly uses: number
  readonly failed: boolean
  /** One use is enough when others are short. */
  readonly pressed: boolean
  readonly reset: boolean
  readonly retry: boolean
}

export interface KeyedPlan {
  readonly seed: number
  readonly tasks: TaskOrder
  readonly maxOps: number
  readonly common: KeyPlan
  /** What is said of each key alone. */
  readonly keys: ReadonlyArray<KeyPlan | undefined>
  readonly times: ReadonlyArray<number>
  readonly maxTotal: number
  readonly fairness: "share" | "arrival"
  readonly lazy: boolean
  /** A budget that the map shares with others; 0: none. */
  readonly outer: number
  /** Somebody hears the events. */
  readonly listens: boolean
  /** Keys are compared by what is in them. */
  readonly deep: boolean
}

/** All keys. */
export const all = -1

export type End = "ok" | "fail" | "die"

export interface Fate {
  readonly exit: End
  /** It has the item for so long; undefined: until it is told. */
  readonly holds?: number
  /** It is interrupted so long after it has asked. */
  readonly interrupted?: number
}

export type Kind = "use" | "get" | "useAlone" | "getAlone" | "useNow" | "getNow" | "pool"

export type Command =
  & { readonly key: number }
  & (
    | { readonly do: "get"; readonly kind: Kind; readonly fate: Fate }
    | { readonly do: "end"; readonly of: number; readonly exit: End }
    | { readonly do: "interrupt"; readonly of: number }
    | { readonly do: "pin" | "unpin" | "clear" | "sweep" | "suspend" | "resume" | "close" }
    | { readonly do: "invalidate"; readonly of: number; readonly foreign: boolean }
    | { readonly do: "clearWith"; readonly idle: boolean; readonly over: number }
    | { readonly do: "total"; readonly maxTotal: number }
    | { readonly do: "resize"; readonly min: number; readonly max: number }
    | { readonly do: "opens" | "closes"; readonly go: Go; readonly always: boolean }
    | { readonly do: "advance"; readonly millis: number }
  )
  & { readonly turns?: number }

const drawKey = (rng: Rng): KeyPlan => {
  const max = 1 + rng.int(4)
  return {
    max,
    min: rng.chance(0.7) ? 0 : rng.int(max + 1),
    order: rng.pick(["lifo", "fifo"]),
    concurrency: rng.chance(0.8) ? 1 : 2,
    openConcurrency: 1 + rng.int(4),
    borrowTimeout: rng.weighted([[1, 0], [3, 30], [2, 300], [1, 1700], [1, Infinity]]),
    closeTimeout: rng.chance(0.8) ? 20 : 1500,
    idle: rng.chance(0.7) ? 0 : rng.pick([8, 45]),
    uses: rng.chance(0.75) ? 0 : 1 + rng.int(3),
    failed: rng.chance(0.6),
    pressed: rng.chance(0.15),
    reset: rng.chance(0.15),
    retry: rng.chance(0.1)
  }
}

export const drawKeyedPlan = (seed: number): KeyedPlan => {
  const rng = new Rng(seed)
  const count = 2 + rng.int(4)
  const common = drawKey(rng)
  return {
    seed,
    tasks: rng.weighted([[3, "fifo"], [3, "fibers"], [3, "any"]] as const),
    maxOps: rng.weighted([[5, 2048], [1, 3 + rng.int(62)]]),
    common,
    keys: Array.from({ length: count }, () => rng.chance(0.6) ? undefined : drawKey(rng)),
    times: Array.from({ length: count }, () => rng.weighted([[2, 12], [3, 60], [2, 400], [1, Infinity]])),
    maxTotal: Math.max(common.min, 1 + rng.int(6)),
    fairness: rng.pick(["share", "arrival"]),
    lazy: rng.chance(0.25),
    outer: rng.chance(0.85) ? 0 : 1 + rng.int(4),
    listens: rng.chance(0.3),
    deep: rng.chance(0.2)
  }
}

/** A plan whose total never binds, and whose keys have nothing in common but the map; nothing in it is left to chance. */
export const drawSteadyPlan = (seed: number): KeyedPlan => {
  const plan = drawKeyedPlan(seed)
  return {
    ...plan,
    tasks: "fifo",
    maxTotal: Math.max(plan.common.min, plan.keys.reduce((sum, key) => sum + (key ?? plan.common).max, 0)),
    outer: 0
  }
}

const outcome = (rng: Rng): Go =>
  rng.weighted<Go>([
    [5, "ok"],
    [3, "fail"],
    [1, "die"],
    [2, "half"],
    [2, "hang"],
    [1, "stuck"],
    [4, { slow: rng.pick([1, 5, 10, 19]) }],
    [2, { late: rng.pick([5, 15, 25, 33, 50]) }]
  ])

const ends = [[6, "ok"], [2, "fail"], [1, "die"]] as const

const drawFate = (rng: Rng): Fate => ({
  exit: rng.weighted(ends),
  ...(rng.chance(0.3) ? { holds: rng.pick([0, 1, 3, 7, 30]) } : {}),
  ...(rng.chance(0.12) ? { interrupted: rng.int(4) } : {})
})

/** What would make the total bind. */
const binding = new Set(["total", "resize"])

const drawCommand = (rng: Rng, keys: number, steady: boolean): Command => {
  const what = rng.weighted(
    [
      [40, "get"],
      [22, "end"],
      [5, "interrupt"],
      [3, "pin"],
      [3, "unpin"],
      [4, "invalidate"],
      [3, "clear"],
      [2, "clearWith"],
      [2, "sweep"],
      [2, "suspend"],
      [3, "resume"],
      [4, "total"],
      [2, "resize"],
      [8, "opens"],
      [6, "closes"],
      [18, "advance"],
      [0.7, "close"]
    ] as const
  )
  // Some keys are asked for more than others.
  const key = Math.min(rng.int(keys), rng.int(keys + 1))
  const some = rng.chance(0.35) ? all : key
  if (steady && binding.has(what)) return { do: "advance", key, millis: 7 }
  switch (what) {
    case "get": {
      const kind = rng.weighted(
        [[9, "use"], [4, "get"], [2, "useAlone"], [1, "getAlone"], [1, "useNow"], [1, "getNow"], [2, "pool"]] as const
      )
      return { do: what, key, kind, fate: drawFate(rng) }
    }
    case "end":
      return { do: what, key, of: rng.int(4), exit: rng.weighted(ends) }
    case "interrupt":
      return { do: what, key, of: rng.int(4) }
    case "invalidate":
      return { do: what, key, of: rng.int(4), foreign: rng.chance(0.25) }
    case "clear":
    case "sweep":
      return { do: what, key: some }
    case "clearWith":
      return { do: what, key: some, idle: rng.chance(0.4), over: rng.pick([0, 6, 30]) }
    case "total":
      return { do: what, key, maxTotal: 1 + rng.int(6) }
    case "resize": {
      const max = 1 + rng.int(4)
      return { do: what, key, max, min: rng.int(max + 1) }
    }
    case "opens":
    case "closes":
      return { do: what, key, go: outcome(rng), always: rng.chance(0.3) }
    case "advance":
      return { do: what, key, millis: rng.pick([1, 2, 4, 6, 10, 20, 25, 40, 100, 300, 1100]) }
    default:
      return { do: what, key }
  }
}

export const drawKeyedCommands = (plan: KeyedPlan, length: number, steady: boolean): ReadonlyArray<Command> => {
  const rng = new Rng(plan.seed ^ 0x2c1b3c6d)
  return Array.from({ length }, () => {
    const command = drawCommand(rng, plan.keys.length, steady)
    // How many tasks there are is not the affair of one key.
    return !steady && rng.chance(0.25) ? { ...command, turns: rng.int(4) } : command
  })
}
