import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind, unimplemented } from '@gantry/rpc/service'
import { expect, test } from 'vitest'
import { createImages } from './images.ts'

const TARGET = { mediaType: MEDIA.ociManifest, digest: sha256Of('manifest'), size: 8n }

test('an image that is deleted between create and update is created again, as in containerd', async () => {
  const root = await mkdtemp(join(tmpdir(), 'gantry-images-'))
  await using stack = new AsyncDisposableStack()
  stack.defer(() => rm(root, { recursive: true }))
  const no = unimplemented('this')
  const calls: string[] = []
  const service = bind(Images, {
    ...{ get: no, list: no, delete: no },
    async create({ image }) {
      if (calls.push('create') === 1) throw new Fault('already-exists', 'it is there')
      return { image: image ?? {} }
    },
    async update() {
      calls.push('update')
      throw new Fault('not-found', 'it is gone')
    },
  })
  stack.use(
    await listen({
      address: join(root, 's'),
      bindings: [service],
      log: { error: () => undefined, debug: () => undefined },
    }),
  )
  const images = createImages(stack.use(connect(join(root, 's'))))

  const holder = { namespace: parseNamespace('default'), lease: undefined }
  await images.put(holder, { name: 'a', labels: {}, target: TARGET }, AbortSignal.timeout(10_000))

  expect(calls).toEqual(['create', 'update', 'create'])
})
