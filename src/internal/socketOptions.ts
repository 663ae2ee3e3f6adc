// Where to connect to and how: the check of what was given, all at once.
import type * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import { isIP } from "node:net"
import type { ConnectionOptions } from "node:tls"
import type { Problem } from "../PoolError.ts"
import { toMillis } from "./options.ts"
import type { ConnectOptions, Endpoint, Tls } from "./socketEndpoint.ts"

/** The same in milliseconds, each with its default. */
export interface ConnectSettings {
  readonly connectTimeout: number
  readonly closeGrace: number
  /** Infinity: none. */
  readonly keepAlive: number
  readonly noDelay: boolean
  readonly keepsUnread: boolean
}

interface Rule {
  readonly allowed: string
  readonly test: (value: unknown) => boolean
}

const duration = (allowed: string, test: (millis: number) => boolean): Rule => ({
  allowed,
  test: (value) => {
    const millis = toMillis(value)
    return millis !== undefined && test(millis)
  }
})

const isText = (value: unknown): boolean => typeof value === "string" && value !== ""
const isBytes = (value: unknown): boolean => isText(value) || value instanceof Uint8Array
const isSecret = (value: unknown): boolean => Redacted.isRedacted(value) && isBytes(Redacted.value(value))
const oneOrMore = (test: (value: unknown) => boolean) => (value: unknown): boolean =>
  Array.isArray(value) ? value.length > 0 && value.every(test) : test(value)

const text: Rule = { allowed: "a string that is not empty", test: isText }
const bool: Rule = { allowed: "true or false", test: (value) => typeof value === "boolean" }
const pem: Rule = { allowed: "PEM as a string or bytes, or several", test: oneOrMore(isBytes) }

const tlsRules: Readonly<Record<keyof Tls, Rule>> = {
  servername: { allowed: "a host name, not an address", test: (value) => isText(value) && isIP(value as string) === 0 },
  ca: pem,
  cert: pem,
  key: { allowed: "Redacted PEM, or several", test: oneOrMore(isSecret) },
  passphrase: { allowed: "a Redacted string that is not empty", test: isSecret },
  alpnProtocols: { allowed: "an array of names", test: (value) => Array.isArray(value) && value.every(isText) },
  rejectUnauthorized: bool
}

const tls: Rule = {
  allowed: "true, false or an object of TLS options",
  test: (value) => typeof value === "boolean" || isObject(value)
}

const port: Rule = {
  allowed: "a whole number from 1 to 65535",
  test: (value) => Number.isInteger(value) && (value as number) > 0 && (value as number) < 65_536
}

const tcpRules = { host: text, port, tls }
const unixRules = { path: text, tls }

const optionRules: Readonly<Record<keyof ConnectOptions, Rule>> = {
  connectTimeout: duration("a duration above zero, not Infinity", (millis) => millis > 0 && millis < Infinity),
  closeGrace: duration("a duration from zero, not Infinity", (millis) => millis >= 0 && millis < Infinity),
  keepAlive: duration("a duration from 1 second, or Infinity", (millis) => millis >= 1000),
  noDelay: bool,
  unread: { allowed: `"recycle" or "keep"`, test: (value) => value === "recycle" || value === "keep" }
}

export const connectOptionNames: ReadonlySet<string> = new Set(Object.keys(optionRules))

const isObject = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const problemsIn = (
  prefix: string,
  given: object,
  rules: Readonly<Record<string, Rule>>,
  required: ReadonlyArray<string> = []
): Array<Problem> => {
  const values = given as Readonly<Record<string, unknown>>
  const unknown = Object.keys(values).filter((name) => !Object.hasOwn(rules, name)).map((name) => ({
    option: prefix + name,
    value: values[name],
    allowed: `one of the options ${Object.keys(rules).join(", ")}`
  }))
  const wrong = Object.entries(rules)
    .filter(([name, rule]) => values[name] === undefined ? required.includes(name) : !rule.test(values[name]))
    .map(([name, { allowed }]) => ({ option: prefix + name, value: values[name], allowed }))
  return [...unknown, ...wrong]
}

/** What is wrong with an endpoint; names begin with `endpoint.`. */
export const endpointProblems = (endpoint: unknown): ReadonlyArray<Problem> => {
  if (!isObject(endpoint)) {
    return [{ option: "endpoint", value: endpoint, allowed: "{ host, port } or { path }, each with tls if you like" }]
  }
  const problems = "path" in endpoint
    ? problemsIn("endpoint.", endpoint, unixRules, ["path"])
    : problemsIn("endpoint.", endpoint, tcpRules, ["host", "port"])
  const { tls } = endpoint as { readonly tls?: unknown }
  return isObject(tls) ? [...problems, ...problemsIn("endpoint.tls.", tls, tlsRules)] : problems
}

export const connectProblems = (options: object): ReadonlyArray<Problem> => problemsIn("", options, optionRules)

const millisOf = (value: Duration.Input | undefined, initial: number): number => toMillis(value) ?? initial

export const connectSettings = (options: ConnectOptions): ConnectSettings => ({
  connectTimeout: millisOf(options.connectTimeout, 10_000),
  closeGrace: millisOf(options.closeGrace, 1000),
  keepAlive: millisOf(options.keepAlive, 60_000),
  noDelay: options.noDelay ?? true,
  keepsUnread: options.unread === "keep"
})

/** What `node:tls` is told; undefined where there is no TLS. */
export const tlsOptions = (endpoint: Endpoint): ConnectionOptions | undefined => {
  const { tls } = endpoint
  if (tls === undefined || tls === false) return undefined
  const { alpnProtocols, ca, cert, key, passphrase, rejectUnauthorized = true, servername } = tls === true ? {} : tls
  const name = servername ?? ("host" in endpoint && isIP(endpoint.host) === 0 ? endpoint.host : undefined)
  return {
    rejectUnauthorized,
    ...(name === undefined ? {} : { servername: name }),
    ...(ca === undefined ? {} : { ca: buffers(ca) }),
    ...(cert === undefined ? {} : { cert: buffers(cert) }),
    ...(key === undefined ? {} : { key: buffers([key].flat().map(Redacted.value)) }),
    ...(passphrase === undefined ? {} : { passphrase: Redacted.value(passphrase) }),
    ...(alpnProtocols === undefined ? {} : { ALPNProtocols: [...alpnProtocols] })
  }
}

const buffers = (pem: Pem): Array<Buffer> => [pem].flat().map((one) => Buffer.from(one as string))

type Pem = string | Uint8Array | ReadonlyArray<string | Uint8Array>
