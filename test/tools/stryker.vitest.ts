/** How the unit tests run under mutation: in Stryker's copy of the project, whose folder is the working directory. */
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** The quick files first: most mutants end at the first test that fails. */
class QuickFirst extends BaseSequencer {
  /** As the run without a mutant had them; later runs stop early or see only some of their tests. */
  private readonly durations = new Map<string, number>()

  override sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    for (const file of files) {
      const duration = this.ctx.cache.getTestSpecificationResult(file)?.duration
      if (duration !== undefined && !this.durations.has(file.moduleId)) this.durations.set(file.moduleId, duration)
    }
    const duration = (file: TestSpecification) => this.durations.get(file.moduleId) ?? 0
    return Promise.resolve(files.toSorted((a, b) => duration(a) - duration(b)))
  }
}

export default defineConfig({
  root: process.cwd(),
  cacheDir: ".tmp/vite",
  ssr: { resolve: { conditions: ["effect-queuepool:source", "module", "node", "development|production"] } },
  test: {
    setupFiles: "test/tools/stryker.setup.ts",
    // A test that fails, or waits for ever on its test clock, mostly leaves a scope that cannot be closed: then both
    // times pass. Slow tests need some of it, beside other work.
    testTimeout: 6_000,
    hookTimeout: 4_000,
    silent: true,
    reporters: [],
    include: ["test/**/*.test.ts"],
    exclude: [
      // These need PostgreSQL.
      "test/**/*Pg*.test.ts",
      "test/examples.test.ts",
      "test/docs.test.ts",
      // These look for what is left in memory, for what many thousands cost or for what is fair on average: they
      // take a third of the time of all tests, for each mutant anew.
      "test/leaks.test.ts",
      "test/manyPools.test.ts",
      "test/scheduling.test.ts",
      "test/balance.random.test.ts",
      "test/QueuePoolMap.simulation.test.ts",
      "test/cost.test.ts",
      // These are about other tools.
      "test/bench*.test.ts",
      "test/scoreboard.test.ts"
    ],
    // A run has one fresh worker, in which the files share what they import: else importing takes most of the time.
    isolate: false,
    sequence: { sequencer: QuickFirst }
  }
})
