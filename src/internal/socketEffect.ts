// A connection as the Socket of effect.
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import type { ConnectionError } from "./socketErrors.ts"
import type { Connection } from "./socketTypes.ts"

const toError = (error: ConnectionError): Socket.SocketError => {
  const { reason } = error
  return reason._tag === "Ended"
    ? closed(1000)
    : "operation" in reason && reason.operation === "write"
    ? new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: error }) })
    : new Socket.SocketError({ reason: new Socket.SocketReadError({ cause: error }) })
}

const closed = (code: number): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code }) })

export const toSocket = (connection: Connection): Socket.Socket => {
  const write = (data: string | Uint8Array) => Effect.mapError(connection.write(data), toError)
  return Socket.make({
    reader: Effect.gen(function*() {
      const left = yield* Deferred.make<never, Socket.SocketError>()
      yield* Effect.addFinalizer(() => Deferred.fail(left, closed(1006)))
      const bytes = Effect.mapError(Effect.map(connection.read, (chunk) => [chunk] as const), toError)
      return { pull: Effect.raceFirst(Deferred.await(left), bytes), upgrade: Socket.SocketUpgradeError.unsupported }
    }),
    writer: Effect.acquireRelease(
      Effect.succeed<Socket.Writer>({
        write: (chunk) => Socket.isCloseEvent(chunk) ? connection.end : write(chunk),
        writeAll: (chunks) => Effect.forEach(chunks, write, { discard: true })
      }),
      () => connection.end
    )
  })
}
