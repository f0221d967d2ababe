import { chmodSync, existsSync, lchownSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { open, rm, rmdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import type { Pool } from '../extract/pool.ts'
import type { Driver, Mount, Stack } from './driver.ts'

const NEW = 'new-'
const GONE = 'rm-'
const INDEX_PARAMETER = '/sys/module/overlay/parameters/index'

export interface OverlayParts {
  /** Absolute folder, made when it is not there. */
  readonly root: string
  readonly pool: Pool
  /** Extra options for overlay mounts, before ours. */
  readonly mountOptions: readonly string[]
  /** Hears of a folder that could not be deleted; the next start tries again. */
  readonly report: (error: unknown, path: string) => void
}

/**
 * Keeps snapshots as layers of the kernel's overlay file system:
 *
 *   <root>/<id>/fs      what the snapshot adds; the upper folder while it is active     0755, owner as the parent's
 *   <root>/<id>/work    the kernel's scratch folder, of active snapshots only           0711
 *   <root>/new-<id>     being made        <root>/rm-<id>     being deleted: neither is ever named by a record
 */
export function createOverlayfs({ root, pool, mountOptions, report }: OverlayParts): Driver {
  mkdirSync(root, { recursive: true, mode: 0o700 })
  const options = overlayOptions(mountOptions, existsSync(INDEX_PARAMETER))
  const fs = (id: number): string => join(root, String(id), 'fs')

  let deleting = Promise.resolve() // one after the other: a mass removal leaves the threads to those who wait

  function remove(path: string): void {
    deleting = deleting.then(() => removeNow(path))
  }

  async function removeNow(path: string): Promise<void> {
    try {
      await pool.run({ kind: 'empty', root: path }, AbortSignal.timeout(600_000))
      await rmdir(path)
    } catch (error) {
      report(error, path)
    }
  }

  return {
    name: 'overlayfs',
    root,
    capabilities: ['rebase'],

    async create({ kind, id, parents }) {
      const fresh = join(root, `${NEW}${id}`)
      try {
        mkdirSync(fresh, { mode: 0o700 })
        mkdirSync(join(fresh, 'fs'))
        chmodSync(join(fresh, 'fs'), 0o755) // whatever our umask is
        inheritOwner(join(fresh, 'fs'), parents[0] === undefined ? undefined : fs(parents[0]))
        if (kind === 'active') {
          mkdirSync(join(fresh, 'work'))
          chmodSync(join(fresh, 'work'), 0o711)
        }
        await sync(fresh)
        renameSync(fresh, join(root, String(id)))
        await sync(root)
      } catch (error) {
        await rm(fresh, { recursive: true, force: true })
        if (isSystemError(error, 'ENOSPC', 'EDQUOT'))
          throw new Fault('resource-exhausted', 'Cannot make the snapshot: the disk is full', { cause: error })
        throw error
      }
    },

    mounts: (stack) => mountsOf(stack, { root, options }),

    stage(id) {
      mkdirSync(join(root, String(id)), { mode: 0o700 })
      mkdirSync(fs(id))
      chmodSync(fs(id), 0o755) // whatever our umask is
      return fs(id)
    },

    layer: fs,

    async discard(id) {
      const gone = join(root, `${GONE}${id}`)
      try {
        renameSync(join(root, String(id)), gone)
      } catch (error) {
        if (isSystemError(error, 'ENOENT')) return
        throw error
      }
      remove(gone)
    },

    usage: (id, signal) => pool.run({ kind: 'usage', root: fs(id) }, signal),

    owns: (path) => basename(path) === 'fs' && dirname(dirname(path)) === root && isId(basename(dirname(path))),

    async recover(known) {
      const names = readdirSync(root)
      for (const name of names) {
        if (isId(name) && known.has(Number(name))) continue
        const gone = name.startsWith(GONE) ? name : `${GONE}${name}`
        if (gone !== name) renameSync(join(root, name), join(root, gone))
        remove(join(root, gone))
      }
      return Math.max(0, ...names.filter(isId).map(Number))
    },
  }
}

/**
 * How to mount a snapshot; the order of the options is containerd's, and clients compare it.
 * @param at.options what every overlay mount gets at the end; bind mounts get none of it
 */
export function mountsOf({ kind, id, parents }: Stack, at: { root: string; options: readonly string[] }): Mount[] {
  const fs = (number: number): string => `${at.root}/${number}/fs`
  const mode = kind === 'active' ? 'rw' : 'ro'
  const [nearest, ...others] = parents
  if (nearest === undefined) return [{ type: 'bind', source: fs(id), options: [mode, 'rbind'] }]
  if (kind === 'view' && others.length === 0) return [{ type: 'bind', source: fs(nearest), options: [mode, 'rbind'] }]
  const own = kind === 'active' ? [`workdir=${at.root}/${id}/work`, `upperdir=${fs(id)}`] : []
  const lower = `lowerdir=${parents.map(fs).join(':')}`
  return [{ type: 'overlay', source: 'overlay', options: [...own, lower, ...at.options] }]
}

/** @param hasIndex does the kernel's overlay have the option `index`? It must be off: layers are shared by many mounts */
export function overlayOptions(configured: readonly string[], hasIndex: boolean): string[] {
  return hasIndex && !configured.includes('index') ? [...configured, 'index=off'] : [...configured]
}

function inheritOwner(folder: string, parent: string | undefined): void {
  if (parent === undefined) return
  const { uid, gid } = statSync(parent)
  if (uid !== 0 || gid !== 0) lchownSync(folder, uid, gid)
}

async function sync(folder: string): Promise<void> {
  await using handle = await open(folder)
  await handle.sync()
}

function isId(name: string): boolean {
  return /^[1-9][0-9]{0,15}$/.test(name)
}
