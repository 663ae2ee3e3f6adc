import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import { promisify } from "node:util"
import { it } from "vitest"

const root = new URL("..", import.meta.url)

// As `npm run example` runs them: each alone, in its own process. A non-zero exit code fails, and shows the output.
for (const file of Fs.globSync("examples/*.ts", { cwd: root }).toSorted()) {
  it(file, async () => {
    await promisify(execFile)(process.execPath, ["--conditions=effect-queuepool:source", file], { cwd: root })
  })
}
