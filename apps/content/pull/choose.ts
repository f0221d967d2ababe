import type { Descriptor } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import { formatPlatform, type Matcher, matcher, type Platform, strictMatcher } from '@gantry/model/platform'

/** Which manifests of an index a client wants. */
export interface Wanted {
  /** None means all. */
  readonly platforms: readonly Platform[]
  /** At most this many, the best ones; 0 means no limit. */
  readonly limit: number
}

const MAX_SHOWN = 12 // platforms listed in a message

/**
 * Chooses among the manifests of an index. For each platform these are the ones made for it, or else the nearest that
 * runs on it; manifests for no platform in particular pass and come last (behaviour facts, 18).
 *
 * @throws {Fault} `not-found` naming what there is when nothing fits
 */
export function choose(manifests: readonly Descriptor[], { platforms, limit }: Wanted, what: string): Descriptor[] {
  if (platforms.length === 0) return limit > 0 ? manifests.slice(0, limit) : [...manifests]
  const fitting = platforms.flatMap((platform) => matching(manifests, platform))
  const general = manifests.filter((manifest) => !manifest.platform)
  const chosen = [...new Set([...fitting, ...general])]
  if (chosen.length === 0 || (limit > 0 && fitting.length === 0)) throw nothing(manifests, platforms, what)
  return limit > 0 ? chosen.slice(0, limit) : chosen
}

function matching(manifests: readonly Descriptor[], platform: Platform): Descriptor[] {
  const exact = candidates(manifests, strictMatcher(platform))
  if (exact.length > 0) return exact
  const kin = matcher(platform)
  const sorted = candidates(manifests, kin).sort((a, b) => compare(kin, a, b))
  return sorted.slice(0, 1)
}

function candidates(manifests: readonly Descriptor[], { match }: Matcher): Descriptor[] {
  return manifests.filter(({ platform }) => platform && match(platform))
}

function compare({ less }: Matcher, a: Descriptor, b: Descriptor): number {
  if (!a.platform || !b.platform) return 0
  return less(a.platform, b.platform) ? -1 : less(b.platform, a.platform) ? 1 : 0
}

function nothing(manifests: readonly Descriptor[], platforms: readonly Platform[], what: string): Fault {
  const there = manifests.flatMap(({ platform }) => (platform ? [formatPlatform(platform)] : []))
  const list = [...new Set(there)].slice(0, MAX_SHOWN).join(', ').slice(0, 512) || 'no platform'
  return new Fault('not-found', `${what}: no manifest for ${platforms.map(formatPlatform).join(', ')}: it has ${list}`)
}
