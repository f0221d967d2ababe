import { type Descriptor, isConfig, isIndex, isLayer, isManifest } from '@gantry/model/descriptor'
import type { Digest } from '@gantry/model/digest'
import type { Labels } from '@gantry/model/labels'
import type { Reference } from '@gantry/model/reference'

const CONTENT_REF = 'containerd.io/gc.ref.content.'
const SNAPSHOT_REF = 'containerd.io/gc.ref.snapshot.'
const SOURCE = 'containerd.io/distribution.source.'
const UNCOMPRESSED = 'containerd.io/uncompressed'
const MAX_BYTES = 4096 // of a key and its value

/** Says to the collector that whoever keeps a document keeps its children (behaviour facts, 5.5). */
export function childLabels(children: readonly Descriptor[]): Labels {
  const counts = new Map<string, number>()
  const labels: Record<string, string> = {}
  for (const child of children) {
    const prefix = `${CONTENT_REF}${kindOf(child)}`
    const index = counts.get(prefix) ?? 0
    counts.set(prefix, index + 1)
    labels[index > 0 || prefix.endsWith('.') ? `${prefix}${index}` : prefix] = child.digest
  }
  return labels
}

/** Where a blob came from, added to where it came from before. A value that would grow too large stays as it is. */
export function sourceLabel(labels: Labels, { host, path }: Reference): Labels {
  const key = `${SOURCE}${host}`
  const known = (labels[key] ?? '').split(',').filter((part) => part !== '')
  const value = [...new Set([...known, path])].sort().join(',')
  return key.length + value.length > MAX_BYTES ? labels : { ...labels, [key]: value }
}

/** On an image config: the snapshot its layers became. */
export function snapshotLabel(snapshotter: string, chainId: string): Labels {
  return { [`${SNAPSHOT_REF}${snapshotter}`]: chainId }
}

/** On a layer: what its plain bytes hash to. */
export function plainLabel(diffId: Digest): Labels {
  return { [UNCOMPRESSED]: diffId }
}

function kindOf(child: Descriptor): string {
  if (isConfig(child)) return 'config'
  if (isManifest(child) || isIndex(child)) return 'm.'
  return isLayer(child) ? 'l.' : ''
}
