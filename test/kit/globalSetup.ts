/**
 * Starts one PostgreSQL for all test files of a vitest run. Tests reach it with
 * `EmbeddedPg.layerVitest`, and each makes its own database.
 */
import { Cause, Exit, ManagedRuntime } from "effect"
import type { TestProject } from "vitest/node"
import { EmbeddedPg } from "./EmbeddedPg.ts"

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const runtime = ManagedRuntime.make(EmbeddedPg.layerFromEnvironment({ maxConnections: 400 }))
  const exit = await runtime.runPromiseExit(EmbeddedPg)
  // A machine without PostgreSQL still runs all other tests.
  project.provide(
    "postgres",
    Exit.isSuccess(exit)
      ? { url: exit.value.url, embedded: exit.value.embedded }
      : { problem: Cause.pretty(exit.cause) }
  )
  return () => runtime.dispose()
}
