import type { Codec } from './codec.ts'
import { afterPrefix, decodeKey, encodeKey, encodePrefix, type Key } from './key.ts'
import { type Entry, entriesOf, rangeOf, type View } from './view.ts'

export type { Key } from './key.ts'

/** Which records `list` yields, and in which direction. */
export interface ListOptions {
  /** Only keys that begin with these whole parts. */
  readonly prefix?: Key
  /** Start behind this key, in the direction of the listing; the key itself need not exist. */
  readonly after?: Key
  readonly reverse?: boolean
  readonly limit?: number
}

/**
 * One kind of record of a store, ordered by key. Inside `Store.write` reads see that write's own changes and those of
 * the writes before it; outside they see what is committed.
 */
export interface Table<V> {
  get(key: Key): V | undefined
  has(key: Key): boolean
  /** Only inside `Store.write`. @throws {Fault} `invalid-argument` for a key that is too long */
  put(key: Key, value: V): void
  /** Only inside `Store.write`; removing what is not there is no error. */
  remove(key: Key): void
  /** Reads on demand, a page at a time: take it in one go, or live with records that change between pages. */
  list(options?: ListOptions): Iterable<{ readonly key: Key; readonly value: V }>
  /** Each part that comes next in keys behind `prefix`, once and in order. Skips from one to the next, however many keys share it. */
  parts(prefix: Key): Iterable<string>
}

/** What a table needs from its store: the state to read now, and the writes of the transaction that runs now. */
export interface Access {
  view(): View
  change(key: string, value: Uint8Array | null): void
}

export function createTable<V>(name: string, codec: Codec<V>, access: Access): Table<V> {
  const keyOf = (key: Key): string => encodeKey(name, key).toString('latin1')
  const toRecord = (entry: Entry) => ({
    key: decodeKey(entry.key),
    value: codec.decode(entry.value),
  })
  return {
    get(key) {
      const bytes = access.view().get(keyOf(key))
      return bytes === undefined ? undefined : codec.decode(bytes)
    },
    has: (key) => access.view().get(keyOf(key)) !== undefined,
    put: (key, value) => access.change(keyOf(key), codec.encode(value)),
    remove: (key) => access.change(keyOf(key), null),
    *list({ prefix = [], after, reverse = false, limit = Number.POSITIVE_INFINITY } = {}) {
      const range = rangeOf(encodePrefix(name, prefix), after && encodeKey(name, after), reverse)
      let left = limit
      for (const entry of entriesOf(access.view(), range, limit)) {
        if (left-- <= 0) return
        yield toRecord(entry)
      }
    },
    *parts(prefix) {
      let range = rangeOf(encodePrefix(name, prefix), undefined, false)
      for (;;) {
        const [entry] = entriesOf(access.view(), range, 1)
        if (!entry) return
        const part = decodeKey(entry.key)[prefix.length]
        if (part === undefined)
          range = { ...range, from: `${entry.key}\u0000` } // the key is the prefix itself
        else {
          yield part
          range = { ...range, from: afterPrefix(encodePrefix(name, [...prefix, part])).toString('latin1') }
        }
      }
    },
  }
}
