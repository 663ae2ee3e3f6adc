/**
 * Chaos on a real PostgreSQL, which this program starts and stops: 50 fibers do mixed
 * work over a pool while its sessions are killed and stopped, the network fails, the
 * server restarts and its limits change. All of it comes from one seed.
 *
 * npm run chaos [-- --minutes 10 --seed 7]
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { parse } from "./args.ts"
import { run } from "./run.ts"

const main = parse(process.argv.slice(2), process.env["CHAOS_SEED"]).pipe(
  Effect.flatMap(run),
  Effect.catch((wrong) => Effect.as(Console.error(wrong.message), false)),
  Effect.tap((held) =>
    Effect.sync(() => {
      if (!held) process.exitCode = 1
    })
  )
)

NodeRuntime.runMain(main)
