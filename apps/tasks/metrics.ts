import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { MetricsSchema as MetricsV1Schema } from '@gantry/api/containerd/cgroups/v1/metrics_pb'
import { MetricsSchema as MetricsV2Schema } from '@gantry/api/containerd/cgroups/v2/metrics_pb'
import type { MetricSchema } from '@gantry/api/containerd/types/metrics_pb'
import { toTimestamp } from '@gantry/model/clock'
import { controllerFolder, isUnified, readText } from './cgroup.ts'

const USER_HZ_NS = 10_000_000n // cpuacct.stat counts in hundredths of a second
const MAX = 2n ** 64n - 1n

/** What a container uses now, or undefined when its cgroup is gone or it has none. The type says which kind of cgroup. */
export function readMetrics(
  id: string,
  cgroup: string | null,
  nowMs: number,
): MessageInitShape<typeof MetricSchema> | undefined {
  if (cgroup === null) return undefined
  const unified = isUnified()
  if (!existsSync(controllerFolder(cgroup, unified ? '' : 'memory'))) return undefined
  const data = unified
    ? {
        typeUrl: MetricsV2Schema.typeName,
        value: toBinary(MetricsV2Schema, create(MetricsV2Schema, readV2(controllerFolder(cgroup, '')))),
      }
    : { typeUrl: MetricsV1Schema.typeName, value: toBinary(MetricsV1Schema, create(MetricsV1Schema, readV1(cgroup))) }
  return { id, timestamp: toTimestamp(nowMs), data }
}

function readV1(cgroup: string): MessageInitShape<typeof MetricsV1Schema> {
  const memory = controllerFolder(cgroup, 'memory')
  const cpu = controllerFolder(cgroup, 'cpu')
  const cpuacct = controllerFolder(cgroup, 'cpuacct')
  const times = table(join(cpuacct, 'cpuacct.stat'))
  const throttling = table(join(cpu, 'cpu.stat'))
  const oom = table(join(memory, 'memory.oom_control'))
  return {
    pids: readPids(controllerFolder(cgroup, 'pids')),
    cpu: {
      usage: {
        total: number(join(cpuacct, 'cpuacct.usage')),
        kernel: of(times, 'system') * USER_HZ_NS,
        user: of(times, 'user') * USER_HZ_NS,
        perCpu: readText(join(cpuacct, 'cpuacct.usage_percpu')).trim().split(/\s+/).filter(Boolean).map(BigInt),
      },
      throttling: {
        periods: of(throttling, 'nr_periods'),
        throttledPeriods: of(throttling, 'nr_throttled'),
        throttledTime: of(throttling, 'throttled_time'),
      },
    },
    memory: { ...readMemoryV1(table(join(memory, 'memory.stat'))), ...memoryEntries(memory) },
    blkio: {
      ioServiceBytesRecursive: readBlkio(cgroup, 'io_service_bytes'),
      ioServicedRecursive: readBlkio(cgroup, 'io_serviced'),
    },
    memoryOomControl: {
      oomKillDisable: of(oom, 'oom_kill_disable'),
      underOom: of(oom, 'under_oom'),
      oomKill: of(oom, 'oom_kill'),
    },
  }
}

function readMemoryV1(stat: Table) {
  return {
    ...{
      cache: of(stat, 'cache'),
      rss: of(stat, 'rss'),
      rssHuge: of(stat, 'rss_huge'),
      mappedFile: of(stat, 'mapped_file'),
    },
    ...{
      dirty: of(stat, 'dirty'),
      writeback: of(stat, 'writeback'),
      pgPgIn: of(stat, 'pgpgin'),
      pgPgOut: of(stat, 'pgpgout'),
    },
    ...{ pgFault: of(stat, 'pgfault'), pgMajFault: of(stat, 'pgmajfault'), unevictable: of(stat, 'unevictable') },
    ...{ inactiveAnon: of(stat, 'inactive_anon'), activeAnon: of(stat, 'active_anon') },
    ...{ inactiveFile: of(stat, 'inactive_file'), activeFile: of(stat, 'active_file') },
    hierarchicalMemoryLimit: of(stat, 'hierarchical_memory_limit'),
    hierarchicalSwapLimit: of(stat, 'hierarchical_memsw_limit'),
    ...{
      totalCache: of(stat, 'total_cache'),
      totalRss: of(stat, 'total_rss'),
      totalRssHuge: of(stat, 'total_rss_huge'),
    },
    ...{ totalMappedFile: of(stat, 'total_mapped_file'), totalDirty: of(stat, 'total_dirty') },
    ...{ totalWriteback: of(stat, 'total_writeback'), totalPgPgIn: of(stat, 'total_pgpgin') },
    ...{ totalPgPgOut: of(stat, 'total_pgpgout'), totalPgFault: of(stat, 'total_pgfault') },
    ...{ totalPgMajFault: of(stat, 'total_pgmajfault'), totalUnevictable: of(stat, 'total_unevictable') },
    ...{ totalInactiveAnon: of(stat, 'total_inactive_anon'), totalActiveAnon: of(stat, 'total_active_anon') },
    ...{ totalInactiveFile: of(stat, 'total_inactive_file'), totalActiveFile: of(stat, 'total_active_file') },
  }
}

function memoryEntries(folder: string) {
  const entry = (prefix: string) => ({
    usage: number(join(folder, `${prefix}.usage_in_bytes`)),
    limit: number(join(folder, `${prefix}.limit_in_bytes`)),
    max: number(join(folder, `${prefix}.max_usage_in_bytes`)),
    failcnt: number(join(folder, `${prefix}.failcnt`)),
  })
  return {
    ...{ usage: entry('memory'), swap: entry('memory.memsw') },
    ...{ kernel: entry('memory.kmem'), kernelTcp: entry('memory.kmem.tcp') },
  }
}

