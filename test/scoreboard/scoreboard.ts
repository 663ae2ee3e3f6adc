/**
 * The defects that pools have, each as a short program, run on our pool and on its peers; a table of what came out.
 *
 * npm run scoreboard
 * npm run scoreboard -- --only V1,V4 --pool ours,effect
 * npm run scoreboard -- --markdown: the table alone
 *
 * Each program runs in a process of its own, two at a time, on a PostgreSQL started for it where it needs one. Fails when
 * one of our own cells is not green.
 */
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { EmbeddedPg } from "../kit/EmbeddedPg.ts"
import { needsServer } from "./arena.ts"
import { type Options, optionsOf } from "./args.ts"
import type { Contender, Program, Verdict } from "./model.ts"
import { contenders } from "./pools/index.ts"
import { programs } from "./programs/index.ts"
import { run } from "./run.ts"
import { notesOf, table } from "./table.ts"
import { seconds } from "./watch.ts"

const root = Path.resolve(import.meta.dirname, "../..")

const versionOf = ({ packageName }: Contender): string => {
  const folder = packageName === "effect-queuepool" ? root : Path.join(root, "node_modules", packageName)
  return (JSON.parse(Fs.readFileSync(Path.join(folder, "package.json"), "utf8")) as { version: string }).version
}

const print = (text: string) => Effect.sync(() => process.stdout.write(`${text}\n`))

/** To whoever looks at it. */
const told = (program: Program, contender: Contender, { figure, green }: Verdict): void => {
  if (!process.stderr.isTTY) return
  process.stderr.write(`${program.id} ${contender.title}: ${green ? "green" : "red"}, ${figure}\n`)
}

const main = Effect.fnUntraced(function*(options: Options) {
  const from = performance.now()
  const rows = programs.filter(({ id }) => options.programs.includes(id))
  const columns = contenders.filter(({ name }) => options.pools.includes(name))
  const cells = rows.flatMap((program) =>
    columns.filter(({ name }) => program.absent[name] === undefined).map((contender) => ({ program, contender }))
  )
  const verdicts = new Map<string, Verdict>()
  const keyOf = (id: string, name: string) => `${id} ${name}`
  const play = (url: string | undefined) =>
    Effect.forEach(
      cells,
      ({ contender, program }) =>
        Effect.map(run(program, contender, needsServer(program, contender) ? url : undefined), (verdict) => {
          verdicts.set(keyOf(program.id, contender.name), verdict)
          told(program, contender, verdict)
        }),
      { concurrency: 2 }
    )
  yield* cells.some(({ contender, program }) => needsServer(program, contender))
    ? Effect.provide(Effect.flatMap(EmbeddedPg, ({ url }) => play(url)), EmbeddedPg.layer({ maxConnections: 100 }))
    : play(undefined)

  yield* print(
    table(rows, columns, (program, contender) => verdicts.get(keyOf(program.id, contender.name)) ?? "absent")
  )
  if (!options.markdown) {
    const notes = notesOf(rows, columns).map((note, index) => `(${index + 1}) ${note}.`)
    const criteria = rows.map(({ criterion, id }) => `- ${id}: ${criterion}.`)
    const setups = columns.map((contender) => `- ${contender.title} ${versionOf(contender)}: ${contender.setup}.`)
    yield* print(
      ["", ...notes, "", "Yes means:", "", ...criteria, "", "Set up with:", "", ...setups, ""].join("\n")
    )
    yield* print(`${cells.length} programs in ${seconds(performance.now() - from)}`)
  }
  const red = rows.filter(({ id }) => verdicts.get(keyOf(id, "ours"))?.green === false)
  if (red.length > 0) process.exitCode = 1
})

try {
  const names = contenders.map(({ name }) => name)
  const options = optionsOf(process.argv.slice(2), programs.map(({ id }) => id), names)
  await Effect.runPromise(main(options))
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
