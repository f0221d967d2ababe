import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isSystemError } from '@gantry/linux/system'
import type { RuntimeChoice } from './runtime/runtime.ts'

/** Where the hierarchies are: the unified one itself, or one folder a controller. */
export const CGROUPS = '/sys/fs/cgroup'
/** The controllers that tell most reliably which group a process is in, on a host with cgroup v1. */
const TELLING = ['freezer', 'pids', 'devices', 'memory', 'cpu,cpuacct', 'cpu', 'name=systemd']

/** Does this host have the unified hierarchy alone? */
export function isUnified(): boolean {
  return existsSync(join(CGROUPS, 'cgroup.controllers'))
}

/**
 * The path of a process's cgroup inside its hierarchy, such as `/default/box`, or null when it has none of its own: a
 * group that we are in ourselves must never be taken for a container's, since a container's group is killed as a whole.
 */
export function cgroupOf(pid: number): string | null {
  const theirs = parseCgroups(readText(`/proc/${pid}/cgroup`))
  const ours = parseCgroups(readText('/proc/self/cgroup'))
  for (const controller of isUnified() ? [''] : TELLING) {
    const path = theirs.get(controller)
    if (path === undefined || path === '/' || path.includes('..')) continue
    if (!`${ours.get(controller) ?? '/'}/`.startsWith(`${path}/`)) return path
  }
  return null
}

/** Is a process not the first of a pid namespace of its own? Then others may outlive it. Yes when nobody can tell. */
function sharesPids(pid: number): boolean {
  const ids = /^NSpid:\s*(.*)$/m.exec(readText(`/proc/${pid}/status`))?.[1]?.split(/\s+/) ?? []
  return ids.length < 2 || ids.at(-1) !== '1'
}

/** Where the processes of a container are accounted, and whether they end with its first one. @param pid of that */
export function accountOf(pid: number, { shim }: Pick<RuntimeChoice, 'shim'>) {
  return { cgroup: cgroupOf(pid), sharesPids: !shim && sharesPids(pid) }
}

/** The processes of a cgroup and of the groups below it. */
export function pidsOf(cgroup: string): number[] {
  const folder = folderOf(cgroup)
  return folder === undefined ? [] : pidsBelow(folder)
}

/** Are the processes of a cgroup stopped by the freezer? */
export function isFrozen(cgroup: string): boolean {
  if (isUnified()) return readText(join(CGROUPS, cgroup, 'cgroup.freeze')).trim() === '1'
  return readText(join(CGROUPS, 'freezer', cgroup, 'freezer.state')).trim() !== 'THAWED' && hasFreezer(cgroup)
}

/** The folder of one controller of a cgroup; on a unified host that is the same for all. */
export function controllerFolder(cgroup: string, controller: string): string {
  return isUnified() ? join(CGROUPS, cgroup) : join(CGROUPS, controller, cgroup)
}

/** Controller to path, from the text of /proc/<pid>/cgroup; the unified hierarchy has the empty name. */
export function parseCgroups(text: string): Map<string, string> {
  const groups = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (controllers !== undefined && path !== undefined) groups.set(controllers, path)
  }
  return groups
}

/** The text of a file, empty when it is not there (any more). */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ESRCH', 'ENODEV', 'EOPNOTSUPP')) return ''
    throw error
  }
}

function hasFreezer(cgroup: string): boolean {
  return existsSync(join(CGROUPS, 'freezer', cgroup, 'freezer.state'))
}

function folderOf(cgroup: string): string | undefined {
  if (isUnified()) return join(CGROUPS, cgroup)
  return TELLING.map((controller) => join(CGROUPS, controller.replace('name=', ''), cgroup)).find((path) =>
    existsSync(path),
  )
}

function pidsBelow(folder: string): number[] {
  const own = readText(join(folder, 'cgroup.procs')).split('\n').filter(Boolean).map(Number)
  if (!existsSync(folder)) return own
  const below = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return [...own, ...below.flatMap((entry) => pidsBelow(join(folder, entry.name)))]
}
