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
  /** Absolute folders of what is below, nearest first. */
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
 * snapshot folder of ours; everything else is mounted for the time being. An overlay of an upper folder alone, which no
 * kernel mounts, is how clients that unpack layers side by side ask for marks: the snapshot gets its parent at its commit.
 *
 * @throws {Fault} `invalid-argument` when there is nothing to mount, `failed-precondition` when it cannot be mounted
 */
export function openTarget(mounts: readonly Mount[], { mountRoot, owns }: TargetParts): LayerTarget {
  const [only, ...others] = mounts
  if (!only) throw new Fault('invalid-argument', 'Cannot apply the layer: there are no mounts to apply it to')
  if (others.length === 0 && !only.target) {
    const upper = marksWhiteouts(only) ? optionOf(only, 'upperdir') : undefined
    const lowers = (optionOf(only, 'lowerdir') ?? '').split(':').filter(Boolean)
    if (upper !== undefined && lowers.length > 0) return onTop(upper, lowers, mountRoot)
    if (upper !== undefined) return direct({ root: upper, overlay: true, lowers: [] })
    if (isWritableBind(only) && owns(only.source)) return direct({ root: only.source, overlay: false, lowers: [] })
  }
  return mounted(mounts, mountRoot)
}

/** At start: takes away the mounts that a crash has left, and their folders. What else lies there stays. */
export function clearTargets(mountRoot: string): void {
  mkdirSync(mountRoot, { recursive: true, mode: 0o700 })
  for (const point of mountsUnder(mountRoot)) unmount(point, { detach: true })
  for (const target of foldersIn(mountRoot)) {
    for (const part of foldersIn(target)) removeIfEmpty(part)
    removeIfEmpty(target)
  }
}

function foldersIn(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name))
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder)
  } catch (error) {
    if (!isSystemError(error, 'ENOTEMPTY', 'EEXIST')) throw error
  }
}

/**
 * Mounts several sets of mounts in one new folder, each at a name of its own, for the time being. A set may be empty.
 * @throws {Fault} `failed-precondition` when one cannot be mounted
 */
export function mountTogether(
  sets: Readonly<Record<string, readonly Mount[]>>,
  mountRoot: string,
): Disposable & { readonly root: string } {
  const root = join(mountRoot, randomUUID())
  mkdirSync(root, { mode: 0o700 })
  using undo = new DisposableStack()
  undo.defer(() => rmdirSync(root))
  for (const [name, mounts] of Object.entries(sets)) {
    mkdirSync(join(root, name), { mode: 0o700 })
    undo.defer(() => rmdirSync(join(root, name)))
    undo.use(mountAll(join(root, name), mounts))
  }
  const kept = undo.move()
  return { root, [Symbol.dispose]: () => kept.dispose() }
}

/** Hard links into the layers below need them as one tree, as a container sees them. */
function onTop(upper: string, lowers: readonly string[], mountRoot: string): LayerTarget {
  const below = mergeLayers(lowers, mountRoot)
  return { root: upper, overlay: true, lowers: [below.root], [Symbol.dispose]: () => below[Symbol.dispose]() }
}

/**
 * Several layers as one tree, for the time being.
 * @param layers folders, nearest first
 * @throws {Fault} `failed-precondition` when they cannot be mounted
 */
export function mergeLayers(layers: readonly string[], mountRoot: string): Disposable & { readonly root: string } {
  const [nearest, ...others] = layers
  if (nearest !== undefined && others.length === 0) return { root: nearest, [Symbol.dispose]() {} }
  const options = [`lowerdir=${layers.join(':')}`, 'ro']
  const { root, [Symbol.dispose]: dispose } = mountTogether(
    { below: [{ type: 'overlay', source: 'overlay', options }] },
    mountRoot,
  )
  return { root: join(root, 'below'), [Symbol.dispose]: dispose }
}

function direct(target: Omit<LayerTarget, typeof Symbol.dispose>): LayerTarget {
  return { ...target, [Symbol.dispose]() {} }
}

function mounted(mounts: readonly Mount[], mountRoot: string): LayerTarget {
  const root = join(mountRoot, randomUUID())
  mkdirSync(root, { mode: 0o700 })
  using undo = new DisposableStack()
  undo.defer(() => rmdirSync(root))
  undo.use(mountAll(root, mounts))
  const kept = undo.move()
  return { root, overlay: false, lowers: [], [Symbol.dispose]: () => kept.dispose() }
}

/** Disposing takes the mounts away. */
function mountAll(root: string, mounts: readonly Mount[]): Disposable {
  using undo = new DisposableStack()
  undo.defer(() => {
    for (const point of mountsUnder(root)) unmount(point, { detach: true })
  })
  try {
    for (const each of mounts) mountAt(root, each)
  } catch (error) {
    if (!isSystemError(error)) throw error
    throw new Fault('failed-precondition', `Cannot mount the snapshot: ${error.message}`, { cause: error })
  }
  return undo.move()
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

/** The value of an option of the form `name=value`. */
export function optionOf({ options }: Mount, name: string): string | undefined {
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
