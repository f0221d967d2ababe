import { create, toBinary } from '@bufbuild/protobuf'
import { BootstrapResultSchema } from '@gantry/api/containerd/runtime/bootstrap/v1/bootstrap_pb'
import { expect, test } from 'vitest'
import { parseBootstrap, socketPathOf } from './bootstrap.ts'

const ADDRESS = 'unix:///run/s/1'
const message = toBinary(BootstrapResultSchema, create(BootstrapResultSchema, { version: 3, address: ADDRESS }))

test.each([
  ['an address', Buffer.from(`${ADDRESS}\n`), 2],
  ['JSON', Buffer.from(JSON.stringify({ version: 3, address: ADDRESS, protocol: 'ttrpc' })), 3],
  ['a message', Buffer.from(message), 3],
])('a shim may answer with %s', (_, output, version) => {
  expect(parseBootstrap(output)).toEqual({ version, address: ADDRESS, protocol: 'ttrpc' })
})

test.each([[''], ['\u0001\u0002rubbish']])('%j is no answer', (output) => {
  expect(() => parseBootstrap(Buffer.from(output))).toThrow('something else than an address')
})

test('an address is a socket in the file system or an abstract one', () => {
  expect(socketPathOf(ADDRESS)).toBe('/run/s/1')
  expect(socketPathOf('/run/s/1')).toBe('/run/s/1')
  expect(socketPathOf('shim')).toBe('\0shim')
  expect(() => socketPathOf('vsock://2:10')).toThrow('Cannot reach')
})
