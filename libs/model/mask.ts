import { Fault } from './fault.ts'

/** One path of a field mask: a whole field, or one key of a map field. */
export interface MaskPath {
  readonly field: string
  readonly key?: string
}

export interface Accepted {
  /** Fields that may be named whole. */
  readonly plain: readonly string[]
  /** Map fields of which one key may be named, as `labels.<key>`. */
  readonly maps: readonly string[]
}

/**
 * Reads the paths of a field mask. They are literal, not in proto's camel case; a key is everything after the first dot,
 * dots and slashes included.
 *
 * @throws {Fault} `invalid-argument` for a path that is not accepted here
 */
export function parseMask(paths: readonly string[], accepted: Accepted): MaskPath[] {
  return paths.map((path) => {
    const dot = path.indexOf('.')
    if (dot < 0 && accepted.plain.includes(path)) return { field: path }
    const field = path.slice(0, dot)
    const key = path.slice(dot + 1)
    if (dot > 0 && key !== '' && accepted.maps.includes(field)) return { field, key }
    throw new Fault('invalid-argument', `Cannot update ${JSON.stringify(path.slice(0, 128))}: no such field to update`)
  })
}

/** The map after an update: wholly replaced, or one key set; a key that the update lacks is taken away. */
export function updateMap<V>(
  current: Readonly<Record<string, V>>,
  next: Readonly<Record<string, V>>,
  path: MaskPath,
): Record<string, V> {
  const { key } = path
  if (key === undefined) return { ...next }
  const others = Object.fromEntries(Object.entries(current).filter(([name]) => name !== key))
  const value = Object.hasOwn(next, key) ? next[key] : undefined
  return value === undefined ? others : { ...others, [key]: value }
}
