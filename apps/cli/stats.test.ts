import type { TaskInfo, TaskStats } from '@gantry/client/tasks'
import { expect, test } from 'vitest'
import { drawOn, runningOf, usesOf } from './commands/stats.ts'

const MIB = 1024n ** 2n
const box: TaskStats = {
  ...{ containerId: 'box', at: new Date(1000), cpuNs: 500_000_000n },
  ...{ memory: 16n * MIB, memoryLimit: 64n * MIB, pids: 3n, pidsLimit: 10n },
  ...{ readBytes: 4096n, writtenBytes: 1_500_000n },
}
const after = (ms: number, cpuNs: bigint): TaskStats => ({ ...box, at: new Date(1000 + ms), cpuNs })

function written(json: boolean, inPlace = false) {
  const said: string[] = []
  const stdout = { write: (text: string) => said.push(text) } as unknown as NodeJS.WriteStream
  return { said, draw: drawOn({ json, stdout }, { inPlace, hostMemory: 1024n * MIB }) }
}

test.each([
  ['two processors and a half', after(2000, 5_500_000_000n), 250],
  ['none of any', after(1000, 500_000_000n), 0],
  ['since it was started again', after(1000, 100n), undefined],
  ['at the same moment', after(0, 600_000_000n), undefined],
])('use of processors: %s', (_, now, cpuPercent) => {
  expect(usesOf([box], [now])).toEqual([{ ...now, cpuPercent }])
})

test('one that has just begun has no use of processors yet; they are in the order of their names', () => {
  const uses = usesOf([], [box, { ...box, containerId: 'a' }])

  expect(uses.map(({ containerId, cpuPercent }) => [containerId, cpuPercent])).toEqual([
    ['a', undefined],
    ['box', undefined],
  ])
})

test('what has ended uses nothing', () => {
  const tasks = [{ containerId: 'box', status: 'stopped' }] as TaskInfo[]

  expect(runningOf([box, { ...box, containerId: 'other' }], tasks)).toEqual([{ ...box, containerId: 'other' }])
})

test('people see a table, one without a limit may use the memory of the host', () => {
  const { said, draw } = written(false)

  draw(usesOf([box], [after(1000, 750_000_000n), { ...box, containerId: 'free', memoryLimit: undefined }]))

  expect(said).toEqual([
    'CONTAINER ID   CPU %    MEM USAGE / LIMIT   MEM %    BLOCK I/O       PIDS\n' +
      'box            25.00%   16MiB / 64MiB       25.00%   4.1kB / 1.5MB   3\n' +
      'free           --       16MiB / 1GiB        1.56%    4.1kB / 1.5MB   3\n',
  ])
})

test('on a terminal a table takes the place of the one before', () => {
  const { said, draw } = written(false, true)

  draw(usesOf([], [box]))
  draw(usesOf([], []))
  draw(usesOf([], []))

  expect(said.map((text) => text.split('CONTAINER')[0])).toEqual(['', '\x1b[2A\r\x1b[0J', '\x1b[1A\r\x1b[0J'])
})

test('machines read a line a container', () => {
  const { said, draw } = written(true)

  draw(usesOf([box], [after(1000, 750_000_000n), { ...box, containerId: 'free', memoryLimit: undefined }]))

  expect(said.map((line) => JSON.parse(line))).toEqual([
    {
      ...{ id: 'box', at: '1970-01-01T00:00:02.000Z', cpuNs: 750_000_000, cpuPercent: 25, pids: 3, pidsLimit: 10 },
      ...{ memory: 16_777_216, memoryLimit: 67_108_864, readBytes: 4096, writtenBytes: 1_500_000 },
    },
    {
      ...{ id: 'free', at: '1970-01-01T00:00:01.000Z', cpuNs: 500_000_000, pids: 3, pidsLimit: 10 },
      ...{ memory: 16_777_216, readBytes: 4096, writtenBytes: 1_500_000 },
    },
  ])
})
