/**
 * One PostgreSQL server process on 127.0.0.1, with its data directory.
 */
import { type Duration, Effect, Schedule, type Scope, Semaphore } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import { Socket } from "node:net"
import * as Path from "node:path"
import { EmbeddedPgError, env, findPlace, hint, type Place, prepare, run, type RunAs } from "./pgFiles.ts"
import { freePort, live, waitUntil } from "./real.ts"

export interface Options {
  /** Sessions that clients can have at once, beside the kit's own. Defaults to 100. */
  readonly maxConnections?: number | undefined
  /** Further settings, as in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string | number | boolean>> | undefined
  readonly startTimeout?: Duration.Input | undefined
  /** Makes the data directory, for the user that the server runs as. Default: a copy of one that is freshly initialised. */
  readonly fill?: ((data: string, runAs: RunAs) => Effect.Effect<void, EmbeddedPgError>) | undefined
}

/** `fast` ends sessions with a message and keeps the data; `immediate` is a crash, with recovery at the next start. */
export type StopMode = "fast" | "immediate"

export interface PgServer {
  readonly port: number
  /** The data directory, and the user that it belongs to. */
  readonly data: string
  readonly runAs: RunAs
  readonly start: Effect.Effect<void, EmbeddedPgError>
  readonly stop: (mode: StopMode) => Effect.Effect<void>
  /** The last lines that the server has logged since its start. */
  readonly log: Effect.Effect<string>
}

const kill = [["SIGQUIT", "7 seconds"], ["SIGKILL", "5 seconds"]] as const
const stopSteps = { immediate: kill, fast: [["SIGINT", "5 seconds"], ...kill] } as const

/**
 * Waits for the end of its input, that is for the end of this process, however
 * it comes about; then it ends the server whose process id it read last, and
 * removes the directory. PostgreSQL itself kills what is left of its backends
 * within 5 seconds of SIGQUIT.
 */
const watchdog = `
trap "" HUP INT TERM
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null; then
  n=0
  while [ -e "$1/data/postmaster.pid" ] && kill -0 "$pid" 2>/dev/null; do
    n=$((n + 1))
    if [ $n -gt 80 ]; then kill -KILL "$pid"; break; fi
    sleep 0.1
  done
fi
rm -rf "$1"
`

interface Running {
  readonly child: ChildProcess
  ended: boolean
}

const makeDirectory = ({ parent, runAs }: Place) =>
  Effect.acquireRelease(
    Effect.try({
      try: () => {
        const directory = Fs.mkdtempSync(Path.join(parent, "effect-queuepool-run-"))
        if (runAs !== undefined) Fs.chownSync(directory, runAs.uid, runAs.gid)
        return directory
      },
      catch: (cause) =>
        new EmbeddedPgError({ reason: "Files", message: `No directory in ${parent}: ${String(cause)}`, cause })
    }),
    (directory) =>
      Effect.promise(() => Fs.promises.rm(directory, { recursive: true, force: true, maxRetries: 10 })).pipe(
        Effect.ignoreCause
      )
  )

const startWatchdog = (directory: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn("sh", ["-c", watchdog, "sh", directory], {
        cwd: "/",
        env,
        // A session of its own: neither Ctrl-C nor a closing terminal reaches it.
        detached: true,
        stdio: ["pipe", "ignore", "ignore"]
      })
      const running: Running = { child, ended: false }
      const end = () => running.ended = true
      child.on("exit", end).on("error", end).unref()
      const input = child.stdin
      input.on("error", () => {})
      // The pipe must not keep this process from ending.
      if (input instanceof Socket) input.unref()
      return { running, input, tell: (pid: number | "") => input.write(`${pid}\n`) }
    }),
    ({ input, running }) =>
      Effect.sync(() => input.end()).pipe(Effect.andThen(waitUntil(() => running.ended, "5 seconds")))
  )

const tail = (path: string, from: number): string => {
  const file = Fs.openSync(path, "r")
  try {
    const { size } = Fs.fstatSync(file)
    const buffer = Buffer.alloc(Math.min(size - from, 16_384))
    Fs.readSync(file, buffer, 0, buffer.length, size - buffer.length)
    return buffer.toString().trimEnd().split("\n").slice(-25).join("\n")
  } finally {
    Fs.closeSync(file)
  }
}

