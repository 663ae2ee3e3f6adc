/**
 * Makes package-lock.json the same for every machine: no addresses, every platform's package, no demands on the Node
 * that runs npm. With `--check` changes nothing and fails if something is amiss.
 *
 * Native tools come as one optional package per platform, and npm leaves out of the lock file those that the registry
 * in use does not have; `npm ci` then refuses the lock file where they can be had. Their `os`, `cpu` and `libc` are
 * read off their names, which is how all of them are named.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

interface Entry {
  version?: string | undefined
  resolved?: string
  integrity?: string | undefined
  engines?: unknown
  dev?: boolean | undefined
  peer?: boolean | undefined
  optional?: boolean
  os?: Array<string> | undefined
  cpu?: Array<string> | undefined
  libc?: Array<string> | undefined
  optionalDependencies?: Record<string, string>
}

const file = Path.resolve(import.meta.dirname, "../../package-lock.json")
const before = Fs.readFileSync(file, "utf8")
const lock: { packages: Record<string, Entry> } = JSON.parse(before)

const pick = (name: string, table: Record<string, RegExp>): Array<string> | undefined => {
  const found = Object.keys(table).find((key) => table[key]!.test(name))
  return found === undefined ? undefined : [found]
}

const systems = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"]
const processors = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"]
const word = (text: string) => new RegExp(`[-/]${text}(-|$)`)
const os = { ...Object.fromEntries(systems.map((name) => [name, word(name)])), win32: word("win(32|dows)") }
const cpu = Object.fromEntries(processors.map((name) => [name, word(name)]))
const libc = { glibc: word("(gnu|glibc)"), musl: word("musl") }

const missing = (name: string, version: string, { dev, peer }: Entry): Entry => {
  const entry: Entry = { version, cpu: pick(name, cpu), dev, optional: true, os: pick(name, os), peer }
  if (entry.cpu === undefined || entry.os === undefined || !/^\d+\.\d+\.\d+/.test(version)) {
    throw new Error(`${name}@${version}: add it to package-lock.json by hand`)
  }
  return entry
}

const nested = (value: unknown) => typeof value === "object" && !Array.isArray(value)

/** The same entry, its keys in npm's order: objects last. */
const ordered = ({ integrity, version, ...rest }: Entry): Entry => {
  const keys = Object.entries(rest).toSorted(([a, x], [b, y]) =>
    Number(nested(x)) - Number(nested(y)) || (a < b ? -1 : 1)
  )
  return { version, integrity, ...Object.fromEntries(keys) }
}

for (const [path, entry] of Object.entries(lock.packages)) {
  if (path === "") continue
  delete entry.resolved
  // They all run under the Node of node_modules/.bin. With the older Node that may run npm, npm would warn of them,
  // and leave out the optional ones.
  delete entry.engines
}

for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const places = [`${path}/node_modules/${name}`, `node_modules/${name}`]
    const place = places.find((each) => each in lock.packages) ?? `node_modules/${name}`
    const found = lock.packages[place] ?? missing(name, version, entry)
    // npm 10 drops `libc`.
    lock.packages[place] = ordered({ ...found, libc: pick(name, libc) })
  }
}

const [root, ...rest] = Object.entries(lock.packages)
lock.packages = Object.fromEntries([root!, ...rest.toSorted(([a], [b]) => a.localeCompare(b, "en"))])
const after = `${JSON.stringify(lock, null, 2)}\n`

if (after === before) {
  console.log(`${Object.keys(lock.packages).length} packages, every platform, no addresses`)
} else if (process.argv.includes("--check")) {
  console.error("package-lock.json is not complete or not portable: npm run lock")
  process.exitCode = 1
} else {
  Fs.writeFileSync(file, after)
}
