import { assert, describe, it } from "@effect/vitest"
import { Cause, Data, Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { PoolError } from "effect-queuepool"
import * as PgCluster from "effect-queuepool/PgCluster"
import { TestClock } from "effect/testing"
import { learn, type Learnt } from "../src/internal/pgRole.ts"
import { Roles } from "../src/internal/pgRoles.ts"
import { watch } from "../src/internal/pgWatch.ts"

const primary: Learnt = { role: "primary", timeline: 1 }
const replica: Learnt = { role: "replica", timeline: 0 }

class Away extends Data.TaggedError("Away")<{ readonly message: string }> {}

/** A node that is what the test says, and counts how often it is connected to and asked. */
class Server {
  is: Learnt | "away" | "silent" | "stuck" = primary
  connects = 0
  asked = 0
  open = 0
  lose: () => void = () => {}
}

const world = (...names: ReadonlyArray<string>) => worldOf(2000, ...names)

const worldOf = Effect.fnUntraced(function*(interval: number, ...names: ReadonlyArray<string>) {
  const roles = new Roles(names)
  const servers = new Map(names.map((name) => [name, new Server()]))
  const demoted: Array<string> = []
  const fail = (message: string) => Effect.fail(new Away({ message }))
  for (const name of names) {
    const server = servers.get(name)!
    const answer = Effect.suspend((): Effect.Effect<Learnt, Away> => {
      server.asked++
      return server.is === "silent"
        ? Effect.never
        : server.is === "stuck"
        ? Effect.uninterruptible(Effect.as(Effect.sleep("5 seconds"), primary))
        : typeof server.is === "string"
        ? fail(server.is)
        : Effect.succeed(server.is)
    })
    yield* Effect.forkScoped(
      watch(name, {
        roles,
        interval,
        timeout: 1000,
        demoted: Effect.sync(() => void demoted.push(name)),
        open: (_, onLost) =>
          Effect.acquireRelease(
            Effect.suspend(() => {
              server.connects++
              if (server.is === "away") return fail(server.is)
              server.open++
              server.lose = onLost
              return Effect.succeed(answer)
            }),
            () => Effect.sync(() => server.open--)
          )
      }),
      { startImmediately: true }
    )
  }
  yield* settled
  return { roles, demoted, server: (name: string) => servers.get(name)! }
})

const settled = Effect.replicateEffect(Effect.yieldNow, 20, { discard: true })

describe("the role of a node", () => {
  it.effect("is asked for over one session, every so often", () =>
    Effect.gen(function*() {
      const { roles, server } = yield* world("a")
      const a = server("a")
      assert.strictEqual(roles.primary, "a")
      assert.deepStrictEqual([a.connects, a.asked], [1, 1])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([a.connects, a.asked], [1, 6])
    }))

  it.effect("four times a second while there is no primary", () =>
    Effect.gen(function*() {
      const { roles, server } = yield* world("a", "b")
      server("b").is = replica
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual([roles.primary, roles.replicas], ["a", ["b"]])
      const before = server("b").asked
      server("a").is = replica
      yield* TestClock.adjust("2 seconds")
      assert.isUndefined(roles.primary)
      // Both at the moment in which the primary was lost, and then by the quarter.
      const then = server("b").asked
      assert.isAbove(then, before)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(server("b").asked, then + 4)
      server("b").is = primary
      yield* TestClock.adjust("250 millis")
      assert.strictEqual(roles.primary, "b")
    }))

  it.effect("is unknown as soon as its connection ends, and the others are asked at once", () =>
    Effect.gen(function*() {
      const { roles, server } = yield* world("a", "b")
      server("b").is = replica
      yield* TestClock.adjust("2 seconds")
      server("a").is = "away"
      server("b").is = { role: "primary", timeline: 2 }
      server("a").lose()
      yield* settled
      assert.isUndefined(roles.roleOf("a"))
      assert.strictEqual(roles.primary, "b")
      assert.strictEqual(roles.describe(), "a is out of reach (away), b is the primary")
      assert.strictEqual(server("a").open, 0)
    }))

  it.effect("is unknown when it does not answer in time, or cannot be connected to", () =>
    Effect.gen(function*() {
      const { roles, server } = yield* world("a")
      server("a").is = "silent"
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(roles.roleOf("a"), "primary")
      yield* TestClock.adjust("1 second")
      assert.isUndefined(roles.roleOf("a"))
      assert.strictEqual(server("a").open, 0)
    }))

  it.effect("also while the driver cannot give the question up, or the connection does not come about", () =>
    Effect.gen(function*() {
      const { roles, server } = yield* world("a")
      server("a").is = "stuck"
      yield* TestClock.adjust("3 seconds")
      assert.isUndefined(roles.roleOf("a"))
      assert.strictEqual(roles.describe(), "a is out of reach (no answer within 1000ms)")
      assert.strictEqual(server("a").open, 1)
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(server("a").open, 0)
      server("a").is = primary
      yield* TestClock.adjust("1 second")
      assert.strictEqual(roles.primary, "a")
    }))

  it.effect("is tried for ever less often while the node is away, and asked at once when it is back", () =>
    Effect.gen(function*() {
      const { roles, server } = yield* world("a")
      const a = server("a")
      a.is = "away"
      a.lose()
      yield* settled
      assert.strictEqual(a.connects, 1)
      yield* TestClock.adjust("125 millis")
      assert.strictEqual(a.connects, 2)
      yield* TestClock.adjust("10 seconds")
      const soon = a.connects
      assert.isAtMost(soon, 12)
      yield* TestClock.adjust("1 minute")
      assert.isAtMost(a.connects - soon, 38)
      assert.isAtLeast(a.connects - soon, 25)
      a.is = primary
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(roles.primary, "a")
      // And soon again when it is lost again.
      const then = a.connects
      a.is = "away"
      a.lose()
      yield* settled
      yield* TestClock.adjust("125 millis")
      assert.strictEqual(a.connects, then + 1)
    }))

  it.effect("is tried for soon enough, also where it is seldom asked for", () =>
    Effect.gen(function*() {
      const { roles, server } = yield* worldOf(3_600_000, "a")
      server("a").is = "away"
      server("a").lose()
      yield* TestClock.adjust("10 minutes")
      server("a").is = primary
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(roles.primary, "a")
    }))

  it.effect("is asked again when a session is lost, and by a new session when one has met a read-only server", () =>
    Effect.gen(function*() {
      const { demoted, roles, server } = yield* world("a")
      const a = server("a")
      roles.ask("a")
      yield* settled
      assert.deepStrictEqual([a.connects, a.asked], [1, 2])
      a.is = replica
      roles.doubt("a")
      assert.isUndefined(roles.roleOf("a"))
      yield* settled
      assert.deepStrictEqual([a.connects, a.open], [2, 1])
      assert.deepStrictEqual(demoted, ["a"])
      assert.strictEqual(roles.roleOf("a"), "replica")
    }))

  it.effect("is asked again when that was wanted while it was being asked", () =>
    Effect.gen(function*() {
      const { roles, server } = yield* world("a")
      const a = server("a")
      a.is = "silent"
      roles.ask("a")
      yield* settled
      assert.strictEqual(a.asked, 2)
      roles.ask("a")
      a.is = primary
      // The question under way ends with its time, and a new session asks.
      yield* TestClock.adjust("2 seconds")
      assert.isAbove(a.asked, 2)
      assert.strictEqual(roles.primary, "a")
    }))
})

describe("of several that say they are the primary", () => {
  it.effect("the one on the newest timeline is, and an older one is not, also when it is alone", () =>
    Effect.sync(() => {
      const roles = new Roles(["a", "b"])
      roles.learnt("a", primary)
      roles.learnt("b", { role: "primary", timeline: 2 })
      assert.strictEqual(roles.primary, "b")
      roles.lost("b", Cause.fail(new Away({ message: "gone" })))
      assert.isUndefined(roles.primary)
      assert.strictEqual(roles.describe(), "a was the primary before a failover, b is out of reach (gone)")
      roles.learnt("a", primary)
      assert.isUndefined(roles.primary)
      roles.lost("b", Cause.fail("why"))
      assert.strictEqual(roles.describe(), "a was the primary before a failover, b is out of reach (why)")
    }))

  it.effect("the timeline is that of the log, or not known where a server keeps it to itself", () =>
    Effect.gen(function*() {
      const session = (recovers: boolean, timeline: Effect.Effect<unknown, string>) =>
        ({
          queryValues: (sql: string) =>
            Effect.map(sql.includes("pg_is_in_recovery") ? Effect.succeed(recovers) : timeline, (value) => [[value]])
        }) as never
      assert.deepStrictEqual(yield* learn(session(false, Effect.succeed("0000000A"))), {
        role: "primary",
        timeline: 10
      })
      assert.deepStrictEqual(yield* learn(session(false, Effect.fail("not supported"))), {
        role: "primary",
        timeline: 0
      })
      assert.deepStrictEqual(yield* learn(session(true, Effect.die("is not asked"))), replica)
    }))
})

describe("waiting for roles", () => {
  it.effect("ends when it holds, or is given up", () =>
    Effect.gen(function*() {
      const roles = new Roles(["a"])
      const there = yield* Effect.forkChild(roles.until(() => roles.primary === "a"), { startImmediately: true })
      const given = yield* Effect.forkChild(roles.until(() => false), { startImmediately: true })
      roles.learnt("a", primary)
      yield* Fiber.join(there)
      yield* Fiber.interrupt(given)
      yield* roles.until(() => true)
      const asked = yield* Effect.forkChild(roles.asked("a"), { startImmediately: true })
      yield* Fiber.interrupt(asked)
      roles.ask("a")
      assert.strictEqual(yield* roles.asked("a"), "again")
      const done = yield* Deferred.make<void>()
      yield* Deferred.succeed(done, undefined)
    }))
})

describe("options", () => {
  const problems = (options: object) =>
    Effect.map(Effect.flip(Effect.scoped(PgCluster.make(options as never))), (error) => {
      assert.instanceOf(error, PoolError.PoolError)
      assert.strictEqual(error.reason._tag, "InvalidOptions")
      return (error.reason as PoolError.InvalidOptions).problems.map(({ option }) => option).toSorted()
    })

  it.effect("that are wrong are named, all at once", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* problems({
          nodes: [],
          name: "wrong",
          choose: "fastest",
          readFromPrimary: "sometimes",
          roleInterval: 0,
          roleTimeout: "soon",
          maxTotal: 0.5,
          warm: "eager",
          max: -1,
          reset: "all",
          colour: "blue"
        }),
        [
          "choose",
          "colour",
          "max",
          "maxTotal",
          "nodes",
          "readFromPrimary",
          "reset",
          "roleInterval",
          "roleTimeout",
          "warm"
        ]
      )
      assert.deepStrictEqual(yield* problems({ nodes: "localhost" }), ["nodes"])
      assert.deepStrictEqual(yield* problems({}), ["nodes"])
      assert.deepStrictEqual(yield* problems({ nodes: [{ port: 1 }, { host: "localhost", port: 1 }] }), ["nodes"])
    }))

  it.live("whoever waits for a role when the cluster is closed is told so at once", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { writer } = yield* Scope.provide(
        PgCluster.make({ nodes: [{ host: "127.0.0.1", port: 1 }], borrowTimeout: "Infinity" }),
        scope
      )
      const waiting = yield* Effect.forkChild(Effect.flip(writer.use(() => Effect.void)), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      const error = yield* Fiber.join(waiting)
      assert.instanceOf(error, PoolError.PoolError)
      assert.deepStrictEqual([error.pool, error.reason._tag], ["PgCluster/writer", "Closed"])
    }))

  it.effect("a node is called by where it is, if it has no name", () =>
    Effect.gen(function*() {
      const { reader } = yield* PgCluster.make({
        nodes: [{ host: "127.0.0.1", port: 1 }, { path: "/nowhere" }, { name: "third", port: 1 }],
        maxTotal: 3
      })
      assert.deepStrictEqual((yield* reader.nodes).map(({ node }) => node), ["127.0.0.1:1", "/nowhere", "third"])
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(reader.nodes)))
    }))
})
