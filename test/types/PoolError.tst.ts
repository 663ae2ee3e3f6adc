import * as PoolError from "effect-queuepool/PoolError"
import * as Effect from "effect/Effect"
import { describe, expect, it } from "tstyche"

declare const borrow: Effect.Effect<string, PoolError.PoolError>
declare const recover: Effect.Effect<number>

describe("PoolError", () => {
  it("tells its reasons apart by their tag", () => {
    const handled = Effect.catchReason(borrow, "PoolError", "BorrowTimeout", (reason) => {
      expect(reason).type.toBe<PoolError.BorrowTimeout>()
      return recover
    })
    expect(handled).type.toBeAssignableTo<Effect.Effect<string | number, PoolError.PoolError>>()
  })

  it("has no reason but the listed", () => {
    expect<PoolError.Reason["_tag"]>().type.toBe<
      | "BorrowTimeout"
      | "TooManyWaiters"
      | "Closed"
      | "Suspended"
      | "LeaseEnded"
      | "HookFailed"
      | "OpenTimeout"
      | "OpenInterrupted"
      | "InvalidOptions"
      | "NoEndpoint"
    >()
  })
})
