import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  type Container,
  ContainerSchema,
  GetContainerRequestSchema,
  GetContainerResponseSchema,
  ListContainersRequestSchema,
  ListContainersResponseSchema,
} from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { parseNamespace } from '@gantry/model/namespace'
import { encode } from '@gantry/rpc/message'
import { expect, test } from 'vitest'
import { openTestStore } from '../test-store.ts'
import { createContainers } from './containers.ts'
import { containersService } from './containers-service.ts'

const namespace = parseNamespace('a')
const binary = (container: Container) => Buffer.from(toBinary(ContainerSchema, container)).toString('hex')
const call = { namespace, lease: undefined, header: () => undefined, signal: AbortSignal.timeout(10_000) }

test('a list without filters is made of the records as they are stored', async () => {
  await using store = openTestStore()
  const containers = createContainers(store)
  const service = containersService(containers)
  const spec = { typeUrl: 'types.containerd.io/x', value: new Uint8Array(300) }
  for (const id of ['two', 'one'])
    await containers.create(namespace, create(ContainerSchema, { id, runtime: { name: 'r' }, spec }))
  await containers.create(parseNamespace('b'), create(ContainerSchema, { id: 'other', runtime: { name: 'r' }, spec }))

  const answer = await service.list(create(ListContainersRequestSchema), call)

  const listed = fromBinary(ListContainersResponseSchema, encode(ListContainersResponseSchema, answer))
  expect(listed.containers.map(binary)).toEqual(containers.list(namespace, []).map(binary))
  expect(listed.containers.map(({ id }) => id)).toEqual(['one', 'two'])
})

test('a container is answered as it is stored', async () => {
  await using store = openTestStore()
  const containers = createContainers(store)
  const service = containersService(containers)
  const spec = { typeUrl: 'types.containerd.io/x', value: new Uint8Array(300) }
  const created = await containers.create(
    namespace,
    create(ContainerSchema, { id: 'one', runtime: { name: 'r' }, spec }),
  )

  const answer = await service.get(create(GetContainerRequestSchema, { id: 'one' }), call)

  const { container } = fromBinary(GetContainerResponseSchema, encode(GetContainerResponseSchema, answer))
  expect(container && binary(container)).toBe(binary(created))
})
