/**
 * The sockets of the pool's sessions, and which session of the server each is: the
 * server says its process id in the clear when a session begins. A session whose
 * socket this side has closed is no longer the pool's, though its process may still
 * have to find that out; a request to cancel has a socket, but never a session.
 */
import * as Net from "node:net"

// PostgreSQL's BackendKeyData: "K", a length, the process id, a secret.
const backendKeyData = 0x4b

export class Sockets {
  opened = 0
  private readonly all = new Set<Net.Socket>()
  private readonly sessions = new Map<number, Net.Socket>()

  /** For the option `stream`. */
  readonly connect = (host: string, port: number): Net.Socket => {
    const socket = Net.connect({ host, port, noDelay: true, keepAlive: true })
    this.all.add(socket)
    let seen = Buffer.alloc(0)
    const look = (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk])
      for (let at = 0; at + 9 <= seen.length; at += 1 + seen.readUInt32BE(at + 1)) {
        if (seen[at] !== backendKeyData) continue
        socket.off("data", look)
        this.opened++
        return void this.sessions.set(seen.readUInt32BE(at + 5), socket)
      }
    }
    socket.on("data", look)
    socket.on("close", () => {
      this.all.delete(socket)
      for (const [pid, one] of this.sessions) if (one === socket) this.sessions.delete(pid)
    })
    return socket
  }

  /** This side still has the session. */
  readonly has = (pid: number): boolean => this.sessions.get(pid)?.destroyed === false

  /** Those that are not closed. */
  get open(): number {
    return this.all.size
  }
}
