import { MetricsSchema as MetricsV1Schema } from '@gantry/api/containerd/cgroups/v1/metrics_pb'
import { MetricsSchema as MetricsV2Schema } from '@gantry/api/containerd/cgroups/v2/metrics_pb'
import { expect, test } from 'vitest'
import { pack } from './any.ts'
import { toStats } from './stats.ts'

const timestamp = { seconds: 10n, nanos: 500_000_000 }

// what a kernel says of `dd if=/dev/vda of=/dev/null` with 64 MiB, and of one without limits
test('the figures of a version 1 cgroup', () => {
  const blkio = [
    { op: 'Read', major: 254n, minor: 0n, value: 4096n },
    { op: 'Write', major: 254n, minor: 0n, value: 512n },
    { op: 'Sync', major: 254n, minor: 0n, value: 4608n },
    { op: 'Read', major: 7n, minor: 0n, value: 100n },
    { op: 'Total', major: 254n, minor: 0n, value: 4608n },
  ]
  const data = pack(MetricsV1Schema, {
    pids: { current: 2n, limit: 100n },
    cpu: { usage: { total: 1_500_000_000n, kernel: 1_200_000_000n, user: 300_000_000n, perCpu: [1n, 2n] } },
    memory: { usage: { usage: 60_000_000n, limit: 67_108_864n, max: 67_108_864n }, totalInactiveFile: 50_000_000n },
    blkio: { ioServiceBytesRecursive: blkio },
  })

  expect(toStats({ id: 'box', timestamp, data })).toEqual({
    containerId: 'box',
    at: new Date(10_500),
    cpuNs: 1_500_000_000n,
    memory: 10_000_000n,
    memoryLimit: 67_108_864n,
    pids: 2n,
    pidsLimit: 100n,
    readBytes: 4196n,
    writtenBytes: 512n,
  })
})

test('the figures of a version 2 cgroup', () => {
  const data = pack(MetricsV2Schema, {
    pids: { current: 3n, limit: 0n },
    cpu: { usageUsec: 1500n, userUsec: 1000n, systemUsec: 500n },
    memory: { usage: 20_480n, usageLimit: 2n ** 64n - 1n, inactiveFile: 8192n },
    io: {
      usage: [
        { major: 8n, minor: 0n, rbytes: 4096n, wbytes: 512n, rios: 1n, wios: 2n },
        { major: 253n, minor: 16n, rbytes: 1n, wbytes: 1n },
      ],
    },
  })

  expect(toStats({ id: 'box', timestamp, data })).toEqual({
    containerId: 'box',
    at: new Date(10_500),
    cpuNs: 1_500_000n,
    memory: 12_288n,
    memoryLimit: undefined,
    pids: 3n,
    pidsLimit: undefined,
    readBytes: 4097n,
    writtenBytes: 513n,
  })
})

test('a limit of version 1 that is none is not shown as one', () => {
  const none = 2n ** 63n - 4096n
  const data = pack(MetricsV1Schema, { memory: { usage: { usage: 4096n, limit: none }, totalInactiveFile: 8192n } })

  expect(toStats({ id: 'box', timestamp, data })).toMatchObject({ memory: 4096n, memoryLimit: undefined, cpuNs: 0n })
})

test('figures of another kind are left out', () => {
  expect(toStats({ id: 'box', timestamp })).toBeUndefined()
  const data = { typeUrl: 'io.containerd.wasm.Metrics', value: new Uint8Array() }
  expect(toStats({ id: 'box', timestamp, data })).toBeUndefined()
})
