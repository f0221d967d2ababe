import { randomUUID } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync } from 'node:fs'
import { chmod, mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { mountsUnder } from '@gantry/linux/mount'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import type { Pool } from '../extract/pool.ts'
import type { Usage } from '../snapshot.ts'
import type { Trees } from './driver.ts'

const NEW = 'new-'
const GONE = 'rm-'
const DELETE_MS = 600_000 // one tree; the next start goes on with what took longer

export interface FoldersParts {
  /** Absolute folder, made when it is not there. */
  readonly root: string
  readonly pool: Pool
  /** Hears of a folder that could not be deleted; the next start tries again. */
  readonly report: (error: unknown, path: string) => void
}

/**
 * The folders of a driver that keeps snapshots in folders:
 *
 *   <root>/<id>/fs      the tree
 *   <root>/new-<id>     being made        <root>/rm-*     being deleted: neither is ever named by a record
 *
 * No call waits for the disk on the main thread: while a large layer is being synced, a folder can take half a second.
 */
export interface Folders {
  /** The tree of a snapshot. */
  fs(id: number): string
  /** Makes a folder with an empty tree, and lets `fill` do the rest before it gets its name. It is on disk then. */
  make(id: number, fill: (folder: string) => void | Promise<void>): Promise<void>
  /** The same at once, and with nothing on disk yet. */
  stage(id: number): Promise<string>
  usage(id: number, signal: AbortSignal): Promise<Usage>
  discard(id: number): Promise<void>
  cleanup(signal: AbortSignal): Promise<void>
  owns(path: string): boolean
  recover(known: ReadonlySet<number>): Promise<number>
  readonly trees: Trees
}

export function createFolders({ root, pool, report }: FoldersParts): Folders {
  mkdirSync(root, { recursive: true, mode: 0o700 })
  const fs = (id: number): string => join(root, String(id), 'fs')

  const leaving = new Set<string>()
  let deleting = Promise.resolve() // one after the other: a mass removal leaves the threads to those who wait

  function remove(path: string): void {
    leaving.add(basename(path))
    deleting = deleting.then(() => removeNow(path))
  }

  /** What is gone already is well. */
  async function putAside(name: string): Promise<void> {
    const gone = name.startsWith(GONE) ? name : `${GONE}${name}-${randomUUID()}` // one of that number may still be there
    leaving.add(gone) // a rename may be seen before it resolves
    try {
      if (gone !== name) await rename(join(root, name), join(root, gone))
    } catch (error) {
      leaving.delete(gone)
      if (isSystemError(error, 'ENOENT')) return
      throw error
    }
    remove(join(root, gone))
  }

  async function removeNow(path: string): Promise<void> {
    try {
      await deleteTree(path, pool)
    } catch (error) {
      report(error, path)
    }
    leaving.delete(basename(path))
  }

  return {
    fs,

    async make(id, fill) {
      const fresh = join(root, `${NEW}${id}`)
      try {
        await mkdir(fresh, { mode: 0o700 })
        await makeTree(fresh)
        await fill(fresh)
        await sync(fresh)
        await rename(fresh, join(root, String(id)))
        await sync(root)
      } catch (error) {
        await rm(fresh, { recursive: true, force: true })
        throw reasonOf(error)
      }
    },

    async stage(id) {
      try {
        await mkdir(join(root, String(id)), { mode: 0o700 })
        await makeTree(join(root, String(id)))
        return fs(id)
      } catch (error) {
        throw reasonOf(error)
      }
    },

    usage: (id, signal) => pool.run({ kind: 'usage', root: fs(id) }, signal),

    discard: (id) => putAside(String(id)),

    cleanup: () => deleting,

    owns: (path) => basename(path) === 'fs' && dirname(dirname(path)) === root && isId(basename(dirname(path))),

    async recover(known) {
      const names = await readdir(root)
      for (const name of names) {
        const isOurs = name.startsWith(GONE) || numberIn(name) !== undefined
        if (!isOurs || (isId(name) && known.has(Number(name)))) continue
        await putAside(name).catch((error: unknown) => report(error, join(root, name)))
      }
      return names.filter(isId).reduce((highest, name) => Math.max(highest, Number(name)), 0)
    },

    trees: treesIn(root, leaving, putAside),
  }
}

/** Neither what a link leads to nor what is mounted there is ours. */
async function deleteTree(path: string, pool: Pool): Promise<void> {
  if (!lstatSync(path).isDirectory()) return await rm(path)
  const [point] = mountsUnder(path)
  if (point !== undefined) throw new Fault('failed-precondition', `Something is mounted at "${point}"`)
  await pool.run({ kind: 'empty', root: path }, AbortSignal.timeout(DELETE_MS))
  await rmdir(path)
}

function treesIn(root: string, leaving: ReadonlySet<string>, putAside: (name: string) => Promise<void>): Trees {
  return {
    root,
    names: async () =>
      (await readdir(root)).filter((name) => !leaving.has(name)).map((name) => ({ name, id: numberIn(name) })),
    has: (id) => existsSync(join(root, String(id), 'fs')),
    async drop(name) {
      const found = lstatSync(join(root, name), { throwIfNoEntry: false })
      if (found?.isDirectory()) await putAside(name)
      else await rm(join(root, name), { force: true })
      return found !== undefined
    },
  }
}

function reasonOf(error: unknown): unknown {
  if (!isSystemError(error, 'ENOSPC', 'EDQUOT')) return error
  return new Fault('resource-exhausted', 'Cannot make the snapshot: the disk is full', { cause: error })
}

async function makeTree(folder: string): Promise<void> {
  await mkdir(join(folder, 'fs'))
  await chmod(join(folder, 'fs'), 0o755) // whatever our umask is
}

async function sync(folder: string): Promise<void> {
  await using handle = await open(folder)
  await handle.sync()
}

/** Of a tree, or of one that is being made. */
function numberIn(name: string): number | undefined {
  const digits = name.startsWith(NEW) ? name.slice(NEW.length) : name
  return isId(digits) ? Number(digits) : undefined
}

function isId(name: string): boolean {
  return /^[1-9][0-9]{0,15}$/.test(name)
}
