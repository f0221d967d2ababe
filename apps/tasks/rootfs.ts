import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { ignoring, isFault } from '@gantry/model/fault'
import type { Client } from '@gantry/rpc/client'
import { type Bundle, removeBundle } from './bundle.ts'
import type { RootfsMount, TasksParts } from './tasks.ts'

/** In the bundle: mounts of the rootfs are, or may be, active in `snapshots` under the name of the task. */
const MARK = 'activated'
const LABEL = 'containerd.io/gc.bref.container' // they go with the container at the latest
const ACTIVATE_MS = 180_000 // it may make a file system
const CALL_MS = 10_000
const PLAIN: readonly string[] = ['bind', 'overlay']

interface Place {
  readonly namespace: string
  readonly id: string
  readonly bundle: Bundle
}

/** Mounts that the kernel cannot do by itself: templates, folders and images to make, loop devices. `snapshots` does those. */
export interface RootfsMounts {
  /**
   * The mounts that are left to do for a rootfs.
   * @throws {Fault} what `Mounts.Activate` says
   * @see behaviour facts, 7
   */
  activate(place: Place, rootfs: readonly RootfsMount[]): Promise<readonly RootfsMount[]>
  /** Takes away what was activated, if anything was; safe to repeat. */
  deactivate(place: Place): Promise<void>
}

export function createRootfsMounts(mounts: Client<typeof Mounts>): RootfsMounts {
  const callIn = (namespace: string, ms = CALL_MS) => ({ namespace, signal: AbortSignal.timeout(ms) })
  return {
    async activate({ namespace, id, bundle }, rootfs) {
      if (rootfs.every(({ type }) => PLAIN.includes(type))) return rootfs
      const mark = join(bundle.dir, MARK)
      mkdirSync(bundle.dir, { recursive: true, mode: 0o700 })
      writeFileSync(mark, '')
      const list = rootfs.map((mount) => ({ ...mount, options: [...mount.options] }))
      const request = { name: id, mounts: list, labels: { [LABEL]: id } }
      const asked = mounts.activate(request, callIn(namespace, ACTIVATE_MS)).catch((error: unknown) => {
        if (!isFault(error, 'already-exists')) throw error
        rmSync(mark) // a client has done it, and will undo it
        return mounts.info({ name: id }, callIn(namespace))
      })
      const reply = await ignoring('unimplemented', asked)
      if (!reply) rmSync(mark)
      return reply?.info?.system ?? rootfs
    },

    async deactivate({ namespace, id, bundle }) {
      if (!existsSync(join(bundle.dir, MARK))) return
      await ignoring('not-found', mounts.deactivate({ name: id }, callIn(namespace)))
    },
  }
}

/** For tasks whose mounts are always plain. */
export const plainRootfs: RootfsMounts = { activate: async (_, rootfs) => rootfs, deactivate: async () => undefined }

/** Removes the bundle of a task that is no more, after what was activated for it: it stays while `snapshots` cannot be asked. */
export async function leaveBundle({ bundles, rootfs }: TasksParts, place: Place): Promise<void> {
  await rootfs.deactivate(place)
  removeBundle(bundles, place.namespace, place.id)
}
