/**
 * Stryker asks each test file which mutants its tests reached, and adds that up. Since the files share their modules,
 * each would tell of all files before it too: so what is asked begins anew with each file. From these counts Stryker
 * knows a loop without end when it sees one; without this it would wait for minutes.
 */
import { afterAll } from "vitest"

interface Coverage {
  static: object
  perTest: object
}

const shared =
  (globalThis as { __stryker__?: { mutantCoverage?: Coverage | undefined; counting?: Coverage | undefined } })
    .__stryker__!

// The instrumented modules count in this object, from when the first is imported.
if (shared.counting !== undefined) shared.mutantCoverage = shared.counting

// Runs before that of Stryker, which hands over what it finds.
afterAll(() => {
  const counting = shared.counting ??= shared.mutantCoverage
  if (counting === undefined) return
  shared.mutantCoverage = { ...counting }
  counting.static = {}
  counting.perTest = {}
})
