import { existsSync, readFileSync } from 'node:fs'
import { chmod, lchown, mkdir, stat } from 'node:fs/promises'
import { release } from 'node:os'
import { join } from 'node:path'
import { openMountTree } from '@gantry/linux/mount-tree'
import { isSystemError } from '@gantry/linux/system'
import { type IdRange, openUserNamespace, parseIdRanges } from '@gantry/linux/user-namespace'
import { isFault } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import type { Driver, Mount, Stack } from './driver.ts'
import { createFolders, type FoldersParts } from './folders.ts'

const INDEX_PARAMETER = '/sys/module/overlay/parameters/index'
const UID_LABEL = 'containerd.io/snapshot/uidmapping'
const GID_LABEL = 'containerd.io/snapshot/gidmapping'
const ALL_IDS = /^\s*0\s+0\s+4294967295\s*$/ // the mapping of the first user namespace

export interface OverlayParts extends FoldersParts {
  /** Extra options for overlay mounts, before ours. */
  readonly mountOptions: readonly string[]
  /** May clients make copies with other owners where the kernel cannot map ids? */
  readonly slowChown: boolean
}

/**
 * Keeps snapshots as layers of the kernel's overlay file system:
 *
 *   <root>/<id>/fs      what the snapshot adds; the upper folder while it is active     0755, owner as the parent's
 *   <root>/<id>/work    the kernel's scratch folder, of active snapshots only           0711
 *
 * Labels may ask for a view of the layers with other owners, for a user namespace: then the mount maps their ids, and what is
 * added belongs to the mapped root.
 */
export function createOverlayfs({ mountOptions, slowChown, ...parts }: OverlayParts): Driver {
  const { root } = parts
  const { fs, make, stage, ...folders } = createFolders(parts)
  const inNamespace = !ALL_IDS.test(readFileSync('/proc/self/uid_map', 'utf8'))
  const options = overlayOptions(mountOptions, { hasIndex: existsSync(INDEX_PARAMETER), inNamespace })
  const canMap = mapsIds(root)
  const look = { root, options, canMap }
  return {
    ...folders,
    name: 'overlayfs',
    exports: { root },
    capabilities: [
      ...(canMap ? ['remap-ids'] : []),
      ...(slowChown ? [] : ['only-remap-ids']),
      ...(inNamespace ? [] : ['rebase']),
    ],
    staging: { stage, layer: fs },

    async create(stack) {
      const { kind, id, parents, labels } = stack
      const owner = mappedRoot(labels)
      await make(id, async (folder) => {
        // a bind mount is mapped as a whole, so its root belongs to root
        if (owner && (parents.length > 0 || !canMap)) await lchown(join(folder, 'fs'), owner.uid, owner.gid)
        else await inheritOwner(join(folder, 'fs'), parents[0] === undefined ? undefined : fs(parents[0]))
        if (kind !== 'active') return
        await mkdir(join(folder, 'work'))
        await chmod(join(folder, 'work'), 0o711)
      })
      return { made: mountsOf(stack, look) }
    },

    mounts: async (stack) => mountsOf(stack, look),
    async commit() {}, // layers are read by number, whatever they are called
    async relabel() {},
  }
}

interface Look {
  readonly root: string
  /** What every overlay mount gets at the end; bind mounts get none of it. */
  readonly options: readonly string[]
  /** Can mounts map ids? */
  readonly canMap: boolean
}

/** How to mount a snapshot; the order of the options is containerd's, and clients compare it. */
export function mountsOf({ kind, id, parents, labels }: Stack, { root, options, canMap }: Look): Mount[] {
  const fs = (number: number): string => `${root}/${number}/fs`
  const mode = kind === 'active' ? 'rw' : 'ro'
  const maps = canMap && mappedRoot(labels) ? [`uidmap=${labels[UID_LABEL]}`, `gidmap=${labels[GID_LABEL]}`] : []
  const [nearest, ...others] = parents
  const only = nearest === undefined ? id : kind === 'view' && others.length === 0 ? nearest : undefined
  if (only !== undefined) return [{ type: 'bind', source: fs(only), options: [...maps, mode, 'rbind'] }]
  const own = kind === 'active' ? [`workdir=${root}/${id}/work`, `upperdir=${fs(id)}`] : []
  const lower = `lowerdir=${parents.map(fs).join(':')}`
  return [{ type: 'overlay', source: 'overlay', options: [...maps, ...own, lower, ...options] }]
}

interface Kernel {
  /** Does its overlay have the option `index`? It must be off: layers are shared by many mounts. */
  readonly hasIndex: boolean
  /** Is this a user namespace? Marks of the overlay are then attributes that its root may set. */
  readonly inNamespace: boolean
}

export function overlayOptions(configured: readonly string[], { hasIndex, inNamespace }: Kernel): string[] {
  return [
    ...configured,
    ...(inNamespace && !configured.includes('userxattr') ? ['userxattr'] : []),
    ...(hasIndex && !configured.includes('index') ? ['index=off'] : []),
  ]
}

/**
 * Who is root under the mapping that the labels ask for; undefined when they ask for none.
 * @throws {Fault} `invalid-argument` for a mapping that is none
 */
function mappedRoot(labels: Labels): { readonly uid: number; readonly gid: number } | undefined {
  const [uids, gids] = [labels[UID_LABEL], labels[GID_LABEL]]
  if (uids === undefined || gids === undefined) return undefined
  return { uid: outsideOf(parseIdRanges(uids)), gid: outsideOf(parseIdRanges(gids)) }
}

function outsideOf(ranges: readonly IdRange[]): number {
  return ranges.find(({ inside }) => inside === 0)?.outside ?? 0
}

/** Can the file system be mounted with other ids, and overlay use such mounts (Linux 5.19)? */
function mapsIds(root: string): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number)
  if (major < 5 || (major === 5 && minor < 19)) return false
  const ids = [{ inside: 0, outside: 1, length: 1 }]
  try {
    using users = openUserNamespace(ids, ids)
    using tree = openMountTree(root, false)
    tree.change({ userNamespace: users.fd, recursive: false })
    return true
  } catch (error) {
    if (isSystemError(error) || isFault(error)) return false
    throw error
  }
}

async function inheritOwner(folder: string, parent: string | undefined): Promise<void> {
  if (parent === undefined) return
  const { uid, gid } = await stat(parent)
  if (uid !== 0 || gid !== 0) await lchown(folder, uid, gid)
}
