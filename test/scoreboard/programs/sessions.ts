/** Sessions of a real PostgreSQL: what is left in them, how they die, and how long they take to. */
import { Effect, Exit, Option } from "effect"
import type { Lease, Program, Subject } from "../model.ts"
import { begin, borrowed, borrowedAll, sleep, told, verdict, within } from "../watch.ts"

const anything = "pools anything: it knows no sessions"

const v5: Program = {
  id: "V5",
  name: "an old session makes room before the next",
  criterion: "the role may have 1 session, max 1, lifetime 0.1 s: 5 queries, 0.3 s apart, succeed",
  onSessions: true,
  absent: {
    "effect": anything,
    "generic-pool": "items have no lifetime",
    "tarn": "items have no lifetime",
    "lightning-pool": "items have no lifetime"
  },
  remarks: {},
  run: Effect.fnUntraced(function*({ admin, startSessions }) {
    const user = `single_${process.pid}`
    yield* Effect.promise(() => admin(`create role ${user} login connection limit 1`))
    const { pool } = yield* startSessions({ max: 1, age: 100 }, { direct: true, user })
    let failed = 0
    for (let i = 0; i < 5; i++) {
      if (i > 0) yield* sleep(300)
      const asked = Effect.flatMap(pool.borrow, (lease) => Effect.ensuring(lease.query("select 1"), lease.giveBack))
      const ending = yield* within(8000, asked)
      if (Option.isNone(ending) || Exit.isFailure(ending.value.exit)) failed++
    }
    return verdict(failed === 0, `${failed} of 5 failed`)
  })
}

const dirt = `dirt_${process.pid}`

/** What one borrower leaves behind, and the question that is true when the next finds nothing of it. */
const left: ReadonlyArray<readonly [name: string, leave: ReadonlyArray<string>, clean: string]> = [
  ["open transaction", ["begin", `insert into ${dirt} values (1)`], "select pg_current_xact_id_if_assigned() is null"],
  ["failed transaction", ["begin", "select 1 / 0"], "select true"],
  ["setting", ["set statement_timeout = '7654ms'"], "select current_setting('statement_timeout') = '0'"],
  [
    "temporary table",
    ["create temporary table left_behind (n int)"],
    "select to_regclass('pg_temp.left_behind') is null"
  ],
  [
    "advisory lock",
    ["select pg_advisory_lock(54321)"],
    "select count(*) = 0 from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
  ],
  ["listener", ["listen somebody"], "select count(*) = 0 from pg_listening_channels()"]
]

const leave = (lease: Lease, statements: ReadonlyArray<string>) =>
  Effect.forEach(statements, (sql) => Effect.exit(lease.query(sql)), { discard: true })

const v12: Program = {
  id: "V12",
  name: "a session does not pass on what was left in it",
  criterion:
    "left behind: an open transaction, a failed one, a setting, a temporary table, a lock, a listener: the next " +
    "borrower finds none of it",
  onSessions: true,
  absent: { "effect": anything, "generic-pool": "has no hook on return", "tarn": "has no hook on return" },
  remarks: {},
  run: Effect.fnUntraced(function*({ admin, startSessions }) {
    yield* Effect.promise(() => admin(`create table if not exists ${dirt} (n int)`))
    const passed: Array<string> = []
    for (const [name, statements, clean] of left) {
      const { pool } = yield* startSessions({ max: 1 }, { direct: true })
      const first = yield* borrowed(pool)
      yield* leave(first, statements)
      yield* first.giveBack
      const next = yield* borrowed(pool)
      const found = yield* Effect.exit(next.query(clean))
      if (Exit.isFailure(found) || found.value[0] !== true) passed.push(name)
      yield* next.giveBack
      yield* begin(pool.close)
    }
    return verdict(passed.length === 0, `${passed.length} of ${left.length} pass on`)
  })
}

const busy = (millis: number) => {
  const end = performance.now() + millis
  while (performance.now() < end);
}

const working = (pool: Subject) =>
  Effect.flatMap(
    Effect.exit(borrowed(pool)),
    (lease) => Exit.isFailure(lease) ? Effect.succeed(false) : lease.value.works
  )

const v15: Program = {
  id: "V15",
  name: "a dead idle item is not lent",
  criterion:
    "5 idle items die (sessions: the server ends them while the program is busy): the next 5 borrowers have a " +
    "live one each",
  onSessions: false,
  absent: {},
  remarks: {},
  run: Effect.fnUntraced(function*({ admin, hasItems, start, startSessions }) {
    const { pool } = hasItems ? yield* start({ max: 5 }) : yield* startSessions({ max: 5 }, { direct: true })
    const leases = yield* borrowedAll(pool, 5)
    for (const { giveBack } of leases) yield* giveBack
    yield* sleep(100)
    for (const { die } of leases) die()
    if (!hasItems) {
      const pids = leases.map(({ id }) => id).join()
      const ended = admin(`select pg_terminate_backend(pid) from unnest(array[${pids}]) pid`)
      busy(300)
      yield* Effect.addFinalizer(() => Effect.promise(() => ended))
    }
    const answers = yield* Effect.all(Array.from({ length: 5 }, () => working(pool)), { concurrency: "unbounded" })
    const dead = answers.filter((works) => !works).length
    return verdict(dead === 0, `${dead} of 5 dead`)
  })
}

const v18: Program = {
  id: "V18",
  name: "a stuck query ends in time, and its socket too",
  criterion:
    "over a network that has fallen silent, a query with a time limit of 1 s ends within 3 s; the pool closed " +
    "then (drain and close timeout 0.5 s), no socket is left after 3 s",
  onSessions: true,
  absent: { "effect": anything, "generic-pool": anything, "tarn": anything, "lightning-pool": anything },
  remarks: {},
  run: Effect.fnUntraced(function*({ startSessions }) {
    const { pool, sessions } = yield* startSessions({
      max: 1,
      queryTimeout: 1000,
      closeTimeout: 500,
      drainTimeout: 500
    })
    const lease = yield* borrowed(pool)
    yield* lease.query("select 1")
    sessions.blackHole()
    const query = yield* within(9000, lease.query("select 2"))
    yield* begin(lease.giveBack)
    yield* begin(pool.close)
    let sockets = yield* sessions.left
    for (let i = 0; i < 30 && sockets > 0; i++) sockets = yield* sessions.left
    const inTime = Option.isSome(query) && query.value.millis < 3000
    return verdict(inTime && sockets === 0, `${told(query).replace("error in ", "")}, ${sockets} sockets left`)
  })
}

export const sessionPrograms: ReadonlyArray<Program> = [v5, v12, v15, v18]
