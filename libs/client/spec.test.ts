import type { ImageDefaults } from '@gantry/model/manifest'
import { expect, test } from 'vitest'
import { parseMount } from './mount-option.ts'
import { buildSpec, execProcess, mergeEnv, type SpecOptions } from './spec.ts'
import { parseSpec } from './spec-parse.ts'

const plain: ImageDefaults = {
  user: '',
  env: [],
  entrypoint: [],
  cmd: ['/bin/sh'],
  workingDir: '',
  labels: {},
  volumes: [],
  exposedPorts: [],
  stopSignal: '',
}

function spec(options: SpecOptions = {}, image: Partial<ImageDefaults> = {}) {
  return buildSpec({
    namespace: 'default',
    id: 'box',
    image: { ...plain, ...image },
    user: { uid: 0, gid: 0, additionalGids: [0] },
    options,
    host: { cpuCount: 2, devices: () => [], capabilities: () => ['CAP_SYS_ADMIN'] },
  })
}

test('a container runs what the image says, confined', () => {
  const { process, linux, root, hostname } = spec()

  expect(process).toMatchObject({
    args: ['/bin/sh'],
    cwd: '/',
    env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    noNewPrivileges: true,
    rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
  })
  expect(process.terminal).toBeUndefined()
  expect(root).toEqual({ path: 'rootfs', readonly: false })
  expect(hostname).toBeUndefined()
  expect(linux).toMatchObject({
    cgroupsPath: '/default/box',
    resources: { devices: [{ allow: false, access: 'rwm' }] },
    namespaces: ['pid', 'ipc', 'uts', 'mount', 'network'].map((type) => ({ type })),
  })
})

test('no capability is inheritable (CVE-2022-24769)', () => {
  expect(Object.keys(Object(spec().process.capabilities))).toEqual(['bounding', 'effective', 'permitted'])
})

test('what tells about the host is masked, the thermal files of each CPU too', () => {
  expect(spec().linux).toMatchObject({
    maskedPaths: expect.arrayContaining([
      '/proc/interrupts',
      '/sys/devices/virtual/powercap',
      '/sys/devices/system/cpu/cpu1/thermal_throttle',
    ]),
  })
})

test.each<[string, SpecOptions, Partial<ImageDefaults>, string[]]>([
  ['the command of the image', {}, { cmd: ['a', 'b'] }, ['a', 'b']],
  ['its entrypoint before its command', {}, { entrypoint: ['e'], cmd: ['c'] }, ['e', 'c']],
  ['its entrypoint before given arguments', { args: ['x'] }, { entrypoint: ['e'], cmd: ['c'] }, ['e', 'x']],
  ['a given entrypoint without its command', { entrypoint: ['y'] }, { entrypoint: ['e'], cmd: ['c'] }, ['y']],
])('a container runs %s', (_, options, image, args) => {
  expect(spec(options, image).process.args).toEqual(args)
})

test('an image without a command needs one', () => {
  expect(() => spec({}, { cmd: [] })).toThrow('names no command')
})

test('what the caller sets wins over the image, and the image over the defaults', () => {
  const { process } = spec(
    { env: ['A=2', 'B=3'], tty: true, cwd: '/tmp' },
    { env: ['PATH=/x', 'A=1'], workingDir: '/w' },
  )

  expect(process.env).toEqual(['PATH=/x', 'A=2', 'TERM=xterm', 'B=3'])
  expect(process.terminal).toBe(true)
  expect(process.cwd).toBe('/tmp')
})

test('a bare key in the environment of an image takes nothing from the host (CVE-2026-57231)', () => {
  expect(spec({}, { env: ['SECRET', '*', '=x', 'A=1'] }).process.env).toEqual([expect.stringMatching(/^PATH=/), 'A=1'])
})

test('a working folder of an image is absolute', () => {
  expect(spec({}, { workingDir: 'a/../b' }).process.cwd).toBe('/b')
  expect(spec({}, { workingDir: '../../etc' }).process.cwd).toBe('/etc')
})

