import { defineConfig, type OxlintOverride } from "oxlint"

interface Pattern {
  readonly regex?: string
  readonly group?: Array<string>
  readonly message: string
  readonly allowTypeImports?: boolean
  readonly caseSensitive?: boolean
}

/** One row of the import rules. Where several rows name a file, the last one alone holds for it. */
const row = (files: string, patterns: Array<Pattern>): OxlintOverride => ({
  files: [`**/${files}.ts`],
  rules: { "no-restricted-imports": ["error", { patterns }] }
})

const closed: Pattern = {
  regex: "^(effect|@effect/[^/]+)/(.+/)?internal/",
  message: "The internals of effect are not its contract."
}

// The modules of effect whose `@stability` is not stable; so are all its folders, which have lower-case names.
const unstable = "Arbitrary|ByteSize|Bytes|ChannelSchema|ErrorReporter|ExecutionPlan|FileSystem|Glob|Graph|HashRing|" +
  "LayerMap|LayerRef|Newtype|PartitionedSemaphore|Path|PlatformError|SemVer|SemVerRange|Stdio|Terminal|TextDiff|" +
  "TxChunk|TxQueue|Version"

const core: Array<Pattern> = [
  {
    regex: `^effect(/([a-z].*|${unstable}))?$`,
    caseSensitive: true,
    message: "The core imports stable modules of effect, one by one: `import * as Effect from \"effect/Effect\"`."
  },
  // Neither relative nor effect: the regular expressions of the linter have no look-ahead.
  { regex: "^([^.e]|e[^f]|effect[^/])", message: "The core depends on effect alone." }
]

const adapters = ["PgQueuePool.ts", "PgCluster.ts", "SocketQueuePool.ts", "Inspector.ts", "PoolMetrics.ts"]
const helpers = ["pg*.ts", "socket*.ts", "inspector*.ts"]
const leaves = ["!PoolError.ts", "!PoolEvent.ts", "!RecyclePolicy.ts"]

const oneWay = (group: Array<string>, options?: { readonly types: boolean }): Pattern => ({
  group,
  caseSensitive: true,
  allowTypeImports: options?.types ?? false,
  message: "Imports run one way: index, public modules, internal/pool, {recycler, state}, {idle, waiters}; leaves last."
})

/** Internal modules may name the types of the public module whose values they build, and nothing else from above. */
const internal = (...group: Array<string>) => oneWay([...group, ...leaves], { types: true })

const synchronous: Pattern = {
  regex: "^effect/(Effect|Fiber|Layer|Scope|Stream|Clock)$",
  allowTypeImports: true,
  caseSensitive: true,
  message: "The state machine is synchronous data: no Effect in it."
}

export default defineConfig({
  plugins: ["eslint", "typescript", "unicorn", "oxc", "import", "promise", "vitest"],
  options: { typeAware: true, denyWarnings: true, reportUnusedDisableDirectives: "error" },
  categories: { correctness: "error", suspicious: "error", perf: "error" },
  rules: {
    "eqeqeq": "error",
    "import/no-cycle": "error",
    "no-restricted-imports": ["error", { patterns: [closed] }],
    "prefer-const": "error",
    "typescript/array-type": ["error", { default: "generic" }],
    "typescript/ban-ts-comment": "error",
    "typescript/no-deprecated": "error",
    "typescript/no-import-type-side-effects": "error",
    "typescript/only-throw-error": "error",
    "typescript/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
    "unicorn/prefer-node-protocol": "error",
    "vitest/no-disabled-tests": "error",
    "vitest/no-focused-tests": "error",

    // Effect's own style: `_tag`, locals named as the option they resolve, arrays made and sorted in place, records of
    // functions that need no `this`, generators that end in `return yield*`.
    "no-shadow": "off",
    "no-underscore-dangle": "off",
    "typescript/consistent-return": "off",
    "typescript/unbound-method": "off",
    "unicorn/consistent-function-scoping": "off",
    "unicorn/no-array-sort": "off",
    "unicorn/no-new-array": "off",
    // Tests assert through helpers, wait for one thing after the other, and are named by what they run over.
    "no-await-in-loop": "off",
    "vitest/expect-expect": "off",
    "vitest/valid-title": "off",
    // The compiler's own check of unused names is on, and a cast inside a typed data structure is a decision.
    "no-unused-vars": "off",
    "typescript/no-unsafe-type-assertion": "off"
  },
  overrides: [
    {
      files: ["**/src/**/*.ts"],
      rules: {
        "import/no-default-export": "error",
        "typescript/no-explicit-any": "error",
        "no-restricted-globals": ["error", "performance", "process", "queueMicrotask", "setImmediate"]
      }
    },
    {
      files: ["**/test/**/*.ts"],
      rules: { "no-restricted-properties": ["error", { property: "only" }, { property: "skip" }] }
    },
    row("src/*", [...core, oneWay(["index.ts", ...adapters, ...helpers])]),
    row("src/index", [...core, oneWay([...adapters, "**/internal/**"])]),
    row("src/@(PoolError|PoolEvent|RecyclePolicy)", [...core, oneWay(["*.ts"])]),
    row("src/internal/*", [...core, internal("[A-Z]*.ts", "index.ts", "pool.ts", ...helpers)]),
    row("src/internal/pool", [...core, internal("[A-Z]*.ts", "index.ts", ...helpers)]),
    row("src/internal/keyed", [...core, internal("[A-Z]*.ts", "index.ts", ...helpers)]),
    row("src/internal/state", [...core, synchronous, internal("[A-Z]*.ts", "index.ts", "pool.ts", ...helpers)]),
    row("src/internal/{idle,waiters}", [...core, synchronous, internal("*.ts", "!idle.ts", "!waiters.ts")]),
    row("src/{PgQueuePool,PgCluster,SocketQueuePool,Inspector,PoolMetrics}", [closed, oneWay(["index.ts"])]),
    row("src/internal/{pg,socket,inspector}*", [closed, internal("[A-Z]*.ts", "index.ts")]),
    row("examples/**", [
      closed,
      { regex: "(^|/)(src|dist)/", message: "Examples import the package by its name, as its users do." }
    ])
  ]
})
