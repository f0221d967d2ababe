import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type Mount, mount, mountsUnder, unmountAll, unmountWaiting } from '@gantry/linux/mount'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import type { RuntimeChoice } from './runtime/runtime.ts'

// <state>/bundles/<namespace>/<id>/     0700, what the OCI runtime is given
//   config.json                         the container's specification
//   runtime.json                        which runtime it is for: RuntimeChoice
//   rootfs/                             where the rootfs mounts go
//   init/                               the folder of the first process: pid, exit, oom, log.json
//   execs/<exec id>/                    the same for an exec, and its process.json
//
// The folder of a process is its monitor's working folder: whoever works in it belongs to it (see Runtime.discard).
// A bundle without a record is garbage of a crash. Identifiers never begin with a dot, so `.<id>` is one being removed.

export interface Bundle {
  readonly dir: string
  readonly rootfs: string
  /** @param execId empty for init */
  processDir(execId: string): string
}

/** The folder of the bundles of all tasks, which is made; as the kernel names it: mounts and working folders are compared with it. */
export function bundlesIn(state: string): string {
  const folder = join(state, 'bundles')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return realpathSync(folder)
}

export function bundleOf(bundles: string, namespace: string, id: string): Bundle {
  const dir = join(bundles, namespace, id)
  return {
    dir,
    rootfs: join(dir, 'rootfs'),
    processDir: (execId) => (execId === '' ? join(dir, 'init') : join(dir, 'execs', execId)),
  }
}

/**
 * Makes the bundle: folders, specification, rootfs mounts in their order.
 * @param rootfs targets are paths inside the rootfs, empty for the rootfs itself
 * @throws {Fault} `failed-precondition` when the kernel refuses a mount
 */
export function makeBundle(
  bundle: Bundle,
  files: { readonly config: string; readonly runtime: RuntimeChoice },
  rootfs: readonly Mount[],
): void {
  mkdirSync(bundle.dir, { recursive: true, mode: 0o700 })
  mkdirSync(bundle.rootfs, { mode: 0o711 })
  mkdirSync(bundle.processDir(''), { mode: 0o700 })
  writeFileSync(join(bundle.dir, 'runtime.json'), JSON.stringify(files.runtime), { mode: 0o600 })
  writeFileSync(join(bundle.dir, 'config.json'), files.config, { mode: 0o600 })
  for (const each of rootfs) mountIn(bundle.rootfs, each)
}

/** Mounts on a folder inside the rootfs, as its own links would lead: never to a place outside. */
function mountIn(rootfs: string, what: Mount): void {
  try {
    const fd = openIn(rootfs, what.target || '.', O_PATH | constants.O_DIRECTORY)
    try {
      mount({ ...what, target: `/proc/self/fd/${fd}` })
    } finally {
      closeSync(fd)
    }
  } catch (cause) {
    if (!isSystemError(cause)) throw cause
    throw new Fault('failed-precondition', `Cannot mount the root file system: ${cause.message}`, { cause })
  }
}

/** Which runtime a bundle was made for, or undefined when it was not finished: no runtime has seen it then. */
export function readRuntime(bundle: Bundle): RuntimeChoice | undefined {
  try {
    return JSON.parse(readFileSync(join(bundle.dir, 'runtime.json'), 'utf8'))
  } catch {
    return undefined
  }
}

/** The folders of all processes that a bundle has ever started and not deleted. */
export function processFolders(bundle: Bundle): string[] {
  const execs = join(bundle.dir, 'execs')
  const ids = existsSync(execs) ? readdirSync(execs) : []
  return [bundle.processDir(''), ...ids.map((id) => join(execs, id))]
}

export function removeFolder(path: string): void {
  rmSync(path, { recursive: true, force: true })
}

/** Makes the folder of a process anew. */
export function makeProcessFolder(dir: string): void {
  rmSync(dir, { recursive: true, force: true })
  mkdirSync(dir, { recursive: true, mode: 0o700 })
}

/** The same for an exec, and puts its process there. @returns the path of the process file */
export function makeExecFolder(dir: string, process: string): string {
  makeProcessFolder(dir)
  const path = join(dir, 'process.json')
  writeFileSync(path, process, { mode: 0o600 })
  return path
}

/** Takes the rootfs mounts off; safe to repeat. Whoever still uses them keeps them until they let go. */
export async function unmountRootfs(bundle: Bundle): Promise<void> {
  for (const point of mountsUnder(bundle.rootfs)) await unmountWaiting(point)
}

/**
 * Removes the bundle. It is renamed first, so that a half-removed one is never taken for a bundle, and it is never
 * removed through a mount: that would delete what is mounted.
 */
export function removeBundle(bundles: string, namespace: string, id: string): void {
  const bundle = bundleOf(bundles, namespace, id)
  if (!existsSync(bundle.dir)) return
  const points = mountsUnder(bundle.dir) // read once: the table of a busy host is long
  const inRootfs = points.filter((point) => `${point}/`.startsWith(`${bundle.rootfs}/`))
  if (inRootfs.length < points.length) throw new Error(`Cannot remove ${bundle.dir}: something is mounted in it`)
  for (const point of inRootfs) unmountAll(point, { detach: true })
  const leaving = join(bundles, namespace, `.${id}`)
  rmSync(leaving, { recursive: true, force: true })
  renameSync(bundle.dir, leaving)
  rmSync(leaving, { recursive: true, force: true })
}

/** Every bundle there is, in use or not; what was being removed when a crash came is removed now. */
export function listBundles(bundles: string): { namespace: string; id: string }[] {
  return foldersIn(bundles).flatMap((namespace) =>
    foldersIn(join(bundles, namespace)).flatMap((id) => {
      if (!id.startsWith('.')) return { namespace, id }
      rmSync(join(bundles, namespace, id), { recursive: true, force: true })
      return []
    }),
  )
}

/** The names of the folders in one that may not be there; a file of a stranger is none. */
export function foldersIn(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return []
    throw error
  }
}
