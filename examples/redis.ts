/**
 * A Redis client on pooled sockets: AUTH when a connection is opened, PING before one is
 * lent that was idle for long, replies read one by one. Against a redis-server of its
 * own where one is installed, and otherwise against a few lines that speak the same.
 *
 * npm run example redis
 */
import { Console, Data, Effect, Schedule, type Scope } from "effect"
import * as SocketQueuePool from "effect-queuepool/SocketQueuePool"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"

class RedisError extends Data.TaggedError("RedisError")<{ readonly message: string }> {}

type Reply = string | number | null | ReadonlyArray<Reply>
type Failure = RedisError | SocketQueuePool.ConnectionError

/** A command as Redis has it: an array of strings with their lengths. */
const encode = (words: ReadonlyArray<string>): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`

const reply = (connection: SocketQueuePool.Connection): Effect.Effect<Reply, Failure> =>
  Effect.gen(function*() {
    const line = (yield* connection.readUntil("\r\n")).toString()
    const rest = line.slice(1)
    switch (line[0]) {
      case "+":
        return rest
      case ":":
        return Number(rest)
      case "$": {
        if (rest === "-1") return null
        const text = yield* connection.readExactly(Number(rest) + 2)
        return text.subarray(0, -2).toString()
      }
      case "*": {
        const replies: Array<Reply> = []
        for (let left = Number(rest); left > 0; left--) replies.push(yield* reply(connection))
        return replies
      }
      default:
        // The answer is read whole: this error costs no connection.
        yield* connection.settle
        return yield* new RedisError({ message: rest })
    }
  })

const command = (connection: SocketQueuePool.Connection, ...words: ReadonlyArray<string>) =>
  Effect.andThen(connection.write(encode(words)), Effect.tap(reply(connection), connection.settle))

/** Sends all, then reads all. */
const pipeline = (connection: SocketQueuePool.Connection, commands: ReadonlyArray<ReadonlyArray<string>>) =>
  connection.write(commands.map(encode).join("")).pipe(
    Effect.andThen(Effect.forEach(commands, () => reply(connection))),
    Effect.tap(connection.settle)
  )

const password = "secret"

const program = Effect.gen(function*() {
  const { endpoint, what } = yield* server
  yield* Console.log(`against ${what}`)
  const options = (password: string): SocketQueuePool.Options<Failure> => ({
    endpoint,
    name: "examples/redis",
    max: 4,
    onAcquire: (connection) => command(connection, "AUTH", password),
    check: (connection) => Effect.map(command(connection, "PING"), (answer) => answer === "PONG"),
    checkAfter: "20 millis",
    // The server may be starting.
    retry: Schedule.spaced("20 millis").pipe(
      Schedule.setInputType<unknown>(),
      Schedule.while(({ input }) => SocketQueuePool.isTransient(input))
    )
  })
  const pool = yield* SocketQueuePool.make(options(password))
  const run = (...words: ReadonlyArray<string>) => pool.use((connection) => command(connection, ...words))
  const show = (what: string) =>
    Effect.flatMap(pool.stats, ({ idle, opened, recycled }) => Console.log(what, { opened, idle, recycled }))

  yield* Console.log(
    yield* run("SET", "greeting", "hello"),
    yield* run("GET", "greeting"),
    yield* run("GET", "nothing")
  )
  yield* show("three commands, one connection:")

  const incr = Array.from({ length: 100 }, () => ["INCR", "counter"])
  yield* Effect.forEach(incr, (words) => run(...words), { concurrency: "unbounded" })
  const last = yield* pool.use((connection) => pipeline(connection, incr))
  yield* Console.log("counted to", last.at(-1))
  yield* show("a hundred at once, and a hundred in a row:")

  const wrong = yield* Effect.flip(run("INCR", "greeting"))
  yield* show(`an error that is an answer (${wrong.message}):`)

  yield* Effect.sleep(30)
  yield* run("GET", "greeting")
  yield* show("after a rest, with a PING before:")

  yield* run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
  while ((yield* pool.stats).idle > 1) yield* Effect.sleep(1)
  yield* show("the server has ended the others:")

  const strangers = yield* SocketQueuePool.make(options("guess"))
  const refused = yield* Effect.flip(strangers.use((connection) => command(connection, "PING")))
  yield* Console.log("with another password:", refused.message)
})

// ---- a server

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "redis-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

interface Server {
  readonly endpoint: SocketQueuePool.Endpoint
  readonly what: string
}

const server: Effect.Effect<Server, never, Scope.Scope> = Effect.suspend(() =>
  Effect.catchTag(installed, "RedisError", () => builtIn)
)

/** Runs until the scope closes; fails where there is none. */
const installed = Effect.gen(function*() {
  const path = Path.join(yield* folder, "socket")
  yield* Effect.acquireRelease(
    Effect.callback<{ readonly stop: Effect.Effect<void> }, RedisError>((resume) => {
      const settings = ["--port", "0", "--unixsocket", path, "--requirepass", password, "--save", ""]
      const child = spawn("redis-server", settings, { stdio: "ignore", cwd: Path.dirname(path) })
      child.once("error", ({ message }) => resume(Effect.fail(new RedisError({ message }))))
      const stop = Effect.callback<void>((resume) => {
        child.once("close", () => resume(Effect.void)).kill()
      })
      child.once("spawn", () => resume(Effect.succeed({ stop })))
    }),
    ({ stop }) => stop
  )
  return { endpoint: { path }, what: "redis-server" }
})

/** As much of Redis as is asked for above. */
const builtIn = Effect.gen(function*() {
  const values = new Map<string, string>()
  const clients = new Set<Net.Socket>()
  const answer = (socket: Net.Socket, [name = "", ...words]: ReadonlyArray<string>): string => {
    const [key = "", value = ""] = words
    if (name === "AUTH") {
      return key === password ? "+OK" : "-WRONGPASS invalid username-password pair or user is disabled."
    }
    if (name === "PING") return "+PONG"
    if (name === "CLIENT") {
      const others = Array.from(clients).filter((one) => one !== socket)
      for (const other of others) other.destroy()
      return `:${others.length}`
    }
    if (name === "SET") {
      values.set(key, value)
      return "+OK"
    }
    const found = values.get(key)
    if (name === "GET") return found === undefined ? "$-1" : `$${Buffer.byteLength(found)}\r\n${found}`
    const next = Number(found ?? 0) + 1
    if (Number.isNaN(next)) return "-ERR value is not an integer or out of range"
    values.set(key, `${next}`)
    return `:${next}`
  }
  const accept = (socket: Net.Socket) => {
    const pending: Array<string> = []
    clients.add(socket)
    socket.on("error", () => {})
    socket.on("close", () => clients.delete(socket))
    // One command is `*count`, then `$length` and a word for each.
    socket.on("data", (data) => {
      const lines = (pending.pop() ?? "") + data.toString()
      pending.push(...lines.split("\r\n"))
      while (pending.length > 1 && pending.length > 2 * Number(pending[0]!.slice(1)) + 1) {
        const command = pending.splice(0, 2 * Number(pending[0]!.slice(1)) + 1)
        socket.write(`${answer(socket, command.filter((_, index) => index > 0 && index % 2 === 0))}\r\n`)
      }
    })
  }
  const server = Net.createServer(accept)
  const port = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as Net.AddressInfo).port)))
    }),
    () =>
      Effect.sync(() => {
        server.close()
        for (const client of clients) client.destroy()
      })
  )
  return { endpoint: { host: "127.0.0.1", port }, what: "a server in this process: no redis-server was found" }
})

await Effect.runPromise(Effect.scoped(program))
