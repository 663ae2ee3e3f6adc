/**
 * What a script has the items of a pool do, and what is known of them at every moment. A book is kept by the items
 * themselves, or by the gate in front of the server: no pool is asked.
 */

/** What an open or a close does, after so many milliseconds. */
export interface Outcome {
  readonly end: "succeed" | "fail" | "hang"
  readonly after?: number | undefined
}

/** Opens and closes are numbered from 1 as they begin. */
export interface Script {
  readonly open?: ((n: number, book: Book) => Outcome) | undefined
  readonly close?: ((n: number, book: Book) => Outcome) | undefined
}

export class Book {
  /** Opens that have begun. */
  opens = 0
  opening = 0
  /** Opening, open and closing together. */
  live = 0
  peakOpening = 0
  peakLive = 0
  /** Closes that have begun. */
  closes = 0
  closed = 0
  /** When each open succeeded, in milliseconds. */
  readonly openedAt: Array<number> = []
  /** The items closed, by the number of their open. */
  readonly closedItems: Array<number> = []
  private readonly script: Script

  constructor(script: Script) {
    this.script = script
  }

  beginOpen(): { readonly n: number; readonly outcome: Outcome } {
    const n = ++this.opens
    this.peakOpening = Math.max(this.peakOpening, ++this.opening)
    this.peakLive = Math.max(this.peakLive, ++this.live)
    return { n, outcome: this.script.open?.(n, this) ?? { end: "succeed" } }
  }

  opened(): void {
    this.opening--
    this.openedAt.push(performance.now())
  }

  failed(): void {
    this.opening--
    this.live--
  }

  beginClose(): Outcome {
    return this.script.close?.(++this.closes, this) ?? { end: "succeed" }
  }

  ended(item: number): void {
    this.live--
    this.closed++
    this.closedItems.push(item)
  }
}
