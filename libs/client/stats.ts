import { fromBinary } from '@bufbuild/protobuf'
import { MetricsSchema as MetricsV1Schema } from '@gantry/api/containerd/cgroups/v1/metrics_pb'
import { MetricsSchema as MetricsV2Schema } from '@gantry/api/containerd/cgroups/v2/metrics_pb'
import type { Instant } from '@gantry/model/clock'
import { type Packed, typeNameOf } from './any.ts'
import { toDate } from './wire.ts'

const NO_LIMIT = 2n ** 62n // what the kernel says where there is none is larger, and differs

/** What the processes of a container use together. */
export interface TaskStats {
  readonly containerId: string
  /** When it was measured, to the millisecond. */
  readonly at: Date
  /** Processor time since the container began, on all processors, in nanoseconds. */
  readonly cpuNs: bigint
  /** Bytes, without files that the kernel keeps in memory and could drop at once, as Docker counts. */
  readonly memory: bigint
  readonly memoryLimit: bigint | undefined
  readonly pids: bigint
  readonly pidsLimit: bigint | undefined
  /** Bytes from and to block devices since the container began. */
  readonly readBytes: bigint
  readonly writtenBytes: bigint
}

interface Metric {
  readonly id: string
  readonly timestamp?: Instant | undefined
  readonly data?: Packed | undefined
}

/** Reads the figures of either kind of cgroup; of another kind there is nothing to say. */
export function toStats({ id, timestamp, data }: Metric): TaskStats | undefined {
  const type = data && typeNameOf(data)
  const common = { containerId: id, at: toDate(timestamp) }
  if (data && type === MetricsV1Schema.typeName) return { ...common, ...ofV1(data.value) }
  if (data && type === MetricsV2Schema.typeName) return { ...common, ...ofV2(data.value) }
  return undefined
}

type Figures = Omit<TaskStats, 'containerId' | 'at'>

function ofV1(bytes: Uint8Array): Figures {
  const { pids, cpu, memory, blkio } = fromBinary(MetricsV1Schema, bytes)
  const moved = (way: string): bigint =>
    sum((blkio?.ioServiceBytesRecursive ?? []).filter(({ op }) => op.toLowerCase() === way).map(({ value }) => value))
  return {
    cpuNs: cpu?.usage?.total ?? 0n,
    memory: less(memory?.usage?.usage, memory?.totalInactiveFile),
    memoryLimit: limit(memory?.usage?.limit),
    pids: pids?.current ?? 0n,
    pidsLimit: limit(pids?.limit),
    readBytes: moved('read'),
    writtenBytes: moved('write'),
  }
}

function ofV2(bytes: Uint8Array): Figures {
  const { pids, cpu, memory, io } = fromBinary(MetricsV2Schema, bytes)
  const devices = io?.usage ?? []
  return {
    cpuNs: (cpu?.usageUsec ?? 0n) * 1000n,
    memory: less(memory?.usage, memory?.inactiveFile),
    memoryLimit: limit(memory?.usageLimit),
    pids: pids?.current ?? 0n,
    pidsLimit: limit(pids?.limit),
    readBytes: sum(devices.map(({ rbytes }) => rbytes)),
    writtenBytes: sum(devices.map(({ wbytes }) => wbytes)),
  }
}

/** The two are not read at the same moment. */
function less(used = 0n, droppable = 0n): bigint {
  return used > droppable ? used - droppable : used
}

function limit(value = 0n): bigint | undefined {
  return value === 0n || value >= NO_LIMIT ? undefined : value
}

function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n)
}
