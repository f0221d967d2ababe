import { Fault } from '@gantry/model/fault'
import type { Driver, Mount, Stack } from './driver.ts'
import { createFolders, type FoldersParts } from './folders.ts'

/**
 * Keeps each snapshot as a whole tree of its own, in `<root>/<id>/fs`: an active one begins as a copy of its parent, which
 * shares the bytes where the file system can (reflinks). It needs nothing of the kernel but bind mounts.
 */
export function createNative(parts: FoldersParts): Driver {
  const { root, pool } = parts
  const { fs, make, stage: _, ...folders } = createFolders(parts)

  function mountsOf({ kind, id, parents }: Stack): Mount[] {
    const source = fs(kind === 'view' ? (parents[0] ?? id) : id)
    return [{ type: 'bind', source, options: ['rbind', kind === 'view' ? 'ro' : 'rw'] }]
  }

  return {
    ...folders,
    name: 'native',
    exports: { root },
    capabilities: [],

    async create(stack, _title, signal) {
      const { kind, id, parents } = stack
      const [parent] = parents
      await make(id, async (folder) => {
        if (kind === 'view' || parent === undefined) return
        const to = `${folder.slice(root.length)}/fs`
        await pool.run({ kind: 'copy', root, from: `/${parent}/fs`, to }, signal)
      })
      return { made: mountsOf(stack) }
    },

    mounts: async (stack) => mountsOf(stack),

    async commit(_id, { parent }) {
      if (parent !== undefined)
        throw new Fault('unimplemented', 'Cannot commit onto a parent: native snapshots are whole trees')
    },
    async relabel() {},
  }
}
