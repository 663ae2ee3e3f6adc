// Values by key, where keys are compared as effect compares them. Strings and numbers,
// which most keys are, need nothing of that.
import * as MutableHashMap from "effect/MutableHashMap"
import * as Option from "effect/Option"

export class KeyMap<K, V> implements Iterable<V> {
  private readonly plain = new Map<K, V>()
  private readonly deep = MutableHashMap.empty<K, V>()

  get size(): number {
    return this.plain.size + MutableHashMap.size(this.deep)
  }

  get(key: K): V | undefined {
    return isPlain(key) ? this.plain.get(key) : Option.getOrUndefined(MutableHashMap.get(this.deep, key))
  }

  set(key: K, value: V): void {
    if (isPlain(key)) this.plain.set(key, value)
    else MutableHashMap.set(this.deep, key, value)
  }

  delete(key: K): void {
    if (isPlain(key)) this.plain.delete(key)
    else MutableHashMap.remove(this.deep, key)
  }

  *[Symbol.iterator](): Iterator<V> {
    yield* this.plain.values()
    for (const [, value] of this.deep) yield value
  }
}

const isPlain = (key: unknown): boolean => (typeof key !== "object" || key === null) && typeof key !== "function"
