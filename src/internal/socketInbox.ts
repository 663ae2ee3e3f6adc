/// <reference types="node" preserve="true" />
// Bytes that have come and that nobody has read.
import { Buffer } from "node:buffer"

export class Inbox {
  /** How many bytes there are. */
  size = 0
  private chunks: Array<Buffer> = []

  add(chunk: Buffer): void {
    this.chunks.push(chunk)
    this.size += chunk.length
  }

  /** What came together, the oldest first. */
  some(): Buffer | undefined {
    const chunk = this.chunks.shift()
    this.size -= chunk?.length ?? 0
    return chunk
  }

  exactly(count: number): Buffer | undefined {
    if (count > this.size) return undefined
    const all = this.joined()
    this.size -= count
    this.chunks = this.size === 0 ? [] : [all.subarray(count)]
    return all.subarray(0, count)
  }

  /** How many bytes stand before the delimiter. */
  before(delimiter: Buffer): number | undefined {
    const at = this.joined().indexOf(delimiter)
    return at < 0 ? undefined : at
  }

  private joined(): Buffer {
    if (this.chunks.length > 1) this.chunks = [Buffer.concat(this.chunks)]
    return this.chunks[0] ?? nothing
  }
}

const nothing = Buffer.alloc(0)
