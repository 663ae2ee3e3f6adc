import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { promisify } from "node:util"

const root = new URL("..", import.meta.url)

interface Ended {
  readonly code: number
  readonly output: string
}

/** As `npm run chaos` runs it: what is left, and what nobody has caught, is a process's own. */
const chaos = async (signal: AbortSignal, ...args: ReadonlyArray<string>): Promise<Ended> => {
  const command = ["--conditions=effect-queuepool:source", "test/chaos/chaos.ts", ...args]
  try {
    const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: root, signal })
    return { code: 0, output: stdout }
  } catch (error) {
    const { code, stderr, stdout } = error as { code: number; stderr: string; stdout: string }
    return { code, output: stdout + stderr }
  }
}

describe("chaos on a real PostgreSQL", () => {
  // Another seed each time; CHAOS_SEED repeats one.
  it("50 seconds of faults: all holds, and nothing is left", { timeout: 240_000 }, async ({ signal }) => {
    const { code, output } = await chaos(signal, "--seconds", "50")
    console.log(output)
    assert.strictEqual(code, 0, output)
  })

  it("what is no option is an error, and each of them is named", async ({ signal }) => {
    const args = ["--minutes", "0", "--seed", "x", "--fast", "--seconds", "1", "--seconds", "2", "--minutes"]
    const { code, output } = await chaos(signal, ...args)
    assert.strictEqual(code, 1)
    for (
      const wrong of [
        "--minutes needs a number, and has 0",
        "--seed needs a number, and has x",
        "--fast is not an option",
        "--seconds is given twice",
        "--minutes needs a number, and has nothing"
      ]
    ) assert.include(output, wrong)
  })
})
