import { create } from '@bufbuild/protobuf'
import { ResourceSchema } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { expect, test } from 'vitest'
import { parseResource, randomLeaseId } from './lease.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

test('a made up id is a number of nanoseconds and four characters', () => {
  expect(randomLeaseId()).toMatch(/^\d{1,9}-[A-Za-z0-9_-]{4}$/)
})

test.each([
  ['content', DIGEST],
  ['ingests', 'any text / at all'],
  ['images', 'docker.io/library/box:latest'],
  ['snapshots/overlayfs', 'extract-1 sha256:b'],
])('a lease can hold %s', (type, id) => {
  expect(parseResource(create(ResourceSchema, { type, id }))).toEqual({ type, id })
})

test.each([
  ['content', 'no-digest', 'invalid-argument'],
  ['content/x', DIGEST, 'invalid-argument'],
  ['snapshots', 'key', 'invalid-argument'],
  ['snapshots/a/b', 'key', 'invalid-argument'],
  ['images', '', 'invalid-argument'],
  ['volumes', 'x', 'unimplemented'],
  ['', 'x', 'unimplemented'],
  ['toString', 'x', 'unimplemented'],
])('a lease cannot hold %s %s', (type, id, code) => {
  expect(() => parseResource(create(ResourceSchema, { type, id }))).toThrow(expect.objectContaining({ code }))
})