/** Lines such as `8:0 Read 4096`; the last one, `Total 4096`, is of no device. */
function readBlkio(cgroup: string, what: string) {
  return lines(join(controllerFolder(cgroup, 'blkio'), `blkio.throttle.${what}_recursive`)).flatMap((line) => {
    const [device = '', op = '', value] = line.split(' ')
    const [major, minor] = device.split(':')
    return minor === undefined ? [] : [{ op, major: toBigInt(major), minor: toBigInt(minor), value: toBigInt(value) }]
  })
}

/** @param folder of a cgroup of the unified hierarchy */
export function readV2(folder: string): MessageInitShape<typeof MetricsV2Schema> {
  const cpu = table(join(folder, 'cpu.stat'))
  const events = table(join(folder, 'memory.events'))
  return {
    pids: readPids(folder),
    cpu: {
      ...{ usageUsec: of(cpu, 'usage_usec'), userUsec: of(cpu, 'user_usec'), systemUsec: of(cpu, 'system_usec') },
      ...{ nrPeriods: of(cpu, 'nr_periods'), nrThrottled: of(cpu, 'nr_throttled') },
      ...{ throttledUsec: of(cpu, 'throttled_usec'), nrBursts: of(cpu, 'nr_bursts'), burstUsec: of(cpu, 'burst_usec') },
    },
    memory: {
      ...readMemoryV2(table(join(folder, 'memory.stat'))),
      ...{ usage: number(join(folder, 'memory.current')), usageLimit: number(join(folder, 'memory.max')) },
      ...{ swapUsage: number(join(folder, 'memory.swap.current')), swapLimit: number(join(folder, 'memory.swap.max')) },
      ...{ maxUsage: number(join(folder, 'memory.peak')), swapMaxUsage: number(join(folder, 'memory.swap.peak')) },
    },
    memoryEvents: {
      ...{ low: of(events, 'low'), high: of(events, 'high'), max: of(events, 'max'), oom: of(events, 'oom') },
      ...{ oomKill: of(events, 'oom_kill'), oomGroupKill: of(events, 'oom_group_kill') },
    },
    io: { usage: readIo(join(folder, 'io.stat')) },
  }
}

function readMemoryV2(stat: Table) {
  return {
    ...{
      anon: of(stat, 'anon'),
      file: of(stat, 'file'),
      kernelStack: of(stat, 'kernel_stack'),
      slab: of(stat, 'slab'),
    },
    ...{ sock: of(stat, 'sock'), shmem: of(stat, 'shmem'), fileMapped: of(stat, 'file_mapped') },
    ...{ fileDirty: of(stat, 'file_dirty'), fileWriteback: of(stat, 'file_writeback'), anonThp: of(stat, 'anon_thp') },
    ...{ inactiveAnon: of(stat, 'inactive_anon'), activeAnon: of(stat, 'active_anon') },
    ...{ inactiveFile: of(stat, 'inactive_file'), activeFile: of(stat, 'active_file') },
    ...{ unevictable: of(stat, 'unevictable'), slabReclaimable: of(stat, 'slab_reclaimable') },
    ...{ slabUnreclaimable: of(stat, 'slab_unreclaimable'), pgfault: of(stat, 'pgfault') },
    ...{ pgmajfault: of(stat, 'pgmajfault'), pgrefill: of(stat, 'pgrefill'), pgscan: of(stat, 'pgscan') },
    ...{ pgsteal: of(stat, 'pgsteal'), pgactivate: of(stat, 'pgactivate'), pgdeactivate: of(stat, 'pgdeactivate') },
    ...{ pglazyfree: of(stat, 'pglazyfree'), pglazyfreed: of(stat, 'pglazyfreed') },
    ...{ thpFaultAlloc: of(stat, 'thp_fault_alloc'), thpCollapseAlloc: of(stat, 'thp_collapse_alloc') },
  }
}

/** Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4`. */
function readIo(path: string) {
  return lines(path).flatMap((line) => {
    const [device = '', ...pairs] = line.split(' ')
    const [major, minor] = device.split(':')
    if (major === undefined || minor === undefined) return []
    const values = new Map(pairs.map((pair) => pair.split('=')).map(([key = '', value]) => [key, toBigInt(value)]))
    const io = {
      rbytes: of(values, 'rbytes'),
      wbytes: of(values, 'wbytes'),
      rios: of(values, 'rios'),
      wios: of(values, 'wios'),
    }
    return { major: toBigInt(major), minor: toBigInt(minor), ...io }
  })
}

/** No limit is 0, as containerd reports it. */
function readPids(folder: string) {
  const limit = readText(join(folder, 'pids.max')).trim()
  return { current: number(join(folder, 'pids.current')), limit: limit === 'max' ? 0n : toBigInt(limit) }
}

type Table = ReadonlyMap<string, bigint>

/** A file of lines with a name and a number. */
function table(path: string): Table {
  return new Map(
    lines(path)
      .map((line) => line.split(' '))
      .map(([key = '', value]) => [key, toBigInt(value)]),
  )
}

function lines(path: string): string[] {
  return readText(path).split('\n').filter(Boolean)
}

function of(values: Table, key: string): bigint {
  return values.get(key) ?? 0n
}

/** A file with one number; `max` is the largest there is, and a file that the kernel does not have counts as 0. */
function number(path: string): bigint {
  return toBigInt(readText(path).trim())
}

function toBigInt(text: string | undefined): bigint {
  if (text === 'max') return MAX
  return text !== undefined && /^\d+$/.test(text) ? BigInt(text) : 0n
}
