/** Who is woken goes on once, in a task of its own, however tasks and wakes follow one another. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Scheduler } from "effect"
import { Borrower } from "../src/internal/item.ts"
import { Waker } from "../src/internal/waking.ts"

const world = () => {
  const tasks: Array<() => void> = []
  const run = () => {
    for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) task()
  }
  const dispatcher = { scheduleTask: (task: () => void) => void tasks.push(task), flush: run }
  const scheduler = new Scheduler.MixedScheduler()
  const holder = Effect.runFork(Effect.void, { scheduler })
  const waker = new Waker<string>({ dispatcher, scheduler }, { head: undefined })
  const order: Array<string> = []
  /** Wakes these, each of which does something when it is resumed. */
  const wake = (...names: ReadonlyArray<string | readonly [string, () => void]>): void => {
    for (const one of names) {
      const [name, then] = typeof one === "string" ? [one] : one
      const borrower = new Borrower<string>()
      borrower.holder = holder
      borrower.own.sleeper = {
        woken: () => {
          order.push(name)
          then?.()
        }
      }
      waker.wake(borrower)
    }
  }
  return { order, run, tasks, wake }
}

describe("those who are woken", () => {
  it("are resumed in one task, in their order, and those whom they wake in the next", () => {
    const { order, run, tasks, wake } = world()
    wake(["a", () => wake("c", "d")], "b")
    assert.deepStrictEqual([order, tasks.length], [[], 1])
    tasks.shift()!()
    assert.deepStrictEqual([order, tasks.length], [["a", "b"], 1])
    run()
    assert.deepStrictEqual(order, ["a", "b", "c", "d"])
  })

  it("are resumed once each where a task runs the others within itself", () => {
    const { order, run, wake } = world()
    wake("first")
    run()
    wake(["a", () => {
      wake(["b", () => wake("c", "d")], "e")
      run()
    }], "f")
    run()
    assert.deepStrictEqual(order.toSorted(), ["a", "b", "c", "d", "e", "f", "first"])
  })

  it("are resumed 256 at a time, and all of them", () => {
    const { order, tasks, wake } = world()
    const names = Array.from({ length: 600 }, (_, i) => `${i}`)
    wake(...names)
    const after: Array<number> = []
    for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) {
      task()
      after.push(order.length)
    }
    assert.deepStrictEqual(after, [256, 512, 600])
    assert.deepStrictEqual(order, names)
    wake("next")
    tasks.shift()!()
    assert.strictEqual(order.length, 601)
  })
})
