/** The smallest run over the keys of a map that still fails, and how it is told. */
import type { Command, KeyedPlan, KeyPlan } from "./keyedModelPlan.ts"

interface Case {
  readonly plan: KeyedPlan
  readonly commands: ReadonlyArray<Command>
}

const plainest: Partial<KeyedPlan> = {
  tasks: "fifo",
  maxOps: 2048,
  lazy: false,
  outer: 0,
  listens: false,
  deep: false,
  fairness: "share"
}

const plainKey: KeyPlan = {
  min: 0,
  max: 1,
  order: "lifo",
  concurrency: 1,
  openConcurrency: 1,
  borrowTimeout: 300,
  closeTimeout: 20,
  idle: 0,
  uses: 0,
  failed: false,
  pressed: false,
  reset: false,
  retry: false
}

const simplerPlans = function*(plan: KeyedPlan): Iterable<KeyedPlan> {
  for (const [option, value] of Object.entries(plainest)) {
    if (plan[option as keyof KeyedPlan] !== value) yield { ...plan, [option]: value }
  }
  for (const [key, special] of plan.keys.entries()) {
    if (special !== undefined) yield { ...plan, keys: plan.keys.with(key, undefined) }
    if (plan.times[key] !== Infinity) yield { ...plan, times: plan.times.with(key, Infinity) }
  }
  for (const [option, value] of Object.entries(plainKey)) {
    if (plan.common[option as keyof KeyPlan] !== value) yield { ...plan, common: { ...plan.common, [option]: value } }
    for (const [key, special] of plan.keys.entries()) {
      if (special === undefined || special[option as keyof KeyPlan] === value) continue
      yield { ...plan, keys: plan.keys.with(key, { ...special, [option]: value }) }
    }
  }
}

const valid = ({ common, keys }: KeyedPlan): boolean =>
  [common, ...keys].every((each) => each === undefined || each.min <= each.max)

const simplerCommands = function*(command: Command): Iterable<Command> {
  const { turns, ...settled } = command
  if (turns !== undefined) yield settled
  if (command.do === "get") {
    if (command.kind !== "use") yield { ...command, kind: "use" }
    if (Object.keys(command.fate).length > 1 || command.fate.exit !== "ok") yield { ...command, fate: { exit: "ok" } }
  }
  if (command.do === "advance" && command.millis > 1) yield { ...command, millis: 1 }
}

/** `fails` runs a case; it is asked a few hundred times. */
export const shrinkKeyed = (first: Case, fails: (one: Case) => boolean): Case => {
  let best = first
  const keep = (one: Case): boolean => {
    if (!fails(one)) return false
    best = one
    return true
  }
  for (let again = true; again;) {
    again = false
    for (let size = Math.max(1, best.commands.length >> 1); size >= 1; size >>= 1) {
      for (let at = 0; at < best.commands.length;) {
        if (keep({ ...best, commands: best.commands.toSpliced(at, size) })) again = true
        else at += size
      }
    }
    for (let at = 0; at < best.commands.length; at++) {
      for (const simpler of simplerCommands(best.commands[at]!)) {
        if (keep({ ...best, commands: best.commands.with(at, simpler) })) again = true
      }
    }
    for (const plan of simplerPlans(best.plan)) {
      // Each is made of the plan as it was: one step at a time.
      if (valid(plan) && keep({ ...best, plan })) {
        again = true
        break
      }
    }
  }
  return best
}

export const showKeyed = ({ commands, plan }: Case): string => {
  const text = (value: unknown) => JSON.stringify(value, (_, each: unknown) => each === Infinity ? "Infinity" : each)
  const { common, keys, times, ...rest } = plan
  return [
    text(rest),
    `all keys: ${text(common)}`,
    ...keys.map((key, i) => `key ${i}, unused for ${times[i]}: ${key === undefined ? "as all" : text(key)}`),
    ...commands.map((command) => `  ${text(command)}`)
  ].join("\n")
}
