// Takes the options of a cluster apart: what is the cluster's own, and what each node's pool is told.
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { InvalidOptions, PoolError, type Problem } from "../PoolError.ts"
import { type Choice, leastLoaded } from "./balanceChoice.ts"
import { isChoice } from "./balanceOptions.ts"
import { toMillis } from "./options.ts"
import { type Given, partsOf } from "./pgOptions.ts"
import type { ReadFromPrimary } from "./pgServing.ts"
import { addressOf } from "./pgWire.ts"

export interface NodeGiven extends PgClientConfig {
  readonly name?: string | undefined
}

export interface ClusterGiven<R> extends Omit<Given<R>, "warm"> {
  readonly warm?: "background" | "lazy" | undefined
  readonly nodes: ReadonlyArray<NodeGiven>
  readonly maxTotal?: number | undefined
  readonly choose?: Choice | undefined
  readonly readFromPrimary?: ReadFromPrimary | undefined
  readonly roleInterval?: Duration.Input | undefined
  readonly roleTimeout?: Duration.Input | undefined
}

export interface ClusterParts<R> {
  readonly name: string
  /** What the pool of each is told. */
  readonly nodes: ReadonlyMap<string, Given<R>>
  readonly maxTotal: number
  readonly choose: Choice
  readonly readFromPrimary: ReadFromPrimary
  readonly roleInterval: number
  readonly roleTimeout: number
}

const reading = ["fallback", "always", "never"] as const
const defaultName = "PgCluster"
const defaultChoice: Choice = { name: "leastLoaded", cost: leastLoaded }
const defaultInterval = 2000
const defaultTimeout = 2000

/** Where it is, if nobody has named it. */
const nameOf = ({ name, ...config }: NodeGiven): string => {
  if (name !== undefined) return name
  const { host, path, port } = addressOf(config)
  return path ?? `${host}:${port}`
}

/** The parts, or one error that names every wrong option. */
export const clusterPartsOf = Effect.fnUntraced(function*<R>(
  options: ClusterGiven<R>
): Effect.fn.Return<ClusterParts<R>, PoolError> {
  const {
    choose = defaultChoice,
    maxTotal = Infinity,
    name: given,
    nodes,
    readFromPrimary = "fallback",
    roleInterval,
    roleTimeout,
    ...shared
  } = options
  const name = given ?? defaultName
  const problems: Array<Problem> = []
  const wrong = (option: string, value: unknown, allowed: string) => problems.push({ option, value, allowed })

  const named = new Map<string, Given<R>>()
  if (!Array.isArray(nodes) || nodes.length === 0) wrong("nodes", nodes, "one node or more")
  else {
    for (const node of nodes as ReadonlyArray<NodeGiven>) {
      const key = nameOf(node)
      const { name: _, ...config } = node
      if (named.has(key)) wrong("nodes", key, "each node once, or with a name of its own")
      named.set(key, { ...shared, ...config, name })
    }
  }
  if (!isChoice(choose)) wrong("choose", choose, "roundRobin, leastLoaded, peakEwma, or a Choice")
  if (!reading.some((one) => one === readFromPrimary)) {
    wrong("readFromPrimary", readFromPrimary, reading.map((one) => `"${one}"`).join(", "))
  }
  if (!(maxTotal >= 1 && (Number.isInteger(maxTotal) || maxTotal === Infinity))) {
    wrong("maxTotal", maxTotal, "a whole number from 1, or Infinity")
  }
  // A pool that waits for its sessions would wait for a node that is away.
  const { warm }: { readonly warm?: unknown } = shared
  if (warm === "eager") wrong("warm", warm, "\"lazy\" or \"background\"")
  const above = (option: string, value: Duration.Input | undefined, byDefault: number): number => {
    const millis = value === undefined ? byDefault : toMillis(value) ?? 0
    if (!(millis > 0)) wrong(option, value, "a duration above zero")
    return millis
  }
  const parts = {
    name,
    nodes: named,
    choose,
    maxTotal,
    readFromPrimary,
    roleInterval: above("roleInterval", roleInterval, defaultInterval),
    roleTimeout: above("roleTimeout", roleTimeout, defaultTimeout)
  }
  // The same for all nodes, but for what is the driver's.
  const others = yield* Effect.match(partsOf<R>({ ...shared, name }), {
    onSuccess: () => [],
    onFailure: ({ reason }) => (reason as InvalidOptions).problems
  })
  problems.push(...others)
  if (problems.length > 0) return yield* new PoolError({ pool: name, reason: new InvalidOptions({ problems }) })
  return parts
})
