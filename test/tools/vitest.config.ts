import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** These need PostgreSQL; everything else under test/ is a unit test and needs nothing. */
const postgres = ["test/**/*Pg*.test.ts", "test/examples.test.ts", "test/docs.test.ts"]

export default defineConfig({
  root,
  // The package's own name means its sources, so nothing has to be built first.
  ssr: { resolve: { conditions: ["effect-queuepool:source", "module", "node", "development|production"] } },
  test: {
    allowOnly: false,
    silent: "passed-only",
    // Only what hangs is to be ended by it, on the slowest machine too.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The first tells of what failed, and of nothing else; the runner of the steps counts the tests by the second.
    reporters: ["minimal", ["json", { outputFile: ".tmp/tests.json" }]],
    projects: [
      {
        extends: true,
        test: { name: "unit", include: ["test/**/*.test.ts"], exclude: postgres }
      },
      {
        extends: true,
        test: {
          name: "postgres",
          include: postgres,
          // Starts one PostgreSQL for the whole run and provides its address.
          globalSetup: "test/kit/globalSetup.ts"
        }
      }
    ],
    coverage: {
      provider: "v8",
      include: ["src/**/*.ts"],
      reportsDirectory: ".tmp/coverage",
      reporter: [["text", { skipFull: true }], "html"],
      // A part that no test can reach says so where it stands: `/* v8 ignore next -- why */`.
      thresholds: { statements: 100, branches: 100, functions: 100, lines: 100 }
    }
  }
})
