import { create } from '@bufbuild/protobuf'
import {
  PluginInfoRequestSchema,
  PluginsRequestSchema,
} from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import type { CallContext } from '@gantry/rpc/context'
import { expect, test } from 'vitest'
import { introspectionOf, type Plugin } from './plugins.ts'

const overlayfs: Plugin = { type: 'io.containerd.snapshotter.v1', id: 'overlayfs', exports: { root: '/r' } }
const native: Plugin = { type: 'io.containerd.snapshotter.v1', id: 'native' }
const content: Plugin = { type: 'io.containerd.content.v1', id: 'content' }
const service = introspectionOf([overlayfs, native, content])
const context = {} as CallContext
const ask = async (...filters: string[]) =>
  (await service.plugins(create(PluginsRequestSchema, { filters }), context)).plugins

test('plugins are found by type and id, and all of them without a filter', async () => {
  expect(await ask()).toEqual([overlayfs, native, content])
  expect(await ask('type==io.containerd.snapshotter.v1, id==overlayfs')).toEqual([overlayfs])
  expect(await ask('id==native', 'type==io.containerd.content.v1')).toEqual([native, content])
  expect(await ask('type==nothing')).toEqual([])
})

test('an unknown plugin is not found', async () => {
  const request = create(PluginInfoRequestSchema, { type: 'io.containerd.gc.v1', id: 'scheduler' })

  await expect(service.pluginInfo(request, context)).rejects.toMatchObject({ code: 'not-found' })
})
