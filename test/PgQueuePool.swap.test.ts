import { PgConnection } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Redacted } from "effect"
import { PoolError, QueuePool } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { ask, askPool, makePool, until } from "./kit/sessions.ts"

const nameOf = "show application_name"

layer(EmbeddedPg.layer({ maxConnections: 20 }), { excludeTestServices: true })("swap of a pool of sessions", (it) => {
  it.effect("opens them in another way, one after the other, and what is not given stays", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ applicationName: "old", max: 2, min: 1 })
      const database = yield* askPool(pool, "select current_database()")
      const held = yield* Effect.forkChild(
        pool.use((session) =>
          Effect.andThen(PgQueuePool.swap(pool, { applicationName: "new" }, { over: 0 }), ask(session, nameOf))
        )
      )
      assert.strictEqual(yield* Fiber.join(held), "old")
      assert.deepStrictEqual(yield* askPool(pool, nameOf), "new")
      assert.strictEqual(yield* askPool(pool, "select current_database()"), database)
      yield* pool.pipe(PgQueuePool.swap({ startupParameters: { work_mem: "7MB" } }, { over: 0 }))
      assert.deepStrictEqual(yield* askPool(pool, "show work_mem"), "7MB")
      assert.strictEqual(yield* askPool(pool, nameOf), "new")
      // They are looked after as ever.
      yield* pool.use((session) => session.query("begin"))
      const pid = yield* askPool(pool, "select pg_backend_pid()")
      yield* Effect.flip(pool.use((session) => session.query("select pg_terminate_backend(pg_backend_pid())")))
      yield* until(Effect.map(askPool(pool, "select pg_backend_pid()"), (other) => other !== pid))
    }))

  it.effect("that does not work changes nothing", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1 })
      const pid = yield* askPool(pool, "select pg_backend_pid()")
      const error = yield* Effect.flip(PgQueuePool.swap(pool, { database: "there is none" }))
      assert.strictEqual(error._tag, "SqlError")
      assert.notStrictEqual(yield* askPool(pool, "select pg_backend_pid()"), undefined)
      assert.isDefined(pid)
    }))

  it.effect("refuses what is no setting of a session, and pools of others", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1 })
      const wrong = yield* Effect.flip(
        PgQueuePool.swap(pool, { max: 3, multiplex: true, transformJson: true, port: 1 } as never)
      )
      const other = yield* QueuePool.make({ acquire: Effect.succeed("item") })
      const foreign = yield* Effect.flip(PgQueuePool.swap(other as never, { port: 1 }))
      assert.deepStrictEqual(
        [wrong, foreign].map((error) =>
          ((error as PoolError.PoolError).reason as PoolError.InvalidOptions).problems.map(({ option }) => option)
        ),
        [["max", "multiplex", "transformJson"], ["pool"]]
      )
    }))

  it.effect("refuses sessions that the pool has not opened itself, and goes on", () =>
    Effect.gen(function*() {
      const acquired: Array<number> = []
      const pool = yield* makePool({
        max: 1,
        onAcquire: ({ processId }) => Effect.sync(() => void acquired.push(processId))
      })
      const pid = yield* askPool(pool, "select pg_backend_pid()")
      const url = Redacted.make((yield* EmbeddedPg).url)
      const exit = yield* Effect.exit(pool.swap(PgConnection.make({ url })))
      assert.include(Exit.isFailure(exit) ? String(exit.cause) : "", "PgQueuePool.swap")
      assert.deepStrictEqual(acquired[0], pid)
      yield* askPool(pool, "select 1")
      assert.strictEqual((yield* pool.stats).recycled["reset failed"], undefined)
    }))
})
