import { Fault } from '@gantry/model/fault'
import { editSpec, isObject, type Json, readSpec } from '../spec.ts'
import type { Joined } from './networks.ts'

const FILE_OPTIONS = ['rbind', 'ro', 'rprivate']

/**
 * The specification of a container that joins a network: its network namespace is the one that was made, and it sees files
 * for its names, unless it mounts something of its own there.
 *
 * @throws {Fault} `invalid-argument` when it has no network namespace of its own
 */
export function joinNetwork(spec: string, { netns, files }: Joined): string {
  return editSpec(spec, (root) => {
    const linux = isObject(root.linux) ? root.linux : {}
    const namespaces = Array.isArray(linux.namespaces) ? linux.namespaces.filter(isObject) : []
    const network = namespaces.find(({ type, path }) => type === 'network' && (path === undefined || path === ''))
    if (!network)
      throw new Fault(
        'invalid-argument',
        'Cannot make a network for the container: its specification has no network namespace of its own',
      )
    network.path = netns
    const given = Array.isArray(root.mounts) ? root.mounts : []
    const mounts = namespaces.some(({ type }) => type === 'user') ? given.map(withoutSysfs) : given
    const own = new Set(mounts.filter(isObject).map(({ destination }) => destination))
    const further = Object.entries(files).filter(([destination]) => !own.has(destination))
    root.mounts = [
      ...mounts,
      ...further.map(([destination, source]) => ({ type: 'bind', source, destination, options: FILE_OPTIONS })),
    ]
  })
}

/** What the container is called, or nothing. */
export function hostnameOf(spec: string): string {
  const { hostname } = readSpec(spec)
  return typeof hostname === 'string' ? hostname : ''
}

/** A user namespace may mount no sysfs of a network that was not made in it: it gets the host's, read-only. */
function withoutSysfs(mount: Json): Json {
  if (!isObject(mount) || mount.type !== 'sysfs' || typeof mount.destination !== 'string') return mount
  return {
    type: 'bind',
    source: '/sys',
    destination: mount.destination,
    options: ['rbind', 'ro', 'nosuid', 'noexec', 'nodev'],
  }
}
