/** A statement that is interrupted, and a server that says nothing to it. */
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { waitUntil } from "./kit/real.ts"
import { ask, askPool, makePool, until, untilStats } from "./kit/sessions.ts"
import * as TcpProxy from "./kit/TcpProxy.ts"

const pid = "select pg_backend_pid()"

layer(EmbeddedPg.layer({ maxConnections: 20 }), { excludeTestServices: true })("a silent server", (it) => {
  it.effect("V18: an interrupted statement ends by resetTimeout, long before the driver gives it up", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port })
      const pool = yield* makePool({ at: proxy.through(pg.url), max: 1, resetTimeout: "100 millis" })
      const first = yield* askPool(pool, pid)
      yield* proxy.setMode(TcpProxy.Mode.BlackHole())
      const stuck = yield* Effect.forkChild(askPool(pool, "select 2"), { startImmediately: true })
      // It is used while the pool looks at it before the lease, too: who is interrupted then has sent nothing.
      yield* untilStats(pool, ({ borrowed }) => borrowed === 2)
      stuck.interruptUnsafe()
      // The driver takes 5 seconds.
      assert.isTrue(yield* waitUntil(() => stuck.pollUnsafe() !== undefined, "4 seconds"))
      yield* untilStats(pool, ({ closed }) => closed === 1)
      assert.deepStrictEqual((yield* pool.stats).recycled, { disconnected: 1 })
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      assert.notStrictEqual(yield* askPool(pool, pid), first)
    }))

  it.effect("V18: a statement that the server cancels in time keeps its session", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const applicationName = "cancelled in time"
      const pool = yield* makePool({ max: 1, resetTimeout: "500 millis", reset: "none", applicationName })
      yield* Effect.scoped(Effect.gen(function*() {
        const session = yield* pool.get
        const first = yield* ask(session, pid)
        const long = yield* Effect.forkChild(session.query("select pg_sleep(60)"), { startImmediately: true })
        yield* until(Effect.map(pg.sessionCount({ applicationName, state: "active" }), (count) => count === 1))
        yield* Fiber.interrupt(long)
        // Past the time that it would have had.
        yield* Effect.sleep(700)
        assert.strictEqual(yield* ask(session, pid), first)
      }))
    }))

  it.effect("V18: a cancel request where nothing runs has no answer, and costs the session nothing", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1, resetTimeout: "50 millis", reset: "none" })
      yield* Effect.scoped(Effect.gen(function*() {
        const session = yield* pool.get
        yield* session.interrupt
        yield* Effect.sleep(200)
        assert.strictEqual(yield* ask(session, "select 1"), 1)
      }))
    }))
})
