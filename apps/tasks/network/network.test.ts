import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parsePorts } from '@gantry/model/network'
import { expect, test } from 'vitest'
import { findNetwork } from './definition.ts'
import { hostnameOf, joinNetwork } from './join.ts'
import { hostsFile, resolvConf } from './names.ts'
import { createNetworks, type NetworksParts } from './networks.ts'
import { checkClaims } from './ports.ts'

const config = { plugins: '', definitions: '/nowhere', bridge: 'gantry0', subnet: '10.0.0.0/24', leases: '/leases' }

test('there is a bridge, and what the operator defines wins', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-cni-'))
  const own = { cniVersion: '0.4.0', name: 'bridge', plugins: [{ type: 'ptp', mtu: 1400 }] }
  writeFileSync(join(folder, '10-own.conflist'), JSON.stringify(own))
  writeFileSync(join(folder, '20-odd.conflist'), '{')

  expect(findNetwork('bridge', config).plugins.map(({ type }) => type)).toEqual(['bridge', 'portmap', 'firewall'])
  expect(findNetwork('bridge', { ...config, definitions: folder })).toEqual(own)
  expect(() => findNetwork('other', config)).toThrow('There is no network "other": choose one of bridge')
  rmSync(folder, { recursive: true })
})

test('a bridge has addresses of IPv6 when the operator gives some', () => {
  const ipamOf = (subnet6?: string) => findNetwork('bridge', { ...config, subnet6 }).plugins[0]?.ipam

  expect(ipamOf()).toMatchObject({ ranges: [[{ subnet: '10.0.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] })
  expect(ipamOf('fd63::/64')).toMatchObject({
    ranges: [[{ subnet: '10.0.0.0/24' }], [{ subnet: 'fd63::/64' }]],
    routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
  })
})

test('a container joins what was made, and keeps what it mounts itself', () => {
  const spec = JSON.stringify({
    hostname: 'box',
    process: { rlimits: [{ type: 'RLIMIT_CORE', hard: '18446744073709551615' }] },
    mounts: [{ destination: '/etc/hosts', source: '/own' }],
    linux: { namespaces: [{ type: 'pid' }, { type: 'network' }] },
  }).replace('"18446744073709551615"', '18446744073709551615')
  const joined = joinNetwork(spec, { netns: '/n', files: { '/etc/hosts': '/h', '/etc/resolv.conf': '/r' } })

  expect(hostnameOf(spec)).toBe('box')
  expect(joined).toContain('18446744073709551615')
  expect(JSON.parse(joined)).toMatchObject({
    linux: { namespaces: [{ type: 'pid' }, { type: 'network', path: '/n' }] },
    mounts: [
      { destination: '/etc/hosts', source: '/own' },
      { destination: '/etc/resolv.conf', source: '/r' },
    ],
  })
})

test('a container in the network of somebody else joins none', () => {
  for (const namespaces of [[{ type: 'pid' }], [{ type: 'network', path: '/proc/1/ns/net' }]])
    expect(() => joinNetwork(JSON.stringify({ linux: { namespaces } }), { netns: '/n', files: {} })).toThrow(
      'has no network namespace of its own',
    )
})

test('name servers: those asked for, else of the network, else of the host but not on its loopback', () => {
  const host = 'nameserver 127.0.0.53\nnameserver 192.0.2.9\nsearch home\noptions ndots:2\n'
  const none = { nameservers: [], search: [] }

  expect(resolvConf({ dns: ['192.0.2.1'], search: ['x'] }, none, host)).toBe(
    'nameserver 192.0.2.1\nsearch x\noptions ndots:2\n',
  )
  expect(resolvConf({ dns: [], search: [] }, { nameservers: ['192.0.2.2'], search: [] }, '')).toBe(
    'nameserver 192.0.2.2\n',
  )
  expect(resolvConf({ dns: [], search: [] }, none, host)).toBe('nameserver 192.0.2.9\nsearch home\noptions ndots:2\n')
})

test('a container knows itself and the hosts it is told', () => {
  expect(hostsFile(['10.0.0.2'], 'box', ['six:::1']).split('\n').slice(2)).toEqual(['10.0.0.2\tbox', '::1\tsix', ''])
})

test.each([
  ['80:80', '80:81', true],
  ['80:80', '127.0.0.1:80:81', true],
  ['127.0.0.2:80:80', '127.0.0.1:80:81', false],
  ['80:80/udp', '80:80', false],
])('ports %s and %s collide: %s', (one, other, collide) => {
  const check = () => checkClaims(parsePorts(one), [['default/box', parsePorts(other)]])

  if (collide) expect(check).toThrow('container default/box has it')
  else expect(check).not.toThrow()
})

test.skipIf(process.getuid?.() !== 0)('plugins know no two containers by the same name', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-cni-'))
  for (const name of ['loopback', 'own'])
    writeFileSync(join(folder, name), `#!/bin/sh\necho "$CNI_CONTAINERID" >>${folder}/said; echo {}`, { mode: 0o755 })
  writeFileSync(join(folder, 'own.conflist'), JSON.stringify({ name: 'own', plugins: [{ type: 'own' }] }))
  const networks = createNetworks({
    ...{ state: folder, plugins: folder, env: { PATH: process.env.PATH ?? '' } },
    config: { ...config, definitions: folder, plugins: folder, leases: join(folder, 'leases') },
    log: { error: console.error } as unknown as NetworksParts['log'],
  })
  const request = { name: 'own', ports: [], dns: [], search: [], hosts: [] }
  const containers = [
    ['a-b', 'c'],
    ['a', 'b-c'],
  ] as const

  for (const [namespace, id] of containers) await networks.attach(namespace, id, request, '')
  for (const [namespace, id] of containers) await networks.detach(namespace, id)

  const names = readFileSync(join(folder, 'said'), 'utf8').trim().split('\n')
  expect(new Set(names).size).toBe(2)
  rmSync(folder, { recursive: true })
})

test('a plugin that a killed run has left is ended before anything is freed, those of others are not', async () => {
  const state = mkdtempSync(join(tmpdir(), 'gantry-cni-'))
  const plugin = (netns: string) =>
    spawn('sleep', ['1000'], { env: { PATH: '/usr/bin:/bin', CNI_COMMAND: 'ADD', CNI_NETNS: netns }, stdio: 'ignore' })
  const [ours, theirs] = [
    plugin(join(state, 'networks/test/box/netns')),
    plugin(`${state}-other/networks/test/box/netns`),
  ]
  const ended = once(ours, 'exit')
  try {
    createNetworks({ state, plugins: '', env: { PATH: '' }, config, log: {} as NetworksParts['log'] })

    expect(await ended).toEqual([null, 'SIGKILL'])
    expect([theirs.exitCode, theirs.signalCode]).toEqual([null, null])
  } finally {
    theirs.kill('SIGKILL')
    ours.kill('SIGKILL')
    rmSync(state, { recursive: true })
  }
})
