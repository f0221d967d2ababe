import { expect, test } from 'vitest'
import { normalizeReference, parseReference, repositoryOf } from './reference.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

test.each([
  ['docker.io/library/busybox:latest', { host: 'docker.io', path: 'library/busybox', tag: 'latest' }],
  ['localhost:5000/a/b__c-d.e', { host: 'localhost:5000', path: 'a/b__c-d.e' }],
  [`quay.io/x:1@${DIGEST}`, { host: 'quay.io', path: 'x', tag: '1', digest: DIGEST }],
  [`[::1]:5000/x@${DIGEST}`, { host: '[::1]:5000', path: 'x', digest: DIGEST }],
])('%s is taken apart', (text, parts) => {
  expect(parseReference(text)).toEqual({ ...parts, text })
})

test.each([
  '',
  'busybox',
  '/busybox',
  'https://docker.io/x',
  'docker.io/',
  'docker.io/../x',
  'docker.io/a//b',
  'docker.io/A',
  'docker.io/x:',
  'docker.io/x:a/b',
  'docker.io/x@sha256:../../etc',
  'docker.io/x?y=1',
  'docker.io/x y',
  'user@host/x',
  'docker.io:port/x',
  `docker.io/${'a/'.repeat(300)}a`,
  'docker.io/x\n',
])('%j is refused', (text) => {
  expect(() => parseReference(text)).toThrow('Cannot use')
})

test.each([
  ['busybox', 'docker.io/library/busybox:latest'],
  ['busybox:1.36', 'docker.io/library/busybox:1.36'],
  ['me/app', 'docker.io/me/app:latest'],
  ['index.docker.io/busybox', 'docker.io/library/busybox:latest'],
  ['localhost/app', 'localhost/app:latest'],
  ['127.0.0.1:5000/app:1', '127.0.0.1:5000/app:1'],
  [`busybox@${DIGEST}`, `docker.io/library/busybox@${DIGEST}`],
  [`quay.io/a/b:1@${DIGEST}`, `quay.io/a/b:1@${DIGEST}`],
])('%s is completed to %s', (short, full) => {
  expect(normalizeReference(short).text).toBe(full)
})

test('a repository is a reference without tag and digest', () => {
  expect(repositoryOf(parseReference('localhost:5000/a/b:1'))).toBe('localhost:5000/a/b')
})
