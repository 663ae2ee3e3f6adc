/** `npm run example NAME`: runs examples/NAME.ts on the sources of the package. */
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

const folder = Path.resolve(import.meta.dirname, "../../examples")
const names = Fs.globSync("*.ts", { cwd: folder }).map((file) => Path.basename(file, ".ts")).toSorted()
const [name, ...args] = process.argv.slice(2)

if (name === undefined || !names.includes(name)) {
  console.error(`${name === undefined ? "Which example?" : `No example "${name}".`} npm run example NAME, with one of:`)
  for (const each of names) console.error(`  ${each}`)
  process.exitCode = 1
} else {
  const child = spawn(
    process.execPath,
    ["--conditions=effect-queuepool:source", Path.join(folder, `${name}.ts`), ...args],
    { stdio: "inherit" }
  )
  // The terminal sends it to the example as well, which ends by itself.
  process.on("SIGINT", () => {})
  child.on("close", (code) => process.exitCode = code ?? 1)
}
