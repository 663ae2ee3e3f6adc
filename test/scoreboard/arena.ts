/** What a program is given to run on: a pool, and what the pool has its items from. */
import { Effect } from "effect"
import { Client } from "pg"
import { gateTo } from "./gate.ts"
import { equalItems, itemsOf } from "./items.ts"
import type { Arena, Contender, Program, Sessions } from "./model.ts"

/** Whether the pool plays the program on PostgreSQL. */
export const needsServer = (program: Program, contender: Contender): boolean =>
  program.onSessions || contender.items === undefined

const adminOf = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ connectionString: url })
      client.on("error", () => {})
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => client.end())
  ).pipe(
    Effect.map((client): Sessions["admin"] => async (sql) =>
      (await client.query<Array<unknown>>({ text: sql, rowMode: "array" })).rows
    )
  )

const nothing: Sessions["admin"] = () => Promise.reject(new Error("no server"))

const absent = (contender: Contender) => Effect.die(new Error(`${contender.name} does not take part`))

/** `url` is that of a server for tests, whose superuser needs no password. */
export const arenaOf = Effect.fnUntraced(
  function*(contender: Contender, url: string | undefined, progress: (figure: string) => void) {
    const admin = url === undefined ? nothing : yield* adminOf(url)
    const sessionsOf = (script: Parameters<Arena["start"]>[1] = {}) =>
      Effect.map(gateTo(url ?? "", script), (gate): Sessions => ({ ...gate, admin, direct: url ?? "" }))

    const startSessions: Arena["startSessions"] = Effect.fnUntraced(function*(setup, { direct = false, user } = {}) {
      const sessions = yield* sessionsOf()
      const to = new URL(direct ? sessions.direct : sessions.url)
      if (user !== undefined) to.username = user
      const pool = yield* contender.sessions?.({ ...sessions, url: to.href }, setup) ?? absent(contender)
      return { sessions, pool }
    })
    const start: Arena["start"] = Effect.fnUntraced(function*(setup, script = {}) {
      if (contender.items !== undefined) {
        const world = itemsOf(script)
        return { book: world.book, pool: yield* contender.items(world, setup) }
      }
      const sessions = yield* sessionsOf(script)
      return { book: sessions.book, pool: yield* contender.sessions?.(sessions, setup) ?? absent(contender) }
    })
    const startEqual: Arena["start"] = Effect.fnUntraced(function*(setup, script = {}) {
      const world = equalItems(script)
      return { book: world.book, pool: yield* contender.items?.(world, setup) ?? absent(contender) }
    })
    return {
      start,
      startEqual,
      startSessions,
      admin,
      progress,
      hasItems: contender.items !== undefined
    } satisfies Arena
  }
)
