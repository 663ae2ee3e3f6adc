/**
 * The codes of a server that is down, starts, or is out of reach. Not ENOTFOUND: a name that
 * does not exist is more often wrong than not there yet (that is EAI_AGAIN).
 */
export const unreachable: ReadonlySet<string> = new Set([
  "EAI_AGAIN",
  "ECONNABORTED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "ENETDOWN",
  "ENETUNREACH",
  // A Unix socket that a stopped server has removed.
  "ENOENT",
  "EPIPE",
  "ETIMEDOUT"
])
