/** The table, in markdown. */
import type { Contender, Program, Verdict } from "./model.ts"

export type Cell = Verdict | "absent"

const mark = ({ figure, green }: Verdict) => `${green ? "yes:" : "**no:**"} ${figure}`

const padded = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`
  return [line(rows[0]!), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rows.slice(1).map(line)]
}

/** What is said below the table, each once, in the order in which it comes. */
export const notesOf = (
  programs: ReadonlyArray<Program>,
  contenders: ReadonlyArray<Contender>
): ReadonlyArray<string> => [
  ...new Set(programs.flatMap((program) => contenders.flatMap((contender) => noteOf(program, contender) ?? [])))
]

const noteOf = ({ absent, remarks }: Program, { name }: Contender): string | undefined => absent[name] ?? remarks[name]

export const table = (
  programs: ReadonlyArray<Program>,
  contenders: ReadonlyArray<Contender>,
  cellOf: (program: Program, contender: Contender) => Cell
): string => {
  const notes = notesOf(programs, contenders)
  const rows = programs.map((program) => [
    `${program.id} ${program.name}`,
    ...contenders.map((contender) => {
      const cell = cellOf(program, contender)
      const note = noteOf(program, contender)
      const number = note === undefined ? "" : ` (${notes.indexOf(note) + 1})`
      return `${cell === "absent" ? "–" : mark(cell)}${number}`
    })
  ])
  return padded([["", ...contenders.map(({ title }) => title)], ...rows]).join("\n")
}
