/**
 * What goes wrong in a run. A fault is a scoped effect: it goes on until its scope
 * closes, and says what it has done.
 */
import { Effect, Random, type Scope } from "effect"
import { Mode } from "../kit/TcpProxy.ts"
import { oneOf } from "./chance.ts"
import { role } from "./setting.ts"
import type { World } from "./world.ts"

/** Milliseconds. */
export const shortestFault = 200
export const longestFault = 3000

export type Fault = (world: World) => Effect.Effect<string, unknown, Scope.Scope>

/** The end of a fault must come, though the server may be away for the moment. */
const surely = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<void> =>
  Effect.timeout(effect, "2 seconds").pipe(
    Effect.retry({ times: 100 }),
    Effect.asVoid,
    Effect.orDie
  )

// ---- sessions

/** So many at random, at least one, of the server's sessions of the pool. */
const victims = ({ pg }: World) =>
  Effect.gen(function*() {
    const rows = yield* Effect.timeout(
      pg.query("select pid from pg_stat_activity where usename = $1 order by pid", [role]),
      "1 second"
    )
    const pids = yield* Random.shuffle(rows.map(({ pid }) => Number(pid)))
    return pids.slice(0, yield* Random.nextIntBetween(1, Math.max(1, pids.length)))
  })

const killSessions = (world: World) =>
  Effect.gen(function*() {
    const pids = yield* victims(world)
    if (pids.length > 0) {
      yield* world.pg.query(`select pg_terminate_backend(pid) from unnest(array[${pids.join()}]) pid`)
    }
    return `killed ${pids.length} sessions`
  })

const freezeSessions = (world: World) =>
  Effect.gen(function*() {
    const { pg } = world
    const pids = yield* victims(world)
    yield* Effect.addFinalizer(() => Effect.forEach(pids, (pid) => Effect.ignore(pg.resume(pid)), { discard: true }))
    // One may have ended meanwhile. Asked first for all: what is stopped may keep the server from an answer.
    for (const pid of pids) yield* Effect.ignore(Effect.timeout(pg.pause(pid), "1 second"))
    return `stopped ${pids.length} sessions`
  })

// ---- the network

const network = ({ proxy }: World, mode: Mode, resets: boolean) =>
  Effect.gen(function*() {
    yield* proxy.setMode(mode)
    yield* Effect.addFinalizer(() => proxy.setMode(Mode.Pass()))
    const count = resets ? yield* proxy.killAll : 0
    return resets ? `${mode._tag}, and reset ${count} connections` : mode._tag
  })

/** Its end delivers what was held back, or it has gone for good. */
const blackHole = (world: World) =>
  Effect.gen(function*() {
    const forgets = yield* Random.nextBoolean
    const what = yield* network(world, Mode.BlackHole(), false)
    if (!forgets) return what
    yield* Effect.addFinalizer(() => world.proxy.killAll)
    return `${what}, for good`
  })

const slow = (world: World) =>
  Effect.flatMap(Random.nextIntBetween(5, 150), (delay) => network(world, Mode.Slow({ delay }), false))

const byteLimit = (world: World) =>
  Effect.flatMap(Random.nextIntBetween(1, 4000), (bytes) => network(world, Mode.ByteLimit({ bytes }), false))

// ---- the server

const restart = (mode: "fast" | "immediate") => ({ pg }: World) =>
  Effect.gen(function*() {
    const downFor = yield* Random.nextIntBetween(0, 800)
    yield* Effect.orDie(pg.restart({ mode, downFor }))
    return `restarted, ${mode}, down for ${downFor}ms`
  })

const roleLimit = (world: World) =>
  Effect.gen(function*() {
    const { pg, setting } = world
    const limit = yield* Random.nextIntBetween(1, setting.max - 1)
    yield* Effect.addFinalizer(() => surely(pg.query(`alter role ${role} connection limit -1`)))
    yield* pg.query(`alter role ${role} connection limit ${limit}`)
    return `the role may have ${limit} sessions, ${yield* killSessions(world)}`
  })

/** For all sessions, those too that are there; but not for the superuser. */
const setting = (name: string, shortest: number, longest: number) => ({ pg }: World) =>
  Effect.gen(function*() {
    const millis = yield* Random.nextIntBetween(shortest, longest)
    const change = (sql: string) => Effect.andThen(pg.query(sql), pg.query("select pg_reload_conf()"))
    yield* Effect.addFinalizer(() => surely(change(`alter system reset ${name}`)))
    yield* change(`alter system set ${name} = ${millis}`)
    return `${name} is ${millis}ms`
  })

// ---- what its owner does to the pool

const clear = ({ pool }: World) =>
  Effect.gen(function*() {
    const over = yield* oneOf([0, 500])
    yield* over === 0 ? pool.clear : pool.clearWith({ over })
    return `clear over ${over}ms`
  })

const resize = ({ pool, setting }: World) =>
  Effect.gen(function*() {
    const max = yield* Random.nextIntBetween(2, setting.max - 1)
    const back = { max: setting.max, min: setting.min, minIdle: setting.minIdle }
    yield* Effect.addFinalizer(() => Effect.orDie(pool.resize(back)))
    yield* pool.resize({ max, min: Math.min(setting.min, max), minIdle: Math.min(setting.minIdle, max) })
    return `max is ${max}`
  })

const suspend = ({ pool }: World) =>
  Effect.gen(function*() {
    yield* Effect.addFinalizer(() => pool.resume)
    yield* pool.suspend
    return "suspended"
  })

/** The new way is the old one; it may fail, as another fault may go on. */
const swap = ({ swap }: World) =>
  Effect.gen(function*() {
    const exit = yield* Effect.exit(Effect.timeout(swap, "4 seconds"))
    return `swap ${exit._tag}`
  })

/** By kind, and the kinds by what they hit: of each at most one at a time. */
export const faults = {
  sessions: { "kill sessions": killSessions, "stop sessions": freezeSessions },
  network: {
    "black hole": blackHole,
    reset: (world: World) => network(world, Mode.Reset(), false),
    slow,
    refuse: (world: World) => network(world, Mode.Refuse(), true),
    "accept then close": (world: World) => network(world, Mode.AcceptThenClose(), true),
    "byte limit": byteLimit
  },
  server: {
    "restart fast": restart("fast"),
    "restart immediate": restart("immediate"),
    "role limit": roleLimit,
    idle_session_timeout: setting("idle_session_timeout", 20, 200),
    statement_timeout: setting("statement_timeout", 5, 100)
  },
  pool: { clear, resize, suspend, swap }
} satisfies Record<string, Record<string, Fault>>
