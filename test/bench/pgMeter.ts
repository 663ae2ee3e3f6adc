/** Counts and times what a client does in a given time. */
import { Effect } from "effect"
import type { Client } from "./pgClients.ts"
import type { WorkName } from "./pgWork.ts"

export class Meter {
  readonly latencies: Array<number> = []
  private readonly end: number

  constructor(millis: number) {
    this.end = performance.now() + millis
  }

  get over(): boolean {
    return performance.now() >= this.end
  }

  record(start: number): void {
    this.latencies.push(performance.now() - start)
  }
}

/** What one client did in one round. */
export interface Sample {
  readonly perSecond: number
  /** CPU time of this process, the driver's own and the kernel's on its behalf, in microseconds for each. */
  readonly cpu: number
  /** Milliseconds. */
  readonly latencies: ReadonlyArray<number>
}

// What a pool does first after a pause, and what the processor has forgotten meanwhile, is not what is asked here.
const leadMillis = 15

export const sample = Effect.fnUntraced(function*(
  { run }: Client,
  work: WorkName,
  concurrency: number,
  millis: number
): Effect.fn.Return<Sample, unknown> {
  yield* run(work, concurrency, new Meter(leadMillis))
  const meter = new Meter(millis)
  const cpu = process.cpuUsage()
  const start = performance.now()
  yield* run(work, concurrency, meter)
  const took = performance.now() - start
  const { system, user } = process.cpuUsage(cpu)
  const { latencies } = meter
  return { perSecond: latencies.length / took * 1000, cpu: (user + system) / latencies.length, latencies }
})
