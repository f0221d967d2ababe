import { randomUUID } from 'node:crypto'
import { closeSync, constants, mkdirSync, readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { mount, mountsUnder, unmount } from '@gantry/linux/mount'
import { openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import type { Mount } from '../drivers/driver.ts'

/** Where and how a layer is laid out. Disposing takes the mounts away again. */
export interface LayerTarget extends Disposable {
  /** Absolute folder to be jailed in. */
  readonly root: string
  /** Leave whiteouts as marks of the overlay file system; otherwise they delete. */
  readonly overlay: boolean
  /** Absolute folders of the layers below, nearest first. */
  readonly lowers: readonly string[]
}

export interface TargetParts {
  /** Folder for temporary mount points. */
  readonly mountRoot: string
  /** Is this a snapshot folder of ours, which nothing else has mounted over? */
  readonly owns: (path: string) => boolean
}

/**
 * Chooses the shortest way to the files: the upper folder of an overlay is written to without mounting it, as is a
 * snapshot folder of ours; everything else is mounted for the time being.
 *
 * @throws {Fault} `invalid-argument` when there is nothing to mount, `failed-precondition` when it cannot be mounted
 */
export function openTarget(mounts: readonly Mount[], { mountRoot, owns }: TargetParts): LayerTarget {
  const [only, ...others] = mounts
  if (!only) throw new Fault('invalid-argument', 'Cannot apply the layer: there are no mounts to apply it to')
  if (others.length === 0 && !only.target) {
    const upper = marksWhiteouts(only) ? optionOf(only, 'upperdir') : undefined
    if (upper !== undefined)
      return direct({
        root: upper,
        overlay: true,
        lowers: (optionOf(only, 'lowerdir') ?? '').split(':').filter(Boolean),
      })
    if (isWritableBind(only) && owns(only.source)) return direct({ root: only.source, overlay: false, lowers: [] })
  }
  return mounted(mounts, mountRoot)
}

/** At start: takes away the mounts that a crash has left. */
export function clearTargets(mountRoot: string): void {
  mkdirSync(mountRoot, { recursive: true, mode: 0o700 })
  for (const point of mountsUnder(mountRoot)) unmount(point, { detach: true })
  for (const name of readdirSync(mountRoot)) rmdirSync(join(mountRoot, name))
}

function direct(target: Omit<LayerTarget, typeof Symbol.dispose>): LayerTarget {
  return { ...target, [Symbol.dispose]() {} }
}

function mounted(mounts: readonly Mount[], mountRoot: string): LayerTarget {
  const root = join(mountRoot, randomUUID())
  mkdirSync(root, { mode: 0o700 })
  const undo = new DisposableStack()
  undo.defer(() => rmdirSync(root))
  undo.defer(() => {
    for (const point of mountsUnder(root)) unmount(point, { detach: true })
  })
  try {
    for (const each of mounts) mountAt(root, each)
  } catch (error) {
    undo.dispose()
    if (!isSystemError(error)) throw error
    throw new Fault('failed-precondition', `Cannot apply the layer: ${error.message}`, { cause: error })
  }
  return { root, overlay: false, lowers: [], [Symbol.dispose]: () => undo.dispose() }
}

/** A target of its own lies inside what was mounted before, wherever links there lead. */
function mountAt(root: string, { type, source, target, options }: Mount): void {
  if (!target) {
    mount({ type, source, target: root, options })
    return
  }
  const fd = openIn(root, target, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    mount({ type, source, target: `/proc/self/fd/${fd}`, options })
  } finally {
    closeSync(fd)
  }
}

function optionOf({ options }: Mount, name: string): string | undefined {
  return options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1)
}

/** With `userxattr` the marks have other names: the kernel then makes them better than we. */
function marksWhiteouts({ type, options }: Mount): boolean {
  return type === 'overlay' && !options.includes('userxattr')
}

function isWritableBind({ type, options }: Mount): boolean {
  const bind = type === 'bind' || options.includes('bind') || options.includes('rbind')
  return bind && !options.includes('ro')
}
