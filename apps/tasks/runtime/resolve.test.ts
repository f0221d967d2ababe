import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import { OptionsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { expect, test } from 'vitest'
import { type ResolveParts, resolveRuntime } from './resolve.ts'

const parts: ResolveParts = {
  configured: 'auto',
  state: '/run/gantry',
  host: {
    find: (name) =>
      ({ runc: '/usr/sbin/runc', '/opt/other': '/opt/other', 'containerd-shim-x-v1': '/usr/bin/containerd-shim-x-v1' })[
        name
      ],
    leftControllers: () => '',
    canHide: () => false,
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

test('a shim that runs already is joined at its address', () => {
  const at = (address: string, version = 0) => resolveRuntime(parts, { ...wish, address, version }).shim

  expect(at('ttrpc+unix:///run/s/1')).toEqual({
    binary: '',
    joins: { address: 'unix:///run/s/1', version: 3, protocol: 'ttrpc' },
    options: null,
  })
  expect(at('ttrpc+unix:///run/s/1', 2)?.joins?.version).toBe(2)
  expect(() => at('/run/s/1')).toThrow('is not like "ttrpc+unix:///path"')
  expect(at('grpc+unix:///run/s/1')?.joins?.protocol).toBe('grpc')
  expect(() => at('grpc+unix:///run/s/1', 2)).toThrow('version 2 over grpc is not spoken here')
  expect(() => at('grpc+shim')).toThrow('over grpc is not spoken here') // an abstract socket
  expect(() => at('ttrpc+vsock://2:10')).toThrow('Cannot reach a shim')
})

test('without options the built-in runtime is used, its state parted by namespace', () => {
  expect(resolveRuntime(parts, wish)).toEqual({
    ...{ binary: '/usr/sbin/runc', root: '/run/gantry/runc/default' },
    ...{ systemdCgroup: false, noPivot: false, noNewKeyring: false, ioUid: 0, ioGid: 0, shim: null },
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

test('options that cannot be read are refused', () => {
  const broken = create(AnySchema, { typeUrl: 'containerd.runc.v1.Options', value: Buffer.from([0xff]) })

  expect(() => resolveRuntime(parts, { ...wish, options: broken })).toThrow('it is no containerd.runc.v1.Options')
})

test.each([
  ['io.containerd.runsc.v1', '', 'binary not installed "containerd-shim-runsc-v1"'],
  ['nonsense', '', 'neither like'],
  ['io.containerd.runc.v2', 'some/path', 'a path must be absolute'],
  ['io.containerd.runc.v2', '/opt/containerd-shim-kata-v2', 'binary not installed'],
])('runtime %s with path "%s" is refused', (name, path, reason) => {
  expect(() => resolveRuntime(parts, { ...wish, name, path })).toThrow(reason)
})

test('another name, or a path, means a shim, which gets the options as they are', () => {
  const other = create(AnySchema, { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from([8, 1]) })

  expect(resolveRuntime(parts, { ...wish, name: 'io.containerd.x.v1', containerOptions: other }).shim).toEqual({
    binary: '/usr/bin/containerd-shim-x-v1',
    options: { typeUrl: 'runtimeoptions.v1.Options', value: 'CAE=' },
  })
  expect(resolveRuntime(parts, { ...wish, path: '/opt/other' }).shim).toEqual({ binary: '/opt/other', options: null })
})

test('a program that is not installed is named', () => {
  expect(() => resolveRuntime(parts, { ...wish, options: options({ binaryName: 'nope' }) })).toThrow('"nope" is not')
})
