import { dirname } from 'node:path'
import { letWalk } from '@gantry/linux/acl'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import type { Bundle } from './bundle.ts'
import { isObject, readSpec } from './spec.ts'

/**
 * The root of a container with mapped ids is nobody on the host, and has to walk to its rootfs through folders that are
 * closed to everybody: it alone is let through those from `state` down to the bundle.
 *
 * @throws {Fault} `failed-precondition` when the file system of the state folder cannot do so
 */
export function letRootWalk(state: string, bundle: Bundle, spec: string): void {
  const uid = mappedRoot(spec)
  if (uid === undefined) return
  for (let folder = bundle.dir; ; folder = dirname(folder)) {
    walk(folder, uid)
    if (folder === state || folder === '/') return
  }
}

function walk(folder: string, uid: number): void {
  try {
    letWalk(folder, uid, 0o700)
  } catch (cause) {
    if (!isSystemError(cause, 'ENOTSUP')) throw cause
    throw new Fault('failed-precondition', `Cannot map ids: the file system of ${folder} has no access lists`, {
      cause,
    })
  }
}

/** Who root of the container is on the host, when that is somebody else. */
function mappedRoot(text: string): number | undefined {
  if (!text.includes('"uidMappings"')) return undefined
  const { linux } = readSpec(text)
  const mappings = isObject(linux) && Array.isArray(linux.uidMappings) ? linux.uidMappings.filter(isObject) : []
  const host = mappings.find(({ containerID }) => containerID === 0)?.hostID
  return typeof host === 'number' && host !== 0 ? host : undefined
}
