/** What a daemon and its containers may leave behind on a host, found by looking at the host, not by asking the daemon. */
import { type Dirent, readdirSync, readFileSync, readlinkSync, rmdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const CGROUPS = '/sys/fs/cgroup'
const FIFOS = '/run/containerd/fifo' // where Debian's ctr makes the FIFOs of a container's stdio, whatever daemon it talks to

/** The traces of one daemon: `dir` holds its root and state, `namespaces` are containerd namespaces nobody else uses. */
export interface Scope {
  readonly dir: string
  readonly namespaces: readonly string[]
  /** processes that are meant to be there: the daemon's own */
  readonly daemons?: () => readonly number[]
  /** ids of containers and execs that ctr made FIFOs for; others may use ctr on this host */
  readonly ids?: ReadonlySet<string>
}

/** One line for every mount, process, cgroup and FIFO found; empty when the host is clean. */
export function traces(scope: Scope): string[] {
  return [...mounts(scope), ...processes(scope), ...cgroups(scope), ...fifos(scope)]
}

/** What is still there after a while: the end of a process and what follows from it take a moment. */
export async function lastingTraces(scope: Scope, withinMs = 15_000): Promise<string[]> {
  const end = Date.now() + withinMs
  while (traces(scope).length > 0 && Date.now() < end) await sleep(50)
  return traces(scope)
}

export function mounts({ dir }: Scope): string[] {
  return lines('/proc/self/mountinfo')
    .map((line) => (line.split(' ')[4] ?? '').replaceAll('\\040', ' '))
    .filter((point) => point.startsWith(`${dir}/`))
    .map((point) => `mount ${point}`)
}

/** Containers' processes by their cgroup, monitors and shims by a path of ours in their arguments, folder or open files. */
export function processes(scope: Scope): string[] {
  return pidsOf(scope).map((pid) => `process ${pid} ${commandOf(pid)}`)
}

export function pidsOf({ dir, namespaces, daemons = () => [] }: Scope): number[] {
  const expected = new Set([process.pid, process.ppid, ...daemons()])
  return pids().filter((pid) => !expected.has(pid) && belongs(pid, dir, namespaces))
}

/** The cgroups of containers (a folder inside the namespace's). An empty folder of a namespace itself is not counted. */
export function cgroups({ namespaces }: Scope): string[] {
  return hierarchies().flatMap((hierarchy) =>
    namespaces.flatMap((namespace) =>
      folders(join(hierarchy, namespace)).map((entry) => `cgroup ${join(hierarchy, namespace, entry.name)}`),
    ),
  )
}

/** What a killed client of somebody else left before `dir` was made is not ours. */
export function fifos({ dir, ids = new Set() }: Scope): string[] {
  const since = attempt(() => statSync(dir).birthtimeMs) ?? 0
  const shared = walk(FIFOS, 2)
    .filter(([, { name }]) => ids.has(name.replace(/-std(in|out|err)$/, '')))
    .filter(([path]) => (attempt(() => statSync(path).mtimeMs) ?? 0) >= since)
    .map(([path]) => `fifo ${path}`)
  const own = walk(dir)
    .filter(([, entry]) => entry.isFIFO())
    .map(([path]) => `fifo ${path}`)
  return [...shared, ...own]
}

/** Removes the empty cgroup folders that stand for namespaces; containerd leaves them. */
export function removeNamespaceCgroups(namespaces: readonly string[]): void {
  for (const path of hierarchies().flatMap((hierarchy) => namespaces.map((namespace) => join(hierarchy, namespace)))) {
    try {
      rmdirSync(path)
    } catch {
      // absent or in use: `cgroups` reports what is in it
    }
  }
}

export function commandOf(pid: number): string {
  return attempt(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()) ?? ''
}

/** When the process started, in a unit of the kernel's; undefined when it is gone. With its pid nobody else's. */
export function startOf(pid: number): string | undefined {
  return statOf(pid)[19]
}

/** Did nobody start it on a terminal? */
export function isInBackground(pid: number): boolean {
  return statOf(pid)[4] === '0'
}

function parentOf(pid: number): number {
  return Number(statOf(pid)[1] ?? 0)
}

/** What proc(5) tells of a process behind its name; nothing when it is gone. */
function statOf(pid: number): string[] {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? ''
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
}

/** `pid` and everything it started, by the parents that /proc tells. */
export function family(pid: number): number[] {
  const children = Map.groupBy(pids(), parentOf)
  const of = (parent: number): number[] => [parent, ...(children.get(parent) ?? []).flatMap(of)]
  return of(pid)
}

function belongs(pid: number, dir: string, namespaces: readonly string[]): boolean {
  const cgroup = attempt(() => readFileSync(`/proc/${pid}/cgroup`, 'utf8')) ?? ''
  if (namespaces.some((namespace) => cgroup.includes(`:/${namespace}/`))) return true
  if (statOf(pid)[0] === 'Z') return false // only its parent can end a zombie
  if (commandOf(pid).includes(`${dir}/`)) return true
  const cwd = attempt(() => readlinkSync(`/proc/${pid}/cwd`)) ?? ''
  if (cwd.startsWith(`${dir}/`)) return true
  const files = attempt(() => readdirSync(`/proc/${pid}/fd`)) ?? []
  return files.some((fd) => attempt(() => readlinkSync(`/proc/${pid}/fd/${fd}`))?.startsWith(`${dir}/`))
}

function hierarchies(): string[] {
  const names = folders(CGROUPS).map((entry) => join(CGROUPS, entry.name))
  return [CGROUPS, ...names]
}

function walk(dir: string, depth = 6): [string, Dirent][] {
  if (depth === 0) return []
  return entries(dir).flatMap((entry) => {
    const path = join(dir, entry.name)
    const own: [string, Dirent] = [path, entry]
    // what is below `fs`, `rootfs` or `blobs` is the content of images and containers
    return entry.isDirectory() && !['fs', 'rootfs', 'blobs', 'sha256'].includes(entry.name)
      ? [own, ...walk(path, depth - 1)]
      : [own]
  })
}

function folders(dir: string): Dirent[] {
  return entries(dir).filter((entry) => entry.isDirectory())
}

function entries(dir: string): Dirent[] {
  return attempt(() => readdirSync(dir, { withFileTypes: true })) ?? []
}

function lines(path: string): string[] {
  return readFileSync(path, 'utf8').split('\n').filter(Boolean)
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined // processes and folders vanish while they are looked at
  }
}