test.each<[string, SpecOptions, Partial<ImageDefaults>]>([
  ['a bare key given by the caller', { env: ['SECRET'] }, {}],
  ['a line break in HOME (CVE-2026-15809)', {}, { env: ['HOME=/x\nroot::0:0'] }],
  ['a working folder behind a descriptor (CVE-2024-21626)', {}, { workingDir: '/proc/self/fd/7' }],
  ['the same in disguise', { cwd: '/./proc/x/../self/fd/7/..' }, {}],
  ['a relative working folder', { cwd: 'tmp' }, {}],
  ['a memory limit of nothing', { memory: 0n }, {}],
  ['a memory limit past exact numbers', { memory: 1n << 60n }, {}],
])('%s is refused', (_, options, image) => {
  expect(() => spec(options, image)).toThrow(/^Cannot/)
})

test('options end up where the runtime looks for them', () => {
  const mounts = [parseMount('src=/data,dst=/data,options=ro')]
  const made = spec({ readOnly: true, memory: 1024n, hostname: 'box', mounts, annotations: { a: '1' } })

  expect(made).toMatchObject({
    root: { readonly: true },
    hostname: 'box',
    annotations: { a: '1' },
    linux: { resources: { memory: { limit: 1024 } } },
  })
  expect(made.mounts.at(-1)).toEqual({ type: 'bind', source: '/data', destination: '/data', options: ['rbind', 'ro'] })
})

test("the host's network comes with the host's names", () => {
  const made = spec({ netHost: true })

  expect(made.linux).toMatchObject({ namespaces: ['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })) })
  expect(made.mounts.map((mount) => mount.destination)).toEqual(
    expect.arrayContaining(['/etc/hosts', '/etc/resolv.conf']),
  )
})

test('a privileged container is not confined', () => {
  const { process, linux } = spec({ privileged: true })

  expect(process.noNewPrivileges).toBe(false)
  expect(process.capabilities).toMatchObject({ effective: ['CAP_SYS_ADMIN'] })
  expect(linux).not.toHaveProperty('maskedPaths')
  expect(linux).toMatchObject({ resources: { devices: [{ allow: true, access: 'rwm' }] } })
})

test('an exec is like the container, with its own command', () => {
  const base = spec({ tty: true, env: ['A=1'] }).process
  const made = execProcess(base, { args: ['ls'], env: ['A=2'], cwd: '/x' })

  expect(made).toEqual({ ...base, terminal: undefined, args: ['ls'], cwd: '/x', env: mergeEnv(base.env, ['A=2']) })
})

test('a stored spec is read, with the lists it leaves out, or not at all', () => {
  const text = (value: unknown) => Buffer.from(JSON.stringify(value))

  expect(parseSpec(text({ process: { args: ['a'], user: {} } }))).toMatchObject({ mounts: [], process: { env: [] } })
  expect(parseSpec(text({ process: { args: 'a' } }))).toBeUndefined()
  expect(parseSpec(Buffer.from('{'))).toBeUndefined()
})

test.each([
  ['src=/a,dst=/b', { type: 'bind', source: '/a', destination: '/b', options: ['rbind'] }],
  [
    'type=bind,source=/a,target=/b/../c,options=bind:ro',
    { type: 'bind', source: '/a', destination: '/c', options: ['bind', 'ro'] },
  ],
  ['type=tmpfs,dst=/t,options=size=1m', { type: 'tmpfs', source: 'tmpfs', destination: '/t', options: ['size=1m'] }],
])('mount %s is read', (text, mount) => {
  expect(parseMount(text)).toEqual(mount)
})

test.each([
  '',
  'src=/a',
  'src=a,dst=/b',
  'src=/a,dst=b',
  'src=/a,dst=/',
  'src=/a,src=/b,dst=/c',
  'foo=1,dst=/b',
  'constructor=1',
  'type=,dst=/b',
])('mount %j is refused', (text) => {
  expect(() => parseMount(text)).toThrow('Cannot use mount')
})
