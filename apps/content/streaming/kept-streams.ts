import { type Node, nodeOf, type ThingName } from '@gantry/service/collection'
import type { StreamName, Streams } from './streams.ts'

/** The open streams, as a collection sees them. */
export interface KeptStreams {
  nodes(): Iterable<Node>
  /** Ends the stream that was told last under this name: another one may have the name by now. */
  end(thing: ThingName): boolean
}

export function createKeptStreams(streams: Pick<Streams, 'all'>): KeptStreams {
  let told = new Map<string, () => void>()
  return {
    *nodes() {
      told = new Map()
      for (const { end, ...name } of streams.all()) {
        told.set(keyOf(name), end)
        yield streamNode(name)
      }
    },
    end(thing) {
      const end = told.get(keyOf(thing))
      end?.()
      return end !== undefined
    },
  }
}

function streamNode({ namespace, id, lease }: StreamName): Node {
  const heldBy = lease === undefined ? [] : [{ kind: 'leases', id: lease }]
  return nodeOf({ namespace, kind: 'streams', id }, { labels: {}, heldBy })
}

function keyOf({ namespace, id }: Pick<StreamName, 'namespace' | 'id'>): string {
  return `${namespace}\0${id}`
}
