/** The scoreboard's programs that need no PostgreSQL, on our own pool; `npm run scoreboard` runs them on its peers. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { arenaOf } from "./scoreboard/arena.ts"
import { optionsOf } from "./scoreboard/args.ts"
import type { Contender, Program, Verdict } from "./scoreboard/model.ts"
import { effectPool } from "./scoreboard/pools/effectPool.ts"
import { contenders } from "./scoreboard/pools/index.ts"
import { ours } from "./scoreboard/pools/ours.ts"
import { programs } from "./scoreboard/programs/index.ts"
import { run } from "./scoreboard/run.ts"
import { notesOf, table } from "./scoreboard/table.ts"

const ids = programs.map(({ id }) => id)
const names = contenders.map(({ name }) => name)

// Not beside the others: they set the clock of the process, look at its event loop, or have short times of their own.
const alone = new Set(["V1", "V9", "V14", "V22"])
const without = programs.filter(({ onSessions }) => !onSessions)
const verdictOf = (program: Program, contender: Contender) =>
  Effect.scoped(Effect.flatMap(arenaOf(contender, undefined, () => {}), (arena) => program.run(arena)))
const play = (program: Program) =>
  Effect.map(verdictOf(program, ours), ({ figure, green }) => assert.isTrue(green, figure))
const programOf = (id: string) => programs.find((program) => program.id === id)!

describe("the scoreboard", () => {
  it("has a program for each defect of the contract", () => {
    assert.deepStrictEqual(ids, Array.from({ length: 22 }, (_, index) => `V${index + 1}`))
  })

  it("lets ours take part in each, and says why where a peer does not", () => {
    for (const { absent, id, onSessions, remarks } of programs) {
      assert.isUndefined(absent["ours"], id)
      for (const name of [...Object.keys(absent), ...Object.keys(remarks)]) assert.include(names, name)
      for (const { name, sessions } of contenders) {
        assert.isTrue(absent[name] !== undefined || !onSessions || sessions !== undefined, `${id} ${name}`)
      }
    }
  })

  it("takes the options that it has, and no others", () => {
    assert.deepStrictEqual(optionsOf([], ids, names), { markdown: false, programs: ids, pools: names })
    assert.deepStrictEqual(optionsOf(["--markdown", "--only", "V4,V1", "--pool", "tarn"], ids, names), {
      markdown: true,
      programs: ["V1", "V4"],
      pools: ["tarn"]
    })
    for (const args of [["--onyl", "V1"], ["--only", "V23"], ["--only", ""], ["--pool", "knex"], ["V1"], ["--only"]]) {
      assert.throws(() => optionsOf(args, ids, names), undefined, undefined, args.join(" "))
    }
  })

  it("prints what came out, in columns", () => {
    const rows = programs.filter(({ id }) => id === "V5" || id === "V13")
    const columns = contenders.filter(({ name }) => name === "ours" || name === "generic-pool")
    const cell = (green: boolean): Verdict => ({ green, figure: "a figure" })
    const text = table(
      rows,
      columns,
      ({ absent, id }, { name }) => absent[name] === undefined ? cell(id === "V5") : "absent"
    )
    assert.deepStrictEqual(text.split("\n").map((line) => line.replaceAll(/ +/g, " ").replaceAll(/-+/g, "-")), [
      "| | effect-queuepool | generic-pool |",
      "| - | - | - |",
      "| V5 an old session makes room before the next | yes: a figure | – (1) |",
      "| V13 senseless options are refused | **no:** a figure | **no:** a figure (2) |"
    ])
    assert.strictEqual(new Set(text.split("\n").map(({ length }) => length)).size, 1)
    assert.lengthOf(notesOf(rows, columns), 2)
  })

  it.live("is red for a pool that has the defect", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* verdictOf(programOf("V4"), effectPool), { green: false, figure: "21 live of 1" })
      assert.deepStrictEqual(yield* verdictOf(programOf("V15"), effectPool), { green: false, figure: "5 of 5 dead" })
    }))

  it.live("runs a program in a process of its own, and cuts it off when it does not end", () =>
    Effect.gen(function*() {
      const limits = { whole: 20_000, silence: 20_000 }
      assert.isTrue((yield* run(programOf("V10"), ours, undefined, limits)).green)
      const cut = yield* run(programOf("V22"), effectPool, undefined, { ...limits, whole: 100 })
      assert.isFalse(cut.green)
      assert.match(cut.figure, /^cut off after .* s: nothing done$/)
    }))

  describe.concurrent("is green for ours", () => {
    for (const program of without.filter(({ id }) => !alone.has(id))) {
      it.live(`${program.id}: ${program.name}`, () => play(program), 20_000)
    }
  })

  describe("is green for ours, alone", () => {
    for (const program of without.filter(({ id }) => alone.has(id))) {
      it.live(`${program.id}: ${program.name}`, () => play(program), 20_000)
    }
  })
})
