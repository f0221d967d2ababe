import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import type { Bundle } from '../bundle.ts'
import { isObject, type Json, type JsonObject, readSpec } from '../spec.ts'

/** What a sandbox may give to its containers, by the name that the OCI runtime specification has for it. */
const SHAREABLE = ['network', 'ipc', 'uts', 'pid'] as const
/** What it gives when nobody says otherwise: containers keep their own processes. */
const DEFAULT: readonly Shared[] = ['network', 'ipc', 'uts']
const NOTE = 'gantry/sandbox'
const NOBODY = 65535 // the pause process needs no rights at all
const NAME_FILES = ['/etc/hosts', '/etc/resolv.conf'] // what a network that we make brings along

export type Shared = (typeof SHAREABLE)[number]

/** What a container needs to know of the sandbox that it joins, beside the pid of the pause process. */
export interface Group {
  readonly shares: readonly Shared[]
  /** Cgroup that all its containers are below, or null when a service manager keeps cgroups. */
  readonly cgroup: string | null
  readonly createdMs: number
  /** Files of its network, by their path in a container. */
  readonly files: Readonly<Record<string, string>>
}

export interface PauseWish {
  readonly namespace: string
  readonly id: string
  /** Specification of the sandbox as its client wrote it, or empty. */
  readonly spec: string
  /** A network namespace that the client has made, or empty. */
  readonly netns: string
  /** The program that waits: statically linked, absolute path on the host. */
  readonly program: string
  readonly createdMs: number
}

/**
 * The specification of the process that holds the namespaces of a sandbox. It sees nothing of the host but its own
 * program, so that containers which share its process ids find nothing through it.
 *
 * Of the client's specification count `linux.namespaces` (which to share; a path is joined), `linux.sysctl`,
 * `linux.cgroupsPath` and `hostname`.
 *
 * @throws {Fault} `invalid-argument` for a specification that is none, `unimplemented` for a user namespace
 */
export function pauseSpec(wish: PauseWish): { readonly spec: Uint8Array } & Pick<Group, 'cgroup'> {
  const { namespace, id, program, createdMs } = wish
  const given: JsonObject = wish.spec === '' ? {} : readSpec(wish.spec)
  const linux = isObject(given.linux) ? given.linux : {}
  const namespaces = namespacesOf(linux.namespaces, wish.netns)
  const shares = SHAREABLE.filter((kind) => namespaces.some(({ type }) => type === kind))
  const own = checkCgroup(linux.cgroupsPath) ?? `/${namespace}/sandbox@${id}` // no container can have this name
  const isManaged = own.includes(':') // systemd's form: slice:prefix:name
  const note = { shares, cgroup: isManaged ? null : own, createdMs }
  const spec = Buffer.from(
    JSON.stringify({
      ociVersion: '1.0.2',
      process: {
        ...{ args: ['/pause', '-P'], cwd: '/', env: [], user: { uid: NOBODY, gid: NOBODY } },
        ...{ capabilities: {}, noNewPrivileges: true },
      },
      root: { path: 'rootfs', readonly: true },
      ...(typeof given.hostname === 'string' && shares.includes('uts') && { hostname: given.hostname }),
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
        { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'noexec', 'mode=755', 'size=64k'] },
        { destination: '/pause', type: 'bind', source: program, options: ['bind', 'ro', 'nosuid', 'nodev'] },
      ],
      annotations: { [NOTE]: JSON.stringify(note) },
      linux: {
        namespaces: [...namespaces, { type: 'mount' }, ...(shares.includes('pid') ? [] : [{ type: 'pid' }])],
        cgroupsPath: isManaged ? own : `${own}/pause`,
        resources: { devices: [{ allow: false, access: 'rwm' }] },
        ...(isObject(linux.sysctl) && { sysctl: linux.sysctl }),
      },
    }),
  )
  return { spec, cgroup: note.cgroup }
}

/** What was decided for the sandbox of a bundle: it is told again from there after a restart. */
export function groupOf(bundle: Bundle): Group {
  const spec = readSpec(readFileSync(join(bundle.dir, 'config.json'), 'utf8'))
  const note = isObject(spec.annotations) ? spec.annotations[NOTE] : undefined
  if (typeof note !== 'string') throw new Error(`The bundle ${bundle.dir} is not that of a sandbox`)
  return { ...JSON.parse(note), files: nameFiles(spec.mounts) }
}

/** It is removed with the sandbox, so it has to be one that can be its own. */
function checkCgroup(path: Json | undefined): string | undefined {
  if (path === undefined || path === '') return undefined
  const isOwn = typeof path === 'string' && (/^[^/]*:[^/]*:[^/]*$/.test(path) || /^(\/[^/]+)+$/.test(path))
  if (isOwn && !path.split('/').includes('..')) return path
  throw new Fault(
    'invalid-argument',
    `Cannot use ${JSON.stringify(path)} as cgroup of a sandbox: give an absolute path`,
  )
}

function namespacesOf(given: Json | undefined, netns: string): JsonObject[] {
  const list = Array.isArray(given) ? given.filter(isObject) : DEFAULT.map((type) => ({ type }))
  if (list.some(({ type }) => type === 'user'))
    throw new Fault('unimplemented', 'Cannot make a sandbox with a user namespace: give one to its containers')
  const wanted = list.filter(({ type }) => SHAREABLE.some((each) => each === type))
  if (netns === '') return wanted
  return [...wanted.filter(({ type }) => type !== 'network'), { type: 'network', path: netns }]
}

function nameFiles(mounts: Json | undefined): Record<string, string> {
  const list = Array.isArray(mounts) ? mounts.filter(isObject) : []
  return Object.fromEntries(
    list.flatMap(({ destination, source }) =>
      typeof destination === 'string' && typeof source === 'string' && NAME_FILES.includes(destination)
        ? [[destination, source]]
        : [],
    ),
  )
}
