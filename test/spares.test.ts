/** What is kept for the next: as much as a crowd has left, and by and by no more than a few. */
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

  it("are kept of a crowd for the next one", () => {
    const { crowd, kept } = numbered()
    assert.strictEqual(crowd(10_000), 10_000)
    assert.isAbove(kept.size(), 9800)
    assert.isBelow(crowd(10_000), 200)
  })

  it("are given up by and by when the crowd does not come again, down to a few", () => {
    const { crowd, kept, oneByOne } = numbered()
    crowd(10_000)
    const left = kept.size()
    oneByOne(64 * 1000)
    assert.closeTo(kept.size(), left - 1000, 1)
    oneByOne(64 * 10_000)
    assert.strictEqual(kept.size(), 256)
  })

  it("are all kept while they are few", () => {
    const { crowd, oneByOne } = numbered()
    assert.strictEqual(crowd(256), 256)
    oneByOne(10_000)
    assert.strictEqual(crowd(256), 0)
  })

  it("are given up though some that were taken never come back", () => {
    const { crowd, kept, oneByOne } = numbered()
    Array.from({ length: 1000 }, kept.take)
    crowd(9000)
    oneByOne(64 * 10_000)
    assert.strictEqual(kept.size(), 256)
  })
})
