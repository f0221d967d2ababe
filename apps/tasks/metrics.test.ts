import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readV2 } from './metrics.ts'

const FILES = {
  'pids.current': '3\n',
  'pids.max': '100\n',
  'cpu.stat':
    'usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 9\nnr_throttled 2\nthrottled_usec 70\nnr_bursts 1\nburst_usec 5\n',
  'memory.stat': 'anon 4096\nfile 8192\npgfault 12\n',
  'memory.current': '20480\n',
  'memory.max': 'max\n',
  'memory.peak': '40960\n',
  'memory.events': 'low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n',
  'io.stat': '8:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0\n253:16 \n',
}

test('the figures of a unified cgroup are read from its files; a file that is not there counts as nothing', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-metrics-'))
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(folder, name), text)

  const metrics = readV2(folder)

  rmSync(folder, { recursive: true })
  expect(metrics).toMatchObject({
    pids: { current: 3n, limit: 100n },
    cpu: { usageUsec: 1500n, userUsec: 1000n, systemUsec: 500n, nrPeriods: 9n, nrThrottled: 2n, throttledUsec: 70n },
    memory: {
      anon: 4096n,
      file: 8192n,
      pgfault: 12n,
      usage: 20480n,
      usageLimit: 2n ** 64n - 1n,
      maxUsage: 40960n,
      swapUsage: 0n,
    },
    memoryEvents: { low: 0n, high: 1n, max: 2n, oom: 3n, oomKill: 4n, oomGroupKill: 0n },
    io: {
      usage: [
        { major: 8n, minor: 0n, rbytes: 4096n, wbytes: 512n, rios: 1n, wios: 2n },
        { major: 253n, minor: 16n, rbytes: 0n, wbytes: 0n },
      ],
    },
  })
})
