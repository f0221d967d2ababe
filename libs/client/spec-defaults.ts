import type { SpecMount } from './spec.ts'
import type { SpecOptions } from './spec-options.ts'

/** What a container may do as root unless it is privileged: the set container engines agree on. */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_RAW',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
]

/** Every capability, each at the place of its bit. */
export const ALL_CAPABILITIES: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
]

export const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export const READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
]

/**
 * What tells about the host, or lets a container watch its neighbours. The thermal files count heat events of each CPU.
 *
 * @param cpuCount CPUs of the host
 */
export function maskedPaths(cpuCount: number): string[] {
  const thermal = Array.from({ length: cpuCount }, (_, n) => `/sys/devices/system/cpu/cpu${n}/thermal_throttle`)
  return [
    '/proc/acpi',
    '/proc/asound',
    '/proc/interrupts',
    '/proc/kcore',
    '/proc/keys',
    '/proc/latency_stats',
    '/proc/sched_debug',
    '/proc/scsi',
    '/proc/timer_list',
    '/proc/timer_stats',
    '/sys/devices/virtual/powercap',
    '/sys/firmware',
    ...thermal,
  ]
}

/**
 * The file systems every container gets. A privileged one may write to /sys. What belongs to a namespace of the host comes
 * from the host: its names with its network, its shared memory with its ipc. A user namespace may mount no sysfs of a
 * network that is not its own.
 */
export function defaultMounts({ privileged, network, ipc, userns }: SpecOptions): SpecMount[] {
  const guarded = ['nosuid', 'noexec', 'nodev']
  const small = ['nosuid', 'strictatime', 'mode=755', 'size=65536k']
  const access = privileged ? 'rw' : 'ro'
  const ownNetwork = network === undefined || network === 'none'
  return [
    mount('proc', 'proc', '/proc', guarded),
    mount('tmpfs', 'tmpfs', '/dev', small),
    mount('devpts', 'devpts', '/dev/pts', ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5']),
    ipc === undefined
      ? mount('tmpfs', 'shm', '/dev/shm', [...guarded, 'mode=1777', 'size=65536k'])
      : mount('bind', '/dev/shm', '/dev/shm', ['rbind', ...guarded]),
    mount('mqueue', 'mqueue', '/dev/mqueue', guarded),
    userns && !ownNetwork
      ? mount('bind', '/sys', '/sys', ['rbind', ...guarded, access])
      : mount('sysfs', 'sysfs', '/sys', [...guarded, access]),
    mount('cgroup', 'cgroup', '/sys/fs/cgroup', [...guarded, access]), // so that a program sees its limits
    mount('tmpfs', 'tmpfs', '/run', small),
    ...(network === 'host' ? hostNames() : []),
  ]
}

/** They belong to the host's network. */
function hostNames(): SpecMount[] {
  return ['/etc/hosts', '/etc/resolv.conf'].map((path) => mount('bind', path, path, ['rbind', 'ro']))
}

function mount(type: string, source: string, destination: string, options: readonly string[]): SpecMount {
  return { type, source, destination, options }
}
