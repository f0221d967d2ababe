import { describe, expect, test } from 'vitest'
import { chooseRuntime, findConmon, type Host } from './choose.ts'

function host(installed: readonly string[], left = '', hides = false): Host {
  const paths = new Set(installed)
  const find = (name: string) => [name, `/usr/bin/${name}`].find((path) => paths.has(path))
  return { find, leftControllers: () => left, canHide: () => hides }
}

function specOf({
  mounts = [],
  ...rest
}: {
  readonly mounts?: readonly object[]
  readonly root?: object
  readonly hooks?: object
}): Uint8Array {
  return Buffer.from(
    JSON.stringify({ mounts: [{ destination: '/dev', type: 'tmpfs', source: 'tmpfs' }, ...mounts], ...rest }),
  )
}

test('crun is preferred where it works', () => {
  expect(chooseRuntime('auto', host(['/usr/bin/crun', '/usr/bin/runc'])).binary).toBe('/usr/bin/crun')
})

test('runc is taken on a hybrid host that crun refuses', () => {
  const choice = chooseRuntime('auto', host(['/usr/bin/crun', '/usr/bin/runc'], 'hugetlb'))

  expect(choice.binary).toBe('/usr/bin/runc')
  expect(choice.reason).toContain('hugetlb')
})

describe('on a hybrid host of which crun is not shown all', () => {
  const both = ['/usr/bin/crun', '/usr/bin/runc']
  const choose = (spec: Parameters<typeof specOf>[0], installed = both) =>
    chooseRuntime('auto', host(installed, 'hugetlb', true), specOf(spec)).binary

  test('crun runs containers', () => {
    expect(choose({ mounts: [{ destination: '/sys', type: 'sysfs', source: 'sysfs' }], hooks: {} })).toBe(both[0])
    expect(choose({ root: { path: '/var/lib/x' }, mounts: [{ source: '/sys/fs/cgroup2' }] })).toBe(both[0])
    expect(chooseRuntime('auto', host(both, 'hugetlb', true)).reason).toContain('hugetlb')
  })

  test.each([
    { mounts: [{ destination: '/x', type: 'bind', source: '/sys' }] },
    { mounts: [{ destination: '/x', type: 'bind', source: '/' }] },
    { mounts: [{ destination: '/x', type: 'bind', source: '/sys/fs/cgroup/unified/a' }] },
    { root: { path: '/' } },
    { hooks: { prestart: [{ path: '/bin/true' }] } },
  ])('runc runs one that sees or changes the host: %j', (spec) => {
    expect(choose(spec)).toBe(both[1])
    expect(choose(spec, ['/usr/bin/crun'])).toBe(both[0])
  })
})

test.each(['/proc', '/proc/sys', '/x/../proc', 'proc'])('a mount at %s is judged by runc', (destination) => {
  const spec = (type: string) => specOf({ mounts: [{ destination, type, source: '/x' }] })
  const both = host(['/usr/bin/crun', '/usr/bin/runc'])

  expect(chooseRuntime('auto', both, spec('bind')).binary).toBe('/usr/bin/runc')
  expect(chooseRuntime('auto', both, spec('proc')).binary).toBe('/usr/bin/crun')
})

test('a container without /dev is left to runc', () => {
  const both = host(['/usr/bin/crun', '/usr/bin/runc'])

  expect(chooseRuntime('auto', both, Buffer.from('{}')).binary).toBe('/usr/bin/runc')
  expect(chooseRuntime('auto', both, Buffer.from('no json')).binary).toBe('/usr/bin/crun')
})

test('what is missing is named with the way to get it', () => {
  expect(() => chooseRuntime('auto', host([]))).toThrow('install crun or runc')
  expect(() => chooseRuntime('auto', host(['/usr/bin/crun'], 'hugetlb'))).toThrow('install runc')
  expect(() => chooseRuntime('/opt/x', host([]))).toThrow('/opt/x is no program')
  expect(() => findConmon('conmon', host([]))).toThrow('install conmon')
})

test('a configured runtime is taken as it is', () => {
  expect(chooseRuntime('/opt/x', host(['/opt/x'], 'hugetlb')).binary).toBe('/opt/x')
})
