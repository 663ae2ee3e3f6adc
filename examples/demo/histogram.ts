/** Times in milliseconds, in buckets of a few percent: enough for percentiles, in constant memory. */
export class Histogram {
  private readonly buckets = new Map<number, number>()
  private total = 0

  add(millis: number): void {
    const bucket = Math.round(Math.log(Math.max(millis, 0.001)) * 20)
    this.buckets.set(bucket, (this.buckets.get(bucket) ?? 0) + 1)
    this.total++
  }

  /** The time below which this share of all lies. */
  percentile(share: number): number {
    let seen = 0
    for (const [bucket, count] of Array.from(this.buckets).toSorted(([a], [b]) => a - b)) {
      seen += count
      if (seen >= share * this.total) return Math.exp(bucket / 20)
    }
    return 0
  }
}
