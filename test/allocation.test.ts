/** What the head of src/internal/state.ts says of the cost of a lease, in bytes, counted over 5,000 leases. */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import * as Path from "node:path"

type Bytes = Readonly<Record<string, number>>

const measured = (): Bytes => {
  const flags = ["--expose-gc", "--min-semi-space-size=128", "--max-semi-space-size=128"]
  const script = Path.join(import.meta.dirname, "bench/allocations.ts")
  const args = [...flags, "--conditions=effect-queuepool:source", script]
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as Bytes
}

// Node 24 on x64, in bytes: use 159 to 208, beside 303 to 355 of the floor, as the compiler spares an object or does
// not, and 382 to 509 of effect's Pool; get 846 or 912, beside 1,004 or 1,094; contended 1,580, beside 1,921 of two
// bare yields and 4,490. What is allowed is some 50 more: an object more on the path of every lease is beyond it.
describe("what a lease allocates", () => {
  it("is less than effect needs for the end of an effect, or to yield, and far less than with effect's Pool", {
    timeout: 600_000
  }, () => {
    const bytes = measured()
    const beyond = (one: string, other: string) => bytes[one]! - bytes[other]!
    const told = JSON.stringify(bytes)
    assert.isAtMost(bytes["use"]!, 255, told)
    assert.isBelow(beyond("use", "use, floor"), 0, told)
    assert.isAtMost(beyond("get", "get, effect"), -50, told)
    assert.isAtMost(beyond("contended", "contended, bare"), -200, told)
    assert.isAtMost(beyond("contended", "contended, effect"), -2750, told)
  })
})
