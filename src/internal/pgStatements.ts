// How a client's statements come by their session. SqlClient's own way is fit for all drivers: in
// two effects it looks for a transaction, and what borrows is a third. Where the pool is one of
// ours one effect does both: 3 to 5 per cent of the time of the shortest statement.
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Acquirer, Borrower, Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import type { Holder } from "./item.ts"
import { type Evaluated, operation } from "./operation.ts"

type Run<A, E, R> = (connection: Connection) => Effect.Effect<A, E, R>

/** Borrows a connection for a fiber, which runs what is returned: next and once. */
export type Borrow = <A, E, R>(fiber: Holder, run: Run<A, E, R>) => Effect.Effect<A, E | SqlError, R>

type TransactionService = SqlClient["transactionService"]

const BorrowedOperation = operation(function(fiber) {
  return this.start(fiber)
})

/** On the connection of the transaction that its fiber is in, or on one that is borrowed for it. */
class Borrowed<A, E, R> extends BorrowedOperation<A, E | SqlError, R> implements Evaluated<A, E | SqlError, R> {
  declare private readonly service: TransactionService
  declare private readonly borrow: Borrow
  declare private readonly run: Run<A, E, R>

  constructor(service: TransactionService, borrow: Borrow, run: Run<A, E, R>) {
    super()
    this.service = service
    this.borrow = borrow
    this.run = run
  }

  start(fiber: Holder): Effect.Effect<A, E | SqlError, R> {
    const transaction = Context.getOrUndefined(fiber.context, this.service)
    return transaction === undefined ? this.borrow(fiber, this.run) : this.run(transaction[0])
  }
}

/** What a client's statements are made of. */
export interface Made {
  readonly acquirer: Acquirer
  readonly compiler: Statement.Compiler
  readonly spanAttributes: ReadonlyArray<readonly [string, unknown]>
  readonly transformRows: (<A extends object>(rows: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined
}

/** The same client, whose statements borrow in this way. One that it makes without its transforms goes SqlClient's. */
export const borrowingBy = (client: SqlClient, borrow: Borrow, made: Made): SqlClient => {
  const { transactionService } = client
  const acquirer: Acquirer = Effect.flatMap(
    Effect.serviceOption(transactionService),
    Option.match({ onNone: () => made.acquirer, onSome: ([connection]) => Effect.succeed(connection) })
  )
  const borrower: Borrower = (run) => new Borrowed(transactionService, borrow, run)
  const statement = Statement.make(acquirer, made.compiler, made.spanAttributes, made.transformRows, borrower)
  return Object.assign(statement, { ...client, ...statement, safe: statement as SqlClient })
}
