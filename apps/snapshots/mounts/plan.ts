import { Fault } from '@gantry/model/fault'
import type { Mount } from '../drivers/driver.ts'

const TRANSFORMS = ['format', 'mkdir', 'mkfs'] as const

/** What is done to a mount before it is mounted; a type says it by its beginning: `format/mkdir/overlay`. */
export type Transform = (typeof TRANSFORMS)[number]

/** A mount with its type taken apart. */
export interface Step {
  /** With the plain type. */
  readonly mount: Mount
  readonly transforms: ReadonlySet<Transform>
}

export interface Plan {
  readonly steps: readonly Step[]
  /** So many steps, the first ones, are mounted here; the others are only made ready. */
  readonly mounted: number
}

/**
 * What of a list of mounts is to be done here. A mount that refers to others needs all before it; `loop` is no type that the
 * kernel knows. Everything is mounted when it is for the time being only.
 *
 * @throws {Fault} `unimplemented` when there is nothing to do: the caller mounts the list as it is
 * @see behaviour facts, 7
 */
export function planOf(mounts: readonly Mount[], temporary: boolean): Plan {
  const steps = mounts.map(stepOf)
  const lastReferring = steps.findLastIndex(({ transforms }) => transforms.has('format'))
  const lastLoop = steps.findLastIndex(({ mount }) => mount.type === 'loop')
  if (!temporary && lastLoop < 0 && steps.every(({ transforms }) => transforms.size === 0))
    throw new Fault('unimplemented', 'There is nothing to activate: mount the list as it is')
  return { steps, mounted: temporary ? steps.length : Math.max(lastReferring, lastLoop + 1, 0) }
}

function stepOf(mount: Mount): Step {
  const transforms = new Set<Transform>()
  let { type } = mount
  for (let found = beginning(type); found; found = beginning(type)) {
    transforms.add(found)
    type = type.slice(found.length + 1)
  }
  return { mount: { ...mount, type }, transforms }
}

function beginning(type: string): Transform | undefined {
  return TRANSFORMS.find((transform) => type.startsWith(`${transform}/`))
}
