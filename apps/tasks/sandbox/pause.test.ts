import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bundleOf } from '../bundle.ts'
import { joinGroup } from './join.ts'
import { groupOf, pauseSpec } from './pause.ts'

const wish = { namespace: 'ns', id: 'pod', spec: '', netns: '', program: '/bin/pause', createdMs: 5 }
const specOf = (linux: object, more = {}) => JSON.stringify({ ...more, linux })
const made = (given: Partial<typeof wish>) => JSON.parse(String(pauseSpec({ ...wish, ...given }).spec))

test('what is shared is what the specification names, a namespace of the client is joined', () => {
  const types = (given: Partial<typeof wish>) => made(given).linux.namespaces

  expect(types({})).toEqual(['network', 'ipc', 'uts', 'mount', 'pid'].map((type) => ({ type })))
  expect(types({ netns: '/run/netns/a' })).toContainEqual({ type: 'network', path: '/run/netns/a' })
  expect(types({ spec: specOf({ namespaces: [{ type: 'pid' }, { type: 'cgroup' }] }) })).toEqual([
    { type: 'pid' },
    { type: 'mount' },
  ])
})

test('the pause process has no rights and sees no file but its own', () => {
  const { process, root, mounts } = made({ spec: specOf({}, { process: { args: ['evil'] }, mounts: [{}] }) })

  expect(process).toMatchObject({ args: ['/pause', '-P'], user: { uid: 65535 }, capabilities: {} })
  expect(root.readonly).toBe(true)
  expect(mounts.map((mount: { destination: string }) => mount.destination)).toEqual(['/proc', '/dev', '/pause'])
})

test.each([
  ['/', 'invalid-argument'],
  ['/a/../b', 'invalid-argument'],
  ['relative', 'invalid-argument'],
])('%s can be no cgroup of a sandbox: it is removed with it', (cgroupsPath, code) => {
  expect(() => made({ spec: specOf({ cgroupsPath }) })).toThrow(expect.objectContaining({ code }))
})

test('a user namespace is refused', () => {
  expect(() => made({ spec: specOf({ namespaces: [{ type: 'user' }] }) })).toThrow('user namespace')
})

test('what was decided is read again from the bundle', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-pause-'))
  const hosts = { destination: '/etc/hosts', source: '/run/hosts', type: 'bind' }
  const spec = made({ spec: specOf({ cgroupsPath: 'a.slice:b:c', namespaces: [{ type: 'ipc' }] }) })
  const bundle = { ...bundleOf(folder, 'ns', 'pod'), dir: folder }
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...spec, mounts: [...spec.mounts, hosts] }))

  expect(groupOf(bundle)).toEqual({
    ...{ shares: ['ipc'], cgroup: null, createdMs: 5 },
    files: { '/etc/hosts': '/run/hosts' },
  })
  rmSync(folder, { recursive: true })
})

test('a container gets the shared namespaces instead of new ones, but keeps what it chose', () => {
  const group = { shares: ['network', 'ipc', 'uts'] as const, cgroup: '/g', files: { '/etc/hosts': '/h' }, pid: 7 }
  const joined = (linux: object) =>
    JSON.parse(joinGroup(specOf(linux, { hostname: 'own' }), { namespace: 'ns', id: 'box' }, group))

  const usual = joined({ cgroupsPath: '/ns/box', namespaces: ['network', 'uts', 'pid'].map((type) => ({ type })) })
  expect(usual).toEqual({
    mounts: [expect.objectContaining({ destination: '/etc/hosts', source: '/h' })],
    linux: {
      cgroupsPath: '/g/box',
      namespaces: [
        { type: 'network', path: '/proc/7/ns/net' },
        { type: 'uts', path: '/proc/7/ns/uts' },
        { type: 'pid' },
      ],
    },
  })
  const special = { cgroupsPath: '/mine', namespaces: [{ type: 'network', path: '/n' }] }
  expect(joined(special)).toEqual({ hostname: 'own', linux: special })
})
