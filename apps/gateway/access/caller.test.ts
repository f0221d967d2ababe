import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createAuthority } from '@gantry/rpc/certificates.fixture'
import { expect, test } from 'vitest'
import { certificateCaller, urisOf } from './caller.ts'

test('a certificate is known by its common name, its URIs and its fingerprint', async () => {
  await using authority = await createAuthority()
  const names = ['URI:spiffe://example/ci', 'DNS:host.example', 'URI:https://example/a']
  const { cert } = await authority.sign('client', { cn: 'ci, O=x', names })
  const certificate = new X509Certificate(readFileSync(cert))

  expect(certificateCaller(certificate)).toEqual({
    kind: 'remote',
    name: 'certificate "ci, O=x"',
    cn: 'ci, O=x',
    uris: ['spiffe://example/ci', 'https://example/a'],
    fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    untilMs: certificate.validToDate.getTime(),
  })
}, 30_000)

test.each([
  ['URI:spiffe://a/b', ['spiffe://a/b']],
  ['DNS:a, URI:u:1, IP Address:127.0.0.1, URI:u:2', ['u:1', 'u:2']],
  ['DNS:"a, URI:forged"', []],
  ['DNS:"a\\", URI:forged"', []],
  ['URI:"a, URI:b"', ['a, URI:b']],
  ['URI:a"b', []],
  ['', []],
])('the URIs of %j', (text, uris) => {
  expect(urisOf(text)).toEqual(uris)
})
