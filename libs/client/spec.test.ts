import type { ImageDefaults } from '@gantry/model/manifest'
import { expect, test } from 'vitest'
import { packJson } from './any.ts'
import { parseMount } from './mount-option.ts'
import { buildSpec, execProcess, mergeEnv } from './spec.ts'
import type { SpecOptions } from './spec-options.ts'
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
    host: { cpuCount: 2, devices: () => [], devicesAt: () => [], capabilities: () => ['CAP_SYS_ADMIN'] },
  })
}

test('a container runs what the image says, confined', () => {
  const { process, linux, root, hostname } = spec()

  expect(process).toMatchObject({
    args: ['/bin/sh'],
    cwd: '/',
    env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    noNewPrivileges: true,
    rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024n, soft: 1024n }],
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

test('an image mounts nothing, and sets no property of systemd (CVE-2022-23648, CVE-2024-3154)', () => {
  const labels = { 'org.systemd.property.ExecStopPost': "['/bin/sh']" }

  expect(spec({}, { volumes: ['/../../etc', '/proc'], labels })).toEqual(spec())
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
  expect(made.mounts.at(-1)).toEqual({
    ...{ type: 'bind', source: '/data', destination: '/data' },
    options: ['rbind', 'ro', 'rprivate'],
  })
})

test('limits end up where the runtime looks for them, an endless one to the last digit', () => {
  const { linux, process } = spec({
    ...{ cpus: 1.5, cpuShares: 512, cpuset: '0-1', memory: 100n, memorySwap: -1n, pidsLimit: 7 },
    rlimits: [{ name: 'core', soft: 0n, hard: -1n }],
  })

  expect(linux).toMatchObject({
    resources: {
      cpu: { shares: 512, quota: 150_000, period: 100_000, cpus: '0-1' },
      memory: { limit: 100, swap: -1 },
      pids: { limit: 7 },
    },
  })
  const text = Buffer.from(packJson('Process', process).value).toString()
  expect(text).toContain('{"type":"RLIMIT_CORE","soft":0,"hard":18446744073709551615}')
})

test.each<[string, SpecOptions, string[]]>([
  ['none', { capDrop: ['ALL'] }, []],
  ['one', { capDrop: ['all'], capAdd: ['chown'] }, ['CAP_CHOWN']],
  ['all but one', { capAdd: ['ALL'], capDrop: ['CAP_SYS_ADMIN'] }, []],
])('capabilities: %s', (_, options, expected) => {
  expect(spec(options).process.capabilities).toMatchObject({ effective: expected, bounding: expected })
})

test('what a profile of our own allows follows the capabilities', () => {
  const rules = (options: SpecOptions) => JSON.stringify(spec(options).linux)

  expect(rules({})).not.toContain('"umount2"')
  expect(rules({ capAdd: ['SYS_ADMIN'] })).toContain('"umount2"')
  expect(rules({ privileged: true })).not.toContain('seccomp')
  expect(rules({ seccomp: 'unconfined' })).not.toContain('seccomp')
})

test("a profile in docker's form is resolved for this container", () => {
  const seccomp = JSON.stringify({
    defaultAction: 'SCMP_ACT_ERRNO',
    archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] }],
    syscalls: [
      { names: ['read'], action: 'SCMP_ACT_ALLOW', comment: 'always' },
      { names: ['mount'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] } },
      { names: ['clone3'], action: 'SCMP_ACT_ALLOW', excludes: { caps: ['CAP_CHOWN'] } },
      { names: ['usr26'], action: 'SCMP_ACT_ALLOW', includes: { arches: ['arm'] } },
    ],
  })

  expect(spec({ seccomp }).linux).toMatchObject({
    seccomp: {
      defaultAction: 'SCMP_ACT_ERRNO',
      architectures: expect.any(Array),
      syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW' }],
    },
  })
})

test.each<[string, SpecOptions]>([
  ['more CPUs than there are', { cpus: 3 }],
  ['a CPU that is not there', { cpuset: '0-2' }],
  ['CPUs in disorder', { cpuset: '1-0' }],
  ['too few shares', { cpuShares: 1 }],
  ['swap without memory', { memorySwap: 1n }],
  ['less of both than of memory', { memory: 10n, memorySwap: 9n }],
  ['no processes at all', { pidsLimit: 0 }],
  ['a limit that is none', { rlimits: [{ name: 'files', soft: 1n, hard: 1n }] }],
  ['a soft limit above the hard one', { rlimits: [{ name: 'core', soft: 2n, hard: 1n }] }],
  ['a capability that is none', { capAdd: ['CAP_EVERYTHING'] }],
  ['a profile that is none', { seccomp: '{' }],
  ['a profile without a default', { seccomp: '{"syscalls":[]}' }],
  ['a setting of the whole host', { sysctls: { 'kernel.core_pattern': 'x' } }],
  ['a setting behind a plus (CVE-2022-0811)', { sysctls: { 'kernel.shm_rmid_forced': '1+kernel.core_pattern=|/x' } }],
  ["a setting of the host's network", { network: 'host', sysctls: { 'net.ipv4.ip_forward': '1' } }],
  ['a hostname of its own in the namespace of the host', { uts: 'host', hostname: 'box' }],
  ['a hostname with a space', { hostname: 'a b' }],
  ['a device that is not there', { devices: [{ source: '/dev/nope' }] }],
  ['a device with odd access', { devices: [{ source: '/dev/null', access: 'rr' }] }],
  ['a namespace at no place', { network: { path: 'x' } }],
  ['a hook that is not absolute', { hooks: { poststop: [{ path: 'x' }] } }],
  ['ids without root', { userns: { uids: [{ container: 1, host: 1000, size: 1 }], gids: [] } }],
  ['a hidden path that is relative', { maskedPaths: ['x'] }],
])('%s: refused', (_, options) => {
  expect(() => spec(options)).toThrow(/^(Cannot|There is no)/)
})

test("the host's network comes with the host's names", () => {
  const made = spec({ network: 'host' })

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
