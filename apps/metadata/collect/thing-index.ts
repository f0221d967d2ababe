import type { ThingName } from '@gantry/service/collection'
import type { Reference } from './labels.ts'

/** Gives each thing a place, counted from 0. There may be half a million, so no names are put together. */
export interface Index {
  /** How many there are. */
  size(): number
  get(namespace: string, to: Reference): number | undefined
  /** The place that it has, or gets. */
  add(namespace: string, to: Reference): number
  name(place: number): ThingName
}

/** All things of one namespace and kind. */
interface Space {
  readonly namespace: string
  readonly kind: string
  readonly places: Map<string, number>
}

export function createIndex(): Index {
  const spaces = new Map<string, Map<string, Space>>()
  const spaceOf: Space[] = []
  const ids: string[] = []

  function spaceFor(namespace: string, kind: string): Space {
    const kinds = spaces.get(namespace) ?? new Map<string, Space>()
    const space = kinds.get(kind) ?? { namespace, kind, places: new Map<string, number>() }
    spaces.set(namespace, kinds)
    kinds.set(kind, space)
    return space
  }

  return {
    size: () => ids.length,
    get: (namespace, { kind, id }) => spaces.get(namespace)?.get(kind)?.places.get(id),
    add(namespace, { kind, id }) {
      const space = spaceFor(namespace, kind)
      const known = space.places.get(id)
      if (known !== undefined) return known
      space.places.set(id, ids.length)
      spaceOf.push(space)
      return ids.push(id) - 1
    },
    name(place) {
      const { namespace = '', kind = '' } = spaceOf[place] ?? {}
      return { namespace, kind, id: ids[place] ?? '' }
    },
  }
}
