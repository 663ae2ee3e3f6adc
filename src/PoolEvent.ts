/**
 * What happens in a pool, as one closed union.
 *
 * @since 1.0.0
 */
import type * as Cause from "effect/Cause"

/**
 * A transition of a pool or of one of its items.
 *
 * **Details**
 *
 * `pool` is the pool's name, `at` the monotonic time in milliseconds, `item` the
 * number of the item: the first that a pool opens is 1, and no number is used
 * twice. All durations (`took`, `waited`, `held`, `age`) are in milliseconds.
 *
 * | tag | an item or the pool ... |
 * |---|---|
 * | `Opening` | starts to open an item |
 * | `Opened` | has opened it |
 * | `OpenFailed` | could not |
 * | `Parked` | waits for a permit of this `capacity` before it is opened |
 * | `Retrying` | will try again `in` so long, by the `retry` Schedule |
 * | `Borrowed` | is lent, after `waited` |
 * | `Returned` | came back, after `held` |
 * | `Detached` | left the pool with its borrower, after `held` |
 * | `BorrowFailed` | a borrower went without an item, by `reason` |
 * | `CheckFailed`, `ResetFailed` | failed or outran its check, its reset or `onReturn`; a `Recycled` follows |
 * | `Recycled` | left circulation, by `reason` |
 * | `Closed` | was released |
 * | `CloseFailed` | was released, with a failure |
 * | `Abandoned` | was not released within `closeTimeout`; its slot is free again |
 * | `TakenBack` | was closed under its borrower: it died, or `maxLease` or `drainTimeout` was over |
 * | `LeaseWarning` | has been lent for longer than `leaseWarning` |
 * | `LeaseEnded` | was lent, and the lease is ended from outside: `why` |
 * | `Cleared` | every item of the pool, or every idle one, is to be recycled |
 * | `Swapped`, `SwapFailed` | is opened in a new way from now on, or that did not work |
 * | `Suspended`, `Resumed` | lends nothing for a while, and again |
 * | `Resized` | has new bounds |
 * | `Swept` | a sweep ended, having recycled this many |
 * | `RecyclerEnded` | the `sweep` Schedule is over or failed; time rules go on |
 * | `PoolClosing`, `PoolClosed` | the pool's scope is closing, is closed |
 *
 * @category models
 * @since 1.0.0
 */
export type PoolEvent =
  | (Base & { readonly _tag: "Opening"; readonly item: number })
  | (Base & { readonly _tag: "Opened"; readonly item: number; readonly took: number })
  | (Base & {
    readonly _tag: "OpenFailed"
    readonly item: number
    readonly took: number
    readonly cause: Cause.Cause<unknown>
  })
  | (Base & { readonly _tag: "Parked"; readonly capacity: string })
  | (Base & { readonly _tag: "Retrying"; readonly in: number })
  | (Base & { readonly _tag: "Borrowed"; readonly item: number; readonly waited: number })
  | (Base & { readonly _tag: "Returned" | "Detached"; readonly item: number; readonly held: number })
  | (Base & {
    readonly _tag: "BorrowFailed"
    readonly reason:
      | "BorrowTimeout"
      | "TooManyWaiters"
      | "Closed"
      | "Suspended"
      | "OpenFailed"
      | "HookFailed"
      | "InvalidOptions"
      | "Interrupted"
    readonly waited: number
  })
  | (Base & {
    readonly _tag: "CheckFailed" | "ResetFailed"
    readonly item: number
    readonly cause: Cause.Cause<unknown>
  })
  | (Base & {
    readonly _tag: "Recycled"
    readonly item: number
    readonly reason: string
    readonly age: number
    readonly uses: number
  })
  | (Base & { readonly _tag: "Closed"; readonly item: number; readonly took: number })
  | (Base & {
    readonly _tag: "CloseFailed"
    readonly item: number
    readonly took: number
    readonly cause: Cause.Cause<unknown>
  })
  | (Base & { readonly _tag: "Abandoned"; readonly item: number; readonly took: number })
  | (Base & {
    readonly _tag: "TakenBack" | "LeaseWarning"
    readonly item: number
    readonly held: number
    readonly by: string
  })
  | (Base & {
    readonly _tag: "LeaseEnded"
    readonly item: number
    readonly held: number
    readonly by: string
    readonly why: "maxLease" | "died" | "leaked"
    readonly cause: Cause.Cause<unknown> | undefined
  })
  | (Base & { readonly _tag: "Cleared" | "Swapped" | "Suspended" | "Resumed" })
  | (Base & { readonly _tag: "SwapFailed"; readonly cause: Cause.Cause<unknown> })
  | (Base & {
    readonly _tag: "Resized"
    readonly min: number
    readonly max: number
    readonly minIdle: number
    readonly maxIdle: number
  })
  | (Base & { readonly _tag: "Swept"; readonly recycled: number })
  | (Base & { readonly _tag: "RecyclerEnded"; readonly cause: Cause.Cause<unknown> | undefined })
  | (Base & { readonly _tag: "PoolClosing" | "PoolClosed" })

/**
 * What every event has.
 *
 * @category models
 * @since 1.0.0
 */
export interface Base {
  readonly pool: string
  readonly at: number
}
