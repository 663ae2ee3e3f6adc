/** Numbers H of the contract that no other test shows, on a real PostgreSQL. */
import { PgTypes } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Result, Scope } from "effect"
import { PoolError } from "effect-queuepool"
import * as PgQueuePool from "effect-queuepool/PgQueuePool"
import { SqlError } from "effect/sql/SqlError"
import Dns from "node:dns"
import * as Net from "node:net"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { logged } from "./kit/observe.ts"
import { ask, askPool, listen, makePool, runs, type Sessions, until, untilStats } from "./kit/sessions.ts"
import * as TcpProxy from "./kit/TcpProxy.ts"

const pid = "select pg_backend_pid()"

/** The type of points, by its number. */
const point = 600

const timedOut = (error: unknown): PoolError.BorrowTimeout => {
  assert.instanceOf(error, PoolError.PoolError)
  assert.strictEqual(error.reason._tag, "BorrowTimeout")
  return error.reason as PoolError.BorrowTimeout
}

/** What a server says that refuses a connection. */
const refusal = (state: string): Buffer => {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${state}\0Mnot now\0\0`)
  const head = Buffer.from("E\0\0\0\0")
  head.writeInt32BE(fields.length + 4, 1)
  return Buffer.concat([head, fields])
}

/** The way to a server that first refuses some connections, each with its SQLSTATE. */
const refusing = (pg: EmbeddedPg["Service"], states: Array<string>) => (): Net.Socket => {
  const socket = Net.connect({ host: pg.host, port: pg.port })
  const state = states.shift()
  if (state !== undefined) {
    // The socket of a session that never was: what it says comes from here.
    socket.write = () => {
      socket.unshift(refusal(state))
      socket.end()
      return true
    }
  }
  return socket
}

const borrowed = (pool: Sessions, count: number) => Effect.scoped(Effect.replicateEffect(pool.get, count))

layer(EmbeddedPg.layer({ maxConnections: 40 }), { excludeTestServices: true })("the contract on PostgreSQL", (it) => {
  for (const state of ["57P03", "53400", "53300"]) {
    const number = state === "57P03" ? "H6: a server that starts up" : "H12: a server that has no session to give"
    it.effect(`${number} (${state}) is tried again, and a borrower that has the time hears nothing of it`, () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const pool = yield* makePool({ max: 1, stream: refusing(pg, [state, state]) })
        assert.strictEqual(yield* askPool(pool, "select 1"), 1)
        const { openFailures, opened } = yield* pool.stats
        assert.deepStrictEqual({ openFailures, opened }, { openFailures: 2, opened: 1 })
      }))
  }

  it.effect("H6: a server that goes on starting up is told by the borrower's time, with its SQLSTATE", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const states = Array.from({ length: 100 }, () => "57P03")
      const pool = yield* makePool({ max: 1, borrowTimeout: "300 millis", stream: refusing(pg, states) })
      const { lastFailure } = timedOut(yield* Effect.flip(askPool(pool, "select 1")))
      const [failed] = lastFailure!.reasons
      assert.strictEqual(PgQueuePool.sqlState(failed?._tag === "Fail" ? failed.error : undefined), "57P03")
      // With a backoff of 100 ms that doubles.
      assert.isAtMost((yield* pool.stats).openFailures, 4)
    }))

  it.effect("H2: a session that the server has ended is found by the check too, when no socket has told of it", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port })
      const pool = yield* makePool({
        at: proxy.through(pg.url),
        max: 1,
        checkAfter: 0,
        checkTimeout: "100 millis",
        closeTimeout: "100 millis"
      })
      const first = yield* askPool(pool, pid)
      // The end of the session stays in the proxy.
      yield* proxy.setMode(TcpProxy.Mode.BlackHole())
      yield* pg.killBackends({ pid: Number(first) })
      const second = yield* Effect.forkChild(askPool(pool, pid), { startImmediately: true })
      yield* untilStats(pool, ({ recycled }) => recycled["check failed"] === 1)
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      assert.notStrictEqual(yield* Fiber.join(second), first)
    }))

  it.effect("H3: all sessions of a pool killed at once are replaced by no more than are asked for", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 5, applicationName: "at once" })
      yield* borrowed(pool, 5)
      yield* untilStats(pool, ({ idle }) => idle === 5)
      yield* pg.killBackends({ applicationName: "at once" })
      yield* untilStats(pool, ({ closed }) => closed === 5)
      const answers = yield* Effect.forEach([1, 2, 3], (n) => askPool(pool, `select ${n}`), { concurrency: 3 })
      assert.deepStrictEqual(answers, [1, 2, 3])
      const { openFailures, opened } = yield* pool.stats
      assert.isAtMost(opened, 5 + 3)
      assert.strictEqual(openFailures, 0)
    }))

  // A statement on a stopped session is given up by the driver, 5 seconds after its interruption: no time of the pool's.
  it.effect("H7: a session whose process is stopped fails its check in time, frees its slot, and is gone when it goes on", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({
        max: 1,
        checkAfter: 0,
        checkTimeout: "100 millis",
        closeTimeout: "100 millis",
        borrowTimeout: "10 seconds"
      })
      const first = Number(yield* askPool(pool, pid))
      yield* untilStats(pool, ({ idle }) => idle === 1)
      yield* pg.pause(first)
      const second = Number(yield* askPool(pool, pid))
      assert.notStrictEqual(second, first)
      const { closed, recycled } = yield* pool.stats
      assert.deepStrictEqual({ closed, recycled }, { closed: 1, recycled: { "check failed": 1 } })
      yield* pg.resume(first)
      yield* until(Effect.sync(() => !runs(first)))
    }))

  it.effect("H8: over a silent network a borrow fails by its own time with the cause, and the pool is whole when it speaks again", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const proxy = yield* TcpProxy.make({ port: pg.port })
      const pool = yield* makePool({
        at: proxy.through(pg.url),
        max: 2,
        checkAfter: 0,
        checkTimeout: "50 millis",
        closeTimeout: "50 millis",
        connectTimeout: "50 millis",
        borrowTimeout: "800 millis"
      })
      yield* borrowed(pool, 2)
      yield* untilStats(pool, ({ idle }) => idle === 2)
      yield* proxy.setMode(TcpProxy.Mode.BlackHole())
      const errors = yield* Effect.forEach([1, 2, 3], () => Effect.flip(askPool(pool, "select 1")), { concurrency: 3 })
      for (const { counts, lastFailure } of errors.map(timedOut)) {
        assert.isAtMost(counts.idle + counts.lent + counts.opening + counts.closing, 2)
        assert.isDefined(lastFailure)
      }
      yield* proxy.setMode(TcpProxy.Mode.Pass())
      assert.strictEqual(yield* Effect.retry(askPool(pool, "select 1"), { times: 20 }), 1)
      const { opened, recycled } = yield* pool.stats
      assert.isAtLeast(recycled["check failed"]!, 2)
      assert.isAbove(opened, 2)
    }))

  it.effect("H11: sessions that idle_session_timeout ends again and again make no storm of connects, and the log says it once", () =>
    logged(Effect.fnUntraced(function*(lines) {
      const pool = yield* makePool({ min: 3, max: 5, startupParameters: { idle_session_timeout: "10" } })
      const events = yield* listen(pool)
      yield* untilStats(pool, ({ closed }) => closed >= 3)
      yield* Effect.sleep(1000)
      // Without the waits between it were 3 in each 10 ms.
      const { opened, recycled } = yield* pool.stats
      assert.isAtMost(opened, 30)
      assert.deepStrictEqual(Object.keys(recycled), ["disconnected"])
      assert.isEmpty(events.filter(({ _tag }) => _tag === "OpenFailed"))
      // It still serves, with a session that has not been idle long; the server may end that, too, before it hears of the statement.
      assert.strictEqual(yield* Effect.retry(askPool(pool, "select 1"), { times: 3 }), 1)
      // That it was idle_session_timeout (57P05) the driver keeps to itself.
      assert.deepStrictEqual(
        lines.filter((line) => line.startsWith("Warn")),
        ["Warn pool \"PgQueuePool\" loses items as soon as they are open and goes on trying"]
      )
    })))

  // The contract allows one or two more; ours are as many as may be opened at once.
  it.effect("H15: a spike while connects hang is served by the sessions there are, with openConcurrency more asked for", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const hole = yield* TcpProxy.make({ port: pg.port, mode: TcpProxy.Mode.BlackHole() })
      let opens = 0
      const pool = yield* makePool({
        max: 20,
        openConcurrency: 2,
        drainTimeout: 0,
        closeTimeout: "100 millis",
        stream: () => Net.connect({ host: pg.host, port: opens++ < 5 ? pg.port : hole.port })
      })
      // Two at a time, until five are there.
      yield* borrowed(pool, 5)
      yield* untilStats(pool, ({ idle }) => idle === 5)
      const spike = Array.from({ length: 50 }, () => askPool(pool, "select 1 from pg_sleep(0.002)"))
      assert.deepStrictEqual(yield* Effect.all(spike, { concurrency: "unbounded" }), spike.map(() => 1))
      const { opened, opening } = yield* pool.stats
      assert.deepStrictEqual({ opened, opening, opens }, { opened: 5, opening: 2, opens: 7 })
    }))

  it.effect("H16: the host's name is resolved anew for each connect", () =>
    Effect.gen(function*() {
      const names: Array<string> = []
      const { lookup } = Dns
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const watched = (name: string, ...rest: Array<never>) => {
            names.push(name)
            return Reflect.apply(lookup, Dns, [name, ...rest])
          }
          Object.assign(Dns, { lookup: watched })
        }),
        () => Effect.sync(() => Object.assign(Dns, { lookup }))
      )
      const pool = yield* makePool({ host: "localhost", max: 2 })
      yield* borrowed(pool, 2)
      yield* pool.clear
      yield* askPool(pool, "select 1")
      assert.deepStrictEqual(names, ["localhost", "localhost", "localhost"])
    }))

  it.effect("H17, H18, H19: what is left in a transaction is never lent when the rollback cannot be sent", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      for (const failed of [false, true]) {
        const pool = yield* makePool({ max: 1 })
        const first = yield* pool.use((session) =>
          Effect.gen(function*() {
            yield* session.query("begin")
            if (failed) yield* Effect.exit(session.query("select 1 / 0"))
            yield* pg.killBackends({ pid: session.processId })
            return session.processId
          })
        )
        assert.notStrictEqual(yield* askPool(pool, pid), first)
        assert.strictEqual((yield* pool.stats).closed, 1)
      }
    }))

  it.effect("H20: a session that comes back in the middle of a statement is not lent before that has ended", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 1, applicationName: "busy" })
      const left = yield* pool.use((session) =>
        Effect.forkDetach(ask(session, "select 7 from pg_sleep(0.1)"), { startImmediately: true })
      )
      // The statement of the last borrower is over when the next one's begins.
      assert.strictEqual(yield* pool.use(() => pg.sessionCount({ applicationName: "busy", state: "active" })), 0)
      assert.strictEqual(yield* Fiber.join(left), 7)
    }))

  it.effect("A15, H23: statements that are cancelled cost the server no session beyond max, and the next borrower nothing", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const pool = yield* makePool({ max: 2, applicationName: "cancelled" })
      yield* borrowed(pool, 2)
      let most = 0
      const watch = Effect.forever(
        Effect.map(pg.sessionCount({ applicationName: "cancelled" }), (count) => {
          most = Math.max(most, count)
        })
      )
      const watching = yield* Effect.forkChild(watch)
      const worker = Effect.forEach(Array.from({ length: 25 }, (_, i) => i), (i) =>
        Effect.andThen(
          Effect.timeoutOption(askPool(pool, "select pg_sleep(10)"), i % 6),
          Effect.map(askPool(pool, "select 1"), (one) => assert.strictEqual(one, 1))
        ))
      yield* Effect.replicateEffect(worker, 3, { concurrency: "unbounded" })
      yield* Fiber.interrupt(watching)
      assert.isAtMost(most, 2)
      yield* untilStats(pool, ({ idle, used }) => used === 0 && idle > 0)
    }))

  it.effect("H24: a defect in the driver's own callback ends its session at worst, and never passes half of an answer on", () =>
    Effect.gen(function*() {
      const types = PgTypes.makeRegistry()
      let armed = true
      types.register(point, {
        decode: () => {
          if (armed) throw new Error("a bug in a codec")
          return Result.succeed("a point")
        },
        encode: () => Result.succeed(new Uint8Array(16))
      })
      const pool = yield* makePool({ max: 1, types })
      const exit = yield* Effect.exit(askPool(pool, "select point(n, n) from generate_series(1, 1000) as n"))
      assert.isTrue(Exit.isFailure(exit))
      for (let n = 0; n < 5; n++) assert.strictEqual(yield* askPool(pool, `select ${n}`), n)
      armed = false
      assert.strictEqual(yield* askPool(pool, "select point(1, 1)"), "a point")
    }))

  it.effect("H25: connections that are reset at any moment of their end are an error to nobody", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const uncaught: Array<unknown> = []
      const note = (error: unknown) => void uncaught.push(error)
      yield* Effect.acquireRelease(
        Effect.sync(() => void process.on("uncaughtException", note)),
        () => Effect.sync(() => void process.off("uncaughtException", note))
      )
      const proxy = yield* TcpProxy.make({ port: pg.port })
      for (let round = 0; round < 10; round++) {
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(
          makePool({ at: proxy.through(pg.url), max: 3, drainTimeout: 0, closeTimeout: "200 millis" }),
          scope
        )
        yield* borrowed(pool, 3)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: round % 2 === 0 })
        for (let turn = 0; turn < round / 2; turn++) yield* Effect.yieldNow
        // RST while the goodbye is under way, before it, or after it.
        yield* proxy.killAll
        yield* Fiber.join(closing)
      }
      yield* Effect.sleep(10)
      assert.deepStrictEqual(uncaught, [])
    }))

  it.effect("H25: an error that a socket tells of when all is over finds a listener, that of a cancel request and of a failed connect too", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const sockets: Array<Net.Socket> = []
      const connect = refusing(pg, ["57P03"])
      const stream = () => {
        const socket = connect()
        sockets.push(socket)
        return socket
      }
      yield* Effect.scoped(Effect.gen(function*() {
        const pool = yield* makePool({ max: 2, stream })
        yield* borrowed(pool, 2)
        yield* Effect.timeoutOption(askPool(pool, "select pg_sleep(10)"), 20)
        // One that was refused, two sessions, and that of the cancel request.
        yield* until(Effect.sync(() => sockets.length === 4))
        assert.strictEqual(yield* askPool(pool, "select 1"), 1)
      }))
      yield* until(Effect.sync(() => sockets.every(({ destroyed }) => destroyed)))
      for (const socket of sockets) socket.emit("error", new Error("a late RST"))
    }))

  // The pool lends the session itself (see J2 in contract.users.test.ts); the handle that the driver gives
  // to a pin is revoked, typed, when the scope of the lease ends.
  it.effect("J2, J7: a pin of a session is worth nothing after its scope, also in a child that outlives it", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ max: 1 })
      const pinned = yield* Effect.scoped(Effect.flatMap(pool.get, (session) => session.pin))
      const child = yield* Effect.forkChild(Effect.flip(pinned.query("select 1")))
      const error = yield* Fiber.join(child)
      assert.instanceOf(error, SqlError)
      assert.include(String(error.reason.cause), "released")
      assert.strictEqual(yield* askPool(pool, "select 1"), 1)
    }))
})
