import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { TaskExitSchema } from '@gantry/api/containerd/events/task_pb'
import { EnvelopeSchema } from '@gantry/api/containerd/types/event_pb'
import { SequencedEnvelopeSchema } from '@gantry/api/gantry/events/v1/events_pb'
import { toTimestamp } from '@gantry/model/clock'
import { expect, test } from 'vitest'
import { type Packed, pack } from './any.ts'
import { decodeEnvelope } from './events.ts'

function received(event: Packed, sequence: bigint) {
  const sent = create(SequencedEnvelopeSchema, {
    timestamp: toTimestamp(1000),
    namespace: 'default',
    topic: '/tasks/exit',
    event,
    sequence,
  })
  return fromBinary(EnvelopeSchema, toBinary(SequencedEnvelopeSchema, sent))
}

test('an envelope is decoded with its place in the log', () => {
  const envelope = decodeEnvelope(received(pack(TaskExitSchema, { containerId: 'box', exitStatus: 3 }), 7n))

  expect(envelope).toMatchObject({
    timestamp: new Date(1000),
    namespace: 'default',
    topic: '/tasks/exit',
    type: 'containerd.events.TaskExit',
    event: { containerId: 'box', exitStatus: 3 },
    json: { container_id: 'box', exit_status: 3 },
    sequence: 7n,
  })
})

test('an event of an unknown type is shown as bytes, from a server without a log', () => {
  const envelope = decodeEnvelope(received({ typeUrl: 'x.Unknown', value: Buffer.from('hi') }, 0n))

  expect(envelope).toMatchObject({
    event: undefined,
    json: { '@type': 'x.Unknown', value: 'aGk=' },
    sequence: undefined,
  })
})

test('an event that is not what its publisher calls it is shown as bytes: nobody else misses what follows', () => {
  const envelope = decodeEnvelope(received({ typeUrl: 'containerd.events.TaskExit', value: Buffer.of(0xff) }, 8n))

  expect(envelope).toMatchObject({
    event: undefined,
    json: { '@type': 'containerd.events.TaskExit', value: '/w==' },
    sequence: 8n,
  })
})
