import { expect, test } from 'vitest'
import { holesOf, parseVersion } from './versions.ts'

test('a version is read from what the runtime prints', () => {
  expect(parseVersion('runc version 1.1.5+ds1\ncommit: x\n')).toEqual({ name: 'runc', version: '1.1.5' })
  expect(parseVersion('crun version 1.8.1\n')).toEqual({ name: 'crun', version: '1.8.1' })
  expect(parseVersion('nope')).toBeUndefined()
})

test.each([
  ['runc', '1.1.5', ['CVE-2024-21626', 'CVE-2025-31133', 'CVE-2025-52565', 'CVE-2025-52881']],
  ['runc', '1.1.12', ['CVE-2025-31133', 'CVE-2025-52565', 'CVE-2025-52881']],
  ['runc', '1.2.8', []],
  ['runc', '1.3.2', ['CVE-2025-31133', 'CVE-2025-52565', 'CVE-2025-52881']],
  ['runc', '1.4.0', []],
  ['crun', '1.4.3', ['CVE-2022-27650']],
  ['crun', '1.25', []],
  ['other', '0.1', []],
])('%s %s is known for %j', (name, version, holes) => {
  expect(holesOf(name, version)).toEqual(holes)
})
