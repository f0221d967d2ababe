import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { Fault } from '@gantry/model/fault'
import { clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind, type Implementation, unimplemented } from '@gantry/rpc/service'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bundleOf } from './bundle.ts'
import { createRootfsMounts, leaveBundle, type RootfsMounts } from './rootfs.ts'
import type { TasksParts } from './tasks.ts'

const bind1 = { type: 'bind', source: '/a', target: '', options: ['ro'] }
const image = { type: 'loop', source: '/image', target: '', options: [] }
const ready = { type: 'ext4', source: '/dev/loop9', target: '', options: [] }

let folder: string
let stack: AsyncDisposableStack
let asked: unknown[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-rootfs-'))
  stack = new AsyncDisposableStack()
  asked = []
})
afterEach(async () => {
  await stack.disposeAsync()
  rmSync(folder, { recursive: true })
})

/** A `snapshots` that is played. */
async function playing(activate: Implementation<typeof Mounts>['activate']): Promise<RootfsMounts> {
  const no = unimplemented('this')
  const mounts: Implementation<typeof Mounts> = {
    async activate(request, context) {
      const { name, labels } = request
      asked.push({ name, labels, types: request.mounts.map(({ type }) => type), namespace: context.namespace })
      return await activate(request, context)
    },
    async deactivate({ name }) {
      asked.push(`deactivate ${name}`)
      throw new Fault('not-found', 'gone')
    },
    info: async () => ({ info: { system: [ready] } }),
    update: no,
    list: no,
  }
  const address = join(folder, 's.sock')
  stack.use(await listen({ address, bindings: [bind(Mounts, mounts)], log: { error() {}, debug() {} } }))
  return createRootfsMounts(clientOf(Mounts, stack.use(connect(address))))
}

const place = () => ({ namespace: 'test', id: 'box', bundle: bundleOf(folder, 'test', 'box') })
const partsOf = (rootfs: RootfsMounts) => ({ rootfs, bundles: folder }) as unknown as TasksParts
const activation = {
  name: 'box',
  labels: { 'containerd.io/gc.bref.container': 'box' },
  types: ['bind', 'loop'],
  namespace: 'test',
}

test('plain mounts are left as they are, and nobody is asked', async () => {
  const rootfs = await playing(unimplemented('this'))

  expect(await rootfs.activate(place(), [bind1])).toEqual([bind1])
  await leaveBundle(partsOf(rootfs), place())
  expect(asked).toEqual([])
})

test('what the kernel cannot do is activated under the name of the task, and goes before the bundle', async () => {
  const rootfs = await playing(async () => ({ info: { system: [ready] } }))

  expect(await rootfs.activate(place(), [bind1, image])).toMatchObject([ready])
  await leaveBundle(partsOf(rootfs), place())
  expect(asked).toEqual([activation, 'deactivate box'])
  expect(existsSync(place().bundle.dir)).toBe(false)
})

test.each([
  ['there is nothing to do for', 'unimplemented', [bind1, image]],
  ['a client has activated itself', 'already-exists', [ready]],
] as const)('what %s is not taken away', async (_, code, mounts) => {
  const rootfs = await playing(async () => {
    throw new Fault(code, 'no')
  })

  expect(await rootfs.activate(place(), [bind1, image])).toMatchObject(mounts)
  await rootfs.deactivate(place())
  expect(asked).toEqual([activation])
})

test('a bundle stays until what was activated for it is gone', async () => {
  const rootfs = await playing(async () => ({ info: { system: [ready] } }))
  await rootfs.activate(place(), [image])
  const away = {
    ...rootfs,
    deactivate: async () => {
      throw new Fault('unavailable', 'Not now')
    },
  }

  await expect(leaveBundle(partsOf(away), place())).rejects.toThrow('Not now')
  expect(existsSync(place().bundle.dir)).toBe(true)
})
