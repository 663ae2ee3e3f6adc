/** What is kept for the next: as much as those in use may need again, and no more. */
import { assert, describe, it } from "@effect/vitest"
import { spares } from "../src/internal/spares.ts"

const numbered = () => {
  let made = 0
  const kept = spares(() => ++made)
  /** So many at once, and how many of them had to be made. */
  const crowd = (size: number): number => {
    const before = made
    Array.from({ length: size }, kept.take).forEach(kept.keep)
    return made - before
  }
  const oneByOne = (times: number): void => {
    for (let i = 0; i < times; i++) kept.keep(kept.take())
  }
  return { crowd, kept, oneByOne }
}

describe("spares", () => {
  it("are used again, the last first", () => {
    const { kept } = numbered()
    const [first, second] = [kept.take(), kept.take()]
    kept.keep(first)
    kept.keep(second)
    assert.deepStrictEqual([kept.take(), kept.take(), kept.take()], [second, first, 3])
  })

  it("are never taken twice while one is in use", () => {
    const { crowd, kept } = numbered()
    crowd(5000)
    const taken = Array.from({ length: 6000 }, kept.take)
    assert.strictEqual(new Set(taken).size, 6000)
  })

  it("are kept of a crowd for the next one, but for the last twentieth", () => {
    const { crowd, kept } = numbered()
    assert.strictEqual(crowd(10_000), 10_000)
    assert.isAbove(kept.size(), 9300)
    assert.isBelow(crowd(10_000), 700)
  })

  it("are given up one by one when the crowd does not come again, down to a few", () => {
    const { crowd, kept, oneByOne } = numbered()
    crowd(10_000)
    const left = kept.size()
    oneByOne(1000)
    assert.closeTo(kept.size(), left - 1000, 2)
    oneByOne(10_000)
    assert.closeTo(kept.size(), 256, 2)
    oneByOne(10_000)
    assert.closeTo(kept.size(), 256, 2)
  })

  it("are kept while so many are in use that they may be needed", () => {
    const { crowd, kept, oneByOne } = numbered()
    const inUse = Array.from({ length: 1000 }, kept.take)
    crowd(9000)
    oneByOne(20_000)
    assert.strictEqual(kept.size(), 9000)
    for (const one of inUse) kept.keep(one)
    assert.isBelow(kept.size(), 10_000)
  })

  it("do not count what is lost as in use", () => {
    const { crowd, kept, oneByOne } = numbered()
    const lost = Array.from({ length: 1000 }, kept.take)
    crowd(9000)
    lost.forEach(kept.lose)
    oneByOne(20_000)
    assert.closeTo(kept.size(), 256, 2)
  })
})
