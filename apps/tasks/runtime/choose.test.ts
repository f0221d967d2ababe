import { expect, test } from 'vitest'
import { chooseRuntime, findConmon, type Host } from './choose.ts'

function host(installed: readonly string[], left = ''): Host {
  const paths = new Set(installed)
  return { find: (name) => [name, `/usr/bin/${name}`].find((path) => paths.has(path)), leftControllers: () => left }
}

test('crun is preferred where it works', () => {
  expect(chooseRuntime('auto', host(['/usr/bin/crun', '/usr/bin/runc'])).binary).toBe('/usr/bin/crun')
})

test('runc is taken on a hybrid host that crun refuses', () => {
  const choice = chooseRuntime('auto', host(['/usr/bin/crun', '/usr/bin/runc'], 'hugetlb'))

  expect(choice.binary).toBe('/usr/bin/runc')
  expect(choice.reason).toContain('hugetlb')
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
