/** Reading one ordered state out of two: what is committed, and changes on top that are not committed yet. */
import { afterPrefix } from './key.ts'

const PAGE = 256 // entries read from the database at once

/** Encoded keys as latin1 text: its order in JavaScript is the order of the bytes. */
export type Changes = ReadonlyMap<string, Uint8Array | null>

export interface Entry {
  readonly key: string
  readonly value: Uint8Array
}

/** All keys from `from` to before `to`. */
export interface Range {
  readonly from: string
  readonly to: string
  readonly reverse: boolean
}

/** A state to read from. */
export interface View {
  get(key: string): Uint8Array | undefined
  /** The first `limit` committed entries of the range, in its direction. */
  page(range: Range, limit: number): Entry[]
  /** Newest first; `null` stands for a removed key. */
  readonly layers: readonly Changes[]
}

/** The keys that start with `prefix` and, when `after` is given, lie behind it in the direction of the listing. */
export function rangeOf(prefix: Buffer, after: Buffer | undefined, reverse: boolean): Range {
  const from = prefix.toString('latin1')
  const to = afterPrefix(prefix).toString('latin1')
  if (after === undefined) return { from, to, reverse }
  const border = after.toString('latin1')
  if (reverse) return { from, to: smaller(border, to), reverse }
  const next = `${border}\u0000` // the first key behind the border
  return { from: larger(next, from), to, reverse }
}

function smaller(a: string, b: string): string {
  return a < b ? a : b
}

function larger(a: string, b: string): string {
  return a < b ? b : a
}

/**
 * Walks a range in its direction; changes hide and complete what is committed.
 *
 * @param wanted of how many the caller makes use at most: more are not read ahead
 */
export function* entriesOf(view: View, range: Range, wanted: number): Generator<Entry> {
  const changed = changesIn(view.layers, range)
  const before = (a: string, b: string): boolean => (range.reverse ? a > b : a < b)
  let next = 0
  for (const stored of storedIn(view, range, Math.min(wanted, PAGE))) {
    for (let change = changed[next]; change && !before(stored.key, change.key); change = changed[next]) {
      if (change.key === stored.key) break
      next++
      if (change.value) yield { key: change.key, value: change.value.slice() }
    }
    const change = changed[next]
    if (change?.key !== stored.key) yield stored
    else {
      next++
      if (change.value) yield { key: change.key, value: change.value.slice() }
    }
  }
  for (const change of changed.slice(next)) if (change.value) yield { key: change.key, value: change.value.slice() }
}

function* storedIn(view: View, range: Range, limit: number): Generator<Entry> {
  let rest = range
  for (;;) {
    const page = view.page(rest, limit)
    yield* page
    const last = page.at(-1)
    if (page.length < limit || last === undefined) return
    rest = range.reverse ? { ...range, to: last.key } : { ...range, from: `${last.key}\u0000` }
  }
}

function changesIn(layers: readonly Changes[], range: Range): { key: string; value: Uint8Array | null }[] {
  const found = new Map<string, Uint8Array | null>()
  for (const layer of layers)
    for (const [key, value] of layer) if (key >= range.from && key < range.to && !found.has(key)) found.set(key, value)
  const sorted = [...found].map(([key, value]) => ({ key, value })).sort((a, b) => (a.key < b.key ? -1 : 1))
  return range.reverse ? sorted.reverse() : sorted
}
