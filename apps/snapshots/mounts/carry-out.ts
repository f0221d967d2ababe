import { lstatSync, mkdirSync, readdirSync, readlinkSync, rmdirSync, symlinkSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { freeLoop, loopFile, openLoop } from '@gantry/linux/loop'
import { mountsUnder, unmountWaiting } from '@gantry/linux/mount'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import type { Mount } from '../drivers/driver.ts'
import type { ActiveMount } from './active.ts'
import { mountIn } from './mount-in.ts'

const FILE = '.file'

/**
 * Mounts one of a list, in the folder of its activation:
 *
 *   <folder>/<place>          the mount point; of a `loop` a link to its device
 *   <folder>/<place>.file     of a `loop`: a link to its file, as the kernel calls it, made first
 *
 * A target is a folder inside the mount before it, wherever links there lead; its mount point is then that of the one before.
 *
 * @returns the mount point
 * @throws {Fault} `failed-precondition` when the kernel refuses
 */
export function carryOut(folder: string, what: Mount, before: readonly ActiveMount[]): string {
  const own = join(folder, String(before.length))
  const previous = before.at(-1)?.point
  try {
    if (what.type === 'loop') attachLoop(own, what)
    else if (what.target && previous !== undefined) {
      mountIn(previous, what)
      return previous
    } else {
      mkdirSync(own, { mode: 0o700 })
      mountIn(own, { ...what, target: '' })
    }
    return own
  } catch (error) {
    if (!isSystemError(error)) throw error
    throw new Fault('failed-precondition', `Cannot activate the mount of "${what.source}": ${error.message}`, {
      cause: error,
    })
  }
}

/** A crash before `keep` frees the device, one after it leaves the links that say what to free. */
function attachLoop(link: string, { source, options }: Mount): void {
  using device = openLoop(source, { readOnly: options.includes('ro') })
  symlinkSync(loopFile(device.path) ?? source, `${link}${FILE}`) // the source may lead there through links
  symlinkSync(device.path, link)
  device.keep()
}

/** Does all of it still stand? After a reboot nothing does. */
export function stands(active: readonly ActiveMount[]): boolean {
  return active.every(({ mount: { type }, point }) => (type === 'loop' ? isLink(point) : mountsUnder(point).length > 0))
}

/**
 * Takes away what an activation has left in its folder, and the folder; safe to repeat. Whoever still uses a mount keeps it
 * until they let go.
 */
export async function takeDown(folder: string): Promise<void> {
  for (const point of mountsUnder(folder)) await unmountWaiting(point)
  for (const name of namesIn(folder).sort().reverse()) {
    const path = join(folder, name)
    if (name.endsWith(FILE)) continue // it goes with its device
    if (!isLink(path)) {
      rmdirSync(path)
      continue
    }
    freeLoop(readlinkSync(path), readlinkSync(`${path}${FILE}`))
    unlinkSync(path)
  }
  for (const name of namesIn(folder)) unlinkSync(join(folder, name))
  if (lstatSync(folder, { throwIfNoEntry: false })) rmdirSync(folder)
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return []
    throw error
  }
}
