import { expect, test } from 'vitest'
import { cgroupOf, parseCgroups, pidsOf } from './cgroup.ts'

test('the groups of a process are read whatever hierarchy they are in', () => {
  const groups = parseCgroups('9:name=systemd:/a:b\n5:cpu,cpuacct:/box\n0::/\n')

  expect([...groups]).toEqual([
    ['name=systemd', '/a:b'],
    ['cpu,cpuacct', '/box'],
    ['', '/'],
  ])
})

test('our own group is never taken for the group of a container', () => {
  expect(cgroupOf(process.pid)).toBeNull()
})

test('a group that is not there has no processes', () => {
  expect(pidsOf('/no/such/group')).toEqual([])
})
