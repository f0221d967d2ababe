import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chmodSync, closeSync, constants, lchownSync, lstatSync, mkdirSync } from 'node:fs'
import { link, open, rm } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import type { Mount } from '../drivers/driver.ts'

const MKDIR = 'X-containerd.mkdir.'
const MKFS = 'X-containerd.mkfs.'
const FILE_SYSTEMS = ['ext2', 'ext3', 'ext4', 'xfs']
const UNITS = ['', 'K', 'M', 'G', 'T']
const MKFS_MS = 120_000
const run = promisify(execFile)

/**
 * Makes the folders that options name, `X-containerd.mkdir.path=<folder>[:<mode>[:<uid>:<gid>]]`, and takes those options out.
 * What is there already stays as it is.
 *
 * @param roots only below these, wherever links in them lead
 * @throws {Fault} `invalid-argument` for another option, or a folder elsewhere; `failed-precondition` when it cannot be made
 */
export function makeFolders(mount: Mount, roots: readonly string[]): Mount {
  const { own, others } = takeOptions(mount, MKDIR)
  for (const [name, value] of own) {
    if (name !== 'path') throw new Fault('invalid-argument', `Cannot use the mount option "${MKDIR}${name}"`)
    try {
      makeFolder(value, roots)
    } catch (error) {
      if (!isSystemError(error)) throw error
      throw new Fault('failed-precondition', `Cannot make the folder "${value}": ${error.message}`, { cause: error })
    }
  }
  return { ...mount, options: others }
}

function makeFolder(value: string, roots: readonly string[]): void {
  const [text = '', mode = '700', uid, gid, ...rest] = value.split(':')
  const path = resolve('/', text)
  const isValid = text.startsWith('/') && /^[0-7]{1,5}$/.test(mode) && rest.length === 0 && isPair(uid, gid)
  if (!isValid)
    throw new Fault('invalid-argument', `Cannot make the folder ${JSON.stringify(value)}: it is no path:mode:uid:gid`)
  const root = roots.filter((each) => path.startsWith(`${each}/`)).sort((a, b) => b.length - a.length)[0]
  if (root === undefined)
    throw new Fault(
      'invalid-argument',
      `Cannot make the folder "${path}": it lies neither in a mount of the list nor in a snapshot`,
    )
  const parent = openIn(root, join('/', relative(root, dirname(path))), O_PATH | constants.O_DIRECTORY)
  try {
    const made = `/proc/self/fd/${parent}/${basename(path)}`
    if (!makeNew(made)) return
    chmodSync(made, Number.parseInt(mode, 8))
    if (uid !== undefined) lchownSync(made, Number(uid), Number(gid))
  } finally {
    closeSync(parent)
  }
}

function makeNew(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o700 })
    return true
  } catch (error) {
    if (isSystemError(error, 'EEXIST') && lstatSync(path).isDirectory()) return false
    throw error
  }
}

function isPair(uid: string | undefined, gid: string | undefined): boolean {
  if (uid === undefined) return true
  return [uid, gid].every((id) => id !== undefined && /^\d{1,10}$/.test(id) && Number(id) < 0xffff_ffff)
}

/**
 * Makes the image that a mount has as its source, unless it is there: a sparse file with an empty file system. Takes the options
 * out that say how: `X-containerd.mkfs.size`, `.fs` (ext2, ext3, ext4, xfs; ext4 unless told), `.uuid`. It gets its name when
 * it is whole.
 *
 * @throws {Fault} `invalid-argument`; `failed-precondition` when the program for it is missing or fails
 */
export async function makeImage(mount: Mount, signal: AbortSignal): Promise<Mount> {
  const { own, others } = takeOptions(mount, MKFS)
  const made = { ...mount, options: others }
  const { fs = 'ext4', size: text = '', uuid, ...unknown } = Object.fromEntries(own)
  const [other] = Object.keys(unknown)
  if (other !== undefined) throw new Fault('invalid-argument', `Cannot use the mount option "${MKFS}${other}"`)
  if (!mount.source.startsWith('/'))
    throw new Fault('invalid-argument', `Cannot make the image "${mount.source}": it is no path`)
  if (isThere(mount.source)) return made
  if (!FILE_SYSTEMS.includes(fs)) throw new Fault('invalid-argument', `Cannot make a file system of type "${fs}"`)
  if (uuid !== undefined && !/^[0-9a-fA-F-]{36}$/.test(uuid))
    throw new Fault('invalid-argument', `"${uuid}" is no UUID`)
  const size = parseSize(text)
  const fresh = `${mount.source}.new-${randomUUID()}`
  try {
    await using file = await open(fresh, 'wx', 0o600)
    await file.truncate(size)
    await format(fs, fresh, uuid, signal)
    await file.sync()
    await link(fresh, mount.source)
    await using folder = await open(dirname(mount.source))
    await folder.sync()
  } catch (error) {
    if (!isSystemError(error, 'EEXIST') || !isThere(mount.source)) throw error // else somebody was faster, and may use it
  } finally {
    await rm(fresh, { force: true })
  }
  return made
}

function isThere(path: string): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat && !stat.isFile()) throw new Fault('invalid-argument', `Cannot use "${path}" as an image: it is no file`)
  return stat !== undefined
}

async function format(fs: string, file: string, uuid: string | undefined, signal: AbortSignal): Promise<void> {
  const program = `mkfs.${fs}`
  const quiet = fs === 'xfs' ? ['-q', '-f'] : ['-q', '-F']
  const named = uuid === undefined ? [] : fs === 'xfs' ? ['-m', `uuid=${uuid}`] : ['-U', uuid]
  try {
    await run(program, [...quiet, ...named, file], { signal, timeout: MKFS_MS })
  } catch (error) {
    if (signal.aborted) throw error
    const why = isSystemError(error, 'ENOENT') ? 'it is not installed' : error instanceof Error ? error.message : error
    throw new Fault('failed-precondition', `Cannot run ${program}: ${why}`, { cause: error })
  }
}

/** Bytes, or with a unit of 1,024: `64MiB`, `1G`. */
function parseSize(text: string): number {
  const [, number, unit = ''] = /^(\d{1,15})\s*(?:([KMGT])(?:i?B)?|B)?$/i.exec(text) ?? []
  const size = Number(number) * 1024 ** UNITS.indexOf(unit.toUpperCase())
  if (number === undefined || size < 1 || !Number.isSafeInteger(size))
    throw new Fault('invalid-argument', `Cannot make an image of size "${text}"`)
  return size
}

function takeOptions({ options }: Mount, prefix: string): { own: [string, string][]; others: string[] } {
  const own = options
    .filter((option) => option.startsWith(prefix))
    .map((option): [string, string] => {
      const [name = '', ...value] = option.slice(prefix.length).split('=')
      return [name, value.join('=')]
    })
  return { own, others: options.filter((option) => !option.startsWith(prefix)) }
}
