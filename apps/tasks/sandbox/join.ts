import { editSpec, isObject } from '../spec.ts'
import type { Group } from './pause.ts'

const FILE_OPTIONS = ['rbind', 'ro', 'rprivate']
/** What /proc calls a namespace of the OCI runtime specification. */
const PROC_NAMES = { network: 'net', ipc: 'ipc', uts: 'uts', pid: 'pid' } as const

/**
 * The specification of a container that joins a sandbox: of the namespaces that the sandbox shares it gets those instead of
 * new ones; one it names itself, or does without, is left to it. Its cgroup is below the sandbox's unless it chose another.
 */
export function joinGroup(
  spec: string,
  container: { readonly namespace: string; readonly id: string },
  { shares, cgroup, files, pid }: Pick<Group, 'shares' | 'cgroup' | 'files'> & { readonly pid: number },
): string {
  return editSpec(spec, (root) => {
    const linux = isObject(root.linux) ? root.linux : {}
    const namespaces = Array.isArray(linux.namespaces) ? linux.namespaces.filter(isObject) : []
    const joins = (kind: string): boolean => {
      const wanted = namespaces.find(({ type, path }) => type === kind && (path === undefined || path === ''))
      return wanted !== undefined && shares.some((each) => each === kind)
    }
    const joined = shares.filter(joins)
    for (const entry of namespaces)
      for (const kind of joined) if (entry.type === kind) entry.path = `/proc/${pid}/ns/${PROC_NAMES[kind]}`
    if (joined.includes('uts')) {
      delete root.hostname // it would rename the whole sandbox
      delete root.domainname
    }
    if (joined.includes('network')) root.mounts = [...listOf(root.mounts), ...furtherMounts(root.mounts, files)]
    if (cgroup !== null && isDefault(linux.cgroupsPath, container)) linux.cgroupsPath = `${cgroup}/${container.id}`
    root.linux = linux
  })
}

function furtherMounts(given: unknown, files: Group['files']) {
  const own = new Set(listOf(given).map((mount) => (isObject(mount) ? mount.destination : undefined)))
  return Object.entries(files)
    .filter(([destination]) => !own.has(destination))
    .map(([destination, source]) => ({ type: 'bind', source, destination, options: FILE_OPTIONS }))
}

/** What clients write when they do not care: no path, or the one that their default specification has. */
function isDefault(path: unknown, { namespace, id }: { readonly namespace: string; readonly id: string }): boolean {
  return path === undefined || path === '' || path === `/${namespace}/${id}`
}

function listOf<T>(value: T | readonly T[] | undefined) {
  return Array.isArray(value) ? value : []
}
