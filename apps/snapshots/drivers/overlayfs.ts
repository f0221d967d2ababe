import { chmodSync, existsSync, lchownSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Driver, Mount, Stack } from './driver.ts'
import { createFolders, type FoldersParts } from './folders.ts'

const INDEX_PARAMETER = '/sys/module/overlay/parameters/index'

export interface OverlayParts extends FoldersParts {
  /** Extra options for overlay mounts, before ours. */
  readonly mountOptions: readonly string[]
}

/**
 * Keeps snapshots as layers of the kernel's overlay file system:
 *
 *   <root>/<id>/fs      what the snapshot adds; the upper folder while it is active     0755, owner as the parent's
 *   <root>/<id>/work    the kernel's scratch folder, of active snapshots only           0711
 */
export function createOverlayfs({ mountOptions, ...parts }: OverlayParts): Driver {
  const { root } = parts
  const options = overlayOptions(mountOptions, existsSync(INDEX_PARAMETER))
  const { fs, make, stage, ...folders } = createFolders(parts)
  return {
    ...folders,
    name: 'overlayfs',
    exports: { root },
    capabilities: ['rebase'],
    staging: { stage, layer: fs },

    async create(stack) {
      const { kind, id, parents } = stack
      await make(id, (folder) => {
        inheritOwner(join(folder, 'fs'), parents[0] === undefined ? undefined : fs(parents[0]))
        if (kind !== 'active') return
        mkdirSync(join(folder, 'work'))
        chmodSync(join(folder, 'work'), 0o711)
      })
      return { made: mountsOf(stack, { root, options }) }
    },

    mounts: async (stack) => mountsOf(stack, { root, options }),
    async commit() {}, // layers are read by number, whatever they are called
    async relabel() {},
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
