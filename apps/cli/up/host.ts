import { accessSync, constants, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Something the host lacks, and what to do about it. */
export interface Lack {
  readonly what: string
  readonly remedy: string
}

export interface HostFacts {
  readonly uid: number
  /** Is there a program of this name? */
  has(program: string): boolean
  readonly filesystems: string // /proc/filesystems
  readonly mounts: string // /proc/self/mounts
}

/**
 * What a node needs and this host does not have. Debian's package names are given: elsewhere they are nearly the same.
 *
 * @param needs.nats whether a nats-server is to be started here
 */
export function lacksOf(host: HostFacts, needs: { readonly nats: boolean }): Lack[] {
  const lacks: Lack[] = []
  if (host.uid !== 0) lacks.push({ what: 'it does not run as root', remedy: 'start it with sudo' })
  if (!host.has('crun') && !host.has('runc'))
    lacks.push({ what: 'there is no OCI runtime (runc or crun)', remedy: 'apt-get install runc' })
  if (!host.has('conmon')) lacks.push({ what: 'there is no conmon', remedy: 'apt-get install conmon' })
  if (needs.nats && !host.has('nats-server'))
    lacks.push({ what: 'there is no nats-server', remedy: 'apt-get install nats-server, or set url in [nats]' })
  if (!/^(nodev)?\s*overlay$/m.test(host.filesystems))
    lacks.push({ what: 'the kernel has no overlay file system', remedy: 'modprobe overlay' })
  if (!/^\S+ \S+ cgroup2? /m.test(host.mounts))
    lacks.push({ what: 'no cgroups are mounted', remedy: 'mount -t cgroup2 none /sys/fs/cgroup' })
  return lacks
}

/** Facts of this host; programs are looked for in the folders of `path`. */
export function readHost(path: string): HostFacts {
  return {
    uid: process.getuid?.() ?? -1,
    has: (program) => path.split(':').some((folder) => folder !== '' && isProgram(join(folder, program))),
    filesystems: readFileSync('/proc/filesystems', 'utf8'),
    mounts: readFileSync('/proc/self/mounts', 'utf8'),
  }
}

/** Why files cannot be made in `folder` (read-only, full, ...), or undefined when they can. */
export function unwritable(folder: string): string | undefined {
  const probe = join(folder, `.probe-${process.pid}`)
  try {
    writeFileSync(probe, 'x'.repeat(4096), { mode: 0o600, flag: 'wx' })
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message.replace(/,.*/, '') : String(error)
  } finally {
    rmSync(probe, { force: true })
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
