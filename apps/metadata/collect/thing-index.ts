import type { Reference } from './labels.ts'

/** Something for each thing, in the order in which they came. There may be half a million, so no names are put together. */
export interface Index<T> {
  get(namespace: string, to: Reference): T | undefined
  /** What is there, or what `make` makes. */
  add(namespace: string, to: Reference, make: () => T): T
  values(): Iterable<T>
}

export function createIndex<T>(): Index<T> {
  const spaces = new Map<string, Map<string, Map<string, T>>>()
  const all: T[] = []
  return {
    get: (namespace, { kind, id }) => spaces.get(namespace)?.get(kind)?.get(id),
    add(namespace, { kind, id }, make) {
      const kinds = spaces.get(namespace) ?? new Map<string, Map<string, T>>()
      const ids = kinds.get(kind) ?? new Map<string, T>()
      spaces.set(namespace, kinds)
      kinds.set(kind, ids)
      const known = ids.get(id)
      if (known !== undefined) return known
      const made = make()
      ids.set(id, made)
      all.push(made)
      return made
    },
    values: () => all,
  }
}
