import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import { OptionsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { expect, test } from 'vitest'
import { type ResolveParts, resolveRuntime } from './resolve.ts'

const parts: ResolveParts = {
  configured: 'auto',
  state: '/run/gantry',
  host: {
    find: (name) => ({ runc: '/usr/sbin/runc', '/opt/other': '/opt/other' })[name],
    leftControllers: () => '',
  },
}
const wish = {
  ...{ namespace: 'default', name: 'io.containerd.runc.v2', path: '' },
  ...{ options: undefined, containerOptions: undefined },
}

function options(init: MessageInitShape<typeof OptionsSchema>): Any {
  const value = toBinary(OptionsSchema, create(OptionsSchema, init))
  return create(AnySchema, { typeUrl: OptionsSchema.typeName, value })
}

test('without options the built-in runtime is used, its state parted by namespace', () => {
  expect(resolveRuntime(parts, wish)).toEqual({
    ...{ binary: '/usr/sbin/runc', root: '/run/gantry/runc/default' },
    ...{ systemdCgroup: false, noPivot: false, noNewKeyring: false, ioUid: 0, ioGid: 0 },
  })
})

test('the options of the request win over those of the container', () => {
  const containerOptions = options({ binaryName: '/opt/other', root: '/var/run/other', systemdCgroup: true })

  expect(resolveRuntime(parts, { ...wish, containerOptions })).toMatchObject({
    ...{ binary: '/opt/other', root: '/var/run/other/default', systemdCgroup: true },
  })
  expect(resolveRuntime(parts, { ...wish, containerOptions, options: options({ noPivotRoot: true }) })).toMatchObject({
    ...{ binary: '/usr/sbin/runc', systemdCgroup: false, noPivot: true },
  })
})

test('options of another runtime are refused', () => {
  const other = create(AnySchema, { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from([8, 1]) })

  expect(() => resolveRuntime(parts, { ...wish, options: other })).toThrow('got runtimeoptions.v1.Options')
})

test.each([
  ['io.containerd.runsc.v1', '', 'external shims are not supported yet'],
  ['io.containerd.runc.v2', 'some/path', 'a path must be absolute'],
  ['io.containerd.runc.v2', '/opt/containerd-shim-kata-v2', 'external shims are not supported yet'],
])('runtime %s with path "%s" is refused', (name, path, reason) => {
  expect(() => resolveRuntime(parts, { ...wish, name, path })).toThrow(reason)
})

test('the path of the runc shim means the runtime that is built in', () => {
  expect(resolveRuntime(parts, { ...wish, path: '/usr/bin/containerd-shim-runc-v2' }).binary).toBe('/usr/sbin/runc')
})

test('a program that is not installed is named', () => {
  expect(() => resolveRuntime(parts, { ...wish, options: options({ binaryName: 'nope' }) })).toThrow('"nope" is not')
})
