/** What the command line and the environment say: how long, and from which seed. */
import { Data, Effect, Random } from "effect"

export interface Args {
  readonly seconds: number
  readonly seed: number
}

const usage = `npm run chaos -- [--minutes N | --seconds N] [--seed N]

  --minutes N, --seconds N   how long faults go on; 60 seconds unless given
  --seed N                   a whole number from 0; CHAOS_SEED, or a new one, unless given`

/** Everything that is wrong with the arguments. */
class WrongArguments extends Data.TaggedError("WrongArguments")<{ readonly message: string }> {}

const positive = (text: string): number | undefined => {
  const value = Number(text)
  return text !== "" && value > 0 && Number.isFinite(value) ? value : undefined
}

const whole = (text: string): number | undefined =>
  /^\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : undefined

export const parse = Effect.fnUntraced(function*(argv: ReadonlyArray<string>, environment: string | undefined) {
  const problems: Array<string> = []
  const given = new Map<string, number>()
  const take = (name: string, text: string | undefined, read: (text: string) => number | undefined) => {
    const value = text === undefined ? undefined : read(text)
    if (value === undefined) problems.push(`${name} needs a number, and has ${text ?? "nothing"}`)
    else if (given.has(name)) problems.push(`${name} is given twice`)
    else given.set(name, value)
  }
  for (let at = 0; at < argv.length; at++) {
    const name = argv[at]!
    if (name === "--minutes" || name === "--seconds") take(name, argv[++at], positive)
    else if (name === "--seed") take(name, argv[++at], whole)
    else problems.push(`${name} is not an option`)
  }
  if (given.has("--minutes") && given.has("--seconds")) problems.push("--minutes and --seconds are both given")
  if (!given.has("--seed") && environment !== undefined && environment !== "") take("CHAOS_SEED", environment, whole)
  if (problems.length > 0) return yield* new WrongArguments({ message: `${problems.join("\n")}\n\n${usage}` })
  const minutes = given.get("--minutes")
  return {
    seconds: minutes === undefined ? given.get("--seconds") ?? 60 : minutes * 60,
    seed: given.get("--seed") ?? given.get("CHAOS_SEED") ?? (yield* Random.nextIntBetween(1, 999_999_999))
  } satisfies Args
})
