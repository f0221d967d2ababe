import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import {
  type Content,
  type Info,
  ReadContentResponseSchema,
} from '@gantry/api/containerd/services/content/v1/content_pb'
import { toTimestamp } from '@gantry/model/clock'
import { parseDigest } from '@gantry/model/digest'
import { fieldsOf, parseFilters } from '@gantry/model/filter'
import { parseMask } from '@gantry/model/mask'
import { encoded } from '@gantry/rpc/message'
import type { Implementation } from '@gantry/rpc/service'
import type { Blobs } from './blobs/blobs.ts'
import type { IngestStatus, Ingests } from './blobs/ingests.ts'
import { createChunks } from './chunks.ts'
import type { Leases } from './leases.ts'
import { writeSession } from './write-session.ts'

const MIN_CHUNK = 16 * 1024 // bytes per message
const MAX_CHUNK = 256 * 1024
const READ_AHEAD = 16 * 1024 * 1024 // bytes in the messages of all reads together, roughly: many reads get small messages
const BATCH = 100 // infos per message

interface ContentParts {
  readonly blobs: Blobs
  readonly ingests: Ingests
  readonly leases: Leases
}

/** containerd.services.content.v1.Content: parse the request, ask `blobs` or `ingests`, shape the reply. */
export function contentService({ blobs, ingests, leases }: ContentParts): Implementation<typeof Content> {
  const chunks = createChunks(MAX_CHUNK)
  let reads = 0
  return {
    async info(request, { namespace }) {
      return { info: blobs.info(namespace, parseDigest(request.digest)) }
    },

    async update({ info, updateMask }, { namespace }) {
      const digest = parseDigest(info?.digest ?? '')
      const paths = parseMask(updateMask?.paths ?? [], { plain: ['labels'], maps: ['labels'] })
      return { info: await blobs.update(namespace, digest, { labels: info?.labels ?? {}, paths }) }
    },

    async *list({ filters }, { namespace }) {
      for (const info of batched(blobs.list(namespace, filters))) yield { info }
    },

    async delete(request, { namespace, lease }) {
      await blobs.remove({ namespace, lease }, parseDigest(request.digest))
      return {}
    },

    async *read({ digest, offset, size }, { namespace }) {
      let sent = 0n
      reads++
      using _ = { [Symbol.dispose]: () => void reads-- }
      const most = Math.max(MIN_CHUNK, Math.min(MAX_CHUNK, Math.floor(READ_AHEAD / reads)))
      const into = (wanted: number) => chunks.take(Math.min(wanted, most))
      for await (const [chunk, length] of blobs.read(namespace, parseDigest(digest), { offset, size, into })) {
        yield encoded(ReadContentResponseSchema, chunk.message(headOf(sent, length), length), chunk.free)
        sent += BigInt(length)
      }
    },

    async status({ ref }, { namespace }) {
      return { status: toWire(await ingests.status(namespace, ref)) }
    },

    async listStatuses({ filters }, { namespace }) {
      const wanted = parseFilters(filters)
      const statuses = []
      for await (const status of ingests.list(namespace))
        if (wanted(fieldsOf({ ref: status.ref }))) statuses.push(toWire(status))
      return { statuses }
    },

    write: (requests, context) => writeSession(requests, { context, blobs, ingests, leases }),

    async abort({ ref }, { namespace, lease }) {
      await ingests.abort({ namespace, lease }, ref)
      return {}
    },
  }
}

/** What an answer of Read has before its `length` bytes of data. */
function headOf(at: bigint, length: number): Uint8Array {
  const { offset, data } = ReadContentResponseSchema.field
  const writer = new BinaryWriter()
  if (at > 0n) writer.tag(offset.number, WireType.Varint).int64(at)
  return writer.tag(data.number, WireType.LengthDelimited).uint32(length).finish()
}

function* batched(infos: Iterable<Info>): Generator<Info[]> {
  let batch: Info[] = []
  for (const info of infos) {
    batch.push(info)
    if (batch.length < BATCH) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}

function toWire({ ref, offset, total, startedAtMs, updatedAtMs }: IngestStatus) {
  return { ref, offset, total, startedAt: toTimestamp(startedAtMs), updatedAt: toTimestamp(updatedAtMs) }
}
