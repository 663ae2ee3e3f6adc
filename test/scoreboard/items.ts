/** Items that need nothing but memory, opened and closed as a script has it. */
import { Data, Effect, type Scope } from "effect"
import { Book, type Outcome, type Script } from "./book.ts"

export interface Item {
  /** The number of its open. */
  readonly id: number
  /** False once it has died: nobody is told, and whoever looks sees it. */
  alive: boolean
}

export class OpenFailed extends Data.TaggedError("OpenFailed")<{ readonly message: string }> {}

export interface Items<A> {
  readonly book: Book
  /** For the pools of promises. */
  readonly open: () => Promise<A>
  readonly close: (item: A) => Promise<void>
  /** For the pools of effects; the same. */
  readonly acquire: Effect.Effect<A, OpenFailed, Scope.Scope>
  readonly isAlive: (item: A) => boolean
  readonly kill: (item: A) => void
  readonly idOf: (item: A) => number
}

const after = (outcome: Outcome): Promise<void> =>
  new Promise((resolve, reject) => {
    if (outcome.end === "hang") return
    const end = () =>
      outcome.end === "succeed" ? resolve() : reject(new OpenFailed({ message: "the open failed, by the script" }))
    // No answer of a server comes in the same turn.
    setTimeout(end, outcome.after ?? 0)
  })

const make = <A>(
  script: Script,
  valueOf: (id: number) => A,
  about: Pick<Items<A>, "isAlive" | "kill" | "idOf">
): Items<A> => {
  const book = new Book(script)
  const open = async (): Promise<readonly [number, A]> => {
    const { n, outcome } = book.beginOpen()
    try {
      await after(outcome)
    } catch (error) {
      book.failed()
      throw error
    }
    book.opened()
    return [n, valueOf(n)]
  }
  const close = async (id: number): Promise<void> => {
    await after(book.beginClose())
    book.ended(id)
  }
  return {
    ...about,
    book,
    open: () => open().then(([, item]) => item),
    close: (item) => close(about.idOf(item)),
    acquire: Effect.acquireRelease(
      Effect.tryPromise({ try: open, catch: (error) => error as OpenFailed }),
      ([id]) => Effect.promise(() => close(id))
    ).pipe(Effect.map(([, item]) => item))
  }
}

export const itemsOf = (script: Script): Items<Item> =>
  make<Item>(script, (id) => ({ id, alive: true }), {
    isAlive: ({ alive }) => alive,
    kill: (item) => {
      item.alive = false
    },
    idOf: ({ id }) => id
  })

/** Items that are all the same value. Only their opener can tell them apart. */
export const equalItems = (script: Script): Items<string> =>
  make(script, () => "same", { isAlive: () => true, kill: () => {}, idOf: () => 0 })
