import { create } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import {
  ContainerSchema,
  type Containers as ContainersDesc,
  GetContainerResponseSchema,
  ListContainersResponseSchema,
} from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { encoded } from '@gantry/rpc/message'
import type { Implementation } from '@gantry/rpc/service'
import type { Containers } from './containers.ts'

const CONTAINER = GetContainerResponseSchema.field.container.number
const CONTAINERS = ListContainersResponseSchema.field.containers.number

/** containerd.services.containers.v1.Containers. */
export function containersService(containers: Containers): Implementation<typeof ContainersDesc> {
  return {
    async get({ id }, { namespace }) {
      return encoded(GetContainerResponseSchema, repeated(CONTAINER, [containers.getBytes(namespace, id)]))
    },

    async list({ filters }, { namespace }) {
      if (filters.length === 0) {
        const bytes = repeated(CONTAINERS, containers.listBytes(namespace))
        return encoded(ListContainersResponseSchema, bytes)
      }
      return { containers: containers.list(namespace, filters) }
    },

    async *listStream({ filters }, { namespace }) {
      for (const container of containers.list(namespace, filters)) yield { container }
    },

    async create({ container = create(ContainerSchema) }, { namespace }) {
      return { container: await containers.create(namespace, container) }
    },

    async update({ container = create(ContainerSchema), updateMask }, { namespace }) {
      return { container: await containers.update(namespace, container, updateMask?.paths ?? []) }
    },

    async delete({ id }, { namespace }) {
      await containers.delete(namespace, id)
      return {}
    },
  }
}

/** A message with nothing but one field of messages, from the bytes of those. */
function repeated(field: number, messages: readonly Uint8Array[]): Uint8Array {
  const tag = new BinaryWriter().tag(field, WireType.LengthDelimited).finish()
  const size = messages.reduce((sum, { length }) => sum + tag.length + varintSize(length) + length, 0)
  const all = Buffer.allocUnsafe(size)
  let at = 0
  for (const message of messages) {
    all.set(tag, at)
    at = writeVarint(all, message.length, at + tag.length)
    all.set(message, at)
    at += message.length
  }
  return all
}

/** Seven bits a byte, the lowest first; all but the last have the eighth set. Returns the place behind it. */
function writeVarint(to: Uint8Array, value: number, at: number): number {
  let [rest, end] = [value, at]
  for (; rest > 0x7f; rest >>>= 7) to[end++] = (rest & 0x7f) | 0x80
  to[end] = rest
  return end + 1
}

function varintSize(value: number): number {
  return Math.max(1, Math.ceil((32 - Math.clz32(value)) / 7))
}
