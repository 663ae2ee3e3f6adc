/** All pools, in the order of the columns. */
import type { Contender } from "../model.ts"
import { effectPool } from "./effectPool.ts"
import { generic } from "./genericPool.ts"
import { lightning } from "./lightningPool.ts"
import { nodePostgres } from "./nodePostgres.ts"
import { ours } from "./ours.ts"
import { pgPool } from "./pgPool.ts"
import { tarn } from "./tarn.ts"

export const contenders: ReadonlyArray<Contender> = [
  ours,
  effectPool,
  pgPool,
  generic,
  tarn,
  lightning,
  nodePostgres
]
