/** What the adapters share. */
import { Data, Effect } from "effect"
import type { ClientBase } from "pg"
import type { Items } from "../items.ts"
import type { Ends, Lease } from "../model.ts"

/** What a pool of promises threw, or rejected with. */
class Refused extends Data.TaggedError("Refused")<{ readonly cause: unknown }> {}

const refused = (cause: unknown) => new Refused({ cause })

export const attempt = <A>(f: () => A | PromiseLike<A>): Effect.Effect<A, Refused> =>
  Effect.tryPromise({ try: async () => f(), catch: refused })

/** A pool that may refuse its options. */
export const made = <A>(f: () => A): Effect.Effect<A, Refused> => Effect.try({ try: f, catch: refused })

const noQueries = Effect.fail(refused("an item in memory answers no queries"))

/** The lease of an item that is in memory. */
export const itemLease = <A>(
  { idOf, isAlive, kill }: Items<A>,
  item: A,
  ends: Ends
): Lease => ({
  ...ends,
  id: idOf(item),
  works: Effect.sync(() => isAlive(item)),
  die: () => kill(item),
  query: () => noQueries
})

/** The lease of a session of node-postgres. */
export const clientLease = (client: ClientBase, ends: Ends): Lease => {
  const query = (sql: string) =>
    Effect.map(
      attempt(() => client.query<Array<unknown>>({ text: sql, rowMode: "array" })),
      ({ rows }) => rows.map((row) => row[0])
    )
  return {
    ...ends,
    id: (client as unknown as { readonly processID: number }).processID,
    works: Effect.map(Effect.exit(query("select 1")), (exit) => exit._tag === "Success"),
    die: () => {},
    query
  }
}
