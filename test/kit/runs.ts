/** So many random runs, or as many as `EFFECT_QUEUEPOOL_RUNS` says if these are fewer: mutation testing wants few. */
export const atMost = (count: number): number => Math.min(count, Number(process.env["EFFECT_QUEUEPOOL_RUNS"] ?? count))
