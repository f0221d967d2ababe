import { posix } from 'node:path'
import { Fault } from '@gantry/model/fault'
import type { Device, Host } from './host.ts'
import type { DeviceOption, NamespacePath, SpecOptions } from './spec-options.ts'

const IPC_SYSCTL = /^(kernel\.(shm(max|all|mni|_rmid_forced)|msg(max|mnb|mni)|sem)|fs\.mqueue\..+)$/
const SYSCTL = /^[a-zA-Z0-9_-]+([./][a-zA-Z0-9_*-]+)+$/

/** One entry of `linux.namespaces`; with a path it is one that is there. */
interface Namespace {
  readonly type: string
  readonly path?: string
}

/** `linux.namespaces`: its own of each kind, but those it shares. */
export function namespacesOf(options: SpecOptions): Namespace[] {
  return [
    ...namespaceOf('pid', options.pid),
    ...namespaceOf('ipc', options.ipc),
    ...namespaceOf('uts', options.uts),
    { type: 'mount' },
    ...namespaceOf('network', options.network),
    ...(options.userns ? [{ type: 'user' }] : []),
  ]
}

/**
 * `linux.sysctl`.
 *
 * @throws {Fault} `invalid-argument` for what is a setting of the whole host, and for values that no setting has:
 *   CVE-2022-0811 put another setting behind a `+`
 */
export function sysctlsOf(options: SpecOptions): Record<string, string> | undefined {
  const entries = Object.entries(options.sysctls ?? {})
  for (const [name, value] of entries) {
    const dotted = name.includes('/') ? name.replaceAll('/', '.') : name
    if (!SYSCTL.test(name) || name.includes('..') || !/^[^+\0\r\n]*$/.test(value))
      throw new Fault(
        'invalid-argument',
        `Cannot set ${JSON.stringify(`${name}=${value}`.slice(0, 128))}: give name=value, without "+"`,
      )
    const shared = dotted.startsWith('net.')
      ? options.network === 'host' && 'network'
      : IPC_SYSCTL.test(dotted)
        ? options.ipc === 'host' && 'ipc'
        : 'a namespace'
    if (shared === 'a namespace')
      throw new Fault(
        'invalid-argument',
        `Cannot set ${name}: it is a setting of the whole host; net.*, fs.mqueue.* and those of kernel.shm*, kernel.msg*, kernel.sem can be set`,
      )
    if (shared) throw new Fault('invalid-argument', `Cannot set ${name}: the container shares the host's ${shared}`)
  }
  return entries.length > 0 ? Object.fromEntries(entries) : undefined
}

/** The nodes for `linux.devices` and the rules for `linux.resources.devices`. @throws {Fault} `invalid-argument` */
export function devicesOf(asked: readonly DeviceOption[], host: Host): { nodes: Device[]; rules: object[] } {
  const found = asked.flatMap(({ source, destination = source, access = 'rwm' }) => {
    if (![source, destination].every((path) => posix.isAbsolute(path)) || !/^(?!.*(.).*\1)[rwm]+$/.test(access))
      throw new Fault(
        'invalid-argument',
        `Cannot use device ${JSON.stringify(source.slice(0, 128))}: write it as /dev/from[:/dev/to][:rwm]`,
      )
    const nodes = host.devicesAt(source)
    if (nodes.length === 0)
      throw new Fault(
        'invalid-argument',
        `Cannot use device ${JSON.stringify(source.slice(0, 128))}: this host has no such device`,
      )
    return nodes.map((node) => ({ access, node: { ...node, path: destination + node.path.slice(source.length) } }))
  })
  return {
    nodes: found.map(({ node }) => node),
    rules: found.map(({ access, node: { type, major, minor } }) => ({ allow: true, type, major, minor, access })),
  }
}

/** @throws {Fault} `invalid-argument` when it shares the host's name */
export function hostnameOf({ hostname, uts }: SpecOptions): string | undefined {
  if (hostname === undefined) return undefined
  if (uts !== undefined)
    throw new Fault('invalid-argument', 'Cannot set a hostname: the container shares that of somebody else')
  if (!/^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62})$/.test(hostname))
    throw new Fault(
      'invalid-argument',
      `Cannot use the hostname ${JSON.stringify(hostname.slice(0, 128))}: give up to 63 letters, digits, "-", "_" and "."`,
    )
  return hostname
}

function namespaceOf(type: string, wanted: 'none' | 'host' | NamespacePath | undefined): Namespace[] {
  if (wanted === 'host') return []
  if (wanted === undefined || wanted === 'none') return [{ type }]
  if (posix.isAbsolute(wanted.path)) return [{ type, path: wanted.path }]
  throw new Fault(
    'invalid-argument',
    `Cannot join the ${type} namespace ${JSON.stringify(wanted.path.slice(0, 128))}: give an absolute path`,
  )
}
