// What stands behind a public pool, for what is built on pools: zipping several, and
// items that report their own end, or know what their borrowers do.
interface Found {
  readonly share: unknown
}

interface Registered {
  readonly state: {
    readonly items: { find(value: unknown, holder: undefined): Found | undefined }
    readonly sharing: { seal(item: Found | undefined): void }
    forgo(item: Found, fiber: number): void
  }
  lose(item: Found, reason: string): void
}

const registered = new WeakMap<object, { readonly serial: number; readonly behind: Registered }>()

let pools = 0

/** The pool was made. */
export const register = (pool: object, behind: unknown): void => {
  registered.set(pool, { serial: ++pools, behind: behind as Registered })
}

/** What stands behind a pool; undefined when we have not made it. */
export const behind = (pool: object): unknown => registered.get(pool)?.behind

/** The order in which pools were made: whoever needs several asks them in it. */
export const serialOf = (pool: object): number => registered.get(pool)!.serial

/** The item is lent so that others may have it too. */
export const isShared = (pool: object, value: unknown): boolean =>
  registered.get(pool)!.behind.state.items.find(value, undefined)?.share !== undefined

/** Nobody else is lent a shared item until all who have it have left. */
export const seal = (pool: object, value: unknown): void => {
  const { state } = registered.get(pool)!.behind
  state.sharing.seal(state.items.find(value, undefined))
}

/** The fiber has the item, which is shared, no more, though its `use` goes on. */
export const forgo = (pool: object, value: unknown, fiber: number): void => {
  const { state } = registered.get(pool)!.behind
  state.forgo(state.items.find(value, undefined)!, fiber)
}

/** The item has ended by itself: it is recycled at once, also while it is lent. */
export const lose = (pool: object, value: unknown, reason: string): void => {
  const pooled = registered.get(pool)!.behind
  const item = pooled.state.items.find(value, undefined)
  if (item !== undefined) pooled.lose(item, reason)
}
