import { type Descriptor, isConfig } from '@gantry/model/descriptor'
import { isFault } from '@gantry/model/fault'
import { hostPlatform, strictMatcher } from '@gantry/model/platform'
import { parseReference } from '@gantry/model/reference'
import type { Collected } from './collect.ts'

export interface NamedImage {
  readonly name: string
  readonly target: Descriptor
  readonly manifests: Collected['manifests']
}

/** `manifest.json`: it has one platform of an image, this host's when it is among them. */
export function dockerManifest(images: readonly NamedImage[], pathOf: (descriptor: Descriptor) => string) {
  const entries = new Map<string, { Config: string; RepoTags: string[]; Layers: string[] }>()
  for (const { name, manifests } of images) {
    const usable = manifests.filter(({ config }) => isConfig(config))
    const host = strictMatcher(hostPlatform())
    const best = usable.find(({ descriptor: { platform } }) => platform && host.match(platform)) ?? usable[0]
    if (!best) continue
    const { config, layers, descriptor } = best
    const entry = entries.get(descriptor.digest) ?? { Config: pathOf(config), RepoTags: [], Layers: layers.map(pathOf) }
    const tag = familiarTag(name)
    if (tag !== undefined) entry.RepoTags.push(tag)
    entries.set(descriptor.digest, entry)
  }
  return [...entries.values()]
}

/** As Docker shows it: `busybox:latest`. A name with a digest is no tag. */
function familiarTag(name: string): string | undefined {
  try {
    const { host, path, tag, digest } = parseReference(name)
    if (tag === undefined || digest !== undefined) return undefined
    return `${host === 'docker.io' ? path.replace(/^library\//, '') : `${host}/${path}`}:${tag}`
  } catch (error) {
    if (isFault(error, 'invalid-argument')) return undefined
    throw error
  }
}
