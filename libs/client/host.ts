import { lstatSync, readdirSync, readFileSync, type Stats, statSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { deviceParts } from '@gantry/linux/file'
import { isSystemError } from '@gantry/linux/system'
import { ALL_CAPABILITIES } from './spec-defaults.ts'

const SKIPPED = new Set(['pts', 'shm', 'fd', 'mqueue', 'console', '.lxc', '.lxd-mounts', '.udev'])
const MAX_DEPTH = 4 // folders under /dev

/** What a spec needs to know of the machine its container runs on, which is the client's own. */
export interface Host {
  readonly cpuCount: number
  /** What a privileged container gets: looked up only for one. */
  readonly devices: () => readonly Device[]
  readonly capabilities: () => readonly string[]
  /** The node at `path`, wherever links lead, or all nodes below it when it is a folder. */
  readonly devicesAt: (path: string) => readonly Device[]
}

/** A device node as the OCI runtime spec writes it. */
export interface Device {
  readonly path: string
  readonly type: 'b' | 'c'
  readonly major: number
  readonly minor: number
  readonly fileMode: number
  readonly uid: number
  readonly gid: number
}

export const thisHost: Host = {
  cpuCount: cpus().length,
  devices: () => hostDevices(),
  devicesAt,
  capabilities: hostCapabilities,
}

/** What this process could at most be allowed: more cannot be given to a container either. */
function hostCapabilities(): string[] {
  const bounding = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  const bits = BigInt(`0x${bounding?.[1] ?? '0'}`)
  return ALL_CAPABILITIES.filter((_, bit) => (bits >> BigInt(bit)) & 1n)
}

/** The device nodes under /dev of this host, for a privileged container. What a container gets of its own is left out. */
function hostDevices(folder = '/dev', depth = 0): Device[] {
  if (depth > MAX_DEPTH) return []
  return names(folder).flatMap((name) => {
    const path = join(folder, name)
    const stat = lstatSync(path, { throwIfNoEntry: false })
    if (stat?.isDirectory()) return hostDevices(path, depth + 1)
    return stat?.isCharacterDevice() || stat?.isBlockDevice() ? [deviceOf(path, stat)] : []
  })
}

function devicesAt(path: string): Device[] {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat?.isDirectory()) return hostDevices(path)
  return stat?.isCharacterDevice() || stat?.isBlockDevice() ? [deviceOf(path, stat)] : []
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => !SKIPPED.has(name))
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'EACCES')) return []
    throw error
  }
}

function deviceOf(path: string, stat: Stats): Device {
  return {
    path,
    type: stat.isBlockDevice() ? 'b' : 'c',
    ...deviceParts(BigInt(stat.rdev)),
    fileMode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
  }
}
