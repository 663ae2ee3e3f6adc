/** All programs, in the order of the contract. */
import type { Program } from "../model.ts"
import { bounds } from "./bounds.ts"
import { ends } from "./ends.ts"
import { outage } from "./outage.ts"
import { sessionPrograms } from "./sessions.ts"

const numberOf = ({ id }: Program) => Number(id.slice(1))

export const programs: ReadonlyArray<Program> = [...outage, ...bounds, ...ends, ...sessionPrograms]
  .toSorted((a, b) => numberOf(a) - numberOf(b))
