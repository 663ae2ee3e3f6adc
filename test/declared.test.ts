/** A field that is declared, and no more, is set by its constructor: the compiler does not ask. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"

const folder = new URL("../src/internal/", import.meta.url)

const classes = Fs.readdirSync(folder).flatMap((file) =>
  Array.from(
    Fs.readFileSync(new URL(file, folder), "utf8").matchAll(/^(?:export )?(?:abstract )?class (\w+)[^]*?^\}/gm),
    ([text, name]) => ({
      name: `${file}: ${name!}`,
      declared: Array.from(text.matchAll(/^ {2}declare (?:private |protected )?(?:readonly )?(\w+)/gm), ([, one]) =>
        one!),
      made: /^ {2}constructor\([^]*?^ {2}\}/m.exec(text)?.[0] ?? ""
    })
  )
).filter(({ declared }) => declared.length > 0)

describe("fields that are declared", () => {
  it("are there", () => {
    assert.isAbove(classes.reduce((sum, { declared }) => sum + declared.length, 0), 60)
  })

  for (const { declared, made, name } of classes) {
    it(`are set by the constructor, ${name}`, () => {
      assert.deepStrictEqual(declared.filter((one) => !new RegExp(`this\\.${one} = `).test(made)), [])
    })
  }
})