const portIsTaken = (error: EmbeddedPgError) => error.message.includes("Address already in use")

/**
 * Copies the data directory and starts a server on it. The scope's end stops
 * the server and removes the copy; so does the end of this process.
 */
export const make: (options: Options) => Effect.Effect<PgServer, EmbeddedPgError, Scope.Scope> = Effect.fnUntraced(
  function*({ fill, maxConnections = 100, settings = {}, startTimeout = "30 seconds" }: Options) {
    const place = yield* findPlace
    const directory = yield* makeDirectory(place)
    const guard = yield* startWatchdog(directory)
    const { postgres, template } = yield* prepare(place, directory)
    const data = Path.join(directory, "data")
    yield* fill === undefined ? run("cp", ["-R", template, data], place.runAs) : fill(data, place.runAs)

    const args = Object.entries({
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      // The kit keeps one session, so that it gets through when clients have taken all.
      max_connections: maxConnections + 1,
      superuser_reserved_connections: 0,
      fsync: "off",
      synchronous_commit: "off",
      full_page_writes: "off",
      max_wal_size: "128MB",
      log_line_prefix: "%m [%p] %q%a ",
      ...settings
    }).flatMap(([name, value]) => ["-c", `${name}=${value}`])

    // A file, not a pipe: with a pipe the server waits for this process to read.
    const logFile = Path.join(directory, "log")
    const output = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.openSync(logFile, "a", 0o600)),
      (output) => Effect.sync(() => Fs.closeSync(output))
    )
    let logStart = 0
    const log = Effect.sync(() => tail(logFile, logStart))

    const launch = (port: number): Running => {
      logStart = Fs.fstatSync(output).size
      const child = spawn(postgres, ["-D", data, "-p", `${port}`, ...args], {
        cwd: "/",
        env,
        detached: true,
        stdio: ["ignore", output, output],
        ...place.runAs
      })
      const running: Running = { child, ended: false }
      child.on("exit", () => {
        running.ended = true
        guard.tell("")
      })
      child.on("error", (error: NodeJS.ErrnoException) => {
        Fs.writeSync(output, `${error.message}${hint(postgres, error)}\n`)
        running.ended = true
      })
      child.unref()
      if (child.pid !== undefined) guard.tell(child.pid)
      return running
    }

    // What pg_ctl waits for. A connection would prove less: the port could be another server's.
    const isReady = (running: Running): boolean => {
      try {
        const lines = Fs.readFileSync(Path.join(data, "postmaster.pid"), "utf8").split("\n")
        return !running.ended && lines[0] === `${running.child.pid}` && lines[7]?.trim() === "ready"
      } catch {
        return false
      }
    }

    let running: Running | undefined
    const lock = Semaphore.makeUnsafe(1)

    const end = Effect.fnUntraced(function*(mode: StopMode) {
      if (running === undefined) return
      const { child } = running
      for (const [signal, within] of stopSteps[mode]) {
        if (running.ended) return
        child.kill(signal)
        const current = running
        yield* waitUntil(() => current.ended, within)
      }
    })

    const start = Effect.fnUntraced(function*(port: number) {
      const current = running === undefined || running.ended ? launch(port) : running
      running = current
      yield* waitUntil(() => current.ended || isReady(current), startTimeout)
      return yield* isReady(current) ? Effect.void : giveUp(current)
    })

    const giveUp = Effect.fnUntraced(function*({ ended }: Running) {
      yield* end("immediate")
      const state = ended ? "ended while starting" : "was not ready in time"
      return yield* new EmbeddedPgError({ reason: "Start", message: `PostgreSQL ${state}\n${yield* log}` })
    })

    yield* Effect.addFinalizer(() => lock.withPermit(end("fast")))
    const port = yield* freePort.pipe(
      Effect.tap(start),
      Effect.retry({ while: portIsTaken, times: 5 })
    )

    return {
      port,
      data,
      runAs: place.runAs,
      start: start(port).pipe(
        // Somebody's outgoing connection may have the port for a moment.
        Effect.retry({ while: portIsTaken, schedule: Schedule.spaced("200 millis"), times: 25 }),
        (start) => lock.withPermit(start),
        live
      ),
      stop: (mode: StopMode) => lock.withPermit(Effect.uninterruptible(end(mode))),
      log
    }
  },
  live
)
