import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs'
import { O_PATH } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault, ignoring } from '@gantry/model/fault'
import type { Container } from './containers.ts'
import type { Ids } from './copy-entry.ts'
import { isLive, toInfo } from './process.ts'
import { foldersOf, type SnapshotMount } from './rootfs.ts'
import { openSnapshot } from './snapshot-tree.ts'
import type { Spec } from './spec.ts'
import type { Wire } from './wire.ts'

/** The root of the file system of a container. */
export interface ContainerRoot extends Disposable {
  /** A descriptor (`O_PATH`): open what is in it by `openIn` alone, for its links are the container's. */
  readonly fd: number
  readonly ids: Ids
}

/**
 * Opens the files of a container: those that it sees itself while it runs, else its snapshot, which is mounted for this process
 * alone, without what was mounted into it. To read it then, it is mounted read-only, which does not disturb a start.
 *
 * @throws {Fault} `permission-denied` for who may not, `failed-precondition` on another host than the node
 */
export async function openContainerRoot(
  wire: Wire,
  container: Container,
  { writes }: { readonly writes: boolean },
  signal: AbortSignal,
): Promise<ContainerRoot> {
  const { id, snapshotter, snapshotKey: key, spec } = container
  const ids = { uids: rangesOf(spec, 'uidMappings'), gids: rangesOf(spec, 'gidMappings') }
  const pid = await pidOf(wire, id, signal)
  if (pid === undefined) {
    const { mounts } = await wire.services.snapshots.mounts({ snapshotter, key }, wire.call(signal))
    return { ...openSnapshot(writes ? mounts : readOnly(mounts)), ids }
  }
  const fd = openProcessRoot(id, pid)
  try {
    if ((await pidOf(wire, id, signal)) === pid) return { fd, ids, [Symbol.dispose]: () => closeSync(fd) }
    throw new Fault('aborted', `Cannot open the files of "${id}": it has just ended`)
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

async function pidOf(wire: Wire, containerId: string, signal: AbortSignal): Promise<number | undefined> {
  const found = await ignoring('not-found', wire.services.tasks.get({ containerId }, wire.call(signal)))
  const { status, pid } = found?.process ? toInfo(found.process) : { status: 'stopped' as const, pid: 0 }
  return pid > 0 && isLive(status) ? pid : undefined
}

/** Its pid may be another's, or that of a virtual machine: neither may open our own root. */
function openProcessRoot(id: string, pid: number): number {
  let fd: number
  try {
    fd = openSync(`/proc/${pid}/root`, O_PATH | constants.O_DIRECTORY)
  } catch (cause) {
    const isClosed = isSystemError(cause, 'EACCES', 'EPERM')
    const why = isClosed ? 'this takes root on the node' : 'its process is none of this host'
    throw new Fault(
      isClosed ? 'permission-denied' : 'failed-precondition',
      `Cannot open the files of "${id}": ${why}`,
      { cause },
    )
  }
  const [own, its] = [statSync('/'), fstatSync(fd)]
  if (own.dev !== its.dev || own.ino !== its.ino) return fd
  closeSync(fd)
  throw new Fault('failed-precondition', `Cannot open the files of "${id}": its root is that of the host`)
}

/** The same tree with nothing to write to. Mapped ids are those of the lower layers alone, hence mounted as they are. */
function readOnly(mounts: readonly SnapshotMount[]): readonly SnapshotMount[] {
  const [only, ...others] = mounts
  if (!only || others.length > 0 || only.options.some((option) => option.startsWith('uidmap='))) return mounts
  if (only.type !== 'overlay')
    return [{ ...only, options: [...only.options.filter((option) => option !== 'rw'), 'ro'] }]
  const rest = only.options.filter((option) => !/^(upperdir|workdir|lowerdir)=/.test(option))
  return [
    {
      ...only,
      options: [`lowerdir=${foldersOf(mounts).join(':')}`, ...rest.filter((option) => option !== 'rw'), 'ro'],
    },
  ]
}

function rangesOf(spec: Spec | undefined, name: 'uidMappings' | 'gidMappings'): Ids['uids'] {
  const linux = spec?.linux
  const list: unknown =
    typeof linux === 'object' && linux !== null && name in linux ? Reflect.get(linux, name) : undefined
  if (!Array.isArray(list)) return []
  return list.map(({ containerID = 0, hostID = 0, size = 0 }) => ({
    ...{ container: Number(containerID), host: Number(hostID), size: Number(size) },
  }))
}
