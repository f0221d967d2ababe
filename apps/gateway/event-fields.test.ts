import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { ContainerCreateSchema, ContainerUpdateSchema } from '@gantry/api/containerd/events/container_pb'
import { TaskCreateSchema, TaskExitSchema } from '@gantry/api/containerd/events/task_pb'
import { type Envelope, EnvelopeSchema } from '@gantry/api/containerd/types/event_pb'
import { parseFilters } from '@gantry/model/filter'
import { expect, test } from 'vitest'
import { eventFields } from './event-fields.ts'

function envelope<D extends DescMessage>(
  topic: string,
  schema: D,
  init: MessageInitShape<D>,
  typeUrl?: string,
): Envelope {
  const value = toBinary(schema, create(schema, init))
  return create(EnvelopeSchema, { namespace: 'moby', topic, event: { typeUrl: typeUrl ?? schema.typeName, value } })
}

const exit = envelope('/tasks/exit', TaskExitSchema, { containerId: 'c1', id: 'c1', pid: 7, exitStatus: 9 })
const created = envelope('/containers/create', ContainerCreateSchema, {
  id: 'c1',
  runtime: { name: 'io.containerd.runc.v2' },
})
const updated = envelope('/containers/update', ContainerUpdateSchema, { id: 'c1', labels: { 'a.b': 'x' } })
const task = envelope('/tasks/create', TaskCreateSchema, { containerId: 'c1', io: { stdin: '/in', terminal: true } })

test.each([
  ['the filter dockerd sends', exit, 'namespace==moby,topic~=|^/tasks/|', true],
  ['the same for another topic', created, 'namespace==moby,topic~=|^/tasks/|', false],
  ['a topic in quotes', exit, 'topic=="/tasks/exit"', true],
  ['a field of the event by its name in the proto', exit, 'event.container_id==c1', true],
  ['a field of a nested message', created, 'event.runtime.name==io.containerd.runc.v2', true],
  ['a nested text', task, 'event.io.stdin=="/in"', true],
  ['a truth value', task, 'event.io.terminal==true', true],
  ['a label whose key has dots', updated, 'event.labels.a.b==x', true],
  ['a number is no field', exit, 'event.pid', false],
  ['an unset message has no fields', envelope('/tasks/create', TaskCreateSchema, {}), 'event.io.stdin', false],
  ['an unknown type has no fields', envelope('/x', TaskExitSchema, { id: 'c1' }, 'my.Event'), 'event.id', false],
  [
    'a type URL with a prefix is read too',
    envelope('/x', TaskExitSchema, { id: 'c1' }, 'type.googleapis.com/containerd.events.TaskExit'),
    'event.id==c1',
    true,
  ],
])('%s', (_name, message, filter, matches) => {
  expect(parseFilters([filter])(eventFields(message))).toBe(matches)
})

test('an event whose bytes are rubbish has no fields', () => {
  const broken = create(EnvelopeSchema, {
    topic: '/x',
    event: { typeUrl: 'containerd.events.TaskExit', value: new Uint8Array([255]) },
  })

  expect(parseFilters(['event.id'])(eventFields(broken))).toBe(false)
})
