import { expect, test } from 'vitest'
import type { Caller, LocalCaller, RemoteCaller } from './caller.ts'
import { OPEN, parsePolicy } from './policy.ts'

const GROUPS = 'root:x:0:\nbuilders:x:1200:alice,bob\n'
const FINGERPRINT = 'ab'.repeat(32)

const local = (uid: number, ...groups: number[]): LocalCaller => ({
  ...{ kind: 'local', name: `uid ${uid}`, pid: 1, uid, gid: uid, groups },
})
const remote = (fields: Partial<RemoteCaller>): RemoteCaller => ({
  ...{ kind: 'remote', name: 'c', cn: undefined, uris: [], fingerprint: '00', untilMs: Number.POSITIVE_INFINITY },
  ...fields,
})
const policyOf = (text: string) => parsePolicy('policy.toml', text, GROUPS)
const rule = (who: string, access = 'write', namespaces = '["ci"]') =>
  `[[allow]]\n${who}\nnamespaces = ${namespaces}\naccess = "${access}"\n`

/** What a caller may do in a namespace: '', 'read' or 'read write'. */
function rightsIn(text: string, caller: Caller, namespace = 'ci'): string {
  const rights = policyOf(text).rightsOf(caller)
  return (['read', 'write'] as const).filter((kind) => rights.may(namespace, kind)).join(' ')
}

test.each<[string, string, Caller, string]>([
  ['a group by its name', rule('group = "builders"'), local(1000, 1200), 'read write'],
  ['a group by its number', rule('group = 1200'), local(1000, 1200), 'read write'],
  ['a primary group', rule('group = 1000'), local(1000), 'read write'],
  ['another group', rule('group = "builders"'), local(1000, 1201), ''],
  ['a common name', rule('cn = "ci"'), remote({ cn: 'ci' }), 'read write'],
  ['another common name', rule('cn = "ci"'), remote({ cn: 'cix' }), ''],
  ['a common name, where a group is meant', rule('group = "builders"'), remote({ cn: 'builders' }), ''],
  ['a URI', rule('uri = "spiffe://a/ci"'), remote({ uris: ['spiffe://b', 'spiffe://a/ci'] }), 'read write'],
  ['a fingerprint', rule(`fingerprint = "${'AB:'.repeat(31)}AB"`), remote({ fingerprint: FINGERPRINT }), 'read write'],
  ['a right to read', rule('cn = "ci"', 'read'), remote({ cn: 'ci' }), 'read'],
  ['nobody', rule('cn = "ci"'), { kind: 'unknown', name: 'nobody' }, ''],
  ['no rule', '', remote({ cn: 'ci' }), ''],
  ['root', '', local(0), 'read write'],
])('%s', (_what, text, caller, expected) => {
  expect(rightsIn(text, caller)).toBe(expected)
})

test.each([
  ['ci-*', 'ci-1', true],
  ['ci-*', 'ci', false],
  ['*-ci', 'my-ci', true],
  ['a.b', 'a.b', true],
  ['a.b', 'axb', false],
  ['a*z', 'a.b-z', true],
  ['a*z', 'xaz', false],
])('namespaces = ["%s"] and %s: %s', (glob, namespace, expected) => {
  const text = rule('cn = "ci"', 'read', `["other", "${glob}"]`)

  expect(rightsIn(text, remote({ cn: 'ci' }), namespace)).toBe(expected ? 'read' : '')
})

test('rules add up, and only * with write is everything', () => {
  const caller = remote({ cn: 'ci' })
  const both = rule('cn = "ci"', 'read', '["*"]') + rule('cn = "ci"')

  expect(rightsIn(both, caller)).toBe('read write')
  expect(rightsIn(both, caller, 'other')).toBe('read')
  expect(policyOf(both).rightsOf(caller).everything).toBe(false)
  expect(policyOf(rule('cn = "ci"', 'write', '["*"]')).rightsOf(caller).everything).toBe(true)
  expect(OPEN.rightsOf(caller).everything).toBe(true)
})

test('credentials are lent by a rule, in its namespaces', () => {
  const caller = remote({ cn: 'ci' })
  const { lends } = policyOf(
    rule('cn = "ci"', 'write', '["*-ci"]') + rule('cn = "ci"\nlend_credentials = true'),
  ).rightsOf(caller)

  expect(['ci', 'my-ci'].map(lends)).toEqual([true, false])
})

test.each([
  ['two bindings', rule('cn = "a"\nuri = "b"'), 'allow.0: must name exactly one of group, cn, uri and fingerprint'],
  ['no binding', rule(''), 'allow.0: must name exactly one'],
  ['a group that is not there', rule('group = "wheel"'), 'there is no group "wheel" in /etc/group'],
  ['a slip', rule('cm = "a"'), 'did you mean "cn"?'],
  ['a namespace that cannot be', rule('cn = "a"', 'read', '["a/b"]'), 'allow.0.namespaces.0: must be a name'],
  ['no namespace', rule('cn = "a"', 'read', '[]'), 'allow.0.namespaces'],
  ['another right', rule('cn = "a"', 'execute'), 'allow.0.access'],
  ['a cut fingerprint', rule('fingerprint = "abcd"'), 'must be the SHA-256 of a certificate'],
  ['credentials for a reader', rule('cn = "a"\nlend_credentials = true', 'read'), 'cannot lend credentials'],
  ['no TOML', '[[allow', 'policy.toml, line 1'],
])('%s is refused in one line', (_what, text, reason) => {
  expect(() => policyOf(text)).toThrow(reason)
})
