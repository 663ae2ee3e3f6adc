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

// Node 24 on x64, in bytes: use 470, beside 356 of the floor and 530 of effect's Pool; get 964, beside 1,095;
// contended 2,360, beside 1,910 of two bare yields, 2,070 of the least that is safe and 4,450. What is allowed is
// a third more than that beyond the floor: an object more on the path of every lease is beyond it.
describe("what a lease allocates", () => {
  it("is little beyond what effect needs for the end of an effect, and less than with effect's Pool", {
    timeout: 60_000
  }, () => {
    const bytes = measured()
    const beyond = (one: string, other: string) => bytes[one]! - bytes[other]!
    const told = JSON.stringify(bytes)
    assert.isAtMost(beyond("use", "use, floor"), 150, told)
    assert.isAtMost(beyond("get", "get, effect"), 0, told)
    assert.isAtMost(beyond("contended", "contended, bare"), 600, told)
    assert.isAtMost(beyond("contended", "contended, effect"), -1000, told)
  })
})
