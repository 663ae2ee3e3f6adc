// What stands behind a public pool, for what is built on pools: zipping several, and
// items that report their own end.
interface Registered {
  readonly state: {
    readonly items: { find(value: unknown, holder: undefined): unknown }
    lose(item: unknown, reason: string): void
  }
}

const registered = new WeakMap<object, { readonly serial: number; readonly behind: Registered }>()

let pools = 0

/** The pool was made. */
export const register = (pool: object, behind: unknown): void => {
  registered.set(pool, { serial: ++pools, behind: behind as Registered })
}

/** The order in which pools were made: whoever needs several asks them in it. */
export const serialOf = (pool: object): number => registered.get(pool)!.serial

/** The item has ended by itself: it is recycled at once, also while it is lent. */
export const lose = (pool: object, value: unknown, reason: string): void => {
  const { state } = registered.get(pool)!.behind
  const item = state.items.find(value, undefined)
  if (item !== undefined) state.lose(item, reason)
}
