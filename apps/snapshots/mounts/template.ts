import { Fault } from '@gantry/model/fault'
import type { Mount } from '../drivers/driver.ts'
import type { ActiveMount } from './active.ts'

const MAX_LAYERS = 512 // in one `overlay`

/**
 * Fills in what refers to mounts that are active already, by their place in the list from 0: `{{ source 0 }}`,
 * `{{ target 0 }}`, `{{ mount 0 }}` (its mount point), `{{ overlay 0 3 }}` (mount points as the layers of an overlay, in that
 * order).
 *
 * @throws {Fault} `invalid-argument` for anything else between the braces, and for a mount that is not active
 */
export function fillMount(mount: Mount, active: readonly ActiveMount[]): Mount {
  const fill = (text: string): string =>
    text.replace(/\{\{(.*?)\}\}/g, (all, inner: string) => filled(all, inner, active))
  return {
    ...mount,
    source: fill(mount.source),
    target: fill(mount.target ?? ''),
    options: mount.options.map(fill),
  }
}

function filled(all: string, inner: string, active: readonly ActiveMount[]): string {
  const [name, ...numbers] = inner.trim().split(/\s+/)
  const places = numbers.map((number) => (/^\d{1,4}$/.test(number) ? Number(number) : -1))
  const [first = -1, last = -1] = places
  if (name === 'overlay' && places.length === 2)
    return range(first, last)
      .map((at) => activeAt(all, at, active).point)
      .join(':')
  if (places.length === 1) {
    const { mount, point } = activeAt(all, first, active)
    if (name === 'mount') return point
    if (name === 'source') return mount.source
    if (name === 'target') return mount.target ?? ''
  }
  throw new Fault(
    'invalid-argument',
    `Cannot fill in ${all}: it is none of source, target, mount, overlay with its numbers`,
  )
}

function activeAt(all: string, at: number, active: readonly ActiveMount[]): ActiveMount {
  const found = active[at]
  if (!found) throw new Fault('invalid-argument', `Cannot fill in ${all}: ${active.length} mounts are active by then`)
  return found
}

function range(first: number, last: number): number[] {
  const length = Math.min(Math.abs(last - first) + 1, MAX_LAYERS)
  return Array.from({ length }, (_, index) => (last < first ? first - index : first + index))
}
