/** The scoreboard's programs on PgQueuePool, with a real PostgreSQL: those that need one, and most of the others. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { EmbeddedPg } from "./kit/EmbeddedPg.ts"
import { arenaOf } from "./scoreboard/arena.ts"
import type { Contender } from "./scoreboard/model.ts"
import { ours } from "./scoreboard/pools/ours.ts"
import { programs } from "./scoreboard/programs/index.ts"

/** What only scripted items can show: equal values, and the release of a session cannot hang. */
const items = ["V7", "V8", "V10", "V21"]
// V1 looks at the event loop, V14 sets the clock, which unit tests show alone.
const elsewhere = new Set([...items, "V1", "V14"])

const sessions: Contender = { ...ours, items: undefined }

layer(EmbeddedPg.layer({ maxConnections: 100 }), { excludeTestServices: true })(
  "the scoreboard on PostgreSQL",
  (it) => {
    for (const program of programs.filter(({ id }) => !elsewhere.has(id))) {
      it.effect(`${program.id}: ${program.name}`, () =>
        Effect.scoped(Effect.gen(function*() {
          const { url } = yield* EmbeddedPg
          const verdict = yield* program.run(yield* arenaOf(sessions, url, () => {}))
          assert.isTrue(verdict.green, verdict.figure)
        })), 30_000)
    }
  }
)
