/** Makes a failing run as small as it gets: fewer commands, then plainer commands, then a plainer pool. */
import type { Command, Plan } from "./modelPlan.ts"

interface Case {
  readonly plan: Plan
  readonly commands: ReadonlyArray<Command>
}

export const plainest: Omit<Plan, "seed"> = {
  tasks: "fifo",
  maxOps: 2048,
  order: "lifo",
  min: 0,
  max: 1,
  minIdle: 0,
  maxIdle: Infinity,
  concurrency: 1,
  sharing: "spread",
  targetUtilization: 1,
  warm: "background",
  openConcurrency: 1,
  borrowTimeout: Infinity,
  maxWaiters: Infinity,
  check: false,
  checkAfter: 0,
  reset: false,
  retry: "none",
  rules: [],
  sweep: undefined,
  drainTimeout: 0,
  replaceTimeout: 0,
  whenSuspended: "wait",
  maxLease: Infinity,
  monitor: false,
  hooks: [],
  listens: true,
  equal: false,
  opens: []
}

const plainer = (command: Command): ReadonlyArray<Command> => {
  const { turns, ...settled } = command
  const out: Array<Command> = []
  if (turns !== undefined) out.push(settled)
  switch (command.do) {
    case "get": {
      if (command.kind !== "use") out.push({ ...settled, kind: "use" } as Command)
      if (command.mode === 3) out.push({ ...command, mode: 2 })
      if (command.mode !== undefined) out.push({ do: "get", kind: command.kind })
      break
    }
    case "release":
      if (command.end !== "ok") out.push({ ...command, end: "ok" })
      if (command.of > 0) out.push({ ...command, of: 0 })
      break
    case "kill":
    case "detach":
    case "interrupt":
      if (command.of > 0) out.push({ ...command, of: 0 })
      break
    case "clearWith":
      if (command.over > 0) out.push({ ...command, over: 0 })
      if (command.idle) out.push({ ...command, idle: false })
      break
    case "swap":
      if (command.over > 0) out.push({ ...command, over: 0 })
      if (command.go !== "ok") out.push({ ...command, go: "ok" })
      break
    case "resize":
      if (command.min > 0) out.push({ ...command, min: 0 })
      break
    case "advance":
      if (command.millis > 1) out.push({ ...command, millis: 1 })
      break
    default:
  }
  return out
}

/** `fails` runs a case; it is asked a few hundred times. */
export const shrink = (first: Case, fails: (one: Case) => boolean): Case => {
  let best = first
  const keep = (one: Case): boolean => {
    if (!fails(one)) return false
    best = one
    return true
  }
  const removeSome = (): boolean => {
    let shorter = false
    for (let size = Math.max(1, best.commands.length >> 1); size >= 1; size >>= 1) {
      for (let at = 0; at < best.commands.length;) {
        if (keep({ ...best, commands: best.commands.toSpliced(at, size) })) shorter = true
        else at += size
      }
    }
    return shorter
  }
  const simplify = (): boolean => {
    let simpler = false
    for (let at = 0; at < best.commands.length; at++) {
      for (const command of plainer(best.commands[at]!)) {
        if (keep({ ...best, commands: best.commands.with(at, command) })) simpler = true
      }
    }
    for (const key of Object.keys(plainest) as Array<keyof typeof plainest>) {
      if (best.plan[key] === plainest[key] || Array.isArray(best.plan[key])) continue
      if (keep({ ...best, plan: { ...best.plan, [key]: plainest[key] } })) simpler = true
    }
    for (const key of ["rules", "opens", "hooks"] as const) {
      for (let at = 0; at < best.plan[key].length;) {
        const less: ReadonlyArray<unknown> = best.plan[key].toSpliced(at, 1)
        if (keep({ ...best, plan: { ...best.plan, [key]: less } })) simpler = true
        else at++
      }
    }
    return simpler
  }
  for (let again = true; again;) {
    again = removeSome()
    again = simplify() || again
  }
  return best
}

export const show = ({ commands, plan }: Case): string => {
  const special = Object.entries(plan).filter(([key, value]) =>
    key === "seed" || JSON.stringify(value) !== JSON.stringify(plainest[key as keyof typeof plainest])
  )
  const text = (value: unknown) => value === Infinity ? "Infinity" : JSON.stringify(value)
  return [
    special.map(([key, value]) => `${key}: ${text(value)}`).join(", "),
    ...commands.map(({ turns, ...command }) => {
      const { do: what, ...rest } = command
      const details = Object.values(rest).map(text).join(" ")
      return `  ${what} ${details}${turns === undefined ? "" : `, then ${turns} turns`}`
    })
  ].join("\n")
}
