import { join } from 'node:path'
import type { Metrics, Reading } from '@gantry/model/metric'
import { controllerFolder, isUnified, readText } from './cgroup.ts'
import type { Registry, Task } from './registry.ts'

const LABELS = ['container_id', 'namespace']
const NS_PER_USEC = 1000
const NO_LIMIT = 2 ** 62 // bytes: what cgroup v1 calls none is a little less than 2^63

/**
 * Tells of tasks, and of what each container uses: read from its cgroup when somebody asks. Names and units are those that
 * containerd has on a unified host, on any host.
 */
export function watchTasks(metrics: Metrics, registry: Pick<Registry, 'all'>): void {
  const about = { name: 'gantry_tasks', help: 'Tasks by status.', labels: ['status'] }
  metrics.read('gauge', about, () => {
    const counts = Map.groupBy(registry.all(), ({ init }) => init.life.status)
    return Array.from(counts, ([status, tasks]) => ({ labels: [status], value: tasks.length }))
  })
  const execs = { name: 'gantry_execs', help: 'Further processes of tasks, those that have ended too.' }
  metrics.read('gauge', execs, () => registry.all().reduce((sum, { execs }) => sum + execs.size, 0))

  const read = (kind: 'counter' | 'gauge', [name, help]: [string, string], of: Resource): void =>
    metrics.read(kind, { name, help, labels: LABELS }, () => registry.all().flatMap((task) => readingOf(task, of)))
  const { cpu, memory, memoryLimit, pids, pidsLimit } = isUnified() ? UNIFIED : SEPARATE
  read('counter', ['container_cpu_usage_usec_microseconds', 'Processor time used.'], cpu)
  read('gauge', ['container_memory_usage_bytes', 'Memory used, page cache included.'], memory)
  read('gauge', ['container_memory_usage_limit_bytes', 'The most memory it may use, if there is a limit.'], memoryLimit)
  read('gauge', ['container_pids_current', 'Processes and threads.'], pids)
  read('gauge', ['container_pids_limit', 'The most processes and threads it may have, if there is a limit.'], pidsLimit)
}

/** Reads a number of a cgroup; undefined when there is none. */
type Resource = (cgroup: string) => number | undefined

interface Resources {
  readonly cpu: Resource
  readonly memory: Resource
  readonly memoryLimit: Resource
  readonly pids: Resource
  readonly pidsLimit: Resource
}

const UNIFIED: Resources = {
  cpu: (cgroup) => numberIn(/^usage_usec (\d+)$/m.exec(textOf(cgroup, '', 'cpu.stat'))?.[1]),
  memory: (cgroup) => numberIn(textOf(cgroup, '', 'memory.current')),
  memoryLimit: (cgroup) => numberIn(textOf(cgroup, '', 'memory.max')),
  pids: (cgroup) => numberIn(textOf(cgroup, '', 'pids.current')),
  pidsLimit: (cgroup) => numberIn(textOf(cgroup, '', 'pids.max')),
}

/** One hierarchy for each controller: cgroup v1. */
const SEPARATE: Resources = {
  cpu(cgroup) {
    const ns = numberIn(textOf(cgroup, 'cpuacct', 'cpuacct.usage'))
    return ns === undefined ? undefined : Math.floor(ns / NS_PER_USEC)
  },
  memory: (cgroup) => numberIn(textOf(cgroup, 'memory', 'memory.usage_in_bytes')),
  memoryLimit(cgroup) {
    const limit = numberIn(textOf(cgroup, 'memory', 'memory.limit_in_bytes'))
    return limit === undefined || limit >= NO_LIMIT ? undefined : limit
  },
  pids: (cgroup) => numberIn(textOf(cgroup, 'pids', 'pids.current')),
  pidsLimit: (cgroup) => numberIn(textOf(cgroup, 'pids', 'pids.max')),
}

function textOf(cgroup: string, controller: string, file: string): string {
  return readText(join(controllerFolder(cgroup, controller), file))
}

/** `max` is no limit, and nothing is a group that is gone. */
function numberIn(text = ''): number | undefined {
  return /^\d+\s*$/.test(text) ? Number(text) : undefined
}

function readingOf({ cgroup, id, namespace }: Task, of: Resource): Reading[] {
  const value = cgroup === null ? undefined : of(cgroup)
  return value === undefined ? [] : [{ labels: [id, namespace], value }]
}
