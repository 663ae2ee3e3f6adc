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

// Node 24 on x64, in bytes: use 192 or 208, beside 355 of the floor and 509 of effect's Pool; get 912, beside 1,004;
// contended 1,580, beside 1,921 of two bare yields and 4,490. What is allowed is some 50 more: an object more
// on the path of every lease is beyond it.
describe("what a lease allocates", () => {
  it("is less than effect needs for the end of an effect, or to yield, and far less than with effect's Pool", {
    timeout: 60_000
  }, () => {
    const bytes = measured()
    const beyond = (one: string, other: string) => bytes[one]! - bytes[other]!
    const told = JSON.stringify(bytes)
    assert.isAtMost(beyond("use", "use, floor"), -100, told)
    assert.isAtMost(beyond("get", "get, effect"), -50, told)
    assert.isAtMost(beyond("contended", "contended, bare"), -200, told)
    assert.isAtMost(beyond("contended", "contended, effect"), -2750, told)
  })
})
