import { RecyclePolicy } from "effect-queuepool"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { describe, expect, it } from "tstyche"

interface Connection {
  readonly broken: boolean
  readonly ping: Effect.Effect<boolean, Error, Server>
}

interface Browser {
  readonly tabs: number
}

class Server extends Context.Service<Server, { readonly up: boolean }>()("Server") {}
class Licence extends Context.Service<Licence, { readonly left: number }>()("Licence") {}

declare const licensed: Effect.Effect<boolean, "none left", Licence>
declare const make: <A, E, R>(options: {
  readonly acquire: Effect.Effect<A, E, R>
  readonly recycle?: RecyclePolicy.Input<NoInfer<A>, R> | undefined
}) => [A, R]
declare const connect: Effect.Effect<Connection>

const broken = RecyclePolicy.when((usage: RecyclePolicy.Usage<Connection>) => usage.item.broken)
const crowded = RecyclePolicy.when((usage: RecyclePolicy.Usage<Browser>) => usage.item.tabs > 10)
const mute = RecyclePolicy.check((connection: Connection) => connection.ping)
const unlicensed = RecyclePolicy.check(() => licensed)

describe("RecyclePolicy", () => {
  it("is contravariant in the item", () => {
    expect(RecyclePolicy.idle("1 minute")).type.toBe<RecyclePolicy.RecyclePolicy<unknown>>()
    expect<RecyclePolicy.RecyclePolicy<Connection>>().type.toBeAssignableFrom(RecyclePolicy.failed)
    expect<RecyclePolicy.RecyclePolicy<unknown>>().type.not.toBeAssignableFrom(broken)
    expect<RecyclePolicy.RecyclePolicy<Browser>>().type.not.toBeAssignableFrom(broken)
  })

  it("takes the requirements of checks", () => {
    expect(mute).type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server>>()
    expect(unlicensed).type.toBe<RecyclePolicy.RecyclePolicy<unknown, Licence>>()
    expect<RecyclePolicy.RecyclePolicy<Connection>>().type.not.toBeAssignableFrom(mute)
  })

  it("takes the requirements and the input of Schedules", () => {
    const schedule = Schedule.forever.pipe(
      Schedule.setInputType<RecyclePolicy.Usage<Connection>>(),
      Schedule.while(({ input }) => input.item.ping)
    )
    expect(RecyclePolicy.schedule(schedule)).type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server>>()
    expect(RecyclePolicy.after(schedule)).type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server>>()
    expect(RecyclePolicy.schedule(Schedule.recurs(3))).type.toBe<RecyclePolicy.RecyclePolicy<unknown>>()
    expect(RecyclePolicy.after(Schedule.cron("0 3 * * *"))).type.toBe<RecyclePolicy.RecyclePolicy<unknown>>()
  })
})

describe("any and all", () => {
  it("are for the items that satisfy every rule", () => {
    expect(RecyclePolicy.any([])).type.toBe<RecyclePolicy.RecyclePolicy<unknown>>()
    expect(RecyclePolicy.any([RecyclePolicy.failed])).type.toBe<RecyclePolicy.RecyclePolicy<unknown>>()
    expect(RecyclePolicy.any([RecyclePolicy.failed, broken])).type.toBe<RecyclePolicy.RecyclePolicy<Connection>>()
    expect(RecyclePolicy.any([broken, crowded])).type.toBe<RecyclePolicy.RecyclePolicy<Connection & Browser>>()
    expect(RecyclePolicy.all([broken, crowded])).type.toBe<RecyclePolicy.RecyclePolicy<Connection & Browser>>()
  })

  it("need what any of the rules needs", () => {
    expect(RecyclePolicy.any([RecyclePolicy.failed, mute]))
      .type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server>>()
    expect(RecyclePolicy.all([mute, RecyclePolicy.failed, unlicensed]))
      .type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server | Licence>>()
  })

  it("take predicates", () => {
    expect(RecyclePolicy.any([(usage) => usage.uses > 3])).type.toBe<RecyclePolicy.RecyclePolicy<unknown>>()
    expect(RecyclePolicy.all([mute, unlicensed, (usage: RecyclePolicy.Usage<Browser>) => usage.item.tabs > 3]))
      .type.toBe<RecyclePolicy.RecyclePolicy<Connection & Browser, Server | Licence>>()
  })

  it("take no other values", () => {
    expect(RecyclePolicy.any).type.not.toBeCallableWith(["10 minutes"])
    expect(RecyclePolicy.all).type.not.toBeCallableWith([Schedule.recurs(3)])
    expect(RecyclePolicy.any).type.not.toBeCallableWith([() => "yes"])
  })
})

