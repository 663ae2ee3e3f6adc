/**
 * Some rounds of one part, in a process of its own: it is told what to do by the one that has
 * started it, and answers with what each client did.
 */
import { Effect, Random } from "effect"
import type { Client } from "./pgClients.ts"
import { type Sample, sample } from "./pgMeter.ts"
import { type Part, parts } from "./pgParts.ts"
import { answer } from "./process.ts"

/** What such a process is asked for. */
export interface Task {
  readonly part: string
  readonly url: string
  readonly concurrencies: ReadonlyArray<number>
  /** How long one client is timed in one round. */
  readonly millis: number
  readonly rounds: number
}

/** What each client did in each round, by concurrency. */
export type Done = ReadonlyMap<number, ReadonlyMap<string, ReadonlyArray<Sample>>>

// Until all sessions are open.
const opened = { concurrency: 64, millis: 60 }

// Until the optimizing compiler has seen every client at its work.
const warmUps = (concurrencies: ReadonlyArray<number>) => [
  { concurrency: 64, millis: 300 },
  ...concurrencies.map((concurrency) => ({ concurrency, millis: 200 }))
]

/**
 * What is opened once and again differs from itself by a fifth where there is one at once: all of
 * these take the session that came back last, and it matters on which processor the server has it.
 * So all is opened anew for each round, and the rounds know nothing of one another. Nor does it
 * always begin with the same client: one that is opened before another is faster by 2 to 5 %.
 */
const round = Effect.fnUntraced(function*(
  { clients, work }: Part,
  { concurrencies, millis, url }: Task,
  samples: ReadonlyMap<number, Map<string, Array<Sample>>>,
  first: boolean
) {
  const openings = clients(url)
  const all = new Map<typeof openings[number], Client>()
  for (const opening of yield* Random.shuffle(openings)) {
    const client = yield* opening
    all.set(opening, client)
    yield* sample(client, work, opened.concurrency, opened.millis)
  }
  const inOrder = openings.map((opening) => all.get(opening)!)
  for (const warmUp of first ? warmUps(concurrencies) : []) {
    for (const client of inOrder) yield* sample(client, work, warmUp.concurrency, warmUp.millis)
  }
  for (const [concurrency, byClient] of samples) {
    for (const { name } of inOrder) if (!byClient.has(name)) byClient.set(name, [])
    // In another order each time: who runs twice in a row, as the first and the last did when
    // every second round was turned round, is measured slower by an eighth than the others.
    for (const client of yield* Random.shuffle(inOrder)) {
      byClient.get(client.name)!.push(yield* sample(client, work, concurrency, millis))
    }
  }
}, Effect.scoped)

const run = Effect.fnUntraced(function*(task: Task) {
  const part = parts.find(({ name }) => name === task.part)!
  const samples = new Map(task.concurrencies.map((concurrency) => [concurrency, new Map<string, Array<Sample>>()]))
  for (let done = 0; done < task.rounds; done++) yield* round(part, task, samples, done === 0)
  return samples
})

answer(run)
