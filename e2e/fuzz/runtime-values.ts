/** Mounts, specifications and resources: what a node is asked to do to its host. */
import fc from 'fast-check'
import { type Ground, type MountValue, mostly, oneOf, words } from './values.ts'

/** Mounts of the test's own ground, of a kernel's invention or of nothing. None that would change what others have mounted. */
export function mountValue({ ground, canary, nowhere }: Ground): fc.Arbitrary<MountValue> {
  const long = 'x'.repeat(5000)
  const flags = words('ro rw bind rbind nosuid noexec rshared private loop size=1m size=-1 mode=777', '', long)
  const data = words(
    `lowerdir=${ground}/a:${ground}/b upperdir=${ground}/u workdir=${ground}/w lowerdir= lowerdir=a:b lowerdir=${nowhere} uidmap=0:0:1 \
gidmap=0:0:1 uidmap=x X-containerd.mkdir.path=${ground}/new X-containerd.mkdir.path=${canary}/new:777 \
X-containerd.mkfs.size=1MiB X-containerd.mkfs.size=-1 X-containerd.mkfs.fs=ext4 X-containerd.x index=off`,
    ...['\0', 'lowerdir={{ overlay 0 1 }}'],
  )
  return fc.record({
    type: words(
      'bind bind overlay tmpfs format/bind format/overlay mkdir/bind mkdir/overlay format/mkdir/overlay mkfs/loop mkfs/ext4 loop ext4 nosuchfs / format/',
      ...['', long, '\0'],
    ),
    source: words(
      `${ground}/a ${ground}/b ${ground}/file ${ground}/fifo ${ground}/image ${nowhere} overlay tmpfs {{`,
      ...['', '\0', '{{ mount 0 }}', '{{ source 0 }}', '{{ mount 99 }}', '{{ mount -1 }}'],
    ),
    target: words(
      `sub / .. ${canary} ${'../'.repeat(16)}${canary.slice(1)} a/../../..`,
      ...['', '', '', '', '\0', '{{ mount 0 }}'],
    ),
    options: fc.array(mostly(flags, data, 1), { maxLength: 5 }),
  })
}

/** Specifications: nearly right ones, and what is none. Where the container's cgroup is and which programs hooks run stays. */
export function specText(parts: Ground): fc.Arbitrary<string> {
  const changed = fc
    .uniqueArray(fc.constantFrom(...Object.keys(CHANGES)), { maxLength: 3 })
    .chain((names) =>
      fc.tuple(...names.map((name) => fc.tuple(fc.constant(name), fc.constantFrom(...(CHANGES[name] ?? []))))),
    )
    .map((changes) => changes.reduce((spec, [path, value]) => withValue(spec, path, value), JSON.parse(parts.spec)))
    .map((spec) => JSON.stringify(spec))
  const none = words(
    '{} null [] "x" { {"process":{}} {"process":null,"linux":7} {"ociVersion":"1.0.2","process":[]} {"linux":{"resources":[]}} {"__proto__":{"process":1}}',
    ...['', '\0', '['.repeat(20_000), '{"a":'.repeat(5000)],
  )
  return mostly(changed, none, 6)
}

const LONG = 'x'.repeat(5000)
const ODD = [null, -1, 1.5, 1e300, '', 'x', [], {}, [null], [[]], true, 2 ** 32, '../../..', '\0', LONG]
const CHANGES: Readonly<Record<string, readonly unknown[]>> = {
  'process.args': [
    ['true'],
    ['sleep', '0.05'],
    ['nosuch'],
    [],
    [''],
    'true',
    null,
    ['true\0'],
    ['true', LONG.repeat(40)],
  ],
  'process.cwd': ['/', '/nosuch', '', '..', '/proc/self/fd/7', 7],
  'process.env': [[], ['A=b'], ['=', 'x', '\0', 'A=\nB'], ...ODD],
  'process.user': [{ uid: -1 }, { uid: 2 ** 32 }, { uid: 1000, gid: 1000, additionalGids: [5, -5] }, ...ODD],
  'process.capabilities': [{}, { bounding: ['CAP_NOSUCH', 7] }, ...ODD],
  'process.rlimits': [[{ type: 'RLIMIT_NOFILE', soft: 5, hard: 1 }], [{ type: 'x' }], ...ODD],
  'process.terminal': [true, 'x', 7],
  'process.oomScoreAdj': [-1000, 1000, 5000, 'x'],
  hostname: ['h', '', LONG, 7],
  annotations: [{}, { a: 'b' }, { a: 7 }, ...ODD],
  ociVersion: ['', '9.9.9', 7, null],
  'root.readonly': [true, 'x', null],
  'linux.maskedPaths': [[], ['/nosuch', '..', ''], ...ODD],
  'linux.readonlyPaths': [[], ['/nosuch', '..', ''], ...ODD],
  'linux.sysctl': [{}, { 'net.ipv4.ip_forward': '1' }, { 'kernel.domainname+x': '1' }, { x: 7 }, ...ODD],
  'linux.uidMappings': [[], [{ containerID: -1 }], ...ODD],
  'linux.rootfsPropagation': ['private', 'x', 7],
  'linux.resources.memory': [{}, { limit: -1 }, { limit: 2 ** 40 }, { limit: -7 }, { limit: 1 }, ...ODD],
  'linux.resources.cpu': [{}, { shares: 2 }, { quota: -5, period: 0 }, { cpus: '99-1' }, ...ODD],
  'linux.resources.pids': [{ limit: 100 }, { limit: -1 }, { limit: 'x' }, ...ODD],
  'linux.seccomp': [null, { defaultAction: 'x' }, ...ODD],
  'linux.devices': [[], [{ path: '/dev/n', type: 'c', major: 1, minor: 3 }], [{ path: '../x', type: 'z' }], ...ODD],
}

function withValue(spec: Record<string, unknown>, path: string, value: unknown): Record<string, unknown> {
  const [first = '', ...rest] = path.split('.')
  if (rest.length === 0) return { ...spec, [first]: value }
  const inner = spec[first]
  const record = typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {}
  return { ...spec, [first]: withValue(record, rest.join('.'), value) }
}

/** What an exec may be. */
export function processText({ spec }: Ground): fc.Arbitrary<string> {
  const { process } = JSON.parse(spec)
  const texts = [{ args: ['true'] }, { args: ['sleep', '0.2'] }, { args: ['nosuch'] }, { args: [] }, { cwd: '/nosuch' }]
  return mostly(
    oneOf(...[...texts, { user: { uid: -1 } }].map((change) => JSON.stringify({ ...process, ...change }))),
    words('{} null [] { {"args":[7]}', '', '['.repeat(20_000)),
    2,
  )
}

export const resourcesText = words(
  '{} {"memory":{"limit":1048576000}} {"memory":{"limit":-5}} {"memory":{"limit":1}} {"cpu":{"shares":2}} {"cpu":[]} {"pids":{"limit":1e300}} {"unified":{"../x":"1"}} null { [] 7',
  '',
)
