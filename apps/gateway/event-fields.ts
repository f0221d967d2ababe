import { createRegistry, type DescField, fromBinary, type Message, type Registry } from '@bufbuild/protobuf'
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'
import { file_containerd_events_container } from '@gantry/api/containerd/events/container_pb'
import { file_containerd_events_content } from '@gantry/api/containerd/events/content_pb'
import { file_containerd_events_image } from '@gantry/api/containerd/events/image_pb'
import { file_containerd_events_namespace } from '@gantry/api/containerd/events/namespace_pb'
import { file_containerd_events_sandbox } from '@gantry/api/containerd/events/sandbox_pb'
import { file_containerd_events_snapshot } from '@gantry/api/containerd/events/snapshot_pb'
import { file_containerd_events_task } from '@gantry/api/containerd/events/task_pb'
import type { Envelope } from '@gantry/api/containerd/types/event_pb'
import type { Adaptor } from '@gantry/model/filter'

const EVENTS: Registry = createRegistry(
  file_containerd_events_container,
  file_containerd_events_content,
  file_containerd_events_image,
  file_containerd_events_namespace,
  file_containerd_events_sandbox,
  file_containerd_events_snapshot,
  file_containerd_events_task,
)

/**
 * The fields a subscriber may filter an envelope by: `namespace`, `topic`, and `event.<field>` by the names in the
 * protos, nested ones and labels included (behaviour facts, 10). Numbers and times cannot be filtered by, nor can
 * events of types we do not know.
 */
export function eventFields(envelope: Envelope): Adaptor {
  return ([first, ...rest]) => {
    if (first === 'namespace') return envelope.namespace || undefined
    if (first === 'topic') return envelope.topic || undefined
    if (first !== 'event' || envelope.event === undefined) return undefined
    const schema = EVENTS.getMessage(envelope.event.typeUrl.replace(/^.*\//, ''))
    if (schema === undefined) return undefined
    try {
      const event: Message = fromBinary(schema, envelope.event.value)
      return fieldOf(reflect(schema, event), rest)
    } catch {
      return undefined // a publisher may put anything into an Any; what cannot be read has no fields
    }
  }
}

function fieldOf(message: ReflectMessage, [name, ...rest]: readonly string[]): string | undefined {
  const field = message.fields.find((candidate: DescField) => candidate.name === name)
  if (field === undefined) return undefined
  if (field.fieldKind === 'message') return message.isSet(field) ? fieldOf(message.get(field), rest) : undefined
  if (field.fieldKind === 'map') {
    const value: unknown = message.get(field).get(rest.join('.'))
    return typeof value === 'string' ? value : undefined
  }
  if (field.fieldKind !== 'scalar' || rest.length > 0) return undefined
  const value: unknown = message.get(field)
  return typeof value === 'boolean' ? String(value) : typeof value === 'string' && value !== '' ? value : undefined
}