describe("or and and", () => {
  it("are for the items that satisfy both, in both styles", () => {
    expect(RecyclePolicy.or(broken, crowded)).type.toBe<RecyclePolicy.RecyclePolicy<Connection & Browser>>()
    expect(broken.pipe(RecyclePolicy.or(crowded))).type.toBe<RecyclePolicy.RecyclePolicy<Connection & Browser>>()
    expect(RecyclePolicy.idle("1 minute").pipe(RecyclePolicy.and(broken)))
      .type.toBe<RecyclePolicy.RecyclePolicy<Connection>>()
    expect(RecyclePolicy.and(mute, unlicensed))
      .type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server | Licence>>()
    expect(mute.pipe(RecyclePolicy.and(unlicensed)))
      .type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server | Licence>>()
  })

  it("take predicates and arrays", () => {
    expect(RecyclePolicy.failed.pipe(RecyclePolicy.and((usage) => usage.uses > 3)))
      .type.toBe<RecyclePolicy.RecyclePolicy<unknown>>()
    expect(RecyclePolicy.failed.pipe(RecyclePolicy.or([broken, RecyclePolicy.failed])))
      .type.toBe<RecyclePolicy.RecyclePolicy<Connection>>()
  })
})

describe("not, named and mapInput", () => {
  it("keep the item and the requirements", () => {
    expect(RecyclePolicy.not(mute)).type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server>>()
    expect(mute.pipe(RecyclePolicy.named("mute"))).type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server>>()
    expect(RecyclePolicy.named(mute, "mute")).type.toBe<RecyclePolicy.RecyclePolicy<Connection, Server>>()
    expect(RecyclePolicy.not((usage: RecyclePolicy.Usage<Browser>) => usage.item.tabs > 1))
      .type.toBe<RecyclePolicy.RecyclePolicy<Browser>>()
  })

  it("mapInput changes the item", () => {
    const toConnection = (wrapped: { readonly inner: Connection }): Connection => wrapped.inner
    expect(mute.pipe(RecyclePolicy.mapInput(toConnection)))
      .type.toBe<RecyclePolicy.RecyclePolicy<{ readonly inner: Connection }, Server>>()
    expect(RecyclePolicy.mapInput(mute, toConnection))
      .type.toBe<RecyclePolicy.RecyclePolicy<{ readonly inner: Connection }, Server>>()
    expect(RecyclePolicy.mapInput).type.not.toBeCallableWith(crowded, toConnection)
  })
})

describe("Input", () => {
  it("is a policy, a predicate or an array of these", () => {
    expect<RecyclePolicy.Input<Connection>>().type.toBeAssignableFrom(RecyclePolicy.failed)
    expect<RecyclePolicy.Input<Connection>>().type.toBeAssignableFrom([
      broken,
      (_: RecyclePolicy.Usage<unknown>) => true
    ])
    expect<RecyclePolicy.Input<Connection>>().type.not.toBeAssignableFrom(crowded)
    expect<RecyclePolicy.Input<Connection>>().type.not.toBeAssignableFrom([broken, crowded])
    expect<RecyclePolicy.Input<Connection>>().type.not.toBeAssignableFrom(mute)
  })

  it("infers predicates and requirements in the options of a pool", () => {
    expect(make({
      acquire: connect,
      recycle: [RecyclePolicy.idle("1 minute"), (usage) => usage.item.broken, broken]
    })).type.toBe<[Connection, never]>()
    expect(make({ acquire: connect, recycle: (usage) => usage.item.broken })).type.toBe<[Connection, never]>()
    expect(make({ acquire: connect, recycle: [RecyclePolicy.failed] })).type.toBe<[Connection, never]>()
  })
})

describe("isRecyclePolicy", () => {
  it("narrows to the data of the rule", () => {
    const policy = RecyclePolicy.failed as RecyclePolicy.RecyclePolicy<Connection>
    if (RecyclePolicy.isRecyclePolicy(policy)) {
      if (policy._tag === "Uses") expect(policy.limit).type.toBe<number>()
      if (policy._tag === "FailedWith") {
        expect(policy.predicate).type.toBe<(cause: Cause.Cause<unknown>) => boolean>()
      }
    }
  })
})

describe("constructors", () => {
  it("take what their words say", () => {
    expect(RecyclePolicy.idle).type.not.toBeCallableWith("10 minute s")
    expect(RecyclePolicy.uses).type.not.toBeCallableWith("10")
    expect(RecyclePolicy.failedWith).type.toBeCallableWith(() => true, {
      also: "older",
      interruption: true,
      reason: "x"
    })
    expect(RecyclePolicy.failedWith).type.not.toBeCallableWith(() => true, { also: "none" })
    expect(RecyclePolicy.check).type.not.toBeCallableWith(() => true)
    expect(RecyclePolicy.when).type.not.toBeCallableWith(() => 1)
  })
})
