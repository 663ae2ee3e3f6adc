// Where in a program an item was asked for: a stack, formatted only when it is told,
// and even to take one costs more than a lease. So only pools whose leases are
// watched ask for it.

/** A stack, and how many frames of it are the pool's own. */
export interface Site {
  readonly error: { readonly stack?: string | undefined }
  readonly own: number
}

let given: Site | undefined

/** The call that is under way; `own` is how many functions of the pool stand between it and the caller. */
export const here = (own: number): Site => {
  if (given !== undefined) return given
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 8 + own
  const error = new Error("borrowed here")
  Error.stackTraceLimit = stackTraceLimit
  return { error, own: own + 1 }
}

/**
 * The same for a lease that a scope has. An error keeps the objects in its frames
 * until it is formatted, fibers and their scopes among them, and a scope that the
 * pool keeps is never found to be dropped.
 */
export const hereInScope = (own: number): Site => {
  const site = here(own + 1)
  void site.error.stack
  return site
}

/** Runs a function that asks where it is in the name of who called at that site. */
export const at = <A>(site: Site, f: () => A): A => {
  const before = given
  given = site
  try {
    return f()
  } finally {
    given = before
  }
}

/** The frames, the caller's first. */
export const placeOf = ({ error: { stack = "" }, own }: Site): string => stack.split("\n").slice(1 + own).join("\n")
