import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { mountsUnder, unmount, unmountWaiting } from '@gantry/linux/mount'
import { isSystemError } from '@gantry/linux/system'
import { Fault, isFault } from '@gantry/model/fault'
import type { Mount } from '../drivers/driver.ts'
import type { Pool } from '../extract/pool.ts'

/** Where and how a layer is laid out. Disposing takes the mounts away again. */
export interface LayerTarget extends AsyncDisposable {
  /** Absolute folder to be jailed in. */
  readonly root: string
  /** Leave whiteouts as marks of the overlay file system; otherwise they delete. */
  readonly overlay: boolean
  /** Absolute folders of what is below, nearest first. */
  readonly lowers: readonly string[]
}

/** How to mount for the time being. */
export interface Mounting {
  /** Folder for temporary mount points. */
  readonly mountRoot: string
  /** Mounts: it takes as long as a disk or a network does. */
  readonly mounters: Pick<Pool, 'run'>
}

export interface TargetParts extends Mounting {
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
export async function openTarget(
  mounts: readonly Mount[],
  { owns, ...mounting }: TargetParts,
  signal: AbortSignal,
): Promise<LayerTarget> {
  const [only, ...others] = mounts
  if (!only) throw new Fault('invalid-argument', 'Cannot apply the layer: there are no mounts to apply it to')
  if (others.length === 0 && !only.target) {
    const upper = marksWhiteouts(only) ? optionOf(only, 'upperdir') : undefined
    const lowers = (optionOf(only, 'lowerdir') ?? '').split(':').filter(Boolean)
    if (upper !== undefined && lowers.length > 0) return await onTop(upper, lowers, mounting, signal)
    if (upper !== undefined) return direct({ root: upper, overlay: true, lowers: [] })
    if (isWritableBind(only) && owns(only.source)) return direct({ root: only.source, overlay: false, lowers: [] })
  }
  return await mounted(mounts, mounting, signal)
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

/** A folder of mounts. Disposing takes them away. */
interface Mounted extends AsyncDisposable {
  readonly root: string
}

/**
 * Mounts several sets of mounts in one new folder, each at a name of its own, for the time being. A set may be empty.
 * @throws {Fault} `failed-precondition` when one cannot be mounted
 */
export async function mountTogether(
  sets: Readonly<Record<string, readonly Mount[]>>,
  mounting: Mounting,
  signal: AbortSignal,
): Promise<Mounted> {
  await using undo = new AsyncDisposableStack()
  const root = makeRoot(mounting, undo)
  for (const [name, mounts] of Object.entries(sets)) {
    mkdirSync(join(root, name), { mode: 0o700 })
    undo.defer(() => rmdirSync(join(root, name)))
    await mountAll(join(root, name), mounts, { ...mounting, undo, signal })
  }
  return keep({ root }, undo)
}

/** Hard links into the layers below need them as one tree, as a container sees them. */
async function onTop(
  upper: string,
  lowers: readonly string[],
  mounting: Mounting,
  signal: AbortSignal,
): Promise<LayerTarget> {
  const below = await mergeLayers(lowers, mounting, signal)
  const dispose = () => below[Symbol.asyncDispose]()
  return { root: upper, overlay: true, lowers: [below.root], [Symbol.asyncDispose]: dispose }
}

/**
 * Several layers as one tree, for the time being.
 * @param layers folders, nearest first
 * @throws {Fault} `failed-precondition` when they cannot be mounted
 */
export async function mergeLayers(
  layers: readonly string[],
  mounting: Mounting,
  signal: AbortSignal,
): Promise<Mounted> {
  const [nearest, ...others] = layers
  if (nearest !== undefined && others.length === 0) return { root: nearest, async [Symbol.asyncDispose]() {} }
  const options = [`lowerdir=${layers.join(':')}`, 'ro']
  const together = await mountTogether({ below: [{ type: 'overlay', source: 'overlay', options }] }, mounting, signal)
  return { ...together, root: join(together.root, 'below') }
}

function direct(target: Omit<LayerTarget, typeof Symbol.asyncDispose>): LayerTarget {
  return { ...target, async [Symbol.asyncDispose]() {} }
}

async function mounted(mounts: readonly Mount[], mounting: Mounting, signal: AbortSignal): Promise<LayerTarget> {
  await using undo = new AsyncDisposableStack()
  const root = makeRoot(mounting, undo)
  await mountAll(root, mounts, { ...mounting, undo, signal })
  return keep({ root, overlay: false, lowers: [] }, undo)
}

function makeRoot({ mountRoot }: Mounting, undo: AsyncDisposableStack): string {
  const root = join(mountRoot, randomUUID())
  mkdirSync(root, { mode: 0o700 })
  undo.defer(() => rmdirSync(root))
  return root
}

/** Disposing is what `undo` was to do. */
function keep<T extends object>(made: T, undo: AsyncDisposableStack): T & AsyncDisposable {
  const kept = undo.move()
  return { ...made, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

interface MountingAll extends Mounting {
  /** Takes the mounts away. */
  readonly undo: AsyncDisposableStack
  readonly signal: AbortSignal
}

async function mountAll(
  root: string,
  mounts: readonly Mount[],
  { mounters, undo, signal }: MountingAll,
): Promise<void> {
  if (mounts.length === 0) return
  undo.defer(async () => {
    for (const point of mountsUnder(root)) await unmountWaiting(point)
  })
  try {
    await mounters.run({ kind: 'mount', root, mounts }, signal)
  } catch (error) {
    if (!isFault(error, 'failed-precondition')) throw error
    throw new Fault('failed-precondition', `Cannot mount the snapshot: ${error.message}`, { cause: error })
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
